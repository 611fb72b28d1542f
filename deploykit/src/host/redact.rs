//! Removes what must not be shown.

mod decode;

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, LazyLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use memchr::memmem::Finder;
use regex_lite::{Captures, Regex};

use decode::Decoded;

/// What stands in the place of a secret.
pub const MASK: &str = "***";

/// The shortest value that is looked for: a shorter one would hide half of every text.
const SHORTEST: usize = 6;

/// The shortest piece of Base64 that is looked for.
const SHORTEST_BASE64: usize = 8;

/// Replaces known secret values, and the passwords in URLs, by `***`.
///
/// A value is found as it is and as programs write it: with the escapes of JSON, Python, Rust, C and shells, as addresses and HTML
/// write it, several of these in one another, and in Base64.
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
    /// What is looked for in a text.
    written: Patterns,
    /// What is looked for in a text that has been [decoded](Decoded).
    decoded: Patterns,
    values: usize,
}

impl Redactor {
    /// Makes a redactor for these values; those of fewer than six bytes are left out.
    pub fn new(values: impl IntoIterator<Item = String>) -> Self {
        let mut values: Vec<String> = values.into_iter().filter(|value| value.len() >= SHORTEST).collect();
        values.sort_unstable();
        values.dedup();
        let decoded = values.iter().map(|value| match Decoded::of(value) {
            Some(decoded) => decoded.text,
            None => value.clone(),
        });
        let decoded = decoded.filter(|value| value.len() >= SHORTEST).collect();
        let count = values.len();
        let written = values.into_iter().flat_map(forms).collect();
        Redactor { written: Patterns::new(written), decoded: Patterns::new(decoded), values: count }
    }

    /// Returns `text` without secrets.
    #[must_use]
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        // JSON may write `\/`.
        static PERSON: LazyLock<Option<Regex>> =
            LazyLock::new(|| Regex::new(r#"([A-Za-z][A-Za-z0-9+.-]*)(:\\*/\\*/)([^\s/?#'"`]*)@"#).ok());
        let mut text = Cow::Borrowed(text);
        if (text.contains("://") || text.contains(r":\/"))
            && let Some(person) = PERSON.as_ref()
            && let Cow::Owned(redacted) = person.replace_all(&text, |found: &Captures<'_>| {
                format!("{}{}{}@", &found[1], &found[2], person_of(&found[1], &found[3]))
            })
        {
            text = Cow::Owned(redacted);
        }
        let mut spans = self.written.find(&text);
        if self.values > 0
            && let Some(decoded) = Decoded::of(&text)
        {
            let found = self.decoded.find(&decoded.text);
            spans.extend(found.into_iter().filter_map(|(start, end)| decoded.source(start, end)));
        }
        if spans.is_empty() { text } else { Cow::Owned(masked(&text, spans)) }
    }
}

