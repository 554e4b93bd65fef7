//! The life of a workload of every kind, row by row: made, scaled, changed, deleted and made again, with pods that run.
//!
//! A row that fails says which one it is. A walk has one workload of its kind at a time, so that few pods run.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use kube::api::PropagationPolicy;
use serde_json::{Value, json};
use spiderpool_crds::names::{
    ANNOTATION_IP_NUMBER, ANNOTATION_RECLAIM, ANNOTATION_SUBNETS, LABEL_OWNER_APP_GV, LABEL_OWNER_APP_UID,
    LABEL_RECLAIM,
};
use spiderpool_crds::{SpiderEndpoint, SpiderIPPool};
use spiderpool_e2e::kruise;
use spiderpool_e2e::life::{Workload, size};
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::shape::WorkloadKind;
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::{Annotations, from_subnets};
use spiderpool_ipam::naming::pool_name;

/// Asks the test cluster's CNI configuration for a second interface.
const SECOND_NIC: &str = "e2e.spiderpool.io/second-nic";
/// The name it has in the pod.
const NET1: &str = "net1";

/// Both families of a row.
const BOTH: [u8; 2] = [4, 6];

/// Says which row of the table failed.
async fn row<T>(kind: &WorkloadKind, what: &str, run: impl Future<Output = Result<T>>) -> Result<T> {
    run.await.with_context(|| format!("row: {kind} x {what}"))
}

/// A subject of the walk: one workload and what it has to look like.
struct Walk<'a> {
    workload: Workload<'a>,
    wish: Annotations,
}

impl Walk<'_> {
    /// Waits for so many running pods and pools of this size in both families, and checks that all agree.
    async fn stands(&self, pods: usize, addresses: u128) -> Result<()> {
        let (scene, name) = (self.workload.scene, self.workload.name);
        for version in BOTH {
            self.workload.sized(version, addresses).await?;
        }
        let running = scene.running(name, pods, LONG).await?;
        scene.distinct_addresses(&running, 2).await.map(drop)
    }

    /// The pools of both families, once they belong to this UID.
    async fn pools_of(&self, uid: &str) -> Result<Vec<SpiderIPPool>> {
        let mut pools = Vec::new();
        for version in BOTH {
            let own = |pool: &SpiderIPPool| pool.label(LABEL_OWNER_APP_UID) == Some(uid);
            let pool = self.workload.pool("eth0", version, "of its UID", SOON, own).await?;
            pools.push(pool);
        }
        Ok(pools)
    }

    /// A new pool has the name and labels of the workload.
    async fn named(&self, uid: &str) -> Result<()> {
        for pool in self.pools_of(uid).await? {
            let name = pool_name(self.workload.name, pool.family()?, "eth0", uid);
            ensure!(
                pool.name_any() == name,
                "the pool is called {} and not {name}",
                pool.name_any()
            );
            // Of several versions the API server prefers one, which is not always the one that a test writes.
            let group = &self.workload.kind.resource.group;
            let label = pool.label(LABEL_OWNER_APP_GV);
            ensure!(
                label.and_then(|gv| gv.rsplit_once('_')).map(|(own, _)| own) == Some(group.as_str()),
                "the pool's API group and version is {label:?} and the group not {group}"
            );
        }
        Ok(())
    }

    async fn annotate(&self, change: Value) -> Result<()> {
        self.workload.annotate(&change).await
    }

    async fn gone(&self) -> Result<()> {
        self.workload.end().await?;
        for version in BOTH {
            self.workload.no_pool("eth0", version).await?;
        }
        Ok(())
    }
}

