//! The recipe: every step of an update and of a rollback, in order.

use std::error::Error;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::action::Action;
use crate::bridge::{Booted, Bridges};
use crate::command::Command;
use crate::django::{Project, SiteFacts};
use crate::host::Host;
use crate::operations::{Change, Check};
use crate::plan::{LaterRollback, Phase, Plan, PlannedBridge, Step, StepKind};
use crate::services::Role;
use crate::site::{OwnTask, Site};
use crate::update::Request;
use crate::update::announcement::Announcement;
use crate::update::forecast::{Known, forecast};
use crate::update::jobs;
use crate::update::past;
use crate::update::pause;
use crate::update::services::{BACKGROUND, Services};

use StepKind::{
    Backup, Code, Finish, HandOver, Jobs, MaintenanceOff, Migrate, OpenGate, Outputs, PageDown, PageUp,
    SmokeCheck, StartEarly, StartRequired, StartWeb, StartWorkers, Static, StayUp, StopWeb, StopWorkers,
    Virtualenv,
};

/// What the operations answered, in the order of an update.
pub(super) struct Answers {
    pub backup: Check,
    pub code: Check,
    /// `None`: no step of the site's own makes anything.
    pub outputs: Option<Check>,
    pub virtualenv: Check,
    pub static_files: Check,
    pub migrate: Check,
    pub smoke_check: Check,
}

/// Everything that a plan is made of.
pub(super) struct Recipe<'p> {
    pub site: &'p Site,
    pub request: &'p Request,
    pub host: &'p Host,
    pub facts: &'p SiteFacts,
    pub services: &'p Services<'p>,
    pub known: Known,
    /// The web servers at their gates.
    pub bridges: &'p Bridges,
    pub answers: Answers,
    pub course: Course,
    /// The commit that is live, and the one that will be.
    pub commits: [String; 2],
    /// What hosts that serve one site must have in common; `None` in a rollback.
    pub digest: Option<String>,
    /// What the code of the old version could fail at once the migrations are applied; `None` in a rollback, too.
    pub old_code_risk: Option<String>,
    pub notices: Vec<String>,
}

/// Which way it goes.
pub(super) enum Course {
    Update {
        /// Whether it can be rolled back later.
        rollback: LaterRollback,
        /// Why the waiting Django cannot be forked.
        unforked: Option<String>,
    },
    Rollback {
        /// The finished update that is rolled back.
        run: String,
        /// The steps of a tool that are undone with it, each with the built-in step that it followed in the update.
        inserted: Vec<(StepKind, Step)>,
    },
}

/// A plan, and its announcement, from which the steps can be made again with a later time.
pub(super) struct Planned {
    pub plan: Plan,
    pub announcement: Announcement,
}

