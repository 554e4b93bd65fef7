//! Hosts in the pods' segment that use addresses of a pool, and gateways that are not there. An agent of the test's own has the
//! two questions switched on; `net1` and the further interfaces of the pods ask it, and `eth0` the one of the chart.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use spiderpool_crds::conditions::{FOREIGN_HOSTS, find};
use spiderpool_crds::records::{Held, HeldReason, HeldRecords};
use spiderpool_crds::{IPPoolSpec, SpiderEndpoint, SpiderIPPool};
use spiderpool_e2e::attached::held_back;
use spiderpool_e2e::node::Node;
use spiderpool_e2e::plugin::{Attachment, Ended, macvlan, network};
use spiderpool_e2e::pod::Running;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::second_agent::SecondAgent;
use spiderpool_e2e::squatter::Squatter;
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::{Annotations, pod};

const CONFLICTS: &str = "enableIPConflictDetection";
const GATEWAYS: &str = "enableGatewayDetection";
/// Makes the test cluster's second plugin ask for `net1`.
const SECOND_NIC: &str = "e2e.spiderpool.io/second-nic";
/// With these members of `ipam`.
const SECOND_NIC_IPAM: &str = "e2e.spiderpool.io/second-nic-ipam";
/// All interfaces that share a pool with a foreign host.
const NICS: [&str; 6] = ["net1", "net2", "net3", "net4", "net5", "net6"];
/// Code of failures that the plugin ran into.
const FAILED: u64 = 999;
/// How long an address is kept from everybody.
const QUARANTINE: SignedDuration = SignedDuration::from_mins(10);
/// How long the plugin may take to say that a gateway is missing: it listens for a second, on a machine that does much else.
const GATEWAY_MISSING: Duration = Duration::from_secs(8);

/// A pod of a scene that asks for nothing: `eth0` gets addresses of default pools that only this scene has.
async fn plain_pod(scene: &Scene, node: &Node, name: &str, annotations: &Annotations) -> Result<()> {
    for version in [4, 6] {
        let default = IPPoolSpec {
            default: Some(true),
            namespace_name: Some(vec![scene.namespace.clone()]),
            ..IPPoolSpec::default()
        };
        scene
            .pool_of_range(&format!("plain{version}"), version, ("100", "109"), default)
            .await?;
    }
    scene.create(&pod(name, &node.name, annotations)?).await.map(drop)
}

/// The members of `ipam` that lead to an agent and name pools.
fn ipam(agent: &SecondAgent<'_>, v4: &str, v6: Option<&str>) -> Value {
    let mut ipam = agent.ipam();
    ipam["default_ipv4_ippool"] = json!([v4]);
    ipam["default_ipv6_ippool"] = json!(Vec::from_iter(v6));
    ipam
}

/// Interfaces of a pod that the runtime does not know.
struct Nics<'a> {
    node: &'a Node,
    eth0: Attachment,
    /// Their network.
    name: String,
    ipam: Value,
}

impl Nics<'_> {
    async fn macvlan(&self, command: &str, nic: &str) -> Result<Ended> {
        let conf = network("1.0.0", &self.name, self.ipam.clone());
        macvlan(self.node, command, &conf, &self.eth0.nic(nic)).await
    }

    /// Sets an interface up, and its addresses.
    async fn add(&self, nic: &str) -> Result<Vec<String>> {
        self.macvlan("ADD", nic).await?.addresses()
    }

    /// As runtimes do, after which nothing of it may be left.
    async fn add_fails(&self, nic: &str, texts: &[&str]) -> Result<Duration> {
        let ended = self.macvlan("ADD", nic).await?;
        ended.refused(FAILED, texts)?;
        self.del(nic).await?;
        Ok(ended.took)
    }

    async fn del(&self, nic: &str) -> Result<()> {
        self.macvlan("DEL", nic).await?.result().map(drop)
    }
}

