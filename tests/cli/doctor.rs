//! `doctor`: everything that is wrong is named at once, nothing is changed, and what it says to type helps.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use regex_lite::Regex;
use rustix::process::Signal;
use serde_json::Value;
use snapbox::prelude::*;
use snapbox::{assert_data_eq, str};

use crate::documents::assert_documented;
use crate::phases::wait_for_the_end;
use crate::run::on;
use crate::support::releases::publish_good;
use crate::support::site::TestSite;
use crate::support::site::demo_site::Holder;
use crate::support::snapshot::{Snapshot, assert_same};

/// Returns the document, whose form must be the documented one.
#[track_caller]
fn examined(site: &TestSite, code: i32) -> Value {
    let document = on(site, &["doctor", "--json"]).run().expect(code).json();
    assert_documented("doctor", &document);
    assert_eq!(document["ready"], code == 0);
    for finding in document["findings"].as_array().unwrap() {
        assert_eq!(finding["level"] == "good", finding["way_out"].is_null(), "{finding}");
    }
    document
}

/// Returns the findings of a level: topics with their texts.
fn of_level(document: &Value, level: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = document["findings"].as_array().unwrap().iter().filter(|finding| finding["level"] == level);
    all.map(|finding| (text(&finding["topic"]), text(&finding["text"]))).collect()
}

