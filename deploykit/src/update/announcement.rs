//! When the window opens, and what users are told of it.

use std::error::Error;
use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::action::Action;
use crate::django::{Session, SiteFacts};
use crate::host::{Host, trial};
use crate::operations::maintenance::{
    Announcement as Commands, Goal, Maintenance, MaintenanceError, Page, announced_time,
};
use crate::operations::{Change, Check, Operation};
use crate::plan::{Step, StepKind};
use crate::site::{AnnounceWhen, Environment, HostRole, Site};
use crate::update::{Request, Start};

type Failed = Box<dyn Error + Send + Sync>;

/// Why users are not told, and no page is shown.
const SHORT: &str = "the window will be short, and requests wait meanwhile";

/// Why a follower tells nobody.
const LEADER: &str = "the leader announces the maintenance";

/// The announcement of one update.
#[derive(Clone, Debug)]
pub(super) struct Announcement {
    /// The site's commands; `None`: users are not told, and the reason.
    commands: Result<Commands, &'static str>,
    page: Option<Page>,
    /// The window will be short, and requests wait meanwhile: users are not told, and no page is shown.
    short: bool,
    message: String,
    notice: Duration,
    start: Start,
    time_zone: Option<String>,
    host: Host,
}

impl Announcement {
    pub(super) fn new(
        site: &Site,
        request: &Request,
        facts: &SiteFacts,
        host: &Host,
        short: bool,
    ) -> Result<Self, Failed> {
        let config = site.config();
        let commands = match (config.environment, site.maintenance_commands(facts)?) {
            (Environment::Production, _) if config.site.role == HostRole::Follower => Err(LEADER),
            (Environment::Production, Some(_)) if short => Err(SHORT),
            (Environment::Production, Some(commands)) => Ok(commands),
            (Environment::Production, None) => Err("the project has no maintenance commands"),
            _ => Err("maintenance is announced in production only"),
        };
        Ok(Announcement {
            commands,
            page: if config.environment == Environment::Development {
                None
            } else {
                site.maintenance_page()?
            },
            short,
            message: request.message.clone().unwrap_or_else(|| config.maintenance.message.clone()),
            notice: config.maintenance.notice,
            // A site that owes its users no notice does not wait for the next whole minute either.
            start: match request.start {
                Start::AfterNotice if config.maintenance.notice.is_zero() => Start::Now,
                start => start,
            },
            time_zone: facts.time_zone.clone(),
            host: host.clone(),
        })
    }

    /// Returns when the window opens, seen from now; `None`: at once, without telling users.
    pub(super) fn starts(&self) -> Result<Option<Timestamp>, Failed> {
        let now = Timestamp::now();
        let told = self.commands.is_ok();
        Ok(match self.start {
            Start::Now => told.then_some(now),
            Start::AfterNotice if told => Some(announced_time(now.checked_add(self.notice)?)),
            Start::AfterNotice => None,
            Start::In(duration) => Some(announced_time(now.checked_add(duration)?)),
            Start::At(time) => Some(next(time, self.time_zone.as_deref(), now)?),
        })
    }

    /// Returns how long a host whose users are told waits until the window opens, at most.
    pub(super) fn opens_in(&self) -> Result<Duration, Failed> {
        let now = Timestamp::now();
        let start = match self.start {
            Start::Now => return Ok(Duration::ZERO),
            Start::AfterNotice => announced_time(now.checked_add(self.notice)?),
            Start::In(duration) => announced_time(now.checked_add(duration)?),
            Start::At(time) => next(time, self.time_zone.as_deref(), now)?,
        };
        Ok(Duration::try_from(start.duration_since(now)).unwrap_or_default())
    }

