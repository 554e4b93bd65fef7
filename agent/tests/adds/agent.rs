//! An agent in this process.

use super::api::{POOLS, Server};
use super::host::Host;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use spiderpool_agent::add;
use spiderpool_agent::automatic;
use spiderpool_agent::cancel::Cancel;
use spiderpool_agent::config::Config;
use spiderpool_agent::context::Context;
use spiderpool_agent::del::{self, Released};
use spiderpool_agent::metrics::Metrics;
use spiderpool_agent::owner::Owners;
use spiderpool_agent::pools::PoolStore;
use spiderpool_agent::serial::Turns;
use spiderpool_agent::surroundings::Surroundings;
use spiderpool_agent::sweep::Reclaim;
use spiderpool_crds::{SpiderIPPool, names};
use spiderpool_kit::cache::{Cache, Key, Options, Store, WaitError};
use spiderpool_kit::events::Recorder;
use spiderpool_kit::shutdown::{self, Process};
use spiderpool_wire::{IpamAddArgs, IpamDelArgs};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Where the pod is stored.
pub(crate) const POD: &str = "/api/v1/namespaces/retail/pods/shop";

/// Where its endpoint is.
pub(crate) const ENDPOINT: &str = "/apis/spiderpool.spidernet.io/v2beta1/namespaces/retail/spiderendpoints/shop";

/// An agent, and the API server that it talks to.
pub(crate) struct Agent {
    pub(crate) server: Server,
    pub(crate) context: Arc<Context>,
    pub(crate) process: Process,
    pub(crate) host: Host,
}

impl Agent {
    /// An agent in a cluster of these pools and one pod, retail/shop of DaemonSet store, with these annotations.
    pub(crate) fn start(pools: &[Value], annotations: &Value) -> Self {
        Self::start_of("DaemonSet", pools, annotations)
    }

    /// An agent as [`Self::start`] makes it, where the pod is of another kind.
    pub(crate) fn start_of(kind: &str, pools: &[Value], annotations: &Value) -> Self {
        let server = Server::default();
        let owner = json!({"apiVersion": "apps/v1", "kind": kind, "name": "store", "uid": "s", "controller": true});
        for pool in pools {
            server.put(
                &format!("{POOLS}/{}", pool["metadata"]["name"].as_str().unwrap_or_default()),
                pool.clone(),
            );
        }
        server.put(
            "/api/v1/namespaces/retail",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "retail"}}),
        );
        server.put(
            POD,
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shop", "namespace": "retail", "uid": "u",
                "annotations": annotations, "ownerReferences": [owner]}, "spec": {"nodeName": "n1", "containers": []}}),
        );
        let (process, client, host) = (Process::new(), server.client(), Host::new());
        let metrics = Metrics::register(&spiderpool_kit::metrics::Metrics::new());
        let pools = Cache::start(
            &process,
            client.clone(),
            Options::<SpiderIPPool>::default().index(automatic::index),
        );
        let reserved = Cache::start(&process, client.clone(), Options::default());
        let context = Context {
            node: "n1".to_owned(),
            namespace: "kube-system".to_owned(),
            cluster_network: String::new(),
            config: Config::default(),
            pods: Cache::start(&process, client.clone(), Options::default()),
            endpoints: Cache::start(&process, client.clone(), Options::default()),
            pools: PoolStore::new(
                pools,
                reserved,
                client.clone(),
                metrics.pools.clone(),
                25,
                "n1",
                Vec::new(),
            ),
            owners: Owners::new(client.clone(), Vec::new()),
            surroundings: Surroundings::new(client.clone()),
            recorder: Recorder::start(&process, client.clone(), "spiderpool-agent", "n1"),
            turns: Turns::default(),
            sandboxes: host.sandboxes(),
            reclaim: Reclaim::default(),
            rechecked: watch::Sender::new(true),
            metrics,
            client,
        };
        Self {
            server,
            context: Arc::new(context),
            process,
            host,
        }
    }

    pub(crate) async fn add(&self, nic: &str, network: &[&str]) -> Result<Vec<String>, String> {
        let args = args(nic, network);
        self.host.make_netns("c");
        let answer = Box::pin(add::add(&self.context, &args, &Cancel::default()))
            .await
            .map_err(|error| error.to_string())?;
        let own = answer.ips.iter().filter(|ip| ip.nic == nic);
        let own: Vec<String> = own.map(|ip| ip.address.clone()).collect();
        self.host.keep_result(nic, "c", &own);
        Ok(answer
            .ips
            .iter()
            .map(|ip| format!("{} {}", ip.nic, ip.address))
            .collect())
    }

    /// Serves the DEL of a NIC of a sandbox.
    pub(crate) async fn del(&self, nic: &str, container: &str) -> Result<Released, String> {
        let done = del::del(&self.context, &del_args(nic, container)).await;
        self.host.lose_sandbox(container);
        done.map_err(|error| error.to_string())
    }

    /// Writes a pool once the agent knows the pools of before.
    pub(crate) async fn write_later(&self, pool: &Value) -> Result<(), WaitError> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        self.context.pools.cache().synced(deadline).await?;
        let name = pool["metadata"]["name"].as_str().unwrap_or_default();
        self.server.put(&format!("{POOLS}/{name}"), pool.clone());
        Ok(())
    }

    /// Has the pod end: it is deleted and still there. Waits until the agent has seen it.
    pub(crate) async fn end_pod(&self) -> Result<(), WaitError> {
        self.server.edit(POD, |pod| {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")
        });
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        let ended = |pods: &Store<Pod>| {
            let pod = pods.get(&Key::new("retail", "shop"))?;
            pod.metadata.deletion_timestamp.as_ref().map(drop)
        };
        self.context.pods.wait(deadline, ended).await
    }

    /// The addresses on record in a pool, with their NICs.
    pub(crate) fn records(&self, name: &str) -> Vec<String> {
        records(&self.server.get(&format!("{POOLS}/{name}")).unwrap_or_default())
    }

    /// The NICs that the endpoint names, with their sandboxes; none if there is no endpoint.
    pub(crate) fn nics(&self) -> Option<Vec<String>> {
        let endpoint = self.server.get(ENDPOINT)?;
        let items = endpoint["status"]["current"]["ips"].as_array()?.clone();
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let nics = items
            .iter()
            .map(|item| format!("{} {}", text(&item["interface"]), text(&item["containerID"])));
        Some(nics.collect())
    }

    /// Stops the agent, so that all its Events are written, and gives them.
    pub(crate) async fn events(self) -> Result<Vec<(String, String)>, shutdown::Error> {
        self.process.stop();
        self.process.finish(Duration::from_secs(10)).await?;
        Ok(self.server.events())
    }
}

