//! The chart ships what the types say.

use std::collections::BTreeMap;
use std::path::PathBuf;

#[test]
fn committed_yaml_is_what_the_types_generate() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../charts/spiderpool/files/crds");
    let generated: BTreeMap<String, String> = spiderpool_crds::yaml_files().unwrap().into_iter().collect();
    let committed: BTreeMap<String, String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&generated), "run `cargo xtask crds`");
    for (name, yaml) in generated {
        assert!(
            committed[&name] == yaml,
            "{name} differs from the Rust types; run `cargo xtask crds` and commit"
        );
    }
}
