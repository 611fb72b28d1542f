//! A corpus of broken and healthy releases on top of the demo site's first release. A rehearsal must refuse the broken ones only.

pub mod broken;
pub mod healthy;

use std::path::Path;

use super::releases::{edit, write};

const SETTINGS: &str = "project/config/settings/base.py";
const PRODUCTION: &str = "project/config/settings/production.py";
const MODELS: &str = "project/guestbook/models.py";
const VIEWS: &str = "project/guestbook/views.py";
const URLS: &str = "project/guestbook/urls.py";
const WSGI: &str = "project/config/wsgi.py";
const HOME: &str = "project/guestbook/templates/guestbook/home.html";
const ABOUT: &str = "project/guestbook/templates/guestbook/about.html";
const WORK: &str = "project/guestbook/management/commands/work.py";
const CONTEXT: &str = "project/guestbook/context_processors.py";

/// The first line of the home page's view.
const IN_HOME: &str = "    entries = Entry.objects.all()\n";
/// The first line of the other page's view.
const IN_ABOUT: &str = "    return render(request, \"guestbook/about.html\")\n";

/// A release.
pub struct Release {
    /// What it is about.
    pub name: &'static str,
    /// Changes the tree of the first release.
    pub change: fn(&Path),
}

const fn release(name: &'static str, change: fn(&Path)) -> Release {
    Release { name, change }
}

pub fn in_home(tree: &Path, lines: &str) {
    edit(tree, VIEWS, IN_HOME, &format!("    {lines}\n{IN_HOME}"));
}

/// Adds lines at the beginning of the other page's view.
fn in_about(tree: &Path, lines: &str) {
    edit(tree, VIEWS, IN_ABOUT, &format!("    {lines}\n{IN_ABOUT}"));
}

/// Adds a middleware with this method.
fn middleware(tree: &Path, call: &str) {
    let text = format!(
        "class Visitors:\n    def __init__(self, respond):\n        self.respond = respond\n\n    {call}\n"
    );
    write(tree, "project/guestbook/middleware.py", &text);
    edit(tree, SETTINGS, "MIDDLEWARE = [\n", "MIDDLEWARE = [\n    \"guestbook.middleware.Visitors\",\n");
}

/// Adds a field to the model only.
fn field(tree: &Path, field: &str) {
    edit(tree, MODELS, "    written = ", &format!("    {field}\n    written = "));
}

/// Returns the path of the added migration.
fn migration() -> String {
    "project/guestbook/migrations/0002_change.py".to_owned()
}

/// Adds a migration with these operations.
fn operations(tree: &Path, operations: &str, body: &str) {
    let text = format!(
        "from django.db import migrations, models  # noqa: F401\n\n{body}\n\nclass Migration(migrations.Migration):\n    \
         dependencies = [(\"guestbook\", \"0001_initial\")]\n    operations = [\n        {operations},\n    ]\n"
    );
    write(tree, &migration(), &text);
}

/// Adds a migration that runs these lines.
fn code(tree: &Path, lines: &str) {
    operations(
        tree,
        "migrations.RunPython(change, migrations.RunPython.noop)",
        &format!("def change(apps, editor):\n    {lines}\n"),
    );
}

fn read(tree: &Path, path: &str) -> String {
    std::fs::read_to_string(tree.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
