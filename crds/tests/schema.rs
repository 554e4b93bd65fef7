//! The compatibility contract of the CRDs, spelled out independently of the types that generate them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};
use spiderpool_crds::all_crds;

fn crd(kind: &str) -> CustomResourceDefinition {
    all_crds().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap()
}

fn schema(kind: &str) -> Value {
    serde_json::to_value(&crd(kind).spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema).unwrap()
}

/// `path type [enum] [default] [minimum] [maximum] [required]` of everything below a schema.
fn outline(schema: &Value, path: &str, lines: &mut Vec<String>) {
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let mut line = format!("{path} {}", member["type"].as_str().unwrap());
        for key in ["enum", "default", "minimum", "maximum"] {
            if !member[key].is_null() {
                line += &format!(" {key}={}", member[key]);
            }
        }
        if required.contains(&name.as_str()) {
            line += " required";
        }
        lines.push(line);
        outline(member, &path, lines);
        if let Some(items) = member.get("items") {
            outline(items, &format!("{path}[]"), lines);
            if items["properties"].is_null() {
                lines.push(format!("{path}[] {}", items["type"].as_str().unwrap()));
            }
        }
    }
}

fn outline_of(kind: &str) -> Vec<String> {
    let mut lines = Vec::new();
    outline(&schema(kind), "", &mut lines);
    // Selectors and conditions are Kubernetes' own types.
    lines.retain(|line| !line.contains("Affinity.") && !line.contains("conditions[]."));
    lines
}

const NETWORK: [&str; 11] = [
    ".spec.excludeIPs array",
    ".spec.excludeIPs[] string",
    ".spec.gateway string",
    ".spec.ipVersion integer enum=[4,6]",
    ".spec.ips array",
    ".spec.ips[] string",
    ".spec.routes array",
    ".spec.routes[].dst string required",
    ".spec.routes[].gw string required",
    ".spec.subnet string required",
    ".spec object required",
];

fn assert_outline(kind: &str, expected: &[&str]) {
    let mut found = outline_of(kind);
    let mut expected: Vec<String> = expected.iter().map(|&line| line.to_owned()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "{kind}");
}

#[test]
fn subnet_schema() {
    let status = [
        ".status object",
        ".status.allocatedIPCount integer minimum=0.0",
        ".status.conditions array",
        ".status.controlledIPPools string",
        ".status.totalIPCount integer minimum=0.0",
    ];
    assert_outline("SpiderSubnet", &[&NETWORK[..], &status].concat());
}

#[test]
fn pool_schema() {
    let rest = [
        ".spec.default boolean default=false",
        ".spec.disable boolean default=false",
        ".spec.multusName array",
        ".spec.multusName[] string",
        ".spec.namespaceAffinity object",
        ".spec.namespaceName array",
        ".spec.namespaceName[] string",
        ".spec.nodeAffinity object",
        ".spec.nodeName array",
        ".spec.nodeName[] string",
        ".spec.onNodeLost string enum=[\"Keep\",\"After\",\"OutOfService\"]",
        ".spec.onNodeLostAfterSeconds integer minimum=0.0 maximum=31536000.0",
        ".spec.podAffinity object",
        ".spec.reuseCooldown integer minimum=0.0 maximum=604800.0",
        ".spec.reuseWhenCooling string enum=[\"Wait\",\"Oldest\"]",
        ".status object",
        ".status.allocatedIPCount integer minimum=0.0",
        ".status.allocatedIPs string",
        ".status.conditions array",
        ".status.fence string",
        ".status.heldIPs string",
        ".status.restoring object",
        ".status.restoring.asserted array required",
        ".status.restoring.asserted[] string",
        ".status.restoring.by string required",
        ".status.restoring.retaken array",
        ".status.restoring.retaken[] string",
        ".status.restoring.since string required",
        ".status.totalIPCount integer minimum=0.0",
    ];
    assert_outline("SpiderIPPool", &[&NETWORK[..], &rest].concat());
}

