//! Reads just enough of Python's syntax to tell whether a call must find a value: strings and comments, brackets, logical lines, blocks.

use std::collections::BTreeSet;

/// Names of arguments that say what happens without a value.
const DEFAULTS: [&str; 4] = ["default", "fallback", "default_factory", "default_value"];

/// Functions of django-environ whose second argument is a type.
const WITH_TYPE: [&str; 5] = ["env", "list", "tuple", "dict", "set"];

/// A piece of a source: everything but white space and comments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token<'s> {
    start: usize,
    end: usize,
    kind: Kind,
    text: &'s str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Word,
    String,
    Open,
    Close,
    Sign,
}

/// A source, taken apart.
pub(super) struct Source<'s> {
    text: &'s str,
    tokens: Vec<Token<'s>>,
    /// For each logical line its first token and its indentation.
    lines: Vec<(usize, usize)>,
}

impl<'s> Source<'s> {
    pub(super) fn new(text: &'s str) -> Self {
        let mut source = Source { text, tokens: Vec::new(), lines: Vec::new() };
        source.read();
        source
    }

    fn read(&mut self) {
        let text = self.text;
        let (mut at, mut depth, mut line_start, mut fresh) = (0, 0_usize, 0, true);
        while let Some(c) = text[at..].chars().next() {
            let rest = &text[at..];
            let (length, kind) = match c {
                '\n' => {
                    at += 1;
                    if depth == 0 {
                        (line_start, fresh) = (at, true);
                    }
                    continue;
                }
                '#' => {
                    at += rest.find('\n').unwrap_or(rest.len());
                    continue;
                }
                '\\' if rest[1..].starts_with(['\n', '\r']) => {
                    at += rest.find('\n').map_or(rest.len(), |length| length + 1);
                    continue;
                }
                c if c.is_whitespace() => {
                    at += c.len_utf8();
                    continue;
                }
                '"' | '\'' => (string_length(rest), Kind::String),
                c if c.is_alphanumeric() || c == '_' => {
                    let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                    // A prefix belongs to its string.
                    match &rest[word..] {
                        string if string.starts_with(['"', '\'']) && word <= 2 => {
                            (word + string_length(string), Kind::String)
                        }
                        _ => (word, Kind::Word),
                    }
                }
                '(' | '[' | '{' => (1, Kind::Open),
                ')' | ']' | '}' => (1, Kind::Close),
                c => (c.len_utf8(), Kind::Sign),
            };
            if fresh {
                let indentation = text[line_start..at].chars().map(|c| if c == '\t' { 8 } else { 1 }).sum();
                self.lines.push((self.tokens.len(), indentation));
                fresh = false;
            }
            match kind {
                Kind::Open => depth += 1,
                Kind::Close => depth = depth.saturating_sub(1),
                _ => {}
            }
            let end = at + length;
            self.tokens.push(Token { start: at, end, kind, text: &text[at..end] });
            at = end;
        }
    }

    /// Tells whether the name at these bytes is asked for, and has to be there. `asked` is where the question begins.
    pub(super) fn is_required(
        &self,
        asked: usize,
        name: (usize, usize),
        with_default: &BTreeSet<String>,
    ) -> bool {
        let Some(first) = self.tokens.iter().position(|token| token.end > asked) else { return false };
        let token = self.tokens[first];
        if token.start > asked && !self.text[asked..token.start].trim().is_empty() {
            // In a comment.
            return false;
        }
        if token.kind == Kind::String && token.start < asked {
            // In a text about it; what stands in braces of an f-string is code.
            let prefix = token.text.split(['"', '\'']).next().unwrap_or_default();
            return prefix.contains(['f', 'F']);
        }
        let is_name =
            |token: &Token| token.kind == Kind::String && token.start < name.0 && name.0 < token.end;
        let Some(index) = self.tokens.iter().position(is_name) else {
            // Not the way of asking that is known here.
            return true;
        };
        let opener = index.checked_sub(1).map_or("", |index| self.tokens[index].text);
        let called = index.checked_sub(2).map_or("", |index| self.tokens[index].text);
        let end = self.close(index + 1);
        let sign = |index: usize| self.tokens.get(index).map_or("", |token| token.text);
        let is_assigned = opener == "[" && sign(end) == "=" && sign(end + 1) != "=";
        let has_default = with_default.contains(&self.text[name.0..name.1])
            || opener == "(" && has_default(called, &self.arguments(index + 1, end));
        !(is_assigned || has_default || self.is_guarded(first, end))
    }

