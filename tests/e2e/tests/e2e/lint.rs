//! Annotations of workloads that cannot work, or hardly are meant: kubectl shows what is wrong with them.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spiderpool_e2e::IMAGE;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::wait::{self, SOON};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Kinds with an API version, and where the annotations of their pods are.
const KINDS: [(&str, &str, &str); 6] = [
    ("v1", "Pod", "metadata.annotations"),
    ("apps/v1", "Deployment", "spec.template.metadata.annotations"),
    ("apps/v1", "StatefulSet", "spec.template.metadata.annotations"),
    ("apps/v1", "DaemonSet", "spec.template.metadata.annotations"),
    ("batch/v1", "Job", "spec.template.metadata.annotations"),
    (
        "batch/v1",
        "CronJob",
        "spec.jobTemplate.spec.template.metadata.annotations",
    ),
];

/// An object whose pods have these annotations.
fn object(api_version: &str, kind: &str, annotations: &Value) -> Value {
    let restart = if kind.ends_with("Job") { "Never" } else { "Always" };
    let container = json!({"name": "main", "image": IMAGE, "command": ["sleep", "1000000000"]});
    let pod = json!({"restartPolicy": restart, "terminationGracePeriodSeconds": 1, "containers": [container]});
    let template = json!({"metadata": {"labels": {"app": "shop"}, "annotations": annotations}, "spec": pod});
    let spec = match kind {
        "Job" => json!({"template": template}),
        "CronJob" => json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": template}}}),
        "StatefulSet" => {
            json!({"selector": {"matchLabels": {"app": "shop"}}, "serviceName": "shop", "template": template})
        }
        _ => json!({"selector": {"matchLabels": {"app": "shop"}}, "template": template}),
    };
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "shop"}, "spec": spec});
    if kind == "Pod" {
        object["metadata"]["annotations"] = annotations.clone();
        object["spec"] = pod;
    }
    object
}

/// Has kubectl apply an object, dry or not; what it says beside the result.
async fn apply(scene: &Scene, object: &Value, dry: bool) -> Result<String> {
    let mut kubectl = Command::new("kubectl");
    kubectl
        .args(["--namespace", &scene.namespace, "apply", "--filename=-"])
        .args(dry.then_some("--dry-run=server"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true);
    let run = async {
        let mut child = kubectl.spawn().context("running kubectl, which has to be on PATH")?;
        let mut input = child.stdin.take().context("kubectl reads nothing")?;
        input.write_all(object.to_string().as_bytes()).await?;
        drop(input);
        anyhow::Ok(child.wait_with_output().await?)
    };
    let output = tokio::time::timeout(SOON, run)
        .await
        .context("kubectl does not end")??;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "kubectl refused {object}: {said}");
    Ok(said)
}

#[tokio::test]
async fn kubectl_shows_what_is_wrong_with_each_kind() -> Result<()> {
    scene("lint_kinds", async |scene: &Scene| {
        for (version, kind, place) in KINDS {
            let wrong = json!({"ipam.spidernet.io/ippool": "{", "ipam.spidernet.io/route": "[]"});
            let said = apply(scene, &object(version, kind, &wrong), true).await?;
            for words in [
                format!("Warning: {place}[ipam.spidernet.io/ippool]: the value is not JSON"),
                format!("Warning: {place}[ipam.spidernet.io/route]: nobody reads this key; did you mean ipam.spidernet.io/routes?"),
            ] {
                ensure!(said.contains(&words), "{kind}: kubectl does not say {words:?}: {said}");
            }
            for fine in [json!({"ipam.spidernet.io/ippool": r#"{"ipv4":["a"]}"#}), json!({"example.com/a": "{"})] {
                let said = apply(scene, &object(version, kind, &fine), true).await?;
                ensure!(!said.contains("Warning"), "{kind} with {fine}: {said}");
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_workload_whose_author_was_warned_is_taken_and_warned_of_again() -> Result<()> {
    scene("lint_taken", async |scene: &Scene| {
        let subnet = json!({"ipv4": [scene.v4]}).to_string();
        let annotations = json!({"ipam.spidernet.io/subnet": subnet, "ipam.spidernet.io/ippool-ip-number": "2"});
        let mut shop = object("apps/v1", "Deployment", &annotations);
        shop["spec"]["replicas"] = json!(2);
        shop["metadata"]["annotations"] = json!({"ipam.spidernet.io/ippool-reclaim": "false"});
        let words = [
            "Warning: spec.template.metadata.annotations[ipam.spidernet.io/ippool-ip-number]: a rolling update would not go on",
            "Warning: metadata.annotations[ipam.spidernet.io/ippool-reclaim]: pods do not get it",
        ];
        for replicas in [2, 3] {
            shop["spec"]["replicas"] = json!(replicas);
            let said = apply(scene, &shop, false).await?;
            let number = match replicas {
                2 => words[0],
                _ => "3 pods are to share 2 addresses",
            };
            for words in [number, words[1]] {
                ensure!(said.contains(words), "kubectl does not say {words:?}: {said}");
            }
        }
        // It is taken, and does what it can.
        let two = |set: Option<&k8s_openapi::api::apps::v1::Deployment>| {
            set?.status.as_ref()?.ready_replicas.filter(|ready| *ready == 2)
        };
        wait::object(&scene.api(), "shop", "two pods with addresses", wait::LONG, two).await?;
        Ok(())
    })
    .await
}
