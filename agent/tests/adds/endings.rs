//! The end of a pod: what its DEL, the runtime's GC and the sweep free, and when.

use super::agent::{Agent, args, pool};
use super::api::POOLS;
use serde_json::{Value, json};
use spiderpool_agent::del::Released;
use spiderpool_agent::sweep::Sweep;
use spiderpool_agent::{collect, del, recheck};
use spiderpool_crds::names;
use spiderpool_ipam::reclaim::IN_FLIGHT;
use spiderpool_kit::cache::Key;
use spiderpool_wire::{IpamDelArgs, IpamGcArgs};
use std::time::Duration;
use tokio::time::Instant;

pub(super) const POD: &str = "/api/v1/namespaces/retail/pods/shop";
pub(super) const ENDPOINT: &str = "/apis/spiderpool.spidernet.io/v2beta1/namespaces/retail/spiderendpoints/shop";

/// An agent whose pod gets an address of pool a, which has one.
pub(super) struct Scene {
    pub(super) agent: Agent,
}

#[expect(clippy::unwrap_used, reason = "helpers of tests, which fail by it")]
impl Scene {
    pub(super) fn new() -> Self {
        let pools = [pool("a", "10.77.1.1", &json!({}))];
        let agent = Agent::start(&pools, &json!({names::ANNOTATION_IPPOOL: r#"{"ipv4":["a"]}"#}));
        Self { agent }
    }

    async fn with_address() -> Self {
        let scene = Self::new();
        assert_eq!(scene.agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.1/20"]);
        scene
    }

    /// What the pool has on record.
    pub(super) fn recorded(&self) -> Value {
        let pool = self.agent.server.get(&format!("{POOLS}/a")).unwrap();
        pool["status"]["allocatedIPs"].clone()
    }

    /// Whether nothing is left of the pod.
    pub(super) fn is_clear(&self) -> bool {
        (self.recorded(), self.agent.server.get(ENDPOINT)) == (Value::Null, None)
    }

    /// The sandbox that the endpoint names.
    fn sandbox(&self) -> Value {
        let endpoint = self.agent.server.get(ENDPOINT).unwrap();
        endpoint["status"]["current"]["ips"][0]["containerID"].clone()
    }

    /// Changes the pod and waits until the agent has seen it.
    pub(super) async fn change_pod(&self, change: impl FnOnce(&mut Value)) {
        let mut pod = self.agent.server.get(POD).unwrap();
        change(&mut pod);
        self.agent.server.put(POD, pod);
        let version = self.agent.server.get(POD).unwrap()["metadata"]["resourceVersion"].clone();
        self.pod_seen(version.as_str()).await;
    }

    /// Deletes the pod and waits until the agent has seen it.
    pub(super) async fn delete_pod(&self) {
        self.agent.server.remove(POD);
        self.pod_seen(None).await;
    }

    /// Waits until the agent has seen pool a as it is.
    async fn pool_seen(&self) {
        let pool = self.agent.server.get(&format!("{POOLS}/a")).unwrap();
        let version = pool["metadata"]["resourceVersion"].as_str();
        let deadline = Instant::now() + Duration::from_secs(10);
        let seen = self.agent.context.pools.cache().wait(deadline, |pools| {
            let pool = pools.get(&Key::new("", "a"))?;
            (pool.metadata.resource_version.as_deref() == version).then_some(())
        });
        seen.await.unwrap();
    }

    async fn pod_seen(&self, version: Option<&str>) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let seen = self.agent.context.pods.wait(deadline, |pods| {
            let pod = pods.get(&Key::new("retail", "shop"));
            let known = pod.map(|pod| pod.metadata.resource_version.clone().unwrap_or_default());
            (known.as_deref() == version).then_some(())
        });
        seen.await.unwrap();
    }

    /// The DEL of a sandbox's NIC.
    pub(super) async fn del_of(&self, nic: &str, container: &str, network: &str) -> Released {
        let add = args(nic, &[]);
        let args = IpamDelArgs {
            container_id: container.to_owned(),
            if_name: add.if_name,
            net_namespace: String::new(),
            pod_namespace: add.pod_namespace,
            pod_name: add.pod_name,
            pod_uid: add.pod_uid,
            network_name: network.to_owned(),
        };
        del::del(&self.agent.context, &args).await.unwrap()
    }

    /// A GC whose list is empty.
    async fn collect(&self) -> usize {
        let args = IpamGcArgs {
            network_name: "lan".to_owned(),
            ..IpamGcArgs::default()
        };
        collect::collect(&self.agent.context, &args).await.unwrap()
    }

    /// Has the sweep look for as long as anything is to be found.
    pub(super) async fn sweep(&self) {
        let mut sweep = Sweep::default();
        let end = Instant::now() + 2 * IN_FLIGHT;
        loop {
            let next = sweep.pass(&self.agent.context).await;
            if next > end {
                return;
            }
            tokio::time::sleep_until(next).await;
        }
    }
}

/// Its grace is over.
pub(super) fn terminating(pod: &mut Value) {
    pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
}

/// Its grace is not over.
fn given_time(pod: &mut Value) {
    pod["metadata"]["deletionTimestamp"] = json!("2126-01-01T00:00:00Z");
}

fn failed(pod: &mut Value) {
    pod["spec"]["restartPolicy"] = json!("Always");
    pod["status"]["phase"] = json!("Failed");
}

#[tokio::test(start_paused = true)]
async fn a_gc_list_without_a_pod_that_runs_or_is_given_time_to_stop_takes_nothing_from_it() {
    let scene = Scene::with_address().await;
    let recorded = scene.recorded();
    for step in ["runs", "stops"] {
        if step == "stops" {
            scene.change_pod(terminating).await;
        }
        assert_eq!(scene.collect().await, 0, "{step}");
        scene.sweep().await;
        assert_eq!(
            (scene.recorded(), scene.sandbox()),
            (recorded.clone(), json!("c")),
            "{step}"
        );
    }
    scene.change_pod(failed).await;
    // The list may be older than the sandbox.
    assert_eq!(scene.collect().await, 0);
    scene.agent.host.lose_sandbox("c");
    assert_eq!(scene.collect().await, 1);
    assert!(scene.is_clear());
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_sandbox_is_gone_keeps_its_address_until_it_has_finished_or_is_gone_or_its_grace_is_over() {
    for end in ["finished", "gone", "out of time"] {
        let scene = Scene::with_address().await;
        assert_eq!(scene.del_of("eth0", "c", "lan").await, Released::PodAlive);
        assert_eq!(scene.sandbox(), Value::Null);
        let recorded = scene.recorded();
        scene.change_pod(given_time).await;
        scene.sweep().await;
        assert_eq!(scene.recorded(), recorded);
        match end {
            "out of time" => scene.change_pod(terminating).await,
            "finished" => scene.change_pod(failed).await,
            _ => scene.delete_pod().await,
        }
        scene.sweep().await;
        assert!(scene.is_clear(), "{end}");
    }
}

#[tokio::test]
async fn a_network_that_was_renamed_while_the_pod_ran_leaks_nothing() {
    let scene = Scene::with_address().await;
    scene.change_pod(terminating).await;
    assert_eq!(scene.del_of("eth0", "older", "renamed").await, Released::OlderSandbox);
    assert_eq!(scene.del_of("eth0", "c", "renamed").await, Released::Freed);
    assert!(scene.is_clear());
    // Where the sandbox does not tell, the network does.
    let scene = Scene::with_address().await;
    assert_eq!(scene.del_of("eth0", "c", "lan").await, Released::PodAlive);
    scene.change_pod(terminating).await;
    assert_eq!(scene.del_of("eth0", "c", "yard").await, Released::OtherNetwork);
    assert_ne!(scene.recorded(), Value::Null);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_of_a_pod_that_was_deleted_by_force_waits_for_its_del() {
    let scene = Scene::with_address().await;
    let recorded = scene.recorded();
    scene.delete_pod().await;
    scene.sweep().await;
    assert_eq!((scene.recorded(), scene.sandbox()), (recorded, json!("c")));
    assert_eq!(scene.del_of("eth0", "c", "lan").await, Released::Freed);
    assert!(scene.is_clear());
}

#[tokio::test(start_paused = true)]
async fn what_a_sandbox_had_that_went_without_a_del_is_freed_when_the_pod_has_ended() {
    for end in ["gone", "out of time"] {
        let scene = Scene::with_address().await;
        let recorded = scene.recorded();
        scene.agent.host.lose_sandbox("c");
        // The pod gets another sandbox, with the same address.
        scene.sweep().await;
        assert_eq!((scene.recorded(), scene.sandbox()), (recorded, json!("c")));
        match end {
            "gone" => scene.delete_pod().await,
            _ => scene.change_pod(terminating).await,
        }
        scene.sweep().await;
        assert!(scene.is_clear(), "{end}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_of_this_node_that_no_endpoint_names_is_freed_when_its_pod_and_sandbox_are_gone() {
    let scene = Scene::with_address().await;
    let recorded = scene.recorded();
    scene.agent.server.remove(ENDPOINT);
    let deadline = Instant::now() + Duration::from_secs(10);
    let gone = scene.agent.context.endpoints.wait(deadline, |endpoints| {
        endpoints.get(&Key::new("retail", "shop")).is_none().then_some(())
    });
    gone.await.unwrap();
    scene.sweep().await;
    assert_eq!(scene.recorded(), recorded, "the pod lives");
    scene.delete_pod().await;
    scene.sweep().await;
    assert_eq!(scene.recorded(), recorded, "its sandbox is left");
    scene.agent.host.lose_sandbox("c");
    scene.sweep().await;
    assert!(scene.is_clear());
}

#[tokio::test(start_paused = true)]
async fn an_address_that_its_pod_uses_and_that_is_on_record_for_nobody_is_back_on_record() {
    let scene = Scene::with_address().await;
    let recorded = scene.recorded();
    let pool = format!("{POOLS}/a");
    scene.agent.server.edit(&pool, |pool| {
        pool["status"]["allocatedIPs"] = Value::Null;
        // Nobody new gets one here.
        pool["spec"]["disable"] = json!(true);
    });
    scene.pool_seen().await;
    scene.sweep().await;
    assert_eq!(scene.recorded(), recorded);
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_address_another_one_got_is_told_of_it() {
    let scene = Scene::with_address().await;
    let other = json!({"10.77.1.1": {"pod": "retail/other", "podUid": "o", "nic": "eth0"}}).to_string();
    scene.agent.server.edit(&format!("{POOLS}/a"), |pool| {
        pool["status"]["allocatedIPs"] = json!(other);
    });
    scene.pool_seen().await;
    scene.sweep().await;
    assert_eq!(scene.recorded(), json!(other));
    let events = scene.agent.events().await.unwrap();
    let told = events
        .iter()
        .find(|(reason, _)| reason == "AddressLost")
        .map(|(_, note)| note);
    assert!(
        told.is_some_and(|note| note.contains("10.77.1.1") && note.contains("Pod retail/other (UID o)")),
        "{events:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_starting_agent_puts_back_on_record_what_its_sandboxes_use_before_it_serves() {
    let scene = Scene::with_address().await;
    let recorded = scene.recorded();
    scene.agent.server.edit(&format!("{POOLS}/a"), |pool| {
        pool["status"]["allocatedIPs"] = Value::Null;
    });
    scene.pool_seen().await;
    scene.agent.context.rechecked.send_replace(false);
    assert!(scene.agent.context.ready().is_err());
    recheck::start(scene.agent.context.clone()).await;
    assert!(scene.agent.context.ready().is_ok());
    assert_eq!(scene.recorded(), recorded);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_add_of_a_pod_that_is_gone_gives_its_record_back() {
    let scene = Scene::with_address().await;
    scene.agent.server.remove(ENDPOINT);
    // The watch does not tell the agent.
    scene.agent.server.remove_silently(POD);
    let error = scene.agent.add("eth0", &[]).await.unwrap_err();
    assert!(error.contains("is not known"), "{error}");
    assert!(scene.is_clear());
}

#[tokio::test(start_paused = true)]
async fn what_another_node_s_pod_of_the_name_has_names_that_node_before_its_endpoint_is_written_over() {
    let scene = Scene::new();
    let item = json!({"interface": "eth0", "ipv4": "10.77.1.7/20", "ipv4Pool": "b"});
    let endpoint = json!({"apiVersion": names::API_VERSION, "kind": "SpiderEndpoint",
        "metadata": {"name": "shop", "namespace": "retail", "uid": "e", "labels": {"ipam.spidernet.io/node": "n2"}},
        "status": {"current": {"uid": "earlier", "node": "n2", "ips": [item]}}});
    scene.agent.server.put(ENDPOINT, endpoint);
    let held = super::agent::held(
        "b",
        "10.77.1.1-10.77.1.9",
        "10.77.1.7",
        ("retail/shop", "earlier", "eth0"),
    );
    scene.agent.server.put(&format!("{POOLS}/b"), held);
    scene.agent.add("eth0", &[]).await.unwrap();
    let pool = scene.agent.server.get(&format!("{POOLS}/b")).unwrap();
    let records: Value = serde_json::from_str(pool["status"]["allocatedIPs"].as_str().unwrap()).unwrap();
    assert_eq!(records["10.77.1.7"]["node"], json!("n2"));
    let endpoint = scene.agent.server.get(ENDPOINT).unwrap();
    assert_eq!(endpoint["status"]["current"]["uid"], json!("u"));
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_neither_pod_nor_endpoint_nor_record_tells_of_has_its_address_until_it_goes() {
    let scene = Scene::with_address().await;
    let recorded = scene.recorded();
    scene.agent.server.remove(ENDPOINT);
    scene.delete_pod().await;
    scene.agent.server.edit(&format!("{POOLS}/a"), |pool| {
        pool["status"]["allocatedIPs"] = Value::Null;
    });
    scene.pool_seen().await;
    assert!(recheck::all(&scene.agent.context).await);
    assert_eq!(scene.recorded(), recorded);
    scene.sweep().await;
    assert_eq!(scene.recorded(), recorded);
    scene.agent.host.lose_sandbox("c");
    scene.sweep().await;
    assert!(scene.is_clear());
}

#[tokio::test(start_paused = true)]
async fn what_was_freed_while_the_node_could_not_be_reached_is_back_on_record_when_its_endpoint_is_found_gone() {
    let scene = Scene::with_address().await;
    let recorded = scene.recorded();
    scene.agent.server.edit(&format!("{POOLS}/a"), |pool| {
        pool["status"]["allocatedIPs"] = Value::Null;
    });
    scene.pool_seen().await;
    scene.delete_pod().await;
    scene.agent.server.remove(ENDPOINT);
    recheck::ended(&scene.agent.context, &["other".to_owned()].into()).await;
    assert_ne!(scene.recorded(), recorded);
    recheck::ended(&scene.agent.context, &["u".to_owned()].into()).await;
    assert_eq!(scene.recorded(), recorded);
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_whose_del_came_gets_nothing_back() {
    let scene = Scene::with_address().await;
    scene.delete_pod().await;
    assert_eq!(scene.del_of("eth0", "c", "lan").await, Released::Freed);
    assert!(scene.is_clear());
    // The runtime has not taken it down yet.
    assert!(recheck::all(&scene.agent.context).await);
    assert!(scene.is_clear());
}
