//! Who may configure, whose the state is, and one-liners from elsewhere: on checkouts with no site in them, which needs no Django.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use deploykit::internal::lock::Lock;
use deploykit::internal::state::State;
use deploykit::{Host, Site};

use crate::documents::assert_documented;
use crate::run::{Done, deploykit};
use crate::support::git::{Repositories, git};
use crate::support::services::Supervisord;
use crate::support::skip;

/// Somebody who is neither us nor root.
const SOMEBODY: u32 = 54_321;

const FILES: [(&str, &str); 2] =
    [("manage.py", "print('managed')\n"), (".gitignore", "deploykit.toml\n.deploykit/\n")];

/// A checkout with a configuration, and a new commit at its remote.
struct Place {
    repositories: Repositories,
    top: PathBuf,
}

impl Place {
    fn new() -> Place {
        let repositories = Repositories::new(&FILES);
        let top = repositories.directory.path().canonicalize().unwrap();
        let place = Place { repositories, top };
        fs::set_permissions(&place.top, fs::Permissions::from_mode(0o755)).unwrap();
        let bin = place.top.join("venv/bin");
        fs::create_dir_all(&bin).unwrap();
        symlink("/usr/bin/python3", bin.join("python")).unwrap();
        fs::write(place.top.join("venv/pyvenv.cfg"), "home = /usr/bin\nversion = 3.11.2\n").unwrap();
        place.configure("");
        place
    }

    fn configure(&self, more: &str) {
        let text = format!(
            "[site]\nsettings = \"x\"\n[python]\nvirtualenv = \"../venv\"\n[git]\nbranch = \"main\"\n{more}"
        );
        fs::write(self.config(), text).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.repositories.live.join("deploykit.toml")
    }

    fn state(&self) -> State {
        Site::load(&self.config(), None).unwrap().state()
    }

    fn run(&self, args: &[&str]) -> Done {
        deploykit(&self.repositories.live, args).run()
    }

    /// Runs it in `/`, with the options that name checkout and virtualenv.
    fn called_elsewhere(&self) -> [Done; 2] {
        let (live, venv) =
            (self.repositories.live.display().to_string(), self.top.join("venv").display().to_string());
        fs::write(self.top.join("more.txt"), "").unwrap();
        let more = self.top.join("more.txt").display().to_string();
        [
            deploykit("/", &["git-update", "--repository", &live]).run(),
            deploykit("/", &["pip-install", "--virtualenv", &venv, "-r", &more]).run(),
        ]
    }

    /// Writes a run that is not over, as this site would.
    fn unfinished(&self) -> PathBuf {
        let run = self.state().new_run().unwrap();
        let touch =
            serde_json::json!({"action": "run", "command": {"program": "touch", "args": [self.executed()]}});
        let step = serde_json::json!({
            "entry": "step_started", "step": "code", "phase": "window", "time": "2026-11-28T12:00:00Z", "actions": [],
            "undo": [touch],
        });
        let begun = serde_json::json!({
            "entry": "run_started", "version": 1, "run": run.name, "time": "2026-11-28T12:00:00Z", "pid": 1, "user": "x",
            "environment": "production", "from": "a", "to": "b", "hold": [],
            "state": self.state().owner().unwrap().map(|owner| owner.id),
        });
        fs::write(run.journal(), format!("{begun}\n{step}\n")).unwrap();
        fs::set_permissions(run.journal(), fs::Permissions::from_mode(0o600)).unwrap();
        run.path
    }

    fn executed(&self) -> PathBuf {
        self.top.join("executed")
    }
}

#[track_caller]
fn says(done: &Done, code: i32, words: &str) {
    assert!(done.code == Some(code) && done.stderr.contains(words), "{:?}\n{}", done.code, done.stderr);
}

