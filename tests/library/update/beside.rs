//! What a preparation does at the same time: the environment waits for the requirements, and not for the staged tree.

use std::process::Command;
use std::time::Duration;

use super::*;
use crate::support::program;
use crate::support::releases::*;
use crate::support::site::TestSite;
use crate::support::site::demo_site::{run, wait_until};
use crate::support::snapshot::{Snapshot, assert_same};

const PATIENCE: Duration = Duration::from_secs(60);
const ABOUT: &str = "project/guestbook/templates/guestbook/about.html";

/// Lets whoever finds uv in the site's `PATH` run this script first, which sees `$asked` and `$uv`.
fn watch_uv(site: &DemoSite, script: &str) -> PathBuf {
    let asked = site.root.join("run/asked");
    let uv = program("uv").expect("uv");
    let text = format!("#!/bin/sh\nasked='{}'\nuv='{}'\n{script}\n", asked.display(), uv.display());
    fs::create_dir_all(site.root.join("bin")).unwrap();
    let path = site.root.join("bin/uv");
    fs::write(&path, text).unwrap();
    run(Command::new("chmod").arg("755").arg(&path)).unwrap();
    asked
}

/// Publishes a page that git writes into a tree only when uv was asked.
fn publish_a_page_that_waits(site: &DemoSite, asked: &Path) {
    let wait =
        format!("for i in $(seq 600); do test -e {} && exec cat; sleep 0.1; done; exit 1", asked.display());
    site.git(&site.checkout, &["config", "filter.waits.smudge", &wait]).unwrap();
    site.git(&site.checkout, &["config", "filter.waits.required", "true"]).unwrap();
    site.publish(|tree| {
        write(tree, ".gitattributes", &format!("/{ABOUT} filter=waits\n"));
        append(tree, ABOUT, "<!-- written late -->\n");
    })
    .unwrap();
}

#[test]
fn the_environment_does_not_wait_for_the_tree() {
    let Some(site) = TestSite::builder().start() else { return };
    let asked = watch_uv(&site, "touch \"$asked\"\nexec \"$uv\" \"$@\"");
    make_wheel(&site, "demo-base", "1.0", &[], "");
    site.publish(|tree| {
        write(tree, "requirements/more/base.txt", "demo-base\n");
        append(tree, "requirements/production.txt", "-r more/base.txt\n");
    })
    .unwrap();
    publish_a_page_that_waits(&site, &asked);
    let (_, told) = updated(&site);
    assert_eq!(told.outcome("staged-virtualenv").as_deref(), Some("+ demo-base 1.0"));
    assert!(
        told.done().iter().position(|step| *step == "staged-tree")
            < told.done().iter().position(|step| *step == "staged-virtualenv")
    );
    assert_tidy(&site);
}

#[test]
fn what_the_tree_asks_for_counts() {
    let Some(site) = TestSite::builder().start() else { return };
    make_wheel(&site, "demo-base", "1.0", &[], "");
    publish_good(&site, "more");
    let script = "echo demo-base >> requirements/production.txt";
    add(
        &site,
        &format!(
            "[[steps]]\nname = \"more\"\nafter = \"staged-tree\"\nrun = [\"/bin/sh\", \"-c\", \"{script}\"]\n"
        ),
    );
    let (_, told) = updated(&site);
    assert_eq!(told.outcome("staged-virtualenv").as_deref(), Some("+ demo-base 1.0"));
    assert_tidy(&site);
}

#[test]
fn packages_of_the_tree_are_found_there() {
    let Some(site) = TestSite::builder().start() else { return };
    let wheel = make_wheel(&site, "demo-base", "1.0", &[], "");
    site.publish(|tree| {
        fs::create_dir(tree.join("vendor")).unwrap();
        fs::rename(site.extra_wheels.join(&wheel), tree.join("vendor").join(&wheel)).unwrap();
        append(tree, "requirements/production.txt", "demo-base\n");
    })
    .unwrap();
    configure(&site, "extra-args = [", "extra-args = [\"--find-links=vendor\", ");
    let (_, told) = updated(&site);
    assert_eq!(told.outcome("staged-virtualenv").as_deref(), Some("+ demo-base 1.0"));
}

#[test]
fn a_refusal_ends_the_installer() {
    let Some(site) = TestSite::builder().start() else { return };
    let asked = watch_uv(&site, "echo $$ > \"$asked.new\"\nmv \"$asked.new\" \"$asked\"\nexec sleep 600");
    publish_missing_secret(&site);
    publish_a_page_that_waits(&site, &asked);
    let before = Snapshot::of(&site);
    match request(&site, &Request::default()).0 {
        Err(UpdateError::Prepare { step, .. }) => assert_eq!(step, "secrets"),
        other => panic!("not refused: {other:#?}"),
    }
    let pid = fs::read_to_string(&asked).unwrap();
    let process = Path::new("/proc").join(pid.trim());
    assert!(wait_until(PATIENCE, || !process.exists()), "the installer goes on");
    assert_same(&before, &Snapshot::of(&site));
    assert_tidy(&site);
}
