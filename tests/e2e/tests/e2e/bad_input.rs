//! What users get wrong is said where they look, harms nobody else, and needs no restart once it is repaired.

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use spiderpool_crds::SubnetSpec;
use spiderpool_crds::names::{ANNOTATION_IP_NUMBER, ANNOTATION_SUBNET};
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::wait::{LONG, SOON};
use spiderpool_e2e::workload::{Annotations, deployment, from_subnets};

/// What is wrong with a Deployment's request, and what is said about it.
struct Trouble<'a> {
    wish: Annotations,
    /// Reason of the Event on the Deployment.
    reason: &'a str,
    /// What that Event says.
    told: &'a [&'a str],
    /// What the Event on the pod says.
    told_on_pod: &'a [&'a str],
}

/// A Deployment in trouble is told so, another one works meanwhile, and after the repair both do.
async fn told_and_repaired(
    scene: &Scene,
    trouble: Trouble<'_>,
    repair: impl AsyncFnOnce(&Scene) -> Result<()>,
) -> Result<()> {
    scene.create(&deployment("broken", 1, &trouble.wish)?).await?;
    scene
        .event("Deployment", "broken", trouble.reason, trouble.told, SOON)
        .await?;
    scene.sandbox_failure("broken", trouble.told_on_pod, LONG).await?;
    let wish = from_subnets(&[&scene.v4], &[&scene.v6], "+1");
    scene.create(&deployment("sound", 2, &wish)?).await?;
    let pods = scene.running("sound", 2, LONG).await?;
    scene.distinct_addresses(&pods, 2).await?;
    repair(scene).await?;
    let pods = scene.running("broken", 1, LONG).await?;
    scene.distinct_addresses(&pods, 2).await.map(drop)
}

/// Repairs the annotations of the Deployment.
async fn annotate(scene: &Scene, annotations: &Value) -> Result<()> {
    scene.annotate_pods("broken", annotations).await
}

#[tokio::test]
async fn an_annotation_that_does_not_parse() -> Result<()> {
    scene("does_not_parse", async |scene: &Scene| {
        let mut wish = from_subnets(&[&scene.v4], &[&scene.v6], "+1");
        let good = wish.insert(ANNOTATION_SUBNET.to_owned(), r#"{"ipv4": ["#.to_owned());
        let trouble = Trouble {
            wish,
            reason: "AnnotationInvalid",
            told: &[ANNOTATION_SUBNET, "not JSON", "write for example"],
            told_on_pod: &[ANNOTATION_SUBNET, "not JSON"],
        };
        told_and_repaired(scene, trouble, async |scene: &Scene| {
            annotate(scene, &json!({ANNOTATION_SUBNET: good})).await
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_number_that_does_not_parse() -> Result<()> {
    scene("number_does_not_parse", async |scene: &Scene| {
        let trouble = Trouble {
            wish: from_subnets(&[&scene.v4], &[&scene.v6], "many"),
            reason: "AnnotationInvalid",
            told: &[ANNOTATION_IP_NUMBER, "not a number"],
            told_on_pod: &["no matching auto-created IPPool", "describe deployment broken"],
        };
        told_and_repaired(scene, trouble, async |scene: &Scene| {
            annotate(scene, &json!({ANNOTATION_IP_NUMBER: "+1"})).await
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_subnet_that_does_not_exist() -> Result<()> {
    scene("subnet_unknown", async |scene: &Scene| {
        let missing = scene.own("later");
        let trouble = Trouble {
            wish: from_subnets(&[&missing], &[&scene.v6], "+1"),
            reason: "SubnetNotFound",
            told: &[&missing, "does not exist"],
            told_on_pod: &[&missing, "does not exist"],
        };
        // Not the annotation is repaired here: the subnet comes, and nobody touches the Deployment.
        told_and_repaired(scene, trouble, async |scene: &Scene| {
            let subnet = format!("10.90.{}.0/24", scene.number);
            let spec = SubnetSpec {
                ips: Some(vec![format!("10.90.{}.10-10.90.{}.20", scene.number, scene.number)]),
                subnet,
                ..SubnetSpec::default()
            };
            scene.create_subnet("later", spec).await.map(drop)
        })
        .await?;
        scene.delete::<Deployment>("broken").await
    })
    .await
}

#[tokio::test]
async fn a_subnet_of_the_other_family() -> Result<()> {
    scene("wrong_family", async |scene: &Scene| {
        let trouble = Trouble {
            wish: from_subnets(&[&scene.v6], &[&scene.v4], "+1"),
            reason: "SubnetWrongFamily",
            told: &[&scene.v6, "IPv4"],
            told_on_pod: &["stands in the annotation under"],
        };
        let right = json!({"ipv4": [scene.v4], "ipv6": [scene.v6]}).to_string();
        told_and_repaired(scene, trouble, async |scene: &Scene| {
            annotate(scene, &json!({ANNOTATION_SUBNET: right})).await
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_subnet_that_is_too_small() -> Result<()> {
    scene("too_small", async |scene: &Scene| {
        // 241 addresses are there.
        let trouble = Trouble {
            wish: from_subnets(&[&scene.v4], &[&scene.v6], "235"),
            reason: "SubnetExhausted",
            told: &[&scene.v4, "add addresses"],
            told_on_pod: &[&scene.v4, "addresses that no pool was given"],
        };
        let change = json!({"spec": {"ips": [format!("{}-{}", scene.ip(4, "10"), scene.ip(4, "19"))]}});
        let patch = PatchParams::default();
        scene.subnets().patch(&scene.v4, &patch, &Patch::Merge(&change)).await?;
        told_and_repaired(scene, trouble, async |scene: &Scene| {
            let change = json!({"spec": {"ips": [format!("{}-{}", scene.ip(4, "2"), scene.ip(4, "250"))]}});
            scene.subnets().patch(&scene.v4, &patch, &Patch::Merge(&change)).await?;
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_deployment_that_grows_beyond_its_subnet_gets_what_there_is() -> Result<()> {
    scene("grows_beyond", async |scene: &Scene| {
        let small = |last: &str| json!({"spec": {"ips": [format!("{}-{}", scene.ip(4, "10"), scene.ip(4, last))]}});
        let patch = PatchParams::default();
        scene
            .subnets()
            .patch(&scene.v4, &patch, &Patch::Merge(&small("12")))
            .await?;
        let wish = from_subnets(&[&scene.v4], &[], "+0");
        scene.create(&deployment("shop", 2, &wish)?).await?;
        scene.running("shop", 2, LONG).await?;
        scene.scale("shop", 5).await?;
        let told = [scene.v4.as_str(), "add addresses"];
        scene
            .event("Deployment", "shop", "WaitingForAddresses", &told, SOON)
            .await?;
        scene.sandbox_failure("shop", &["used out"], LONG).await?;
        scene
            .subnets()
            .patch(&scene.v4, &patch, &Patch::Merge(&small("20")))
            .await?;
        let pods = scene.running("shop", 5, LONG).await?;
        scene.distinct_addresses(&pods, 1).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_pod_without_a_controller_cannot_have_a_pool_of_its_own() -> Result<()> {
    scene("bare_pod", async |scene: &Scene| {
        let node = &scene.cluster.first_node()?.name;
        let wish = from_subnets(&[&scene.v4], &[&scene.v6], "+1");
        scene
            .create(&spiderpool_e2e::workload::pod("bare-pod", node, &wish)?)
            .await?;
        scene
            .sandbox_failure("bare", &["no-controller Pod", "remove the subnet annotation"], LONG)
            .await
            .map(drop)
    })
    .await
}
