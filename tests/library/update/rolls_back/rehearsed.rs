//! A rollback that is rehearsed on copies of the databases.

use super::refuses::refused;
use super::*;

const SETTINGS: &str = "project/config/settings/base.py";
const VIEWS: &str = "project/guestbook/views.py";

/// Its reversal fails as long as an entry says `stop`.
const LAST: &str = "\
from django.db import migrations


def refuse(apps, schema_editor):
    if apps.get_model(\"guestbook\", \"Entry\").objects.filter(text=\"stop\").exists():
        raise ValueError(\"an entry says stop\")


class Migration(migrations.Migration):
    dependencies = [(\"guestbook\", \"0004_sign_entries\")]
    operations = [migrations.RunPython(migrations.RunPython.noop, refuse)]
";

/// Data written since, edited settings and the old code make rollbacks fail, while the site serves.
#[test]
fn what_would_fail_in_the_window_is_refused_and_the_rest_is_done() {
    let Some(site) = TestSite::builder().rehearsal().nginx().start() else { return };
    site.wait_until_serving(PATIENCE).unwrap();
    let [no_boot, no_page] = ["no-boot", "no-page"].map(|name| site.root.join(name));
    let (settings, views) = (raises_with(&no_boot), raises_with(&no_page));
    site.publish(|tree| {
        append(tree, SETTINGS, &settings);
        append(tree, VIEWS, &views);
    })
    .unwrap();
    updated(&site);
    site.write_entry("Ada", "written before").unwrap();
    publish_release_2(&site);
    // From here on, the secret that release 2 needs exists.
    let before = Snapshot::of(&site);
    site.publish(|tree| {
        for (path, text) in [(SETTINGS, &settings), (VIEWS, &views)] {
            let file = tree.join(path);
            let left = fs::read_to_string(&file).unwrap().replace(text.as_str(), "");
            fs::write(&file, left).unwrap();
        }
        write(tree, "project/guestbook/migrations/0005_last.py", LAST);
    })
    .unwrap();
    let (_, told) = updated(&site);
    let reversed = told.outcome("rehearse-migrations").unwrap();
    assert!(reversed.contains("4 on a copy"), "{reversed}");

    site.write_entry("Eve", "stop").unwrap();
    let message = "the migrations cannot be reversed on a copy of the database; the site serves as before";
    refused(&site, None, "rehearse-migrations", message);
    refused(&site, None, "rehearse-migrations", "an entry says stop");
    let text = "import django; django.setup(); from guestbook.models import *; Entry.objects.filter(text='stop').delete()";
    run(site.python().args(["-c", text])).unwrap_or_else(|error| panic!("{error}"));

    fs::write(&no_boot, "").unwrap();
    refused(&site, None, "rehearse-pages", "the previous version does not boot on a copy of the site");
    fs::remove_file(&no_boot).unwrap();
    fs::write(&no_page, "").unwrap();
    refused(&site, None, "rehearse-pages", "the previous version fails on a copy of the site");
    fs::remove_file(&no_page).unwrap();

    reply(&site);
    let (_, told) = rolled_back(&site);
    let reversed = told.outcome("rehearse-migrations").unwrap();
    assert!(
        reversed.starts_with("4 reversed on a copy (") && reversed.ends_with("as before the update"),
        "{reversed}"
    );
    let pages = told.outcome("rehearse-pages").unwrap();
    assert!(pages.contains(" as expected on a copy"), "{pages}");
    assert_eq!(site.release().as_deref(), Some("1"));
    assert_same(&before, &Snapshot::of(&site));
}

/// For an update without migrations, only the pages are rehearsed.
#[test]
fn the_copy_of_the_update_is_restored_on_a_copy() {
    let Some(site) = TestSite::builder().rehearsal().start() else { return };
    site.write_entry("Ada", "written before").unwrap();
    let before = Snapshot::of(&site);
    publish_irreversible_migration(&site);
    updated(&site);
    let (_, told) = from_copy(&site);
    let restored = told.outcome("rehearse-migrations").unwrap();
    assert!(restored.starts_with("restored on a copy ("), "{restored}");
    assert!(told.outcome("rehearse-pages").unwrap().contains(" as expected on a copy"), "{}", told.notices());
    assert_same(&before, &Snapshot::of(&site));

    // These updates bring the version again that was rolled back.
    publish_good(&site, "other");
    updated(&site);
    publish_good(&site, "another");
    updated(&site);
    let (_, told) = rolled_back(&site);
    let none = told.outcome("rehearse-migrations").unwrap();
    assert!(none.starts_with("none to reverse; ") && none.ends_with(" copied for the pages"), "{none}");
    assert!(told.outcome("rehearse-pages").unwrap().contains(" as expected on a copy"), "{}", told.notices());
}
