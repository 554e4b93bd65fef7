//! Questions as the API server asks them, through the router.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should say so at that line"
)]

mod common;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use common::ApiServer;
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use spiderpool_crds::admission::Settings;
use spiderpool_crds::conf::AnnotationPolicy;
use spiderpool_kit::metrics::Metrics;
use spiderpool_webhook::metrics::Admissions;
use spiderpool_webhook::world::{Caches, World};
use spiderpool_webhook::{HEALTH_PATH, Webhook, router};
use tower::ServiceExt;

const POOL: &str = "spiderippool";
const SUBNET: &str = "spidersubnet";
const RESERVED: &str = "spiderreservedip";
const SETTINGS: Settings = Settings {
    ipv4: true,
    ipv6: true,
    subnets: true,
    protect_used: false,
};

/// A webhook that knows some objects, and what it knows them from.
struct Scene {
    api: ApiServer,
    caches: Caches,
    world: Arc<World>,
    metrics: Metrics,
    settings: Settings,
}

impl Scene {
    /// The objects were told by the watch, and are stored still.
    fn with(objects: &[Value]) -> Self {
        let (api, caches) = (ApiServer::default(), Caches::detached());
        let world = Arc::new(World::of(caches.clone(), api.client()));
        let scene = Self {
            api,
            caches,
            world,
            metrics: Metrics::new(),
            settings: SETTINGS,
        };
        for object in objects {
            scene.api.put(object);
        }
        scene.knowing(objects)
    }

    /// The objects were told by the watch.
    fn knowing(self, objects: &[Value]) -> Self {
        for object in objects {
            let object = object.clone();
            match object["kind"].as_str().unwrap() {
                "SpiderSubnet" => self.caches.subnets.learn(serde_json::from_value(object).unwrap()),
                "SpiderIPPool" => self.caches.pools.learn(serde_json::from_value(object).unwrap()),
                _ => self.caches.reserved.learn(serde_json::from_value(object).unwrap()),
            }
        }
        self.world.fill();
        self
    }

    fn router(&self) -> Router {
        router(Webhook {
            world: self.world.clone(),
            settings: self.settings,
            annotations: AnnotationPolicy::Warn,
            metrics: Admissions::register(&self.metrics),
        })
    }

    async fn ask(&self, verb: &str, operation: &str, object: &Value, old: &Value) -> Value {
        ask(self.router(), verb, operation, object, old).await
    }

    async fn create(&self, object: &Value) -> Value {
        self.ask("validate", "CREATE", object, &Value::Null).await
    }
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": kind,
        "metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": "5"}, "spec": spec})
}

fn pool(name: &str, ips: &[&str]) -> Value {
    object("SpiderIPPool", name, &json!({"subnet": "10.77.0.0/20", "ips": ips}))
}

fn subnet(name: &str, ips: &[&str]) -> Value {
    object("SpiderSubnet", name, &json!({"subnet": "10.77.0.0/20", "ips": ips}))
}

fn question(kind: &str, operation: &str, object: &Value, old: &Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "q-1", "name": object["metadata"]["name"].as_str().or(old["metadata"]["name"].as_str()),
        "kind": {"group": "spiderpool.spidernet.io", "version": "v2beta1", "kind": kind},
        "resource": {"group": "spiderpool.spidernet.io", "version": "v2beta1", "resource": "x"},
        "operation": operation, "userInfo": {"username": "u"}, "object": object, "oldObject": old, "dryRun": false,
        "options": null,
    }})
}

async fn send(router: Router, method: &str, path: &str, body: impl Into<Bytes>) -> (StatusCode, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(Body::from(body.into()));
    let response = router.oneshot(request.unwrap()).await.unwrap();
    let code = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 22).await.unwrap();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

fn path(verb: &str, singular: &str) -> String {
    format!("/{verb}-spiderpool-spidernet-io-v2beta1-{singular}")
}

/// The response, which every question has.
async fn ask(router: Router, verb: &str, operation: &str, object: &Value, old: &Value) -> Value {
    let kind = object["kind"].as_str().or(old["kind"].as_str()).unwrap();
    let body = question(kind, operation, object, old).to_string();
    let (code, text) = send(router, "POST", &path(verb, &kind.to_lowercase()), body).await;
    assert_eq!(code, StatusCode::OK, "{text}");
    let review: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&review["kind"], &review["apiVersion"]),
        (&json!("AdmissionReview"), &json!("admission.k8s.io/v1"))
    );
    assert_eq!(review["response"]["uid"], "q-1");
    review["response"].clone()
}

