//! Flags that name what no configuration does, and what becomes of them where one does.

use std::time::Duration;

use deploykit::internal::lock::Lock;
use deploykit::services::{Gunicorn, Manager, Role, Service};
use deploykit::{Host, Site};
use tempfile::TempDir;

use super::*;
use crate::support::git::Repositories;
use crate::support::http::{Reply, Server};
use crate::support::python::PythonSite;
use crate::support::services;

/// A directory that no configuration is in or above.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn run(&self, args: &[&str]) -> Done {
        deploykit(&self.0, args).run()
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}

#[track_caller]
fn says(done: &Done, code: i32, text: &str) {
    assert_eq!(done.code, Some(code), "{done:?}");
    assert!(done.stdout.contains(text) || done.stderr.contains(text), "{text:?} is missing: {done:#?}");
}

#[test]
fn pages_below_a_base_need_no_configuration() {
    let place = Place::new();
    let server = Server::start(|request| match request.path.as_str() {
        "/about/" => Reply::page(200, "About us"),
        _ => Reply::page(404, "Not here"),
    });
    let base = server.url();
    let check = |args: &[&str]| place.run(&[&["smoke-check", "--base", &base], args].concat());
    says(&check(&["/about/", "--contains", "About"]), 0, "/about/ answered 200 in ");
    says(&check(&["/about/", "/news/", "--deadline", "1s"]), 4, "1 of 2 pages is not as expected: `/news/`");
    says(&check(&["/about/", "--contains", "News", "--deadline", "1s"]), 4, "the text `News` is missing");
    says(&check(&[]), 2, "<URL>");
    says(&place.run(&["smoke-check", "/about/"]), 3, "or add addresses, or `--base URL` and paths");
}

#[test]
fn a_service_of_commands_needs_no_configuration() {
    let place = Place::new();
    let up = place.0.path().join("is up");
    let flags = ["--manager", "command", "--start", "touch 'is up'", "--stop", "rm 'is up'"];
    let service = |args: &[&str]| {
        let (verb, more) = args.split_first().unwrap();
        place.run(&[&["services", verb, "jobs"], &flags[..], &["--status", "test -e 'is up'"], more].concat())
    };
    says(&service(&["status"]), 0, "  jobs  stopped  its status command exits with 1");
    says(&service(&["start", "--check", "--exit-code"]), 10, "service-control: ");
    says(&service(&["start", "--check"]), 0, "not running: jobs");
    assert!(!up.exists(), "it was only asked");
    says(&service(&["start"]), 0, "  jobs  running  ");
    assert!(up.exists());
    says(&service(&["start", "--check", "--exit-code"]), 0, "nothing to do: jobs is running");
    let made = fs::metadata(&up).unwrap().modified().unwrap();
    service(&["restart"]).expect(0);
    assert_ne!(fs::metadata(&up).unwrap().modified().unwrap(), made, "it was started anew");
    let answer = service(&["status", "--json"]).expect(0).json();
    assert_documented("services", &answer);
    assert_eq!(
        (&answer["services"][0]["role"], &answer["services"][0]["status"]),
        (&json!(null), &json!("running"))
    );
    says(&service(&["stop"]), 0, "  jobs  stopped  ");
    assert!(!up.exists());
}

#[test]
fn a_failed_operation_shows_why() {
    let place = Place::new();
    fs::write(place.path("busy"), "#!/bin/sh\necho it is busy >&2\nexit 3\n").unwrap();
    let service = |verb: &str, start: &str| {
        let flags = ["--manager", "command", "--start", start, "--stop", "sh busy", "--status", "test -e up"];
        place.run(&[&["services", verb, "jobs"], &flags[..]].concat())
    };
    service("start", "touch up").expect(0);
    let undone = service("stop", "touch up");
    let text =
        |failed: &str, why: &str| format!("service `jobs`: its {failed} command failed: `sh busy` {why}");
    says(&undone, 5, &text("stop", "exited with code 3"));
    says(&undone, 5, "; all changes were undone\n--- its last line\n  it is busy\n");
    fs::write(place.path("busy"), "#!/bin/sh\nrm up\necho it is busy >&2\nexit 3\n").unwrap();
    let held = service("stop", "sh busy");
    says(&held, 6, &format!("; undoing it failed as well: {}", text("start", "exited with code 3")));
    says(&held, 6, "it is busy");
}

