//! Maintenance mode: announced to the users beforehand, and a page while the site is down.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Change, Check, Operation};
use crate::action::{Action, Context};
use crate::django::{Announce, DjangoError, Expected, Project, SiteFacts, StatusFile, read_status};
use crate::host::files::{self, Found};
use crate::host::owners;

/// The page that is shown when the site brings none of its own.
const PAGE: &str = include_str!("maintenance.html");

/// What is shown where no message is given.
const MESSAGE: &str = "This site is being updated.";

/// Turns maintenance on or off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// What is to be reached.
    pub goal: Goal,
    /// The site's own announcement; `None`: it has none, or it is not to be touched.
    pub announcement: Option<Announcement>,
    /// The page; `None`: there is none, or it is not to be touched.
    pub page: Option<Page>,
}

/// What is to be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Maintenance is on.
    On {
        /// From when on; the announcement takes the next whole minute.
        start: Timestamp,
        /// What the users are told.
        message: Option<String>,
        /// How long beforehand they are told at least. In milliseconds where it is stored; 0: no time at all.
        #[serde(rename = "notice_ms", with = "crate::millis")]
        notice: Duration,
    },
    /// Maintenance is off.
    Off,
}

/// The site's management commands for maintenance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// The project whose commands they are.
    pub project: Project,
    /// The command that turns it on, with `{time}` and `{date}` in the site's time zone, and `{message}`, which is left
    /// out together with the option before it when there is no message.
    pub on: Vec<String>,
    /// The command that turns it off.
    pub off: Vec<String>,
    /// The site's `TIME_ZONE`, in which the commands take their time.
    pub time_zone: String,
    /// The file that says whether it is on; `None`: that is not known.
    pub status_file: Option<PathBuf>,
}

/// A page that the web server shows while the file exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The file.
    pub path: PathBuf,
    /// Its HTML; `None`: a plain page with the message.
    pub html: Option<String>,
}

/// What is on now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The announcement; `None`: there is none, or it cannot be known.
    pub announced: Option<StatusFile>,
    /// What the page's file holds; `None`: it is not there.
    pub page: Option<String>,
}

/// Why maintenance cannot be turned on or off, or not then.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MaintenanceError {
    /// The users would not be told early enough.
    #[error("maintenance at {start} would be too soon: the earliest time is {earliest}")]
    TooSoon {
        /// What was asked for.
        start: Timestamp,
        /// What is possible.
        earliest: Timestamp,
    },
    /// The site's time zone is not known here.
    #[error("the time zone `{name}` is not known")]
    TimeZone {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: jiff::Error,
    },
    /// The clock is set back around that time, so that the command would take another one.
    #[error("{start} is ambiguous in `{time_zone}`: clocks are set back that night")]
    Ambiguous {
        /// What was asked for.
        start: Timestamp,
        /// The site's time zone.
        time_zone: String,
    },
    /// The directory of the page is not there.
    #[error("there is no directory `{}` for the maintenance page", path.display())]
    NoDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// A file is in the way, or cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Django.
    #[error(transparent)]
    Django(#[from] DjangoError),
}

impl Announcement {
    /// Finds the commands `maintenanceon` and `maintenanceoff`, as CoralNet has them; `None` when the site has none.
    #[must_use]
    pub fn found_in(project: &Project, facts: &SiteFacts) -> Option<Announcement> {
        let has = |name: &str| facts.commands.iter().any(|command| command == name);
        if !has("maintenanceon") || !has("maintenanceoff") {
            return None;
        }
        let on = ["maintenanceon", "{time}", "--date", "{date}", "--message", "{message}"];
        Some(Announcement {
            project: project.clone(),
            on: on.map(str::to_owned).to_vec(),
            off: vec!["maintenanceoff".into()],
            time_zone: facts.time_zone.clone().unwrap_or_else(|| "UTC".into()),
            status_file: facts.maintenance_status_file.clone(),
        })
    }

    fn action(&self, argv: Vec<String>, expected: Expected) -> Action {
        Action::Announce(Announce {
            project: self.project.clone(),
            argv,
            // CoralNet's command asks "Is this OK? [yN]"; one that does not ask does not read it.
            answer: Some("y\n".into()),
            expected,
            status_file: self.status_file.clone(),
        })
    }
}

