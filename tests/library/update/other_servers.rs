//! Updates of sites that uWSGI or uvicorn serves.

use std::process::Command;

use deploykit::Host;
use deploykit::operations::service_control::Want;
use deploykit::services::{Role, Service, Status};

use super::goes_back::{PATIENCE, publish_release_2, site_state};
use super::*;
use crate::support::releases::publish_broken_home;
use crate::support::services::{Cleaner, eventually, kill, server};
use crate::support::site::TestSite;

/// Replaces the line that starts gunicorn in supervisor's configuration.
fn command(site: &DemoSite, command: &str, more: &str) {
    let text = fs::read_to_string(&site.supervisor_config).expect("a configuration");
    let line = text.lines().find(|line| line.contains("/bin/gunicorn")).expect("gunicorn is there");
    let text = text.replace(line, &format!("command={command}\n{more}"));
    fs::write(&site.supervisor_config, text).expect("a configuration");
}

/// The options of a uWSGI that speaks uwsgi at a socket, which deploykit asks, and HTTP at the port of the visitors.
fn options(site: &DemoSite) -> String {
    let (root, venv) = (site.root.display(), site.virtualenv.display());
    let project = site.checkout.join("project");
    format!(
        "[uwsgi]\nsocket = {root}/run/u.sock\nhttp-socket = {}\nmodule = config.wsgi\nvirtualenv = {venv}\n\
         chdir = {}\nmaster = true\nprocesses = 2\nneed-app = true\n",
        site.gunicorn_address,
        project.display()
    )
}

fn ask_in_uwsgi(site: &DemoSite) {
    let (address, root) = (&site.gunicorn_address, site.root.display());
    configure(
        site,
        &format!("connect = \"{address}\""),
        &format!("connect = \"uwsgi:unix:{root}/run/u.sock\""),
    );
}

/// Updates, lets an update fail, and rolls back the first one.
fn goes_there_and_back(site: &DemoSite) {
    site.wait_until_serving(PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(site.release().as_deref(), Some("1"));
    publish_release_2(site);
    updated(site);
    assert_eq!(site.release().as_deref(), Some("2"));
    publish_broken_home(site);
    let (result, _) = request(site, &Request::default());
    let report = result.unwrap_or_else(|error| panic!("{}", deploykit::error_chain(&error)));
    assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}\n{}", report.failure, site.logs());
    assert_eq!(site.release().as_deref(), Some("2"));
    let (loaded, mut watch) = (load(site), |_: &Record| ());
    let rollback = update::rollback(&loaded, None, &Request::default(), None, &mut watch);
    let report = rollback
        .and_then(|rollback| rollback.run())
        .unwrap_or_else(|error| panic!("{}", deploykit::error_chain(&error)));
    assert_eq!(report.outcome, Outcome::Updated, "{:#?}\n{}", report.failure, site.logs());
    assert_eq!(site.release().as_deref(), Some("1"));
    assert_eq!(site_state(site).unfinished().expect("a journal").map(|(run, _)| run.name), None);
}

#[test]
fn uwsgi_under_supervisor() {
    let Some(program) = server("uwsgi") else { return };
    let Some(mut site) = TestSite::builder().build() else { return };
    let ini = site.root.join("uwsgi.ini");
    fs::write(&ini, options(&site)).unwrap();
    command(&site, &format!("{} --ini {}", program.display(), ini.display()), "killasgroup=true\n");
    ask_in_uwsgi(&site);
    site.start().unwrap_or_else(|error| panic!("{error}"));
    publish_release_2(&site);
    // supervisor's `stopwaitsecs` is 30 s.
    configure(&site, "role = \"web\"\n", "role = \"web\"\nstop-timeout = \"20s\"\n");
    let error = request(&site, &Request::default()).0.unwrap_err();
    let text = deploykit::error_chain(&error);
    let expected = format!(
        "service `gunicorn` would not stop: SIGTERM reloads uWSGI and does not end it: add `die-on-term = true` to `{}`, or \
         `stopsignal=INT` in supervisor's `[program:x]`",
        ini.display()
    );
    assert!(text.contains(&expected), "{text}");
    assert_eq!(site.release().as_deref(), Some("1"));
    super::goes_back::withdraw(&site);

    fs::write(&ini, options(&site) + "die-on-term = true\n").unwrap();
    site.stop_gunicorn().unwrap();
    site.start_gunicorn().unwrap();
    goes_there_and_back(&site);
}