    /// Returns the first token behind the bracket that closes what is open at a token.
    fn close(&self, from: usize) -> usize {
        let mut depth = 0_usize;
        for (index, token) in self.tokens.iter().enumerate().skip(from) {
            match token.kind {
                Kind::Open => depth += 1,
                Kind::Close if depth == 0 => return index + 1,
                Kind::Close => depth -= 1,
                _ => {}
            }
        }
        self.tokens.len()
    }

    /// Splits the tokens up to the closing bracket before `end` at their commas.
    fn arguments(&self, from: usize, end: usize) -> Vec<&[Token<'s>]> {
        let tokens = self.tokens.get(from..end.saturating_sub(1)).unwrap_or_default();
        let mut depth = 0_usize;
        let parts = tokens.split(|token| {
            match token.kind {
                Kind::Open => depth += 1,
                Kind::Close => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && token.text == ","
        });
        parts.collect()
    }

    /// Tells whether the expression from one token to another is only evaluated under a condition, or its failure is caught.
    fn is_guarded(&self, first: usize, end: usize) -> bool {
        let line = self.lines.partition_point(|(start, _)| *start <= first).saturating_sub(1);
        let Some((start, mut indentation)) = self.lines.get(line).copied() else { return false };
        if self.is_behind_condition(start, first) || self.is_before_condition(end) {
            return true;
        }
        for (start, outer) in self.lines[..line].iter().rev() {
            if *outer >= indentation {
                continue;
            }
            indentation = *outer;
            if is_condition(self.tokens[*start].text) {
                return true;
            }
        }
        false
    }

    /// Tells whether what stands before an expression in its line may keep it from being evaluated.
    fn is_behind_condition(&self, start: usize, first: usize) -> bool {
        let head = self.tokens[start].text;
        let mut conditions = vec![head == "elif"];
        for token in &self.tokens[start..first] {
            match (token.kind, token.text) {
                (Kind::Open, _) => conditions.push(false),
                (Kind::Close, _) => drop(conditions.pop()),
                (Kind::Word, "and" | "or" | "else" | "lambda") => set_last(&mut conditions, true),
                // `if x: y` in one line.
                (Kind::Sign, ":") if conditions.len() <= 1 && is_condition(head) => return true,
                (Kind::Sign, "," | "=") => set_last(&mut conditions, head == "elif"),
                _ => {}
            }
        }
        conditions.contains(&true)
    }

    /// Tells whether ` if … else …` follows an expression.
    fn is_before_condition(&self, end: usize) -> bool {
        let line_end = self.lines.iter().map(|(start, _)| *start).find(|start| *start >= end);
        let mut depth = 0_usize;
        // In another argument than the expression's.
        let mut beside = false;
        for token in &self.tokens[end.min(self.tokens.len())..line_end.unwrap_or(self.tokens.len())] {
            match (token.kind, token.text) {
                (Kind::Open, _) => depth += 1,
                (Kind::Close, _) if depth == 0 => beside = false,
                (Kind::Close, _) => depth -= 1,
                (Kind::Word, "if" | "for") if depth == 0 && !beside => return true,
                (Kind::Sign, ",") if depth == 0 => beside = true,
                (Kind::Sign, ":") if depth == 0 && !beside => return false,
                _ => {}
            }
        }
        false
    }

    /// Adds the names that `Env(DEBUG=(bool, False))` of django-environ gives a default.
    pub(super) fn add_scheme(&self, names: &mut BTreeSet<String>) {
        for (index, token) in self.tokens.iter().enumerate() {
            let opens = self.tokens.get(index + 1).is_some_and(|next| next.text == "(");
            if token.text != "Env" || !opens {
                continue;
            }
            for argument in self.arguments(index + 2, self.close(index + 2)) {
                if let [name, equals, open, pair @ ..] = argument
                    && (name.kind, equals.text, open.text) == (Kind::Word, "=", "(")
                    && pair.iter().any(|token| token.text == ",")
                {
                    names.insert(name.text.to_owned());
                }
            }
        }
    }
}

fn set_last(conditions: &mut [bool], value: bool) {
    if let Some(last) = conditions.last_mut() {
        *last = value;
    }
}

/// Tells whether a block that begins with this word may not be run, or may fail without harm.
fn is_condition(word: &str) -> bool {
    ["if", "elif", "else", "try", "except", "match", "case", "while"].contains(&word)
}

/// Tells whether the arguments behind a name say what happens without a value; `called` is the last name of the function.
fn has_default(called: &str, arguments: &[&[Token]]) -> bool {
    // The first one is what is left of the name's own.
    let mut position = 1;
    for argument in arguments.iter().skip(1) {
        match argument {
            [] => {}
            [name, equals, value @ ..] if name.kind == Kind::Word && equals.text == "=" => {
                let is = |word: &str| value.first().is_some_and(|value| value.text == word);
                if DEFAULTS.contains(&name.text)
                    || (name.text == "required" && is("False"))
                    || (name.text == "optional" && is("True"))
                {
                    return true;
                }
            }
            // Whatever is in there.
            [star, ..] if star.text == "*" => return true,
            _ => {
                position += 1;
                if position > 2 || !WITH_TYPE.contains(&called) {
                    return true;
                }
            }
        }
    }
    false
}

/// Returns how long a string is that a text begins with, its quotes included.
fn string_length(text: &str) -> usize {
    let mark = &text[..1];
    let triple = mark.repeat(3);
    let (quotes, one_line) = if text.starts_with(&triple) { (triple.as_str(), false) } else { (mark, true) };
    let mut at = quotes.len();
    while let Some(c) = text[at..].chars().next() {
        if text[at..].starts_with(quotes) {
            return at + quotes.len();
        }
        match c {
            '\\' => at += 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
            // It has no end.
            '\n' if one_line => return at,
            _ => at += c.len_utf8(),
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use regex_lite::Regex;

    use super::*;

    fn required(text: &str) -> Vec<&str> {
        let pattern =
            Regex::new(r#"(?:\benv(?:\.\w+)?\(|\bget_secret\(|\bconfig\(|os\.environ\[)\s*["'](\w+)["']"#)
                .unwrap();
        let source = Source::new(text);
        let mut scheme = BTreeSet::new();
        source.add_scheme(&mut scheme);
        let found = pattern.captures_iter(text).filter_map(|found| {
            let name = found.get(1)?;
            source
                .is_required(found.get(0)?.start(), (name.start(), name.end()), &scheme)
                .then_some(name.as_str())
        });
        found.collect()
    }

    #[test]
    fn further_arguments_are_no_defaults() {
        for text in [
            "A = env('A')",
            "A = env('A', cast=int)",
            "A = env('A', int)",
            "A = env.list('A', cast=int)",
            "A = env.list('A', int,)",
            "A = env.str('A', multiline=True)",
            "A = config('A', cast=lambda value: value or 1)",
            "A = get_secret(\n    'A',  # , ''\n    required=True,\n)",
            "A = os.environ['A']",
            "A = int(env('A')) + 1",
            "A = {'x': env('A'), 'y': 1 if z else 2}",
            "A = f(1 or 2, env('A'))",
            "f'{x}' + env('A')",
            "A = f\"{env('A')}\"",
            "if env('A'):\n    pass",
            "def f():\n    return env('A')",
            "if x:\n    pass\nA = env('A')",
            "with x:\n    A = env('A')",
            "A = env('A') == 'if'",
        ] {
            assert_eq!(required(text), ["A"], "{text}");
        }
    }

    #[test]
    fn defaults_and_guards_are_known() {
        for text in [
            "A = env('A', default='')",
            "A = env('A', str, '')",
            "A = env.str('A', '')",
            "A = env.list('A', str, [])",
            "A = get_secret('A', '')",
            "A = get_secret('A', required=False)",
            "A = config('A', **options)",
            "env = environ.Env(\n    A=(str, ''),\n)\nA = env('A')",
            "if env.bool('USE', default=False):\n    B = 1\n\n    # why\n    A = env('A')",
            "if x: A = env('A')",
            "if x:\n    pass\nelif env('A'):\n    pass",
            "if x:\n    pass\nelse:\n    if y:\n        pass\n    A = env('A')",
            "try:\n    A = env('A')\nexcept KeyError:\n    A = None",
            "if x:\n    DATABASES = {\n'default': env('A'),\n}\n",
            "A = env('A') if x else ''",
            "A = '' if x else env('A')",
            "A = (\n    int(env('A'))\n    if x else 1\n)",
            "A = 'A' in os.environ and env('A')",
            "A = x or env('A')",
            "A = [env('A') for x in y]",
            "# A = env('A')",
            "x = 1  # env('A')",
            "'''\nenv('A')\n'''",
            "os.environ['A'] = 'x'",
        ] {
            assert_eq!(required(text), [""; 0], "{text}");
        }
    }
}
