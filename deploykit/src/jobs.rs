//! Jobs that `deploykit exec` runs, such as those of cron: an update waits for running jobs, and new jobs wait for the update.
//!
//! A job has a file with a lock. The program of the job inherits the lock, so it lasts as long as any process of the job that
//! keeps its files open, whoever is killed. `sudo` closes the files of its caller: its process itself counts as well.

use std::collections::HashSet;
use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::io::{FdFlags, fcntl_setfd};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::git::counted;
use crate::host::files::{self, FileError, InPath};
use crate::host::{Host, ProcessId, processes, users};
use crate::keys::written;

/// Polling interval while jobs end.
const LOOK: Duration = Duration::from_millis(100);

/// A job that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its process.
    pub process: ProcessId,
    /// The user.
    pub user: String,
    /// Since when.
    pub since: Timestamp,
    /// Its command line, secrets removed.
    pub command: String,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Job { process, command, since, .. } = self;
        let ended = if process.is_alive() { "" } else { ", ended but left processes running" };
        write!(f, "`{command}` (process {}{ended}, since {since:.0})", process.pid)
    }
}

/// Why a step that waits for jobs failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JobsError {
    /// Jobs run for longer than an update waits.
    #[error("after {}, {} still {}: {}", written(*limit), counted(jobs.len(), "job"), if jobs.len() == 1 { "runs" } else { "run" }, listed(jobs))]
    StillRun {
        /// The jobs.
        jobs: Vec<Job>,
        /// How long it was waited for.
        limit: Duration,
    },
    /// What jobs run cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The run was cancelled meanwhile.
    #[error("waiting for jobs was interrupted")]
    Cancelled,
}

/// Lists jobs for a message.
pub(crate) fn listed(jobs: &[Job]) -> String {
    jobs.iter().map(Job::to_string).collect::<Vec<_>>().join(", ")
}

/// The directory with the files of the jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jobs {
    #[serde(with = "crate::names::one")]
    directory: PathBuf,
}

impl Jobs {
    /// Names the directory without making it.
    #[must_use]
    pub fn at(directory: PathBuf) -> Self {
        Jobs { directory }
    }

    /// Tells whether the site has ever had a job.
    #[must_use]
    pub fn are_used(&self) -> bool {
        self.directory.is_dir()
    }

    /// Registers this process as a job.
    ///
    /// # Errors
    ///
    /// When the file cannot be made, as in the directory of another user.
    pub fn register(&self, command: String) -> Result<Registered, FileError> {
        files::private_directory(&self.directory)?;
        // The program that takes the place of this one cannot remove its file: the next job does.
        let _ = self.running();
        let since = Timestamp::now();
        let pid = std::process::id().cast_signed();
        let process = ProcessId::of(pid).unwrap_or(ProcessId { pid, started: 0 });
        let path = self.directory.join(format!("{pid}-{}", since.as_nanosecond()));
        let mut file = locked(&path)?;
        let job = Job { process, user: users::own_name(), since, command };
        let text = serde_json::to_string(&job).unwrap_or_default();
        file.write_all(text.as_bytes()).at("write", &path)?;
        Ok(Registered { file, path })
    }

    /// Returns the jobs that run, oldest first, and removes the files of those that were killed.
    ///
    /// # Errors
    ///
    /// When the files cannot be read.
    pub fn running(&self) -> Result<Vec<Job>, FileError> {
        let mut jobs = Vec::new();
        if self.are_used() {
            for entry in std::fs::read_dir(&self.directory).at("list", &self.directory)? {
                jobs.extend(running(&entry.at("list", &self.directory)?.path())?);
            }
        }
        jobs.sort_by_key(|job| job.since);
        Ok(jobs)
    }

    /// Returns the jobs that this process has to wait for: it may run in a job itself.
    pub(crate) fn others(&self) -> Result<Vec<Job>, FileError> {
        let own = processes::own_line();
        let jobs = self.running()?;
        Ok(jobs.into_iter().filter(|job| !own.contains(&job.process.pid)).collect())
    }
}

/// Opens a file and locks it; one that somebody took for a leftover meanwhile is made again.
fn locked(path: &Path) -> Result<File, FileError> {
    use std::os::unix::fs::MetadataExt;
    loop {
        let file = files::open_private(path)?;
        file.lock().at("lock", path)?;
        if file.metadata().at("look at", path)?.ino() == files::inode(path).unwrap_or_default() {
            return Ok(file);
        }
    }
}

/// Returns the job of a file if it runs; removes the file otherwise.
fn running(path: &Path) -> Result<Option<Job>, FileError> {
    let file = match files::open_existing(path) {
        Err(error) if error.source.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let is_locked = match file.try_lock() {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(error)) => return Err(error).at("lock", path),
    };
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let job: Option<Job> = serde_json::from_str(&text).ok();
    // One that is being written is registered in a moment, and looks for itself afterwards.
    let is_alive = job.as_ref().is_some_and(|job| job.process.started > 0 && job.process.is_alive());
    if !is_locked && !is_alive {
        crate::error::warn(files::remove_file(path));
        return Ok(None);
    }
    Ok(job)
}

