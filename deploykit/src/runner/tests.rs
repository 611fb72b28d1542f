//! Real actions in a temporary directory: whatever fails and wherever it is interrupted, the directory is as it was.

mod killed;
mod model;
mod undo;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use super::*;
use crate::action::ActionError;
use crate::command::Command;
use crate::host::Swap;
use crate::host::{CommandError, Redactor};
use crate::journal::{is_finished, left_to_undo};

/// A small site: files that steps change, and a journal beside them.
struct Directory {
    temp: tempfile::TempDir,
}

/// What a run or a recovery came to.
#[derive(Debug)]
struct Ran {
    course: Result<Course, JournalError>,
    told: Vec<Event>,
}

impl Ran {
    fn outcome(&self) -> Outcome {
        self.course.as_ref().expect("a course").outcome
    }

    fn failure(&self) -> &Failure {
        self.course.as_ref().expect("a course").failure.as_ref().expect("a failure")
    }

    /// Returns the events in short: `code started`.
    fn told(&self) -> Vec<String> {
        let short = |event: &Event| match event {
            Event::PhaseStarted { phase } => phase.as_str().to_owned(),
            Event::StepStarted { step, .. } => format!("{step} started"),
            Event::StepSkipped { step, reason, .. } => format!("{step} skipped: {reason}"),
            Event::StepFinished { step, .. } => format!("{step} finished"),
            Event::StepFailed { step, .. } => format!("{step} failed"),
            Event::Waiting { .. } => "waiting".to_owned(),
            Event::UndoStarted { steps } => format!("undo of {steps}"),
            Event::StepUndone { step, .. } => format!("{step} undone"),
            Event::UndoFailed { step, .. } => format!("{step} not undone"),
            other => format!("{other:?}"),
        };
        self.told.iter().map(short).collect()
    }
}

impl Directory {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let directory = Directory { temp };
        fs::create_dir(directory.path("site")).unwrap();
        for (name, text) in [("settings", "old"), ("obsolete", "kept until the window")] {
            fs::write(directory.site(name), text).unwrap();
        }
        fs::set_permissions(directory.site("obsolete"), fs::Permissions::from_mode(0o640)).unwrap();
        for (tree, text) in [("static", "old"), (".static-next", "new")] {
            fs::create_dir(directory.site(tree)).unwrap();
            fs::write(directory.site(tree).join("style.css"), text).unwrap();
        }
        directory
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn site(&self, name: &str) -> PathBuf {
        self.path("site").join(name)
    }

    fn journal(&self) -> PathBuf {
        self.path("journal.jsonl")
    }

    fn write(&self, name: &str, contents: &str) -> Action {
        Action::WriteFile { path: self.site(name), contents: contents.to_owned(), mode: 0o644 }
    }

    fn remove(&self, name: &str) -> Action {
        Action::RemoveFile { path: self.site(name) }
    }

    /// Six steps of which one has nothing to do. The waits in the midst of steps are places to be interrupted at.
    fn steps(&self) -> Vec<Step> {
        let (swap, back) = Swap::pair(&self.site("static"), &self.site(".static-next")).unwrap();
        let (link, unlink) = (self.site("current"), run("rm", &["-f", &text(&self.site("current"))]));
        let restored = Action::WriteFile {
            path: self.site("obsolete"),
            contents: "kept until the window".to_owned(),
            mode: 0o640,
        };
        let step = |id: &str, phase, actions, undo| Step::with_actions(id, phase, "", actions, undo);
        vec![
            step(
                "announce",
                Phase::Announce,
                vec![self.write("announced", "")],
                vec![self.remove("announced")],
            ),
            Step::with_actions("wait", Phase::Announce, "at once", Vec::new(), Vec::new()),
            step(
                "page-up",
                Phase::Window,
                vec![self.write("page", "soon"), self.write("settings", "closing")],
                vec![self.write("settings", "old"), self.remove("page")],
            ),
            step(
                "code",
                Phase::Window,
                vec![self.write("settings", "new"), wait(), self.remove("obsolete")],
                vec![restored, self.write("settings", "closing")],
            ),
            step("static", Phase::Window, vec![Action::Swap(swap), wait()], vec![Action::Swap(back)]),
            step(
                "link",
                Phase::Finish,
                vec![wait(), run("ln", &["-sfn", "static", &text(&link)])],
                vec![unlink],
            ),
        ]
    }

