//! A conda environment, whose packages are changed where they are.

use std::os::unix::fs::MetadataExt;

use super::*;
use crate::support::site::TestSite;
use crate::update::rolls_back;

#[test]
fn packages_that_are_changed_in_place_come_back() {
    let Some(site) = TestSite::builder().start() else { return };
    fs::create_dir(site.virtualenv.join("conda-meta")).unwrap();
    let packages = || {
        let library = names(&site.virtualenv.join("lib")).pop().unwrap();
        fs::metadata(library.join("site-packages")).unwrap().ino()
    };
    publish_release_2(&site);
    let UpdateError::Prepare { source, .. } = run_update(&site).unwrap_err() else { panic!("it is refused") };
    assert!(source.to_string().contains(" is a conda environment; "), "{source}");

    configure(&site, "[python]\n", "[python]\nin-place = true\n");
    let (before, old) = (Snapshot::of(&site), packages());
    let places = || names(&site.virtualenv.join(".deploykit-packages")).len();
    let (plan, loaded) = (Request { only_plan: true, ..Request::default() }, load(&site));
    let mut watch = |_: &Record| ();
    let planned = update::prepare(&loaded, &plan, None, &mut watch).unwrap();
    let Prepared::Ready(planned) = planned else { panic!("there is something to do") };
    let step = planned.plan().steps.iter().find(|step| step.id == "virtualenv").unwrap();
    assert!(step.change.reason.ends_with(", in place, inside the window"), "{}", step.change.reason);
    assert_eq!(places(), 0, "a plan leaves nothing in the virtualenv");
    drop(planned);
    kill_at(&site, "virtualenv finished");
    assert_ne!(packages(), old);
    let report = update::recover(&load(&site), None, &mut |_: &Record| ()).unwrap().unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}\n{}", report.failure, site.logs());
    assert_as_before(&site, &before);
    assert_eq!(packages(), old);

    updated(&site);
    assert_ne!(packages(), old);
    assert!(site.virtualenv.is_dir() && !site.virtualenv.is_symlink());
    assert_eq!(run_update(&site).unwrap().outcome, Outcome::Unchanged);
    assert_eq!(places(), 1, "only what a rollback needs stays");
    rolls_back::rolled_back(&site);
    assert_same(&before, &Snapshot::of(&site));
    assert_eq!(packages(), old);

    add(&site, "[[steps]]\nname = \"fails\"\nafter = \"migrate\"\nrun = [\"false\"]\n");
    rolled_back(&site);
    assert_eq!(packages(), old);
}
