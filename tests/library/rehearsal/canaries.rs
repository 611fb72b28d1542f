//! A release that changes whatever it can reach, from every place where its code runs, leaves no trace.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;

use super::releases::{Outcome, outcome_of};
use crate::database::proxy;
use crate::support::database::{Database, Engine};
use crate::support::releases::{append, edit, prepend, write};
use crate::support::site::TestSite;
use crate::support::site::demo_site::DemoSite;
use crate::support::snapshot::{Snapshot, assert_same};
use crate::support::tools;

const ACTORS: [&str; 5] = ["child", "import", "migration", "page", "thread"];
const VIEWS: &str = "project/guestbook/views.py";

/// What the live servers received.
type Heard = Arc<Mutex<Vec<String>>>;

fn listen<S: Read>(
    heard: &Heard,
    name: &'static str,
    accept: impl Fn() -> std::io::Result<S> + Send + 'static,
) {
    let heard = Arc::clone(heard);
    thread::spawn(move || {
        while let Ok(mut stream) = accept() {
            let mut said = [0; 100];
            let length = stream.read(&mut said).unwrap_or_default();
            let said = String::from_utf8_lossy(&said[..length]).into_owned();
            heard.lock().expect("no thread panicked").push(format!("{name}: {said}"));
        }
    });
}

/// Returns the contents of all files of the site and of its directory in `/tmp`, except what its servers and a fetch write.
fn files(site: &DemoSite, tmp: &str) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let of_others =
        [site.origin.clone(), site.newest().expect("a tree"), site.root.join("log"), site.heartbeat.clone()];
    let git = site.checkout.join(".git");
    let mut waiting = vec![site.root.clone()];
    let in_tmp = fs::read_dir("/tmp").expect("a list").flatten().map(|entry| entry.path());
    waiting.extend(in_tmp.filter(|path| path.to_string_lossy().starts_with(tmp)));
    let mut found = BTreeMap::new();
    while let Some(path) = waiting.pop() {
        let is_fetched = path.starts_with(&git) && path != git && !path.starts_with(git.join("refs"))
            || path == git.join("refs/remotes");
        let is_left_out = path.ends_with(".deploykit") || path.ends_with("__pycache__");
        if is_fetched && path != git.join("refs") || is_left_out || of_others.contains(&path) {
            continue;
        }
        let meta = fs::symlink_metadata(&path).expect("it stays");
        let content = match &meta {
            meta if meta.is_file() => fs::read(&path).expect("it can be read"),
            meta if meta.is_symlink() => {
                fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes()
            }
            _ => Vec::new(),
        };
        if meta.is_dir() {
            waiting.extend(fs::read_dir(&path).expect("a list").flatten().map(|entry| entry.path()));
        }
        found.insert(path, (meta.permissions().mode(), content));
    }
    found
}

/// Returns the processes whose command line holds a text.
fn processes(marker: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").expect("a list").flatten();
    let lines = all.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(marker)).collect()
}

/// Lets a release change whatever it can reach, from every place where code of a site runs.
fn harm(tree: &Path, facts: &Path, clients: &Path) {
    let canary = include_str!("canary.py").replace("@facts@", &facts.display().to_string());
    let canary = canary.replace("@clients@", &clients.display().to_string());
    write(tree, "project/guestbook/canary.py", &canary);
    write(
        tree,
        "project/guestbook/apps.py",
        "from django.apps import AppConfig\n\n\nclass Guestbook(AppConfig):\n    name = \"guestbook\"\n\n    \
         def ready(self):\n        from guestbook import canary\n\n        canary.start_thread()\n",
    );
    write(
        tree,
        "project/guestbook/migrations/0002_canary.py",
        "from django.db import migrations\n\nfrom guestbook import canary\n\n\n\
         def act(apps, schema_editor):\n    canary.act_with_django(\"migration\")\n\n\n\
         class Migration(migrations.Migration):\n    atomic = False\n    dependencies = [(\"guestbook\", \"0001_initial\")]\n    \
         operations = [migrations.RunPython(act, migrations.RunPython.noop)]\n",
    );
    prepend(tree, "project/guestbook/models.py", "from guestbook import canary\n\ncanary.act(\"import\")\n");
    prepend(tree, VIEWS, "from guestbook import canary\n");
    let home = "    entries = Entry.objects.all()\n";
    let acts = "    canary.THREAD.join()\n    canary.act_with_django(\"page\")\n    canary.start_child()\n";
    edit(tree, VIEWS, home, &format!("{acts}{home}"));
    let about = "    return render(request, \"guestbook/about.html\")\n";
    edit(tree, VIEWS, about, "    raise RuntimeError(canary.summary())\n");
    append(
        tree,
        "project/config/settings/base.py",
        "\nDATABASES[\"archive\"] = {\"ENGINE\": \"django.db.backends.sqlite3\", \"NAME\": DATA / \"archive.sqlite3\"}\n\
         for other in json.loads((DATA / \"canary.json\").read_text())[\"servers\"][1:]:\n    \
         DATABASES[\"tcp\"] = dict(DATABASES[\"default\"], HOST=other[\"host\"], PORT=other[\"port\"], TEST={\"MIRROR\": \"default\"})\n\
         MEDIA_ROOT = DATA / \"uploads\"\nEMAIL_HOST, EMAIL_PORT = json.loads((DATA / \"canary.json\").read_text())[\"tcp\"]\n\
         CACHES = {\"default\": {\"BACKEND\": \"django.core.cache.backends.filebased.FileBasedCache\", \"LOCATION\": DATA / \"cache\"}}\n",
    );
}