#[tokio::test]
async fn an_address_that_a_foreign_host_uses_is_kept_from_all_pods() -> Result<()> {
    scene("foreign_host", async |scene: &Scene| {
        let node = scene.cluster.first_node()?;
        let mut agent = SecondAgent::prepare(scene, node, &[(CONFLICTS, true)]).await?;
        agent.start().await?;
        let host = Squatter::new(scene).await?;
        host.take(&format!("{}/24", scene.ip(4, "10"))).await?;
        // Of eight addresses two may be kept from everybody.
        let shared = scene
            .pool_of_range("shared", 4, ("10", "17"), IPPoolSpec::default())
            .await?;
        let ipam = ipam(&agent, &shared, None);
        let wish = Annotations::from([
            (SECOND_NIC.to_owned(), "true".to_owned()),
            (SECOND_NIC_IPAM.to_owned(), ipam.to_string()),
        ]);
        plain_pod(scene, node, "first-pod", &wish).await?;

        // A pod of the kubelet: its first try fails, its second gets another address.
        let ip = |last: u8| scene.ip(4, &last.to_string());
        scene
            .sandbox_failure("first", &["ip conflict", &ip(10), &host.mac], LONG)
            .await?;
        let pod = scene.running("first-pod", 1, LONG).await?.pop().context("no pod")?;
        let began = Timestamp::now();
        ensure!(
            address_of(scene, &pod, "net1").await? == format!("{}/24", ip(11)),
            "net1 has another address"
        );
        let held = kept_back(scene, &shared, &[(10, HeldReason::Quarantined)]).await?;
        let note = held.get(ip(10).parse()?).context("no note")?;
        ensure!(note.by.as_ref() == Some(&host.mac), "the note is {note:?}");
        let left = note.until.context("a quarantine without end")?.duration_since(began);
        ensure!(
            left > SignedDuration::ZERO && left <= QUARANTINE,
            "the quarantine has {left} left"
        );
        foreign_hosts(scene, &shared, "True", &[&ip(10), &host.mac]).await?;
        scene
            .pool_event(&shared, FOREIGN_HOSTS, &[&ip(10), &host.mac], SOON)
            .await?;

        // The pod itself is no foreign host when its sandbox is made again.
        make_sandbox_again(scene, node, &pod).await?;
        ensure!(
            address_of(scene, &pod, "net1").await? == format!("{}/24", ip(11)),
            "net1 got another address with another sandbox"
        );
        kept_back(scene, &shared, &[(10, HeldReason::Quarantined)]).await?;

        // Nobody else trips over it. The host takes more and more, but never more than a quarter of the pool.
        let nics = Nics {
            node,
            eth0: Attachment::of(scene, &pod).await?,
            name: scene.own("segment"),
            ipam,
        };
        ensure!(
            nics.add("net2").await? == [format!("{}/24", ip(12))],
            "net2 has another address"
        );
        for last in [13, 14, 15] {
            host.take(&format!("{}/24", ip(last))).await?;
            nics.add_fails("net3", &["ip conflict", &ip(last), &host.mac]).await?;
        }
        let all = [
            (10, HeldReason::Quarantined),
            (13, HeldReason::Quarantined),
            (14, HeldReason::Cooling),
            (15, HeldReason::Cooling),
        ];
        kept_back(scene, &shared, &all).await?;
        for (nic, last) in [("net3", 16), ("net4", 17)] {
            ensure!(
                nics.add(nic).await? == [format!("{}/24", ip(last))],
                "{nic} has another address"
            );
        }
        // Only addresses are left that it had. It goes; the pod may have one, though not the two that are kept back.
        // An address takes those along that were added to its network after it.
        for last in [15, 14, 13, 10] {
            host.leave(&format!("{}/24", ip(last))).await?;
        }
        ensure!(
            nics.add("net5").await? == [format!("{}/24", ip(14))],
            "net5 has another address"
        );
        // Time passes.
        quarantine_is_over(scene, &shared).await?;
        foreign_hosts(scene, &shared, "False", &["no address"]).await?;
        ensure!(
            nics.add("net6").await? == [format!("{}/24", ip(10))],
            "net6 has another address"
        );
        for nic in NICS.iter().filter(|nic| **nic != "net1") {
            nics.del(nic).await?;
        }
        // Before its agent, which the DEL of net1 is for.
        scene.delete::<Pod>(&pod.name).await?;
        wait::gone(&scene.api::<Pod>(), &pod.name, LONG).await?;
        scene.nics_on_record(&shared, &pod, &[], SOON).await?;
        agent.end().await
    })
    .await
}

