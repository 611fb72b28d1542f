//! What a booted Django does for a rehearsal: outside of a sandbox it copies databases; inside, it answers pages and loads workers.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::{READ, Session};
use crate::command::Command;
use crate::django::{Copies, DjangoError, PageRecord, PageServer, Workers};
use crate::host::Host;
use crate::names;

/// How long the copies of all databases, a change of a copy, or a program of the site's own may take.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);

impl Session {
    /// Says why no process of the site can have a [`Sandbox`](crate::django::Sandbox) here; `None`: it can.
    ///
    /// # Errors
    ///
    /// When the process fails.
    pub fn sandbox_unavailable(
        &mut self,
        host: &Host,
        scratch: &Path,
    ) -> Result<Option<String>, DjangoError> {
        #[derive(Deserialize)]
        struct Answer {
            cannot: Option<String>,
        }
        let request = json!({ "do": "try_sandbox", "scratch": names::text(scratch) });
        self.ask::<Answer>(host, "sandbox", request, Some(READ)).map(|answer| answer.cannot)
    }

    /// Copies databases into a directory, with everything that a [`Sandbox`](crate::django::Sandbox) needs to serve them. Each alias has
    /// a limit in bytes, above which only the schema and the rows of Django's own small tables are copied. `scratch_url` names a
    /// scratch database for `default`, if no private server can have its copy. At most an hour.
    ///
    /// # Errors
    ///
    /// When one cannot be read. One that cannot be copied is in the answer.
    pub fn copy_databases(
        &mut self,
        host: &Host,
        directory: &Path,
        databases: &[(String, u64)],
        scratch_url: Option<&str>,
    ) -> Result<Copies, DjangoError> {
        let aliases: Vec<&String> = databases.iter().map(|(alias, _)| alias).collect();
        let limits: BTreeMap<&String, u64> = databases.iter().map(|(alias, limit)| (alias, *limit)).collect();
        let request = json!({
            "do": "copy_databases",
            "directory": names::text(directory),
            "databases": aliases,
            "limits": limits,
            "nice": host.niceness(),
            "scratch_url": scratch_url,
        });
        self.ask(host, "copy databases", request, Some(LONGEST))
    }

    /// Removes the copy that is in a scratch database. `directory` is the one of the copies, which identifies the site.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached or emptied.
    pub fn clear_scratch(&mut self, host: &Host, url: &str, directory: &Path) -> Result<(), DjangoError> {
        let request =
            json!({ "do": "clear_scratch", "scratch_url": url, "directory": names::text(directory) });
        self.tell(host, "empty the scratch database", request, Some(READ))
    }

    /// Makes sure, in a sandbox, that every alias leads to its copy.
    ///
    /// # Errors
    ///
    /// [`DjangoError::NotTheCopy`].
    pub fn confirm_copies(&mut self, host: &Host, copies: &Copies) -> Result<(), DjangoError> {
        let request = json!({ "do": "confirm_copies", "expected": copies.expected });
        self.tell(host, "connect", request, Some(READ))
    }

    /// Stops the servers of a sandbox in order, so that another one finds in the copies what was changed in this one.
    ///
    /// # Errors
    ///
    /// When one does not stop.
    pub fn stop_servers(&mut self, host: &Host) -> Result<(), DjangoError> {
        self.tell(host, "stop servers", json!({ "do": "stop_servers" }), Some(READ))
    }

    /// Begins to serve the site's pages on a Unix socket, by its WSGI or ASGI application.
    ///
    /// # Errors
    ///
    /// When the application does not load.
    pub fn begin_pages(&mut self, host: &Host, server: &PageServer<'_>) -> Result<(), DjangoError> {
        let files: Vec<_> = server.files.iter().map(|(url, path)| (url, names::text(path))).collect();
        let request = json!({
            "do": "begin_pages",
            "socket": names::text(server.socket),
            "scheme": server.scheme,
            "application": server.application,
            "files": files,
        });
        self.tell(host, "application", request, Some(READ))
    }

    /// Ends that, and returns what happened, request by request; nothing secret is left in it.
    ///
    /// # Errors
    ///
    /// When the process fails.
    pub fn end_pages(&mut self, host: &Host) -> Result<Vec<PageRecord>, DjangoError> {
        #[derive(Deserialize)]
        struct Answer {
            requests: Vec<PageRecord>,
        }
        let mut records =
            self.ask::<Answer>(host, "pages", json!({ "do": "end_pages" }), Some(READ))?.requests;
        for exception in records.iter_mut().flat_map(|record| &mut record.exceptions) {
            exception.redact(host);
        }
        Ok(records)
    }

    /// Loads what workers load that are started by these commands.
    ///
    /// # Errors
    ///
    /// When the process fails.
    pub fn load_workers(&mut self, host: &Host, commands: &[Vec<String>]) -> Result<Workers, DjangoError> {
        let request = json!({ "do": "load_workers", "commands": commands });
        let mut workers: Workers = self.ask(host, "workers", request, Some(READ))?;
        for fault in &mut workers.failed {
            fault.exception.redact(host);
            fault.command = host.redactor().redact(&fault.command).into_owned();
        }
        Ok(workers)
    }

    /// Lowers the priority of this process to that of what works for this host.
    ///
    /// # Errors
    ///
    /// When the process fails.
    pub fn lower_priority(&mut self, host: &Host) -> Result<(), DjangoError> {
        let request = json!({ "do": "lower_priority", "nice": host.niceness() });
        self.tell(host, "lower the priority", request, Some(READ))
    }

    /// Runs a program in the sandbox of this process, which gives it its own variables. At most an hour.
    ///
    /// # Errors
    ///
    /// [`DjangoError::Tool`] when it does not end with 0.
    pub fn run_program(&mut self, host: &Host, command: &Command) -> Result<(), DjangoError> {
        let argv: Vec<&str> = std::iter::once(command.program())
            .chain(command.arguments().iter().map(String::as_str))
            .collect();
        let request = json!({
            "do": "run_program",
            "argv": argv,
            "directory": command.working_directory().map(names::text),
            "environment": command.variables(),
        });
        self.tell(host, "run a program", request, Some(LONGEST))
    }

    /// Returns what was tried to be reached over the network since the process began or was last asked.
    ///
    /// # Errors
    ///
    /// When the process fails.
    pub fn network(&mut self, host: &Host) -> Result<Vec<String>, DjangoError> {
        #[derive(Deserialize)]
        struct Answer {
            tried: Vec<String>,
        }
        self.ask::<Answer>(host, "network", json!({ "do": "network" }), Some(READ)).map(|answer| answer.tried)
    }
}
