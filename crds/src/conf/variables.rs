//! Environment variables that charts set.

/// What some program of ours reads.
const READ: [&str; 18] = [
    "SPIDERPOOL_ENABLED_METRIC",
    "SPIDERPOOL_ENABLED_RELEASE_CONFLICT_IPS",
    "SPIDERPOOL_HEALTH_PORT",
    "SPIDERPOOL_IPPOOL_INFORMER_WORKERS",
    "SPIDERPOOL_JOURNAL_PATH",
    "SPIDERPOOL_LEADER_DURATION",
    "SPIDERPOOL_LEADER_RENEW_DEADLINE",
    "SPIDERPOOL_LEADER_RETRY_PERIOD",
    "SPIDERPOOL_LISTEN_ADDRESS",
    "SPIDERPOOL_LOG_FORMAT",
    "SPIDERPOOL_LOG_LEVEL",
    "SPIDERPOOL_METRIC_HTTP_PORT",
    "SPIDERPOOL_NODE_NAME",
    "SPIDERPOOL_POD_NAME",
    "SPIDERPOOL_POD_NAMESPACE",
    "SPIDERPOOL_SUBNET_INFORMER_WORKERS",
    "SPIDERPOOL_WEBHOOK_PORT",
    "SPIDERPOOL_WORKLOADS_ROLE",
];

/// What programs of spiderpool v1.2 read or its documentation names, and what has no effect here.
const WITHOUT_EFFECT: [&str; 27] = [
    "SPIDERPOOL_AUTO_IPPOOL_HANDLER_MAX_WORKQUEUE_LENGTH",
    "SPIDERPOOL_CILIUM_CONFIGMAP_NAMESPACE_NAME",
    "SPIDERPOOL_CNI_CONFIG_DIR",
    "SPIDERPOOL_CONTROLLER_DEPLOYMENT_NAME",
    "SPIDERPOOL_COORDINATOR_DEAFULT_NAME",
    "SPIDERPOOL_COORDINATOR_ENABLED",
    "SPIDERPOOL_COORDINATOR_INFORMER_RESYNC_PERIOD",
    "SPIDERPOOL_ENABLED_DEBUG_METRIC",
    "SPIDERPOOL_ENABLED_RDMA_METRIC",
    "SPIDERPOOL_GOPS_LISTEN_PORT",
    "SPIDERPOOL_INIT_NAME",
    "SPIDERPOOL_IPPOOL_INFORMER_RESYNC_PERIOD",
    "SPIDERPOOL_IPPOOL_MAX_ALLOCATED_IPS",
    "SPIDERPOOL_LEADER_RETRY_GAP",
    "SPIDERPOOL_METRIC_RENEW_PERIOD",
    "SPIDERPOOL_MULTUS_CONFIG_ENABLED",
    "SPIDERPOOL_MULTUS_CONFIG_INFORMER_RESYNC_PERIOD",
    "SPIDERPOOL_PYROSCOPE_PUSH_SERVER_ADDRESS",
    "SPIDERPOOL_SUBNET_APPLICATION_CONTROLLER_WORKERS",
    "SPIDERPOOL_SUBNET_INFORMER_MAX_WORKQUEUE_LENGTH",
    "SPIDERPOOL_SUBNET_INFORMER_RESYNC_PERIOD",
    "SPIDERPOOL_UPDATE_CR_MAX_RETRIES",
    "SPIDERPOOL_WAIT_SUBNET_POOL_MAX_RETRIES",
    "SPIDERPOOL_WAIT_SUBNET_POOL_TIME_IN_SECOND",
    "SPIDERPOOL_WORKLOADENDPOINT_MAX_HISTORY_RECORDS",
    "SPIDERPOOL_WORKQUEUE_MAX_RETRIES",
    "SPIDERPOOL_WORKQUEUE_RETRY_DELAY_DURATION",
];

/// What begins the names of all of them.
const PREFIX: &str = "SPIDERPOOL_";

/// The settings of the peer's garbage collection. Here addresses are freed by rules that need no switches.
const COLLECTION: &str = "SPIDERPOOL_GC_";

/// Those of the variables that begin like ours and that nobody knows.
pub fn unknown_variables(set: impl IntoIterator<Item = String>) -> Vec<String> {
    let known = |name: &str| READ.contains(&name) || WITHOUT_EFFECT.contains(&name) || name.starts_with(COLLECTION);
    let ours = set.into_iter().filter(|name| name.starts_with(PREFIX));
    let mut unknown: Vec<String> = ours.filter(|name| !known(name) && !of_service(name)).collect();
    unknown.sort_unstable();
    unknown
}

/// Whether the kubelet made a variable for a Service: `..._SERVICE_HOST`, `..._PORT_5720_TCP_ADDR` and others.
fn of_service(name: &str) -> bool {
    let service = name.contains("_SERVICE_HOST") || name.contains("_SERVICE_PORT");
    let port = name.ends_with("_PORT") || name.contains("_TCP") || name.contains("_UDP");
    service || port
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_knows_is_told_and_nothing_else() {
        let set = [
            "PATH",
            "SPIDERPOOL_LOG_LEVL",
            "SPIDERPOOL_LOG_LEVEL",
            "SPIDERPOOL_GC_IP_ENABLED",
            "SPIDERPOOL_GOPS_LISTEN_PORT",
            "SPIDERPOOL_CONTROLLER_SERVICE_HOST",
            "SPIDERPOOL_CONTROLLER_SERVICE_PORT_WEBHOOK",
            "SPIDERPOOL_CONTROLLER_PORT_5722_TCP_ADDR",
            "SPIDERPOOL_CONTROLLER_PORT",
        ];
        let unknown = unknown_variables(set.map(str::to_owned));
        assert_eq!(unknown, ["SPIDERPOOL_LOG_LEVL"]);
    }
}
