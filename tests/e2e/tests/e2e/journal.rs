//! What the plugin does while its agent is away or cannot reach the API server: it says so, and a pod's end waits for neither.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use serde_json::Value;
use spiderpool_e2e::gate::{Gate, Way};
use spiderpool_e2e::node::Node;
use spiderpool_e2e::plugin::{Attachment, Ended, network, spiderpool};
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::second_agent::SecondAgent;
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::{from_pools, lingering, pod};

/// How long a DEL may take that finds no agent.
const AT_ONCE: Duration = Duration::from_secs(2);
/// How long a DEL may take whose agent does not answer: the plugin waits for ten seconds, on a machine that does much else.
const BOUNDED: Duration = Duration::from_secs(15);
/// Code of a STATUS that says no.
const NOT_AVAILABLE: u64 = 50;

#[tokio::test]
async fn what_nobody_can_serve_waits_in_the_journal() -> Result<()> {
    scene("journal", async |scene: &Scene| {
        let node = scene.cluster.first_node()?;
        let spec = scene.range(4, "10", "29");
        let pool = scene.create_pool("journal", 4, spec).await?.name_any();
        let wish = from_pools(&[&pool], &[]);
        scene.create(&lingering(pod("noted", &node.name, &wish)?)).await?;
        let pod = scene.running("noted", 1, LONG).await?.pop().context("no pod")?;
        let eth0 = Attachment::of(scene, &pod).await?;
        let gate = Gate::open(&scene.cluster).await?;
        let mut agent = SecondAgent::prepare(scene, node, &[]).await?;
        agent.by_way_of(gate.address());
        let plugin = Plugin {
            node,
            name: scene.own("hall"),
            ipam: agent.ipam(),
        };
        let on_record = async |nics: &[&str]| scene.nics_on_record(&pool, &pod, nics, SOON).await.map(drop);

        plugin
            .status_fails(&["unhealthy spiderpool-agent backend", &agent.socket()])
            .await?;
        agent.start().await?;
        plugin.run("STATUS", None).await?.result()?;
        for nic in ["net1", "net2", "net3"] {
            plugin.run("ADD", Some(&eth0.nic(nic))).await?.result()?;
        }

        // The agent crashes. DELs come, one of them again, as runtimes do.
        agent.kill().await?;
        plugin.status_fails(&["unhealthy spiderpool-agent backend"]).await?;
        let net1 = eth0.nic("net1");
        for attachment in [&net1, &net1, &net1.gone(&net1.container)] {
            let ended = plugin.run("DEL", Some(attachment)).await?;
            ended.result()?;
            ensure!(ended.took < AT_ONCE, "without an agent the DEL took {:?}", ended.took);
        }
        let entries = agent.entries().await?;
        let [entry] = entries.as_slice() else {
            anyhow::bail!("the journal has {entries:?}");
        };
        let (mode, owner) = node.mode(&format!("{}/{entry}", agent.journal()))?;
        ensure!(
            (mode, owner) == (0o600, 0),
            "the entry has mode {mode:o} and owner {owner}"
        );
        let broken = format!("{}/{}@net9.del", agent.journal(), eth0.container);
        node.sh(&format!("printf '%s' '{{\"contai' > {broken}"), "").await?;

        // It comes back. A pod that lives keeps what it has, whatever is noted.
        on_record(&["eth0", "net1", "net2", "net3"]).await?;
        agent.start().await?;
        let named = |entries: &[String], nic: &str| entries.iter().any(|name| name.ends_with(&format!("@{nic}.del")));
        wait::until("the DEL of net1 to be served", SOON, async || {
            Ok((!named(&agent.entries().await?, "net1")).then_some(()))
        })
        .await?;
        on_record(&["eth0", "net1", "net2", "net3"]).await?;

        // It loses the API server while an ADD is under way that the runtime gives up.
        gate.set(Way::Frozen);
        let net4 = eth0.nic("net4");
        let gave_up = tokio::time::timeout(Duration::from_secs(1), plugin.run("ADD", Some(&net4))).await;
        ensure!(
            gave_up.is_err(),
            "an ADD ended while the API server was away: {gave_up:?}"
        );
        scene.terminate(&pod).await?;
        let ended = plugin.run("DEL", Some(&eth0.nic("net2"))).await?;
        ended.result()?;
        ensure!(
            ended.took < BOUNDED,
            "with a hanging API server the DEL took {:?}",
            ended.took
        );
        let entries = agent.entries().await?;
        ensure!(named(&entries, "net2"), "the journal has {entries:?}");
        gate.set(Way::Open);
        plugin.run("DEL", Some(&net4)).await?.result()?;
        on_record(&["eth0", "net1", "net3"]).await?;

        // The API server ends, and the agent says so before anybody asks it for an address.
        gate.set(Way::Closed);
        let ended = plugin.run("DEL", Some(&eth0.nic("net3"))).await?;
        ended.result()?;
        ensure!(
            ended.took < BOUNDED,
            "without an API server the DEL took {:?}",
            ended.took
        );
        wait::until("STATUS to fail", SOON, async || {
            Ok(plugin.status_fails(&["cannot serve"]).await.ok())
        })
        .await?;
        gate.set(Way::Open);
        on_record(&["eth0", "net1"]).await?;
        wait::until("STATUS to be well again", SOON, async || {
            Ok(plugin.run("STATUS", None).await?.result().ok())
        })
        .await?;
        wait::until("the journal to be empty", SOON, async || {
            Ok(agent.entries().await?.is_empty().then_some(()))
        })
        .await?;
        ensure!(
            agent.log().contains("cannot be read"),
            "nothing tells of the damaged entry:\n{}",
            agent.log()
        );
        // With the pod goes what its DEL left to it.
        scene.finish(&pod).await?;
        on_record(&[]).await?;
        agent.end().await
    })
    .await
}

/// The plugin, led to the agent of the test.
struct Plugin<'a> {
    node: &'a Node,
    name: String,
    ipam: Value,
}

impl Plugin<'_> {
    async fn run(&self, command: &str, attachment: Option<&Attachment>) -> Result<Ended> {
        let conf = network("1.1.0", &self.name, self.ipam.clone());
        spiderpool(self.node, command, &conf, attachment).await
    }

    async fn status_fails(&self, texts: &[&str]) -> Result<()> {
        self.run("STATUS", None).await?.refused(NOT_AVAILABLE, texts)
    }
}
