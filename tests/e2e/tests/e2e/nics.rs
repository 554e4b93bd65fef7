//! Several interfaces of a pod whose pools one annotation lists, and the routes inside the pod.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::watcher;
use serde_json::{Value, json};
use spiderpool_crds::names::{ANNOTATION_IPPOOLS, ANNOTATION_ROUTES};
use spiderpool_crds::{IPPoolSpec, NicDetail, Route, SpiderEndpoint, SpiderIPPool};
use spiderpool_e2e::ranges::Range;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::socket::{IP, request};
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::{Annotations, from_pools, pod};

/// Annotation that gives a pod of the test cluster a second interface, `net1`.
const SECOND_NIC: &str = "e2e.spiderpool.io/second-nic";

/// ADDs that are sent while the second interface gets nothing.
const TRIES: usize = 200;

fn route(dst: &str, gw: String) -> Route {
    Route {
        dst: dst.to_owned(),
        gw,
        ..Route::default()
    }
}

/// Makes a pool with these addresses of the scene and a gateway, and waits until it serves; its name.
async fn serving(scene: &Scene, name: &str, version: u8, range: Range<'_>, routes: &[Route]) -> Result<String> {
    let more = IPPoolSpec {
        gateway: Some(scene.ip(version, "1")),
        routes: Some(routes.to_vec()).filter(|routes| !routes.is_empty()),
        ..IPPoolSpec::default()
    };
    scene.serving(name, version, range, more).await
}

/// Makes a pod with two interfaces and these items, on the first node.
async fn start(scene: &Scene, name: &str, items: &Value, routes: &Value) -> Result<()> {
    let annotations = Annotations::from([
        (ANNOTATION_IPPOOLS.to_owned(), items.to_string()),
        (ANNOTATION_ROUTES.to_owned(), routes.to_string()),
        (SECOND_NIC.to_owned(), "true".to_owned()),
    ]);
    let node = scene.cluster.first_node()?;
    scene.create(&pod(name, &node.name, &annotations)?).await.map(drop)
}

/// The interfaces of a running pod as its endpoint tells them, after a look at the pod itself.
async fn nics(scene: &Scene, name: &str) -> Result<Vec<NicDetail>> {
    scene.running(name, 1, LONG).await?;
    let endpoint = scene.api::<SpiderEndpoint>().get(name).await;
    let nics = endpoint.context("reading the endpoint")?.status.current.ips;
    for nic in nics.iter().filter(|nic| nic.container_id.is_some()) {
        let command = ["ip", "-o", "address", "show", "dev", &nic.interface];
        let shown = scene.exec(name, &command).await?;
        for address in [&nic.ipv4, &nic.ipv6].into_iter().flatten() {
            ensure!(
                shown.contains(&format!(" {address} ")),
                "{address} is not on {}: {shown}",
                nic.interface
            );
        }
    }
    Ok(nics)
}

/// Requires what an interface was given: from which pools, and whether the default route is left out.
fn given(nic: &NicDetail, name: &str, v4: Option<&String>, v6: Option<&String>, clean: bool) -> Result<()> {
    ensure!(
        nic.interface == name
            && nic.ipv4_pool.as_ref() == v4
            && nic.ipv6_pool.as_ref() == v6
            && nic.ipv4.is_some() == v4.is_some()
            && nic.ipv6.is_some() == v6.is_some()
            && nic.clean_gateway == Some(clean),
        "interface {name} was given {nic:?}"
    );
    Ok(())
}

/// The routes inside a pod that begin as told, of one IP version.
async fn routes(scene: &Scene, pod: &str, version: u8, beginning: &str) -> Result<Vec<String>> {
    let family = if version == 4 { "-4" } else { "-6" };
    let shown = scene.exec(pod, &["ip", family, "route", "show"]).await?;
    let lines = shown.lines().filter(|line| line.starts_with(beginning));
    Ok(lines
        .map(|line| line.split_whitespace().take(5).collect::<Vec<_>>().join(" "))
        .collect())
}

/// Waits until pools have so many addresses on record.
async fn used(scene: &Scene, pools: &[&String], count: usize) -> Result<()> {
    for name in pools {
        let what = format!("{count} addresses of pool {name} in use");
        let full = |pool: Option<&SpiderIPPool>| pool.is_some_and(|pool| recorded(pool) == Some(count)).then_some(());
        wait::object(&scene.pools(), name, &what, SOON, full).await?;
    }
    Ok(())
}

