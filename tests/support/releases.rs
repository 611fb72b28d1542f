//! Releases that are broken, each in one way, on top of whatever the remote has now.
//!
//! Every function publishes one version (and says what else it did to the site) and returns its commit.

use std::fs;
use std::path::Path;

use super::site::demo_site::{DemoSite, run};

const SETTINGS: &str = "project/config/settings/base.py";
const REQUIREMENTS: &str = "requirements/production.txt";
pub const MODELS: &str = "project/guestbook/models.py";
const VIEWS: &str = "project/guestbook/views.py";
const HOME: &str = "project/guestbook/templates/guestbook/home.html";
const ABOUT: &str = "project/guestbook/templates/guestbook/about.html";
const WORK: &str = "project/guestbook/management/commands/work.py";
const STYLES: &str = "project/guestbook/static/guestbook/site.css";

/// A harmless change of one page, which names the release `NAME`.
pub fn publish_good(site: &DemoSite, name: &str) -> String {
    publish(site, &format!("Release {name}"), |tree| {
        write(tree, "project/config/release.py", &format!("RELEASE = \"{name}\"\n"));
        append(tree, ABOUT, &format!("<!-- {name} -->\n"));
    })
}

/// The settings ask for the secret `API_TOKEN`, which nobody has.
pub fn publish_missing_secret(site: &DemoSite) -> String {
    publish(site, "Ask for another secret", |tree| {
        append(tree, SETTINGS, "\nAPI_TOKEN = get_secret(\"API_TOKEN\")\n");
    })
}

/// A package that does not exist is required.
pub fn publish_unknown_requirement(site: &DemoSite) -> String {
    publish(site, "Require what does not exist", |tree| {
        append(tree, REQUIREMENTS, "demo-package-that-nobody-made==1.0\n");
    })
}

/// Two packages are required that exclude each other: the installer refuses.
pub fn publish_conflicting_requirements(site: &DemoSite) -> String {
    make_wheel(site, "demo-base", "1.0", &[], "");
    make_wheel(site, "demo-base", "2.0", &[], "");
    make_wheel(site, "demo-left", "1.0", &["demo-base<2"], "");
    publish(site, "Require two that exclude each other", |tree| {
        append(tree, REQUIREMENTS, "demo-left==1.0\ndemo-base==2.0\n");
    })
}

/// A package is required that one in the virtualenv, which the requirements do not name, cannot live with: pip
/// installs it with exit code 0, and `pip check` fails. Also installs that other package into the live virtualenv.
pub fn publish_inconsistent_packages(site: &DemoSite) -> String {
    make_wheel(site, "demo-base", "1.0", &[], "");
    make_wheel(site, "demo-left", "1.0", &["demo-base<2"], "");
    install(site, "demo-left");
    make_wheel(site, "demo-base", "2.0", &[], "");
    publish(site, "Require the next version of a base", |tree| {
        append(tree, REQUIREMENTS, "demo-base>=2\n");
    })
}

/// A package whose required version lacks the function that a view imports.
pub fn publish_package_that_breaks_an_import(site: &DemoSite) -> String {
    make_wheel(site, "demo-phrases", "1.0", &[], "def greeting():\n    return 'hello'\n");
    make_wheel(site, "demo-phrases", "2.0", &[], "def salutation():\n    return 'hello'\n");
    publish(site, "Greet", |tree| {
        append(tree, REQUIREMENTS, "demo-phrases>=2\n");
        prepend(tree, VIEWS, "from demo_phrases import greeting  # noqa: F401\n");
    })
}

/// A stylesheet names a file that does not exist: collectstatic fails.
pub fn publish_broken_stylesheet(site: &DemoSite) -> String {
    publish(site, "A new background", |tree| {
        append(tree, STYLES, "h1 { background: url(\"no-such-image.png\"); }\n");
    })
}

/// The settings cannot be read.
pub fn publish_settings_error(site: &DemoSite) -> String {
    publish(site, "Change the settings", |tree| append(tree, SETTINGS, "\nSITE_NAME = UNDEFINED_NAME\n"))
}

