//! An update that cannot be is refused, and the site never noticed: it is the same as before, whole, with the same
//! processes, and what was refused can be repeated once it is fixed.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use deploykit::Host;
use deploykit::error_chain;
use deploykit::internal::journal::{Entry, Journal};
use deploykit::internal::lock::Lock;
use deploykit::plan::Phase;
use deploykit::update::Start;

use super::*;
use crate::support::disk::Disk;
use crate::support::releases::*;
use crate::support::site::TestSite;
use crate::support::site::demo_site::{NEW_SECRET, Port, run};
use crate::support::snapshot::{Snapshot, assert_same};

#[test]
fn code_that_does_not_fit_the_server() {
    let Some(site) = TestSite::builder().start() else { return };
    let trial = Trial::of(&site);
    let refusal = trial.refuses("secrets", publish_missing_secret);
    let secrets = site.secrets.display();
    assert_eq!(
        refusal.text,
        format!(
            "secrets are missing in `{secrets}`: `API_TOKEN` (asked for in project/config/settings/base.py:77)"
        )
    );
    let refusal = trial.refuses("check", publish_settings_error);
    refusal.says(&["NameError: name 'UNDEFINED_NAME' is not defined", "config.settings.production"]);
    let refusal = trial.refuses("check", publish_import_error);
    refusal
        .says(&["No module named 'demo_module_that_nobody_made'", "project/guestbook/models.py\", line 1"]);
    let refusal = trial.refuses("check", publish_broken_views);
    refusal.says(&["No module named 'demo_module_that_nobody_made'", "project/guestbook/views.py\", line 1"]);
    let refusal = trial.refuses("check", publish_broken_wsgi);
    refusal.says(&["RuntimeError: the application cannot be wrapped", "config.wsgi"]);
    let refusal = trial.refuses("collect", publish_broken_stylesheet);
    refusal.says(&["guestbook/no-such-image.png", "guestbook/site.css"]);
    the_live_version_needs_its_secrets(&trial);
    trial.is_fixed();
}

/// The live version could not announce the maintenance, and could not start again.
fn the_live_version_needs_its_secrets(trial: &Trial<'_>) {
    let site = trial.site;
    let text = fs::read_to_string(&site.secrets).unwrap();
    let rename_secret = |site: &DemoSite| {
        let settings = "project/config/settings/base.py";
        let renamed = |tree: &Path| edit(tree, settings, "(\"SECRET_KEY\")", "(\"SIGNING_KEY\")");
        site.publish_as("Another name", renamed).unwrap();
        fs::write(&site.secrets, text.replace("SECRET_KEY", "SIGNING_KEY")).unwrap();
    };
    let refusal = trial.refuses("live-check", rename_secret);
    refusal.says(&[
        "the live version does not boot, so its command that announces the maintenance would fail: ",
        "secrets.json has no SECRET_KEY",
    ]);
    // Where users are not told, the update may be the fix.
    configure(site, "\"production\"", "\"staging\"");
    rename_secret(site);
    let loaded = load(site);
    let mut unheard = |_: &Record| ();
    let Ok(Prepared::Ready(update)) = update::prepare(&loaded, &Request::default(), None, &mut unheard)
    else {
        panic!("the next version boots")
    };
    let notices = update.plan().notices.join("\n");
    let warning = "the live version does not boot with the current configuration, variables and packages";
    assert!(notices.contains(warning) && notices.contains("secrets.json has no SECRET_KEY"), "{notices}");
    update.discard();
    fs::write(&site.secrets, text).unwrap();
    trial.fix();
}

#[test]
fn packages_that_do_not_fit() {
    let Some(site) = TestSite::builder().start() else { return };
    let trial = Trial::of(&site);
    let refusal = trial.refuses("staged-virtualenv", publish_unknown_requirement);
    refusal.says(&["demo-package-that-nobody-made"]);
    let refusal = trial.refuses("staged-virtualenv", publish_conflicting_requirements);
    refusal.says(&["demo-left", "demo-base"]);
    // The installer is told not to look, and the packages do not fit each other all the same.
    let refusal = trial.refuses("staged-virtualenv", |site| {
        configure(site, "extra-args = [", "extra-args = [\"--no-deps\", ");
        publish_conflicting_requirements(site)
    });
    refusal.says(&["demo-left", "demo-base"]);
    let refusal = trial.refuses("check", publish_package_that_breaks_an_import);
    refusal.says(&["cannot import name 'greeting' from 'demo_phrases'"]);
    trial.is_fixed();
}

