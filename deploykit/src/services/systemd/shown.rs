//! What `systemctl show` says of a unit.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::services::limits::{Limits, systemd_seconds};
use crate::services::{Origin, ProcessId, Status};

/// What `systemctl show` said of one unit.
pub(super) struct Shown(BTreeMap<String, String>);

impl Shown {
    pub(super) fn of(text: &str) -> Self {
        let mut shown: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            // A list comes as several lines.
            let all = shown.entry(name.to_owned()).or_default();
            if !all.is_empty() {
                all.push('\n');
            }
            all.push_str(value);
        }
        Shown(shown)
    }

    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub(super) fn main(&self) -> Option<ProcessId> {
        self.get("MainPID").parse().ok().filter(|pid| *pid > 0).and_then(ProcessId::of)
    }

    /// Adds its commands, shown as `{ path=/bin/x ; argv[]=/bin/x y ; … }`, and its process. A masked unit has no commands.
    pub(super) fn add_to(&self, origin: &mut Origin) {
        // systemd writes `!` before a directory that may be missing.
        let directory = self.get("WorkingDirectory").trim_start_matches('!');
        let directory = Some(Path::new(directory)).filter(|path| path.is_absolute());
        let commands = [self.get("ExecStart"), self.get("ExecStop")];
        origin.add(commands.into_iter().flat_map(str::split_whitespace), directory);
        origin.add_processes(self.main());
    }

    /// Tells whether a command before its start names this file.
    pub(super) fn waits_for(&self, file: &str) -> bool {
        let words = self.get("ExecStartPre").split(|c: char| c.is_whitespace() || "'\"[];()".contains(c));
        words.into_iter().any(|word| word == file)
    }

    pub(super) fn status(&self, held: bool) -> Status {
        // A job that waits for its turn.
        let has_job = !matches!(self.get("Job"), "" | "0");
        match (self.get("ActiveState"), self.get("SubState")) {
            ("active" | "reloading" | "refreshing", _) => Status::Running,
            ("activating", sub) if sub.starts_with("auto-restart") => Status::Retrying,
            ("activating", "start-pre") if held => Status::Stopped,
            ("activating", _) => Status::Starting,
            ("deactivating", _) => Status::Stopping,
            ("inactive", _) if held => Status::Stopped,
            ("inactive" | "failed", _) if has_job => Status::Starting,
            ("inactive", _) => Status::Stopped,
            _ => Status::Failed,
        }
    }

    /// Tells whether its output goes to the journal.
    pub(super) fn uses_journal(&self) -> bool {
        let is_journal =
            |name: &str| matches!(self.get(name), "journal" | "journal+console" | "syslog" | "kmsg");
        is_journal("StandardOutput") || is_journal("StandardError")
    }

    /// Tells whether a job of a timer has not ended yet; `RemainAfterExit` keeps one active that has.
    pub(super) fn is_at_work(&self) -> bool {
        self.status(false) != Status::Stopped
            && self.status(false) != Status::Failed
            && self.get("SubState") != "exited"
    }

    pub(super) fn limits(&self) -> Limits {
        let force = systemd_seconds(self.get("TimeoutStopUSec")).map(Duration::from_secs);
        Limits {
            force: force.map(|force| (force, "TimeoutStopSec")),
            one_only: match self.get("KillMode") {
                "process" => Some("KillMode=process"),
                "none" => Some("KillMode=none"),
                _ => None,
            },
            // A command of its own ends it.
            signal: match self.get("ExecStop") {
                "" => self
                    .get("KillSignal")
                    .parse()
                    .ok()
                    .map(|signal| (signal, "KillSignal=SIGINT` in its unit's `[Service]")),
                _ => None,
            },
            ..Limits::default()
        }
    }

    pub(super) fn detail(&self, unit: &str) -> String {
        let mut detail = format!("{} ({})", self.get("ActiveState"), self.get("SubState"));
        match self.get("MainPID") {
            "" | "0" => {}
            pid => detail = format!("{detail}, process {pid}"),
        }
        match (self.get("LoadState"), self.get("LoadError")) {
            ("loaded" | "", _) => {}
            (state, "") => detail = format!("{detail}; `{unit}` is {state}"),
            (state, error) => detail = format!("{detail}; `{unit}` is {state}: {error}"),
        }
        match self.get("Result") {
            "" | "success" => {}
            // CLD_EXITED; the other ways to end are signals.
            "exit-code" if self.get("ExecMainCode") == "1" => {
                detail = format!("{detail}: exit code {}", self.get("ExecMainStatus"));
            }
            "signal" | "core-dump" => detail = format!("{detail}: signal {}", self.get("ExecMainStatus")),
            result => detail = format!("{detail}: {result}"),
        }
        if !matches!(self.get("NRestarts"), "" | "0") {
            detail = format!("{detail}, {} restarts", self.get("NRestarts"));
        }
        if self.get("NeedDaemonReload") == "yes" {
            detail.push_str("; its file was changed: `systemctl daemon-reload` is due");
        }
        detail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(state: &str, sub: &str, more: &str) -> Shown {
        Shown::of(&format!("LoadState=loaded\nActiveState={state}\nSubState={sub}\n{more}"))
    }

    #[test]
    fn states_are_systemd_s_own_and_jobs_count() {
        let status = |state, sub, more| shown(state, sub, more).status(false);
        assert_eq!(status("active", "running", "Job="), Status::Running);
        assert_eq!(status("active", "exited", ""), Status::Running);
        assert_eq!(status("reloading", "reload", ""), Status::Running);
        assert_eq!(status("activating", "start", "Job=7"), Status::Starting);
        assert_eq!(status("activating", "start-pre", ""), Status::Starting);
        assert_eq!(status("activating", "auto-restart", ""), Status::Retrying);
        assert_eq!(status("activating", "auto-restart-queued", ""), Status::Retrying);
        assert_eq!(status("deactivating", "stop-sigterm", "Job=8"), Status::Stopping);
        assert_eq!(status("inactive", "dead", "Job="), Status::Stopped);
        assert_eq!(status("inactive", "dead", "Job=9"), Status::Starting, "its start waits for its turn");
        assert_eq!(status("failed", "failed", ""), Status::Failed);
        assert_eq!(status("failed", "failed", "Job=9"), Status::Starting);
        assert_eq!(shown("activating", "start-pre", "Job=9").status(true), Status::Stopped);
        assert_eq!(shown("inactive", "dead", "Job=9").status(true), Status::Stopped);
        assert_eq!(shown("active", "running", "").status(true), Status::Running);
    }

    #[test]
    fn the_output_of_a_unit_goes_to_the_journal_or_to_files() {
        let journal = |more| shown("active", "running", more).uses_journal();
        assert!(journal("StandardOutput=journal\nStandardError=inherit"));
        assert!(journal("StandardOutput=append\nStandardError=journal"));
        assert!(!journal("StandardOutput=append\nStandardError=append"));
    }

    #[test]
    fn a_job_is_at_work_until_it_has_ended() {
        let at_work = |state, sub| shown(state, sub, "").is_at_work();
        assert!(at_work("activating", "start") && at_work("active", "running"));
        assert!(at_work("activating", "auto-restart") && at_work("deactivating", "stop-sigterm"));
        assert!(!at_work("active", "exited") && !at_work("inactive", "dead") && !at_work("failed", "failed"));
        assert!(shown("inactive", "dead", "Job=9").is_at_work(), "its start waits for its turn");
    }

    #[test]
    fn a_unit_says_how_it_ends() {
        let limits = |more| shown("active", "running", more).limits();
        let default = limits("TimeoutStopUSec=1min 30s\nKillMode=control-group\n");
        assert_eq!(default.force, Some((Duration::from_secs(90), "TimeoutStopSec")));
        assert_eq!(default.one_only, None);
        let other = limits("TimeoutStopUSec=infinity\nKillMode=process\n");
        assert_eq!((other.force, other.one_only), (None, Some("KillMode=process")));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let detail = |state, sub, more| shown(state, sub, more).detail("web.service");
        assert_eq!(detail("active", "running", "MainPID=12\nResult=success"), "active (running), process 12");
        assert_eq!(
            detail(
                "failed",
                "failed",
                "MainPID=0\nResult=exit-code\nExecMainCode=1\nExecMainStatus=3\nNRestarts=5"
            ),
            "failed (failed): exit code 3, 5 restarts"
        );
        assert_eq!(
            detail("failed", "failed", "Result=signal\nExecMainCode=2\nExecMainStatus=9"),
            "failed (failed): signal 9"
        );
        assert_eq!(
            detail("failed", "failed", "Result=timeout\nNeedDaemonReload=yes"),
            "failed (failed): timeout; its file was changed: `systemctl daemon-reload` is due"
        );
        let masked = Shown::of("LoadState=masked\nActiveState=inactive\nSubState=dead\n");
        assert_eq!(masked.detail("web.service"), "inactive (dead); `web.service` is masked");
    }

    #[test]
    fn a_start_that_waits_names_the_file() {
        let line = |argv: &str| {
            shown(
                "active",
                "running",
                &format!("ExecStartPre={{ path=/bin/sh ; argv[]={argv} ; ignore_errors=no }}"),
            )
        };
        let file = "/srv/site/.deploykit/hold/web";
        assert!(
            line("/bin/sh -c while [ -e /srv/site/.deploykit/hold/web ]; do sleep 0.05; done")
                .waits_for(file)
        );
        assert!(
            line("/bin/sh -c 'while test -e /srv/site/.deploykit/hold/web; do sleep 1; done'")
                .waits_for(file)
        );
        assert!(
            !line("/bin/sh -c while [ -e /srv/site/.deploykit/hold/web-2 ]; do sleep 1; done")
                .waits_for(file)
        );
        assert!(!shown("active", "running", "").waits_for(file));
    }

    #[test]
    fn the_settings_of_a_stopped_unit_name_its_files() {
        let start =
            "{ path=/srv/venv/bin/gunicorn ; argv[]=/srv/venv/bin/gunicorn -c conf/g.py app ; pid=0 }";
        let more = format!("MainPID=0\nExecStart={start}\nWorkingDirectory=!/srv/site");
        let mut origin = Origin::default();
        shown("inactive", "dead", &more).add_to(&mut origin);
        let paths: Vec<&Path> = origin.paths().collect();
        assert!(paths.contains(&Path::new("/srv/venv/bin/gunicorn")), "{paths:?}");
        assert!(paths.contains(&Path::new("/srv/site/conf/g.py")), "{paths:?}");
        assert_eq!(origin.directories().collect::<Vec<_>>(), [Path::new("/srv/site")]);
        let mut masked = Origin::default();
        Shown::of("LoadState=masked\nActiveState=inactive\nMainPID=0\nTriggers=").add_to(&mut masked);
        assert_eq!(masked, Origin::default());
    }
}
