//! Pods that keep their addresses: over restart, a move to the other node and scaling, until their workload has no use for them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::ResourceExt;
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::watcher;
use serde_json::{Value, json};
use spiderpool_crds::SpiderEndpoint;
use spiderpool_crds::names::ANNOTATION_IPPOOL;
use spiderpool_crds::sticky::{self, StickyKind};
use spiderpool_e2e::DRY_RUN;
use spiderpool_e2e::foreign::Foreign;
use spiderpool_e2e::kruise;
use spiderpool_e2e::life::Workload;
use spiderpool_e2e::pod::Running;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::shape::WorkloadKind;
use spiderpool_e2e::wait::{self, LONG};
use spiderpool_e2e::workload::{Annotations, from_pools, from_subnets, pod};

/// Addresses by pod.
type Addresses = BTreeMap<String, BTreeSet<IpAddr>>;

fn addresses(pods: &[Running]) -> Addresses {
    let of = |pod: &Running| (pod.name.clone(), pod.addresses.iter().copied().collect());
    pods.iter().map(of).collect()
}

/// Changes the pod template of the set `web`.
async fn change_template(scene: &Scene, change: Value) -> Result<()> {
    let change = json!({"spec": {"template": change}});
    scene.patch::<StatefulSet>("web", &change).await.map(drop)
}

/// Waits until the pods of a workload run and none of them is one of these.
async fn renewed(scene: &Scene, app: &str, old: &[Running], more: impl Fn(&Running) -> bool) -> Result<Vec<Running>> {
    let uids: BTreeSet<&str> = old.iter().map(|pod| pod.uid.as_str()).collect();
    let config = watcher::Config::default().labels(&format!("app={app}"));
    let what = format!("new pods of {app}");
    wait::objects(&scene.api::<Pod>(), config, &what, LONG, |pods| {
        let running: Vec<Running> = pods.values().filter_map(Running::of).collect();
        let new = |pod: &Running| !uids.contains(pod.uid.as_str()) && more(pod);
        let all = running.len() == old.len() && pods.len() == old.len();
        Ok((all && running.iter().all(new)).then_some(running))
    })
    .await
}

/// Waits until a pool has so many addresses on record.
async fn recorded(scene: &Scene, pool: &str, count: usize) -> Result<()> {
    let what = format!("{count} records of {pool}");
    wait::object(&scene.pools(), pool, &what, LONG, |pool| {
        (pool?.records().ok()?.len() == count).then_some(())
    })
    .await
}

/// Waits until no endpoint is left.
async fn no_endpoints(scene: &Scene) -> Result<()> {
    let config = watcher::Config::default();
    wait::objects(&scene.api::<SpiderEndpoint>(), config, "no endpoints", LONG, |left| {
        Ok(left.is_empty().then_some(()))
    })
    .await
}

#[tokio::test]
async fn pods_of_a_set_keep_their_addresses_over_restart_move_and_scaling() -> Result<()> {
    scene("set_keeps", async |scene: &Scene| {
        let v4 = scene
            .create_pool("web4", 4, scene.range(4, "10", "14"))
            .await?
            .name_any();
        let v6 = scene
            .create_pool("web6", 6, scene.range(6, "10", "14"))
            .await?
            .name_any();
        let (first, second) = two_nodes(scene)?;
        let kind = WorkloadKind::stateful_set();
        let web = Workload::new(scene, &kind, "web");
        let mut object = kind.workload("web", 3, &from_pools(&[&v4], &[&v6]), "unused")?;
        object["spec"]["template"]["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": first});
        web.make_as(object, 3).await?;
        let pods = scene.running("web", 3, LONG).await?;
        scene.distinct_addresses(&pods, 2).await?;
        let kept = addresses(&pods);

        // One pod is made again.
        scene.delete::<Pod>("web-1").await?;
        let old = pods.iter().find(|pod| pod.name == "web-1").context("no web-1")?;
        let again = wait::object(&scene.api::<Pod>(), "web-1", "a new web-1", LONG, |pod| {
            Running::of(pod?).filter(|pod| pod.uid != old.uid)
        })
        .await?;
        ensure!(
            addresses(&[again]).get("web-1") == kept.get("web-1"),
            "web-1 has other addresses than before"
        );

        // All move to the other node.
        let pods = scene.running("web", 3, LONG).await?;
        change_template(
            scene,
            json!({"spec": {"nodeSelector": {"kubernetes.io/hostname": second}}}),
        )
        .await?;
        let pods = renewed(scene, "web", &pods, |pod| pod.node == second).await?;
        scene.distinct_addresses(&pods, 2).await?;
        ensure!(
            addresses(&pods) == kept,
            "{:?} were {kept:?} before the move",
            addresses(&pods)
        );

        // What is freed by scaling down is of use to others, and what is kept stays.
        web.scale(5).await?;
        let five = addresses(&scene.running("web", 5, LONG).await?);
        web.scale(2).await?;
        scene.running("web", 2, LONG).await?;
        recorded(scene, &v4, 2).await?;
        recorded(scene, &v6, 2).await?;
        scene.create(&pod("guest", &second, &from_pools(&[&v4], &[]))?).await?;
        let guest = scene.running("guest", 1, LONG).await?;
        let guest = guest
            .first()
            .and_then(|guest| guest.addresses.first().copied())
            .context("no address")?;
        let gone = five
            .iter()
            .filter(|(name, _)| !["web-0", "web-1"].contains(&name.as_str()));
        let freed: BTreeSet<IpAddr> = gone.flat_map(|(_, ips)| ips.iter().copied()).collect();
        ensure!(freed.contains(&guest), "{guest} is none of the freed {freed:?}");
        scene.delete::<Pod>("guest").await?;
        recorded(scene, &v4, 2).await?;
        web.scale(5).await?;
        let pods = scene.running("web", 5, LONG).await?;
        scene.distinct_addresses(&pods, 2).await?;
        let now = addresses(&pods);
        for name in ["web-0", "web-1"] {
            ensure!(
                now.get(name) == five.get(name),
                "{name} has other addresses than before scaling"
            );
        }
        web.end().await?;
        scene.nothing_stays().await
    })
    .await
}