fn recorded(pool: &SpiderIPPool) -> Option<usize> {
    pool.records().ok().map(|records| records.len())
}

#[tokio::test]
async fn interfaces_are_served_by_their_items_and_routes_are_inside_the_pod() -> Result<()> {
    scene("nic_items", async |scene: &Scene| {
        let of_pool = [route("198.51.100.0/24", scene.ip(4, "7"))];
        let of_pool6 = [route("2001:db8:1::/48", scene.ip(6, "7"))];
        let a = serving(scene, "a", 4, ("10", "19"), &of_pool).await?;
        let b = serving(scene, "b", 4, ("20", "29"), &[]).await?;
        let c = serving(scene, "c", 4, ("30", "39"), &[]).await?;
        let a6 = serving(scene, "a6", 6, ("10", "1f"), &of_pool6).await?;
        let gateways = [scene.ip(4, "1"), scene.ip(6, "1")];
        let custom = json!([
            {"dst": "192.0.2.0/24", "gw": scene.ip(4, "8")},
            {"dst": "2001:db8:2::/48", "gw": scene.ip(6, "8")},
            {"dst": "203.0.113.0/24", "gw": "192.0.2.1"},
        ]);
        // Both IP versions; two interfaces out of one pool; named, and not in the order of the interfaces.
        let named = json!([
            {"interface": "net1", "ipv4": [a], "cleangateway": true},
            {"interface": "eth0", "ipv4": [a], "ipv6": [a6]},
        ]);
        // IPv6 only on the first interface, IPv4 only on the second; not named.
        let unnamed = json!([{"ipv6": [a6]}, {"ipv4": [b]}]);
        // IPv4 only, and one item more than there are interfaces.
        let more = json!([{"ipv4": [b], "cleangateway": true}, {"ipv4": [b]}, {"ipv4": [c]}]);
        start(scene, "named", &named, &custom).await?;
        start(scene, "unnamed", &unnamed, &json!([])).await?;
        start(scene, "more", &more, &json!([])).await?;

        let found = nics(scene, "named").await?;
        let [net1, eth0] = found.as_slice() else {
            anyhow::bail!("pod named has the interfaces {found:?}");
        };
        given(net1, "net1", Some(&a), None, true)?;
        given(eth0, "eth0", Some(&a), Some(&a6), false)?;
        ensure!(net1.ipv4 != eth0.ipv4, "two interfaces have one address: {found:?}");
        let default = |nic: &str, gateway: &str| vec![format!("default via {gateway} dev {nic}")];
        for (version, gateway) in [(4, &gateways[0]), (6, &gateways[1])] {
            let shown = routes(scene, "named", version, "default").await?;
            ensure!(shown == default("eth0", gateway), "the default routes are {shown:?}");
        }
        for (version, dst, gateway) in [
            (4, "198.51.100.0/24", scene.ip(4, "7")),
            (6, "2001:db8:1::/48", scene.ip(6, "7")),
            (6, "2001:db8:2::/48", scene.ip(6, "8")),
        ] {
            let shown = routes(scene, "named", version, dst).await?;
            let expected = format!("{dst} via {gateway} dev ");
            ensure!(
                !shown.is_empty() && shown.iter().all(|line| line.starts_with(&expected)),
                "the routes to {dst} are {shown:?}"
            );
        }
        // The first item whose subnet has the gateway.
        let shown = routes(scene, "named", 4, "192.0.2.0/24").await?;
        let expected = [format!("192.0.2.0/24 via {} dev net1", scene.ip(4, "8"))];
        ensure!(shown == expected, "the route of the annotation is {shown:?}");
        let shown = routes(scene, "named", 4, "203.0.113.0/24").await?;
        ensure!(shown.is_empty(), "a route whose gateway is nowhere is {shown:?}");

        let found = nics(scene, "unnamed").await?;
        let [eth0, net1] = found.as_slice() else {
            anyhow::bail!("pod unnamed has the interfaces {found:?}");
        };
        given(eth0, "eth0", None, Some(&a6), false)?;
        given(net1, "net1", Some(&b), None, false)?;
        for (version, nic, gateway) in [(6, "eth0", &gateways[1]), (4, "net1", &gateways[0])] {
            let shown = routes(scene, "unnamed", version, "default").await?;
            ensure!(shown == default(nic, gateway), "the default routes are {shown:?}");
        }

        let found = nics(scene, "more").await?;
        let [eth0, net1, net2] = found.as_slice() else {
            anyhow::bail!("pod more has the interfaces {found:?}");
        };
        given(eth0, "eth0", Some(&b), None, true)?;
        given(net1, "net1", Some(&b), None, false)?;
        given(net2, "net2", Some(&c), None, false)?;
        ensure!(net2.container_id.is_none(), "interface net2 was set up: {net2:?}");
        let shown = routes(scene, "more", 4, "default").await?;
        ensure!(
            shown == default("net1", &gateways[0]),
            "the default routes are {shown:?}"
        );
        used(scene, &[&c], 1).await?;
        for name in ["named", "unnamed", "more"] {
            scene.delete::<Pod>(name).await?;
        }
        used(scene, &[&a, &b, &c, &a6], 0).await?;
        let told = ["203.0.113.0/24 via 192.0.2.1", "eth0"];
        scene
            .event("Pod", "named", "RouteUnreachable", &told, SOON)
            .await
            .map(drop)
    })
    .await
}

