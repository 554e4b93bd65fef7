//! What becomes of addresses when a pod ends whose ADDs did not all come, or not to their end.

use super::agent::{Agent, POD, args, pool};
use super::api::POOLS;
use serde_json::{Value, json};
use spiderpool_agent::cancel::Cancel;
use spiderpool_agent::del::Released;
use spiderpool_agent::give_up::{self, GivenUp};
use spiderpool_agent::{add, collect, sweep};
use spiderpool_crds::{SpiderIPPool, names};
use spiderpool_kit::cache::{Key, Store, WaitError};
use spiderpool_wire::{IpamAddArgs, IpamBatchDelArgs, IpamGcArgs};
use std::time::Duration;
use tokio::time::Instant;

/// Pools a, b, c and a pod with an item for each. It has as many NICs as get an ADD.
fn three() -> Agent {
    let pools = ["a", "b", "c"].map(|name| pool(name, "10.77.1.1-10.77.1.9", &json!({})));
    let items = r#"[{"ipv4":["a"]},{"ipv4":["b"]},{"ipv4":["c"]}]"#;
    Agent::start(&pools, &json!({names::ANNOTATION_IPPOOLS: items}))
}

fn used(agent: &Agent) -> [usize; 3] {
    ["a", "b", "c"].map(|name| agent.records(name).len())
}

/// Waits until the agent knows of no endpoint any more.
async fn swept(agent: &Agent) -> Result<(), WaitError> {
    let gone = |endpoints: &Store<_>| endpoints.get(&Key::new("retail", "shop")).is_none().then_some(());
    let deadline = Instant::now() + Duration::from_secs(10);
    agent.context.endpoints.wait(deadline, gone).await
}

