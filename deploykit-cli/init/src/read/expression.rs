//! Computes the path expressions of Python settings: strings, names, `/`, and the usual functions of paths.

use std::path::Path;

use super::files::dotenv;
use super::literals::{is_word, string_length, strings};
use deploykit::internal::names;

/// Tokens of the longest expression that is computed: brackets in brackets cost stack.
const LONGEST: usize = 200;

/// Returns the text of the path that an expression spells out; `names` knows the variables of the file and `variables`
/// is the text of the `.env` file.
pub(crate) fn value(
    expression: &str,
    names: &dyn Fn(&str) -> Option<String>,
    variables: &str,
) -> Option<String> {
    let tokens = tokens(expression).filter(|tokens| tokens.len() <= LONGEST)?;
    let mut parser = Parser { tokens: &tokens, names, variables };
    let value = parser.sum()?;
    parser.tokens.is_empty().then_some(value)
}

/// Returns what an expression is without a variable of the environment: `B` of `A if NAME in os.environ else B`.
pub(crate) fn otherwise(expression: &str) -> Option<&str> {
    let inner = expression.trim();
    let inner = inner.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).unwrap_or(inner);
    let (first, last) = inner.rsplit_once(" else ").or_else(|| inner.rsplit_once("else "))?;
    let condition = first.split_once(" if ")?.1;
    condition.contains("environ").then_some(last.trim())
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    Text(String),
    Number(usize),
    Sign(char),
}

fn tokens(expression: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = expression.trim_start();
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '"' | '\'' => {
                let length = string_length(rest);
                let inner = strings(&rest[..length]).pop()?;
                // What an escape stands for is not worth knowing.
                if inner.contains('\\') {
                    return None;
                }
                tokens.push(Token::Text(inner));
                length
            }
            c if is_word(c) => {
                let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
                let word = &rest[..end];
                if rest[end..].starts_with(['"', '\'']) {
                    // Of the prefixed strings only raw ones mean what they say.
                    if ["f", "F"].contains(&word) {
                        let length = string_length(&rest[end..]);
                        tokens.extend(formatted(strings(&rest[end..end + length]).pop()?)?);
                        rest = rest[end + length..].trim_start();
                        continue;
                    }
                    if !["r", "R", "u"].contains(&word) {
                        return None;
                    }
                } else {
                    tokens.push(word.parse().map_or_else(|_| Token::Name(word.to_owned()), Token::Number));
                }
                end
            }
            '(' | ')' | '[' | ']' | ',' | '.' | '/' | '+' | '-' | '=' => {
                tokens.push(Token::Sign(c));
                1
            }
            _ => return None,
        };
        rest = rest[length..].trim_start();
    }
    Some(tokens)
}

