//! Pools that are for some pods only: those get addresses of them first, and others are told what keeps them out.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::ResourceExt;
use spiderpool_crds::IPPoolSpec;
use spiderpool_crds::names::ANNOTATION_MULTUS_DEFAULT_NETWORK;
use spiderpool_e2e::golden::{Golden, Values};
use spiderpool_e2e::ranges;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::told::{self, FAILED};
use spiderpool_e2e::wait::LONG;
use spiderpool_e2e::workload::{deployment, from_pools, from_subnets, pod};

const GOLDEN: &str = include_str!("golden/affinities.txt");

/// Label of every node, with its name.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Label of every namespace, with its name.
const NAMESPACE: &str = "kubernetes.io/metadata.name";

fn label(key: &str, value: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some(BTreeMap::from([(key.to_owned(), value.to_owned())])),
        ..LabelSelector::default()
    }
}

fn term(key: &str, operator: &str, values: &[&str]) -> LabelSelector {
    let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
    LabelSelector {
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values: (!values.is_empty()).then_some(values),
        }]),
        ..LabelSelector::default()
    }
}

fn list(name: &str) -> Option<Vec<String>> {
    Some(vec![name.to_owned()])
}

/// Makes the pools of the scene, of each IP version one for anybody and some for few, and gives the names of those for few.
async fn pools(scene: &Scene, node: &str) -> Result<[String; 8]> {
    let any = IPPoolSpec::default;
    let namespace = scene.namespace.as_str();
    let few = [
        (
            4,
            "node",
            IPPoolSpec {
                node_name: list(node),
                ..any()
            },
        ),
        (
            6,
            "node-label",
            IPPoolSpec {
                node_affinity: Some(label(HOSTNAME, node)),
                ..any()
            },
        ),
        (
            4,
            "namespace",
            IPPoolSpec {
                namespace_name: list(namespace),
                ..any()
            },
        ),
        (
            6,
            "namespace-label",
            IPPoolSpec {
                namespace_affinity: Some(term(NAMESPACE, "In", &[namespace])),
                ..any()
            },
        ),
        (
            4,
            "pod-label",
            IPPoolSpec {
                pod_affinity: Some(label("tier", "gold")),
                ..any()
            },
        ),
        (
            6,
            "network",
            IPPoolSpec {
                multus_name: list("networks/blue"),
                ..any()
            },
        ),
        // Two that nobody here may use.
        (
            4,
            "foreign",
            IPPoolSpec {
                namespace_name: list("elsewhere"),
                ..any()
            },
        ),
        (
            6,
            "foreign-label",
            IPPoolSpec {
                namespace_affinity: Some(term("team", "Exists", &[])),
                ..any()
            },
        ),
    ];
    for version in [4, 6] {
        let name = format!("any{version}");
        scene.pool_of_range(&name, version, ("10", "19"), any()).await?;
    }
    let mut names = Vec::new();
    for (place, (version, name, spec)) in few.into_iter().enumerate() {
        let ips = Some(vec![scene.ip(version, &(20 + place).to_string())]);
        let made = scene.create_pool(name, version, IPPoolSpec { ips, ..spec }).await?;
        names.push(made.name_any());
    }
    // A pool that nobody has looked at yet gives way to one that serves.
    for name in names.iter().chain(&[scene.own("any4"), scene.own("any6")]) {
        ranges::serves(&scene.pools(), name).await?;
    }
    names.try_into().ok().context("eight names")
}

#[tokio::test]
async fn pools_for_few_serve_those_first_and_refuse_others() -> Result<()> {
    scene("affinities", async |scene: &Scene| {
        let [first, second] = scene.cluster.nodes.as_slice() else {
            anyhow::bail!("the test cluster has not two nodes");
        };
        let [
            node,
            node_label,
            namespace,
            namespace_label,
            pod_label,
            network,
            foreign,
            foreign_label,
        ] = pools(scene, &first.name).await?;
        let (any4, any6) = (scene.own("any4"), scene.own("any6"));
        // Each pod names the pool for anybody first.
        let wished = [
            ("by-node", &node, &node_label),
            ("by-namespace", &namespace, &namespace_label),
            ("by-label", &pod_label, &network),
        ];
        for (name, v4, v6) in wished {
            let wish = from_pools(&[&any4, v4], &[&any6, v6]);
            let mut pod: Pod = pod(name, &first.name, &wish)?;
            if name == "by-label" {
                pod.labels_mut().insert("tier".to_owned(), "gold".to_owned());
                let default = (ANNOTATION_MULTUS_DEFAULT_NETWORK.to_owned(), "networks/blue".to_owned());
                pod.annotations_mut().extend([default]);
            }
            scene.create(&pod).await?;
        }
        // On the other node, without label and network: only the pool for anybody is left, and where there is none, nothing.
        let wish = from_pools(&[&node, &any4], &[]);
        scene.create(&pod("by-none", &second.name, &wish)?).await?;
        let wish = from_pools(&[&node, &foreign, &pod_label], &[]);
        scene.create(&pod("refused-v4", &second.name, &wish)?).await?;
        let wish = from_pools(&[], &[&node_label, &foreign_label, &network]);
        scene.create(&pod("refused-v6", &second.name, &wish)?).await?;

        for (name, v4, v6) in wished {
            scene.running(name, 1, LONG).await?;
            scene.given_by(v4, name, "eth0", 4).await?;
            scene.given_by(v6, name, "eth0", 6).await?;
        }
        scene.running("by-none", 1, LONG).await?;
        scene.given_by(&any4, "by-none", "eth0", 4).await?;

        let refused = ["refused-v4", "refused-v6"];
        let arrived = scene.told(FAILED, &refused, LONG).await?;
        let described = scene.described().await?;
        let values = Values::of(scene).with("node", &first.name).with("other", &second.name);
        for name in refused {
            Golden::parse(GOLDEN).check(name, &values, described.of(name, FAILED)?)?;
            let message = &arrived.get(name).context("no Event")?.message;
            told::same(&scene.explained(second, name).await?, message)?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_automatic_pool_is_for_its_application_only() -> Result<()> {
    scene("foreign_app", async |scene: &Scene| {
        let node = scene.cluster.first_node()?;
        let wish = from_subnets(&[&scene.v4], &[], "+2");
        scene.create(&deployment("shop", 1, &wish)?).await?;
        scene.running("shop", 1, LONG).await?;
        let automatic = scene.pool_of("shop", 4, "to be there", |_| true).await?.name_any();
        // It has free addresses, and they are not for others: neither a pod alone nor another application that names it.
        let wish = from_pools(&[&automatic], &[]);
        scene.create(&pod("bank", &node.name, &wish)?).await?;
        let arrived = scene.told(FAILED, &["bank"], LONG).await?;
        let values = Values::of(scene).with("pool", &automatic);
        Golden::parse(GOLDEN).check("bank", &values, scene.described().await?.of("bank", FAILED)?)?;
        let message = &arrived.get("bank").context("no Event")?.message;
        told::same(&scene.explained(node, "bank").await?, message)
    })
    .await
}
