use std::convert::Infallible;
use std::task::Poll;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::Request;
use futures::stream;
use serde_json::Value;
use tower::ServiceExt;

use super::*;
use crate::reclaim::tests::scene::Scene;

async fn ask(router: &axum::Router, request: Request<Body>) -> (u16, Value) {
    let answer = router.clone().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let bytes = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap())
}

fn get(token: Option<&str>) -> Request<Body> {
    let request = Request::get("/v1/ipam/check");
    let request = match token {
        Some(token) => request.header("authorization", format!("Bearer {token}")),
        None => request,
    };
    request.body(Body::empty()).unwrap()
}

fn post(token: &str, body: &Value) -> Request<Body> {
    post_body(token, Body::from(body.to_string()))
}

fn post_body(token: &str, body: Body) -> Request<Body> {
    let request = Request::post("/v1/ipam/repair")
        .header("authorization", format!("bearer {token}"))
        .header("content-type", "application/json");
    request.body(body).unwrap()
}

/// A pool with a record of a pod that is gone, and users with a right each.
fn scene() -> (Scene, axum::Router) {
    let scene = Scene::new();
    scene.record(&[("10.0.0.1", "gone", "gone-uid")]);
    scene.status(|status| status["allocatedIPCount"] = json!(1));
    scene.cluster.allow("r", "reader", &[("get", "checks")]);
    scene.cluster.allow("w", "mender", &[("create", "repairs")]);
    let context = Context::of(scene.cluster.client());
    for pool in scene.context.caches.pools.list() {
        context.caches.pools.learn((*pool).clone());
    }
    let router = router(Arc::new(context));
    (scene, router)
}

#[tokio::test(start_paused = true)]
async fn who_may_read_may_not_repair_and_who_is_unknown_may_nothing() {
    let (_scene, router) = scene();
    assert_eq!(ask(&router, get(None)).await.0, 401);
    let (status, answer) = ask(&router, get(Some("x"))).await;
    assert_eq!(status, 401);
    assert!(answer["error"].as_str().unwrap().contains("never seen"), "{answer}");
    let (status, answer) = ask(&router, get(Some("w"))).await;
    assert_eq!(status, 403);
    assert!(
        answer["error"]
            .as_str()
            .unwrap()
            .starts_with("mender may not get checks"),
        "{answer}"
    );
    let (status, report) = ask(&router, get(Some("r"))).await;
    assert_eq!(status, 200, "{report}");
    assert_eq!(ask(&router, post("r", &report)).await.0, 403);
    assert_eq!(ask(&router, post("w", &report)).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_report_is_repaired_as_far_as_it_is_sent_back() {
    let (scene, router) = scene();
    let (_, report) = ask(&router, get(Some("r"))).await;
    let expected = json!([{"id": "Leak/p/10.0.0.1/gone-uid/", "kind": "Leak", "address": "10.0.0.1",
        "pods": [{"pod": "ns/gone", "uid": "gone-uid"}], "repair": "Free",
        "message": "IPPool p has 10.0.0.1 on record for Pod ns/gone with UID gone-uid, and there is no such pod"}]);
    assert_eq!(report["findings"], expected);
    let (_, again) = ask(&router, get(Some("r"))).await;
    assert_eq!(again["findings"], expected, "ids stay");
    tokio::time::advance(Duration::from_secs(31)).await;
    let mut none = report.clone();
    none["findings"] = json!([]);
    assert_eq!(ask(&router, post("w", &none)).await.1["results"], json!([]));
    let mut another = report.clone();
    another["id"] = json!("0");
    assert_eq!(ask(&router, post("w", &another)).await.0, 409);
    assert_eq!(ask(&router, post("w", &json!({"findings": []}))).await.0, 422);
    assert_eq!(scene.recorded(), ["10.0.0.1"]);
    let (status, answer) = ask(&router, post("w", &report)).await;
    assert_eq!((status, &answer["results"][0]["outcome"]), (200, &json!("Repaired")));
    assert_eq!(scene.recorded(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn when_nobody_can_say_who_asks_nothing_is_done() {
    let (scene, router) = scene();
    scene.cluster.fail("tokenreviews");
    assert_eq!(ask(&router, get(Some("r"))).await.0, 503);
}

#[tokio::test(start_paused = true)]
async fn of_who_may_not_repair_no_body_is_read() {
    let (_scene, router) = scene();
    for (token, status) in [("", 401), ("x", 401), ("r", 403)] {
        let unread = stream::poll_fn(|_| -> Poll<Option<Result<Bytes, Infallible>>> { panic!("the body was read") });
        let request = post_body(token, Body::from_stream(unread));
        assert_eq!(ask(&router, request).await.0, status, "{token}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_without_an_end_is_not_read_for_ever() {
    let (_scene, router) = scene();
    let much = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[b' '; 1 << 16])));
    assert_eq!(ask(&router, post_body("w", Body::from_stream(much))).await.0, 413);
    let slow = stream::pending::<Result<Bytes, Infallible>>();
    assert_eq!(ask(&router, post_body("w", Body::from_stream(slow))).await.0, 408);
}
