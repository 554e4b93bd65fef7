use super::*;
use axum::body::Body;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};

const ARGO: &str = "argoproj.io";

fn resource(name: &str, kind: &str) -> serde_json::Value {
    json!({"name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["get"]})
}

fn list() -> APIResourceList {
    let scale = json!({"name": "rollouts/scale", "singularName": "", "namespaced": true, "group": "autoscaling",
        "version": "v1", "kind": "Scale", "verbs": ["get", "patch", "update"]});
    let text = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "argoproj.io/v1alpha1", "resources": [
        resource("rollouts", "Rollout"),
        resource("rollouts/status", "Rollout"),
        scale,
        resource("experiments", "Experiment"),
        resource("experiments/status", "Experiment"),
        resource("orphans/scale", "Scale"),
    ]});
    serde_json::from_value(text).unwrap()
}

#[test]
fn a_kind_scales_when_its_own_plural_has_the_subresource() {
    assert_eq!(scaled_kinds(&list()), BTreeSet::from(["Rollout".to_owned()]));
    let empty: APIResourceList = serde_json::from_value(json!({"groupVersion": "a/v1", "resources": []})).unwrap();
    assert!(scaled_kinds(&empty).is_empty());
}

/// A client whose server answers by path; what it has no answer for is not served.
fn client(answers: &'static [(&'static str, u16, &'static str)]) -> (Client, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        count.fetch_add(1, Ordering::SeqCst);
        let path = request.uri().path().to_owned();
        let found = answers.iter().find(|(known, _, _)| *known == path);
        let (code, text) = found.map_or((404, "404 page not found"), |(_, code, text)| (*code, *text));
        let response = http::Response::builder().status(code).body(Body::from(text));
        async move { response }
    });
    (Client::new(service, "default"), asked)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

const GROUP: (&str, u16, &str) = (
    "/apis/argoproj.io",
    200,
    r#"{"name":"argoproj.io","versions":[{"groupVersion":"argoproj.io/v2","version":"v2"},
        {"groupVersion":"argoproj.io/v1alpha1","version":"v1alpha1"}]}"#,
);

/// The newest version has no scale subresource.
const V2: (&str, u16, &str) = (
    "/apis/argoproj.io/v2",
    200,
    r#"{"groupVersion":"argoproj.io/v2","resources":[
        {"name":"rollouts","singularName":"","namespaced":true,"kind":"Rollout","verbs":[]}]}"#,
);

const V1ALPHA1: (&str, u16, &str) = (
    "/apis/argoproj.io/v1alpha1",
    200,
    r#"{"groupVersion":"argoproj.io/v1alpha1","resources":[
        {"name":"rollouts","singularName":"","namespaced":true,"kind":"Rollout","verbs":[]},
        {"name":"rollouts/scale","singularName":"","namespaced":true,"kind":"Scale","verbs":[]}]}"#,
);

/// How many requests one look at the group takes.
const LOOK: usize = 3;

#[tokio::test(start_paused = true)]
async fn answers_are_remembered_and_a_no_for_less_long_than_a_yes() {
    let (client, asked) = client(&[GROUP, V2, V1ALPHA1]);
    let scales = Scales::new(client);
    let asks = || asked.load(Ordering::SeqCst);
    for _ in 0..3 {
        assert!(scales.has_scale(ARGO, "Rollout", soon()).await.unwrap());
        assert!(!scales.has_scale(ARGO, "Experiment", soon()).await.unwrap());
    }
    assert_eq!(asks(), LOOK);
    tokio::time::advance(NO).await;
    assert!(scales.has_scale(ARGO, "Rollout", soon()).await.unwrap());
    assert_eq!(asks(), LOOK);
    assert!(!scales.has_scale(ARGO, "Experiment", soon()).await.unwrap());
    assert_eq!(asks(), 2 * LOOK);
    tokio::time::advance(YES).await;
    assert!(scales.has_scale(ARGO, "Rollout", soon()).await.unwrap());
    assert_eq!(asks(), 3 * LOOK);
}

#[tokio::test(start_paused = true)]
async fn requests_that_come_together_ask_once() {
    let (client, asked) = client(&[GROUP, V2, V1ALPHA1]);
    let scales = Scales::new(client);
    let many = (0..20).map(|_| scales.has_scale(ARGO, "Rollout", soon()));
    assert!(futures::future::join_all(many).await.into_iter().all(Result::unwrap));
    assert_eq!(asked.load(Ordering::SeqCst), LOOK);
}

#[tokio::test]
async fn a_group_that_is_not_served_has_no_kind_that_scales() {
    let scales = Scales::new(client(&[]).0);
    assert!(!scales.has_scale(ARGO, "Rollout", soon()).await.unwrap());
}

#[tokio::test]
async fn nothing_but_an_api_group_becomes_a_path() {
    let (client, asked) = client(&[]);
    let scales = Scales::new(client);
    for text in ["", "..", "a/..", "a/b", "a?watch=1", "/a", "a b"] {
        assert!(!scales.has_scale(text, "Rollout", soon()).await.unwrap(), "{text}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_version_that_goes_while_the_group_is_read_says_nothing() {
    let scales = Scales::new(client(&[GROUP, V1ALPHA1]).0);
    assert!(scales.has_scale(ARGO, "Rollout", soon()).await.unwrap());
    let scales = Scales::new(client(&[GROUP, V2]).0);
    assert!(!scales.has_scale(ARGO, "Rollout", soon()).await.unwrap());
}

#[tokio::test]
async fn no_answer_is_an_error_and_is_not_remembered() {
    let (client, asked) = client(&[GROUP, V2, ("/apis/argoproj.io/v1alpha1", 503, "service unavailable")]);
    let scales = Scales::new(client);
    for times in 1..3 {
        let error = scales.has_scale(ARGO, "Rollout", soon()).await.unwrap_err().to_string();
        assert!(
            error.contains("Rollout of argoproj.io has") && error.contains("code 503"),
            "{error}"
        );
        assert_eq!(asked.load(Ordering::SeqCst), times * LOOK);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_waited_for_until_the_deadline() {
    let service = tower::service_fn(|_: http::Request<kube::client::Body>| {
        std::future::pending::<Result<http::Response<Body>, std::io::Error>>()
    });
    let scales = Scales::new(Client::new(service, "default"));
    let error = scales.has_scale(ARGO, "Rollout", soon()).await.unwrap_err();
    assert!(error.to_string().contains("did not answer in time"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_is_bounded() {
    let scales = Scales::new(client(&[]).0);
    for group in 0..2 * REMEMBERED {
        assert!(!scales.has_scale(&format!("g{group}"), "K", soon()).await.unwrap());
    }
    assert!(scales.slots.lock().unwrap().len() <= REMEMBERED);
}
