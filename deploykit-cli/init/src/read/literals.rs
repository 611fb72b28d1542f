//! Words and string literals of Python.

/// Returns the length of the string literal that a text starts with, quotes included.
pub(crate) fn string_length(text: &str) -> usize {
    let mark = &text[..1];
    let triple = mark.repeat(3);
    let mark = if text.starts_with(&triple) { triple.as_str() } else { mark };
    let mut from = mark.len();
    while let Some(rest) = text.get(from..) {
        if rest.starts_with(mark) {
            return from + mark.len();
        }
        match rest.chars().next() {
            Some('\\') => from += 1 + rest.chars().nth(1).map_or(0, char::len_utf8),
            Some('\n') if mark.len() == 1 => return from,
            Some(c) => from += c.len_utf8(),
            None => break,
        }
    }
    text.len()
}

/// Returns a text of Python with blanks in the place of its comments.
pub(crate) fn without_comments(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['"', '\'', '#']) {
        kept.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with('#') {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else {
            let length = string_length(rest);
            kept.push_str(&rest[..length]);
            rest = &rest[length..];
        }
    }
    kept + rest
}

/// Returns the string literals of an expression.
pub(crate) fn strings(expression: &str) -> Vec<String> {
    let mut strings = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(['"', '\'']) {
        let literal = &rest[start..];
        let length = string_length(literal);
        strings.push(literal[..length].trim_matches(|c| c == '"' || c == '\'').to_owned());
        rest = &literal[length..];
    }
    strings
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
