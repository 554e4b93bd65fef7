//! etcd, API server, controller manager and scheduler, in the fabric's network namespace.

use std::time::Duration;

use anyhow::{Context, Result};

use super::cgroups::Cgroups;
use super::process::Daemon;
use super::spec::{API_ADDRESS, API_PORT, POD_CIDR, SERVICE_CIDR};
use super::state::State;
use super::{Cluster, certs, fabric};
use crate::paths;
use crate::sh::{self, Readiness};

/// A control plane is ready in seconds; this is for machines that do much else.
const DEADLINE: Duration = Duration::from_secs(180);

/// The components in the order of their start.
pub const COMPONENTS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// Starts what does not run and waits until the API server is ready.
pub fn ensure(cluster: &Cluster, cgroups: &Cgroups) -> Result<()> {
    let state = cluster.state();
    certs::Authority::open(&state.pki)?.equip_control_plane(state)?;
    let data = state.folder().join("etcd");
    paths::make_folder(&data)?;
    // etcd warns about anything wider.
    std::fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .context("closing etcd's folder")?;
    for name in COMPONENTS {
        let mut command = fabric::in_netns(&state.fabric, name);
        state.tools.equip(&mut command)?;
        command.args(arguments(state, name));
        Daemon::of_control_plane(name).ensure(state, cgroups, &command)?;
    }
    wait_ready(cluster)?;
    make_cidr_map(cluster)
}

/// Whether all components run.
pub fn is_running(state: &State) -> bool {
    COMPONENTS
        .iter()
        .all(|name| Daemon::of_control_plane(name).running(state).is_some())
}

fn wait_ready(cluster: &Cluster) -> Result<()> {
    let state = cluster.state();
    let api_log = || sh::tail_of(&state.log_file("kube-apiserver"));
    sh::wait_until("waiting for the API server's /readyz", DEADLINE, || {
        for name in COMPONENTS {
            Daemon::of_control_plane(name).check(state)?;
        }
        Ok(
            match cluster.kubectl(&["get", "--raw", "/readyz", "--request-timeout=5s"]) {
                Ok(_) => Readiness::Ready(()),
                Err(err) => Readiness::NotYet(format!("{err:#}\n{}", api_log())),
            },
        )
    })?;
    // Pods need it, and the controller manager makes it a moment after the API server is ready.
    let create = ["wait", "--for=create", "serviceaccount/default", "--timeout=120s"];
    cluster.kubectl_within(&create, DEADLINE).with_context(|| {
        format!(
            "waiting for the default service account; {}",
            sh::tail_of(&state.log_file("kube-controller-manager"))
        )
    })?;
    Ok(())
}

/// Where kubeadm is not used, this is where components look for the cluster's ranges all the same.
fn make_cidr_map(cluster: &Cluster) -> Result<()> {
    let config = format!(
        "apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\nnetworking:\n  dnsDomain: cluster.local\n  \
         podSubnet: {POD_CIDR}\n  serviceSubnet: {SERVICE_CIDR}\n"
    );
    let map = serde_json::json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "kubeadm-config", "namespace": "kube-system"},
        "data": {"ClusterConfiguration": config},
    });
    cluster.apply(&map.to_string())
}

