//! Messages between the CNI plugin and the node agent on the agent's unix socket.
//!
//! Both sides use these types, so that a field cannot be spelled in two ways. The JSON is a contract beyond this
//! repository: during an upgrade an older plugin talks to a newer agent and the other way round, therefore names, `null`
//! for an empty list and omission of unset members are fixed by the golden tests in `tests/golden.rs`, and unknown members are
//! accepted everywhere.
//!
//! The protocol is HTTP/1.1, base path `/v1`, JSON both ways; the body of every failure is a bare JSON string (see
//! [`error_body`] and [`error_text`]). This crate holds no transport: a client without an async runtime and a server with one share it.

mod endpoint;
mod explain;
mod failure;
mod ipam;
pub mod journal;
mod unset;

use std::time::Duration;

pub use endpoint::{EndpointInterface, EndpointRoute, WorkloadEndpointStatus};
pub use explain::{ExplainedAddress, Explanation, FamilyExplanation, PoolExplanation};
pub use failure::{error_body, error_text};
pub use ipam::{
    Conflict, Dns, IpConfig, IpamAddArgs, IpamAddResponse, IpamBatchDelArgs, IpamDelArgs, IpamGcArgs, Route,
    ValidAttachment,
};

/// Socket the agent listens on when the configuration names no other.
pub const DEFAULT_SOCKET_PATH: &str = "/var/run/spidernet/spiderpool.sock";

/// Largest body either side reads; more is refused, since the socket's peer decides how much memory it would cost.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// How long the plugin gives one whole command before it reports failure to the container runtime.
pub const CLIENT_TIMEOUT: Duration = Duration::from_secs(100);

/// How long the agent may work on one request, so that its reason reaches the plugin before [`CLIENT_TIMEOUT`] ends the call.
pub const AGENT_TIMEOUT: Duration = Duration::from_secs(95);

/// Paths of the API, base path included.
pub mod path {
    /// `GET`: the agent can serve; empty body.
    pub const HEALTHY: &str = "/v1/ipam/healthy";
    /// `POST`: [`IpamAddArgs`](crate::IpamAddArgs) to [`IpamAddResponse`](crate::IpamAddResponse);
    /// `DELETE`: [`IpamDelArgs`](crate::IpamDelArgs) to an empty body.
    pub const IP: &str = "/v1/ipam/ip";
    /// `DELETE`: [`IpamBatchDelArgs`](crate::IpamBatchDelArgs) to an empty body; `POST`: a stub that does nothing.
    pub const IPS: &str = "/v1/ipam/ips";
    /// `POST`: [`IpamGcArgs`](crate::IpamGcArgs) to an empty body.
    pub const GC: &str = "/v1/ipam/gc";
    /// `GET` with the query [`QUERY_POD_NAMESPACE`] and [`QUERY_POD_NAME`]:
    /// [`WorkloadEndpointStatus`](crate::WorkloadEndpointStatus).
    pub const WORKLOAD_ENDPOINT: &str = "/v1/workloadendpoint";
    /// `GET` with a body: the coordinator's configuration for one pod.
    pub const COORDINATOR_CONFIG: &str = "/v1/coordinator/config";
    /// `GET` with the query [`QUERY_POD`] and, unless `eth0` is meant, [`QUERY_NIC`]:
    /// [`Explanation`](crate::Explanation).
    pub const EXPLAIN: &str = "/v1/ipam/explain";
    /// Query member of [`EXPLAIN`]: `namespace/name`.
    pub const QUERY_POD: &str = "pod";
    /// Query member of [`EXPLAIN`].
    pub const QUERY_NIC: &str = "nic";
    /// Query member of [`WORKLOAD_ENDPOINT`].
    pub const QUERY_POD_NAMESPACE: &str = "podNamespace";
    /// Query member of [`WORKLOAD_ENDPOINT`].
    pub const QUERY_POD_NAME: &str = "podName";
}

/// Status codes of the API outside the registered ones.
pub mod status {
    /// Releasing conflicting addresses is switched off for stateless pods.
    pub const FORBIDDEN_STATELESS: u16 = 521;
    /// Releasing conflicting addresses is never done for pods that keep their addresses.
    pub const FORBIDDEN_STATEFUL: u16 = 522;
}
