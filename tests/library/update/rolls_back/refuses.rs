//! What cannot be rolled back is said before anything stops.

use super::*;

/// Fails unless a rollback is refused at a step with this message, and the site noticed nothing.
#[track_caller]
pub(super) fn refused(site: &DemoSite, run: Option<&str>, at: &str, message: &str) {
    let (before, processes) = (Snapshot::of(site), site.processes());
    let (result, told) = rollback_of(site, run, |_| (), &mut |_| ());
    let error = result.expect_err("not refused");
    let UpdateError::Prepare { step, report, .. } = &error else { panic!("{error:?}") };
    let chain = deploykit::error_chain(&error);
    assert_eq!(step, at, "{chain}");
    assert!(chain.contains(message), "{chain}");
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(told.undone().is_empty() && !told.done().contains(&"announce"), "{told:?}");
    assert_same(&before, &Snapshot::of(site));
    assert_eq!(processes, site.processes());
    assert_tidy(site);
}

#[test]
fn what_is_no_update_that_stands() {
    let Some(site) = TestSite::builder().start() else { return };
    refused(&site, None, "run", "there is no finished update to roll back");
    refused(&site, Some("20200101-1"), "run", "there is no run `20200101-1`");
    publish_good(&site, "one");
    let first = updated(&site).0.run.unwrap();
    publish_good(&site, "two");
    let second = updated(&site).0.run.unwrap();
    let message = format!("run {first} is not the last update: {second} came after it");
    refused(&site, Some(&first), "run", &message);
    let rollback = rolled_back(&site).0.run.unwrap();
    for run in [second, rollback] {
        refused(&site, Some(&run), "run", &format!("run {run} cannot be rolled back"));
    }
    assert_eq!(site.release().as_deref(), Some("one"));
}

#[test]
fn a_site_that_was_changed_by_hand_since() {
    let Some(site) = TestSite::builder().start() else { return };
    configure(&site, "[git]\n", "[git]\nlocal-changes = \"keep\"\n");
    make_wheel(&site, "demo-base", "1.0", &[], "");
    make_wheel(&site, "demo-by-hand", "1.0", &[], "");
    site.publish(|tree| {
        append(tree, "requirements/production.txt", "demo-base==1.0\n");
        append(tree, ABOUT, "<!-- new -->\n");
        append(tree, STYLES, "h1 { color: red; }\n");
        fs::remove_file(tree.join("README.md")).unwrap();
        write(
            tree,
            "project/guestbook/migrations/0002_mood.py",
            "from django.db import migrations, models\n\n\nclass Migration(migrations.Migration):\n    \
             dependencies = [(\"guestbook\", \"0001_initial\")]\n    operations = [migrations.AddField(\n        \
             \"entry\", \"mood\", models.CharField(max_length=8, default=\"\", db_default=\"\")\n    )]\n",
        );
    })
    .unwrap();
    let run = updated(&site).0.run.unwrap();
    let git = |args: &[&str]| site.git(&site.checkout, args).unwrap();

    append(&site.checkout, ABOUT, "<!-- edited on the server -->\n");
    refused(&site, None, "code", &format!("would overwrite 1 file: `{ABOUT}` (changed locally)"));
    git(&["checkout", "-q", "--", ABOUT]);
    write(&site.checkout, "README.md", "untracked\n");
    refused(&site, None, "code", "`README.md` (untracked)");
    fs::remove_file(site.checkout.join("README.md")).unwrap();
    git(&["commit", "-q", "--allow-empty", "-m", "By hand"]);
    refused(&site, None, "code", "HEAD is at `main` (");
    git(&["reset", "-q", "--keep", "HEAD~1"]);

    install(&site, "demo-by-hand");
    refused(&site, None, "packages", &format!("packages were changed by hand since run {run}"));
    let mut uninstall = site.command(site.options.uv.as_ref().unwrap());
    uninstall.args(["pip", "uninstall", "-q", "demo-by-hand", "--python"]);
    crate::support::site::demo_site::run(uninstall.arg(site.virtualenv.join("bin/python"))).unwrap();
    let environment = fs::read_link(&site.virtualenv).unwrap();
    fs::remove_file(&site.virtualenv).unwrap();
    std::os::unix::fs::symlink(site.root.join(".venv.deploykit-original"), &site.virtualenv).unwrap();
    refused(&site, None, "packages", &format!("is not the virtualenv that run {run} left there"));
    fs::remove_file(&site.virtualenv).unwrap();
    std::os::unix::fs::symlink(environment, &site.virtualenv).unwrap();

    let sql = |text: &str| {
        let text = format!(
            "import django; django.setup(); from django.db import connection; connection.cursor().execute({text:?})"
        );
        crate::support::site::demo_site::run(site.python().args(["-c", &text])).unwrap();
    };
    sql(
        "INSERT INTO django_migrations (app, name, applied) VALUES ('guestbook', '0003_by_hand', '2026-01-01')",
    );
    refused(&site, None, "migrations", "+ migration guestbook.0003_by_hand");
    sql("DELETE FROM django_migrations WHERE name = '0003_by_hand'");
    sql("ALTER TABLE guestbook_entry ADD COLUMN by_hand integer");
    refused(&site, None, "migrations", "column by_hand");
    sql("ALTER TABLE guestbook_entry DROP COLUMN by_hand");

    let kept = fs::read_dir(site.root.join("data")).unwrap().flatten().map(|entry| entry.path());
    let kept =
        kept.into_iter().find(|path| path.to_string_lossy().contains(".deploykit-20")).expect("kept files");
    fs::rename(&kept, site.root.join("away")).unwrap();
    refused(&site, None, "run", &format!("is no longer kept: `{}` is missing", kept.display()));
    fs::rename(site.root.join("away"), &kept).unwrap();

    rolled_back(&site);
    assert_eq!(site.release().as_deref(), Some("1"));
}

