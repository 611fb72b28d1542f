//! Random sequences of success, failure, crash and recovery, held against a model: the site is wholly old, wholly new, or
//! held and said so.

use proptest::prelude::*;

use super::*;

/// What happens to one run.
#[derive(Clone, Debug)]
struct Fate {
    /// The step that fails, before or after its deed.
    fails: Option<(usize, bool)>,
    /// The step whose undo fails until somebody has fixed what stands in its way.
    cannot_undo: Option<usize>,
    /// The event at which the process dies.
    dies_at: usize,
    /// Recoveries: the event at which each dies, and whether somebody fixed things before it.
    recoveries: Vec<(usize, bool)>,
}

fn fate() -> impl Strategy<Value = Fate> {
    let death = prop_oneof![Just(NEVER), 0_usize..24];
    let recoveries = proptest::collection::vec((prop_oneof![Just(NEVER), 0_usize..8], any::<bool>()), 0..4);
    let fails = proptest::option::of((0_usize..6, any::<bool>()));
    (fails, proptest::option::weighted(0.3, 0_usize..6), death, recoveries).prop_map(
        |(fails, cannot_undo, dies_at, recoveries)| Fate { fails, cannot_undo, dies_at, recoveries },
    )
}

/// The steps with what this run has to suffer. The step that has nothing to do is left out of it.
fn steps(directory: &Directory, fate: &Fate) -> Vec<Step> {
    let mut steps = directory.steps();
    let stone = text(&directory.path("fixed"));
    if let Some((index, before)) = fate.fails
        && steps[index].is_needed()
    {
        let actions = &mut steps[index].change.actions;
        actions.insert(if before { 0 } else { actions.len() }, run("false", &[]));
    }
    if let Some(index) = fate.cannot_undo
        && steps[index].is_needed()
    {
        steps[index].change.undo.insert(0, run("test", &["-e", &stone]));
    }
    steps
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_site_is_wholly_old_wholly_new_or_held(fates in proptest::collection::vec(fate(), 1..4)) {
        let directory = Directory::new();
        let old = directory.facts();
        for fate in fates {
            let steps = steps(&directory, &fate);
            let hold = [Action::WriteFile { path: directory.path("held"), contents: String::new(), mode: 0o644 }];
            let mut seen = 0;
            let mut watch = |_: &Event| killed(&mut seen, fate.dies_at);
            let ran = catch_unwind(AssertUnwindSafe(|| directory.run(&steps, Host::new(), &hold, &mut watch)));
            let mut outcome = ran.ok().map(|ran| ran.outcome());
            for (dies_at, fixed) in fate.recoveries.iter().copied().chain([(NEVER, true)]) {
                match outcome {
                    Some(Outcome::Updated) => {
                        prop_assert!(fs::read_to_string(directory.site("settings")).unwrap() == "new");
                        prop_assert!(directory.site("current").exists() && !directory.site("obsolete").exists());
                        return Ok(());
                    }
                    Some(Outcome::RolledBack | Outcome::Refused) => break,
                    Some(Outcome::Held) => {
                        let entries = Journal::read(&directory.journal()).unwrap();
                        let said = entries.iter().any(|entry| matches!(entry, Entry::UndoFailed { .. }));
                        prop_assert!(said && !left_to_undo(&entries).is_empty());
                    }
                    // Killed: nobody can say anything.
                    _ => {}
                }
                if fixed {
                    fs::write(directory.path("fixed"), "").unwrap();
                }
                outcome = directory.recover(dies_at);
            }
            prop_assert!(matches!(outcome, Some(Outcome::RolledBack | Outcome::Refused)), "{outcome:?}");
            prop_assert_eq!(directory.facts(), old.clone());
            // The next run has a journal of its own.
            fs::remove_file(directory.journal()).unwrap();
            let _ = fs::remove_file(directory.path("fixed"));
        }
    }
}
