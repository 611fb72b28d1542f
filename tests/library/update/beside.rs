//! The staged virtualenv has the packages that the staged tree asks for.

use super::*;
use crate::support::releases::*;
use crate::support::site::TestSite;

#[test]
fn what_the_tree_asks_for_counts() {
    let Some(site) = TestSite::builder().start() else { return };
    make_wheel(&site, "demo-base", "1.0", &[], "");
    publish_good(&site, "more");
    let script = "echo demo-base >> requirements/production.txt";
    add(
        &site,
        &format!(
            "[[steps]]\nname = \"more\"\nafter = \"staged-tree\"\nrun = [\"/bin/sh\", \"-c\", \"{script}\"]\n"
        ),
    );
    let (_, told) = updated(&site);
    assert_eq!(told.outcome("staged-virtualenv").as_deref(), Some("+ demo-base 1.0"));
    assert_tidy(&site);
}

#[test]
fn packages_of_the_tree_are_found_there() {
    let Some(site) = TestSite::builder().start() else { return };
    let wheel = make_wheel(&site, "demo-base", "1.0", &[], "");
    site.publish(|tree| {
        fs::create_dir(tree.join("vendor")).unwrap();
        fs::rename(site.extra_wheels.join(&wheel), tree.join("vendor").join(&wheel)).unwrap();
        append(tree, "requirements/production.txt", "demo-base\n");
    })
    .unwrap();
    configure(&site, "extra-args = [", "extra-args = [\"--find-links=vendor\", ");
    let (_, told) = updated(&site);
    assert_eq!(told.outcome("staged-virtualenv").as_deref(), Some("+ demo-base 1.0"));
}