#[test]
fn environments_that_would_not_serve() {
    let Some(mut site) = TestSite::builder().build() else { return };
    // Only root starts programs of others.
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        let text = fs::read_to_string(&site.supervisor_config).unwrap();
        let program = "\n[program:stranger]\ncommand=sleep 600\nuser=nobody\n";
        fs::write(&site.supervisor_config, text + program).unwrap();
        fs::set_permissions(&site.root, fs::Permissions::from_mode(0o755)).unwrap();
    }
    site.start().unwrap();
    let trial = Trial::of(&site);
    if is_root {
        let refusal = trial.refuses("staged-virtualenv", |site| {
            let supervisor = site.supervisor_config.display();
            add(
                site,
                &format!(
                    "[[services]]\nname = \"stranger\"\nmanager = \"supervisor\"\nconfig = \"{supervisor}\"\n"
                ),
            );
            site.publish_as("Another package", |tree| {
                edit(tree, "requirements/production.txt", "gunicorn", "humanize\ngunicorn")
            })
        });
        let state = site.checkout.join(".deploykit");
        let told = format!(
            "service `stranger` runs as `nobody`, who cannot pass `{}` to the new virtualenv",
            state.display()
        );
        assert_eq!(refusal.text, told);
        let done = ["fetch", "services", "pages", "staged-tree", "secrets"];
        assert_eq!(refusal.done, done, "no virtualenv was built before");
    }
    // What the requirements asked for at the last update, and ask for no more, goes.
    publish_good(&site, "with-gunicorn");
    updated(&site);
    let trial = Trial::of(&site);
    let refusal = trial.refuses("staged-virtualenv", |site| {
        site.publish_as("No gunicorn", |tree| {
            edit(tree, "requirements/production.txt", "gunicorn", "# gunicorn")
        })
    });
    let program = site.virtualenv.join("bin/gunicorn");
    assert_eq!(
        refusal.text,
        format!(
            "service `gunicorn` runs `{}`, and no package that the requirements ask for brings that program",
            program.display()
        )
    );
    let refusal = trial.refuses("staged-virtualenv", |site| {
        configure(site, "[python]\n", "[python]\ninstaller = \"pip\"\n");
        run(site.python().args(["-m", "pip", "uninstall", "-q", "--yes", "pip"])).expect("a pip");
        publish_unknown_requirement(site);
    });
    refusal.says(&["has no pip", &site.virtualenv.display().to_string()]);
    trial.is_fixed();
}

#[test]
fn a_checkout_that_cannot_be_brought_forward() {
    let Some(site) = TestSite::builder().start() else { return };
    let trial = Trial::of(&site);
    let keep = |site: &DemoSite| configure(site, "[git]\n", "[git]\nlocal-changes = \"keep\"\n");
    let rebase = |site: &DemoSite| configure(site, "[git]\n", "[git]\nlocal-commits = \"rebase\"\n");
    let refusal = trial.refuses("fetch", publish_rewritten_history);
    refusal.says(&["origin/main"]);
    let refusal = trial.refuses("fetch", publish_over_an_edit);
    refusal.says(&["project/guestbook/templates/guestbook/about.html"]);
    let refusal = trial.refuses("fetch", |site| {
        keep(site);
        publish_over_an_edit(site)
    });
    refusal.says(&["would overwrite 1 file: ", "about.html"]);
    let refusal = trial.refuses("fetch", publish_over_an_untracked_file);
    refusal.says(&["would overwrite 1 file: ", "project/notes.txt"]);
    let refusal = trial.refuses("fetch", publish_over_an_ignored_file);
    refusal.says(&["would overwrite 1 file: ", "project/config/settings/local.py"]);
    let refusal = trial.refuses("fetch", |site| {
        rebase(site);
        publish_rebase_conflict(site)
    });
    refusal.says(&["about.html"]);
    let refusal = trial.refuses("fetch", publish_beside_a_local_commit);
    refusal.says(&["1 local commit"]);
    let refusal = trial.refuses("staged-tree", publish_pointer);
    refusal
        .says(&["1 file would be pointers of Git LFS, and the live site has their contents: ", "flower.svg"]);
    let refusal = trial.refuses("fetch", |site| configure(site, "branch = \"main\"", "branch = \"trunk\""));
    refusal.says(&["trunk", "main"]);
    let unknown = Request { revision: Some("v9.9".to_owned()), ..Request::default() };
    let refusal = trial.refuses_request("fetch", &unknown, |site| publish_good(site, "tagless"));
    refusal.says(&["`v9.9`"]);
    trial.is_fixed();
}