#[test]
fn a_configuration_that_others_may_write_is_not_obeyed() {
    let place = Place::new();
    let (below, executed) = (place.repositories.live.join("below"), place.executed());
    fs::create_dir(&below).unwrap();
    place.configure(&format!(
        "[[services]]\nname = \"web\"\nmanager = \"command\"\nstart = [\"true\"]\nstatus = [\"touch\", {executed:?}]\n"
    ));
    let status = || deploykit(&below, &["services", "status"]).run();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&place.config(), 0o666);
    says(&status(), 3, "everyone may write");
    says(&status(), 3, "Hint: chmod go-w");
    mode(&place.config(), 0o644);
    mode(&place.repositories.live, 0o777);
    says(&status(), 3, "everyone may write");
    mode(&place.repositories.live, 0o755);
    assert!(!executed.exists(), "nothing of it was run");
    status().expect(0);
    assert!(executed.exists());

    // What it names counts as well.
    place.configure("[hooks]\nafter-success = [[\"./tell\"]]\n");
    let tell = place.repositories.live.join("tell");
    fs::write(&tell, "#!/bin/sh\n").unwrap();
    mode(&tell, 0o757);
    says(&place.run(&["env"]), 3, &format!("everyone may write `{}`", tell.display()));
    mode(&tell, 0o755);
    place.run(&["env"]).expect(0);
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: only root can give files away");
    }
    for path in [tell, place.config()] {
        chown(&path, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
        for command in [&["env"][..], &["plan"], &["git-update"], &["recover"]] {
            says(&place.run(command), 3, &format!("`{}` belongs to user {SOMEBODY}", path.display()));
        }
    }
}

