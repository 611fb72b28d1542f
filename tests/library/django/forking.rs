//! Commands of `manage.py` in a fork of the waiting Django.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use deploykit::Host;
use deploykit::internal::django::{DjangoError, Places, Project, Session};
use deploykit::{Cancel, CommandError};
use tempfile::TempDir;

use crate::support::database::{Database, Engine};
use crate::support::django::Site;
use crate::support::site::demo_site::wait_until;

const SAY: &str = r#"
import os
import signal
import subprocess
import sys
import time

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("what")
        parser.add_argument("rest", nargs="*")

    def handle(self, *args, what, rest, **options):
        getattr(self, what)(*rest)

    def nothing(self):
        print("to the output")
        print("to the errors", file=sys.stderr)
        sys.stdout.write("no end of a line")

    def leave(self, how):
        sys.exit({"none": None, "true": True, "three": 3, "more": 258}.get(how, how))

    def refuse(self):
        raise CommandError("not today", returncode=4)

    def fail(self):
        print("before", flush=True)
        raise ValueError("odd data")

    def interrupt(self):
        # Who runs the tests may ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def flood(self, count):
        for number in range(int(count)):
            print("line %d %s" % (number, "x" * 80))
        sys.exit(1)

    def ask(self):
        input("really? ")

    def change(self):
        os.environ["LEAKED"] = "yes"
        settings.LEAKED = "yes"
        os.chdir("/")

    def leaked(self):
        print("leaked", os.environ.get("LEAKED"), getattr(settings, "LEAKED", None), os.getcwd())

    def spawn(self, path):
        child = subprocess.Popen(["sleep", "600"])
        with open(path + ".new", "w") as file:
            print(os.getpid(), child.pid, file=file)
        os.rename(path + ".new", path)
        child.wait()

    def describe(self):
        import inspect
        import shop.models as models
        print("argv", sys.argv, __import__("__main__").__file__)
        print("bytecode", sys.dont_write_bytecode, os.environ.get("PYTHONDONTWRITEBYTECODE"))
        print("streams", sys.stdin.read() == "", sys.stdout.isatty(), os.getpgrp() == os.getpid())
        print("forked", "deploykit_probe.fork" in sys.modules)
        paths = [os.getcwd(), sys.path[0], settings.BASE_DIR, settings.DATABASES["default"]["NAME"], __file__]
        paths += [inspect.getfile(Command), self.handle.__func__.__code__.co_filename]
        paths += [models.HERE, models.TUPLE[0], models.STORE.location, models.cached("."), models.last("."), models.SLOTS.path]
        paths += [models.Slots.where, models.inner(), models.outer.__defaults__[0], models.outer.__kwdefaults__["y"]]
        paths += list(models.KEYS) + sorted(map(str, models.SET)) + [models.Item._meta.get_field("path").path, os.environ["FROM_SETTINGS"]]
        for path in paths:
            print("path", path)
        open(os.path.join(settings.BASE_DIR, "written"), "w").close()

    def rows(self):
        from django.db import connection
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid(), count(*) FROM shop_item GROUP BY 1")
            print("rows", cursor.fetchone())
"#;

const MODELS: &str = r#"
import functools
import os
from collections import namedtuple

from django.conf import settings
from django.core.files.storage import FileSystemStorage
from django.db import models

HERE = os.path.dirname(os.path.abspath(__file__))
TUPLE = namedtuple("Pair", "a b")(HERE, [HERE])
STORE = FileSystemStorage(location=os.path.join(settings.BASE_DIR, "uploads"))
STORE.location
KEYS = {HERE: 1}
SET = {HERE, settings.BASE_DIR}
os.environ["FROM_SETTINGS"] = HERE

@functools.lru_cache(maxsize=None)
def cached(name):
    return os.path.join(HERE, name)

@functools.lru_cache(maxsize=2)
def last(name):
    return os.path.join(HERE, name)

cached(".")
last(".")