    /// Tells users, and waits until it is time.
    pub(super) fn steps(&self) -> Result<[Step; 2], Failed> {
        let starts = self.starts()?;
        let announce = match (&self.commands, starts) {
            (Ok(commands), Some(start)) => {
                // Without notice only when that was asked for.
                let notice = if self.start == Start::Now { Duration::ZERO } else { self.notice };
                let start = if self.start == Start::Now { announced_time(start) } else { start };
                let goal = Goal::On { start, message: Some(self.message.clone()), notice };
                let maintenance = Maintenance { goal, announcement: Some(commands.clone()), page: None };
                let mut check = maintenance.check(&self.host)?;
                if let Check::Change(change) = &mut check {
                    change.reason = "users are told".to_owned();
                    change.before.clear();
                    change.after.clear();
                    change.details = vec![format!("“{}”", self.message)];
                }
                check
            }
            (Err(reason), _) => Check::Unchanged { reason: (*reason).to_owned() },
            (Ok(_), None) => Check::Unchanged { reason: "there is no time to announce".to_owned() },
        };
        let wait = match starts {
            Some(until) if self.start != Start::Now && until > Timestamp::now() => {
                let reason = "the window opens then".to_owned();
                Check::Change(Change {
                    reason: "until the announced time".to_owned(),
                    actions: vec![Action::Wait { until, reason }],
                    ..Change::default()
                })
            }
            _ => Check::Unchanged { reason: "the window opens at once".to_owned() },
        };
        Ok([Step::new(StepKind::Announce, announce), Step::new(StepKind::Wait, wait)])
    }

    /// Returns the steps anew, for a run that paused before them; `None`: a time of day stays the planned one, which may be over.
    pub(super) fn renewed(&self) -> Result<Option<[Step; 2]>, Failed> {
        if matches!(self.start, Start::At(_)) {
            return Ok(None);
        }
        self.steps().map(Some)
    }

    /// Shows the page, before the web stops. Also returns what shows it to hold the site, whether it is shown before or not.
    pub(super) fn page_up(&self, web_stops: bool) -> Result<(Check, Option<Action>), Failed> {
        let mut check = match &self.page {
            None => Check::Unchanged { reason: "no page is configured".to_owned() },
            Some(_) if !web_stops => Check::Unchanged { reason: "the web is not stopped".to_owned() },
            Some(page) => {
                let goal = Goal::On {
                    start: Timestamp::now(),
                    message: Some(self.message.clone()),
                    notice: Duration::ZERO,
                };
                let mut check =
                    Maintenance { goal, announcement: None, page: Some(page.clone()) }.check(&self.host)?;
                if let Check::Change(change) = &mut check {
                    trial::can_be_written(&page.path)?;
                    change.reason = page.path.display().to_string();
                    change.before.clear();
                    change.after.clear();
                    change.details.clear();
                }
                check
            }
        };
        let holds = match &check {
            Check::Change(change) => change.actions.first().cloned(),
            Check::Unchanged { .. } => None,
        };
        if self.short && holds.is_some() {
            check = Check::Unchanged { reason: SHORT.to_owned() };
        }
        Ok((check, holds))
    }

    /// Takes the page down again, if it was us who put it up.
    pub(super) fn page_down(&self, page_up: &Check) -> Check {
        match page_up {
            Check::Unchanged { .. } => page_up.clone(),
            Check::Change(change) => Check::Change(Change {
                reason: "the pages are as expected".to_owned(),
                actions: change.undo.clone(),
                undo: change.actions.clone(),
                ..Change::default()
            }),
        }
    }

    /// Ends the announcement, if it was ours: what was there before is there again.
    pub(super) fn off(announce: &Step) -> Check {
        let reason = if announce.is_needed() { "users are told no longer" } else { &announce.change.reason };
        let actions = announce.change.undo.clone();
        Check::Change(Change { reason: reason.to_owned(), actions, ..Change::default() })
    }
}

/// Makes the operation that announces maintenance, and with `page` shows the page.
///
/// # Errors
///
/// When Django does not boot, or there is no such time.
pub fn maintenance_on(
    site: &Site,
    host: &Host,
    start: Start,
    message: Option<&str>,
    page: bool,
) -> Result<Maintenance, Failed> {
    let config = site.config();
    refuse_too_soon(site, start, &crate::git::head(&config.site.repository)?.commit)?;
    let facts = live_facts(site, host)?;
    let now = Timestamp::now();
    let at = match start {
        Start::Now => announced_time(now),
        Start::AfterNotice => announced_time(now.checked_add(config.maintenance.notice)?),
        Start::In(duration) => announced_time(now.checked_add(duration)?),
        Start::At(time) => next(time, facts.time_zone.as_deref(), now)?,
    };
    let notice = if start == Start::Now { Duration::ZERO } else { config.maintenance.notice };
    let message = Some(message.unwrap_or(&config.maintenance.message).to_owned());
    Ok(Maintenance {
        goal: Goal::On { start: at, message, notice },
        announcement: site.maintenance_commands(&facts)?,
        page: if page { site.maintenance_page()? } else { None },
    })
}

