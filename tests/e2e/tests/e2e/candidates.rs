//! Which pools are asked for a pod's addresses, on every level, and which of them gives one.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use spiderpool_crds::IPPoolSpec;
use spiderpool_crds::names::{
    ANNOTATION_DEFAULT_IPV4_IPPOOL, ANNOTATION_IP_NUMBER, ANNOTATION_IPPOOLS, ANNOTATION_SUBNET, ANNOTATION_SUBNETS,
};
use spiderpool_e2e::golden::{Golden, Values};
use spiderpool_e2e::node::Node;
use spiderpool_e2e::pod::Running;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::told::{self, FAILED};
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::{Annotations, deployment, from_pools, pod};

const GOLDEN: &str = include_str!("golden/candidates.txt");

/// Asks the test cluster's network for a second interface, and for these members of its `ipam`.
const SECOND_NIC: &str = "e2e.spiderpool.io/second-nic";
const SECOND_NIC_IPAM: &str = "e2e.spiderpool.io/second-nic-ipam";

/// Makes an IPv4 pool that serves, so that it comes in its turn; its whole name.
async fn pool(scene: &Scene, name: &str, first: &str, last: &str) -> Result<String> {
    scene.serving(name, 4, (first, last), IPPoolSpec::default()).await
}

async fn only(scene: &Scene, app: &str) -> Result<Running> {
    scene.running(app, 1, LONG).await?.pop().context("no pod runs")
}

/// A pod to which nothing is said gets no address while no pool is a default one of its namespace.
async fn without_any_level(scene: &Scene, node: &Node) -> Result<()> {
    scene.create(&pod("unsaid", &node.name, &Annotations::new())?).await?;
    let arrived = scene.told(FAILED, &["unsaid"], LONG).await?;
    let message = &arrived.get("unsaid").context("no Event")?.message;
    if message.contains("asked for by `spec.default: true`") {
        // Default pools of other scenes, which are for their namespaces only. They come and go, so the Event and the explanation need
        // not name the same ones; neither may say anything else.
        let explained = told::foretold(&scene.explained(node, "unsaid").await?)?;
        for text in [message, &explained] {
            ensure!(
                only_foreign_defaults(scene, text),
                "a pod that may use none of the default pools is told {text}"
            );
        }
    } else {
        let described = scene.described().await?;
        Golden::parse(GOLDEN).check("unsaid", &Values::of(scene), described.of("unsaid", FAILED)?)?;
        told::same(&scene.explained(node, "unsaid").await?, message)?;
    }
    scene.delete::<Pod>("unsaid").await
}

/// Whether a text says of a pod only that it may not use any of the default pools, and names none of the scene.
fn only_foreign_defaults(scene: &Scene, text: &str) -> bool {
    let headline = format!(
        "spiderpool IP allocation error: no IPPool available for Pod {}/unsaid NIC eth0 IPv",
        scene.namespace
    );
    let mut lines = text.lines();
    let begins = lines.next().is_some_and(|line| line.starts_with(&headline));
    let (pools, other): (Vec<&str>, Vec<&str>) =
        lines.partition(|line| line.starts_with("AffinityRejected namespaceName: "));
    let may_be = |line: &&str| {
        *line == "asked for by `spec.default: true` of IPPools" || line.ends_with("has no address either")
    };
    begins && !pools.is_empty() && !text.contains(&format!("IPPool {}", scene.own(""))) && other.iter().all(may_be)
}

/// Asks for a second interface, whose network names a pool.
fn second_nic(pool: &str) -> Annotations {
    Annotations::from([
        (SECOND_NIC.to_owned(), "true".to_owned()),
        (
            SECOND_NIC_IPAM.to_owned(),
            json!({"default_ipv4_ippool": [pool]}).to_string(),
        ),
    ])
}

