//! A real site that is killed repeatedly, and looked at whole.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use deploykit::internal::state::State;

use crate::cases::{Case, Extent, KINDS, Kind};
use crate::killer::{self, Ended, Kill};
use crate::odd::{ODD, ODD_STATIC, write_odd};
use crate::support::apart::{bridge, bridge_serves, in_other_mounts, left_of_bridge, old_bridge, waits};
use crate::support::releases::{append, make_wheel};
use crate::support::site::TestSite;
use crate::support::site::demo_site::visitor::{Address, Answer, Experience, request};
use crate::support::site::demo_site::{HOST, Holder, NEW_SECRET, run, wait_until};
use crate::support::snapshot::Snapshot;

/// How long a site may take until all of it serves.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a site is updated; the last word goes where the update is rehearsed.
const UPDATE: [&str; 4] = ["update", "-y", "--now", "--no-rehearsal"];

/// What came of a kill.
#[derive(Clone, Debug)]
pub enum Result {
    Back,
    Forward,
    /// The update ended before it was to be killed.
    NotKilled,
    /// The site served, or is, neither the old version nor the new one.
    Mixed(String),
    /// The recovery did not come to an end, or something of its users' is gone.
    Lost(String),
}

impl fmt::Display for Result {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Result::Back => f.write_str("back"),
            Result::Forward => f.write_str("forward"),
            Result::NotKilled => f.write_str("updated before the kill"),
            Result::Mixed(why) => write!(f, "MIXED: {why}"),
            Result::Lost(why) => write!(f, "LOST: {why}"),
        }
    }
}

/// A site at release 1 with release 2 at its remote.
pub struct Place {
    site: TestSite,
    killer: PathBuf,
    before: Snapshot,
    after: Snapshot,
    /// The visitors' entries that are in the guestbook.
    entries: u64,
    /// What the virtualenv is a link to, when it was updated before.
    link: Option<PathBuf>,
    kind: Kind,
    /// What its first update came to, which had to build the environment.
    pub cold: Option<Extent>,
}

