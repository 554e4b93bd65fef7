//! What `kubectl get` shows of each kind. Scripts read these tables, so names, order and width class stay as they are.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;

/// Columns of this priority are shown with `-o wide` only.
const WIDE: i32 = 10;

/// The columns of a kind.
pub(super) fn of_kind(kind: &str) -> Vec<CustomResourceColumnDefinition> {
    let version = column("VERSION", "string", ".spec.ipVersion", "IP version, 4 or 6");
    let subnet = column("SUBNET", "string", ".spec.subnet", "network");
    let counts = |allocated: &str, total: &str| {
        [
            column("ALLOCATED-IP-COUNT", "integer", ".status.allocatedIPCount", allocated),
            column("TOTAL-IP-COUNT", "integer", ".status.totalIPCount", total),
        ]
    };
    match kind {
        "SpiderSubnet" => [version, subnet]
            .into_iter()
            .chain(counts(
                "addresses handed to pools",
                "addresses that can be handed to pools",
            ))
            .collect(),
        "SpiderIPPool" => [version, subnet]
            .into_iter()
            .chain(counts("addresses that pods use", "addresses of the pool"))
            .chain([column(
                "DEFAULT",
                "boolean",
                ".spec.default",
                "used by pods for which nobody chose a pool",
            )])
            .chain(pool_wide())
            .collect(),
        "SpiderReservedIP" => vec![version],
        "SpiderEndpoint" => vec![
            first_nic("INTERFACE", "interface", "first interface of the pod"),
            first_nic("IPV4POOL", "ipv4Pool", "pool of the IPv4 address"),
            first_nic("IPV4", "ipv4", "IPv4 address"),
            first_nic("IPV6POOL", "ipv6Pool", "pool of the IPv6 address"),
            first_nic("IPV6", "ipv6", "IPv6 address"),
            column("NODE", "string", ".status.current.node", "node of the pod"),
        ],
        _ => Vec::new(),
    }
}

fn pool_wide() -> [CustomResourceColumnDefinition; 4] {
    let namespace = r".spec.podAffinity.matchLabels['ipam\.spidernet\.io/app\-namespace']";
    let about = "namespace of the application an automatic pool belongs to";
    [
        column("DISABLE", "boolean", ".spec.disable", "gives out no addresses"),
        column("NodeName", "string", ".spec.nodeName", "nodes that may use the pool"),
        column(
            "MultusName",
            "string",
            ".spec.multusName",
            "network attachments that may use the pool",
        ),
        column("APP-NAMESPACE", "string", namespace, about),
    ]
    .map(|column| CustomResourceColumnDefinition {
        priority: Some(WIDE),
        ..column
    })
}

fn first_nic(name: &str, member: &str, description: &str) -> CustomResourceColumnDefinition {
    column(name, "string", &format!(".status.current.ips[0].{member}"), description)
}

fn column(name: &str, type_: &str, json_path: &str, description: &str) -> CustomResourceColumnDefinition {
    CustomResourceColumnDefinition {
        name: name.to_owned(),
        type_: type_.to_owned(),
        json_path: json_path.to_owned(),
        description: Some(description.to_owned()),
        ..CustomResourceColumnDefinition::default()
    }
}