class Slots:
    __slots__ = ("path",)
    where = HERE

    def __init__(self):
        self.path = HERE

SLOTS = Slots()

def outer(x=HERE, *, y=HERE):
    z = x
    def inner():
        return z
    return inner

inner = outer()

class Item(models.Model):
    name = models.CharField(max_length=50)
    path = models.FilePathField(path=HERE)
"#;

/// A site that is booted from its staged tree, and what is live once the update is over.
struct Forking {
    live: TempDir,
    project: Project,
    session: Session,
    host: Host,
    /// The transcript.
    log: PathBuf,
}

impl Forking {
    /// Prepares a site for forks; `Err`: why it cannot be forked.
    fn of(site: &Site) -> Result<Forking, String> {
        site.write("shop/management/__init__.py", "");
        site.write("shop/management/commands/__init__.py", "");
        site.write("shop/management/commands/say.py", SAY);
        let live = tempfile::tempdir().unwrap();
        let top = live.path().canonicalize().unwrap().join("site");
        let copied = Command::new("cp").arg("-r").arg(&site.project.directory).arg(&top).status().unwrap();
        assert!(copied.success());
        let project = Project { directory: top.clone(), ..site.project.clone() };
        let log = live.path().join("log");
        let host = Host::new().with_transcript(fs::File::create(&log).unwrap());
        let mut session = Session::boot(&host, &site.project).unwrap();
        session.check(&host, None).unwrap();
        let virtualenv = site.project.python.parent().and_then(Path::parent).unwrap();
        let places = Places {
            live: &project,
            tree: [&site.project.directory, &top],
            virtualenv: [virtualenv, virtualenv],
            changes: [&live.path().join("changes"), &live.path().join("aside")],
        };
        let cannot = session.begin_twin(&host, &places, false, || true).unwrap();
        match cannot.map_or_else(|| session.end_twin(&host).unwrap(), Some) {
            Some(reason) => Err(reason),
            None => Ok(Forking { live, project, session, host, log }),
        }
    }

    fn new() -> Option<Forking> {
        Site::new().map(|site| Forking::of(&site).unwrap())
    }

    fn say(&mut self, args: &[&str]) -> Result<(), CommandError> {
        self.run(&self.host.clone(), &self.project.manage([&["say"], args].concat()))
    }

