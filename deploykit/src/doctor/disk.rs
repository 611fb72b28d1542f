//! Whether the disks have room for what an update puts there.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::findings::Findings;
use super::look::Look;
use crate::git;
use crate::host::files::{self, FileError, InPath};
use crate::keys::Size;
use crate::python::in_place::{self, RESERVE};

/// Something that an update puts on a disk.
#[derive(Clone, Debug)]
struct Part {
    what: &'static str,
    /// Where; it need not exist.
    place: PathBuf,
    bytes: u64,
}

/// A disk that parts are put on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Disk {
    /// A directory on it.
    directory: PathBuf,
    free: u64,
    parts: Vec<(&'static str, u64)>,
}

pub(super) fn disk(look: &mut Look<'_>, findings: &mut Findings) {
    let parts = parts(look, findings);
    match disks(&parts) {
        Err(error) => findings.error(error, "let the site's user read this directory"),
        Ok(disks) => disks.iter().for_each(|disk| judge(disk, findings)),
    }
}

/// Returns what an update puts on a disk at most. The staged tree of an earlier run is used again.
fn parts(look: &Look<'_>, findings: &mut Findings) -> Vec<Part> {
    let config = look.site.config();
    let mut parts = Vec::new();
    let mut add = |what, place: &Path, bytes| parts.push(Part { what, place: place.to_owned(), bytes });
    if !look.state.staged_tree().exists() {
        // A checkout that cannot be read is a finding about `git`.
        if let Ok(bytes) = git::size_of_tracked(&config.site.repository) {
            add("the staged tree", files::parent(&config.site.repository), bytes);
        }
    }
    if let Some(virtualenv) =
        config.python.virtualenv.as_deref().filter(|_| !config.python.wanted().is_empty())
    {
        let place = if config.python.in_place { virtualenv.to_owned() } else { look.state.virtualenvs() };
        match in_place::size(virtualenv) {
            Ok(bytes) => add("packages", &place, bytes + RESERVE),
            Err(error) => findings.error(error, "let the site's user read this directory"),
        }
    }
    if look.copies > 0 {
        add("a copy of the database", look.state.directory(), look.copies);
    }
    parts
}

/// Finds the disks of the parts.
fn disks(parts: &[Part]) -> Result<Vec<Disk>, FileError> {
    let mut disks: BTreeMap<u64, Disk> = BTreeMap::new();
    for part in parts {
        let directory = part.place.ancestors().find(|path| path.is_dir()).unwrap_or(&part.place);
        let device = std::fs::metadata(directory).at("look at", directory)?.dev();
        let found = rustix::fs::statvfs(directory).at("look at", directory)?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        let disk = disks.entry(device).or_insert_with(|| Disk {
            directory: directory.to_owned(),
            free,
            parts: Vec::new(),
        });
        disk.parts.push((part.what, part.bytes));
    }
    Ok(disks.into_values().collect())
}

fn judge(disk: &Disk, findings: &mut Findings) {
    let needed: u64 = disk.parts.iter().map(|(_, bytes)| bytes).sum();
    let what: Vec<&str> = disk.parts.iter().map(|(what, _)| *what).collect();
    let text = format!(
        "{} free below {}; an update takes up to {}: {}",
        Size(disk.free),
        disk.directory.display(),
        Size(needed.next_multiple_of(1_000_000)),
        what.join(", ")
    );
    if disk.free < needed {
        findings.problem(text, "make room, or set `keep` to fewer updates");
    } else {
        findings.good(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;
    use crate::doctor::findings::testing::found;

    #[test]
    fn what_is_put_on_one_disk_must_fit_together() {
        let parts = vec![("packages", 300_000_000), ("a copy of the database", 1_500_000)];
        let disk = |free| Disk { directory: "/srv".into(), free, parts: parts.clone() };
        let judged = |free| found(|findings| judge(&disk(free), findings));
        let text = "free below /srv; an update takes up to 302 MB: packages, a copy of the database";
        assert_eq!(judged(12_000_000_000), [(Level::Good, format!("12 GB {text}"), None)]);
        let way_out = Some("make room, or set `keep` to fewer updates".to_owned());
        assert_eq!(judged(301_000_000), [(Level::Problem, format!("301 MB {text}"), way_out)]);
    }

    #[test]
    fn directories_that_are_missing_are_on_the_disk_above_them() {
        let directory = tempfile::tempdir().unwrap();
        let part = |what, name| Part { what, place: directory.path().join(name), bytes: 1 };
        let found = disks(&[part("packages", "a/b"), part("the staged tree", "")]).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].directory.as_path(), found[0].parts.len()), (directory.path(), 2));
    }
}
