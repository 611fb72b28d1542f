//! A site of middling size on top of the demo site: 30 models in six apps, 300 static files, 3,000 files, thousands of
//! commits, celery. Release 2 brings three migrations, other packages, changed code and changed static files.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Outcome;
use crate::demo_site::process::copy_tree;
use crate::demo_site::{DemoSite, release_directory};

const APPS: [&str; 6] = ["gallery", "shop", "forum", "survey", "events", "library"];
const MODELS_PER_APP: usize = 5;
const STATIC_PER_APP: usize = 50;
const FILES: usize = 3000;
const COMMITS: usize = 4000;

/// Of each app so many templates, views and static files are changed by a release.
const CHANGED: usize = 4;

/// What the worker is.
pub const CELERY: &str = "celery -A config worker --concurrency 2 --loglevel INFO";

/// The file beside the database that says how many seconds longer Django takes to boot, and with a further word that it computes
/// meanwhile.
pub const BOOT: &str = "data/boot-seconds";

const PACKAGES: &str = "Django==5.2.19\ngunicorn==27.0.1\ncelery==5.7.0\n";

/// What is added to the settings of either release.
const SETTINGS: &str = r#"
INSTALLED_APPS += [
    "django.contrib.admin", "django.contrib.auth", "django.contrib.messages", "django.contrib.sessions",
    "gallery", "shop", "forum", "survey", "events", "library",
]
MIDDLEWARE += [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "config.versioned.versioned",
]
TEMPLATES[0]["OPTIONS"]["context_processors"] += [
    "django.template.context_processors.request",
    "django.contrib.auth.context_processors.auth",
    "django.contrib.messages.context_processors.messages",
]
CELERY_BROKER_URL = "filesystem://"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "data_folder_in": str(DATA / "queue"), "data_folder_out": str(DATA / "queue"), "control_folder": str(DATA / "control"),
}
CELERY_TASK_IGNORE_RESULT = True

BOOT = DATA / "boot-seconds"
if BOOT.exists():
    import time

    seconds, *computing = BOOT.read_text().split()
    if computing:
        until = time.process_time() + float(seconds)
        while time.process_time() < until:
            pass
    else:
        time.sleep(float(seconds))
"#;

/// The header of every answer that says by which release it was made.
pub const RELEASE: &str = "x-release";

const VERSIONED: &str = r#"from .release import RELEASE


def versioned(get_response):
    def answer(request):
        response = get_response(request)
        response["X-Release"] = RELEASE
        return response

    return answer
"#;

const CELERY_PY: &str = r#"import json
import os

from celery import Celery
from celery.signals import worker_ready

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.production")
app = Celery("config")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_ready.connect
def tell(**_):
    from django.conf import settings

    settings.WORKER_HEARTBEAT_PATH.write_text(json.dumps({"pid": os.getpid()}))
"#;

/// An app of the site hears of every entry in the guestbook and hands it to the worker.
const APP_CONFIG: &str = r#"from django.apps import AppConfig
from django.db.models.signals import post_save


def heard(instance, **_):
    from gallery.tasks import look

    look.delay(instance.pk)


class Config(AppConfig):
    name = "gallery"

    def ready(self):
        from guestbook.models import Entry

        post_save.connect(heard, sender=Entry)
"#;

const TASKS: &str = r#"from celery import shared_task


@shared_task
def look(pk):
    from guestbook.models import Entry

    return Entry.objects.filter(pk=pk).exists()
"#;

/// Writes the first version into a directory that becomes a Git repository with its history.
pub fn write_first(directory: &Path) -> Outcome<()> {
    copy_tree(&release_directory(1), directory)?;
    common(directory, "whitenoise==6.11.0\n")?;
    let project = directory.join("project");
    write(&project.join("config/celery.py"), CELERY_PY)?;
    write(
        &project.join("config/__init__.py"),
        "from .celery import app as celery_app\n\n__all__ = [\"celery_app\"]\n",
    )?;
    let mut urls =
        "from django.contrib import admin\nfrom django.urls import include, path\n\nurlpatterns = [\n    \
                    path(\"\", include(\"guestbook.urls\")),\n    path(\"admin/\", admin.site.urls),\n"
            .to_owned();
    for app in APPS {
        writeln!(urls, "    path(\"{app}/\", include(\"{app}.urls\")),")?;
        write_app(&project.join(app), app)?;
    }
    write(&project.join("config/urls.py"), &format!("{urls}]\n"))?;
    let app = project.join("gallery");
    write(&app.join("apps.py"), APP_CONFIG)?;
    write(&app.join("tasks.py"), TASKS)?;
    let there = count(directory)?;
    for number in there..FILES {
        write(&directory.join(misc(number)), &text(number, 0))?;
    }
    history(directory)
}

/// Turns the newest version into release 2.
pub fn publish_second(site: &DemoSite) -> Outcome<()> {
    site.publish_release_2()?;
    let mut done = Ok(());
    site.publish_as("Release 2 of the apps", |tree| {
        done = common(tree, "whitenoise==6.12.0\nhumanize==4.17.0\n").and_then(|()| change(tree, 2));
    })?;
    done
}

