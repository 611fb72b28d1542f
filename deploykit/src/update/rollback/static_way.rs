//! Rolls back the static files of a finished update, and undoes that.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::action::{Action, held_by};
use crate::django::{LateFiles, Mounted, PlacedFiles};
use crate::host::Swap;
use crate::host::files;
use crate::state::KeptStatic;
use crate::update::past::Past;

/// How the previous static files are restored, and how that is undone.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StaticWay {
    pub back: Vec<Action>,
    pub there: Vec<Action>,
}

impl StaticWay {
    /// Reads it from the journal; `None`: what was kept is gone.
    pub(super) fn of(past: &Past, kept: &KeptStatic, later_steps: &[[Timestamp; 2]]) -> Option<Self> {
        let aside = kept.directory.clone();
        past.undo().find_map(|action| match action {
            Action::Swap(back) if files::inode(&kept.directory) == back.wanted => {
                let back = Swap { aside: aside.clone(), ..back.clone() };
                let there = Swap { wanted: files::inode(&back.live), ..back.clone() };
                let late = past.actions().find_map(held_by!(LinkLateFiles));
                let (others, removed) = late.map(|late| (late.others, late.removed)).unwrap_or_default();
                let steps_until = past.steps_after_static();
                let with = |swap: Swap, removed: Vec<String>, steps_until| {
                    let late = LateFiles {
                        steps_until,
                        later_steps: later_steps.to_vec(),
                        ..LateFiles::new(swap.clone(), &removed, &others)
                    };
                    let late = swap.wanted.is_some().then_some(Action::LinkLateFiles(late));
                    late.into_iter().chain([Action::Swap(swap)]).collect()
                };
                let back = with(back, kept.added.clone(), steps_until);
                Some(StaticWay { back, there: with(there, removed, None) })
            }
            Action::PlaceFiles(back) => {
                let back = PlacedFiles { aside: aside.clone(), ..back.clone() };
                let (is_there, there) = (back.is_there(), back.way_back());
                let [back, there] = [back, there].map(|files| vec![Action::PlaceFiles(files)]);
                is_there.then_some(StaticWay { back, there })
            }
            _ => None,
        })
    }

    /// Returns the previous static files in place of the live ones.
    pub(super) fn appears(&self) -> Option<Mounted> {
        let back = self.back.iter().find_map(held_by!(Swap)).filter(|back| back.wanted.is_some())?;
        Some(Mounted { live: back.live, staged: back.aside })
    }

    /// Returns the directory that is exchanged whole.
    pub(super) fn moves(&self) -> Option<PathBuf> {
        self.back.iter().find_map(held_by!(Swap)).map(|back| back.live)
    }
}
