//! Questions about workloads, as the API server asks them.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use spiderpool_crds::conf::AnnotationPolicy;
use spiderpool_webhook::lint::handler::{PATH, router};
use tower::ServiceExt;

fn deployment(annotations: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop"},
        "spec": {"template": {"metadata": {"annotations": annotations}}}})
}

/// The response to a question about a Deployment.
async fn ask(policy: AnnotationPolicy, group: &str, object: &Value, old: &Value) -> Value {
    let operation = if old.is_null() { "CREATE" } else { "UPDATE" };
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "kind": {"group": group, "version": "v1", "kind": "Deployment"}, "name": "shop", "namespace": "retail",
        "operation": operation, "object": object, "oldObject": old,
    }});
    let request = Request::post(PATH).header("content-type", "application/json");
    let request = request.body(Body::from(review.to_string())).unwrap();
    let response = router(policy).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["response"]["uid"], "u");
    answer["response"].clone()
}

const FIELD: &str = "spec.template.metadata.annotations[ipam.spidernet.io/subnet]";

#[tokio::test]
async fn a_mistake_is_a_warning() {
    let wrong = deployment(&json!({"ipam.spidernet.io/subnet": "{}"}));
    let answer = ask(AnnotationPolicy::Warn, "apps", &wrong, &Value::Null).await;
    assert_eq!(answer["allowed"], true);
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(
        warning.starts_with(&format!("{FIELD}: the value names no subnet")),
        "{warning}"
    );
    // Another group's kind of that name is none of ours.
    let other = ask(AnnotationPolicy::Enforce, "example.com", &wrong, &Value::Null).await;
    assert_eq!(other["allowed"], true);
    assert_eq!(other["warnings"], Value::Null);
}

#[tokio::test]
async fn a_mistake_is_refused_where_that_is_wanted() {
    let annotations =
        json!({"ipam.spidernet.io/subnet": "{}", "ipam.spidernet.io/roots": "", "ipam.spidernet.io/other": ""});
    let wrong = deployment(&annotations);
    let answer = ask(AnnotationPolicy::Enforce, "apps", &wrong, &Value::Null).await;
    assert_eq!(answer["allowed"], false);
    let status = &answer["status"];
    assert_eq!(
        (status["code"].as_i64(), status["reason"].as_str()),
        (Some(422), Some("Invalid"))
    );
    let causes: Vec<&Value> = status["details"]["causes"].as_array().unwrap().iter().collect();
    let fields: Vec<&str> = causes.iter().map(|cause| cause["field"].as_str().unwrap()).collect();
    assert_eq!(
        fields,
        ["spec.template.metadata.annotations[ipam.spidernet.io/roots]", FIELD]
    );
    let message = status["message"].as_str().unwrap();
    for words in [
        "did you mean ipam.spidernet.io/routes?",
        r#"Invalid value: "{}": the value names no subnet"#,
        "write for example",
    ] {
        assert!(message.contains(words), "{message}");
    }
    let warnings = answer["warnings"].as_array().unwrap();
    assert!(
        warnings.len() == 1 && warnings[0].as_str().unwrap().contains("[ipam.spidernet.io/other]"),
        "{warnings:?}"
    );
}

#[tokio::test]
async fn only_whoever_makes_a_mistake_is_refused() {
    let wrong = deployment(&json!({"ipam.spidernet.io/subnet": "{}"}));
    let mut scaled = wrong.clone();
    scaled["spec"]["replicas"] = json!(3);
    let answer = ask(AnnotationPolicy::Enforce, "apps", &scaled, &wrong).await;
    assert_eq!(answer["allowed"], true);
    assert!(answer["warnings"][0].as_str().unwrap().starts_with(FIELD));
    let worse = deployment(&json!({"ipam.spidernet.io/subnet": "["}));
    assert_eq!(
        ask(AnnotationPolicy::Enforce, "apps", &worse, &wrong).await["allowed"],
        false
    );
    let right = deployment(&json!({"ipam.spidernet.io/subnet": r#"{"ipv4":["a"]}"#}));
    let answer = ask(AnnotationPolicy::Enforce, "apps", &right, &wrong).await;
    assert_eq!((&answer["allowed"], &answer["warnings"]), (&json!(true), &Value::Null));
    let mut going = worse;
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(
        ask(AnnotationPolicy::Enforce, "apps", &going, &wrong).await["allowed"],
        true
    );
}

#[tokio::test]
async fn a_long_value_is_not_repeated() {
    let long = "x".repeat(200_000);
    let many = (0..100).map(|number| (format!("ipam.spidernet.io/subnet{number}"), json!("")));
    let mut annotations: serde_json::Map<String, Value> = many.collect();
    annotations.insert("ipam.spidernet.io/ip".to_owned(), json!(format!("{{\"{long}\":1}}")));
    let wrong = deployment(&Value::Object(annotations));
    for policy in [AnnotationPolicy::Warn, AnnotationPolicy::Enforce] {
        let answer = ask(policy, "apps", &wrong, &Value::Null).await.to_string();
        assert!(answer.contains("[ipam.spidernet.io/ip]: "), "{answer}");
        assert!(answer.len() < 20_000, "{} bytes", answer.len());
    }
}
