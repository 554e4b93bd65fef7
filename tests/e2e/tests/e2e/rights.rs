//! Rights to read a kind that are missing or taken away: users are told, nothing else suffers, and granting them is enough.

use anyhow::{Result, ensure};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::PropagationPolicy;
use spiderpool_crds::SpiderSubnet;
use spiderpool_crds::conditions::find;
use spiderpool_e2e::cluster::Cluster;
use spiderpool_e2e::life::Workload;
use spiderpool_e2e::node::{OPERATOR, Process};
use spiderpool_e2e::own_kind::OwnKind;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::shape::WorkloadKind;
use spiderpool_e2e::wait::{self, LONG};
use spiderpool_e2e::workload::from_subnets;

/// Condition of a subnet.
const READABLE: &str = "WorkloadsReadable";
/// The ClusterRole that gathers the rights.
const ROLE: &str = "spiderpool-controller-workloads";
/// Reason of the Event, and of the condition.
const MISSING: &str = "MissingPermission";

fn operators(cluster: &Cluster) -> Result<Vec<Process>> {
    let found = cluster.nodes.iter().map(|node| node.processes(OPERATOR));
    Ok(found.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Waits for the condition of the scene's subnet.
async fn readable(scene: &Scene, what: &str, look: impl Fn(Option<&Condition>) -> bool) -> Result<()> {
    let what = format!("the condition {READABLE} of {} {what}", scene.v4);
    wait::object(
        &scene.subnets(),
        &scene.v4,
        &what,
        LONG,
        |subnet: Option<&SpiderSubnet>| {
            let conditions = subnet?.status.as_ref()?.conditions.as_deref();
            look(find(conditions, READABLE)).then_some(())
        },
    )
    .await
}

async fn told_on_the_subnet(scene: &Scene, plural: &str) -> Result<()> {
    readable(scene, "to say what is missing", |condition| {
        condition.is_some_and(|condition| {
            let texts = [plural, ROLE, "watch"];
            condition.status == "False"
                && condition.reason == MISSING
                && texts.iter().all(|text| condition.message.contains(text))
        })
    })
    .await
}

async fn well_again(scene: &Scene) -> Result<()> {
    readable(scene, "to be fine", |condition| {
        condition.is_none_or(|condition| condition.status == "True")
    })
    .await
}

/// Another kind of the same subnet is served meanwhile.
async fn others_go_on(scene: &Scene, name: &str) -> Result<()> {
    let kind = WorkloadKind::deployment();
    let other = Workload::new(scene, &kind, name);
    other.make(1, &from_subnets(&[&scene.v4], &[], "+1")).await?;
    other.sized(4, 2).await?;
    scene.running(name, 1, LONG).await?;
    other.end().await
}

#[tokio::test]
async fn rights_that_are_missing_from_the_start() -> Result<()> {
    scene("no_rights", async |scene: &Scene| {
        let before = operators(&scene.cluster)?;
        let own = OwnKind::new(scene, "Herd");
        own.define().await?;
        let plural = own.kind.resource.plural.clone();
        let wish = from_subnets(&[&scene.v4], &[], "+1");
        let herd = Workload::new(scene, &own.kind, "herd");
        herd.make(2, &wish).await?;
        own.make_pod(&herd, "herd-0", &wish).await?;
        scene
            .event("Herd", "herd", MISSING, &[&plural, ROLE, "list"], LONG)
            .await?;
        told_on_the_subnet(scene, &plural).await?;
        others_go_on(scene, "other").await?;
        own.grant().await?;
        herd.sized(4, 3).await?;
        scene.running("herd", 1, LONG).await?;
        well_again(scene).await?;
        ensure!(operators(&scene.cluster)? == before, "the operator was started again");
        own.end(&herd).await?;
        herd.no_pool("eth0", 4).await?;
        own.remove().await
    })
    .await
}

#[tokio::test]
async fn rights_that_are_taken_away() -> Result<()> {
    scene("rights_withdrawn", async |scene: &Scene| {
        let before = operators(&scene.cluster)?;
        let own = OwnKind::new(scene, "Swarm");
        own.define().await?;
        own.grant().await?;
        let plural = own.kind.resource.plural.clone();
        let wish = from_subnets(&[&scene.v4], &[], "+1");
        let swarm = Workload::new(scene, &own.kind, "swarm");
        swarm.make(2, &wish).await?;
        own.make_pod(&swarm, "swarm-0", &wish).await?;
        let pool = swarm.sized(4, 3).await?;
        let gone = Workload::new(scene, &own.kind, "gone");
        gone.make(1, &wish).await?;
        gone.sized(4, 2).await?;
        let pods = scene.running("swarm", 1, LONG).await?;
        own.withdraw().await?;
        told_on_the_subnet(scene, &plural).await?;
        scene.event("Swarm", "swarm", MISSING, &[&plural, ROLE], LONG).await?;
        others_go_on(scene, "other").await?;
        // What is there stays as it is.
        let left = swarm.sized(4, 3).await?;
        ensure!(
            left.spec == pool.spec,
            "the pool was changed without a look at its workload"
        );
        scene.distinct_addresses(&pods, 1).await?;
        swarm.scale(4).await?;
        gone.delete(PropagationPolicy::Background).await?;
        own.grant().await?;
        swarm.sized(4, 5).await?;
        gone.no_pool("eth0", 4).await?;
        well_again(scene).await?;
        ensure!(operators(&scene.cluster)? == before, "the operator was started again");
        own.end(&swarm).await?;
        swarm.no_pool("eth0", 4).await?;
        own.remove().await
    })
    .await
}
