//! How Poetry, PDM and Pipenv tell that a lock is out of date: a hash of parts of `pyproject.toml` or `Pipfile`, written as
//! Python writes JSON.

use std::fmt::Write;

use serde_json::Value;

use crate::digest;

/// Returns the hash of what `json.dumps(value, sort_keys=True)` returns; `is_compact`: with `separators=(",", ":")`.
pub(super) fn hash(value: &Value, is_compact: bool) -> String {
    let mut text = String::new();
    write(value, if is_compact { (",", ":") } else { (", ", ": ") }, &mut text);
    digest::sha256(text.as_bytes())
}

fn write(value: &Value, separators: (&str, &str), text: &mut String) {
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { "[" } else { separators.0 });
                write(item, separators, text);
            }
            text.push_str(if items.is_empty() { "[]" } else { "]" });
        }
        Value::Object(table) => {
            let mut items: Vec<(&String, &Value)> = table.iter().collect();
            items.sort_by_key(|(key, _)| *key);
            for (index, (key, item)) in items.into_iter().enumerate() {
                text.push_str(if index == 0 { "{" } else { separators.0 });
                write_string(key, text);
                text.push_str(separators.1);
                write(item, separators, text);
            }
            text.push_str(if table.is_empty() { "{}" } else { "}" });
        }
        Value::String(string) => write_string(string, text),
        other => text.push_str(&other.to_string()),
    }
}

/// Python escapes what is not ASCII, in pairs of UTF-16.
fn write_string(string: &str, text: &mut String) {
    for c in Value::from(string).to_string().chars() {
        if (' '..='~').contains(&c) {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What Python 3.11 writes.
    #[test]
    fn values_are_written_as_python_writes_them() {
        let mut text = String::new();
        let value = json!({"b": [], "a": {"ä𝄞\u{7f}\u{1}\n\"/": [1, true, null, "x"], "e": {}}});
        write(&value, (", ", ": "), &mut text);
        assert_eq!(
            text,
            "{\"a\": {\"e\": {}, \"\\u00e4\\ud834\\udd1e\\u007f\\u0001\\n\\\"/\": [1, true, null, \"x\"]}, \"b\": []}"
        );
    }
}
