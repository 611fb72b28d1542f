//! Which of the values that a site's files hold must not be shown.
//!
//! In doubt a value is secret. It is not where its name says that it is a path, a host, the name of something or the like, where
//! the configuration shows it anyway, and where it is a word that many sites have.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use percent_encoding::percent_decode_str;
use regex_lite::Regex;

/// Values that are in many secrets files without being secret; hiding them would hide half of every message.
const WELL_KNOWN: [&str; 16] = [
    "127.0.0.1",
    "0.0.0.0",
    "default",
    "development",
    "disable",
    "example.com",
    "localhost",
    "mariadb",
    "postgres",
    "postgresql",
    "production",
    "require",
    "staging",
    "verify-ca",
    "verify-full",
    "warning",
];

/// Parts of a name that say that its value is secret, whatever else the name says.
const SECRET_PARTS: [&str; 8] =
    ["PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "TOKEN", "CREDENTIAL", "APIKEY", "PRIVATE"];

/// The same, as whole words of it.
const SECRET_WORDS: [&str; 14] = [
    "AUTH",
    "DSN",
    "HASH",
    "JWT",
    "KEY",
    "KEYS",
    "OTP",
    "PASS",
    "PIN",
    "PW",
    "PWD",
    "SALT",
    "SIG",
    "SIGNATURE",
];

/// Last words of names whose values are no secrets.
const PUBLIC_WORDS: [&str; 40] = [
    "APP",
    "APPS",
    "BACKEND",
    "BACKENDS",
    "CHARSET",
    "CLASS",
    "COLLATION",
    "DEBUG",
    "DIR",
    "DIRECTORY",
    "DOMAIN",
    "DOMAINS",
    "ENGINE",
    "ENV",
    "ENVIRONMENT",
    "FILE",
    "HOST",
    "HOSTNAME",
    "HOSTNAMES",
    "HOSTS",
    "LANG",
    "LANGUAGE",
    "LEVEL",
    "LOCALE",
    "MODE",
    "MODULE",
    "NAME",
    "NAMES",
    "ORIGIN",
    "ORIGINS",
    "PATH",
    "PATHS",
    "PORT",
    "REGION",
    "ROOT",
    "THREADS",
    "TIMEOUT",
    "TIMEZONE",
    "TZ",
    "ZONE",
];

/// Last words of names whose values are places of files.
const FILE_WORDS: [&str; 6] = ["DIR", "DIRECTORY", "FILE", "PATH", "PATHS", "ROOT"];

/// The shortest line of a value of several lines that is a secret of its own.
const SHORTEST_LINE: usize = 16;

/// The shortest value in the query of an address that is taken for a secret whatever it is called.
const SHORTEST_IN_QUERY: usize = 16;

/// What is known of the values of a site.
#[derive(Clone, Default)]
pub(crate) struct Sensitive {
    values: Vec<Value>,
    /// Values that a name calls harmless.
    public: BTreeSet<String>,
}

#[derive(Clone)]
struct Value {
    text: String,
    /// It is secret by its name or its place, wherever else the same text stands.
    certain: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Secret,
    Unknown,
    Public,
}

impl Sensitive {
    /// Adds a value; `names` are its own name, last, and those of the objects that it is in.
    pub(crate) fn add(&mut self, names: &[&str], value: &str) {
        let kind = kind(names, value);
        self.add_parts(names, value);
        match kind {
            Kind::Public => {
                self.public.insert(value.to_owned());
                // Lists of hosts and paths.
                self.public.extend(value.split([',', ':', ' ']).map(|part| part.trim().to_owned()));
            }
            Kind::Unknown if is_public_address(value) => {
                self.public.insert(value.to_owned());
            }
            _ => self.hide(value, kind == Kind::Secret),
        }
    }

    /// Adds a number as it stands in JSON, and as Python writes it.
    pub(crate) fn add_number(&mut self, names: &[&str], number: &str) {
        self.add(names, number);
        if number.contains(['.', 'e', 'E'])
            && let Ok(value) = number.parse::<f64>()
        {
            self.add(names, &value.to_string());
        }
    }

    /// Adds what is known of another file.
    pub(crate) fn extend(&mut self, other: &Sensitive) {
        self.values.extend(other.values.iter().cloned());
        self.public.extend(other.public.iter().cloned());
    }

    /// Returns what must not be shown; `shown` is what the configuration shows.
    pub(crate) fn hidden(&self, shown: &str) -> Vec<String> {
        let must_hide = |value: &&Value| {
            let text = value.text.as_str();
            let harmless = WELL_KNOWN.contains(&text.to_lowercase().as_str())
                || (text.starts_with('/') && Path::new(text).exists());
            !harmless && (value.certain || !(self.public.contains(text) || has_word(shown, text)))
        };
        self.values.iter().filter(must_hide).map(|value| value.text.clone()).collect()
    }

    fn hide(&mut self, text: &str, certain: bool) {
        if text.is_empty() {
            return;
        }
        if text.contains('\n') {
            let lines = text.lines().map(str::trim);
            // The frame of a key is the same everywhere.
            for line in lines.filter(|line| line.len() >= SHORTEST_LINE && !line.starts_with("-----")) {
                self.values.push(Value { text: line.to_owned(), certain });
            }
        }
        self.values.push(Value { text: text.to_owned(), certain });
    }

    /// Adds what is in a value and may be shown alone: passwords in addresses, in descriptions of connections, in JSON.
    fn add_parts(&mut self, names: &[&str], value: &str) {
        static PERSON: LazyLock<Option<Regex>> =
            LazyLock::new(|| Regex::new(r#"([A-Za-z][A-Za-z0-9+.-]*)://([^\s/?#'"]*)@"#).ok());
        static SETTING: LazyLock<Option<Regex>> = LazyLock::new(|| {
            Regex::new(r#"([A-Za-z_][A-Za-z0-9_ -]*)=(?:'([^']*)'|"([^"]*)"|([^\s;&'"]+))"#).ok()
        });
        // To make the patterns takes longer than to read the file.
        if value.contains("://")
            && let Some(person) = PERSON.as_ref()
        {
            for found in person.captures_iter(value) {
                let web =
                    found[1].starts_with("http") || found[1].ends_with("http") || found[1].ends_with("https");
                match found[2].split_once(':') {
                    Some((name, "" | "x-oauth-basic")) if web => self.hide_encoded(name),
                    Some((_, password)) => self.hide_encoded(password),
                    None if web => self.hide_encoded(&found[2]),
                    None => {}
                }
            }
        }
        if value.contains('=')
            && let Some(setting) = SETTING.as_ref()
        {
            for found in setting.captures_iter(value) {
                let text = found.iter().skip(2).flatten().next().map_or("", |text| text.as_str());
                let in_query = value.contains("://") && text.len() >= SHORTEST_IN_QUERY;
                if kind(&[found[1].trim()], text) == Kind::Secret || in_query {
                    self.hide_encoded(text);
                }
            }
        }
        if value.trim_start().starts_with(['{', '['])
            && let Ok(json) = serde_json::from_str::<serde_json::Value>(value)
        {
            self.add_json(names, &json);
        }
    }

    fn add_json(&mut self, names: &[&str], json: &serde_json::Value) {
        match json {
            serde_json::Value::String(text) => self.add(names, text),
            serde_json::Value::Number(number) => self.add_number(names, &number.to_string()),
            serde_json::Value::Array(all) => all.iter().for_each(|value| self.add_json(names, value)),
            serde_json::Value::Object(all) => {
                all.iter().for_each(|(name, value)| self.add_json(&[names, &[name]].concat(), value));
            }
            _ => {}
        }
    }

    /// Adds a part of an address, as it stands there and as it is meant.
    fn hide_encoded(&mut self, text: &str) {
        self.hide(text, true);
        if text.contains('%') {
            self.hide(&percent_decode_str(text).decode_utf8_lossy(), true);
        }
    }
}

/// Goes by the names alone, apart from the place of a file that a name of something secret has.
fn kind(names: &[&str], value: &str) -> Kind {
    let all: Vec<String> = names.iter().map(|name| words(name)).collect();
    let last = all.last().map(|words| words.rsplit('_').next().unwrap_or_default()).unwrap_or_default();
    let secret = all.iter().any(|words| {
        SECRET_PARTS.iter().any(|part| words.contains(part))
            || words.split('_').any(|word| SECRET_WORDS.contains(&word))
    });
    if secret && FILE_WORDS.contains(&last) && value.starts_with('/') && !value.contains(char::is_whitespace)
    {
        Kind::Public
    } else if secret {
        Kind::Secret
    } else if PUBLIC_WORDS.contains(&last) || all.last().is_some_and(|words| words.starts_with("LC_")) {
        Kind::Public
    } else {
        Kind::Unknown
    }
}

/// Returns the words of a name: `databaseName`, `database-name` and `DATABASE_NAME` are the same.
fn words(name: &str) -> String {
    let mut words = String::new();
    let mut lower = false;
    for c in name.chars() {
        if c.is_uppercase() && lower {
            words.push('_');
        }
        lower = c.is_lowercase() || c.is_ascii_digit();
        if c.is_alphanumeric() { words.extend(c.to_uppercase()) } else { words.push('_') }
    }
    words
}

/// Tells whether a value is an address that says no more than where something is: `https://example.org`, `redis://host/0`.
fn is_public_address(value: &str) -> bool {
    let Some((scheme, rest)) = value.split_once("://") else { return false };
    let scheme_only = scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c));
    // The path of a web hook is its password.
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    scheme_only
        && !rest.contains(|c: char| c.is_whitespace() || "@?#,;'\"".contains(c))
        && (path.is_empty() || !scheme.starts_with("http"))
}

/// Tells whether a text stands in another one as words of their own.
fn has_word(text: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(joins) && !text[at + word.len()..].starts_with(joins)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(entries: &[(&str, &str)], shown: &str) -> Vec<String> {
        let mut sensitive = Sensitive::default();
        entries.iter().for_each(|(name, value)| sensitive.add(&[name], value));
        sensitive.hidden(shown)
    }

    #[test]
    fn names_of_things_paths_and_hosts_are_shown() {
        for (name, value) in [
            ("DATABASE_NAME", "coralnet"),
            ("databaseHost", "db.coralnet.org"),
            ("ALLOWED_HOSTS", "coralnet.org,www.coralnet.org"),
            ("MEDIA_ROOT", "/srv/not-there"),
            ("SECRET_KEY_FILE", "/run/secrets/not-there"),
            ("DJANGO_SETTINGS_MODULE", "coralnet.settings"),
            ("LC_MESSAGES", "de_DE.UTF-8"),
            ("LANG", "de_DE.UTF-8"),
            ("SITE_URL", "https://coralnet.org"),
            ("CACHE", "redis://cache.internal:6379/0"),
            ("ANYTHING", "localhost"),
        ] {
            assert_eq!(hidden(&[(name, value)], ""), [""; 0], "{name}");
        }
    }

    #[test]
    fn what_is_not_known_is_hidden() {
        for (name, value) in [
            ("DATABASE_USER", "coralnet"),
            ("SECRET_NAME", "swordfish"),
            ("API_KEY_NAME", "swordfish"),
            ("HOOK", "https://hooks.example.org/services/T000/B000"),
            ("NUMBER", "9876543210123"),
            ("SECRET_KEY_FILE", "swordfish"),
            ("MONKEY", "swordfish"),
        ] {
            assert_eq!(hidden(&[(name, value)], ""), [value], "{name}");
        }
        let mut sensitive = Sensitive::default();
        sensitive.add(&["PASSWORDS", "name"], "swordfish");
        sensitive.add(&["DATABASES", "default", "NAME"], "coralnet");
        sensitive.add_number(&["N"], "1.5e12");
        assert_eq!(sensitive.hidden(""), ["swordfish", "1.5e12", "1500000000000"]);
    }

    #[test]
    fn what_the_configuration_or_another_name_shows_is_shown_unless_it_is_called_secret() {
        let shown = "/srv/coralnet/deploykit.toml https://coralnet.org/ worker_pool";
        let entries = [("DATABASE_USER", "coralnet"), ("WHERE", "coralnet.org"), ("POOL", "worker")];
        assert_eq!(hidden(&entries, shown), ["worker"]);
        assert_eq!(hidden(&[("DATABASE_NAME", "reef_db"), ("DATABASE_USER", "reef_db")], ""), [""; 0]);
        assert_eq!(hidden(&[("DATABASE_PASSWORD", "coralnet"), ("NAME", "coralnet")], shown), ["coralnet"]);
    }

    #[test]
    fn passwords_inside_of_values_are_hidden_alone() {
        let has = |name: &str, value: &str, parts: &[&str]| {
            let found = hidden(&[(name, value)], "db.example");
            for part in parts {
                assert!(found.iter().any(|text| text == part), "{part} of {value}: {found:?}");
            }
        };
        has("DATABASE_URL", "postgres://me:a%40b-secret@db.example/x", &["a%40b-secret", "a@b-secret"]);
        has("REDIS_HOSTS", "redis://:one-pw@a/0,redis://:two-pw@b/0", &["one-pw", "two-pw"]);
        has("INDEX", "https://a-token@host/simple", &["a-token"]);
        has("INDEX_HOST", "https://ghp_token:x-oauth-basic@host/", &["ghp_token"]);
        has("DB", "host=db.example user=me password='sword fish'", &["sword fish"]);
        has("ODBC", "Server=db;Pwd=swordfish;Encrypt=yes", &["swordfish"]);
        has("DB", "postgres://db/x?sslmode=require&password=sword%20fish", &["sword fish"]);
        has("DATABASES", r#"{"default": {"NAME": "x", "PASSWORD": "swordfish"}}"#, &["swordfish"]);
    }
}