/// An app cannot be imported.
pub fn publish_import_error(site: &DemoSite) -> String {
    publish(site, "Use a module", |tree| prepend(tree, MODELS, "import demo_module_that_nobody_made\n"))
}

/// The views cannot be imported: gunicorn starts, and every page is an error.
pub fn publish_broken_views(site: &DemoSite) -> String {
    publish(site, "Use a module in the views", |tree| {
        prepend(tree, VIEWS, "import demo_module_that_nobody_made\n");
    })
}

/// Django is well, and gunicorn cannot load the application.
pub fn publish_broken_wsgi(site: &DemoSite) -> String {
    publish(site, "Wrap the application", |tree| {
        append(
            tree,
            "project/config/wsgi.py",
            "\nraise RuntimeError(\"the application cannot be wrapped\")\n",
        );
    })
}

/// The remote's newest commit is replaced by another one (a forced push). Also brings the checkout to the commit that
/// then is upstream's no more.
pub fn publish_rewritten_history(site: &DemoSite) -> String {
    publish(site, "Soon to be gone", |tree| append(tree, "README.md", "\nSoon to be gone.\n"));
    site.git(&site.checkout, &["fetch", "-q", "origin"]).unwrap_or_else(|error| panic!("{error}"));
    site.git(&site.checkout, &["merge", "-q", "--ff-only", "FETCH_HEAD"])
        .unwrap_or_else(|error| panic!("{error}"));
    let tree = site.newest().unwrap_or_else(|error| panic!("{error}"));
    let git = |args: &[&str]| site.git(&tree, args).unwrap_or_else(|error| panic!("{error}"));
    git(&["reset", "-q", "--hard", "HEAD~1"]);
    append(&tree, ABOUT, "<!-- rewritten -->\n");
    git(&["commit", "-q", "-a", "-m", "Another history"]);
    git(&["push", "-q", "--force", "origin", "HEAD:main"]);
    git(&["rev-parse", "HEAD"]).trim().to_owned()
}

/// A file is changed upstream that was edited in the checkout. Also makes that edit.
pub fn publish_over_an_edit(site: &DemoSite) -> String {
    append(&site.checkout, ABOUT, "<!-- edited on the server -->\n");
    publish(site, "Change a page", |tree| append(tree, ABOUT, "<!-- changed upstream -->\n"))
}

/// A file is added upstream that lies untracked in the checkout. Also puts it there.
pub fn publish_over_an_untracked_file(site: &DemoSite) -> String {
    write(&site.checkout, "project/notes.txt", "written on the server\n");
    publish(site, "Add notes", |tree| write(tree, "project/notes.txt", "written upstream\n"))
}

/// A file is added upstream that lies in the checkout and is ignored there, as a server's own settings are. Also puts
/// it there.
pub fn publish_over_an_ignored_file(site: &DemoSite) -> String {
    const LOCAL: &str = "project/config/settings/local.py";
    write(&site.checkout, LOCAL, "SERVER_NAME = \"the server's own\"\n");
    publish(site, "Track the local settings", |tree| {
        let ignored = fs::read_to_string(tree.join(".gitignore")).expect("a .gitignore");
        write(tree, ".gitignore", &ignored.replace(&format!("/{LOCAL}\n"), ""));
        write(tree, LOCAL, "DEBUG = True\n");
    })
}

/// A picture becomes a pointer of Git LFS.
pub fn publish_pointer(site: &DemoSite) -> String {
    // As a Git LFS that is to fetch nothing, whatever the machine has.
    for (key, value) in [("process", ""), ("smudge", "cat"), ("clean", "cat"), ("required", "false")] {
        site.git(&site.checkout, &["config", &format!("filter.lfs.{key}"), value]).expect("a configuration");
    }
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 12345\n", "7".repeat(64));
    publish(site, "A picture in Git LFS", |tree| {
        write(tree, ".gitattributes", "*.svg filter=lfs\n");
        write(tree, "project/guestbook/static/guestbook/flower.svg", &pointer);
    })
}

/// A line is changed upstream and, in another way, by a local commit. Also makes that commit.
pub fn publish_rebase_conflict(site: &DemoSite) -> String {
    edit(&site.checkout, ABOUT, "Whoever passes by", "Whoever comes here");
    site.git(&site.checkout, &["commit", "-q", "-a", "-m", "A local change"])
        .unwrap_or_else(|error| panic!("{error}"));
    publish(site, "Other words", |tree| edit(tree, ABOUT, "Whoever passes by", "Everybody who is here"))
}

