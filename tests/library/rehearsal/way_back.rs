//! The live version, which a failed update or rollback starts again, is tried on the copies, too.

use std::fs;

use deploykit::event::Record;
use deploykit::plan::Plan;
use deploykit::update::{self, Prepared, Request};

use crate::support::releases::{add_column, append, edit, raises_with};
use crate::support::site::TestSite;
use crate::support::site::demo_site::DemoSite;
use crate::support::snapshot::{Snapshot, assert_same};
use crate::update::{Told, load, updated};

const VIEWS: &str = "project/guestbook/views.py";
const SETTINGS: &str = "project/config/settings/base.py";

/// Plans an update, or a rollback.
fn planned(site: &DemoSite, rolls_back: bool) -> (Plan, Told) {
    let (loaded, mut records) = (load(site), Vec::new());
    let mut watch = |record: &Record| records.push(record.clone());
    let request = Request { only_plan: true, ..Request::default() };
    let prepared = match rolls_back {
        true => update::rollback(&loaded, None, &request, None, &mut watch),
        false => update::prepare(&loaded, &request, None, &mut watch).map(|prepared| match prepared {
            Prepared::Ready(update) => update,
            Prepared::Unchanged(report) => panic!("nothing to do: {:?}", report.notices),
        }),
    };
    let plan = prepared.map(|update| {
        let plan = update.plan().clone();
        update.discard();
        plan
    });
    (plan.unwrap_or_else(|error| panic!("{}", deploykit::error_chain(&error))), Told(records))
}

/// Files that were made since the live version started keep it from starting again.
#[test]
fn is_tried_before_anything_stops() {
    let Some(site) = TestSite::builder().rehearsal().start() else { return };
    let [no_boot, no_page] = ["no-boot", "no-page"].map(|name| site.root.join(name));
    let (settings, views) = (raises_with(&no_boot), raises_with(&no_page));
    site.publish(|tree| {
        append(tree, SETTINGS, &settings);
        append(tree, VIEWS, &views);
    })
    .unwrap();
    updated(&site);
    let before = Snapshot::of(&site);
    let said = |what: &str| {
        format!(
            "started again with the current configuration, variables and packages, the live version fails on a copy of the \
             site: `/`: expected status 200, got 500 (\"500 Internal Server Error\"); `/about/`: expected status 200, got 500 \
             (\"500 Internal Server Error\"): RuntimeError in guestbook/views.py, line {}: no-page; restore what it needs: otherwise, if this {what} fails, the site may be held in maintenance",
            fs::read_to_string(site.checkout.join(VIEWS)).unwrap().lines().count()
        )
    };

    // The present version is what a failed rollback starts again.
    let (plan, _) = planned(&site, true);
    assert_eq!(plan.notices, [""; 0]);
    fs::write(&no_page, "").unwrap();
    let (plan, _) = planned(&site, true);
    assert!(plan.notices.contains(&said("rollback")), "{:?}", plan.notices);

    // If both versions fail, the copy may be the reason.
    let home = "    entries = Entry.objects.all()\n";
    site.publish(|tree| {
        edit(tree, VIEWS, &views, "");
        edit(
            tree,
            VIEWS,
            home,
            &format!(
                "    if __import__(\"os\").path.exists({no_page:?}):\n        raise RuntimeError\n{home}"
            ),
        );
    })
    .unwrap();
    let (plan, _) = planned(&site, false);
    let unsure = "`/` is not rehearsed: the live version, too, does not answer it on a copy as the live site does: `/`: ";
    assert!(plan.notices.iter().any(|text| text.starts_with(unsure)), "{:?}", plan.notices);
    let fails = "the live version fails on a copy of the site: `/about/`: ";
    assert!(plan.notices.iter().any(|text| text.contains(fails)), "{:?}", plan.notices);

    site.publish(|tree| {
        edit(
            tree,
            VIEWS,
            &format!("    if __import__(\"os\").path.exists({no_page:?}):\n        raise RuntimeError\n"),
            "",
        );
        edit(tree, SETTINGS, &settings, "");
        add_column(tree);
    })
    .unwrap();
    let (plan, told) = planned(&site, false);
    assert!(plan.notices.contains(&said("update")), "{:?}", plan.notices);
    let pages = told.outcome("rehearse-pages").unwrap();
    assert!(pages.starts_with("2 of 2 pages as expected on a copy"), "{pages}");
    let live = told.outcome("live-check").unwrap();
    assert_eq!(live, "the live version boots, too; 0 of 2 pages as now on a copy");
    fs::remove_file(&no_page).unwrap();

    let (plan, told) = planned(&site, false);
    assert_eq!(plan.notices, [""; 0]);
    let live = told.outcome("live-check").unwrap();
    assert_eq!(live, "the live version boots, too; 2 of 2 pages as now on a copy");
    assert!(told.outcome("rehearse-migrations").unwrap().starts_with("1 on a copy ("));

    fs::write(&no_boot, "").unwrap();
    let error = match update::prepare(&load(&site), &Request::default(), None, |_: &Record| ()) {
        Err(error) => deploykit::error_chain(&error),
        Ok(_) => panic!("the update is announced by a version that does not boot"),
    };
    assert!(error.contains("the live version does not boot") && error.contains("no-boot"), "{error}");
    fs::remove_file(&no_boot).unwrap();
    assert_same(&before, &Snapshot::of(&site));
}
