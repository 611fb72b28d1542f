//! The demo site itself: what the other tests stand on is proven here, by hand.

use std::process::Command;
use std::time::Duration;

use crate::support::releases::*;
use crate::support::site::demo_site::{self, DemoSite, Error, NEW_SECRET, run, wait_until};
use crate::support::site::{TestSite, Transport};
use crate::support::snapshot::{Snapshot, assert_same};

#[test]
fn a_site_comes_up_and_serves_release_1() {
    let Some(mut site) = TestSite::builder().nginx().start() else { return };
    let home = site.page("/").unwrap();
    assert_eq!(home.status, 200);
    assert!(home.body.contains("<p>3 entries</p>"), "{}", home.body);
    let style = home.body.split_once("href=\"").unwrap().1.split('"').next().unwrap();
    assert!(style.starts_with("/static/guestbook/site.") && style.len() > "/static/guestbook/site.css".len());
    assert_eq!(site.page(style).unwrap().status, 200);
    assert_eq!(site.page("/about/").unwrap().status, 200);
    assert_eq!(site.page("/nowhere/").unwrap().status, 404);
    assert_eq!(site.release().as_deref(), Some("1"));
    assert_eq!(site.write_entry("Grace Hopper", "a line").unwrap().status, 201);
    assert!(site.page("/").unwrap().body.contains("Grace Hopper: a line"));
    let before = Snapshot::of(&site);
    assert_same(&before, &Snapshot::of(&site));
    std::fs::write(&site.maintenance_page, "back soon").unwrap();
    let page = site.page("/").unwrap();
    assert_eq!((page.status, page.body.as_str()), (503, "back soon"));
    assert_eq!(page.headers.get("retry-after").map(String::as_str), Some("30"));
    let differences = before.differences(&Snapshot::of(&site));
    assert!(
        differences.iter().any(|line| line.starts_with("~ page / status: 200 -> 503")),
        "{differences:?}"
    );
    site.stop();
    assert!(site.page("/").is_err());
    assert!(site.processes().is_empty());
}

#[test]
fn nobody_meets_a_404_while_the_page_comes_and_goes() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    // nginx is configured as the document says.
    let reference = include_str!("../../docs/configuration.md");
    let documented = reference.split("```nginx\n").nth(1).unwrap().split("```").next().unwrap();
    let documented = documented
        .replace("/srv/www/tmp", &site.root.join("www").display().to_string())
        .replace("127.0.0.1:8000", &site.gunicorn_address);
    let written = std::fs::read_to_string(site.root.join("nginx.conf")).unwrap();
    for line in documented.lines().map(str::trim).filter(|line| line.len() > 1) {
        assert!(written.contains(line), "no `{line}` in {written}");
    }

    let ends = std::sync::atomic::AtomicBool::new(false);
    let beside = site.maintenance_page.with_file_name("page");
    let met = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(std::sync::atomic::Ordering::Relaxed) {
                std::fs::write(&beside, "back soon").unwrap();
                std::fs::rename(&beside, &site.maintenance_page).unwrap();
                std::fs::remove_file(&site.maintenance_page).unwrap();
            }
        });
        let mut met = std::collections::BTreeMap::<(u16, String), u32>::new();
        for _ in 0..600 {
            let page = site.page("/version/").unwrap();
            let text = if page.status == 200 { String::new() } else { page.body };
            *met.entry((page.status, text)).or_default() += 1;
        }
        ends.store(true, std::sync::atomic::Ordering::Relaxed);
        met
    });
    assert!(met.keys().all(|(status, _)| [200, 503].contains(status)), "{met:?}");
    assert!(met.contains_key(&(503, "back soon".to_owned())), "{met:?}");
}

#[test]
fn no_process_outlives_its_site() {
    let Some(site) = TestSite::builder().unix_socket().worker_lingers(30.0).start() else { return };
    let pids: Vec<u32> = site.processes().values().map(|program| program.pid).collect();
    assert!(pids.iter().all(|pid| *pid != 0));
    let root = site.root.clone();
    drop(site);
    for pid in pids {
        let program = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&program).contains(root.to_str().unwrap()), "{pid} lives on");
    }
    assert!(!root.exists());
}

#[test]
fn a_site_can_be_built_by_pip_alone() {
    let Some(site) = TestSite::builder().without_uv().build() else { return };
    assert!(site.manage(&["check"]).unwrap().contains("no issues"));
}

