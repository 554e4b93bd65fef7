//! The commands of the CNI plugin that the runtime of the test cluster does not know, run for interfaces of real pods.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use spiderpool_crds::records::HeldReason;
use spiderpool_crds::{IPPoolSpec, SpiderEndpoint};
use spiderpool_e2e::attached::{held_back, held_by};
use spiderpool_e2e::node::Node;
use spiderpool_e2e::plugin::{Attachment, NETWORK, network, spiderpool};
use spiderpool_e2e::pod::Running;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::{from_pools, lingering, pod};
use spiderpool_ipam::Family;

/// Code of failures that the plugin ran into.
const FAILED: u64 = 999;

/// A sandbox that was there before the one that runs.
const OLDER: &str = "an-older-sandbox";

/// A pool of the scene with the addresses from .10 to .1f.
async fn pool(scene: &Scene, name: &str, version: u8) -> Result<String> {
    let range = if version == 4 { ("10", "25") } else { ("10", "1f") };
    let more = IPPoolSpec {
        gateway: Some(scene.ip(version, "1")),
        ..IPPoolSpec::default()
    };
    scene.pool_of_range(name, version, range, more).await
}

#[tokio::test]
async fn a_check_finds_what_was_taken_away() -> Result<()> {
    scene("check", async |scene: &Scene| {
        let node = scene.cluster.first_node()?;
        let (v4, v6) = (pool(scene, "check4", 4).await?, pool(scene, "check6", 6).await?);
        let wish = from_pools(&[&v4], &[&v6]);
        scene.create(&pod("checked", &node.name, &wish)?).await?;
        let pod = scene.running("checked", 1, LONG).await?.pop().context("no pod")?;
        let check = Checked::of(scene, node, &pod).await?;
        check.passes().await?;
        for (family, prefix) in [(Family::V4, "/24"), (Family::V6, "/64")] {
            let ip = pod.address(family)?;
            check
                .attachment
                .ip(node, &format!("addr del {ip}{prefix} dev eth0"))
                .await?;
            let text = ip.to_string();
            check.fails(&["interface eth0 does not carry", &text]).await?;
            let nodad = if family == Family::V6 { " nodad" } else { "" };
            check
                .attachment
                .ip(node, &format!("addr add {ip}{prefix} dev eth0{nodad}"))
                .await?;
            check.passes().await?;
        }
        record_missing(scene, &check, &v4, pod.address(Family::V4)?).await?;
        endpoint_without_nic(scene, &check, &pod).await?;
        // Another sandbox of the pod was never given anything.
        let other = check.attachment.in_sandbox(OLDER);
        let ended = spiderpool(node, "CHECK", &check.conf, Some(&other)).await?;
        ended.refused(FAILED, &["set up in sandbox", &check.attachment.container])?;
        scene.distinct_addresses(&[pod], 2).await.map(drop)
    })
    .await
}

/// A pod's first interface and the configuration for checking it, with what the runtime was given when it was made.
struct Checked<'a> {
    node: &'a Node,
    attachment: Attachment,
    conf: Value,
}

impl<'a> Checked<'a> {
    async fn of(scene: &Scene, node: &'a Node, pod: &Running) -> Result<Self> {
        let attachment = Attachment::of(scene, pod).await?;
        let kept = format!("/var/lib/cni/results/{NETWORK}-{}-eth0", attachment.container);
        let kept: Value = serde_json::from_str(&node.sh(&format!("cat {kept}"), "").await?)?;
        let mut conf = network("1.1.0", NETWORK, json!({}));
        conf["prevResult"] = kept["result"].clone();
        ensure!(
            conf["prevResult"]["ips"].is_array(),
            "the runtime kept no result: {kept}"
        );
        Ok(Self { node, attachment, conf })
    }

    async fn passes(&self) -> Result<()> {
        let ended = spiderpool(self.node, "CHECK", &self.conf, Some(&self.attachment)).await?;
        ended.result().map(drop)
    }

    async fn fails(&self, texts: &[&str]) -> Result<()> {
        let ended = spiderpool(self.node, "CHECK", &self.conf, Some(&self.attachment)).await?;
        ended.refused(FAILED, texts)
    }

    /// Until the agent's cache knows what was changed.
    async fn fails_soon(&self, texts: &[&str]) -> Result<()> {
        wait::until(&format!("CHECK to fail with {texts:?}"), SOON, async || {
            Ok(self.fails(texts).await.ok())
        })
        .await
    }
}

/// The pool's record is lost, and found again.
async fn record_missing(scene: &Scene, check: &Checked<'_>, pool: &str, ip: IpAddr) -> Result<()> {
    let write = async |records: Option<String>| {
        let change = json!({"status": {"allocatedIPs": records}});
        let pools = scene.pools();
        pools
            .patch_status(pool, &PatchParams::default(), &Patch::Merge(&change))
            .await
            .with_context(|| format!("writing the records of {pool}"))
    };
    let records = scene
        .pools()
        .get(pool)
        .await?
        .status
        .and_then(|status| status.allocated_ips);
    write(None).await?;
    check
        .fails_soon(&[
            "the pools do not have on record",
            &format!("{pool} has {ip} on record for nobody"),
        ])
        .await?;
    write(records).await?;
    check.passes().await
}

