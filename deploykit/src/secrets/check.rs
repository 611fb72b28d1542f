//! Compares the names that the code asks for with those in the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use regex_lite::Regex;
use serde::{Deserialize, Serialize};

use super::SecretsError;
use super::source::Source;

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

/// Returns the names that a source text asks for and has to get, each once, in their order.
///
/// Left out is what stands in comments and texts, what has a default (`get_secret("API_KEY", "")`, `env("A", default="")`,
/// `environ.Env(A=(str, ""))`), and what is asked for under a condition only: in a block of `if` or `try`, before `if … else`,
/// behind `or` and `and`.
#[must_use]
pub fn names_asked_for(source: &str, pattern: &Regex) -> Vec<String> {
    let mut asked: Vec<(usize, String)> = Vec::new();
    for (name, places) in asked_for([("", source)], pattern) {
        let first = places.first().and_then(|place| place.trim_start_matches(':').parse().ok());
        asked.push((first.unwrap_or_default(), name));
    }
    asked.sort();
    asked.into_iter().map(|(_, name)| name).collect()
}

/// Returns the names that source files ask for, with the places where they do: `file:line`.
///
/// See [`names_asked_for`] for what counts.
#[must_use]
pub fn asked_for<'s>(
    sources: impl IntoIterator<Item = (&'s str, &'s str)>,
    pattern: &Regex,
) -> BTreeMap<String, Vec<String>> {
    // A scheme with defaults stands in one file, and the questions may stand in others.
    let wanted = |text: &str| text.contains("Env(") || pattern.is_match(text);
    let sources: Vec<(&str, &str, Source)> = (sources.into_iter())
        .filter(|(_, text)| wanted(text))
        .map(|(file, text)| (file, text, Source::new(text)))
        .collect();
    let mut with_default = BTreeSet::new();
    sources.iter().for_each(|(.., source)| source.add_scheme(&mut with_default));
    let mut asked: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, text, source) in &sources {
        let (mut line, mut counted) = (1, 0);
        for captures in pattern.captures_iter(text) {
            let (whole, name) = (captures.get(0), captures.iter().skip(1).flatten().next());
            let (Some(whole), Some(name)) = (whole, name.filter(|name| !name.is_empty())) else { continue };
            if !source.is_required(whole.start(), (name.start(), name.end()), &with_default) {
                continue;
            }
            line += text[counted..name.start()].matches('\n').count();
            counted = name.start();
            asked.entry(name.as_str().to_owned()).or_default().push(format!("{file}:{line}"));
        }
    }
    asked
}
