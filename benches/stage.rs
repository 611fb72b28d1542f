//! A site at release 1 with release 2 waiting, and a copy of all of it, from which each run starts. It is copied back
//! to the same place, since virtualenvs and remotes are named by their paths.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Outcome;
use crate::big_site::{self, BOOT, CELERY};
use crate::crowd::Crowd;
use crate::demo_site::{DemoSite, Holder, NEW_SECRET, Options, run, wait_until};
use crate::index::Index;
use crate::program::DEPLOYKIT;
use crate::systemd;

/// From one visitor to the next: 50 a second.
const BEAT: Duration = Duration::from_millis(20);

/// What visitors ask for: four pages, then an entry that is written.
const PAGES: &[&str] = &["/", "/about/", "/gallery/", "/shop/", ""];

/// Entries in the guestbook.
const ENTRIES: u32 = 300;

/// What makes Django boot slowly.
#[derive(Clone, Copy)]
pub struct Boot {
    pub seconds: f64,
    /// It computes meanwhile, and waits otherwise.
    pub computes: bool,
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "boot + {} s{}", self.seconds, if self.computes { " of computing" } else { "" })
    }
}

pub struct Stage {
    pub site: DemoSite,
    copy: PathBuf,
    boot: Option<Boot>,
    /// What the configuration has besides.
    more: String,
    _index: Index,
    directory: tempfile::TempDir,
}

impl Stage {
    /// Builds it with celery as its worker; nobody keeps gunicorn's socket.
    pub fn build() -> Outcome<Stage> {
        Stage::with(None, Some(CELERY))
    }

    /// Builds it; `holder` keeps gunicorn's socket. Celery may fail at many writes a second: its queue in files is read while it is
    /// written.
    pub fn with(holder: Option<Holder>, worker: Option<&str>) -> Outcome<Stage> {
        let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
        let (first, wheels) = (directory.path().join("first"), directory_of("BENCH_WHEELS", "bench-wheels")?);
        let nginx = which("nginx")?;
        let index_directory = directory.path().join("index");
        fs::create_dir(&index_directory)?;
        let index = Index::start(&nginx, &wheels, &index_directory)?;
        big_site::write_first(&first)?;
        let tools = directory_of("DEPLOYKIT_TEST_TOOLS", "test-tools")?;
        let options = Options {
            supervisord: Some(tools.join("venv/bin/supervisord")),
            uv: Some(tools.join("venv/bin/uv")),
            nginx: Some(nginx),
            holder,
            entries: ENTRIES,
            first: Some(first),
            index: Some(index.url.clone()),
            worker: worker.map(ToOwned::to_owned),
            // That of the tools, which fetched the packages.
            ..Options::new(tools.join("venv/bin/python").canonicalize()?)
        };
        let site = DemoSite::create(&directory.path().join("site"), &options)?;
        if holder == Some(Holder::Systemd) {
            systemd::install(&site)?;
        }
        for name in ["queue", "control"] {
            fs::create_dir(site.root.join("data").join(name))?;
        }
        // As pip, with which people install, leaves it.
        run(site.python().args(["-m", "compileall", "-q"]).arg(site.virtualenv.join("lib")))?;
        let copy = directory.path().join("copy");
        let mut stage = Stage { site, copy, boot: None, more: String::new(), _index: index, directory };
        stage.update_once()?;
        big_site::publish_second(&stage.site)?;
        stage.site.add_secret(NEW_SECRET, "a-pinch-of-salt")?;
        run(Command::new("cp").arg("-a").args([&stage.site.root, &stage.copy]))?;
        // A copy says of itself that it is one; without that it is the site.
        fs::remove_file(stage.copy.join("site/.deploykit/site.json"))?;
        Ok(stage)
    }

    /// Brings something small by deploykit: but on its first day, each site was updated by it before.
    fn update_once(&mut self) -> Outcome<()> {
        self.site.publish(|tree| {
            let _ = fs::write(tree.join("README.md"), "A guestbook.\n");
        })?;
        self.start()?;
        run(&mut self.update())?;
        self.stop()?;
        Ok(())
    }

