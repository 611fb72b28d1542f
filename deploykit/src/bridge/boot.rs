//! Starts a web server beside the live one, and waits until its workers are at the gate.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use super::web::memory;
use super::{Bridge, BridgeError, LOOK, Unfit, Web};
use crate::command::Command;
use crate::django::{LOADER, Mounted, PROGRAM};
use crate::error::warn;
use crate::host::files;
use crate::host::processes::{self, with_descendants};
use crate::host::{CommandError, Host, start_beside};
use crate::http::BRIDGE_HEADER;
use crate::names;
use crate::services::ProcessId;

/// How many of its log's last lines an exception is looked for in.
const LINES: usize = 30;

/// What is booted, and where.
pub(crate) struct Boot<'b> {
    pub web: &'b Web,
    /// The Python of the version that boots, at its path in the view.
    pub python: PathBuf,
    /// A virtualenv that is shown at the live path, where a symlink may be now.
    pub virtualenv: Option<Mounted>,
    /// What it says of itself; made here.
    pub directory: &'b Path,
    /// Where its output goes.
    pub log: PathBuf,
    /// The staged tree in place of the checkout; `None`: it is the live version, which needs no view.
    pub tree: Option<Mounted>,
    /// Other directories in place of live ones.
    pub show: Vec<Mounted>,
    /// How long it may take.
    pub limit: Duration,
    /// How long its requests may take to end.
    pub stop_timeout: Duration,
}

/// A web server at its gate. It ends with this value, unless its gate is open.
#[derive(Debug)]
pub(crate) struct Booted {
    pub bridge: Bridge,
    pub workers: usize,
    /// How long it took until all workers were at the gate.
    pub boot: Duration,
    /// The memory that it takes, in bytes.
    pub memory: u64,
    process: Child,
}

/// The web servers that wait at their gates. Each ends when this value is dropped, unless its gate is open.
#[derive(Debug, Default)]
pub(crate) struct Bridges {
    pub new: Option<Booted>,
    /// The live version's, which serves if the run is undone.
    pub old: Option<Booted>,
}

/// What a worker says of itself at the gate.
#[derive(Debug, Deserialize)]
struct Ready {
    workers: usize,
    threads: Vec<String>,
    /// What the start of the application left in the event loop.
    #[serde(default)]
    tasks: Vec<String>,
    /// Children that the boot left running.
    #[serde(default)]
    processes: Vec<String>,
    written: Vec<String>,
    /// Files that it may write to, or has locked.
    #[serde(default)]
    files: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Failed {
    reason: String,
}

impl Boot<'_> {
    /// Boots it.
    ///
    /// # Errors
    ///
    /// Why it cannot serve; nothing of it is left then. An interrupted one is an error as well.
    pub(crate) fn perform(&self, host: &Host) -> Result<Booted, Unfit> {
        if let Some(left) = Bridge::left_in(self.directory).map_err(|error| Unfit::of(&error))? {
            left.end().map_err(|error| Unfit::of(&error))?;
        }
        files::remove_tree(self.directory).map_err(|error| Unfit::of(&error))?;
        files::private_directory(self.directory).map_err(|error| Unfit::of(&error))?;
        let log = files::open_private(&self.log).map_err(|error| Unfit::of(&error))?;
        let since = Instant::now();
        let mut process = self.start(host, log).map_err(|error| Unfit::of(&error))?;
        let Some(main) = i32::try_from(process.id()).ok().and_then(ProcessId::of) else {
            // It may run, and nothing would end it.
            let _ = process.kill();
            let _ = process.wait();
            return Err(Unfit::new(
                host.redactor().redact(&self.with_last_words(&format!("{} ended", self.web.server))),
            ));
        };
        let bridge = Bridge {
            directory: self.directory.to_owned(),
            log: self.log.clone(),
            main,
            owner: ProcessId::own(),
            boot: processes::boot(),
            stop_timeout: self.stop_timeout,
        };
        let mut booted = Booted { bridge, workers: 0, boot: Duration::ZERO, memory: 0, process };
        let text = serde_json::to_vec(&booted.bridge).unwrap_or_default();
        files::write_whole(&self.directory.join("bridge.json"), &text, 0o600)
            .map_err(|error| Unfit::of(&error))?;
        booted.workers = self.await_workers(&mut booted, host)?;
        booted.boot = since.elapsed();
        booted.memory = memory(&with_descendants(&[main]));
        Ok(booted)
    }

