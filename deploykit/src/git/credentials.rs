//! Passwords in the addresses of remotes. Git hands an address to its transport as an argument, which everybody on the
//! machine may read; it is told here, by environment variables, to use the address without the password, and to ask for
//! the password a helper that finds it in the environment too. The repository's own configuration stays as it is.
//!
//! Git before 2.31 does not read these variables, and goes on as it did.

use percent_encoding::percent_decode_str;

use crate::command::Command;

/// What of a repository's configuration concerns addresses.
const CONCERNED: &str = r"^(remote\..*\.url|submodule\..*\.url|url\..*\.insteadof)$";

/// What git is told beside its configuration.
#[derive(Default)]
pub(super) struct Credentials {
    settings: Vec<(String, String)>,
    /// The addresses of submodules, by their keys.
    submodules: Vec<(String, String)>,
    logins: Vec<(String, String)>,
}

impl Credentials {
    /// Finds the passwords in what a repository is configured with.
    pub(super) fn of(config: &git2::Config) -> Self {
        let mut found = Vec::new();
        if let Ok(mut entries) = config.entries(Some(CONCERNED)) {
            while let Some(Ok(entry)) = entries.next() {
                if let (Ok(name), Ok(value)) = (entry.name(), entry.value()) {
                    found.push((name.to_owned(), value.to_owned()));
                }
            }
        }
        Credentials::among(&found)
    }

    fn among(config: &[(String, String)]) -> Self {
        let short_forms: Vec<(&str, &str)> = config
            .iter()
            .filter_map(|(key, short)| {
                Some((key.strip_prefix("url.")?.strip_suffix(".insteadof")?, short.as_str()))
            })
            .collect();
        let mut credentials = Credentials::default();
        for (key, written) in config.iter().filter(|(key, _)| !key.starts_with("url.")) {
            let longest = short_forms
                .iter()
                .filter(|(_, short)| written.starts_with(short))
                .max_by_key(|(_, short)| short.len());
            let url = longest.map_or(written.clone(), |(base, short)| {
                format!("{base}{}", written.strip_prefix(short).unwrap_or_default())
            });
            let Some(address) = Address::parse(&url) else { continue };
            if key.starts_with("submodule.") {
                credentials.submodules.push((key.clone(), address.url.clone()));
            }
            // The longer of two short forms counts: no other one is longer than the whole address.
            credentials.set(format!("url.{}.insteadOf", address.url), written);
            credentials.set(format!("url.{}.insteadOf", address.host), &address.secret_host);
            credentials.answer(address);
        }
        credentials
    }

    fn answer(&mut self, address: Address) {
        let Address { url, host, user, password, .. } = address;
        let Some(password) = password else {
            return self.set(format!("credential.{url}.username"), &user);
        };
        let login = (user, password);
        let number = self.logins.iter().position(|known| *known == login).unwrap_or_else(|| {
            self.logins.push(login);
            self.logins.len() - 1
        });
        // It is the shell that writes, not a program with arguments.
        let helper = format!(
            "!f() {{ test \"$1\" = get && printf 'username=%s\\npassword=%s\\n' \
             \"$DEPLOYKIT_GIT_USER_{number}\" \"$DEPLOYKIT_GIT_PASSWORD_{number}\"; }}; f"
        );
        // This address has its password, and asks nobody else; others of the host ask here last, as those do that a
        // submodule derives from this one.
        let own = format!("credential.{url}.helper");
        self.settings.push((own.clone(), String::new()));
        self.settings.push((own, helper.clone()));
        self.set(format!("credential.{host}.helper"), &helper);
    }

    fn set(&mut self, key: String, value: &str) {
        if !self.settings.iter().any(|(known, there)| *known == key && there == value) {
            self.settings.push((key, value.to_owned()));
        }
    }

    /// Tells whether git needs to be told anything.
    pub(super) fn is_empty(&self) -> bool {
        self.settings.is_empty()
    }

    /// Also names the submodules' addresses without their passwords, which git makes arguments of when it clones them.
    /// It must not go into submodules of submodules, which may have the same names.
    pub(super) fn with_submodules(mut self) -> Self {
        self.settings.append(&mut self.submodules);
        self
    }