/// Counts the addresses of a pool that were ever in use at the same time.
async fn most(scene: &Scene, pool: &str, most: Arc<AtomicUsize>) -> Result<()> {
    let config = watcher::Config::default().fields(&format!("metadata.name={pool}"));
    let look = |pools: &wait::Objects<SpiderIPPool>| {
        let now = pools.values().filter_map(recorded).max().unwrap_or_default();
        most.fetch_max(now, Ordering::SeqCst);
        Ok(None::<()>)
    };
    wait::objects(&scene.pools(), config, "the states of a pool", LONG, look).await
}

#[tokio::test]
async fn a_second_interface_without_addresses_uses_up_none_of_the_first() -> Result<()> {
    scene("second_pool_empty", async |scene: &Scene| {
        let first = serving(scene, "first", 4, ("10", "59"), &[]).await?;
        let first6 = serving(scene, "first6", 6, ("10", "59"), &[]).await?;
        let empty = serving(scene, "empty", 4, ("60", "60"), &[]).await?;
        let node = scene.cluster.first_node()?;
        let holder = pod("holder", &node.name, &from_pools(&[&empty], &[]))?;
        scene.create(&holder).await?;
        scene.running("holder", 1, LONG).await?;
        let seen = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let tries = async {
            let items = json!([{"ipv4": [first], "ipv6": [first6]}, {"ipv4": [empty]}]);
            start(scene, "wants", &items, &json!([])).await?;
            let found = scene.api::<Pod>().get("wants").await.context("reading the pod")?;
            for number in 0..TRIES {
                let body = json!({
                    "containerID": format!("e2e-{number}"), "ifName": "eth0", "netNamespace": "/run/netns/none",
                    "podNamespace": scene.namespace, "podName": "wants", "podUID": found.uid(),
                });
                let answer = request(node, "POST", IP, body.to_string().as_bytes()).await?;
                let reason = answer.reason()?;
                let told = ["NIC net1 IPv4", "all IP addresses used out", &empty];
                ensure!(
                    answer.status == 500 && told.iter().all(|text| reason.contains(text)),
                    "ADD {number} is answered by {} {reason}",
                    answer.status
                );
            }
            // The kubelet tries too.
            used(scene, &[&first, &first6], 0).await
        };
        tokio::select! {
            outcome = tries => outcome?,
            ended = most(scene, &first, seen[0].clone()) => ended?,
            ended = most(scene, &first6, seen[1].clone()) => ended?,
        }
        let seen = seen.map(|seen| seen.load(Ordering::SeqCst));
        ensure!(
            seen.iter().all(|most| *most <= 1),
            "so many addresses of the first interface's pools were in use at once: {seen:?}"
        );
        scene.delete::<Pod>("wants").await?;
        scene.delete::<Pod>("holder").await?;
        used(scene, &[&first, &first6, &empty], 0).await
    })
    .await
}
