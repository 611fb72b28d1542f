//! Testing your tool: a host that answers commands from a script, and values to show.
//!
//! A tool that embeds deploykit has three parts that its tests reach without a site: what it decides, what it runs, and what
//! it shows.
//!
//! # What it runs
//!
//! [`Host::scripted`](crate::Host::scripted) makes a host that runs no program: a [`Script`] answers. A command that the
//! script does not expect fails with [`CommandError::Unexpected`](crate::CommandError::Unexpected), and
//! [`Script::commands`] returns what was run. This function restarts a queue:
//!
//! ```
//! use deploykit::operations::{self, ApplyError};
//! use deploykit::operations::service_control::{ServiceControl, Want};
//! use deploykit::services::{CommandManager, Manager, Role, Service};
//! use deploykit::testing::{Answer, Script};
//! use deploykit::{Check, Context, Host};
//!
//! fn restart_queue(host: Host) -> Result<Check, ApplyError> {
//!     let words = |text: &str| text.split(' ').map(String::from).collect();
//!     let manager = CommandManager {
//!         start: words("jobs start"),
//!         stop: words("jobs stop"),
//!         status: words("jobs status"),
//!         ..CommandManager::default()
//!     };
//!     let queue = Service::new("queue", Role::Worker, Manager::Command(manager));
//!     let restart = ServiceControl { services: vec![queue], want: Want::Restart };
//!     operations::apply(&restart, &mut Context::from(host))
//! }
//!
//! // It runs, is stopped, and is started again.
//! let script = Script::new()
//!     .always(["jobs", "status"], Answer::default())
//!     .once(["jobs", "stop"], Answer::default())
//!     .always(["jobs", "status"], Answer::exit(3))
//!     .once(["jobs", "start"], Answer::default())
//!     .always(["jobs", "status"], Answer::default());
//! let check = restart_queue(Host::scripted(&script))?;
//! assert!(matches!(check, Check::Change(change) if change.reason == "to restart: queue"));
//! assert_eq!(script.unused(), [""; 0]);
//!
//! // It does not stop, and runs all the time: nothing is to undo.
//! let script = Script::new()
//!     .always(["jobs", "status"], Answer::default())
//!     .once(["jobs", "stop"], Answer::exit(1).stderr("no such queue\n"));
//! let error = restart_queue(Host::scripted(&script)).unwrap_err();
//! assert!(matches!(error, ApplyError::Undone { .. }), "{error}");
//! # Ok::<(), ApplyError>(())
//! ```
//!
//! Only commands are answered. Files are real: use a temporary directory. Connections are real, too: supervisord and web
//! servers are asked over sockets. Git repositories are read as files. The process that boots a Django project is not part
//! of a script, so a whole update needs a real project.
//!
//! # What it decides
//!
//! The decisions of an operation are pure functions from facts to a [`Check`](crate::Check):
//!
//! ```
//! use deploykit::operations::service_control::{ServiceControl, Want};
//! use deploykit::services::{CommandManager, Manager, Role, Service, ServiceState, Status};
//! use deploykit::Check;
//!
//! let web = Service::new("web", Role::Web, Manager::Command(CommandManager::default()));
//! let stop = ServiceControl { services: vec![web], want: Want::Stop };
//! let decided = stop.decide(&[ServiceState::new("web", Status::Stopped)]);
//! assert!(matches!(decided, Check::Unchanged { .. }));
//! ```
//!
//! # What it shows
//!
//! Plans, reports, steps and events have public fields. [`Plan`](crate::plan::Plan), [`Report`](crate::report::Report) and
//! [`Change`](crate::Change) have a default, so that a test names only what it shows:
//!
//! ```
//! use deploykit::event::Outcome;
//! use deploykit::plan::{Phase, Plan, Step, StepKind};
//! use deploykit::report::{Failure, FailureKind, Report};
//! use deploykit::{Action, Change, Check, Command, CommandError, Redactor};
//!
//! fn headline(plan: &Plan) -> String {
//!     let needed = plan.steps.iter().filter(|step| step.is_needed()).count();
//!     format!("{} → {}: {needed} steps", plan.from, plan.to)
//! }
//!
//! let command = Command::new("npm").args(["run", "build"]);
//! let change = Change { actions: vec![Action::Run { command }], ..Change::default() };
//! let steps = vec![Step::new(StepKind::from("assets"), Check::Change(change))];
//! let plan = Plan { from: "ac8db57".into(), to: "063e24d".into(), steps, ..Plan::default() };
//! assert_eq!(headline(&plan), "ac8db57 → 063e24d: 1 steps");
//!
//! let error = CommandError::NotFound { program: "npm".into() };
//! let failure = Failure::new(StepKind::from("assets"), Phase::Window, &error, &Redactor::default());
//! let report = Report { outcome: Outcome::RolledBack, failure: Some(failure), ..Report::default() };
//! let failure = report.failure.as_ref().unwrap();
//! assert_eq!((failure.kind, failure.error.as_str()), (FailureKind::Command, "command not found: `npm`"));
//! ```

pub use crate::host::script::{Answer, Script};
