//! Environment markers, such as `python_version < "3.11" and sys_platform == "linux"`, and versions of Python.
//!
//! Source: <https://packaging.python.org/en/latest/specifications/dependency-specifiers/#environment-markers>,
//! <https://packaging.python.org/en/latest/specifications/pylock-toml/> for `extras` and `dependency_groups`.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::super::packages::normalise;

/// They are read recursively.
const MOST_PARENTHESES: usize = 100;

/// What markers are about: a Python, and the extras and groups that are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Markers {
    /// The variables of the specification.
    pub(super) variables: BTreeMap<String, String>,
    /// The normalised names of the extras.
    pub(super) extras: BTreeSet<String>,
    /// The normalised names of the groups.
    pub(super) groups: BTreeSet<String>,
}

impl Markers {
    /// Returns the full version of the Python.
    pub(super) fn python(&self) -> &str {
        self.variables.get("python_full_version").map(String::as_str).unwrap_or_default()
    }

    /// Tells whether a marker is true. The error is the part that is not understood.
    pub(super) fn meet(&self, marker: &str) -> Result<bool, String> {
        if marker.matches('(').count() > MOST_PARENTHESES {
            return Err("too many parentheses".to_owned());
        }
        let mut parser = Parser { markers: self, tokens: tokens(marker)?, at: 0 };
        let met = parser.any()?;
        match parser.next() {
            None => Ok(met),
            Some(token) => Err(format!("unexpected `{}`", token.text())),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'t> {
    Word(&'t str),
    Text(&'t str),
    Sign(&'t str),
}

impl<'t> Token<'t> {
    fn text(self) -> &'t str {
        match self {
            Token::Word(text) | Token::Text(text) | Token::Sign(text) => text,
        }
    }
}

fn tokens(marker: &str) -> Result<Vec<Token<'_>>, String> {
    let mut tokens = Vec::new();
    let mut rest = marker.trim_start();
    while let Some(first) = rest.chars().next() {
        let length_of = |is_part: fn(char) -> bool| rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (token, length) = match first {
            '"' | '\'' => {
                let length = rest[1..].find(first).ok_or_else(|| format!("`{rest}` has no closing quote"))?;
                (Token::Text(&rest[1..=length]), length + 2)
            }
            '(' | ')' => (Token::Sign(&rest[..1]), 1),
            '<' | '>' | '=' | '!' | '~' => {
                let length = length_of(|c| "<>=!~".contains(c));
                (Token::Sign(&rest[..length]), length)
            }
            _ => {
                let length = length_of(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
                if length == 0 {
                    return Err(format!("unexpected `{first}`"));
                }
                (Token::Word(&rest[..length]), length)
            }
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

/// One side of a comparison.
#[derive(Clone, Copy)]
enum Operand<'m> {
    /// A quoted string.
    Literal(&'m str),
    /// A variable that is a version.
    Version(&'m str),
    /// Another variable.
    Value(&'m str),
    /// `extra`, `extras` or `dependency_groups`.
    Names(&'m BTreeSet<String>),
}

struct Parser<'m> {
    markers: &'m Markers,
    tokens: Vec<Token<'m>>,
    at: usize,
}

impl<'m> Parser<'m> {
    fn next(&mut self) -> Option<Token<'m>> {
        let token = self.tokens.get(self.at).copied();
        self.at += usize::from(token.is_some());
        token
    }

    fn has(&mut self, token: Token<'_>) -> bool {
        let found = self.tokens.get(self.at) == Some(&token);
        self.at += usize::from(found);
        found
    }

    fn any(&mut self) -> Result<bool, String> {
        let mut met = self.all()?;
        while self.has(Token::Word("or")) {
            met |= self.all()?;
        }
        Ok(met)
    }

    fn all(&mut self) -> Result<bool, String> {
        let mut met = self.one()?;
        while self.has(Token::Word("and")) {
            met &= self.one()?;
        }
        Ok(met)
    }

    fn one(&mut self) -> Result<bool, String> {
        if self.has(Token::Sign("(")) {
            let met = self.any()?;
            return if self.has(Token::Sign(")")) { Ok(met) } else { Err("`)` is missing".to_owned()) };
        }
        let left = self.operand()?;
        let operator = self.next().map(Token::text).unwrap_or_default();
        let negated = operator == "not" && self.has(Token::Word("in"));
        let operator = if negated { "in" } else { operator };
        let right = self.operand()?;
        let met = compare(left, operator, right)
            .ok_or_else(|| format!("operator `{operator}` does not apply to its operands"))?;
        Ok(met != negated)
    }

    fn operand(&mut self) -> Result<Operand<'m>, String> {
        match self.next() {
            Some(Token::Text(text)) => Ok(Operand::Literal(text)),
            Some(Token::Word("extra" | "extras")) => Ok(Operand::Names(&self.markers.extras)),
            Some(Token::Word("dependency_groups")) => Ok(Operand::Names(&self.markers.groups)),
            Some(Token::Word(name)) => {
                // `os.name` and `platform.machine` are old spellings.
                let plain = name.replace('.', "_");
                let value = self.markers.variables.get(&plain);
                let value = value.ok_or_else(|| format!("unknown variable `{name}`"))?;
                let is_version = ["python_version", "python_full_version", "implementation_version"];
                Ok(if is_version.contains(&plain.as_str()) {
                    Operand::Version(value)
                } else {
                    Operand::Value(value)
                })
            }
            Some(token) => Err(format!("unexpected `{}`", token.text())),
            None => Err("unexpected end of the marker".to_owned()),
        }
    }
}

/// Compares; `None`: these cannot be compared like that.
fn compare(left: Operand<'_>, operator: &str, right: Operand<'_>) -> Option<bool> {
    match (left, right) {
        (Operand::Names(names), Operand::Literal(name)) | (Operand::Literal(name), Operand::Names(names)) => {
            let wanted = names.contains(&normalise(name));
            match operator {
                "==" | "in" => Some(wanted),
                "!=" => Some(!wanted),
                _ => None,
            }
        }
        (Operand::Names(_), _) | (_, Operand::Names(_)) => None,
        (Operand::Version(left), Operand::Literal(right)) if operator != "in" => {
            compare_versions(left, operator, right)
        }
        (Operand::Literal(left), Operand::Version(right)) if operator != "in" => {
            compare_versions(left, operator, right)
        }
        (
            Operand::Literal(left) | Operand::Value(left) | Operand::Version(left),
            Operand::Literal(right) | Operand::Value(right) | Operand::Version(right),
        ) => match operator {
            "in" => Some(right.contains(left)),
            _ => meets(left.cmp(right), operator),
        },
    }
}

fn meets(order: Ordering, operator: &str) -> Option<bool> {
    Some(match operator {
        "==" | "===" => order.is_eq(),
        "!=" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        ">=" => order.is_ge(),
        _ => return None,
    })
}

/// Returns the numbers of a version up to what is no number: `3.13.0rc1` is `3.13.0`.
fn numbers(version: &str) -> Option<Vec<u64>> {
    let end = version.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(version.len());
    let numbers: Option<Vec<u64>> =
        version[..end].trim_end_matches('.').split('.').map(|part| part.parse().ok()).collect();
    numbers
}

fn order(left: &[u64], right: &[u64]) -> Ordering {
    let number = |version: &[u64], at: usize| version.get(at).copied().unwrap_or(0);
    let parts = 0..left.len().max(right.len());
    parts
        .map(|at| number(left, at).cmp(&number(right, at)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Compares versions of Python, whose numbers are enough to tell.
///
/// Source: <https://packaging.python.org/en/latest/specifications/version-specifiers/>
fn compare_versions(left: &str, operator: &str, right: &str) -> Option<bool> {
    let (found, right) = (numbers(left)?, right.trim());
    let wanted = numbers(right.trim_end_matches(".*"))?;
    let starts =
        |prefix: &[u64]| prefix.iter().enumerate().all(|(at, part)| found.get(at).unwrap_or(&0) == part);
    match operator {
        "==" if right.ends_with(".*") => Some(starts(&wanted)),
        "!=" if right.ends_with(".*") => Some(!starts(&wanted)),
        "~=" => {
            let prefix = wanted.split_last().filter(|(_, prefix)| !prefix.is_empty())?.1;
            Some(order(&found, &wanted).is_ge() && starts(prefix))
        }
        _ => meets(order(&found, &wanted), operator),
    }
}

/// Tells whether a version of Python is one of those that `requires-python` allows; `None`: the text is not understood.
/// Poetry's `^3.11`, `~3.11`, `*` and `||` are understood as well.
///
/// Source: <https://python-poetry.org/docs/dependency-specification/>
pub(in crate::python) fn allows(required: &str, python: &str) -> Option<bool> {
    let mut alternatives = required.split("||").map(|all| {
        let mut parts = all.split([',', ' ']).map(str::trim).filter(|part| !part.is_empty()).peekable();
        let mut allowed = true;
        while let Some(part) = parts.next() {
            // `>= 3.11` may have a space in it.
            let is_sign = part.chars().all(|c| "<>=!~^".contains(c));
            let joined = if is_sign { format!("{part}{}", parts.next()?) } else { part.to_owned() };
            allowed &= allows_one(&joined, python)?;
        }
        Some(allowed)
    });
    alternatives.try_fold(false, |allowed, one| Some(allowed | one?))
}

fn allows_one(part: &str, python: &str) -> Option<bool> {
    if part == "*" {
        return Some(true);
    }
    let (operator, version) = part.split_at(part.find(|c: char| !"<>=!~^".contains(c))?);
    match operator {
        "^" | "~" => {
            let (found, least) = (numbers(python)?, numbers(version)?);
            let same = if operator == "^" { 1 } else { least.len().min(2) };
            Some(
                order(&found, &least).is_ge()
                    && order(&found[..same.min(found.len())], &least[..same]).is_eq(),
            )
        }
        "" | "=" => compare_versions(python, "==", version),
        operator => compare_versions(python, operator, version),
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Markers {
    /// Those of a CPython on Linux.
    pub(super) fn linux(python: &str) -> Markers {
        let short: Vec<&str> = python.split('.').take(2).collect();
        let variables = [
            ("python_version", short.join(".")),
            ("python_full_version", python.to_owned()),
            ("implementation_version", python.to_owned()),
            ("implementation_name", "cpython".to_owned()),
            ("platform_python_implementation", "CPython".to_owned()),
            ("os_name", "posix".to_owned()),
            ("sys_platform", "linux".to_owned()),
            ("platform_system", "Linux".to_owned()),
            ("platform_machine", "x86_64".to_owned()),
            ("platform_release", "6.1.0-18-amd64".to_owned()),
            ("platform_version", "#1 SMP".to_owned()),
        ];
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value));
        Markers { variables: variables.collect(), ..Markers::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What `packaging` 25 says of the same markers.
    #[test]
    fn markers_are_met_as_packaging_evaluates_them() {
        let mut markers = Markers::linux("3.11.7");
        markers.extras = ["redis".to_owned(), "my-extra".to_owned()].into();
        markers.groups = ["prod".to_owned()].into();
        for (marker, expected) in [
            ("python_version < '3.11'", false),
            ("python_version >= \"3.9\"", true),
            ("python_version == '3.11'", true),
            ("python_version == '3.11.*'", true),
            ("python_version ~= '3.9'", true),
            ("python_version ~= '3.12'", false),
            ("python_full_version < '3.11.3'", false),
            ("python_full_version == '3.11.*'", true),
            ("python_full_version >= '3.11' and python_full_version < '3.12'", true),
            ("python_version > '3.2' and python_version != '3.11'", false),
            ("'3.9' <= python_version", true),
            ("'3.12' <= python_version", false),
            ("python_version in '3.10 3.11'", true),
            ("python_version not in '3.10, 3.12'", true),
            ("sys_platform == 'win32' or platform_system == 'Windows'", false),
            ("sys_platform != 'win32' and (os_name == 'nt' or os_name == 'posix')", true),
            ("os_name == 'nt' and sys_platform == 'linux' or python_version >= '3'", true),
            ("platform_machine in 'x86_64 aarch64'", true),
            ("platform_machine not in 'arm64'", true),
            ("implementation_name == 'pypy'", false),
            ("platform_python_implementation != 'PyPy'", true),
            ("os.name == 'posix'", true),
            ("extra == 'redis'", true),
            ("extra == 'My_Extra'", true),
            ("extra == 'other' or extra == 'another'", false),
            ("extra != 'redis'", false),
            ("'redis' in extras and 'prod' in dependency_groups", true),
            ("'dev' in dependency_groups", false),
            ("'dev' not in dependency_groups", true),
        ] {
            assert_eq!(markers.meet(marker), Ok(expected), "{marker}");
        }
    }

    #[test]
    fn what_is_no_marker_is_an_error() {
        for marker in [
            "",
            "python_version",
            "python_version <",
            "python_version < '3",
            "python_version < '3' and",
            "(python_version < '3'",
            "python_version < '3' x",
            "colour == 'red'",
            "python_version & '3'",
            "sys_platform ~= 'linux'",
            "extra < 'a'",
            "python_version < 'three'",
        ] {
            assert!(Markers::linux("3.11.7").meet(marker).is_err(), "{marker}");
        }
    }

    #[test]
    fn versions_of_python_are_held_against_what_is_required() {
        for (required, python, expected) in [
            (">=3.10", "3.11.7", Some(true)),
            (">=3.12", "3.11.7", Some(false)),
            (">=3.10,<4", "3.11.7", Some(true)),
            (">= 3.10, < 3.11", "3.11.0", Some(false)),
            ("==3.11.*", "3.11.7", Some(true)),
            ("==3.11.7", "3.11.7", Some(true)),
            ("!=3.0.*,!=3.1.*,>=2.7", "3.11.7", Some(true)),
            ("<3.11,>=3.8", "3.11.7", Some(false)),
            ("~=3.10", "3.14.0", Some(true)),
            ("~=3.10.1", "3.11.7", Some(false)),
            ("^3.10", "3.14.1", Some(true)),
            ("^3.12", "3.11.7", Some(false)),
            ("~3.11", "3.11.7", Some(true)),
            ("~3.11", "3.12.0", Some(false)),
            ("~3", "3.12.0", Some(true)),
            ("3.11", "3.11.0", Some(true)),
            ("^3.8 || ^4", "3.11.7", Some(true)),
            ("*", "3.11.7", Some(true)),
            ("", "3.11.7", Some(true)),
            (">=3.13", "3.13.0rc1", Some(true)),
            ("three", "3.11.7", None),
            (">=", "3.11.7", None),
        ] {
            assert_eq!(allows(required, python), expected, "{required} {python}");
        }
    }

    proptest! {
        #[test]
        fn no_marker_is_too_strange(text in ".*", close in "[a-z_'\"()<>=! .0-9*]*") {
            let markers = Markers::linux("3.11.7");
            let _ = (markers.meet(&text), markers.meet(&close), allows(&text, &close), allows(&close, "3.11.7"));
        }
    }
}