#[test]
fn release_2_comes_by_hand() {
    if crate::support::program("curl").is_none() {
        return;
    }
    let Some(site) = TestSite::builder().nginx().start() else { return };
    let before = Snapshot::of(&site);
    let visitor = site.visit().writing().start();
    assert!(wait_until(Duration::from_secs(30), || visitor.served() > 10), "nobody is served");
    site.publish_release_2().unwrap();
    site.add_secret(NEW_SECRET, "salt").unwrap();
    site.update_by_hand().unwrap_or_else(|error| panic!("{error}"));
    site.wait_until_serving(Duration::from_secs(30)).unwrap();
    let experience = visitor.finish();
    // Every one of them saw the page.
    assert!(experience.failures > 0 && !experience.longest_gap.is_zero(), "{experience}");
    assert!(experience.failed.keys().all(|failure| failure.ends_with(": 503")), "{experience}");
    assert_eq!(site.release().as_deref(), Some("2"));
    let home = site.page("/").unwrap().body;
    assert!(home.contains("(V), today: Line"), "{home}");
    let differences = before.differences(&Snapshot::of(&site));
    for expected in [
        "+ package humanize",
        "+ migration guestbook.0004_sign_entries",
        "+ database schema guestbook_reply",
        "+ static guestbook/tree.svg",
        "- static guestbook/flower.svg",
        "~ file secrets.json",
        "~ git HEAD",
        "~ page /version/ body",
    ] {
        assert!(differences.iter().any(|line| line.starts_with(expected)), "no {expected}: {differences:#?}");
    }
    for unexpected in ["maintenance", "service", "git status", "package django"] {
        assert!(!differences.iter().any(|line| line[2..].starts_with(unexpected)), "{differences:#?}");
    }
}

#[test]
fn a_held_socket_lets_visitors_wait() {
    for unix_socket in [false, true] {
        let builder = TestSite::builder().held_by(demo_site::Holder::Supervisor);
        let builder = if unix_socket { builder.unix_socket() } else { builder };
        let Some(site) = builder.start() else { return };
        let before = site.processes()[&site.gunicorn_service].pid;
        let visitor = site.visit().writing().start();
        assert!(wait_until(Duration::from_secs(30), || visitor.served() > 10), "nobody is served");
        supervisorctl(&site, &["restart", &site.gunicorn_service]).unwrap();
        let served = visitor.served();
        assert!(wait_until(Duration::from_secs(30), || visitor.served() > served + 10), "nobody is served");
        assert_ne!(site.processes()[&site.gunicorn_service].pid, before);
        let experience = visitor.finish();
        assert_eq!(experience.failures, 0, "{experience}\n{}", site.logs());
    }
}

#[test]
fn migrations_of_release_2_reverse_to_the_same_schema() {
    let Some(site) = TestSite::builder().build() else { return };
    let before = Snapshot::of(&site).without("file").without("git").without("package").without("static");
    site.publish_release_2().unwrap();
    site.add_secret(NEW_SECRET, "salt").unwrap();
    pull(&site);
    install_requirements(&site).unwrap();
    site.manage(&["migrate", "-v", "0"]).unwrap();
    let rows =
        site.command("sqlite3").arg(&site.database).arg("SELECT signature FROM guestbook_entry").output();
    if let Ok(rows) = rows {
        assert_eq!(String::from_utf8_lossy(&rows.stdout), "A0\nA1\nA2\n");
    }
    site.manage(&["migrate", "-v", "0", "guestbook", "0001"]).unwrap();
    let after = Snapshot::of(&site).without("file").without("git").without("package").without("static");
    assert_same(&before, &after);
}

#[test]
fn a_remote_can_be_reached_over_the_network() {
    for transport in [Transport::Daemon, Transport::Http] {
        let Some(mut site) = TestSite::builder().transport(transport).build() else { return };
        let commit = publish_good(&site, "network");
        pull(&site);
        assert_eq!(site.git(&site.checkout, &["rev-parse", "HEAD"]).unwrap().trim(), commit);
        site.killed_remote();
        site.git(&site.checkout, &["fetch"]).unwrap_err();
    }
}