fn topics(document: &Value, level: &str) -> BTreeSet<String> {
    of_level(document, level).into_iter().map(|(topic, _)| topic).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Returns every file and directory of the checkout, Git's and deploykit's own included, with its size and its last change.
fn everything(site: &TestSite) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    fn walk(directory: &Path, found: &mut BTreeMap<PathBuf, (u64, SystemTime)>) {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let (path, meta) = (entry.path(), fs::symlink_metadata(entry.path()).unwrap());
            if meta.is_dir() {
                walk(&path, found);
            }
            // Python puts its bytecode beside what the running site imports.
            if !path.components().any(|part| part.as_os_str() == "__pycache__") {
                found.insert(path, (if meta.is_dir() { 0 } else { meta.len() }, meta.modified().unwrap()));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&site.checkout, &mut found);
    found
}

/// Fails with the names of the files that were changed, made or removed since.
#[track_caller]
fn assert_untouched(site: &TestSite, before: &BTreeMap<PathBuf, (u64, SystemTime)>) {
    let after = everything(site);
    let names: BTreeSet<&PathBuf> = before.keys().chain(after.keys()).collect();
    let changed: Vec<_> = names.into_iter().filter(|name| before.get(*name) != after.get(*name)).collect();
    assert!(changed.is_empty(), "{changed:?}");
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn a_good_site_is_ready_and_faults_are_named_together() {
    let Some(mut site) = TestSite::builder().nginx().rehearsal().start() else { return };
    let (before, files) = (Snapshot::of(&site), everything(&site));
    let mut text = on(&site, &["doctor"]).run().expect(0).text(Some(&site));
    for (varies, name) in [
        (r"\S+ can write", "[USER] can write"),
        (r"Python [\d.]+", "Python [VERSION]"),
        (r"\d+ [MGT]B", "[SIZE]"),
    ] {
        text = Regex::new(varies).unwrap().replace_all(&text, name).into_owned();
    }
    assert_data_eq!(
        text,
        str![[r#"
exit code 0
--- stdout
✓ configuration  /srv/site/deploykit.toml, production
✓ user           [USER] can write to what an update changes
✓ runs           none is running, paused or unfinished
✓ git            the checkout is at `main` ([COMMIT]); that is the newest commit of origin/main
✓ python         Python [VERSION] in /srv/venv, packages by uv
✓ secrets        1 required secret found
✓ django         Django [VERSION] boots, no errors
✓ database       `default` answers; a copy takes about 29 kB in about 1 s (a rule of thumb)
✓ services       gunicorn running, worker running
✓ pages          2 of 2 answer as expected
✓ disk           [SIZE] free below /srv; an update takes up to [SIZE]: the staged tree, packages, a copy of the database
! socket         nothing holds the socket of `gunicorn`: visitors see the maintenance page during each update
                 → `deploykit services hold gunicorn` shows the change after which requests wait and none fails
✓ page           `/srv/www/maintenance.html`, shown only while an update needs it
✓ boot           Django boots in [S] s
✓ window         no update has been measured yet
✓ rehearsal      possible, as far as is known
Ready, with 1 suggestion.

"#]]
        .raw()
    );
    let good = examined(&site, 0);
    assert_eq!(topics(&good, "problem"), set(&[]));
    assert_eq!(topics(&good, "advice"), set(&["socket"]));
    assert_eq!(good["windows"], Value::Null);
    assert_untouched(&site, &files);
    assert_same(&before, &Snapshot::of(&site));

    several_faults(&site);
    interrupted(&site);
    down(&mut site);
}

/// Each fault is of another kind, and none hides another one.
fn several_faults(site: &TestSite) {
    let configuration = fs::read_to_string(&site.config).unwrap();
    edit(&site.config, "file = \"secrets.json\"\n", "file = \"secrets.json\"\nrequired = [\"EXTRA\"]\n");
    edit(&site.config, "\nbase = ", "\n# NEEDS A PERSON: is this the address?\nbase = ");
    edit(&site.config, "pages = [", "pages = [\"/nowhere/\", ");
    fs::write(site.checkout.join("README.md"), "Edited.\n").unwrap();
    let remote = site.git(&site.checkout, &["remote", "get-url", "origin"]).unwrap();
    let silent = "http://ada:swordfish@127.0.0.1:1/site.git";
    site.git(&site.checkout, &["remote", "set-url", "origin", silent]).unwrap();
    on(site, &["services", "stop", "worker"]).run().expect(0);
    fs::write(&site.maintenance_page, "<p>Back soon.").unwrap();

    let found = examined(site, 4);
    assert_eq!(
        topics(&found, "problem"),
        set(&["configuration", "git", "secrets", "pages", "page"]),
        "{found:#}"
    );
    assert_eq!(topics(&found, "advice"), set(&["services", "socket"]), "{found:#}");
    let of_git = of_level(&found, "problem").into_iter().filter(|(topic, _)| topic == "git").count();
    assert_eq!(of_git, 2, "the remote and the local change: {found:#}");
    assert!(!found.to_string().contains("swordfish"), "{found:#}");
    let text = on(site, &["doctor"]).run().expect(4).stdout;
    assert!(text.ends_with("\nNot ready: 6 problems.\n"), "{text}");
    assert!(text.contains(" → deploykit secrets set EXTRA\n"), "{text}");

    // What it says to type.
    on(site, &["secrets", "set", "EXTRA"]).input("much\n").run().expect(0);
    on(site, &["services", "start", "worker"]).run().expect(0);
    on(site, &["maintenance", "off"]).run().expect(0);
    let left = set(&["configuration", "git", "pages"]);
    assert_eq!(topics(&examined(site, 4), "problem"), left);
    site.git(&site.checkout, &["checkout", "README.md"]).unwrap();
    site.git(&site.checkout, &["remote", "set-url", "origin", remote.trim()]).unwrap();
    fs::write(&site.config, configuration).unwrap();
    assert_eq!(topics(&examined(site, 0), "problem"), set(&[]));
}

/// Ctrl-C ends it at once, whatever it waits for.
fn interrupted(site: &TestSite) {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let remote = site.git(&site.checkout, &["remote", "get-url", "origin"]).unwrap();
    let url = format!("git://{}/site.git", silent.local_addr().unwrap());
    site.git(&site.checkout, &["remote", "set-url", "origin", &url]).unwrap();
    let waiting = on(site, &["doctor", "--json"]).start();
    let _asks = silent.accept().unwrap();
    waiting.signal(Signal::INT);
    let failure = waiting.finish().expect(4).json();
    assert_documented("failure", &failure);
    assert_eq!(failure["error"], "interrupted");
    site.git(&site.checkout, &["remote", "set-url", "origin", remote.trim()]).unwrap();
}

/// Where Django, Python or the manager does not answer, the others are still asked.
fn down(site: &mut TestSite) {
    let python = site.virtualenv.join("bin/python");
    let aside = site.virtualenv.join("bin/aside");
    fs::rename(&python, &aside).unwrap();
    site.stop();
    let found = examined(site, 4);
    let expected = set(&["python", "django", "database", "services", "pages"]);
    assert_eq!(topics(&found, "problem"), expected, "{found:#}");
    let services = of_level(&found, "problem").into_iter().filter(|(topic, _)| topic == "services").count();
    assert_eq!(services, 1, "both have the same manager: {found:#}");
    fs::rename(&aside, &python).unwrap();

    let configuration = fs::read_to_string(&site.config).unwrap();
    edit(&site.config, "settings = \"config.settings.production\"\n", "");
    let found = examined(site, 4);
    assert!(topics(&found, "problem").contains("configuration"), "{found:#}");
    fs::write(&site.config, configuration.replace("[git]", "[gti]")).unwrap();
    let broken = on(site, &["doctor"]).run().expect(3).stderr;
    assert!(broken.contains("gti"), "{broken}");
}

/// The past of a site decides what is said about its windows.
#[test]
fn a_held_socket_a_window_and_a_run_that_pauses() {
    let Some(site) = TestSite::builder().nginx().held_by(Holder::Supervisor).start() else { return };
    let site = &site;
    publish_good(site, "next");
    on(site, &["update", "-y"]).run().expect(0);
    let found = examined(site, 0);
    assert_eq!(topics(&found, "advice"), set(&["maintenance", "rehearsal"]), "{found:#}");
    let good = of_level(&found, "good");
    let said = |topic: &str, words: &str| good.iter().any(|(of, text)| of == topic && text.contains(words));
    assert!(said("socket", "holds the socket of `gunicorn:web-0`"), "{found:#}");
    assert!(said("boot", "visitors need not wait for it"), "{found:#}");
    assert!(said("window", " in the last update; "), "{found:#}");
    assert_eq!(found["windows"]["runs"], 1);
    edit(&site.config, "[maintenance]\n", "[maintenance]\nwhen = \"needed\"\nhold = \"1m\"\n");
    assert_eq!(topics(&examined(site, 0), "advice"), set(&["rehearsal"]));

    // A new site may have none yet.
    let aside = site.database.with_extension("aside");
    fs::rename(&site.database, &aside).unwrap();
    let missing = examined(site, 4);
    let named = of_level(&missing, "problem")
        .into_iter()
        .any(|(topic, text)| topic == "database" && text.contains("although the site was updated before"));
    assert!(named, "{missing:#}");
    // A page may have made an empty one meanwhile.
    fs::rename(&aside, &site.database).unwrap();

    publish_good(site, "paused");
    on(site, &["update", "-y", "--until", "prepared"]).run().expect(0);
    let files = everything(site);
    let paused = examined(site, 4);
    assert_eq!(topics(&paused, "problem"), set(&["runs"]), "{paused:#}");
    let text = on(site, &["doctor"]).run().expect(4).stdout;
    assert!(
        text.contains("→ `deploykit update --continue` lets it go on, `deploykit recover` rolls it back"),
        "{text}"
    );
    assert_untouched(site, &files);
    on(site, &["recover"]).run().expect(0);
    wait_for_the_end(site);
    examined(site, 0);
}
