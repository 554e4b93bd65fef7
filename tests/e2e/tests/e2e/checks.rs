//! What the operator finds when somebody asks it to compare records, endpoints and pods, and what it repairs.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spiderpool_crds::IPPoolSpec;
use spiderpool_e2e::operator_api::{ask, forget, user};
use spiderpool_e2e::recorded::{FREED, IN_FLIGHT};
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::wait::{self, LONG};
use spiderpool_e2e::workload::{from_pools, pod};

const CHECK: &str = "/v1/ipam/check";
const REPAIR: &str = "/v1/ipam/repair";

/// ClusterRoles of the chart: who may see what is wrong, and who may free addresses because of that.
const ROLES: [&str; 2] = ["spiderpool-controller-check", "spiderpool-controller-repair"];

/// The findings of a report about an address.
fn about(report: &Value, address: &str) -> Vec<Value> {
    let findings = report["findings"].as_array().into_iter().flatten();
    findings
        .filter(|finding| finding["address"] == address)
        .cloned()
        .collect()
}

#[tokio::test]
async fn a_leak_is_reported_and_repaired_by_those_who_may() -> Result<()> {
    scene("checked", async |scene: &Scene| {
        let [check, repair] = ROLES;
        let nobody = user(scene, "nobody", &[]).await?;
        let auditor = user(scene, "auditor", &[check]).await?;
        let doctor = user(scene, "doctor", &[check, repair]).await?;
        let outcome = judged(scene, &nobody, &auditor, &doctor).await;
        forget(scene, "auditor", &[check]).await?;
        forget(scene, "doctor", &[check, repair]).await?;
        outcome
    })
    .await
}

async fn judged(scene: &Scene, nobody: &str, auditor: &str, doctor: &str) -> Result<()> {
    for (token, expected) in [(None, 401), (Some("not.a.token"), 401), (Some(nobody), 403)] {
        let answer = ask(scene, token, "GET", CHECK, "").await?;
        ensure!(answer.status == expected, "{token:?} was answered with {answer:?}");
    }
    let pool = scene.serving("checked", 4, ("10", "12"), IPPoolSpec::default()).await?;
    let node = &scene.cluster.first_node()?.name;
    scene.create(&pod("lives", node, &from_pools(&[&pool], &[]))?).await?;
    let lives = scene.running("lives", 1, LONG).await?;
    let leaked = scene.ip(4, "12");
    scene
        .edit_records(&pool, |records| {
            let name = format!("{}/ghost", scene.namespace);
            let uid = "00000000-0000-4000-8000-000000000000";
            records.insert(leaked.clone(), json!({"pod": name, "podUid": uid}));
        })
        .await?;
    let ghost = format!("{}/ghost", scene.namespace);
    // A check sees the leak as long as nobody has freed it, which the operator does after a while in any case.
    let report = wait::until("the leak to be reported", IN_FLIGHT, async || {
        let answer = ask(scene, Some(auditor), "GET", CHECK, "").await?;
        ensure!(answer.status == 200, "the check was answered with {answer:?}");
        let report = answer.json()?;
        Ok((!about(&report, &leaked).is_empty()).then_some(report))
    })
    .await?;
    let found = about(&report, &leaked);
    let [finding] = found.as_slice() else {
        anyhow::bail!("{leaked} has the findings {found:?}");
    };
    let names = finding["pods"].to_string();
    ensure!(
        finding["kind"] == "Leak" && names.contains(&ghost),
        "the leak of {leaked} by {ghost} is reported as {finding}"
    );
    for pod in &lives {
        for address in &pod.addresses {
            let wrong = about(&report, &address.to_string());
            ensure!(wrong.is_empty(), "of a pod that lives the report says {wrong:?}");
        }
    }
    // The repair is asked for that finding only: other tests run beside this one.
    let mut only = report.clone();
    only["findings"] = json!([finding]);
    let denied = ask(scene, Some(auditor), "POST", REPAIR, &only.to_string()).await?;
    ensure!(denied.status == 403, "who may check only was answered with {denied:?}");
    let repaired = ask(scene, Some(doctor), "POST", REPAIR, &only.to_string()).await?;
    ensure!(repaired.status == 200, "the repair was answered with {repaired:?}");
    let results = repaired.json()?;
    let results = results["results"].as_array().context("no results")?;
    ensure!(
        results.len() == 1 && results.iter().all(|result| result["id"] == finding["id"]),
        "the repair of one finding has the results {results:?}"
    );
    scene.on_record(&pool, &lives, FREED).await
}
