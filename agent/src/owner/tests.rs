use super::*;
use axum::body::Body;
use serde_json::{Value, json};
use std::sync::Arc;

const SET: &str = "/apis/apps/v1/namespaces/retail/replicasets/shop-1";
const JOB: &str = "/apis/batch/v1/namespaces/retail/jobs/shop-1";

/// What an API server answers by path; all else does not exist.
type Answers = Arc<Mutex<HashMap<String, (u16, Value)>>>;

struct Server {
    answers: Answers,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new() -> (Self, Client) {
        let own = Self {
            answers: Arc::default(),
            asked: Arc::default(),
        };
        let (answers, asked) = (own.answers.clone(), own.asked.clone());
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let path = request.uri().path().to_owned();
            let answer = answers.lock().unwrap().get(&path).cloned();
            asked.lock().unwrap().push(path);
            let (code, body) = answer.unwrap_or_else(|| {
                let status = json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404});
                (404, status)
            });
            let response = http::Response::builder()
                .status(code)
                .body(Body::from(body.to_string()));
            async move { response }
        });
        (own, Client::new(service, "default"))
    }

    fn answer(&self, path: &str, code: u16, body: Value) {
        self.answers.lock().unwrap().insert(path.to_owned(), (code, body));
    }

    /// The ReplicaSet or Job at a path is controlled by this.
    fn controlled(&self, path: &str, owner: &Value) {
        let owners = if owner.is_null() { json!([]) } else { json!([owner]) };
        let metadata = json!({"name": "shop-1", "namespace": "retail", "uid": "child", "ownerReferences": owners});
        let body = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata});
        self.answer(path, 200, body);
    }

    /// A group serves one version.
    fn group(&self, api_version: &str) {
        let (group, version) = api_version.split_once('/').unwrap();
        let versions = json!([{"groupVersion": api_version, "version": version}]);
        self.answer(
            &format!("/apis/{group}"),
            200,
            json!({"name": group, "versions": versions}),
        );
    }

    /// A group serves one kind, with a scale subresource or without.
    fn serves(&self, api_version: &str, kind: &str, scales: bool) {
        self.group(api_version);
        let resource = |name: String, kind: &str| {
            json!({"name": name, "singularName": "", "namespaced": true,
            "kind": kind, "verbs": []})
        };
        let plural = format!("{}s", kind.to_lowercase());
        let mut resources = vec![resource(plural.clone(), kind)];
        if scales {
            resources.push(resource(format!("{plural}/scale"), "Scale"));
        }
        self.answer(
            &format!("/apis/{api_version}"),
            200,
            json!({"groupVersion": api_version, "resources": resources}),
        );
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn reference(api_version: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true})
}

fn pod(owner: &Value) -> Pod {
    let owners = if owner.is_null() { json!([]) } else { json!([owner]) };
    let metadata = json!({"name": "shop-1-x", "namespace": "retail", "uid": "pod", "ownerReferences": owners});
    serde_json::from_value(json!({"metadata": metadata})).unwrap()
}

fn of_set() -> Pod {
    pod(&reference("apps/v1", "ReplicaSet", "shop-1", "child"))
}

fn of_job() -> Pod {
    pod(&reference("batch/v1", "Job", "shop-1", "child"))
}