/// A pod to which nothing is said gets addresses of default pools; where its network names pools, of those.
async fn of_network_or_default(scene: &Scene, node: &Node, network: &str) -> Result<()> {
    for version in [4, 6] {
        let spec = IPPoolSpec {
            default: Some(true),
            // The default of all namespaces would be that of other tests too.
            namespace_name: Some(vec![scene.namespace.clone()]),
            ..IPPoolSpec::default()
        };
        let name = format!("default{version}");
        scene.serving(&name, version, ("70", "79"), spec).await?;
    }
    scene.create(&pod("plain", &node.name, &second_nic(network))?).await?;
    only(scene, "plain").await?;
    for version in [4, 6] {
        let pool = scene.own(&format!("default{version}"));
        scene.given_by(&pool, "plain", "eth0", version).await?;
    }
    scene.given_by(network, "plain", "net1", 4).await?;
    let more = scene.given("plain", "net1", 6).await?;
    ensure!(
        more.is_none(),
        "the network names IPv4 pools only, and net1 has {more:?}"
    );
    Ok(())
}

/// Names default pools of the namespace, and waits until the agent of a node goes by them.
async fn annotate_namespace(scene: &Scene, node: &Node, pool: &str) -> Result<()> {
    let change = json!({"metadata": {"annotations": {ANNOTATION_DEFAULT_IPV4_IPPOOL: json!([pool]).to_string()}}});
    let namespaces: Api<Namespace> = Api::all(scene.cluster.client.clone());
    namespaces
        .patch(&scene.namespace, &PatchParams::default(), &Patch::Merge(&change))
        .await
        .context("naming default pools of the namespace")?;
    wait::until("the agent to see the namespace's default pools", SOON, async || {
        let explained = scene.explained(node, "plain").await?;
        Ok((explained["level"] == "NamespaceDefault").then_some(()))
    })
    .await
}

#[tokio::test]
async fn the_strongest_level_decides() -> Result<()> {
    scene("levels", async |scene: &Scene| {
        let node = scene.cluster.first_node()?;
        let of_ippools = pool(scene, "ippools", "30", "39").await?;
        let of_ippool = pool(scene, "ippool", "40", "49").await?;
        let of_namespace = pool(scene, "namespace", "50", "59").await?;
        let of_network = pool(scene, "network", "60", "69").await?;
        let further = scene.further_subnet("further", 1, 10).await?;
        without_any_level(scene, node).await?;
        // Bottom up: each level is there when the next stronger one joins it.
        of_network_or_default(scene, node, &of_network).await?;
        annotate_namespace(scene, node, &of_namespace).await?;
        let wish = second_nic(&of_network);
        scene.create(&pod("by-namespace", &node.name, &wish)?).await?;
        let mut wish = from_pools(&[&of_ippool], &[]);
        scene.create(&pod("by-ippool", &node.name, &wish)?).await?;
        let list = json!([{"interface": "eth0", "ipv4": [&of_ippools]}]);
        wish.insert(ANNOTATION_IPPOOLS.to_owned(), list.to_string());
        scene.create(&pod("by-ippools", &node.name, &wish)?).await?;
        wish.insert(
            ANNOTATION_SUBNET.to_owned(),
            json!({"interface": "eth0", "ipv4": [&further]}).to_string(),
        );
        wish.insert(ANNOTATION_IP_NUMBER.to_owned(), "2".to_owned());
        scene.create(&deployment("by-subnet", 1, &wish)?).await?;
        let list = json!([{"interface": "eth0", "ipv4": [&scene.v4]}]);
        wish.insert(ANNOTATION_SUBNETS.to_owned(), list.to_string());
        scene.create(&deployment("by-subnets", 1, &wish)?).await?;
        for (name, pool) in [
            ("by-namespace", &of_namespace),
            ("by-ippool", &of_ippool),
            ("by-ippools", &of_ippools),
        ] {
            only(scene, name).await?;
            scene.given_by(pool, name, "eth0", 4).await?;
        }
        scene.given_by(&of_namespace, "by-namespace", "net1", 4).await?;
        for (name, subnet) in [("by-subnet", &further), ("by-subnets", &scene.v4)] {
            let running = only(scene, name).await?;
            let pool = scene.pool_of(name, 4, "to be there", |_| true).await?;
            ensure!(
                pool.owner_subnet() == Some(subnet.as_str()),
                "the pool of {name} is of subnet {:?} and not of {subnet}",
                pool.owner_subnet()
            );
            scene.given_by(&pool.name_any(), &running.name, "eth0", 4).await?;
        }
        Ok(())
    })
    .await
}

