//! Obsolete files that pages still name.

use super::*;

#[test]
fn old_bundles_stay_for_their_time_and_go_later() {
    let Some(site) = site(MANIFEST) else { return };
    let go_live = |files: &StaticFiles| {
        let collected = prepare(&site, files).unwrap();
        if let Some(swap) = &collected.swap {
            collected.late_files().unwrap().perform(&Host::new()).unwrap();
            swap.perform().unwrap();
        }
        collected
    };
    let keeping = |record: &StaticRecord, keep_old| StaticFiles {
        record: Some(record.clone()),
        keep_old: Duration::from_secs(keep_old),
        ..files(&site)
    };
    let record = go_live(&files(&site)).record;
    let old = |name: &&String| name.starts_with("shop/old");
    let olds = || listing(&site.path("www/static")).iter().filter(old).count();
    assert_eq!(olds(), 2, "with its hashed variant");

    // A bundle of another name takes its place.
    fs::rename(site.path("shop/static/shop/old.js"), site.path("shop/static/shop/new.js")).unwrap();
    let kept = go_live(&keeping(&record, 3600));
    assert!(kept.removed.is_empty() && kept.added.iter().any(|name| name == "shop/new.js"), "{kept:?}");
    assert_eq!((olds(), kept.record.obsolete.len()), (2, 2));
    let again = go_live(&keeping(&kept.record, 3600));
    assert!(again.is_unchanged());
    assert_eq!(again.record, kept.record, "since when they are obsolete stays known");

    // Their time is over, or the user asks for it.
    let hour = jiff::SignedDuration::from_hours(1);
    let long_ago = kept.record.obsolete.iter().map(|(name, since)| (name.clone(), *since - hour));
    let record = StaticRecord { obsolete: long_ago.collect(), ..kept.record.clone() };
    let gone = prepare(&site, &keeping(&record, 3600)).unwrap();
    assert_eq!((gone.removed.len(), gone.record.obsolete.len()), (2, 0), "{gone:?}");
    fs::remove_dir_all(files(&site).root.with_file_name(".static.deploykit-next")).unwrap();
    let cleared =
        go_live(&StaticFiles { clear: When::Always, collect: When::Always, ..keeping(&kept.record, 3600) });
    assert_eq!((cleared.removed.len(), cleared.record.obsolete.len(), olds()), (2, 0, 0));
}
