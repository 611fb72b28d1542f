//! Copies of the site's databases.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use deploykit::Host;
use serde_json::{Value, json};

use crate::support::django::Site;
use crate::support::probe::Probe;

/// Returns the request for copies of these databases.
pub(super) fn copy(site: &Site, aliases: &[&str], limit: u64) -> Value {
    let directory = site.path("copies");
    let limits: BTreeMap<&str, u64> = aliases.iter().map(|alias| (*alias, limit)).collect();
    json!({
        "do": "copy_databases", "directory": directory, "limits": limits, "nice": 1, "databases": aliases
    })
}

pub(super) fn confirm(copies: &Value) -> Value {
    json!({ "do": "confirm_copies", "expected": copies["expected"] })
}

/// Replaces a live file by its copy, as a rehearsal does.
fn replace(files: &Value) {
    let (copy, live) = (files[0].as_str().expect("a path"), files[1].as_str().expect("a path"));
    fs::rename(live, format!("{live}.aside")).expect("a live file");
    fs::copy(copy, live).expect("a copy");
}

#[test]
fn a_sqlite_database_is_copied_once_for_all_its_names() {
    let Some(site) = Site::new() else { return };
    site.append(
        "config/settings.py",
        "DATABASES['again'] = dict(DATABASES['default'])\n\
         DATABASES['linked'] = dict(DATABASES['default'], NAME=BASE_DIR / 'linked.sqlite3')\n\
         DATABASES['memory'] = dict(DATABASES['default'], NAME=':memory:')\n\
         DATABASES['later'] = dict(DATABASES['default'], NAME=BASE_DIR / 'later.sqlite3')",
    );
    let (host, mut session) = (Host::new(), site.boot());
    let plan = session.on("default").migrations(&host).expect("a plan");
    session.on("default").migrate(&host, &plan.applied, &plan.ids()).expect("the first migrations");
    site.sql("PRAGMA journal_mode = wal");
    site.sql("INSERT INTO shop_item (name) VALUES ('one')");
    fs::create_dir_all(site.path("copies/left/by/a/run")).expect("a directory");

    let mut probe = Probe::boot(&site);
    symlink(site.path("db.sqlite3"), site.path("linked.sqlite3")).expect("a link");
    let aliases = ["default", "again", "linked", "memory", "later"];
    let copies = probe.ok(&copy(&site, &aliases, 1 << 30));
    let file = site.path("copies/default.sqlite3");
    assert_eq!(copies["files"], json!([[file, site.path("db.sqlite3")]]), "{copies:#}");
    assert_eq!(copies["expected"]["default"], copies["expected"]["again"]);
    assert_eq!(copies["expected"].as_object().map(|all| all.len()), Some(3), "{copies:#}");
    assert_eq!((&copies["skipped"], &copies["schema_only"]), (&json!({}), &json!([])));
    assert_eq!(copies["bytes"], fs::metadata(&file).expect("a copy").len());
    assert!(!site.path("copies/left").exists() && !site.path("later.sqlite3").exists());

    // The live file has not been replaced yet.
    let error = probe.ask(&confirm(&copies))["error"].clone();
    assert_eq!((error["kind"].as_str(), error["database"].as_str()), (Some("not_the_copy"), Some("again")));
    assert!(error["message"].as_str().is_some_and(|text| text.ends_with("is the live file")), "{error}");
    replace(&copies["files"][0]);
    for ending in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{ending}", site.path("db.sqlite3").display()));
    }
    probe.ok(&confirm(&copies));
    assert_eq!(site.sql("SELECT name FROM shop_item"), "[('one',)]");
}

#[test]
fn a_large_sqlite_database_is_copied_without_its_rows() {
    let Some(site) = Site::new() else { return };
    let (host, mut session) = (Host::new(), site.boot());
    let plan = session.on("default").migrations(&host).expect("a plan");
    session.on("default").migrate(&host, &plan.applied, &plan.ids()).expect("the first migrations");
    site.sql("INSERT INTO shop_item (name) VALUES ('one')");
    let kept = site.sql("SELECT * FROM django_migrations, django_content_type");

    let mut probe = Probe::boot(&site);
    let copies = probe.ok(&copy(&site, &["default"], 1000));
    assert_eq!(copies["schema_only"], json!(["default"]), "{copies:#}");
    let before = session.on("default").state(&host).expect("a state");
    replace(&copies["files"][0]);
    probe.ok(&confirm(&copies));
    assert_eq!(session.on("default").state(&host).expect("a state").differences(&before), [""; 0]);
    assert_eq!(site.sql("SELECT * FROM django_migrations, django_content_type"), kept);
    assert_eq!(site.sql("SELECT * FROM shop_item"), "[]");
    assert!(Path::new(copies["files"][0][0].as_str().expect("a path")).starts_with(site.path("copies")));
}