impl Recipe<'_> {
    pub(super) fn plan(self) -> Result<Planned, Box<dyn Error + Send + Sync>> {
        let Recipe { site, request, services, answers, bridges, .. } = self;
        let (rollback, rolls_back, inserted, unforked) = match self.course {
            Course::Update { rollback, unforked } => (Some(rollback), None, Vec::new(), unforked),
            Course::Rollback { run, inserted } => (None, Some(run), inserted, None),
        };
        let is_rollback = rolls_back.is_some();
        let step = |(kind, check)| Step::new(kind, check);
        let project = site.project()?;
        let own = |step: &Step| match is_rollback {
            true => Vec::new(),
            false => own_steps(site, &project, self.host, step, unforked.as_deref()),
        };
        let with_own = |step: Step| {
            let own = own(&step);
            undone_before(&step, &inserted).into_iter().chain([step]).chain(own)
        };
        let waits_for_leader = undone_by_leader(&answers.migrate);
        let mut changes = vec![
            (Code, answers.code),
            (Virtualenv, answers.virtualenv),
            (Static, answers.static_files),
            (Migrate, end_first(bridges.new.as_ref(), answers.migrate)),
        ];
        changes.splice(1..1, answers.outputs.map(|outputs| (Outputs, outputs)));
        if is_rollback {
            // As the undo of the update would: migrations are reversed while the code that brought them is still live.
            changes.reverse();
        }
        let (mut stop_web, taken_over) = services.stop_web(bridges.old.as_ref());
        if let Check::Change(change) = &mut stop_web {
            change.undo.splice(0..0, waits_for_leader);
        }
        let stop = [(StopWeb, stop_web), (Backup, answers.backup)];
        let start_web = (StartWeb, services.start(&[Role::Web]));
        let (serve, behind_bridge) = match &bridges.new {
            None => (start_web, [None, None]),
            Some(booted) => (
                (OpenGate, services.open_gate(booted)),
                [Some(start_web), Some((HandOver, services.hand_over(&booted.bridge)))],
            ),
        };
        let start =
            [(StartRequired, services.start(&[Role::Required])), serve, (SmokeCheck, answers.smoke_check)];
        let window = stop.into_iter().chain(changes).chain(start);
        let mut window: Vec<Step> = window.map(step).flat_map(with_own).collect();
        mind_own_steps(&mut window);

        let known = Known { is_rollback, ..self.known };
        let short = services.is_short(forecast(site, &window, known));
        let announcement = Announcement::new(site, request, self.facts, self.host, short)?;
        let [announce, wait] = announcement.steps()?;
        let (mut page_up, page) = announcement.page_up(services.web_stops())?;
        let page_down = announcement.page_down(&page_up);
        let early = services.start_early(&page_up).filter(|_| !is_rollback);
        let early = early.is_some_and(|early| start_early(&mut window, early, services.keep_early()));
        let forecast = forecast(site, &window, Known { early, ..known });
        // Once the page is removed: no visitor has to see it while the web service boots, since the old bridge serves.
        let after_page = match &mut page_up {
            Check::Change(change) => Some(&mut change.undo),
            Check::Unchanged { .. } => {
                window.iter_mut().find(|step| step.id == StopWeb).map(|step| &mut step.change.undo)
            }
        };
        after_page.into_iter().for_each(|undo| undo.extend(taken_over.clone()));
        let maintenance_off = Announcement::off(&announce);

        let jobs = jobs::wait(site)?.map(|check| (Jobs, check));
        let before = [announce, wait]
            .into_iter()
            .chain(jobs.map(step))
            .chain([(StopWorkers, services.stop_background()), (PageUp, page_up)].map(step));
        let page_down = with_own(step((PageDown, page_down)));
        let [start_web, hand_over] = behind_bridge;
        let after = [
            start_web,
            Some((StartWorkers, services.start(BACKGROUND))),
            hand_over,
            Some((StayUp, services.stay_up())),
            Some((MaintenanceOff, maintenance_off)),
        ];
        let before = before.flat_map(with_own);
        let after = after.into_iter().flatten().map(step).map(|step| Step { phase: Phase::Finish, ..step });
        let after = after.flat_map(with_own);
        let last = own(&Step::new(Finish, Check::unchanged("the run is over")));
        let mut steps: Vec<Step> = before.chain(window).chain(page_down).chain(after).chain(last).collect();
        if let (Some(_), Some(digest)) = (request.until, &self.digest) {
            pause::insert(&mut steps, site, announcement.opens_in()?, digest, self.old_code_risk.as_deref());
        }
        let [from, to] = self.commits;
        let plan = Plan {
            environment: site.config().environment.as_str().to_owned(),
            from,
            to,
            rolls_back,
            digest: self.digest,
            old_code_risk: self.old_code_risk,
            rollback,
            rehearsal: None,
            starts: announcement.starts()?,
            forecast,
            bridge: bridges.new.as_ref().map(planned),
            old_bridge: bridges.old.as_ref().map(planned),
            steps,
            notices: services.notices().into_iter().chain(self.notices).collect(),
            hold: services.hold(page, bridges),
        };
        Ok(Planned { plan, announcement })
    }
}

fn planned(booted: &Booted) -> PlannedBridge {
    PlannedBridge { workers: booted.workers, memory_bytes: booted.memory }
}

