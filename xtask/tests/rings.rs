//! Arrows between crates point inward: the deciding ring knows no runtime, client, log or clock, the adapting ring no
//! programs, and programs do not know each other.

#![allow(clippy::expect_used, reason = "a test that cannot look fails")]

use std::collections::BTreeSet;
use std::process::Command;

/// Everything a package is built with, itself included.
fn tree(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "-p",
            package,
            "-e",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{lib}|{p}",
            "--locked",
        ])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    text.lines()
        .filter_map(|line| line.split('|').nth(1))
        .filter_map(|package| package.split(' ').next())
        .map(str::to_owned)
        .collect()
}

fn assert_without(package: &str, forbidden: &[&str]) {
    let tree = tree(package);
    assert!(
        tree.contains(package),
        "{package} is missing from its own tree: {tree:?}"
    );
    let found: Vec<&&str> = forbidden.iter().filter(|name| tree.contains(**name)).collect();
    assert!(found.is_empty(), "{package} depends on {found:?}");
}

const PROGRAMS: [&str; 5] = [
    "spiderpool-operator",
    "spiderpool-webhook",
    "spiderpool-agent",
    "spiderpool-cni",
    "xtask",
];

const IO: [&str; 9] = [
    "tokio",
    "hyper",
    "tower",
    "kube-client",
    "kube-runtime",
    "rustix",
    "axum",
    "tracing-subscriber",
    "rustls",
];

#[test]
fn the_deciding_ring_is_pure() {
    assert_without("spiderpool-ipam", &IO);
    assert_without(
        "spiderpool-ipam",
        &[
            "kube",
            "kube-core",
            "k8s-openapi",
            "tracing",
            "jiff",
            "rand",
            "spiderpool-crds",
            "spiderpool-kit",
            "spiderpool-wire",
        ],
    );
}

#[test]
fn the_adapting_ring_knows_no_program() {
    for package in ["spiderpool-crds", "spiderpool-kit", "spiderpool-wire"] {
        assert_without(package, &PROGRAMS);
    }
    assert_without("spiderpool-crds", &IO);
    assert_without("spiderpool-wire", &IO);
    assert_without(
        "spiderpool-kit",
        &["spiderpool-crds", "spiderpool-ipam", "spiderpool-wire"],
    );
}

#[test]
fn programs_do_not_know_each_other() {
    for program in PROGRAMS {
        let others: Vec<&str> = PROGRAMS.into_iter().filter(|other| *other != program).collect();
        assert_without(program, &others);
    }
    // The plugin is started thousands of times a day.
    assert_without(
        "spiderpool-cni",
        &["tokio", "kube", "rustls", "spiderpool-kit", "spiderpool-crds"],
    );
}
