//! What is kept, and for how long.

use super::*;

/// Publishes and installs a version with a package, a static file and a page of its own.
fn update_to(site: &DemoSite, number: u32) {
    make_wheel(site, "demo-base", &format!("{number}.0"), &[], "");
    site.publish(|tree| {
        let requirements = fs::read_to_string(tree.join("requirements/production.txt")).unwrap();
        let others = requirements.lines().filter(|line| !line.starts_with("demo-base"));
        let text =
            others.map(|line| format!("{line}\n")).collect::<String>() + &format!("demo-base=={number}.0\n");
        write(tree, "requirements/production.txt", &text);
        write(tree, "project/config/release.py", &format!("RELEASE = \"v{number}\"\n"));
        append(tree, STYLES, &format!("h{number} {{ color: red; }}\n"));
    })
    .unwrap();
    updated(site);
}

/// Returns how many runs, directories of static files, environments and commits are kept.
fn kept(site: &DemoSite) -> [usize; 4] {
    let state = load(site).state();
    let count = |directory: &Path, part: &str| {
        names(directory).iter().filter(|path| path.to_string_lossy().contains(part)).count()
    };
    [
        state.runs().unwrap().iter().filter(|run| run.kept().is_some()).count(),
        count(&site.root.join("data"), ".static.deploykit-"),
        count(&state.virtualenvs(), "") + count(&site.root, ".venv.deploykit-original"),
        site.git(&site.checkout, &["for-each-ref", "refs/deploykit/runs"]).unwrap().lines().count(),
    ]
}

#[test]
fn the_last_three_updates_can_be_rolled_back_one_after_another() {
    let Some(site) = TestSite::builder().start() else { return };
    let mut snapshots = Vec::new();
    for number in 1..=4 {
        snapshots.push(Snapshot::of(&site));
        update_to(&site, number);
    }
    // Beside the live one there are the environments of the three versions before; the first is gone.
    assert_eq!(kept(&site), [3, 3, 4, 3]);
    assert!(!site.virtualenv.with_file_name(".venv.deploykit-original").exists());
    for (left, snapshot) in snapshots[1..].iter().enumerate().rev() {
        let (report, _) = rolled_back(&site);
        assert_same(snapshot, &Snapshot::of(&site));
        assert_eq!(last_run(&site).report().unwrap(), report);
        assert_eq!(kept(&site), [left, left, left + 1, left]);
    }
    assert_eq!(site.release().as_deref(), Some("v1"));
    let (result, _) = rollback_of(&site, None, |_| (), &mut |_| ());
    let error = deploykit::error_chain(&result.expect_err("nothing is kept"));
    assert!(error.contains("is no longer kept"), "{error}");
    // It goes forward again, over all of them.
    updated(&site);
    assert_eq!(site.release().as_deref(), Some("v4"));
    assert_eq!(kept(&site), [1, 1, 2, 1]);
}

#[test]
fn one_is_enough_and_a_failed_update_takes_nothing_away() {
    let Some(site) = TestSite::builder().start() else { return };
    let text = fs::read_to_string(&site.config).unwrap();
    fs::write(&site.config, format!("keep = 1\n{text}")).unwrap();
    update_to(&site, 1);
    let before = Snapshot::of(&site);
    update_to(&site, 2);
    assert_eq!(kept(&site), [1, 1, 2, 1]);
    publish_broken_home(&site);
    assert_eq!(run_update(&site).unwrap().outcome, Outcome::RolledBack);
    publish_unknown_requirement(&site);
    run_update(&site).expect_err("there is no such package");
    assert_eq!(kept(&site), [1, 1, 2, 1]);
    rolled_back(&site);
    assert_same(&before, &Snapshot::of(&site));
}
