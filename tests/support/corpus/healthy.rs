//! Releases that a rehearsal must not refuse.

use super::{
    ABOUT, HOME, MODELS, PRODUCTION, Release, URLS, VIEWS, WORK, code, field, in_home, middleware, migration,
    operations, read, release,
};
use crate::support::releases::{append, edit, prepend, write};

/// Healthy releases, each of which does something that could fail only in a rehearsal.
pub const HEALTHY: &[Release] = &[
    release("a harmless change", |tree| append(tree, ABOUT, "<!-- harmless -->\n")),
    release("another page", |tree| {
        edit(tree, URLS, "urlpatterns = [\n", "urlpatterns = [\n    path(\"more/\", views.about),\n");
    }),
    release("a column", |tree| {
        operations(
            tree,
            "migrations.AddField(\"entry\", \"mood\", models.CharField(max_length=20, default=\"\"))",
            "",
        );
        field(tree, "mood = models.CharField(max_length=20, default=\"\")");
    }),
    release("a model", |tree| {
        append(tree, MODELS, "\n\nclass Reply(models.Model):\n    text = models.TextField()\n");
        operations(
            tree,
            "migrations.CreateModel(\"Reply\", [(\"id\", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, \
             verbose_name=\"ID\")), (\"text\", models.TextField())])",
            "",
        );
    }),
    release("a renamed column", |tree| {
        operations(tree, "migrations.RenameField(\"entry\", \"text\", \"words\")", "");
        for path in [MODELS, VIEWS, HOME] {
            for (from, to) in [
                ("text = models", "words = models"),
                ("self.text", "self.words"),
                ("text=text", "words=text"),
                ("entry.text", "entry.words"),
            ] {
                if read(tree, path).contains(from) {
                    edit(tree, path, from, to);
                }
            }
        }
    }),
    release("an index", |tree| {
        operations(
            tree,
            "migrations.AddIndex(\"entry\", models.Index(fields=[\"written\"], name=\"entry_written\"))",
            "",
        );
        edit(
            tree,
            MODELS,
            "indexes = [",
            "indexes = [models.Index(fields=[\"written\"], name=\"entry_written\"), ",
        );
    }),
    release("code that changes rows and changes them back", |tree| {
        operations(
            tree,
            "migrations.RunPython(swap, swap)",
            "def swap(apps, editor):\n    for entry in apps.get_model(\"guestbook\", \"Entry\").objects.all():\n        \
             entry.text = entry.text.swapcase()\n        entry.save()\n",
        );
    }),
    release("code that cannot be reversed", |tree| {
        operations(
            tree,
            "migrations.RunPython(shout)",
            "def shout(apps, editor):\n    apps.get_model(\"guestbook\", \"Entry\").objects.update(text=\"X\")\n",
        );
    }),
    release("a reverse that raises", |tree| {
        operations(
            tree,
            "migrations.RunPython(migrations.RunPython.noop, back)",
            "def back(apps, editor):\n    raise RuntimeError(\"no way back\")\n",
        );
    }),
    release("a reverse that loses rows", |tree| {
        operations(
            tree,
            "migrations.RunPython(migrations.RunPython.noop, back)",
            "def back(apps, editor):\n    apps.get_model(\"guestbook\", \"Entry\").objects.all().delete()\n",
        );
    }),
    release("a page that counts its visitors", |tree| {
        in_home(tree, "Entry.objects.create(author=\"Visitor\", text=\"was here\")")
    }),
    release("a page that writes an upload", |tree| {
        in_home(
            tree,
            "from django.conf import settings\n    (settings.DATA / \"uploads\").mkdir(exist_ok=True)\n    \
             (settings.DATA / \"uploads\" / \"a.txt\").write_text(\"x\")",
        );
    }),
    release("a page that writes a temporary file", |tree| {
        in_home(
            tree,
            "import tempfile\n    open(\"/tmp/guestbook-visit\", \"w\").write(\"x\")\n    tempfile.NamedTemporaryFile().write(b\"x\")",
        );
    }),
    release("a page that writes into the checkout", |tree| {
        in_home(tree, "open(\"visits.txt\", \"a\").write(\"x\")")
    }),
    release("a page that sends mail", |tree| {
        in_home(
            tree,
            "from django.core.mail import send_mail\n    send_mail(\"A visit\", \"x\", \"a@demo.example\", [\"b@demo.example\"])",
        );
    }),
    release("a page that starts a thread", |tree| {
        in_home(
            tree,
            "import threading\n    threading.Thread(target=Entry.objects.count, daemon=True).start()",
        );
    }),
    release("a page that runs a program", |tree| {
        in_home(tree, "import subprocess\n    subprocess.run([\"true\"], check=True)")
    }),
    release("a page that does without an address", |tree| {
        in_home(
            tree,
            "import urllib.request\n    try:\n        urllib.request.urlopen(\"http://192.0.2.1/\", timeout=1)\n    except OSError:\n        pass",
        );
    }),
    release("a page that talks to itself", |tree| {
        in_home(
            tree,
            "import socket, threading\n    server = socket.create_server((\"127.0.0.1\", 0))\n    \
             socket.create_connection(server.getsockname()).close()",
        );
    }),
    release("a page from a cache", |tree| {
        in_home(tree, "from django.core.cache import cache\n    cache.get_or_set(\"visits\", 1)")
    }),
    release("another static file", |tree| {
        write(
            tree,
            "project/guestbook/static/guestbook/leaf.svg",
            "<svg xmlns=\"http://www.w3.org/2000/svg\"/>\n",
        );
        edit(
            tree,
            HOME,
            "{% block content %}",
            "{% block content %}<img src=\"{% static 'guestbook/leaf.svg' %}\">",
        );
    }),
    release("a log file", |tree| {
        append(
            tree,
            PRODUCTION,
            "\nLOGGING[\"handlers\"][\"file\"] = {\"class\": \"logging.FileHandler\", \"filename\": DATA / \"site.log\"}  # noqa: F405\n\
             LOGGING[\"root\"][\"handlers\"].append(\"file\")\n",
        );
        in_home(tree, "import logging\n    logging.getLogger(\"visits\").warning(\"a visit\")");
    }),
    release("a middleware", |tree| {
        middleware(tree, "def __call__(self, request):\n        return self.respond(request)")
    }),
    release("a worker that works otherwise", |tree| prepend(tree, WORK, "import json  # noqa: F401\n")),
    release("settings that ask git for the version", |tree| {
        append(
            tree,
            PRODUCTION,
            "\nimport subprocess\nVERSION = subprocess.check_output([\"git\", \"rev-parse\", \"HEAD\"])\n",
        );
    }),
];

/// Healthy releases for a server.
pub const HEALTHY_ON_SERVERS: &[Release] = &[release("a migration that locks a table", |tree| {
    code(
        tree,
        "if editor.connection.vendor == \"postgresql\":\n        \
         editor.execute(\"LOCK TABLE guestbook_entry IN ACCESS EXCLUSIVE MODE\")\n    \
         list(apps.get_model(\"guestbook\", \"Entry\").objects.select_for_update())",
    );
})];

/// Healthy releases for PostgreSQL.
pub const HEALTHY_ON_POSTGRESQL: &[Release] = &[release("an index that is built beside writers", |tree| {
    operations(
        tree,
        "migrations.RunSQL(\"CREATE INDEX CONCURRENTLY by_author ON guestbook_entry (author)\", \
         \"DROP INDEX CONCURRENTLY by_author\")",
        "",
    );
    edit(tree, &migration(), "    dependencies", "    atomic = False\n    dependencies");
})];