    /// Lets Django take longer to boot, from the next beginning on.
    pub fn boot_slowly(&mut self, boot: Boot) {
        self.boot = Some(boot);
    }

    /// Adds to the configuration, from the next beginning on.
    pub fn configure(&mut self, more: &str) {
        more.clone_into(&mut self.more);
    }

    /// Restores everything from the copy, and starts the site.
    pub fn begin(&mut self) -> Outcome<()> {
        self.stop()?;
        fs::remove_dir_all(&self.site.root)?;
        run(Command::new("cp").arg("-a").args([&self.copy, &self.site.root]))?;
        if let Some(Boot { seconds, computes }) = self.boot {
            let how = if computes { " computing" } else { "" };
            fs::write(self.site.root.join(BOOT), format!("{seconds}{how}"))?;
        }
        if !self.more.is_empty() {
            let text = fs::read_to_string(&self.site.config)?;
            fs::write(&self.site.config, format!("{text}\n{}", self.more))?;
        }
        // To git, a copy is changed files; on a server it has seen them.
        let refresh = ["update-index", "-q", "--refresh"];
        run(self.command("git").args(refresh))?;
        let waiting = self.site.checkout.join(".deploykit/next-tree");
        if waiting.exists() {
            let mut git = self.command("git");
            git.env("GIT_DIR", waiting.join("git")).env("GIT_WORK_TREE", waiting.join("files"));
            run(git.env("GIT_COMMON_DIR", self.site.checkout.join(".git")).args(refresh))?;
        }
        // What copying has left to write would be waited for by whoever syncs next.
        rustix::fs::sync();
        self.start()
    }

    fn start(&mut self) -> Outcome<()> {
        if self.site.options.holder == Some(Holder::Systemd) {
            systemd::start()?;
        }
        Ok(self.site.start()?)
    }

    fn stop(&mut self) -> Outcome<()> {
        self.site.stop();
        if self.site.options.holder == Some(Holder::Systemd) { systemd::stop() } else { Ok(()) }
    }

    /// Lets visitors come, and waits until they are served as usual.
    pub fn visit(&self) -> Outcome<Crowd> {
        let crowd = Crowd::start(&self.site.front_address, BEAT, PAGES);
        if wait_until(Duration::from_secs(60), || crowd.served() > 100) {
            Ok(crowd)
        } else {
            Err(format!("nobody is served:\n{}", self.site.logs()).into())
        }
    }

    /// Makes a command in the environment of a person of this site.
    pub fn command(&self, program: &str) -> Command {
        person(&self.site, program)
    }

    pub fn update(&self) -> Command {
        let mut command = self.command(DEPLOYKIT);
        command.args(["update", "-y"]);
        command
    }

    pub fn by_hand(&self) -> Command {
        let mut command = self.command("/bin/sh");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/by_hand.sh");
        command.arg(script).envs(self.site.by_hand_environment());
        command
    }

    /// Returns a path beside the site, for what is written down.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Makes a command in the environment of a person of a site.
pub fn person(site: &DemoSite, program: &str) -> Command {
    let mut command = site.command(program);
    command.current_dir(&site.checkout);
    if let Some(directory) = site.options.uv.as_deref().and_then(Path::parent) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let directories = [directory.to_owned()].into_iter().chain(std::env::split_paths(&path));
        if let Ok(path) = std::env::join_paths(directories) {
            command.env("PATH", path);
        }
    }
    command
}

/// Finds what `benches/run` installed: named by a variable, or below `target`.
pub fn directory_of(variable: &str, name: &str) -> Outcome<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(name);
    let directory = std::env::var_os(variable).map_or_else(default, PathBuf::from);
    directory
        .canonicalize()
        .map_err(|_| format!("there is no {}; call benches/run", directory.display()).into())
}

pub fn which(program: &str) -> Outcome<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let directories = std::env::split_paths(&path).chain(system);
    let found = directories.map(|directory| directory.join(program)).find(|file| file.is_file());
    found.ok_or_else(|| format!("`{program}` is not installed").into())
}
