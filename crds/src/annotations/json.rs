//! Looking into the JSON of annotations.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::Problem;

/// Parses a whole value.
pub(super) fn parse(text: &str) -> Result<Value, Problem> {
    serde_json::from_str(text).map_err(|error| Problem::Json(error.to_string()))
}

/// The items of a list; `null` has none.
pub(super) fn list<'a>(value: &'a Value, wanted: &'static str) -> Result<Vec<Object<'a>>, Problem> {
    let items = match value {
        Value::Null => &[][..],
        Value::Array(items) => items,
        _ => return Err(shape("the value", wanted)),
    };
    if items.is_empty() {
        return Err(Problem::NoItems);
    }
    items
        .iter()
        .enumerate()
        .map(|(index, item)| Object::new(item, format!("item {}", index + 1)))
        .collect()
}

/// A JSON object and the words for its place in the value.
pub(super) struct Object<'a> {
    members: Option<&'a Map<String, Value>>,
    pub(super) place: String,
}

impl<'a> Object<'a> {
    /// An object; `null` is one without members.
    pub(super) fn new(value: &'a Value, place: String) -> Result<Self, Problem> {
        match value {
            Value::Null => Ok(Self { members: None, place }),
            Value::Object(members) => Ok(Self {
                members: Some(members),
                place,
            }),
            _ => Err(shape(&place, "an object")),
        }
    }

    /// A member by its name: spelled exactly if there is one, else in any case.
    fn member(&self, name: &str) -> Option<&'a Value> {
        let members = self.members?;
        members
            .get(name)
            .or_else(|| {
                let found = members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value)
            })
            .filter(|value| !value.is_null())
    }

    /// A member that is text, empty when absent.
    pub(super) fn text(&self, name: &str) -> Result<&'a str, Problem> {
        match self.member(name) {
            None => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(shape(&self.place_of(name), "a string")),
        }
    }

    /// A member that is true or false, if it is there.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Problem> {
        match self.member(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(shape(&self.place_of(name), "true or false")),
        }
    }

    /// A member that is a list of names, empty when absent. A name that is repeated counts once.
    pub(super) fn names(&self, name: &str) -> Result<Vec<String>, Problem> {
        self.member(name)
            .map_or_else(|| Ok(Vec::new()), |value| names(value, &self.place_of(name)))
    }

    /// All members.
    pub(super) fn members(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.members.into_iter().flatten()
    }

    /// The names of both families, of which one must have some.
    pub(super) fn families(&self, what: &'static str) -> Result<(Vec<String>, Vec<String>), Problem> {
        let (ipv4, ipv6) = (self.names("ipv4")?, self.names("ipv6")?);
        if ipv4.is_empty() && ipv6.is_empty() {
            let place = self.place.clone();
            return Err(Problem::NothingNamed { place, what });
        }
        Ok((ipv4, ipv6))
    }

    /// Words for the place of a member.
    pub(super) fn place_of(&self, name: &str) -> String {
        format!("{name:?} of {}", self.place)
    }
}

/// A list of names; `null` has none. A name that is repeated counts once.
pub(super) fn names(value: &Value, place: &str) -> Result<Vec<String>, Problem> {
    let wanted = "a list of names";
    let mut names: Vec<String> = Vec::new();
    let mut seen = HashSet::new();
    for text in texts(value, place, wanted)? {
        if text.is_empty() {
            let place = place.to_owned();
            return Err(Problem::EmptyName { place });
        }
        if seen.insert(text) {
            names.push(text.to_owned());
        }
    }
    Ok(names)
}

/// A list of strings; `null` has none.
pub(super) fn texts<'a>(value: &'a Value, place: &str, wanted: &'static str) -> Result<Vec<&'a str>, Problem> {
    let items = match value {
        Value::Null => &[][..],
        Value::Array(items) => items,
        _ => return Err(shape(place, wanted)),
    };
    let text = |item: &'a Value| item.as_str().ok_or_else(|| shape(place, wanted));
    items.iter().map(text).collect()
}

fn shape(place: &str, wanted: &'static str) -> Problem {
    Problem::Shape {
        place: place.to_owned(),
        wanted,
    }
}
