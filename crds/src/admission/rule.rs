//! The rules of admission by name, as docs/admission.md lists them.

/// Who sees that a rule is broken before all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The API server, by a rule in the CRD. The webhook never sees such an object.
    Crd,
    /// The API server, by a ValidatingAdmissionPolicy of the chart.
    Policy,
    /// The webhook.
    Webhook,
}

macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $rule:ident = $name:literal, $stage:ident;)+) => {
        /// Something that must hold of an object for it to be stored.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $($(#[doc = $doc])+ $rule,)+
        }

        impl Rule {
            /// All rules.
            pub const ALL: &[Self] = &[$(Self::$rule,)+];

            /// The name that the rule has in documentation and metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$rule => $name,)+
                }
            }

            /// Who sees first that it is broken.
            pub const fn stage(self) -> Stage {
                match self {
                    $(Self::$rule => Stage::$stage,)+
                }
            }
        }
    };
}

rules! {
    /// `spec.subnet` is in CIDR notation.
    SubnetFormat = "subnet-format", Crd;
    /// `spec.subnet` is written as the API server would print it.
    SubnetCanonical = "subnet-canonical", Crd;
    /// `spec.subnet` cannot be changed.
    SubnetStays = "subnet-stays", Crd;
    /// `spec.ipVersion` can be set once.
    VersionStays = "version-stays", Crd;
    /// `spec.ipVersion` is that of the subnet.
    VersionFits = "version-fits", Crd;
    /// Items of `ips` and `excludeIPs` are addresses or ranges.
    RangeFormat = "range-format", Crd;
    /// The lower end of an IPv4 range comes first.
    RangeOrder = "range-order", Crd;
    /// Addresses are inside the subnet.
    RangeInside = "range-inside", Crd;
    /// `spec.gateway` is an address.
    GatewayFormat = "gateway-format", Crd;
    /// `spec.gateway` is inside the subnet.
    GatewayInside = "gateway-inside", Crd;
    /// `dst` of a route is in CIDR notation.
    RouteFormat = "route-format", Crd;
    /// `dst` of a route is of the IP version of the subnet.
    RouteFamily = "route-family", Crd;
    /// The default route is no route.
    RouteDefault = "route-default", Crd;
    /// One route goes to one network.
    RouteTwice = "route-twice", Crd;
    /// `gw` of a route is an address.
    NextHopFormat = "next-hop-format", Crd;
    /// `gw` of a route is inside the subnet.
    NextHopInside = "next-hop-inside", Crd;
    /// A term of a selector has an operator, and values if the operator takes them.
    SelectorOperator = "selector-operator", Crd;
    /// A selector looks for keys that labels can have.
    LabelKey = "label-key", Crd;
    /// A selector looks for values that labels can have.
    LabelValue = "label-value", Crd;
    /// `spec.podAffinity` selects something.
    PodAffinityEmpty = "pod-affinity-empty", Crd;
    /// `spec.namespaceName` lists names of namespaces.
    NamespaceName = "namespace-name", Crd;
    /// `spec.nodeName` lists names of nodes.
    NodeName = "node-name", Crd;
    /// `spec.multusName` lists names of network attachments.
    MultusName = "multus-name", Crd;
    /// Something tells the IP version of a reservation.
    VersionKnown = "version-known", Crd;
    /// All addresses of a reservation are of one IP version.
    OneFamily = "one-family", Crd;
    /// The affinity of an automatic pool names its application and nothing else.
    AutomaticAffinity = "automatic-affinity", Policy;
    /// The IP version is switched on.
    FamilyEnabled = "family-enabled", Webhook;
    /// The lower end of an IPv6 range comes first.
    RangeOrderIPv6 = "range-order-ipv6", Webhook;
    /// The gateway is not among the addresses for pods.
    GatewayAmongIps = "gateway-among-ips", Webhook;
    /// No other object has the name.
    NameTaken = "name-taken", Webhook;
    /// Networks are the same or have nothing in common.
    NetworkOverlap = "network-overlap", Webhook;
    /// Pools share no address.
    PoolOverlap = "pool-overlap", Webhook;
    /// A new subnet has the addresses of the pools of its network.
    PoolsInside = "pools-inside", Webhook;
    /// A subnet keeps what it gave to pools.
    GivenStays = "given-stays", Webhook;
    /// A pool keeps what pods use.
    UsedStays = "used-stays", Webhook;
    /// What is recorded in the status can be read.
    RecordsReadable = "records-readable", Webhook;
    /// A pool of a subnet has addresses of the subnet only.
    InsideSubnet = "inside-subnet", Webhook;
    /// An automatic pool has addresses that its subnet gave it only.
    Accounted = "accounted", Webhook;
    /// What is being deleted is not changed.
    Terminating = "terminating", Webhook;
    /// What is in use is not deleted, where that is switched on.
    InUse = "in-use", Webhook;
}

impl Rule {
    /// Whether it is other objects that break it. What was observed of them may be old, so whoever refuses for their sake looks again.
    pub const fn rests_on_others(self) -> bool {
        matches!(
            self,
            Self::NameTaken
                | Self::NetworkOverlap
                | Self::PoolOverlap
                | Self::PoolsInside
                | Self::InsideSubnet
                | Self::Accounted
        )
    }
}
