//! Sites as other people have them, each from `init` to an update, a release that fails, a kill, and a rollback.
//!
//! `tests/sites/` has a directory for each, with its project and what its server has in `/etc`. Its services are units of a
//! systemd of its own.

mod pipenv_apache;
mod poetry_uwsgi;
mod uv_uvicorn;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::run::{Cli, Done, FOREIGN, deploykit, wait_for};
use crate::support::site::demo_site::run;
use crate::support::systemd::systemctl;
use crate::support::{root, tools};

/// A project with its remote and its checkout on the server.
struct Place {
    directory: tempfile::TempDir,
    /// Where its people write new versions.
    author: PathBuf,
    checkout: PathBuf,
    /// What its virtualenv is made with.
    python: &'static str,
    /// What it is written from.
    files: PathBuf,
    /// What stands in these files in place of names.
    texts: Vec<(&'static str, String)>,
}

impl Place {
    /// Writes the project of that name into a remote and clones it, with texts in place of these names.
    fn new(
        project: &str,
        python: &'static str,
        texts: &[(&'static str, String)],
        before: impl FnOnce(&Place),
    ) -> Place {
        let directory = tempfile::Builder::new().prefix("site-").tempdir().unwrap();
        // Services of other users come by.
        fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let top = directory.path().display().to_string();
        let [author, checkout] = ["author", project].map(|name| directory.path().join(name));
        let files = root().join("tests/sites").join(project);
        let mut place = Place { directory, author, checkout, files, texts: texts.to_vec(), python };
        let version = "import sys; print('%d.%d' % sys.version_info[:2], end='')";
        place.texts.extend([
            ("@ROOT@", top),
            ("@PYTHON@", place.run(python, &["-c", version])),
            ("@DEPLOYKIT@", env!("CARGO_BIN_EXE_deploykit").to_owned()),
        ]);
        place.write_out("project", &place.author);
        before(&place);
        place.author("git", &["init", "-q", "-b", "main"]);
        place.commit("Release 1");
        let (origin, author) = (place.at("origin.git"), place.at("author"));
        place.run("git", &["clone", "-q", "--bare", &author, &origin]);
        place.author("git", &["remote", "add", "origin", &origin]);
        place.run("git", &["clone", "-q", &origin, place.checkout.to_str().unwrap()]);
        place
    }

    /// Installs what its server has of the site in `/etc`, and starts it.
    fn serve(&self, units: &[&str]) {
        self.write_out("server", Path::new("/"));
        systemctl(&["daemon-reload"]);
        systemctl(&[&["enable", "-q", "--now"], units].concat());
    }

    /// Writes one of the two directories of the site.
    fn write_out(&self, what: &str, to: &Path) {
        let from = self.files.join(what);
        let mut paths = vec![from.clone()];
        while let Some(path) = paths.pop() {
            let target = to.join(path.strip_prefix(&from).unwrap());
            if path.is_dir() {
                fs::create_dir_all(&target).unwrap();
                paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else {
                let text = fs::read_to_string(&path).unwrap();
                let text = self.texts.iter().fold(text, |text, (name, value)| text.replace(name, value));
                fs::write(target, text).unwrap();
            }
        }
    }

    /// Returns the path of something beside the checkout.
    fn at(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Replaces a text in a file of the next version.
    #[track_caller]
    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.author.join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "no `{from}` in {file}:\n{text}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    /// Writes a file beside the checkout or in it.
    fn write(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn command(&self, program: &str, directory: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if FOREIGN.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command.current_dir(directory).envs(variables());
        command
    }

    /// Runs a program beside the checkout, to its end.
    #[track_caller]
    fn run(&self, program: &str, args: &[&str]) -> String {
        self.run_in(self.directory.path(), program, args)
    }

    /// Runs a program where versions are written.
    #[track_caller]
    fn author(&self, program: &str, args: &[&str]) -> String {
        self.run_in(&self.author, program, args)
    }

    #[track_caller]
    fn run_in(&self, directory: &Path, program: &str, args: &[&str]) -> String {
        run(self.command(program, directory).args(args)).unwrap_or_else(|error| panic!("{error}"))
    }

    fn commit(&self, message: &str) {
        self.author("git", &["add", "-A"]);
        self.author("git", &["commit", "-q", "-m", message]);
    }

    /// Brings what was written to the remote.
    fn publish(&self, message: &str) {
        self.commit(message);
        self.author("git", &["push", "-q", "origin", "HEAD:main"]);
    }

    /// Makes `venv` with these packages, and what they need.
    fn virtualenv(&self, wheels: &Path, packages: &[&str]) {
        self.run("uv", &["venv", "-q", "--python", self.python, "venv"]);
        let into = ["pip", "install", "-q", "--python", "venv/bin/python", "--no-index", "--find-links"];
        self.run("uv", &[&into[..], &[wheels.to_str().unwrap()], packages].concat());
    }

    /// Locks what is installed.
    fn lock(&self, tool: &str, wheels: &Path) {
        let script = root().join("tests/sites/lock.py");
        let (script, python) = (script.to_str().unwrap(), self.at("venv/bin/python"));
        self.author(
            tools().join("venv/bin/python").to_str().unwrap(),
            &[script, tool, ".", wheels.to_str().unwrap(), &python],
        );
    }

    /// Adds a field to the model of an app, with its migration.
    fn migration(&self, app: &str, model: &str, release: u32) {
        let before =
            if release == 2 { "0001_initial".to_owned() } else { format!("{:04}_more", release - 1) };
        let label = app.trim_end_matches('/').rsplit('/').next().unwrap();
        let text = format!(
            "from django.db import migrations, models\n\n\nclass Migration(migrations.Migration):\n    \
             dependencies = [(\"{label}\", \"{before}\")]\n    \
             operations = [migrations.AddField(\"{model}\", \"field{release}\", models.IntegerField(default=0))]\n"
        );
        self.write(&format!("author/{app}migrations/{release:04}_more.py"), &text);
        let text = "    text = models.TextField()\n";
        let more = format!("{text}    field{release} = models.IntegerField(default=0)\n");
        self.edit(&format!("{app}models.py"), text, &more);
    }

    /// deploykit, called in the checkout by a person of the site.
    fn deploykit(&self, args: &[&str]) -> Cli {
        variables()
            .into_iter()
            .fold(deploykit(&self.checkout, args), |cli, (name, value)| cli.env(name, &value))
    }

    /// Lets `init` write the configuration, which asks exactly these questions, and returns the text.
    #[track_caller]
    fn init(&self, questions: &[&str]) -> String {
        let init = self.deploykit(&["init"]).run().expect(0);
        let asked: Vec<_> =
            init.stdout.lines().filter_map(|line| line.strip_prefix("Needs a person: ")).collect();
        let text = fs::read_to_string(self.checkout.join("deploykit.toml")).unwrap();
        assert_eq!(asked, questions, "{text}");
        text
    }
}

/// What a person of the site has in the environment: an author's name, the tools, nothing of the machine's own settings.
fn variables() -> Vec<(&'static str, String)> {
    let own = [tools().join("venv/bin")];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path))).unwrap();
    let mut variables = vec![
        ("PATH", path.into_string().unwrap()),
        ("UV_CACHE_DIR", tools().join("uv-cache").display().to_string()),
        ("GIT_CONFIG_GLOBAL", "/dev/null".to_owned()),
        ("GIT_CONFIG_SYSTEM", "/dev/null".to_owned()),
    ];
    for name in ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"] {
        variables.push((name, "ada@board.example".to_owned()));
    }
    variables
}

/// The event with which the migrations begin.
const MIGRATES: &str = "\"event\":\"step_started\",\"phase\":\"window\",\"step\":\"migrate\"";

/// What a course of versions takes.
struct Course<'c> {
    place: &'c Place,
    /// Returns what the home page says, or why it says nothing.
    page: &'c dyn Fn() -> String,
    /// The file that has `RELEASE = "1"`, on which the pages depend.
    views: &'c str,
    /// Writes what else is new into a version: a migration at least.
    change: &'c dyn Fn(u32),
}

impl Course<'_> {
    /// Updates; lets a release fail in the rehearsal and in the window; kills an update and recovers; rolls back.
    #[track_caller]
    fn run(&self) {
        let Course { place, page, .. } = self;
        assert!(page().contains("release 1,"), "{}", page());
        self.release("1", "2");
        (self.change)(2);
        place.publish("Release 2");
        let plan = place.deploykit(&["plan"]).run().expect(0);
        assert!(!plan.stdout.contains("Warning"), "{}", plan.stdout);
        self.update(&[]).expect(0);
        assert!(page().contains("release 2,"), "{}", page());

        place.edit(self.views, "def home(request):\n", "def home(request):\n    raise ValueError(RELEASE)\n");
        place.publish("A broken page");
        for (flags, code) in [(&[][..], 4), (&["--no-rehearsal"], 5)] {
            let failed = self.update(flags).expect(code);
            assert!(failed.stderr.contains("`/`: expected status 200, got 500"), "{failed:?}");
            assert!(page().contains("release 2,"), "{}", page());
        }

        place.edit(self.views, "    raise ValueError(RELEASE)\n", "");
        self.release("2", "3");
        (self.change)(3);
        place.publish("Release 3");
        let events = place.at("events.jsonl");
        let update = place.deploykit(&["update", "-y", "--now", "--events", &events]).start();
        wait_for("the migration", || fs::read_to_string(&events).is_ok_and(|text| text.contains(MIGRATES)));
        update.signal(Signal::KILL);
        assert_eq!(update.finish().code, None);
        place.deploykit(&["recover"]).run().expect(0);
        assert!(page().contains("release 2,"), "{}", page());

        place.deploykit(&["rollback", "-y"]).run().expect(0);
        assert!(page().contains("release 1,"), "{}", page());
        let status = place.deploykit(&["status", "--json"]).run().expect(0).json();
        assert_eq!(status["unfinished"], serde_json::Value::Null, "{status}");
    }

    fn release(&self, from: &str, to: &str) {
        let line = |number: &str| format!("RELEASE = \"{number}\"");
        self.place.edit(self.views, &line(from), &line(to));
    }

    fn update(&self, flags: &[&str]) -> Done {
        self.place.deploykit(&[&["update", "-y", "--now"], flags].concat()).run()
    }
}

/// Asks for a page, as curl does.
fn ask(way: &[&str], host: &str) -> String {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "20"]).args(way).arg(format!("http://{host}/"));
    run(&mut curl).unwrap_or_else(|error| error.to_string())
}
