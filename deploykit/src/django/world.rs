//! A world of its own for a process of the site: what it changes there, the live site never sees.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Collected, Raised};
use crate::host::Host;
use crate::names;

/// What a process in a world of its own sees in place of the live site. Everything else is copy-on-write, and the network ends at
/// this process.
#[derive(Clone, Debug, Default, Serialize)]
pub struct World {
    /// An existing directory of deploykit's for what is written; on a disk, since uploads may be copied into it.
    #[serde(with = "names::one")]
    pub scratch: PathBuf,
    /// The staged tree that appears in the place of the live checkout.
    pub tree: Option<Appears>,
    /// Directories that appear in the place of others.
    #[serde(skip)]
    pub show: Vec<Appears>,
    /// Directories that the site writes much into.
    #[serde(with = "names::many")]
    pub writable: Vec<PathBuf>,
    /// The copies of its databases.
    #[serde(skip)]
    pub copies: Copies,
}

/// A directory that appears in the place of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Appears {
    /// The other one.
    #[serde(with = "names::one")]
    pub live: PathBuf,
    /// What appears.
    #[serde(with = "names::one")]
    pub staged: PathBuf,
}

/// Copies of a site's databases, and the private servers of those that need one.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Copies {
    files: Vec<Value>,
    servers: Vec<Value>,
    show: Vec<Value>,
    empty: Vec<Value>,
    pub(super) expected: Value,
    /// What was copied, in bytes.
    pub bytes: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The aliases without a copy.
    pub skipped: BTreeMap<String, NoCopy>,
    /// The aliases of which only the schema and the rows of Django's own small tables were copied.
    pub schema_only: Vec<String>,
}

/// Why a database was not copied.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NoCopy {
    /// A fragment: "PostgreSQL 15's `initdb` is not installed".
    pub reason: String,
    /// What would help, if that is known: "apt install postgresql-15".
    pub help: Option<String>,
}

/// How pages are served in a world.
#[derive(Clone, Debug)]
pub struct PageServer<'p> {
    /// The Unix socket to make.
    pub socket: &'p Path,
    /// The scheme of the requests: `https`.
    pub scheme: &'p str,
    /// `module:name`; `None`: what `WSGI_APPLICATION` or `ASGI_APPLICATION` says.
    pub application: Option<&'p str>,
    /// URL prefixes that the web server answers from a directory.
    pub files: &'p [(String, PathBuf)],
}

/// What happened while a page was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PageRecord {
    /// The path that was asked for.
    pub path: String,
    /// Exceptions, the first one first.
    pub exceptions: Vec<PageException>,
    /// What it tried to reach besides this machine's own loopback: `api.example.org:443`.
    pub network: Vec<String>,
    /// A file system that cannot be written in this world.
    pub read_only: Option<String>,
}

/// An exception that a page raised.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PageException {
    /// Its type: `django.template.exceptions.TemplateSyntaxError`.
    #[serde(rename = "type")]
    pub exception: String,
    /// Its text.
    pub message: String,
    /// Where: `shop/templates/home.html, line 1`.
    #[serde(rename = "where")]
    pub place: Option<String>,
    /// The last lines of the traceback.
    pub trace: Vec<String>,
}

/// A worker that would not start.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct WorkerFault {
    /// Its command line.
    pub command: String,
    /// Why.
    pub exception: PageException,
    /// What it tried to reach besides this machine's own loopback.
    #[serde(default)]
    pub network: Vec<String>,
}

/// What came of loading what the workers load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Workers {
    /// What was loaded, as fragments: "celery application `config`: 12 tasks".
    pub loaded: Vec<String>,
    /// The workers that would not start.
    pub failed: Vec<WorkerFault>,
    /// Command lines that are not known to load anything.
    pub unknown: Vec<String>,
}

impl Appears {
    /// Returns what the exchange of the static files will bring, as it will be seen; `None`: they stay.
    pub(crate) fn of(collected: &Collected) -> Option<Self> {
        let swap = collected.swap.as_ref()?;
        Some(Appears { live: swap.live.clone(), staged: swap.aside.clone() })
    }
}

impl World {
    /// Returns what the probe is told.
    pub(super) fn spec(&self) -> Value {
        let mut spec = json!(self);
        let show = self.show.iter().map(|one| json!([names::text(&one.staged), names::text(&one.live)]));
        spec["show"] = show.chain(self.copies.show.iter().cloned()).collect();
        spec["files"] = json!(self.copies.files);
        spec["servers"] = json!(self.copies.servers);
        spec["empty"] = json!(self.copies.empty);
        spec
    }
}

impl PageException {
    pub(super) fn redact(&mut self, host: &Host) {
        for text in self.trace.iter_mut().chain([&mut self.message]) {
            *text = host.redactor().redact(text).into_owned();
        }
    }

    /// Returns it as an error that says where it was raised.
    #[must_use]
    pub fn raised(&self) -> Raised {
        let name = self.exception.rsplit('.').next().unwrap_or_default();
        let exception = match &self.place {
            Some(place) => format!("{name} in {place}"),
            None => name.to_owned(),
        };
        Raised { exception, message: self.message.clone(), traceback: self.trace.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_says_where_it_was_raised() {
        let raised = |place: Option<&str>| {
            let exception = "django.template.exceptions.TemplateSyntaxError".to_owned();
            let place = place.map(str::to_owned);
            PageException { exception, message: "Invalid block tag".to_owned(), place, trace: Vec::new() }
                .raised()
                .to_string()
        };
        assert_eq!(
            raised(Some("shop/home.html, line 1")),
            "TemplateSyntaxError in shop/home.html, line 1: Invalid block tag"
        );
        assert_eq!(raised(None), "TemplateSyntaxError: Invalid block tag");
    }

    #[test]
    fn the_copies_are_part_of_what_the_probe_is_told() {
        let copies = json!({
            "files": [["/s/d.sqlite3", "/srv/db.sqlite3"]], "servers": [], "show": [["/s/pg", "/run/postgresql", true]],
            "empty": [], "expected": {}, "bytes": 10, "seconds": 0.5, "skipped": {}, "schema_only": [],
        });
        let appears = |live: &str, staged: &str| Appears { live: live.into(), staged: staged.into() };
        let world = World {
            scratch: "/s".into(),
            tree: Some(appears("/srv/app", "/srv/app.next")),
            show: vec![appears("/srv/static", "/srv/static.next")],
            writable: vec!["/srv/media".into()],
            copies: serde_json::from_value(copies).unwrap(),
        };
        let expected = json!({
            "scratch": "/s",
            "tree": { "live": "/srv/app", "staged": "/srv/app.next" },
            "writable": ["/srv/media"],
            "show": [["/srv/static.next", "/srv/static"], ["/s/pg", "/run/postgresql", true]],
            "files": [["/s/d.sqlite3", "/srv/db.sqlite3"]],
            "servers": [],
            "empty": [],
        });
        assert_eq!(world.spec(), expected);
    }
}
