//! Nodes that are lost.

use super::*;

const OFF: &str = "node.kubernetes.io/out-of-service";

#[tokio::test(start_paused = true)]
async fn a_pod_deleted_by_force_keeps_its_address_until_its_node_is_tainted_or_deleted() {
    for deleted in [false, true] {
        let scene = shop();
        scene.node("n1", "Unknown", &["node.kubernetes.io/unreachable"]);
        settle(&scene).await;
        assert_eq!(scene.recorded().len(), 1);
        match deleted {
            true => scene.end_node("n1"),
            false => scene.node("n1", "Unknown", &[OFF]),
        }
        settle(&scene).await;
        assert_eq!(scene.recorded().len(), 0);
        assert!(!scene.has_endpoint("shop"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_back_between_the_looks_is_left_to_its_agent() {
    let scene = shop();
    scene.node("n1", "Unknown", &[OFF]);
    let mut suspects = Suspects::default();
    suspects.note(check::everything(&scene.context).await, Instant::now());
    look(&scene.context, &mut suspects).await;
    assert_eq!(suspects.count(), 1);
    scene.node("n1", "True", &[]);
    tokio::time::advance(Duration::from_secs(60)).await;
    look(&scene.context, &mut suspects).await;
    assert_eq!(scene.recorded().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_there_keeps_its_address_on_a_lost_node() {
    let scene = shop();
    scene.node("n1", "Unknown", &[OFF]);
    scene.pod("shop", |_| {});
    settle(&scene).await;
    assert_eq!(scene.recorded().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pool_says_what_its_addresses_do() {
    for (word, seconds, left) in [
        ("Keep", None, 1),
        ("After", Some(1_000_000_000), 1),
        ("After", Some(10), 0),
        ("OutOfService", None, 0),
    ] {
        let scene = shop();
        scene.pool(|spec| {
            spec["onNodeLost"] = json!(word);
            spec["onNodeLostAfterSeconds"] = json!(seconds);
        });
        let taints: &[&str] = if word == "After" { &[] } else { &[OFF] };
        scene.node("n1", "Unknown", taints);
        settle(&scene).await;
        assert_eq!(scene.recorded().len(), left, "{word} {seconds:?}");
        assert_eq!(scene.has_endpoint("shop"), left == 1, "{word} {seconds:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_waits_for_a_time_waits_no_longer_for_a_node_that_was_deleted() {
    let scene = shop();
    scene.pool(|spec| {
        spec["onNodeLost"] = json!("After");
        spec["onNodeLostAfterSeconds"] = json!(300);
    });
    scene.end_node("n1");
    let mut suspects = Suspects::default();
    suspects.note(check::everything(&scene.context).await, Instant::now());
    for _ in 0..5 {
        look(&scene.context, &mut suspects).await;
        tokio::time::advance(Duration::from_secs(58)).await;
    }
    assert_eq!(scene.recorded().len(), 1);
    tokio::time::advance(Duration::from_secs(60)).await;
    look(&scene.context, &mut suspects).await;
    assert_eq!(scene.recorded().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_pods_of_a_machine_that_was_shut_down_in_order_give_back_at_once() {
    let scene = shop();
    scene.node("n1", "False", &[]);
    scene.pod("shop", |pod| {
        pod["status"] = json!({"phase": "Failed", "reason": "Terminated",
            "containerStatuses": [{"state": {"terminated": {"finishedAt": "2026-01-01T00:00:00Z"}}}]});
    });
    scene.know_pod("shop");
    let mut suspects = Suspects::default();
    suspects.note(check::everything(&scene.context).await, Instant::now());
    for _ in 0..2 {
        look(&scene.context, &mut suspects).await;
    }
    assert_eq!(scene.recorded().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_without_records_goes_with_its_node_lost_and_its_pod_gone() {
    let scene = shop();
    scene.record(&[]);
    scene.node("n1", "Unknown", &[]);
    settle(&scene).await;
    assert!(!scene.has_endpoint("shop"));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_names_its_node_is_treated_as_its_endpoint_was() {
    let scene = Scene::new();
    scene.record(&[("10.0.0.1", "shop", "shop-uid")]);
    scene.status(|status| {
        let records = r#"{"10.0.0.1":{"pod":"ns/shop","podUid":"shop-uid","node":"n1"}}"#;
        status["allocatedIPs"] = json!(records);
    });
    // The next pod of the name is elsewhere, and its endpoint took the place of the other one.
    scene.pod("shop", |pod| pod["metadata"]["uid"] = json!("next-uid"));
    scene.endpoint("shop", "next-uid", "10.0.0.2", ("Deployment", "shop"), &json!([]));
    scene.node("n1", "Unknown", &[]);
    settle(&scene).await;
    assert_eq!(scene.recorded().len(), 1);
    scene.node("n1", "Unknown", &[OFF]);
    settle(&scene).await;
    assert_eq!(scene.recorded().len(), 0);
    assert!(scene.has_endpoint("shop"));
}
