//! Agents that tests run themselves: what the histories and benchmarks made with them rest on.

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use spiderpool_crds::{IPPoolSpec, SpiderEndpoint};
use spiderpool_e2e::agents::{Agent, Options, add_args, del_args, remove_pod};
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::wait::{self, SOON};
use spiderpool_e2e::workload::from_pools;

#[tokio::test]
async fn one_serves_again_after_a_crash_and_ends_when_told() -> Result<()> {
    scene("second_agents", async |scene: &Scene| {
        let spec = IPPoolSpec {
            ips: Some(vec![scene.ip(4, "10")]),
            ..IPPoolSpec::default()
        };
        let pool = scene.create_pool("single", 4, spec).await?.name_any();
        let agent = Agent::start(&scene.cluster, &scene.own("alone"), &Options::default()).await?;
        let pod = agent
            .make_pod(&scene.namespace, "one", &from_pools(&[&pool], &[]))
            .await?;
        let add = add_args(&pod, "c1");
        let first = agent.add(&add).await?;
        let killed = agent.kill().await?;
        ensure!(!killed.success(), "the agent ended by itself before");
        agent.run(&[]).await?;
        agent.serves().await?;
        let again = agent.add(&add).await?;
        ensure!(first == again, "{first:?} became {again:?}");
        let endpoint = scene.api::<SpiderEndpoint>().get("one").await?;
        ensure!(
            endpoint.status.current.node == agent.node,
            "the endpoint names another node"
        );
        remove_pod(&scene.cluster.client, &pod).await?;
        agent.del(&del_args(&add)).await?;
        wait::object(&scene.pools(), &pool, "no record to be left", SOON, |pool| {
            pool?.records().ok()?.is_empty().then_some(())
        })
        .await?;
        let left = scene.api::<SpiderEndpoint>().get_opt("one").await?;
        ensure!(left.is_none(), "the endpoint stays: {left:?}");
        agent.stop().await.context("ending it")?;
        agent.remove().await
    })
    .await
}