/// The addresses that a pod's interface has, as its kernel tells: not those of the link, nor the loopback's.
async fn inside(scene: &Scene, pod: &Running) -> Result<Vec<String>> {
    let listed = scene
        .exec(
            &pod.name,
            &["ip", "-o", "addr", "show", "dev", "eth0", "scope", "global"],
        )
        .await?;
    let addresses = listed.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| !word.starts_with("inet"));
        words.nth(1)?.split('/').next().map(str::to_owned)
    });
    Ok(addresses.collect())
}

#[tokio::test]
async fn pools_are_tried_in_turn_and_give_what_may_be_given() -> Result<()> {
    scene("in_turn", async |scene: &Scene| {
        let node = scene.cluster.first_node()?;
        let small = pool(scene, "small", "20", "20").await?;
        let spare = pool(scene, "spare-b", "40", "49").await?;
        // Of four addresses one is taken out and two are reserved.
        let kept = IPPoolSpec {
            exclude_ips: Some(vec![scene.ip(4, "61")]),
            ..IPPoolSpec::default()
        };
        let kept = scene.serving("kept", 4, ("60", "63"), kept).await?;
        let reserved = [scene.ip(4, "60"), scene.ip(4, "62")];
        scene.reserve("reserved", reserved.to_vec()).await?;
        let v6 = scene.serving("six", 6, ("20", "2f"), IPPoolSpec::default()).await?;

        let pattern = format!("{}*", scene.own("sp"));
        let wish = from_pools(&[&small, &pattern], &[]);
        scene.create(&pod("first", &node.name, &wish)?).await?;
        scene
            .create(&pod("only-kept", &node.name, &from_pools(&[&kept], &[]))?)
            .await?;
        scene
            .create(&pod("only-v6", &node.name, &from_pools(&[], &[&v6]))?)
            .await?;
        let first = only(scene, "first").await?;
        scene.given_by(&small, "first", "eth0", 4).await?;
        let of_kept = only(scene, "only-kept").await?;
        let only_v6 = only(scene, "only-v6").await?;
        // The first pool is full, and so is the one with reserved addresses.
        scene.create(&pod("second", &node.name, &wish)?).await?;
        scene
            .create(&pod("too-many", &node.name, &from_pools(&[&kept], &[]))?)
            .await?;
        let pattern = format!("{}?ix", scene.own(""));
        let wish = from_pools(&[&small, &spare], &[&pattern]);
        scene.create(&pod("dual", &node.name, &wish)?).await?;
        let second = only(scene, "second").await?;
        scene.given_by(&spare, "second", "eth0", 4).await?;
        let dual = only(scene, "dual").await?;
        scene.given_by(&spare, "dual", "eth0", 4).await?;
        scene.given_by(&v6, "dual", "eth0", 6).await?;
        scene.distinct_addresses(std::slice::from_ref(&dual), 2).await?;
        let single = [first, second, of_kept.clone(), only_v6];
        scene.distinct_addresses(&single, 1).await?;
        for pod in single.iter().chain([&dual]) {
            let mut told: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
            let mut own = inside(scene, pod).await?;
            told.sort_unstable();
            own.sort_unstable();
            ensure!(own == told, "pod {} has {own:?} and is said to have {told:?}", pod.name);
        }
        let free = scene.ip(4, "63");
        ensure!(
            of_kept.addresses == [free.parse::<std::net::IpAddr>()?],
            "{:?} is not the only address that was left, {free}",
            of_kept.addresses
        );
        let arrived = scene.told(FAILED, &["too-many"], LONG).await?;
        let described = scene.described().await?;
        Golden::parse(GOLDEN).check("too-many", &Values::of(scene), described.of("too-many", FAILED)?)?;
        let message = &arrived.get("too-many").context("no Event")?.message;
        told::same(&scene.explained(node, "too-many").await?, message)
    })
    .await
}
