use std::time::Duration;

use serde_json::json;

use super::*;
use crate::reclaim::tests::scene::Scene;

fn found(report: &Report) -> Vec<&str> {
    report.findings.keys().map(String::as_str).collect()
}

/// Time enough.
fn soon() -> Instant {
    Instant::now() + Duration::from_secs(120)
}

async fn repair_all(scene: &Scene, report: &Report) -> Vec<Outcome> {
    let ids = report.findings.keys().cloned().collect();
    let repaired = repair(&scene.context, report, &ids, soon()).await;
    repaired.into_iter().map(|repaired| repaired.outcome).collect()
}

/// A pod that runs, with an endpoint for an address of the pool.
fn runs(scene: &Scene, name: &str, ip: &str) {
    scene.pod(name, |_| {});
    scene.know_pod(name);
    scene.endpoint(name, &format!("{name}-uid"), ip, ("Pod", name), &json!([]));
}

fn count(scene: &Scene, count: usize) {
    scene.status(|status| status["allocatedIPCount"] = json!(count));
}

#[tokio::test(start_paused = true)]
async fn what_agrees_is_not_found() {
    let scene = Scene::new();
    scene.record(&[("10.0.0.1", "a", "a-uid"), ("10.0.0.2", "b", "b-uid")]);
    count(&scene, 2);
    runs(&scene, "a", "10.0.0.1");
    // An ADD of this one is on its way.
    scene.pod("b", |_| {});
    scene.know_pod("b");
    let report = take(&scene.context, "a").await;
    assert_eq!((found(&report), report.open), (vec![], 0));
    assert_eq!((report.looked_at.records, report.looked_at.pods), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_leak_is_freed_by_its_report_when_no_add_can_be_on_its_way() {
    let scene = Scene::new();
    scene.record(&[("10.0.0.1", "gone", "gone-uid"), ("10.0.0.2", "a", "a-uid")]);
    count(&scene, 2);
    runs(&scene, "a", "10.0.0.2");
    let report = take(&scene.context, "a").await;
    assert_eq!(found(&report), ["Leak/p/10.0.0.1/gone-uid/"]);
    assert_eq!(repair_all(&scene, &report).await, [Outcome::TooEarly]);
    tokio::time::advance(Duration::from_secs(31)).await;
    let others = BTreeSet::from(["Leak/p/10.0.0.2/a-uid/".to_owned()]);
    let refused = repair(&scene.context, &report, &others, soon()).await;
    assert_eq!(refused[0].outcome, Outcome::NotInReport);
    assert_eq!(repair_all(&scene, &report).await, [Outcome::Repaired]);
    assert_eq!(scene.recorded(), ["10.0.0.2"]);
    assert_eq!(repair_all(&scene, &report).await, [Outcome::Gone]);
    assert!(take(&scene.context, "a").await.findings.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_the_cache_has_not_seen_yet_is_no_finding() {
    let scene = Scene::new();
    scene.record(&[("10.0.0.1", "a", "a-uid")]);
    scene.pod("a", |_| {});
    scene.status(|status| status["allocatedIPCount"] = json!(7));
    let report = take(&scene.context, "a").await;
    assert_eq!(found(&report), ["WrongCount/p"]);
}

#[tokio::test(start_paused = true)]
async fn a_stray_endpoint_goes_and_the_count_is_put_right() {
    let scene = Scene::new();
    scene.record(&[("10.0.0.1", "gone", "gone-uid")]);
    scene.endpoint("gone", "gone-uid", "10.0.0.1", ("Pod", "gone"), &json!([]));
    let report = take(&scene.context, "a").await;
    // Its node was deleted.
    assert_eq!(found(&report), ["StrayEndpoint/ns/gone/gone-uid", "WrongCount/p"]);
    tokio::time::advance(Duration::from_secs(31)).await;
    let outcomes = repair_all(&scene, &report).await;
    // With the record the count is written.
    assert_eq!(outcomes, [Outcome::Repaired, Outcome::Gone]);
    assert!(!scene.has_endpoint("gone"));
    assert_eq!(scene.recorded(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn an_address_that_nobody_has_on_record_is_put_on_record_for_the_pod_that_has_it() {
    let scene = Scene::new();
    scene.record(&[]);
    count(&scene, 0);
    scene.status(|status| {
        status["heldIPs"] = json!(r#"{"10.0.0.2":{"reason":"Cooling","by":"ns/a"}}"#);
    });
    runs(&scene, "a", "10.0.0.2");
    let report = take(&scene.context, "a").await;
    assert_eq!(found(&report), ["MissingRecord/p/10.0.0.2/a-uid/eth0"]);
    assert_eq!(repair_all(&scene, &report).await, [Outcome::Repaired]);
    assert_eq!(scene.recorded(), ["10.0.0.2"]);
    let pool = scene.context.caches.pools.get("", "p").unwrap();
    assert_eq!(pool.status.as_ref().unwrap().held_ips, None);
    assert_eq!(pool.status.as_ref().unwrap().allocated_ip_count, Some(1));
    assert!(take(&scene.context, "a").await.findings.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_address_that_somebody_else_got_since_is_not_taken_from_them() {
    let scene = Scene::new();
    scene.record(&[]);
    count(&scene, 0);
    runs(&scene, "a", "10.0.0.2");
    let report = take(&scene.context, "a").await;
    scene.record(&[("10.0.0.2", "b", "b-uid")]);
    runs(&scene, "b", "10.0.0.2");
    count(&scene, 1);
    assert_eq!(repair_all(&scene, &report).await, [Outcome::Gone]);
    let report = take(&scene.context, "a").await;
    assert_eq!(found(&report), ["Duplicate/10.0.0.2/a-uid+b-uid"]);
    let text = report.findings.values().next().unwrap().to_string();
    assert!(text.contains("Pod ns/a") && text.contains("Pod ns/b"), "{text}");
    assert_eq!(repair_all(&scene, &report).await, [Outcome::Unrepairable]);
    assert_eq!(scene.recorded(), ["10.0.0.2"]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_an_agent_is_no_leak() {
    let scene = Scene::new();
    scene.node("n1", "True", &[]);
    scene.record(&[("10.0.0.1", "gone", "gone-uid")]);
    count(&scene, 1);
    scene.endpoint("gone", "gone-uid", "10.0.0.1", ("Pod", "gone"), &json!([]));
    let report = take(&scene.context, "a").await;
    assert_eq!(found(&report), Vec::<&str>::new());
}

#[tokio::test(start_paused = true)]
async fn a_report_is_remembered_for_an_hour() {
    let scene = Scene::new();
    let report = take(&scene.context, "a").await;
    assert_eq!(scene.context.audits.find(&report.id).unwrap().taken, report.taken);
    assert!(scene.context.audits.find("another").is_none());
    tokio::time::advance(MEMORY).await;
    assert!(scene.context.audits.find(&report.id).is_none());
}

#[tokio::test(start_paused = true)]
async fn while_agents_tell_what_is_in_use_nothing_is_repaired() {
    let scene = Scene::new();
    scene.record(&[("10.0.0.1", "gone", "gone-uid")]);
    let report = take(&scene.context, "a").await;
    assert_eq!(found(&report), ["Leak/p/10.0.0.1/gone-uid/", "WrongCount/p"]);
    tokio::time::advance(Duration::from_secs(31)).await;
    scene.status(|status| status["restoring"] = json!({"since": "2026-01-01T00:00:00Z"}));
    assert_eq!(repair_all(&scene, &report).await, [Outcome::Kept, Outcome::Kept]);
    assert_eq!(scene.recorded(), ["10.0.0.1"]);
}

#[tokio::test(start_paused = true)]
async fn who_asks_again_and_again_makes_only_their_own_reports_forgotten() {
    let scene = Scene::new();
    let repairers = take(&scene.context, "repairer").await;
    let first = take(&scene.context, "reader").await;
    for _ in 0..2 * KEPT {
        take(&scene.context, "reader").await;
    }
    let audits = &scene.context.audits;
    assert!(audits.find(&repairers.id).is_some());
    assert!(audits.find(&first.id).is_none());
    assert_eq!(audits.reports.lock().unwrap().len(), KEPT);
}

#[tokio::test(start_paused = true)]
async fn large_reports_are_kept_as_long_as_all_together_are_not_too_large() {
    let scene = Scene::new();
    scene.record(&[]);
    scene.status(|status| status["allocatedIPCount"] = json!(7));
    let small = take(&scene.context, "repairer").await;
    let fault = small.findings.values().next().unwrap();
    let audits = &scene.context.audits;
    for number in 0..20 {
        let large = Report {
            id: number.to_string(),
            findings: (0..MOST).map(|id| (id.to_string(), fault.clone())).collect(),
            ..(*small).clone()
        };
        audits.keep("reader", Arc::new(large));
    }
    assert!(audits.find(&small.id).is_some());
    let kept: Vec<_> = (0..20)
        .filter(|id: &i32| audits.find(&id.to_string()).is_some())
        .collect();
    assert_eq!(kept, Vec::from_iter(5..20));
}

#[tokio::test(start_paused = true)]
async fn what_there_is_no_time_for_is_not_begun() {
    let scene = Scene::new();
    scene.record(&[("10.0.0.1", "gone", "gone-uid")]);
    count(&scene, 1);
    let report = take(&scene.context, "a").await;
    tokio::time::advance(Duration::from_secs(31)).await;
    let ids = report.findings.keys().cloned().collect();
    let repaired = repair(&scene.context, &report, &ids, Instant::now() + Duration::from_secs(1)).await;
    assert_eq!(repaired[0].outcome, Outcome::NotTried);
    assert_eq!(repaired[0].message, "not tried: out of time, send it again");
    assert_eq!(scene.recorded(), ["10.0.0.1"]);
    assert_eq!(repair_all(&scene, &report).await, [Outcome::Repaired]);
}
