//! A checkout that holds the virtualenv and a `STATIC_ROOT` with files of git; and workers that outlive their manager's stop.

use std::io::Write;
use std::net::TcpStream;

use deploykit::services::ProcessId;
use rustix::process::Pid;

use super::super::goes_back;
use super::*;
use crate::support::site::demo_site::wait_until;

/// An application with a page that is never done; its worker says who it is.
const WSGI: &str = "
import time

serve = application


def application(environ, start_response):
    if environ[\"PATH_INFO\"] == \"/slow/\":
        with open(os.environ[\"DEMO_DATA\"] + \"/busy.tmp\", \"w\") as file:
            file.write(str(os.getpid()))
        os.rename(file.name, os.environ[\"DEMO_DATA\"] + \"/busy\")
        while True:
            time.sleep(0.05)
    return serve(environ, start_response)
";

const LOGO: &str = "static/logo.svg";

/// A site all of which lies in its checkout, and whose gunicorn is killed by supervisor while a worker goes on.
fn site_in_its_checkout() -> Option<TestSite> {
    let mut site = TestSite::builder().rehearsal().build()?;
    let publish = |tree: &Path| {
        append(tree, ".gitignore", "/venv/\n/static/*\n!/static/logo.svg\n");
        append(tree, "project/config/settings/base.py", "\nSTATIC_ROOT = REPOSITORY / \"static\"\n");
        append(tree, "project/config/wsgi.py", WSGI);
        write(tree, LOGO, "<svg/>\n");
    };
    site.publish(publish).unwrap();
    site.git(&site.checkout, &["pull", "-q", "--ff-only", "origin", "main"]).unwrap();

    let (old, inside) = (site.virtualenv.clone(), site.checkout.join("venv"));
    run(site.command(&site.options.python).args(["-m", "venv"]).arg(&inside)).unwrap();
    let mut install = site.command(site.options.uv.as_ref().unwrap());
    install.args(["pip", "install", "-q", "--python"]).arg(inside.join("bin/python")).arg("-r");
    run(install.arg(site.checkout.join("requirements/production.txt"))).unwrap();
    fs::remove_dir_all(&old).unwrap();
    write(&inside, "bin/own-script", "#!/bin/sh\n");
    configure(&site, "virtualenv = \"../venv\"", "virtualenv = \"venv\"");
    configure(&site, "role = \"web\"\n", "role = \"web\"\nstop-timeout = \"2s\"\n");
    let text = fs::read_to_string(&site.supervisor_config).unwrap();
    let text = text.replace(&format!("{}/", old.display()), &format!("{}/", inside.display()));
    let text = text.replace("--graceful-timeout 5", "--graceful-timeout 600 --timeout 600");
    fs::write(&site.supervisor_config, text.replace("stopwaitsecs=30", "stopwaitsecs=1")).unwrap();
    site.virtualenv = inside;
    site.static_root = site.checkout.join("static");
    site.manage(&["collectstatic", "--noinput"]).unwrap();
    write(&site.static_root, "uploads/portrait.txt", "uploaded\n");
    site.start().unwrap();
    Some(site)
}

/// A worker that is busy with a page.
struct Busy {
    worker: Pid,
    _client: TcpStream,
}

impl Busy {
    fn with(site: &DemoSite) -> Busy {
        let file = site.root.join("data/busy");
        let mut client = TcpStream::connect(&site.gunicorn_address).unwrap();
        client.write_all(b"GET /slow/ HTTP/1.0\r\nHost: demo.example\r\n\r\n").unwrap();
        assert!(wait_until(PATIENCE, || file.exists()), "no worker is busy\n{}", site.logs());
        let worker = fs::read_to_string(&file).unwrap().parse().unwrap();
        fs::remove_file(file).unwrap();
        Busy { worker: Pid::from_raw(worker).unwrap(), _client: client }
    }

    fn lives(&self) -> bool {
        // A zombie does not.
        ProcessId::of(self.worker.as_raw_pid()).is_some()
    }
}

#[track_caller]
fn assert_clean(site: &DemoSite) {
    for args in [&["status", "--porcelain"][..], &["clean", "-n", "-d"]] {
        assert_eq!(site.git(&site.checkout, args).unwrap(), "", "{args:?}");
    }
}

#[test]
fn all_in_the_checkout_and_workers_that_outlive_their_stop() {
    let Some(site) = site_in_its_checkout() else { return };
    assert_clean(&site);
    let exclude = || fs::read_to_string(site.checkout.join(".git/info/exclude")).ok();
    let (before, excluded) = (Snapshot::of(&site), exclude());
    make_wheel(&site, "demo-base", "1.0", &[], "");
    let change = |tree: &Path| {
        append(tree, "requirements/production.txt", "demo-base==1.0\n");
        append(tree, STYLES, "p { color: red }\n");
        write(tree, LOGO, "<svg><g/></svg>\n");
        write(tree, "project/config/release.py", "RELEASE = \"2\"\n");
    };
    site.publish(change).unwrap();

    // Killed while the web is to stop; a person goes on by hand, and supervisor leaves a worker with the port.
    goes_back::kill_at(&site, "stop-web started");
    let busy = Busy::with(&site);
    let mut stop = site.command(&site.supervisorctl);
    run(stop.arg("-c").arg(&site.supervisor_config).args(["stop", "gunicorn"])).unwrap();
    assert!(busy.lives() && site.processes()["gunicorn"].state == "STOPPED");
    let report = update::recover(&load(&site), None, &mut |_: &Record| ()).unwrap().unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{:#?}\n{}", report.failure, site.logs());
    assert!(!busy.lives(), "it would serve the old version on");
    goes_back::assert_as_before(&site, &before);
    assert_eq!(exclude(), excluded);

    updated(&site);
    assert_eq!(site.release().as_deref(), Some("2"));
    let read = |path: &str| fs::read_to_string(site.checkout.join(path)).unwrap();
    assert_eq!(read(LOGO), "<svg><g/></svg>\n");
    assert!(read("static/guestbook/site.css").contains("color: red"));
    assert_eq!(
        (read("static/uploads/portrait.txt"), read("venv/bin/own-script")),
        ("uploaded\n".into(), "#!/bin/sh\n".into())
    );
    assert!(fs::symlink_metadata(&site.virtualenv).unwrap().is_symlink());
    assert_clean(&site);
    assert_tidy(&site);

    let mut busy = None;
    let mut watch = |event: &Event| {
        if matches!(event, Event::StepStarted { step, .. } if step == "stop-web") {
            busy = Some(Busy::with(&site));
        }
    };
    let (result, _) = rollback_of(&site, None, |_| (), &mut watch);
    let report = result.unwrap_or_else(|error| panic!("{}\n{}", deploykit::error_chain(&error), site.logs()));
    assert_eq!(report.outcome, Outcome::Updated, "{:#?}\n{}", report.failure, site.logs());
    assert!(!busy.unwrap().lives(), "it would serve the new version on");
    goes_back::assert_as_before(&site, &before);
    assert_clean(&site);
    assert_eq!(exclude(), excluded);
}
