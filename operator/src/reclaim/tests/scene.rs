//! A namespace `ns` with pods, virtual machines and a pool `p`, as the API server and the caches have them.

use std::net::IpAddr;

use serde_json::{Value, json};
use spiderpool_crds::{SpiderEndpoint, SpiderIPPool};

use crate::context::Context;
use crate::testing::Cluster;

const POOL: &str = "/apis/spiderpool.spidernet.io/v2beta1/spiderippools/p";
const ENDPOINTS: &str = "/apis/spiderpool.spidernet.io/v2beta1/namespaces/ns/spiderendpoints";
const PODS: &str = "/api/v1/namespaces/ns/pods";
const NODES: &str = "/api/v1/nodes";
const KUBEVIRT: &str = "/apis/kubevirt.io/v1/namespaces/ns";

pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) context: Context,
}

impl Scene {
    /// Within a runtime.
    pub(crate) fn new() -> Self {
        let cluster = Cluster::default();
        let context = Context::of(cluster.client());
        Self { cluster, context }
    }

    /// Makes the pool: which address which UID has under which name.
    pub(crate) fn record(&self, records: &[(&str, &str, &str)]) {
        let records = records.iter();
        let records: serde_json::Map<String, Value> = records
            .map(|(ip, name, uid)| ((*ip).to_owned(), json!({"pod": format!("ns/{name}"), "podUid": uid})))
            .collect();
        let pool = json!({"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderIPPool",
            "metadata": {"name": "p", "uid": "pool"}, "spec": {"subnet": "10.0.0.0/24", "ips": ["10.0.0.1-10.0.0.9"]},
            "status": {"allocatedIPs": Value::Object(records).to_string()}});
        let pool = self.cluster.put(POOL, pool);
        self.context.caches.pools.learn(serde_json::from_value(pool).unwrap());
    }

    /// The addresses that the pool has on record.
    pub(crate) fn recorded(&self) -> Vec<String> {
        let pool: SpiderIPPool = serde_json::from_value(self.cluster.get(POOL).unwrap()).unwrap();
        let records = pool.records().unwrap();
        records.iter().map(|(ip, _): (IpAddr, _)| ip.to_string()).collect()
    }

