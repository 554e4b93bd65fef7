//! What is freed, and what is not: two looks at a cluster, as far apart as they have to be.

use super::*;
use scene::Scene;
use serde_json::{Value, json};

mod kept;
mod lost;
mod named_alike;
pub(crate) mod scene;

/// Looks at everything, and again and again for three minutes.
async fn settle(scene: &Scene) {
    let mut suspects = Suspects::default();
    suspects.note(check::everything(&scene.context).await, Instant::now());
    for _ in 0..60 {
        look(&scene.context, &mut suspects).await;
        tokio::time::advance(Duration::from_secs(3)).await;
    }
}

/// A record and the endpoint of a Deployment's pod `shop` on node `n1`, whose sandbox is up.
fn shop() -> Scene {
    let scene = Scene::new();
    scene.record(&[("10.0.0.1", "shop", "shop-uid")]);
    scene.endpoint("shop", "shop-uid", "10.0.0.1", ("Deployment", "shop"), &json!([]));
    scene.sandbox("shop", Some("c1"));
    scene.node("n1", "True", &[]);
    scene
}

#[tokio::test(start_paused = true)]
async fn a_record_that_nobody_knows_is_freed_at_the_second_look() {
    let scene = Scene::new();
    scene.record(&[("10.0.0.1", "shop", "shop-uid"), ("10.0.0.2", "other", "other-uid")]);
    scene.pod("other", |_| {});
    let mut suspects = Suspects::default();
    suspects.note(check::everything(&scene.context).await, Instant::now());
    tokio::time::advance(Duration::from_secs(1)).await;
    look(&scene.context, &mut suspects).await;
    assert_eq!(
        suspects.count(),
        1,
        "the other one's pod lives, which a live look shows"
    );
    tokio::time::advance(IN_FLIGHT - Duration::from_secs(1)).await;
    look(&scene.context, &mut suspects).await;
    assert_eq!(scene.recorded().len(), 2, "an ADD may be on its way");
    tokio::time::advance(Duration::from_secs(1)).await;
    look(&scene.context, &mut suspects).await;
    assert_eq!(scene.recorded(), ["10.0.0.2"]);
    tokio::time::advance(SHORTEST).await;
    look(&scene.context, &mut suspects).await;
    assert_eq!(suspects.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_appears_before_the_second_look_keeps_its_address() {
    let scene = Scene::new();
    scene.record(&[("10.0.0.1", "shop", "shop-uid")]);
    let mut suspects = Suspects::default();
    suspects.note(check::everything(&scene.context).await, Instant::now());
    look(&scene.context, &mut suspects).await;
    scene.pod("shop", |_| {});
    tokio::time::advance(IN_FLIGHT * 2).await;
    look(&scene.context, &mut suspects).await;
    assert_eq!(scene.recorded().len(), 1);
    assert_eq!(suspects.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_read_frees_nothing_and_is_made_up_for() {
    let scene = Scene::new();
    scene.record(&[("10.0.0.1", "shop", "shop-uid")]);
    scene.cluster.fail("pods");
    let mut suspects = Suspects::default();
    suspects.note(check::everything(&scene.context).await, Instant::now());
    look(&scene.context, &mut suspects).await;
    assert_eq!((scene.recorded().len(), suspects.count()), (1, 0));
    assert_eq!(suspects.next_look(), Instant::now() + SHORTEST);
}

#[tokio::test(start_paused = true)]
async fn what_an_endpoint_of_a_ready_node_names_is_its_agent_s() {
    let scene = shop();
    settle(&scene).await;
    assert_eq!(scene.recorded().len(), 1);
    assert!(scene.has_endpoint("shop"));
}

#[tokio::test(start_paused = true)]
async fn a_finished_pod_keeps_no_record_that_no_endpoint_names() {
    let scene = Scene::new();
    scene.record(&[("10.0.0.1", "job", "job-uid"), ("10.0.0.2", "evicted", "evicted-uid")]);
    scene.node("n1", "True", &[]);
    let finished = |pod: &mut Value| {
        pod["spec"]["nodeName"] = json!("n1");
        pod["spec"]["restartPolicy"] = json!("Never");
        pod["status"] = json!({"phase": "Succeeded",
            "containerStatuses": [{"state": {"terminated": {"finishedAt": "2026-01-01T00:00:00Z"}}}]});
    };
    scene.pod("job", finished);
    scene.pod("evicted", |pod| {
        pod["spec"]["nodeName"] = json!("n1");
        pod["status"] = json!({"phase": "Failed", "reason": "Evicted"});
    });
    settle(&scene).await;
    assert_eq!(scene.recorded().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_freed_of_a_pool_that_waits_for_agents_after_a_restore() {
    let scene = Scene::new();
    scene.record(&[("10.0.0.1", "shop", "shop-uid")]);
    scene.status(|status| status["restoring"] = json!({"since": "", "by": "", "asserted": []}));
    settle(&scene).await;
    assert_eq!(scene.recorded().len(), 1);
    scene.status(|status| status["restoring"] = Value::Null);
    settle(&scene).await;
    assert_eq!(scene.recorded().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_records_of_a_pass_are_one_write() {
    let scene = Scene::new();
    scene.record(&[
        ("10.0.0.1", "a", "a-uid"),
        ("10.0.0.2", "b", "b-uid"),
        ("10.0.0.3", "c", "c-uid"),
    ]);
    let version = || scene.pool_version();
    let before = version();
    settle(&scene).await;
    assert_eq!(scene.recorded().len(), 0);
    assert_eq!(version(), before + 1);
}
