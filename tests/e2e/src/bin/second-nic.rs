//! A CNI plugin for tests, last in the chain of the test cluster's network: a pod with the annotation
//! `e2e.spiderpool.io/second-nic: "true"` gets a second interface `net1` of the same kind as its first, macvlan with
//! addresses from Spiderpool. For all other pods it does nothing. The members of the JSON object in its annotation
//! `e2e.spiderpool.io/second-nic-ipam` go into the `ipam` of that interface's configuration.
//!
//! It stands for what meta plugins do: the address management is asked once for each interface of a pod.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

const ANNOTATION: &str = "e2e.spiderpool.io/second-nic";
const IPAM: &str = "e2e.spiderpool.io/second-nic-ipam";
/// Where the runtime puts the pod's annotations.
const ANNOTATIONS: &str = "/runtimeConfig/io.kubernetes.cri.pod-annotations";
/// The second interface's name in the pod.
const INTERFACE: &str = "net1";
const DELEGATE: &str = "macvlan";

fn main() -> ExitCode {
    let (answer, code) = match run() {
        Ok(answer) => (answer, ExitCode::SUCCESS),
        Err(error) => {
            let message = format!("second interface: {error:#}");
            (
                json!({"cniVersion": "1.0.0", "code": 100, "msg": message}).to_string(),
                ExitCode::FAILURE,
            )
        }
    };
    match std::io::stdout().write_all(answer.as_bytes()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

/// What goes to stdout.
fn run() -> Result<String> {
    let command = std::env::var("CNI_COMMAND").context("reading CNI_COMMAND")?;
    if command == "VERSION" {
        return Ok(json!({"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}).to_string());
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("reading the configuration")?;
    let conf: Value = serde_json::from_str(&text).context("understanding the configuration")?;
    let annotations = conf.pointer(ANNOTATIONS);
    if annotations.is_some_and(|annotations| annotations[ANNOTATION] == "true") {
        delegate(&conf, &ipam(&conf)?)?;
    }
    // The first interface is the pod's as far as the runtime is concerned.
    Ok(match command.as_str() {
        "ADD" => conf
            .get("prevResult")
            .context("no result of the plugin before")?
            .to_string(),
        _ => String::new(),
    })
}

/// The second interface's address management.
fn ipam(conf: &Value) -> Result<Value> {
    let mut ipam = Map::from_iter([("type".to_owned(), json!("spiderpool"))]);
    let asked = conf.pointer(ANNOTATIONS).and_then(|annotations| annotations.get(IPAM));
    if let Some(text) = asked.and_then(Value::as_str) {
        let more: Map<String, Value> =
            serde_json::from_str(text).with_context(|| format!("understanding annotation {IPAM}"))?;
        ipam.extend(more);
    }
    Ok(Value::Object(ipam))
}

/// Runs the plugin that makes the interface, with the same command.
fn delegate(conf: &Value, ipam: &Value) -> Result<()> {
    let conf = json!({
        "cniVersion": conf["cniVersion"],
        "name": conf["name"],
        "type": DELEGATE,
        "master": "eth1",
        "mode": "bridge",
        "ipam": ipam,
    });
    let path = std::env::var_os("CNI_PATH").context("reading CNI_PATH")?;
    let mut child = Command::new(find(&path)?)
        .env("CNI_IFNAME", INTERFACE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {DELEGATE}"))?;
    // Dropped at once, so that the plugin sees the end.
    let mut stdin = child.stdin.take().context("no stdin of the plugin")?;
    stdin
        .write_all(conf.to_string().as_bytes())
        .with_context(|| format!("writing to {DELEGATE}"))?;
    drop(stdin);
    let output = child
        .wait_with_output()
        .with_context(|| format!("waiting for {DELEGATE}"))?;
    if !output.status.success() {
        bail!(
            "{DELEGATE} for {INTERFACE}: {}",
            String::from_utf8_lossy(&output.stdout).trim()
        );
    }
    Ok(())
}

fn find(path: &std::ffi::OsStr) -> Result<PathBuf> {
    let found = std::env::split_paths(path)
        .map(|folder| folder.join(DELEGATE))
        .find(|file| file.is_file());
    found.with_context(|| format!("{DELEGATE} is nowhere in CNI_PATH"))
}
