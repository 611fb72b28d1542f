//! The lines that come from the probe in the site's Python.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Conflict, DjangoError, Irreversible, MigrationId, MigrationStatement, Part, Raised, TableLock};
use crate::host::Redactor;

/// How much of a line that cannot be understood is shown, in characters.
const SHOWN: usize = 200;

/// Where a migration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It begins.
    Started,
    /// It is applied, or reversed.
    Finished,
}

/// The beginning or end of one migration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MigrationProgress {
    /// The migration.
    #[serde(flatten)]
    pub migration: MigrationId,
    /// Where it is.
    pub phase: Phase,
    /// It is being reversed.
    pub backwards: bool,
    /// How long it took, in seconds, once it is finished.
    pub seconds: Option<f64>,
    /// The alias of the database.
    #[serde(default)]
    pub database: Option<String>,
    /// The tables that it locked; recorded in a rehearsal on PostgreSQL.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locks: Vec<TableLock>,
    /// Its statements that took longest; recorded in a rehearsal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statements: Vec<MigrationStatement>,
}

/// One line of the probe.
#[derive(Debug)]
pub(super) enum Line {
    Answer(Value),
    Progress(MigrationProgress),
    Fault(Box<Fault>),
}

/// An error as the probe describes it; which fields there are depends on its kind.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fault {
    kind: String,
    #[serde(rename = "type")]
    exception: String,
    message: String,
    traceback: Vec<String>,
    database: Option<String>,
    module: Option<String>,
    application: Option<String>,
    storage: Option<String>,
    location: Option<PathBuf>,
    what: Option<String>,
    engine: Option<String>,
    version: Option<String>,
    code: i32,
    reason: Option<String>,
    names: Vec<String>,
    migration: Option<MigrationId>,
    migrations: Vec<Irreversible>,
    apps: Vec<Conflict>,
    unexpected: Vec<MigrationId>,
    missing: Vec<MigrationId>,
}

/// Reads a line; `None` when it is not one of the probe's.
pub(super) fn parse(line: &str) -> Option<Line> {
    let Value::Object(mut fields) = serde_json::from_str(line).ok()? else { return None };
    if fields.contains_key("event") {
        return serde_json::from_value(Value::Object(fields)).ok().map(Line::Progress);
    }
    if let Some(fault) = fields.remove("error") {
        return serde_json::from_value(fault).ok().map(Line::Fault);
    }
    fields.remove("ok").map(Line::Answer)
}

