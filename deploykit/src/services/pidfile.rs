//! Whether the process that a pidfile names is the server that wrote it, or one that got its number later.
//!
//! A pidfile outlives a crash and a reboot, and process numbers are used again: by any program, and by another site's
//! server. Such a process is never stopped and never counts as running.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use procfs::process::Process;

use super::ProcessId;
use super::limits::option;
use crate::host::users::shown_user;

/// How much later than its pidfile a process may seem to have started: the kernel counts its start in ticks.
const SLACK: Duration = Duration::from_secs(2);

/// How a kind of server is known by its command line.
pub(super) trait Identity {
    /// Returns the name of its program.
    fn name(&self) -> &'static str;

    /// Returns the file that it writes the number of its master process to.
    fn pidfile(&self) -> &Path;

    /// Returns the options that name this file.
    fn pidfile_options(&self) -> &'static [&'static str];

    /// Returns the command that starts it, and its working directory; empty where somebody else starts it.
    fn start(&self) -> (&[String], Option<&Path>);

    /// Tells whether a word is the title that it gives to its processes.
    fn is_title(&self, word: &str) -> bool;
}

/// A process as `/proc` shows it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    words: Vec<String>,
    name: Option<String>,
    user: Option<u32>,
    directory: Option<PathBuf>,
    started: Option<SystemTime>,
}

impl Seen {
    pub(super) fn of(process: &ProcessId) -> Self {
        let found = Process::new(process.pid).ok();
        Seen {
            words: found.as_ref().and_then(|found| found.cmdline().ok()).unwrap_or_default(),
            name: found.as_ref().and_then(|found| found.stat().ok()).map(|stat| stat.comm),
            user: found.as_ref().and_then(|found| found.status().ok()).map(|status| status.euid),
            directory: process.directory(),
            started: process.started_at(),
        }
    }

    /// Says what shows that this is not the server that wrote its number into the file; `None` when it is.
    pub(super) fn stranger(
        &self,
        daemon: &dyn Identity,
        owner: u32,
        written: Option<SystemTime>,
    ) -> Option<String> {
        let server = daemon.name();
        let program = daemon.start().0.first().map(Path::new).and_then(Path::file_name);
        let program = program.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !is_server(&self.words, daemon, &program) {
            let name = self.name.as_deref().unwrap_or("another user's");
            return Some(format!("which is now `{name}`"));
        }
        // Root may write the file for others.
        if let Some(user) = self.user.filter(|user| owner != 0 && *user != owner) {
            let (user, owner) = (shown_user(user), shown_user(owner));
            return Some(format!("a {server} of {user}, and the file belongs to {owner}"));
        }
        let own = self.pidfile(daemon.pidfile_options());
        if let Some(own) = own.as_ref().filter(|own| real(own) != real(daemon.pidfile())) {
            return Some(format!("a {server} whose pidfile is `{}`", own.display()));
        }
        let is_later = self.started.zip(written).is_some_and(|(started, written)| started > written + SLACK);
        // A clock that was set meanwhile makes a process seem later, too.
        (is_later && own.is_none() && !self.is_started_by(daemon))
            .then(|| format!("a {server} that started after the file was written"))
    }

    /// Returns the pidfile that its command line names; `None` when that is relative to an unknown directory.
    fn pidfile(&self, options: &[&str]) -> Option<PathBuf> {
        let name = option(&self.words, options)?;
        if name.starts_with('/') { Some(name.into()) } else { Some(self.directory.as_ref()?.join(name)) }
    }

    /// Tells whether it has the arguments of the start command, in the same directory.
    fn is_started_by(&self, daemon: &dyn Identity) -> bool {
        let (start, directory) = daemon.start();
        let (ours, wanted) = (arguments(&self.words, daemon.name()), arguments(start, daemon.name()));
        let same_place = match (directory, &self.directory) {
            (Some(wanted), Some(found)) => real(wanted) == real(found),
            _ => true,
        };
        ours.is_some() && ours == wanted && same_place
    }
}

/// Returns where a path leads to; the file need not exist.
pub(super) fn real(path: &Path) -> PathBuf {
    let directory = path.parent().and_then(|directory| directory.canonicalize().ok());
    path.canonicalize()
        .ok()
        .or_else(|| Some(directory?.join(path.file_name()?)))
        .unwrap_or_else(|| path.to_owned())
}

/// Returns the arguments of a server's command line.
fn arguments<'w>(words: &'w [String], server: &str) -> Option<&'w [String]> {
    let is_server = |word: &String| Path::new(word).file_name().is_some_and(|name| name == server);
    words.get(words.iter().position(is_server)? + 1..)
}