#[test]
fn reservation_schema() {
    let expected = [
        ".spec object required",
        ".spec.ipVersion integer enum=[4,6]",
        ".spec.ips array",
        ".spec.ips[] string",
    ];
    assert_outline("SpiderReservedIP", &expected);
}

#[test]
fn endpoint_schema() {
    let expected = [
        ".status object",
        ".status.current object required",
        ".status.current.ips array required",
        ".status.current.ips[].cleanGateway boolean",
        ".status.current.ips[].containerID string",
        ".status.current.ips[].networkName string",
        ".status.current.ips[].interface string required",
        ".status.current.ips[].ipv4 string",
        ".status.current.ips[].ipv4Gateway string",
        ".status.current.ips[].ipv4Pool string",
        ".status.current.ips[].ipv6 string",
        ".status.current.ips[].ipv6Gateway string",
        ".status.current.ips[].ipv6Pool string",
        ".status.current.ips[].mac string",
        ".status.current.ips[].routes array",
        ".status.current.ips[].routes[].dst string required",
        ".status.current.ips[].routes[].gw string required",
        ".status.current.ips[].vlan integer default=0 minimum=0.0 maximum=4094.0",
        ".status.current.node string required",
        ".status.current.podName string",
        ".status.current.uid string required",
        ".status.ownerControllerApiVersion string",
        ".status.ownerControllerName string required",
        ".status.ownerControllerType string required",
    ];
    assert_outline("SpiderEndpoint", &expected);
}

#[test]
fn selectors_are_those_of_kubernetes_and_owned_as_a_whole() {
    let schema = schema("SpiderIPPool");
    for name in ["podAffinity", "namespaceAffinity", "nodeAffinity"] {
        let selector = &schema["properties"]["spec"]["properties"][name];
        assert_eq!(selector["x-kubernetes-map-type"], "atomic");
        let properties = &selector["properties"];
        assert_eq!(
            properties["matchLabels"]["additionalProperties"],
            json!({"type": "string", "maxLength": 253})
        );
        let terms = &properties["matchExpressions"];
        assert_eq!(terms["x-kubernetes-list-type"], "atomic");
        assert_eq!(terms["items"]["required"], json!(["key", "operator"]));
        assert_eq!(
            terms["items"]["properties"]["values"]["x-kubernetes-list-type"],
            "atomic"
        );
    }
}

#[test]
fn conditions_are_a_map_by_type() {
    for kind in ["SpiderSubnet", "SpiderIPPool"] {
        let conditions = &schema(kind)["properties"]["status"]["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-type"], "map");
        assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
    }
}

#[test]
fn names_and_subresources() {
    let expected = [
        ("SpiderEndpoint", "spiderendpoints", "se", "Namespaced", false),
        ("SpiderIPPool", "spiderippools", "sp", "Cluster", true),
        ("SpiderReservedIP", "spiderreservedips", "sr", "Cluster", false),
        ("SpiderSubnet", "spidersubnets", "ss", "Cluster", true),
    ];
    for (kind, plural, short, scope, status) in expected {
        let crd = crd(kind);
        assert_eq!(crd.metadata.name, Some(format!("{plural}.spiderpool.spidernet.io")));
        assert!(crd.metadata.labels.is_none() && crd.metadata.annotations.is_none());
        let spec = &crd.spec;
        assert_eq!(
            (spec.group.as_str(), spec.scope.as_str()),
            ("spiderpool.spidernet.io", scope)
        );
        assert_eq!(spec.names.plural, plural);
        assert_eq!(spec.names.singular, Some(kind.to_lowercase()));
        assert_eq!(spec.names.list_kind, Some(format!("{kind}List")));
        assert_eq!(spec.names.short_names, Some(vec![short.to_owned()]));
        assert_eq!(spec.names.categories, Some(vec!["spiderpool".to_owned()]));
        let [version] = &spec.versions[..] else {
            panic!("one version")
        };
        assert_eq!(
            (version.name.as_str(), version.served, version.storage),
            ("v2beta1", true, true)
        );
        assert_eq!(version.subresources.is_some(), status, "{kind}");
    }
}