impl Place {
    /// Builds it, and updates it once without a kill; `None` where a tool is missing.
    pub fn build(killer: &Path, kind: Kind) -> Option<Place> {
        let builder = TestSite::builder().nginx().rehearsal();
        let mut site = match kind {
            Kind::Held => builder.held_by(Holder::Supervisor).build()?,
            _ => builder.build()?,
        };
        if kind == Kind::Held {
            // Nobody is told, and visitors wait.
            edit(&site.config, "[maintenance]\n", "[maintenance]\nwhen = \"needed\"\nhold = \"1m\"\n");
        }
        if kind == Kind::ByHand {
            // The web boots while the migrations run.
            let port = site.front_address.rsplit(':').next().unwrap_or_default().to_owned();
            edit(&site.config, &format!("http://{HOST}/"), &format!("http://localhost:{port}/"));
            edit(&site.config, "[maintenance]\n", "[maintenance]\nstart-early = true\n");
        }
        // Quick: nothing here dies by itself.
        edit(&site.supervisor_config, "stopwaitsecs=", "startsecs=0\nstopwaitsecs=");
        edit(&site.config, "role = ", "stay-up = \"0s\"\nrole = ");
        // What is a person's own survives all of it.
        edit(&site.config, "[git]\n", "[git]\nlocal-changes = \"keep\"\n");
        edit(&site.checkout.join("README.md"), "\n", "\nedited on the server\n");
        fs::create_dir(site.checkout.join("uploads")).expect("a directory");
        fs::write(site.checkout.join("uploads/photo"), "a photo").expect("a file");
        site.start().unwrap_or_else(|error| panic!("{error}"));
        let odd = kind == Kind::Updated;
        if odd {
            write_odd(&site.checkout.join("uploads"), &ODD, "uploaded");
            write_odd(&site.static_root.join("uploads"), &ODD, "uploaded");
            for hook in ["post-checkout", "post-merge", "post-rewrite"] {
                let path = site.checkout.join(".git/hooks").join(hook);
                fs::write(&path, "#!/bin/sh\necho it fails >&2\nexit 1\n").expect("a hook");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a hook");
            }
        }
        site.add_secret(NEW_SECRET, "a salt for visitors").expect("a secret");
        if odd {
            make_wheel(&site, "demo-base", "1.0", &[], "");
            let publish = |tree: &Path| {
                append(tree, "requirements/production.txt", "demo-base==1.0\n");
                write_odd(&tree.join("odd"), &ODD, "one");
                write_odd(&tree.join("project/guestbook"), &[b"caf\xe9.py"], "one = 1");
                write_odd(&tree.join("project/guestbook/static/guestbook/odd"), &ODD_STATIC, "one");
            };
            site.publish(publish).expect("a release");
            let update = killer::run(killer, &site, &UPDATE, &Kill::NEVER, odd);
            assert_eq!(update.code, Some(0), "{}", update.output);
        }
        let link = fs::read_link(&site.virtualenv).ok();
        assert_eq!(link.is_some(), odd, "the virtualenv of a site that was updated is a link");
        site.publish_release_2().expect("a release");
        if odd {
            let publish = |tree: &Path| {
                write_odd(&tree.join("odd"), &ODD[1..], "two, and longer");
                fs::remove_file(tree.join("odd").join(OsStr::from_bytes(ODD[0]))).expect("a file");
                write_odd(&tree.join("odd/d\ne"), &ODD, "new");
                write_odd(&tree.join("project/guestbook"), &[b"caf\xe9.py"], "two = 2");
                write_odd(&tree.join("project/guestbook/static/guestbook/odd"), &ODD_STATIC[1..], "two");
                write_odd(&tree.join("project/guestbook/static/guestbook/odd"), &[b"n\xe9w.txt"], "new");
            };
            site.publish(publish).expect("a release");
        }
        for directory in ["site", "data"] {
            copy(&site.root.join(directory), &pristine(&site).join(directory));
        }
        // A copy says of itself that it is one; without that it is the site, as its journals say.
        let _ = fs::remove_file(pristine(&site).join("site/.deploykit/site.json"));
        // Environments stay where they are.
        remove(&pristine(&site).join("site/.deploykit/environments"));
        site.wait_until_serving(PATIENCE).expect("a site that serves");
        let before = Snapshot::of(&site).without_entries();
        let (after, killer) = (before.clone(), killer.to_owned());
        let mut place = Place { after, site, killer, before, entries: 0, link, kind, cold: None };
        place.cold = Some(place.measure());
        Some(place)
    }

