//! A sandbox: Linux namespaces for a process of the site, in which nothing that it changes reaches the live site.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Collected, Raised};
use crate::host::Host;
use crate::names;

/// Linux namespaces for a process of the site (mounts, network, processes, IPC, users): what it sees in place of the live site.
/// The rest of the file system is copy-on-write, and the network is a loopback interface of its own.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sandbox {
    /// An existing directory of deploykit for what the process writes; on a disk, since uploads may be copied into it.
    #[serde(with = "names::one")]
    pub scratch: PathBuf,
    /// The staged tree in place of the live checkout; `None`: the live version.
    pub tree: Option<Mounted>,
    /// Other directories in place of live ones.
    #[serde(skip)]
    pub show: Vec<Mounted>,
    /// Directories that the site writes to a lot.
    #[serde(with = "names::many")]
    pub writable: Vec<PathBuf>,
    /// The copies of its databases.
    #[serde(skip)]
    pub copies: Copies,
    /// The URL of the scratch database that may hold one of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scratch_url: Option<String>,
}

/// A directory in place of a live one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mounted {
    /// The live directory.
    #[serde(with = "names::one")]
    pub live: PathBuf,
    /// The directory that the process sees there.
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
    proxies: Vec<Value>,
    plain: Vec<String>,
    redis: Vec<String>,
    /// The Redis servers that have none in their place.
    pub in_memory: Option<NoRedis>,
    pub(super) expected: Value,
    /// The size of the copies, in bytes.
    pub bytes: u64,
    /// How long copying took, in seconds.
    pub seconds: f64,
    /// The aliases without a copy, each with the reason.
    pub skipped: BTreeMap<String, NoCopy>,
    /// The aliases of which only the schema and the rows of Django's own small tables were copied.
    pub schema_only: Vec<String>,
    /// The aliases with a copy, each with what was copied.
    pub copied: BTreeMap<String, CopiedDatabase>,
}

/// A live database that was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct CopiedDatabase {
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// How long its copy took, in milliseconds.
    pub duration_ms: u64,
}

/// Why a database was not copied.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NoCopy {
    /// A fragment: "PostgreSQL 15's `initdb` is not installed".
    pub reason: String,
    /// What would allow a copy, if that is known: "apt install postgresql-15".
    pub help: Option<String>,
}

/// Redis servers of the site that have none in their place in a rehearsal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NoRedis {
    /// Their addresses.
    pub servers: Vec<String>,
    /// Why the first one has none: "`redis-server` is not installed".
    pub reason: String,
    /// What would allow one, if that is known.
    pub help: Option<String>,
}

/// How a process serves the site's pages in a rehearsal.
#[derive(Clone, Debug)]
pub struct PageServer<'p> {
    /// The Unix socket to make.
    pub socket: &'p Path,
    /// The scheme of the requests: `https`.
    pub scheme: &'p str,
    /// `module:name`; `None`: the value of `WSGI_APPLICATION` or `ASGI_APPLICATION`.
    pub application: Option<&'p str>,
    /// URL prefixes that the web server serves from a directory.
    pub files: &'p [(String, PathBuf)],
}

/// The record of a request for a page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PageRecord {
    /// The requested path.
    pub path: String,
    /// Exceptions, the first one first.
    pub exceptions: Vec<PageException>,
    /// Nothing handled an exception, and the site's error page was sent, whose status the site chooses.
    pub unhandled: bool,
    /// What the page tried to connect to outside the loopback interface: `api.example.org:443`.
    pub network: Vec<String>,
    /// A path whose write or removal failed only because of the mounts of the sandbox.
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
    /// Where it was raised: `shop/templates/home.html, line 1`.
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
    /// Why it would not start.
    pub exception: PageException,
    /// What it tried to connect to outside the loopback interface.
    #[serde(default)]
    pub network: Vec<String>,
}

/// The result of loading what the workers load when they start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Workers {
    /// What was loaded, as fragments: "celery application `config`: 12 tasks".
    pub loaded: Vec<String>,
    /// The workers that would not start.
    pub failed: Vec<WorkerFault>,
    /// Command lines of which deploykit does not know what they load.
    pub unknown: Vec<String>,
}

impl Copies {
    /// Tells whether one of them is in the scratch database.
    #[must_use]
    pub fn use_scratch(&self) -> bool {
        !self.proxies.is_empty()
    }
}

impl Mounted {
    /// Returns the staged static files in place of the live ones; `None`: they do not change.
    pub(crate) fn of(collected: &Collected) -> Option<Self> {
        let swap = collected.swap.as_ref()?;
        Some(Mounted { live: swap.live.clone(), staged: swap.aside.clone() })
    }
}

impl Sandbox {
    /// Returns the specification for the probe.
    pub(super) fn spec(&self) -> Value {
        let mut spec = json!(self);
        let show = self.show.iter().map(|one| json!([names::text(&one.staged), names::text(&one.live)]));
        spec["show"] = show.chain(self.copies.show.iter().cloned()).collect();
        spec["files"] = json!(self.copies.files);
        spec["servers"] = json!(self.copies.servers);
        spec["empty"] = json!(self.copies.empty);
        spec["proxies"] = json!(self.copies.proxies);
        spec["plain"] = json!(self.copies.plain);
        spec["redis"] = json!(self.copies.redis);
        spec
    }
}

impl PageException {
    pub(super) fn redact(&mut self, host: &Host) {
        for text in self.trace.iter_mut().chain([&mut self.message]) {
            *text = host.redactor().redact(text).into_owned();
        }
    }

    /// Returns the exception as an error that says where it was raised.
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
        let exception = "Http404".to_owned();
        let silent = PageException {
            exception,
            place: Some("views.py, line 3".to_owned()),
            ..PageException::default()
        };
        assert_eq!(silent.raised().to_string(), "Http404 in views.py, line 3");
    }

    #[test]
    fn the_copies_are_part_of_the_specification() {
        let copies = json!({
            "files": [["/s/d.sqlite3", "/srv/db.sqlite3"]], "servers": [], "show": [["/s/pg", "/run/postgresql", true]],
            "empty": [], "proxies": [], "plain": ["default"], "redis": [], "in_memory": null, "expected": {}, "bytes": 10, "seconds": 0.5, "skipped": {},
            "schema_only": [], "copied": { "default": { "size_bytes": 10, "duration_ms": 500 } },
        });
        let appears = |live: &str, staged: &str| Mounted { live: live.into(), staged: staged.into() };
        let sandbox = Sandbox {
            scratch: "/s".into(),
            tree: Some(appears("/srv/app", "/srv/app.next")),
            show: vec![appears("/srv/static", "/srv/static.next")],
            writable: vec!["/srv/media".into()],
            copies: serde_json::from_value(copies).unwrap(),
            scratch_url: None,
        };
        let expected = json!({
            "scratch": "/s",
            "tree": { "live": "/srv/app", "staged": "/srv/app.next" },
            "writable": ["/srv/media"],
            "show": [["/srv/static.next", "/srv/static"], ["/s/pg", "/run/postgresql", true]],
            "files": [["/s/d.sqlite3", "/srv/db.sqlite3"]],
            "servers": [],
            "empty": [],
            "proxies": [],
            "plain": ["default"],
            "redis": [],
        });
        assert_eq!(sandbox.spec(), expected);
    }
}