/// All rows of a kind whose pod template can be changed.
async fn life(scene: &Scene, kind: &WorkloadKind) -> Result<()> {
    let wish = from_subnets(&[&scene.v4], &[&scene.v6], "+1");
    let workload = Workload::new(scene, kind, "shop");
    let walk = Walk { workload, wish };
    row(kind, "create, dual stack", async {
        let uid = workload.make(1, &walk.wish).await?;
        walk.stands(1, 2).await?;
        walk.named(&uid).await
    })
    .await?;
    row(kind, "scale up", async {
        workload.scale(2).await?;
        walk.stands(2, 3).await
    })
    .await?;
    row(kind, "scale down", async {
        workload.scale(1).await?;
        walk.stands(1, 2).await
    })
    .await?;
    row(kind, "fixed", async {
        walk.annotate(json!({ANNOTATION_IP_NUMBER: "4"})).await?;
        walk.stands(1, 4).await?;
        workload.scale(2).await?;
        walk.stands(2, 4).await
    })
    .await?;
    row(kind, "+N and another annotation changed", async {
        workload.scale(1).await?;
        walk.annotate(json!({ANNOTATION_IP_NUMBER: "+2", ANNOTATION_RECLAIM: "false"}))
            .await?;
        walk.stands(1, 3).await?;
        for version in BOTH {
            let kept = |pool: &SpiderIPPool| pool.label(LABEL_RECLAIM) == Some("false");
            workload.pool("eth0", version, "marked to stay", SOON, kept).await?;
        }
        Ok(())
    })
    .await?;
    made_again(&walk).await?;
    two_nics(scene, kind).await
}

/// The rows of deletion. The workload exists and its pools are to stay.
async fn made_again(walk: &Walk<'_>) -> Result<()> {
    let (workload, kind, scene) = (walk.workload, walk.workload.kind, walk.workload.scene);
    row(kind, "delete and re-create, reclaim false", async {
        let mut names = BTreeSet::new();
        workload.end().await?;
        for version in BOTH {
            let idle = |pool: &SpiderIPPool| pool.records().is_ok_and(|records| records.is_empty());
            let left = workload.pool("eth0", version, "without records", LONG, idle).await?;
            names.insert(left.name_any());
        }
        let uid = workload.make(1, &walk.wish).await?;
        walk.stands(1, 2).await?;
        let pools = walk.pools_of(&uid).await?;
        let again: BTreeSet<String> = pools.iter().map(ResourceExt::name_any).collect();
        ensure!(names == again, "the pools {names:?} became {again:?}");
        for pool in &pools {
            let reclaim = pool.label(LABEL_RECLAIM);
            ensure!(reclaim == Some("true"), "{} has {reclaim:?}", pool.name_any());
        }
        Ok(())
    })
    .await?;
    row(kind, "delete, reclaim true", async {
        walk.gone().await?;
        scene.nothing_stays().await
    })
    .await?;
    row(kind, "re-create, reclaim true", async {
        let uid = workload.make(1, &walk.wish).await?;
        walk.stands(1, 2).await?;
        walk.named(&uid).await?;
        walk.gone().await
    })
    .await
}

/// The row of several interfaces: the same subnet on two of them, and both families on one.
async fn two_nics(scene: &Scene, kind: &WorkloadKind) -> Result<()> {
    row(kind, "two NICs", async {
        let twin = Workload::new(scene, kind, "twin");
        let subnets = json!([
            {"interface": "eth0", "ipv4": [scene.v4], "ipv6": [scene.v6]},
            {"interface": NET1, "ipv4": [scene.v4]},
        ]);
        let wish = Annotations::from([
            (ANNOTATION_SUBNETS.to_owned(), subnets.to_string()),
            (ANNOTATION_IP_NUMBER.to_owned(), "+1".to_owned()),
            (SECOND_NIC.to_owned(), "true".to_owned()),
        ]);
        twin.make(1, &wish).await?;
        for (nic, version) in [("eth0", 4), ("eth0", 6), (NET1, 4)] {
            let fits = |pool: &SpiderIPPool| size(pool) == 2;
            twin.pool(nic, version, "with 2 addresses", LONG, fits).await?;
        }
        let pods = scene.running("twin", 1, LONG).await?;
        let pod = pods.first().context("no pod")?;
        let used = |pool: &SpiderIPPool| {
            let mut records = pool
                .records()
                .ok()?
                .iter()
                .map(|(ip, record)| (ip, record.pod_uid.clone()))
                .collect::<Vec<_>>();
            let (ip, uid) = records.pop()?;
            (records.is_empty() && uid == pod.uid).then_some(ip)
        };
        let endpoint = scene
            .api::<SpiderEndpoint>()
            .get(&pod.name)
            .await
            .context("reading the endpoint")?;
        for (nic, version) in [("eth0", 4), ("eth0", 6), (NET1, 4)] {
            let pool = twin
                .pool(nic, version, "used once", SOON, |pool| used(pool).is_some())
                .await?;
            let ip = used(&pool).context("no record")?.to_string();
            let items = &endpoint.status.current.ips;
            let item = items.iter().find(|item| item.interface == nic);
            let item = item.with_context(|| format!("the endpoint has no {nic}"))?;
            let told = if version == 4 { &item.ipv4 } else { &item.ipv6 };
            let told = told.as_deref().and_then(|text| text.split('/').next());
            ensure!(
                told == Some(ip.as_str()),
                "the endpoint has {told:?} on {nic} and the pool {ip}"
            );
            let shown = scene
                .exec(&pod.name, &["ip", "-o", "address", "show", "dev", nic])
                .await?;
            ensure!(shown.contains(&format!(" {ip}/")), "{ip} is not on {nic}: {shown}");
        }
        twin.end().await?;
        scene.nothing_stays().await
    })
    .await
}

