//! A command of the site's own that migrates: what is known of it beforehand.

use std::error::Error;
use std::time::Duration;

use crate::action::Action;
use crate::django::{MigrateByCommand, Project, Session};
use crate::host::Host;
use crate::operations::{Change, Check};

/// How long its `--plan` may take.
const PLAN: Duration = Duration::from_secs(600);

/// What Django's `--plan` begins with, for each schema.
const HEADING: &str = "Planned operations:";
const NONE: &str = "No planned migration operations.";

/// A command that migrates in place of `migrate`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct MigrateCommand {
    argv: Vec<String>,
    /// What it would do; `None`: it cannot be asked.
    planned: Option<Planned>,
}

/// What a command says that it would do.
#[derive(Clone, Debug, PartialEq)]
enum Planned {
    Nothing,
    Lines(Vec<String>),
}

impl MigrateCommand {
    /// Fails if there is no such command. Asks its own `--plan` if that is known to change nothing.
    pub(super) fn look(
        argv: &[String],
        project: &Project,
        session: &mut Session,
        host: &Host,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let planned = match session.plans(host, argv)? {
            false => None,
            true => {
                let words = argv.iter().map(String::as_str).chain(["--plan", "--no-color"]);
                Some(read(&host.run(&project.manage(words).deadline(PLAN))?.stdout))
            }
        };
        Ok(MigrateCommand { argv: argv.to_owned(), planned })
    }

    /// Tells whether it runs if the update changes anything.
    pub(super) fn runs(&self) -> bool {
        self.planned != Some(Planned::Nothing)
    }

    /// Tells whether it is known to have something to do.
    pub(super) fn is_due(&self) -> bool {
        matches!(self.planned, Some(Planned::Lines(_)))
    }

    /// Returns the command with its arguments.
    pub(super) fn argv(&self) -> &[String] {
        &self.argv
    }

    /// Describes what is known of the command, as the result of a step.
    pub(super) fn found(&self) -> String {
        let name = self.name();
        match &self.planned {
            None => format!("`{name}` cannot be asked what is pending"),
            Some(Planned::Nothing) => format!("none pending, says `{name} --plan`"),
            Some(Planned::Lines(_)) => format!("some pending, says `{name} --plan`"),
        }
    }

    /// Says why only a copy can undo it.
    pub(super) fn reason(&self) -> String {
        reason(&self.argv)
    }

    fn name(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    /// Runs it; `undo` restores the databases, and `has_copies` says whether they are copied.
    pub(super) fn change(&self, project: &Project, undo: Vec<Action>, has_copies: bool) -> Check {
        if !self.runs() {
            return Check::unchanged(self.found());
        }
        let (project, argv) = (project.clone(), self.argv.clone());
        let details = match &self.planned {
            Some(Planned::Lines(lines)) if !lines.is_empty() => lines.clone(),
            _ => vec![self.found()],
        };
        Check::Change(Change {
            reason: format!("runs `manage.py {}`", self.argv.join(" ")),
            details,
            actions: vec![Action::MigrateByCommand(MigrateByCommand { project, argv })],
            undo,
            irreversible: (!has_copies).then(|| self.reason()),
            ..Change::default()
        })
    }
}

/// Says why only a copy can undo a command.
pub(super) fn reason(argv: &[String]) -> String {
    format!("`manage.py {}`: what it changes is not known", argv.join(" "))
}

/// Reads what `--plan` printed: a plan for each schema or database, each below its heading.
fn read(text: &str) -> Planned {
    let plans = text.lines().filter(|line| line.trim_end().ends_with(HEADING)).count();
    let empty = text.lines().filter(|line| line.trim_end().ends_with(NONE)).count();
    if plans > 0 && plans == empty {
        return Planned::Nothing;
    }
    // The command's own words between them are no migrations.
    let is_one = |line: &&str| {
        let last = line.split_whitespace().last().and_then(|word| word.split_once('.'));
        last.is_some_and(|(app, name)| {
            !app.is_empty() && name.starts_with(|letter: char| letter.is_ascii_digit())
        })
    };
    Planned::Lines(text.lines().filter(is_one).map(|line| line.trim_end().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(planned: Option<Planned>) -> MigrateCommand {
        MigrateCommand { argv: vec!["migrate_schemas".into(), "--shared".into()], planned }
    }

    #[test]
    fn a_plan_is_empty_when_each_of_its_parts_is() {
        let part = |schema: &str, line: &str| {
            format!("[standard:{schema}] {HEADING}\n[standard:{schema}]   {line}\n")
        };
        assert_eq!(read(&format!("{HEADING}\n  {NONE}\n")), Planned::Nothing);
        assert_eq!(read(&(part("public", NONE) + &part("one", NONE))), Planned::Nothing);
        let Planned::Lines(lines) = read(&(part("public", NONE) + &part("one", "shop.0002_price"))) else {
            panic!("something is pending")
        };
        assert_eq!(lines, ["[standard:one]   shop.0002_price"]);
        // What cannot be read is no promise.
        assert_eq!(read(""), Planned::Lines(Vec::new()));
        assert_ne!(read(&format!("{HEADING}\n  {NONE}\n{HEADING}\n")), Planned::Nothing);
    }

    #[test]
    fn what_is_not_known_runs_and_makes_no_update_by_itself() {
        let project = Project::new("p", "d", "s");
        let unknown = command(None);
        assert!(unknown.runs() && !unknown.is_due());
        let Check::Change(change) = unknown.change(&project, Vec::new(), false) else { panic!("it runs") };
        assert_eq!(change.reason, "runs `manage.py migrate_schemas --shared`");
        assert_eq!(
            change.irreversible.unwrap(),
            "`manage.py migrate_schemas --shared`: what it changes is not known"
        );
        assert_eq!(change.details, ["`migrate_schemas` cannot be asked what is pending"]);
        let nothing = command(Some(Planned::Nothing));
        assert!(
            !nothing.runs() && matches!(nothing.change(&project, Vec::new(), true), Check::Unchanged { .. })
        );
        assert!(command(Some(Planned::Lines(Vec::new()))).is_due());
    }
}
