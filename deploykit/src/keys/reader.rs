//! Reads a TOML document key by key. It goes on after a mistake, and reports unknown keys at the end.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Environment, Problem};

use crate::names;

type Value<'d> = Spanned<DeValue<'d>>;

/// The mistakes that are found while a document is read.
pub(crate) type Problems = Rc<RefCell<Vec<Problem>>>;

/// One table of the document.
pub(crate) struct Reader<'d> {
    table: DeTable<'d>,
    span: Range<usize>,
    path: String,
    /// The directory that relative paths start at.
    directory: PathBuf,
    /// The directory that paths of the checkout start at; the same for all tables.
    repository: Rc<RefCell<PathBuf>>,
    environment: Environment,
    known: RefCell<Vec<&'static str>>,
    problems: Problems,
    /// The required keys that are missing and that not every use of the configuration needs.
    missing: Problems,
}

impl<'d> Reader<'d> {
    pub(crate) fn new(
        table: DeTable<'d>,
        directory: &Path,
        environment: Environment,
        problems: &Problems,
        missing: &Problems,
    ) -> Self {
        Reader {
            table,
            span: 0..0,
            path: String::new(),
            directory: directory.to_owned(),
            repository: Rc::new(RefCell::new(directory.to_owned())),
            environment,
            known: RefCell::default(),
            problems: Rc::clone(problems),
            missing: Rc::clone(missing),
        }
    }

    /// Sets the directory that paths of the checkout start at.
    pub(crate) fn set_repository(&self, repository: &Path) {
        repository.clone_into(&mut self.repository.borrow_mut());
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn environment(&self) -> Environment {
        self.environment
    }

    /// Returns the full name of a key, from the top of the document.
    pub(crate) fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    pub(crate) fn problem(&self, span: Range<usize>, key: &str, message: impl Into<String>) {
        self.problems.borrow_mut().push(Problem { span, key: key.to_owned(), message: message.into() });
    }

    /// Reports a mistake at the value of a key; when the key is missing, at its table.
    pub(crate) fn wrong(&self, key: &'static str, message: impl Into<String>) {
        let span = self.get(key).map_or(self.span.clone(), |value| value.span());
        self.problem(span, &self.name(key), message);
    }

    fn get(&self, key: &'static str) -> Option<&Value<'d>> {
        self.known.borrow_mut().push(key);
        self.table.get(key)
    }

    /// Reports a key if it is missing. An item of an array, such as a service, always needs its keys.
    pub(crate) fn require(&self, key: &'static str, message: &str) {
        if self.has(key) {
            return;
        }
        let is_item = self.path.ends_with(']');
        let problems = if is_item { &self.problems } else { &self.missing };
        let problem = Problem { span: self.span(), key: self.name(key), message: message.to_owned() };
        problems.borrow_mut().push(problem);
    }

    pub(crate) fn has(&self, key: &'static str) -> bool {
        self.get(key).is_some()
    }

    fn expect<T>(&self, key: &'static str, what: &str, read: impl Fn(&Value<'d>) -> Option<T>) -> Option<T> {
        let value = self.get(key)?;
        let result = read(value);
        if result.is_none() {
            self.other_kind(value, &self.name(key), what);
        }
        result
    }

    /// Reports a value that is not `what` is expected.
    fn other_kind(&self, value: &Value<'d>, key: &str, what: &str) {
        let found = kind(value.get_ref());
        self.problem(value.span(), key, format!("expected {what}, found {found}"));
    }

    pub(crate) fn text(&self, key: &'static str) -> Option<String> {
        let text = self.string(key, "a string")?;
        if text.trim().is_empty() {
            self.wrong(key, "is empty");
            return None;
        }
        Some(text)
    }

    /// Reads a string; `what` says what else a value should have been.
    pub(super) fn string(&self, key: &'static str, what: &str) -> Option<String> {
        self.expect(key, what, |value| value.get_ref().as_str().map(str::to_owned))
    }

    pub(crate) fn flag(&self, key: &'static str) -> Option<bool> {
        self.expect(key, "a boolean", |value| value.get_ref().as_bool())
    }

    pub(crate) fn path(&self, key: &'static str) -> Option<PathBuf> {
        self.text(key).map(|text| self.resolve(&text))
    }

    /// Makes a path absolute and removes `.` and `..` without following links.
    pub(crate) fn resolve(&self, path: &str) -> PathBuf {
        names::normal(&self.directory.join(path))
    }

    /// Makes a path of the checkout absolute.
    pub(crate) fn in_repository(&self, path: &str) -> PathBuf {
        names::normal(&self.repository.borrow().join(path))
    }

    pub(crate) fn number(&self, key: &'static str, range: Range<u16>) -> Option<u16> {
        let what = format!("an integer from {} to {}", range.start, range.end - 1);
        let (text, radix) = self.expect(key, &what, |value| {
            let number = value.get_ref().as_integer()?;
            Some((number.as_str().to_owned(), number.radix()))
        })?;
        let number = u16::from_str_radix(&text, radix).ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.wrong(key, format!("`{text}` is not {what}"));
        }
        number
    }

