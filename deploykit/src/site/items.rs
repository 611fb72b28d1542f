//! The arrays of tables of `deploykit.toml`: services, own steps, pages.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::config::{OwnStep, OwnTask};
use super::reader::Reader;
use crate::operations::smoke_check::Page;
use crate::plan::{Phase, StepKind};
use crate::services::{CommandManager, Gunicorn, Kill, Manager, Role, Server, Service, Supervisor, Systemd};

/// Maximum length of a service name, in bytes; a file name may have 255.
const MOST_OF_NAME: usize = 200;

pub(super) fn services(top: &Reader<'_>) -> Vec<Service> {
    let mut names = BTreeSet::new();
    let mut services = Vec::new();
    for (text, reader) in top.items("services") {
        if text.is_some() {
            reader.problem(reader.span(), "services", "expected a table: [[services]]");
            continue;
        }
        let name = reader.text("name");
        if !reader.has("name") {
            reader.wrong("name", "is missing");
        }
        if let Some(name) = &name
            && let Some(wrong) = wrong_name(name)
        {
            reader.wrong("name", wrong);
        } else if let Some(name) = &name
            && !names.insert(name.clone())
        {
            reader.wrong("name", format!("there are two services named `{name}`"));
        }
        let role = reader
            .choice("role", &[("web", Role::Web), ("worker", Role::Worker), ("required", Role::Required)])
            .unwrap_or(Role::Worker);
        let manager = manager(&reader);
        let stop_timeout = reader.duration("stop-timeout");
        let start_timeout = reader.duration("start-timeout");
        let stay_up = reader.duration("stay-up");
        let kill = reader.choice("kill", &[("auto", Kill::Auto), ("never", Kill::Never)]);
        let sudo = reader.flag("sudo").unwrap_or(false);
        if sudo && !matches!(manager, Some(Manager::Command(_) | Manager::Systemd(_))) {
            reader.wrong(
                "sudo",
                "only `manager = \"command\"` and `manager = \"systemd\"` run commands with sudo",
            );
        }
        if sudo && matches!(&manager, Some(Manager::Systemd(systemd)) if systemd.user) {
            reader.wrong("sudo", "a unit of the user's own manager needs no sudo");
        }
        reader.finish();
        if let (Some(name), Some(manager)) = (name, manager) {
            let hold = Some(top.resolve(&format!(".deploykit/hold/{name}")));
            let default = Service::new(name, role, manager);
            services.push(Service {
                stop_timeout: stop_timeout.unwrap_or(default.stop_timeout),
                start_timeout: start_timeout.unwrap_or(default.start_timeout),
                kill: kill.unwrap_or_default(),
                stay_up,
                sudo,
                hold,
                ..default
            });
        }
    }
    services
}

/// Returns what is wrong with the name of a service: its socket gate is a file of that name.
fn wrong_name(name: &str) -> Option<&'static str> {
    if name.chars().any(char::is_control) {
        Some("contains a control character")
    } else if name.starts_with(['.', '-']) {
        Some("starts with `.` or `-`")
    } else if name.contains('/') {
        Some("contains `/`, which a file name cannot contain")
    } else if name.len() > MOST_OF_NAME {
        Some("is longer than 200 bytes")
    } else {
        None
    }
}

fn manager(reader: &Reader<'_>) -> Option<Manager> {
    #[derive(Clone, Copy)]
    enum Kind {
        Supervisor,
        Systemd,
        Command,
        Gunicorn,
    }
    let choices = [
        ("supervisor", Kind::Supervisor),
        ("systemd", Kind::Systemd),
        ("command", Kind::Command),
        ("gunicorn", Kind::Gunicorn),
    ];
    let lacks = |key| {
        if !reader.has(key) {
            reader.wrong(key, "is missing");
        }
    };
    if !reader.has("manager") {
        reader.wrong("manager", "is missing: `supervisor`, `systemd`, `command` or `gunicorn`");
    }
    match reader.choice("manager", &choices)? {
        Kind::Supervisor => {
            let (config, program) = (reader.path("config"), reader.text("program"));
            lacks("config");
            Some(Manager::Supervisor(Supervisor { server: Server::Config(config?), program }))
        }
        Kind::Systemd => {
            let (unit, user) = (reader.text("unit"), reader.flag("user").unwrap_or(false));
            Some(Manager::Systemd(Systemd { unit, user }))
        }
        Kind::Command => {
            let start = reader.texts("start").unwrap_or_default();
            let stop = reader.texts("stop").unwrap_or_default();
            let status = reader.texts("status").unwrap_or_default();
            let directory = reader.path("directory");
            lacks("start");
            if status.is_empty() {
                reader.wrong("status", "is missing: a command that exits with 0 while the service runs");
            }
            let held = reader.flag("held").unwrap_or(false);
            Some(Manager::Command(CommandManager { start, stop, status, held, directory }))
        }
        Kind::Gunicorn => {
            let start = reader.texts("start").unwrap_or_default();
            let (pidfile, directory) = (reader.path("pidfile"), reader.path("directory"));
            lacks("pidfile");
            lacks("start");
            Some(Manager::Gunicorn(Gunicorn { pidfile: pidfile?, start, directory }))
        }
    }
}

