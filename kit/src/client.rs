//! The two API clients of a daemon.
//!
//! Work in the background wants persistence: [`patient`] lets the client retry what the API server asks to have retried.
//! A pod that waits for its address wants an answer within its own deadline: on those paths, and where leadership hangs on
//! it, [`prompt`] fails at once and leaves retries to the caller, so that two retry layers never multiply.
//!
//! Neither sets a limit on a whole request, since a watch is a request too: wrap unary calls in
//! [`deadline::within`](crate::deadline::within).

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Response};
use kube::client::ClientBuilder;
use tower::BoxError;
use tower::util::MapResponseLayer;

/// The longest a watch may stay open, and after which silence on it counts as a dead connection (see [`crate::cache`]).
pub(crate) const WATCH_TIMEOUT: Duration = Duration::from_secs(120);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a kubeconfig nor a service account was found.
    #[error(
        "failed to find out how to reach the API server: {0}; set KUBECONFIG, or run in a pod with a service account token"
    )]
    Infer(#[source] kube::config::InferConfigError),
    /// The configuration cannot be turned into a client, for instance a certificate does not parse.
    #[error("failed to build a client for the API server: {0}")]
    Build(#[source] kube::Error),
}

/// The cluster's address and credentials: kubeconfig where there is one, else the pod's service account.
pub async fn infer() -> Result<kube::Config, Error> {
    kube::Config::infer().await.map_err(Error::Infer)
}

/// A client for watches and controllers: answers 429, 503 and 504 are retried by it.
pub fn patient(mut config: kube::Config) -> Result<kube::Client, Error> {
    config.default_retry = true;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.write_timeout = None;
    // Longer than any watch lives, so it cuts only connections that are dead without having said so.
    config.read_timeout = Some(WATCH_TIMEOUT + Duration::from_secs(30));
    config.reset_reader_on_write = true;
    kube::Client::try_from(config).map_err(Error::Build)
}

/// A client for paths somebody waits on: no retries of its own, fast to notice an absent API server. When the server wants to be
/// left alone for a while, the error's details say for how long.
pub fn prompt(mut config: kube::Config) -> Result<kube::Client, Error> {
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(2));
    config.write_timeout = None;
    config.read_timeout = Some(Duration::from_secs(30));
    config.reset_reader_on_write = true;
    let client = ClientBuilder::try_from(config).map_err(Error::Build)?;
    Ok(client.with_layer(&MapResponseLayer::new(keep_retry_after)).build())
}

/// The API server's limit of requests refuses with a plain text, and only a header says when to come again. A caller is shown no
/// headers, so the text gives way to a status that says it.
fn keep_retry_after<B>(response: Response<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let code = response.status();
    let refused = code.is_client_error() || code.is_server_error();
    let text = |headers: &HeaderMap, name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok().map(str::to_owned))
    };
    let json = text(response.headers(), CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
    let after = text(response.headers(), RETRY_AFTER).and_then(|seconds| seconds.parse::<u32>().ok());
    match after {
        Some(after) if refused && !json => {
            let status = serde_json::json!({
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "message": code.canonical_reason().unwrap_or("refused for now"),
                "code": code.as_u16(),
                "details": {"retryAfterSeconds": after},
            });
            let mut response = Response::new(Body::from(status.to_string()));
            *response.status_mut() = code;
            response
        }
        Some(_) | None => response.map(Body::new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::Api;
    use kube::api::PostParams;

    /// What a caller is told of an answer.
    async fn told(code: u16, kind: &str, body: &'static str) -> kube::core::Status {
        let answer = Response::builder()
            .status(code)
            .header(CONTENT_TYPE, kind)
            .header(RETRY_AFTER, "7")
            .body(Body::from(body))
            .unwrap();
        let mut answer = Some(keep_retry_after(answer));
        let service = tower::service_fn(move |_: http::Request<kube::client::Body>| {
            let answer = answer.take();
            async move { answer.ok_or("asked twice") }
        });
        let client = kube::Client::new(service, "default");
        let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::default_namespaced(client);
        let error = maps
            .create(&PostParams::default(), &Default::default())
            .await
            .unwrap_err();
        match error {
            kube::Error::Api(status) => *status,
            other => panic!("{other}"),
        }
    }

    #[tokio::test]
    async fn an_overloaded_server_is_understood_whether_it_says_so_in_a_header_or_a_status() {
        let status = told(
            429,
            "text/plain; charset=utf-8",
            "Too many requests, please try again later.",
        )
        .await;
        assert_eq!((status.code, &*status.message), (429, "Too Many Requests"));
        assert_eq!(status.details.unwrap().retry_after_seconds, 7);
        let own =
            r#"{"kind":"Status","status":"Failure","message":"own","code":500,"details":{"retryAfterSeconds":3}}"#;
        let status = told(500, "application/json", own).await;
        assert_eq!((status.code, &*status.message), (500, "own"));
        assert_eq!(status.details.unwrap().retry_after_seconds, 3);
    }
}
