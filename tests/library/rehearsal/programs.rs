//! The site's own programs in the rehearsal: its steps, and `rehearse` of its services.

use std::fs;
use std::path::Path;

use super::releases::{Outcome, outcome_of};
use crate::support::releases::{add_column, edit, prepend, write};
use crate::support::site::TestSite;
use crate::support::snapshot::{Snapshot, assert_same};
use crate::update::add;

/// A release whose page needs the files that a step writes from the migrated database.
fn needs_a_step(tree: &Path) {
    add_column(tree);
    let views = "project/guestbook/views.py";
    prepend(tree, views, "from django.conf import settings\n");
    let home = "    entries = Entry.objects.all()\n";
    let reads = "    assert (settings.DATA / \"made\").read_text() == str(settings.REPOSITORY)\n";
    edit(tree, views, home, &format!("{reads}{home}"));
    write(
        tree,
        "project/guestbook/management/commands/make.py",
        "from django.conf import settings\nfrom django.core.management.base import BaseCommand, CommandError\n\n\
         from guestbook.models import Entry\n\n\nclass Command(BaseCommand):\n    def handle(self, **options):\n        \
         Entry.objects.filter(mood=\"sad\").count()\n        \
         if not (settings.DATA / \"early\").exists():\n            raise CommandError(\"too early\")\n        \
         (settings.DATA / \"made\").write_text(str(settings.REPOSITORY))\n",
    );
}

#[test]
fn are_run_before_the_pages() {
    let Some(site) = TestSite::builder().rehearsal().start() else { return };
    let data = site.root.join("data");
    let first = site.git(&site.checkout, &["rev-parse", "HEAD"]).expect("a commit").trim().to_owned();
    let step = |name: &str, after: &str, more: &str| {
        format!("[[steps]]\nname = \"{name}\"\nafter = \"{after}\"\n{more}\n")
    };
    add(&site, &step("make", "migrate", "manage = [\"make\"]\nrehearse = true"));
    let (before, config) = (Snapshot::of(&site), fs::read_to_string(&site.config).expect("a configuration"));
    let change = |from: &str, to: &str| {
        let config = fs::read_to_string(&site.config).expect("a configuration");
        assert!(config.contains(from), "{config}");
        fs::write(&site.config, config.replace(from, to)).expect("a configuration");
    };

    // This step needs the other one, which is later in the file but follows an earlier step.
    let Outcome::Refused(name, why) = outcome_of(&site, &first, "a step", needs_a_step) else {
        panic!("not refused")
    };
    assert_eq!(name, "rehearse-pages", "{why}");
    assert!(why.starts_with("step `make` fails on a copy of the site, which serves as before: "), "{why}");
    assert!(why.contains("exited with code 1: ") && why.ends_with("CommandError: too early"), "{why}");

    let early =
        "run = [\"/bin/sh\", \"-c\", \"[ $(nice) -ge 10 ] && pwd > $DEMO_DATA/early\"]\nrehearse = true";
    add(&site, &step("early", "static", early));
    change(
        "name = \"worker\"",
        "name = \"worker\"\nrehearse = [\"python\", \"-c\", \"import django; open('run')\"]",
    );
    let Outcome::Refused(_, why) = outcome_of(&site, &first, "a step", needs_a_step) else {
        panic!("not refused")
    };
    assert!(why.starts_with("service `worker` of the new version would not start: "), "{why}");
    assert!(why.ends_with("FileNotFoundError: [Errno 2] No such file or directory: 'run'"), "{why}");

    change("open('run')", "open('project/manage.py')");
    let Outcome::Ready(plan) = outcome_of(&site, &first, "a step", needs_a_step) else {
        panic!("it was refused")
    };
    assert_eq!(plan.notices, [""; 0]);

    assert!(!data.join("made").exists() && !data.join("early").exists());
    fs::write(&site.config, config).expect("a configuration");
    assert_same(&before, &Snapshot::of(&site));
}
