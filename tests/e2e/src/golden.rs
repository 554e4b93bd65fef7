//! Golden texts: what users are to read, with braces around what differs from scene to scene.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::scene::Scene;
use crate::told::Told;

/// Golden texts by name. Each begins with a line `# NAME`, and what else stands in that line is for people; its next line is the
/// head of an Event, and those after it are its text.
#[derive(Clone, Debug)]
pub struct Golden(BTreeMap<String, String>);

impl Golden {
    /// Reads golden texts.
    pub fn parse(text: &str) -> Self {
        let sections = text.split("\n# ").map(|section| section.trim_start_matches("# "));
        let named = sections.filter_map(|section| {
            let (title, body) = section.split_once('\n')?;
            let name = title.split([' ', ':']).next()?;
            Some((name.to_owned(), body.trim_end().to_owned()))
        });
        Self(named.collect())
    }

    /// Names of the texts.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A text with its braces filled in.
    pub fn fill(&self, name: &str, values: &Values) -> Result<String> {
        let text = self
            .0
            .get(name)
            .with_context(|| format!("there is no golden text {name}"))?;
        let filled = values.0.iter().fold(text.clone(), |text, (key, value)| {
            text.replace(&format!("{{{key}}}"), value)
        });
        Ok(filled)
    }

    /// Checks that an Event is as the golden text of this name has it.
    pub fn check(&self, name: &str, values: &Values, told: &Told) -> Result<()> {
        let expected = self.fill(name, values)?;
        let found = format!("{}\n{}", told.head.join(" "), told.message);
        ensure!(
            found == expected,
            "of {name}, users read\n{found}\nand the golden text is\n{expected}"
        );
        Ok(())
    }
}

/// What goes into the braces of golden texts.
#[derive(Clone, Debug)]
pub struct Values(BTreeMap<&'static str, String>);

impl Values {
    /// `{namespace}` of a scene, `{own}`, with which the names of its pools begin, and `{v4}` and `{v6}`, with which the
    /// addresses of its subnets do.
    pub fn of(scene: &Scene) -> Self {
        Self(BTreeMap::from([
            ("namespace", scene.namespace.clone()),
            ("own", scene.own("")),
            ("v4", scene.ip(4, "")),
            ("v6", scene.ip(6, "")),
        ]))
    }

    /// With one more.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: &str) -> Self {
        self.0.insert(key, value.to_owned());
        self
    }
}
