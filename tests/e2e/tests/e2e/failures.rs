//! The ways in which a pod gets no address, and what its user reads about it: golden texts, in time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};
use spiderpool_crds::IPPoolSpec;
use spiderpool_crds::names::{ANNOTATION_IP, ANNOTATION_IPPOOL, ANNOTATION_IPPOOLS};
use spiderpool_e2e::answers::{FailedAdd, failed_adds};
use spiderpool_e2e::figures::show;
use spiderpool_e2e::golden::{Golden, Values};
use spiderpool_e2e::ranges;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::told::{self, Arrival, FAILED, WAITING};
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::{Annotations, deployment, from_pools, from_subnets, pod};

const GOLDEN: &str = include_str!("golden/failures.txt");

/// How long after its request the user of a pod can read why. Sixteen pods ask at once here, on two cores that run a whole cluster and
/// five other tests beside: what an agent needs alone takes as many times longer. So this is required of half of the pods.
const WITHIN: Duration = Duration::from_secs(2);

/// The same of the last one.
const LAST_WITHIN: Duration = Duration::from_secs(6);

/// How long after its request the agent has the Event ready to be written, of every pod: all that is the agent's own. It waits at most
/// 1.5 seconds for a pool that the operator has not looked at; reading the pod and explaining come on top.
const OWN_WITHIN: Duration = Duration::from_secs(4);

/// Makes the pools that serve nobody, each for another reason.
async fn useless_pools(scene: &Scene, node: &str) -> Result<()> {
    scene.create_pool("full", 4, scene.range(4, "20", "20")).await?;
    let going = scene.create_pool("going", 6, scene.range(6, "20", "2f")).await?;
    let off = IPPoolSpec {
        disable: Some(true),
        ..scene.range(4, "22", "23")
    };
    scene.create_pool("off", 4, off).await?;
    scene.create_pool("six", 6, scene.range(6, "30", "3f")).await?;
    let excluded = IPPoolSpec {
        exclude_ips: Some(vec![scene.ip(4, "24")]),
        ..scene.range(4, "24", "24")
    };
    scene.create_pool("excluded", 4, excluded).await?;
    scene.create_pool("reserved", 4, scene.range(4, "26", "27")).await?;
    scene
        .reserve("reserved", vec![scene.ip(4, "26"), scene.ip(4, "27")])
        .await?;
    let foreign = IPPoolSpec {
        node_name: Some(vec!["elsewhere".to_owned()]),
        ..scene.range(4, "28", "28")
    };
    scene.create_pool("foreign", 4, foreign).await?;
    scene.create_pool("sound", 4, scene.range(4, "30", "35")).await?;
    // The older one of two with the same addresses serves.
    ranges::serves(&scene.pools(), &scene.own("sound")).await?;
    let overlap = scene.range(4, "34", "38");
    let overlap = scene.create_pool_unjudged("overlap", 4, overlap).await?;
    let overlap = overlap.name_any();
    wait::object(&scene.pools(), &overlap, "the pool to be refused", SOON, |pool| {
        pool?.refusal().map(drop)
    })
    .await?;
    // Somebody has the only address of one, and one of the pool that is being deleted.
    let wish = from_pools(&[&scene.own("full")], &[&going.name_any()]);
    scene.create(&pod("holder", node, &wish)?).await?;
    scene.running("holder", 1, LONG).await?;
    scene
        .pools()
        .delete(&going.name_any(), &DeleteParams::default())
        .await
        .context("deleting a pool in use")?;
    Ok(())
}

/// The pods that get no address at once, by name.
fn refused(scene: &Scene) -> BTreeMap<&'static str, Annotations> {
    let own = |name: &str| scene.own(name);
    let v4 = |name: &str| from_pools(&[&own(name)], &[]);
    let annotated = |key: &str, value: String| Annotations::from([(key.to_owned(), value)]);
    let mut inexact = v4("sound");
    inexact.insert(ANNOTATION_IP.to_owned(), json!({"eth0": ["10.6.0"]}).to_string());
    let several = ["off", "foreign", "full", "missing"].map(own);
    let several: Vec<&str> = several.iter().map(String::as_str).collect();
    let net1 = json!([{"interface": "net1", "ipv4": [own("sound")]}]);
    BTreeMap::from([
        ("missing", v4("missing")),
        ("unmatched", v4("no-[a-c]*")),
        ("exhausted", v4("full")),
        ("disabled", v4("off")),
        ("terminating", from_pools(&[], &[&own("going")])),
        ("other-version", v4("six")),
        ("reserved", v4("reserved")),
        ("excluded", v4("excluded")),
        ("overlap", v4("overlap")),
        ("other-node", v4("foreign")),
        (
            "not-json",
            annotated(ANNOTATION_IPPOOL, r#"{"ipv4": ["rack7""#.to_owned()),
        ),
        ("no-address", inexact),
        ("no-item", annotated(ANNOTATION_IPPOOLS, net1.to_string())),
        ("several", from_pools(&several, &[&own("six")])),
        ("both", from_pools(&[&own("full")], &[&own("going")])),
        ("bare", from_subnets(&[&scene.v4], &[], "1")),
    ])
}