/// Waits until the leader has undone its migrations, which it may have begun while this host was stopped: the old code must not meet
/// the new schema.
fn undone_by_leader(migrate: &Check) -> Vec<Action> {
    let Check::Change(change) = migrate else { return Vec::new() };
    change.undo.iter().filter(|action| matches!(action, Action::FollowMigrations(_))).cloned().collect()
}

/// Ends a web server at its gate before the undo restores the database: nothing else may use that meanwhile.
fn end_first(bridge: Option<&Booted>, migrate: Check) -> Check {
    match (migrate, bridge) {
        (Check::Change(mut change), Some(booted)) if !change.undo.is_empty() => {
            change.undo.insert(0, Action::EndBridge(booted.bridge.clone()));
            Check::Change(change)
        }
        (migrate, _) => migrate,
    }
}

/// Inserts the start of the web before the migrations. Their undo stops the web first, and `start-web` starts it again unless it serves
/// as expected. Returns whether the web starts early.
fn start_early(window: &mut Vec<Step>, early: Check, keep: Action) -> bool {
    let Some(at) = window.iter().position(|step| step.id == Migrate) else { return false };
    let early = match window[at].is_needed() {
        true => early,
        false => Check::unchanged("no migrations run"),
    };
    let early = Step::new(StartEarly, early);
    let is_needed = early.is_needed();
    if is_needed {
        for step in window.iter_mut() {
            match step.id {
                Migrate if !step.change.undo.is_empty() => {
                    step.change.undo.splice(0..0, early.change.undo.iter().cloned());
                }
                StartWeb => {
                    for action in &mut step.change.actions {
                        if let Action::Service(start) = action {
                            start.old.clear();
                        }
                    }
                    step.change.actions.insert(0, keep.clone());
                }
                _ => {}
            }
        }
    }
    window.insert(at, early);
    is_needed
}

/// Returns the steps of a tool that a rollback undoes before one of its own steps, where the undo of the update would.
fn undone_before(step: &Step, inserted: &[(StepKind, Step)]) -> Vec<Step> {
    let followed = match &step.id {
        StopWorkers => StartWorkers,
        PageUp => PageDown,
        StopWeb => StartWeb,
        StartRequired => StopWeb,
        PageDown => PageUp,
        StartWorkers => StopWorkers,
        StartWeb => return Vec::new(),
        change => change.clone(),
    };
    let undone = inserted.iter().filter(|(anchor, _)| *anchor == followed);
    undone.map(|(_, undone)| Step { phase: step.phase, ..undone.clone() }).collect()
}

/// Returns the steps of the site itself that follow a step; `unforked` says why the waiting Django cannot be forked.
fn own_steps(site: &Site, project: &Project, host: &Host, step: &Step, unforked: Option<&str>) -> Vec<Step> {
    let config = site.config();
    let own = config.steps.iter().filter(|own| own.after == step.id).map(|own| {
        let command = own_command(&own.task, &config.site.repository, project, host);
        let (command, reason, details) = match &own.task {
            OwnTask::Manage(args) => {
                let apart = match unforked {
                    _ if own.process => Some("`process` is set"),
                    _ if !own.may_be_forked() => Some("the new version is not live yet"),
                    reason => reason,
                };
                let (command, place) = match apart {
                    None => (command.forked(), "in a fork of the waiting Django".to_owned()),
                    Some(reason) => (command, format!("in a process of its own: {reason}")),
                };
                (command, format!("manage.py {}", args.join(" ")), vec![place])
            }
            OwnTask::Run(argv) => (command, argv.join(" "), Vec::new()),
        };
        let actions =
            own.memory().map(Action::NeedMemory).into_iter().chain([Action::Run { command }]).collect();
        let change = Change { reason, details, actions, ..Change::default() };
        Step { id: StepKind::Own(own.name.clone()), phase: step.phase, change }
    });
    own.collect()
}