#[test]
fn a_gunicorn_with_a_pidfile_needs_no_configuration() {
    let Some(gunicorn) = services::gunicorn() else { return };
    let (place, wsgi) = (Place::new(), services::wsgi());
    let (pidfile, socket) = (place.path("pid"), place.path("s"));
    let start = format!(
        "{} --daemon --pid {pidfile} --bind unix:{socket} --no-control-socket --chdir '{}' mysite:app",
        gunicorn.display(),
        wsgi.path().display()
    );
    let manager = Manager::Gunicorn(Gunicorn { pidfile: (&pidfile).into(), ..Gunicorn::default() });
    let left = Service::new("web", Role::Web, manager);
    let _cleaner = services::Cleaner(&left);
    let service = |verb: &str, more: &[&str]| {
        let flags = ["services", verb, "web", "--manager", "gunicorn", "--pidfile", &pidfile];
        place.run(&[&flags[..], more].concat())
    };
    says(&service("start", &["--start", &start]), 0, "  web  running  process ");
    assert!(services::answers(std::path::Path::new(&socket)));
    let first = fs::read_to_string(&pidfile).unwrap();
    says(&service("restart", &["--start", &start]), 0, "  web  running  process ");
    assert_ne!(fs::read_to_string(&pidfile).unwrap(), first);
    says(&service("status", &[]), 0, "  web  running  process ");
    says(&service("stop", &["--start", &start]), 0, "  web  stopped  there is no pidfile");
    assert!(!services::answers(std::path::Path::new(&socket)));
}

#[test]
fn flags_of_services_belong_to_a_manager() {
    let place = Place::new();
    let wrong = [
        ("restart web", "or add `--manager MANAGER`: then no configuration is needed", 3),
        ("restart --manager systemd", "<NAME>", 2),
        ("restart web --user", "--manager <MANAGER>", 2),
        ("restart web --manager supervisor", "--supervisor-config <FILE>", 2),
        ("restart web --manager gunicorn", "--pidfile <FILE>", 2),
        ("restart web --manager gunicorn --pidfile p", "`--manager gunicorn` lacks `--start`", 2),
        ("restart web --manager command --start s", "--status <COMMAND>", 2),
        ("restart web --manager command --start s --status s", "`--manager command` lacks `--stop`", 2),
        ("restart web --manager command --start ' --status s", "a quote is not closed", 2),
        (
            "restart web --manager systemd --pidfile p",
            "`--pidfile` cannot be used with `--manager systemd`",
            2,
        ),
        ("status web jobs --manager gunicorn --pidfile p", "describes one service, not 2", 2),
        ("restart web --exit-code", "--check", 2),
    ];
    for (line, text, code) in wrong {
        let args: Vec<&str> = ["services"].into_iter().chain(line.split(' ')).collect();
        says(&place.run(&args), code, text);
    }
    let stopped = place.run(&["services", "status", "web", "--manager", "gunicorn", "--pidfile", "p"]);
    says(&stopped, 0, "  web  stopped  there is no pidfile");
    let silent = ["services", "stop", "web", "--manager", "supervisor", "--supervisor-config", "s.conf"];
    fs::write(place.path("s.conf"), "[unix_http_server]\nfile = %(here)s/none\n").unwrap();
    says(&place.run(&silent), 4, "start supervisord; if it runs, correct `--supervisor-config`");
}

