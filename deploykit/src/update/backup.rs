//! Whether the database is copied before the migrations, how long that takes, and how the copy is restored.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use crate::action::Action;
use crate::django::{
    BackupDatabase, BackupFacts, BackupRecord, DatabaseState, DjangoError, MigrationPlan, Project, PutBack,
    RestoreDatabase, Session, When, backup_file,
};
use crate::host::Host;
use crate::host::files::InPath;
use crate::operations::Change;
use crate::site::Site;
use crate::state::RunDirectory;
use crate::update::error::PreparationError;

/// A copy that will be made.
#[derive(Debug)]
pub(super) struct Backup {
    pub action: BackupDatabase,
    pub put_back: PutBack,
    /// `None`: only the site's own command knows.
    expected: Option<Expected>,
}

/// What a copy is expected to take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Expected {
    pub file_bytes: u64,
    duration: Duration,
    /// Taken from an earlier copy, not from a rule of thumb.
    measured: bool,
}

/// Tells whether a copy is wanted before these migrations.
pub(super) fn is_wanted(backup: When, plan: &MigrationPlan) -> bool {
    backup.is_wanted(plan.wants_backup()) && !plan.pending.is_empty()
}

/// A copy that is asked for.
pub(super) struct Asked<'a> {
    pub project: &'a Project,
    /// The alias of the database.
    pub alias: &'a str,
    /// Why it is needed.
    pub reasons: &'a [String],
    /// How many bytes the copies of other databases take before.
    pub taken: u64,
    /// It would be made through a pooler that keeps no sessions.
    pub pooled: bool,
}

/// Looks how a copy can be made, and refuses what could not be done in the window.
pub(super) fn prepare(
    site: &Site,
    asked: &Asked<'_>,
    session: &mut Session,
    host: &Host,
    run: &Path,
) -> Result<Backup, Box<dyn Error + Send + Sync>> {
    let config = site.config();
    let (project, database) = (asked.project.clone(), asked.alias.to_owned());
    let file = |ending: &str| run.join(backup_file(asked.alias, ending));
    let own = |argv: &Option<Vec<String>>| argv.as_ref().and_then(|argv| site.command(argv));
    if let Some(command) = own(&config.database.backup_command) {
        let put_back = own(&config.database.restore_command).map_or(PutBack::ByHand, PutBack::Command);
        let action =
            BackupDatabase { project, path: file(""), database, facts: None, command: Some(command) };
        return Ok(Backup { action, put_back, expected: None });
    }
    let facts = match session.on(asked.alias).backup_facts(host) {
        Err(DjangoError::Unsupported { engine, .. }) => {
            let reason = asked.reasons.join("; ");
            return Err(PreparationError::BackupUnsupported { engine, reason }.into());
        }
        other => other?,
    };
    let runs = site.state().runs().unwrap_or_default();
    let expected = expect(&facts, asked.alias, &runs);
    let free = rustix::fs::statvfs(run).at("look at", run)?;
    let free = free.f_bavail.saturating_mul(free.f_frsize);
    let needed = expected.file_bytes.saturating_add(asked.taken);
    if free < needed {
        let (directory, needed) = (run.to_owned(), size(needed));
        return Err(PreparationError::NoRoom { directory, needed, free: size(free) }.into());
    }
    let path = file(match facts.vendor.as_str() {
        "sqlite" => "sqlite3",
        "postgresql" => "dump",
        _ => "sql",
    });
    let action = BackupDatabase { project, path, database, facts: Some(facts), command: None };
    Ok(Backup { action, put_back: PutBack::Itself, expected: Some(expected) })
}

impl Backup {
    /// Says what will be done, what it will take, and why.
    pub(super) fn change(&self, plan: &MigrationPlan) -> Change {
        let reasons = plan.backup_reasons();
        let why = match (plan.irreversible(), reasons.is_empty()) {
            (Some(_), _) => "only the copy can undo the migrations",
            (None, false) if plan.risks().is_some() => "half of a migration may stay when it fails",
            (None, false) => "reversing may lose something",
            (None, true) => "before the migrations",
        };
        self.change_for(why, reasons)
    }

