//! A pod that is named like a virtual machine: both have addresses on record under one name, and there is one endpoint.

use super::scene::of_machine;
use super::*;

/// The machine `db` has 10.0.0.1, and the endpoint is that of a pod with 10.0.0.2.
fn scene() -> Scene {
    let scene = Scene::new();
    scene.record(&[("10.0.0.1", "db", "launcher-uid"), ("10.0.0.2", "db", "db-uid")]);
    scene.pod("db", |_| {});
    scene.endpoint("db", "db-uid", "10.0.0.2", ("Pod", "db"), &json!([]));
    scene
}

#[tokio::test(start_paused = true)]
async fn the_address_of_a_running_machine_is_not_freed() {
    let scene = scene();
    scene.machine("virtualmachineinstances", "db", &json!({}));
    scene.pod("launcher", of_machine);
    settle(&scene).await;
    assert_eq!(scene.recorded(), ["10.0.0.1", "10.0.0.2"]);

    // On its way out it still runs, also where its pod is not the one on record.
    scene.machine(
        "virtualmachineinstances",
        "db",
        &json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}),
    );
    settle(&scene).await;
    assert_eq!(scene.recorded().len(), 2);
    scene.end_pod("launcher");
    scene.pod("source", of_machine);
    settle(&scene).await;
    assert_eq!(scene.recorded().len(), 2);

    scene.end_pod("source");
    scene.end_machine("virtualmachineinstances", "db");
    settle(&scene).await;
    assert_eq!(scene.recorded(), ["10.0.0.2"]);
}

#[tokio::test(start_paused = true)]
async fn the_address_of_a_machine_that_is_switched_off_is_not_freed() {
    let scene = scene();
    scene.machine("virtualmachines", "db", &json!({}));
    settle(&scene).await;
    assert_eq!(scene.recorded().len(), 2);
    scene.end_machine("virtualmachines", "db");
    settle(&scene).await;
    assert_eq!(scene.recorded(), ["10.0.0.2"]);
}

#[tokio::test(start_paused = true)]
async fn the_machine_of_a_cluster_counts_though_its_kind_is_switched_off() {
    let mut scene = scene();
    scene.context.config.sticky.machines = false;
    scene.pod("launcher", of_machine);
    settle(&scene).await;
    assert_eq!(scene.recorded().len(), 2);
    scene.end_pod("launcher");
    settle(&scene).await;
    assert_eq!(scene.recorded(), ["10.0.0.2"]);
}