/// The first failed ADD of each pod, by the pod's name.
async fn received(scene: &Scene, since: Timestamp, pods: &[&str]) -> Result<BTreeMap<String, Timestamp>> {
    let prefix = format!("{}/", scene.namespace);
    let what = format!("the agents to log a failed ADD of each of {pods:?}");
    wait::until(&what, SOON, async || {
        let mut first: BTreeMap<String, Timestamp> = BTreeMap::new();
        for FailedAdd { pod, received } in failed_adds(&scene.cluster, since).await? {
            if let Some(name) = pod.strip_prefix(&prefix) {
                let known = first.entry(name.to_owned()).or_insert(received);
                *known = received.min(*known);
            }
        }
        Ok(pods.iter().all(|pod| first.contains_key(*pod)).then_some(first))
    })
    .await
}

/// Checks that users are told in time, and shows how long it took.
fn in_time(arrived: &BTreeMap<String, Arrival>, received: &BTreeMap<String, Timestamp>) -> Result<()> {
    let mut took: Vec<(SignedDuration, &str)> = Vec::new();
    let mut own: Vec<(SignedDuration, &str)> = Vec::new();
    for (pod, arrival) in arrived {
        let received = received.get(pod).with_context(|| format!("no request of pod {pod}"))?;
        took.push((arrival.seen.duration_since(*received), pod));
        own.push((arrival.told.duration_since(*received), pod));
    }
    took.sort_unstable();
    own.sort_unstable();
    let (slowest, _) = own.last().context("nobody was told anything")?;
    let (last, _) = took.last().context("nobody was told anything")?;
    let middle = took.get(took.len() / 2).map(|(middle, _)| *middle).unwrap_or_default();
    let ms = |took: SignedDuration| took.as_millis();
    show(
        "why a pod has no address can be read after",
        format!(
            "{} ms, at most {} ms; the agent has it after at most {} ms",
            ms(middle),
            ms(*last),
            ms(*slowest)
        ),
    )?;
    ensure!(
        *slowest <= SignedDuration::try_from(OWN_WITHIN)?,
        "from a request to its Event an agent took longer than {OWN_WITHIN:?}: {own:#?}"
    );
    ensure!(
        middle <= SignedDuration::try_from(WITHIN)? && *last <= SignedDuration::try_from(LAST_WITHIN)?,
        "from a request to an Event that can be read it took longer than {WITHIN:?} of half of the pods, or than \
         {LAST_WITHIN:?}: {took:#?}"
    );
    Ok(())
}

/// A Deployment whose subnet has no room: its pod waits, and is told so before it fails.
async fn without_room(scene: &Scene, subnet: &str) -> Result<String> {
    let wish = from_subnets(&[subnet], &[], "3");
    scene.create(&deployment("roomless", 1, &wish)?).await?;
    let labels = ListParams::default().labels("app=roomless");
    wait::until("the pod of the Deployment", SOON, async || {
        let pods = scene.api::<Pod>().list(&labels).await?;
        Ok(pods.items.first().map(ResourceExt::name_any))
    })
    .await
}

#[tokio::test]
async fn a_pod_without_address_reads_why() -> Result<()> {
    scene("failures", async |scene: &Scene| {
        let node = scene.cluster.first_node()?;
        let subnet = scene.further_subnet("narrow", 1, 2).await?;
        useless_pools(scene, &node.name).await?;
        let since = Timestamp::now();
        let refused = refused(scene);
        let names: Vec<&str> = refused.keys().copied().collect();
        let make = async {
            for (name, wish) in &refused {
                scene.create(&pod(name, &node.name, wish)?).await?;
            }
            without_room(scene, &subnet).await
        };
        // The watches run from before the pods are there.
        let failed = scene.told(FAILED, &names, LONG);
        let (roomless, failed) = futures::future::join(make, failed).await;
        let (roomless, failed) = (roomless?, failed?);
        let waiting = scene.told(WAITING, &[&roomless], LONG).await?;
        let described = scene.described().await?;
        let values = Values::of(scene).with("node", &node.name).with("subnet", &subnet);
        let golden = Golden::parse(GOLDEN);
        let mut wrong = Vec::new();
        for name in &names {
            let check = async {
                golden.check(name, &values, described.of(name, FAILED)?)?;
                let message = &failed.get(*name).context("no Event")?.message;
                told::same(&scene.explained(node, name).await?, message)
            };
            wrong.extend(check.await.err().map(|error| format!("{error:#}")));
        }
        let values = values.with("pod", &roomless);
        let told = described.of(&roomless, WAITING)?;
        wrong.extend(
            golden
                .check("roomless-waits", &values, told)
                .err()
                .map(|error| format!("{error:#}")),
        );
        let explained = scene.explained(node, &roomless).await?;
        if explained["level"] != "Subnets" || explained["families"][0]["wouldGet"] != Value::Null {
            wrong.push(format!("of {roomless}, the agent explains {explained:#}"));
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
        // The wait of the last one ends with a failure, and only then its request is in the log.
        let ended = scene.told(FAILED, &[&roomless], LONG).await?;
        golden.check("roomless", &values, scene.described().await?.of(&roomless, FAILED)?)?;
        ensure!(ended.contains_key(&roomless), "no Event of {roomless}");
        let mut all = names.clone();
        all.push(&roomless);
        let received = received(scene, since, &all).await?;
        in_time(&failed.into_iter().chain(waiting).collect(), &received)
    })
    .await
}