/// Makes the command of a step of the site's own. A program runs in a tree, as in the project's activated virtualenv; `./name` is a
/// file of that tree.
pub(super) fn own_command(task: &OwnTask, tree: &Path, project: &Project, host: &Host) -> Command {
    let argv = match task {
        OwnTask::Manage(args) => return project.manage(args),
        OwnTask::Run(argv) => argv,
    };
    let program = argv.first().map_or("", String::as_str);
    let program = match program.strip_prefix("./") {
        Some(rest) => tree.join(rest),
        None => PathBuf::from(program),
    };
    let command = Command::new(program).args(argv.iter().skip(1)).directory(tree).with_site_variables();
    let path = host.variables().get("PATH").map(Into::into).or_else(|| std::env::var_os("PATH"));
    project.activate(command, path)
}

/// Keeps the undo of the static files from taking along files that an own step wrote since: the old version would be served
/// with the new one's manifest of compressed files.
pub(super) fn mind_own_steps(window: &mut [Step]) {
    let Some(at) = window.iter().position(|step| step.id == StepKind::Static) else { return };
    let (static_files, after) = window.split_at_mut(at + 1);
    // From then on users write, too.
    let mut before_web =
        after.iter().take_while(|step| !matches!(step.id, StepKind::OpenGate | StepKind::StartWeb));
    if before_web.any(|step| past::has_own(&step.change.actions)) {
        for action in static_files.iter_mut().skip(at).flat_map(|step| &mut step.change.undo) {
            if let Action::LinkLateFiles(late) = action {
                late.steps_until = Some(Timestamp::MAX);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Phase;

    #[test]
    fn the_undo_of_migrations_first_stops_a_web_that_was_started_before_them() {
        let action = |path: &str| Action::RemoveFile { path: path.into() };
        let change = |does: &str, undo: &str| {
            Check::Change(Change {
                actions: vec![action(does)],
                undo: vec![action(undo)],
                ..Change::default()
            })
        };
        let window = || {
            let kinds = [Static, Migrate, StartRequired, StartWeb, SmokeCheck];
            kinds.map(|kind| Step::new(kind, change("done", "undone"))).to_vec()
        };
        let early = change("started", "stopped");
        let mut steps = window();
        assert!(start_early(&mut steps, early.clone(), action("kept")));
        let kinds: Vec<_> = steps.iter().map(|step| step.id.clone()).collect();
        assert_eq!(kinds, [Static, StartEarly, Migrate, StartRequired, StartWeb, SmokeCheck]);
        assert_eq!(steps[2].change.undo, [action("stopped"), action("undone")]);
        assert_eq!(steps[4].change.actions, [action("kept"), action("done")]);

        let mut steps = window();
        steps[1] = Step::new(Migrate, Check::unchanged("no migrations are pending"));
        assert!(!start_early(&mut steps, early, action("kept")));
        assert_eq!(steps[1].change.reason, "no migrations run");
        assert_eq!(steps[4].change.actions, [action("done")]);
    }

    #[test]
    fn a_rollback_undoes_the_steps_of_a_tool_in_reverse() {
        let step = |kind: StepKind| Step::new(kind, Check::unchanged(""));
        let update = [
            StopWorkers,
            PageUp,
            StopWeb,
            Code,
            Virtualenv,
            Static,
            Migrate,
            StartWeb,
            PageDown,
            StartWorkers,
        ];
        let inserted: Vec<_> =
            update.iter().rev().map(|kind| (kind.clone(), step(format!("after-{kind}").into()))).collect();
        let mut rollback =
            vec![StopWorkers, PageUp, StopWeb, Backup, Migrate, Static, Virtualenv, Outputs, Code];
        rollback.extend([StartRequired, StartWeb, SmokeCheck, PageDown, StartWorkers]);
        let undone = rollback.into_iter().flat_map(|kind| undone_before(&step(kind), &inserted));
        let expected = inserted.iter().map(|(_, step)| step.id.clone());
        assert_eq!(undone.map(|step| step.id).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        // Nothing is inserted into the preparation or after the end.
        let outside = [Some(Phase::Prepare), Some(Phase::After)];
        let anchors = StepKind::anchors().filter(|kind| !outside.contains(&kind.phase()));
        assert_eq!(anchors.collect::<Vec<_>>(), update);
    }
}
