use super::*;
use crate::journal::Journal;
use std::os::unix::fs::PermissionsExt;

/// A state directory with a checkout beside it.
struct Place {
    top: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join("site")).unwrap();
        Place { top }
    }

    fn repository(&self) -> PathBuf {
        self.top.path().join("site")
    }

    fn state(&self) -> State {
        State::at(&self.repository().join(".deploykit"))
    }

    fn record(&self) -> Result<Owner, OwnerError> {
        self.state().create()?;
        self.state().record_owner(&self.repository().join("deploykit.toml"), &self.repository())
    }

    /// Writes a run as an update does, for a checkout.
    fn run(&self, id: Option<&str>, repository: &Path) -> String {
        self.state().create().unwrap();
        let run = self.state().new_run().unwrap();
        let undo = serde_json::json!({"action": "remove_file", "path": repository.join(".deploykit/x")});
        let started = serde_json::json!({
            "entry": "run_started", "version": 1, "run": run.name, "time": "2026-11-28T12:00:00Z", "pid": 1,
            "user": "x", "environment": "production", "from": "a", "to": "b", "hold": [undo], "state": id,
        });
        Journal::open(&run.journal()).unwrap();
        fs::write(run.journal(), format!("{started}\n")).unwrap();
        run.name
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

#[test]
fn a_copy_a_renamed_directory_and_a_restored_backup_are_told_apart_from_the_site() {
    let place = Place::new();
    let owner = place.record().unwrap();
    assert_eq!(place.record().unwrap(), owner, "it is recorded once");

    let copied = Place { top: tempfile::tempdir().unwrap() };
    copy(&place.repository(), copied.top.path());
    let error = copied.record().unwrap_err();
    assert!(
        matches!(&error, OwnerError::Elsewhere { made_in, .. } if *made_in == real(&place.repository())),
        "{error}"
    );

    let renamed = place.top.path().join("renamed");
    fs::rename(place.repository(), &renamed).unwrap();
    let state = State::at(&renamed.join(".deploykit"));
    let error = state.belongs_to(&renamed.join("deploykit.toml"), &renamed).unwrap_err();
    assert!(matches!(error, OwnerError::Elsewhere { .. }), "{error}");
    fs::rename(&renamed, place.repository()).unwrap();
    place.record().unwrap();

    copy(&place.repository(), &renamed);
    fs::rename(place.repository(), place.top.path().join("lost")).unwrap();
    fs::rename(&renamed, place.repository()).unwrap();
    let error = place.record().unwrap_err();
    assert!(matches!(error, OwnerError::Restored { .. }), "{error}");
}

#[test]
fn another_machine_and_another_checkout_are_somebody_elses() {
    let place = Place::new();
    let owner = place.record().unwrap();
    let here = Owner { machine: Some("this one".to_owned()), ..owner.clone() };
    let there = Owner { machine: Some("that one".to_owned()), ..owner.clone() };
    assert!(matches!(there.compare(&here), Err(OwnerError::Machine { .. })));
    assert!(there.compare(&Owner { machine: None, ..owner.clone() }).is_ok(), "nothing tells machines apart");
    assert!(
        there.compare(&Owner { inode: None, ..there.clone() }).is_ok(),
        "nor copies, on such a file system"
    );
    let moved = Owner { repository: "/srv/other".into(), ..owner.clone() };
    assert!(matches!(moved.compare(&owner), Err(OwnerError::Repository { .. })));
}

#[test]
fn state_of_before_the_record_is_adopted_if_its_journals_name_this_site() {
    let place = Place::new();
    let run = place.run(None, &place.repository());
    let owner = place.record().unwrap();
    assert_eq!(owner.earlier, Some(run));
    assert_eq!(place.state().unfinished().unwrap().unwrap().0.name, owner.earlier.unwrap());

    let other = Place::new();
    other.run(None, &place.repository());
    let error = other.record().unwrap_err().to_string();
    let named = place.repository().join(".deploykit");
    assert!(error.ends_with(&format!("names `{}`", named.display())), "{error}");
}

#[test]
fn what_a_checkout_made_is_not_adopted() {
    let place = Place::new();
    let run = place.run(None, &place.repository());
    let journal = place.state().directory().join("runs").join(run).join("journal.jsonl");
    fs::set_permissions(&journal, fs::Permissions::from_mode(0o644)).unwrap();
    let error = place.record().unwrap_err().to_string();
    assert!(error.contains("others may read"), "{error}");
}

#[test]
fn a_journal_without_the_number_of_the_record_is_not_obeyed() {
    let place = Place::new();
    let owner = place.record().unwrap();
    let own = place.run(Some(&owner.id), &place.repository());
    assert_eq!(place.state().unfinished().unwrap().unwrap().0.name, own);
    for id in [None, Some("0123456789abcdef0123456789abcdef")] {
        let planted = place.run(id, &place.repository());
        let error = place.state().unfinished().unwrap_err();
        assert!(matches!(error, JournalError::Foreign { .. }), "{error}");
        fs::remove_dir_all(place.state().directory().join("runs").join(planted)).unwrap();
    }
}

#[test]
fn checkouts_and_state_directories_are_found_wherever_a_journal_names_them() {
    let journal = br#"{"a":[{"path":"/a/site/.deploykit/environments/x/bin"}],"repository":"/a/site"}
{"undo":[{"action":"checkout","repository":"/b/site"}],"text":"see .deploykit/runs"}
{"torn":"/c/.deploy"#;
    let state = |path: &str| Named::State(path.into());
    let repository = |path: &str| Named::Repository(path.into());
    let named = named_in(journal);
    assert_eq!(named, [repository("/a/site"), state("/a/site/.deploykit"), repository("/b/site")]);
}
