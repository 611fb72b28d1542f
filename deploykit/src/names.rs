//! Names of files are bytes, and JSON holds text: one encoding of such names, used wherever they are written down.
//!
//! A name that is UTF-8 is written as it is. Any other byte becomes a NUL, which no name has, and two hexadecimal digits:
//! `caf\xe9` is `"caf\u0000e9"` in JSON. So every name has a text, every text of a name has one name, and what was
//! written before there was this encoding reads as before.

mod own;

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

pub(crate) use own::{
    CARRY, COMPLETE, LETTERS, NEXT, ORIGINAL, PACKAGES, SITE, TEMPORARY, TRIAL, UNFINISHED, beside,
    is_beside, is_own, is_temporary, temporary_link,
};

/// Stands before the digits of a byte that is not UTF-8.
const ESCAPE: char = '\0';

/// Returns the text of a name or path.
#[must_use]
pub fn text(name: impl AsRef<OsStr>) -> String {
    bytes_text(name.as_ref().as_bytes())
}

/// Returns the name or path that a text stands for.
#[must_use]
pub fn path(text: &str) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(text_bytes(text)))
}

/// Returns the path below a directory that a text stands for.
pub(crate) fn join(root: &Path, text: &str) -> PathBuf {
    if text.contains(ESCAPE) { root.join(path(text)) } else { root.join(text) }
}

/// Returns the directories above a relative path, the topmost first.
pub(crate) fn above(path: &Path) -> Vec<&Path> {
    let mut above: Vec<&Path> = path.ancestors().skip(1).filter(|one| !one.as_os_str().is_empty()).collect();
    above.reverse();
    above
}

/// Returns the first path in a directory that is not taken: `name`, `name-2` and so on.
pub(crate) fn vacant(directory: &Path, name: &str, is_taken: impl Fn(&Path) -> bool) -> PathBuf {
    let mut path = directory.join(name);
    let mut count = 1;
    while is_taken(&path) {
        count += 1;
        path = directory.join(format!("{name}-{count}"));
    }
    path
}

/// Removes `.` and `..` from a path, without looking at links.
#[must_use]
pub fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

/// Makes JSON readable that Python wrote: there a byte of a name that is not UTF-8 is a lone surrogate (`\udce9`), which
/// JSON cannot have.
pub(crate) fn readable_json(text: &str) -> Cow<'_, str> {
    let first = text.find("\\ud").or_else(|| text.find("\\uD"));
    if first.is_none() {
        return Cow::Borrowed(text);
    }
    let (mut readable, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        readable.push_str(before);
        let unit = |escape: &str| u32::from_str_radix(escape.strip_prefix("\\u")?.get(..4)?, 16).ok();
        let length = match unit(escape) {
            // A pair is one character.
            Some(0xd800..0xdc00)
                if escape.get(6..).and_then(unit).is_some_and(|low| (0xdc00..0xe000).contains(&low)) =>
            {
                12
            }
            Some(code @ 0xdc80..0xdd00) => {
                // Writing to a string cannot fail.
                let _ = write!(readable, "\\u0000{:02x}", code - 0xdc00);
                rest = &escape[6..];
                continue;
            }
            Some(_) => 6,
            // A backslash and whatever character it escapes.
            None => 1 + escape.chars().nth(1).map_or(0, char::len_utf8),
        };
        let (escape, behind) = escape.split_at(length);
        readable.push_str(escape);
        rest = behind;
    }
    readable.push_str(rest);
    Cow::Owned(readable)
}

/// Returns a text of a name for a person: `caf\xe9`.
#[must_use]
pub fn shown(text: &str) -> String {
    text.replace(ESCAPE, "\\x")
}

/// Returns a path for a person, like [`shown`].
#[must_use]
pub fn shown_path(path: &Path) -> String {
    shown(&text(path))
}

/// Returns the text of any bytes; a NUL among them is escaped, too.
pub(crate) fn bytes_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let mut parts = chunk.valid().split(ESCAPE);
        text.push_str(parts.next().unwrap_or_default());
        for part in parts {
            text.push_str("\x0000");
            text.push_str(part);
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{ESCAPE}{byte:02x}");
        }
    }
    text
}

/// Returns the bytes that a text stands for.
pub(crate) fn text_bytes(text: &str) -> Vec<u8> {
    let mut parts = text.split(ESCAPE);
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.as_bytes().split_at_checked(2);
        let escaped = digits.and_then(|(digits, rest)| {
            let digits = std::str::from_utf8(digits).ok()?;
            Some((u8::from_str_radix(digits, 16).ok()?, rest))
        });
        // Whatever is not of this encoding stands for itself.
        let (byte, rest) = escaped.unwrap_or((0, part.as_bytes()));
        bytes.push(byte);
        bytes.extend_from_slice(rest);
    }
    bytes
}

