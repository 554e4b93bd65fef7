use super::*;
use serde_json::json;

const KINDS: [&str; 6] = ["Pod", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"];

/// An object of a kind whose pods have these annotations.
fn object(kind: &str, annotations: &Value) -> Value {
    let template = json!({"metadata": {"annotations": annotations}, "spec": {"containers": []}});
    let spec = json!({"replicas": 2, "selector": {}, "serviceName": "s", "template": template});
    match kind {
        "Pod" => template,
        "CronJob" => {
            json!({"metadata": {}, "spec": {"schedule": "* * * * *", "jobTemplate": {"metadata": {}, "spec": spec}}})
        }
        _ => json!({"metadata": {}, "spec": spec}),
    }
}

fn deployment(annotations: &Value) -> Value {
    object("Deployment", annotations)
}

/// What is said of a new Deployment: mistakes, and warnings.
fn said(annotations: &Value) -> (Vec<String>, Vec<String>) {
    let lint = lint("Deployment", &deployment(annotations), None);
    (lint.errors.iter().map(Mistake::to_string).collect(), lint.warnings)
}

#[test]
fn every_kind_is_told_where_its_mistake_is() {
    for kind in KINDS {
        let wrong = object(
            kind,
            &json!({"ipam.spidernet.io/ippool": "{", "example.com/other": "{"}),
        );
        let found = lint(kind, &wrong, None);
        let place = match kind {
            "Pod" => "metadata",
            "CronJob" => "spec.jobTemplate.spec.template.metadata",
            _ => "spec.template.metadata",
        };
        let [mistake] = found.errors.as_slice() else {
            panic!("{kind}: {found:?}");
        };
        assert_eq!(mistake.field, format!("{place}.annotations[ipam.spidernet.io/ippool]"));
        assert_eq!((mistake.rule, mistake.value.as_str()), ("annotation-value", "{"));
        assert!(
            mistake.message.contains(r#"write for example {"ipv4":["pool-a"]"#),
            "{mistake}"
        );
        assert_eq!(
            lint(kind, &object(kind, &json!({"example.com/a": "{"})), None),
            Lint::default()
        );
    }
    assert_eq!(
        lint(
            "ReplicaSet",
            &deployment(&json!({"ipam.spidernet.io/ippool": "{"})),
            None
        ),
        Lint::default()
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    let (mistakes, warnings) = said(&json!({
        "ipam.spidernet.io/ippools": r#"[{"ipv4":["a"]},{"ipv4":["b"]}]"#,
        "ipam.spidernet.io/ip": r#"{"eth0":["10.6.0.300"]}"#,
        "ipam.spidernet.io/routes": r#"[{"dst":"192.0.2.0/24","gw":"fd00::1"}]"#,
        "ipam.spidernet.io/ipool": r#"{"ipv4":["a"]}"#,
        "k8s.v1.cni.cncf.io/networks": "lan@eth0",
    }));
    let words = [
        ("[ipam.spidernet.io/ip]", "\"10.6.0.300\" is not an IP address"),
        (
            "[ipam.spidernet.io/ipool]",
            "nobody reads this key; did you mean ipam.spidernet.io/ippool?",
        ),
        ("[ipam.spidernet.io/ippools]", "gives two of them the name eth0"),
        (
            "[ipam.spidernet.io/routes]",
            "\"gw\" of item 1: \"fd00::1\" is not an IPv4 address",
        ),
    ];
    assert_eq!(
        (mistakes.len(), warnings.len()),
        (words.len(), 0),
        "{mistakes:?} {warnings:?}"
    );
    for (mistake, (field, message)) in mistakes.iter().zip(words) {
        assert!(mistake.contains(field) && mistake.contains(message), "{mistake}");
    }
}

#[test]
fn a_pattern_that_nobody_can_read_is_a_mistake() {
    for (key, value) in [
        ("ipam.spidernet.io/ippool", r#"{"ipv4":["a-*","b[a-]"]}"#),
        ("ipam.spidernet.io/ippools", r#"[{"ipv6":["b[a-]"]}]"#),
    ] {
        let (mistakes, _) = said(&json!({key: value}));
        assert!(
            mistakes[0].contains("\"b[a-]\" is not a name and not a pattern of names"),
            "{mistakes:?}"
        );
    }
}

#[test]
fn what_is_changed_elsewhere_is_no_new_mistake() {
    let wrong = json!({"ipam.spidernet.io/subnet": "{", "ipam.spidernet.io/subnets": "["});
    let old = deployment(&wrong);
    let again = lint("Deployment", &old, Some(&old));
    assert!(again.errors.is_empty(), "{again:?}");
    assert!(
        again
            .warnings
            .iter()
            .any(|warning| warning.contains("[ipam.spidernet.io/subnet]: the value is not JSON"))
    );
    let mut changed = wrong.clone();
    changed["ipam.spidernet.io/subnet"] = json!("{}");
    let changed = lint("Deployment", &deployment(&changed), Some(&old));
    let fields: Vec<&str> = changed.errors.iter().map(|mistake| mistake.field.as_str()).collect();
    assert_eq!(fields, ["spec.template.metadata.annotations[ipam.spidernet.io/subnet]"]);
}

#[test]
fn nothing_is_said_of_what_goes_or_was_made_by_others() {
    let wrong = json!({"ipam.spidernet.io/subnet": "{"});
    for metadata in [
        json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}),
        json!({"ownerReferences": [{"kind": "A"}, {"kind": "B", "controller": true}]}),
        json!({"annotations": {"kubernetes.io/config.mirror": "x", "ipam.spidernet.io/subnet": "{"}}),
    ] {
        for kind in KINDS {
            let mut object = object(kind, &wrong);
            object["metadata"] = metadata.clone();
            if kind == "Pod" && metadata.get("annotations").is_none() {
                object["metadata"]["annotations"] = wrong.clone();
            }
            assert_eq!(lint(kind, &object, None), Lint::default(), "{kind} {metadata}");
        }
    }
    let mut owned = object("Pod", &wrong);
    owned["metadata"]["ownerReferences"] = json!([{"kind": "A"}]);
    assert_eq!(lint("Pod", &owned, None).errors.len(), 1);
}

#[test]
fn annotations_that_no_pod_gets_are_hinted_at() {
    for kind in KINDS.into_iter().filter(|kind| *kind != "Pod") {
        let mut object = object(kind, &json!({"ipam.spidernet.io/subnet": r#"{"ipv4":["a"]}"#}));
        object["metadata"]["annotations"] = json!({
            "ipam.spidernet.io/ippool-ip-number": "+1", "ipam.spidernet.io/sbnets": "", "ipam.spidernet.io/other": "x",
            "ipam.spidernet.io/subnet": "copied by a tool",
        });
        let found = lint(kind, &object, None);
        let template = if kind == "CronJob" {
            "spec.jobTemplate.spec.template"
        } else {
            "spec.template"
        };
        let hint = |key: &str| {
            format!(
                "metadata.annotations[{key}]: pods do not get it and it has no effect here; write it into \
                 {template}.metadata.annotations"
            )
        };
        let hints = ["ipam.spidernet.io/ippool-ip-number", "ipam.spidernet.io/sbnets"].map(hint);
        assert_eq!((found.errors, found.warnings), (Vec::new(), hints.to_vec()), "{kind}");
    }
    let mut cron = object("CronJob", &json!({}));
    cron["spec"]["jobTemplate"]["metadata"]["annotations"] = json!({"ipam.spidernet.io/ippool": "x"});
    let hint = &lint("CronJob", &cron, None).warnings[0];
    assert!(
        hint.starts_with("spec.jobTemplate.metadata.annotations[ipam.spidernet.io/ippool]: "),
        "{hint}"
    );
}

#[test]
fn what_has_no_effect_is_told() {
    let subnet = r#"{"ipv4":["a"]}"#;
    for (annotations, words) in [
        (
            json!({"ipam.spidernet.io/ippool-ip-number": "+1"}),
            "no effect without ipam.spidernet.io/subnet or",
        ),
        (
            json!({"ipam.spidernet.io/ippool-reclaim": "true"}),
            "no effect without ipam.spidernet.io/subnet or",
        ),
        (
            json!({"ipam.spidernet.io/subnet": subnet, "ipam.spidernet.io/ippool": subnet}),
            "[ipam.spidernet.io/ippool]: it is not read, as ipam.spidernet.io/subnet goes first",
        ),
        (
            json!({"ipam.spidernet.io/default-ipv4-ippool": "[]"}),
            "metadata.annotations of their namespace",
        ),
        (
            json!({"ipam.spidernet.io/something": ""}),
            "[ipam.spidernet.io/something]: nobody reads this key",
        ),
        (
            json!({"ipam.spidernet.io/dns": ""}),
            "[ipam.spidernet.io/dns]: nobody reads this key",
        ),
    ] {
        let (mistakes, warnings) = said(&annotations);
        assert_eq!(
            (mistakes.len(), warnings.len()),
            (0, 1),
            "{annotations}: {mistakes:?} {warnings:?}"
        );
        assert!(warnings[0].contains(words), "{}", warnings[0]);
    }
    let mut host = deployment(&json!({"ipam.spidernet.io/subnet": "{"}));
    host["spec"]["template"]["spec"]["hostNetwork"] = json!(true);
    let found = lint("Deployment", &host, None);
    assert!(
        found.errors.is_empty() && found.warnings[0].contains("network of their node"),
        "{found:?}"
    );
}

#[test]
fn a_pod_alone_cannot_have_pools_of_its_own() {
    let pod = object("Pod", &json!({"ipam.spidernet.io/subnet": r#"{"ipv4":["a"]}"#}));
    let found = lint("Pod", &pod, None);
    assert!(
        found.errors.is_empty() && found.warnings[0].contains("a no-controller Pod cannot have a pool"),
        "{found:?}"
    );
}

#[test]
fn a_rolling_update_that_can_never_go_on_is_told() {
    let warned = |number: &str, strategy: &Value| {
        let annotations =
            json!({"ipam.spidernet.io/subnet": r#"{"ipv4":["a"]}"#, "ipam.spidernet.io/ippool-ip-number": number});
        let mut deployment = deployment(&annotations);
        deployment["spec"]["strategy"] = strategy.clone();
        let found = lint("Deployment", &deployment, None);
        assert!(found.errors.is_empty(), "{found:?}");
        found.warnings
    };
    let surges = json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    for number in ["2", "+0"] {
        let warnings = warned(number, &surges);
        assert!(
            warnings[0].contains("[ipam.spidernet.io/ippool-ip-number]: a rolling update would not go on"),
            "{warnings:?}"
        );
        assert!(
            warnings[0].contains("the pools have 2 addresses") && warnings[0].contains("\"+1\""),
            "{warnings:?}"
        );
    }
    assert!(warned("1", &surges)[0].contains("2 pods are to share 1 address"));
    for number in ["3", "+1"] {
        assert_eq!(warned(number, &surges), Vec::<String>::new());
    }
    for strategy in [
        json!({"type": "Recreate"}),
        json!({"rollingUpdate": {"maxUnavailable": 1}}),
    ] {
        assert_eq!(warned("2", &strategy), Vec::<String>::new());
    }
}

#[test]
fn an_exact_address_is_for_one_pod() {
    let exact = json!({"ipam.spidernet.io/ip": r#"{"eth0":["10.6.0.9"]}"#});
    let (mistakes, warnings) = said(&exact);
    assert!(
        mistakes.is_empty() && warnings[0].contains("all 2 pods ask for the same address"),
        "{warnings:?}"
    );
    let mut one = deployment(&exact);
    one["spec"]["replicas"] = json!(1);
    assert_eq!(lint("Deployment", &one, None), Lint::default());
}

#[test]
fn an_object_of_another_shape_is_nobodys_mistake() {
    for odd in [
        json!(null),
        json!([]),
        json!({"spec": 1}),
        json!({"metadata": {"annotations": []}, "spec": {"template": "x"}}),
    ] {
        for kind in KINDS {
            assert_eq!(lint(kind, &odd, Some(&odd)), Lint::default(), "{kind} {odd}");
        }
    }
}