/// Tells whether a command line is the server's, as a script, a module or by its changed title, or that of its own start
/// program.
fn is_server(words: &[String], daemon: &dyn Identity, program: &str) -> bool {
    let named = |word: &String| {
        let name = Path::new(word).file_name().unwrap_or_default().to_string_lossy();
        name == daemon.name() || daemon.is_title(word) || (!program.is_empty() && name == program)
    };
    let module = words.iter().skip_while(|word| *word != "-m").nth(1);
    let script = words.iter().skip(1).find(|word| !word.starts_with('-'));
    [words.first(), module, script].into_iter().flatten().any(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::Gunicorn;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn gunicorn_is_known_by_its_command_line() {
        for line in
            ["/venv/bin/python /venv/bin/gunicorn -D", "python3 -u -m gunicorn app", "gunicorn: master [app]"]
        {
            assert!(is_server(&words(line), &Gunicorn::default(), "start.sh"), "{line}");
        }
        assert!(is_server(&words("/bin/sh /srv/start.sh"), &Gunicorn::default(), "start.sh"));
        assert!(!is_server(&words("vi notes about a gunicorn"), &Gunicorn::default(), "start.sh"));
        assert!(!is_server(&words("tail -f /var/log/gunicorn.log"), &Gunicorn::default(), "start.sh"));
        assert!(!is_server(&words("sleep 300"), &Gunicorn::default(), ""));
        assert!(!is_server(&[], &Gunicorn::default(), ""));
    }

    /// A user without a name.
    const NOBODYS: u32 = 3_999_999_991;

    /// What is said of a process with this command line, which runs in `/srv/site` and started at the time of the file,
    /// changed by `change`.
    fn said(line: &str, change: impl FnOnce(&mut Seen)) -> Option<String> {
        let directory = tempfile::tempdir().unwrap();
        let pidfile = directory.path().join("g.pid");
        std::fs::write(&pidfile, "12\n").unwrap();
        let written = pidfile.metadata().unwrap().modified().ok();
        let line = line.replace("HERE", &directory.path().to_string_lossy());
        let mut seen = Seen {
            words: words(&line),
            name: Some("gunicorn".to_owned()),
            user: Some(NOBODYS),
            directory: Some("/srv/site".into()),
            started: written,
        };
        change(&mut seen);
        let start = words("/venv/bin/gunicorn -D -c g.py app");
        seen.stranger(&Gunicorn { pidfile, start, directory: Some("/srv/site".into()) }, NOBODYS, written)
    }

    fn is_late(seen: &mut Seen) {
        seen.started = seen.started.map(|started| started + Duration::from_secs(3600));
    }

    #[test]
    fn a_process_that_got_the_number_later_is_a_stranger() {
        let ours = "python /venv/bin/gunicorn -D -c g.py app";
        assert_eq!(said(ours, |_| ()), None);
        assert_eq!(said(ours, is_late), None, "the clock was set meanwhile");
        assert_eq!(said("gunicorn: master [app]", |_| ()), None);
        assert_eq!(said("python /venv/bin/gunicorn -D --workers 3 app", |_| ()), None, "started by hand");
        let late = Some("a gunicorn that started after the file was written".to_owned());
        assert_eq!(said("python /venv/bin/gunicorn -D --workers 3 other", is_late), late);
        assert_eq!(said("gunicorn: master [other]", is_late), late);
        let elsewhere = |seen: &mut Seen| {
            is_late(seen);
            seen.directory = Some("/srv/other".into());
        };
        assert_eq!(said(ours, elsewhere), late);
    }

    #[test]
    fn a_gunicorn_with_another_pidfile_or_user_is_a_stranger() {
        assert_eq!(said("python /venv/bin/gunicorn --pid HERE/g.pid app", is_late), None);
        assert_eq!(
            said("python /venv/bin/gunicorn -p /run/other.pid app", |_| ()).as_deref(),
            Some("a gunicorn whose pidfile is `/run/other.pid`")
        );
        assert_eq!(
            said("python /venv/bin/gunicorn --pid=run/g.pid app", |_| ()).as_deref(),
            Some("a gunicorn whose pidfile is `/srv/site/run/g.pid`")
        );
        assert_eq!(
            said("gunicorn: master [app]", |seen| seen.user = Some(0)).as_deref(),
            Some("a gunicorn of `root`, and the file belongs to user 3999999991")
        );
        assert_eq!(
            said("sleep 300", |seen| seen.name = Some("sleep".to_owned())).as_deref(),
            Some("which is now `sleep`")
        );
    }
}
