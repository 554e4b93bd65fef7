//! What somebody can do who breaks into one node and takes the agent's token from there: little.

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use spiderpool_crds::{EndpointStatus, IPPoolSpec, PodAllocation, SpiderEndpoint, SpiderIPPool, SpiderSubnet};
use spiderpool_e2e::RELEASE_NAMESPACE;
use spiderpool_e2e::node::AGENT;
use spiderpool_e2e::scene::{Scene, scene};

/// A token of the agents' account, bound to a pod or to nothing.
pub(crate) async fn token(scene: &Scene, bound_to: Option<&Pod>) -> Result<Client> {
    let reference =
        bound_to.map(|pod| json!({"kind": "Pod", "apiVersion": "v1", "name": pod.name_any(), "uid": pod.uid()}));
    let request: TokenRequest = serde_json::from_value(json!({
        "metadata": {},
        "spec": {"audiences": [], "boundObjectRef": reference, "expirationSeconds": 600},
    }))?;
    let accounts: Api<ServiceAccount> = Api::namespaced(scene.cluster.client.clone(), RELEASE_NAMESPACE);
    let answer = accounts
        .create_token_request(AGENT, &PostParams::default(), &request)
        .await;
    let answer = answer.context("requesting a token of the agent's account; is the chart installed?")?;
    scene
        .cluster
        .with_token(&answer.status.context("a token request without status")?.token)
}

/// The agent's pod of a node.
pub(crate) async fn agent_pod(scene: &Scene, node: &str) -> Result<Pod> {
    let pods: Api<Pod> = Api::namespaced(scene.cluster.client.clone(), RELEASE_NAMESPACE);
    let fields = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let all = pods.list(&fields).await?;
    let agent = all.items.into_iter().find(|pod| pod.name_any().starts_with(AGENT));
    agent.with_context(|| format!("node {node} has no agent pod; is the chart installed?"))
}

/// Requires that the API server refused with 403.
pub(crate) fn forbidden<T>(what: &str, outcome: Result<T, kube::Error>) -> Result<String> {
    match outcome {
        Err(kube::Error::Api(status)) if status.code == 403 && status.reason == "Forbidden" => Ok(status.message),
        Err(error) => bail!("{what}: not refused with 403 Forbidden but {error}"),
        Ok(_) => bail!("{what}: an agent may do it"),
    }
}

/// An endpoint of a node.
pub(crate) fn endpoint(scene: &Scene, name: &str, node: &str) -> SpiderEndpoint {
    let current = PodAllocation {
        uid: "no-such-pod".to_owned(),
        node: node.to_owned(),
        ..PodAllocation::default()
    };
    let status = EndpointStatus {
        current,
        owner_controller_type: "Pod".to_owned(),
        owner_controller_name: name.to_owned(),
        ..EndpointStatus::default()
    };
    SpiderEndpoint::new(&scene.namespace, name, status)
}

pub(crate) const POST: PostParams = PostParams {
    dry_run: false,
    field_manager: None,
};

/// How often a write is tried that meets those of others.
const ATTEMPTS: usize = 10;

/// Writes a pool's status with an object whose spec is another, too. The operator may write the pool at the same time.
async fn write_disabled(pools: &Api<SpiderIPPool>, name: &str) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let before = pools.get(name).await?;
        let mut changed = before.clone();
        changed.spec.disable = Some(true);
        let written = match pools.replace_status(name, &POST, &changed).await {
            Err(kube::Error::Api(status)) if status.code == 409 => continue,
            outcome => outcome?,
        };
        ensure!(
            written.spec == before.spec,
            "a write of a pool's status changed its spec"
        );
        return Ok(());
    }
    bail!("pool {name} was changed by others {ATTEMPTS} times in a row");
}

