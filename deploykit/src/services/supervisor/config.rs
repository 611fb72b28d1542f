//! Where a supervisord listens, read from its configuration file.
//!
//! Source: <http://supervisord.org/configuration.html>, and `UnhosedConfigParser` in `supervisor/options.py`: Python's
//! `RawConfigParser` with comments after a blank, keys in any case, the last of two equal keys, and `%(name)s`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::host::files::{FileError, parent};
use crate::host::ini::Sections;
use crate::host::{Variables, glob, ini};
use crate::services::ServiceError;

/// Where a supervisord listens, and who may ask it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) place: Place,
    /// User name and password.
    pub(super) credentials: Option<(String, String)>,
}

/// A socket of either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Unix(PathBuf),
    /// `host:port`.
    Http(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Unix(path) => write!(f, "{}", path.display()),
            Place::Http(authority) => write!(f, "http://{authority}"),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({}, with password: {})", self.place, self.credentials.is_some())
    }
}

impl Address {
    /// Reads `unix:///path` or `http://host:port`.
    pub(super) fn of_url(url: &str) -> Result<Self, String> {
        Ok(Address { place: place_of_url(url)?, credentials: None })
    }
}

fn place_of_url(url: &str) -> Result<Place, String> {
    if let Some(path) = url.strip_prefix("unix://").filter(|path| path.starts_with('/')) {
        return Ok(Place::Unix(PathBuf::from(path)));
    }
    let Some(rest) = url.strip_prefix("http://") else {
        return Err("expected `unix:///path` or `http://host:port`".to_owned());
    };
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Err("an address cannot contain a password".to_owned());
    }
    if authority.is_empty() {
        return Err("the address has no host".to_owned());
    }
    Ok(Place::Http(authority.to_owned()))
}

/// Reads the address from a configuration file, or from those that it includes.
pub(super) fn read(path: &Path, environment: &Variables) -> Result<Address, ServiceError> {
    let wrong = |reason: String| ServiceError::Config { path: path.to_owned(), reason };
    let text = read_file(path)?;
    let expand = Expander { here: directory_of(path), environment };
    let sections = ini::parse(&text).map_err(|error| wrong(error.to_string()))?;
    if let Some(address) = address(&sections, &expand).map_err(wrong)? {
        return Ok(address);
    }
    for path in included(&sections, &expand).map_err(wrong)? {
        let wrong = |reason: String| ServiceError::Config { path: path.clone(), reason };
        let expand = Expander { here: directory_of(&path), environment };
        let sections = ini::parse(&read_file(&path)?).map_err(|error| wrong(error.to_string()))?;
        if let Some(address) = address(&sections, &expand).map_err(wrong)? {
            return Ok(address);
        }
    }
    Err(wrong(
        "it has neither `[unix_http_server]` nor `[inet_http_server]` nor `[supervisorctl]`; is it supervisord's main \
         configuration file?"
            .to_owned(),
    ))
}

/// Returns a configuration file and those that it includes.
pub(super) fn files(path: &Path, environment: &Variables) -> Result<Vec<PathBuf>, ServiceError> {
    let wrong = |reason: String| ServiceError::Config { path: path.to_owned(), reason };
    let sections = ini::parse(&read_file(path)?).map_err(|error| wrong(error.to_string()))?;
    let included = included(&sections, &Expander { here: directory_of(path), environment }).map_err(wrong)?;
    Ok([path.to_owned()].into_iter().chain(included).collect())
}

/// Returns the files that a configuration file includes.
fn included(sections: &Sections, expand: &Expander<'_>) -> Result<Vec<PathBuf>, String> {
    let patterns = match sections.get("include", "files") {
        Some(files) => expand.expand("files", files)?,
        None => String::new(),
    };
    let matching = |pattern: &str| glob::matching(&expand.here.join(pattern));
    Ok(patterns.split_whitespace().flat_map(matching).collect())
}

