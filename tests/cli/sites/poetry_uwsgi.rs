//! Poetry, uWSGI behind nginx, MariaDB, a celery worker and its beat, a cron job.

use std::fs;

use super::{Course, Place, ask};
use crate::run::wait_for;
use crate::support::database::{Database, Engine};
use crate::support::python::Index;
use crate::support::site::demo_site::Port;
use crate::support::systemd::inside;
use crate::support::{program, wheels};

#[test]
fn from_init_to_a_rollback() {
    if !inside(&from_init_to_a_rollback) {
        return;
    }
    let (Some(_), Some(_), Some(_), Some(wheels)) =
        (program("uv"), program("nginx"), program("cron"), wheels())
    else {
        return;
    };
    let Some(database) = Database::new(Engine::MariaDb) else { return };
    let index = Index::serve(vec![wheels.clone()]);
    let port = Port::reserve().unwrap();
    let texts = [("@INDEX@", index.url.clone()), ("@PORT@", port.number().to_string())];
    let place = Place::new("shop", "python3", &texts, |place| {
        place.virtualenv(&wheels, &["django>=5,<6", "pymysql", "celery", "uwsgi"]);
        place.lock("poetry", &wheels);
    });
    let settings = format!(
        "{{\"secret_key\": \"not-so-secret-but-long-enough-for-a-test-0123456789\", \"hosts\": [\"shop.example\"], \
         \"database\": {}}}\n",
        database.settings()
    );
    place.write("etc/shop.json", &settings);
    for directory in ["run", "spool/queue", "spool/control", "log", "www"] {
        fs::create_dir_all(place.at(directory)).unwrap();
    }
    let python = place.at("venv/bin/python");
    for command in [&["migrate", "-v0"][..], &["collectstatic", "-v0", "--noinput"]] {
        place.run_in(&place.checkout, &python, &[&["src/manage.py"], command].concat());
    }
    for directory in ["/etc/nginx", "/etc/cron.d"] {
        place.run("mount", &["-t", "tmpfs", "tmpfs", directory]);
    }
    place.serve(&["shop", "shop-celery", "shop-beat", "nginx", "cron"]);

    let text = place.init(&[]);
    let roles = [["shop", "web"], ["shop-celery", "worker"], ["shop-beat", "timer"], ["nginx", "required"]];
    for [unit, role] in roles {
        let expected = format!("unit = \"{unit}.service\"\nrole = \"{role}\"\n");
        assert!(text.contains(&expected), "no {expected}\n{text}");
    }
    let address = format!("::{}", port.address());
    let page = || ask(&["--connect-to", &address], &format!("shop.example:{}", port.number()));
    let change = |release| place.migration("src/orders/", "order", release);
    Course { place: &place, page: &page, views: "src/orders/views.py", change: &change }.run();
    // Each minute, unless the site is being changed.
    let counted = place.directory.path().join("log/counted");
    wait_for("the cron job", || fs::read_to_string(&counted).is_ok_and(|text| text.contains("0 orders\n")));
}
