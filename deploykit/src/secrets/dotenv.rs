//! Secrets in lines of `NAME=value`, edited where the value stands.

use std::path::Path;

use super::Edit;
use super::SecretsError;
use crate::host::dotenv::{Assignment, parse};

/// Returns what the file assigns, in its order.
pub(super) fn assignments<'t>(path: &Path, text: &'t str) -> Result<Vec<Assignment<'t>>, SecretsError> {
    parse(text).map_err(|bad| SecretsError::Line {
        path: path.to_owned(),
        line: bad.line,
        reason: bad.reason,
    })
}

/// Returns the text with one line added or its value replaced.
pub(super) fn set(edit: &Edit, text: &str) -> Result<String, SecretsError> {
    let before = assignments(edit.path, text)?;
    let candidates = quoted(edit.name, edit.value).map_err(|reason| SecretsError::Value {
        name: edit.name.to_owned(),
        path: edit.path.to_owned(),
        reason,
    })?;
    // The last of several lines with one name is the one that counts.
    let index = before.iter().rposition(|line| line.name == edit.name);
    let mut expected: Vec<(&str, &str)> = pairs(&before);
    match index {
        Some(index) => expected[index].1 = edit.value,
        None => expected.push((edit.name, edit.value)),
    }
    // What stands behind the value may need it in quotes.
    let edited = candidates.iter().map(|value| match index {
        Some(index) => {
            let at = &before[index].at;
            format!("{}{value}{}", &text[..at.start], &text[at.end..])
        }
        None => append(text, before.last(), edit.name, value),
    });
    let reads_back = |new: &String| parse(new).is_ok_and(|after| pairs(&after) == expected);
    edited.into_iter().find(reads_back).ok_or_else(|| edit.failed())
}

fn pairs<'a>(assignments: &'a [Assignment<'_>]) -> Vec<(&'a str, &'a str)> {
    assignments.iter().map(|found| (found.name, found.value.as_str())).collect()
}

fn append(text: &str, last: Option<&Assignment>, name: &str, value: &str) -> String {
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let export = if last.is_some_and(|last| last.export) { "export " } else { "" };
    let line = format!("{export}{name}={value}");
    // A file keeps, or keeps lacking, the line break at its end.
    if text.is_empty() || text.ends_with('\n') {
        format!("{text}{line}{newline}")
    } else {
        format!("{text}{newline}{line}")
    }
}

/// Writes a value in the ways that are read back the same here, the one first that most other readers share.
fn quoted(name: &str, value: &str) -> Result<Vec<String>, &'static str> {
    if value.contains(['\n', '\r', '\0']) {
        return Err("it has a line break or a zero byte in it");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    let double = value.replace('\\', r"\\").replace('"', r#"\""#);
    let mut candidates = vec![format!("'{value}'"), format!("\"{double}\"")];
    if value.chars().all(plain) {
        candidates.insert(0, value.to_owned());
    }
    candidates.retain(|text| {
        let line = format!("{name}={text} # comment");
        parse(&line).is_ok_and(|read| matches!(&read[..], [found] if found.value == value))
    });
    if candidates.is_empty() {
        Err("programs would disagree about it, however it is quoted")
    } else {
        Ok(candidates)
    }
}
