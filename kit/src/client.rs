//! The two API clients of a daemon.
//!
//! Work in the background wants persistence: [`patient`] lets the client retry what the API server asks to have retried.
//! A pod that waits for its address wants an answer within its own deadline: on those paths, and where leadership hangs on
//! it, [`prompt`] fails at once and leaves retries to the caller, so that two retry layers never multiply.
//!
//! Neither sets a limit on a whole request, since a watch is a request too: wrap unary calls in
//! [`deadline::within`](crate::deadline::within).

use std::time::Duration;

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

/// A client for paths somebody waits on: no retries of its own, fast to notice an absent API server.
pub fn prompt(mut config: kube::Config) -> Result<kube::Client, Error> {
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(2));
    config.write_timeout = None;
    config.read_timeout = Some(Duration::from_secs(30));
    config.reset_reader_on_write = true;
    kube::Client::try_from(config).map_err(Error::Build)
}
