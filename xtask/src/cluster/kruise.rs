//! OpenKruise's kinds, for tests: by its real manager where there is one, else CloneSets only, by a stand-in of ours.
//!
//! `KRUISE_MANAGER` names the manager's program; its custom resource definitions are looked for beside it. The manager runs
//! outside of the cluster's nodes, which it supports: it makes its own certificates and writes its address into webhook
//! configurations and definitions that exist.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::cgroups::Cgroups;
use super::process::Daemon;
use super::spec::API_ADDRESS;
use super::state::State;
use super::{Cluster, fabric};
use crate::artifact::{self, Kind};
use crate::paths;
use crate::sh::{self, Readiness};

/// Names the real manager's program.
pub const VARIABLE: &str = "KRUISE_MANAGER";
/// The tests' package.
const PACKAGE: &str = "spiderpool-e2e";
/// Program of the stand-in, there.
const STAND_IN: &str = "clone-sets";

/// The manager builds many caches before it is ready.
const DEADLINE: Duration = Duration::from_secs(180);
/// The manager's namespace.
const NAMESPACE: &str = "kruise-system";
/// How far below the manager's folder its definitions may be: `config/crd/bases`.
const DEPTH: usize = 3;
/// Where the manager answers webhooks, health and metrics, in the fabric's network namespace.
const PORTS: [u16; 3] = [9876, 9877, 9878];
/// The kinds that tests use, in the singular.
const KINDS: [&str; 4] = ["cloneset", "statefulset", "daemonset", "broadcastjob"];
/// Versions that a manager may have of them.
const VERSIONS: [&str; 2] = ["v1alpha1", "v1beta1"];
/// Kinds that a manager converts itself where they have several versions.
const CONVERTED: [&str; 3] = ["clonesets", "statefulsets", "daemonsets"];

/// What serves OpenKruise's kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kruise {
    /// Its real manager.
    Manager,
    /// Our stand-in, for CloneSets only.
    StandIn,
}

impl Kruise {
    /// The word for it that tests are told.
    pub fn word(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::StandIn => "stand-in",
        }
    }
}

