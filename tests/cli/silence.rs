//! Secrets are shown nowhere: not on a stream, in a document, in a file that is kept, nor among a process's arguments.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::run::{Done, on};
use crate::support::git::{Repositories, below_one_another, git, http_server};
use crate::support::program;
use crate::support::releases::{append, edit, write};
use crate::support::site::{TestSite, Transport};

/// In the secrets file, in the environment file, in the remote's address; then what is written in other ways than it is
/// kept: a key of several lines, a password with signs, one inside a database's address, one in an index's address.
const CANARIES: [&str; 10] = [
    "canary-of-secrets-json",
    "canary-of-env-file",
    "canary-of-remote-url",
    "canary-of-several-lines",
    "canary-of-strange-signs",
    "canary-of-database-url",
    "canary-of-index-url",
    "canary-of-configuration",
    "canary-beyond-ascii",
    "20261128000042",
];

#[test]
fn no_secret_is_shown() {
    let Some(mut site) = TestSite::builder().transport(Transport::Http).start() else { return };
    prepare(&site);
    let watch = Watch::start();

    // A version that prints whatever it knows, and is updated to.
    site.publish(|tree| append(tree, "project/config/settings/base.py", LEAK)).unwrap();
    let seen = on(&site, &["plan", "-vv"]).run().expect(0);
    look_at(&site, &seen);
    let events = site.root.join("run/events.jsonl");
    let update = ["update", "-y", "-vv", "--json", "--events", events.to_str().unwrap()];
    look_at(&site, &on(&site, &update).run().expect(0));
    // One whose pages break while they tell it.
    site.publish(|tree| {
        let broken = "raise RuntimeError(settings.SECRET_KEY + os.environ[\"CANARY\"])\n    from_here = 1\n    return render(";
        edit(tree, "project/guestbook/views.py", "return render(", broken);
        let views = tree.join("project/guestbook/views.py");
        let text = fs::read_to_string(&views).unwrap();
        fs::write(views, format!("import os\nfrom django.conf import settings\n{text}")).unwrap();
    })
    .unwrap();
    let failed = on(&site, &update).run().expect(5);
    look_at(&site, &failed);
    assert!(failed.stderr.contains("RuntimeError"), "{}", failed.stderr);
    // The name of the database is a name of the code, too.
    assert!(failed.stderr.contains("guestbook/views.py"), "{}", failed.stderr);
    // One that does not even boot, and says why.
    site.publish(|tree| append(tree, "project/config/settings/base.py", "raise RuntimeError(SECRET_KEY)\n"))
        .unwrap();
    // They did come by: their places are marked.
    let runs = fs::read_dir(site.checkout.join(".deploykit/runs")).unwrap().flatten();
    let transcripts: Vec<String> =
        runs.map(|run| fs::read_to_string(run.path().join("output.log")).unwrap()).collect();
    assert!(
        transcripts.len() == 2 && transcripts.iter().all(|text| text.contains("*** ***")),
        "{transcripts:#?}"
    );
    let refused = on(&site, &update).run().expect(4);
    assert!(refused.stderr.contains("RuntimeError: ***"), "{}", refused.stderr);
    look_at(&site, &refused);
    for command in
        [&["history", "--json"][..], &["status", "--json"], &["logs", "-n", "1000"], &["secrets", "check"]]
    {
        look_at(&site, &on(&site, command).run().expect(0));
    }
    // An index that does not answer, and is called by its address.
    site.publish(|tree| {
        write(
            tree,
            "project/config/settings/base.py",
            &fs::read_to_string(site.checkout.join("project/config/settings/base.py")).unwrap(),
        );
        append(tree, "requirements/production.txt", "demo-package-that-nobody-made\n");
    })
    .unwrap();
    let config = fs::read_to_string(&site.config).unwrap();
    fs::write(&site.config, config.replace("\"--no-index\", ", "")).unwrap();
    let online = |args: &[&str]| on(&site, args).env("UV_NO_INDEX", "0").env("UV_HTTP_RETRIES", "0").run();
    for command in [&update[..], &["pip-install"]] {
        let refused = online(command).expect(4);
        assert!(refused.stderr.contains("127.0.0.1:1/simple"), "{}", refused.stderr);
        look_at(&site, &refused);
    }
    // A remote that does not answer is called by its address.
    site.killed_remote();
    for command in [&update[..], &["git-update"], &["plan"]] {
        let refused = on(&site, command).run().expect(4);
        assert!(refused.stderr.contains("127.0.0.1"), "{}", refused.stderr);
        look_at(&site, &refused);
    }
    let kept = fs::read_to_string(&events).unwrap();
    assert!(!CANARIES.iter().any(|canary| kept.contains(canary)), "{kept}");
    assert_eq!(watch.finish(), BTreeSet::new());
}

/// Prints what the settings know, to both streams, whenever Python starts.
const LEAK: &str = r#"
import html, os, sys, urllib.parse
for stream in sys.stdout, sys.stderr:
    print(SECRET_KEY, os.environ.get("CANARY"), file=stream)
    print(SECRETS, json.dumps(SECRETS), SECRETS.get("KEY"), os.environ.get("OWN"), file=stream)
    print(urllib.parse.quote(SECRETS.get("SIGNS", ""), safe=""), os.environ.get("UV_DEFAULT_INDEX"), file=stream)
    password = urllib.parse.urlparse(os.environ.get("DATABASE_URL", "")).password or ""
    print(password, urllib.parse.unquote(password), file=stream)
    umlaut, signs = SECRETS.get("UMLAUT", ""), SECRETS.get("SIGNS", "")
    print(json.dumps(umlaut), ascii(umlaut), umlaut.encode(), html.escape(signs), SECRETS.get("NUMBER"), file=stream)
    print(urllib.parse.urlencode({"q": umlaut}), urllib.parse.quote(signs), json.dumps(json.dumps(umlaut)), file=stream)
