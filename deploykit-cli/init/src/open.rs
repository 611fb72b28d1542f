//! Finds the questions that are still open in a configuration: the comments that `init` wrote and nobody removed.

use crate::findings::{MARK, Question};

/// Returns the questions that still stand in the text of a configuration.
///
/// A question is a comment that begins with `NEEDS A PERSON:`, as long as it stands. The lines after it that are indented
/// belong to it, and the next line that is a key, also behind `#`, is what it is about.
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
        let mut why = first.trim().to_owned();
        let mut about = index + 1;
        for part in more {
            why = format!("{why} {}", part.trim());
            about += 1;
        }
        let next = lines.get(about).map(|line| line.trim().trim_start_matches(['#', ' ']));
        let key = match next {
            Some(next) if next.starts_with('[') => next.trim_matches(['[', ']']).to_owned(),
            Some(next) => {
                let name = next.split('=').next().unwrap_or(next).trim();
                if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
            }
            None => section.clone(),
        };
        questions.push(Question { key, why, line: about + 1 });
    }
    questions
}

fn comment(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix('#')?;
    Some(text.strip_prefix(' ').unwrap_or(text))
}

fn header(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let name = line.strip_prefix("[[").or(line.strip_prefix('['))?;
    Some(&name[..name.find(']')?])
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
}
