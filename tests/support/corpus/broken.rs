//! Releases that a rehearsal must refuse.

use super::{
    ABOUT, CONTEXT, HOME, IN_ABOUT, IN_HOME, MODELS, PRODUCTION, Release, SETTINGS, URLS, VIEWS, WORK, WSGI,
    code, field, in_about, in_home, middleware, migration, operations, release,
};
use crate::support::releases::{append, edit, prepend, write};

/// Releases that would fail in the window, on each engine.
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
    release("an error page with status 200", |tree| {
        in_about(tree, "raise RuntimeError(\"nobody handles this\")");
        append(tree, VIEWS, "\n\ndef sorry(request):\n    return HttpResponse(\"About: try again\")\n");
        prepend(tree, VIEWS, "from django.http import HttpResponse  # noqa: E402\n");
        append(tree, "project/config/urls.py", "\nhandler500 = \"guestbook.views.sorry\"\n");
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

/// Releases that fail on a database server, but not on SQLite.
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

/// Releases that fail on PostgreSQL only.
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
