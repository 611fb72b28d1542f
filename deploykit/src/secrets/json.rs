//! Secrets in a JSON object, edited as text: what is not the one value stays byte for byte.

use std::collections::BTreeSet;
use std::path::Path;

use jsonc_parser::ast::{Object, ObjectProp, Value};
use jsonc_parser::common::Ranged;
use jsonc_parser::errors::{ParseError, ParseErrorKind};
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::Edit;
use super::{SecretsError, Sensitive};

/// How a new entry is indented where no other one shows it.
const INDENT: &str = "    ";

/// Returns the names of the outermost object, and adds what the values are to `sensitive`.
pub(super) fn names_and_values(
    path: &Path,
    text: &str,
    sensitive: &mut Sensitive,
) -> Result<BTreeSet<String>, SecretsError> {
    let object = parse(path, text)?;
    collect_entries(&object, &mut Vec::new(), sensitive);
    Ok(object.properties.iter().map(|entry| entry.name.as_str().to_owned()).collect())
}

fn collect_entries<'o>(object: &'o Object, names: &mut Vec<&'o str>, sensitive: &mut Sensitive) {
    for entry in &object.properties {
        names.push(entry.name.as_str());
        collect(&entry.value, names, sensitive);
        names.pop();
    }
}

fn collect<'o>(value: &'o Value, names: &mut Vec<&'o str>, sensitive: &mut Sensitive) {
    match value {
        Value::StringLit(text) => sensitive.add(names, &text.value),
        Value::NumberLit(number) => sensitive.add_number(names, number.value),
        Value::Object(object) => collect_entries(object, names, sensitive),
        Value::Array(array) => array.elements.iter().for_each(|value| collect(value, names, sensitive)),
        Value::BooleanLit(_) | Value::NullKeyword(_) => {}
    }
}

/// Parses what JSON parsers commonly accept: comments and a last comma, NaN as Python writes it, nothing else.
fn parse<'t>(path: &Path, text: &'t str) -> Result<Object<'t>, SecretsError> {
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_non_finite_numbers: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_extended_string_escapes: false,
    };
    let parsed =
        parse_to_ast(text, &CollectOptions::default(), &options).map_err(|error| json_error(path, &error))?;
    match parsed.value {
        Some(Value::Object(object)) => Ok(object),
        _ => Err(SecretsError::NotObject { path: path.to_owned() }),
    }
}

fn json_error(path: &Path, error: &ParseError) -> SecretsError {
    let reason = match error.kind() {
        // It may quote the file.
        ParseErrorKind::String(_) => "a string has a wrong escape or no end".to_owned(),
        kind => {
            let text = kind.to_string();
            let mut chars = text.chars();
            chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
        }
    };
    let (line, column) = (error.line_display(), error.column_display());
    SecretsError::Json { path: path.to_owned(), line, column, reason }
}

/// Returns the text with one entry added or replaced. An empty text becomes an object.
pub(super) fn set(edit: &Edit, text: &str) -> Result<String, SecretsError> {
    let value = quote(edit.value);
    if text.trim().is_empty() {
        return Ok(format!("{{\n{INDENT}{}: {value}\n}}\n", quote(edit.name)));
    }
    let object = parse(edit.path, text)?;
    // The last of several entries with one name is the one that counts.
    let new = match object.properties.iter().rfind(|entry| entry.name.as_str() == edit.name) {
        Some(entry) => {
            if matches!(entry.value, Value::Object(_) | Value::Array(_)) {
                return Err(SecretsError::Nested { name: edit.name.to_owned(), path: edit.path.to_owned() });
            }
            let range = entry.value.range();
            format!("{}{value}{}", &text[..range.start], &text[range.end..])
        }
        None => match object.properties.last() {
            Some(last) => append(text, last, edit.name, &value),
            None => fill(text, &object, edit.name, &value),
        },
    };
    if reads_back(edit, text, &object, &new) { Ok(new) } else { Err(edit.failed()) }
}

