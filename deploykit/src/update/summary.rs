//! What changes, in few words.

use std::collections::BTreeSet;

use crate::django::Collected;
use crate::git::counted;
use crate::python::PackageChange;

/// How many static files are named.
const SHOWN: usize = 40;

/// Says in a few words which packages change.
pub(super) fn package_summary(changes: &[PackageChange]) -> String {
    match changes {
        [] => "the same packages".to_owned(),
        [one] => one.to_string(),
        many => format!("{} change", counted(many.len(), "package")),
    }
}

/// Says in a few words which static files change.
pub(super) fn static_summary(collected: &Collected) -> String {
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
pub(super) fn static_details(collected: &Collected) -> Vec<String> {
    // A compressed copy, or one under a name with a hash, says nothing that the file itself does not say.
    let all = collected.removed.iter().chain(&collected.added).chain(&collected.changed);
    let all: BTreeSet<&str> = all.map(String::as_str).collect();
    let is_copy = |name: &str| {
        let plain = name.strip_suffix(".gz").or(name.strip_suffix(".br"));
        plain.is_some_and(|plain| all.contains(plain))
            || without_hash(name).is_some_and(|plain| all.contains(plain.as_str()))
    };
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

/// Returns the name of the file that a manifest storage made a copy of: `site.css` of `site.0123456789ab.css`.
fn without_hash(name: &str) -> Option<String> {
    let (rest, extension) = name.rsplit_once('.')?;
    let (stem, hash) = rest.rsplit_once('.')?;
    let is_hash = hash.len() == 12 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| format!("{stem}.{extension}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::django::{Folders, Others, StaticRecord};

    fn collected(added: Vec<String>, removed: Vec<String>) -> Collected {
        Collected {
            swap: None,
            back: None,
            added,
            changed: Vec::new(),
            removed,
            unchanged: false,
            record: StaticRecord::default(),
            folders: Folders::default(),
            others: Others::default(),
            placed: None,
            placed_back: None,
            copied: false,
            shares: false,
        }
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
}