/// Makes the operation that ends maintenance, the announcement and the page, no matter who turned it on.
///
/// # Errors
///
/// When Django does not boot.
pub fn maintenance_off(site: &Site, host: &Host) -> Result<Maintenance, Failed> {
    let facts = live_facts(site, host)?;
    let announcement = site.maintenance_commands(&facts)?;
    Ok(Maintenance { goal: Goal::Off, announcement, page: site.maintenance_page()? })
}

/// Refuses a start that is too soon for the notice that users are given, as far as that is certain before Django is booted; `commit`
/// is what has the site's commands.
pub(super) fn refuse_too_soon(site: &Site, start: Start, commit: &str) -> Result<(), Failed> {
    let config = site.config();
    let now = Timestamp::now();
    // What is announced is the next whole minute.
    let start = match start {
        Start::In(duration) if duration + Duration::from_secs(60) <= config.maintenance.notice => {
            announced_time(now.checked_add(duration)?)
        }
        // Whose clock shows it may not be known yet.
        Start::At(time) => match site.time_zone() {
            Some(zone) => next(time, Some(&zone), now)?,
            None => return Ok(()),
        },
        _ => return Ok(()),
    };
    let earliest = now.checked_add(config.maintenance.notice)?;
    if start >= earliest
        || config.environment != Environment::Production
        || config.maintenance.when == AnnounceWhen::Needed
    {
        return Ok(());
    }
    let announces = || -> Result<bool, Failed> {
        let paths = crate::git::Tree::open(&config.site.repository, commit)?.paths()?;
        let has =
            |name: &str| paths.iter().any(|path| path.ends_with(format!("management/commands/{name}.py")));
        Ok(has("maintenanceon") && has("maintenanceoff"))
    };
    if config.maintenance.on.is_some() || announces()? {
        return Err(MaintenanceError::TooSoon { start, earliest: announced_time(earliest) }.into());
    }
    Ok(())
}

fn live_facts(site: &Site, host: &Host) -> Result<SiteFacts, Failed> {
    let mut session = Session::boot(host, &site.project()?)?;
    let facts = session.facts(host)?;
    session.close(host);
    // Nobody's run is needed to keep it, but the directory has to be there.
    if site.state().directory().is_dir() {
        site.remember(&facts);
    }
    Ok(facts)
}

/// Returns when the site's clock shows this time next.
fn next(time: Time, time_zone: Option<&str>, now: Timestamp) -> Result<Timestamp, Failed> {
    let zone = match time_zone {
        Some(name) => TimeZone::get(name)
            .map_err(|source| MaintenanceError::TimeZone { name: name.to_owned(), source })?,
        None => TimeZone::system(),
    };
    let today = now.to_zoned(zone.clone()).date();
    let at = |date: jiff::civil::Date| {
        date.to_datetime(time).to_zoned(zone.clone()).map(|zoned| zoned.timestamp())
    };
    let today_at = at(today)?;
    if today_at > now { Ok(today_at) } else { Ok(at(today.checked_add(SignedDuration::from_hours(24))?)?) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_the_site_s_and_the_next_one() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let los_angeles = Some("America/Los_Angeles");
        let later = next(Time::constant(3, 0, 0, 0), los_angeles, now).unwrap();
        assert_eq!(later.to_string(), "2026-11-22T11:00:00Z");
        let tomorrow = next(Time::constant(1, 0, 0, 0), los_angeles, now).unwrap();
        assert_eq!(tomorrow.to_string(), "2026-11-23T09:00:00Z");
        assert!(next(Time::midnight(), Some("Nowhere/Land"), now).is_err());
    }

    #[test]
    fn a_pause_moves_the_notice_and_no_time_of_day() {
        let announcement = |start: Start| Announcement {
            commands: Err(LEADER),
            page: None,
            short: false,
            message: String::new(),
            notice: Duration::from_secs(1200),
            start,
            time_zone: None,
            host: Host::new(),
        };
        assert!(announcement(Start::At(Time::midnight())).renewed().unwrap().is_none());
        assert!(announcement(Start::AfterNotice).renewed().unwrap().is_some());
        assert_eq!(announcement(Start::Now).opens_in().unwrap(), Duration::ZERO);
        let notice = announcement(Start::AfterNotice).opens_in().unwrap();
        assert!(notice >= Duration::from_secs(1200), "{notice:?}");
    }
}
