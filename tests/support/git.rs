//! Real repositories in a temporary directory: an upstream, a developer's clone, and a live checkout.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use deploykit::internal::git::{Checkout, GitError};
use deploykit::operations::git_update::{GitUpdate, Move, Target};
use deploykit::{Change, Check, Host, Operation};
use tempfile::TempDir;

/// Runs git in a sealed environment and returns what it prints.
pub fn git(directory: &Path, args: &[&str]) -> String {
    let output = sealed(directory).args(args).output().expect("git runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?} in {}: {stderr}", directory.display());
    String::from_utf8(output.stdout).expect("git prints text").trim_end().to_owned()
}

/// Runs git and returns whether it was content.
pub fn git_says(directory: &Path, args: &[&str]) -> bool {
    sealed(directory).args(args).output().expect("git runs").status.success()
}

fn sealed(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(directory).stdin(Stdio::null());
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", directory);
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Ada").env(format!("GIT_{who}_EMAIL"), "ada@example.org");
    }
    command
}

/// An upstream (bare), a developer's clone of it, and a live checkout.
pub struct Repositories {
    pub directory: TempDir,
    pub upstream: PathBuf,
    pub developer: PathBuf,
    pub live: PathBuf,
}

impl Repositories {
    /// Makes them with these files in the first commit of `main`.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().canonicalize().expect("it is there").join(name);
        let (upstream, developer, live) = (path("upstream.git"), path("developer"), path("live"));
        git(directory.path(), &["init", "-q", "--bare", "-b", "main", "upstream.git"]);
        git(directory.path(), &["init", "-q", "-b", "main", "developer"]);
        git(&developer, &["remote", "add", "origin", "../upstream.git"]);
        let repositories = Repositories { upstream, developer, live, directory };
        repositories.publish("first", files);
        git(repositories.directory.path(), &["clone", "-q", "upstream.git", "live"]);
        repositories
    }

    /// Commits files as the developer (an empty text deletes) and pushes them; returns the commit.
    pub fn publish(&self, subject: &str, files: &[(&str, &str)]) -> String {
        let commit = self.commit(&self.developer, subject, files);
        git(&self.developer, &["push", "-q", "--force", "origin", "HEAD"]);
        commit
    }

    /// Commits files in a checkout; an empty text deletes.
    pub fn commit(&self, checkout: &Path, subject: &str, files: &[(&str, &str)]) -> String {
        for (path, text) in files {
            if text.is_empty() {
                git(checkout, &["rm", "-q", path]);
            } else {
                write(&checkout.join(path), text);
                git(checkout, &["add", "--force", path]);
            }
        }
        git(checkout, &["commit", "-q", "--allow-empty", "-m", subject]);
        head(checkout)
    }

    /// An update of the live checkout to `main`.
    pub fn update(&self) -> GitUpdate {
        GitUpdate { branch: "main".to_owned(), ..GitUpdate::new(&self.live) }
    }

    /// Writes a file into the live checkout.
    pub fn write(&self, path: &str, text: &str) {
        write(&self.live.join(path), text);
    }

    /// Reads a file of the live checkout.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.live.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Everything about the live checkout that an undo has to bring back.
    pub fn state(&self) -> State {
        State::of(&self.live)
    }
}

/// A checkout, byte for byte, with what git says about it.
#[derive(Debug, PartialEq)]
pub struct State {
    pub files: BTreeMap<PathBuf, String>,
    pub head: String,
    pub branches: String,
    pub index: String,
    pub status: String,
}

impl State {
    pub fn of(checkout: &Path) -> State {
        State {
            files: files_below(checkout),
            head: fs::read_to_string(checkout.join(".git/HEAD")).expect("a HEAD"),
            branches: git(checkout, &["for-each-ref", "refs/heads"]),
            index: git(checkout, &["ls-files", "-s", "-t"]),
            status: git(checkout, &["status", "--porcelain=v2", "--ignored"]),
        }
    }
}

