//! Who may write what, where the rules of a CRD cannot see who asks.

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use spiderpool_crds::names::{FINALIZER, LABEL_OWNER_APP_NAME};
use spiderpool_crds::{IPPoolSpec, ReservedIPSpec, SpiderEndpoint, SpiderIPPool, SpiderReservedIP, SpiderSubnet};
use spiderpool_e2e::node::AGENT;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::wait::{self, LONG, SOON};
use spiderpool_e2e::workload::{deployment, from_pools, from_subnets, pod};
use spiderpool_e2e::{DRY_RUN, RELEASE_NAMESPACE};

use crate::agent_rights::{POST, agent_pod, endpoint, forbidden, token};

/// Changes a pool, dry: the operator would not leave it so.
async fn change(pools: &Api<SpiderIPPool>, name: &str, change: &Value) -> Result<SpiderIPPool, kube::Error> {
    let params = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    pools.patch(name, &params, &Patch::Merge(change)).await
}

#[tokio::test]
async fn addresses_of_an_automatic_pool_are_written_by_the_operator_only() -> Result<()> {
    scene("automatic_addresses", async |scene: &Scene| {
        let wish = from_subnets(&[&scene.v4], &[], "+1");
        scene.create(&deployment("shop", 1, &wish)?).await?;
        let pool = scene
            .pool_of("shop", 4, "with two addresses", |pool| {
                pool.total().is_ok_and(|total| total.count() == 2)
            })
            .await?;
        let (admin, name) = (scene.pools(), pool.name_any());
        let more = json!({"spec": {"ips": [scene.ip(4, "77")]}});
        let fewer = json!({"spec": {"excludeIPs": pool.spec.ips.clone()}});
        let freed = json!({"metadata": {"labels": {LABEL_OWNER_APP_NAME: null}}});
        for (what, field, written) in [("ips", "spec.ips", &more), ("excludeIPs", "spec.excludeIPs", &fewer)] {
            let message = forbidden(what, change(&admin, &name, written).await)?;
            ensure!(
                message.contains(&format!("{field} of an automatic pool is written by the operator only")),
                "{message:?} does not say what to do"
            );
        }
        // Taking the label off and other addresses in one go would be a way around.
        let mut both = more.clone();
        both["metadata"] = freed["metadata"].clone();
        forbidden("label and ips", change(&admin, &name, &both).await)?;
        // The same as before is no change, and all else is theirs.
        for allowed in [
            json!({"spec": {"ips": pool.spec.ips.clone(), "disable": true}}),
            json!({"spec": {"nodeName": ["n1"]}, "metadata": {"labels": {"a": "b"}}}),
            freed,
        ] {
            change(&admin, &name, &allowed)
                .await
                .with_context(|| format!("an administrator writes {allowed}"))?;
        }
        let status = json!({"status": {"allocatedIPs": null}});
        let params = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        admin
            .patch_status(&name, &params, &Patch::Merge(&status))
            .await
            .context("an administrator repairs a status")?;

        let mut made = SpiderIPPool::new(&scene.own("by-hand"), pool.spec.clone());
        made.labels_mut()
            .insert(LABEL_OWNER_APP_NAME.to_owned(), "shop".to_owned());
        forbidden("an automatic pool made by hand", admin.create(&DRY_RUN, &made).await)?;

        let operator = format!("system:serviceaccount:{RELEASE_NAMESPACE}:spiderpool-controller");
        let operator: Api<SpiderIPPool> = Api::all(scene.cluster.acting_as(&operator)?);
        change(&operator, &name, &more).await.context("the operator's write")?;
        operator.create(&DRY_RUN, &made).await.context("the operator's pool")?;
        Ok(())
    })
    .await
}

/// Gives the agents' account all rights over Spiderpool's objects while `test` runs.
async fn with_all_rights(scene: &Scene, test: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    let name = scene.own("agents");
    let roles: Api<ClusterRole> = Api::all(scene.cluster.client.clone());
    let bindings: Api<ClusterRoleBinding> = Api::all(scene.cluster.client.clone());
    let role = json!({"metadata": {"name": name},
        "rules": [{"apiGroups": ["spiderpool.spidernet.io"], "resources": ["*"], "verbs": ["*"]}]});
    let binding = json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": AGENT, "namespace": RELEASE_NAMESPACE}]});
    roles.create(&POST, &serde_json::from_value(role)?).await?;
    bindings.create(&POST, &serde_json::from_value(binding)?).await?;
    let outcome = test().await;
    bindings.delete(&name, &DeleteParams::default()).await?;
    roles.delete(&name, &DeleteParams::default()).await?;
    outcome
}