    /// Reads a duration such as `"20m"`.
    pub(crate) fn duration(&self, key: &'static str) -> Option<Duration> {
        let text = self.string(key, "a duration such as \"20m\"")?;
        let span = text.parse::<Span>().ok();
        let duration = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
        let duration = duration.and_then(|duration| duration.try_into().ok());
        if duration.is_none() {
            self.wrong(
                key,
                format!("`{text}` is not a duration; write \"30s\", \"20m\", \"1h 30m\" or \"7d\""),
            );
        }
        duration
    }

    /// Reads a string that is one of these.
    pub(crate) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            let list = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let near = nearest(&text, &names).map(|name| format!("; did you mean `{name}`?"));
            self.wrong(key, format!("`{text}` is not one of {list}{}", near.unwrap_or_default()));
        }
        found
    }

    /// Reads an array of strings.
    pub(crate) fn texts(&self, key: &'static str) -> Option<Vec<String>> {
        let values = self.expect(key, "an array of strings", |value| value.get_ref().as_array().cloned())?;
        let mut texts = Vec::new();
        for value in values.iter() {
            match value.get_ref().as_str() {
                Some(text) => texts.push(text.to_owned()),
                None => self.other_kind(value, &self.name(key), "a string"),
            }
        }
        Some(texts)
    }

    /// Reads an array of commands, each an array of strings.
    pub(crate) fn commands(&self, key: &'static str) -> Option<Vec<Vec<String>>> {
        let values = self.expect(key, "an array of arrays such as [[\"./check\"]]", |value| {
            value.get_ref().as_array().cloned()
        })?;
        let mut commands = Vec::new();
        for value in values.iter() {
            let argv: Option<Vec<String>> = value.get_ref().as_array().and_then(|list| {
                list.iter().map(|word| word.get_ref().as_str().map(str::to_owned)).collect()
            });
            match argv {
                Some(argv) if !argv.is_empty() => commands.push(argv),
                _ => self.problem(
                    value.span(),
                    &self.name(key),
                    "expected an array of strings such as [\"./check\"]",
                ),
            }
        }
        Some(commands)
    }

    /// Reads a table of strings.
    pub(crate) fn pairs(&self, key: &'static str) -> Option<Vec<(String, String)>> {
        let table = self.expect(key, "a table of strings", |value| value.get_ref().as_table().cloned())?;
        let mut pairs = Vec::new();
        for (name, value) in &table {
            match value.get_ref().as_str() {
                Some(text) => pairs.push((name.get_ref().to_string(), text.to_owned())),
                None => {
                    let path = format!("{}.{}", self.name(key), name.get_ref());
                    self.other_kind(value, &path, "a string");
                }
            }
        }
        Some(pairs)
    }

    /// Reads a table; returns an empty one when it is missing.
    pub(crate) fn section(&self, key: &'static str) -> Reader<'d> {
        let table = self.expect(key, "a table", |value| value.get_ref().as_table().cloned());
        let span = self.table.get_key_value(key).map_or(self.span.clone(), |(key, _)| key.span());
        self.child(table.unwrap_or_default(), span, self.name(key))
    }

    /// Reads an array of tables, `[[key]]`, or of strings and tables: returns the string, if it is one, and a reader of the table.
    pub(crate) fn items(&self, key: &'static str) -> Vec<(Option<String>, Reader<'d>)> {
        let Some(values) = self.expect(key, "an array", |value| value.get_ref().as_array().cloned()) else {
            return Vec::new();
        };
        let mut items = Vec::new();
        for (index, value) in values.iter().enumerate() {
            let path = format!("{}[{index}]", self.name(key));
            match value.get_ref() {
                DeValue::Table(table) => items.push((None, self.child(table.clone(), value.span(), path))),
                DeValue::String(text) => {
                    items.push((Some(text.to_string()), self.child(DeTable::new(), value.span(), path)));
                }
                _ => self.other_kind(value, &path, "a table"),
            }
        }
        items
    }

    fn child(&self, table: DeTable<'d>, span: Range<usize>, path: String) -> Reader<'d> {
        Reader {
            table,
            span,
            path,
            directory: self.directory.clone(),
            repository: Rc::clone(&self.repository),
            environment: self.environment,
            known: RefCell::default(),
            problems: Rc::clone(&self.problems),
            missing: Rc::clone(&self.missing),
        }
    }

    /// Reports every key that was not read, with the most similar key that was.
    pub(crate) fn finish(self) {
        let known = self.known.borrow();
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let near = nearest(name, &known).map(|near| format!("; did you mean `{near}`?"));
                let message = format!("unknown key{}", near.unwrap_or_default());
                self.problem(key.span(), &self.name(name), message);
            }
        }
    }
}