    /// Opens the journal; a link leads to one in memory.
    fn open_journal(&self) -> Journal {
        let path = self.journal();
        if !path.is_symlink() {
            return Journal::open(&path).unwrap();
        }
        let file = File::options().append(true).read(true).open(&path).unwrap();
        Journal::of_file(&path, file)
    }

    /// Runs steps with a journal of its own, and lets `watch` look at each event.
    fn run(
        &self,
        steps: &[Step],
        host: Host,
        hold: &[Action],
        watch: &mut (dyn FnMut(&Event) + Send),
    ) -> Ran {
        let mut journal = self.open_journal();
        let mut told = Vec::new();
        let mut observer = |record: &Record| {
            told.push(record.event.clone());
            watch(&record.event);
        };
        let mut events = Events::new(&mut observer);
        let mut context = Context::from(host);
        let mut runner =
            Runner { context: &mut context, journal: &mut journal, events: &mut events, logs: None };
        let course = runner.run(steps, hold);
        drop(events);
        Ran { course, told }
    }

    fn run_plainly(&self, steps: &[Step]) -> Ran {
        self.run(steps, Host::new(), &[], &mut |_| ())
    }

    /// Runs steps and is killed at the event with this number; `false` when there were fewer.
    fn run_until(&self, steps: &[Step], number: usize) -> bool {
        let mut seen = 0;
        let mut watch = |_: &Event| killed(&mut seen, number);
        catch_unwind(AssertUnwindSafe(|| self.run(steps, Host::new(), &[], &mut watch))).is_err()
    }

    /// Goes back by the journal alone; `None` when it was killed at the event with this number.
    fn recover(&self, kill_at: usize) -> Option<Outcome> {
        let entries = Journal::read(&self.journal()).unwrap();
        let begun = left_to_undo(&entries);
        let mut seen = 0;
        let work = || {
            let mut journal = Journal::open(&self.journal()).unwrap();
            let mut observer = |_: &Record| killed(&mut seen, kill_at);
            let mut events = Events::new(&mut observer);
            let mut context = Context::default();
            Runner { context: &mut context, journal: &mut journal, events: &mut events, logs: None }
                .undo(&begun, &[])
                .outcome
        };
        catch_unwind(AssertUnwindSafe(work)).ok()
    }

    /// Returns everything in the site's directory: the names, with texts, modes and targets.
    fn facts(&self) -> BTreeMap<PathBuf, String> {
        let mut facts = BTreeMap::new();
        gather(&self.path("site"), &mut facts);
        facts
            .into_iter()
            .map(|(path, fact)| (path.strip_prefix(self.temp.path()).unwrap().into(), fact))
            .collect()
    }
}

fn gather(path: &Path, facts: &mut BTreeMap<PathBuf, String>) {
    let found = fs::symlink_metadata(path).unwrap();
    let mode = found.permissions().mode();
    let fact = if found.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| gather(&entry.unwrap().path(), facts));
        format!("{mode:o} directory")
    } else if found.is_symlink() {
        format!("link to {}", fs::read_link(path).unwrap().display())
    } else {
        format!("{mode:o} {}", fs::read_to_string(path).unwrap())
    };
    facts.insert(path.to_owned(), fact);
}

/// Counts events and dies, without a word, at the one with this number.
fn killed(seen: &mut usize, at: usize) {
    if *seen == at {
        resume_unwind(Box::new(()));
    }
    *seen += 1;
}

