//! Reads the tables of docs/admission.md.

use serde_json::{Value, json};

const PAGE: &str = include_str!("../../../docs/admission.md");

/// The name of the object that a line is about, and that of one which is there already.
pub(crate) const OWN: &str = "example";
const OTHER: &str = "other";

/// A line of the table of rules.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Name of the rule.
    pub(crate) rule: String,
    /// Who sees it first.
    pub(crate) seen_by: String,
    /// What is refused.
    pub(crate) refused: Example,
    /// What the refusal says.
    pub(crate) message: String,
    /// What is taken in its place, if that can be written down.
    pub(crate) instead: Option<Example>,
}

/// An object and its surroundings.
#[derive(Clone, Debug)]
pub(crate) struct Example {
    /// Kind of the object.
    pub(crate) kind: String,
    /// What it replaces, for a change.
    pub(crate) old: Option<Value>,
    /// The object.
    pub(crate) new: Value,
    /// Whether it is the deletion of the object.
    pub(crate) deletes: bool,
    /// Objects that are there already.
    pub(crate) beside: Vec<Value>,
    /// A setting that is not as usual.
    pub(crate) setting: Option<String>,
}

/// The rules.
pub(crate) fn rules() -> Vec<Line> {
    let lines = table("## Rules").into_iter().map(|cells| {
        let [rule, seen_by, refused, message, instead] = cells.try_into().expect("a line of five cells");
        let refused = Example::read(&code(&refused));
        let instead = instead.starts_with("`{").then(|| refused.with(&code(&instead)));
        Line {
            rule,
            seen_by,
            refused,
            message: code(&message),
            instead,
        }
    });
    lines.collect()
}

/// What is sent, and members of what is stored then.
#[allow(dead_code, reason = "not everybody who reads the page reads all of it")]
pub(crate) fn completions() -> Vec<(Example, Value)> {
    let lines = table("## What is filled in").into_iter();
    lines
        .map(|cells| {
            let [sent, stored] = cells.try_into().expect("a line of two cells");
            let stored = code(&stored);
            let members = serde_json::from_str(&stored).unwrap_or_else(|error| panic!("{error}: {stored}"));
            (Example::read(&code(&sent)), members)
        })
        .collect()
}

/// The rules after which an object that is stored is not used.
#[allow(dead_code, reason = "not everybody who reads the page reads all of it")]
pub(crate) fn fatal() -> Vec<&'static str> {
    let (_, list) = PAGE
        .split_once("Only breaking one of these rules has that effect:")
        .expect("the list of rules");
    let (list, _) = list.split_once('.').expect("its end");
    let names = list.split('`').skip(1).step_by(2);
    names.filter(|name| *name != "ips").collect()
}

/// What is taken with a warning, and the warning.
#[allow(dead_code, reason = "not everybody who reads the page reads all of it")]
pub(crate) fn warnings() -> Vec<(Example, String)> {
    let lines = table("## What is legal and probably not meant").into_iter();
    lines
        .map(|cells| {
            let [taken, warning] = cells.try_into().expect("a line of two cells");
            (Example::read(&code(&taken)), code(&warning))
        })
        .collect()
}

/// Fields and most items, as the page has them.
#[allow(dead_code, reason = "not everybody who reads the page reads all of it")]
pub(crate) fn bounds() -> Vec<(String, usize)> {
    let lines = table("## How long lists may be").into_iter();
    lines
        .map(|cells| {
            let [fields, most] = cells.try_into().expect("a line of two cells");
            (fields, most.parse().expect("a number"))
        })
        .collect()
}

/// The cells of the lines of the first table below a heading, without its own heading.
fn table(heading: &str) -> Vec<Vec<String>> {
    let section = PAGE.split(heading).nth(1).expect("the heading is there");
    let lines = section.lines().skip_while(|line| !line.starts_with('|'));
    let lines = lines.take_while(|line| line.starts_with('|')).skip(2);
    let cells = |line: &str| {
        let inner = line.trim().trim_matches('|');
        inner.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    lines.map(cells).collect()
}

fn code(cell: &str) -> String {
    let text = cell.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
    text.unwrap_or_else(|| panic!("not code: {cell}")).to_owned()
}

impl Example {
    /// `[delete] KIND JSON [-> JSON] [beside KIND JSON] [with SETTING]`.
    fn read(text: &str) -> Self {
        let (text, setting) = match text.rsplit_once(" with ") {
            Some((text, setting)) => (text, Some(setting.to_owned())),
            None => (text, None),
        };
        let mut objects = text.split(" beside ");
        let first = objects.next().unwrap_or_default();
        let (first, deletes) = match first.strip_prefix("delete ") {
            Some(first) => (first, true),
            None => (first, false),
        };
        let (kind, versions) = first.split_once(' ').expect("a kind and an object");
        let (old, new) = match versions.split_once(" -> ") {
            Some((old, new)) => (Some(whole(kind, OWN, old)), new),
            None => (None, versions),
        };
        let beside = objects.map(|object| {
            let (kind, spec) = object.split_once(' ').expect("a kind and an object");
            whole(kind, OTHER, spec)
        });
        Self {
            kind: kind.to_owned(),
            old,
            new: whole(kind, OWN, new),
            deletes,
            beside: beside.collect(),
            setting,
        }
    }

    /// The same with another object.
    fn with(&self, new: &str) -> Self {
        Self {
            new: whole(&self.kind, OWN, new),
            ..self.clone()
        }
    }
}

/// An object of which the spec is given, or whatever else it has too.
fn whole(kind: &str, name: &str, text: &str) -> Value {
    let given: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let mut object = if given.get("spec").is_some() {
        given
    } else {
        json!({"spec": given})
    };
    object["apiVersion"] = json!("spiderpool.spidernet.io/v2beta1");
    object["kind"] = json!(kind);
    if object["metadata"]["name"].is_null() {
        object["metadata"]["name"] = json!(name);
    }
    object
}