    /// Makes a pod. Its UID is its name with `-uid`.
    pub(crate) fn pod(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "ns", "uid": format!("{name}-uid")},
            "spec": {"containers": []}, "status": {"phase": "Running"}});
        change(&mut pod);
        self.cluster.put(&format!("{PODS}/{name}"), pod);
    }

    /// Has the cache learn of a pod.
    pub(crate) fn know_pod(&self, name: &str) {
        let pod = self.cluster.get(&format!("{PODS}/{name}")).unwrap();
        self.context.caches.pods.learn(serde_json::from_value(pod).unwrap());
    }

    pub(crate) fn end_pod(&self, name: &str) {
        self.cluster.remove(&format!("{PODS}/{name}"));
    }

    /// Makes a node with these taints, or changes it.
    pub(crate) fn node(&self, name: &str, ready: &str, taints: &[&str]) {
        let taints: Vec<Value> = taints
            .iter()
            .map(|key| json!({"key": key, "effect": "NoExecute"}))
            .collect();
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name},
            "spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
        let node = self.cluster.put(&format!("{NODES}/{name}"), node);
        self.context.caches.nodes.learn(serde_json::from_value(node).unwrap());
    }

    /// Deletes a node.
    pub(crate) fn end_node(&self, name: &str) {
        self.cluster.remove(&format!("{NODES}/{name}"));
        let known = self.context.caches.nodes.get("", name).unwrap();
        self.context.caches.nodes.forget(&known);
    }

    /// Has the agent note in an endpoint which sandbox it set up, or that there is none any more.
    pub(crate) fn sandbox(&self, name: &str, container: Option<&str>) {
        let path = format!("{ENDPOINTS}/{name}");
        let mut endpoint = self.cluster.get(&path).unwrap();
        endpoint["status"]["current"]["ips"][0]["networkName"] = json!("lan");
        endpoint["status"]["current"]["ips"][0]["containerID"] = json!(container);
        let endpoint = self.cluster.put(&path, endpoint);
        self.context
            .caches
            .endpoints
            .learn(serde_json::from_value(endpoint).unwrap());
    }

    /// Changes the status of the pool.
    pub(crate) fn status(&self, change: impl FnOnce(&mut Value)) {
        let mut pool = self.cluster.get(POOL).unwrap();
        change(&mut pool["status"]);
        let pool = self.cluster.put(POOL, pool);
        self.context.caches.pools.learn(serde_json::from_value(pool).unwrap());
    }

    /// How often anything was written when the pool was.
    pub(crate) fn pool_version(&self) -> u64 {
        let pool = self.cluster.get(POOL).unwrap();
        pool["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
    }

    /// Changes the spec of the pool.
    pub(crate) fn pool(&self, change: impl FnOnce(&mut Value)) {
        let mut pool = self.cluster.get(POOL).unwrap();
        change(&mut pool["spec"]);
        let pool = self.cluster.put(POOL, pool);
        self.context.caches.pools.learn(serde_json::from_value(pool).unwrap());
    }

    /// Makes an object of KubeVirt.
    pub(crate) fn machine(&self, plural: &str, name: &str, metadata: &Value) {
        let mut object = json!({"metadata": metadata, "spec": {}});
        object["metadata"]["name"] = json!(name);
        object["metadata"]["namespace"] = json!("ns");
        self.cluster.put(&format!("{KUBEVIRT}/{plural}/{name}"), object);
    }

    pub(crate) fn end_machine(&self, plural: &str, name: &str) {
        self.cluster.remove(&format!("{KUBEVIRT}/{plural}/{name}"));
    }

    /// Makes an endpoint with an address of the pool.
    pub(crate) fn endpoint(
        &self,
        name: &str,
        uid: &str,
        ip: &str,
        owner: (&str, &str),
        owners: &Value,
    ) -> SpiderEndpoint {
        let endpoint = json!({"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderEndpoint",
            "metadata": {"name": name, "namespace": "ns", "uid": format!("{name}-endpoint"),
                "finalizers": ["spiderpool.spidernet.io"], "ownerReferences": owners},
            "status": {"current": {"uid": uid, "node": "n1",
                    "ips": [{"interface": "eth0", "ipv4": format!("{ip}/24"), "ipv4Pool": "p", "cleanGateway": false}]},
                "ownerControllerType": owner.0, "ownerControllerName": owner.1}});
        let endpoint = self.cluster.put(&format!("{ENDPOINTS}/{name}"), endpoint);
        let endpoint: SpiderEndpoint = serde_json::from_value(endpoint).unwrap();
        self.context.caches.endpoints.learn(endpoint.clone());
        endpoint
    }

    /// Has somebody delete an endpoint, which its finalizer holds.
    pub(crate) fn end_endpoint(&self, name: &str) {
        let path = format!("{ENDPOINTS}/{name}");
        let mut endpoint = self.cluster.get(&path).unwrap();
        endpoint["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let endpoint = self.cluster.put(&path, endpoint);
        self.context
            .caches
            .endpoints
            .learn(serde_json::from_value(endpoint).unwrap());
    }

    /// Has somebody delete the namespace.
    pub(crate) fn end_namespace(&self) {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "ns", "uid": "ns", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let namespace = self.cluster.put("/api/v1/namespaces/ns", namespace);
        self.context
            .caches
            .namespaces
            .learn(serde_json::from_value(namespace).unwrap());
    }

    /// The text of the pool's records.
    pub(crate) fn records(&self) -> String {
        let pool = self.cluster.get(POOL).unwrap();
        pool["status"]["allocatedIPs"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn has_endpoint(&self, name: &str) -> bool {
        self.cluster.get(&format!("{ENDPOINTS}/{name}")).is_some()
    }
}

/// Makes a pod one of the virtual machine `db`.
pub(crate) fn of_machine(pod: &mut Value) {
    pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "name": "db", "uid": "vmi", "controller": true}]);
}