#[test]
fn a_remote_that_does_not_answer() {
    let Some(site) = TestSite::builder().start() else { return };
    let trial = Trial::of(&site);
    let refusal = trial.refuses("fetch", |site| {
        // It accepts and never says a word.
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("git://{}/origin.git", silent.local_addr().expect("an address"));
        site.git(&site.checkout, &["remote", "set-url", "origin", &url]).expect("a remote");
        configure(site, "[git]\n", "[git]\ndeadline = \"1s\"\n");
        silent
    });
    refusal.says(&["origin", "1 s"]);
    let refusal = trial.refuses("fetch", |site| {
        let nobody = Port::reserve().expect("a port");
        let url = format!("git://{}/origin.git", nobody.address());
        site.git(&site.checkout, &["remote", "set-url", "origin", &url]).expect("a remote");
        nobody
    });
    refusal.says(&["unable to connect to 127.0.0.1", "Connection refused"]);
    trial.is_fixed();
}

#[test]
fn a_configuration_that_does_not_fit() {
    let Some(site) = TestSite::builder().start() else { return };
    let trial = Trial::of(&site);
    let refusal = trial.refuses("check", |site| {
        configure(
            site,
            "settings = \"config.settings.production\"",
            "settings = \"config.settings.nowhere\"",
        );
        publish_good(site, "elsewhere")
    });
    assert_eq!(
        refusal.text,
        "there is no settings module `config.settings.nowhere`: \
         ModuleNotFoundError: No module named 'config.settings.nowhere'"
    );
    for path in ["project/manage.py", "requirements/production.txt"] {
        let mut commit = String::new();
        let refusal = trial.refuses("staged-tree", |site| {
            let published = site.publish(|tree| fs::remove_file(tree.join(path)).expect("a file"));
            commit = published.as_ref().expect("a commit").clone();
            published
        });
        assert_eq!(refusal.text, format!("the new version ({}) has no `{path}`", &commit[..7]));
    }
    let address = site.gunicorn_address.clone();
    for role in ["worker", "required"] {
        let refusal = trial.refuses("services", |site| {
            configure(site, "role = \"web\"", &format!("role = \"{role}\""));
            publish_good(site, "of nobody")
        });
        let told = format!(
            "the pages of `smoke` are answered at `{address}` by service `gunicorn`, which has `role = \"{role}\"`, not \
             \"web\""
        );
        assert_eq!(refusal.text, told);
        assert_eq!(refusal.done, ["fetch"]);
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refusal = trial.refuses("services", |site| {
        configure(site, "role = \"web\"", "role = \"worker\"");
        configure(site, &format!("connect = \"{address}\""), &format!("connect = \"{closed}\""));
        publish_good(site, "of nobody")
    });
    assert_eq!(refusal.text, "`smoke.pages` are to be checked, and no service has `role = \"web\"`");
    // It would show the page while an update checks the new version, and while its undo checks the old one.
    let in_front = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let front = in_front.local_addr().unwrap();
    let refusal = trial.refuses("services", |site| {
        configure(site, &format!("connect = \"{address}\""), &format!("connect = \"{front}\""));
        let page = site.maintenance_page.display();
        configure(site, "[maintenance]\n", &format!("[maintenance]\npage = \"{page}\"\n"));
        publish_good(site, "in front")
    });
    refusal.says(&[&format!("`{front}`"), "is not where a service of the role `web` listens"]);
    let refusal = trial.refuses("pages", |site| {
        let connect = format!("connect = \"{}\"", site.gunicorn_address);
        configure(site, &connect, &format!("connect = \"{closed}\""));
        publish_good(site, "unseen")
    });
    refusal.says(&["no page is as expected", &format!("nothing listens at `{closed}`")]);
    let refusal = trial.refuses("pages", |site| {
        configure(site, "path = \"/about/\"", "path = \"/about\"");
        publish_good(site, "redirected")
    });
    refusal.says(&["a page redirects where an answer is expected", "`/about`", "got 301 to `/about/`"]);
    let only_plan = Request { only_plan: true, ..Request::default() };
    let refusal = trial.refuses_request("own", &only_plan, |site| {
        add(
            site,
            "[[steps]]\nname = \"own\"\nafter = \"collect\"\nrun = [\"sh\", \"-c\", \"echo no; exit 3\"]\n",
        );
        publish_good(site, "own")
    });
    refusal.says(&["exited with code 3", "no"]);
    let transcript = refusal.transcript.expect("that of the plan");
    assert!(transcript.ends_with(".deploykit/plan.log"), "{transcript:?}");
    assert!(fs::read_to_string(transcript).unwrap().contains("exit 3"));
    let soon = Request { start: Start::In(Duration::from_secs(60)), ..Request::default() };
    let refusal = trial.refuses_request("announce", &soon, |site| {
        configure(site, "notice = \"0s\"", "notice = \"20m\"");
        publish_good(site, "soon")
    });
    refusal.says(&["would be too soon: the earliest time is 20"]);
    trial.is_fixed();
}

#[test]
fn another_run() {
    let Some(site) = TestSite::builder().start() else { return };
    let trial = Trial::of(&site);
    publish_good(&site, "late");
    let state = load(&site).state();
    state.create().unwrap();
    let before = Snapshot::of(&site);
    let lock = Lock::take(&state.lock(), "update to 3f2a9c1", Duration::ZERO, &Host::new()).unwrap();
    let Err(UpdateError::Locked(error)) = run_update(&site) else { panic!("not refused") };
    let text = error.to_string();
    assert!(text.starts_with("the site is locked by "), "{text}");
    assert!(text.contains(&format!("(process {}) since ", std::process::id())), "{text}");
    assert!(text.ends_with(": update to 3f2a9c1"), "{text}");
    drop(lock);
    let run = state.new_run().unwrap();
    let mut journal = Journal::open(&run.journal()).unwrap();
    let begun = Entry::RunStarted {
        version: 1,
        run: run.name.clone(),
        time: jiff::Timestamp::now(),
        pid: std::process::id(),
        user: "somebody".to_owned(),
        environment: "production".to_owned(),
        from: trial.first.clone(),
        to: trial.first.clone(),
        hold: Vec::new(),
        beside: Vec::new(),
        rolls_back: None,
        planned: Vec::new(),
        state: None,
    };
    journal.append(&begun).unwrap();
    let Err(error @ UpdateError::Unfinished { .. }) = run_update(&site) else { panic!("not refused") };
    assert_eq!(error.to_string(), format!("run {} is unfinished: it was interrupted", run.name));
    assert_same(&before, &Snapshot::of(&site));
    journal
        .append(&Entry::RunFinished { outcome: Outcome::RolledBack, time: jiff::Timestamp::now() })
        .unwrap();
    trial.is_fixed();
}

#[test]
fn a_disk_that_is_full() {
    let Some(site) = TestSite::builder().start() else { return };
    let state = load(&site).state();
    state.create().unwrap();
    let Some(disk) = Disk::mount(state.directory(), "3m") else { return };
    let trial = Trial::of(&site);
    let refusal = trial.refuses("staged-virtualenv", |site| {
        site.add_secret(NEW_SECRET, "salt").expect("a secret");
        site.publish_release_2()
    });
    refusal.says(&["No space left on device"]);
    let built = fs::read_dir(state.virtualenvs()).into_iter().flatten().count();
    assert_eq!(built, 0, "half an environment fills the disk");
    disk.resize("300m");
    trial.is_fixed();
}

/// A site that is spoilt in one way after another, and fixed in between.
struct Trial<'s> {
    site: &'s DemoSite,
    first: String,
    config: String,
}