/// What the plugin asks for a NIC, with the pools that the CNI configuration names.
pub(crate) fn args(nic: &str, network: &[&str]) -> IpamAddArgs {
    IpamAddArgs {
        container_id: "c".to_owned(),
        if_name: nic.to_owned(),
        pod_namespace: "retail".to_owned(),
        pod_name: "shop".to_owned(),
        pod_uid: "u".to_owned(),
        network_name: "lan".to_owned(),
        net_namespace: "/run/netns/c".to_owned(),
        default_ipv4_ippool: network.iter().map(|name| (*name).to_owned()).collect(),
        ..IpamAddArgs::default()
    }
}

/// A pool with these addresses that the operator has checked.
pub(crate) fn pool(name: &str, ips: &str, more: &Value) -> Value {
    let subnet = if ips.contains(':') { "fd77::/64" } else { "10.77.0.0/20" };
    let mut spec = json!({"subnet": subnet, "ips": [ips]});
    if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
        spec.extend(more.clone());
    }
    json!({"apiVersion": names::API_VERSION, "kind": "SpiderIPPool",
        "metadata": {"name": name, "uid": name, "generation": 1}, "spec": spec,
        "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "R", "message": "",
            "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
}

/// A pool whose only address another pod has.
pub(crate) fn full(name: &str, ip: &str) -> Value {
    let mut pool = pool(name, ip, &json!({}));
    pool["status"]["allocatedIPs"] =
        json!(json!({ip: {"pod": "retail/other", "podUid": "o", "nic": "eth0"}}).to_string());
    pool
}

/// A pool in which a pod has an address for a NIC.
pub(crate) fn held(name: &str, ips: &str, ip: &str, (pod, uid, nic): (&str, &str, &str)) -> Value {
    let mut pool = pool(name, ips, &json!({}));
    pool["status"]["allocatedIPs"] = json!(json!({ip: {"pod": pod, "podUid": uid, "nic": nic}}).to_string());
    pool
}

/// A pool a in which 10.77.1.5 is on record for a pod, UID and NIC.
pub(crate) fn lent(owner: (&str, &str, &str)) -> Value {
    held("a", "10.77.1.1-10.77.1.9", "10.77.1.5", owner)
}

/// The DEL of a NIC of a sandbox, as the plugin sends it.
pub(crate) fn del_args(nic: &str, container: &str) -> IpamDelArgs {
    IpamDelArgs {
        container_id: container.to_owned(),
        if_name: nic.to_owned(),
        pod_namespace: "retail".to_owned(),
        pod_name: "shop".to_owned(),
        pod_uid: "u".to_owned(),
        network_name: "lan".to_owned(),
        ..IpamDelArgs::default()
    }
}

/// The addresses on record in a pool object, with their NICs.
pub(crate) fn records(pool: &Value) -> Vec<String> {
    let text = pool["status"]["allocatedIPs"].as_str().unwrap_or("{}");
    let records: Value = serde_json::from_str(text).unwrap_or_default();
    let told = records
        .as_object()
        .into_iter()
        .flatten()
        .map(|(ip, record)| format!("{ip} {}", record["nic"].as_str().unwrap_or("-")));
    told.collect()
}
