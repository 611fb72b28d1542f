//! `services hold`: the change that lets somebody hold a socket, made, checked and undone.

use std::fs;
use std::process::Command;

use deploykit::Host;
use deploykit::services::{Goal, Manager};

use crate::documents::assert_documented;
use crate::run::{deploykit, on, wait_for};
use crate::support::program;
use crate::support::releases::publish_good;
use crate::support::services::{Cleaner, action, answers, daemon, server, wsgi};
use crate::support::site::TestSite;
use crate::support::systemd::{inside, systemctl, unit};

fn configure(site: &TestSite, old: &str, new: &str) {
    let text = fs::read_to_string(&site.config).unwrap();
    assert!(text.contains(old), "{text}");
    fs::write(&site.config, text.replace(old, new)).unwrap();
}

/// Updates the site to a release of this name, and fails unless requests wait meanwhile.
fn requests_wait(site: &TestSite, name: &str) {
    publish_good(site, name);
    on(site, &["update", "-y"]).run().expect(0);
    assert_eq!(on(site, &["report", "--json"]).run().expect(0).json()["requests_wait"], true);
    assert_eq!(site.release().as_deref(), Some(name));
}

fn is_held(site: &TestSite) -> bool {
    let told = on(site, &["services", "hold", "gunicorn", "--json"]).run().expect(0).json();
    assert_documented("services hold", &told);
    told["held"].as_bool().unwrap()
}

#[test]
fn a_program_of_supervisor_is_held_and_is_as_before() {
    for unix_socket in [false, true] {
        let builder = TestSite::builder().nginx();
        let builder = if unix_socket { builder.unix_socket() } else { builder };
        let Some(site) = builder.start() else { return };
        configure(&site, "[maintenance]\n", "[maintenance]\nwhen = \"needed\"\nhold = \"1m\"\n");
        let before = fs::read_to_string(&site.supervisor_config).unwrap();
        let hold = |args: &[&str]| on(&site, &[&["services", "hold", "gunicorn"], args].concat()).run();

        // Shown, and nothing else.
        let shown = hold(&[]).expect(0);
        assert_eq!(fs::read_to_string(&site.supervisor_config).unwrap(), before);
        let gate = site.checkout.join(".deploykit/hold/gunicorn");
        let words = format!(
            "{} hold-socket {} --gate {} -- ",
            env!("CARGO_BIN_EXE_deploykit"),
            site.gunicorn_address,
            gate.display()
        );
        assert!(shown.stdout.contains(&format!("\n+command={words}")), "{}", shown.stdout);
        assert!(shown.stdout.contains("\n-stopwaitsecs=30\n+stopwaitsecs=40\n"), "{}", shown.stdout);
        let update = format!(
            "  {} -c {} update gunicorn\n",
            site.supervisorctl.display(),
            site.supervisor_config.display()
        );
        assert_eq!(shown.stderr.matches(&update).count(), 2, "{}", shown.stderr);
        assert!(!is_held(&site));
        if let Some(patch) = program("patch") {
            let copy = site.root.join("copy");
            fs::write(&copy, &before).unwrap();
            let diff = site.root.join("held.diff");
            fs::write(&diff, &shown.stdout).unwrap();
            for (flags, held) in [(["-s", "-N"], true), (["-s", "-R"], false)] {
                let done = Command::new(&patch).args(flags).arg(&copy).arg(&diff).status().unwrap();
                assert!(done.success());
                assert_eq!(fs::read_to_string(&copy).unwrap().contains(&words), held);
            }
        }
        let refused = hold(&["--apply"]).expect(4);
        assert!(
            refused.stderr.contains("there is no terminal to ask for confirmation on"),
            "{}",
            refused.stderr
        );
        assert!(!refused.stderr.contains("restarts"), "{}", refused.stderr);

        let done = hold(&["--apply", "-y"]).expect(0);
        assert!(done.stderr.contains("`gunicorn` restarts, and requests fail meanwhile."), "{}", done.stderr);
        assert!(done.stdout.contains("(`deploykit`) holds the socket of `gunicorn`"), "{}", done.stdout);
        assert!(is_held(&site));
        assert_eq!(site.page("/").unwrap().status, 200);
        requests_wait(&site, "held");

        let done = hold(&["--undo", "-y"]).expect(0);
        let said = "`gunicorn` runs as before; nothing holds its socket any more\n";
        assert!(done.stdout.contains(said), "{}", done.stdout);
        assert_eq!(fs::read_to_string(&site.supervisor_config).unwrap(), before);
        assert!(!is_held(&site));
        assert_eq!(site.page("/").unwrap().status, 200);
        hold(&["--undo", "-y"]).expect(4);
    }
}

