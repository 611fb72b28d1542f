//! A site's maintenance commands, whose exit codes lie: the result is what counts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Context, DjangoError, Project};
use crate::host::Host;
use crate::host::files::FileError;

/// How far the recorded time may be from the wanted one, in seconds: commands take whole minutes.
const TOLERANCE: i64 = 90;

/// How long a maintenance command may take; a large site needs 13 s to boot.
const DEADLINE: Duration = Duration::from_secs(180);

/// What a maintenance command is to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// Maintenance is announced.
    On {
        /// From when on.
        at: Timestamp,
    },
    /// Maintenance is not announced.
    Off,
}

/// Runs one of the site's maintenance commands and checks its result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Announce {
    /// The project whose command it is.
    pub project: Project,
    /// The command with its arguments: `["maintenanceoff"]`.
    pub argv: Vec<String>,
    /// What is answered when it asks; `None`: its input is closed.
    pub answer: Option<String>,
    /// What is to be reached.
    pub expected: Expected,
    /// The file that tells; without one, only what the command says can be checked.
    pub status_file: Option<PathBuf>,
}

/// What the status file says.
///
/// Source: CoralNet's `maintenanceon`: `{"timestamp": SECONDS, "message": HTML}`, removed by `maintenanceoff`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusFile {
    /// From when on; `None` when the file says it in no way that is known.
    pub at: Option<Timestamp>,
    /// The message, where there is one.
    pub message: Option<String>,
    /// The whole of it.
    pub contents: String,
}

/// Reads the status file; `None` when there is none, that is: maintenance is off.
///
/// # Errors
///
/// When it is there and cannot be read.
pub fn read_status(path: &Path) -> Result<Option<StatusFile>, DjangoError> {
    match std::fs::read(path) {
        Ok(contents) => Ok(Some(status_of(String::from_utf8_lossy(&contents).into_owned()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError { what: "read", path: path.to_owned(), source }.into()),
    }
}

fn status_of(contents: String) -> StatusFile {
    let fields: Value = serde_json::from_str(&contents).unwrap_or_default();
    let at = match &fields["timestamp"] {
        Value::Number(seconds) => seconds.as_f64().and_then(seconds_to_timestamp),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    StatusFile { at, message: fields["message"].as_str().map(str::to_owned), contents }
}

fn seconds_to_timestamp(seconds: f64) -> Option<Timestamp> {
    // A number that is no time of this or the next centuries is none.
    (seconds.is_finite() && seconds.abs() < 1e11)
        .then(|| Timestamp::from_second(seconds.round() as i64).ok())
        .flatten()
}

impl Announce {
    /// Does the same as [`perform`](Announce::perform), and spares the start of a process where a Django waits that can be
    /// forked to end the announcement. The status file tells whether it did.
    ///
    /// # Errors
    ///
    /// Like [`perform`](Announce::perform).
    pub fn perform_within(&self, context: &mut Context) -> Result<(), DjangoError> {
        let command = self.project.manage(&self.argv).deadline(DEADLINE);
        if self.expected == Expected::Off
            && let Some(path) = &self.status_file
            && read_status(path)?.is_some()
            && let Some(session) = &mut context.django
            && session.can_fork(&command)
            && let Err(error) = session.run_forked(&context.host, &command)
        {
            log::info!("`{command}` is run once more: {}", crate::error_chain(&error));
        }
        self.perform(&context.host)
    }

    /// Reaches the state, unless it is reached already.
    ///
    /// # Errors
    ///
    /// [`DjangoError::Command`] when the command fails, [`DjangoError::NotAnnounced`] when it only says that it did not.
    pub fn perform(&self, host: &Host) -> Result<(), DjangoError> {
        if let Some(path) = &self.status_file
            && unreached(self.expected, read_status(path)?.as_ref()).is_none()
        {
            return Ok(());
        }
        let mut command = self.project.manage(&self.argv).deadline(DEADLINE);
        if let Some(answer) = &self.answer {
            command = command.input(answer);
        }
        let output = host.run(&command)?;
        let why = match &self.status_file {
            Some(path) => unreached(self.expected, read_status(path)?.as_ref()),
            None => aborted(&output.stdout).then(|| "it aborted".to_owned()),
        };
        match why {
            None => Ok(()),
            Some(why) => Err(DjangoError::NotAnnounced {
                command: format!("manage.py {}", self.argv.join(" ")),
                on: self.expected != Expected::Off,
                why,
                tail: output.tail,
            }),
        }
    }
}

/// Says in what the status is not as expected.
fn unreached(expected: Expected, status: Option<&StatusFile>) -> Option<String> {
    match (expected, status) {
        (Expected::Off, None) => None,
        (Expected::Off, Some(_)) => Some("it is still announced".into()),
        (Expected::On { .. }, None) => Some("it is not announced".into()),
        (Expected::On { .. }, Some(StatusFile { at: None, .. })) => {
            Some("it is announced without a time".into())
        }
        (Expected::On { at: wanted }, Some(StatusFile { at: Some(at), .. })) => {
            ((at.as_second() - wanted.as_second()).abs() > TOLERANCE)
                .then(|| format!("it is announced for {at} instead of {wanted}"))
        }
    }
}

fn aborted(output: &str) -> bool {
    output.to_lowercase().contains("aborting")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(at: &str) -> Expected {
        Expected::On { at: at.parse().unwrap() }
    }

    #[test]
    fn a_status_file_is_read_as_it_comes() {
        let status = status_of(r#"{"timestamp": 1700000000, "message": "<b>Soon</b>"}"#.into());
        assert_eq!(status.at.unwrap().to_string(), "2023-11-14T22:13:20Z");
        assert_eq!(status.message.as_deref(), Some("<b>Soon</b>"));
        assert_eq!(status_of(r#"{"timestamp": 1700000000.4}"#.into()).at, status.at);
        assert_eq!(status_of(r#"{"timestamp": "2023-11-14T22:13:20Z"}"#.into()).at, status.at);
        for odd in ["", "[]", "{}", r#"{"timestamp": 1e300}"#, r#"{"timestamp": "x"}"#] {
            assert_eq!(status_of(odd.into()).at, None, "{odd}");
        }
    }

    #[test]
    fn a_time_that_is_hours_off_is_not_what_was_wanted() {
        let status = |text: &str| status_of(text.to_owned());
        let file = status(r#"{"timestamp": 1700000000}"#);
        assert_eq!(unreached(on("2023-11-14T22:14:00Z"), Some(&file)), None);
        assert_eq!(
            unreached(on("2023-11-14T14:13:00Z"), Some(&file)).unwrap(),
            "it is announced for 2023-11-14T22:13:20Z instead of 2023-11-14T14:13:00Z"
        );
        assert_eq!(unreached(on("2023-11-14T14:13:00Z"), None).unwrap(), "it is not announced");
        assert_eq!(unreached(Expected::Off, Some(&file)).unwrap(), "it is still announced");
        assert_eq!(unreached(Expected::Off, None), None);
    }

    #[test]
    fn a_command_that_says_so_aborted() {
        assert!(aborted("That's soon.\nIs this OK? [yN] Aborting.\n"));
        assert!(!aborted("Maintenance mode on.\n"));
    }
}