    /// Says what will be done and what it will take, for this reason.
    pub(super) fn change_for(&self, why: &str, details: Vec<String>) -> Change {
        let what = match (&self.expected, &self.put_back) {
            (Some(expected), _) => expected.describe(),
            (None, PutBack::ByHand) => {
                "by `database.backup-command`; you have to restore it yourself".to_owned()
            }
            (None, _) => "by `database.backup-command`".to_owned(),
        };
        Change {
            reason: format!("{what}: {why}"),
            details,
            actions: vec![Action::BackupDatabase(self.action.clone())],
            ..Change::default()
        }
    }

    /// Returns what restores the database to `before` from the copy.
    pub(super) fn restore(&self, before: DatabaseState, reverse_first: bool) -> RestoreDatabase {
        let (project, backup) = (self.action.project.clone(), Some(self.action.path.clone()));
        let put_back = self.put_back.clone();
        RestoreDatabase { put_back, reverse_first, ..RestoreDatabase::new(project, before, backup) }
    }

    /// Returns how many bytes it is expected to take, as far as that is known.
    pub(super) fn file_bytes(&self) -> u64 {
        self.expected.map_or(0, |expected| expected.file_bytes)
    }

    /// Returns how long it is expected to take.
    pub(super) fn duration(&self) -> Duration {
        self.expected.map_or(Duration::ZERO, |expected| expected.duration)
    }
}

/// Returns why half of a failed migration may stay, where no copy will be restored.
pub(super) fn warning(backup: Option<&Backup>, plan: &MigrationPlan) -> Option<String> {
    if backup.is_some_and(|backup| backup.put_back != PutBack::ByHand) {
        return None;
    }
    let risks = plan.risks()?;
    Some(format!("half of a migration may stay when it fails ({risks}); the site is then held"))
}

impl Expected {
    pub(crate) fn describe(&self) -> String {
        let basis = if self.measured { "like the last one" } else { "a rule of thumb" };
        let seconds = self.duration.as_secs_f64().ceil().max(1.0);
        format!("about {} in about {seconds} s ({basis})", size(self.file_bytes))
    }
}

/// Expects what the last copy of the same kind came to, scaled to the size of today; without one, what a middling
/// machine was seen to do.
pub(crate) fn expect(facts: &BackupFacts, alias: &str, runs: &[RunDirectory]) -> Expected {
    let last = runs
        .iter()
        .rev()
        .filter_map(|run| BackupRecord::read(&run.path, alias))
        .find(|record| record.facts.vendor == facts.vendor && record.facts.size_bytes > 0);
    if let Some(last) = last {
        let scaled = |value: u64| {
            let value = u128::from(value) * u128::from(facts.size_bytes) / u128::from(last.facts.size_bytes);
            u64::try_from(value).unwrap_or(u64::MAX)
        };
        let duration = Duration::from_millis(scaled(last.duration_ms));
        return Expected { file_bytes: scaled(last.file_bytes), duration, measured: true };
    }
    // Percent of the database's size, and bytes of the database in a millisecond.
    let (percent, speed) = match facts.vendor.as_str() {
        "sqlite" => (100, 120_000),
        // Compressed, and without the indexes, which the database counts in.
        "postgresql" => (50, 50_000),
        // As text, and without the indexes, which the database counts apart.
        _ => (130, 40_000),
    };
    let file_bytes = facts.size_bytes.saturating_mul(percent) / 100;
    Expected { file_bytes, duration: Duration::from_millis(facts.size_bytes / speed), measured: false }
}