#[tokio::test]
async fn an_agent_writes_records_only_even_if_it_is_given_all_rights() -> Result<()> {
    scene("agents_with_rights", async |scene: &Scene| {
        let node = &scene.cluster.first_node()?.name;
        let agent = token(scene, Some(&agent_pod(scene, node).await?)).await?;
        let pool = scene.create_pool("records", 4, IPPoolSpec::default()).await?.name_any();
        let pools: Api<SpiderIPPool> = Api::all(agent.clone());
        let subnets: Api<SpiderSubnet> = Api::all(agent.clone());
        let reservations: Api<SpiderReservedIP> = Api::all(agent.clone());
        let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
        let params = PatchParams::default();
        with_all_rights(scene, async || {
            // Until the right has reached the authorizer, it is that which refuses.
            let message = wait::until("the agents' rights", SOON, async || {
                let message = forbidden("patch a pool", pools.patch(&pool, &params, &label).await)?;
                Ok(message.contains("ValidatingAdmissionPolicy").then_some(message))
            })
            .await?;
            ensure!(
                message.contains("an agent may not change spiderippools: it writes"),
                "{message:?}"
            );
            let by_policy = |what: &str, message: String| {
                ensure!(
                    message.contains("it writes endpoints of its own node and the status of pools"),
                    "{what}: {message:?}"
                );
                Ok(())
            };
            let none = DeleteParams::default();
            by_policy(
                "delete a pool",
                forbidden("delete a pool", pools.delete(&pool, &none).await)?,
            )?;
            let status = Patch::Merge(json!({"status": {"allocatedIPCount": 0}}));
            let patched = subnets.patch_status(&scene.v4, &params, &status).await;
            by_policy("a subnet's status", forbidden("a subnet's status", patched)?)?;
            let spec = ReservedIPSpec {
                ip_version: Some(4),
                ..ReservedIPSpec::default()
            };
            let made = SpiderReservedIP::new(&scene.own("no"), spec);
            by_policy(
                "a reservation",
                forbidden("a reservation", reservations.create(&POST, &made).await)?,
            )?;
            let written = wait::until("a write that meets no other", SOON, async || {
                let current = pools.get(&pool).await?;
                match pools.replace_status(&pool, &POST, &current).await {
                    Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
                    outcome => Ok(Some(outcome)),
                }
            });
            written.await?.context("an agent writes the status of a pool").map(drop)
        })
        .await
    })
    .await
}

#[tokio::test]
async fn endpoints_go_with_what_they_belong_to() -> Result<()> {
    scene("endpoints_go", async |scene: &Scene| {
        let [own, other] = scene.cluster.nodes.as_slice() else {
            bail!("the test cluster has not two nodes");
        };
        // The garbage collector deletes what an owner left behind.
        let owner: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "owner"}}))?;
        let owner = scene.api::<ConfigMap>().create(&POST, &owner).await?;
        let endpoints = scene.api::<SpiderEndpoint>();
        let mut owned = endpoint(scene, "owned", &own.name);
        owned.metadata.owner_references = Some(vec![serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.uid()}))?]);
        endpoints.create(&POST, &owned).await?;
        scene
            .api::<ConfigMap>()
            .delete("owner", &DeleteParams::default())
            .await?;
        wait::gone(&endpoints, "owned", SOON).await?;

        // The namespace controller empties a namespace.
        let name = scene.own("gone");
        let namespaces: Api<Namespace> = Api::all(scene.cluster.client.clone());
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        namespaces.create(&POST, &namespace).await?;
        let inside: Api<SpiderEndpoint> = Api::namespaced(scene.cluster.client.clone(), &name);
        let mut endpoint = endpoint(scene, "inside", &other.name);
        endpoint.metadata.namespace = Some(name.clone());
        inside.create(&POST, &endpoint).await?;
        namespaces.delete(&name, &DeleteParams::default()).await?;
        wait::gone(&namespaces, &name, SOON).await
    })
    .await
}

#[tokio::test]
async fn a_pod_takes_the_place_of_an_endpoint_that_leaves_with_a_pod_of_another_node() -> Result<()> {
    scene("leaving_endpoint", async |scene: &Scene| {
        let [own, other] = scene.cluster.nodes.as_slice() else {
            bail!("the test cluster has not two nodes");
        };
        let pool = scene
            .create_pool("leaving", 4, scene.range(4, "10", "12"))
            .await?
            .name_any();
        let endpoints = scene.api::<SpiderEndpoint>();
        let mut leaving = endpoint(scene, "again", &other.name);
        leaving.finalizers_mut().push(FINALIZER.to_owned());
        endpoints.create(&POST, &leaving).await?;
        endpoints.delete("again", &DeleteParams::default()).await?;
        // It waits for the operator or for an agent of its node, which have no reason to hurry.
        scene
            .create(&pod("again", &own.name, &from_pools(&[&pool], &[]))?)
            .await?;
        let running = scene.running("again", 1, LONG).await?.pop().context("no pod")?;
        let endpoint = endpoints.get("again").await?;
        let current = &endpoint.status.current;
        ensure!(
            (&current.uid, &current.node) == (&running.uid, &own.name)
                && endpoint.metadata.deletion_timestamp.is_none(),
            "the endpoint of pod {running:?} is {endpoint:?}"
        );
        Ok(())
    })
    .await
}
