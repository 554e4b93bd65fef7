use std::{collections::BTreeSet, time::Duration};

use super::*;
use crate::log::Level;

const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn conf(directory: &Path) -> LogConf {
    LogConf {
        level: Level::Info,
        path: directory.join("deep/plugin.log"),
        max_bytes: 64,
        max_age: None,
        max_backups: Some(3),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn names(conf: &LogConf) -> BTreeSet<String> {
    fs::read_dir(conf.path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn folders_are_made_and_the_newest_rotated_files_kept() {
    let directory = tempfile::tempdir().unwrap();
    let conf = conf(directory.path());
    for second in 0..8 {
        append(&conf, &[b'x'; 60], at(second)).unwrap();
        if second == 1 {
            fs::write(conf.path.with_file_name("plugin-notes.log"), "mine").unwrap();
        }
    }
    let expected = [
        "plugin-2027-01-15T08-00-05.000000.log",
        "plugin-2027-01-15T08-00-06.000000.log",
        "plugin-2027-01-15T08-00-07.000000.log",
        "plugin-notes.log",
        "plugin.log",
    ];
    assert_eq!(names(&conf), expected.map(String::from).into());
    assert_eq!(fs::read(&conf.path).unwrap().len(), 60);
}

#[test]
fn age_removes_rotated_files_even_when_all_may_be_kept() {
    let directory = tempfile::tempdir().unwrap();
    let mut conf = LogConf {
        max_age: Some(10 * YEAR),
        max_backups: None,
        ..conf(directory.path())
    };
    append(&conf, b"a", at(0)).unwrap();
    let old = conf.path.with_file_name("plugin-2020-01-01T00-00-00.000.log");
    fs::write(&old, "old").unwrap();
    let long_ago = SystemTime::from(at(0)) - 20 * YEAR;
    File::options()
        .write(true)
        .open(&old)
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    conf.max_bytes = 1;
    append(&conf, b"b", at(1)).unwrap();
    assert_eq!(
        names(&conf),
        ["plugin-2027-01-15T08-00-01.000000.log", "plugin.log"]
            .map(String::from)
            .into()
    );
}

#[test]
fn a_name_that_is_taken_costs_a_rotation_but_no_line() {
    let directory = tempfile::tempdir().unwrap();
    let conf = LogConf {
        max_bytes: 1,
        ..conf(directory.path())
    };
    append(&conf, b"a", at(0)).unwrap();
    append(&conf, b"b", at(0)).unwrap();
    assert!(append(&conf, b"c", at(0)).is_err());
    assert_eq!(fs::read(&conf.path).unwrap(), b"bc");
    append(&conf, b"d", at(1)).unwrap();
    assert_eq!(fs::read(&conf.path).unwrap(), b"d");
}

#[test]
fn a_lock_held_by_another_process_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let conf = LogConf {
        max_bytes: 1,
        ..conf(directory.path())
    };
    append(&conf, b"a", at(0)).unwrap();
    let other = File::open(&conf.path).unwrap();
    other.lock().unwrap();
    append(&conf, b"b", at(1)).unwrap();
    assert_eq!(fs::read(&conf.path).unwrap(), b"ab");
}

#[test]
fn devices_and_pipes_do_not_block() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    rustix::fs::mknodat(
        CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(
        append(
            &LogConf {
                path: pipe,
                ..conf(directory.path())
            },
            b"a",
            at(0)
        )
        .is_err()
    );
    append(
        &LogConf {
            path: "/dev/null".into(),
            ..conf(directory.path())
        },
        b"a",
        at(0),
    )
    .unwrap();
}

/// The loser of a race holds the file that the winner has just renamed; the new file must stay where it is.
#[test]
fn a_file_that_was_rotated_meanwhile_is_not_rotated_again() {
    let directory = tempfile::tempdir().unwrap();
    let conf = LogConf {
        max_bytes: 1,
        ..conf(directory.path())
    };
    append(&conf, b"a", at(0)).unwrap();
    let stale = open(&conf.path).unwrap();
    append(&conf, b"b", at(1)).unwrap();
    let before = names(&conf);
    rotate(&conf, &stale, at(2)).unwrap();
    assert_eq!(names(&conf), before);
    assert_eq!(fs::read(&conf.path).unwrap(), b"b");
    fs::remove_file(&conf.path).unwrap();
    rotate(&conf, &stale, at(3)).unwrap();
}