/// The endpoint's item is lost, and found again.
async fn endpoint_without_nic(scene: &Scene, check: &Checked<'_>, pod: &Running) -> Result<()> {
    let ips = serde_json::to_value(scene.api::<SpiderEndpoint>().get(&pod.name).await?.status.current.ips)?;
    let with = |ips: &Value| json!({"status": {"current": {"ips": ips}}});
    scene.patch::<SpiderEndpoint>(&pod.name, &with(&json!([]))).await?;
    check
        .fails(&["not on record for the interface", "on record: nothing"])
        .await?;
    scene.patch::<SpiderEndpoint>(&pod.name, &with(&ips)).await?;
    check.passes().await
}

/// Versions of the protocol, and the interface that is asked for in each.
const VERSIONS: [(&str, &str); 4] = [
    ("0.3.1", "net1"),
    ("0.4.0", "net2"),
    ("1.0.0", "net3"),
    ("1.1.0", "net4"),
];

#[tokio::test]
async fn interfaces_that_the_runtime_does_not_know_are_given_back() -> Result<()> {
    scene("cni_verbs", async |scene: &Scene| {
        let node = scene.cluster.first_node()?;
        let (v4, v6) = (pool(scene, "verbs4", 4).await?, pool(scene, "verbs6", 6).await?);
        let nics = ["eth0", "net1", "net2", "net3", "net4", "net5", "net6", "net7"];
        let wish = from_pools(&[&v4], &[&v6]);
        scene.create(&lingering(pod("verbs", &node.name, &wish)?)).await?;
        let pod = scene.running("verbs", 1, LONG).await?.pop().context("no pod")?;
        let eth0 = Attachment::of(scene, &pod).await?;
        let verbs = Verbs {
            scene,
            node,
            eth0: &eth0,
            pool: &v4,
            pod: &pod,
        };
        verbs.every_version_has_its_form().await?;
        for (nic, network) in [("net5", "yard"), ("net6", "yard"), ("net7", "meadow")] {
            // The sandbox is the pod's second one.
            verbs
                .run("ADD", "1.1.0", network, &eth0.nic(nic).in_sandbox(OLDER))
                .await?;
            verbs.run("ADD", "1.1.0", network, &eth0.nic(nic)).await?;
        }
        verbs.a_living_pod_keeps_what_it_has(&nics).await?;
        verbs.ended_pods_give_back(&nics).await?;
        scene.finish(&pod).await?;
        // The kubelet knows of eth0 only.
        verbs.collect("hall", &[]).await?;
        for pool in [&v4, &v6] {
            scene.nics_on_record(pool, &pod, &[], SOON).await?;
        }
        Ok(())
    })
    .await
}

struct Verbs<'a> {
    scene: &'a Scene,
    node: &'a Node,
    eth0: &'a Attachment,
    pool: &'a str,
    pod: &'a Running,
}