/// Texts that are looked for.
#[derive(Clone, Default)]
struct Patterns(Arc<[Finder<'static>]>);

impl Patterns {
    fn new(texts: Vec<String>) -> Self {
        Patterns(texts.iter().map(|text| Finder::new(text).into_owned()).collect())
    }

    /// Returns where each of them is, also where they overlap.
    fn find(&self, text: &str) -> Vec<(usize, usize)> {
        let mut spans = Vec::new();
        for pattern in self.0.iter() {
            let mut from = 0;
            while let Some(at) = text.as_bytes().get(from..).and_then(|rest| pattern.find(rest)) {
                spans.push((from + at, from + at + pattern.needle().len()));
                from += at + 1;
            }
        }
        spans
    }
}

/// Replaces the parts of a text, which may lie over one another.
fn masked(text: &str, mut spans: Vec<(usize, usize)>) -> String {
    spans.sort_unstable();
    let mut shown = String::with_capacity(text.len());
    let mut done = 0;
    for (start, end) in spans {
        if start >= done {
            shown.push_str(&text[done..start]);
            shown.push_str(MASK);
        }
        done = done.max(end);
    }
    shown.push_str(&text[done..]);
    shown
}

/// Returns a value with those ways of writing it that cannot be read without knowing where it begins.
fn forms(value: String) -> Vec<String> {
    let mut forms = Vec::new();
    if value.contains(['\'', '"']) {
        // Shells, Python's `shlex`, SQL.
        for (mark, written) in [('\'', r"'\''"), ('\'', r#"'"'"'"#), ('\'', "''"), ('"', "\"\"")] {
            forms.push(value.replace(mark, written));
        }
    }
    for offset in 0..3 {
        let bytes = [&[0; 3][..offset], value.as_bytes()].concat();
        let text = STANDARD_NO_PAD.encode(&bytes);
        // The first and the last character may hold bits of what stands beside it.
        let piece = text.get([0, 2, 3][offset]..bytes.len() * 8 / 6).unwrap_or_default();
        if piece.len() >= SHORTEST_BASE64 {
            forms.push(piece.replace('+', "-").replace('/', "_"));
            forms.push(piece.to_owned());
        }
    }
    forms.push(value);
    forms
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
        f.debug_struct("Redactor").field("values", &self.values).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_secret_goes_before_one_inside_it() {
        let redactor = Redactor::new(["abcdef".to_owned(), "abcdefgh".to_owned(), "x".to_owned()]);
        assert_eq!(redactor.redact("abcdefgh abcdef x"), "*** *** x");
        assert_eq!(Redactor::new(["ababab".to_owned()]).redact("xabababab"), "x***");
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
            (r"https:\/\/me:pw@host\/", r"https:\/\/me:***@host\/"),
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
        for text in [
            "a/\"'\\ \nb",
            r#"a/\"'\\ \nb"#,
            r#"a/"\'\\ \nb"#,
            r#"a\/\"\'\\\x20\012b"#,
            "a%2F%22%27%5C%20%0Ab",
            "a/%22%27%5c+%0ab",
            "a/&quot;&#x27;\\ \nb",
        ] {
            assert_eq!(redactor.redact(text), MASK, "{text}");
        }
    }

    #[test]
    fn python_s_ways_are_known() {
        let redactor =
            Redactor::new(["Pässwört-77".to_owned(), "key🔑vault".to_owned(), "it's me".to_owned()]);
        for text in [
            // json.dumps, ascii, repr of bytes, quote, html.escape of JSON, JSON in JSON, shlex.quote, SQL
            r"P\u00e4ssw\u00f6rt-77",
            r"P\xe4ssw\xf6rt-77",
            r"P\xc3\xa4ssw\xc3\xb6rt-77",
            "P%C3%A4ssw%c3%b6rt-77",
            "P&#xe4;ssw&#246;rt-77",
            r"P\\u00e4ssw\\u00f6rt-77",
            r"key\ud83d\udd11vault",
            r"key\U0001f511vault",
            r#"it'"'"'s me"#,
            "it''s me",
        ] {
            assert_eq!(redactor.redact(&format!("<{text}>")), "<***>");
        }
        // Beside other text, at each of the three places of Base64.
        for start in ["", "a", "ab", "abc:"] {
            let written = base64::engine::general_purpose::STANDARD.encode(format!("{start}Pässwört-77:end"));
            let shown = redactor.redact(&written).into_owned();
            assert!(shown.contains(MASK) && shown.len() < 16, "{shown}");
        }
    }

    #[test]
    fn what_lies_over_one_another_is_hidden_whole() {
        let redactor = Redactor::new(["abcdef".to_owned(), "defghi".to_owned(), "abcdefgh".to_owned()]);
        assert_eq!(redactor.redact("<abcdefghi> abcdef"), "<***> ***");
        assert_eq!(redactor.redact("abcdefdefghi"), "******");
    }

    #[test]
    fn what_only_looks_alike_is_shown() {
        let redactor = Redactor::new(["hunter22".to_owned(), r"\x41\x42C".to_owned()]);
        for text in [r"C:\hunter 22", "100 % hunter", "ABC", r"\u0041BC"] {
            assert_eq!(redactor.redact(text), text);
        }
    }
}