/// Reads the steps; `kept` returns the path that an output would replace, if deploykit must keep it.
pub(super) fn steps(top: &Reader<'_>, kept: impl Fn(&Path) -> Option<PathBuf>) -> Vec<OwnStep> {
    let mut steps = Vec::new();
    for (text, reader) in top.items("steps") {
        if text.is_some() {
            reader.problem(reader.span(), "steps", "expected a table: [[steps]]");
            continue;
        }
        let name = reader.text("name");
        let anchors: Vec<StepKind> = StepKind::anchors().collect();
        let former = reader.text("after").map(|name| StepKind::from(name.as_str()));
        let anchors: Vec<(&str, &StepKind)> =
            anchors.iter().map(|anchor| (anchor.as_str(), anchor)).collect();
        let former =
            anchors.iter().find(|(_, anchor)| former.as_ref() == Some(anchor)).map(|(_, kind)| *kind);
        let after = former.or_else(|| reader.choice("after", &anchors));
        for key in ["name", "after"] {
            if !reader.has(key) {
                reader.wrong(key, "is missing");
            }
        }
        if let Some(name) = &name {
            match StepKind::from(name.as_str()) {
                StepKind::Own(_) if steps.iter().all(|step: &OwnStep| step.name != *name) => {}
                StepKind::Own(_) => reader.wrong("name", format!("another step is named `{name}`")),
                _ => reader.wrong("name", format!("`{name}` is a built-in step")),
            }
        }
        let task = match (reader.texts("manage"), reader.texts("run")) {
            (Some(args), None) if !args.is_empty() => Some(OwnTask::Manage(args)),
            (None, Some(argv)) if !argv.is_empty() => Some(OwnTask::Run(argv)),
            _ => {
                reader.wrong("run", "expected either `manage = [\"command\"]` or `run = [\"program\"]`");
                None
            }
        };
        let mut outputs = Vec::new();
        for text in reader.texts("outputs").unwrap_or_default() {
            let output: PathBuf =
                Path::new(&text).components().filter(|part| *part != Component::CurDir).collect();
            match wrong_output(&text, &output, after, &kept) {
                Some(problem) => reader.wrong("outputs", problem),
                None => outputs.push(output),
            }
        }
        reader.finish();
        if let (Some(name), Some(after), Some(task)) = (name, after, task) {
            steps.push(OwnStep { name, after: after.clone(), task, outputs });
        }
    }
    let all: BTreeSet<PathBuf> = steps.iter().flat_map(|step: &OwnStep| step.outputs.clone()).collect();
    for (outer, inner) in all.iter().zip(all.iter().skip(1)).filter(|(outer, inner)| inner.starts_with(outer))
    {
        top.wrong("steps", format!("output `{}` is inside output `{}`", inner.display(), outer.display()));
    }
    steps
}

/// Returns why a path cannot be an output of a step.
fn wrong_output(
    shown: &str,
    output: &Path,
    after: Option<&StepKind>,
    kept: impl Fn(&Path) -> Option<PathBuf>,
) -> Option<String> {
    let is_inside = output.components().all(|part| matches!(part, Component::Normal(_)));
    if output.as_os_str().is_empty() || !is_inside || output.starts_with(".git") {
        return Some(format!("`{shown}` is not a relative path inside the repository"));
    }
    if let Some(kept) = kept(output) {
        return Some(format!("`{shown}` would replace `{}`", kept.display()));
    }
    let is_late = after.is_some_and(|after| after.phase() != Some(Phase::Prepare));
    is_late
        .then(|| "only a step of the preparation can have outputs; this step runs in the checkout".to_owned())
}

pub(super) fn pages(smoke: &Reader<'_>) -> Vec<Page> {
    let mut pages = Vec::new();
    for (text, reader) in smoke.items("pages") {
        let path = text.clone().or_else(|| reader.text("path"));
        let page = Page {
            status: reader.number("status", 100..600),
            redirect: reader.text("redirect"),
            contains: reader.text("contains").into_iter().collect(),
            lacks: reader.text("lacks").into_iter().collect(),
            within: reader.duration("within"),
            ..Page::new(path.clone().unwrap_or_default())
        };
        if text.is_none() && !reader.has("path") {
            reader.wrong("path", "is missing");
        }
        if let Some(path) = &path
            && !(path.starts_with('/') || path.starts_with("http://") || path.starts_with("https://"))
        {
            reader.problem(
                reader.span(),
                &reader.name("path"),
                format!("`{path}` does not start with `/`, `http://` or `https://`"),
            );
        }
        reader.finish();
        pages.extend(path.map(|_| page));
    }
    pages
}
