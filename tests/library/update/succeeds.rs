//! An update with which nothing is wrong: the new release serves, and what was the server's own is still there.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::support::releases::*;
use crate::support::site::demo_site::{NEW_SECRET, run, wait_until};
use crate::support::site::{TestSite, Transport};
use crate::support::snapshot::{Snapshot, assert_same};

const HOME: &str = "project/guestbook/templates/guestbook/home.html";
const STYLES: &str = "project/guestbook/static/guestbook/site.css";

#[test]
fn a_whole_release_comes_while_visitors_look() {
    let Some(site) = TestSite::builder().nginx().start() else { return };
    let kept = site.static_root.join("uploads/nobody-collected-this.txt");
    fs::create_dir_all(kept.parent().unwrap()).unwrap();
    fs::write(&kept, "kept").unwrap();
    let before = Snapshot::of(&site);
    let commit = site.publish_release_2().unwrap();
    site.add_secret(NEW_SECRET, "salt").unwrap();

    let over = AtomicBool::new(false);
    let (report, told, answers) = std::thread::scope(|scope| {
        let visitor = scope.spawn(|| {
            let mut answers = Vec::new();
            while !over.load(Ordering::Relaxed) {
                answers.push(site.page("/").map(|answer| (answer.status, answer.body)));
            }
            answers
        });
        let (result, told) = request(&site, &Request::default());
        over.store(true, Ordering::Relaxed);
        (result.unwrap(), told, visitor.join().unwrap())
    });

    assert_eq!(report.outcome, Outcome::Updated, "{:#?}\n{}", report.failure, site.logs());
    assert_eq!(report.to, commit);
    let mut seen = [false; 3];
    for answer in answers {
        match answer.unwrap() {
            (200, body) if body.contains("Release 1") => seen[0] = true,
            (200, body) if body.contains("Release 2") => seen[1] = true,
            (503, body) if body.contains("The site is being updated") => seen[2] = true,
            // nginx's own words: the page went after nginx had seen it.
            (503, _) => {}
            (status, body) => panic!("a visitor saw {status}: {body}"),
        }
    }
    assert_eq!(seen, [true; 3], "the old release, the new one and the page: {told:#?}");
    let expected = [
        "fetch",
        "services",
        "pages",
        "staged-tree",
        "secrets",
        "staged-virtualenv",
        "check",
        "migrations",
        "collect",
        "live-check",
        "announce",
        "stop-workers",
        "page-up",
        "stop-web",
        "backup",
        "code",
        "virtualenv",
        "static",
        "migrate",
        "start-web",
        "smoke-check",
        "page-down",
        "start-workers",
        "stay-up",
        "maintenance-off",
    ];
    assert_eq!(told.done(), expected);
    assert!(told.undone().is_empty());
    assert_tidy(&site);

    let after = Snapshot::of(&site);
    let differences = before.differences(&after);
    for expected in [
        "+ package humanize",
        "+ migration guestbook.0004_sign_entries",
        "+ database schema guestbook_reply",
        "+ static guestbook/tree.svg",
        "- static guestbook/flower.svg",
        "- static guestbook/flower.8ab249dd9338.svg",
        "~ git HEAD",
        "~ page /version/ body: {\"release\": \"1\"",
    ] {
        assert!(differences.iter().any(|line| line.starts_with(expected)), "no {expected}: {differences:#?}");
    }
    for unexpected in
        ["maintenance", "service", "git status", "git branch", "package django", "static uploads"]
    {
        assert!(!differences.iter().any(|line| line[2..].starts_with(unexpected)), "{differences:#?}");
    }
    let processes = site.processes();
    assert!(wait_until(Duration::from_secs(30), || {
        let heartbeat = fs::read_to_string(&site.heartbeat).unwrap_or_default();
        heartbeat.contains("\"release\": \"2\"") && heartbeat.contains(&processes["worker"].pid.to_string())
    }));
    assert_eq!(compiled_by_contents(&site, "views"), [true], "what changed was compiled beforehand");
    assert_eq!(
        compiled_by_contents(&site, "urls"),
        [false],
        "what did not change was compiled by the web itself"
    );
    nothing_new_starts_nothing_but_git(&site);
}