impl Cluster {
    /// Starts the manager that the environment names, or else the stand-in, unless it runs.
    pub fn start_kruise(&self) -> Result<Kruise> {
        match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            Some(manager) => {
                let manager = PathBuf::from(manager);
                let what = format!("OpenKruise: its real manager, {}", manager.display());
                self.ui().step(what, |_| self.start_manager(&manager))?;
                Ok(Kruise::Manager)
            }
            None => {
                let what = format!("OpenKruise: a stand-in for CloneSets only, since {VARIABLE} names no manager");
                let program = artifact::build(Kind::Bin, PACKAGE, STAND_IN)?;
                self.ui().step(what, |_| self.start_stand_in(&program))?;
                Ok(Kruise::StandIn)
            }
        }
    }

    fn start_stand_in(&self, program: &Path) -> Result<()> {
        let state = self.state();
        self.define(&[paths::checkout().join("tests/e2e/stand-in/clonesets.yaml")])?;
        let mut command = fabric::in_netns(&state.fabric, program);
        command.env("KUBECONFIG", &state.kubeconfig);
        let daemon = Daemon::of_control_plane(STAND_IN);
        daemon.ensure(state, &Cgroups::new(state.name.cgroup())?, &command)?;
        Ok(())
    }

    fn start_manager(&self, program: &Path) -> Result<()> {
        ensure!(
            program.is_absolute() && program.is_file(),
            "{VARIABLE} is {}, which is no program; give its absolute path",
            program.display()
        );
        let state = self.state();
        let definitions = definitions(program)?;
        let folder = state.folder().join("kruise");
        paths::make_folder(&folder)?;
        let write = |name: &str, items: Vec<Value>| -> Result<PathBuf> {
            let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
            let file = folder.join(name);
            paths::write_atomically(&file, list.to_string().as_bytes())?;
            Ok(file)
        };
        let daemon = Daemon::of_control_plane("kruise-manager");
        if daemon.running(state).is_some() {
            return Ok(());
        }
        self.define(&[
            write("definitions.json", definitions.into_values().collect())?,
            write("webhooks.json", webhooks())?,
        ])?;
        let [webhook, health, metrics] = PORTS;
        let mut command = fabric::in_netns(&state.fabric, program);
        command
            .env("KUBECONFIG", &state.kubeconfig)
            .env("POD_NAMESPACE", NAMESPACE)
            .env("POD_NAME", "kruise-manager")
            .env("WEBHOOK_HOST", API_ADDRESS.to_string())
            .env("WEBHOOK_PORT", webhook.to_string())
            .env("WEBHOOK_CERT_DIR", folder.join("certificates"));
        command.args(["--enable-leader-election=false", "--enable-pprof=false"]);
        command.arg(format!("--health-probe-addr=127.0.0.1:{health}"));
        command.arg(format!("--metrics-addr=127.0.0.1:{metrics}"));
        daemon.ensure(state, &Cgroups::new(state.name.cgroup())?, &command)?;
        self.wait_for_manager(state, &daemon)
    }

    /// It serves once it admits a CloneSet, which is only asked about and not made.
    fn wait_for_manager(&self, state: &State, daemon: &Daemon) -> Result<()> {
        let probe = json!({
            "apiVersion": "apps.kruise.io/v1alpha1",
            "kind": "CloneSet",
            "metadata": {"name": "probe", "namespace": "default"},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "probe"}},
                "template": {
                    "metadata": {"labels": {"app": "probe"}},
                    "spec": {"containers": [{"name": "main", "image": "probe"}]},
                },
            },
        });
        sh::wait_until("waiting for OpenKruise's manager", DEADLINE, || {
            daemon.check(state)?;
            let mut create = self.command_in_fabric("kubectl")?;
            create.args(["create", "--dry-run=server", "-f", "-"]);
            let answer = sh::output_with_input(&mut create, &probe.to_string(), sh::SHORT);
            Ok(answer.map_or_else(|err| Readiness::NotYet(format!("{err:#}")), |_| Readiness::Ready(())))
        })
        .with_context(|| sh::tail_of(&daemon.log(state)))
    }
}

/// The custom resource definitions beside a manager, by name.
fn definitions(program: &Path) -> Result<BTreeMap<String, Value>> {
    let folder = program.parent().unwrap_or(Path::new("/"));
    let mut found = BTreeMap::new();
    collect(folder, DEPTH, &mut found)?;
    ensure!(
        found.contains_key("clonesets.apps.kruise.io"),
        "no definition of CloneSets in *.yaml beside {} or in folders there",
        program.display()
    );
    Ok(found)
}

fn collect(folder: &Path, depth: usize, found: &mut BTreeMap<String, Value>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("listing {}", folder.display()))?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        if path.is_dir() {
            if depth > 0 {
                collect(&path, depth - 1, found)?;
            }
            continue;
        }
        if !path
            .extension()
            .is_some_and(|end| end == "yaml" || end == "yml" || end == "json")
        {
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        // Much else may lie there, templates for example: only what has definitions has to be readable.
        if !text.contains("CustomResourceDefinition") || !text.contains("kruise.io") {
            continue;
        }
        for text in documents(&text) {
            let Ok(document) = serde_saphyr::from_str::<Value>(text) else {
                continue;
            };
            if let Some((name, definition)) = definition(document) {
                found.entry(name).or_insert(definition);
            }
        }
    }
    Ok(())
}

/// The documents of a YAML file.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n---")
        .filter(|text| !text.trim_matches(['-', '\n', ' ']).is_empty())
}