impl Verbs<'_> {
    /// A network of this scene. GC takes all that the node has of a network.
    fn network(&self, name: &str) -> String {
        self.scene.own(name)
    }

    /// Runs a command that has to succeed.
    async fn run(&self, command: &str, version: &str, name: &str, attachment: &Attachment) -> Result<Value> {
        let conf = network(version, &self.network(name), json!({}));
        let ended = spiderpool(self.node, command, &conf, Some(attachment)).await?;
        ended
            .result()
            .with_context(|| format!("{command} of {} in network {name}", attachment.nic))
    }

    /// Tells which interfaces of a network are in use.
    async fn collect(&self, name: &str, known: &[&Attachment]) -> Result<()> {
        let mut conf = network("1.1.0", &self.network(name), json!({}));
        let known = known
            .iter()
            .map(|one| json!({"containerID": one.container, "ifname": one.nic}));
        conf["cni.dev/valid-attachments"] = known.collect();
        spiderpool(self.node, "GC", &conf, None).await?.result().map(drop)
    }

    async fn every_version_has_its_form(&self) -> Result<()> {
        let report = spiderpool(self.node, "VERSION", &json!({"cniVersion": "1.0.0"}), None)
            .await?
            .result()?;
        let supported = report["supportedVersions"].as_array().context("no list of versions")?;
        for (version, nic) in VERSIONS {
            ensure!(supported.contains(&json!(version)), "{version} is not in {report}");
            let attachment = self.eth0.nic(nic);
            let result = self.run("ADD", version, "hall", &attachment).await?;
            let again = self.run("ADD", version, "hall", &attachment).await?;
            ensure!(result == again, "{result} became {again} when asked for again");
            ensure!(
                result["cniVersion"] == version,
                "{version} was asked for, the result is {result}"
            );
            let families: Vec<&Value> = result["ips"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|ip| &ip["version"])
                .collect();
            // Members of later versions say it by the address alone.
            let expected = if version < "1" {
                [json!("4"), json!("6")]
            } else {
                [Value::Null, Value::Null]
            };
            ensure!(
                families.iter().copied().eq(&expected),
                "in {version} the result is {result}"
            );
            for (at, family) in [(0, 4), (1, 6)] {
                let ip = &result["ips"][at];
                ensure!(ip["gateway"] == self.scene.ip(family, "1"), "the gateway in {result}");
                let address = ip["address"].as_str().unwrap_or_default();
                ensure!(
                    address.contains(if family == 4 { '.' } else { ':' }),
                    "the order in {result}"
                );
            }
        }
        Ok(())
    }

    /// What a pod has that lives is not freed, whatever is asked.
    async fn a_living_pod_keeps_what_it_has(&self, nics: &[&str]) -> Result<()> {
        let net5 = self.eth0.nic("net5");
        self.run("DEL", "1.1.0", "yard", &net5.gone(OLDER)).await?;
        self.run("DEL", "1.1.0", "hall", &self.eth0.nic("net1")).await?;
        self.collect("hall", &[]).await?;
        let pool = self.scene.nics_on_record(self.pool, self.pod, nics, SOON).await?;
        let held = held_by(&pool, self.pod)?;
        ensure!(
            held.get("eth0") == Some(&self.pod.address(Family::V4)?),
            "the pod has {held:?}"
        );
        let known = self.scene.nics_of_endpoint(self.pod).await?;
        ensure!(known.iter().eq(nics), "the endpoint has {known:?}");
        Ok(())
    }

    /// The pod is being deleted: what nobody uses any more goes, and nothing else.
    async fn ended_pods_give_back(&self, nics: &[&str]) -> Result<()> {
        let before = held_by(&self.scene.pools().get(self.pool).await?, self.pod)?;
        self.scene.terminate(self.pod).await?;
        let (net5, net6, net7) = (self.eth0.nic("net5"), self.eth0.nic("net6"), self.eth0.nic("net7"));
        // An older sandbox is not what has the addresses now, and its DEL may come at any time, again and again.
        for nic in [&net5, &net6, &net7] {
            let network = if nic.nic == net7.nic { "meadow" } else { "yard" };
            self.run("DEL", "1.1.0", network, &nic.gone(OLDER)).await?;
        }
        self.scene.nics_on_record(self.pool, self.pod, nics, SOON).await?;
        let known = self.scene.nics_of_endpoint(self.pod).await?;
        ensure!(
            known.iter().eq(nics),
            "the endpoint has {known:?} after DELs of an older sandbox"
        );
        // Its process runs on for as long as it was given, so a list that lacks it takes nothing.
        self.collect("yard", &[&net6]).await?;
        self.scene.nics_on_record(self.pool, self.pod, nics, SOON).await?;
        self.run("DEL", "1.1.0", "yard", &net5).await?;
        let left: Vec<&str> = nics.iter().copied().filter(|nic| *nic != "net5").collect();
        let pool = self.scene.nics_on_record(self.pool, self.pod, &left, SOON).await?;
        let freed = *before.get("net5").context("net5 had no address")?;
        let note = held_back(&pool)?
            .get(freed)
            .cloned()
            .context("a freed address does not cool down")?;
        ensure!(note.reason == HeldReason::Cooling, "{freed} is {note:?}");
        // Again, without a namespace, and what never was.
        self.run("DEL", "1.1.0", "yard", &net6.gone(&net6.container)).await?;
        self.run("DEL", "1.1.0", "yard", &net6).await?;
        self.run("DEL", "1.1.0", "yard", &net5).await?;
        // That the sandbox of net1 is gone was told by a DEL when the pod was still alive, so only its network is left to compare.
        self.run("DEL", "1.1.0", "meadow", &self.eth0.nic("net1")).await?;
        self.run("DEL", "1.1.0", "hall", &self.eth0.nic("net9")).await?;
        let left = ["eth0", "net1", "net2", "net3", "net4", "net7"];
        self.scene.nics_on_record(self.pool, self.pod, &left, SOON).await?;
        self.run("DEL", "1.1.0", "hall", &self.eth0.nic("net1")).await?;
        // A network that was given another name since the ADD.
        self.run("DEL", "1.1.0", "orchard", &net7).await?;
        let left = ["eth0", "net2", "net3", "net4"];
        self.scene.nics_on_record(self.pool, self.pod, &left, SOON).await?;
        let known = self.scene.nics_of_endpoint(self.pod).await?;
        ensure!(known.iter().eq(&left), "the endpoint has {known:?}");
        Ok(())
    }
}
