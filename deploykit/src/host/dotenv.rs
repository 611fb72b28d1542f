//! Files of `NAME=value`: the one reader of all of deploykit.
//!
//! systemd (`EnvironmentFile=`), shells (`. file`), python-dotenv and django-environ read such a file too, each in a way of its own.
//! What they agree about is read as they read it; a comment behind a value, and a value of several lines, as shells and python-dotenv do.
//! Where backslashes, quotes or `${…}` would give the site different values, the line is refused.

use std::ops::Range;

/// One `NAME=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment<'t> {
    /// The name.
    pub name: &'t str,
    /// The value, without its quotes.
    pub value: String,
    /// Whether `export` stands before it.
    pub export: bool,
    /// The bytes of the value, with its quotes.
    pub at: Range<usize>,
}

/// A line that is not read. What it says is not in here: it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// From 1.
    pub line: usize,
    /// Why not.
    pub reason: &'static str,
}

const NO_ASSIGNMENT: &str = "expected `NAME=value`";
const NO_END: &str = "the quotes have no end";
const AFTER_QUOTES: &str =
    "programs disagree about text right after closing quotes: put the whole value in one pair of quotes";
const BARE_BACKSLASH: &str = "programs disagree about a backslash outside quotes: put the value in double quotes, with `\\\\` for each backslash";
const OTHER_ESCAPE: &str = "programs disagree about a backslash that is not before `\"` or `\\` in double quotes: write `\\\\`, or use single quotes";
const SINGLE_ESCAPE: &str = "programs disagree about a backslash before `\\` or `'` in single quotes: use double quotes, with `\\\\` for each backslash";
const EXPANSION: &str = "some programs replace `${…}` by another variable, others do not: write the value itself, in single quotes if it has `${` in it";
const SUBSTITUTION: &str = "shells run what this value names, other programs do not: write the value itself, in single quotes if it is meant as it stands";
const COMMENT_GOES_ON: &str = "for systemd, a comment that ends in a backslash goes on in the next line";
const ZERO_BYTE: &str = "a variable cannot hold a zero byte";

/// Reads a file.
///
/// # Errors
///
/// When a line is not read.
pub fn parse(text: &str) -> Result<Vec<Assignment<'_>>, BadLine> {
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < text.len() {
        let end = line_end(text, at);
        let refuse = |reason| BadLine { line, reason };
        let words = text[at..end].trim();
        let next = if words.is_empty() {
            end
        } else if words.starts_with(['#', ';']) {
            let after = text.get(end + 1..).unwrap_or_default();
            if words.ends_with('\\') && !after.lines().next().unwrap_or_default().trim().is_empty() {
                return Err(refuse(COMMENT_GOES_ON));
            }
            end
        } else {
            let assignment = assignment(text, at, end).map_err(refuse)?;
            let next = line_end(text, assignment.at.end);
            found.push(assignment);
            next
        };
        line += text[at..next].matches('\n').count() + 1;
        at = next + 1;
    }
    Ok(found)
}

/// Tells whether a text can be the name of a variable.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |length| at + length)
}

/// Reads the assignment that begins in the line from `at` to `end`.
fn assignment(text: &str, at: usize, end: usize) -> Result<Assignment<'_>, &'static str> {
    let (head, _) = text[at..end].split_once('=').ok_or(NO_ASSIGNMENT)?;
    let after = at + head.len() + 1;
    let name = head.trim();
    let exported = name.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t']));
    let name = exported.map_or(name, str::trim_start);
    if !is_name(name) {
        return Err(NO_ASSIGNMENT);
    }
    let start = end - text[after..end].trim_start_matches([' ', '\t']).len();
    let (value, at) = match text[start..].chars().next() {
        Some(mark @ ('"' | '\'')) => quoted(text, start, mark)?,
        // Only a comment.
        Some('#') if start > after => (String::new(), after..after),
        _ => bare(text, after, start..end)?,
    };
    if value.contains('\0') {
        return Err(ZERO_BYTE);
    }
    Ok(Assignment { name, value, export: exported.is_some(), at })
}

/// Reads a value without quotes.
fn bare(text: &str, after: usize, at: Range<usize>) -> Result<(String, Range<usize>), &'static str> {
    let rest = &text[at.clone()];
    // A `#` after white space starts a comment; one within a word does not.
    let is_comment = |index: usize| rest[..index].ends_with([' ', '\t']);
    let comment = rest.char_indices().find(|(index, c)| *c == '#' && is_comment(*index));
    let value = comment.map_or(rest, |(index, _)| &rest[..index]).trim_end();
    if value.contains('\\') {
        return Err(BARE_BACKSLASH);
    }
    replaced_by_others(value)?;
    let start = if value.is_empty() { after } else { at.start };
    Ok((value.to_owned(), start..start + value.len()))
}