impl Operation for Maintenance {
    /// What is to do by the clock and by what is on now.
    type Prepared = Check;
    type Error = MaintenanceError;

    fn name(&self) -> &'static str {
        "maintenance"
    }

    fn prepare(&self, _: &mut Context) -> Result<Check, MaintenanceError> {
        let directory_missing = self.page.as_ref().is_some_and(|page| !files::parent(&page.path).is_dir());
        let facts = Facts { now: Timestamp::now(), status: self.status()?, directory_missing };
        decide(self, &facts)
    }

    fn change(&self, decided: &Check) -> Check {
        decided.clone()
    }
}

impl Maintenance {
    /// Says what is on now; no program is started.
    ///
    /// # Errors
    ///
    /// When a file is there and cannot be read.
    pub fn status(&self) -> Result<Status, MaintenanceError> {
        let file = self.announcement.as_ref().and_then(|announcement| announcement.status_file.as_deref());
        let announced = file.map(read_status).transpose()?.flatten();
        let page = self.page.as_ref().map(|page| read(&page.path)).transpose()?.flatten();
        Ok(Status { announced, page })
    }
}

fn read(path: &Path) -> Result<Option<String>, MaintenanceError> {
    let contents = match files::look(path) {
        Found::Nothing => return Ok(None),
        // A user who may write there could make deploykit show, or overwrite, a file of their choice.
        Found::Link(_) => Err(std::io::Error::other("it is a symbolic link")),
        Found::File if !owners::is_ours(path) => {
            Err(std::io::Error::other("it belongs to somebody else, who is neither the caller nor root"))
        }
        _ => std::fs::read(path),
    };
    match contents {
        Ok(contents) => Ok(Some(String::from_utf8_lossy(&contents).into_owned())),
        Err(source) => Err(MaintenanceError::Read { path: path.to_owned(), source }),
    }
}

/// What a decision needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    now: Timestamp,
    status: Status,
    /// The directory of the page is not there.
    directory_missing: bool,
}

/// Returns the time that is announced for a start: the next whole minute, because the commands take no seconds.
#[must_use]
pub fn announced_time(start: Timestamp) -> Timestamp {
    let second = start.as_second() + i64::from(start.subsec_nanosecond() > 0);
    Timestamp::from_second(second.div_euclid(60) * 60 + if second.rem_euclid(60) > 0 { 60 } else { 0 })
        .unwrap_or(start)
}

fn decide(settings: &Maintenance, facts: &Facts) -> Result<Check, MaintenanceError> {
    match &settings.goal {
        Goal::On { start, message, notice } => turn_on(settings, facts, *start, message.as_deref(), *notice),
        Goal::Off => Ok(turn_off(settings, facts)),
    }
}

fn turn_on(
    settings: &Maintenance,
    facts: &Facts,
    start: Timestamp,
    message: Option<&str>,
    notice: Duration,
) -> Result<Check, MaintenanceError> {
    let mut change = Change { before: words(&facts.status), ..Change::default() };
    let at = announced_time(start);
    if let Some(announcement) = &settings.announcement
        && facts.status.announced.as_ref().and_then(|status| status.at).is_none_or(|on| on > at)
    {
        let earliest = facts.now.checked_add(notice).unwrap_or(Timestamp::MAX);
        if at < earliest {
            return Err(MaintenanceError::TooSoon { start, earliest: announced_time(earliest) });
        }
        let argv = expand(announcement, at, message)?;
        change.details.push(format!("manage.py {}", argv.join(" ")));
        change.actions.push(announcement.action(argv, Expected::On { at }));
        change.after = format!("announced for {at}");
        // Only what deploykit turned on is turned off.
        change.undo.push(match (&facts.status.announced, &announcement.status_file) {
            (Some(old), Some(path)) => write(path, &old.contents),
            _ => announcement.action(announcement.off.clone(), Expected::Off),
        });
    }
    if let Some(page) = &settings.page
        && facts.status.page.is_none()
    {
        if facts.directory_missing {
            return Err(MaintenanceError::NoDirectory { path: files::parent(&page.path).to_owned() });
        }
        let contents = page.html.clone().unwrap_or_else(|| default_page(message.unwrap_or(MESSAGE)));
        change.details.push(format!("the page `{}`", page.path.display()));
        change.actions.push(write(&page.path, &contents));
        change.undo.insert(0, Action::RemoveFile { path: page.path.clone() });
        change.after = join(&change.after, "the page is shown");
    }
    if change.actions.is_empty() {
        let announced = facts.status.announced.as_ref().and_then(|status| status.at);
        let reason = match announced
            .filter(|on| settings.announcement.is_some() && *on < at && *on > facts.now)
        {
            Some(on) => {
                format!("maintenance is announced for {on} already; end that before you announce a later one")
            }
            None => "maintenance is on already".into(),
        };
        return Ok(Check::Unchanged { reason });
    }
    change.reason = "maintenance is to be on".into();
    Ok(Check::Change(change))
}