#[test]
fn root_leaves_nothing_in_a_checkout_of_somebody_else() {
    if !rustix::process::geteuid().is_root() {
        skip("only root can give files away");
    }
    let place = Place::new();
    let live = &place.repositories.live;
    for path in [live.clone(), live.join(".git")] {
        chown(path, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    }
    let commands: [&[&str]; 8] = [
        &["plan"],
        &["update", "-y"],
        &["git-update"],
        &["recover"],
        &["status"],
        &["secrets", "check"],
        &["manage", "--", "check"],
        &["env"],
    ];
    for command in commands {
        says(&place.run(command), 3, "root does not work on a site of somebody else");
    }
    let [checkout, _] = place.called_elsewhere();
    says(&checkout, 4, "root does not work on a site of somebody else");
    fs::remove_file(place.config()).unwrap();
    says(&place.run(&["init"]), 4, "root does not work on a site of somebody else");
    says(&place.run(&["init"]), 4, "Hint: run deploykit as user 54321: `sudo -u '#54321' deploykit …`");
    assert!(!live.join(".deploykit").exists() && !place.config().exists());
}

#[test]
fn somebody_else_is_told_whose_the_site_is() {
    if !rustix::process::geteuid().is_root() {
        skip("only root can run programs as somebody else");
    }
    let place = Place::new();
    let live = place.repositories.live.display().to_string();
    place.run(&["git-update"]).expect(0);
    let run = |directory: &str, args: &[&str]| deploykit(directory, args).user(SOMEBODY).run();
    for command in [&["status"][..], &["git-update"]] {
        let done = run(&live, command);
        says(
            &done,
            4,
            &format!("`{live}/.deploykit` belongs to root, and user {SOMEBODY} cannot write to it"),
        );
        says(&done, 4, "Hint: run deploykit as root: `sudo -u root deploykit …`");
    }
    fs::remove_dir_all(place.repositories.live.join(".deploykit")).unwrap();
    fs::remove_file(place.config()).unwrap();
    let checkout = run("/", &["git-update", "--check", "--repository", &live, "--branch", "main"]);
    says(&checkout, 4, &format!("git config --global --add safe.directory {live}"));
}

#[test]
fn the_state_of_a_copied_site_is_refused_until_it_is_adopted() {
    let place = Place::new();
    place.run(&["git-update"]).expect(0);
    let run = place.unfinished();
    says(&place.run(&["git-update"]), 4, "is unfinished");
    says(&place.run(&["init", "--check"]), 4, "is unfinished");
    let elsewhere = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-a").args([&place.top, &elsewhere.path().join("copied")]).status();
    assert!(copied.unwrap().success());
    let live = elsewhere.path().join("copied/live");
    let run_in_copy = |args: &[&str]| deploykit(&live, args).run();
    for command in [
        &["recover"][..],
        &["update", "-y"],
        &["plan"],
        &["rollback", "-y"],
        &["git-update"],
        &["history"],
        &["status"],
        &["report"],
    ] {
        let done = run_in_copy(command);
        says(&done, 4, &format!("was made for the site in `{}`", place.repositories.live.display()));
        says(&done, 4, "deploykit adopt");
    }
    says(&run_in_copy(&["adopt"]), 4, "is unfinished, and it changed the site that it names");
    let adopted = run_in_copy(&["adopt", "--abandon", "--json"]).expect(0).json();
    assert_documented("adopt", &adopted);
    assert!(
        Path::new(adopted["aside"].as_str().unwrap()).join("runs").join(run.file_name().unwrap()).is_dir()
    );
    run_in_copy(&["git-update"]).expect(0);
    assert!(run_in_copy(&["history"]).expect(0).stdout.contains("no updates yet"));
    assert!(run_in_copy(&["adopt"]).expect(0).stdout.contains("nothing to adopt"));
    assert!(!place.executed().exists(), "what the original's run would undo was not done");
    // The original is as it was.
    place.run(&["recover"]).expect(0);
    assert!(place.executed().exists());
}

#[test]
fn a_virtualenv_in_the_state_of_another_site_is_not_adopted() {
    let place = Place::new();
    place.run(&["git-update"]).expect(0);
    let environment = place.state().virtualenvs().join("0123");
    fs::create_dir_all(&environment).unwrap();
    fs::remove_dir_all(place.top.join("venv")).unwrap();
    symlink(&environment, place.top.join("venv")).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-a").args([&place.top, &elsewhere.path().join("copied")]).status();
    assert!(copied.unwrap().success());
    let done = deploykit(elsewhere.path().join("copied/live"), &["adopt"]).run();
    says(&done, 4, "which belongs to another site");
}

#[test]
fn a_commit_cannot_bring_state() {
    let place = Place::new();
    place.run(&["git-update"]).expect(0);
    let run = place.unfinished();
    let journal = fs::read_to_string(run.join("journal.jsonl")).unwrap();
    fs::remove_dir_all(run).unwrap();
    let planted = ".deploykit/runs/20991231-1/journal.jsonl";
    let journal =
        journal.replace(&place.state().owner().unwrap().unwrap().id, "0123456789abcdef0123456789abcdef");
    place.repositories.publish("planted", &[(planted, &journal)]);
    says(&place.run(&["git-update"]), 4, &format!("brings `{planted}`"));
    let live = &place.repositories.live;
    let elsewhere =
        deploykit("/", &["git-update", "--repository", live.to_str().unwrap(), "--branch", "main"]).run();
    says(&elsewhere, 4, &format!("brings `{planted}`"));
    assert!(!live.join(planted).exists());

    // It comes all the same, by git itself.
    git(live, &["pull", "-q"]);
    for command in [&["recover"][..], &["update", "-y"], &["rollback", "-y"], &["status"], &["adopt"]] {
        says(&place.run(command), 4, "the commit that is checked out brought files into");
    }
    // Or as something that git does not know any more.
    git(live, &["reset", "-q", "--mixed", "HEAD~1"]);
    for command in [&["recover"][..], &["git-update"], &["status"]] {
        says(&place.run(command), 4, "was not written by this site");
    }
    assert!(!place.executed().exists(), "nothing that it names was done");
    place.run(&["adopt", "--abandon"]).expect(0);
    assert!(place.run(&["recover"]).expect(0).stdout.contains("nothing to recover"));
}

#[test]
fn one_liners_from_elsewhere_are_those_of_the_site() {
    let place = Place::new();
    // A configuration that is neither in the checkout nor above it is found by what a claim left in git's directory.
    let apart = place.top.join("conf");
    for moved in [false, true] {
        if moved {
            fs::create_dir(&apart).unwrap();
            let text = fs::read_to_string(place.config()).unwrap();
            let text = text.replace("[site]", "[site]\nrepository = \"../live\"");
            fs::remove_file(place.config()).unwrap();
            fs::remove_dir_all(place.repositories.live.join(".deploykit")).unwrap();
            fs::write(apart.join("deploykit.toml"), text).unwrap();
        }
        let config = if moved { apart.join("deploykit.toml") } else { place.config() };
        let here = |args: &[&str]| deploykit(config.parent().unwrap(), args).run();
        here(&["git-update"]).expect(0);
        let state = Site::load(&config, None).unwrap().state();
        let lock = Lock::take(&state.lock(), "update to 3f2a9c1", Duration::ZERO, &Host::new()).unwrap();
        for done in place.called_elsewhere() {
            says(&done, 4, ": update to 3f2a9c1");
        }
        says(&here(&["manage", "--", "migrate"]), 4, ": update to 3f2a9c1");
        assert_eq!(here(&["manage", "--", "shell"]).expect(0).stdout, "managed\n", "a person's own way in");
        drop(lock);
        assert_eq!(here(&["manage", "--", "migrate"]).expect(0).stdout, "managed\n");
        let published = place.repositories.publish("unsigned", &[]);
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("[git]", "[git]\nverify-signature = true")).unwrap();
        let [checkout, _] = place.called_elsewhere();
        says(&checkout, 4, &format!("`{} unsigned` has no good signature", &published[..7]));
        fs::write(&config, text).unwrap();
        let run = state.new_run().unwrap();
        let begun = serde_json::json!({
            "entry": "run_started", "version": 1, "run": run.name, "time": "2026-11-28T12:00:00Z", "pid": 1, "user": "x",
            "environment": "production", "from": "a", "to": "b", "hold": [], "state": state.owner().unwrap().unwrap().id,
        });
        fs::write(run.journal(), format!("{begun}\n")).unwrap();
        fs::set_permissions(run.journal(), fs::Permissions::from_mode(0o600)).unwrap();
        for done in place.called_elsewhere() {
            says(&done, 4, "is unfinished");
        }
        fs::remove_dir_all(run.path).unwrap();
        place.called_elsewhere()[0].code.filter(|code| *code == 0).expect("it is moved as it was asked for");
    }

    // Another configuration for the same checkout has another lock.
    let other = place.top.join("other");
    fs::create_dir(&other).unwrap();
    fs::copy(apart.join("deploykit.toml"), other.join("deploykit.toml")).unwrap();
    says(&deploykit(&other, &["git-update"]).run(), 4, "is that of the site");
}