/// A line is added upstream, and another file was changed by a local commit, which rebases well. Also makes that.
pub fn publish_beside_a_local_commit(site: &DemoSite) -> String {
    append(&site.checkout, "README.md", "\nOn this server it is at home.\n");
    site.git(&site.checkout, &["commit", "-q", "-a", "-m", "A local change"])
        .unwrap_or_else(|error| panic!("{error}"));
    publish_good(site, "beside")
}

/// The first of two migrations adds a column, the second one raises.
pub fn publish_failing_migration(site: &DemoSite) -> String {
    publish(site, "Two migrations", |tree| {
        add_column(tree);
        let body = "def fail(apps, schema_editor):\n    raise RuntimeError(\"this row cannot be moved\")\n";
        add_migration(tree, "0003_fail", "0002_entry_mood", body, "migrations.RunPython(fail, fail)");
    })
}

/// A good migration (a column) with the code for it, and a home page that fails.
pub fn publish_migration_and_broken_page(site: &DemoSite) -> String {
    publish(site, "A column and a page", |tree| {
        add_column(tree);
        break_home(tree);
    })
}

/// A migration that can be reversed, another stylesheet, and nothing wrong.
pub fn publish_column(site: &DemoSite) -> String {
    publish(site, "A column", |tree| {
        add_column(tree);
        append(tree, STYLES, "h1 { color: black; }\n");
    })
}

/// A migration that cannot be reversed: it shouts all entries. With a home page that fails.
pub fn publish_irreversible_migration_and_broken_page(site: &DemoSite) -> String {
    publish(site, "Shout", |tree| {
        add_irreversible(tree);
        break_home(tree);
    })
}

/// A migration that cannot be reversed, and nothing wrong.
pub fn publish_irreversible_migration(site: &DemoSite) -> String {
    publish(site, "Shout", add_irreversible)
}

/// The worker dies a while after its start: after supervisor calls it RUNNING.
pub fn publish_dying_worker(site: &DemoSite) -> String {
    publish(site, "Another way to work", |tree| {
        edit(
            tree,
            WORK,
            "        beats = 0\n",
            "        beats = 0\n        time.sleep(1.3)\n        raise SystemExit(3)\n",
        );
    })
}

/// The home page answers 500.
pub fn publish_broken_home(site: &DemoSite) -> String {
    publish(site, "Another home page", break_home)
}

/// The home page answers 200 without what it should say.
pub fn publish_wrong_text(site: &DemoSite) -> String {
    publish(site, "Less text", |tree| {
        write(tree, HOME, "It works!\n");
    })
}

/// The home page never answers.
pub fn publish_silent_home(site: &DemoSite) -> String {
    publish(site, "Think first", |tree| {
        prepend(tree, VIEWS, "import time\n");
        edit(
            tree,
            VIEWS,
            "    entries = Entry.objects.all()\n",
            "    time.sleep(3600)\n    entries = Entry.objects.all()\n",
        );
    })
}

/// Makes a pure Python wheel with one module in the site's extra directory of wheels; returns its file name.
pub fn make_wheel(site: &DemoSite, name: &str, version: &str, requires: &[&str], module: &str) -> String {
    const SCRIPT: &str = r#"
import base64, hashlib, sys, zipfile
directory, name, version, module = sys.argv[1:5]
safe = name.replace("-", "_")
info = f"{safe}-{version}.dist-info"
metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in sys.argv[5:])
files = {
    f"{safe}.py": module,
    f"{info}/METADATA": metadata,
    f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: demo\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
record = ""
for path, text in files.items():
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    record += f"{path},sha256={digest},{len(text.encode())}\n"
files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
wheel = f"{safe}-{version}-py3-none-any.whl"
with zipfile.ZipFile(f"{directory}/{wheel}", "w") as archive:
    for path, text in files.items():
        archive.writestr(path, text)
print(wheel)
"#;
    let mut command = site.command(&site.options.python);
    command.args(["-c", SCRIPT]).arg(&site.extra_wheels).args([name, version, module]).args(requires);
    run(&mut command).unwrap_or_else(|error| panic!("{error}")).trim().to_owned()
}

