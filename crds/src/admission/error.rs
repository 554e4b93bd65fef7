//! What is said about an object that may not be stored, in the API server's own form.

use std::fmt;

/// Why a field is refused, in Kubernetes' terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The value is wrong.
    Invalid,
    /// The value may be right, but not here.
    Forbidden,
}

/// One field of an object, and why it may not be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Path of the field, `spec.ips[2]`.
    pub field: String,
    /// Why, in Kubernetes' terms.
    pub kind: RefusalKind,
    /// The value that is refused.
    pub value: Option<String>,
    /// What is wrong with it, and what to write instead.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, &self.value) {
            (RefusalKind::Invalid, Some(value)) => {
                write!(f, "{}: Invalid value: {value:?}: {}", self.field, self.message)
            }
            (RefusalKind::Invalid, None) => write!(f, "{}: Invalid value: {}", self.field, self.message),
            (RefusalKind::Forbidden, _) => write!(f, "{}: Forbidden: {}", self.field, self.message),
        }
    }
}

/// What became of an object's admission.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why it is refused; nothing if it is not.
    pub refusals: Vec<Refusal>,
    /// What its author should look at all the same.
    pub warnings: Vec<String>,
    /// Deletion and such are refused as a whole, not for a field.
    pub forbidden: Option<String>,
}

impl Verdict {
    /// Whether the object may be stored.
    pub const fn is_allowed(&self) -> bool {
        self.refusals.is_empty() && self.forbidden.is_none()
    }

    /// HTTP status of the answer: 403 for what is refused as a whole, 422 for fields.
    pub const fn code(&self) -> u16 {
        match (&self.forbidden, self.refusals.is_empty()) {
            (Some(_), _) => 403,
            (None, false) => 422,
            (None, true) => 200,
        }
    }

    /// All that is wrong, as kubectl shows it.
    pub fn message(&self) -> String {
        if let Some(forbidden) = &self.forbidden {
            return forbidden.clone();
        }
        let texts: Vec<String> = self.refusals.iter().map(Refusal::to_string).collect();
        match texts.as_slice() {
            [one] => one.clone(),
            all => format!("[{}]", all.join(", ")),
        }
    }

    pub(super) fn forbid(message: String) -> Self {
        Self {
            forbidden: Some(message),
            ..Self::default()
        }
    }

    pub(super) fn invalid(&mut self, field: impl Into<String>, value: &str, message: impl Into<String>) {
        self.refusals.push(Refusal {
            field: field.into(),
            kind: RefusalKind::Invalid,
            value: Some(value.to_owned()),
            message: message.into(),
        });
    }

    pub(super) fn forbidden(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.refusals.push(Refusal {
            field: field.into(),
            kind: RefusalKind::Forbidden,
            value: None,
            message: message.into(),
        });
    }

    pub(super) fn warn(&mut self, message: String) {
        self.warnings.push(message);
    }
}
