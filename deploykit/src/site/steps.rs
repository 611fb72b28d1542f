//! The keys of `[[steps]]`: the steps that the configuration defines.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::host::NeedsMemory;
use crate::keys::{Reader, Size, Table, Value, keys};
use crate::plan::{Phase, StepKind};

/// A step that the configuration defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnStep {
    /// Its name.
    pub name: String,
    /// The step that it follows.
    pub after: StepKind,
    /// A manage.py command, or a program.
    pub task: OwnTask,
    /// The files that it makes, relative to the top of the checkout.
    pub outputs: Vec<PathBuf>,
    /// What it keeps in the staged tree for its next run, relative to the top of the checkout.
    pub cache: Vec<PathBuf>,
    /// How much memory it needs; `None`: nobody looks.
    pub needs_memory: Option<Size>,
    /// It runs in a process of its own, also where the waiting Django could be forked.
    pub process: bool,
    /// Whether the rehearsal runs it, too.
    pub rehearse: bool,
}

impl OwnStep {
    /// Returns the memory that it needs, to be compared with what there is.
    pub(crate) fn memory(&self) -> Option<NeedsMemory> {
        self.needs_memory.map(|needed| NeedsMemory { step: self.name.clone(), needed })
    }

    /// Tells whether it runs before the new version serves pages.
    pub(crate) fn precedes_pages(&self) -> bool {
        (StepKind::Static..StepKind::StartWeb).contains(&self.after)
    }

    /// Tells whether it may run in a fork of the Django that waits: a command of the new version, once that is live.
    pub(crate) fn may_be_forked(&self) -> bool {
        matches!(self.task, OwnTask::Manage(_)) && !self.process && self.after >= StepKind::Virtualenv
    }
}

/// What an own step runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnTask {
    /// Arguments of manage.py.
    Manage(Vec<String>),
    /// A program with its arguments, run in the checkout.
    Run(Vec<String>),
}

keys! {
    /// The site's own steps.
    pub(super) struct StepKeys in "[[steps]]"
        then "[[steps]]\nname = \"compress\"\nafter = \"static\"\nmanage = [\"compress\", \"--force\"]\n\n[[steps]]\nname = \"warm-up\"\nafter = \"start-web\"\nrun = [\"./scripts/warm-up\"]"
    {
        /// The step's name.
        "name" => name: Option<String>, required "is missing", example "build";
        /// The step that it follows.
        "after" => after: Option<StepKind>, required "is missing", example "staged-tree";
        /// A program with its arguments; `./name` is a file of the tree. A step has either `run` or `manage`.
        "run" => run: Option<Vec<String>>, example ["npm", "run", "build"];
        /// A `manage.py` command.
        "manage" => manage: Option<Vec<String>>, commented ["compress", "--force"];
        /// Runs `manage` in a process of its own, even where a fork of the waiting Django could run it.
        "process" => process: bool = false;
        /// Runs the step in the rehearsal, too, before the pages are requested. Only a step that follows `static` or `migrate`
        /// can have this key. If it fails there, the update is refused.
        "rehearse" => rehearse: bool = false;
        /// The files and directories that a step of the preparation creates, relative to the top of the repository.
        "outputs" => outputs: Vec<String>, type "array of paths", example ["dist"];
        /// Directories that a step of the preparation keeps for its next run, relative to the top of the repository. They never
        /// go live, and the step never sees the live ones.
        "cache" => cache: Vec<String>, type "array of paths", example ["node_modules"];
        /// The memory that the step needs. If less is available, the update is refused at its beginning, and the step fails
        /// before it runs.
        "needs-memory" => needs_memory: Option<Size>, example "4 GB";
    }
}

impl Value for StepKind {
    fn kind() -> String {
        let names: Vec<String> = StepKind::anchors().map(|anchor| format!("`\"{anchor}\"`")).collect();
        format!("one of {}", names.join(", "))
    }