/// Installs packages into the live virtualenv, as a person does.
pub fn install(site: &DemoSite, package: &str) {
    let mut command = site.command(site.virtualenv.join("bin/python"));
    command.args(["-m", "pip", "install", "-q", "--find-links"]).arg(&site.extra_wheels).arg(package);
    run(&mut command).unwrap_or_else(|error| panic!("{error}"));
}

fn publish(site: &DemoSite, message: &str, change: impl FnOnce(&Path)) -> String {
    site.publish_as(message, change).unwrap_or_else(|error| panic!("{error}"))
}

fn break_home(tree: &Path) {
    edit(
        tree,
        VIEWS,
        "    entries = Entry.objects.all()\n",
        "    raise RuntimeError(\"the home page is broken\")\n",
    );
}

/// A migration that can be reversed, and the code for it.
pub fn add_column(tree: &Path) {
    let field = "    mood = models.CharField(max_length=20, default=\"glad\")\n";
    edit(tree, MODELS, "    written = ", &format!("{field}    written = "));
    add_migration(
        tree,
        "0002_entry_mood",
        "0001_initial",
        "",
        "migrations.AddField(\"entry\", \"mood\", models.CharField(default=\"glad\", max_length=20))",
    );
}

fn add_irreversible(tree: &Path) {
    let body = "\
def shout(apps, schema_editor):
    Entry = apps.get_model(\"guestbook\", \"Entry\")
    for entry in Entry.objects.all():
        entry.text = entry.text.upper()
        entry.save()
";
    add_migration(tree, "0002_shout", "0001_initial", body, "migrations.RunPython(shout)");
}

pub fn add_migration(tree: &Path, name: &str, after: &str, body: &str, operation: &str) {
    let text = format!(
        "from django.db import migrations, models  # noqa: F401\n\n\n{body}\n\n\
         class Migration(migrations.Migration):\n    dependencies = [(\"guestbook\", \"{after}\")]\n    \
         operations = [{operation}]\n"
    );
    write(tree, &format!("project/guestbook/migrations/{name}.py"), &text);
}

/// Adds a package of the checkout; the home page needs it to be imported from this file.
pub fn add_editable(tree: &Path, file: &Path) {
    write(tree, "lib/extra.py", "name = 'extra'\n");
    let setup = "from setuptools import setup\nsetup(name='extra-lib', version='1', py_modules=['extra'])\n";
    write(tree, "lib/setup.py", setup);
    append(tree, "requirements/production.txt", "\n-e ./lib\n");
    let page = format!("    import extra\n    assert extra.__file__ == {file:?}, extra.__file__\n");
    edit(tree, "project/guestbook/views.py", "    entries = Entry", &format!("{page}    entries = Entry"));
}

/// Writes a file of a tree.
pub fn write(tree: &Path, path: &str, text: &str) {
    let file = tree.join(path);
    fs::create_dir_all(file.parent().expect("a path in a tree")).expect("a directory");
    fs::write(&file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// Adds to the end of a file of a tree.
pub fn append(tree: &Path, path: &str, text: &str) {
    let before = read(tree, path);
    write(tree, path, &format!("{before}{text}"));
}

/// Adds to the beginning of a file of a tree.
pub fn prepend(tree: &Path, path: &str, text: &str) {
    let before = read(tree, path);
    write(tree, path, &format!("{text}{before}"));
}

/// Replaces a text that must be there.
pub fn edit(tree: &Path, path: &str, from: &str, to: &str) {
    let before = read(tree, path);
    assert!(before.contains(from), "`{path}` has no `{from}`");
    write(tree, path, &before.replacen(from, to, 1));
}

fn read(tree: &Path, path: &str) -> String {
    fs::read_to_string(tree.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns code that raises an exception while a file exists.
pub fn raises_with(file: &Path) -> String {
    let because = file.file_name().unwrap_or_default();
    format!("\nimport os\nif os.path.exists({file:?}):\n    raise RuntimeError({because:?})\n")
}
