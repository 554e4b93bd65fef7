use super::*;

fn defaults() -> Conf {
    Conf {
        socket: "/var/run/spidernet/spiderpool.sock".to_owned(),
        ipv4: true,
        ipv6: true,
        stateful_sets: true,
        virtual_machines: true,
        subnets: true,
        protect_used: false,
        automatic_pools: true,
        redundant_addresses: 1,
        max_addresses: None,
        conflict_detection: false,
        gateway_detection: false,
        quarantine_percent: 25,
        annotation_policy: AnnotationPolicy::Warn,
        workload_kinds: Vec::new(),
        unknown: Vec::new(),
    }
}

#[test]
fn absent_and_null_keys_have_the_defaults_of_the_chart() {
    for text in [
        "",
        " \n",
        "null",
        "{}",
        "enableIPv4: null\nworkloadKinds:",
        "ipamUnixSocketPath: ''",
    ] {
        assert_eq!(Conf::parse(text).as_ref(), Ok(&defaults()), "{text:?}");
    }
}

/// Every key of spiderpool v1.2, as its chart writes them, and those of older ones.
const PEER: &str = "
ipamUnixSocketPath: /var/run/spidernet/spiderpool.sock
networkMode: legacy
enableIPv4: true
enableIPv6: true
enableStatefulSet: true
enableKubevirtStaticIP: true
enableSpiderSubnet: true
enableAutoPoolForApplication: true
enableCleanOutdatedEndpoint: false
enableIPConflictDetection: false
enableGatewayDetection: false
enableValidatingResourcesDeletedWebhook: false
clusterSubnetDefaultFlexibleIPNumber: 1
clusterSubnetAutoPoolDefaultRedundantIPNumber: 1
clusterDefaultIPv4IPPool: []
clusterDefaultIPv6IPPool: [default-v6]
clusterDefaultIPv4Subnet: []
clusterDefaultIPv6Subnet: []
clusterNetwork: macvlan
tuneSysctlConfig: true
podResourceInject:
  enabled: false
  namespacesExclude: [kube-system]
  namespacesInclude: []
iaasNetworkProvider:
  serverUrl: ''
  httpRequestTimeout: 50s
agent:
  networkResourcePlugin:
    enabled: false
    kubeletRootDir: /var/lib/kubelet
";

#[test]
fn every_key_of_the_peer_is_known() {
    assert_eq!(Conf::parse(PEER), Ok(defaults()));
}

#[test]
fn values_are_read() {
    let text = "ipamUnixSocketPath: /s\nenableIPv6: false\nenableStatefulSet: false\nenableKubevirtStaticIP: false\nenableAutoPoolForApplication: false\nautoPoolMaxAddresses: 9\n\
                enableIPConflictDetection: true\nenableGatewayDetection: true\nquarantineMaxPercent: 0\nannotationPolicy: Enforce\n\
                workloadKinds: [{group: apps.kruise.io, kind: DaemonSet, replicasPath: .status.desiredNumberScheduled}]";
    let conf = Conf::parse(text).unwrap();
    assert!(conf.enables(Family::V4) && !conf.enables(Family::V6));
    assert_eq!(conf.workload_kinds[0].kind, "DaemonSet");
    let expected = Conf {
        socket: "/s".to_owned(),
        ipv6: false,
        stateful_sets: false,
        virtual_machines: false,
        automatic_pools: false,
        max_addresses: Some(9),
        conflict_detection: true,
        gateway_detection: true,
        quarantine_percent: 0,
        annotation_policy: AnnotationPolicy::Enforce,
        workload_kinds: conf.workload_kinds.clone(),
        ..defaults()
    };
    assert_eq!(conf, expected);
    let alone = Conf::parse("enableSpiderSubnet: false").unwrap();
    assert!(!alone.subnets && !alone.automatic_pools);
    assert_eq!(Conf::parse("autoPoolMaxAddresses: 0").unwrap().max_addresses, None);
}

#[test]
fn both_names_of_the_redundancy_are_read() {
    let documented = "clusterSubnetDefaultFlexibleIPNumber: 3";
    let programmed = "clusterSubnetAutoPoolDefaultRedundantIPNumber: 2";
    for (text, expected) in [
        (documented.to_owned(), 3),
        (programmed.to_owned(), 2),
        (format!("{programmed}\n{documented}"), 3),
    ] {
        assert_eq!(Conf::parse(&text).unwrap().redundant_addresses, expected);
    }
}

#[test]
fn keys_that_nobody_knows_are_told() {
    let conf = Conf::parse("enableIpv4: false\nenableIPv4: true\nspare: {a: 1}").unwrap();
    assert_eq!(
        (conf.ipv4, conf.unknown),
        (true, vec!["enableIpv4".to_owned(), "spare".to_owned()])
    );
}

#[test]
fn a_value_that_cannot_be_meant_is_refused_with_key_value_and_what_is_allowed() {
    let long = format!("ipamUnixSocketPath: /{}", "x".repeat(107));
    let cases = [
        (
            "enableIPv4: maybe",
            "key enableIPv4 has the value \"maybe\"; allowed is true or false",
        ),
        (
            "enableStatefulSet: 1",
            "key enableStatefulSet has the value 1; allowed is true or false",
        ),
        (
            "enableIPv4: false\nenableIPv6: false",
            "key enableIPv6 has the value false; allowed is true, as enableIPv4 is false: pods need addresses",
        ),
        (
            "clusterSubnetDefaultFlexibleIPNumber: -1",
            "key clusterSubnetDefaultFlexibleIPNumber has the value -1; allowed is a whole number from 0 to 4294967295",
        ),
        (
            "quarantineMaxPercent: 101",
            "key quarantineMaxPercent has the value 101; allowed is a whole number from 0 to 100",
        ),
        (
            "annotationPolicy: enforce",
            "key annotationPolicy has the value \"enforce\"; allowed is Warn or Enforce",
        ),
        (
            "ipamUnixSocketPath: run/x.sock",
            "key ipamUnixSocketPath has the value \"run/x.sock\"; allowed is an absolute path of at most 107 bytes",
        ),
        (long.as_str(), "allowed is an absolute path of at most 107 bytes"),
        (
            "workloadKinds: Pod",
            "key workloadKinds has the value \"Pod\"; allowed is a list of {group, kind, replicasPath, templatePath}",
        ),
        (
            "workloadKinds: [{group: apps, kind: Deployment}]",
            "key workloadKinds[0] has the value {\"group\":\"apps\",\"kind\":\"Deployment\"}; allowed is a kind of another group",
        ),
        (
            "workloadKinds: [{group: '', kind: Pod}]",
            "a kind of another group than Kubernetes' own",
        ),
        (
            "workloadKinds: [{group: x.io}]",
            "allowed is an object {group, kind, replicasPath, templatePath}: missing field `kind`",
        ),
        (
            "workloadKinds: [{group: x.io, kind: Set, replicasPath: size}]",
            "allowed is a replicasPath that can be read: ",
        ),
        ("[1]", "it is not a YAML object: it is [1]"),
        ("a: [", "it is not a YAML object: "),
    ];
    for (text, expected) in cases {
        let error = Conf::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}