/// More events than any run here has.
const NEVER: usize = 1000;

fn run(program: &str, args: &[&str]) -> Action {
    Action::Run { command: Command::new(program).args(args) }
}

fn wait() -> Action {
    Action::Wait { until: Timestamp::UNIX_EPOCH, reason: String::new() }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn started(event: &Event, wanted: &str) -> bool {
    matches!(event, Event::StepStarted { step, .. } if step == wanted)
}

fn undone(event: &Event, wanted: &str) -> bool {
    matches!(event, Event::StepUndone { step, .. } if step == wanted)
}

#[test]
fn a_step_is_taken_from_the_steps_once_the_one_before_is_done() {
    let directory = Directory::new();
    let [first, second] = ["announced", "page"].map(|name| {
        let (actions, undo) = (vec![directory.write(name, "")], vec![directory.remove(name)]);
        Step::with_actions(name, Phase::Announce, "", actions, undo)
    });
    let mut is_announced = false;
    let second = std::iter::once_with(|| {
        is_announced = directory.site("announced").exists();
        &second
    });
    let (mut context, mut journal) = (Context::default(), directory.open_journal());
    let mut events = Events::new(|_: &Record| ());
    let mut runner = Runner { context: &mut context, journal: &mut journal, events: &mut events, logs: None };
    let course = runner.go_on(&[], std::iter::once(&first).chain(second), &[], None).unwrap();
    assert_eq!(course.outcome, Outcome::Updated);
    assert!(is_announced && directory.site("page").exists());
}

#[test]
fn steps_are_done_in_order_and_what_is_not_needed_is_skipped() {
    let directory = Directory::new();
    let ran = directory.run_plainly(&directory.steps());
    assert_eq!(ran.outcome(), Outcome::Updated);
    assert_eq!(
        ran.told(),
        [
            "announce",
            "announce started",
            "announce finished",
            "wait skipped: at once",
            "window",
            "page-up started",
            "page-up finished",
            "code started",
            "waiting",
            "code finished",
            "static started",
            "waiting",
            "static finished",
            "finish",
            "link started",
            "waiting",
            "link finished",
        ]
    );
    let course = ran.course.unwrap();
    let steps: Vec<(&str, Phase, bool)> =
        course.steps.iter().map(|report| (report.step.as_str(), report.phase, report.undone)).collect();
    assert_eq!(
        steps,
        [
            ("announce", Phase::Announce, false),
            ("page-up", Phase::Window, false),
            ("code", Phase::Window, false),
            ("static", Phase::Window, false),
            ("link", Phase::Finish, false),
        ]
    );
    assert_eq!(fs::read_to_string(directory.site("static/style.css")).unwrap(), "new");
    assert_eq!(fs::read_to_string(directory.site("current/style.css")).unwrap(), "new");
    assert!(!directory.site("obsolete").exists());
}

#[test]
fn each_entry_is_in_the_journal_before_its_event_is_sent() {
    let directory = Directory::new();
    let path = directory.journal();
    directory.run(&directory.steps(), Host::new(), &[], &mut |event| {
        let last = Journal::read(&path).unwrap().pop();
        match event {
            Event::StepStarted { step, .. } => {
                assert!(
                    matches!(&last, Some(Entry::StepStarted { step: last, .. }) if last == step),
                    "{last:?}"
                );
            }
            Event::StepFinished { step, .. } => {
                assert!(
                    matches!(&last, Some(Entry::StepFinished { step: last, .. }) if last == step),
                    "{last:?}"
                );
            }
            _ => {}
        }
    });
}

#[test]
fn whichever_action_fails_everything_is_as_before() {
    let needed =
        |directory: &Directory| directory.steps().into_iter().filter(Step::is_needed).collect::<Vec<_>>();
    let places = needed(&Directory::new()).into_iter().enumerate();
    let places =
        places.flat_map(|(step, it)| (0..=it.change.actions.len()).map(move |action| (step, action)));
    for (step, action) in places {
        let directory = Directory::new();
        let before = directory.facts();
        let mut steps = needed(&directory);
        steps[step].change.actions.insert(action, run("false", &[]));
        let (id, phase) = (steps[step].id.clone(), steps[step].phase);
        let ran = directory.run_plainly(&steps);
        let expected = if phase == Phase::Announce { Outcome::Refused } else { Outcome::RolledBack };
        assert_eq!(ran.outcome(), expected, "{id}, action {action}");
        assert_eq!(directory.facts(), before, "{id}, action {action}");
        let failure = ran.failure();
        assert_eq!((&failure.step, failure.phase, failure.interrupted), (&id, phase, false));
        assert!(failure.error.starts_with("`false` exited with code 1 after "), "{}", failure.error);
        assert!(ran.course.unwrap().steps.iter().all(|report| report.undone), "{id}, action {action}");
    }
}

#[test]
fn what_is_told_and_kept_holds_no_secret() {
    let directory = Directory::new();
    let mut steps = directory.steps();
    steps[2].change.actions = vec![run("sh", &["-c", "echo the key is hunter22; exit 1"])];
    steps[0].change.undo = vec![run("sh", &["-c", "exit 2 # hunter22"])];
    let host = Host::new().with_redactor(Redactor::new(["hunter22".to_owned()]));
    let kept = directory.path("events.jsonl");
    let mut told = Vec::new();
    {
        let mut journal = Journal::open(&directory.journal()).unwrap();
        let mut observer = |record: &Record| told.push(record.event.clone());
        let mut events = Events::new(&mut observer);
        events.keep_in(fs::File::create(&kept).unwrap());
        let mut context = Context::from(host);
        let mut runner =
            Runner { context: &mut context, journal: &mut journal, events: &mut events, logs: None };
        let course = runner.run(&steps, &[]).unwrap();
        let failure = course.failure.unwrap();
        assert!(failure.error.contains("echo the key is ***"), "{}", failure.error);
        assert_eq!(failure.tail, ["the key is ***"]);
        let (step, error) = failure.undo.unwrap();
        assert_eq!(step, "announce");
        assert!(error.contains("exit 2 # ***"), "{error}");
    }
    let kept = fs::read_to_string(kept).unwrap();
    assert_eq!(kept.lines().count(), told.len());
    assert!(!kept.contains("hunter22"), "{kept}");
    let failures = Journal::read(&directory.journal())
        .unwrap()
        .into_iter()
        .filter(|entry| matches!(entry, Entry::StepFailed { .. } | Entry::UndoFailed { .. }));
    for entry in failures {
        let line = serde_json::to_string(&entry).unwrap();
        assert!(line.contains("***") && !line.contains("hunter22"), "{line}");
    }
}

#[test]
fn an_error_text_names_each_cause_once() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot start `gunicorn`")]
    struct Outer(#[source] std::io::Error);
    let error = ActionError::Command(CommandError::Start {
        command: "gunicorn".to_owned(),
        source: std::io::Error::other("no memory"),
    });
    assert_eq!(error_chain(&error), "cannot start `gunicorn`: no memory");
    assert_eq!(error_chain(&Outer(std::io::Error::other("no memory"))), "cannot start `gunicorn`: no memory");
}

#[test]
fn a_window_is_measured_from_the_stop_to_the_last_look() {
    let step = |id: &str| Step::with_actions(id, Phase::Window, "", vec![wait()], Vec::new());
    let directory = Directory::new();
    let ran =
        directory.run_plainly(&[step("stop-web"), step("start-web"), step("smoke-check"), step("page-down")]);
    assert!(ran.course.unwrap().window.is_some());
    let directory = Directory::new();
    assert_eq!(directory.run_plainly(&[step("start-web")]).course.unwrap().window, None);
}