/// The object with the patch of an answer.
fn patched(object: &Value, response: &Value) -> Value {
    assert_eq!(
        (&response["allowed"], &response["patchType"]),
        (&json!(true), &json!("JSONPatch"))
    );
    let patch: ByteString = serde_json::from_value(response["patch"].clone()).unwrap();
    let operations: Vec<Value> = serde_json::from_slice(&patch.0).unwrap();
    let mut object = object.clone();
    for operation in operations {
        assert_eq!(operation["op"], "add");
        let path: Vec<&str> = operation["path"].as_str().unwrap().split('/').skip(1).collect();
        let [part, name] = path.as_slice() else {
            panic!("{path:?}")
        };
        object[part][name] = operation["value"].clone();
    }
    object
}

#[tokio::test]
async fn paths_are_those_of_the_peer_and_no_others() {
    let scene = Scene::with(&[]);
    for (method, path, wanted) in [
        ("GET", HEALTH_PATH.to_owned(), StatusCode::OK),
        ("GET", "/".to_owned(), StatusCode::NOT_FOUND),
        ("POST", path("mutate", "spiderendpoint"), StatusCode::NOT_FOUND),
        ("GET", path("mutate", SUBNET), StatusCode::METHOD_NOT_ALLOWED),
        ("POST", path("mutate", SUBNET), StatusCode::BAD_REQUEST),
        ("POST", path("validate", POOL), StatusCode::BAD_REQUEST),
        ("POST", path("validate", RESERVED), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(
            send(scene.router(), method, &path, "").await.0,
            wanted,
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn what_is_no_question_is_told_so() {
    let scene = Scene::with(&[]);
    let a_pool = pool("p", &[]);
    let mut old_version = question("SpiderIPPool", "CREATE", &a_pool, &Value::Null);
    old_version["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let mut empty = question("SpiderIPPool", "CREATE", &a_pool, &Value::Null);
    empty["request"] = Value::Null;
    let other = question("SpiderSubnet", "CREATE", &a_pool, &Value::Null);
    for (body, code, said) in [
        ("{".to_owned(), 400, "failed to read the body as AdmissionReview"),
        (old_version.to_string(), 400, "send admission.k8s.io/v1 AdmissionReview"),
        (empty.to_string(), 400, "has no request"),
        (
            other.to_string(),
            400,
            "judges SpiderIPPool.spiderpool.spidernet.io and not SpiderSubnet",
        ),
        (" ".repeat(9 << 20), 413, "length limit"),
    ] {
        let (status, text) = send(scene.router(), "POST", &path("validate", POOL), body).await;
        assert!(status.as_u16() == code && text.contains(said), "{status} {text}");
    }
    let (mut text, counted) = (
        String::new(),
        "spiderpool_admission_requests_total{stage=\"validate\",kind=\"other\",operation=\"\",verdict=\"failed\"",
    );
    scene
        .metrics
        .register(|registry| prometheus_client::encoding::text::encode(&mut text, registry))
        .unwrap();
    assert!(text.contains(counted), "{text}");
}

#[tokio::test]
async fn nothing_is_judged_before_the_others_are_known() {
    let (api, caches) = (ApiServer::default(), Caches::detached());
    let webhook = Webhook {
        world: Arc::new(World::of(caches, api.client())),
        settings: SETTINGS,
        annotations: AnnotationPolicy::Warn,
        metrics: Admissions::register(&Metrics::new()),
    };
    let body = question("SpiderIPPool", "CREATE", &pool("p", &[]), &Value::Null).to_string();
    let (code, text) = send(router(webhook), "POST", &path("validate", POOL), body).await;
    assert!(
        code == StatusCode::SERVICE_UNAVAILABLE && text.contains("not read yet"),
        "{code} {text}"
    );
}

#[tokio::test]
async fn a_pool_is_completed_and_keeps_what_nobody_knows() {
    let mut rack = subnet("rack7", &["10.77.1.1-10.77.1.40"]);
    rack["spec"]["gateway"] = json!("10.77.0.1");
    let scene = Scene::with(&[rack]);
    let mut sent = pool("p", &["10.77.1.12", "10.77.1.10-10.77.1.12"]);
    sent["spec"]["newer"] = json!({"a": [1]});
    sent["metadata"]["labels"] = json!({"team": "a"});
    let answer = scene.ask("mutate", "CREATE", &sent, &Value::Null).await;
    let whole = patched(&sent, &answer);
    assert_eq!(whole["metadata"]["finalizers"], json!(["spiderpool.spidernet.io"]));
    let labels = json!({"team": "a", "ipam.spidernet.io/ippool-cidr": "10-77-0-0-20",
        "ipam.spidernet.io/owner-spider-subnet": "rack7"});
    assert_eq!(whole["metadata"]["labels"], labels);
    assert_eq!(whole["metadata"]["ownerReferences"][0]["uid"], "uid-rack7");
    let spec = json!({"subnet": "10.77.0.0/20", "ipVersion": 4, "ips": ["10.77.1.10-10.77.1.12"], "gateway": "10.77.0.1",
        "newer": {"a": [1]}});
    assert_eq!(whole["spec"], spec);
    assert_eq!(
        answer["warnings"],
        json!(["spec.ips[1]: 10.77.1.12 stands in ips more than once; it counts once"])
    );
    let again = scene.ask("mutate", "UPDATE", &whole, &sent).await;
    assert_eq!(
        again,
        json!({"uid": "q-1", "allowed": true}),
        "nothing is missing any more"
    );
    assert!(scene.create(&whole).await["allowed"].as_bool().unwrap());
}

#[tokio::test]
async fn a_pool_becomes_a_part_of_a_subnet_that_is_there_now_only() {
    let sent = pool("p", &["10.77.1.12"]);
    let owner = async |scene: &Scene| {
        let answer = scene.ask("mutate", "CREATE", &sent, &Value::Null).await;
        patched(&sent, &answer)["metadata"]["ownerReferences"][0]["uid"].clone()
    };
    let gone = Scene::with(&[]).knowing(&[subnet("rack7", &["10.77.1.12"])]);
    assert_eq!(owner(&gone).await, Value::Null);
    let mut anew = subnet("rack7", &["10.77.1.12"]);
    anew["metadata"]["uid"] = json!("made-anew");
    let renewed = Scene::with(&[anew]).knowing(&[subnet("rack7", &["10.77.1.12"])]);
    assert_eq!(owner(&renewed).await, "made-anew");
    let unknown = Scene::with(&[subnet("rack7", &["10.77.1.12"])]);
    unknown.api.fail();
    assert_eq!(owner(&unknown).await, Value::Null, "the operator looks again");
}

#[tokio::test]
async fn a_question_that_comes_slowly_takes_nobodys_place() {
    let router = Scene::with(&[]).router();
    let slow = || {
        let router = router.clone();
        let silence = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let request = Request::post(path("validate", POOL)).body(silence).unwrap();
        tokio::spawn(async move { router.oneshot(request).await.unwrap().status() })
    };
    let all: Vec<_> = (0..100).map(|_| slow()).collect();
    let answer = ask(router.clone(), "validate", "CREATE", &pool("p", &[]), &Value::Null).await;
    assert_eq!(answer["allowed"], true);
    for one in all {
        assert_eq!(one.await.unwrap(), StatusCode::REQUEST_TIMEOUT);
    }
}

#[tokio::test]
async fn completing_refuses_nothing() {
    let scene = Scene::with(&[]);
    for odd in [
        object("SpiderIPPool", "p", &json!({"subnet": 7, "ips": "all"})),
        object("SpiderReservedIP", "r", &json!({"ips": {"a": 1}})),
        json!({"kind": "SpiderSubnet", "metadata": {"name": "s"}}),
    ] {
        let answer = scene.ask("mutate", "CREATE", &odd, &Value::Null).await;
        assert_eq!(answer, json!({"uid": "q-1", "allowed": true}));
    }
    let deleted = scene.ask("mutate", "DELETE", &Value::Null, &pool("p", &[])).await;
    assert_eq!(deleted, json!({"uid": "q-1", "allowed": true}));
}

#[tokio::test]
async fn a_refusal_says_all_that_is_wrong_as_the_api_server_would() {
    let scene = Scene::with(&[
        pool("a", &["10.77.1.1-10.77.1.9"]),
        pool("b", &["10.77.1.10-10.77.1.19"]),
    ]);
    let mut new = pool("p", &["10.77.1.9-10.77.1.10"]);
    new["spec"]["gateway"] = json!("10.77.1.9");
    let answer = scene.create(&new).await;
    assert_eq!(answer["allowed"], false);
    let status = &answer["status"];
    assert_eq!(
        (&status["code"], &status["reason"], &status["status"]),
        (&json!(422), &json!("Invalid"), &json!("Failure"))
    );
    let details = &status["details"];
    assert_eq!(
        (&details["kind"], &details["group"], &details["name"]),
        (&json!("SpiderIPPool"), &json!("spiderpool.spidernet.io"), &json!("p"))
    );
    let causes = details["causes"].as_array().unwrap();
    let told: Vec<_> = causes
        .iter()
        .map(|cause| (cause["field"].as_str().unwrap(), cause["reason"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("spec.ips[0]", "FieldValueInvalid"),
            ("spec.ips", "FieldValueForbidden"),
            ("spec.ips", "FieldValueForbidden")
        ]
    );
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with("SpiderIPPool.spiderpool.spidernet.io \"p\" is invalid: [spec.ips[0]: Invalid value: ")
            && message.contains("spec.ips: Forbidden: overlap with SpiderIPPool a, which has 10.77.1.9 too")
            && message.contains("SpiderIPPool b"),
        "{message}"
    );
    assert_eq!(scene.api.read(), ["a", "b"]);
}

#[tokio::test]
async fn requests_refused_as_a_whole_have_the_codes_that_clients_test_for() {
    let mut taken = pool("p", &["10.77.1.1"]);
    let scene = Scene::with(&[taken.clone()]);
    taken["metadata"]["uid"] = json!("another");
    let answer = scene.create(&taken).await;
    assert_eq!(
        (&answer["status"]["code"], &answer["status"]["reason"]),
        (&json!(409), &json!("AlreadyExists"))
    );
    let mut going = pool("p", &["10.77.1.1"]);
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    going["metadata"]["finalizers"] = json!(["spiderpool.spidernet.io"]);
    let answer = scene.ask("validate", "UPDATE", &going, &going).await;
    assert_eq!(
        (&answer["status"]["code"], &answer["status"]["reason"]),
        (&json!(403), &json!("Forbidden"))
    );
    let answer = scene.ask("validate", "UPDATE", &taken, &Value::Null).await;
    assert_eq!(answer["status"]["code"], 400);
}

#[tokio::test]
async fn what_is_in_use_is_kept_from_deletion_where_that_is_switched_on() {
    let mut scene = Scene::with(&[]);
    let mut used = pool("p", &["10.77.1.1"]);
    used["status"] = json!({"allocatedIPCount": 1});
    let mut given = subnet("s", &["10.77.1.1"]);
    given["status"] = json!({"allocatedIPCount": 1});
    for protect in [false, true] {
        scene.settings.protect_used = protect;
        for object in [&used, &given] {
            let answer = scene.ask("validate", "DELETE", &Value::Null, object).await;
            assert_eq!(answer["allowed"], !protect, "{answer}");
            assert_eq!(
                protect.then(|| answer["status"]["code"].clone()),
                protect.then(|| json!(403))
            );
        }
    }
    let gone = object("SpiderIPPool", "p", &json!({"ips": 1}));
    assert_eq!(
        scene.ask("validate", "DELETE", &Value::Null, &gone).await["allowed"],
        true
    );
}

#[tokio::test]
async fn another_object_is_read_before_it_is_a_reason() {
    let new = pool("p", &["10.77.1.9"]);
    let (known, moved) = (pool("a", &["10.77.1.9"]), pool("a", &["10.77.1.8"]));
    let gone = Scene::with(&[]).knowing(std::slice::from_ref(&known));
    assert_eq!(gone.create(&new).await["allowed"], true);
    assert_eq!(gone.caches.pools.list().len(), 0, "what is gone is forgotten");
    let elsewhere = Scene::with(&[moved]).knowing(std::slice::from_ref(&known));
    assert_eq!(elsewhere.create(&new).await["allowed"], true);
    let unknown = Scene::with(std::slice::from_ref(&known));
    unknown.api.fail();
    assert_eq!(
        unknown.create(&new).await["allowed"],
        false,
        "what the watch told holds until something else is known"
    );
    // The API server waits for this answer no longer than five seconds.
    let silent = Scene::with(&[known.clone(), subnet("rack7", &["10.77.1.1"])]);
    silent.api.fall_silent();
    let begun = std::time::Instant::now();
    assert_eq!(silent.create(&new).await["allowed"], false);
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    // Nobody is asked for an object that is fine.
    let fine = Scene::with(&[known]);
    assert_eq!(
        fine.create(&pool("p", &["10.77.1.7"])).await,
        json!({"uid": "q-1", "allowed": true})
    );
    assert_eq!(fine.api.read(), Vec::<String>::new());
}

#[tokio::test]
async fn a_crowd_that_is_in_each_others_way_reads_what_is_in_the_way_once() {
    let scene = Scene::with(&[pool("a", &["10.77.1.9"])]);
    scene.api.slow_down(std::time::Duration::from_millis(50));
    let router = scene.router();
    let asks = (0..100).map(|number| {
        let (router, new) = (router.clone(), pool(&format!("p{number}"), &["10.77.1.9"]));
        async move { ask(router, "validate", "CREATE", &new, &Value::Null).await }
    });
    for answer in futures::future::join_all(asks).await {
        assert_eq!(answer["status"]["code"], 422);
    }
    // Those who came while one read share the next; not all are let in at once.
    assert!(scene.api.reads() < 10, "{} reads", scene.api.reads());
}

#[tokio::test]
async fn a_subnet_that_grew_a_moment_ago_has_room() {
    let (small, large) = (
        subnet("rack7", &["10.77.1.1-10.77.1.5"]),
        subnet("rack7", &["10.77.1.1-10.77.1.9"]),
    );
    let new = pool("p", &["10.77.1.9"]);
    let scene = Scene::with(std::slice::from_ref(&small));
    assert_eq!(scene.create(&new).await["status"]["code"], 422);
    let grown = Scene::with(&[large]).knowing(&[small]);
    assert_eq!(grown.create(&new).await["allowed"], true);
}

#[tokio::test]
async fn networks_around_and_inside_are_found() {
    let scene = Scene::with(&[
        object("SpiderSubnet", "wide", &json!({"subnet": "10.64.0.0/10"})),
        object("SpiderIPPool", "inner-a", &json!({"subnet": "10.77.3.0/24"})),
        object("SpiderIPPool", "inner-b", &json!({"subnet": "10.77.3.0/24"})),
        pool("same", &["10.77.1.1-10.77.1.9"]),
        object(
            "SpiderIPPool",
            "far",
            &json!({"subnet": "10.78.0.0/16", "ips": ["10.78.0.1"]}),
        ),
    ]);
    let fields = |answer: &Value| -> Vec<String> {
        let causes = answer["status"]["details"]["causes"].as_array().unwrap();
        causes
            .iter()
            .map(|cause| cause["message"].as_str().unwrap().to_owned())
            .collect()
    };
    let of_subnet = fields(&scene.create(&subnet("s", &["10.77.1.1-10.77.1.8"])).await);
    assert_eq!(of_subnet.len(), 3, "{of_subnet:?}");
    for (told, name) in of_subnet
        .iter()
        .zip(["SpiderSubnet wide", "SpiderIPPool inner-a", "SpiderIPPool same"])
    {
        assert!(told.contains(name), "{told}");
    }
    let of_pool = fields(&scene.create(&pool("p", &["10.77.1.20"])).await);
    assert_eq!(of_pool.len(), 2, "{of_pool:?}");
    for (told, name) in of_pool.iter().zip(["SpiderIPPool inner-a", "SpiderSubnet wide"]) {
        assert!(told.contains(name), "{told}");
    }
}

#[tokio::test]
async fn warnings_are_told_with_the_answer() {
    let reserved = object("SpiderReservedIP", "r", &json!({"ips": ["10.77.1.1-10.77.1.3"]}));
    let scene = Scene::with(&[pool("a", &["10.77.1.2"]), reserved.clone()]);
    let answer = scene.create(&reserved).await;
    assert_eq!(answer["allowed"], true);
    let expected = "spec.ips: all addresses of SpiderIPPool a are reserved now, so that no pod gets one of it";
    assert_eq!(answer["warnings"], json!([expected]));
    let answer = scene.create(&pool("b", &["10.77.1.3"])).await;
    let expected = "spec.ips: all addresses are reserved by SpiderReservedIPs (`kubectl get sr`), so no pod gets one";
    assert_eq!(answer["warnings"], json!([expected]));
    let many: Vec<String> = (0..20).map(|_| "10.77.1.7".to_owned()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let answer = scene.ask("mutate", "CREATE", &pool("c", &many), &Value::Null).await;
    let told = answer["warnings"].as_array().unwrap();
    assert_eq!((told.len(), &told[10]), (11, &json!("and 9 more warnings")));
}

#[tokio::test]
async fn huge_pools_are_no_work() {
    let scene = Scene::with(&[]);
    let wide = object(
        "SpiderIPPool",
        "v6",
        &json!({"subnet": "fd77::/64", "ips": ["fd77::-fd77::ffff:ffff:ffff:ffff"]}),
    );
    assert_eq!(scene.create(&wide).await["allowed"], true);
    let large = object(
        "SpiderIPPool",
        "v4",
        &json!({"subnet": "10.0.0.0/8", "ips": ["10.16.0.0-10.31.255.255"]}),
    );
    let answer = scene.create(&large).await;
    assert!(
        answer["warnings"][0].as_str().unwrap().contains("1048576 addresses"),
        "{answer}"
    );
}
