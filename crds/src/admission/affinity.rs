//! Who may use a pool.

use super::{Outcome, Rule, grammar};
use crate::names::APP_AFFINITY_KEYS;
use crate::types::{IPPoolSpec, SpiderIPPool};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use std::collections::BTreeSet;

/// What such keys have in common, and no label of a pod.
const APP_PREFIX: &str = "ipam.spidernet.io/app-";

/// Judges selectors and lists of names.
pub(super) fn judge(pool: &SpiderIPPool, outcome: &mut Outcome) {
    for (name, selector) in selectors(&pool.spec) {
        grammar_of(name, selector, outcome);
    }
    if let Some(selector) = &pool.spec.pod_affinity {
        pods(pool, selector, outcome);
    }
    names(&pool.spec, outcome);
}

/// Warns of a pool that no pod can match, which is legal and nobody wants.
pub(super) fn advise(spec: &IPPoolSpec, outcome: &mut Outcome) {
    for (name, selector) in selectors(spec) {
        if let Some(key) = contradiction(selector) {
            outcome.warn(format!(
                "spec.{name}: the terms about {key} contradict each other, so nothing matches and no pod gets an address of this pool"
            ));
        }
    }
}

fn selectors(spec: &IPPoolSpec) -> impl Iterator<Item = (&'static str, &LabelSelector)> {
    let all = [
        ("podAffinity", &spec.pod_affinity),
        ("namespaceAffinity", &spec.namespace_affinity),
        ("nodeAffinity", &spec.node_affinity),
    ];
    all.into_iter()
        .filter_map(|(name, selector)| Some((name, selector.as_ref()?)))
}

fn grammar_of(name: &str, selector: &LabelSelector, outcome: &mut Outcome) {
    for (key, value) in selector.match_labels.iter().flatten() {
        let field = || format!("spec.{name}.matchLabels[{key}]");
        if !grammar::is_label_key(key) {
            not_a_key(field(), key, outcome);
        }
        // What names the application of an automatic pool is compared with objects, not with labels.
        if !key.starts_with(APP_PREFIX) && !grammar::is_label_value(value) {
            not_a_value(field(), value, outcome);
        }
    }
    for (index, term) in selector.match_expressions.iter().flatten().enumerate() {
        let field = |member: &str| format!("spec.{name}.matchExpressions[{index}].{member}");
        if !has_operator(term) {
            let message = format!(
                "the operator must be In or NotIn with values, or Exists or DoesNotExist without values, but is {:?}",
                term.operator
            );
            outcome.invalid(Rule::SelectorOperator, field("operator"), &term.operator, message);
        }
        if !grammar::is_label_key(&term.key) {
            not_a_key(field("key"), &term.key, outcome);
        }
        let mut values = term.values.iter().flatten();
        if let Some(value) = values.find(|value| !grammar::is_label_value(value)) {
            not_a_value(field("values"), value, outcome);
        }
    }
}

fn has_operator(term: &LabelSelectorRequirement) -> bool {
    let has_values = term.values.as_ref().is_some_and(|values| !values.is_empty());
    match term.operator.as_str() {
        "In" | "NotIn" => has_values,
        "Exists" | "DoesNotExist" => !has_values,
        _ => false,
    }
}

fn not_a_key(field: String, key: &str, outcome: &mut Outcome) {
    outcome.invalid(Rule::LabelKey, field, key, format!("{key:?}{}", grammar::NOT_A_KEY));
}

fn not_a_value(field: String, value: &str, outcome: &mut Outcome) {
    outcome.invalid(
        Rule::LabelValue,
        field,
        value,
        format!("{value:?}{}", grammar::NOT_A_VALUE),
    );
}

fn pods(pool: &SpiderIPPool, selector: &LabelSelector, outcome: &mut Outcome) {
    let labels = selector.match_labels.iter().flatten();
    let terms = selector.match_expressions.as_deref().unwrap_or_default();
    if pool.is_automatic() {
        for (key, value) in labels
            .clone()
            .filter(|(key, _)| !APP_AFFINITY_KEYS.contains(&key.as_str()))
        {
            let message = format!(
                "the podAffinity of an automatic pool names its application by {} and nothing else; leave {key} out",
                APP_AFFINITY_KEYS.join(", ")
            );
            let field = format!("spec.podAffinity.matchLabels[{key}]");
            outcome.invalid(Rule::AutomaticAffinity, field, value, message);
        }
        if !terms.is_empty() {
            let message = "the podAffinity of an automatic pool has no matchExpressions; leave them out";
            outcome.invalid(
                Rule::AutomaticAffinity,
                "spec.podAffinity.matchExpressions",
                "",
                message,
            );
        }
    }
    if labels.count() == 0 && terms.is_empty() {
        let message = "an empty podAffinity selects nothing in particular; write matchLabels or matchExpressions, or leave podAffinity out";
        outcome.invalid(Rule::PodAffinityEmpty, "spec.podAffinity", "", message);
    }
}

fn names(spec: &IPPoolSpec, outcome: &mut Outcome) {
    let mut judge = |rule, list, names: &Option<Vec<String>>, is_name: fn(&str) -> bool, what| {
        for (index, name) in names.iter().flatten().enumerate() {
            if !is_name(name) {
                let message = format!("{name:?} is not {what}");
                outcome.invalid(rule, format!("spec.{list}[{index}]"), name, message);
            }
        }
    };
    judge(
        Rule::NamespaceName,
        "namespaceName",
        &spec.namespace_name,
        grammar::is_dns_label,
        grammar::NAMESPACE_NAME,
    );
    judge(
        Rule::NodeName,
        "nodeName",
        &spec.node_name,
        grammar::is_dns_subdomain,
        grammar::NODE_NAME,
    );
    judge(
        Rule::MultusName,
        "multusName",
        &spec.multus_name,
        grammar::is_attachment,
        grammar::MULTUS_NAME,
    );
}

/// A key that a selector wants to have a value which it excludes, or to be there and not to be there.
fn contradiction(selector: &LabelSelector) -> Option<String> {
    let terms = selector.match_expressions.as_deref().unwrap_or_default();
    let values = |operator: &str, key: &str| -> Option<BTreeSet<String>> {
        let own = terms.iter().filter(|term| term.key == key && term.operator == operator);
        own.map(|term| term.values.iter().flatten().cloned().collect())
            .reduce(|one: BTreeSet<String>, other| match operator {
                "In" => one.intersection(&other).cloned().collect(),
                _ => one.union(&other).cloned().collect(),
            })
    };
    let labels = selector.match_labels.iter().flatten();
    let keys = labels.map(|(key, _)| key).chain(terms.iter().map(|term| &term.key));
    let keys: BTreeSet<&String> = keys.collect();
    let impossible = |key: &&String| {
        let label = selector.match_labels.as_ref().and_then(|labels| labels.get(*key));
        let exact = label.map(|value| BTreeSet::from([value.clone()]));
        let wanted = match (exact, values("In", key)) {
            (Some(one), Some(other)) => Some(one.intersection(&other).cloned().collect::<BTreeSet<_>>()),
            (one, other) => one.or(other),
        };
        let barred = values("NotIn", key).unwrap_or_default();
        let has = |operator: &str| terms.iter().any(|term| term.key == **key && term.operator == operator);
        let none_left = wanted.as_ref().is_some_and(|wanted| wanted.is_subset(&barred));
        none_left || has("DoesNotExist") && (has("Exists") || wanted.is_some())
    };
    keys.into_iter().find(impossible).cloned()
}