    /// Tells a git.
    pub(super) fn tell(self, mut command: Command) -> Command {
        if self.is_empty() {
            return command;
        }
        // There may be such settings already; they stay.
        let first = std::env::var("GIT_CONFIG_COUNT").ok().and_then(|count| count.parse().ok()).unwrap_or(0);
        command = command.env("GIT_CONFIG_COUNT", (first + self.settings.len()).to_string());
        for (number, (key, value)) in (first..).zip(self.settings) {
            command = command.secret_env(format!("GIT_CONFIG_KEY_{number}"), key);
            command = command.secret_env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        for (number, (user, password)) in self.logins.into_iter().enumerate() {
            command = command.secret_env(format!("DEPLOYKIT_GIT_USER_{number}"), user);
            command = command.secret_env(format!("DEPLOYKIT_GIT_PASSWORD_{number}"), password);
        }
        command
    }
}

/// An address with somebody's name in it.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    /// Without what is secret in it.
    url: String,
    /// Scheme and host of it, with a slash.
    host: String,
    /// The same with what is secret.
    secret_host: String,
    user: String,
    /// `None`: a helper of the user's knows it.
    password: Option<String>,
}

impl Address {
    /// Reads an address as git does; `None` when there is nothing to hide in it.
    fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) =
            url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))?;
        let (authority, path) = rest.split_once('/')?;
        let (person, host) = authority.split_once('@').filter(|(_, host)| !host.contains(['@', '?', '#']))?;
        // Where no password is beside it, the name itself may be the secret: hosts of repositories take tokens so.
        let (name, shown, password) = match person.split_once(':') {
            Some((name, password @ ("" | "x-oauth-basic"))) => (name, None, Some(password)),
            Some((name, password)) => (name, Some(name), Some(password)),
            None => (person, None, None),
        };
        let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (user, password) = (decoded(name), password.map(decoded));
        // Git refuses such an address.
        if user.contains('\n') || password.as_ref().is_some_and(|password| password.contains('\n')) {
            return None;
        }
        let shown = shown.filter(|name| !name.is_empty()).map(|name| format!("{name}@")).unwrap_or_default();
        Some(Address {
            url: format!("{scheme}://{shown}{host}/{path}"),
            host: format!("{scheme}://{shown}{host}/"),
            secret_host: format!("{scheme}://{authority}/"),
            user,
            password,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_in_an_address_is_found() {
        let parsed = |url: &str| {
            Address::parse(url)
                .map(|address| (address.url, address.user, address.password.unwrap_or_default()))
        };
        let found = |url: &str, user: &str, password: &str| {
            Some((url.to_owned(), user.to_owned(), password.to_owned()))
        };
        for (url, expected) in [
            ("https://me:a%40b@host:8/x.git", found("https://me@host:8/x.git", "me", "a@b")),
            ("https://me:a%+5b%@host/x", found("https://me@host/x", "me", "a%+5b%")),
            ("http://token:x-oauth-basic@host/x", found("http://host/x", "token", "x-oauth-basic")),
            ("https://token:@host/x", found("https://host/x", "token", "")),
            ("https://token@host/x", found("https://host/x", "token", "")),
            ("https://:pw@host/x", found("https://host/x", "", "pw")),
            ("https://host/x@y:z", None),
            ("https://me:a%0ab@host/x", None),
            ("ssh://me:pw@host/x", None),
            ("me@host:x", None),
        ] {
            assert_eq!(parsed(url), expected, "{url}");
        }
    }

    #[test]
    fn a_short_form_with_a_password_is_replaced_whole() {
        let entry = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let credentials = Credentials::among(&[
            entry("url.https://me:pw@host/.insteadof", "host:"),
            entry("remote.origin.url", "host:site.git"),
            entry("remote.other.url", "https://host/other.git"),
        ]);
        let settings: Vec<_> = credentials.settings.iter().map(|(key, value)| (&**key, &**value)).collect();
        assert_eq!(settings[0], ("url.https://me@host/site.git.insteadOf", "host:site.git"));
        assert_eq!(settings[1], ("url.https://me@host/.insteadOf", "https://me:pw@host/"));
        assert_eq!(settings[2], ("credential.https://me@host/site.git.helper", ""));
        assert_eq!(settings.len(), 5, "{settings:?}");
    }
}