/// Returns an f-string as a sum in brackets: `f"{A}/x"` is `("" + (A) + "/x")`.
fn formatted(text: String) -> Option<Vec<Token>> {
    let mut sum = vec![Token::Sign('('), Token::Text(String::new())];
    let mut rest = text.as_str();
    while !rest.is_empty() {
        sum.push(Token::Sign('+'));
        if let Some(inner) = rest.strip_prefix('{') {
            let end = inner.find('}')?;
            if inner[..end].contains(['{', '!', ':']) {
                return None;
            }
            sum.push(Token::Sign('('));
            sum.extend(tokens(&inner[..end])?);
            sum.push(Token::Sign(')'));
            rest = &inner[end + 1..];
        } else {
            let end = rest.find('{').unwrap_or(rest.len());
            // A doubled or a lone bracket, or an escape.
            if rest[..end].contains(['}', '\\']) {
                return None;
            }
            sum.push(Token::Text(rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
    sum.push(Token::Sign(')'));
    Some(sum)
}

/// Computes a path expression; every value is the text of a path.
struct Parser<'t> {
    tokens: &'t [Token],
    names: &'t dyn Fn(&str) -> Option<String>,
    variables: &'t str,
}

impl Parser<'_> {
    fn sign(&mut self, sign: char) -> bool {
        let found = self.tokens.first() == Some(&Token::Sign(sign));
        if found {
            self.tokens = &self.tokens[1..];
        }
        found
    }

    fn next(&mut self) -> Option<Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first.clone())
    }

    fn sum(&mut self) -> Option<String> {
        let mut value = self.value()?;
        loop {
            if self.sign('/') {
                let right = self.value()?;
                value = join(&value, &right);
            } else if self.sign('+') {
                value += &self.value()?;
            } else if self.sign('-') {
                // `environ.Path(__file__) - 2`
                let Some(Token::Number(ups)) = self.next() else { return None };
                value = ancestor(&value, ups)?;
            } else {
                return Some(value);
            }
        }
    }

    fn value(&mut self) -> Option<String> {
        let mut value = match self.next()? {
            Token::Text(text) => text,
            Token::Sign('(') => {
                let inner = self.sum()?;
                if !self.sign(')') {
                    return None;
                }
                inner
            }
            Token::Name(name) => self.named(name)?,
            _ => return None,
        };
        while self.sign('.') {
            let Token::Name(name) = self.next()? else { return None };
            value = match name.as_str() {
                "parent" => ancestor(&value, 1)?,
                "parents" => ancestor(&value, self.number('[', ']')?.checked_add(1)?)?,
                "resolve" | "absolute" | "as_posix" | "expanduser" => {
                    self.arguments()?;
                    value
                }
                // unipath's `ancestor(2)`
                "ancestor" => ancestor(&value, self.number('(', ')')?)?,
                "joinpath" | "child" | "path" => {
                    self.arguments()?.iter().fold(value, |path, part| join(&path, part))
                }
                _ => return None,
            };
        }
        Some(value)
    }

    /// Reads a number in brackets.
    fn number(&mut self, open: char, close: char) -> Option<usize> {
        match (self.sign(open), self.next(), self.sign(close)) {
            (true, Some(Token::Number(number)), true) => Some(number),
            _ => None,
        }
    }

    /// Reads a variable, or a call of a function that is about paths.
    fn named(&mut self, name: String) -> Option<String> {
        let function = match name.as_str() {
            "env" => return self.variable(),
            "os" | "path" | "pathlib" | "environ" => {
                let mut name = name;
                while self.sign('.') {
                    let Token::Name(part) = self.next()? else { return None };
                    name = part;
                }
                name
            }
            _ if self.tokens.first() == Some(&Token::Sign('(')) => name,
            _ => return (self.names)(&name),
        };
        let arguments = self.arguments()?;
        match (function.as_str(), arguments.as_slice()) {
            ("dirname", [path]) => ancestor(path, 1),
            ("abspath" | "realpath" | "normpath" | "str" | "PurePath", [path]) => Some(path.clone()),
            ("join" | "Path", [first, rest @ ..]) => {
                Some(rest.iter().fold(first.clone(), |path, part| join(&path, part)))
            }
            _ => None,
        }
    }

    /// Reads the rest of `env.path('NAME', default=…)`.
    fn variable(&mut self) -> Option<String> {
        if self.sign('.') {
            self.next()?;
        }
        let (true, Some(Token::Text(name))) = (self.sign('('), self.next()) else { return None };
        let mut default = None;
        if self.sign(',') && !self.sign(')') {
            let named = self.next()? == Token::Name("default".to_owned()) && self.sign('=');
            default = Some(if named { self.sum()? } else { return None });
            let _ = self.sign(',');
        }
        self.sign(')').then_some(())?;
        dotenv(self.variables, &name).or(default)
    }

    fn arguments(&mut self) -> Option<Vec<String>> {
        if !self.sign('(') {
            return None;
        }
        let mut arguments = Vec::new();
        while !self.sign(')') {
            arguments.push(self.sum()?);
            let _ = self.sign(',');
        }
        Some(arguments)
    }
}

fn join(directory: &str, part: &str) -> String {
    Path::new(directory).join(part).to_string_lossy().into_owned()
}

fn ancestor(path: &str, ups: usize) -> Option<String> {
    let path = names::normal(Path::new(path));
    path.ancestors().nth(ups)?.to_str().map(str::to_owned)
}