#[test]
fn maintenance_is_announced_after_a_question() {
    let Some(site) = TestSite::builder().build() else { return };
    let ask = |answer: &str, args: &str| {
        let script = format!("printf '{answer}' | \"$0\" manage.py maintenanceon {args}");
        let mut command: Command = site.command("/bin/sh");
        command.current_dir(site.checkout.join("project")).args(["-c", &script]);
        command.arg(site.virtualenv.join("bin/python")).output().unwrap()
    };
    let no = ask("n\\n", "");
    assert!(
        no.status.success() && String::from_utf8_lossy(&no.stdout).contains("Is this OK? [yN] Aborting.")
    );
    let end = ask("", "");
    assert_eq!(end.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&end.stderr).contains("EOFError"));
    assert!(!site.maintenance_status.exists());
    let yes = ask("y\\n", "18:30 --date 2031-05-06 --message '<b>soon</b>'");
    assert!(yes.status.success(), "{yes:?}");
    let status = std::fs::read_to_string(&site.maintenance_status).unwrap();
    // 18:30 in Los Angeles.
    assert_eq!(status, r#"{"timestamp": 1935883800, "message": "<b>soon</b>"}"#);
    site.manage(&["maintenanceoff"]).unwrap();
    assert!(!site.maintenance_status.exists());
}

#[test]
fn code_that_cannot_be_loaded_is_found_by_django() {
    let Some(site) = TestSite::builder().build() else { return };
    let cases: [Case; 4] = [
        (publish_missing_secret, "secrets.json has no API_TOKEN"),
        (publish_settings_error, "NameError: name 'UNDEFINED_NAME' is not defined"),
        (publish_import_error, "No module named 'demo_module_that_nobody_made'"),
        (publish_broken_views, "No module named 'demo_module_that_nobody_made'"),
    ];
    on_each(&site, &cases, |site| site.manage(&["check"]));
}

#[test]
fn static_files_that_do_not_exist_are_found_by_collectstatic() {
    let Some(site) = TestSite::builder().build() else { return };
    let cases: [Case; 1] = [(publish_broken_stylesheet, "guestbook/no-such-image.png")];
    on_each(&site, &cases, |site| site.manage(&["collectstatic", "--noinput"]));
}

#[test]
fn packages_that_do_not_fit_are_found() {
    let Some(site) = TestSite::builder().build() else { return };
    let cases: [Case; 4] = [
        (publish_unknown_requirement, "No matching distribution found for demo-package-that-nobody-made"),
        (publish_conflicting_requirements, "ResolutionImpossible"),
        (publish_inconsistent_packages, "demo-left 1.0 has requirement demo-base<2"),
        (publish_package_that_breaks_an_import, "cannot import name 'greeting'"),
    ];
    on_each(&site, &cases, |site| {
        install_requirements(site)?;
        site.manage(&["check"])?;
        run(site.command(site.virtualenv.join("bin/python")).args(["-m", "pip", "check"]))
    });
}

#[test]
fn a_migration_fails_after_another_was_applied() {
    let Some(site) = TestSite::builder().build() else { return };
    publish_failing_migration(&site);
    pull(&site);
    site.manage(&["check"]).unwrap();
    let error = site.manage(&["migrate"]).unwrap_err().to_string();
    assert!(error.contains("this row cannot be moved"), "{error}");
    let after = Snapshot::of(&site);
    assert!(after.facts.contains_key("migration guestbook.0002_entry_mood"));
    assert!(!after.facts.contains_key("migration guestbook.0003_fail"));
    site.manage(&["makemigrations", "--check", "--dry-run"]).unwrap();
}

#[test]
fn an_irreversible_migration_is_one() {
    let Some(site) = TestSite::builder().build() else { return };
    publish_irreversible_migration(&site);
    pull(&site);
    site.manage(&["migrate"]).unwrap();
    let error = site.manage(&["migrate", "guestbook", "0001"]).unwrap_err().to_string();
    assert!(error.contains("IrreversibleError"), "{error}");
}

#[test]
fn changes_collide_with_what_is_in_the_checkout() {
    let cases: [Case; 4] = [
        (publish_over_an_edit, "would be overwritten by merge"),
        (publish_over_an_untracked_file, "untracked working tree files would be overwritten"),
        (publish_over_an_ignored_file, "untracked working tree files would be overwritten"),
        (publish_rewritten_history, "Not possible to fast-forward"),
    ];
    let Some(site) = TestSite::builder().build() else { return };
    on_each(&site, &cases, |site| {
        site.git(&site.checkout, &["fetch", "-q", "origin"])?;
        let target = "origin/main";
        site.git(&site.checkout, &["merge", "--ff-only", "--no-overwrite-ignore", target])
    });
    let cases: [Case; 1] = [(publish_rebase_conflict, "could not apply")];
    on_each(&site, &cases, |site| {
        site.git(&site.checkout, &["fetch", "-q", "origin"])?;
        site.git(&site.checkout, &["rebase", "origin/main"]).inspect_err(|_| {
            site.git(&site.checkout, &["rebase", "--abort"]).unwrap();
        })
    });
    reset(&site);
    publish_beside_a_local_commit(&site);
    site.git(&site.checkout, &["pull", "-q", "--rebase"]).unwrap();
}