    fn start(&self, host: &Host, log: File) -> Result<Child, CommandError> {
        let ([soft, hard], owner) = (self.web.files, ProcessId::own());
        let shown = |one: &Mounted| json!([names::text(&one.staged), names::text(&one.live)]);
        let spec = json!({ "bridge": {
            "directory": names::text(self.directory),
            "main": self.web.main.pid,
            "server": self.web.server,
            "is_module": self.web.is_module,
            "argv": self.web.argv,
            "cwd": names::text(&self.web.directory),
            "umask": self.web.umask,
            "nofile": [soft, hard],
            "tree": self.tree.as_ref().map(shown),
            "python": names::text(&self.python),
            "virtualenv": self.virtualenv.as_ref().map(shown),
            "show": self.show.iter().map(shown).collect::<Vec<Value>>(),
            "owner": [owner.pid, owner.started],
            "header": BRIDGE_HEADER,
        } });
        let lines = format!("{}\n{spec}\n", Value::from(PROGRAM));
        // A recovery waits for every Django that `LOADER` started, but must not wait for this one: it serves until it is told to end.
        let loader = format!("{LOADER} # bridge");
        // Any Python will do: in the view, it starts `self.python`.
        let python =
            self.virtualenv.as_ref().map_or(self.python.clone(), |one| one.staged.join("bin/python"));
        let command = Command::new(python).args(["-c", &loader]).directory(self.directory).input(lines);
        start_beside(host, &command, &self.web.variables, log)
    }

    /// Waits until all workers are at the gate; returns how many there are.
    fn await_workers(&self, booted: &mut Booted, host: &Host) -> Result<usize, Unfit> {
        let since = Instant::now();
        loop {
            let ready = self.ready();
            if let Some(first) = ready.first()
                && ready.len() >= first.workers
            {
                return match ready.iter().find_map(|ready| self.fault(ready)) {
                    Some(fault) => Err(fault),
                    None => Ok(first.workers),
                };
            }
            let failed = self.read::<Failed>(&self.directory.join("failed"));
            if let Some(Failed { reason }) = failed {
                return Err(Unfit::new(host.redactor().redact(&self.with_last_words(&reason))));
            }
            if matches!(booted.process.try_wait(), Ok(Some(_))) {
                let log = self.log.file_name().unwrap_or_default().display();
                let ended = format!("{} ended while it booted (see `{log}`)", self.web.server);
                let last = self.with_last_words(&ended);
                return Err(Unfit::new(host.redactor().redact(&last)));
            }
            if since.elapsed() > self.limit {
                return Err(Unfit::new(format!(
                    "{} did not boot within {} s (`start-timeout`)",
                    self.web.server,
                    self.limit.as_secs()
                )));
            }
            if !host.wait(LOOK) {
                return Err(Unfit::new("interrupted"));
            }
        }
    }

    /// Returns what the workers at the gate say.
    fn ready(&self) -> Vec<Ready> {
        let entries = fs::read_dir(self.directory.join("ready")).into_iter().flatten().flatten();
        let of_worker = |path: &PathBuf| path.file_name()?.to_str()?.parse().ok().and_then(ProcessId::of);
        let living = entries.map(|entry| entry.path()).filter(|path| of_worker(path).is_some());
        living.filter_map(|path| self.read(&path)).collect()
    }

    fn read<T: for<'d> Deserialize<'d>>(&self, path: &Path) -> Option<T> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Returns why a worker must not wait at the gate.
    fn fault(&self, ready: &Ready) -> Option<Unfit> {
        let own = ready.threads.iter().map(|name| format!("thread `{name}`"));
        let own = own.chain(ready.tasks.iter().map(|name| format!("task `{name}`")));
        if let Some(own) = own.chain(ready.processes.iter().map(|name| format!("process {name}"))).next() {
            let schema = if self.tree.is_some() { "current" } else { "changed" };
            return Some(Unfit::new(format!(
                "the application starts {own} when it boots, which would run on the {schema} database schema"
            )));
        }
        if let Some(path) = ready.written.first() {
            return Some(Unfit::new(format!("the application writes `{path}` when it boots")));
        }
        let path = ready.files.first().filter(|_| self.tree.is_none())?;
        Some(Unfit::new(format!(
            "the application keeps `{path}` locked or open for writing, and the window may change that file"
        )))
    }

    /// Adds the last exception in its log, which tells a person more than how it ended.
    fn with_last_words(&self, what: &str) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let is_exception = |line: &&str| {
            let name = line.split(':').next().unwrap_or_default();
            !name.contains(' ') && (name.ends_with("Error") || name.ends_with("Exception"))
        };
        let line = text.lines().rev().take(LINES).find(is_exception);
        line.map_or_else(|| what.to_owned(), |line| format!("{what}: {line}"))
    }
}

impl Booted {
    /// Ends it.
    fn end(&mut self) -> Result<(), BridgeError> {
        self.bridge.end()?;
        // It would stay as a zombie.
        let _ = self.process.wait();
        Ok(())
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        // Then it serves, and its fate is in the journal.
        if !self.bridge.is_open() {
            warn(self.end());
        }
    }
}