/// Kills a pod's sandbox and waits until its second interface is set up in another one.
async fn make_sandbox_again(scene: &Scene, node: &Node, pod: &Running) -> Result<()> {
    let old = Attachment::of(scene, pod).await?.container;
    for process in node.container(&old)? {
        process.kill()?;
    }
    let endpoints = scene.api::<SpiderEndpoint>();
    wait::object(&endpoints, &pod.name, "net1 in another sandbox", LONG, |endpoint| {
        let mut items = endpoint?.status.current.ips.iter();
        let new = items.find(|item| item.interface == "net1")?.container_id.as_ref()?;
        (*new != old).then_some(())
    })
    .await?;
    // The interfaces come first, then processes that only prepare the sandbox and end. It stands when a container runs in it.
    wait::object(&scene.api::<Pod>(), &pod.name, "a container in it", LONG, |pod| {
        let mut statuses = pod?.status.as_ref()?.container_statuses.iter().flatten();
        statuses
            .any(|status| status.restart_count > 0 && status.ready)
            .then_some(())
    })
    .await
}

/// The IPv4 address of a pod's interface, with its prefix length.
async fn address_of(scene: &Scene, pod: &Running, nic: &str) -> Result<String> {
    let endpoint = scene.api::<SpiderEndpoint>().get(&pod.name).await?;
    let mut items = endpoint.status.current.ips.into_iter();
    let item = items.find(|item| item.interface == nic);
    item.and_then(|item| item.ipv4)
        .with_context(|| format!("{nic} of {} has no address", pod.name))
}

/// Waits until a pool keeps back exactly these addresses, by their last part; those that a pod had a moment ago do not count.
async fn kept_back(scene: &Scene, pool: &str, expected: &[(u8, HeldReason)]) -> Result<HeldRecords> {
    let expected: BTreeMap<IpAddr, &HeldReason> = expected
        .iter()
        .map(|(last, reason)| Ok((scene.ip(4, &last.to_string()).parse()?, reason)))
        .collect::<Result<_>>()?;
    let foreign = |held: &Held| held.by.as_deref().is_some_and(|by| !by.contains('/'));
    wait::object(
        &scene.pools(),
        pool,
        &format!("{expected:?} to be kept back"),
        SOON,
        |pool| {
            let held = held_back(pool?).ok()?;
            let seen: BTreeMap<IpAddr, &HeldReason> = held
                .iter()
                .filter(|(_, held)| foreign(held))
                .map(|(ip, held)| (ip, &held.reason))
                .collect();
            (seen == expected).then(|| held.clone())
        },
    )
    .await
}

async fn foreign_hosts(scene: &Scene, pool: &str, status: &str, texts: &[&str]) -> Result<()> {
    let what = format!("condition {FOREIGN_HOSTS} to be {status} with {texts:?}");
    wait::object(&scene.pools(), pool, &what, SOON, |pool| {
        let conditions = pool?.status.as_ref()?.conditions.as_deref();
        let found = find(conditions, FOREIGN_HOSTS)?;
        (found.status == status && texts.iter().all(|text| found.message.contains(text))).then_some(())
    })
    .await
}

