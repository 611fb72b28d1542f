//! What can go wrong with a virtualenv.

use std::path::PathBuf;

use thiserror::Error;

use super::lock::LockFileError;
use super::packages::PackageChange;
use crate::host::CommandError;
use crate::host::files::FileError;

/// Why a virtualenv could not be looked at, resolved, built or switched.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PythonError {
    /// Nothing is at the virtualenv's path.
    #[error("there is no virtualenv at `{}`", path.display())]
    NoVirtualenv {
        /// The configured path.
        path: PathBuf,
    },
    /// A Python that belongs to another tool is there, and no link may take its place.
    #[error("`{}` is {what}; deploykit does not replace it", path.display())]
    NotReplaceable {
        /// The configured path.
        path: PathBuf,
        /// What it is: `a conda environment`.
        what: &'static str,
        /// Whether its packages can be changed where it is.
        in_place: bool,
    },
    /// conda and the package managers of systems know nothing of what pip does to their packages.
    #[error("the requirements would change packages that {manager} installed in `{}`: {}", virtualenv.display(), quoted(names))]
    OfPackageManager {
        /// The virtualenv.
        virtualenv: PathBuf,
        /// `conda`, `rpm` or `dpkg`.
        manager: &'static str,
        /// The packages.
        names: Vec<String>,
    },
    /// A virtualenv that stays where it is keeps its Python.
    #[error("cannot replace the Python {python} of `{}`: its packages are changed in place", virtualenv.display())]
    PythonStays {
        /// The virtualenv.
        virtualenv: PathBuf,
        /// Its Python, `3.11`.
        python: String,
    },
    /// No record says which files belong to a package.
    #[error("`{name}` cannot be changed in place: it is not known which files belong to it")]
    CannotUpdateInPlace {
        /// Its name.
        name: String,
        /// The version that is to be installed by hand.
        version: String,
    },
    /// A file of a package names the virtualenv that it was installed into, which does not stay.
    #[error("`{name}` cannot be changed in place: its file `{}` contains the path of the staged virtualenv", file.display())]
    NamesStaged {
        /// Its name.
        name: String,
        /// The file.
        file: PathBuf,
    },
    /// A package has a file where a directory is.
    #[error("`{}` is a directory, and a package has a file of that name", path.display())]
    DirectoryInTheWay {
        /// The directory.
        path: PathBuf,
    },
    /// The copy of the packages, which restores them, does not fit.
    #[error("a copy of the packages takes {} MB, and {} MB must stay free, but the disk of `{}` has only {} MB free", copy.div_ceil(1_000_000), reserve / 1_000_000, directory.display(), free / 1_000_000)]
    NoRoom {
        /// The virtualenv.
        directory: PathBuf,
        /// The size of the copy in bytes.
        copy: u64,
        /// How many bytes must stay free beside it.
        reserve: u64,
        /// How many bytes are free.
        free: u64,
    },
    /// Somebody has installed something between the preparation and the window.
    #[error("the packages in `{}` changed since the staged ones were prepared", virtualenv.display())]
    ChangedMeanwhile {
        /// The virtualenv.
        virtualenv: PathBuf,
    },
    /// git tracks files of the virtualenv.
    #[error("git tracks `{}` in the virtualenv `{}`", file.display(), virtualenv.display())]
    TrackedVirtualenv {
        /// The configured path.
        virtualenv: PathBuf,
        /// One of the files, from the top of the virtualenv.
        file: PathBuf,
    },
    /// Something is there, but no virtualenv.
    #[error("`{}` is not a virtualenv: it has no `pyvenv.cfg` with a `bin/python`", path.display())]
    NotAVirtualenv {
        /// The configured path.
        path: PathBuf,
    },
    /// The Python that the virtualenv was made with is not installed any more.
    #[error("the Python {python} of `{}` is gone from `{}`", virtualenv.display(), home.display())]
    BasePythonGone {
        /// The virtualenv.
        virtualenv: PathBuf,
        /// The directory that its `pyvenv.cfg` names.
        home: PathBuf,
        /// `3.11`.
        python: String,
    },
    /// The configuration names a version of Python that is not on this machine.
    #[error("no Python {wanted} found in the virtualenv, in `PATH`, or among the Pythons of pyenv and uv")]
    PythonNotFound {
        /// `3.12`.
        wanted: String,
    },
    /// The configured Python does not run.
    #[error("cannot use the Python `{}`", path.display())]
    PythonNotUsable {
        /// The configured path.
        path: PathBuf,
        /// How it ended.
        #[source]
        source: Box<CommandError>,
    },
    /// The configured program is not a Python interpreter.
    #[error("`{}` is not a Python interpreter: asked for its version, it answered {}", path.display(), answered(answer))]
    NotAPython {
        /// The program.
        path: PathBuf,
        /// The first line of its output; empty without any.
        answer: String,
    },
    /// The project is for other Pythons.
    #[error("`{}` requires Python {required}, and `{}` is Python {python}", file.display(), program.display())]
    OtherPython {
        /// The file that says so.
        file: PathBuf,
        /// What it requires: `>=3.12`.
        required: String,
        /// The full version of the Python.
        python: String,
        /// The Python that would be used.
        program: PathBuf,
    },
    /// pip is to install, and the virtualenv has none.
    #[error("`{}` has no pip", virtualenv.display())]
    NoPip {
        /// The virtualenv.
        virtualenv: PathBuf,
    },
    /// The configured installer is not on this machine.
    #[error("the installer `{program}` is not installed")]
    InstallerMissing {
        /// Its name.
        program: &'static str,
    },
    /// A requirements file, or one that it includes, is missing or cannot be read.
    #[error("cannot read the requirements file `{}`", path.display())]
    RequirementsMissing {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A requirement names something of this machine that the staged tree may not have.
    #[error("`{}`, line {line}: `{text}` names no package of the checkout: {}", file.display(), problem)]
    LocalRequirement {
        /// The requirements file, from the top of the checkout if it is in there.
        file: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// The line.
        text: String,
        /// Why it is none.
        problem: &'static str,
    },
    /// An argument for the installer holds a password, and arguments are stored and visible in the list of processes.
    #[error("argument {position} for the installer holds a user name or password")]
    CredentialsInArguments {
        /// Which of the arguments, from 1.
        position: usize,
    },
    /// The requirements changed between the plan and the build.
    #[error("the requirements in `{}` changed since they were resolved", directory.display())]
    RequirementsChanged {
        /// The directory of the checkout.
        directory: PathBuf,
    },
    /// Without git it is not known which files packages of the checkout are made of.
    #[error("cannot install packages of `{}`: {problem}", directory.display())]
    SourcesWithoutGit {
        /// The directory.
        directory: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The extension modules of an editable package belong among its sources, and only the live checkout may have them.
    #[error("`{}`, an editable package of the checkout, builds `{}` among its sources", package_path(path), file.display())]
    BuiltInPlace {
        /// The package, from the top of the checkout.
        path: PathBuf,
        /// What was built, from there, too.
        file: PathBuf,
    },
    /// The installer is too old for editable packages of the checkout.
    #[error("pip {version} is too old for editable packages of the checkout: pip 21.3 or newer is required")]
    PipTooOld {
        /// Its version.
        version: String,
    },
    /// The lock file cannot be used.
    #[error(transparent)]
    Lock(#[from] LockFileError),
    /// There is no set of packages that the requirements, the index and this Python allow.
    #[error("cannot resolve the requirements{} for Python {python}", of(requirement.as_deref()))]
    ResolutionFailed {
        /// The requirement that cannot be met, where it can be told.
        requirement: Option<String>,
        /// The Python of the virtualenv, `3.11`.
        python: String,
        /// The Python that a package asks for, such as `>=3.12`, where the installer says so. Packages that want a newer
        /// Python look as if they did not exist.
        needs_python: Option<String>,
        /// How the installer ended, with its last lines.
        #[source]
        source: Box<CommandError>,
    },
    /// An index does not accept the user and password, or got none.
    #[error("access to `{url}` was refused: {status}")]
    AccessRefused {
        /// The address, without who asked.
        url: String,
        /// `401 Unauthorized`.
        status: String,
        /// How the installer ended, with its last lines.
        #[source]
        source: Box<CommandError>,
    },
    /// A constraint does not allow a version of the lock.
    #[error("the constraint `{constraint}` contradicts `{}`", lock.display())]
    Constrained {
        /// The lock file.
        lock: PathBuf,
        /// The constraint, as the installer names it.
        constraint: String,
        /// How the installer ended, with its last lines.
        #[source]
        source: Box<CommandError>,
    },
    /// The installer answered with something else than its documented format.
    #[error("cannot read what {installer} resolved: {problem}")]
    UnreadableResolution {
        /// `pip` or `uv`.
        installer: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The packages of the new virtualenv contradict each other.
    #[error("the resolved packages conflict: {}", lines.join("; "))]
    Conflicts {
        /// One line each, as the installer's `check` prints them.
        lines: Vec<String>,
    },
    /// The new virtualenv could not be built; the live one is untouched.
    #[error("cannot build the virtualenv: {step} failed")]
    BuildFailed {
        /// What was being done: `making the virtualenv`, `installing the packages`.
        step: &'static str,
        /// How the program ended, with its last lines.
        #[source]
        source: Box<CommandError>,
    },
    /// What the installer installed is not what was resolved: the index or a branch moved meanwhile.
    #[error("`{}` does not hold what was resolved: {}", staged.display(), list(differences))]
    NotAsResolved {
        /// The new virtualenv.
        staged: PathBuf,
        /// From what was resolved to what is there.
        differences: Vec<PackageChange>,
    },
    /// The virtualenv would have to move, and the site lies in it.
    #[error("`{}` lies in the virtualenv `{}`, which is replaced when packages change", path.display(), virtualenv.display())]
    HoldsTheSite {
        /// The virtualenv.
        virtualenv: PathBuf,
        /// The checkout, the state directory, or a requirements file.
        path: PathBuf,
    },
    /// The virtualenv holds files that the site may write to: a copy in the next virtualenv would be another file.
    #[error("the virtualenv `{}` holds files that neither Python nor a package brought: `{}`", virtualenv.display(), paths(files))]
    UnknownFiles {
        /// The virtualenv.
        virtualenv: PathBuf,
        /// The files and directories, from its top.
        files: Vec<PathBuf>,
    },
    /// uv is to install, and only pip has been told where the packages come from.
    #[error("`{}` says where packages come from, and uv does not read it", file.display())]
    IndexOfPip {
        /// The file.
        file: PathBuf,
    },
    /// A package that no requirement asks for is installed from a directory that the next version does not see.
    #[error("no requirement asks for `{name}`, which is installed as editable from `{}`", path.display())]
    UnaskedEditable {
        /// The package.
        name: String,
        /// The directory: in the checkout, or in the virtualenv.
        path: PathBuf,
    },
    /// A package that no requirement asks for, and that no index has, was changed since it was installed.
    #[error(
        "`{name}` {version}, which no requirement asks for, cannot be taken along: its files are not as they were installed"
    )]
    CannotTakeAlong {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
        /// Whether conda installed it.
        of_conda: bool,
    },
    /// A directory in which a link or a virtualenv must be made is not writable.
    #[error("cannot write to `{}`", directory.display())]
    VirtualenvNotWritable {
        /// The directory.
        directory: PathBuf,
    },
    /// The virtualenv is a mount of its own, which cannot be exchanged for a link.
    #[error("`{}` is a mount point, which no link can replace", path.display())]
    DifferentFileSystem {
        /// The virtualenv.
        path: PathBuf,
    },
    /// The virtualenv that is to go live was never finished, or is gone.
    #[error("`{}` is not a complete virtualenv", staged.display())]
    Incomplete {
        /// The virtualenv.
        staged: PathBuf,
    },
    /// The virtualenv that would have to be built anew is the live one.
    #[error("`{}` is live and cannot be rebuilt", staged.display())]
    Live {
        /// The virtualenv.
        staged: PathBuf,
    },
    /// The virtualenv that was replaced by a link is not where it was put.
    #[error("the original virtualenv is missing from `{}`", kept.display())]
    OriginalGone {
        /// Where it was put.
        kept: PathBuf,
    },
    /// The installer could not run to its end: cancelled, past its deadline, not startable.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file or directory could not be changed.
    #[error(transparent)]
    File(#[from] FileError),
}

impl PythonError {
    /// Returns the last lines of the installer, where it ran.
    #[must_use]
    pub fn tail(&self) -> &[String] {
        match self {
            PythonError::ResolutionFailed { source, .. }
            | PythonError::AccessRefused { source, .. }
            | PythonError::Constrained { source, .. }
            | PythonError::BuildFailed { source, .. } => source.tail(),
            PythonError::Lock(LockFileError::Program { source, .. }) => source.tail(),
            PythonError::Command(error) => error.tail(),
            _ => &[],
        }
    }
}

fn of(requirement: Option<&str>) -> String {
    requirement.map_or_else(String::new, |requirement| format!(": nothing satisfies `{requirement}`"))
}

/// The checkout itself is `.`.
fn package_path(path: &std::path::Path) -> std::path::Display<'_> {
    if path.as_os_str().is_empty() { std::path::Path::new(".").display() } else { path.display() }
}

fn answered(answer: &str) -> String {
    if answer.is_empty() { "nothing".to_owned() } else { format!("`{answer}`") }
}

fn quoted(names: &[String]) -> String {
    format!("`{}`", names.join("`, `"))
}

fn paths(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join("`, `")
}

fn list(changes: &[PackageChange]) -> String {
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
