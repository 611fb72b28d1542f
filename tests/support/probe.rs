//! The probe, run from its sources in the site's Python and driven by its own protocol.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::database::is_root;
use super::django::{Site, python};
use super::root;

/// Takes the sources' directory, and requests from the standard input.
const START: &str = "import os, sys; sys.path.insert(0, sys.argv[1]); from deploykit_probe import serve; \
    serve.run(os.fdopen(os.dup(0), 'rb'))";

/// A Python that everybody can start: that of the site may be in the home directory of root.
pub const SYSTEM: &str = "/usr/bin/python3";

/// The number of `nobody`, whom PostgreSQL must know, and of the group.
const NOBODY: u32 = 65534;

/// A user without rights.
pub struct User {
    pub id: u32,
    /// The packages of the site's Python.
    packages: PathBuf,
}

impl User {
    /// Returns one who can run sites here; `None`: this process is not root, or the system has another Python.
    pub fn ordinary() -> Option<User> {
        let version = "import sys; print('python%d.%d' % sys.version_info[:2])";
        let said = Command::new(SYSTEM).args(["-c", version]).output().ok()?;
        let library = python()?.ancestors().nth(2)?.join("lib");
        let packages = library.join(String::from_utf8(said.stdout).ok()?.trim()).join("site-packages");
        (is_root() && packages.is_dir()).then_some(User { id: NOBODY, packages })
    }
}

/// A booted probe. It is killed when it is dropped.
pub struct Probe {
    pub child: Child,
    answers: BufReader<ChildStdout>,
}

impl Probe {
    /// Boots a site.
    pub fn boot(site: &Site) -> Probe {
        Probe::boot_with(site, json!({}))
    }

    /// Boots a site with additional configuration.
    pub fn boot_with(site: &Site, more: Value) -> Probe {
        Probe::boot_as(None, site, more)
    }

    /// Boots a site as another user, with its packages.
    pub fn boot_as(user: Option<&User>, site: &Site, more: Value) -> Probe {
        let mut command = Command::new(&site.project.python);
        if let Some(user) = user {
            command = Command::new(SYSTEM);
            command.uid(user.id).gid(user.id).env("PYTHONPATH", &user.packages);
        }
        command.args(["-c", START]).arg(root().join("deploykit/src/django/probe"));
        command.env("PYTHONDONTWRITEBYTECODE", "1").current_dir(site.directory.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python starts");
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut probe = Probe { child, answers };
        let mut configuration = json!({ "directory": site.project.directory, "limit": 30 });
        let fields = configuration.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        probe.send(&configuration);
        let booted = probe.answer();
        assert!(booted["ok"]["pid"].is_number(), "{booted}");
        probe
    }

    /// Sends a request, and returns the whole answer.
    pub fn ask(&mut self, request: &Value) -> Value {
        self.send(request);
        self.answer()
    }

    /// Sends a request, and returns its result; panics if it is an error.
    #[track_caller]
    pub fn ok(&mut self, request: &Value) -> Value {
        let answer = self.ask(request);
        assert!(answer.get("ok").is_some(), "{request}: {answer:#}");
        answer["ok"].clone()
    }

    /// Sends a request.
    pub fn send(&mut self, request: &Value) {
        let input = self.child.stdin.as_mut().expect("a pipe");
        writeln!(input, "{request}").expect("it reads");
    }

    /// Waits for the next answer, and skips reports of progress.
    pub fn answer(&mut self) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.answers.read_line(&mut line).expect("a line"), 0, "it has ended");
            let value = serde_json::from_str(&line).unwrap_or(Value::Null);
            if value.get("ok").is_some() || value.get("error").is_some() {
                return value;
            }
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