fn two_nodes(scene: &Scene) -> Result<(String, String)> {
    match scene.cluster.nodes.as_slice() {
        [first, second, ..] => Ok((first.name.clone(), second.name.clone())),
        _ => anyhow::bail!("the test cluster has less than two nodes"),
    }
}

#[tokio::test]
async fn a_set_whose_pools_change_gets_new_addresses_and_frees_the_old_ones() -> Result<()> {
    scene("set_pools_change", async |scene: &Scene| {
        let old = scene
            .create_pool("old4", 4, scene.range(4, "10", "11"))
            .await?
            .name_any();
        let new = scene
            .create_pool("new4", 4, scene.range(4, "20", "21"))
            .await?
            .name_any();
        let v6 = scene
            .create_pool("same6", 6, scene.range(6, "10", "11"))
            .await?
            .name_any();
        let kind = WorkloadKind::stateful_set();
        let web = Workload::new(scene, &kind, "web");
        web.make(2, &from_pools(&[&old], &[&v6])).await?;
        let pods = scene.running("web", 2, LONG).await?;
        let before = addresses(&pods);
        let asked = json!({"ipv4": [new], "ipv6": [v6]}).to_string();
        change_template(scene, json!({"metadata": {"annotations": {ANNOTATION_IPPOOL: asked}}})).await?;
        let pods = renewed(scene, "web", &pods, |_| true).await?;
        scene.distinct_addresses(&pods, 2).await?;
        let only = |of: &Addresses, v6: bool| -> Addresses {
            let family = |ips: &BTreeSet<IpAddr>| ips.iter().copied().filter(|ip| ip.is_ipv6() == v6).collect();
            of.iter().map(|(name, ips)| (name.clone(), family(ips))).collect()
        };
        let after = addresses(&pods);
        ensure!(only(&after, true) == only(&before, true), "{after:?} were {before:?}");
        recorded(scene, &old, 0).await?;
        recorded(scene, &new, 2).await?;

        // The range of a pool moves on under the pods, which the webhook would keep it from.
        let moved = json!({"spec": {"ips": scene.range(6, "30", "31").ips}});
        scene
            .unjudged_pools()?
            .patch(
                &v6,
                &kube::api::PatchParams::default(),
                &kube::api::Patch::Merge(&moved),
            )
            .await?;
        change_template(scene, json!({"metadata": {"annotations": {"again": "yes"}}})).await?;
        let pods = renewed(scene, "web", &pods, |_| true).await?;
        scene.distinct_addresses(&pods, 2).await?;
        let moved = addresses(&pods);
        ensure!(only(&moved, false) == only(&after, false), "{moved:?} were {after:?}");
        let expected: BTreeSet<IpAddr> = [scene.ip(6, "30"), scene.ip(6, "31")]
            .iter()
            .filter_map(|ip| ip.parse().ok())
            .collect();
        let own: BTreeSet<IpAddr> = only(&moved, true).into_values().flatten().collect();
        ensure!(own == expected, "the pods have {own:?} and not {expected:?}");
        recorded(scene, &v6, 2).await?;

        // The pods go, and for a while there are no others. What no pod of the set may have any more is freed, though no agent
        // hears of it; what one may have stays.
        let quota = json!({"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}});
        scene.create::<ResourceQuota>(&serde_json::from_value(quota)?).await?;
        let hard = |quota: &ResourceQuota| quota.status.as_ref().is_some_and(|status| status.hard.is_some());
        wait::object(
            &scene.api::<ResourceQuota>(),
            "none",
            "the quota to count",
            LONG,
            |quota| quota.is_some_and(hard).then_some(()),
        )
        .await?;
        scene.delete::<Pod>("web-0").await?;
        scene.delete::<Pod>("web-1").await?;
        scene.running("web", 0, LONG).await?;
        recorded(scene, &new, 2).await?;
        recorded(scene, &v6, 2).await?;
        web.scale(1).await?;
        recorded(scene, &new, 1).await?;
        recorded(scene, &v6, 1).await?;
        scene.delete::<ResourceQuota>("none").await?;
        // The set's controller was refused so often that it would try again after minutes; a change of the set makes it look at once.
        let node = &scene.cluster.first_node()?.name;
        let probe = pod("probe", node, &Annotations::new())?;
        wait::until("pods to be allowed again", LONG, async || {
            Ok(scene.api::<Pod>().create(&DRY_RUN, &probe).await.ok())
        })
        .await?;
        web.patch(&json!({"metadata": {"annotations": {"look": "again"}}}))
            .await?;
        let pods = scene.running("web", 1, LONG).await?;
        scene.distinct_addresses(&pods, 2).await?;
        ensure!(
            addresses(&pods).get("web-0") == moved.get("web-0"),
            "{:?} were {moved:?}",
            addresses(&pods)
        );
        web.end().await?;
        scene.nothing_stays().await
    })
    .await
}

#[tokio::test]
async fn a_set_with_pools_of_its_own_keeps_its_addresses() -> Result<()> {
    scene("set_automatic", async |scene: &Scene| {
        let kind = WorkloadKind::stateful_set();
        let web = Workload::new(scene, &kind, "web");
        web.make(3, &from_subnets(&[&scene.v4], &[&scene.v6], "+1")).await?;
        let pods = scene.running("web", 3, LONG).await?;
        let before = addresses(&pods);
        change_template(scene, json!({"metadata": {"annotations": {"again": "yes"}}})).await?;
        let pods = renewed(scene, "web", &pods, |_| true).await?;
        scene.distinct_addresses(&pods, 2).await?;
        ensure!(addresses(&pods) == before, "{:?} were {before:?}", addresses(&pods));
        // The pools get smaller around what is kept.
        web.scale(1).await?;
        for version in [4, 6] {
            web.sized(version, 2).await?;
        }
        let left = scene.running("web", 1, LONG).await?;
        scene.delete::<Pod>("web-0").await?;
        let again = renewed(scene, "web", &left, |_| true).await?;
        ensure!(
            addresses(&again).get("web-0") == before.get("web-0"),
            "web-0 has other addresses"
        );
        web.end().await?;
        no_endpoints(scene).await?;
        scene.nothing_stays().await
    })
    .await
}

/// The addresses of a pod that runs alone under its name.
async fn own(scene: &Scene, pod: &str) -> Result<BTreeSet<IpAddr>> {
    let pods = scene.running(pod, 1, LONG).await?;
    let pod = pods.first().context("no pod")?;
    Ok(pod.addresses.iter().copied().collect())
}

/// Deletes a pod and waits until it is gone.
async fn end(scene: &Scene, pod: &str) -> Result<()> {
    scene.delete::<Pod>(pod).await?;
    wait::gone(&scene.api::<Pod>(), pod, LONG).await
}

#[tokio::test]
async fn a_virtual_machine_keeps_its_addresses_over_restart_and_migration() -> Result<()> {
    scene("machine_keeps", async |scene: &Scene| {
        let v4 = scene
            .create_pool("vm4", 4, scene.range(4, "10", "19"))
            .await?
            .name_any();
        let v6 = scene
            .create_pool("vm6", 6, scene.range(6, "10", "19"))
            .await?
            .name_any();
        let machine = |kind: &str, plural: &str| {
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("kubevirt.io", "v1", kind), plural)
        };
        let machines = Foreign::define(scene, machine("VirtualMachine", "virtualmachines")).await?;
        let instances = Foreign::define(scene, StickyKind::VirtualMachineInstance.resource()).await?;
        let moves = Foreign::define(scene, sticky::migrations()).await?;
        let (first, second) = two_nodes(scene)?;
        let wish = from_pools(&[&v4], &[&v6]);

        let db = machines.make("db", json!({"runStrategy": "Always"}), None).await?;
        let instance = instances.make("db", json!({}), Some(machines.reference(&db))).await?;
        instances
            .make_pod(&instance, "virt-launcher-db-a", &first, &wish)
            .await?;
        let addresses = own(scene, "virt-launcher-db-a").await?;
        let endpoint = scene.api::<SpiderEndpoint>().get("db").await?;
        ensure!(
            endpoint.status.current.pod_name.as_deref() == Some("virt-launcher-db-a") && addresses.len() == 2,
            "{addresses:?} are those of {:?}",
            endpoint.status.current
        );

        // Switched off, and on again on the other node.
        instances.delete("db").await?;
        end(scene, "virt-launcher-db-a").await?;
        recorded(scene, &v4, 1).await?;
        let instance = instances.make("db", json!({}), Some(machines.reference(&db))).await?;
        instances
            .make_pod(&instance, "virt-launcher-db-b", &second, &wish)
            .await?;
        ensure!(
            own(scene, "virt-launcher-db-b").await? == addresses,
            "the machine has other addresses"
        );

        // A second pod of a machine that does not move waits for the first one to go.
        instances
            .make_pod(&instance, "virt-launcher-db-c", &first, &wish)
            .await?;
        scene
            .sandbox_failure("virt-launcher-db", &["virt-launcher-db-b", "still runs"], LONG)
            .await?;
        end(scene, "virt-launcher-db-c").await?;

        // The machine moves: for a while there are two pods.
        moves.make("go", json!({"vmiName": "db"}), None).await?;
        let mut target = wish.clone();
        target.insert(sticky::ANNOTATION_MIGRATION.to_owned(), "go".to_owned());
        instances
            .make_pod(&instance, "virt-launcher-db-d", &first, &target)
            .await?;
        ensure!(
            own(scene, "virt-launcher-db-d").await? == addresses,
            "the machine has other addresses where it moves"
        );
        end(scene, "virt-launcher-db-b").await?;
        let endpoint = scene.api::<SpiderEndpoint>().get("db").await?;
        ensure!(
            endpoint.status.current.node == first,
            "{:?} after the move",
            endpoint.status.current
        );
        recorded(scene, &v4, 1).await?;

        // Switched off, and then deleted: nobody on a node is told.
        instances.delete("db").await?;
        end(scene, "virt-launcher-db-d").await?;
        recorded(scene, &v6, 1).await?;
        machines.delete("db").await?;
        scene.nothing_stays().await
    })
    .await
}

#[tokio::test]
async fn an_advanced_set_keeps_the_addresses_of_its_ordinals() -> Result<()> {
    scene("advanced_set_keeps", async |scene: &Scene| {
        let v4 = scene
            .create_pool("adv4", 4, scene.range(4, "10", "19"))
            .await?
            .name_any();
        let wish = from_pools(&[&v4], &[]);
        let (first, second) = two_nodes(scene)?;
        let sets = Foreign::define(scene, StickyKind::AdvancedStatefulSet.resource()).await?;
        let kind = WorkloadKind::advanced_stateful_set();
        let mut spec = kind.workload("web", 2, &wish, "unused")?["spec"].take();
        spec["reserveOrdinals"] = json!([0, "2-3"]);
        let set = sets.make("web", spec, None).await?;
        // Its controller, if there is one, makes the same pods.
        let make = async |pod: &str, node: &str| match kruise::is_real() {
            true => Ok(()),
            false => sets.make_pod(&set, pod, node, &wish).await.map(drop),
        };
        make("web-1", &first).await?;
        make("web-4", &first).await?;
        let address = async |pod: &str, old: &str| {
            let what = format!("pod {pod}");
            wait::object(&scene.api::<Pod>(), pod, &what, LONG, |pod| {
                Running::of(pod?).filter(|pod| pod.uid != old)
            })
            .await
        };
        let (one, four) = (address("web-1", "").await?, address("web-4", "").await?);
        scene.delete::<Pod>("web-4").await?;
        if !kruise::is_real() {
            wait::gone(&scene.api::<Pod>(), "web-4", LONG).await?;
        }
        make("web-4", &second).await?;
        let again = address("web-4", &four.uid).await?;
        ensure!(again.addresses == four.addresses, "{again:?} was {four:?}");
        ensure!(again.addresses != one.addresses, "{again:?} is {one:?}");
        // Gone for a while, and then for good.
        if !kruise::is_real() {
            end(scene, "web-4").await?;
            recorded(scene, &v4, 2).await?;
        }
        sets.patch("web", &json!({"spec": {"replicas": 1}})).await?;
        recorded(scene, &v4, 1).await?;
        sets.delete("web").await?;
        if !kruise::is_real() {
            end(scene, "web-1").await?;
        }
        scene.nothing_stays().await
    })
    .await
}
