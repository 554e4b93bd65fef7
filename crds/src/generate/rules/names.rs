//! Who may use a pool: label selectors, and lists of names.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};

use super::{Each, Rule};
use crate::admission::grammar::{MULTUS_NAME, NAMESPACE_NAME, NODE_NAME, NOT_A_KEY, NOT_A_VALUE};
use crate::types::{MAX_MULTUS_NAMES, MAX_NAMES, MAX_SELECTOR_TERMS, MAX_SELECTOR_VALUES};

const SELECTORS: [&str; 3] = ["podAffinity", "namespaceAffinity", "nodeAffinity"];

/// A name of at most 63 characters, as namespaces have.
const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";
/// A name as most objects have.
const DNS_SUBDOMAIN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// The same, after the name of a namespace if there is one.
const ATTACHMENT: &str =
    "^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/)?[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
const LABEL_KEY: &str = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
const LABEL_VALUE: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$";

/// Longest name of an object.
const NAME_LENGTH: i64 = 253;
/// Longest key of a label: a name of an object, a slash and 63 characters.
const KEY_LENGTH: i64 = NAME_LENGTH + 64;

/// Rules of selectors and names.
pub(super) fn rules() -> Vec<ValidationRule> {
    let mut rules: Vec<ValidationRule> = SELECTORS.into_iter().flat_map(selector).collect();
    rules.push(some_term());
    rules.push(each_name("namespaceName", DNS_LABEL, NAMESPACE_NAME));
    rules.push(each_name("nodeName", DNS_SUBDOMAIN, NODE_NAME));
    rules.push(each_name("multusName", ATTACHMENT, MULTUS_NAME));
    rules
}

/// Gives lists and texts the bounds that the API server needs to see what rules cost.
pub(super) fn bound(spec: &mut JSONSchemaProps) {
    let Some(members) = &mut spec.properties else { return };
    for name in SELECTORS {
        if let Some(selector) = members.get_mut(name) {
            bound_selector(selector);
        }
    }
    for (name, most, length) in [
        ("namespaceName", MAX_NAMES, NAME_LENGTH),
        ("nodeName", MAX_NAMES, NAME_LENGTH),
        ("multusName", MAX_MULTUS_NAMES, 2 * NAME_LENGTH),
    ] {
        if let Some(list) = members.get_mut(name) {
            bound_list(list, most, length);
        }
    }
}

fn bound_selector(selector: &mut JSONSchemaProps) {
    let Some(members) = &mut selector.properties else {
        return;
    };
    if let Some(labels) = members.get_mut("matchLabels") {
        labels.max_properties = Some(count(MAX_SELECTOR_TERMS));
        if let Some(JSONSchemaPropsOrBool::Schema(value)) = &mut labels.additional_properties {
            value.max_length = Some(NAME_LENGTH);
        }
    }
    let Some(terms) = members.get_mut("matchExpressions") else {
        return;
    };
    terms.max_items = Some(count(MAX_SELECTOR_TERMS));
    let Some(JSONSchemaPropsOrArray::Schema(term)) = &mut terms.items else {
        return;
    };
    let members = term.properties.get_or_insert_default();
    for (name, length) in [("key", KEY_LENGTH), ("operator", 16)] {
        if let Some(text) = members.get_mut(name) {
            text.max_length = Some(length);
        }
    }
    if let Some(values) = members.get_mut("values") {
        bound_list(values, MAX_SELECTOR_VALUES, 63);
    }
}

fn bound_list(list: &mut JSONSchemaProps, most: usize, length: i64) {
    list.max_items = Some(count(most));
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &mut list.items {
        item.max_length = Some(length);
    }
}

fn count(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

fn each_name(field: &str, grammar: &str, what: &str) -> ValidationRule {
    Each {
        field,
        list: field,
        item: "name",
        sound: &format!("name.matches('{grammar}')"),
        message: "a name in this list is none that such an object can have",
        text: &format!(": \"%s\" is not {what}"),
        arguments: &["BAD"],
    }
    .build()
}

fn selector(field: &str) -> [ValidationRule; 5] {
    let (labels, terms) = (format!("{field}.matchLabels"), format!("{field}.matchExpressions"));
    let term = |sound: &str, message, text: &str, arguments| {
        Each {
            field,
            list: &terms,
            item: "term",
            sound,
            message,
            text,
            arguments,
        }
        .build()
    };
    [
        term(
            "(term.operator in ['In', 'NotIn'] ? has(term.values) && size(term.values) > 0 : \
             term.operator in ['Exists', 'DoesNotExist'] && (!has(term.values) || size(term.values) == 0))",
            "the operator of a matchExpressions term must be In or NotIn with values, or Exists or DoesNotExist without values",
            ": the operator must be In or NotIn with values, or Exists or DoesNotExist without values, but is \"%s\"",
            &["BAD.operator"],
        ),
        term(
            &format!("term.key.matches('{LABEL_KEY}')"),
            "a key is none that a label can have",
            &format!(".key: \"%s\"{NOT_A_KEY}"),
            &["BAD.key"],
        ),
        term(
            &format!("!has(term.values) || term.values.all(value, value.matches('{LABEL_VALUE}'))"),
            "a value is none that a label can have",
            &format!(".values: \"%s\"{NOT_A_VALUE}"),
            &[&format!("BAD.values.filter(value, !value.matches('{LABEL_VALUE}'))[0]")],
        ),
        label(
            field,
            &labels,
            &format!("key.matches('{LABEL_KEY}')"),
            "a key is none that a label can have",
            &format!("{labels}: \"%s\"{NOT_A_KEY}"),
            "key",
        ),
        label(
            field,
            &labels,
            // What names the application of an automatic pool is compared with objects, not with labels.
            &format!("key.startsWith('ipam.spidernet.io/app-') || self.{labels}[key].matches('{LABEL_VALUE}')"),
            "a value is none that a label can have",
            &format!("{labels}: \"%s\"{NOT_A_VALUE}"),
            &format!("self.{labels}[key]"),
        ),
    ]
}

fn label(field: &str, labels: &str, sound: &str, message: &str, text: &str, argument: &str) -> ValidationRule {
    Rule {
        field,
        holds: format!("!has(self.{labels}) || self.{labels}.all(key, {sound})"),
        message,
        text: Some(format!(
            "[self.{labels}.filter(key, !({sound}))[0]].map(key, '{text}'.format([{argument}]))[0]"
        )),
    }
    .build()
}

fn some_term() -> ValidationRule {
    Rule {
        field: "podAffinity",
        holds: "has(self.podAffinity.matchLabels) && size(self.podAffinity.matchLabels) > 0 || \
                has(self.podAffinity.matchExpressions) && size(self.podAffinity.matchExpressions) > 0"
            .to_owned(),
        message: "an empty podAffinity selects nothing in particular; write matchLabels or matchExpressions, or leave podAffinity out",
        text: None,
    }
    .build()
}
