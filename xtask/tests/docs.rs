//! What the documentation names exists: files, headings, chart values, Events; and what exists is documented.

#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot look fails")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use spiderpool_crds::WorkloadKind;

/// Pages for users, from the root of the checkout.
const PAGES: [&str; 13] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "charts/spiderpool/README.md",
    "docs/admission.md",
    "docs/automatic-pools.md",
    "docs/certificates.md",
    "docs/check.md",
    "docs/cni-plugin.md",
    "docs/pools-of-a-pod.md",
    "docs/reclaim.md",
    "docs/sticky-addresses.md",
    "examples/README.md",
];

fn read(path: &str) -> String {
    let file = xtask::paths::checkout().join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn values() -> Value {
    serde_saphyr::from_str(&read("charts/spiderpool/values.yaml")).expect("values.yaml is YAML")
}

/// The parts of a text that stand between two marks.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    text.split(open)
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(close)?.0))
        .collect()
}

/// The anchor that a heading has when the page is shown.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept
        .chars()
        .filter(|char| char.is_alphanumeric() || " -_".contains(*char));
    kept.map(|char| if char == ' ' { '-' } else { char }).collect()
}

fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn links_lead_somewhere() {
    for page in PAGES {
        let text = read(page);
        let folder = Path::new(page).parent().map(Path::to_path_buf).unwrap_or_default();
        for link in between(&text, "](", ")") {
            if link.contains("://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target: PathBuf = if file.is_empty() {
                page.into()
            } else {
                folder.join(file)
            };
            assert!(
                xtask::paths::checkout().join(&target).exists(),
                "{page} links to {link}"
            );
            if !heading.is_empty() {
                let target = target.to_string_lossy();
                let known = anchors(&read(&target));
                assert!(
                    known.contains(heading),
                    "{page} links to {link}, {target} has {known:?}"
                );
            }
        }
    }
}

#[test]
fn commands_use_examples_that_exist() {
    for page in PAGES {
        for name in between(&read(page), "examples/", ".yaml") {
            let file = xtask::paths::checkout().join(format!("examples/{name}.yaml"));
            assert!(file.is_file(), "{page} names examples/{name}.yaml");
        }
    }
}

#[test]
fn every_example_is_listed() {
    let list = read("examples/README.md");
    let folder = std::fs::read_dir(xtask::paths::checkout().join("examples")).expect("the examples are there");
    for entry in folder {
        let name = entry.expect("the folder can be read").file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".yaml") {
            assert!(
                list.contains(&format!("| `{name}` |")),
                "examples/README.md lacks {name}"
            );
        }
    }
}

/// Names of all values; a list or an empty map is one.
fn leaves(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                leaves(&path, member, found);
            }
        }
        _ => {
            found.insert(path.to_owned());
        }
    }
}

#[test]
fn every_value_of_the_chart_is_documented() {
    let mut exist = BTreeSet::new();
    leaves("", &values(), &mut exist);
    let page = read("charts/spiderpool/README.md");
    let table = page
        .split("| value | default | meaning |")
        .nth(1)
        .expect("the page has the table of values");
    let documented: BTreeSet<String> = between(table, "\n| ", " | ").into_iter().map(str::to_owned).collect();
    assert_eq!(
        exist.difference(&documented).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "not documented"
    );
    assert_eq!(
        documented.difference(&exist).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "do not exist"
    );
}

#[test]
fn kinds_that_the_chart_lists_can_be_used_and_read() {
    let list = values().pointer("/ipam/spiderSubnet/autoPool/workloadKinds").cloned();
    let kinds: Vec<WorkloadKind> =
        serde_json::from_value(list.expect("the chart lists kinds")).expect("they are kinds");
    let roles = read("charts/spiderpool/templates/controller/workloads.yaml");
    for kind in kinds {
        kind.replicas().expect("the path of the replicas is one");
        kind.template().expect("the path of the template is one");
        let group = format!("\"group\" \"{}\"", kind.group);
        let role = roles
            .lines()
            .find(|line| line.contains(&group))
            .expect("a role for the group");
        let resource = format!("\"{}s\"", kind.kind.to_lowercase());
        assert!(role.contains(&resource), "{} may not be read: {role}", kind.kind);
    }
}

#[test]
fn every_reason_of_an_event_is_explained() {
    let source = read("operator/src/events.rs");
    let reasons = between(&source, "pub enum Reason {\n", "\n}");
    let reasons = reasons.first().expect("the reasons stand in events.rs").lines();
    let page = read("docs/automatic-pools.md");
    let events = page.split("### Events").nth(1).expect("the page has a table of Events");
    for reason in reasons.map(|line| line.trim().trim_end_matches(',')) {
        if !reason.starts_with("///") {
            assert!(
                events.contains(&format!("`{reason}`")),
                "docs/automatic-pools.md lacks {reason}"
            );
        }
    }
}
