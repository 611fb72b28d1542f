//! Commands of git that run hooks of the repository: what git has done counts, not what a hook says about it.
//!
//! git exits with the code of a failed `post-checkout`, although the checkout is complete by then, and waits for one that
//! hangs. So the checkout is looked at, and a hook that goes on has a limit of its own.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::command::Command;
use crate::host::{CommandError, Host};

/// How long a hook may take once git has done its own work.
pub(super) const LIMIT: Duration = Duration::from_secs(5 * 60);

/// Polling interval while git works.
const POLL: Duration = Duration::from_millis(50);

/// Runs a command of git, and ends it when it goes on for longer than `limit` after `is_done` holds: then only a hook is
/// left of it.
///
/// # Errors
///
/// When the command fails; the caller checks whether git did its part.
pub(super) fn run(
    host: &Host,
    command: &Command,
    limit: Duration,
    is_done: impl Fn() -> bool,
) -> Result<(), CommandError> {
    // Without a descriptor for it, the command's own deadline has to do.
    let Ok((part, stop)) = host.with_part() else { return host.run_unread(command) };
    thread::scope(|scope| {
        let (sender, ended) = channel();
        let work = scope.spawn(move || {
            let result = part.run_unread(command);
            // Whoever waits for it is there.
            let _ = sender.send(());
            result
        });
        let mut done = None;
        while ended.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) {
            if done.is_none() && is_done() {
                done = Some(Instant::now());
            }
            if done.is_some_and(|since| since.elapsed() > limit) {
                stop.request();
                break;
            }
        }
        work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Says that a hook failed after git had done its part: `what` is complete.
pub(super) fn tell(host: &Host, what: &str, error: &CommandError) {
    let why = match error {
        CommandError::Cancelled { .. } => "did not finish and was ended".to_owned(),
        // The code is git's own.
        CommandError::Failed { .. } => "failed".to_owned(),
        other => format!("failed: {other}"),
    };
    let said = error.tail().last().map(|line| format!(": {line}")).unwrap_or_default();
    host.notice(&format!("a Git hook {why}, but {what} is complete{said}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_that_hangs_is_ended_once_git_has_done_its_part() {
        let directory = tempfile::tempdir().unwrap();
        let done = directory.path().join("done");
        let script = format!("touch {}; sleep 3600 & wait", done.display());
        let command = Command::new("sh").args(["-c", &script]).deadline(Duration::from_secs(600));
        let host = Host::new().with_notices();
        let error = run(&host, &command, Duration::ZERO, || done.exists()).unwrap_err();
        assert!(matches!(error, CommandError::Cancelled { .. }), "{error}");
        assert!(!host.is_cancelled(), "the run itself goes on");
        tell(&host, "the checkout", &error);
        assert_eq!(
            host.take_notices(),
            ["a Git hook did not finish and was ended, but the checkout is complete"]
        );
    }

    #[test]
    fn what_git_says_comes_back() {
        let ended = |code: &str| {
            let command = Command::new("sh").args(["-c", &format!("echo no >&2; exit {code}")]);
            run(&Host::new(), &command, LIMIT, || false)
        };
        ended("0").unwrap();
        let error = ended("3").unwrap_err();
        assert_eq!((error.code(), error.tail()), (Some(3), &["no".to_owned()][..]));
    }
}
