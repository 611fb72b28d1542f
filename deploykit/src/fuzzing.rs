//! Whatever is read from elsewhere, as functions of bytes that must not panic: for `cargo fuzz` and the tests below.

use std::path::Path;

use crate::site::{Config, ConfigError};

/// Reads a `deploykit.toml`; every mistake has its place in it.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for environment in [None, Some("staging")] {
        let Err(error) = Config::parse(text, Path::new("/srv/site/deploykit.toml"), environment) else {
            continue;
        };
        let _ = error.to_string();
        if let ConfigError::Invalid(mistakes) = error {
            assert!(mistakes.problems.iter().all(|problem| problem.span.end <= text.len()));
        }
    }
}

/// Reads a journal, and its lines as what else a run writes.
pub fn journal(bytes: &[u8]) {
    if let Ok((entries, length)) = crate::journal::parse(bytes, Path::new("journal")) {
        assert!(length <= bytes.len() as u64);
        let _ = (crate::journal::left_to_undo(&entries), crate::journal::is_finished(&entries));
        let _ = format!("{entries:?}");
    }
    for line in bytes.split(|byte| *byte == b'\n') {
        let _ = serde_json::from_slice::<crate::event::Record>(line);
    }
    let _ = serde_json::from_slice::<crate::report::Report>(bytes);
    let _ = serde_json::from_slice::<crate::state::Current>(bytes);
    let _ = serde_json::from_slice::<crate::lock::Holder>(bytes);
}

/// Reads supervisord's answers and configuration files.
pub fn supervisor(bytes: &[u8]) {
    crate::services::supervisor::fuzz(bytes);
}

/// Reads an ini file of uWSGI, and its words as a command line.
pub fn uwsgi(bytes: &[u8]) {
    crate::services::uwsgi_options::fuzz(&String::from_utf8_lossy(bytes));
}

/// Reads a line of the probe.
pub fn django(bytes: &[u8]) {
    crate::django::protocol::fuzz(bytes);
}

/// Reads what pip, uv and a virtualenv say of packages.
pub fn pip(bytes: &[u8]) {
    crate::python::fuzzing::pip(bytes);
}

/// Reads a requirements file.
pub fn requirements(bytes: &[u8]) {
    crate::python::fuzzing::requirements(bytes);
}

/// Reads a lock file of each format.
pub fn lock(bytes: &[u8]) {
    crate::python::fuzzing::lock(bytes);
}

/// Reads a secrets file and sets a secret in it.
pub fn secrets(bytes: &[u8]) {
    crate::secrets::fuzz(bytes);
}

/// Reads an answer of a web server: its head, and its body in every way in which it may be packed.
pub fn page(bytes: &[u8]) {
    crate::http::fuzz(bytes);
}

/// Reads Python, as far as it asks for secrets, and the same bytes as a text in which they must not be shown.
pub fn source(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(pattern) = crate::secrets::compile_pattern(r#"\w+[(\[]\s*["'](\w+)["']"#) {
        let _ = crate::secrets::names_asked_for(&text, &pattern);
    }
    let middle: String = text.chars().skip(text.chars().count() / 3).take(9).collect();
    let shown = crate::Redactor::new([middle.clone()]).redact(&text).into_owned();
    assert!(middle.len() < 6 || middle.contains('*') || !shown.contains(&middle), "{middle} in {shown}");
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    /// What a parser may stumble over, between what it expects.
    const BITS: [&str; 18] = [
        "",
        "\0",
        "\n",
        "\"",
        "'",
        "\\",
        "{",
        "]",
        "<",
        "&#0;",
        "=",
        ":",
        "null",
        "-1",
        "1e999",
        "18446744073709551615",
        "\u{feff}é",
        "\\ud800",
    ];

    /// Returns the examples that the fuzzer starts with.
    fn examples(name: &str) -> Vec<Vec<u8>> {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/").to_owned() + name;
        let files = fs::read_dir(directory).unwrap();
        let mut examples: Vec<_> = files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
        examples.sort();
        assert!(!examples.is_empty());
        examples
    }

    /// Makes examples with other bytes in the place of some.
    fn mutated(name: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
        let bit = prop_oneof![
            select(&BITS[..]).prop_map(|bit| bit.as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..4),
        ];
        let edits = prop::collection::vec((any::<Index>(), 0..30_usize, bit), 0..5);
        (select(examples(name)), edits).prop_map(|(mut bytes, edits)| {
            for (at, length, bit) in edits {
                let at = at.index(bytes.len() + 1);
                let end = bytes.len().min(at + length);
                bytes.splice(at..end, bit);
            }
            bytes
        })
    }

    macro_rules! no_bytes_make_them_panic {
        ($($name:ident)*) => {$(
            mod $name {
                use super::*;

                #[test]
                fn nor_depth() {
                    let xml = ("<methodResponse><params><param>", "<value><array><data>");
                    let json = [("", "["), ("", "{\"a\":"), ("{\"ok\":", "["), ("{\"error\":", "[")];
                    for (start, open) in json.into_iter().chain([xml, ("a=", "["), ("a=", "{a="), ("", "a."), ("[", "a.")]) {
                        super::super::$name((start.to_owned() + &open.repeat(3_000)).as_bytes());
                    }
                }

                proptest! {
                    #[test]
                    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
                        super::super::$name(&bytes);
                    }

                    #[test]
                    fn mutated_examples(bytes in mutated(stringify!($name))) {
                        super::super::$name(&bytes);
                    }
                }
            }
        )*};
    }

    no_bytes_make_them_panic! { config journal supervisor django pip requirements lock secrets page source uwsgi }
}