/// Reads a value in quotes, which may have several lines.
fn quoted(text: &str, start: usize, mark: char) -> Result<(String, Range<usize>), &'static str> {
    let inner = start + 1;
    let mut value = String::new();
    let mut chars = text[inner..].char_indices();
    let end = loop {
        match chars.next().ok_or(NO_END)? {
            (index, c) if c == mark => break inner + index + 1,
            (_, '\\') if mark == '"' => match chars.next().ok_or(NO_END)? {
                (_, c @ ('"' | '\\')) => value.push(c),
                _ => return Err(OTHER_ESCAPE),
            },
            (_, '\\') if chars.as_str().starts_with(['\\', '\'']) => return Err(SINGLE_ESCAPE),
            (_, c) => value.push(c),
        }
    };
    let rest = &text[end..line_end(text, end)];
    let is_comment = rest.starts_with([' ', '\t']) && rest.trim_start().starts_with('#');
    if !(is_comment || rest.trim().is_empty()) {
        return Err(AFTER_QUOTES);
    }
    if mark == '"' {
        replaced_by_others(&value)?;
    }
    Ok((value, start..end))
}

/// Refuses what some readers take for something else than it is.
fn replaced_by_others(value: &str) -> Result<(), &'static str> {
    if value.contains("${") {
        Err(EXPANSION)
    } else if (value.starts_with("$(") && value.ends_with(')'))
        || (value.len() > 1 && value.starts_with('`') && value.ends_with('`'))
    {
        Err(SUBSTITUTION)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(&str, String)> {
        parse(text).unwrap().into_iter().map(|found| (found.name, found.value)).collect()
    }

    #[test]
    fn lines_are_read_as_shells_systemd_and_dotenv_read_them() {
        for (line, value) in [
            ("A=1", "1"),
            ("export A=\"x # y\" # z", "x # y"),
            ("\texport\tA = b c", "b c"),
            ("A= # note", ""),
            ("A=#1", "#1"),
            ("A='#1'", "#1"),
            ("A=b#c # d", "b#c"),
            (r#"A="pa\"ss\\word""#, r#"pa"ss\word"#),
            (r"A='pa\nss$word'", r"pa\nss$word"),
            ("A=\"one\ntwo\" # three", "one\ntwo"),
            ("A='one\n# two\n'", "one\n# two\n"),
            ("A=a$b!{\"c\": 1}", "a$b!{\"c\": 1}"),
            ("A='${B}'", "${B}"),
            ("A=x\r\n", "x"),
            ("A=", ""),
        ] {
            assert_eq!(read(line), [("A", value.to_owned())], "{line}");
        }
        let text = "# one\n; two\\\n\n  A=\"1\n2\"\nB=3";
        assert_eq!(read(text), [("A", "1\n2".to_owned()), ("B", "3".to_owned())]);
    }

    #[test]
    fn what_others_read_in_another_way_is_refused_with_its_line() {
        for (text, line, reason) in [
            ("A=1\njust words", 2, NO_ASSIGNMENT),
            ("2A=b", 1, NO_ASSIGNMENT),
            ("A B=b", 1, NO_ASSIGNMENT),
            ("A=\"1\n2\"\nB='x\ny", 3, NO_END),
            ("A=\"b\"c", 1, AFTER_QUOTES),
            (r"A='it'\''s'", 1, AFTER_QUOTES),
            ("A='b'# c", 1, AFTER_QUOTES),
            // The end of a quote that was forgotten.
            ("A=\"1\nB=\"2\"", 1, AFTER_QUOTES),
            (r"A=DOMAIN\user", 1, BARE_BACKSLASH),
            ("A=b\\\nc", 1, BARE_BACKSLASH),
            (r#"A="b\nc""#, 1, OTHER_ESCAPE),
            (r#"A="b\$c""#, 1, OTHER_ESCAPE),
            ("A=\"b\\\nc\"", 1, OTHER_ESCAPE),
            (r"A='b\\c'", 1, SINGLE_ESCAPE),
            (r"A='b\'", 1, SINGLE_ESCAPE),
            ("A=${HOME}/b", 1, EXPANSION),
            ("A=\"${HOME}/b\"", 1, EXPANSION),
            ("A=$(cat /b)", 1, SUBSTITUTION),
            ("A=\"`cat /b`\"", 1, SUBSTITUTION),
            ("# C:\\\nA=1", 1, COMMENT_GOES_ON),
            ("A=b\0", 1, ZERO_BYTE),
        ] {
            assert_eq!(parse(text), Err(BadLine { line, reason }), "{text}");
        }
    }

    #[test]
    fn the_place_of_a_value_is_known() {
        for (text, value) in [
            ("A = \"b\\\"\" # c", "\"b\\\"\""),
            ("A=b c  # d\n", "b c"),
            ("A= # d", ""),
            ("A='1\n2'\nB=", "'1\n2'"),
        ] {
            assert_eq!(&text[parse(text).unwrap()[0].at.clone()], value, "{text}");
        }
    }
}
