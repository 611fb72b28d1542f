//! The addresses of indexes, with the user and the password that the tools of a lock take from variables.

use std::sync::LazyLock;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use regex_lite::Regex;
use serde_json::Value;

use super::super::installer;
use super::{LockFileError, Reading, items, text};

/// The variables of Poetry: `POETRY_HTTP_BASIC_NAME_USERNAME`.
pub(super) const OF_POETRY: &str = "POETRY_HTTP_BASIC";

/// The variables of uv: `UV_INDEX_NAME_USERNAME`.
const OF_UV: &str = "UV_INDEX";

impl Reading<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        let program = self.program?;
        installer::variable(program.host, name)?.into_os_string().into_string().ok()
    }

    /// Returns the address of the index `name` with the values of the variables that it names: `https://${USER}:$PASSWORD@host/`.
    ///
    /// As in Pipenv and PDM, the user and the password are encoded.
    pub(super) fn with_variables(&self, name: &str, written: &str) -> Result<String, LockFileError> {
        let (scheme, rest) = written.split_once("://").unwrap_or(("", written));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (person, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let person = self.expand(name, person, |value| encoded(&value))?;
        let host = self.expand(name, host, |value| value)?;
        let path = self.expand(name, path, |value| value)?;
        let at = if person.is_empty() { "" } else { "@" };
        let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
        Ok(format!("{scheme}{person}{at}{host}{path}"))
    }

    /// Returns a text with the values of its variables.
    fn expand(
        &self,
        index: &str,
        written: &str,
        form: fn(String) -> String,
    ) -> Result<String, LockFileError> {
        static VARIABLE: LazyLock<Option<Regex>> =
            LazyLock::new(|| Regex::new(r"\$(?:\{(\w+)\}|(\w+))").ok());
        let Some(variable) = VARIABLE.as_ref() else { return Ok(written.to_owned()) };
        let mut text = String::new();
        let mut end = 0;
        for found in variable.captures_iter(written) {
            let (Some(whole), Some(name)) = (found.get(0), found.get(1).or_else(|| found.get(2))) else {
                continue;
            };
            let value = self.variable(name.as_str()).ok_or_else(|| LockFileError::NoVariable {
                file: self.lock.file.clone(),
                index: index.to_owned(),
                variable: name.as_str().to_owned(),
            })?;
            text.push_str(&written[end..whole.start()]);
            text.push_str(&form(value));
            end = whole.end();
        }
        text.push_str(&written[end..]);
        Ok(text)
    }

    /// Returns the address of the index `name` with the user and the password that variables of its tool hold.
    pub(super) fn with_credentials(&self, variables: &str, name: &str, url: &str) -> String {
        let name: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect();
        let user = self.variable(&format!("{variables}_{name}_USERNAME"));
        let password = self.variable(&format!("{variables}_{name}_PASSWORD"));
        with_person(url, user.as_deref(), password.as_deref())
    }

    /// Likewise, for an index that uv knows by its address.
    pub(super) fn with_credentials_of_uv(&self, url: &str) -> String {
        let own = self.manifest.pointer("/tool/uv").unwrap_or(&Value::Null);
        let same = |index: &&Value| {
            text(index, "url").is_some_and(|known| known.trim_end_matches('/') == url.trim_end_matches('/'))
        };
        let name = items(own, "index").find(same).and_then(|index| text(index, "name"));
        name.map_or_else(|| url.to_owned(), |name| self.with_credentials(OF_UV, name, url))
    }
}

/// Returns an address with a user and a password, unless it has a user.
pub(super) fn with_person(url: &str, user: Option<&str>, password: Option<&str>) -> String {
    match (url.split_once("://"), user) {
        (Some((scheme, rest)), Some(user)) if !host_of(url).contains('@') => {
            let password = password.map(|password| format!(":{}", encoded(password))).unwrap_or_default();
            format!("{scheme}://{}{password}@{rest}", encoded(user))
        }
        _ => url.to_owned(),
    }
}

/// Returns the host of an address, with its port and with who asks.
pub(super) fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