/// Writes a number of bytes for a person.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1_000)),
        1_000_000..10_000_000_000 => format!("{} MB", bytes.div_ceil(1_000_000)),
        _ => format!("{} GB", bytes.div_ceil(1_000_000_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::django::{MigrationId, PendingMigration};

    fn plan(irreversible: &[&str], transactional: bool) -> MigrationPlan {
        let id = MigrationId { app: "shop".into(), name: "0002".into() };
        let irreversible = irreversible.iter().map(|word| (*word).to_owned()).collect();
        let pending =
            PendingMigration { transactional, irreversible, ..PendingMigration::new(id, "default") };
        MigrationPlan { pending: vec![pending], ..MigrationPlan::default() }
    }

    fn nothing() -> MigrationPlan {
        MigrationPlan::default()
    }

    fn backup(expected: Option<Expected>, put_back: PutBack) -> Backup {
        let project = Project::new("p", "d", "s");
        let action = BackupDatabase::new(project, "b".into());
        Backup { action, put_back, expected }
    }

    #[test]
    fn a_copy_is_made_where_it_is_wanted_and_something_migrates() {
        for (backup, plan, wanted) in [
            (When::Auto, plan(&[], true), false),
            (When::Auto, plan(&["RunPython"], true), true),
            (When::Auto, plan(&[], false), true),
            (When::Always, plan(&[], true), true),
            (When::Always, nothing(), false),
            (When::Never, plan(&["RunPython"], false), false),
        ] {
            assert_eq!(is_wanted(backup, &plan), wanted, "{backup:?} {plan:?}");
        }
    }

    #[test]
    fn the_plan_says_what_is_copied_and_why() {
        let expected =
            Expected { file_bytes: 120_000_000, duration: Duration::from_millis(2300), measured: true };
        let itself = backup(Some(expected), PutBack::Itself);
        let change = itself.change(&plan(&["RunSQL without `reverse_sql`"], true));
        assert_eq!(
            change.reason,
            "about 120 MB in about 3 s (like the last one): only the copy can undo the migrations"
        );
        assert_eq!(change.details, ["`shop.0002`: RunSQL without `reverse_sql`"]);
        let change = backup(None, PutBack::ByHand).change(&plan(&[], false));
        assert_eq!(
            change.reason,
            "by `database.backup-command`; you have to restore it yourself: half of a migration may stay when it fails"
        );
        assert_eq!(
            change.details,
            [
                "`shop.0002`: the database commits each change of the schema at once, so half of it may stay when it fails"
            ]
        );
        let change = backup(None, PutBack::Command(Command::new("x"))).change(&plan(&[], true));
        assert_eq!(change.reason, "by `database.backup-command`: before the migrations");
    }

    #[test]
    fn a_half_migration_that_nothing_would_bring_back_is_a_warning() {
        let said = warning(None, &plan(&[], false)).unwrap();
        assert!(said.contains("`shop.0002`") && said.ends_with("the site is then held"), "{said}");
        assert!(warning(Some(&backup(None, PutBack::ByHand)), &plan(&[], false)).is_some());
        assert_eq!(warning(Some(&backup(None, PutBack::Itself)), &plan(&[], false)), None);
        assert_eq!(warning(None, &plan(&["RunPython"], true)), None);
    }

    #[test]
    fn a_copy_is_expected_to_be_like_the_last_one() {
        let facts = |vendor: &str, size_bytes| BackupFacts { vendor: vendor.into(), size_bytes };
        let directory = tempfile::tempdir().unwrap();
        let run = |name: &str, record: Option<BackupRecord>| {
            let path = directory.path().join(name);
            std::fs::create_dir(&path).unwrap();
            if let Some(record) = record {
                std::fs::write(path.join("backup.json"), serde_json::to_string(&record).unwrap()).unwrap();
            }
            RunDirectory { name: name.into(), path }
        };
        let record = |vendor, size_bytes, file_bytes, duration_ms| {
            Some(BackupRecord { facts: facts(vendor, size_bytes), file_bytes, duration_ms })
        };
        let runs = [
            run("20260101-1", record("postgresql", 1000, 1, 1)),
            run("20260101-2", record("postgresql", 1_000_000, 300_000, 4000)),
            run("20260101-3", record("mysql", 1, 1, 1)),
            run("20260101-4", None),
        ];
        let expected = expect(&facts("postgresql", 2_000_000), "default", &runs);
        let duration = Duration::from_secs(8);
        assert_eq!(expected, Expected { file_bytes: 600_000, duration, measured: true });
        let rule = expect(&facts("sqlite", 120_000_000), "default", &runs);
        let duration = Duration::from_secs(1);
        assert_eq!(rule, Expected { file_bytes: 120_000_000, duration, measured: false });
    }
}
