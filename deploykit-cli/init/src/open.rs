//! Finds the questions that are still open in a configuration: the comments that `init` wrote and nobody removed.

use crate::findings::{MARK, Question};

/// Returns the questions that still stand in the text of a configuration.
///
/// A question is a comment that begins with `NEEDS A PERSON:`, as long as it stands. The lines after it that are indented
/// belong to it. It is about the next key or section, also behind `#`; without one it is about the section that it stands in.
#[must_use]
pub fn open_questions(text: &str) -> Vec<Question> {
    let lines: Vec<&str> = text.lines().collect();
    let (mut questions, mut section) = (Vec::new(), String::new());
    for (index, line) in lines.iter().enumerate() {
        if let Some(header) = header(line) {
            header.clone_into(&mut section);
        }
        let Some(first) = comment(line).and_then(|comment| comment.trim_start().strip_prefix(MARK)) else {
            continue;
        };
        let more = lines[index + 1..].iter().map_while(|line| comment(line)?.strip_prefix("  "));
        let parts: Vec<&str> = [first].into_iter().chain(more).map(str::trim).collect();
        let why = parts.join(" ").trim().to_owned();
        let (key, line) =
            about(&lines, index + parts.len(), &section).unwrap_or_else(|| (section.clone(), index + 1));
        questions.push(Question { key, why, line });
    }
    questions
}

/// Returns the key or section that stands next, and its line from 1; `None` when something else comes before.
fn about(lines: &[&str], start: usize, section: &str) -> Option<(String, usize)> {
    for (index, line) in lines.iter().enumerate().skip(start) {
        let text = comment(line).unwrap_or(line);
        let key = match (header(text), text.split_once('=')) {
            (Some(header), _) => Some(header.to_owned()),
            (None, Some((name, _))) if is_name(name.trim()) && section.is_empty() => {
                Some(name.trim().to_owned())
            }
            (None, Some((name, _))) if is_name(name.trim()) => Some(format!("{section}.{}", name.trim())),
            _ => None,
        };
        if let Some(key) = key {
            return Some((key, index + 1));
        }
        if comment(line).is_none() && !line.trim().is_empty() {
            return None;
        }
    }
    None
}

fn comment(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix('#')?;
    Some(text.strip_prefix(' ').unwrap_or(text))
}

/// Returns the name in a section's header, whatever follows it.
fn header(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let name = line.strip_prefix("[[").or(line.strip_prefix('['))?;
    Some(name[..name.find(']')?].trim()).filter(|name| is_name(name))
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_stays_open_until_its_comment_is_removed() {
        let text = "# What stands below NEEDS A PERSON is a guess or a gap.\nenvironment = \"production\"\n\n[site]\n\
                    # NEEDS A PERSON: which settings does the site use?\n#   there are `a`, `b`\n# settings = \"a\"\n\n\
                    [[services]]                              # found: x\n# NEEDS A PERSON: is it installed?\nname = \"web\"\n\n\
                    # NEEDS A PERSON: what runs the site?\n# [[services]]\n";
        let told = |text: &str| {
            let all = open_questions(text);
            all.into_iter().map(|one| (one.key, one.why, one.line)).collect::<Vec<_>>()
        };
        let one = |key: &str, why: &str, line| (key.to_owned(), why.to_owned(), line);
        let expected = [
            one("site.settings", "which settings does the site use? there are `a`, `b`", 7),
            one("services.name", "is it installed?", 11),
            one("services", "what runs the site?", 14),
        ];
        assert_eq!(told(text), expected);
        assert_eq!(told(&text.replace("# NEEDS A PERSON: is it installed?\n", "")).len(), 2);
    }

    #[test]
    fn a_question_is_about_a_name_or_about_nothing() {
        let is = |text: &str, key: &str, line: usize| {
            let found = open_questions(text).remove(0);
            assert_eq!((found.key.as_str(), found.line), (key, line), "{text}");
        };
        is(
            "[a] # x = 1\n# NEEDS A PERSON: why?\n\n# we do not know = yet, as of today\n# key = 1\n",
            "a.key",
            5,
        );
        is("# NEEDS A PERSON: why?\n[smoke]      # the pages\nbase = 1\n", "smoke", 2);
        is("# NEEDS A PERSON: why?\n#   more\n\n#[[ services ]] # x\n", "services", 4);
        is("[smoke]\npages = [\n  # NEEDS A PERSON: why?\n  { path = \"/\" },\n]\nbase = 1\n", "smoke", 3);
        is("[git]\n# NEEDS A PERSON: why?\n", "git", 2);
        is("# NEEDS A PERSON: why?\n# nobody knows\n", "", 1);
    }
}
