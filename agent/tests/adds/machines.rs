//! Pods of virtual machines: several of one machine may run at once, and others may have a machine's name.

use super::agent::{Agent, ENDPOINT, POD, args, held, lent, pool};
use super::api::{Fault, POOLS};
use super::sticky::{asks, item, records};
use serde_json::{Value, json};
use spiderpool_agent::del::Released;
use spiderpool_crds::names;

const INSTANCE: &str = "/apis/kubevirt.io/v1/namespaces/retail/virtualmachineinstances";
const MIGRATION: &str = "/apis/kubevirt.io/v1/namespaces/retail/virtualmachineinstancemigrations/move";
const LAUNCHER: &str = "/api/v1/namespaces/retail/pods/virt-launcher";
const OF_MACHINE: &str = "/apis/spiderpool.spidernet.io/v2beta1/namespaces/retail/spiderendpoints/vm";

fn controller(machine: &str) -> Value {
    json!([{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": machine, "uid": "i", "controller": true}])
}

/// Another pod of a machine, which runs on another node.
fn launch(agent: &Agent, machine: &str) {
    let meta = json!({"name": "virt-launcher", "namespace": "retail", "uid": "source", "ownerReferences": controller(machine)});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta,
        "spec": {"nodeName": "n2", "containers": [], "restartPolicy": "Never"}, "status": {"phase": "Running"}});
    agent.server.put(LAUNCHER, pod);
}

/// The endpoint of a machine, whose pod is that of [`launch`].
fn endpoint(machine: &str, items: &Value) -> Value {
    json!({"apiVersion": names::API_VERSION, "kind": "SpiderEndpoint",
        "metadata": {"name": machine, "namespace": "retail", "uid": "e", "finalizers": [names::FINALIZER]},
        "status": {"current": {"uid": "source", "podName": "virt-launcher", "node": "n2", "ips": items},
            "ownerControllerType": "VirtualMachineInstance", "ownerControllerName": machine,
            "ownerControllerApiVersion": "kubevirt.io/v1"}})
}

/// An agent whose pod is one of machine vm.
fn machine_pod(pools: &[Value], annotations: &Value) -> Agent {
    let agent = Agent::start(pools, annotations);
    agent
        .server
        .edit(POD, |pod| pod["metadata"]["ownerReferences"] = controller("vm"));
    agent
}

/// The machine moves to the agent's pod, or has moved, or has not.
fn migrate(agent: &Agent, phase: &str) {
    let migration = json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
        "metadata": {"name": "move", "namespace": "retail"}, "spec": {"vmiName": "vm"}, "status": {"phase": phase}});
    agent.server.put(MIGRATION, migration);
}

fn of_migration(pools: &str) -> Value {
    let mut annotations = asks(pools);
    annotations["kubevirt.io/migrationJobName"] = json!("move");
    annotations
}

const SOURCE: (&str, &str, &str) = ("retail/vm", "source", "eth0");