#[test]
fn stopped_services_are_those_of_their_site() {
    let (one, other) = (Place::new(), Place::new());
    let python = |place: &Place| place.top.join("venv/bin/python").display().to_string();
    let command =
        format!("command = {} -c 'import time; time.sleep(600)'\nautostart = false\n", python(&one));
    let (of_other, here) = (python(&other), other.repositories.live.display().to_string());
    let programs = format!(
        "[program:web]\n{command}[program:web-2]\n{command}\
         [program:other]\ncommand = {of_other} -c pass\nautostart = false\n\
         [program:there]\ncommand = sleep 600\ndirectory = {here}\nautostart = false\n"
    );
    let Some(supervisord) = Supervisord::start(&programs) else { return };
    let supervisor_config = supervisord.path("supervisord.conf").display().to_string();
    let run = |args: &[&str]| {
        let flags = ["--manager", "supervisor", "--supervisor-config", &supervisor_config];
        deploykit("/", &[&["services"], args, &flags[..]].concat()).run()
    };
    one.run(&["git-update"]).expect(0);
    let lock = Lock::take(&one.state().lock(), "update to 3f2a9c1", Duration::ZERO, &Host::new()).unwrap();
    says(&run(&["start", "web"]), 4, ": update to 3f2a9c1");
    says(&run(&["start", "web", "web-2"]), 4, ": update to 3f2a9c1");
    for foreign in ["other", "there"] {
        let mixed = run(&["start", "web", foreign]);
        says(
            &mixed,
            2,
            &format!("the service `{foreign}` belongs to the site `{}`", other.config().display()),
        );
        says(&mixed, 2, "Hint: call deploykit once per site");
    }
    let config = one.config().display().to_string();
    says(&run(&["start", "other", "--config", &config]), 2, "Hint: leave out `--config`");
    drop(lock);
    let started = run(&["start", "web"]).expect(0);
    assert!(started.stdout.contains("  web  running  "), "{}", started.stdout);
    // With a broken configuration, its site cannot be known.
    fs::write(other.config(), "[site").unwrap();
    says(&run(&["start", "there"]), 3, "unclosed table");
    says(&run(&["start", "none"]), 4, "none");
}