#[test]
fn uwsgi_alone_by_its_fifo() {
    let Some(program) = server("uwsgi") else { return };
    let Some(mut site) = TestSite::builder().build() else { return };
    let (root, ini) = (site.root.clone(), site.root.join("uwsgi.ini"));
    let more = format!(
        "pidfile = {0}/run/u.pid\nmaster-fifo = {0}/run/u.fifo\ndaemonize = {0}/log/u.log\n",
        root.display()
    );
    fs::write(&ini, options(&site) + &more).unwrap();
    command(&site, "/bin/sleep 86400", "");
    ask_in_uwsgi(&site);
    let supervised = format!(
        "name = \"gunicorn\"\nmanager = \"supervisor\"\nconfig = \"{}\"\n",
        site.supervisor_config.display()
    );
    let alone = format!(
        "name = \"uwsgi\"\nmanager = \"uwsgi\"\npidfile = \"{0}/run/u.pid\"\nfifo = \"{0}/run/u.fifo\"\n\
         start = [\"{1}\", \"--ini\", \"{2}\"]\n",
        root.display(),
        program.display(),
        ini.display()
    );
    configure(&site, &supervised, &alone);
    let loaded = load(&site);
    let service: Service = loaded.config().services[0].clone();
    let _cleaner = Cleaner(&service);
    let mut start: Command = site.command(&program);
    assert!(start.arg("--ini").arg(&ini).status().unwrap().success());
    site.start().unwrap_or_else(|error| panic!("{error}"));
    let state = service.state(&Host::new()).unwrap();
    assert!(state.status.is_up() && state.pids.len() == 3, "{state:?}");
    goes_there_and_back(&site);
    let ended = state.pids.iter().all(|process| !process.is_alive());
    assert!(ended, "the first one has ended");
}

#[test]
fn uvicorn_under_supervisor() {
    let Some(program) = server("uvicorn") else { return };
    let Some(mut site) = TestSite::builder().build() else { return };
    let (host, port) = site.gunicorn_address.rsplit_once(':').unwrap();
    // uvicorn is outside of the site's virtualenv, as a person's own choice may be.
    let packages = program.parent().unwrap().parent().unwrap().join("lib");
    let python = fs::read_dir(&packages).unwrap().next().unwrap().unwrap().path();
    let uvicorn = format!(
        "{}/bin/python -m uvicorn config.wsgi:application --interface wsgi --host {host} --port {port}",
        site.virtualenv.display()
    );
    let more = format!("environment=PYTHONPATH=\"{}/site-packages\"\n", python.display());
    command(&site, &uvicorn, &more);
    site.start().unwrap_or_else(|error| panic!("{error}"));
    goes_there_and_back(&site);
}

#[test]
fn a_web_that_is_starting_is_waited_for() {
    let Some(mut site) = TestSite::builder().build() else { return };
    let text = fs::read_to_string(&site.supervisor_config).unwrap();
    let gunicorn =
        text.lines().find_map(|line| line.strip_prefix("command=").filter(|it| it.contains("/gunicorn")));
    command(&site, &format!("sh -c 'sleep 2; exec {}'", gunicorn.unwrap()), "startsecs=4\n");
    site.start().unwrap_or_else(|error| panic!("{error}"));
    publish_release_2(&site);
    let state =
        || load(&site).service_control(&[Role::Web], Want::Start).observe(&Host::new()).unwrap().remove(0);
    // supervisord starts again what dies.
    let before = state();
    before.pids.iter().copied().for_each(kill);
    eventually("gunicorn is starting again", || {
        let now = state();
        now.status == Status::Starting && now.main != before.main
    });
    updated(&site);
    assert_eq!(site.release().as_deref(), Some("2"));
}