#[test]
fn an_update_of_packages_alone_over_commits_made_by_hand() {
    let Some(site) = TestSite::builder().start() else { return };
    make_wheel(&site, "demo-base", "1.0", &[], "");
    install(&site, "demo-base");
    site.publish(|tree| append(tree, "requirements/production.txt", "demo-base\n")).unwrap();
    site.git(&site.checkout, &["pull", "-q", "--ff-only"]).unwrap();
    make_wheel(&site, "demo-base", "1.1", &[], "");
    let before = Snapshot::of(&site);
    let (report, told) = updated(&site);
    assert_eq!(report.from, report.to);
    assert_eq!(told.skipped("code").as_deref(), Some("no new commits on origin/main"));
    site.git(&site.checkout, &["commit", "-q", "--allow-empty", "-m", "By hand"]).unwrap();
    refused(&site, None, "code", "HEAD is at `main` (");
    site.git(&site.checkout, &["reset", "-q", "--keep", "HEAD~1"]).unwrap();
    rolled_back(&site);
    assert_same(&before, &Snapshot::of(&site));
}

#[test]
fn a_secret_that_the_old_version_asks_for_and_is_gone() {
    let Some(site) = TestSite::builder().start() else { return };
    let secrets = fs::read_to_string(&site.secrets).unwrap();
    site.add_secret("API_TOKEN", "a token for another site").unwrap();
    publish_missing_secret(&site);
    updated(&site);
    let settings = "project/config/settings/base.py";
    site.publish(|tree| edit(tree, settings, "\nAPI_TOKEN = get_secret(\"API_TOKEN\")\n", "\n")).unwrap();
    updated(&site);
    fs::write(&site.secrets, secrets).unwrap();
    refused(&site, None, "secrets", "API_TOKEN");
    site.add_secret("API_TOKEN", "a token for another site").unwrap();
    rolled_back(&site);
    assert!(fs::read_to_string(site.checkout.join(settings)).unwrap().contains("API_TOKEN"));
}

/// There is a way back for a rollback that fails: the migrations are applied again.
#[test]
fn a_copy_that_nobody_wants_is_not_made() {
    let Some(site) = TestSite::builder().start() else { return };
    configure(&site, "[maintenance]\n", "[database]\nbackup = \"never\"\n\n[maintenance]\n");
    let before = Snapshot::of(&site);
    publish_column(&site);
    updated(&site);
    let (_, told) = rolled_back(&site);
    assert!(told.done().contains(&"migrate") && !told.done().contains(&"backup"), "{told:?}");
    assert_same(&before, &Snapshot::of(&site));
}
