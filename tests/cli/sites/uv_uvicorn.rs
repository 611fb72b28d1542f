//! uv, uvicorn at a socket of systemd, PostgreSQL, a bundle that Vite builds.

use super::{Course, Place, ask};
use crate::support::database::{Database, Engine};
use crate::support::python::Index;
use crate::support::systemd::inside;
use crate::support::{program, wheels};

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
    let Some(database) = Database::new(Engine::PostgreSql) else { return };
    database.sql(&format!("ALTER USER {} PASSWORD '{PASSWORD}'", database.name));
    let index = Index::serve(vec![wheels]);
    let place = Place::new("board", &[("@INDEX@", index.url.clone())], |place| {
        place.author("uv", &["lock", "-q", "--python", "python3"]);
    });
    place.run_in(&place.checkout, "uv", &["sync", "-q", "--frozen", "--no-dev", "--python", "python3"]);
    place.write("board/frontend/dist/board.js", "document.title = 'board 1';\n");
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
    let socket = place.at("board.sock");
    let page = || ask(&["--unix-socket", &socket], "board.example");
    let migrate = |release| place.migration("notes/", "note", release);
    Course { place: &place, page: &page, views: "notes/views.py", migrate: &migrate }.run();
}