impl<'s> Trial<'s> {
    fn of(site: &'s DemoSite) -> Self {
        let first = site.git(&site.checkout, &["rev-parse", "HEAD"]).expect("a commit").trim().to_owned();
        let config = fs::read_to_string(&site.config).expect("a configuration");
        Trial { site, first, config }
    }

    /// Spoils the site, expects a refusal by this step that nobody noticed, and returns its whole text.
    #[track_caller]
    fn refuses<T>(&self, step: &str, spoil: impl FnOnce(&DemoSite) -> T) -> Refusal {
        self.refuses_request(step, &Request::default(), spoil)
    }

    #[track_caller]
    fn refuses_request<T>(
        &self,
        wanted: &str,
        what: &Request,
        spoil: impl FnOnce(&DemoSite) -> T,
    ) -> Refusal {
        let _kept = spoil(self.site);
        let (before, processes) = (Snapshot::of(self.site), self.site.processes());
        let (result, told) = request(self.site, what);
        let (after, later) = (Snapshot::of(self.site), self.site.processes());
        let refusal = match result {
            Err(UpdateError::Prepare { step, source, report }) => {
                let text = error_chain(source.as_ref());
                assert_eq!(step, wanted, "{text}");
                assert_eq!(report.outcome, Outcome::Refused);
                let failure = report.failure.expect("what failed");
                assert_eq!((failure.step.as_str(), failure.phase), (wanted, Phase::Prepare));
                let done = told.done().iter().map(|step| (*step).to_owned()).collect();
                Refusal { text, tail: failure.tail.join("\n"), transcript: failure.transcript, done }
            }
            other => panic!("not refused: {other:#?}\n{}", self.site.logs()),
        };
        eprintln!("--- {wanted}: {}\n{}", refusal.text, refusal.tail);
        assert_same(&before, &after);
        assert_eq!(processes, later);
        assert!(told.done().iter().all(|step| !WINDOW.contains(step)), "{:?}", told.done());
        assert_tidy(self.site);
        self.fix();
        refusal
    }

