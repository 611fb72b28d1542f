//! Secrets in lines of `NAME=value`, edited line by line.

use std::collections::BTreeSet;
use std::path::Path;

use super::SecretsError;
use super::edit::Edit;
use crate::host::environment::parse_line;

pub(super) fn names_and_values(
    path: &Path,
    text: &str,
) -> Result<(BTreeSet<String>, Vec<String>), SecretsError> {
    let lines = assignments(path, text)?;
    Ok(lines.into_iter().flatten().unzip())
}

/// Returns what each line assigns; `None` for a comment or a blank line.
fn assignments(path: &Path, text: &str) -> Result<Vec<Option<(String, String)>>, SecretsError> {
    let read = |(index, line): (usize, &str)| match parse_line(line) {
        Some((name, value)) => Ok(Some((name.to_owned(), value))),
        None if line.trim().is_empty() || line.trim_start().starts_with('#') => Ok(None),
        None => Err(SecretsError::Line { path: path.to_owned(), line: index + 1 }),
    };
    text.lines().enumerate().map(read).collect()
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
    let is_ours = |line: &Option<(String, String)>| line.as_ref().is_some_and(|(name, _)| name == edit.name);
    let index = before.iter().rposition(is_ours);
    let mut expected = before;
    let wanted = Some((edit.name.to_owned(), edit.value.to_owned()));
    match index {
        Some(index) => expected[index] = wanted,
        None => expected.push(wanted),
    }
    // What stands behind the value may need it in quotes.
    let edited = candidates.iter().map(|value| match index {
        Some(index) => {
            let lines = text.split_inclusive('\n').enumerate();
            lines.map(|(at, line)| if at == index { replace(line, value) } else { line.to_owned() }).collect()
        }
        None => append(text, edit.name, value),
    });
    let reads_back = |new: &String| assignments(edit.path, new).is_ok_and(|after| after == expected);
    edited.into_iter().find(reads_back).ok_or_else(|| edit.failed())
}

fn append(text: &str, name: &str, value: &str) -> String {
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let assigning = text.lines().rfind(|line| parse_line(line).is_some()).unwrap_or_default();
    let export = if assigning.trim_start().starts_with("export ") { "export " } else { "" };
    let line = format!("{export}{name}={value}");
    // A file keeps, or keeps lacking, the line break at its end.
    if text.is_empty() || text.ends_with('\n') {
        format!("{text}{line}{newline}")
    } else {
        format!("{text}{newline}{line}")
    }
}

/// Replaces the value in a line; its name, its comment and its end stay.
fn replace(line: &str, value: &str) -> String {
    let start = line.find('=').map_or(line.len(), |at| at + 1);
    let (head, rest) = line.split_at(start);
    let trimmed = rest.trim_start_matches([' ', '\t']);
    let space = &rest[..rest.len() - trimmed.len()];
    // Only a comment: it stays, behind the value.
    if !space.is_empty() && trimmed.starts_with('#') {
        return format!("{head}{value}{rest}");
    }
    let mark = trimmed.chars().next().filter(|c| matches!(c, '"' | '\''));
    let length = match mark.and_then(|mark| trimmed[1..].find(mark)) {
        Some(end) => end + 2,
        // ` #` starts a comment; the blank before it belongs to the comment.
        None => trimmed.find(" #").unwrap_or(trimmed.len()),
    };
    let old = trimmed[..length].trim_end();
    format!("{head}{space}{value}{}", &trimmed[old.len()..])
}

/// Writes a value in the ways that are read back the same here, the one first that shells and the usual readers share.
fn quoted(name: &str, value: &str) -> Result<Vec<String>, &'static str> {
    if value.contains(['\n', '\r', '\0']) {
        return Err("it has a line break or a zero byte in it");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    let mut candidates = vec![format!("'{value}'"), format!("\"{value}\"")];
    let bare = if value.chars().all(plain) { 0 } else { candidates.len() };
    candidates.insert(bare, value.to_owned());
    candidates.retain(|text| {
        parse_line(&format!("{name}={text} # comment")).is_some_and(|(_, read)| read == value)
    });
    if candidates.is_empty() { Err("it has both kinds of quotes in it") } else { Ok(candidates) }
}