/// gunicorn that does not take the socket cannot serve, and all is as before.
#[test]
fn a_change_that_does_not_work_is_put_back() {
    let Some(mut site) = TestSite::builder().build() else { return };
    configure(&site, "deadline = \"20s\"\n", "deadline = \"2s\"\n");
    let text = fs::read_to_string(&site.supervisor_config).unwrap();
    let before =
        text.replacen("[program:gunicorn]\ncommand=", "[program:gunicorn]\ncommand=env -u LISTEN_PID ", 1);
    fs::write(&site.supervisor_config, &before).unwrap();
    site.start().unwrap_or_else(|error| panic!("{error}"));
    let done = on(&site, &["services", "hold", "gunicorn", "--apply", "-y"]).run().expect(5);
    assert!(
        done.stderr.contains("the files were restored, and `gunicorn` runs as before"),
        "{}",
        done.stderr
    );
    assert_eq!(fs::read_to_string(&site.supervisor_config).unwrap(), before);
    wait_for("the site", || site.page("/").is_ok_and(|page| page.status == 200));
    on(&site, &["services", "hold", "gunicorn", "--undo", "-y"]).run().expect(4);
}

#[test]
fn what_is_not_known_is_left_to_a_person() {
    let Some(site) = TestSite::builder().start() else { return };
    let refused = |name: &str, why: &str| {
        let done = on(&site, &["services", "hold", name]).run().expect(4);
        assert!(done.stderr.contains(why), "{}", done.stderr);
    };
    refused("worker", "only the sockets of web services are held");
    on(&site, &["services", "stop", "gunicorn"]).run().expect(0);
    refused("gunicorn", "it does not run, so nobody can see where it listens; start it first");
    on(&site, &["services", "start", "gunicorn"]).run().expect(0);
    let text = fs::read_to_string(&site.supervisor_config).unwrap();
    fs::write(&site.supervisor_config, text.clone() + "\n[group:site]\nprograms=gunicorn,worker\n").unwrap();
    refused("gunicorn", "it is a program of a group");
    fs::write(&site.supervisor_config, text.clone() + "\n[program:gunicorn]\ncommand=true\n").unwrap();
    refused("gunicorn", "supervisor's configuration files have several `[program:gunicorn]`");
    fs::write(&site.supervisor_config, &text).unwrap();
    let inside = site.checkout.join("supervisor.conf");
    fs::write(&inside, &text).unwrap();
    let old = format!("config = \"{}\"", site.supervisor_config.display());
    configure(&site, &old, "config = \"supervisor.conf\"");
    refused("gunicorn", "is in the checkout: change it by a commit");

    // Its path would stand in the configuration, and the next update would replace it.
    let own = site.virtualenv.join("bin/deploykit");
    fs::copy(env!("CARGO_BIN_EXE_deploykit"), &own).unwrap();
    let mut command = Command::new(&own);
    site.dress(command.args(["services", "hold", "gunicorn"]).current_dir(&site.checkout));
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    let expected = format!("this deploykit is in `{}`, which updates replace", site.virtualenv.display());
    assert!(done.status.code() == Some(4) && said.contains(&expected), "{said}");
}

#[test]
fn a_gunicorn_without_a_manager_gets_its_line() {
    let directory = wsgi();
    let Some(mut service) = daemon(directory.path(), "mysite:app") else { return };
    let socket = format!("unix:{}/g.sock", directory.path().display());
    if let Manager::Gunicorn(gunicorn) = &mut service.manager {
        gunicorn
            .start
            .iter_mut()
            .filter(|word| *word == "unix:g.sock")
            .for_each(|word| word.clone_from(&socket));
    }
    let _cleaner = Cleaner(&service);
    action(&service, Goal::Running).perform(&Host::new()).unwrap();
    wait_for("its socket", || answers(&directory.path().join("g.sock")));
    let start = service.manager.commands()[0].to_vec();
    let config = format!(
        "[site]\nproject = \".\"\nsettings = \"x\"\n[python]\nvirtualenv = \"venv\"\nrequirements = [\"r.txt\"]\n\
         [[services]]\nname = \"web\"\nmanager = \"gunicorn\"\nrole = \"web\"\npidfile = \"g.pid\"\nstart = {start:?}\ndirectory = \".\"\n"
    );
    fs::write(directory.path().join("deploykit.toml"), config).unwrap();
    let done = deploykit(&directory, &["services", "hold", "web"]).run().expect(4);
    let here = directory.path().display();
    let line = format!(
        "cd {here} && exec {} hold-socket {socket} --gate {here}/.deploykit/hold/web -- {} --pid g.pid",
        env!("CARGO_BIN_EXE_deploykit"),
        start[0]
    );
    assert!(done.stderr.contains(&line), "{}", done.stderr);
}