fn read_file(path: &Path) -> Result<String, ServiceError> {
    let bytes = fs::read(path).map_err(|source| FileError { what: "read", path: path.to_owned(), source })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn directory_of(path: &Path) -> PathBuf {
    fs::canonicalize(path).map_or_else(|_| parent(path).to_owned(), |path| parent(&path).to_owned())
}

fn address(sections: &Sections, expand: &Expander<'_>) -> Result<Option<Address>, String> {
    let value = |section: &str, key: &str| -> Result<Option<String>, String> {
        sections.get(section, key).map(|text| expand.expand(key, text)).transpose()
    };
    let credentials = |section: &str| -> Result<Option<(String, String)>, String> {
        match (value(section, "username")?, value(section, "password")?) {
            (Some(user), Some(password)) => Ok(Some((user, password))),
            (None, None) => Ok(None),
            _ => Err(format!("`[{section}]` has only one of `username` and `password`")),
        }
    };
    // The server may keep a hash only; then supervisorctl's section has the password itself.
    let for_server = |section: &str| match credentials(section)? {
        Some((_, password)) if password.starts_with("{SHA}") => match credentials("supervisorctl")? {
            Some(pair) => Ok(Some(pair)),
            None => Err(format!("`[{section}]` has a hashed password, and `[supervisorctl]` has none")),
        },
        pair => Ok(pair),
    };
    let (place, credentials) = if sections.has("unix_http_server") {
        let file = value("unix_http_server", "file")?.ok_or("`[unix_http_server]` has no `file`")?;
        (Place::Unix(expand.path(&file)), for_server("unix_http_server")?)
    } else if sections.has("inet_http_server") {
        let port = value("inet_http_server", "port")?.ok_or("`[inet_http_server]` has no `port`")?;
        (Place::Http(authority(&port)?), for_server("inet_http_server")?)
    } else if sections.has("supervisorctl") {
        let url = value("supervisorctl", "serverurl")?.unwrap_or_else(|| "http://localhost:9001".to_owned());
        let place = match url.strip_prefix("unix://") {
            Some(path) => Place::Unix(expand.path(path)),
            None => place_of_url(&url)?,
        };
        (place, credentials("supervisorctl")?)
    } else {
        return Ok(None);
    };
    Ok(Some(Address { place, credentials }))
}

/// Turns what supervisord listens at into what can be connected to.
fn authority(port: &str) -> Result<String, String> {
    let (host, port) = port.rsplit_once(':').unwrap_or(("", port));
    let number: u16 = port.trim().parse().map_err(|_| format!("`port` is no port number: `{port}`"))?;
    let host = if matches!(host.trim(), "" | "*" | "0.0.0.0") { "127.0.0.1" } else { host.trim() };
    Ok(format!("{host}:{number}"))
}

/// Fills `%(name)s` in, as Python's `%` does.
struct Expander<'a> {
    here: PathBuf,
    environment: &'a Variables,
}