#[tokio::test]
async fn a_machine_that_moves_leaves_no_address_while_its_old_pod_runs() {
    let pools = [
        lent(SOURCE),
        pool("b", "10.77.2.1-10.77.2.9", &json!({})),
        held("c", "10.77.3.1-10.77.3.9", "10.77.3.5", ("retail/vm", "source", "net2")),
    ];
    // Pools and NICs are others by now.
    let agent = machine_pod(&pools, &of_migration(r#"["b"]"#));
    migrate(&agent, "Running");
    launch(&agent, "vm");
    let items = json!([item("eth0", "10.77.1.5", "a"), item("net2", "10.77.3.5", "c")]);
    agent.server.put(OF_MACHINE, endpoint("vm", &items));
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.5/20"]);
    assert_eq!(records(&agent, "a")["10.77.1.5"]["podUid"], json!("u"));
    assert_eq!(records(&agent, "c")["10.77.3.5"]["podUid"], json!("source"));
    // It stays where it was.
    migrate(&agent, "Failed");
    agent.add("eth0", &[]).await.unwrap();
    assert_eq!(records(&agent, "a")["10.77.1.5"]["podUid"], json!("u"));
    // Nobody else has it any more.
    agent.server.remove(LAUNCHER);
    agent.add("eth0", &[]).await.unwrap();
    assert_eq!(records(&agent, "a"), json!({}));
}

#[tokio::test]
async fn a_machine_does_not_move_from_a_pod_that_only_has_its_name() {
    let pools = [lent(SOURCE)];
    let agent = machine_pod(&pools, &of_migration(r#"["a"]"#));
    migrate(&agent, "Running");
    launch(&agent, "other");
    let error = agent.add("eth0", &[]).await.unwrap_err();
    assert!(error.contains("Pod retail/virt-launcher, which still runs"), "{error}");
    assert_eq!(records(&agent, "a")["10.77.1.5"]["podUid"], json!("source"));
}

#[tokio::test]
async fn after_a_migration_that_failed_the_address_is_in_use_until_the_old_pod_is_gone() {
    let pools = [lent(SOURCE)];
    let agent = machine_pod(&pools, &of_migration(r#"["a"]"#));
    migrate(&agent, "Running");
    launch(&agent, "vm");
    agent
        .server
        .put(OF_MACHINE, endpoint("vm", &json!([item("eth0", "10.77.1.5", "a")])));
    agent.add("eth0", &[]).await.unwrap();
    // The machine was deleted, and shuts down where it was.
    agent.server.edit(LAUNCHER, |pod| {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")
    });
    agent.end_pod().await.unwrap();
    for _ in 0..2 {
        assert_eq!(agent.del("eth0", "c").await.unwrap(), Released::Kept);
        assert_eq!(agent.records("a"), ["10.77.1.5 eth0"]);
    }
    agent
        .server
        .edit(LAUNCHER, |pod| pod["status"]["phase"] = json!("Succeeded"));
    assert_eq!(agent.del("eth0", "c").await.unwrap(), Released::Freed);
    assert_eq!((agent.records("a"), agent.server.get(OF_MACHINE)), (Vec::new(), None));
}

#[tokio::test]
async fn the_next_pod_of_a_machine_waits_for_each_of_the_earlier_ones() {
    // The record is that of the pod which the machine did not move to.
    let pools = [lent(("retail/vm", "target", "eth0"))];
    let agent = machine_pod(&pools, &asks(r#"["a"]"#));
    launch(&agent, "vm");
    let error = agent.add("eth0", &[]).await.unwrap_err();
    assert!(error.contains("Pod retail/virt-launcher, which still runs"), "{error}");
    assert_eq!(records(&agent, "a")["10.77.1.5"]["podUid"], json!("target"));
    agent
        .server
        .edit(LAUNCHER, |pod| pod["status"]["phase"] = json!("Failed"));
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.5/20"]);
}

#[tokio::test]
async fn a_pod_with_the_name_of_a_machine_is_refused_its_endpoint_and_addresses() {
    for kind in ["DaemonSet", "StatefulSet"] {
        let pools = [lent(("retail/shop", "source", "eth0"))];
        let agent = Agent::start_of(kind, &pools, &asks(r#"["a"]"#));
        let vm = endpoint("shop", &json!([item("eth0", "10.77.1.5", "a")]));
        agent.server.put(ENDPOINT, vm.clone());
        launch(&agent, "shop");
        let instance = format!("{INSTANCE}/shop");
        let meta = json!({"name": "shop", "namespace": "retail"});
        agent.server.put(
            &instance,
            json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": meta}),
        );
        let refused =
            "Pod retail/shop: SpiderEndpoint retail/shop, which it would be given, is that of a virtual machine,";
        for told in [
            "whose Pod retail/virt-launcher has not finished",
            "which exists and keeps its addresses",
        ] {
            let error = agent.add("eth0", &[]).await.unwrap_err();
            assert_eq!(
                error,
                format!("{refused} {told}; give one of the two another name, or delete the other one first")
            );
            assert_eq!(agent.server.get(ENDPOINT).unwrap()["status"], vm["status"], "{kind}");
            assert_eq!(agent.records("a"), ["10.77.1.5 eth0"], "{kind}");
            agent.server.remove(LAUNCHER);
        }
        // Its DEL is no business of the machine's.
        agent.server.remove(&instance);
        agent.add("eth0", &[]).await.unwrap();
        assert_eq!(
            agent.server.get(ENDPOINT).unwrap()["status"]["current"]["uid"],
            json!("u")
        );
    }
}

#[tokio::test]
async fn where_there_is_no_kubevirt_any_more_a_machine_is_gone() {
    let agent = machine_pod(&[pool("a", "10.77.1.1-10.77.1.9", &json!({}))], &asks(r#"["a"]"#));
    agent.add("eth0", &[]).await.unwrap();
    let get = format!("GET {INSTANCE}/vm");
    agent.server.meet(&get, Fault::Plain(404, "404 page not found\n"), 1);
    agent.end_pod().await.unwrap();
    assert_eq!(
        agent.del(&args("eth0", &[]).if_name, "c").await.unwrap(),
        Released::Freed
    );
    assert!(agent.server.asked().contains(&get));
    assert!(agent.server.get(&format!("{POOLS}/a")).is_some());
}
