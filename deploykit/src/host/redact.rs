//! Removes what must not be shown.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use regex::{Captures, Regex};

/// What stands in the place of a secret.
pub const MASK: &str = "***";

/// The shortest value that is looked for: a shorter one would hide half of every text.
const SHORTEST: usize = 6;

/// What addresses write as `%` and digits.
///
/// Source: <https://www.rfc-editor.org/rfc/rfc3986#section-2.3>
const NOT_IN_ADDRESSES: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Replaces known secret values, and the passwords in URLs, by `***`.
///
/// # Examples
///
/// ```
/// use deploykit::Redactor;
///
/// let redactor = Redactor::new(["hunter22".to_owned()]);
/// assert_eq!(redactor.redact("key hunter22 at https://me:pw@host/"), "key *** at https://me:***@host/");
/// ```
#[derive(Clone, Default)]
pub struct Redactor {
    values: Vec<String>,
}

impl Redactor {
    /// Makes a redactor for these values, also as JSON, Python and addresses show them; those of fewer than six bytes are
    /// left out.
    pub fn new(values: impl IntoIterator<Item = String>) -> Self {
        let values = values.into_iter().filter(|value| value.len() >= SHORTEST);
        let mut values: Vec<String> = values
            .flat_map(|value| [in_json(&value), in_python(&value), percent_encoded(&value), value])
            .collect();
        values.sort_unstable();
        values.dedup();
        // The longest first, so that a value inside another one does not leave the rest of it visible.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Redactor { values }
    }

    /// Returns `text` without secrets.
    #[must_use]
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        static PERSON: LazyLock<Option<Regex>> =
            LazyLock::new(|| Regex::new(r#"([A-Za-z][A-Za-z0-9+.-]*)://([^\s/?#'"`]*)@"#).ok());
        let mut text = Cow::Borrowed(text);
        if text.contains("://")
            && let Some(person) = PERSON.as_ref()
            && let Cow::Owned(redacted) = person.replace_all(&text, |found: &Captures<'_>| {
                format!("{}://{}@", &found[1], person_of(&found[1], &found[2]))
            })
        {
            text = Cow::Owned(redacted);
        }
        for value in &self.values {
            if text.contains(value.as_str()) {
                text = Cow::Owned(text.replace(value.as_str(), MASK));
            }
        }
        text
    }
}

/// As a text stands in JSON.
fn in_json(value: &str) -> String {
    let quoted = serde_json::to_string(value).unwrap_or_default();
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

/// As a text stands in Python's `repr`.
fn in_python(value: &str) -> String {
    let text = value.replace('\\', r"\\").replace('\n', r"\n").replace('\r', r"\r").replace('\t', r"\t");
    if text.contains('"') { text.replace('\'', r"\'") } else { text }
}

/// As a text stands in an address.
fn percent_encoded(value: &str) -> String {
    utf8_percent_encode(value, &NOT_IN_ADDRESSES).to_string()
}

/// Returns what may be shown of who is named in an address.
fn person_of(scheme: &str, person: &str) -> String {
    // Where a name stands alone it is a token, as hosts of Git repositories take it.
    let web = scheme.ends_with("http") || scheme.ends_with("https");
    match person.split_once(':') {
        Some((_, "" | "x-oauth-basic")) if web => MASK.to_owned(),
        Some((_, "")) => person.to_owned(),
        Some((name, _)) => format!("{name}:{MASK}"),
        None if web => MASK.to_owned(),
        None => person.to_owned(),
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").field("values", &self.values.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_secret_goes_before_one_inside_it() {
        let redactor = Redactor::new(["abcdef".to_owned(), "abcdefgh".to_owned(), "x".to_owned()]);
        assert_eq!(redactor.redact("abcdefgh abcdef x"), "*** *** x");
    }

    #[test]
    fn who_asks_at_an_address_is_not_shown_with_a_password_or_token() {
        let redacted = |text: &str| Redactor::default().redact(text).into_owned();
        for (text, shown) in [
            ("at 'https://me:p@ss@host/x'", "at 'https://me:***@host/x'"),
            ("https://ghp_token@github.com/a/b.git", "https://***@github.com/a/b.git"),
            ("git+https://token:x-oauth-basic@host/a", "git+https://***@host/a"),
            ("postgres://:pw@/db and redis://:pw@h:1/0", "postgres://:***@/db and redis://:***@h:1/0"),
            ("ssh://git@host/a", "ssh://git@host/a"),
            ("https://host/a@b", "https://host/a@b"),
        ] {
            assert_eq!(redacted(text), shown);
        }
    }

    #[test]
    fn debug_shows_no_value() {
        assert_eq!(format!("{:?}", Redactor::new(["s3cret".to_owned()])), "Redactor { values: 1 }");
    }

    #[test]
    fn a_value_is_hidden_in_every_way_of_writing_it() {
        let redactor = Redactor::new(["a/\"'\\ \nb".to_owned()]);
        for text in ["a/\"'\\ \nb", r#"a/\"'\\ \nb"#, r#"a/"\'\\ \nb"#, "a%2F%22%27%5C%20%0Ab"] {
            assert_eq!(redactor.redact(text), MASK, "{text}");
        }
    }
}