impl Expander<'_> {
    fn expand(&self, key: &str, text: &str) -> Result<String, String> {
        let mut result = String::new();
        let mut rest = text;
        while let Some(start) = rest.find('%') {
            result.push_str(&rest[..start]);
            rest = &rest[start + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                result.push('%');
                rest = after;
                continue;
            }
            let name = rest.strip_prefix('(').and_then(|inner| inner.split_once(")s"));
            let (name, after) =
                name.ok_or_else(|| format!("`{key}` has a `%` that is neither `%%` nor `%(name)s`"))?;
            let value =
                self.value(name).ok_or_else(|| format!("`{key}` names `%({name})s`, which is not known"))?;
            result.push_str(&value);
            rest = after;
        }
        result.push_str(rest);
        Ok(result)
    }

    fn value(&self, name: &str) -> Option<String> {
        match name {
            "here" => Some(self.here.to_string_lossy().into_owned()),
            "host_node_name" => {
                fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned())
            }
            // supervisord's own environment is not to be seen; the site's is the nearest to it.
            _ => {
                let name = name.strip_prefix("ENV_")?;
                self.environment.get(name).map(str::to_owned).or_else(|| std::env::var(name).ok())
            }
        }
    }

    /// supervisord resolves a relative path against the directory that it was started in; the file's own is the best guess.
    fn path(&self, text: &str) -> PathBuf {
        match (text.strip_prefix("~/"), std::env::var_os("HOME")) {
            (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
            _ => self.here.join(text),
        }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz(text: &str) {
    let expand = Expander { here: PathBuf::from("/"), environment: &Variables::new() };
    let _ = ini::parse(text).map(|sections| address(&sections, &expand));
    let _ = (expand.expand("key", text), Address::of_url(text));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_text(text: &str) -> Result<Address, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("supervisord.conf");
        fs::write(&path, text).unwrap();
        let mut variables = Variables::new();
        variables.set("SITE_PASSWORD", "hunter22");
        let here = fs::canonicalize(directory.path()).unwrap().to_string_lossy().into_owned();
        read(&path, &variables)
            .map(|mut address| {
                if let Place::Unix(path) = &address.place {
                    address.place = Place::Unix(path.to_string_lossy().replace(&here, "HERE").into());
                }
                address
            })
            .map_err(|error| {
                error.to_string().rsplit("supervisord.conf`: ").next().unwrap_or_default().to_owned()
            })
    }

    fn pair(user: &str, password: &str) -> Option<(String, String)> {
        Some((user.to_owned(), password.to_owned()))
    }

    #[test]
    fn the_unix_socket_comes_first() {
        let address = read_text(
            "; the site\n[program:x]\ncommand = a\n  b\n[unix_http_server]\nFile = %(here)s/a%%b.sock ; here\n\
             username: me\npassword = ab#c%(ENV_SITE_PASSWORD)s\n[inet_http_server]\nport=9001\n",
        )
        .unwrap();
        assert_eq!(address.place, Place::Unix("HERE/a%b.sock".into()));
        assert_eq!(address.credentials, pair("me", "ab#chunter22"));
        assert!(!format!("{address:?}").contains("hunter22"));
    }

    #[test]
    fn a_port_is_connected_to_on_this_machine() {
        for (port, authority) in [
            ("9001", "127.0.0.1:9001"),
            ("*:9001", "127.0.0.1:9001"),
            (":9001", "127.0.0.1:9001"),
            ("localhost:9001", "localhost:9001"),
        ] {
            let address = read_text(&format!("[inet_http_server]\nport = {port}\n")).unwrap();
            assert_eq!(address.place, Place::Http(authority.to_owned()));
        }
        assert_eq!(read_text("[inet_http_server]\nport = x\n").unwrap_err(), "`port` is no port number: `x`");
    }

    #[test]
    fn the_clients_section_serves_where_there_is_no_server() {
        let address = read_text("[supervisorctl]\nserverurl = unix://sub/s.sock\n").unwrap();
        assert_eq!(address.place, Place::Unix("HERE/sub/s.sock".into()));
        let address = read_text("[supervisorctl]\nusername=a\npassword=b\n").unwrap();
        assert_eq!(address.place, Place::Http("localhost:9001".to_owned()));
        assert_eq!(address.credentials, pair("a", "b"));
    }

    #[test]
    fn a_hashed_password_needs_the_clients_own() {
        let server = "[inet_http_server]\nport=1\nusername=a\npassword={SHA}ff\n";
        let client = "[supervisorctl]\nusername=a\npassword=plain\n";
        assert_eq!(read_text(&format!("{server}{client}")).unwrap().credentials, pair("a", "plain"));
        assert_eq!(
            read_text(server).unwrap_err(),
            "`[inet_http_server]` has a hashed password, and `[supervisorctl]` has none"
        );
    }

    #[test]
    fn what_is_wrong_is_said_without_values() {
        for (text, reason) in [
            ("[unix_http_server]\n", "`[unix_http_server]` has no `file`"),
            (
                "[unix_http_server]\nfile=%(ENV_NO_SUCH)s\n",
                "`file` names `%(ENV_NO_SUCH)s`, which is not known",
            ),
            ("[unix_http_server]\nfile=a%b\n", "`file` has a `%` that is neither `%%` nor `%(name)s`"),
            (
                "[unix_http_server]\nfile=a\npassword=x\n",
                "`[unix_http_server]` has only one of `username` and `password`",
            ),
            ("\nhunter22\n", "line 2: expected `[section]` or `key = value`"),
        ] {
            assert_eq!(read_text(text).unwrap_err(), reason, "{text}");
        }
        assert!(read_text("[program:x]\ncommand=a\n").unwrap_err().contains("main configuration file"));
    }

    #[test]
    fn included_files_are_looked_into() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("main.conf");
        fs::write(&path, "[supervisord]\n[include]\nfiles = none.ini parts/?-*.conf\n").unwrap();
        fs::create_dir(directory.path().join("parts")).unwrap();
        fs::write(directory.path().join("parts/1-web.conf"), "[program:x]\ncommand=a\n").unwrap();
        fs::write(directory.path().join("parts/2-http.conf"), "[inet_http_server]\nport=1\n").unwrap();
        fs::write(directory.path().join("parts/http.conf"), "[inet_http_server]\nport=2\n").unwrap();
        let address = read(&path, &Variables::new()).unwrap();
        assert_eq!(address.place, Place::Http("127.0.0.1:1".to_owned()));
    }

    #[test]
    fn addresses_are_read() {
        assert_eq!(Address::of_url("unix:///run/s.sock").unwrap().place, Place::Unix("/run/s.sock".into()));
        assert_eq!(Address::of_url("http://a:1/").unwrap().place, Place::Http("a:1".to_owned()));
        for wrong in ["unix://s.sock", "https://a/", "http://me:pw@a/", "http://", ""] {
            assert!(Address::of_url(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(text in "[\\[\\]a-z=:;#% \\n()s*]{0,80}") {
            let _ = ini::parse(&text);
            let expand = Expander { here: PathBuf::from("/"), environment: &Variables::new() };
            let _ = expand.expand("key", &text);
            let _ = address(&ini::parse(&format!("[unix_http_server]\n{text}")).unwrap_or_default(), &expand);
        }
    }
}