/// The files below a directory with mode and contents, links by their target, `.git` left out.
pub fn files_below(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    let mut directories = vec![top.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let inside = path.strip_prefix(top).expect("it is below").to_owned();
            let found = fs::symlink_metadata(&path).expect("it is there");
            if inside.ends_with(".git") {
            } else if found.is_symlink() {
                files.insert(inside, format!("-> {}", fs::read_link(&path).expect("a link").display()));
            } else if found.is_dir() {
                files.insert(inside, "directory".to_owned());
                directories.push(path);
            } else {
                let text = String::from_utf8_lossy(&fs::read(&path).expect("a file")).into_owned();
                files.insert(inside, format!("{:o} {text}", found.permissions().mode() & 0o777));
            }
        }
    }
    files
}

/// Writes a file with the directories above it.
pub fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a directory above")).expect("directories");
    fs::write(path, text).expect("a file");
}

pub fn head(checkout: &Path) -> String {
    git(checkout, &["rev-parse", "HEAD"])
}

/// Fetches and plans.
pub fn plan(update: &GitUpdate) -> Result<Target, GitError> {
    let host = Host::new();
    update.fetch(&host)?;
    update.target(&host)
}

/// Fetches and plans, when there is something to do.
pub fn plan_move(update: &GitUpdate) -> Move {
    match plan(update) {
        Ok(Target::Move(there)) => *there,
        other => panic!("expected a move, got {other:?}"),
    }
}

/// Fetches and plans, when that is refused.
pub fn refusal(update: &GitUpdate) -> GitError {
    plan(update).expect_err("it is refused")
}

pub fn change(update: &GitUpdate) -> Change {
    let host = Host::new();
    update.fetch(&host).expect("a fetch");
    match update.check(&host).expect("a check") {
        Check::Change(change) => change,
        other => panic!("expected a change, got {other:?}"),
    }
}

pub fn perform(checkout: &Checkout) {
    checkout.perform(&Host::new()).unwrap_or_else(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        panic!("{error}: {cause:?}")
    });
}

/// A server in a process group of its own, killed on drop.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(group) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Serves a directory's repositories with `git daemon`.
pub fn daemon(directory: &Path) -> Server {
    for _ in 0..10 {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        let mut command = sealed(directory);
        command.args(["daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1"]);
        command.arg(format!("--port={port}")).arg(format!("--base-path={}", directory.display()));
        let child =
            command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("git daemon");
        let mut server = Server { child, port };
        let end = Instant::now() + Duration::from_secs(30);
        while Instant::now() < end && server.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return server;
            }
            std::thread::yield_now();
        }
    }
    panic!("git daemon did not start");
}

/// Serves a directory's repositories with `git http-backend`, to everybody or to one `name:password`.
pub fn http_server(directory: &Path, login: Option<&str>) -> Option<Server> {
    let python = super::program("python3")?;
    let mut child = Command::new(python)
        .arg(super::root().join("tests/support/git_http.py"))
        .arg("0")
        .arg(directory)
        .args(login)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .process_group(0)
        .stdout(Stdio::piped())
        .spawn()
        .expect("python runs");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    Some(Server { child, port: line.trim().parse().expect("a port") })
}

/// Publishes a submodule `sub` that has a submodule `nested`, each beside the upstream; returns the commit.
pub fn below_one_another(repositories: &Repositories) -> String {
    let directory = repositories.directory.path();
    for (name, file, inner) in [("nested", "n.py", None), ("sub", "s.py", Some("nested"))] {
        git(directory, &["init", "-q", "-b", "main", name]);
        let top = directory.join(name);
        if let Some(inner) = inner {
            add_submodule(&top, inner);
        }
        repositories.commit(&top, name, &[(file, &format!("{} = 1\n", &name[..1]))]);
        git(directory, &["clone", "-q", "--bare", name, &format!("{name}.git")]);
    }
    add_submodule(&repositories.developer, "sub");
    repositories.publish("with submodules", &[])
}

fn add_submodule(top: &Path, name: &str) {
    let from = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "--name", name];
    git(top, &[&from[..], &[&format!("{}/../{name}.git", top.display()), name]].concat());
    git(top, &["config", "-f", ".gitmodules", &format!("submodule.{name}.url"), &format!("../{name}.git")]);
    git(top, &["add", ".gitmodules"]);
}
