//! Commands of `manage.py` in a fork of the Django that waits.
//!
//! That Django was booted from the staged tree. A first fork of it, the twin, replaces whatever names a staged path by the live
//! one and checks that nothing is left; each command is a fork of the twin. See `probe/deploykit_probe/twin.py` and `fork.py`. Once
//! the code and the packages are live, forks of the twin also answer what the waiting Django is asked: they migrate.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::protocol::{self, Line};
use super::session::READ;
use super::twin::Twin;
use super::{Context, DjangoError, Project, Session};
use crate::command::Command;
use crate::host::process::{Grandchild, News};
use crate::host::{CommandError, Host};
use crate::names;

/// The variables that the waiting process has otherwise than a command of `manage.py`.
const VARIABLES: [&str; 3] = ["PATH", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE"];

/// How long the waiting process may take to say how a command ended that was killed.
const ENDED: Duration = Duration::from_secs(30);

/// Why a command cannot be forked; nothing: it can.
#[derive(Debug, Deserialize)]
struct Possible {
    cannot: Option<String>,
}

/// A command that runs.
#[derive(Debug, Deserialize)]
struct Begun {
    pid: u32,
}

/// How a command ended.
#[derive(Debug, Deserialize)]
struct End {
    signal: Option<i32>,
    code: Option<i32>,
}

/// The staged and the live path of what the waiting process was booted from.
#[derive(Debug)]
pub struct Places<'p> {
    /// The live project.
    pub live: &'p Project,
    /// The tree.
    pub tree: [&'p Path; 2],
    /// The virtualenv.
    pub virtualenv: [&'p Path; 2],
    /// Where it is recorded what migrations do to files of the checkout, and where they keep what they remove.
    pub changes: [&'p Path; 2],
}

impl Session {
    /// Begins to make a fork that knows the live places instead of the staged ones, to migrate and to run commands from; returns
    /// why that cannot be. `migrates` says that migrations are pending: what applies them is made at once, too. `is_live` tells
    /// whether the code and the packages of this session are the live ones.
    ///
    /// # Errors
    ///
    /// When the process fails.
    pub fn begin_twin(
        &mut self,
        host: &Host,
        places: &Places<'_>,
        migrates: bool,
        is_live: impl Fn() -> bool + Send + 'static,
    ) -> Result<Option<String>, DjangoError> {
        let command = places.live.manage([""; 0]);
        let variable = |name: &&str| ((*name).to_owned(), variable(host, &command, name).into());
        let variables: Map<String, Value> = VARIABLES.iter().map(variable).collect();
        let [tree, virtualenv] = [places.tree, places.virtualenv].map(|pair| pair.map(names::text));
        let [file, aside] = places.changes.map(names::text);
        let changes = json!({ "file": file, "aside": aside });
        let request = json!({
            "do": "begin_twin", "tree": tree, "packages": virtualenv, "environment": variables, "changes": changes,
            "migrates": migrates,
        });
        let cannot = self.possible(host, request)?;
        if cannot.is_none() {
            self.twin = Some(Twin { live: places.live.clone(), is_live: Box::new(is_live), is_ready: false });
        }
        Ok(cannot)
    }

    /// Waits until that fork is ready, if one was begun; returns why it cannot be.
    ///
    /// # Errors
    ///
    /// When the process fails.
    pub fn end_twin(&mut self, host: &Host) -> Result<Option<String>, DjangoError> {
        let Some(mut twin) = self.twin.take() else { return Ok(None) };
        let cannot = self.possible(host, json!({ "do": "end_twin" }))?;
        if cannot.is_none() {
            twin.is_ready = true;
            self.twin = Some(twin);
        }
        Ok(cannot)
    }

    fn possible(&mut self, host: &Host, request: Value) -> Result<Option<String>, DjangoError> {
        let possible: Possible = self.ask_itself(host, "fork", request, Some(READ))?;
        Ok(possible.cannot.map(|reason| host.redactor().redact(&reason).into_owned()))
    }

    /// Tells whether a fork that knows the live places answers now.
    pub fn is_moved(&self) -> bool {
        self.twin.as_ref().is_some_and(Twin::answers)
    }

    /// Tells whether this command is one of the live site's `manage.py` and can be run in a fork now.
    pub fn can_fork(&self, command: &Command) -> bool {
        self.twin.as_ref().is_some_and(|twin| twin.runs(command))
    }

    /// Runs a command of `manage.py` in a fork of its own, if [that can be](Session::can_fork).
    ///
    /// Its output goes where the output of any command goes. It is ended like any other when the run is cancelled or its deadline
    /// has passed, with its process group.
    ///
    /// # Errors
    ///
    /// [`DjangoError::Command`] when it ends like that or fails, and other errors when the waiting process fails.
    pub fn run_forked(&mut self, host: &Host, command: &Command) -> Result<(), DjangoError> {
        let line = host.redactor().redact(&command.to_string()).into_owned();
        let steady = host.uninterrupted();
        let directory = names::text(command.working_directory().unwrap_or(&self.project.directory));
        let request = json!({ "do": "fork", "argv": command.arguments(), "directory": directory });
        if let Some(process) = &mut self.process {
            // What was said before is none of its output.
            process.take_tail();
        }
        host.note(&format!("$ {line}"));
        let started = Instant::now();
        let begun: Begun = self.ask_itself(&steady, "command", request, Some(READ))?;
        let start = |source| CommandError::Start { command: line.clone(), source };
        let fork = Grandchild::new(begun.pid).map_err(start)?;
        let join = self.write(host, "command", &json!({ "do": "join" }).to_string());
        // What is left running would act beside the undo.
        join.inspect_err(|_| fork.end())?;
        let mut limit = command.time_limit().map(|limit| (started, limit));
        let mut given_up = None;
        let end: End = loop {
            let Some(process) = &mut self.process else {
                return Err(DjangoError::Silent { during: "command", tail: Vec::new() });
            };
            match process.next(limit, &mut |_, _| ()) {
                News::Line(text) => match protocol::parse(&text) {
                    Some(Line::Answer(answer)) => {
                        let garbled = |error: serde_json::Error| DjangoError::Garbled {
                            during: "command",
                            line: error.to_string(),
                        };
                        break serde_json::from_value(answer).map_err(garbled)?;
                    }
                    Some(Line::Fault(fault)) => {
                        fork.end();
                        let program = self.project.manage_py();
                        return Err(fault.into_error("command", &program, host.redactor()));
                    }
                    _ => {
                        fork.end();
                        let line = protocol::shortened(&host.redactor().redact(&text));
                        self.process = None;
                        return Err(DjangoError::Garbled { during: "command", line });
                    }
                },
                News::Ended => {
                    fork.end();
                    return Err(self.ended("command"));
                }
                news if given_up.is_none() => {
                    fork.end();
                    process.set_host(&steady);
                    limit = Some((Instant::now(), ENDED));
                    given_up = Some(news);
                }
                _ => {
                    self.process = None;
                    return Err(DjangoError::Silent { during: "command", tail: Vec::new() });
                }
            }
        };
        let tail = self.process.as_mut().map(|process| process.take_tail()).unwrap_or_default();
        let duration = started.elapsed();
        let failed = match (given_up, end.signal, end.code) {
            (Some(News::Late), ..) => {
                let deadline = command.time_limit().unwrap_or_default();
                CommandError::DeadlinePassed { command: line, deadline, tail }
            }
            (Some(_), ..) => CommandError::Cancelled { command: line },
            (None, Some(signal), _) => CommandError::Killed { command: line, signal, duration, tail },
            (None, None, Some(code)) if command.accepts(code) => return Ok(()),
            (None, None, Some(code)) => CommandError::Failed { command: line, code, duration, tail },
            (None, None, None) => {
                return Err(DjangoError::Garbled { during: "command", line: format!("{end:?}") });
            }
        };
        Err(failed.into())
    }
}

impl Context {
    /// Runs a command, in a fork of the Django that waits where it may and can be.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub(crate) fn run(&mut self, command: &Command) -> Result<(), DjangoError> {
        if command.may_be_forked()
            && let Some(session) = &mut self.django
            && session.can_fork(command)
        {
            return session.run_forked(&self.host, command);
        }
        Ok(self.host.run_unread(command)?)
    }
}

/// Returns the value that a variable has for a command.
fn variable(host: &Host, command: &Command, name: &str) -> Option<String> {
    match command.variables().get(name) {
        Some(value) => value.clone(),
        None => {
            let site = host.variables().get(name).map(ToOwned::to_owned);
            site.or_else(|| std::env::var_os(name).map(|value| names::text(&value)))
        }
    }
}
