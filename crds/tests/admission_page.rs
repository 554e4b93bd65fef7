//! docs/admission.md says what the code does.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod table;

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::Value;
use spiderpool_crds::admission::{
    Outcome, PoolWorld, Rule, Settings, Stage, SubnetWorld, complete, pool, pool_deletion, reserved, subnet,
    subnet_deletion,
};
use spiderpool_crds::{
    MAX_MULTUS_NAMES, MAX_NAMES, MAX_RANGES, MAX_ROUTES, MAX_SELECTOR_TERMS, MAX_SELECTOR_VALUES, SpiderIPPool,
    SpiderReservedIP, SpiderSubnet,
};
use table::Example;

fn typed<K: DeserializeOwned>(object: &Value) -> K {
    serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object}"))
}

fn settings(example: &Example) -> Settings {
    let mut settings = Settings {
        ipv4: true,
        ipv6: true,
        subnets: true,
        protect_used: false,
    };
    match example.setting.as_deref() {
        None => {}
        Some("enableIPv6=false") => settings.ipv6 = false,
        Some("enableValidatingResourcesDeletedWebhook=true") => settings.protect_used = true,
        Some(other) => panic!("setting {other}"),
    }
    settings
}

fn judge(example: &Example) -> Outcome {
    let settings = settings(example);
    let beside = |kind: &'static str| example.beside.iter().filter(move |object| object["kind"] == kind);
    let subnets: Vec<SpiderSubnet> = beside("SpiderSubnet").map(typed).collect();
    let pools: Vec<SpiderIPPool> = beside("SpiderIPPool").map(typed).collect();
    let (subnets, pools): (Vec<_>, Vec<_>) = (subnets.iter().collect(), pools.iter().collect());
    let (new, old) = (&example.new, example.old.as_ref());
    match (example.kind.as_str(), example.deletes) {
        ("SpiderSubnet", true) => subnet_deletion(&typed(new), settings),
        ("SpiderIPPool", true) => pool_deletion(&typed(new), settings),
        ("SpiderSubnet", false) => {
            let world = SubnetWorld {
                subnets: &subnets,
                pools: &pools,
            };
            subnet(&typed(new), old.map(typed).as_ref(), world, settings)
        }
        ("SpiderIPPool", false) => {
            let world = PoolWorld {
                pools: &pools,
                subnet: subnets.first().copied(),
                subnets: &subnets,
                reserved: None,
            };
            pool(&typed(new), old.map(typed).as_ref(), world, settings)
        }
        ("SpiderReservedIP", false) => {
            let new: SpiderReservedIP = typed(new);
            reserved(&new, old.map(typed).as_ref(), &pools, settings)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_page_lists_every_rule_once_and_who_sees_it() {
    let listed: Vec<(String, String)> = table::rules()
        .into_iter()
        .map(|line| (line.rule, line.seen_by))
        .collect();
    let all = Rule::ALL.iter().map(|rule| {
        let seen_by = match rule.stage() {
            Stage::Crd => "API server",
            Stage::Policy => "policy",
            Stage::Webhook => "webhook",
        };
        (rule.name().to_owned(), seen_by.to_owned())
    });
    assert_eq!(listed, all.collect::<Vec<_>>());
    let names: BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.name()).collect();
    assert_eq!(names.len(), Rule::ALL.len(), "two rules have one name");
}

#[test]
fn each_example_breaks_its_rule_and_no_other_and_is_told_so() {
    for line in table::rules() {
        let outcome = judge(&line.refused);
        let broken: Vec<&str> = outcome.broken().map(Rule::name).collect();
        assert_eq!(broken, [line.rule.as_str()], "{outcome:?}");
        assert!(
            outcome.message().contains(&line.message),
            "{} does not say {:?}",
            outcome.message(),
            line.message
        );
    }
}

#[test]
fn what_the_page_says_to_write_instead_is_taken() {
    for line in table::rules() {
        if let Some(instead) = &line.instead {
            let outcome = judge(instead);
            assert!(outcome.is_allowed(), "{}: {}", line.rule, outcome.message());
        }
    }
}

#[test]
fn what_is_legal_is_taken_with_the_warning() {
    for (example, warning) in table::warnings() {
        let outcome = judge(&example);
        assert!(outcome.is_allowed(), "{}", outcome.message());
        assert_eq!(outcome.warnings, [warning]);
    }
}

/// The object with what is filled in.
fn completed(example: &Example) -> Value {
    let subnets: Vec<SpiderSubnet> = example.beside.iter().map(typed).collect();
    let subnets: Vec<&SpiderSubnet> = subnets.iter().collect();
    let object = match example.kind.as_str() {
        "SpiderSubnet" => {
            let mut object: SpiderSubnet = typed(&example.new);
            complete::subnet(&mut object);
            serde_json::to_value(&object)
        }
        "SpiderIPPool" => {
            let mut object: SpiderIPPool = typed(&example.new);
            complete::pool(&mut object, &subnets, settings(example));
            serde_json::to_value(&object)
        }
        _ => {
            let mut object: SpiderReservedIP = typed(&example.new);
            complete::reserved(&mut object);
            serde_json::to_value(&object)
        }
    };
    object.expect("an object is JSON")
}

#[test]
fn what_is_filled_in_is_what_the_page_says() {
    fn has(object: &Value, members: &Value) -> bool {
        match members {
            Value::Object(members) => members.iter().all(|(name, member)| has(&object[name], member)),
            other => object == other,
        }
    }
    let lines = table::completions();
    assert!(lines.len() >= 4, "the page has {} such lines", lines.len());
    for (example, members) in lines {
        let whole = completed(&example);
        assert!(has(&whole, &members), "{whole} has not all of {members}");
    }
}

#[test]
fn the_page_says_which_rules_take_an_object_out_of_use() {
    let listed = table::fatal();
    let fatal = Rule::ALL.iter().filter(|rule| rule.makes_unusable());
    assert_eq!(listed, fatal.map(|rule| rule.name()).collect::<Vec<_>>());
}

#[test]
fn bounds_are_those_of_the_schema() {
    let told: Vec<usize> = table::bounds().into_iter().map(|(_, most)| most).collect();
    assert_eq!(
        told,
        [
            MAX_RANGES,
            MAX_ROUTES,
            MAX_NAMES,
            MAX_MULTUS_NAMES,
            MAX_SELECTOR_TERMS,
            MAX_SELECTOR_VALUES
        ]
    );
}
