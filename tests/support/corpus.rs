//! A corpus of releases, broken and healthy, on top of the demo site's first one: what a rehearsal has to tell apart.

use std::path::Path;

use super::releases::{append, edit, prepend, write};

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

/// What the first line of the home page's and the other page's view are.
const IN_HOME: &str = "    entries = Entry.objects.all()\n";
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

/// Releases that fail in the window of a tool that tries nothing beforehand.
pub const BROKEN: &[Release] = &[
    // Templates.
    release("an unknown template tag", |tree| prepend(tree, ABOUT, "{% broken %}")),
    release("a template that is missing", |tree| {
        edit(tree, VIEWS, "guestbook/about.html", "guestbook/nowhere.html")
    }),
    release("an included template that is missing", |tree| {
        edit(tree, HOME, "{% block content %}", "{% block content %}{% include 'guestbook/none.html' %}")
    }),
    release("an unknown filter", |tree| edit(tree, HOME, "{{ count }}", "{{ count|thousands }}")),
    release("a block without an end", |tree| append(tree, HOME, "{% block more %}")),
    release("a library of tags that is missing", |tree| append(tree, HOME, "{% load humanise %}")),
    release("a renamed URL", |tree| {
        edit(tree, URLS, "name=\"about\"", "name=\"about-us\"");
        append(tree, HOME, "{% url 'about' %}");
        edit(tree, HOME, "{% block content %}", "{% block content %}{% url 'about' %}");
    }),
    release("a static file that is missing in the manifest", |tree| {
        edit(tree, HOME, "{% block content %}", "{% block content %}{% static 'guestbook/none.svg' %}");
    }),
    release("templates that nobody finds", |tree| {
        edit(tree, SETTINGS, "\"APP_DIRS\": True", "\"APP_DIRS\": False")
    }),
    release("a context processor that raises", |tree| {
        edit(tree, CONTEXT, "    try:\n", "    request.user.is_staff\n    try:\n")
    }),
    release("a context processor that is missing", |tree| {
        edit(tree, SETTINGS, "context_processors.site", "context_processors.the_site");
    }),
    // Views and URLs.
    release("a view that raises", |tree| in_home(tree, "raise RuntimeError(\"the home page is broken\")")),
    release("a view that returns nothing", |tree| {
        edit(tree, VIEWS, IN_ABOUT, "    render(request, \"guestbook/about.html\")\n")
    }),
    release("a package that only a request imports", |tree| {
        in_home(tree, "import demo_module_that_nobody_made")
    }),
    release("a setting that only one page needs", |tree| {
        in_about(tree, "from django.conf import settings\n    settings.GUESTBOOK_MOTTO");
    }),
    release("another text", |tree| write(tree, HOME, "It works!\n")),
    release("a page that is gone", |tree| {
        edit(tree, URLS, "    path(\"about/\", views.about, name=\"about\"),\n", "")
    }),
    release("a page that is not found", |tree| {
        in_about(tree, "from django.http import Http404\n    raise Http404")
    }),
    release("a page that is forbidden", |tree| {
        in_about(tree, "from django.core.exceptions import PermissionDenied\n    raise PermissionDenied");
    }),
    release("a page that redirects", |tree| {
        in_about(tree, "from django.shortcuts import redirect\n    return redirect(\"/\")");
    }),
    release("a page for another method", |tree| {
        edit(tree, VIEWS, "@require_GET\ndef about", "@require_POST\ndef about");
    }),
    release("a stream that fails in the middle", |tree| {
        in_about(
            tree,
            "from django.http import StreamingHttpResponse\n    return StreamingHttpResponse((\"About\" if n < 3 else 1 / 0) for n in range(9))",
        );
    }),
    release("a query of a field that is missing", |tree| {
        edit(tree, VIEWS, IN_HOME, "    entries = Entry.objects.order_by(\"importance\")\n");
    }),
    release("a query of a table that is missing", |tree| {
        in_home(
            tree,
            "from django.db import connection\n    connection.cursor().execute(\"SELECT * FROM guestbook_reply\")",
        );
    }),
    release("a field without its migration", |tree| {
        field(tree, "mood = models.CharField(max_length=20, default=\"\")")
    }),
    release("a cache that the settings lack", |tree| {
        in_home(tree, "from django.core.cache import caches\n    caches[\"pages\"].get(\"home\")");
    }),
    release("a view that reads what is not there", |tree| in_home(tree, "open(\"/nonexistent/motto.txt\")")),
    release("too deep a recursion", |tree| {
        in_home(tree, "def again():\n        return again()\n    again()")
    }),
    release("a view that ends its process", |tree| in_home(tree, "import os\n    os._exit(3)")),
    // Middleware, settings and the application.
    release("a middleware that raises", |tree| {
        middleware(tree, "def __call__(self, request):\n        return request.session.get(\"x\")");
    }),
    release("a middleware that returns nothing", |tree| {
        middleware(tree, "def __call__(self, request):\n        self.respond(request)")
    }),
    release("a middleware that is missing", |tree| {
        edit(tree, SETTINGS, "MIDDLEWARE = [\n", "MIDDLEWARE = [\n    \"guestbook.middleware.Visitors\",\n");
    }),
    release("another host name", |tree| edit(tree, PRODUCTION, "\"demo.example\"", "\"www.demo.example\"")),
    release("HTTPS for everybody", |tree| append(tree, PRODUCTION, "\nSECURE_SSL_REDIRECT = True\n")),
    release("an application that raises for each request", |tree| {
        append(
            tree,
            WSGI,
            "\n\ndef application(environ, start_response):\n    raise RuntimeError(environ[\"PATH_INFO\"])\n",
        );
    }),
    release("an application that cannot be loaded", |tree| {
        append(tree, WSGI, "\nraise RuntimeError(\"no\")\n")
    }),
    release("views that cannot be imported", |tree| {
        prepend(tree, VIEWS, "import demo_module_that_nobody_made\n")
    }),
    release("settings that cannot be read", |tree| append(tree, SETTINGS, "\nSITE_NAME = UNDEFINED_NAME\n")),
    // Migrations.
    release("a migration that raises", |tree| code(tree, "raise RuntimeError(\"this row cannot be moved\")")),
    release("a migration that looks for a row that is not there", |tree| {
        code(tree, "apps.get_model(\"guestbook\", \"Entry\").objects.get(author=\"Nobody\")");
    }),
    release("a migration that imports a package that is missing", |tree| {
        code(tree, "import demo_module_that_nobody_made")
    }),
    release("a unique value that is there twice", |tree| {
        edit(
            tree,
            MODELS,
            "author = models.CharField(max_length=80)",
            "author = models.CharField(max_length=80, unique=True)",
        );
        operations(
            tree,
            "migrations.RunPython(twice, migrations.RunPython.noop),\n        \
             migrations.AlterField(\"entry\", \"author\", models.CharField(max_length=80, unique=True))",
            "def twice(apps, editor):\n    Entry = apps.get_model(\"guestbook\", \"Entry\")\n    \
             Entry.objects.create(author=\"Twin\", text=\"1\")\n    Entry.objects.create(author=\"Twin\", text=\"2\")\n",
        );
    }),
    release("a value that is missing", |tree| {
        field(tree, "mood = models.CharField(max_length=20)");
        operations(
            tree,
            "migrations.AddField(\"entry\", \"mood\", models.CharField(max_length=20, null=True)),\n        \
             migrations.AlterField(\"entry\", \"mood\", models.CharField(max_length=20))",
            "",
        );
    }),
    release("a constraint that rows violate", |tree| {
        let constraint = "models.CheckConstraint(name=\"short\", **{name: models.Q(author=\"Nobody\")})";
        operations(
            tree,
            &format!("migrations.AddConstraint(\"entry\", {constraint})"),
            "import django\n\nname = \"condition\" if django.VERSION >= (5, 1) else \"check\"\n",
        );
        append(
            tree,
            MODELS,
            "\nimport django  # noqa: E402\n\nname = \"condition\" if django.VERSION >= (5, 1) else \"check\"\n",
        );
        append(tree, MODELS, &format!("Entry._meta.constraints = [{constraint}]\n"));
    }),
    release("a key to a row that is not there", |tree| {
        operations(
            tree,
            "migrations.AddField(\"entry\", \"first\", models.ForeignKey(\"guestbook.entry\", models.CASCADE, default=987654))",
            "",
        );
        field(tree, "first = models.ForeignKey(\"self\", models.CASCADE, default=987654)");
    }),
    release("SQL that is none", |tree| {
        operations(tree, "migrations.RunSQL(\"ALTER TABL guestbook_entry\", \"\")", "")
    }),
    release("a column that is there already", |tree| {
        operations(
            tree,
            "migrations.RunSQL(\"ALTER TABLE guestbook_entry ADD COLUMN text varchar(9)\", \"\")",
            "",
        );
    }),
    release("half of a migration that is not atomic", |tree| {
        operations(
            tree,
            "migrations.AddField(\"entry\", \"mood\", models.CharField(max_length=20, default=\"\")),\n        \
             migrations.RunPython(fail, migrations.RunPython.noop)",
            "def fail(apps, editor):\n    raise RuntimeError(\"half\")\n",
        );
        edit(tree, &migration(), "    dependencies", "    atomic = False\n    dependencies");
        field(tree, "mood = models.CharField(max_length=20, default=\"\")");
    }),
    release("a signal after migrations that raises", |tree| {
        append(
            tree,
            MODELS,
            "\n\ndef greet(**kwargs):\n    Entry.objects.get(author=\"Nobody\")\n\n\n\
             from django.db.models.signals import post_migrate  # noqa: E402\n\npost_migrate.connect(greet)\n",
        );
        operations(tree, "migrations.AlterModelOptions(\"entry\", {\"ordering\": [\"pk\"]})", "");
    }),
    release("a migration of a model that views do not know", |tree| {
        operations(tree, "migrations.RenameField(\"entry\", \"text\", \"words\")", "");
    }),
    // Workers.
    release("a module that only the worker imports", |tree| {
        prepend(tree, WORK, "import demo_module_that_nobody_made\n")
    }),
];

