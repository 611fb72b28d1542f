//! Whether updates are rehearsed on copies of the databases, and what keeps them from that.

use std::path::Path;

use super::findings::Findings;
use super::look::{Booted, Look};
use crate::django::{DEFAULT, Database, NoCopy, When};
use crate::error::error_chain;

/// Where the needs of a rehearsal stand.
const NEEDS: &str = "docs/how-it-works.md, \"The rehearsal\", lists what it needs";

/// What else helps where a rehearsal is required.
const OR_AUTO: &str = "; or set `rehearsal.when = \"auto\"`";

pub(super) fn rehearsal(look: &mut Look<'_>, findings: &mut Findings) {
    let when = look.site.config().rehearsal.when;
    if look.follows() && when == When::Auto {
        findings.good("the leader rehearses");
        return;
    }
    if when == When::Never {
        if look.has_visitors() {
            findings.advice(
                "off (`rehearsal.when = \"never\"`): a migration or page that fails is only seen in the window",
                "set `rehearsal.when = \"auto\"`",
            );
        }
        return;
    }
    let is_refused = when == When::Always;
    let mut cannot = |text: String, help: Option<String>| match (is_refused, help) {
        (true, help) => findings.problem(text, [help.as_deref().unwrap_or(NEEDS), OR_AUTO].concat()),
        (false, help) => findings.advice(text, help.unwrap_or_else(|| NEEDS.to_owned())),
    };
    match unavailable(look) {
        Some(reason) => cannot(format!("not possible: {reason}"), None),
        None => {
            for (alias, NoCopy { reason, help }) in without_copy(look) {
                cannot(format!("database `{alias}` cannot be copied: {reason}"), help);
            }
        }
    }
    // What is known now counts more.
    let last = look.last_rehearsal().filter(|_| findings.is_empty());
    for (run, skipped) in last.iter().flat_map(|(run, last)| last.skipped.iter().map(move |one| (run, one))) {
        findings.advice(
            format!("{} was not rehearsed in run {run}: {}", skipped.what, skipped.reason),
            skipped.help.clone().unwrap_or_else(|| NEEDS.to_owned()),
        );
    }
    if findings.is_empty() && look.django().is_some() {
        findings.good(if last.is_some() {
            "possible, as in the last update"
        } else {
            "possible, as far as is known"
        });
    }
}

/// Returns the databases that would have no copy, and why.
fn without_copy(look: &mut Look<'_>) -> Vec<(String, NoCopy)> {
    let (host, has_scratch) = (look.host.clone(), look.site.config().rehearsal.database_url.is_some());
    let Some(Booted { session, facts }) = look.django() else { return Vec::new() };
    // A file that is not there is made by who connects, and a scratch database is for the main one.
    let is_asked = |one: &&Database| {
        one.vendor != "unknown"
            && one.file.as_deref().is_none_or(Path::exists)
            && !(has_scratch && one.alias == DEFAULT)
    };
    let mut found = Vec::new();
    for Database { alias, .. } in facts.databases.iter().filter(is_asked) {
        // One that does not answer is a finding about `database`.
        if let Ok(Some(no_copy)) = session.on(alias).no_copy(&host) {
            found.push((alias.clone(), no_copy));
        }
    }
    found
}

/// Returns why the kernel lets the site have no sandbox, which is tried in a directory that then goes.
fn unavailable(look: &mut Look<'_>) -> Option<String> {
    let (host, state) = (look.host.clone(), look.state.directory().to_owned());
    let django = look.django()?;
    // Kernels differ by file system.
    let scratch = if state.is_dir() { tempfile::tempdir_in(state) } else { tempfile::tempdir() };
    let scratch = match scratch {
        Ok(scratch) => scratch,
        Err(error) => return Some(error.to_string()),
    };
    match django.session.sandbox_unavailable(&host, scratch.path()) {
        Ok(reason) => reason,
        Err(error) => Some(error_chain(&error)),
    }
}