    /// Takes the remote, the checkout and the configuration back to what they were.
    fn fix(&self) {
        let git = |directory: &Path, args: &[&str]| {
            self.site.git(directory, args).unwrap_or_else(|error| panic!("{error}"));
        };
        fs::write(&self.site.config, &self.config).expect("a configuration");
        let origin = self.site.origin.display().to_string();
        git(&self.site.checkout, &["remote", "set-url", "origin", &origin]);
        git(
            &self.site.newest().expect("a scratch tree"),
            &["push", "-q", "--force", "origin", &format!("{}:main", self.first)],
        );
        git(&self.site.checkout, &["fetch", "-q", "origin"]);
        git(&self.site.checkout, &["reset", "-q", "--hard", "origin/main"]);
        for left in ["project/notes.txt", "project/config/settings/local.py"] {
            let _ = fs::remove_file(self.site.checkout.join(left));
        }
    }

    /// Updates, after all.
    #[track_caller]
    fn is_fixed(&self) {
        publish_good(self.site, "fixed");
        updated(self.site);
        assert_eq!(self.site.release().as_deref(), Some("fixed"));
        assert_tidy(self.site);
    }
}

/// Steps that touch the site.
const WINDOW: [&str; 6] = ["announce", "stop-workers", "page-up", "stop-web", "code", "virtualenv"];

/// What a person is told.
struct Refusal {
    /// The error with its causes.
    text: String,
    /// The last lines of the program that it is about.
    tail: String,
    /// Where every command with its output is.
    transcript: Option<PathBuf>,
    /// The steps that were done before.
    done: Vec<String>,
}

impl Refusal {
    #[track_caller]
    fn says(&self, parts: &[&str]) {
        for part in parts {
            let Refusal { text, tail, .. } = self;
            assert!(text.contains(part) || tail.contains(part), "no `{part}` in: {text}\n{tail}");
        }
    }
}