#[test]
fn flags_do_not_contradict_the_configuration_that_is_named() {
    let (place, other) = (Place::new(), Place::new());
    place.run(&["git-update"]).expect(0);
    let shown = |path: &Path| path.display().to_string();
    let (config, more) = (shown(&other.config()), shown(&place.top.join("more.txt")));
    fs::write(&more, "").unwrap();
    let commands = [
        ("--repository", shown(&place.repositories.live), vec!["git-update"]),
        ("--virtualenv", shown(&place.top.join("venv")), vec!["pip-install", "-r", &more]),
    ];
    for (flag, of_place, command) in commands {
        let named = [&command[..], &[flag, &of_place]].concat();
        let contradicts = format!("`{flag}` contradicts the configuration `{config}`");
        says(&deploykit("/", &[&named[..], &["--config", &config]].concat()).run(), 2, &contradicts);
        says(&deploykit("/", &named).env("DEPLOYKIT_CONFIG", &config).run(), 2, &contradicts);
        // Another configuration for the same checkout has another lock.
        let aside = place.top.join("aside.toml");
        let text = fs::read_to_string(place.config()).unwrap();
        let text = text.replace("[site]", "[site]\nrepository = \"live\"").replace("../venv", "venv");
        fs::write(&aside, text).unwrap();
        let done = deploykit("/", &[&named[..], &["--config", &shown(&aside)]].concat()).run();
        says(&done, 4, &format!("is that of the site `{}`", place.config().display()));
    }
}

#[test]
fn a_configured_service_with_another_command_is_refused() {
    let place = Place::new();
    let (pidfile, started) = (place.top.join("pid"), place.top.join("started"));
    place.configure(&format!(
        "[[services]]\nname = \"web\"\nmanager = \"gunicorn\"\npidfile = {pidfile:?}\nstart = [\"gunicorn\", \"site\"]\n"
    ));
    let (pidfile, start) = (pidfile.display().to_string(), format!("touch {}", started.display()));
    let flags = ["--manager", "gunicorn", "--pidfile", &pidfile, "--start", &start];
    for name in ["web", "another-name"] {
        let done = place.run(&[&["services", "start", name], &flags[..]].concat());
        let config = place.config().display().to_string();
        says(
            &done,
            2,
            &format!("`--start` contradicts the configuration `{config}`, which has `gunicorn site`"),
        );
    }
    assert!(!started.exists());
}

#[test]
fn pages_are_those_of_their_site() {
    let (place, other, www) = (Place::new(), Place::new(), tempfile::tempdir().unwrap());
    // One page is in a directory beside the configuration. Only a mark identifies the site of the other one.
    for page in [place.top.join("maintenance.html"), www.path().join("down.html")] {
        let shown = page.display().to_string();
        place.configure(&format!("[maintenance]\npage = \"{shown}\"\nmessage = \"Back at noon\"\n"));
        let run =
            |args: &[&str]| deploykit("/", &[&["maintenance", "on", "--page", &shown], args].concat()).run();
        place.run(&["git-update"]).expect(0);
        let lock =
            Lock::take(&place.state().lock(), "update to 3f2a9c1", Duration::ZERO, &Host::new()).unwrap();
        says(&run(&[]), 4, ": update to 3f2a9c1");
        assert!(!page.exists());
        drop(lock);
        run(&[]).expect(0);
        assert!(fs::read_to_string(&page).unwrap().contains("Back at noon"), "it is as configured");
        let config = other.config().display().to_string();
        let foreign = run(&["--config", &config]);
        says(&foreign, 2, &format!("belongs to the site `{}`", place.config().display()));
    }
    let names: Vec<_> = fs::read_dir(&place.top).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().ends_with("html.deploykit-site")), "{names:?}");
}

#[test]
fn events_are_not_written_through_a_link() {
    let place = Place::new();
    let (victim, link) = (place.top.join("victim"), place.repositories.live.join("events"));
    fs::write(&victim, "untouched").unwrap();
    symlink(&victim, &link).unwrap();
    says(&place.run(&["update", "-y", "--events", "events"]), 2, "cannot open the file for events `events`");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    let device = place.run(&["update", "-y", "--events", "/dev/stderr"]);
    assert!(device.stderr.contains("\"step_started\""), "{}", device.stderr);
}