async fn told(owners: &Owners, pod: &Pod) -> String {
    let deadline = Instant::now() + Duration::from_secs(5);
    match owners.application(pod, deadline).await {
        Ok(application) => format!("{} {}", application.key, application.uid),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn pods_of_other_controllers_need_no_read() {
    let (server, client) = Server::new();
    let owners = Owners::new(client, Vec::new());
    let set = reference("apps/v1", "StatefulSet", "db", "s");
    assert_eq!(told(&owners, &pod(&set)).await, "apps_v1_StatefulSet_retail_db s");
    let clones = reference("apps.kruise.io/v1alpha1", "CloneSet", "shop", "c");
    assert_eq!(
        told(&owners, &pod(&clones)).await,
        "apps.kruise.io_v1alpha1_CloneSet_retail_shop c"
    );
    assert_eq!(told(&owners, &pod(&Value::Null)).await, "v1_Pod_retail_shop-1-x pod");
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn a_deployment_is_read_once_for_the_pods_of_a_burst() {
    let (server, client) = Server::new();
    server.controlled(SET, &reference("apps/v1", "Deployment", "shop", "d"));
    let owners = Owners::new(client, Vec::new());
    for _ in 0..3 {
        assert_eq!(told(&owners, &of_set()).await, "apps_v1_Deployment_retail_shop d");
    }
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn a_job_belongs_to_its_cron_job() {
    let (server, client) = Server::new();
    server.controlled(JOB, &reference("batch/v1", "CronJob", "nightly", "c"));
    let owners = Owners::new(client, Vec::new());
    assert_eq!(told(&owners, &of_job()).await, "batch_v1_CronJob_retail_nightly c");
}

#[tokio::test(start_paused = true)]
async fn a_job_of_a_replica_set_belongs_to_what_that_belongs_to() {
    let (server, client) = Server::new();
    let owners = Owners::new(client, Vec::new());
    let set = |owner: &str| {
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "web-1",
            "namespace": "retail", "uid": "set", "ownerReferences": [reference("apps/v1", "Deployment", owner, "d")]}})
    };
    const WEB: &str = "/apis/apps/v1/namespaces/retail/replicasets/web-1";
    server.controlled(JOB, &reference("apps/v1", "ReplicaSet", "web-1", "set"));
    server.answer(WEB, 200, set("web"));
    assert_eq!(told(&owners, &of_job()).await, "apps_v1_Deployment_retail_web d");
    assert_eq!(told(&owners, &of_job()).await, "apps_v1_Deployment_retail_web d");
    assert_eq!(server.asked(), 2);
    server.answer(WEB, 200, set("other"));
    owners.forget(&of_job());
    assert_eq!(told(&owners, &of_job()).await, "apps_v1_Deployment_retail_other d");
    // In a circle: the climb ends.
    server.controlled(JOB, &reference("apps/v1", "ReplicaSet", "shop-1", "child"));
    server.controlled(SET, &reference("apps/v1", "ReplicaSet", "shop-1", "child"));
    owners.forget(&of_job());
    assert_eq!(told(&owners, &of_job()).await, "apps_v1_ReplicaSet_retail_shop-1 child");
}

#[tokio::test]
async fn native_kinds_need_no_discovery() {
    let (server, client) = Server::new();
    let owners = Owners::new(client, Vec::new());
    server.controlled(JOB, &reference("apps/v1", "StatefulSet", "db", "s"));
    assert_eq!(told(&owners, &of_job()).await, "apps_v1_StatefulSet_retail_db s");
    assert_eq!(server.asked(), 1);
    let (server, client) = Server::new();
    let owners = Owners::new(client, Vec::new());
    server.controlled(SET, &reference("apps/v1", "DaemonSet", "log", "l"));
    assert_eq!(told(&owners, &of_set()).await, "apps_v1_ReplicaSet_retail_shop-1 child");
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn a_kind_that_scales_is_the_application_and_another_is_not() {
    let (server, client) = Server::new();
    let owners = Owners::new(client, Vec::new());
    server.controlled(SET, &reference("argoproj.io/v1alpha1", "Rollout", "shop", "r"));
    server.serves("argoproj.io/v1alpha1", "Rollout", true);
    assert_eq!(
        told(&owners, &of_set()).await,
        "argoproj.io_v1alpha1_Rollout_retail_shop r"
    );
    let (server, client) = Server::new();
    let owners = Owners::new(client, Vec::new());
    server.controlled(JOB, &reference("jobset.x-k8s.io/v1", "JobSet", "train", "j"));
    server.serves("jobset.x-k8s.io/v1", "JobSet", false);
    assert_eq!(told(&owners, &of_job()).await, "batch_v1_Job_retail_shop-1 child");
}

#[tokio::test]
async fn a_listed_kind_needs_no_discovery() {
    let (server, client) = Server::new();
    server.controlled(SET, &reference("example.org/v1", "Fleet", "shop", "f"));
    server.group("example.org/v1");
    server.answer("/apis/example.org/v1", 503, json!("down"));
    let listed = WorkloadKind {
        group: "example.org".to_owned(),
        kind: "Fleet".to_owned(),
        ..WorkloadKind::default()
    };
    let owners = Owners::new(client, vec![listed]);
    assert_eq!(told(&owners, &of_set()).await, "example.org_v1_Fleet_retail_shop f");
}

#[tokio::test]
async fn discovery_that_fails_is_an_error_with_advice_and_not_a_guess() {
    let (server, client) = Server::new();
    server.controlled(SET, &reference("example.org/v1", "Fleet", "shop", "f"));
    server.group("example.org/v1");
    server.answer("/apis/example.org/v1", 503, json!("down"));
    let owners = Owners::new(client, Vec::new());
    let text = told(&owners, &of_set()).await;
    for part in [
        "Pod retail/shop-1-x",
        "ReplicaSet shop-1",
        "Fleet shop",
        "code 503",
        "workloadKinds",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_controller_is_found() {
    let (server, client) = Server::new();
    let owners = Owners::new(client, Vec::new());
    let own = "apps_v1_ReplicaSet_retail_shop-1 child";
    server.controlled(SET, &Value::Null);
    assert_eq!(told(&owners, &of_set()).await, own);
    server.controlled(SET, &reference("apps/v1", "Deployment", "shop", "d"));
    assert_eq!(told(&owners, &of_set()).await, "apps_v1_Deployment_retail_shop d");
    // Let go of: seen after a failed request at once, and otherwise soon.
    server.controlled(SET, &Value::Null);
    owners.forget(&of_set());
    assert_eq!(told(&owners, &of_set()).await, own);
    server.controlled(SET, &reference("apps/v1", "Deployment", "other", "o"));
    assert_eq!(told(&owners, &of_set()).await, "apps_v1_Deployment_retail_other o");
    server.controlled(SET, &Value::Null);
    tokio::time::advance(LASTING).await;
    assert_eq!(told(&owners, &of_set()).await, own);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_scales_no_more_is_noticed() {
    let (server, client) = Server::new();
    let owners = Owners::new(client, Vec::new());
    server.controlled(SET, &reference("argoproj.io/v1alpha1", "Rollout", "shop", "r"));
    server.serves("argoproj.io/v1alpha1", "Rollout", true);
    assert!(told(&owners, &of_set()).await.contains("Rollout"));
    server.serves("argoproj.io/v1alpha1", "Rollout", false);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(told(&owners, &of_set()).await.contains("ReplicaSet"));
}

#[tokio::test]
async fn a_replica_set_of_another_uid_or_none_says_nothing() {
    let (server, client) = Server::new();
    let owners = Owners::new(client, Vec::new());
    assert_eq!(told(&owners, &of_set()).await, "apps_v1_ReplicaSet_retail_shop-1 child");
    server.controlled(SET, &reference("apps/v1", "Deployment", "shop", "d"));
    let earlier = pod(&reference("apps/v1", "ReplicaSet", "shop-1", "earlier"));
    assert_eq!(
        told(&owners, &earlier).await,
        "apps_v1_ReplicaSet_retail_shop-1 earlier"
    );
}
