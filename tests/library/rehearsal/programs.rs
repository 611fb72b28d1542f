//! The site's own programs in the rehearsal: its steps, and `rehearse` of its services.

use std::fs;
use std::path::Path;

use super::releases::{Outcome, outcome_of};
use crate::support::releases::{add_column, add_editable, edit, prepend, write};
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

/// A command that fails for want of another machine.
const CONNECTS: &str =
    "[\"python\", \"-c\", \"import socket; socket.create_connection(('192.0.2.1', 80), 5)\"]";

/// A command that leaves a program running with its output open.
const LEAVES: &str = "[\"/bin/sh\", \"-c\", \"sleep 600 & exit 0\"]";

#[test]
fn that_want_the_network_refuse_nothing() {
    let Some(site) = TestSite::builder().rehearsal().start() else { return };
    let first = site.git(&site.checkout, &["rev-parse", "HEAD"]).expect("a commit").trim().to_owned();
    let config = fs::read_to_string(&site.config).expect("a configuration");
    let configure = |service: &str, steps: &[(&str, &str)]| {
        let named = format!("name = \"worker\"\nrehearse = {service}");
        let mut text = config.replace("name = \"worker\"", &named);
        for (name, run) in steps {
            text += &format!(
                "\n[[steps]]\nname = \"{name}\"\nafter = \"migrate\"\nrun = {run}\nrehearse = true\n"
            );
        }
        fs::write(&site.config, text).expect("a configuration");
    };

    configure(LEAVES, &[("leaves", LEAVES)]);
    let Outcome::Ready(plan) = outcome_of(&site, &first, "background", add_column) else { panic!("refused") };
    assert_eq!(plan.notices, [""; 0]);

    let needs = "[\"/usr/bin/test\", \"-e\", \"/nowhere\"]";
    configure(CONNECTS, &[("download", CONNECTS), ("needs", needs)]);
    let Outcome::Ready(plan) = outcome_of(&site, &first, "network", add_column) else { panic!("refused") };
    let [download, needs, service] = plan.notices.as_slice() else { panic!("{:#?}", plan.notices) };
    let network = "; it wants the network, which a rehearsal does not have";
    assert!(
        download.starts_with("step `download` fails on a copy of the site") && download.ends_with(network),
        "{download}"
    );
    assert!(
        needs.starts_with("step `needs` fails on a copy") && needs.ends_with("; it may need step `download`"),
        "{needs}"
    );
    assert!(service.starts_with("service `worker` of the new version would not start: "), "{service}");
    assert!(service.ends_with(network), "{service}");

    // A page that may need that step does not refuse the update either.
    configure(LEAVES, &[("download", CONNECTS)]);
    let Outcome::Ready(plan) = outcome_of(&site, &first, "a page", |tree| {
        edit(
            tree,
            "project/guestbook/views.py",
            "    entries = Entry.objects.all()\n",
            "    raise OSError(\"no file\")\n",
        );
    }) else {
        panic!("refused")
    };
    assert!(
        plan.notices.iter().any(|text| text.contains("it may need step `download`")),
        "{:#?}",
        plan.notices
    );

    // It is the program itself that wants the network.
    let fails = "[\"/bin/sh\", \"-c\", \"echo no; exit 3\"]";
    configure(LEAVES, &[("fails", fails)]);
    let Outcome::Refused(_, why) = outcome_of(&site, &first, "a step", add_column) else {
        panic!("not refused")
    };
    assert!(why.starts_with("step `fails` fails on a copy of the site"), "{why}");
}

#[test]
fn the_path_of_the_state_may_be_long() {
    let Some(mut site) = TestSite::builder().rehearsal().start() else { return };
    let first = site.git(&site.checkout, &["rev-parse", "HEAD"]).expect("a commit").trim().to_owned();
    let config = fs::read_to_string(&site.config).expect("a configuration");
    let at = |path: &str| format!("\"{}\"", site.checkout.join(path).display());
    let mut config = config.replace("repository = \".\"", &format!("repository = {}", at("")));
    for path in ["../venv", "secrets.json"] {
        config = config.replace(&format!("\"{path}\""), &at(path));
    }
    let deep = site.root.join("a".repeat(120));
    fs::create_dir(&deep).expect("a directory");
    site.config = deep.join("deploykit.toml");
    fs::write(&site.config, config).expect("a configuration");
    let Outcome::Ready(plan) = outcome_of(&site, &first, "a release", add_column) else { panic!("refused") };
    assert_eq!(plan.notices, [""; 0]);
    let pages = plan.rehearsal.expect("a rehearsal").pages;
    assert_eq!(pages.len(), 2, "{pages:?}");
}

#[test]
fn import_editable_packages_from_the_live_path() {
    let Some(site) = TestSite::builder().rehearsal().start() else { return };
    let first = site.git(&site.checkout, &["rev-parse", "HEAD"]).expect("a commit").trim().to_owned();
    let import = "import extra, sys; assert extra.__file__ == sys.argv[1], extra.__file__";
    let file = site.checkout.canonicalize().expect("a path").join("lib/extra.py");
    let step = format!("[\"python\", \"-c\", \"{import}\", {file:?}]");
    let config = fs::read_to_string(&site.config).expect("a configuration");
    let step =
        format!("\n[[steps]]\nname = \"imports\"\nafter = \"migrate\"\nrun = {step}\nrehearse = true\n");
    fs::write(&site.config, format!("{config}{step}")).expect("a configuration");
    let outcome = outcome_of(&site, &first, "an editable package", |tree| {
        add_editable(tree, &file);
    });
    match outcome {
        Outcome::Ready(plan) => assert_eq!(plan.notices, [""; 0]),
        Outcome::Refused(step, why) => panic!("refused by {step}: {why}"),
    }
}
