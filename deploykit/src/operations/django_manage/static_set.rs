//! Static files that go live: the change and its description.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::action::Action;
use crate::django::{Collected, LateFiles, originals};
use crate::error::warn;
use crate::git::{Exclude, GitError, counted};
use crate::host::files;
use crate::operations::{Change, Check};

/// Maximum number of file names in a change.
const SHOWN: usize = 40;

/// Static files that go live.
#[derive(Debug, Default, PartialEq)]
pub struct StaticSet {
    /// What changes, in a few words.
    pub reason: String,
    /// Names of files, each with its mark.
    pub details: Vec<String>,
    /// What brings them live; empty: nothing changes.
    pub actions: Vec<Action>,
    /// What undoes that.
    pub undo: Vec<Action>,
    /// Hides from git what it makes beside `STATIC_ROOT`, and shows it again.
    pub hides: Option<(Exclude, Exclude)>,
    /// What is removed when this value is dropped.
    pub aside: Option<Aside>,
}

/// A directory with staged or old static files beside `STATIC_ROOT`; removed when this value is dropped.
#[derive(Debug, PartialEq)]
pub struct Aside(pub(super) PathBuf);

impl Aside {
    /// Leaves the directory where it is: after a swap, the undo needs it.
    pub(super) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        warn(files::remove_tree(&self.0));
    }
}

pub(super) fn place(set: &StaticSet) -> Check {
    if set.actions.is_empty() {
        return Check::unchanged("no static file was added, changed or removed");
    }
    let (reason, details) = (set.reason.clone(), set.details.clone());
    let (actions, undo) = (set.actions.clone(), set.undo.clone());
    Check::Change(Change { reason, details, actions, undo, ..Change::default() }).hiding(set.hides.as_ref())
}

impl StaticSet {
    /// Describes the collected static files. The caller keeps the directory.
    #[must_use]
    pub fn of(collected: &Collected) -> Self {
        let (actions, undo) = static_actions(collected).unwrap_or_default();
        StaticSet {
            reason: static_summary(collected),
            details: static_details(collected),
            actions,
            undo,
            hides: Exclude::pair(&collected.makes()),
            aside: None,
        }
    }
}

/// Returns the names below a directory that git tracks now, where it lies in a checkout.
pub(super) fn tracked_around(directory: &Path) -> Result<BTreeSet<String>, GitError> {
    let place = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let Some(top) = place.ancestors().find(|path| path.join(".git").exists()) else {
        return Ok(BTreeSet::new());
    };
    let head = crate::git::head(top)?;
    crate::git::tracked_below(top, directory, &[&head.commit])
}

/// Returns what brings collected static files live, and what undoes that; `None`: nothing changes.
fn static_actions(collected: &Collected) -> Option<(Vec<Action>, Vec<Action>)> {
    if let (Some(placed), Some(back)) = (&collected.placed, &collected.placed_back) {
        return Some((vec![Action::PlaceFiles(placed.clone())], vec![Action::PlaceFiles(back.clone())]));
    }
    let (swap, back) = (collected.swap.clone()?, collected.back.clone()?);
    let with = |late: Option<LateFiles>, swap| {
        late.map(Action::LinkLateFiles).into_iter().chain([Action::Swap(swap)]).collect()
    };
    Some((with(collected.late_files(), swap), with(collected.late_back(), back)))
}

/// Says in a few words which static files change.
pub(crate) fn static_summary(collected: &Collected) -> String {
    let parts =
        [(&collected.added, "added"), (&collected.changed, "changed"), (&collected.removed, "removed")];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(names, _)| !names.is_empty())
        .map(|(names, what)| format!("{} {what}", names.len()))
        .collect();
    if parts.is_empty() { "nothing changes".to_owned() } else { format!("files: {}", parts.join(", ")) }
}

/// Lists the static files that change, each with its mark.
fn static_details(collected: &Collected) -> Vec<String> {
    // A compressed or hashed copy adds nothing to the name of its file.
    let all = collected.removed.iter().chain(&collected.added).chain(&collected.changed);
    let all: BTreeSet<&str> = all.map(String::as_str).collect();
    let is_copy =
        |name: &str| originals(name).iter().any(|plain| plain != name && all.contains(plain.as_str()));
    let marked = |names: &[String], mark: char| {
        let own = names.iter().filter(|name| !is_copy(name));
        own.map(|name| format!("{mark} {}", crate::names::shown(name))).collect::<Vec<_>>()
    };
    let mut lines = marked(&collected.removed, '-');
    lines.extend(marked(&collected.added, '+'));
    lines.extend(marked(&collected.changed, '~'));
    if lines.len() > SHOWN {
        let more = lines.len() - SHOWN;
        lines.truncate(SHOWN);
        lines.push(format!("and {}", counted(more, "more file")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Swap;

    fn collected(added: Vec<String>, removed: Vec<String>) -> Collected {
        Collected { added, removed, ..Collected::default() }
    }

    #[test]
    fn static_files_are_listed_without_their_copies_and_the_rest_is_counted() {
        let names =
            ["a.css", "a.css.br", "a.css.gz", "a.0123456789ab.css", "a.0123456789ab.css.gz", "dump.gz"];
        let added = names.map(str::to_owned).to_vec();
        assert_eq!(static_details(&collected(added, Vec::new())), ["+ a.css", "+ dump.gz"]);
        let removed: Vec<String> = (0..SHOWN + 2).map(|number| format!("{number:03}.css")).collect();
        let lines = static_details(&collected(Vec::new(), removed.clone()));
        assert_eq!(lines.len(), SHOWN + 1);
        assert_eq!(lines.last().map(String::as_str), Some("and 2 more files"));
        assert_eq!(static_details(&collected(Vec::new(), removed[..SHOWN].to_vec())).len(), SHOWN);
    }

    #[test]
    fn static_files_are_swapped_only_when_something_changes() {
        let swap = Swap { live: "/r".into(), aside: "/.r".into(), wanted: Some(1) };
        let added = (0..30).map(|n| format!("{n:02}.css")).collect();
        let mut collected = Collected {
            swap: Some(swap.clone()),
            back: Some(swap),
            ..collected(added, vec!["old.css".into()])
        };
        let found = place(&StaticSet::of(&collected)).into_change();
        assert_eq!(found.reason, "files: 30 added, 1 removed");
        assert_eq!(found.details[..2], ["- old.css", "+ 00.css"]);
        collected.swap = None;
        assert!(matches!(place(&StaticSet::of(&collected)), Check::Unchanged { .. }));
    }
}