fn arguments(state: &State, component: &str) -> Vec<String> {
    let pki = |file: &str| state.pki.join(file).display().to_string();
    let folder = state.folder();
    let kubeconfig = folder.join(format!("{component}.kubeconfig")).display().to_string();
    let options: Vec<(&str, String)> = match component {
        "etcd" => vec![
            ("name", "e".into()),
            ("data-dir", folder.join("etcd").display().to_string()),
            ("unsafe-no-fsync", (!state.fsync).to_string()),
            ("listen-client-urls", "https://127.0.0.1:2379".into()),
            ("advertise-client-urls", "https://127.0.0.1:2379".into()),
            ("listen-peer-urls", "http://127.0.0.1:2380".into()),
            ("initial-advertise-peer-urls", "http://127.0.0.1:2380".into()),
            ("initial-cluster", "e=http://127.0.0.1:2380".into()),
            ("client-cert-auth", "true".into()),
            ("trusted-ca-file", pki("ca.crt")),
            ("cert-file", pki("etcd.crt")),
            ("key-file", pki("etcd.key")),
            ("quota-backend-bytes", "4294967296".into()),
            ("auto-compaction-mode", "periodic".into()),
            ("auto-compaction-retention", "10m".into()),
            ("log-level", "warn".into()),
        ],
        "kube-apiserver" => vec![
            ("bind-address", API_ADDRESS.to_string()),
            ("secure-port", API_PORT.to_string()),
            ("advertise-address", API_ADDRESS.to_string()),
            ("etcd-servers", "https://127.0.0.1:2379".into()),
            ("etcd-cafile", pki("ca.crt")),
            ("etcd-certfile", pki("apiserver-etcd-client.crt")),
            ("etcd-keyfile", pki("apiserver-etcd-client.key")),
            ("client-ca-file", pki("ca.crt")),
            ("tls-cert-file", pki("apiserver.crt")),
            ("tls-private-key-file", pki("apiserver.key")),
            ("kubelet-client-certificate", pki("apiserver-kubelet-client.crt")),
            ("kubelet-client-key", pki("apiserver-kubelet-client.key")),
            ("kubelet-certificate-authority", pki("ca.crt")),
            ("kubelet-preferred-address-types", "InternalIP".into()),
            (
                "service-account-issuer",
                "https://kubernetes.default.svc.cluster.local".into(),
            ),
            ("service-account-key-file", pki("sa.pub")),
            ("service-account-signing-key-file", pki("sa.key")),
            ("requestheader-client-ca-file", pki("ca.crt")),
            ("requestheader-allowed-names", "front-proxy-client".into()),
            ("requestheader-username-headers", "X-Remote-User".into()),
            ("requestheader-group-headers", "X-Remote-Group".into()),
            ("requestheader-extra-headers-prefix", "X-Remote-Extra-".into()),
            ("proxy-client-cert-file", pki("front-proxy-client.crt")),
            ("proxy-client-key-file", pki("front-proxy-client.key")),
            ("authorization-mode", "Node,RBAC".into()),
            ("enable-admission-plugins", "NodeRestriction".into()),
            ("allow-privileged", "true".into()),
            ("service-cluster-ip-range", SERVICE_CIDR.into()),
            // No kube-proxy in the fabric: webhooks behind a Service are reached at their endpoint's own address.
            ("enable-aggregator-routing", "true".into()),
        ],
        "kube-controller-manager" => {
            let mut options = controller_options(&kubeconfig);
            options.extend([
                ("use-service-account-credentials", "true".into()),
                ("service-account-private-key-file", pki("sa.key")),
                ("root-ca-file", pki("ca.crt")),
                ("cluster-signing-cert-file", pki("ca.crt")),
                ("cluster-signing-key-file", pki("ca.key")),
                ("client-ca-file", pki("ca.crt")),
                ("requestheader-client-ca-file", pki("ca.crt")),
                ("allocate-node-cidrs", "true".into()),
                ("cluster-cidr", POD_CIDR.into()),
                ("service-cluster-ip-range", SERVICE_CIDR.into()),
            ]);
            options
        }
        _ => controller_options(&kubeconfig),
    };
    options
        .into_iter()
        .map(|(key, value)| format!("--{key}={value}"))
        .collect()
}

/// What controller manager and scheduler have in common.
fn controller_options(kubeconfig: &str) -> Vec<(&'static str, String)> {
    vec![
        ("kubeconfig", kubeconfig.into()),
        ("authentication-kubeconfig", kubeconfig.into()),
        ("authorization-kubeconfig", kubeconfig.into()),
        ("bind-address", "127.0.0.1".into()),
        ("leader-elect", "false".into()),
        ("kube-api-qps", "200".into()),
        ("kube-api-burst", "400".into()),
    ]
}