/// uvicorn takes the socket by an option, so a person changes its command.
#[test]
fn a_uvicorn_gets_its_line() {
    let Some(program) = server("uvicorn") else { return };
    let Some(mut site) = TestSite::builder().build() else { return };
    let (host, port) = site.gunicorn_address.rsplit_once(':').unwrap();
    let packages = fs::read_dir(program.parent().unwrap().parent().unwrap().join("lib")).unwrap();
    let packages = packages.map(|entry| entry.unwrap().path().join("site-packages")).next().unwrap();
    let module = format!("{}/bin/python -m uvicorn", site.virtualenv.display());
    let listens = format!("{module} --host {host} --port={port} --interface wsgi config.wsgi:application");
    let before = fs::read_to_string(&site.supervisor_config).unwrap();
    let line = before.lines().find(|line| line.contains("/bin/gunicorn")).unwrap();
    let environment = format!("environment=PYTHONPATH=\"{}\"", packages.display());
    let text = before.replace(line, &format!("command={listens}\n{environment}"));
    fs::write(&site.supervisor_config, &text).unwrap();
    site.start().unwrap_or_else(|error| panic!("{error}"));
    let done = on(&site, &["services", "hold", "gunicorn"]).run().expect(4);
    let held = format!(
        "{} hold-socket {} --gate {} -- {module} --interface wsgi config.wsgi:application --fd 3",
        env!("CARGO_BIN_EXE_deploykit"),
        site.gunicorn_address,
        site.checkout.join(".deploykit/hold/gunicorn").display()
    );
    assert!(done.stderr.contains(&held), "{}", done.stderr);
    fs::write(&site.supervisor_config, text.replace(&listens, &held)).unwrap();
    let update = Command::new(&site.supervisorctl)
        .arg("-c")
        .arg(&site.supervisor_config)
        .args(["update", "gunicorn"])
        .status();
    assert!(update.unwrap().success());
    wait_for("the site", || site.page("/").is_ok_and(|page| page.status == 200));
    assert!(is_held(&site));
}

#[test]
fn a_unit_of_systemd_is_held_and_is_as_before() {
    if !inside(&a_unit_of_systemd_is_held_and_is_as_before) {
        return;
    }
    for unix_socket in [false, true] {
        let builder = TestSite::builder().nginx();
        let builder = if unix_socket { builder.unix_socket() } else { builder };
        let Some(mut site) = builder.build() else { return };
        let text = fs::read_to_string(&site.supervisor_config).unwrap();
        let start = text.find("[program:gunicorn]").unwrap();
        let end = start + text[start + 1..].find("\n[").unwrap() + 1;
        let program = text[start..end].to_owned();
        fs::write(&site.supervisor_config, text.replace(&program, "")).unwrap();
        let command = program.lines().find_map(|line| line.strip_prefix("command=")).unwrap();
        let before = format!(
            "[Service]\nType=notify\nWorkingDirectory={}\nEnvironment=DEMO_DATA={} DJANGO_SETTINGS_MODULE=config.settings.production\n\
             ExecStart={command}\nKillMode=mixed\n",
            site.checkout.join("project").display(),
            site.root.join("data").display()
        );
        unit("gunicorn.service", &before);
        systemctl(&["start", "gunicorn.service"]);
        let service = format!(
            "manager = \"supervisor\"\nconfig = \"{}\"\nrole = \"web\"\n",
            site.supervisor_config.display()
        );
        configure(&site, &service, "manager = \"systemd\"\nrole = \"web\"\n");
        configure(&site, "[maintenance]\n", "[maintenance]\nwhen = \"needed\"\nhold = \"1m\"\n");
        site.start_servers().unwrap_or_else(|error| panic!("{error}"));
        wait_for("the site", || site.page("/").is_ok_and(|page| page.status == 200));
        let hold = |args: &[&str]| on(&site, &[&["services", "hold", "gunicorn"], args].concat()).run();

        let shown = hold(&[]).expect(0);
        assert!(shown.stdout.contains("+++ b/etc/systemd/system/gunicorn.socket\n"), "{}", shown.stdout);
        assert!(!is_held(&site));
        let done = hold(&["--apply", "-y"]).expect(0);
        assert!(done.stdout.contains("`gunicorn.socket` holds the socket of `gunicorn`"), "{}", done.stdout);
        assert!(is_held(&site));
        requests_wait(&site, "held");
        hold(&["--undo", "-y"]).expect(0);
        assert!(!is_held(&site));
        for left in ["gunicorn.socket", "gunicorn.service.d"] {
            assert!(!std::path::Path::new("/etc/systemd/system").join(left).exists());
        }
        assert_eq!(site.page("/").unwrap().status, 200);
        systemctl(&["stop", "gunicorn.service"]);
    }
}