/// Tells of the bytecode of a module of the live checkout whether it goes by the contents of its source: Python by
/// itself lets it go by the time. The web has imported it, and would have replaced one that it does not believe.
fn compiled_by_contents(site: &DemoSite, module: &str) -> Vec<bool> {
    let directory =
        fs::read_dir(site.checkout.join("project/guestbook/__pycache__")).expect("bytecode").flatten();
    let ours =
        directory.filter(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{module}.")));
    ours.map(|entry| fs::read(entry.path()).expect("bytecode")[4] == 3).collect()
}

/// Whatever else than git is started leaves a mark, and fails.
fn nothing_new_starts_nothing_but_git(site: &DemoSite) {
    let (traps, mark) = (site.root.join("traps"), site.root.join("sprung"));
    fs::create_dir_all(&traps).unwrap();
    let trap = |path: &Path| {
        let _ = fs::remove_file(path);
        fs::write(path, format!("#!/bin/sh\necho \"$0\" >> {}\nexit 9\n", mark.display())).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let before = Snapshot::of(site).without("packages can be imported");
    let processes = site.processes();
    for name in ["python", "python3"] {
        trap(&site.virtualenv.join("bin").join(name));
    }
    trap(&traps.join("uv"));
    let mut config = Config::load(&site.config, None).unwrap();
    config.site.env.push(("PATH".to_owned(), format!("{}:/usr/bin:/bin", traps.display())));
    let loaded = Site::new(config).unwrap();
    // The traps are no change of the site's variables.
    let mut current = loaded.state().current();
    loaded.fingerprint().clone_into(&mut current.settings);
    loaded.state().set_current(&current).unwrap();
    let runs = || loaded.state().runs().unwrap().len();
    let runs_before = runs();
    let mut told = Vec::new();
    let mut watch = |record: &Record| told.push(record.event.clone());
    let Prepared::Unchanged(report) =
        update::prepare(&loaded, &Request::default(), None, &mut watch).unwrap()
    else {
        panic!("not unchanged: {told:#?}")
    };
    assert_eq!(report.outcome, Outcome::Unchanged);
    assert_eq!((report.run, report.failure), (None, None));
    let notice = report.notices.join("\n");
    assert!(notice.starts_with("Nothing to do: ") && notice.contains("serves"), "{notice}");
    assert!(!mark.exists(), "{}", fs::read_to_string(&mark).unwrap());
    assert_eq!(runs(), runs_before);
    assert_same(&before, &Snapshot::of(site).without("packages can be imported"));
    assert_eq!(processes, site.processes());
    // The traps work.
    run(&mut site.python()).unwrap_err();
    assert!(mark.exists());
}

#[test]
fn what_is_the_server_s_own_stays() {
    let Some(site) = TestSite::builder().transport(Transport::Daemon).start() else { return };
    configure(&site, "[git]\n", "[git]\nlocal-changes = \"keep\"\nlocal-commits = \"rebase\"\n");
    edit(&site.checkout, HOME, "</h1>", "</h1><!-- edited on the server -->");
    write(&site.checkout, "project/notes.txt", "written on the server\n");
    write(&site.checkout, "project/config/settings/local.py", "SERVER_NAME = \"the server's own\"\n");
    let own =
        ["project/notes.txt", "project/config/settings/local.py", HOME, "secrets.json", "deploykit.toml"];
    let texts = || own.map(|path| fs::read(site.checkout.join(path)).unwrap());
    let (before, texts_before) = (Snapshot::of(&site), texts());
    publish_good(&site, "beside");
    updated(&site);
    assert_eq!(texts(), texts_before);
    assert_tidy(&site);
    let after = Snapshot::of(&site);
    let changed = before.differences(&after);
    let changed: Vec<&str> = changed.iter().map(|line| line.split(": ").next().unwrap()).collect();
    let new = [
        "~ file project/config/release.py",
        "~ file project/guestbook/templates/guestbook/about.html",
        "~ git HEAD",
        "~ page / body",
        "~ page /about/ body",
        "~ page /version/ body",
    ];
    assert_eq!(changed, new, "and nothing else");
    assert!(site.page("/").unwrap().body.contains("<!-- edited on the server -->"));
    assert!(site.page("/about/").unwrap().body.contains("Release beside"));

    // A commit of the server's own is put on top of what is new.
    let commit = {
        append(&site.checkout, "README.md", "\nOn this server it is at home.\n");
        site.git(&site.checkout, &["commit", "-q", "-m", "A local change", "README.md"]).unwrap();
        publish_good(&site, "below")
    };
    let (report, told) = updated(&site);
    assert!(told.notices().contains("1 local commit"), "{}", told.notices());
    let git = |args: &[&str]| site.git(&site.checkout, args).unwrap().trim().to_owned();
    assert_eq!(git(&["rev-parse", "HEAD~1"]), commit);
    assert_eq!(git(&["log", "-1", "--format=%s"]), "A local change");
    assert_eq!(report.to, git(&["rev-parse", "HEAD"]));
    assert_eq!(texts(), texts_before);
    assert_eq!(site.release().as_deref(), Some("below"));
    assert_tidy(&site);
    assert_eq!(run_update(&site).unwrap().outcome, Outcome::Unchanged);
}

#[test]
fn steps_and_hooks_of_the_site_s_own() {
    let Some(site) = TestSite::builder().transport(Transport::Http).start() else { return };
    // By pip alone, too.
    configure(&site, "[python]\n", "[python]\ninstaller = \"pip\"\n");
    let root = site.root.display().to_string();
    add(&site, &format!("
[[steps]]
name = \"where-prepared\"
after = \"staged-virtualenv\"
run = [\"sh\", \"-c\", \"pwd > {root}/prepared; cp project/config/release.py {root}/prepared-release\"]

[[steps]]
name = \"looked-at\"
after = \"check\"
manage = [\"shell\", \"--no-imports\", \"-c\", \"import humanize, os; open('{root}/looked-at', 'w').write(os.getcwd())\"]

[[steps]]
name = \"compress\"
after = \"static\"
manage = [\"shell\", \"--no-imports\", \"-c\", \"import humanize, os; open('{root}/compressed', 'w').write(os.getcwd())\"]

[[steps]]
name = \"where-live\"
after = \"migrate\"
run = [\"sh\", \"-c\", \"pwd > {root}/live; cp project/config/release.py {root}/live-release\"]

[hooks]
after-success = [[\"sh\", \"-c\", \"cat > {root}/hook.json\"], [\"false\"]]
after-failure = [[\"touch\", \"{root}/failed\"]]
"));
    site.publish_release_2().unwrap();
    site.add_secret(NEW_SECRET, "salt").unwrap();
    let (report, told) = updated(&site);
    let read = |name: &str| fs::read_to_string(site.root.join(name)).unwrap().trim().to_owned();
    let (tree, live) = (site.root.join(".site.deploykit-next"), site.checkout.clone());
    assert_eq!(read("prepared"), tree.display().to_string());
    assert_eq!(read("prepared-release"), "RELEASE = \"2\"");
    assert_eq!(read("looked-at"), live.join("project").display().to_string());
    assert_eq!(read("compressed"), live.join("project").display().to_string());
    assert_eq!(read("live"), live.display().to_string());
    assert_eq!(read("live-release"), "RELEASE = \"2\"");
    let done = told.done();
    for pair in [
        ["staged-virtualenv", "where-prepared"],
        ["check", "looked-at"],
        ["static", "compress"],
        ["migrate", "where-live"],
    ] {
        assert!(done.windows(2).any(|steps| steps == pair), "{pair:?}: {done:?}");
    }
    assert_eq!(serde_json::from_str::<Report>(&read("hook.json")).unwrap(), report);
    assert!(told.notices().contains("hook: `"), "{}", told.notices());
    assert!(!site.root.join("failed").exists());
    assert_eq!(site.release().as_deref(), Some("2"));
    assert_tidy(&site);
}

#[test]
fn only_what_is_due_is_done() {
    let Some(site) = TestSite::builder().start() else { return };
    make_wheel(&site, "demo-base", "1.0", &[], "");
    make_wheel(&site, "demo-by-hand", "1.0", &[], "");
    install(&site, "demo-by-hand");
    site.publish(|tree| {
        append(tree, "requirements/production.txt", "demo-base==1.0\n");
        write(tree, "project/guestbook/static/guestbook/note.txt", "soon to be gone\n");
    })
    .unwrap();
    // What a plan built is used by the update, and goes when another one is wanted.
    let built = || {
        let directory = load(&site).state().virtualenvs();
        let built = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        built
            .map(|path| (std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap()), path))
            .collect::<Vec<_>>()
    };
    let plan = || {
        let (loaded, request) = (load(&site), Request { only_plan: true, ..Request::default() });
        drop(update::prepare(&loaded, &request, None, &mut |_: &Record| ()).unwrap());
    };
    let commit = site.git(&site.checkout, &["rev-parse", "HEAD"]).unwrap();
    plan();
    let other = built();
    make_wheel(&site, "demo-other", "1.0", &[], "");
    site.publish(|tree| append(tree, "requirements/production.txt", "demo-other==1.0\n")).unwrap();
    plan();
    let planned = built();
    assert!(planned.len() == 1 && planned != other, "{planned:?} {other:?}");
    assert_eq!(site.git(&site.checkout, &["rev-parse", "HEAD"]).unwrap(), commit);
    let (_, told) = updated(&site);
    assert_eq!(built(), planned, "it was used");
    assert_eq!(told.skipped("migrate").as_deref(), Some("no migrations are pending in the database"));
    let packages = Snapshot::of(&site);
    assert!(packages.facts.contains_key("package demo_base"), "{packages:#?}");
    assert!(packages.facts.contains_key("package demo_by_hand"), "{packages:#?}");

    // A package and a static file are dropped.
    site.publish(|tree| {
        edit(tree, "requirements/production.txt", "demo-base==1.0\n", "");
        fs::remove_file(tree.join("project/guestbook/static/guestbook/note.txt")).unwrap();
    })
    .unwrap();
    updated(&site);
    let dropped = packages.differences(&Snapshot::of(&site));
    for expected in ["- package demo_base", "- static guestbook/note.txt", "- static guestbook/note."] {
        assert!(dropped.iter().any(|line| line.starts_with(expected)), "no {expected}: {dropped:#?}");
    }

    // What nobody collects stays, but where everything is to be collected anew.
    let stray = site.static_root.join("by-hand.txt");
    fs::write(&stray, "").unwrap();
    assert_eq!(run_update(&site).unwrap().outcome, Outcome::Unchanged);
    let clear = Request { clear: true, ..Request::default() };
    let (result, told) = request(&site, &clear);
    assert_eq!(result.unwrap().outcome, Outcome::Updated);
    assert_eq!(told.outcome("static").as_deref(), Some("files: 1 removed"));
    assert!(!stray.exists());

    // Only a stylesheet: its new hash is served.
    site.publish(|tree| append(tree, STYLES, "h1 { color: red; }\n")).unwrap();
    let before = Snapshot::of(&site);
    let (_, told) = updated(&site);
    assert_eq!(
        told.skipped("virtualenv").as_deref(),
        Some("the requirements and the installed packages are as deploykit last saw them")
    );
    assert_eq!(told.skipped("migrate").as_deref(), Some("no migrations are pending in the database"));
    assert_eq!(told.skipped("backup").as_deref(), Some("no migrations are pending"));
    let after = Snapshot::of(&site);
    let changed = before.differences(&after);
    assert!(changed.iter().any(|line| line.starts_with("+ static guestbook/site.")), "{changed:#?}");
    assert!(
        !changed.iter().any(|line| line.contains("package") || line.contains("migration")),
        "{changed:#?}"
    );
    let page = site.page("/").unwrap().body;
    let style = page.split_once("href=\"").unwrap().1.split('"').next().unwrap();
    assert!(site.page(style).unwrap().body.contains("color: red"));

    // Only code.
    publish_good(&site, "code");
    let (_, told) = updated(&site);
    assert_eq!(told.skipped("static").as_deref(), Some("no static file was added, changed or removed"));
    for step in ["virtualenv", "migrate", "backup"] {
        assert!(told.skipped(step).is_some(), "{step}: {:?}", told.done());
    }
    assert_eq!(site.release().as_deref(), Some("code"));
    assert_tidy(&site);
}

#[test]
fn a_revision_that_is_named_is_the_one_that_comes() {
    let Some(site) = TestSite::builder().start() else { return };
    let tagged = publish_good(&site, "tagged");
    let scratch = site.newest().unwrap();
    site.git(&scratch, &["tag", "v1.1"]).unwrap();
    site.git(&scratch, &["push", "-q", "origin", "v1.1"]).unwrap();
    let middle = publish_good(&site, "middle");
    let newest = publish_good(&site, "newest");
    let head = || site.git(&site.checkout, &["rev-parse", "HEAD"]).unwrap().trim().to_owned();
    for (revision, commit, release) in [("v1.1", &tagged, "tagged"), (&middle, &middle, "middle")] {
        let wanted = Request { revision: Some(revision.to_owned()), ..Request::default() };
        let (result, _) = request(&site, &wanted);
        let report = result.unwrap_or_else(|error| panic!("{}", deploykit::error_chain(&error)));
        assert_eq!((report.outcome, &report.to), (Outcome::Updated, commit));
        assert_eq!(&head(), commit);
        assert_eq!(site.release().as_deref(), Some(release));
        assert_tidy(&site);
    }
    site.git(&site.checkout, &["checkout", "-q", "--detach"]).unwrap();
    let (_, told) = updated(&site);
    assert!(told.notices().contains("HEAD is detached; it will be on `main`"), "{}", told.notices());
    assert_eq!(head(), newest);
    assert_eq!(site.git(&site.checkout, &["branch", "--show-current"]).unwrap().trim(), "main");
    assert_eq!(site.release().as_deref(), Some("newest"));
    assert_tidy(&site);
}

#[test]
fn a_stopped_service_stays_so_and_a_failed_one_is_started() {
    let Some(site) = TestSite::builder().start() else { return };
    let supervisor = |args: &[&str]| {
        let mut command = site.command(&site.supervisorctl);
        run(command.arg("-c").arg(&site.supervisor_config).args(args))
    };
    supervisor(&["stop", "worker"]).unwrap();
    publish_good(&site, "without-worker");
    let (_, told) = updated(&site);
    assert!(told.skipped("stop-workers").is_some() && told.skipped("start-workers").is_some());
    assert_eq!(site.processes()["worker"].state, "STOPPED");
    assert_eq!(site.release().as_deref(), Some("without-worker"));

    // It cannot work, and that before anything slow is imported: it never lives for as long as supervisor wants it to.
    let manage = "project/manage.py";
    let text = fs::read_to_string(site.checkout.join(manage)).unwrap();
    prepend(&site.checkout, manage, "import sys\nif sys.argv[1:] == ['work']:\n    sys.exit(3)\n");
    supervisor(&["start", "worker"]).unwrap_err();
    assert!(wait_until(Duration::from_secs(60), || site.processes()["worker"].state == "FATAL"));
    fs::write(site.checkout.join(manage), text).unwrap();
    publish_good(&site, "with-worker");
    updated(&site);
    assert_eq!(site.processes()["worker"].state, "RUNNING");
    assert_eq!(site.release().as_deref(), Some("with-worker"));
    assert_tidy(&site);
}

#[test]
fn maintenance_is_announced_and_what_was_before_is_afterwards() {
    let Some(site) = TestSite::builder().start() else { return };
    let seen = site.root.join("seen.json");
    let (status, copy) = (site.maintenance_status.display(), seen.display());
    add(
        &site,
        &format!("[[steps]]\nname = \"look\"\nafter = \"code\"\nrun = [\"cp\", \"{status}\", \"{copy}\"]\n"),
    );
    publish_good(&site, "announced");
    let wanted = Request { message: Some("<b>soon</b>".to_owned()), ..Request::default() };
    let (result, told) = request(&site, &wanted);
    assert_eq!(result.unwrap().outcome, Outcome::Updated);
    assert!(told.done().contains(&"announce") && told.done().contains(&"maintenance-off"));
    let announced = fs::read_to_string(&seen).unwrap();
    assert!(announced.contains("\"message\": \"<b>soon</b>\""), "{announced}");
    assert_tidy(&site);

    // Somebody else's announcement is theirs.
    let on = "printf 'y\\n' | \"$0\" manage.py maintenanceon 22:30 --date 2031-05-06 --message 'a move'";
    let mut command = site.command("/bin/sh");
    command
        .current_dir(site.checkout.join("project"))
        .args(["-c", on])
        .arg(site.virtualenv.join("bin/python"));
    run(&mut command).unwrap();
    let theirs = fs::read_to_string(&site.maintenance_status).unwrap();
    publish_good(&site, "within");
    updated(&site);
    assert!(fs::read_to_string(&seen).unwrap() != theirs);
    assert_eq!(fs::read_to_string(&site.maintenance_status).unwrap(), theirs);
}

#[test]
fn a_plan_and_an_update_that_nobody_runs_leave_nothing() {
    let Some(site) = TestSite::builder().start() else { return };
    site.publish_release_2().unwrap();
    site.add_secret(NEW_SECRET, "salt").unwrap();
    let (before, processes) = (Snapshot::of(&site), site.processes());
    let loaded = load(&site);
    for (only_plan, discards) in [(true, true), (true, false), (false, false)] {
        let mut watch = |_: &Record| ();
        let request = Request { only_plan, ..Request::default() };
        let Prepared::Ready(ready) = update::prepare(&loaded, &request, None, &mut watch).unwrap() else {
            panic!("nothing to do")
        };
        let needed: Vec<&str> =
            ready.plan().steps.iter().filter(|step| step.is_needed()).map(|step| step.id.as_str()).collect();
        for step in ["announce", "stop-web", "code", "virtualenv", "static", "migrate", "start-web"] {
            assert!(needed.contains(&step), "{needed:?}");
        }
        assert!(site.root.join(".site.deploykit-next").exists());
        if discards {
            ready.discard()
        } else {
            drop(ready)
        }
        assert_same(&before, &Snapshot::of(&site));
        assert_eq!(processes, site.processes());
        assert_eq!(loaded.state().runs().unwrap().len(), 0);
        assert_tidy(&site);
    }
    updated(&site);
    assert_eq!(site.release().as_deref(), Some("2"));
}