fn turn_off(settings: &Maintenance, facts: &Facts) -> Check {
    let mut change = Change { before: words(&facts.status), after: "off".into(), ..Change::default() };
    if let (Some(page), Some(contents)) = (&settings.page, &facts.status.page) {
        change.details.push(format!("the page `{}`", page.path.display()));
        change.actions.push(Action::RemoveFile { path: page.path.clone() });
        change.undo.push(write(&page.path, contents));
    }
    // Without a status file it cannot be seen whether it is on.
    if let Some(announcement) = &settings.announcement
        && (announcement.status_file.is_none() || facts.status.announced.is_some())
    {
        change.details.push(format!("manage.py {}", announcement.off.join(" ")));
        change.actions.push(announcement.action(announcement.off.clone(), Expected::Off));
        match (&announcement.status_file, &facts.status.announced) {
            (Some(path), Some(old)) => change.undo.insert(0, write(path, &old.contents)),
            _ => change.irreversible = Some("what was announced before is not known".into()),
        }
    }
    if change.actions.is_empty() {
        return Check::Unchanged { reason: "maintenance is off already".into() };
    }
    change.reason = "maintenance is to be off".into();
    Check::Change(change)
}

fn write(path: &Path, contents: &str) -> Action {
    Action::WriteFile { path: path.to_owned(), contents: contents.to_owned(), mode: 0o644 }
}

/// Fills a command's template, in the site's own time.
fn expand(
    announcement: &Announcement,
    at: Timestamp,
    message: Option<&str>,
) -> Result<Vec<String>, MaintenanceError> {
    let name = &announcement.time_zone;
    let zone =
        TimeZone::get(name).map_err(|source| MaintenanceError::TimeZone { name: name.clone(), source })?;
    let local = at.to_zoned(zone.clone());
    // The command gets a time of the wall clock, and takes the first of two equal ones.
    if zone.to_ambiguous_timestamp(local.datetime()).compatible().ok() != Some(at) {
        return Err(MaintenanceError::Ambiguous { start: at, time_zone: name.clone() });
    }
    let (time, date) = (local.strftime("%H:%M").to_string(), local.strftime("%Y-%m-%d").to_string());
    let mut argv: Vec<String> = Vec::new();
    for word in &announcement.on {
        match (word.as_str(), message) {
            ("{message}", None) => {
                argv.pop_if(|option| option.starts_with('-'));
            }
            // A whole word, so that nothing within the message is taken for a placeholder.
            ("{message}", Some(message)) => argv.push(message.to_owned()),
            (word, _) => {
                let filled = word.replace("{time}", &time).replace("{date}", &date);
                argv.push(filled.replace("{message}", message.unwrap_or(MESSAGE)));
            }
        }
    }
    Ok(argv)
}

fn default_page(message: &str) -> String {
    PAGE.replace("{message}", &escape(message))
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn words(status: &Status) -> String {
    let announced = match &status.announced {
        Some(StatusFile { at: Some(at), .. }) => format!("announced for {at}"),
        Some(_) => "announced".into(),
        None => String::new(),
    };
    let words = if status.page.is_some() { join(&announced, "the page is shown") } else { announced };
    if words.is_empty() { "off".into() } else { words }
}

fn join(first: &str, second: &str) -> String {
    if first.is_empty() { second.to_owned() } else { format!("{first}, {second}") }
}

#[cfg(test)]
mod tests;