macro_rules! lives {
    ($($name:ident: $kind:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $name() -> Result<()> {
            scene(stringify!($kind), async |scene: &Scene| life(scene, &WorkloadKind::$kind()).await).await
        }
    )*};
}

lives! {
    the_life_of_a_deployment: deployment,
    the_life_of_a_replica_set: replica_set,
    the_life_of_a_stateful_set: stateful_set,
    the_life_of_a_daemon_set: daemon_set,
    the_life_of_a_cron_job: cron_job,
    the_life_of_a_rollout: rollout,
    the_life_of_a_clone_set: clone_set,
}

/// Kinds that only OpenKruise's real manager serves; the run says whether it is there.
macro_rules! lives_with_kruise {
    ($($name:ident: $kind:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $name() -> Result<()> {
            if !kruise::is_real() {
                eprintln!("nothing to test: there is a stand-in for CloneSets only, see KRUISE_MANAGER");
                return Ok(());
            }
            scene(stringify!($kind), async |scene: &Scene| life(scene, &WorkloadKind::$kind()).await).await
        }
    )*};
}

lives_with_kruise! {
    the_life_of_an_advanced_stateful_set: advanced_stateful_set,
    the_life_of_an_advanced_daemon_set: advanced_daemon_set,
}

/// A Job's template cannot be changed, so there the rows of annotations have a Job each.
#[tokio::test]
async fn the_life_of_a_job() -> Result<()> {
    scene("job", async |scene: &Scene| {
        let kind = WorkloadKind::job();
        let workload = Workload::new(scene, &kind, "shop");
        let wish = from_subnets(&[&scene.v4], &[&scene.v6], "+1");
        let with = |number: &str, reclaim: &str| {
            let mut wish = from_subnets(&[&scene.v4], &[&scene.v6], number);
            wish.insert(ANNOTATION_RECLAIM.to_owned(), reclaim.to_owned());
            wish
        };
        let walk = Walk { workload, wish };
        row(&kind, "create, dual stack", async {
            let uid = workload.make(1, &walk.wish).await?;
            walk.stands(1, 2).await?;
            walk.named(&uid).await
        })
        .await?;
        row(&kind, "scale up", async {
            workload.scale(2).await?;
            walk.stands(2, 3).await
        })
        .await?;
        row(&kind, "scale down", async {
            workload.scale(1).await?;
            walk.stands(1, 2).await?;
            walk.gone().await
        })
        .await?;
        row(&kind, "fixed", async {
            workload.make(1, &with("4", "true")).await?;
            walk.stands(1, 4).await?;
            walk.gone().await
        })
        .await?;
        row(&kind, "+N", async {
            workload.make(1, &with("+2", "false")).await?;
            walk.stands(1, 3).await
        })
        .await?;
        made_again(&walk).await?;
        two_nics(scene, &kind).await
    })
    .await
}