#[test]
fn a_page_needs_no_configuration() {
    let place = Place::new();
    let page = place.path("maintenance.html");
    let maintenance = |args: &[&str]| {
        let (verb, more) = args.split_first().unwrap();
        place.run(&[&["maintenance", verb, "--page", &page], more].concat())
    };
    says(&maintenance(&["status"]), 0, "the page is down\n");
    says(&maintenance(&["on", "--check", "--exit-code"]), 10, "maintenance is to be on");
    assert!(!fs::exists(&page).unwrap(), "it was only asked");
    let on = maintenance(&["on", "--message", "Back <soon>"]).expect(0);
    assert_eq!(on.stdout, "the page is up\n");
    assert!(fs::read_to_string(&page).unwrap().contains("Back &lt;soon&gt;"));
    let status = maintenance(&["status", "--json"]).expect(0).json();
    assert_documented("maintenance", &status);
    assert_eq!((&status["announced"], &status["page"]), (&json!(null), &json!(true)));
    says(&maintenance(&["on", "--in", "20m"]), 2, "is put up at once");
    says(&maintenance(&["off"]), 0, "the page is down\n");
    assert!(!fs::exists(&page).unwrap());
    says(&maintenance(&["off", "--check", "--exit-code"]), 0, "nothing to do: maintenance is off already");
    let nowhere = place.path("nowhere/page.html");
    says(&place.run(&["maintenance", "on", "--page", &nowhere]), 4, "for the maintenance page");
    says(&place.run(&["maintenance", "on", "--page"]), 3, "or add `--page FILE`");
}

#[test]
fn secrets_of_a_checkout_need_no_configuration() {
    let repositories = Repositories::new(&[("settings.py", "A = secret('TOKEN')\nB = secret('KEY')\n")]);
    let place = Place::new();
    let (file, live) = (place.path("secrets.json"), repositories.live.display().to_string());
    fs::write(&file, "{\"TOKEN\": \"long-and-secret\"}").unwrap();
    let check = |args: &[&str]| {
        place.run(&[&["secrets", "check", "--file", &file, "--repository", &live], args].concat())
    };
    let pattern = ["--pattern", r"secret\('(\w+)'"];
    let missing = check(&pattern);
    says(&missing, 4, "missing: KEY (asked for in settings.py:2)");
    says(&missing, 4, &format!("Hint: write values for them into `{file}`"));
    says(&check(&[&["origin/main"], &pattern[..]].concat()), 4, "missing: KEY");
    says(&check(&[]), 0, "nothing is missing");
    says(&check(&["--pattern", "secret"]), 4, "group");
    fs::write(&file, "{\"TOKEN\": \"long-and-secret\", \"KEY\": \"too\"}").unwrap();
    let answer = check(&[&pattern[..], &["--json"]].concat()).expect(0).json();
    assert_documented("secrets-check", &answer);
    says(&place.run(&["secrets", "check", "--pattern", "x"]), 2, "--file <FILE>");
    says(&place.run(&["secrets", "check"]), 3, "or add `--file FILE`");
}

