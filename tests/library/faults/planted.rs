//! Symbolic links, and things of somebody else, where deploykit writes: refused, nothing followed, nothing removed. What
//! deploykit makes itself is for its owner alone.

use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use deploykit::event::Event;
use deploykit::update::Prepared;

use super::*;
use crate::support::releases::{publish_broken_home, publish_column};
use crate::support::site::demo_site::NEW_SECRET;

/// Somebody who is neither us nor root.
const SOMEBODY: u32 = 54_321;

/// A directory and a file that a planted link leads to.
struct Victim {
    directory: PathBuf,
    file: PathBuf,
}

impl Victim {
    fn of(site: &DemoSite) -> Victim {
        let directory = site.root.join("victim");
        fs::create_dir(&directory).unwrap();
        let file = directory.join("file");
        fs::write(&file, "untouched").unwrap();
        Victim { directory, file }
    }

    #[track_caller]
    fn is_untouched(&self) {
        assert_eq!(fs::read_to_string(&self.file).unwrap(), "untouched");
        assert_eq!(fs::read_dir(&self.directory).unwrap().count(), 1);
        assert_eq!(fs::metadata(&self.file).unwrap().permissions().mode() & 0o777, 0o644);
    }
}

#[test]
fn what_was_planted_is_refused() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    let site = &site;
    let victim = Victim::of(site);
    site.add_secret(NEW_SECRET, "a salt for visitors").unwrap();
    site.publish_release_2().unwrap();
    let state = load(site).state();
    let before = Snapshot::of(site);
    let refused = |what: &Path, why: &str| {
        let error = crate::update::run_update(site).expect_err("it was planted");
        let text = deploykit::error_chain(&error);
        eprintln!("--- {text}");
        assert!(text.contains(why) && text.contains(&what.display().to_string()), "{text}");
        victim.is_untouched();
        assert!(fs::symlink_metadata(what).is_ok(), "{} is gone", what.display());
        remove(what);
        site.wait_until_serving(PATIENCE).unwrap();
        assert_same(&before, &Snapshot::of(site));
        assert_tidy(site);
    };

    let directories = [
        state.directory().to_owned(),
        state.directory().join("runs"),
        load(site).staged_tree(),
        state.virtualenvs(),
        site.static_root.with_file_name(".static.deploykit-next"),
    ];
    for directory in &directories {
        plant(&state, directory);
        symlink(&victim.directory, directory).unwrap();
        refused(directory, "it is a symbolic link");
    }
    plant(&state, &state.lock());
    symlink(&victim.file, state.lock()).unwrap();
    refused(&state.lock(), "Too many levels of symbolic links");
    symlink(&victim.file, &site.maintenance_page).unwrap();
    refused(&site.maintenance_page, "it is a symbolic link");

    // What a user named so is the user's own.
    for directory in [load(site).staged_tree(), site.static_root.with_file_name(".static.deploykit-next")] {
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("own"), "").unwrap();
        refused(&directory, "deploykit did not put it there");
    }

    if !rustix::process::geteuid().is_root() {
        crate::support::skip("only root can give files away")
    }
    for directory in &directories {
        plant(&state, directory);
        fs::create_dir(directory).unwrap();
        fs::write(directory.join("theirs"), "").unwrap();
        chown(directory, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
        refused(directory, &format!("belongs to user {SOMEBODY}"));
    }
    plant(&state, &state.lock());
    fs::write(state.lock(), "").unwrap();
    chown(state.lock(), Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    refused(&state.lock(), "it is not a file of ours");

    fs::write(&site.maintenance_page, "theirs").unwrap();
    chown(&site.maintenance_page, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    refused(&site.maintenance_page, "it belongs to somebody else");

    // In the window, an instant before the page goes up.
    let (link, page) = (site.root.join("run/link"), site.maintenance_page.display());
    symlink(&victim.file, &link).unwrap();
    lchown(&link, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    let faulty = Faulty::of(site);
    faulty.inject("stop-workers", &format!("mv {} {page}", link.display()));
    let before = Snapshot::of(site);
    let (failure, ..) = faulty.update(Outcome::RolledBack);
    assert_eq!(failure.step, "page-up");
    assert!(failure.error.contains(&format!("it is a symbolic link of user {SOMEBODY}")), "{failure:#?}");
    victim.is_untouched();
    assert_as_before(site, &before);
}

/// Makes the place for something planted.
fn plant(state: &deploykit::internal::state::State, path: &Path) {
    state.create().unwrap();
    remove(path);
}

/// Removes whatever it is.
fn remove(path: &Path) {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

#[test]
fn what_deploykit_makes_is_for_its_owner() {
    let Some(site) = TestSite::builder().start() else { return };
    let site = &site;
    let loaded = load(site);
    let looked = AtomicU32::new(0);
    for broken in [false, true] {
        if broken {
            publish_broken_home(site);
        } else {
            site.add_secret(NEW_SECRET, "a salt for visitors").unwrap();
            site.publish_release_2().unwrap();
        }
        let mut watch = |record: &Record| {
            // While all of it is there.
            if matches!(&record.event, Event::StepStarted { step, .. } if step == "smoke-check") {
                assert_private(&loaded.staged_tree(), false);
                assert_private(loaded.state().directory(), true);
                looked.fetch_add(1, Ordering::Relaxed);
            }
        };
        let prepared = update::prepare(&loaded, &Request::default(), None, &mut watch).unwrap();
        let Prepared::Ready(update) = prepared else { panic!("there is something to do") };
        let wanted = if broken { Outcome::RolledBack } else { Outcome::Updated };
        assert_eq!(update.run().unwrap().outcome, wanted);
        assert_private(loaded.state().directory(), true);
    }
    assert_eq!(looked.load(Ordering::Relaxed), 2);
    publish_column(site);
    let mut unheard = |_: &Record| ();
    let only_plan = Request { only_plan: true, ..Request::default() };
    drop(update::prepare(&loaded, &only_plan, None, &mut unheard));
    assert!(loaded.state().directory().join("plan.log").exists());
    assert_private(loaded.state().directory(), true);
}

/// Fails when others may enter a directory, or read one of its files; environments and a tree are behind such a directory.
#[track_caller]
fn assert_private(directory: &Path, deep: bool) {
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(directory), 0o700, "{}", directory.display());
    if !deep {
        return;
    }
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.ends_with("environments") {
            continue;
        }
        if path.is_dir() {
            assert_private(&path, !path.ends_with("next-tree"));
        } else {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
}
