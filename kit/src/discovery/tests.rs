use super::*;
use axum::body::Body;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};

const ROLLOUTS: &str = "argoproj.io/v1alpha1";

fn resource(name: &str, kind: &str) -> serde_json::Value {
    json!({"name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["get"]})
}

fn list() -> APIResourceList {
    let scale = json!({"name": "rollouts/scale", "singularName": "", "namespaced": true, "group": "autoscaling",
        "version": "v1", "kind": "Scale", "verbs": ["get", "patch", "update"]});
    let text = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": ROLLOUTS, "resources": [
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

#[test]
fn the_preferred_version_is_that_of_the_very_group() {
    let version = |name: &str| json!({"groupVersion": name, "version": name.split('/').nth(1)});
    let groups: APIGroupList = serde_json::from_value(json!({"groups": [
        {"name": "apps", "versions": [version("apps/v1")], "preferredVersion": version("apps/v1")},
        {"name": "argoproj.io", "versions": [version("argoproj.io/v2"), version("argoproj.io/v1")],
            "preferredVersion": version("argoproj.io/v1")},
        {"name": "plain.org", "versions": [version("plain.org/v3")]},
    ]}))
    .unwrap();
    assert_eq!(preferred(&groups, "argoproj.io").as_deref(), Some("argoproj.io/v1"));
    assert_eq!(preferred(&groups, "plain.org").as_deref(), Some("plain.org/v3"));
    assert_eq!(preferred(&groups, "argoproj"), None);
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

const SERVED: &str = r#"{"groupVersion":"argoproj.io/v2","resources":[
    {"name":"rollouts","singularName":"","namespaced":true,"kind":"Rollout","verbs":[]},
    {"name":"rollouts/scale","singularName":"","namespaced":true,"kind":"Scale","verbs":[]}]}"#;

#[tokio::test(start_paused = true)]
async fn answers_are_remembered_and_a_no_for_less_long_than_a_yes() {
    let (client, asked) = client(&[("/apis/argoproj.io/v1alpha1", 200, SERVED)]);
    let scales = Scales::new(client);
    let asks = || asked.load(Ordering::SeqCst);
    for _ in 0..3 {
        assert!(scales.has_scale(ROLLOUTS, "Rollout", soon()).await.unwrap());
        assert!(!scales.has_scale(ROLLOUTS, "Experiment", soon()).await.unwrap());
    }
    assert_eq!(asks(), 1);
    tokio::time::advance(NO).await;
    assert!(scales.has_scale(ROLLOUTS, "Rollout", soon()).await.unwrap());
    assert_eq!(asks(), 1);
    assert!(!scales.has_scale(ROLLOUTS, "Experiment", soon()).await.unwrap());
    assert_eq!(asks(), 2);
    tokio::time::advance(YES).await;
    assert!(scales.has_scale(ROLLOUTS, "Rollout", soon()).await.unwrap());
    assert_eq!(asks(), 3);
}

#[tokio::test(start_paused = true)]
async fn requests_that_come_together_ask_once() {
    let (client, asked) = client(&[("/apis/argoproj.io/v1alpha1", 200, SERVED)]);
    let scales = Scales::new(client);
    let many = (0..20).map(|_| scales.has_scale(ROLLOUTS, "Rollout", soon()));
    assert!(futures::future::join_all(many).await.into_iter().all(Result::unwrap));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_group_that_is_not_served_has_no_kind_that_scales() {
    let (client, _) = client(&[("/apis", 200, r#"{"groups":[]}"#)]);
    let scales = Scales::new(client);
    assert!(!scales.has_scale(ROLLOUTS, "Rollout", soon()).await.unwrap());
    assert!(!scales.has_scale("v1", "Node", soon()).await.unwrap());
}

#[tokio::test]
async fn nothing_but_an_api_version_becomes_a_path() {
    let (client, asked) = client(&[]);
    let scales = Scales::new(client);
    for text in ["", "../v1", "a/..", "a/b/c", "a/v1?watch=1", "/v1", "a b/v1"] {
        assert!(!scales.has_scale(text, "Rollout", soon()).await.unwrap(), "{text}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_version_that_is_served_no_more_is_answered_by_the_preferred_one() {
    let groups = r#"{"groups":[{"name":"argoproj.io","versions":[{"groupVersion":"argoproj.io/v2","version":"v2"}],
        "preferredVersion":{"groupVersion":"argoproj.io/v2","version":"v2"}}]}"#;
    let answers = Box::leak(Box::new([
        ("/apis", 200, groups),
        ("/apis/argoproj.io/v2", 200, SERVED),
    ]));
    let scales = Scales::new(client(answers).0);
    assert!(scales.has_scale(ROLLOUTS, "Rollout", soon()).await.unwrap());
}

#[tokio::test]
async fn no_answer_is_an_error_and_is_not_remembered() {
    let (client, asked) = client(&[("/apis/argoproj.io/v1alpha1", 503, "service unavailable")]);
    let scales = Scales::new(client);
    for times in 1..3 {
        let error = scales
            .has_scale(ROLLOUTS, "Rollout", soon())
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("Rollout of argoproj.io/v1alpha1") && error.contains("code 503"),
            "{error}"
        );
        assert_eq!(asked.load(Ordering::SeqCst), times);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_waited_for_until_the_deadline() {
    let service = tower::service_fn(|_: http::Request<kube::client::Body>| {
        std::future::pending::<Result<http::Response<Body>, std::io::Error>>()
    });
    let scales = Scales::new(Client::new(service, "default"));
    let error = scales.has_scale(ROLLOUTS, "Rollout", soon()).await.unwrap_err();
    assert!(error.to_string().contains("did not answer in time"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_is_bounded() {
    let (client, _) = client(&[("/apis", 200, r#"{"groups":[]}"#)]);
    let scales = Scales::new(client);
    for group in 0..2 * REMEMBERED {
        assert!(!scales.has_scale(&format!("g{group}/v1"), "K", soon()).await.unwrap());
    }
    assert!(scales.slots.lock().unwrap().len() <= REMEMBERED);
}