/// What flags name belongs to a site, and to none once its configuration is gone.
pub fn of_a_site(site: &TestSite) {
    let text = |path: &std::path::Path| path.display().to_string();
    let (virtualenv, page) = (text(&site.virtualenv), text(&site.maintenance_page));
    let project = text(&site.checkout.join("project"));
    let run = |args: &[&str]| {
        let cli = deploykit("/", args);
        site.environment().iter().fold(cli, |cli, (name, value)| cli.env(name, value)).run()
    };
    let manage = |settings: &str, command: &str| {
        let flags = ["--project", &project, "--virtualenv", &virtualenv, "--settings", settings];
        run(&[&["manage"], &flags[..], &["--", command]].concat())
    };
    let own = "config.settings.production";
    let supervisor_config = text(&site.supervisor_config);
    let supervisor = ["--manager", "supervisor", "--supervisor-config", &supervisor_config];
    let restart = |name: &str| run(&[&["services", "restart", name], &supervisor[..]].concat());
    let maintenance = |verb: &str| on(site, &["maintenance", verb, "--page", &page]).run();

    let state = Site::load(&site.config, None).unwrap().state();
    let lock = Lock::take(&state.lock(), "update to 3f2a9c1", Duration::ZERO, &Host::new()).unwrap();
    for done in [restart("worker"), manage(own, "migrate"), maintenance("on")] {
        says(&done, 4, ": update to 3f2a9c1");
    }
    drop(lock);
    // No process of a stopped service shows its site.
    on(site, &["services", "stop", "worker"]).run().expect(0);
    let lock = Lock::take(&state.lock(), "update to 3f2a9c1", Duration::ZERO, &Host::new()).unwrap();
    says(&run(&[&["services", "start", "worker"], &supervisor[..]].concat()), 4, ": update to 3f2a9c1");
    assert_eq!(site.processes()["worker"].state, "STOPPED");
    drop(lock);
    on(site, &["services", "start", "worker"]).run().expect(0);
    let contradicts = format!("contradicts the configuration `{}`", site.config.display());
    says(
        &manage("config.settings.local", "check"),
        2,
        &format!("`--settings` {contradicts}, which has `{own}`"),
    );
    let other = on(site, &["maintenance", "on", "--page", "/tmp/other.html"]).run();
    says(&other, 2, &format!("`--page` {contradicts}, which has `{page}`"));
    let config = text(&site.config);
    let systemd = run(&["--config", &config, "services", "restart", "worker", "--manager", "systemd"]);
    says(&systemd, 2, &format!("`--manager` {contradicts}"));
    let before = site.processes()["worker"].pid;
    says(&restart("worker"), 0, "  worker  worker  running  ");
    assert_ne!(site.processes()["worker"].pid, before);
    says(&manage(own, "check"), 0, "no issues");
    says(&maintenance("on"), 0, "the page is up");
    assert_eq!(site.page("/").unwrap().status, 503);
    says(&maintenance("off"), 0, "the page is down");

    let aside = site.root.join("aside.toml");
    fs::rename(&site.config, &aside).unwrap();
    says(&restart("worker"), 0, "  worker  running  ");
    says(&restart("apache"), 4, "apache");
    says(&manage(own, "check"), 0, "no issues");
    says(&manage("config.settings.none", "check"), 1, "config.settings.none");
    let requirements = text(&site.checkout.join("requirements/production.txt"));
    let install = ["pip-install", "-r", &requirements];
    let cli = deploykit("/", &install).env("VIRTUAL_ENV", &virtualenv);
    let cli = site.environment().iter().fold(cli, |cli, (name, value)| cli.env(name, value));
    says(&cli.run(), 0, "nothing to do: the installed packages are ");
    let cli = deploykit("/", &install).env("VIRTUAL_ENV", "");
    says(&cli.run(), 3, "or add `--virtualenv DIRECTORY`, or activate the virtualenv");
    fs::rename(&aside, &site.config).unwrap();
}

#[test]
fn packages_without_a_site_are_kept_for_one_step_back() {
    let site = PythonSite::new();
    for version in ["1.0", "1.1", "1.2", "2.0"] {
        site.wheel("alpha", version, &[]);
    }
    site.install_by_hand(&["alpha==1.0"]);
    let virtualenv = site.virtualenv.display().to_string();
    let install = |version: &str, more: &[&str]| {
        let requirements = site.require(&format!("alpha=={version}\n")).display().to_string();
        let install = ["pip-install", "--virtualenv", &virtualenv, "-r", &requirements];
        let cli = deploykit(&site.directory, &[&install[..], more].concat());
        let done = cli.env("PIP_DISABLE_PIP_VERSION_CHECK", "1").run();
        says(&done, 0, &format!("→ alpha {version}"));
        assert_eq!(site.live("alpha", &[]), format!("alpha {version}"));
        done
    };
    let staged = site.virtualenv.with_file_name(".venv.environments");
    let names = || fs::read_dir(&staged).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    says(&install("1.1", &["--in-place"]), 0, "the previous packages are kept in");
    assert_eq!(names(), [""; 0].map(std::path::PathBuf::from));
    install("1.2", &[]);
    let previous = fs::read_link(&site.virtualenv).unwrap();
    fs::create_dir(staged.join("0".repeat(16))).unwrap();
    install("2.0", &[]);
    let mut expected = [previous, fs::read_link(&site.virtualenv).unwrap()];
    expected.sort();
    let mut found = names();
    found.sort();
    assert_eq!(found, expected);
}