#[tokio::test(start_paused = true)]
async fn what_was_claimed_for_nics_that_never_came_goes_when_the_last_sandbox_is_gone() {
    let agent = three();
    let sweeping = tokio::spawn(sweep::run(agent.context.clone()));
    agent.add("eth0", &[]).await.unwrap();
    agent.add("net1", &[]).await.unwrap();
    assert_eq!(used(&agent), [1, 1, 1]);
    agent.end_pod().await.unwrap();
    assert_eq!(agent.del("net1", "c").await.unwrap(), Released::Freed);
    // The NIC without ADD waits for those with one.
    assert_eq!((used(&agent), agent.nics().unwrap().len()), ([1, 0, 1], 2));
    assert_eq!(agent.del("eth0", "c").await.unwrap(), Released::Freed);
    assert_eq!(used(&agent), [0, 0, 1]);
    agent.server.remove(POD);
    swept(&agent).await.unwrap();
    assert_eq!((used(&agent), agent.nics()), ([0, 0, 0], None));
    sweeping.abort();
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_end_is_seen_after_its_sandbox_gives_back_what_was_claimed_for_all_nics() {
    let agent = three();
    let sweeping = tokio::spawn(sweep::run(agent.context.clone()));
    agent.add("eth0", &[]).await.unwrap();
    assert_eq!(agent.del("eth0", "c").await.unwrap(), Released::PodAlive);
    assert_eq!(used(&agent), [1, 1, 1]);
    agent.server.remove(POD);
    swept(&agent).await.unwrap();
    assert_eq!(used(&agent), [0, 0, 0]);
    sweeping.abort();
}

#[tokio::test(start_paused = true)]
async fn the_del_of_an_add_that_never_ended_frees_what_it_claimed_for_all_nics() {
    let mut pools = ["a", "b", "c"].map(|name| pool(name, "10.77.1.1-10.77.1.9", &json!({})));
    for (pool, nic) in pools.iter_mut().zip(["eth0", "net1", "net2"]) {
        pool["status"]["allocatedIPs"] =
            json!(json!({"10.77.1.5": {"pod": "retail/shop", "podUid": "u", "nic": nic}}).to_string());
    }
    let agent = Agent::start(&pools, &json!({}));
    assert_eq!(agent.del("eth0", "c").await.unwrap(), Released::PodAlive);
    assert_eq!(used(&agent), [1, 1, 1]);
    agent.end_pod().await.unwrap();
    assert_eq!(agent.del("eth0", "c").await.unwrap(), Released::Freed);
    assert_eq!(used(&agent), [0, 0, 0]);
    assert_eq!(agent.del("eth0", "c").await.unwrap(), Released::Freed);
}

#[tokio::test(start_paused = true)]
async fn an_add_that_is_given_up_after_a_conflict_takes_what_was_claimed_with_it_along() {
    for (set_up, left) in [(&["eth0"][..], [0, 0, 0]), (&["eth0", "net1"], [0, 1, 1])] {
        let agent = three();
        for nic in set_up {
            agent.add(nic, &[]).await.unwrap();
        }
        let args = IpamBatchDelArgs {
            container_id: "c".to_owned(),
            if_name: "eth0".to_owned(),
            pod_namespace: "retail".to_owned(),
            pod_name: "shop".to_owned(),
            pod_uid: "u".to_owned(),
            ..IpamBatchDelArgs::default()
        };
        // Pods of a StatefulSet keep theirs.
        let owner = |kind: &str| {
            agent.server.edit(super::agent::ENDPOINT, |endpoint| {
                endpoint["status"]["ownerControllerType"] = json!(kind);
            });
        };
        owner("StatefulSet");
        let done = give_up::give_up(&agent.context, &args).await.unwrap();
        assert_eq!(done, GivenUp::Done);
        assert_eq!(used(&agent), [1, 1, 1], "{set_up:?}");
        owner("Deployment");
        assert_eq!(give_up::give_up(&agent.context, &args).await.unwrap(), GivenUp::Done);
        assert_eq!(used(&agent), left, "{set_up:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn gc_leaves_what_was_claimed_for_further_nics_to_the_end_of_the_pod() {
    let agent = three();
    agent.add("eth0", &[]).await.unwrap();
    let all = IpamGcArgs {
        network_name: "lan".to_owned(),
        attachments: Vec::new(),
    };
    assert_eq!(collect::collect(&agent.context, &all).await.unwrap(), 0);
    assert_eq!(agent.nics().unwrap(), ["eth0 c", "net1 -", "net2 -"]);
    agent.server.remove(POD);
    agent.host.lose_sandbox("c");
    // The attachment that is not in the list ends with its pod, and what was never set up after it.
    assert_eq!(collect::collect(&agent.context, &all).await.unwrap(), 1);
    assert_eq!(used(&agent), [0, 1, 1]);
    let sweeping = tokio::spawn(sweep::run(agent.context.clone()));
    swept(&agent).await.unwrap();
    assert_eq!(used(&agent), [0, 0, 0]);
    sweeping.abort();
}

/// The UID that the kubelet gives a static pod.
const HASH: &str = "0d3f0f5e5f0e4a4b9a360f5d6f4e2a10";

/// The object that the kubelet makes of a static pod.
fn mirror(pod: &mut Value) {
    pod["metadata"]["annotations"] =
        json!({names::ANNOTATION_CONFIG_MIRROR: HASH, names::ANNOTATION_CONFIG_HASH: HASH});
    pod["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "n", "controller": true}]);
}

#[tokio::test(start_paused = true)]
async fn a_static_pod_is_served_by_the_hash_of_its_file_once_its_mirror_is_there() {
    let agent = Agent::start(&[pool("a", "10.77.1.1-10.77.1.9", &json!({}))], &json!({}));
    let own = agent.server.get(POD).unwrap();
    agent.server.remove(POD);
    let args = IpamAddArgs {
        pod_uid: HASH.to_owned(),
        ..args("eth0", &["a"])
    };
    let cancel = Cancel::default();
    let adding = add::add(&agent.context, &args, &cancel);
    let kubelet = async {
        tokio::time::sleep(Duration::from_secs(15)).await;
        let mut pod = own.clone();
        mirror(&mut pod);
        agent.server.put(POD, pod);
    };
    let (added, ()) = tokio::join!(Box::pin(adding), kubelet);
    assert_eq!(added.unwrap().ips[0].address, "10.77.1.1/20");
    let endpoint = agent.server.get(super::agent::ENDPOINT).unwrap();
    assert_eq!(endpoint["status"]["current"]["uid"], json!(HASH));
    // The garbage collection of the API server looks for the object's own UID.
    assert_eq!(endpoint["metadata"]["ownerReferences"][0]["uid"], json!("u"));
    let del = spiderpool_wire::IpamDelArgs {
        pod_uid: HASH.to_owned(),
        ..super::agent::del_args("eth0", "c")
    };
    let deleted = spiderpool_agent::del::del(&agent.context, &del);
    assert_eq!(deleted.await.unwrap(), Released::PodAlive);
    agent.server.remove(POD);
    let sweeping = tokio::spawn(sweep::run(agent.context.clone()));
    swept(&agent).await.unwrap();
    assert_eq!(agent.records("a"), Vec::<String>::new());
    sweeping.abort();
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_the_api_server_is_not_waited_for_that_long() {
    let agent = Agent::start(&[pool("a", "10.77.1.1-10.77.1.9", &json!({}))], &json!({}));
    let started = Instant::now();
    for (uid, least, most) in [("3f0c8d2e-6c51-4a0e-9d9b-2f5f7a1c9e11", 2, 5), (HASH, 19, 25)] {
        let args = IpamAddArgs {
            pod_uid: uid.to_owned(),
            ..args("eth0", &["a"])
        };
        let started_one = Instant::now();
        let error = Box::pin(add::add(&agent.context, &args, &Cancel::default()))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("the Pod of that name has UID u"), "{error}");
        let took = started_one.elapsed().as_secs();
        assert!(
            (least..=most).contains(&took),
            "{uid}: {took} s after {:?}",
            started.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_addresses_for_an_interface_that_goes_which_the_pod_was_not_told_of() {
    let record = |nic: &str| json!({"10.77.2.5": {"pod": "retail/shop", "podUid": "u", "nic": nic, "node": "n1"}});
    // Only what the runtime shows is enough.
    let cases = [
        ("eth0", false, false, 0),
        ("net1", false, false, 1),
        ("eth0", true, false, 1),
        ("eth0", false, true, 1),
    ];
    for (nic, used, lost, left) in cases {
        let pools = [
            pool("a", "10.77.1.1-10.77.1.3", &json!({})),
            pool("b", "10.77.2.1-10.77.2.9", &json!({})),
        ];
        let agent = Agent::start(&pools, &json!({names::ANNOTATION_IPPOOL: r#"{"ipv4":["a","b"]}"#}));
        assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.1.1/20"]);
        if used {
            agent.host.make_netns("other");
            agent.host.keep_result("eth0", "other", &["10.77.2.5/20".to_owned()]);
        }
        if lost {
            agent.host.lose_sandbox("c");
        }
        agent.server.edit(&format!("{POOLS}/b"), |pool| {
            pool["status"]["allocatedIPs"] = json!(record(nic).to_string());
        });
        let records = |wanted: usize| {
            move |pools: &Store<SpiderIPPool>| {
                let records = pools.get(&Key::new("", "b"))?.records().ok()?;
                (records.len() == wanted).then_some(())
            }
        };
        let deadline = Instant::now() + Duration::from_secs(120);
        let cache = agent.context.pools.cache();
        cache.wait(deadline, records(1)).await.unwrap();
        let sweeping = tokio::spawn(sweep::run(agent.context.clone()));
        let freed = cache.wait(deadline, records(0)).await;
        assert_eq!(freed.is_ok(), left == 0, "{nic} {used} {lost}");
        assert_eq!((agent.records("a").len(), agent.records("b").len()), (1, left));
        sweeping.abort();
    }
}
