//! The reference: what the rows say about each key.

use std::fmt;

use serde::Serialize;

use super::Environment;
use super::value::Toml;

/// The longest line of a comment.
const WIDTH: usize = 100;

/// A table of the configuration, described.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Section {
    /// Its name in the file, such as `git`; empty for the keys at the top.
    pub name: String,
    /// Its header in the file, such as `[git]` or `[[services]]`; empty for a table that stands inside another's value.
    pub header: String,
    /// What it is about.
    pub about: String,
    /// Its keys, in the order of the example.
    pub keys: Vec<Key>,
    /// An example of it: TOML that can be read.
    pub example: String,
    #[serde(skip)]
    lead: &'static str,
    #[serde(skip)]
    more: &'static str,
}

/// A key of the configuration, described.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Key {
    /// Its name from the top of the file, such as `git.branch`.
    pub name: String,
    /// What it does.
    pub about: String,
    /// The type of its value.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its default, with the environments that have another one; or `required`, or `none`.
    pub default: String,
    /// A line of the example; empty for a key that stands for other tables.
    pub example: String,
}

/// A row of the table, as `keys!` passes it on.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) about: &'static [&'static str],
    pub(crate) kind: String,
    pub(crate) default: String,
    pub(crate) example: String,
    pub(crate) commented: bool,
}

impl Section {
    pub(crate) fn new(
        header: &str,
        about: &[&str],
        lead: &'static str,
        rows: Vec<Row>,
        more: &'static str,
    ) -> Self {
        let name = header.trim_matches(['[', ']']).to_owned();
        let header = if header.starts_with('[') { header.to_owned() } else { String::new() };
        let keys = rows.into_iter().map(|row| Key {
            name: if name.is_empty() { row.name.to_owned() } else { format!("{name}.{}", row.name) },
            about: joined(row.about),
            kind: row.kind,
            default: row.default,
            example: match (row.example.is_empty(), row.commented) {
                (true, _) => String::new(),
                (false, true) => format!("# {} = {}", row.name, row.example),
                (false, false) => format!("{} = {}", row.name, row.example),
            },
        });
        let keys: Vec<Key> = keys.collect();
        let mut example = String::new();
        let lines = keys.iter().map(|key| key.example.as_str()).filter(|line| !line.starts_with('#'));
        for line in [header.as_str(), lead].into_iter().chain(lines).filter(|line| !line.is_empty()) {
            example.push_str(line);
            example.push('\n');
        }
        if !more.is_empty() {
            example.push_str(&format!("\n{more}\n"));
        }
        Section { name, header, about: joined(about), keys, example, lead, more }
    }

    /// Returns the section with only those of its keys that `wanted` accepts; `None` when it accepts none.
    #[must_use]
    pub fn only(mut self, wanted: impl Fn(&Key) -> bool) -> Option<Section> {
        self.keys.retain(wanted);
        (self.lead, self.more) = ("", "");
        (!self.keys.is_empty()).then_some(self)
    }
}

/// Shows the section as TOML: each key with its description as comments, and its example.
impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", comment(&self.about))?;
        for line in [&self.header, self.lead].into_iter().filter(|line| !line.is_empty()) {
            writeln!(f, "{line}")?;
        }
        for (index, key) in self.keys.iter().enumerate() {
            if index > 0 || self.header.is_empty() {
                f.write_str("\n")?;
            }
            write!(f, "{key}")?;
        }
        if self.more.is_empty() { Ok(()) } else { writeln!(f, "\n{}", self.more) }
    }
}

/// Shows the key as TOML: its description as comments, and its example.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = match self.default.as_str() {
            "required" => "Required.".to_owned(),
            default => format!("Default: {default}."),
        };
        write!(f, "{}{}", comment(&self.about), comment(&format!("Type: {}. {default}", self.kind)))?;
        if self.example.is_empty() { Ok(()) } else { writeln!(f, "{}", self.example) }
    }
}

/// Returns what the default of a key is, with the environments that have another one.
pub(crate) fn default_text<T: Toml>(values: [&T; 3]) -> String {
    let [production, ..] = values.map(shown);
    let mut text = production.clone();
    for (environment, value) in Environment::ALL.into_iter().zip(values) {
        let value = shown(value);
        if value != production {
            text.push_str(&format!("; {}: {value}", environment.as_str()));
        }
    }
    text
}

fn shown<T: Toml>(value: &T) -> String {
    let toml = value.toml();
    if toml.is_empty() { "none".to_owned() } else { format!("`{toml}`") }
}

/// Makes a comment of a text, with lines of moderate length.
fn comment(text: &str) -> String {
    let mut comment = String::new();
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            comment.push_str(&line);
            comment.push('\n');
            line.truncate(1);
        }
        line.push(' ');
        line.push_str(word);
    }
    comment + &line + "\n"
}

/// Joins the lines of a doc comment.
fn joined(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}
