//! The end of a pod: what its DEL, the runtime's GC and the sweep free, and when.

use super::agent::{Agent, args, pool};
use super::api::POOLS;
use serde_json::{Value, json};
use spiderpool_agent::del::Released;
use spiderpool_agent::{collect, del, sweep};
use spiderpool_crds::names;
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

    /// Has the sweep look once.
    pub(super) async fn sweep(&self) {
        assert!(sweep::pass(&self.agent.context).await);
    }
}

pub(super) fn terminating(pod: &mut Value) {
    pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
}

fn failed(pod: &mut Value) {
    pod["spec"]["restartPolicy"] = json!("Always");
    pod["status"]["phase"] = json!("Failed");
}

#[tokio::test]
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
    assert_eq!(scene.collect().await, 1);
    assert!(scene.is_clear());
}

#[tokio::test]
async fn a_pod_whose_sandbox_is_gone_keeps_its_address_until_it_has_finished_or_is_gone() {
    for end in ["finished", "gone"] {
        let scene = Scene::with_address().await;
        assert_eq!(scene.del_of("eth0", "c", "lan").await, Released::PodAlive);
        assert_eq!(scene.sandbox(), Value::Null);
        let recorded = scene.recorded();
        scene.change_pod(terminating).await;
        scene.sweep().await;
        assert_eq!(scene.recorded(), recorded);
        match end {
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

#[tokio::test]
async fn an_endpoint_of_a_pod_that_was_deleted_by_force_waits_for_its_del() {
    let scene = Scene::with_address().await;
    let recorded = scene.recorded();
    scene.delete_pod().await;
    scene.sweep().await;
    assert_eq!((scene.recorded(), scene.sandbox()), (recorded, json!("c")));
    assert_eq!(scene.del_of("eth0", "c", "lan").await, Released::Freed);
    assert!(scene.is_clear());
}
