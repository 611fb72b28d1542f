//! What changes, in few words.

use crate::django::Collected;
use crate::git::counted;
use crate::python::PackageChange;

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
    // A copy under a name with a hash says nothing that the file itself does not say.
    let all: Vec<&String> =
        collected.removed.iter().chain(&collected.added).chain(&collected.changed).collect();
    let is_copy = |name: &str| without_hash(name).is_some_and(|plain| all.contains(&&plain));
    let marked = |names: &[String], mark: char| {
        let own = names.iter().filter(|name| !is_copy(name));
        own.map(|name| format!("{mark} {}", crate::names::shown(name))).collect::<Vec<_>>()
    };
    let mut lines = marked(&collected.removed, '-');
    lines.extend(marked(&collected.added, '+'));
    lines.extend(marked(&collected.changed, '~'));
    lines.truncate(40);
    lines
}

/// Returns the name of the file that a manifest storage made a copy of: `site.css` of `site.0123456789ab.css`.
fn without_hash(name: &str) -> Option<String> {
    let (rest, extension) = name.rsplit_once('.')?;
    let (stem, hash) = rest.rsplit_once('.')?;
    let is_hash = hash.len() == 12 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| format!("{stem}.{extension}"))
}