    fn run(&mut self, host: &Host, command: &deploykit::Command) -> Result<(), CommandError> {
        assert!(self.session.can_fork(command));
        match self.session.run_forked(host, command) {
            Ok(()) => Ok(()),
            Err(DjangoError::Command(error)) => Err(error),
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Returns how the same command ends in a process of its own.
    fn apart(&self, args: &[&str]) -> Result<(), CommandError> {
        self.host.run_unread(&self.project.manage([&["say"], args].concat()))
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

/// Returns how a command ended, and its last lines.
fn end(result: Result<(), CommandError>) -> (String, Vec<String>) {
    match result {
        Ok(()) => ("0".to_owned(), Vec::new()),
        Err(CommandError::Failed { code, tail, .. }) => (code.to_string(), tail),
        Err(CommandError::Killed { signal, tail, .. }) => (format!("signal {signal}"), tail),
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn a_command_ends_as_in_a_process_of_its_own() {
    let Some(mut forking) = Forking::new() else { return };
    for (args, expected) in [
        (&["nothing"][..], "0"),
        (&["leave", "none"], "0"),
        (&["leave", "true"], "1"),
        (&["leave", "three"], "3"),
        (&["leave", "more"], "2"),
        (&["leave", "words for the administrator"], "1"),
        (&["refuse"], "4"),
        (&["fail"], "1"),
        (&["ask"], "1"),
        (&["interrupt"], "signal 2"),
        (&["die"], "signal 9"),
        (&["no-such-thing"], "1"),
    ] {
        let (code, tail) = end(forking.say(args));
        let (apart, apart_tail) = end(forking.apart(args));
        assert_eq!(code, expected, "{args:?}: {tail:?}");
        assert_eq!(apart, expected, "{args:?}");
        // Both streams of a fork end in one pipe: what has no line end stands before what follows.
        let lines = |tail: Vec<String>| tail.join("\n").replace("really? ", "").trim().to_owned();
        assert_eq!(lines(tail), lines(apart_tail), "{args:?}");
    }
    let (code, tail) = end(forking.run(&forking.host.clone(), &forking.project.manage(["no_such_command"])));
    assert_eq!(code, "1");
    assert!(tail[0].contains("Unknown command: 'no_such_command'"), "{tail:?}");
    assert!(forking.session.responds(&Host::new()));
}

#[test]
fn the_output_is_in_the_log_and_its_last_lines_in_the_error() {
    let Some(mut forking) = Forking::new() else { return };
    end(forking.say(&["nothing"]));
    let log = forking.log();
    let at = log.find("$ cd ").unwrap();
    assert!(log[at..].contains("manage.py say nothing\n"), "{log}");
    for line in ["to the output\n", "to the errors\n", "no end of a line\n"] {
        assert!(log.contains(line), "{log}");
    }
    let (code, tail) = end(forking.say(&["flood", "40000"]));
    assert_eq!((code.as_str(), tail.last().unwrap().split(' ').nth(1)), ("1", Some("39999")));
    assert!(!tail.iter().any(|line| line.contains("to the output")), "{tail:?}");
    let lines = forking.log().lines().filter(|line| line.starts_with("line ")).count();
    assert_eq!(lines, 40_000);
    // Another command's lines are not this one's.
    let (_, tail) = end(forking.say(&["leave", "three"]));
    assert_eq!(tail, [""; 0]);
}

#[test]
fn a_command_finds_everything_as_a_fresh_process_does_and_leaves_nothing_behind() {
    let Some(site) = Site::new() else { return };
    site.write("shop/models.py", MODELS);
    let mut forking = Forking::of(&site).unwrap();
    assert_eq!(end(forking.say(&["describe"])).0, "0", "{}", forking.log());
    let described = |log: &str| -> Vec<String> {
        let of_say = ["argv ", "bytecode ", "streams ", "path "];
        let lines = log.lines().filter(|line| of_say.iter().any(|start| line.starts_with(start)));
        lines.map(str::to_owned).collect()
    };
    let forked = forking.log();
    assert!(forked.contains("forked True\n"), "{forked}");
    assert!(!site.path("written").exists() && forking.project.directory.join("written").exists());
    fs::write(&forking.log, "").unwrap();
    end(forking.apart(&["describe"]));
    let apart = described(&forking.log());
    assert!(forking.log().contains("forked False\n") && apart.len() > 20, "{apart:?}");
    assert_eq!(described(&forked), apart);

    end(forking.say(&["change"]));
    end(forking.say(&["leaked"]));
    let expected = format!("leaked None None {}\n", forking.project.directory.display());
    assert!(forking.log().contains(&expected), "{}", forking.log());
}

#[test]
fn a_cancelled_or_late_command_ends_with_its_children_and_django_goes_on_waiting() {
    let Some(mut forking) = Forking::new() else { return };
    let pids = forking.live.path().join("pids");
    let gone = |pids: &Path| {
        let text = fs::read_to_string(pids).unwrap();
        fs::remove_file(pids).unwrap();
        wait_until(Duration::from_secs(30), || {
            text.split_whitespace().all(|pid| {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                stat.is_empty() || stat.contains(") Z ")
            })
        })
    };
    let spawn = |forking: &Forking| forking.project.manage(["say", "spawn", pids.to_str().unwrap()]);
    let cancel = Cancel::new().unwrap();
    let canceller = {
        let (cancel, pids) = (cancel.clone(), pids.clone());
        thread::spawn(move || {
            assert!(wait_until(Duration::from_secs(60), || pids.exists()));
            cancel.request();
        })
    };
    let command = spawn(&forking);
    let error = forking.run(&forking.host.clone().with_cancel(cancel), &command).unwrap_err();
    canceller.join().unwrap();
    assert!(matches!(error, CommandError::Cancelled { .. }), "{error:?}");
    assert!(gone(&pids));
    let late = spawn(&forking).deadline(Duration::from_secs(3));
    let error = forking.run(&forking.host.clone(), &late).unwrap_err();
    assert!(matches!(error, CommandError::DeadlinePassed { .. }), "{error:?}");
    assert!(gone(&pids));
    assert_eq!(end(forking.say(&["leave", "three"])).0, "3");
    assert!(forking.session.responds(&Host::new()));
}

#[test]
fn what_cannot_be_forked_without_harm_is_not() {
    for (code, reason) in [
        (
            "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True, name='reporter').start()",
            "the waiting Django has threads (reporter)",
        ),
        (
            "from django.db import connection\nconnection.ensure_connection()",
            "the waiting Django read database `default` while it booted",
        ),
        ("import socket\nPAIR = socket.socketpair()", "the waiting Django has an open connection"),
        (
            "import os, re\nHERE = re.compile(os.path.dirname(os.path.abspath(__file__)))",
            "the waiting Django keeps a path of the staged tree (re.Pattern: ",
        ),
    ] {
        let Some(site) = Site::new() else { return };
        site.append("shop/models.py", code);
        let found = Forking::of(&site).err().unwrap_or_default();
        assert!(found.starts_with(reason), "{code}: {found}");
    }
}

#[test]
fn only_commands_of_the_live_site_are_forked_and_only_once_it_is_live() {
    let Some(site) = Site::new() else { return };
    let mut forking = Forking::of(&site).unwrap();
    let ours = forking.project.manage(["check"]);
    assert!(forking.session.can_fork(&ours));
    assert!(!forking.session.can_fork(&site.project.manage(["check"])), "of the staged tree");
    assert!(!forking.session.can_fork(&ours.clone().input("y\n")), "it is asked");
    assert!(
        !forking.session.can_fork(&deploykit::Command::new("true").directory(&forking.project.directory))
    );
    let virtualenv = site.project.python.parent().and_then(Path::parent).unwrap();
    let places = Places {
        live: &forking.project,
        tree: [&site.project.directory, &forking.project.directory],
        virtualenv: [virtualenv, virtualenv],
        changes: [&forking.live.path().join("changes"), &forking.live.path().join("aside")],
    };
    assert_eq!(forking.session.begin_twin(&forking.host, &places, true, || false).unwrap(), None);
    assert!(!forking.session.can_fork(&ours), "not ready");
    assert_eq!(forking.session.end_twin(&forking.host).unwrap(), None);
    assert!(!forking.session.can_fork(&ours), "not live");
}

#[test]
fn the_connection_of_a_command_is_its_own() {
    let Some(database) = Database::new(Engine::PostgreSql) else { return };
    let Some(site) = Site::on(&database) else { return };
    let (host, mut session) = (Host::new(), site.boot());
    let plan = session.on("default").migrations(&host).unwrap();
    session.on("default").migrate(&host, &plan.applied, &plan.ids()).unwrap();
    database.sql("INSERT INTO shop_item (name) VALUES ('one'), ('two')");
    session.close(&host);
    let mut forking = Forking::of(&site).unwrap();
    let before = forking.session.on("default").state(&host).unwrap();
    for _ in 0..2 {
        assert_eq!(end(forking.say(&["rows"])).0, "0", "{}", forking.log());
    }
    assert_eq!(forking.session.on("default").state(&host).unwrap(), before);
    let log = forking.log();
    let rows: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("rows ")).collect();
    assert_eq!(rows.len(), 2, "{log}");
    assert!(rows.iter().all(|row| row.ends_with(", 2)")) && rows[0] != rows[1], "{rows:?}");
}