/// For `#[serde(with = "crate::names::one")]`: a path.
pub(crate) mod one {
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => serializer.serialize_str(&super::text(path)),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(super::path(&String::deserialize(deserializer)?))
    }
}

/// For `#[serde(with = "crate::names::many")]`: a list of paths.
pub(crate) mod many {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(paths.iter().map(super::text))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
        Ok(Vec::<String>::deserialize(deserializer)?.iter().map(|text| super::path(text)).collect())
    }
}

/// For `#[serde(with = "crate::names::maybe")]`: a path, or none.
pub(crate) mod maybe {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "that is how serde calls it")]
    pub(crate) fn serialize<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_ref().map(super::text).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(|text| super::path(&text)))
    }
}

/// For `#[serde(with = "crate::names::by_name")]`: paths by names.
pub(crate) mod by_name {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        paths: &BTreeMap<String, PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(paths.iter().map(|(name, path)| (name, super::text(path))))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, PathBuf>, D::Error> {
        let paths = BTreeMap::<String, String>::deserialize(deserializer)?;
        Ok(paths.into_iter().map(|(name, text)| (name, super::path(&text))).collect())
    }
}

/// For `#[serde(with = "crate::names::maybe_by_name")]`: paths by names, some of them none.
pub(crate) mod maybe_by_name {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        paths: &BTreeMap<String, Option<PathBuf>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(paths.iter().map(|(name, path)| (name, path.as_ref().map(super::text))))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, Option<PathBuf>>, D::Error> {
        let paths = BTreeMap::<String, Option<String>>::deserialize(deserializer)?;
        Ok(paths.into_iter().map(|(name, text)| (name, text.map(|text| super::path(&text)))).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_that_is_text_is_written_as_it_is() {
        for name in ["", "a.py", "caf\u{e9}.txt", "a\nb", "-rf", " x\ty", "\\x00"] {
            assert_eq!((text(name).as_str(), path(name)), (name, PathBuf::from(name)));
        }
    }

    #[test]
    fn any_other_name_has_a_text_of_its_own() {
        let name = Path::new(OsStr::from_bytes(b"caf\xe9/\xff-\xc3.txt"));
        assert_eq!(text(name), "caf\0e9/\0ff-\0c3.txt");
        assert_eq!(path(&text(name)), name);
        assert_eq!(shown_path(name), "caf\\xe9/\\xff-\\xc3.txt");
    }

    #[test]
    fn the_journal_has_it() {
        #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        struct Names {
            #[serde(with = "one")]
            one: PathBuf,
            #[serde(with = "many")]
            many: Vec<PathBuf>,
        }
        let latin = || PathBuf::from(OsStr::from_bytes(b"caf\xe9"));
        let names = Names { one: latin(), many: vec!["a".into(), latin()] };
        let text = serde_json::to_string(&names).unwrap();
        assert_eq!(text, r#"{"one":"caf\u0000e9","many":["a","caf\u0000e9"]}"#);
        assert_eq!(serde_json::from_str::<Names>(&text).unwrap(), names);
    }

    #[test]
    fn what_python_writes_of_a_name_is_read() {
        for (written, readable) in [
            (r#"{"caf\udce9": "\ud83d\ude00"}"#, r#"{"caf\u0000e9": "\ud83d\ude00"}"#),
            (r#""\\udce9\\\udcff\uDC80""#, r#""\\udce9\\\u0000ff\u000080""#),
            (r#""plain \n \u00e9""#, r#""plain \n \u00e9""#),
            (r#""\ud83d\udce9x"#, r#""\ud83d\udce9x"#),
        ] {
            assert_eq!(readable_json(written), readable);
        }
        let name: String = serde_json::from_str(&readable_json(r#""caf\udce9.css""#)).unwrap();
        assert_eq!(path(&name), Path::new(OsStr::from_bytes(b"caf\xe9.css")));
    }

    proptest! {
        #[test]
        fn json_without_lone_surrogates_stays(value in "\\PC{0,40}") {
            let text = serde_json::Value::from(value).to_string();
            prop_assert_eq!(readable_json(&text), text.as_str());
        }

        #[test]
        fn no_json_makes_it_panic(text in "[\\\\ud0-9a-f\"é]{0,40}") {
            let _ = readable_json(&text);
        }

        #[test]
        fn no_byte_is_lost(bytes: Vec<u8>) {
            prop_assert_eq!(text_bytes(&bytes_text(&bytes)), bytes);
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = text_bytes(&text);
        }
    }
}
