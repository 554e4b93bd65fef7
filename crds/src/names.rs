//! Names that users, other programs and stored objects rely on. None of them may change.

pub use crate::label::{label_value, node_label};

/// API group of all kinds.
pub const GROUP: &str = "spiderpool.spidernet.io";
/// The only API version.
pub const VERSION: &str = "v2beta1";
/// `apiVersion` of all kinds.
pub const API_VERSION: &str = "spiderpool.spidernet.io/v2beta1";

/// Finalizer on subnets, pools and endpoints.
pub const FINALIZER: &str = "spiderpool.spidernet.io";
/// Interface that is meant where nobody names one.
pub const DEFAULT_NIC: &str = "eth0";

/// How annotations and labels of ours begin.
pub const PREFIX: &str = "ipam.spidernet.io/";

/// Pod annotation: subnets for an automatic pool on each of several interfaces.
pub const ANNOTATION_SUBNETS: &str = "ipam.spidernet.io/subnets";
/// Pod annotation: subnets for an automatic pool on one interface.
pub const ANNOTATION_SUBNET: &str = "ipam.spidernet.io/subnet";
/// Pod annotation: size of the automatic pool. The operator repeats it on the pool.
pub const ANNOTATION_IP_NUMBER: &str = "ipam.spidernet.io/ippool-ip-number";
/// Pod annotation: whether the automatic pool goes with its application.
pub const ANNOTATION_RECLAIM: &str = "ipam.spidernet.io/ippool-reclaim";
/// Pod annotation: pools for each of several interfaces.
pub const ANNOTATION_IPPOOLS: &str = "ipam.spidernet.io/ippools";
/// Pod annotation: pools for one interface.
pub const ANNOTATION_IPPOOL: &str = "ipam.spidernet.io/ippool";
/// Pod annotation: one exact address for an interface, in each family at most. Ours; the peer has none.
pub const ANNOTATION_IP: &str = "ipam.spidernet.io/ip";
/// Pod annotation: routes beside those of the pools.
pub const ANNOTATION_ROUTES: &str = "ipam.spidernet.io/routes";
/// Pod annotation: interface that carries the default route.
pub const ANNOTATION_DEFAULT_ROUTE_NIC: &str = "ipam.spidernet.io/default-route-nic";
/// Namespace annotation: default IPv4 pools of the namespace.
pub const ANNOTATION_DEFAULT_IPV4_IPPOOL: &str = "ipam.spidernet.io/default-ipv4-ippool";
/// Namespace annotation: default IPv6 pools of the namespace.
pub const ANNOTATION_DEFAULT_IPV6_IPPOOL: &str = "ipam.spidernet.io/default-ipv6-ippool";
/// Pod annotation of Multus: network of the first interface.
pub const ANNOTATION_MULTUS_DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";
/// Pod annotation of Multus: networks of the further interfaces.
pub const ANNOTATION_MULTUS_NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// Pod annotation of the kubelet: the object is the mirror of a static pod.
pub const ANNOTATION_CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
/// Pod annotation of the kubelet: the UID by which it knows a static pod.
pub const ANNOTATION_CONFIG_HASH: &str = "kubernetes.io/config.hash";

/// Label on subnets: the CIDR as label value.
pub const LABEL_SUBNET_CIDR: &str = "ipam.spidernet.io/subnet-cidr";
/// Label on pools: the CIDR as label value.
pub const LABEL_IPPOOL_CIDR: &str = "ipam.spidernet.io/ippool-cidr";
/// Label on pools: name of the subnet the addresses come from.
pub const LABEL_OWNER_SUBNET: &str = "ipam.spidernet.io/owner-spider-subnet";
/// Label on automatic pools: API group and version of the application.
pub const LABEL_OWNER_APP_GV: &str = "ipam.spidernet.io/owner-application-gv";
/// Label on automatic pools: kind of the application.
pub const LABEL_OWNER_APP_KIND: &str = "ipam.spidernet.io/owner-application-kind";
/// Label on automatic pools: namespace of the application.
pub const LABEL_OWNER_APP_NAMESPACE: &str = "ipam.spidernet.io/owner-application-namespace";
/// Label on automatic pools: name of the application. Its presence is what makes a pool automatic.
pub const LABEL_OWNER_APP_NAME: &str = "ipam.spidernet.io/owner-application-name";
/// Label on automatic pools: UID of the application.
pub const LABEL_OWNER_APP_UID: &str = "ipam.spidernet.io/owner-application-uid";
/// Label on automatic pools: interface the pool is for.
pub const LABEL_INTERFACE: &str = "ipam.spidernet.io/interface";
/// Label on automatic pools: `IPv4` or `IPv6`.
pub const LABEL_IP_VERSION: &str = "ipam.spidernet.io/ip-version";
/// Label on automatic pools: `true` or `false`.
pub const LABEL_RECLAIM: &str = "ipam.spidernet.io/ippool-reclaim";

/// Label on endpoints: the node as label value, so that an agent need not watch the endpoints of all nodes. Ours; the peer writes
/// none, and the operator adds it.
pub const LABEL_NODE: &str = "ipam.spidernet.io/node";

/// Key in a pool's podAffinity: API group of the application, empty for the core group.
pub const AFFINITY_APP_GROUP: &str = "ipam.spidernet.io/app-api-group";
/// Key in a pool's podAffinity: API version of the application.
pub const AFFINITY_APP_VERSION: &str = "ipam.spidernet.io/app-api-version";
/// Key in a pool's podAffinity: kind of the application.
pub const AFFINITY_APP_KIND: &str = "ipam.spidernet.io/app-kind";
/// Key in a pool's podAffinity: namespace of the application.
pub const AFFINITY_APP_NAMESPACE: &str = "ipam.spidernet.io/app-namespace";
/// Key in a pool's podAffinity: name of the application.
pub const AFFINITY_APP_NAME: &str = "ipam.spidernet.io/app-name";
/// The keys that name an application in a pool's podAffinity. No pod carries them as labels.
pub const APP_AFFINITY_KEYS: [&str; 5] = [
    AFFINITY_APP_GROUP,
    AFFINITY_APP_VERSION,
    AFFINITY_APP_KIND,
    AFFINITY_APP_NAMESPACE,
    AFFINITY_APP_NAME,
];
