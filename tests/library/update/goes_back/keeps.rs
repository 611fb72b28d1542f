//! What is the server's own stays through a rollback: edits, untracked files, a detached HEAD.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::support::releases::*;
use crate::support::site::TestSite;

#[test]
fn edits_and_untracked_files_stay() {
    let Some(site) = TestSite::builder().start() else { return };
    configure(&site, "[git]\n", "[git]\nlocal-changes = \"keep\"\n");
    append(&site.checkout, "README.md", "\nEdited on the server.\n");
    append(&site.checkout, "project/guestbook/context_processors.py", "\n# Edited, too, and staged.\n");
    site.git(&site.checkout, &["add", "project/guestbook/context_processors.py"]).unwrap();
    write(&site.checkout, "project/notes.txt", "untracked\n");
    write(&site.checkout, "project/config/settings/local.py", "IGNORED = True\n");
    let hook = site.checkout.join(".git/hooks/post-checkout");
    write(&site.checkout, ".git/hooks/post-checkout", "#!/bin/sh\necho no such program >&2\nexit 127\n");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    publish_broken_home(&site);
    let (failure, report, told) = rolled_back(&site);
    assert_eq!(failure.step, "smoke-check");
    assert!(told.undone().contains(&"code"), "{:?}", told.undone());
    let hooks =
        report.notices.iter().filter(|notice| notice.starts_with("a Git hook failed, but the checkout of"));
    assert_eq!(hooks.count(), 2, "on either way: {:?}", report.notices);
    let readme = fs::read_to_string(site.checkout.join("README.md")).unwrap();
    assert!(readme.ends_with("Edited on the server.\n"), "{readme}");
}

#[test]
fn a_detached_head_is_detached_again_and_staging_goes_back_too() {
    let Some(site) = TestSite::builder().start() else { return };
    configure(&site, "environment = \"production\"", "environment = \"staging\"");
    site.git(&site.checkout, &["checkout", "-q", "--detach"]).unwrap();
    publish_broken_home(&site);
    let (failure, _, told) = rolled_back(&site);
    assert_eq!(failure.step, "smoke-check");
    assert!(told.skipped("announce").is_some(), "{told:?}");
    assert!(told.undone().contains(&"code"), "{:?}", told.undone());
}