/// Makes a line short enough to be shown.
pub(super) fn shortened(line: &str) -> String {
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

impl Fault {
    /// Turns the description into the error; nothing secret is left in it.
    pub(super) fn into_error(
        self,
        during: &'static str,
        manage_py: &Path,
        redactor: &Redactor,
    ) -> DjangoError {
        let raised = Box::new(Raised {
            exception: self.exception,
            message: redactor.redact(&self.message).into_owned(),
            traceback: self.traceback.iter().map(|line| redactor.redact(line).into_owned()).collect(),
        });
        let broken = |part| DjangoError::Broken { part, raised: raised.clone() };
        match self.kind.as_str() {
            "not_called" => DjangoError::NotCalled { path: manage_py.to_owned() },
            "no_django" => broken(Part::Django),
            "manage" => broken(Part::ManagePy),
            "no_settings" => DjangoError::NoSettings { module: self.module.unwrap_or_default(), raised },
            "settings" => broken(Part::Settings(self.module.unwrap_or_default())),
            "apps" => broken(Part::Apps),
            "urls" => broken(Part::Urls),
            "checks" => broken(Part::Checks),
            "wsgi" => broken(Part::Application(self.application.unwrap_or_default())),
            "static" => broken(Part::StaticFiles),
            "migrations" => broken(Part::Migrations),
            "database" => DjangoError::Database { database: self.database.unwrap_or_default(), raised },
            "no_sandbox" => DjangoError::NoSandbox { reason: self.reason.unwrap_or_default() },
            "not_the_copy" => {
                let reason = raised.message;
                DjangoError::NotTheCopy { database: self.database.unwrap_or_default(), reason }
            }
            "mute" => DjangoError::Mute { database: self.database.unwrap_or_default(), during },
            "busy" => DjangoError::Busy { database: self.database.unwrap_or_default(), sessions: self.names },
            "inconsistent" => DjangoError::Inconsistent { raised },
            "existing" => DjangoError::Existing { things: self.names },
            "conflicts" => DjangoError::Conflicts { apps: self.apps },
            "state_moved" => DjangoError::StateMoved { unexpected: self.unexpected, missing: self.missing },
            "no_command" => DjangoError::NoCommand { command: self.what.unwrap_or_default() },
            "migrate_command" => {
                DjangoError::MigrateCommand { command: self.what.unwrap_or_default(), raised }
            }
            "migration" => DjangoError::MigrationFailed { migration: self.migration, raised },
            "reversal" => DjangoError::ReversalFailed { migration: self.migration, raised },
            "irreversible" => DjangoError::Irreversible { migrations: self.migrations },
            "unsupported" => DjangoError::Unsupported {
                what: self.what.unwrap_or_default(),
                engine: self.engine.unwrap_or_default(),
            },
            "backup" => DjangoError::Backup { raised },
            "tool" => DjangoError::Tool {
                program: self.what.unwrap_or_default(),
                code: self.code,
                tail: raised.traceback,
            },
            "tool_missing" => DjangoError::ToolMissing { program: self.what.unwrap_or_default() },
            "tool_foreign" => DjangoError::ToolForeign {
                program: self.what.unwrap_or_default(),
                maker: self.version.unwrap_or_default(),
                server: self.engine.unwrap_or_default(),
            },
            "tool_too_old" => DjangoError::ToolTooOld {
                program: self.what.unwrap_or_default(),
                version: self.version.unwrap_or_default(),
                server: self.engine.unwrap_or_default(),
            },
            "rights" => DjangoError::RightsMissing { rights: self.names },
            "not_owned" => DjangoError::NotOwned { names: self.names },
            "no_static" => DjangoError::NoStaticFiles,
            "not_relocatable" => DjangoError::NotRelocatable {
                storage: self.storage.unwrap_or_default(),
                location: self.location,
            },
            "collect" => DjangoError::Collect { raised },
            _ => DjangoError::Raised { during, raised },
        }
    }
}

/// Reads bytes as a line of the probe, and an answer as each of its questions would.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    fn read<T: serde::de::DeserializeOwned>(answer: &Value) -> Option<T> {
        serde_json::from_value(answer.clone()).ok()
    }
    let line = String::from_utf8_lossy(bytes);
    let _ = shortened(&line);
    match parse(&line) {
        Some(Line::Answer(answer)) => {
            let _ = (read::<super::SiteFacts>(&answer), read::<super::StaticSources>(&answer));
            let _ = (read::<super::CheckReport>(&answer), read::<super::MigrationPlan>(&answer));
            let _ = read::<super::migrations::Observed>(&answer).map(super::DatabaseState::from);
        }
        Some(Line::Fault(fault)) => {
            let error = fault.into_error("boot", Path::new("/m.py"), &Redactor::new(["x".to_owned()]));
            let _ = (crate::error_chain(&error), error.tail());
        }
        Some(Line::Progress(_)) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error_of(line: &str) -> DjangoError {
        let Some(Line::Fault(fault)) = parse(line) else { panic!("{line}") };
        fault.into_error("boot", Path::new("/m.py"), &Redactor::new(["hunter22".to_owned()]))
    }

    #[test]
    fn an_answer_an_event_and_an_error_are_told_apart() {
        assert!(matches!(parse(r#"{"ok": {}}"#), Some(Line::Answer(_))));
        let event = r#"{"event": "migration", "app": "shop", "name": "0001", "phase": "started", "backwards": false, "seconds": null}"#;
        let Some(Line::Progress(progress)) = parse(event) else { panic!() };
        assert_eq!(progress.migration.to_string(), "shop.0001");
        let error = error_of(
            r#"{"error": {"kind": "settings", "type": "KeyError", "message": "'X'", "module": "c.s"}}"#,
        );
        assert_eq!(error.to_string(), "cannot load settings module `c.s`");
        assert_eq!(error.raised().unwrap().to_string(), "KeyError: 'X'");
    }

    #[test]
    fn what_the_site_prints_is_no_answer() {
        for line in ["", "hello", "[]", "{}", "{\"ok\"", "null", "{\"event\": 1}", "{\"error\": 3}"] {
            assert!(parse(line).is_none(), "{line}");
        }
    }

    #[test]
    fn secrets_are_removed_from_exceptions() {
        let error = error_of(
            r#"{"error": {"kind": "raised", "type": "E", "message": "hunter22", "traceback": ["x = 'hunter22'"]}}"#,
        );
        assert_eq!(error.raised().unwrap().message, "***");
        assert_eq!(error.tail(), ["x = '***'"]);
        assert!(!format!("{error:?}").contains("hunter22"));
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        assert_eq!(shortened(&"ä".repeat(300)).chars().count(), SHOWN + 1);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let line = String::from_utf8_lossy(&bytes);
            let _ = parse(&line);
            let _ = shortened(&line);
        }

        #[test]
        fn no_json_makes_it_panic(kind in "[a-z_]{0,12}", value in "\\PC{0,40}") {
            let line = serde_json::json!({"error": {"kind": kind, "message": value, "migrations": []}}).to_string();
            if let Some(Line::Fault(fault)) = parse(&line) {
                let _ = fault.into_error("x", Path::new("/m"), &Redactor::default()).to_string();
            }
        }
    }
}
