//! The corpora, read again.
#![allow(clippy::expect_used, reason = "a test that cannot look fails")]

use std::path::{Path, PathBuf};

use spiderpool_fuzz::{LONGEST, TARGETS, Target, check, neighbours};

/// Of longer texts, those like them are not tried.
const SHORT: usize = 256;

fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora").join(target.name);
    let files = std::fs::read_dir(&folder).expect("each target has a folder in corpora/");
    let read = |file: std::io::Result<std::fs::DirEntry>| {
        let path = file.expect("the folder can be read").path();
        let data = std::fs::read(&path).expect("files of the corpus can be read");
        (path, data)
    };
    files.map(read).collect()
}

#[test]
fn no_text_of_the_corpora_nor_one_like_it_makes_trouble() {
    for target in TARGETS {
        let corpus = corpus(&target);
        assert!(corpus.len() >= 10, "{} has {} texts", target.name, corpus.len());
        for (path, data) in corpus {
            let like = neighbours(&data).filter(|_| data.len() <= SHORT);
            for text in std::iter::once(data.clone()).chain(like) {
                let outcome = std::panic::catch_unwind(|| check(&target, &text));
                assert!(
                    outcome.is_ok(),
                    "{:?}, like {}",
                    String::from_utf8_lossy(&text),
                    path.display()
                );
            }
        }
    }
}

#[test]
fn long_texts_take_no_longer_than_their_length() {
    let item = |number: usize| format!("\"p{number}\"");
    let names: Vec<String> = (0..LONGEST / 9).map(item).collect();
    let names = names.join(",");
    let lists: Vec<String> = (0..LONGEST / 16).map(|_| r#"{"ipv4":["a"]}"#.to_owned()).collect();
    let ranges: Vec<String> = (0..LONGEST / 20)
        .map(|number| format!("fd00::{number:x}-fd00::{number:x}"))
        .collect();
    let texts = [
        format!("{{\"ipv4\":[{names}]}}"),
        format!("[{names}]"),
        format!("[{}]", lists.join(",")),
        "[".repeat(LONGEST),
        "{\"a\":".repeat(LONGEST / 5),
        "[a-".repeat(LONGEST / 3),
        "*a".repeat(LONGEST / 2),
        ",".repeat(LONGEST),
        ranges.join("\n"),
        "fd00::-".repeat(LONGEST / 7),
        "\u{1F577}".repeat(LONGEST / 4),
    ];
    for target in TARGETS {
        for text in &texts {
            check(&target, text.as_bytes());
        }
    }
}
