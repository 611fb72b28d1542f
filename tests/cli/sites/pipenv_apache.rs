//! Pipenv with the project as a package, Apache with mod_wsgi, SQLite.

use std::fs;
use std::path::Path;

use super::{Course, Place, ask};
use crate::support::python::Index;
use crate::support::site::demo_site::Port;
use crate::support::systemd::inside;
use crate::support::{program, skip, wheels};

/// The Python that Debian's mod_wsgi was built for.
const PYTHON: &str = "/usr/bin/python3";

#[test]
fn from_init_to_a_rollback() {
    if !inside(&from_init_to_a_rollback) {
        return;
    }
    let (Some(_), Some(_), Some(wheels)) = (program("uv"), program("apache2"), wheels()) else { return };
    if !Path::new("/usr/lib/apache2/modules/mod_wsgi.so").exists() {
        skip("`libapache2-mod-wsgi-py3` is not installed; run tests/run")
    }
    let index = Index::serve(vec![wheels.clone()]);
    let port = Port::reserve().unwrap();
    let texts = [("@INDEX@", index.url.clone()), ("@PORT@", port.number().to_string())];
    let place = Place::new("gallery", PYTHON, &texts, |place| {
        place.virtualenv(&wheels, &["django>=5,<6", "pip"]);
        place.lock("pipenv", &wheels);
    });
    let pip =
        ["-m", "pip", "install", "-q", "--no-index", "--find-links", wheels.to_str().unwrap(), "-e", "."];
    let python = place.at("venv/bin/python");
    place.run_in(&place.checkout, &python, &pip);
    for directory in ["run", "log", "gallery/data"] {
        fs::create_dir_all(place.at(directory)).unwrap();
    }
    place.write("gallery/data/secret.txt", "not-so-secret-but-long-enough-for-a-test-0123456789");
    for command in [&["migrate", "-v0"][..], &["collectstatic", "-v0", "--noinput"]] {
        place.run_in(&place.checkout, &place.at("venv/bin/gallery"), command);
    }
    place.run("chown", &["-R", "www-data:", &place.at("gallery/data")]);
    place.run("mount", &["-t", "tmpfs", "tmpfs", "/etc/apache2"]);
    place.serve(&["apache2"]);

    let text = place.init(&[]);
    let found =
        ["project = \".\"", "lock = \"Pipfile.lock\"", "unit = \"apache2.service\"\nrole = \"web\"\n"];
    let asked = format!("connect = \"{}\"", port.address());
    for expected in found.into_iter().chain([asked.as_str()]) {
        assert!(text.contains(expected), "no {expected}\n{text}");
    }
    // Apache's own user comes to the virtualenvs in it.
    place.deploykit(&["plan"]).run().expect(0);
    place.run("chmod", &["o+x", &place.at("gallery/.deploykit")]);
    let address = format!("::{}", port.address());
    let page = || ask(&["--connect-to", &address], &format!("gallery.example:{}", port.number()));
    let change = |release| place.migration("src/pictures/", "picture", release);
    Course { place: &place, page: &page, views: "src/pictures/views.py", change: &change }.run();
}