/// Releases that are as they should be, although each does something that a copy of a site might not stand.
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
];

/// Releases that a server refuses and SQLite does not.
pub const BROKEN_ON_SERVERS: &[Release] = &[
    release("a value that is too long", |tree| {
        edit(
            tree,
            MODELS,
            "author = models.CharField(max_length=80)",
            "author = models.CharField(max_length=3)",
        );
        operations(tree, "migrations.AlterField(\"entry\", \"author\", models.CharField(max_length=3))", "");
    }),
    release("a text that is no number", |tree| {
        edit(tree, MODELS, "author = models.CharField(max_length=80)", "author = models.IntegerField()");
        operations(tree, "migrations.AlterField(\"entry\", \"author\", models.IntegerField())", "");
    }),
];

/// Releases that only PostgreSQL refuses.
pub const BROKEN_ON_POSTGRESQL: &[Release] = &[
    release("a migration that goes on after an error", |tree| {
        code(
            tree,
            "try:\n        editor.execute(\"SELECT * FROM guestbook_reply\")\n    except Exception:\n        pass\n    \
             apps.get_model(\"guestbook\", \"Entry\").objects.count()",
        );
    }),
    release("a query that compares a text with a number", |tree| {
        in_home(tree, "Entry.objects.extra(where=[\"author = 1\"]).exists()")
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

fn in_home(tree: &Path, lines: &str) {
    edit(tree, VIEWS, IN_HOME, &format!("    {lines}\n{IN_HOME}"));
}

fn in_about(tree: &Path, lines: &str) {
    edit(tree, VIEWS, IN_ABOUT, &format!("    {lines}\n{IN_ABOUT}"));
}

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

fn migration() -> String {
    "project/guestbook/migrations/0002_change.py".to_owned()
}

/// Adds a migration.
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