#[test]
fn printer_columns() {
    let network = [
        "VERSION string .spec.ipVersion 0",
        "SUBNET string .spec.subnet 0",
        "ALLOCATED-IP-COUNT integer .status.allocatedIPCount 0",
        "TOTAL-IP-COUNT integer .status.totalIPCount 0",
    ];
    let pool = [
        "DEFAULT boolean .spec.default 0",
        "DISABLE boolean .spec.disable 10",
        "NodeName string .spec.nodeName 10",
        "MultusName string .spec.multusName 10",
        r"APP-NAMESPACE string .spec.podAffinity.matchLabels['ipam\.spidernet\.io/app\-namespace'] 10",
    ];
    let endpoint = [
        "INTERFACE string .status.current.ips[0].interface 0",
        "IPV4POOL string .status.current.ips[0].ipv4Pool 0",
        "IPV4 string .status.current.ips[0].ipv4 0",
        "IPV6POOL string .status.current.ips[0].ipv6Pool 0",
        "IPV6 string .status.current.ips[0].ipv6 0",
        "NODE string .status.current.node 0",
    ];
    let expected = [
        ("SpiderSubnet", network.to_vec()),
        ("SpiderIPPool", [&network[..], &pool].concat()),
        ("SpiderReservedIP", network[..1].to_vec()),
        ("SpiderEndpoint", endpoint.to_vec()),
    ];
    for (kind, expected) in expected {
        let columns = crd(kind).spec.versions[0].additional_printer_columns.clone().unwrap();
        let found: Vec<String> = columns
            .iter()
            .map(|c| format!("{} {} {} {}", c.name, c.type_, c.json_path, c.priority.unwrap_or(0)))
            .collect();
        assert_eq!(found, expected, "{kind}");
    }
}

#[test]
fn every_member_has_a_description_and_nothing_the_api_server_does_not_know() {
    fn walk(schema: &Value, path: &str) {
        for key in [
            "nullable",
            "title",
            "x-kubernetes-preserve-unknown-fields",
            "anyOf",
            "oneOf",
        ] {
            assert!(schema[key].is_null(), "{path}: {key}");
        }
        if let Some(format) = schema["format"].as_str() {
            assert!(["int64", "date-time"].contains(&format), "{path}: format {format}");
        }
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            let description = member["description"].as_str().unwrap_or_default();
            assert!(description.len() > 5, "{path} has no description");
            walk(member, &path);
        }
        if let Some(items) = schema.get("items") {
            walk(items, &format!("{path}[]"));
        }
    }
    for crd in all_crds() {
        let kind = &crd.spec.names.kind;
        let schema = schema(kind);
        assert!(
            schema["description"].as_str().is_some_and(|text| text.len() > 20),
            "{kind}"
        );
        walk(&schema, kind);
    }
}

#[test]
fn every_rule_says_what_to_do_and_lets_unchanged_fields_pass() {
    fn walk(schema: &Value, rules: &mut Vec<Value>) {
        rules.extend(
            schema["x-kubernetes-validations"]
                .as_array()
                .into_iter()
                .flatten()
                .cloned(),
        );
        for member in schema["properties"].as_object().into_iter().flatten() {
            walk(member.1, rules);
        }
    }
    for (kind, least) in [("SpiderSubnet", 15), ("SpiderIPPool", 30), ("SpiderReservedIP", 5)] {
        let mut rules = Vec::new();
        walk(&schema(kind), &mut rules);
        assert!(rules.len() >= least, "{kind} has {} rules", rules.len());
        for rule in rules {
            assert!(rule["message"].as_str().is_some_and(|text| text.len() > 20), "{rule}");
            assert!(
                rule["rule"].as_str().is_some_and(|text| text.contains("oldSelf")),
                "{rule}"
            );
        }
    }
}