    fn read(reader: &Reader<'_>, key: &'static str) -> Option<Self> {
        let anchors: Vec<StepKind> = StepKind::anchors().collect();
        let former = reader.text(key).map(|name| StepKind::from(name.as_str()));
        if former.as_ref().is_some_and(|former| anchors.contains(former)) {
            return former;
        }
        let anchors: Vec<(&str, &StepKind)> =
            anchors.iter().map(|anchor| (anchor.as_str(), anchor)).collect();
        reader.choice(key, &anchors).cloned()
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
        let keys = StepKeys::read(&reader);
        if let Some(wrong) = keys.name.as_deref().and_then(|name| wrong_name(name, &steps)) {
            reader.wrong("name", wrong);
        }
        let task = match (keys.manage, keys.run) {
            (Some(args), None) if !args.is_empty() => Some(OwnTask::Manage(args)),
            (None, Some(argv)) if !argv.is_empty() => Some(OwnTask::Run(argv)),
            _ => {
                reader.wrong("run", "expected either `manage = [\"command\"]` or `run = [\"program\"]`");
                None
            }
        };
        if keys.process && matches!(task, Some(OwnTask::Run(_))) {
            reader.wrong(
                "process",
                "`run` always starts a process of its own; only `manage` can have `process`",
            );
        }
        let paths = |key: &'static str, texts: Vec<String>| {
            let mut paths = Vec::new();
            for text in texts {
                let path: PathBuf =
                    Path::new(&text).components().filter(|part| *part != Component::CurDir).collect();
                match wrong_path(&text, &path, keys.after.as_ref(), key, &kept) {
                    Some(problem) => reader.wrong(key, problem),
                    None => paths.push(path),
                }
            }
            paths
        };
        let (outputs, cache) = (paths("outputs", keys.outputs), paths("cache", keys.cache));
        if let (Some(name), Some(after), Some(task)) = (keys.name, keys.after, task) {
            let step = OwnStep {
                name,
                after,
                task,
                outputs,
                cache,
                needs_memory: keys.needs_memory,
                process: keys.process,
                rehearse: keys.rehearse,
            };
            if step.rehearse && !step.precedes_pages() {
                reader.wrong("rehearse", "only a step that follows `static` or `migrate` is rehearsed");
            }
            steps.push(step);
        }
        reader.finish();
    }
    for wrong in nested_outputs(&steps) {
        top.wrong("steps", wrong);
    }
    steps
}

/// Returns what is wrong with the name of a step that follows `others` in the file.
pub(super) fn wrong_name(name: &str, others: &[OwnStep]) -> Option<String> {
    match StepKind::from(name) {
        StepKind::Own(_) if others.iter().all(|step| step.name != name) => None,
        StepKind::Own(_) => Some(format!("another step is named `{name}`")),
        _ => Some(format!("`{name}` is a built-in step")),
    }
}

/// Returns why a path cannot be an output of a step, or a cache.
pub(super) fn wrong_path(
    shown: &str,
    output: &Path,
    after: Option<&StepKind>,
    key: &str,
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
        .then(|| format!("only a step of the preparation can have `{key}`; this step runs in the checkout"))
}

/// Returns what is wrong with outputs that contain one another.
pub(super) fn nested_outputs(steps: &[OwnStep]) -> Vec<String> {
    let outputs = steps.iter().flat_map(|step| step.outputs.iter().map(|path| (path, "output")));
    let caches = steps.iter().flat_map(|step| step.cache.iter().map(|path| (path, "cache")));
    let all: BTreeSet<(&PathBuf, &str)> = outputs.chain(caches).collect();
    let pairs =
        all.iter().zip(all.iter().skip(1)).filter(|((outer, _), (inner, _))| inner.starts_with(outer));
    pairs
        .map(|((outer, kind), (inner, other))| {
            format!("{other} `{}` is inside {kind} `{}`", inner.display(), outer.display())
        })
        .collect()
}
