//! Lines of requirements files.
//!
//! Source: <https://pip.pypa.io/en/stable/reference/requirements-file-format/>

/// Joins continued lines, removes comments; each comes with the number of its first line.
pub(super) fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut pending: Option<(usize, String)> = None;
    for (index, raw) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let comment = raw.trim_start().starts_with('#');
        let (start, mut line) = pending.take().unwrap_or((index + 1, String::new()));
        match raw.strip_suffix('\\') {
            Some(begun) if !comment => {
                line.push_str(begun);
                pending = Some((start, line));
                continue;
            }
            // A comment ends what was continued.
            _ if comment => {}
            _ => line.push_str(raw),
        }
        lines.push((start, line));
    }
    lines.extend(pending);
    lines
        .into_iter()
        .map(|(number, line)| (number, without_comment(&line).trim().to_owned()))
        .filter(|(_, line)| !line.is_empty())
        .collect()
}

/// A `#` starts a comment at the beginning of a line and after white space; one in a URL does not.
fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        if c == '#' && before.is_whitespace() {
            return &line[..at];
        }
        before = c;
    }
    line
}

/// Returns the value of an option in all its spellings: `-r x`, `-rx`, `--requirement x`, `--requirement=x`.
pub(super) fn value<'t>(line: &'t str, short: &str, long: &str) -> Option<&'t str> {
    let rest = match line.strip_prefix(long) {
        Some(rest) if rest.starts_with(|c: char| c == '=' || c.is_whitespace()) => {
            rest.trim_start_matches('=')
        }
        Some(_) => return None,
        None => line.strip_prefix(short).filter(|_| !line.starts_with("--"))?,
    };
    let value = rest.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then_some(value)
}

pub(super) fn is_name(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.[], ".contains(c))
}
