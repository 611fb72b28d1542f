//! The web server that serves now, as it was started: its successor is started likewise.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use procfs::process::{LimitValue, Process};

use super::Unfit;
use crate::services::limits::option;
use crate::services::server::Server;
use crate::services::{ProcessId, ServiceState, Status};

/// The servers that can be started beforehand.
const KNOWN: [&str; 3] = ["gunicorn", "uvicorn", "hypercorn"];

/// How the web server was started.
pub(crate) struct Web {
    pub main: ProcessId,
    /// The name of its program.
    pub server: &'static str,
    /// Whether it was started by `python -m`.
    pub is_module: bool,
    /// Its own arguments.
    pub argv: Vec<String>,
    pub variables: HashMap<OsString, OsString>,
    pub directory: PathBuf,
    pub umask: u32,
    /// How many files it may open, the soft and the hard limit; `None`: any number.
    pub files: [Option<u64>; 2],
    /// The memory of all its processes, in bytes.
    pub memory: u64,
}

impl Web {
    /// Looks at a service that runs. `configured` is its command line where its manager knows it.
    pub(crate) fn of(state: &ServiceState, configured: &[String]) -> Result<Self, Unfit> {
        let name = &state.service;
        if state.status != Status::Running {
            return Err(Unfit::new(format!("`{name}` is {}", state.status)));
        }
        let main =
            &main(state).ok_or_else(|| Unfit::new(format!("no single main process of `{name}` is known")))?;
        let unseen = |error: procfs::ProcError| {
            Unfit::new(format!("process {} of `{name}` cannot be looked into: {error}", main.pid))
        };
        let process = Process::new(main.pid).map_err(unseen)?;
        if process.uid().map_err(unseen)? != rustix::process::geteuid().as_raw() {
            return Err(Unfit::new(format!("`{name}` runs as another user")));
        }
        let words = process.cmdline().map_err(unseen)?;
        let server = known(name, Server::of(&words).or_else(|| Server::of(configured)))?;
        let limit = process.limits().map_err(unseen)?.max_open_files;
        let value = |limit: LimitValue| match limit {
            LimitValue::Unlimited => None,
            LimitValue::Value(value) => Some(value),
        };
        Ok(Web {
            main: *main,
            server: server.name,
            is_module: server.is_module,
            argv: server.arguments.to_vec(),
            // The bridge drops those that a manager sets for one process.
            variables: process.environ().map_err(unseen)?,
            directory: started_in(process.cwd().map_err(unseen)?, server),
            umask: process.status().map_err(unseen)?.umask.unwrap_or(0o022),
            files: [value(limit.soft_limit), value(limit.hard_limit)],
            memory: memory(&state.pids),
        })
    }
}

/// Returns the server of a service, or why it cannot be started beforehand.
fn known<'w>(service: &str, server: Option<Server<'w>>) -> Result<Server<'w>, Unfit> {
    match server {
        Some(server) if KNOWN.contains(&server.name) => Ok(server),
        Some(Server { name, .. }) => {
            Err(Unfit::new(format!("`{service}` is {name}, which cannot be started beforehand")))
        }
        None => Err(Unfit::new(format!(
            "no process of `{service}` shows the command line of gunicorn, uvicorn or hypercorn"
        ))),
    }
}

/// Returns the directory that a server was started in, given the one that it is in: a relative `--chdir` of gunicorn counts from
/// there.
fn started_in(directory: PathBuf, server: Server<'_>) -> PathBuf {
    let argv = if server.name == "gunicorn" { server.arguments } else { &[] };
    let inside = option(argv, &["--chdir"]).map(PathBuf::from).filter(|inside| inside.is_relative());
    let inside: PathBuf =
        inside.iter().flat_map(|path| path.components()).filter(|part| *part != Component::CurDir).collect();
    let above = directory.ends_with(&inside).then(|| directory.ancestors().nth(inside.components().count()));
    above.flatten().map(Path::to_owned).unwrap_or(directory)
}

/// Finds the main process of a server among those of a service, where the manager may know none, or one that starts it.
fn main(state: &ServiceState) -> Option<ProcessId> {
    let found: Vec<&ProcessId> =
        state.pids.iter().filter(|process| Server::of(&process.words()).is_some()).collect();
    let parent = |process: &ProcessId| Some(Process::new(process.pid).ok()?.stat().ok()?.ppid);
    let is_child = |process: &ProcessId| {
        parent(process).is_some_and(|parent| found.iter().any(|other| other.pid == parent))
    };
    let mut roots = found.iter().copied().filter(|process| !is_child(process));
    match (roots.next(), roots.next(), state.main.as_slice()) {
        (Some(main), None, _) | (None, _, [main]) => Some(*main),
        _ => None,
    }
}

/// Returns the memory that processes take, in bytes; what several share counts once.
pub(super) fn memory(processes: &[ProcessId]) -> u64 {
    let share = |process: &ProcessId| {
        let all = Process::new(process.pid).and_then(|process| process.smaps_rollup()).ok()?;
        all.memory_map_rollup
            .iter()
            .map(|map| map.extension.map.get("Pss").copied().unwrap_or_default())
            .next()
    };
    processes.iter().filter_map(share).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_servers_are_refused_by_name() {
        let refused = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            known("web", Server::of(&words)).err().map(|Unfit(reason)| reason)
        };
        for line in ["uvicorn --fd 3 a:b", "python -m hypercorn -b fd://3 a:b"] {
            assert_eq!(refused(line), None);
        }
        for (line, reason) in [
            ("/v/bin/python /v/bin/daphne --fd 3 a:b", "`web` is daphne, which cannot be started beforehand"),
            ("granian --interface wsgi a:b", "`web` is granian, which cannot be started beforehand"),
            ("uwsgi --ini a", "no process of `web` shows the command line of gunicorn, uvicorn or hypercorn"),
        ] {
            assert_eq!(refused(line).as_deref(), Some(reason));
        }
    }

    #[test]
    fn a_relative_chdir_counts_from_the_directory_of_the_start() {
        let started = |line: &str| {
            let words: Vec<String> = format!("gunicorn {line}").split(' ').map(str::to_owned).collect();
            started_in("/srv/site/project/app".into(), Server::of(&words).expect("gunicorn"))
                .display()
                .to_string()
        };
        assert_eq!(started("--workers 2 config.wsgi"), "/srv/site/project/app");
        assert_eq!(started("--chdir /srv/site/project/app config.wsgi"), "/srv/site/project/app");
        assert_eq!(started("--chdir ./project/app -c gunicorn.py"), "/srv/site");
        assert_eq!(started("--chdir=app config.wsgi"), "/srv/site/project");
        assert_eq!(started("--chdir . config.wsgi"), "/srv/site/project/app");
        // It does not say where that was.
        assert_eq!(started("--chdir ../other config.wsgi"), "/srv/site/project/app");
    }
}
