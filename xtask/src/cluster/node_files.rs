//! Texts of a node's configuration files, and the script that its first process runs.

use serde_json::{Value, json};

use super::spec::POD_CIDR;
use super::state::{NodeState, State};

/// Image of the pods' sandboxes.
pub const PAUSE_IMAGE: &str = "localhost/spiderpool-pause:1";

/// The nodes' only CNI network: macvlan on the shared layer 2 segment, addresses from Spiderpool; and behind it the plugin
/// that tests chain, which is told the annotations of the pod.
pub fn cni_network(chained: Option<&str>) -> Value {
    let mut plugins =
        vec![json!({"type": "macvlan", "master": "eth1", "mode": "bridge", "ipam": {"type": "spiderpool"}})];
    if let Some(plugin) = chained {
        plugins.push(json!({"type": plugin, "capabilities": {"io.kubernetes.cri.pod-annotations": true}}));
    }
    json!({"cniVersion": "1.0.0", "name": "underlay", "plugins": plugins})
}

/// containerd's configuration (version 2, that of 1.6 and 1.7).
pub fn containerd(node: &NodeState, snapshotter: &str) -> String {
    let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
    let path = |sub: &str| node.path(sub).display().to_string();
    // restrict_oom_score_adj: without CAP_SYS_RESOURCE no process can lower the value it was given.
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"
oom_score = 0
[grpc]
  address = "{socket}"
[debug]
  level = "warn"
[{cri}]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  [{cri}.containerd]
    snapshotter = "{snapshotter}"
    [{cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [{cri}.containerd.runtimes.runc.options]
        SystemdCgroup = false
  [{cri}.cni]
    bin_dir = "{bin}"
    conf_dir = "{conf}"
    max_conf_num = 1
"#,
        root = path("containerd"),
        state = path("state"),
        socket = node.containerd_socket.display(),
        bin = path("cni/bin"),
        conf = path("cni/conf"),
    )
}

/// The kubelet's configuration.
pub fn kubelet(state: &State, node: &NodeState) -> Value {
    let pki = |file: String| state.pki.join(file).display().to_string();
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.ip,
        "containerRuntimeEndpoint": format!("unix://{}", node.containerd_socket.display()),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", node.cgroup),
        "cgroupsPerQOS": true,
        "enforceNodeAllocatable": ["pods"],
        "failSwapOn": false,
        "failCgroupV1": false,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": pki("ca.crt".to_owned())},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki(format!("node-{}.crt", node.name)),
        "tlsPrivateKeyFile": pki(format!("node-{}.key", node.name)),
        "clusterDomain": "cluster.local",
        "clusterDNS": ["10.96.0.10"],
        "resolvConf": node.path("resolv.conf"),
        "maxPods": 250,
        "podPidsLimit": -1,
        "registryPullQPS": 0,
        "serializeImagePulls": false,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        "eventRecordQPS": 50,
        "syncFrequency": "10s",
        "nodeStatusUpdateFrequency": "5s",
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
        "imageGCHighThresholdPercent": 99,
        "imageGCLowThresholdPercent": 98,
        "healthzBindAddress": "127.0.0.1",
        "readOnlyPort": 0,
        // The default is more than a process without CAP_SYS_RESOURCE may ask for.
        "maxOpenFiles": 20000,
        "volumePluginDir": node.path("volumeplugins"),
        // Where the kubelet looks for static pods. It is told of changes, so a file has to come by renaming.
        "staticPodPath": node.path("manifests"),
    })
}

/// kube-proxy's configuration. The conntrack sizes can only be set in the machine's own network namespace.
pub fn kube_proxy(state: &State, node: &NodeState) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": state.folder().join("kube-proxy.kubeconfig")},
        "hostnameOverride": node.name,
        "clusterCIDR": POD_CIDR,
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
    })
}

/// What the first process of a node does in its fresh mount namespace, `$1` the node's folder and `$2` its name.
///
/// Nothing mounted here reaches the machine (`make-rslave`), but inside mounts are shared, as Bidirectional volumes
/// need. `/run` and the folders that charts mount by host path are the node's own. `/sys` is that of the node's
/// network namespace, with the machine's cgroups. The marker at the end says that the node can be entered.
pub const ENTER_SCRIPT: &str = r#"set -eu
node=$1
mount --make-rslave /
mount --make-rshared /
echo "$2" > /proc/sys/kernel/hostname
if [ -d /run/netns ]; then umount -R -l /run/netns 2>/dev/null || true; fi
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/lock
own() { mkdir -p "$1" "$2"; mount --bind "$node/$3" "$1"; }
own /opt/cni/bin "$node/cni/bin" cni/bin
own /etc/cni/net.d "$node/cni/conf" cni/conf
own /var/lib/cni "$node/varlibcni" varlibcni
own /var/log/pods "$node/varlog/pods" varlog/pods
own /var/log/containers "$node/varlog/containers" varlog/containers
mount --bind "$node/kubelet" "$node/kubelet"
mount --make-rshared "$node/kubelet"
own /var/lib/kubelet "$node/kubelet" kubelet
mount --make-rshared /var/lib/kubelet
mkdir -p "$node/cgroup"
mount --rbind /sys/fs/cgroup "$node/cgroup"
mount --make-rprivate "$node/cgroup"
umount -R -l /sys
mount -t sysfs sysfs /sys
mount --rbind "$node/cgroup" /sys/fs/cgroup
umount -R -l "$node/cgroup"
: > "$node/entered"
exec sleep infinity
"#;

#[cfg(test)]
mod tests {
    use super::super::spec::{ClusterName, NodeNumber};
    use super::*;

    #[test]
    fn containerd_uses_the_nodes_folders() {
        let name: ClusterName = "t".parse().unwrap();
        let node = NodeState::new(&name, NodeNumber::first(1).unwrap()[0]);
        let text = containerd(&node, "native");
        assert!(
            text.contains("address = \"/var/tmp/spiderpool-dev/t/n1/containerd.sock\""),
            "{text}"
        );
        assert!(
            text.contains("snapshotter = \"native\"") && text.contains(PAUSE_IMAGE),
            "{text}"
        );
    }
}