/// Overrides the values of `base` with those of `over`, table by table.
pub(crate) fn merge<'d>(base: &mut DeTable<'d>, over: DeTable<'d>) {
    for (key, value) in over {
        let (span, value) = (value.span(), value.into_inner());
        if let DeValue::Table(table) = value {
            if let Some(old) = base.get_mut(key.get_ref().as_ref())
                && let DeValue::Table(old) = old.get_mut()
            {
                merge(old, table);
            } else {
                base.insert(key, Spanned::new(span, DeValue::Table(table)));
            }
        } else {
            // Remove first: an insert would keep the old key with its span.
            base.remove(key.get_ref().as_ref());
            base.insert(key, Spanned::new(span, value));
        }
    }
}

/// Returns where the value of a key such as `smoke.pages[2].path` is; when it is missing, where its table is.
pub(crate) fn place(table: &DeTable<'_>, key: &str) -> Range<usize> {
    let mut span = 0..0;
    let mut table = Some(table);
    for part in key.split('.') {
        let (name, index) = match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
            Some((name, index)) => (name, index.parse::<usize>().ok()),
            None => (part, None),
        };
        let Some((key, value)) = table.and_then(|table| table.get_key_value(name)) else { break };
        let item = index.and_then(|index| value.get_ref().as_array()?.get(index));
        let value = item.unwrap_or(value);
        table = value.get_ref().as_table();
        span = if table.is_some() && item.is_none() { key.span() } else { value.span() };
    }
    span
}

/// Returns the name that is most similar, if one is similar.
pub(crate) fn nearest<'n>(name: &str, names: &[&'n str]) -> Option<&'n str> {
    names
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name.replace('_', "-"), candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        // Of two equally similar ones, prefer the longer common prefix.
        .min_by_key(|(distance, candidate)| {
            let alike = name.bytes().zip(candidate.bytes()).take_while(|(one, other)| one == other).count();
            (*distance, std::cmp::Reverse(alike))
        })
        .map(|(_, candidate)| candidate)
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date-time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