/// Makes the quarantine of all addresses of a pool end now.
async fn quarantine_is_over(scene: &Scene, pool: &str) -> Result<()> {
    wait::until("the notes to be changed", SOON, async || {
        let mut object: SpiderIPPool = scene.pools().get(pool).await?;
        let held = held_back(&object)?;
        let mut changed = HeldRecords::new();
        for (ip, held) in held.iter() {
            let mut held = held.clone();
            if held.reason == HeldReason::Quarantined {
                held.until = Some(Timestamp::now());
            }
            changed.insert(ip, held);
        }
        object.status.get_or_insert_default().held_ips = changed.to_status();
        match scene.pools().replace_status(pool, &Default::default(), &object).await {
            Ok(_) => Ok(Some(())),
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
    .await
}

#[tokio::test]
async fn gateways_are_asked_for_and_both_families_are() -> Result<()> {
    scene("gateways", async |scene: &Scene| {
        let node = scene.cluster.first_node()?;
        let mut agent = SecondAgent::prepare(scene, node, &[(CONFLICTS, true), (GATEWAYS, true)]).await?;
        agent.start().await?;
        let host = Squatter::new(scene).await?;
        let gateway = |version: u8| IPPoolSpec {
            gateway: Some(scene.ip(version, "1")),
            ..IPPoolSpec::default()
        };
        let v4 = scene.pool_of_range("gw4", 4, ("10", "19"), gateway(4)).await?;
        let v6 = scene.pool_of_range("gw6", 6, ("10", "19"), gateway(6)).await?;
        // Nobody has had an address of it, so the first one comes first.
        let fresh = scene.pool_of_range("fresh6", 6, ("20", "29"), gateway(6)).await?;
        plain_pod(scene, node, "gates", &Annotations::new()).await?;
        let pod = scene.running("gates", 1, LONG).await?.pop().context("no pod")?;
        let eth0 = Attachment::of(scene, &pod).await?;
        let nics = |v6: &str| Nics {
            node,
            eth0: eth0.clone(),
            name: scene.own("segment"),
            ipam: ipam(&agent, &v4, Some(v6)),
        };
        let (first, second) = (nics(&v6), nics(&fresh));
        let full =
            |version: u8, last: &str| format!("{}/{}", scene.ip(version, last), if version == 4 { 24 } else { 64 });

        // Nobody has the gateways.
        let took = first
            .add_fails(
                "net1",
                &["gateway", &scene.ip(4, "1"), &scene.ip(6, "1"), "unreachable"],
            )
            .await?;
        ensure!(
            took < GATEWAY_MISSING,
            "it took {took:?} to tell that the gateways are missing"
        );
        for pool in [&v4, &v6] {
            let pool = scene.nics_on_record(pool, &pod, &[], SOON).await?;
            ensure!(
                held_back(&pool)?
                    .iter()
                    .all(|(_, held)| held.reason == HeldReason::Cooling),
                "a gateway that is missing was taken for a conflict: {:?}",
                pool.status
            );
        }
        // One of two is not enough.
        host.take(&full(4, "1")).await?;
        first
            .add_fails("net1", &["gateway", &scene.ip(6, "1"), "unreachable"])
            .await?;
        host.take(&full(6, "1")).await?;
        let given = first.add("net1").await?;
        ensure!(given.len() == 2, "net1 has {given:?}");

        // The next IPv6 address is the host's, and only that one is kept back.
        host.take(&full(6, "20")).await?;
        let taken = scene.ip(6, "20");
        second.add_fails("net2", &["ip conflict", &taken, &host.mac]).await?;
        let held = held_back(&scene.pools().get(&fresh).await?)?;
        let note = held.get(taken.parse()?).context("the address is not held back")?;
        ensure!(note.reason == HeldReason::Quarantined, "{taken} is {note:?}");
        let held = held_back(&scene.pools().get(&v4).await?)?;
        ensure!(
            !held.iter().any(|(_, held)| held.blocks()),
            "IPv4 addresses are kept back: {held:?}"
        );
        let given = second.add("net2").await?;
        ensure!(given.last() == Some(&full(6, "21")), "net2 has {given:?}");
        first.del("net1").await?;
        second.del("net2").await?;
        scene.delete_workloads().await?;
        agent.end().await
    })
    .await
}
