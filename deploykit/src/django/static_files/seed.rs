//! Live files that Django would make anew just the same: these are linked instead, where nothing writes into a file that is
//! there.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::StaticSources;
use super::super::static_rules::without_hash;
use super::disk::equal;
use crate::host::Host;
use crate::names;

/// Returns the names of live files that are what they were collected from, byte for byte. Times do not count: packages
/// bring old ones.
pub(super) fn same(
    host: &Host,
    root: &Path,
    live: &BTreeSet<String>,
    sources: &StaticSources,
) -> BTreeSet<String> {
    let candidates: Vec<(&String, &Path)> =
        sources.with_places().filter(|(name, _)| live.contains(*name)).collect();
    pick(host, root, &candidates).collect()
}

/// Returns the names of hashed copies that are what they were made from. Django makes those anew whose contents it adjusts, and
/// what was compressed is none: whitenoise writes into it.
pub(super) fn variants(
    host: &Host,
    root: &Path,
    live: &BTreeSet<String>,
    sources: &StaticSources,
) -> Vec<String> {
    let source = |name: &String| sources.sources.get(&without_hash(name)?)?.as_deref();
    // A source whose own name looks like that is to equal itself.
    let copies = live.iter().filter(|name| !sources.sources.contains_key(*name));
    let candidates: Vec<(&String, &Path)> = copies.filter_map(|name| Some((name, source(name)?))).collect();
    pick(host, root, &candidates).collect()
}

/// Picks the files of a directory that equal their sources.
fn pick(host: &Host, root: &Path, candidates: &[(&String, &Path)]) -> impl Iterator<Item = String> {
    let equals = host.on_all_cores(candidates, |(name, source)| equal(source, &names::join(root, name)));
    candidates.iter().zip(equals).filter(|(_, equals)| *equals).map(|((name, _), _)| (*name).clone())
}
