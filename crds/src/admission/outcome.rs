//! What is said about an object that may not be stored, in the API server's own form.

use std::fmt;

use super::Rule;

/// Why a field is refused, in Kubernetes' terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// The value is wrong.
    Invalid,
    /// The value may be right, but not here.
    Forbidden,
}

impl FieldErrorKind {
    /// The word that clients find in the causes of a status.
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Invalid => "FieldValueInvalid",
            Self::Forbidden => "FieldValueForbidden",
        }
    }
}

/// One field of an object, and why it may not be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The rule that is broken.
    pub rule: Rule,
    /// Path of the field, `spec.ips[2]`.
    pub field: String,
    /// Why, in Kubernetes' terms.
    pub kind: FieldErrorKind,
    /// The value that is refused.
    pub value: Option<String>,
    /// What is wrong with it, and what to write instead.
    pub message: String,
}

impl FieldError {
    /// All but the field, as the API server words it.
    pub fn detail(&self) -> String {
        let Self { message, .. } = self;
        match (self.kind, &self.value) {
            (FieldErrorKind::Invalid, Some(value)) => format!("Invalid value: {value:?}: {message}"),
            (FieldErrorKind::Invalid, None) => format!("Invalid value: {message}"),
            (FieldErrorKind::Forbidden, _) => format!("Forbidden: {message}"),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.detail())
    }
}

/// A request that is refused as a whole and not for a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The rule that is broken.
    pub rule: Rule,
    /// Why, and what to do.
    pub message: String,
}

/// What became of an object's admission.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The fields that are refused, in the order of the rules; nothing if none is.
    pub errors: Vec<FieldError>,
    /// What its author should look at all the same.
    pub warnings: Vec<String>,
    /// The request is refused as a whole: it deletes or changes what must stay, or its name is taken.
    pub refusal: Option<Refusal>,
}

impl Outcome {
    /// Whether the object may be stored.
    pub const fn is_allowed(&self) -> bool {
        self.errors.is_empty() && self.refusal.is_none()
    }

    /// HTTP status of the answer: 422 for fields, 409 for a name that is taken, 403 for what else is refused as a whole.
    pub const fn code(&self) -> u16 {
        match (&self.refusal, self.errors.is_empty()) {
            (Some(refusal), _) if matches!(refusal.rule, Rule::NameTaken) => 409,
            (Some(_), _) => 403,
            (None, false) => 422,
            (None, true) => 200,
        }
    }

    /// Kubernetes' word for the code, which clients test for.
    pub const fn reason(&self) -> &'static str {
        match self.code() {
            403 => "Forbidden",
            409 => "AlreadyExists",
            422 => "Invalid",
            _ => "",
        }
    }

    /// All that is wrong, as kubectl shows it.
    pub fn message(&self) -> String {
        if let Some(refusal) = &self.refusal {
            return refusal.message.clone();
        }
        let texts: Vec<String> = self.errors.iter().map(FieldError::to_string).collect();
        match texts.as_slice() {
            [one] => one.clone(),
            all => format!("[{}]", all.join(", ")),
        }
    }

    /// The rules that are broken, in the order in which they are told.
    pub fn broken(&self) -> impl Iterator<Item = Rule> {
        let whole = self.refusal.iter().map(|refusal| refusal.rule);
        whole.chain(self.errors.iter().map(|error| error.rule))
    }

    pub(super) fn refused(rule: Rule, message: String) -> Self {
        Self {
            refusal: Some(Refusal { rule, message }),
            ..Self::default()
        }
    }

    pub(super) fn invalid(
        &mut self,
        rule: Rule,
        field: impl Into<String>,
        value: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.errors.push(FieldError {
            rule,
            field: field.into(),
            kind: FieldErrorKind::Invalid,
            value: Some(value.into()),
            message: message.into(),
        });
    }

    pub(super) fn forbidden(&mut self, rule: Rule, field: impl Into<String>, message: impl Into<String>) {
        self.errors.push(FieldError {
            rule,
            field: field.into(),
            kind: FieldErrorKind::Forbidden,
            value: None,
            message: message.into(),
        });
    }

    pub(super) fn warn(&mut self, message: String) {
        self.warnings.push(message);
    }
}