#[tokio::test]
async fn an_agent_cannot_write_what_it_does_not_own() -> Result<()> {
    scene("agent_rights", async |scene: &Scene| {
        let node = &scene.cluster.first_node()?.name;
        let agent = token(scene, Some(&agent_pod(scene, node).await?)).await?;
        let pool = scene.create_pool("rights", 4, IPPoolSpec::default()).await?.name_any();
        let merge = |value| Patch::Merge(value);
        let params = PatchParams::default();

        let pods: Api<Pod> = Api::namespaced(agent.clone(), &scene.namespace);
        let labels = json!({"metadata": {"labels": {"a": "b"}}});
        forbidden("patch a pod", pods.patch("some", &params, &merge(&labels)).await)?;
        forbidden(
            "patch a pod's status",
            pods.patch_status("some", &params, &merge(&labels)).await,
        )?;
        forbidden(
            "create a pod",
            pods.create(&POST, &spiderpool_e2e::workload::pod("p", node, &Default::default())?)
                .await,
        )?;
        forbidden("delete a pod", pods.delete("some", &DeleteParams::default()).await)?;

        let pools: Api<SpiderIPPool> = Api::all(agent.clone());
        let spec = json!({"spec": {"disable": true}});
        forbidden("patch a pool's spec", pools.patch(&pool, &params, &merge(&spec)).await)?;
        let current = pools.get(&pool).await.context("an agent must read pools")?;
        forbidden("replace a pool", pools.replace(&pool, &POST, &current).await)?;
        forbidden("delete a pool", pools.delete(&pool, &DeleteParams::default()).await)?;
        forbidden(
            "create a pool",
            pools
                .create(&POST, &SpiderIPPool::new("e2e-no", IPPoolSpec::default()))
                .await,
        )?;
        write_disabled(&pools, &pool)
            .await
            .context("an agent must write pool statuses")?;

        let subnets: Api<SpiderSubnet> = Api::all(agent.clone());
        forbidden("patch a subnet", subnets.patch(&scene.v4, &params, &merge(&spec)).await)?;
        forbidden(
            "patch a subnet's status",
            subnets.patch_status(&scene.v4, &params, &merge(&spec)).await,
        )?;
        forbidden(
            "delete a subnet",
            subnets.delete(&scene.v4, &DeleteParams::default()).await,
        )?;

        let nodes: Api<Node> = Api::all(agent.clone());
        forbidden("patch a node", nodes.patch(node, &params, &merge(&labels)).await)?;
        let secrets: Api<Secret> = Api::namespaced(agent.clone(), RELEASE_NAMESPACE);
        forbidden("list secrets", secrets.list(&ListParams::default()).await)?;
        let maps: Api<ConfigMap> = Api::namespaced(agent, RELEASE_NAMESPACE);
        forbidden(
            "write a ConfigMap",
            maps.patch("spiderpool-conf", &params, &merge(&labels)).await,
        )
        .map(drop)
    })
    .await
}

#[tokio::test]
async fn an_agent_writes_endpoints_of_its_own_node_only() -> Result<()> {
    scene("agent_endpoints", async |scene: &Scene| {
        let [own, other] = scene.cluster.nodes.as_slice() else {
            bail!("the test cluster has not two nodes");
        };
        let (own, other) = (own.name.as_str(), other.name.as_str());
        let agent = token(scene, Some(&agent_pod(scene, own).await?)).await?;
        let admin = scene.api::<SpiderEndpoint>();
        let endpoints: Api<SpiderEndpoint> = Api::namespaced(agent, &scene.namespace);
        let says = |message: String, texts: [&str; 2]| {
            ensure!(
                texts.iter().all(|text| message.contains(text)),
                "{message:?} does not say {texts:?}"
            );
            Ok(())
        };

        let mine = endpoints
            .create(&POST, &endpoint(scene, "mine", own))
            .await
            .context("create of its own node")?;
        let refused = endpoints.create(&POST, &endpoint(scene, "theirs", other)).await;
        says(forbidden("create of another node", refused)?, [own, other])?;
        let nameless = endpoints.create(&POST, &endpoint(scene, "nameless", "")).await;
        forbidden("create of no node", nameless)?;

        let mut changed = mine.clone();
        changed.labels_mut().insert("a".to_owned(), "b".to_owned());
        let changed = endpoints
            .replace("mine", &POST, &changed)
            .await
            .context("update of its own node")?;
        let mut moved = changed.clone();
        moved.status.current.node = other.to_owned();
        says(
            forbidden(
                "handing one to another node",
                endpoints.replace("mine", &POST, &moved).await,
            )?,
            [own, other],
        )?;

        let theirs = admin.create(&POST, &endpoint(scene, "theirs", other)).await?;
        let mut touched = theirs.clone();
        touched.labels_mut().insert("a".to_owned(), "b".to_owned());
        forbidden(
            "update of another node",
            endpoints.replace("theirs", &POST, &touched).await,
        )?;
        says(
            forbidden(
                "delete of another node",
                endpoints.delete("theirs", &DeleteParams::default()).await,
            )?,
            ["delete", other],
        )?;
        let all = endpoints
            .delete_collection(&DeleteParams::default(), &ListParams::default())
            .await;
        forbidden("delete of all", all.map(drop))?;

        // A pod does not move; the endpoint of a new one with the same name is taken over in place.
        let mut taken = admin.get("theirs").await?;
        taken.status.current.node = own.to_owned();
        says(
            forbidden(
                "taking over the endpoint of the same pod",
                endpoints.replace("theirs", &POST, &taken).await,
            )?,
            [other, "a pod does not move"],
        )?;
        taken.status.current.uid = "a-new-pod".to_owned();
        endpoints
            .replace("theirs", &POST, &taken)
            .await
            .context("taking over an endpoint")?;
        endpoints
            .delete("mine", &DeleteParams::default())
            .await
            .context("delete of its own node")?;
        endpoints
            .delete("theirs", &DeleteParams::default())
            .await
            .context("delete of one taken over")?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_token_that_names_no_node_writes_no_endpoint() -> Result<()> {
    scene("token_without_node", async |scene: &Scene| {
        let node = &scene.cluster.first_node()?.name;
        let nobody = token(scene, None).await?;
        let endpoints: Api<SpiderEndpoint> = Api::namespaced(nobody, &scene.namespace);
        let message = forbidden("create", endpoints.create(&POST, &endpoint(scene, "some", node)).await)?;
        ensure!(
            message.contains("does not say on which node"),
            "{message:?} does not say what to do"
        );
        Ok(())
    })
    .await
}
