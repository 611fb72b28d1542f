//! uv, uvicorn at a socket of systemd, PostgreSQL, a bundle that Vite builds.

use std::fs;

use super::{Course, Place, ask};
use crate::support::database::{Database, Engine};
use crate::support::python::Index;
use crate::support::systemd::inside;
use crate::support::{program, vite, wheels};

const PASSWORD: &str = "of-the-board";

/// `manage.py` as the service would run it.
const MANAGE: &str = "set -a; . ./.env; export DJANGO_SETTINGS_MODULE=board.settings.production; \
    exec .venv/bin/python manage.py \"$@\"";

#[test]
fn from_init_to_a_rollback() {
    if !inside(&from_init_to_a_rollback) {
        return;
    }
    let (Some(_), Some(wheels)) = (program("uv"), wheels()) else { return };
    let Some(vite) = vite() else { return };
    let Some(database) = Database::new(Engine::PostgreSql) else { return };
    database.sql(&format!("ALTER USER {} PASSWORD '{PASSWORD}'", database.name));
    let index = Index::serve(vec![wheels]);
    let texts = [("@INDEX@", index.url.clone()), ("@NPM@", vite.display().to_string())];
    let place = Place::new("board", "python3", &texts, |place| {
        place.author("uv", &["lock", "-q", "--python", "python3"]);
        fs::copy(vite.join("package-lock.json"), place.author.join("frontend/package-lock.json")).unwrap();
        let package = fs::read_to_string(vite.join("package.json")).unwrap();
        let scripts = "\"scripts\": {\"build\": \"vite build\"}, \"devDependencies\"";
        let package = package.replace("\"devDependencies\"", scripts);
        place.write("author/frontend/package.json", &package);
    });
    place.run_in(&place.checkout, "uv", &["sync", "-q", "--frozen", "--no-dev", "--python", "python3"]);
    let frontend = place.checkout.join("frontend");
    place.run_in(&frontend, "npm", &["ci", "--silent"]);
    place.run_in(&frontend, "npm", &["run", "--silent", "build"]);
    let environment = format!(
        "SECRET_KEY=not-so-secret-but-long-enough-for-a-test-0123456789\nDATABASE_NAME={}\n\
         DATABASE_PASSWORD={PASSWORD}\nDATABASE_HOST={}\nSTATIC_ROOT={}\n",
        database.name,
        database.host,
        place.at("static"),
    );
    place.write("board/.env", &environment);
    for command in [&["migrate", "-v0"][..], &["collectstatic", "-v0", "--noinput"]] {
        place.run_in(&place.checkout, "sh", &[&["-c", MANAGE, "manage"], command].concat());
    }
    place.serve(&["board.socket", "board.service"]);

    let text = place.init(&["`smoke.base`: no web server was found here; is it https, and at this host?"]);
    assert!(text.contains("lock = \"uv.lock\"\n"), "{text}");
    assert!(text.contains("unit = \"board.service\"\nrole = \"web\"\n"), "{text}");
    assert!(text.contains("outputs = [\"frontend/dist\"]\n"), "{text}");
    let socket = place.at("board.sock");
    // The page, if the bundle that it names is that of its release.
    let page = || {
        let page = ask(&["--unix-socket", &socket], "board.example");
        let release = page.chars().find(char::is_ascii_digit).unwrap_or_default();
        let bundle = page.rsplit("/static/").next().unwrap_or_default();
        let bundle = fs::read_to_string(place.at(&format!("static/{bundle}"))).unwrap_or_default();
        if bundle.contains(&format!("board {release}")) { page } else { format!("another bundle: {bundle}") }
    };
    let change = |release| {
        place.migration("notes/", "note", release);
        place.edit("frontend/src/main.js", &format!("board {}", release - 1), &format!("board {release}"));
    };
    Course { place: &place, page: &page, views: "notes/views.py", change: &change }.run();
}
