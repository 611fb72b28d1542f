//! Compares the names that the code asks for with those in the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::SecretsError;

/// How Django projects commonly ask for a secret.
pub const DEFAULT_PATTERN: &str = r#"get_secret\(\s*["'](\w+)["']"#;

/// Where the secrets are, and how the code asks for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretsCheck {
    /// The file; `None`: the site has none.
    pub file: Option<PathBuf>,
    /// Names that must be in it, whatever the code asks for.
    pub required: Vec<String>,
    /// A regular expression whose first group is a name; default [`DEFAULT_PATTERN`].
    pub pattern: String,
}

/// A name that the file lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The name.
    pub name: String,
    /// Where the target asks for it: `config/settings/base.py:12`. Empty for a required name that no code asks for.
    pub asked_in: Vec<String>,
}

/// Which names the file lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretsOutcome {
    /// Those without which the target must not be installed, sorted.
    pub missing: Vec<Missing>,
    /// Those that the current code asks for as well, and evidently runs without, sorted.
    pub tolerated: Vec<Missing>,
}

impl Default for SecretsCheck {
    fn default() -> Self {
        SecretsCheck { file: None, required: Vec::new(), pattern: DEFAULT_PATTERN.to_owned() }
    }
}

impl SecretsCheck {
    /// Decides which names are missing.
    ///
    /// What the target asks for and the file lacks is missing, unless the current code asks for it as well: a site that
    /// runs without it is not held up. What the settings require is missing either way.
    #[must_use]
    pub fn decide(
        &self,
        asked_by_target: &BTreeMap<String, Vec<String>>,
        asked_by_current: &BTreeSet<String>,
        present: &BTreeSet<String>,
    ) -> SecretsOutcome {
        let names: BTreeSet<&String> = asked_by_target.keys().chain(&self.required).collect();
        let mut outcome = SecretsOutcome::default();
        for name in names.into_iter().filter(|name| !present.contains(*name)) {
            let asked_in = asked_by_target.get(name).cloned().unwrap_or_default();
            let missing = Missing { name: name.clone(), asked_in };
            if asked_by_current.contains(name) && !self.required.contains(name) {
                outcome.tolerated.push(missing);
            } else {
                outcome.missing.push(missing);
            }
        }
        outcome
    }
}

/// Compiles the pattern that finds names in the code.
///
/// # Errors
///
/// When it is no regular expression, or has no group.
pub fn compile_pattern(pattern: &str) -> Result<Regex, SecretsError> {
    let pattern = Regex::new(pattern).map_err(|source| SecretsError::Pattern { source })?;
    // The whole match is a group, too.
    if pattern.captures_len() < 2 { Err(SecretsError::NoGroup) } else { Ok(pattern) }
}

/// Returns the names that a source text asks for, each once, in their order.
///
/// Lines that are Python comments are left out, and calls with a further argument, since that is how a default is given:
/// `get_secret("API_KEY", "")`.
#[must_use]
pub fn names_asked_for(source: &str, pattern: &Regex) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in asks(source, pattern) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Returns the names that source files ask for, with the places where they do: `file:line`.
///
/// See [`names_asked_for`] for what counts.
#[must_use]
pub fn asked_for<'s>(
    sources: impl IntoIterator<Item = (&'s str, &'s str)>,
    pattern: &Regex,
) -> BTreeMap<String, Vec<String>> {
    let mut asked: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, source) in sources {
        for (name, line) in asks(source, pattern) {
            asked.entry(name.to_owned()).or_default().push(format!("{file}:{line}"));
        }
    }
    asked
}

/// Finds names with their lines, from 1.
fn asks<'s>(source: &'s str, pattern: &Regex) -> impl Iterator<Item = (&'s str, usize)> {
    let (mut line, mut counted) = (1, 0);
    pattern.captures_iter(source).filter_map(move |captures| {
        let whole = captures.get(0)?;
        let name = captures.iter().skip(1).flatten().next()?;
        let before = &source[..whole.start()];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let in_comment = source[line_start..].trim_start_matches([' ', '\t']).starts_with('#');
        let rest = source[whole.end()..].trim_start();
        let has_default = rest.strip_prefix(',').is_some_and(|rest| !rest.trim_start().starts_with(')'));
        if in_comment || has_default || name.as_str().is_empty() {
            return None;
        }
        line += source[counted..name.start()].matches('\n').count();
        counted = name.start();
        Some((name.as_str(), line))
    })
}