/// Lets the newest version start a thread when it boots, for which it cannot be started beforehand.
pub fn publish_thread(site: &DemoSite) -> Outcome<()> {
    let mut done = Ok(());
    site.publish_as("A thread", |tree| {
        let path = tree.join("project/config/wsgi.py");
        let thread =
            "\nimport threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n";
        done = fs::read_to_string(&path).map_err(Into::into).and_then(|text| write(&path, &(text + thread)));
    })?;
    done
}

/// Publishes one more release after release 2: three more migrations, or none.
pub fn publish_third(site: &DemoSite, migrates: bool) -> Outcome<()> {
    let mut done = Ok(());
    site.publish_as("Release 3", |tree| {
        done = change(tree, 3)
            .and_then(|()| write(&tree.join("project/config/release.py"), "RELEASE = \"3\"\n"))
            .and_then(|()| if migrates { migrate_more(tree) } else { Ok(()) });
    })?;
    done
}

fn common(tree: &Path, packages: &str) -> Outcome<()> {
    write(&tree.join("requirements/production.txt"), &format!("{PACKAGES}{packages}"))?;
    write(&tree.join("project/config/versioned.py"), VERSIONED)?;
    let base = tree.join("project/config/settings/base.py");
    let text = fs::read_to_string(&base)?;
    write(&base, &format!("{text}{SETTINGS}"))
}

fn change(tree: &Path, release: usize) -> Outcome<()> {
    for app in APPS {
        let directory = tree.join("project").join(app);
        write(&directory.join("views.py"), &views(app, release))?;
        write(&directory.join("forms.py"), &helper(app, release))?;
        for number in 0..CHANGED {
            write(&directory.join(format!("static/{app}/script-{number}.js")), &text(number, release))?;
            write(&directory.join(format!("templates/{app}/part-{number}.html")), &text(number, release))?;
        }
        write(&directory.join(format!("static/{app}/new-{release}.js")), &text(0, release))?;
        fs::remove_file(directory.join(format!("static/{app}/script-{}.js", 40 + release)))?;
    }
    for number in (FILES - 100)..FILES {
        write(&tree.join(misc(number)), &text(number, release))?;
    }
    Ok(())
}

/// The same kinds of migrations as in release 2: a column, a table, rows.
fn migrate_more(tree: &Path) -> Outcome<()> {
    let directory = tree.join("project/guestbook");
    let models = directory.join("models.py");
    let text = fs::read_to_string(&models)?;
    let column = "    signature = models.CharField(max_length=8, default=\"\")\n";
    let more = "    mood = models.CharField(max_length=8, default=\"\")\n";
    let table = "\n\nclass Like(models.Model):\n    \
                 entry = models.ForeignKey(Entry, on_delete=models.CASCADE, related_name=\"likes\")\n";
    write(&models, &format!("{}{table}", text.replace(column, &format!("{column}{more}"))))?;
    let migration = |name: &str, before: &str, body: &str| {
        let text = format!(
            "import django.db.models.deletion\nfrom django.db import migrations, models\n\n\n\
             def calm(apps, schema_editor):\n    for entry in apps.get_model(\"guestbook\", \"Entry\").objects.all():\n        \
             entry.mood = \"calm\"\n        entry.save(update_fields=[\"mood\"])\n\n\n\
             class Migration(migrations.Migration):\n    dependencies = [(\"guestbook\", \"{before}\")]\n\n    \
             operations = [{body}]\n"
        );
        write(&directory.join(format!("migrations/{name}.py")), &text)
    };
    let field = "migrations.AddField(\"entry\", \"mood\", models.CharField(default=\"\", max_length=8))";
    migration("0005_entry_mood", "0004_sign_entries", field)?;
    let table = "migrations.CreateModel(\"Like\", [\
                 (\"id\", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name=\"ID\")), \
                 (\"entry\", models.ForeignKey(\"guestbook.entry\", django.db.models.deletion.CASCADE, related_name=\"likes\"))])";
    migration("0006_like", "0005_entry_mood", table)?;
    migration("0007_calm", "0006_like", "migrations.RunPython(calm, migrations.RunPython.noop)")
}

