//! Processes, told apart from later ones that got the same number.
//!
//! Source: `proc_pid_stat(5)`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use procfs::process::{Process, Stat, all_processes};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, test_kill_process};
use serde::{Deserialize, Serialize};

/// One process. Its number is used again some time after its end; with its start time it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since the boot; 0 when `/proc` does not show it to this user.
    pub started: u64,
}

impl ProcessId {
    /// Looks at the process that has this number now.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        match stat(pid) {
            Some(stat) => is_living(&stat).then_some(ProcessId { pid, started: stat.starttime }),
            None => exists(pid).then_some(ProcessId { pid, started: 0 }),
        }
    }

    /// Returns this process.
    #[must_use]
    pub fn own() -> Self {
        let pid = i32::try_from(std::process::id()).unwrap_or_default();
        ProcessId::of(pid).unwrap_or(ProcessId { pid, started: 0 })
    }

    /// Tells whether it has not ended; a zombie has.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        match stat(self.pid) {
            Some(stat) => is_living(&stat) && (self.started == 0 || stat.starttime == self.started),
            None => self.started == 0 && exists(self.pid),
        }
    }

    /// Returns the user it runs as; `None` when it has ended.
    #[must_use]
    pub fn user(&self) -> Option<u32> {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(format!("/proc/{}", self.pid)).ok().map(|found| found.uid())
    }

    /// Returns its command line, word by word; empty when it has ended.
    pub(crate) fn words(&self) -> Vec<String> {
        let words = Process::new(self.pid).and_then(|process| process.cmdline());
        if self.is_alive() { words.unwrap_or_default() } else { Vec::new() }
    }

    /// Returns the directory that it runs in; `None` when that cannot be seen.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        Process::new(self.pid).and_then(|process| process.cwd()).ok()
    }

    /// Returns for how long it has run; `None` when that cannot be known.
    pub(crate) fn age(&self) -> Option<Duration> {
        let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
        let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
        // Both are far below 2^52.
        #[allow(clippy::cast_precision_loss)]
        let started = self.started as f64 / procfs::ticks_per_second() as f64;
        (self.started > 0).then(|| Duration::try_from_secs_f64(uptime - started).unwrap_or_default())
    }

    /// Returns when it started by today's clock; `None` when that cannot be known.
    pub(crate) fn started_at(&self) -> Option<SystemTime> {
        SystemTime::now().checked_sub(self.age()?)
    }

    /// Sends a signal to this very process; one that has ended needs none.
    ///
    /// # Errors
    ///
    /// What the system says, such as that it belongs to another user.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.pid > 1) else { return Ok(()) };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(()),
            other => other?,
        };
        // The handle cannot come to mean another process any more: compare what it means.
        if !self.is_alive() {
            return Ok(());
        }
        match pidfd_send_signal(&handle, signal) {
            Err(Errno::SRCH) => Ok(()),
            other => other,
        }
    }

    /// Returns its number and its command's name, for a message.
    pub(crate) fn describe(&self) -> String {
        match stat(self.pid) {
            Some(stat) => format!("{} (`{}`)", self.pid, stat.comm),
            None => self.pid.to_string(),
        }
    }
}

/// Adds the living descendants of the given processes, and the members of the process groups that they lead: a child
/// whose parent was killed is no descendant of it any more, but stays in its group.
pub(crate) fn with_descendants(roots: &[ProcessId]) -> Vec<ProcessId> {
    let mut found: BTreeSet<ProcessId> = roots.iter().copied().collect();
    if roots.is_empty() {
        return Vec::new();
    }
    let Ok(all) = all_processes() else { return found.into_iter().collect() };
    let mut children: BTreeMap<i32, Vec<ProcessId>> = BTreeMap::new();
    let mut groups: BTreeMap<i32, Vec<ProcessId>> = BTreeMap::new();
    for stat in all.filter_map(|process| process.ok()?.stat().ok()).filter(is_living) {
        let process = ProcessId { pid: stat.pid, started: stat.starttime };
        children.entry(stat.ppid).or_default().push(process);
        groups.entry(stat.pgrp).or_default().push(process);
    }
    // The caller may itself be a job of a service, and would wait for its own end.
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let mut next: Vec<ProcessId> = roots.to_vec();
    while let Some(process) = next.pop() {
        // A number that was given away again has another process's children.
        let family = if process.is_alive() { children.get(&process.pid) } else { None };
        for list in [family, groups.get(&process.pid)].into_iter().flatten() {
            // A group outlives its leader, and its number is not given away while it has members: they all started later.
            for child in list.iter().filter(|child| child.started >= process.started) {
                if child.pid != own && found.insert(*child) {
                    next.push(*child);
                }
            }
        }
    }
    found.into_iter().collect()
}

/// Returns the numbers of this process and of its ancestors.
pub(crate) fn own_line() -> BTreeSet<i32> {
    let mut line = BTreeSet::new();
    let mut next = i32::try_from(std::process::id()).ok();
    while let Some(pid) = next.filter(|pid| *pid > 0)
        && line.insert(pid)
    {
        next = stat(pid).map(|stat| stat.ppid);
    }
    line
}

/// Returns what tells this boot of the machine from others: process numbers and start times begin anew with each.
pub(crate) fn boot() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

fn stat(pid: i32) -> Option<Stat> {
    Process::new(pid).ok()?.stat().ok()
}

fn is_living(stat: &Stat) -> bool {
    !matches!(stat.state, 'Z' | 'X' | 'x')
}

/// Tells whether a process has this number, although `/proc` may hide it.
fn exists(pid: i32) -> bool {
    // `/proc` shows zombies, so what it does not show and what still takes signals is another user's.
    let pid = if pid > 0 { Pid::from_raw(pid) } else { None };
    pid.is_some_and(|pid| matches!(test_kill_process(pid), Err(error) if error == rustix::io::Errno::PERM))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn this_process_lives_and_a_later_one_with_its_number_is_another() {
        let me = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(me.is_alive());
        assert!(!ProcessId { started: me.started + 1, ..me }.is_alive());
        assert!(me.age().unwrap() < Duration::from_secs(36_000));
        assert_eq!(ProcessId::of(0), None);
        assert_eq!(ProcessId::of(-1), None);
    }

    #[test]
    fn grandchildren_are_found_and_zombies_are_gone() {
        let mut child = Command::new("sh")
            .args(["-c", "sh -c 'sleep 300 & echo $!; wait' & wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let sleeper = ProcessId::of(line.trim().parse().unwrap()).unwrap();
        let root = ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap();
        let family = with_descendants(&[root]);
        assert!(family.contains(&sleeper), "{family:?}");
        for process in &family {
            rustix::process::kill_process(Pid::from_raw(process.pid).unwrap(), rustix::process::Signal::KILL)
                .unwrap();
        }
        while root.is_alive() {
            std::thread::yield_now();
        }
        assert_eq!(ProcessId::of(root.pid), None, "a zombie has ended");
        child.wait().unwrap();
    }
}
