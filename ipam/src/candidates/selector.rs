//! Kubernetes label selectors.

use std::collections::BTreeMap;
use std::fmt;

/// One `matchExpressions` term of a Kubernetes label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    /// Label key.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// Values of the first two operators.
    pub values: Vec<String>,
}

impl Expression {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator.as_str() {
            "In" => value.is_some_and(|value| self.values.contains(value)),
            "NotIn" => value.is_none_or(|value| !self.values.contains(value)),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    }
}

/// As `kubectl -l` writes it.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator.as_str() {
            "In" => write!(f, "{key} in ({values})"),
            "NotIn" => write!(f, "{key} notin ({values})"),
            "Exists" => write!(f, "{key}"),
            "DoesNotExist" => write!(f, "!{key}"),
            other => write!(f, "{key} {other} ({values})"),
        }
    }
}

/// A Kubernetes label selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Labels that must be there with these values.
    pub labels: BTreeMap<String, String>,
    /// Further terms; all must hold.
    pub expressions: Vec<Expression>,
}

impl Selector {
    /// Whether labels match. A selector with an unknown operator matches nothing.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.unmet(labels).is_none()
    }

    /// The first term that labels do not meet, as text; none if they match.
    pub fn unmet(&self, labels: &BTreeMap<String, String>) -> Option<String> {
        let label = self.labels.iter().find(|(key, value)| labels.get(*key) != Some(value));
        let expression = || self.expressions.iter().find(|term| !term.matches(labels));
        match label {
            Some((key, value)) => Some(format!("{key}={value}")),
            None => expression().map(ToString::to_string),
        }
    }
}