/// Adds an entry after the last one, in its style.
fn append(text: &str, last: &ObjectProp, name: &str, value: &str) -> String {
    let range = last.range();
    let before = &text[..range.start];
    let blank = &before[before.trim_end_matches([' ', '\t', '\r', '\n']).len()..];
    // One line break is enough where blank lines set entries apart.
    let own_line = blank.rfind('\n').map(|at| if blank[..at].ends_with('\r') { at - 1 } else { at });
    let gap = own_line.map_or(blank, |at| &blank[at..]);
    let colon = &text[last.name.range().end..last.value.range().start];
    let colon = if colon.trim() == ":" { colon } else { ": " };
    let entry = format!("{gap}{}{colon}{value}", quote(name));

    let tail = tail(&text[range.end..]);
    match (own_line, tail.comment_end) {
        // What is said about the last entry stays beside it.
        (Some(_), Some(end)) => {
            let end = range.end + end;
            let (first, second) = if tail.comma { ("", ",") } else { (",", "") };
            let (head, between, rest) = (&text[..range.end], &text[range.end..end], &text[end..]);
            format!("{head}{first}{between}{entry}{second}{rest}")
        }
        _ => format!("{},{entry}{}", &text[..range.end], &text[range.end..]),
    }
}

/// What follows the last entry on its line.
#[derive(Debug, Default)]
struct Tail {
    comma: bool,
    /// The end of the line, when there is a comment on it.
    comment_end: Option<usize>,
}

fn tail(text: &str) -> Tail {
    let mut tail = Tail::default();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        if rest.starts_with([' ', '\t']) {
            at += 1;
        } else if rest.starts_with(',') {
            tail.comma = true;
            at += 1;
        } else if rest.starts_with("//") {
            at += rest.find(['\r', '\n']).unwrap_or(rest.len());
            tail.comment_end = Some(at);
            return tail;
        } else if rest.starts_with("/*")
            && let Some(length) = rest.find("*/")
        {
            at += length + 2;
            tail.comment_end = Some(at);
        } else {
            if !rest.starts_with(['\r', '\n']) {
                tail.comment_end = None;
            }
            return tail;
        }
    }
}

/// Puts the first entry into an empty object.
fn fill(text: &str, object: &Object, name: &str, value: &str) -> String {
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let range = object.range();
    let (start, end) = (range.start + 1, range.end - 1);
    let inner = &text[start..end];
    let inner = if inner.contains(['\n', '/']) { inner } else { "" };
    let last = if inner.trim_start_matches([' ', '\t']).starts_with(['\r', '\n']) { "" } else { newline };
    format!("{}{newline}{INDENT}{}: {value}{last}{inner}{}", &text[..start], quote(name), &text[end..])
}

/// Tells whether exactly the one entry differs.
fn reads_back(edit: &Edit, old: &str, before: &Object, new: &str) -> bool {
    let Ok(after) = parse(edit.path, new) else { return false };
    let mut expected: Vec<(&str, &str)> = entries(old, before);
    let found = entries(new, &after);
    let value = quote(edit.value);
    match expected.iter_mut().rfind(|(name, _)| *name == edit.name) {
        Some(entry) => entry.1 = &value,
        None => expected.push((edit.name, &value)),
    }
    let last = after.properties.iter().rfind(|entry| entry.name.as_str() == edit.name);
    let decoded = last.and_then(|entry| entry.value.as_string_lit()).map(|text| text.value.as_ref());
    expected == found && decoded == Some(edit.value)
}

fn entries<'o>(text: &'o str, object: &'o Object) -> Vec<(&'o str, &'o str)> {
    let raw = |entry: &'o ObjectProp| {
        let range = entry.value.range();
        (entry.name.as_str(), &text[range.start..range.end])
    };
    object.properties.iter().map(raw).collect()
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
