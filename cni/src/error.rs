//! What a failing command prints, and the codes of the CNI specification.

use serde::Serialize;

/// Reason class of a failure; the number is part of the CNI specification, except where noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The configuration's version or the command is not supported in this version.
    IncompatibleVersion = 1,
    /// An environment variable is missing or bad.
    InvalidEnvironment = 4,
    /// Standard input cannot be read.
    Io = 5,
    /// Standard input is not the JSON it should be.
    Decoding = 6,
    /// The network configuration says something impossible.
    InvalidConfig = 7,
    /// A condition that should clear up by itself; the runtime may ask again.
    TryAgainLater = 11,
    /// STATUS: the plugin cannot serve an ADD now.
    NotAvailable = 50,
    /// Anything the work itself ran into (from the plugins' common library, not from the specification).
    Internal = 999,
}

/// A failed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Reason class.
    pub code: Code,
    /// What was attempted and why it failed.
    pub msg: String,
    /// Where it happened and what the reader can do; may be empty.
    pub details: String,
}

impl Failure {
    /// A failure without details.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self {
            code,
            msg: msg.into(),
            details: String::new(),
        }
    }

    /// The form printed on standard output.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Printed<'a> {
            code: u32,
            msg: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            details: &'a str,
        }
        pretty(&Printed {
            code: self.code as u32,
            msg: &self.msg,
            details: &self.details,
        })
    }
}

/// An error with its causes on one line, as a runtime shows only one message.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// JSON as the plugins' common library prints it: four spaces, no newline at the end.
pub(crate) fn pretty<T: Serialize>(value: &T) -> String {
    let mut text = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, format);
    // writing derived structs of strings and numbers into memory has no way to fail
    if value.serialize(&mut serializer).is_err() {
        text.clear();
    }
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_left_out_when_empty() {
        assert_eq!(
            Failure::new(Code::Internal, "no \"room\"").to_json(),
            "{\n    \"code\": 999,\n    \"msg\": \"no \\\"room\\\"\"\n}"
        );
    }
}