fn write_app(directory: &Path, app: &str) -> Outcome<()> {
    write(&directory.join("__init__.py"), "")?;
    write(&directory.join("migrations/__init__.py"), "")?;
    let (mut models, mut operations, mut admin) = (String::new(), String::new(), String::new());
    for number in 0..MODELS_PER_APP {
        let fields = "name = models.CharField(max_length=80)\n    text = models.TextField(blank=True)\n    \
                      made = models.DateTimeField(auto_now_add=True)\n    rank = models.IntegerField(default=0)";
        let parent = match number {
            0 => String::new(),
            _ => format!("\n    parent = models.ForeignKey(Thing{}, models.CASCADE, null=True)", number - 1),
        };
        writeln!(models, "\n\nclass Thing{number}(models.Model):\n    {fields}{parent}")?;
        let parent = match number {
            0 => String::new(),
            _ => format!(
                "(\"parent\", models.ForeignKey(\"{app}.thing{}\", models.CASCADE, null=True)),",
                number - 1
            ),
        };
        writeln!(
            operations,
            "        migrations.CreateModel(\"Thing{number}\", [\n            \
             (\"id\", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name=\"ID\")),\n            \
             (\"name\", models.CharField(max_length=80)), (\"text\", models.TextField(blank=True)),\n            \
             (\"made\", models.DateTimeField(auto_now_add=True)), (\"rank\", models.IntegerField(default=0)), {parent}\n        ]),"
        )?;
        writeln!(
            admin,
            "\n\n@admin.register(models.Thing{number})\nclass Thing{number}Admin(admin.ModelAdmin):\n    \
             list_display = [\"name\", \"made\"]\n    search_fields = [\"name\", \"text\"]"
        )?;
    }
    write(&directory.join("models.py"), &format!("from django.db import models\n{models}"))?;
    let head = "from django.db import migrations, models\n\n\nclass Migration(migrations.Migration):\n    \
                initial = True\n    dependencies = []\n\n    operations = [\n";
    write(&directory.join("migrations/0001_initial.py"), &format!("{head}{operations}    ]\n"))?;
    write(
        &directory.join("admin.py"),
        &format!("from django.contrib import admin\n\nfrom . import models\n{admin}"),
    )?;
    write(&directory.join("views.py"), &views(app, 1))?;
    write(&directory.join("forms.py"), &helper(app, 1))?;
    let urls =
        "from django.urls import path\n\nfrom . import views\n\nurlpatterns = [path(\"\", views.things)]\n";
    write(&directory.join("urls.py"), urls)?;
    write(
        &directory.join(format!("templates/{app}/things.html")),
        "{% extends \"guestbook/base.html\" %}{% block content %}<h1>Things</h1>\
         <ul>{% for thing in things %}<li>{{ thing.name }}</li>{% endfor %}</ul>{% endblock %}\n",
    )?;
    for number in 0..CHANGED {
        write(&directory.join(format!("templates/{app}/part-{number}.html")), &text(number, 1))?;
    }
    for number in 0..STATIC_PER_APP {
        write(&directory.join(format!("static/{app}/script-{number}.js")), &text(number, 1))?;
    }
    Ok(())
}

fn views(app: &str, release: usize) -> String {
    format!(
        "from django.shortcuts import render\n\nfrom . import forms, models\n\nRELEASE = {release}\n\n\n\
         def things(request):\n    things = models.Thing0.objects.order_by(\"-made\")[:20]\n    \
         return render(request, \"{app}/things.html\", {{\"things\": things, \"form\": forms.Form0()}})\n"
    )
}

/// A module with a form for every model, long enough to be worth compiling.
fn helper(app: &str, release: usize) -> String {
    let mut text =
        format!("from django import forms\n\nfrom . import models\n\nRELEASE = \"{app} {release}\"\n");
    for number in 0..MODELS_PER_APP {
        let _ = write!(
            text,
            "\n\nclass Form{number}(forms.ModelForm):\n    class Meta:\n        model = models.Thing{number}\n        \
             fields = [\"name\", \"text\"]\n"
        );
        for method in 0..10 {
            let _ = write!(
                text,
                "\n    def rule_{method}(self, value, limit={method}):\n        if value is None or len(str(value)) > limit:\n            \
                 return [part.strip() for part in str(value).split(\",\") if part]\n        return [value] * limit\n"
            );
        }
    }
    text
}

/// Returns the path of a file that is neither code nor static.
fn misc(number: usize) -> String {
    let directory = ["docs", "fixtures", "locale", "assets"][number % 4];
    format!("{directory}/{:02}/item-{number}.txt", number % 37)
}

fn text(number: usize, release: usize) -> String {
    let mut text = format!("/* {number} of release {release} */\n");
    for line in 0..20 + number % 30 {
        let _ = writeln!(text, "var value_{line} = \"{number} {release} {line}\"; // what a browser reads");
    }
    text
}

fn count(directory: &Path) -> Outcome<usize> {
    let mut found = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        found += if entry.file_type()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Ok(found)
}

/// Makes the directory a repository whose commits are the past of its files.
fn history(directory: &Path) -> Outcome<()> {
    let mut stream = String::new();
    for number in 0..COMMITS {
        let (path, text) = (misc(number % FILES), text(number % FILES, number / FILES));
        write!(
            stream,
            "commit refs/heads/main\ncommitter Demo <demo@example.org> {} +0000\ndata 8\nA change\n",
            1_700_000_000 + number * 3600
        )?;
        write!(stream, "M 100644 inline {path}\ndata {}\n{text}\n", text.len())?;
    }
    git(directory, &["init", "-q", "-b", "main"], "")?;
    git(directory, &["fast-import", "--quiet"], &stream)?;
    git(directory, &["reset", "-q"], "")
}

fn git(directory: &Path, args: &[&str], input: &str) -> Outcome<()> {
    let mut command = Command::new("git");
    command
        .args(args)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(input.as_bytes())?;
    }
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("`git {}`: {status}", args.join(" ")).into()) }
}

fn write(path: &Path, text: &str) -> Outcome<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}
