//! Static pods: the kubelet starts them from files, and shows them to the API server as mirrors whose UIDs it does not know itself.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, Preconditions};
use spiderpool_crds::names::ANNOTATION_CONFIG_HASH;
use spiderpool_e2e::node::Node;
use spiderpool_e2e::pod::Running;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::{from_pools, pod};

/// A static pod's file, which goes with this value: nobody else would ever end the pod.
struct Manifest(PathBuf);

impl Manifest {
    fn put(node: &Node, pod: &Pod) -> Result<Self> {
        let name = format!("{}-{}.json", pod.namespace().unwrap_or_default(), pod.name_any());
        let file = node.manifests().join(&name);
        let draft = node.manifests().join(format!(".{name}"));
        let mut text = serde_json::to_value(pod).context("writing a static pod")?;
        text["apiVersion"] = "v1".into();
        text["kind"] = "Pod".into();
        fs::write(&draft, text.to_string()).with_context(|| format!("writing {}", draft.display()))?;
        fs::rename(&draft, &file).with_context(|| format!("renaming {}", draft.display()))?;
        Ok(Self(file))
    }
}

impl Drop for Manifest {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn a_static_pod_keeps_its_address_when_its_mirror_is_deleted() -> Result<()> {
    scene("static", async |scene: &Scene| {
        let node = scene.cluster.first_node()?;
        let pool = scene
            .create_pool("static", 4, scene.range(4, "10", "12"))
            .await?
            .name_any();
        let mut file = pod("fixed", &node.name, &from_pools(&[&pool], &[]))?;
        file.metadata.namespace = Some(scene.namespace.clone());
        let manifest = Manifest::put(node, &file)?;

        let (mirror, fixed) = mirror(scene, &format!("fixed-{}", node.name), None).await?;
        let first = scene.nics_on_record(&pool, &fixed, &["eth0"], SOON).await?;
        let addresses = |pool: &spiderpool_crds::SpiderIPPool| -> Result<Vec<_>> {
            Ok(pool
                .records()?
                .iter()
                .map(|(ip, record)| (ip, record.pod_uid.clone()))
                .collect())
        };
        let given = addresses(&first)?;
        ensure!(
            given.iter().map(|(ip, _)| *ip).eq(fixed.addresses.iter().copied()),
            "the pool has {given:?} on record, the pod has {:?}",
            fixed.addresses
        );

        // Whoever deletes the mirror deletes a picture: the kubelet draws another one, with a UID of its own.
        let exactly = DeleteParams::default().preconditions(Preconditions {
            uid: Some(mirror.clone()),
            resource_version: None,
        });
        scene
            .api::<Pod>()
            .delete(&fixed.name, &exactly.grace_period(0))
            .await
            .context("deleting the mirror")?;
        let (_, again) = self::mirror(scene, &fixed.name, Some(&mirror)).await?;
        ensure!(
            (&again.addresses, &again.uid) == (&fixed.addresses, &fixed.uid),
            "the pod was {fixed:?} and is {again:?} since its mirror was deleted"
        );
        let pool_now = scene.pools().get(&pool).await.context("reading the pool")?;
        ensure!(
            addresses(&pool_now)? == given,
            "{:?} became {:?}",
            given,
            addresses(&pool_now)?
        );

        drop(manifest);
        wait::gone(&scene.api::<Pod>(), &fixed.name, LONG).await?;
        wait::object(&scene.pools(), &pool, "the pool to be free", LONG, |pool| {
            pool?
                .records()
                .is_ok_and(|records| records.iter().next().is_none())
                .then_some(())
        })
        .await
    })
    .await
}

/// The UID of a static pod's mirror that runs and is not an `old` one, and the pod as the kubelet and its runtime call it.
async fn mirror(scene: &Scene, name: &str, old: Option<&str>) -> Result<(String, Running)> {
    wait::object(&scene.api::<Pod>(), name, "the static pod to run", LONG, |pod| {
        let (pod, mut running) = pod.and_then(|pod| Some((pod, Running::of(pod)?)))?;
        let hash = pod.annotations().get(ANNOTATION_CONFIG_HASH)?.clone();
        let uid = std::mem::replace(&mut running.uid, hash);
        (Some(uid.as_str()) != old).then_some((uid, running))
    })
    .await
}