/// What a finished Job leaves: its pools stay while it does, and its pods' addresses are free.
#[tokio::test]
async fn a_finished_job_gives_its_addresses_back() -> Result<()> {
    scene("finished_job", async |scene: &Scene| {
        let kind = WorkloadKind::job();
        let workload = Workload::new(scene, &kind, "once");
        let wish = from_subnets(&[&scene.v4], &[], "+0");
        let mut job = kind.workload("once", 1, &wish, "")?;
        job["spec"] = {
            let mut spec = job["spec"].take();
            spec["completions"] = json!(2);
            spec["template"]["spec"]["containers"][0]["command"] = json!(["true"]);
            spec
        };
        workload.make_as(job, 1).await?;
        wait::object(
            &scene.api::<k8s_openapi::api::batch::v1::Job>(),
            "once",
            "the Job to be done",
            LONG,
            |job| (job?.status.as_ref()?.succeeded == Some(2)).then_some(()),
        )
        .await?;
        let idle = |pool: &SpiderIPPool| size(pool) == 2 && pool.records().is_ok_and(|records| records.is_empty());
        workload.pool("eth0", 4, "of 2 free addresses", LONG, idle).await?;
        workload.delete(PropagationPolicy::Background).await?;
        workload.no_pool("eth0", 4).await?;
        scene.running("once", 0, LONG).await.map(drop)
    })
    .await
}

/// How a Job says its size: completions before parallelism, and one where neither is said. No pod runs.
#[tokio::test]
async fn jobs_are_sized_by_completions_and_parallelism() -> Result<()> {
    let table = [
        (json!({}), 1),
        (json!({"parallelism": 3}), 3),
        (json!({"parallelism": 0}), 1),
        (json!({"completions": 4}), 4),
        (json!({"completions": 4, "parallelism": 2}), 4),
        (json!({"completions": 2, "parallelism": 4}), 2),
        (json!({"completions": 0, "parallelism": 4}), 1),
    ];
    scene("job_sizes", async |scene: &Scene| {
        let wish = from_subnets(&[&scene.v4], &[], "+1");
        for (kind, wrapped) in [(WorkloadKind::job(), false), (WorkloadKind::cron_job(), true)] {
            let runs = table.iter().enumerate().map(async |(at, (said, wanted))| {
                let name = format!("sized-{at}");
                let workload = Workload::new(scene, &kind, &name);
                row(&kind, &format!("size of {said}"), async {
                    let mut object = kind.workload(&name, 1, &wish, "")?;
                    let spec = if wrapped {
                        object["spec"]["jobTemplate"]["spec"].take()
                    } else {
                        object["spec"].take()
                    };
                    let mut own = said.clone();
                    own["template"] = spec["template"].clone();
                    own["template"]["spec"]["nodeSelector"] = json!({"e2e.spiderpool.io/nowhere": "true"});
                    if wrapped {
                        object["spec"] =
                            json!({"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": {"spec": own}});
                    } else {
                        object["spec"] = own;
                    }
                    workload.make_as(object, 0).await?;
                    workload.sized(4, wanted + 1).await?;
                    workload.delete(PropagationPolicy::Background).await?;
                    workload.no_pool("eth0", 4).await
                })
                .await
            });
            futures::future::try_join_all(runs).await?;
        }
        Ok(())
    })
    .await
}

/// A DaemonSet whose selector no longer fits any node keeps its spare addresses only.
#[tokio::test]
async fn a_daemon_set_follows_its_node_selector() -> Result<()> {
    scene("node_selector", async |scene: &Scene| {
        let kind = WorkloadKind::daemon_set();
        let workload = Workload::new(scene, &kind, "everywhere");
        let wish = from_subnets(&[&scene.v4], &[], "+1");
        let mut object = kind.workload("everywhere", 0, &wish, "")?;
        object["spec"]["template"]["spec"]["nodeSelector"] = Value::Null;
        workload.make_as(object, 0).await?;
        workload.sized(4, 3).await?;
        scene.running("everywhere", 2, LONG).await?;
        let nowhere = json!({"e2e.spiderpool.io/nowhere": "true"});
        workload
            .patch(&json!({"spec": {"template": {"spec": {"nodeSelector": nowhere}}}}))
            .await?;
        workload.sized(4, 1).await?;
        workload.delete(PropagationPolicy::Background).await
    })
    .await
}