/// This process, registered as a job until it is dropped or all processes of the job have ended.
#[derive(Debug)]
pub struct Registered {
    file: File,
    path: PathBuf,
}

impl Registered {
    /// Lets the program that takes the place of this process inherit the registration.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn hand_on(&self) -> std::io::Result<()> {
        Ok(fcntl_setfd(&self.file, FdFlags::empty())?)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        crate::error::warn(files::remove_file(&self.path));
    }
}

/// Waits until no job runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WaitForJobs {
    /// Where they are registered.
    pub jobs: Jobs,
    /// For how long at most.
    #[serde(rename = "limit_ms", with = "crate::millis")]
    pub limit: Duration,
}

impl WaitForJobs {
    /// Waits, and says how long it waited.
    ///
    /// # Errors
    ///
    /// When jobs still run after the limit, when their files cannot be read, and when the end of the run is requested.
    pub fn perform(&self, host: &Host) -> Result<(), JobsError> {
        let since = Instant::now();
        let mut awaited = HashSet::new();
        loop {
            let jobs = self.jobs.others()?;
            if jobs.is_empty() {
                host.say_outcome(&match awaited.len() {
                    0 => "no job ran".to_owned(),
                    count => {
                        format!("waited {:.1} s for {}", since.elapsed().as_secs_f64(), counted(count, "job"))
                    }
                });
                return Ok(());
            }
            awaited.extend(jobs.iter().map(|job| (job.process.pid, job.since)));
            if since.elapsed() >= self.limit {
                return Err(JobsError::StillRun { jobs, limit: self.limit });
            }
            if !host.wait(LOOK) {
                return Err(JobsError::Cancelled);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_runs_until_its_lock_and_its_process_are_gone() {
        let directory = tempfile::tempdir().unwrap();
        let jobs = Jobs::at(directory.path().join("jobs"));
        let running = || jobs.running().unwrap();
        assert!(!jobs.are_used() && running().is_empty());
        let first = jobs.register("backup --all".to_owned()).unwrap();
        let second = jobs.register("clear".to_owned()).unwrap();
        let commands: Vec<String> = running().into_iter().map(|job| job.command).collect();
        assert_eq!(commands, ["backup --all", "clear"]);
        let wait = WaitForJobs { jobs: jobs.clone(), limit: Duration::ZERO };
        wait.perform(&Host::new()).expect("a job that updates the site does not wait for itself");
        drop(first);
        assert_eq!(running().len(), 1);
        // As `sudo` closes the files of its caller: the process lives.
        second.file.unlock().unwrap();
        assert_eq!(running()[0].command, "clear");
        drop(second);
        assert!(jobs.are_used() && running().is_empty());
    }

    #[test]
    fn jobs_of_other_processes_are_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let jobs = Jobs::at(directory.path().to_owned());
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let process = ProcessId::of(child.id().cast_signed()).unwrap();
        let job = Job {
            process,
            user: "site".to_owned(),
            since: Timestamp::now(),
            command: "backup --all".to_owned(),
        };
        for name in ["a", "b"] {
            std::fs::write(directory.path().join(name), serde_json::to_string(&job).unwrap()).unwrap();
        }
        let wait = WaitForJobs { jobs, limit: Duration::ZERO };
        let error = wait.perform(&Host::new()).unwrap_err().to_string();
        let start = format!("after 0s, 2 jobs still run: `backup --all` (process {}, since ", child.id());
        assert!(error.starts_with(&start), "{error}");
        let killing = std::thread::spawn(move || {
            std::thread::sleep(3 * LOOK);
            child.kill().unwrap();
            child.wait().unwrap();
        });
        let (host, wait) =
            (Host::new().with_notices(), WaitForJobs { limit: Duration::from_secs(600), ..wait });
        wait.perform(&host).unwrap();
        killing.join().unwrap();
        let outcome = host.take_outcome().unwrap();
        assert!(outcome.starts_with("waited ") && outcome.ends_with(" s for 1 job"), "{outcome}");
        wait.perform(&host).unwrap();
        assert_eq!(host.take_outcome().as_deref(), Some("no job ran"));
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_no_job() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("odd")).unwrap();
        let wait =
            WaitForJobs { jobs: Jobs::at(directory.path().to_owned()), limit: Duration::from_secs(600) };
        let error = wait.perform(&Host::new()).unwrap_err();
        assert!(matches!(error, JobsError::File(_)), "{error}");
    }

    #[test]
    fn what_a_kill_leaves_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let jobs = Jobs::at(directory.path().to_owned());
        let job = Job {
            process: ProcessId { pid: std::process::id().cast_signed(), started: 1 },
            user: "site".to_owned(),
            since: Timestamp::now(),
            command: "backup".to_owned(),
        };
        let path = directory.path().join("1-1");
        std::fs::write(&path, serde_json::to_string(&job).unwrap()).unwrap();
        let lock = File::open(&path).unwrap();
        lock.lock().unwrap();
        let running = || jobs.running().unwrap();
        assert_eq!(running(), std::slice::from_ref(&job), "a process of it still has the lock");
        assert!(job.to_string().contains(", ended but left processes running, "), "{job}");
        lock.unlock().unwrap();
        assert!(running().is_empty() && !path.exists());
    }
}