    /// Updates once without a kill, and goes back to the beginning.
    pub fn measure(&mut self) -> Extent {
        let begun = Instant::now();
        let ended = self.run(&UPDATE, &Kill::NEVER);
        let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        assert_eq!(ended.code, Some(0), "{}", self.told(&ended));
        self.site.wait_until_serving(PATIENCE).expect("a site that serves");
        self.after = Snapshot::of(&self.site).without_entries();
        let count = |kind: &'static str| {
            let lines = ended.told.lines().filter_map(|line| line.split_once(' '));
            let found = lines.filter(|(name, _)| *name == kind).find_map(|(_, count)| count.parse().ok());
            (kind, found.unwrap_or_default())
        };
        let run = state(&self.site).runs().expect("runs").pop().expect("a run");
        let journal = fs::read_to_string(run.journal()).expect("a journal");
        let is_bridge = |line: &str| {
            ["open-gate", "start-web", "start-workers", "hand-over"]
                .iter()
                .any(|step| line.contains(&format!("\"step\":\"{step}\"")))
        };
        let bridge = (1..).zip(journal.lines()).filter(|(_, line)| is_bridge(line)).map(|(number, _)| number);
        let (entries, bridge) = (journal.lines().count() as u64, bridge.collect());
        self.restore();
        Extent { calls: KINDS.map(count).to_vec(), entries, bridge, milliseconds }
    }

    /// Keeps the directory, to look into it.
    pub fn keep(&mut self) {
        self.site.keep();
    }

    /// Kills an update and recovers.
    pub fn kill(&mut self, case: &Case) -> Result {
        self.go(case).unwrap_or_else(|failed| failed)
    }

    fn go(&mut self, case: &Case) -> std::result::Result<Result, Result> {
        if case.cold {
            let live = self.link.as_deref().and_then(Path::file_name);
            for name in names(&self.virtualenvs()).iter().filter(|name| live != Some(OsStr::new(name))) {
                let path = self.virtualenvs().join(name);
                if path.is_dir() { remove(&path) } else { fs::remove_file(&path).expect("a file") }
            }
        }
        let mut visit = self.site.visit().writing();
        visit.rest = Duration::from_millis(40);
        visit.patience = Duration::from_secs(60);
        let visitor = visit.start();
        let update = self.run(&UPDATE[..if case.rehearsed { 3 } else { 4 }], &case.kill);
        self.apart().map_err(|why| Result::Lost(format!("{why} (killed {})", update.told)))?;
        if let Some(code) = update.code {
            let seen = visitor.finish();
            if code != 0 {
                return Err(Result::Lost(format!("the update ended with {code}:\n{}", self.told(&update))));
            }
            self.compare(&seen, Some(true))?;
            self.restore();
            return Ok(Result::NotKilled);
        }
        if case.power {
            self.go_down(case);
        }
        let told = |why: &str| format!("{why} (killed {})", update.told);
        self.look().map_err(|why| Result::Mixed(told(&why)))?;
        let newest = state(&self.site).unfinished();
        let unfinished = newest.map_err(|error| Result::Lost(told(&error.to_string())))?.is_some();
        self.says_so(unfinished).map_err(|why| Result::Lost(told(&why)))?;
        let wanted = if unfinished { Some(case.forward) } else { None };
        self.recover(case, &told)?;
        let ended = self.compare(&visitor.finish(), wanted).map_err(|result| match result {
            Result::Mixed(why) => Result::Mixed(told(&why)),
            Result::Lost(why) => Result::Lost(told(&why)),
            other => other,
        })?;
        if matches!(ended, Result::Forward) {
            self.restore();
        }
        Ok(ended)
    }

    /// Recovers; where the recovery is killed, again.
    fn recover(&self, case: &Case, told: &dyn Fn(&str) -> String) -> std::result::Result<(), Result> {
        let way = if case.forward { "--forward" } else { "--back" };
        for kill in case.again.iter().chain([&Kill::NEVER]) {
            let recovery = self.run(&["recover", way], kill);
            match recovery.code {
                Some(0) => return Ok(()),
                Some(code) => {
                    let why = format!("the recovery ended with {code}:\n{}", self.told(&recovery));
                    return Err(Result::Lost(told(&why)));
                }
                None => self.apart().and_then(|()| self.look()).map_err(|why| {
                    Result::Mixed(told(&format!("{why} (the recovery killed {})", recovery.told)))
                })?,
            }
        }
        Ok(())
    }

    /// The machine goes down and comes up again, with what it starts by itself.
    fn go_down(&mut self, case: &Case) {
        self.site.power_off();
        // What was written and not synced may be there in part, or as zeros.
        if let Ok(Some((run, _))) = state(&self.site).unfinished()
            && case.kill.kind == "write"
        {
            let torn: &[u8] =
                if case.number.is_multiple_of(4) { &[0; 100] } else { br#"{"entry":"step_started","st"# };
            let journal = fs::OpenOptions::new().append(true).open(run.journal());
            journal.and_then(|mut journal| journal.write_all(torn)).expect("a journal");
        }
        self.site.start_servers().unwrap_or_else(|error| panic!("{error}"));
        assert!(wait_until(PATIENCE, || !self.site.processes().is_empty()), "{}", self.site.logs());
    }

    /// `status` tells the truth, and an update is refused where a run is unfinished.
    fn says_so(&self, unfinished: bool) -> std::result::Result<(), String> {
        let status = self.run(&["status"], &Kill::NEVER);
        if status.code != Some(0) || status.output.contains("deploykit recover") != unfinished {
            return Err(format!("unfinished: {unfinished}, and `status` says:\n{}", self.told(&status)));
        }
        if unfinished {
            let update = self.run(&UPDATE, &Kill::NEVER);
            if update.code != Some(4) || !update.output.contains("deploykit recover") {
                return Err(format!("an update is not refused:\n{}", self.told(&update)));
            }
        }
        Ok(())
    }

    /// Waits until nothing is left of a sandbox, and of web servers that were started beforehand unless they serve.
    fn apart(&self) -> std::result::Result<(), String> {
        let waits = || [bridge(&self.site), old_bridge(&self.site)].iter().any(|directory| waits(directory));
        let ended = || !waits() && (in_other_mounts(&self.site).is_empty() || bridge_serves(&self.site));
        if wait_until(PATIENCE, ended) {
            return Ok(());
        }
        Err(format!("there are still {:?}", in_other_mounts(&self.site)))
    }

    /// Visits the site while it is half way: it may be old, new, in maintenance, or silent.
    fn look(&self) -> std::result::Result<(), String> {
        let serves = bridge_serves(&self.site);
        let mut releases = BTreeSet::new();
        for path in ["/", "/version/", "/about/"] {
            let answer = match self.ask(path) {
                Ok(answer) => answer,
                // So it will be with the others.
                Err(error) if error.kind() == std::io::ErrorKind::TimedOut => break,
                Err(_) => continue,
            };
            match answer.status {
                502..=504 => continue,
                200 => {}
                other => return Err(format!("`{path}` answers {other}: {}", answer.body)),
            }
            if let Some((_, rest)) = answer.body.split_once("\"release\": \"") {
                releases.extend(rest.split('"').next().map(ToOwned::to_owned));
            }
            if let Some((_, rest)) = answer.body.split_once("rel=\"stylesheet\" href=\"") {
                let style = rest.split('"').next().unwrap_or_default();
                match self.ask(style) {
                    Ok(answer) if ![200, 502, 503, 504].contains(&answer.status) => {
                        return Err(format!("`{path}` names `{style}`, which answers {}", answer.status));
                    }
                    _ => {}
                }
            }
        }
        if releases.len() > 1 {
            return Err(format!("releases {releases:?} serve"));
        }
        if serves && bridge_serves(&self.site) && !releases.contains("2") {
            return Err(format!("the new version was to serve, and {releases:?} serves"));
        }
        Ok(())
    }

    /// Asks for a page. Where the socket is held, it may wait for the recovery.
    fn ask(&self, path: &str) -> std::io::Result<Answer> {
        let limit = Duration::from_secs(if self.kind == Kind::Held { 3 } else { 30 });
        request(&Address::from(self.site.front_address.as_str()), HOST, path, None, limit)
    }

    /// Compares the site with the old and the new one; `forward` says which it has to be.
    fn compare(&mut self, seen: &Experience, forward: Option<bool>) -> std::result::Result<Result, Result> {
        // No answer at all, or one of nginx: nobody is behind it, or the page.
        let harmless = |what: &&String| {
            let status = what.rsplit(' ').next().and_then(|status| status.parse::<u16>().ok());
            status.is_none_or(|status| (502..=504).contains(&status))
        };
        let wrong: Vec<&String> = seen.failed.keys().filter(|what| !harmless(what)).collect();
        if !wrong.is_empty() {
            return Err(Result::Mixed(format!("visitors met {wrong:?}\n{}", self.site.logs())));
        }
        self.site.wait_until_serving(PATIENCE).map_err(|error| Result::Lost(error.to_string()))?;
        let now = Snapshot::of(&self.site);
        let rows = now.facts.get("database rows guestbook_entry").map_or("", String::as_str);
        let entries = rows.matches("\"Visitor\"").count() as u64;
        if entries < self.entries + seen.writes {
            let written = seen.writes;
            return Err(Result::Lost(format!("of {} + {written} entries there are {entries}", self.entries)));
        }
        self.entries = entries;
        let now = now.without_entries();
        let (old, new) = (self.before.differences(&now), self.after.differences(&now));
        let is_new = match (old.is_empty(), new.is_empty()) {
            (true, _) => false,
            (_, true) => true,
            _ => {
                let shorter = if old.len() < new.len() { old } else { new };
                return Err(Result::Mixed(shorter.join("\n")));
            }
        };
        let litter = self.litter(is_new);
        if !litter.is_empty() {
            return Err(Result::Mixed(format!("left behind: {litter:?}")));
        }
        match forward {
            Some(wanted) if wanted != is_new => {
                Err(Result::Lost(format!("it is at the {} version", if is_new { "new" } else { "old" })))
            }
            _ if is_new => Ok(Result::Forward),
            _ => Ok(Result::Back),
        }
    }

    /// Returns what is left of deploykit's own and of git's.
    fn litter(&self, is_new: bool) -> Vec<String> {
        let site = &self.site;
        let mut litter = left_of_bridge(site);
        let original = ".venv.deploykit-original";
        for directory in [
            &site.root,
            &site.checkout,
            &site.root.join("data"),
            &site.root.join("www"),
            &site.root.join("site/project"),
        ] {
            // The name of the site stays beside its page.
            let own = |name: &String| name.contains(".deploykit-") && !name.ends_with(".html.deploykit-site");
            litter.extend(names(directory).into_iter().filter(own));
        }
        if is_new || self.link.is_some() {
            // What a rollback of an update would need.
            let kept = |name: &String| {
                let run = name.strip_prefix(".static.deploykit-").map(|run| self.run_directory(run));
                run.is_some_and(|run| run.join("kept.json").exists())
            };
            litter.retain(|name| name != original && !kept(name));
        }
        let virtualenv = fs::symlink_metadata(&site.virtualenv).map(|found| found.is_symlink());
        if virtualenv.ok() != Some(is_new || self.link.is_some()) {
            litter.push("a virtualenv of the other kind".to_owned());
        }
        for name in names(&self.virtualenvs()) {
            if !self.virtualenvs().join(&name).join(".deploykit-complete").exists() {
                litter.push(format!("half an environment, {name}"));
            }
        }
        let trees = site.git(&site.checkout, &["worktree", "list", "--porcelain"]).unwrap_or_default();
        if trees.matches("worktree ").count() != 1 {
            litter.push(trees);
        }
        let git = Command::new("find").arg(site.checkout.join(".git")).args(["-name", "*.lock"]).output();
        litter.extend(
            git.map(|found| String::from_utf8_lossy(&found.stdout).into_owned())
                .into_iter()
                .filter(|list| !list.is_empty()),
        );
        litter
    }

    fn run_directory(&self, run: &str) -> PathBuf {
        state(&self.site).directory().join("runs").join(run)
    }

    fn virtualenvs(&self) -> PathBuf {
        state(&self.site).virtualenvs()
    }

    fn run(&self, args: &[&str], kill: &Kill) -> Ended {
        killer::run(&self.killer, &self.site, args, kill, self.kind == Kind::Updated)
    }

    fn told(&self, ended: &Ended) -> String {
        format!("{}\n{}", ended.output, self.site.logs())
    }

    /// Brings release 1 back, with the copy that was made at the beginning.
    fn restore(&mut self) {
        let site = &self.site;
        for verb in ["stop", "start"] {
            if verb == "start" {
                let kept = site.root.join("kept-environments");
                fs::rename(self.virtualenvs(), &kept).expect("environments");
                for directory in ["site", "data"] {
                    remove(&site.root.join(directory));
                    copy(&pristine(site).join(directory), &site.root.join(directory));
                }
                fs::create_dir_all(state(site).directory()).expect("a directory");
                fs::rename(&kept, self.virtualenvs()).expect("environments");
                fs::remove_file(&site.virtualenv).expect("a link");
                match &self.link {
                    Some(environment) => symlink(environment, &site.virtualenv),
                    None => fs::rename(site.root.join(".venv.deploykit-original"), &site.virtualenv),
                }
                .expect("the environment of before");
            }
            let done = self.run(&["services", verb, &site.gunicorn_service, "worker"], &Kill::NEVER);
            assert_eq!(done.code, Some(0), "{}", self.told(&done));
        }
        self.entries = 0;
        assert!(wait_until(PATIENCE, || site.release().as_deref() == Some("1")), "{}", site.logs());
    }
}

fn state(site: &TestSite) -> State {
    State::at(&site.checkout.join(".deploykit"))
}

fn pristine(site: &TestSite) -> PathBuf {
    site.root.join("pristine")
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).expect("a file");
    assert!(text.contains(from), "no {from:?} in {}", path.display());
    fs::write(path, text.replace(from, to)).expect("a file");
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn remove(directory: &Path) {
    if directory.exists() {
        fs::remove_dir_all(directory).expect("a directory");
    }
}

/// Copies a directory with times and modes: git believes times.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a directory above")).expect("a directory");
    run(Command::new("cp").arg("-a").args([from, to])).unwrap_or_else(|error| panic!("{error}"));
}
