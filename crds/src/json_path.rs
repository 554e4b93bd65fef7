//! Paths to one field of an object, as a CRD's scale subresource and the chart's values name them: `.spec.replicas`.
//!
//! That is the part of JSONPath that the API server accepts for a scale subresource: members only, no arrays, no filters.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// Longest path that is read. The API server has no such bound, but no real path comes near.
const LENGTH_MAX: usize = 1024;

/// A path of member names from the root of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JsonPath {
    members: Vec<String>,
}

/// A text that is not such a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} is not the path of a field: {problem}; write for example .spec.replicas or .spec['a.b']")]
pub struct JsonPathError {
    /// The offending text.
    pub path: String,
    /// What is wrong with it.
    pub problem: JsonPathProblem,
}

/// What is wrong with the text of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonPathProblem {
    /// Nothing between two dots, or no member at all.
    #[error("a member name is empty")]
    EmptyMember,
    /// A member that does not begin with a dot or bracket.
    #[error("a dot or ['...'] must come before each member")]
    NoDot,
    /// `[` without `'...']`.
    #[error("brackets must hold a quoted member name; elements of lists cannot be named")]
    Bracket,
    /// A backslash at the end.
    #[error("the last character is a backslash, which has nothing to escape")]
    Escape,
    /// Longer than any real path.
    #[error("it is longer than {LENGTH_MAX} bytes")]
    TooLong,
}

impl JsonPath {
    /// Reads a path. A dot within a member name is written `\.`, or the name as `['a.b']`.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        members(text)
            .map(|members| Self { members })
            .map_err(|problem| JsonPathError {
                path: text.chars().take(LENGTH_MAX).collect(),
                problem,
            })
    }

    /// The field, if the object has it.
    pub fn get<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        self.members.iter().try_fold(object, |value, member| value.get(member))
    }
}

impl FromStr for JsonPath {
    type Err = JsonPathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for member in &self.members {
            let plain = !member.contains(['.', '[', ']', '\\', '\'']);
            if plain {
                write!(f, ".{member}")?;
            } else {
                let escaped = member.replace('\\', "\\\\").replace('\'', "\\'");
                write!(f, "['{escaped}']")?;
            }
        }
        Ok(())
    }
}

fn members(text: &str) -> Result<Vec<String>, JsonPathProblem> {
    if text.len() > LENGTH_MAX {
        return Err(JsonPathProblem::TooLong);
    }
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(head) = rest.chars().next() {
        let (member, left) = match head {
            '.' => plain(rest.get(1..).unwrap_or_default())?,
            '[' => quoted(rest)?,
            _ => return Err(JsonPathProblem::NoDot),
        };
        if member.is_empty() {
            return Err(JsonPathProblem::EmptyMember);
        }
        found.push(member);
        rest = left;
    }
    if found.is_empty() {
        return Err(JsonPathProblem::EmptyMember);
    }
    Ok(found)
}

/// The member up to the next dot or bracket, and what is left.
fn plain(text: &str) -> Result<(String, &str), JsonPathProblem> {
    let mut member = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '.' | '[' => return Ok((member, text.get(at..).unwrap_or_default())),
            ']' => return Err(JsonPathProblem::Bracket),
            '\\' => member.push(chars.next().ok_or(JsonPathProblem::Escape)?.1),
            other => member.push(other),
        }
    }
    Ok((member, ""))
}

/// The member within `['...']` or `["..."]`, and what is left.
fn quoted(text: &str) -> Result<(String, &str), JsonPathProblem> {
    let inner = text.strip_prefix('[').unwrap_or(text);
    let quote = inner.chars().next().filter(|char| matches!(char, '\'' | '"'));
    let quote = quote.ok_or(JsonPathProblem::Bracket)?;
    let mut member = String::new();
    let mut chars = inner.char_indices().skip(1);
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => member.push(chars.next().ok_or(JsonPathProblem::Escape)?.1),
            end if end == quote => {
                let after = inner.get(at + 1..).unwrap_or_default();
                let left = after.strip_prefix(']').ok_or(JsonPathProblem::Bracket)?;
                return Ok((member, left));
            }
            other => member.push(other),
        }
    }
    Err(JsonPathProblem::Bracket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn paths_of_scale_subresources_find_their_field() {
        let object = json!({"spec": {"replicas": 3, "a.b": {"c": 4}, "it's": 5, "list": [1]}});
        for (path, value) in [
            (".spec.replicas", json!(3)),
            (".spec['a.b'].c", json!(4)),
            (r#".spec["a.b"]['c']"#, json!(4)),
            (r".spec.a\.b.c", json!(4)),
            (r".spec['it\'s']", json!(5)),
            ("['spec'].replicas", json!(3)),
        ] {
            assert_eq!(JsonPath::parse(path).unwrap().get(&object), Some(&value), "{path}");
        }
        for absent in [".spec.size", ".spec.replicas.more", ".spec.list.0"] {
            assert_eq!(JsonPath::parse(absent).unwrap().get(&object), None, "{absent}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_reason() {
        for (path, problem) in [
            ("", JsonPathProblem::EmptyMember),
            (".", JsonPathProblem::EmptyMember),
            (".spec.", JsonPathProblem::EmptyMember),
            (".spec..replicas", JsonPathProblem::EmptyMember),
            (".spec['']", JsonPathProblem::EmptyMember),
            ("spec.replicas", JsonPathProblem::NoDot),
            (".spec['a']b", JsonPathProblem::NoDot),
            (".spec.list[0]", JsonPathProblem::Bracket),
            (".spec[", JsonPathProblem::Bracket),
            (".spec['a", JsonPathProblem::Bracket),
            (".spec['a'", JsonPathProblem::Bracket),
            (".spec]", JsonPathProblem::Bracket),
            (r".spec\", JsonPathProblem::Escape),
        ] {
            assert_eq!(JsonPath::parse(path).unwrap_err().problem, problem, "{path}");
        }
        let long = ".a".repeat(LENGTH_MAX);
        assert_eq!(JsonPath::parse(&long).unwrap_err().problem, JsonPathProblem::TooLong);
        let message = JsonPath::parse("spec.replicas").unwrap_err().to_string();
        assert!(message.contains("\"spec.replicas\"") && message.contains("write for example .spec.replicas"));
    }

    proptest! {
        #[test]
        fn printed_paths_are_read_again(members in prop::collection::vec(".{1,6}", 1..5)) {
            let path = JsonPath { members };
            prop_assert_eq!(JsonPath::parse(&path.to_string()), Ok(path));
        }

        #[test]
        fn arbitrary_text_never_panics(text in r#"[.\[\]'"\\a-c]{0,20}|.{0,20}"#) {
            let _ = JsonPath::parse(&text);
        }
    }
}