#[test]
fn leave_no_trace() {
    // Without its programs, the site has a file only.
    let database = Database::new(Engine::PostgreSql);
    let mut builder = TestSite::builder().rehearsal();
    if let Some(database) = &database {
        builder = builder.database(database);
    }
    let Some(site) = builder.start() else { return };
    let data = site.root.join("data");
    let marker = format!("deploykit-canary-{}", std::process::id());
    let tmp = format!("/tmp/{marker}-");
    let unix = site.root.join("www.sock");
    let heard: Heard = Arc::default();
    let server = UnixListener::bind(&unix).expect("a socket");
    listen(&heard, "unix", move || server.accept().map(|(stream, _)| stream));
    let name = SocketAddr::from_abstract_name(&marker).expect("a name");
    let server = UnixListener::bind_addr(&name).expect("a socket");
    listen(&heard, "abstract", move || server.accept().map(|(stream, _)| stream));
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = server.local_addr().expect("an address").port();
    listen(&heard, "tcp", move || server.accept().map(|(stream, _)| stream));
    let programs = site.processes();
    let mut numbers = json!({ "gunicorn": programs["gunicorn"].pid });
    let mut servers = Vec::new();
    if let Some(database) = &database {
        let Database { name, password, host, .. } = database;
        let port = proxy(Path::new(host).join(".s.PGSQL.5432"));
        servers = [(host.as_str(), 5432), ("127.0.0.1", port)]
            .map(|(host, port)| json!({"host": host, "port": port, "user": name, "password": password, "dbname": name}))
            .to_vec();
        numbers["postgres"] = json!(database.processes()[0]);
    }
    let facts = json!({
        "root": site.root, "tmp": tmp, "marker": marker, "unix": unix, "abstract": marker, "tcp": ["127.0.0.1", port],
        "supervisor": site.supervisor_socket, "site": site.gunicorn_address, "programs": numbers, "servers": servers,
    });
    let path = data.join("canary.json");
    fs::write(&path, facts.to_string()).expect("a file");
    write(&data, "uploads/kept", "kept");
    write(&data, "canary.log", "what was logged\n");
    write(&data, "archive.sqlite3", "");
    if database.is_some() {
        write(&data, "db.sqlite3", "");
    }
    for who in ACTORS {
        write(&data, &format!("uploads/moved-{who}"), who);
        write(&data, &format!("uploads/deleted-{who}"), who);
        write(&data, &format!("uploads/directory-{who}/file"), who);
        write(&data, &format!("cache/{who}-old.djcache"), who);
        fs::write(format!("{tmp}old-{who}"), who).expect("a file");
    }
    let first = site.git(&site.checkout, &["rev-parse", "HEAD"]).expect("a commit").trim().to_owned();
    let (before, all) = (Snapshot::of(&site), files(&site, &tmp));

    // A page that fails reports what the release did and what it could not do. Nothing else fails.
    let harm = |tree: &Path| harm(tree, &path, &tools().join("clients"));
    let (step, why) = match outcome_of(&site, &first, "canaries", harm) {
        Outcome::Refused(step, why) => (step, why),
        Outcome::Ready(plan) => panic!("no page told: {:?}", plan.notices),
    };
    assert_eq!(step, "rehearse-pages", "{why}");
    let (plain, django) = if database.is_some() { (38, 43) } else { (35, 39) };
    let told = format!(
        "copy of the site, which serves as before: `/about/`: expected status 200, got 500 (\"Server Error (500)\"): RuntimeError in \
         guestbook/views.py, line 26 (in about): child {plain} {{}}, import {plain} {{}}, migration {django} {{}}, \
         page {django} {{}}, thread {django} {{}}"
    );
    assert!(why.ends_with(&told), "{why}");
    assert_same(&before, &Snapshot::of(&site));
    let now = files(&site, &tmp);
    let differs = |path: &&PathBuf| all.get(*path) != now.get(*path);
    let differing: Vec<&PathBuf> = all.keys().chain(now.keys()).filter(differs).collect();
    assert!(differing.is_empty(), "{differing:?}");
    assert_eq!(programs, site.processes());
    assert_eq!(*heard.lock().expect("no thread panicked"), [""; 0]);
    assert_eq!(processes(&marker), [""; 0]);
    let own = fs::read_dir(site.checkout.join(".deploykit")).expect("a list").flatten();
    let left = own.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let left: Vec<String> = left.filter(|name| name.starts_with("canary") || name == "rehearsal").collect();
    assert_eq!(left, [""; 0]);
    for who in ACTORS {
        fs::remove_file(format!("{tmp}old-{who}")).expect("it was left");
    }
}