/// A complete definition of OpenKruise, fit to be applied; the patches of a kustomization are not complete.
fn definition(mut object: Value) -> Option<(String, Value)> {
    let name = object["metadata"]["name"].as_str()?.to_owned();
    let own = object["kind"] == "CustomResourceDefinition" && name.ends_with(".kruise.io");
    let versions = object["spec"]["versions"].as_array()?.len();
    if !own {
        return None;
    }
    object.as_object_mut()?.remove("status");
    let converted = CONVERTED
        .iter()
        .any(|plural| name == format!("{plural}.apps.kruise.io"));
    if converted && versions > 1 {
        // The manager fills in its address and certificate.
        object["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
            "clientConfig": {"service": {"namespace": NAMESPACE, "name": "kruise-webhook-service", "path": "/convert"}},
            "conversionReviewVersions": ["v1", "v1beta1"],
        }});
    }
    Some((name, object))
}

/// The namespace of the manager and the webhook configurations that it completes, for the kinds that tests use. It drops
/// those whose path it does not know, so the paths of all its releases are here.
fn webhooks() -> Vec<Value> {
    let hooks = |verb: &str| -> Vec<Value> {
        let mut hooks = Vec::new();
        for kind in KINDS {
            let both = (
                format!("/{verb}-apps-kruise-io-{kind}"),
                format!("{verb}-{kind}"),
                VERSIONS.to_vec(),
            );
            let one = VERSIONS.map(|version| {
                let path = format!("/{verb}-apps-kruise-io-{version}-{kind}");
                (path, format!("{verb}-{version}-{kind}"), vec![version])
            });
            for (path, name, versions) in one.into_iter().chain([both]) {
                hooks.push(json!({
                    "name": format!("{name}.kb.io"),
                    "admissionReviewVersions": ["v1", "v1beta1"],
                    "clientConfig": {
                        "service": {"namespace": NAMESPACE, "name": "kruise-webhook-service", "path": path},
                    },
                    "failurePolicy": "Fail",
                    "matchPolicy": "Exact",
                    "sideEffects": "None",
                    "rules": [{
                        "apiGroups": ["apps.kruise.io"],
                        "apiVersions": versions,
                        "operations": ["CREATE", "UPDATE"],
                        "resources": [format!("{kind}s")],
                    }],
                }));
            }
        }
        hooks
    };
    let configuration = |kind: &str, verb: &str, word: &str| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": format!("kruise-{word}-webhook-configuration")},
            "webhooks": hooks(verb),
        })
    };
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "kruise-webhook-certs", "namespace": NAMESPACE},
        }),
        configuration("MutatingWebhookConfiguration", "mutate", "mutating"),
        configuration("ValidatingWebhookConfiguration", "validate", "validating"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_found_beside_a_manager_and_patches_are_not() {
        let scratch = tempfile::tempdir().unwrap();
        let crds = scratch.path().join("crds");
        std::fs::create_dir(&crds).unwrap();
        let full = "---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: \
                    clonesets.apps.kruise.io\nspec:\n  group: apps.kruise.io\n  versions:\n  - name: v1alpha1\n";
        std::fs::write(crds.join("a.yaml"), full).unwrap();
        std::fs::write(
            crds.join("b.yaml"),
            "kind: CustomResourceDefinition\nmetadata: {name: x.apps.kruise.io}\nspec: {conversion: {}}\n",
        )
        .unwrap();
        std::fs::write(
            scratch.path().join("chart.yaml"),
            "{{ kruise.io CustomResourceDefinition",
        )
        .unwrap();
        let found = definitions(&scratch.path().join("manager")).unwrap();
        let names: Vec<&String> = found.keys().collect();
        assert_eq!(names, ["clonesets.apps.kruise.io"]);
        assert!(found["clonesets.apps.kruise.io"]["spec"]["conversion"].is_null());
    }

    #[test]
    fn a_manager_without_definitions_is_told() {
        let scratch = tempfile::tempdir().unwrap();
        let err = definitions(&scratch.path().join("manager")).unwrap_err();
        assert!(err.to_string().contains("no definition of CloneSets"), "{err}");
    }
}