#[test]
fn pages_that_are_broken_are_seen_by_visitors() {
    let Some(site) = TestSite::builder().start() else { return };
    let restart_with = |publish: fn(&DemoSite) -> String| {
        reset(&site);
        let commit = publish(&site);
        pull(&site);
        site.manage(&["migrate", "-v", "0"]).unwrap();
        let _ = supervisorctl(&site, &["restart", "gunicorn"]);
        commit
    };
    restart_with(publish_broken_home);
    assert_eq!(site.page("/").unwrap().status, 500);
    assert_eq!(site.page("/about/").unwrap().status, 200);
    restart_with(publish_wrong_text);
    let home = site.page("/").unwrap();
    assert_eq!((home.status, home.body.contains("Guestbook")), (200, false));
    restart_with(publish_migration_and_broken_page);
    assert_eq!(site.page("/").unwrap().status, 500);
    site.manage(&["migrate", "-v", "0", "guestbook", "0001"]).unwrap();
    restart_with(publish_silent_home);
    let mut visit = site.visit();
    visit.patience = Duration::from_millis(500);
    visit.pages = vec!["/".to_owned()];
    let experience = visit.start().finish();
    assert_eq!((experience.failures, experience.requests), (1, 1), "{experience}");
    restart_with(publish_broken_wsgi);
    assert!(wait_until(Duration::from_secs(30), || site.page("/about/").is_err()), "it serves");
}

#[test]
fn a_worker_dies_after_it_was_called_running() {
    let Some(site) = TestSite::builder().start() else { return };
    let before = site.processes()["worker"].pid;
    publish_dying_worker(&site);
    pull(&site);
    let _ = supervisorctl(&site, &["restart", "worker"]);
    let log = site.root.join("log/supervisord.log");
    let died = wait_until(Duration::from_secs(30), || {
        std::fs::read_to_string(&log)
            .unwrap_or_default()
            .contains("exited: worker (exit status 3; not expected)")
    });
    assert!(died, "{}", site.logs());
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(log.matches("success: worker entered RUNNING state").count() >= 2, "{log}");
    assert_ne!(site.processes()["worker"].pid, before);
}

/// What publishes a broken version, and what its error says.
type Case = (fn(&DemoSite) -> String, &'static str);

/// Publishes each version, brings the checkout to it by hand, and expects an error that says so.
fn on_each(site: &DemoSite, cases: &[Case], attempt: impl Fn(&DemoSite) -> Result<String, Error>) {
    for (publish, expected) in cases {
        reset(site);
        publish(site);
        // Where that is what fails, `attempt` meets it again.
        let _ = site.git(&site.checkout, &["fetch", "-q", "origin"]);
        let _ =
            site.git(&site.checkout, &["merge", "-q", "--ff-only", "--no-overwrite-ignore", "origin/main"]);
        let error = attempt(site).unwrap_err().to_string();
        assert!(error.contains(expected), "expected {expected}: {error}");
    }
}

/// Takes the remote and the checkout back to release 1.
fn reset(site: &DemoSite) {
    let first = site.git(&site.root.join("scratch"), &["rev-list", "--max-parents=0", "--reflog"]).unwrap();
    let first = first.lines().last().unwrap();
    let scratch = site.newest().unwrap();
    site.git(&scratch, &["push", "-q", "--force", "origin", &format!("{first}:main")]).unwrap();
    site.git(&site.checkout, &["fetch", "-q", "origin"]).unwrap();
    site.git(&site.checkout, &["reset", "-q", "--hard", "origin/main"]).unwrap();
    for left in ["project/notes.txt", "project/config/settings/local.py"] {
        let _ = std::fs::remove_file(site.checkout.join(left));
    }
}

fn pull(site: &DemoSite) {
    site.git(&site.checkout, &["pull", "-q", "--ff-only"]).unwrap_or_else(|error| panic!("{error}"));
}

fn install_requirements(site: &DemoSite) -> Result<String, demo_site::Error> {
    let mut command = site.command(site.virtualenv.join("bin/python"));
    command.env("PIP_FIND_LINKS", &site.by_hand_environment()["PIP_FIND_LINKS"]);
    command.args(["-m", "pip", "install", "-q", "-U", "-r"]);
    run(command.arg(site.checkout.join("requirements/production.txt")))
}

fn supervisorctl(site: &DemoSite, args: &[&str]) -> Result<String, demo_site::Error> {
    run(site.command(&site.supervisorctl).arg("-c").arg(&site.supervisor_config).args(args))
}