"#;

fn prepare(site: &TestSite) {
    let secrets = fs::read_to_string(&site.secrets).unwrap();
    let value = secrets.split('"').nth(3).unwrap();
    fs::write(&site.secrets, secrets.replace(value, &format!("{}-{}", CANARIES[0], "0".repeat(40)))).unwrap();
    site.add_secret("KEY", "-----BEGIN KEY-----\\ncanary-of-several-lines\\n-----END KEY-----\\n").unwrap();
    site.add_secret("SIGNS", r#"a/\"'\\ canary-of-strange-signs"#).unwrap();
    site.add_secret("UMLAUT", "Gehe\\u00efm-canary-beyond-ascii-\u{1f511}").unwrap();
    let secrets = fs::read_to_string(&site.secrets).unwrap();
    fs::write(&site.secrets, secrets.replacen('{', "{\"NUMBER\": 20261128000042, ", 1)).unwrap();
    let dotenv = site.root.join("data/environment");
    fs::write(
        &dotenv,
        format!(
            "CANARY={}\nDATABASE_NAME=guestbook\nDATABASE_URL=postgres://me:a%40{}@db.example/site\n",
            CANARIES[1], CANARIES[5]
        ),
    )
    .unwrap();
    let config = fs::read_to_string(&site.config).unwrap();
    let line = format!("\nenv-file = \"{}\"\nenv = ", dotenv.display());
    let index = format!(
        "UV_DEFAULT_INDEX = \"http://{}@127.0.0.1:1/simple\", OWN = \"{}\", ",
        CANARIES[6], CANARIES[7]
    );
    let config = config.replace("\nenv = {", &format!("{line}{{ {index}"));
    fs::write(&site.config, config).unwrap();
    let supervisor = fs::read_to_string(&site.supervisor_config).unwrap();
    let line = format!("environment=CANARY=\"{}\",", CANARIES[1]);
    fs::write(&site.supervisor_config, supervisor.replacen("environment=", &line, 1)).unwrap();
    let url = site.git(&site.checkout, &["remote", "get-url", "origin"]).unwrap();
    let url = url.trim().replace("http://", &format!("http://somebody:{}@", CANARIES[2]));
    site.git(&site.checkout, &["remote", "set-url", "origin", &url]).unwrap();
}

#[track_caller]
fn look_at(site: &TestSite, done: &Done) {
    for canary in CANARIES {
        for text in [&done.stdout, &done.stderr] {
            assert!(!text.contains(canary), "{canary} is shown:\n{text}");
        }
    }
    let mut files = 0;
    look_into(&site.checkout.join(".deploykit"), &mut files);
    assert!(files > 0, "nothing is kept");
}

#[track_caller]
fn look_into(directory: &Path, files: &mut usize) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_symlink() || path.ends_with("environments") {
            continue;
        }
        if path.is_dir() {
            look_into(&path, files);
            continue;
        }
        *files += 1;
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        assert!(
            !CANARIES.iter().any(|canary| text.contains(canary)),
            "a secret is in {}:\n{text}",
            path.display()
        );
    }
}

/// Looks at the arguments of every process of the machine, all the while.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeSet<String>>,
}

impl Watch {
    fn start() -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut found = BTreeSet::new();
            while !until.load(Ordering::Relaxed) {
                for process in fs::read_dir("/proc").unwrap().flatten() {
                    let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
                    let line = String::from_utf8_lossy(&line).replace('\0', " ");
                    if CANARIES.iter().any(|canary| line.contains(canary)) {
                        found.insert(line);
                    }
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            found
        });
        Watch { stop, thread }
    }

    fn finish(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[test]
fn a_remote_s_password_is_no_argument() {
    let repositories = Repositories::new(&[("a.py", "a = 1\n")]);
    let (directory, live) = (repositories.directory.path(), &repositories.live);
    let Some(strace) = program("strace") else { return };
    let Some(server) = http_server(directory, Some("me:canary@of a remote")) else { return };
    below_one_another(&repositories);
    let url = format!("http://me:canary%40of%20a%20remote@127.0.0.1:{}/upstream.git", server.port);
    git(live, &["remote", "set-url", "origin", &url]);
    git(live, &["config", "http.proxy", ""]);
    let list = directory.join("started");
    let mut command = Command::new(strace);
    command.args(["-f", "-qq", "-e", "trace=execve,execveat", "-s", "9999", "-o"]).arg(&list);
    command.args([env!("CARGO_BIN_EXE_deploykit"), "git-update", "--branch", "main", "--repository"]);
    let done = command.arg(live).env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(repositories.read("sub/nested/n.py"), "n = 1\n");
    let started = fs::read_to_string(list).unwrap();
    assert!(started.contains("\"http://me@127.0.0.1:"), "git's helper was not seen:\n{started}");
    let told: Vec<&str> = started.lines().filter(|line| line.contains("canary")).collect();
    assert!(told.is_empty(), "{told:#?}");
}
