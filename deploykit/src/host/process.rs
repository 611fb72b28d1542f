//! One running program: a process group of its own, read without threads, ended as a whole.

mod start;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::cancel::timespec;
use super::capture::Capture;
use super::{CommandError, Host, Output, TAIL_LINES, with_umask};
use crate::command::Command;

pub(crate) use start::start_beside;
pub(super) use start::{NICE, hand_over, lower_priority};
use start::{builder, input_file, start_error};

/// How long a process group has to end after SIGTERM before it gets SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
}

/// What a dialogue came to while it was waited for.
#[derive(Debug)]
pub(crate) enum News {
    /// A line on the standard output.
    Line(String),
    /// The program ended without one.
    Ended,
    /// The end of the run was requested.
    Cancelled,
    /// The time is over.
    Late,
}

/// A running program whose output arrives line by line.
#[derive(Debug)]
pub(crate) struct Process {
    host: Host,
    /// The command line, for messages.
    line: String,
    child: Child,
    pidfd: OwnedFd,
    input: Option<ChildStdin>,
    stdout: Capture<ChildStdout>,
    stderr: Capture<ChildStderr>,
    tail: VecDeque<String>,
    /// Lines on their way into the transcript.
    noted: String,
    started: Instant,
    deadline: Option<Duration>,
    accepted: Command,
    ended: bool,
}

impl Process {
    /// Starts a command whose standard input is its text input, or closed.
    pub(crate) fn start(host: &Host, command: &Command) -> Result<Self, CommandError> {
        let input = match command.given_input() {
            // A file cannot block the writer, however much there is and however little the program reads.
            Some(input) => input_file(&input).map_err(|source| start_error(host, command, source))?,
            None => Stdio::null(),
        };
        Process::spawn(host, command, input)
    }

    /// Starts a command that is talked to line by line.
    pub(crate) fn start_dialogue(host: &Host, command: &Command) -> Result<Self, CommandError> {
        Process::spawn(host, command, Stdio::piped())
    }

    fn spawn(host: &Host, command: &Command, input: Stdio) -> Result<Self, CommandError> {
        let line = host.redactor().redact(&command.to_string()).into_owned();
        host.note(&format!("$ {line}"));
        log::debug!("run: {line}");
        if host.script.is_some() {
            return Err(CommandError::Unexpected { command: line });
        }
        let mut builder = builder(host, command, &line)?;
        builder.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let started = Instant::now();
        let spawned = with_umask(host.umask, || builder.spawn());
        let mut child = spawned.map_err(|source| start_error(host, command, source))?;
        let parts = (|| {
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default())
                .ok_or(io::Error::from(io::ErrorKind::NotFound))?;
            if host.low_priority {
                lower_priority(Some(pid));
            }
            Ok((
                pidfd_open(pid, PidfdFlags::empty())?,
                Capture::new(child.stdout.take())?,
                Capture::new(child.stderr.take())?,
            ))
        })();
        let (pidfd, stdout, stderr) = match parts {
            Ok(parts) => parts,
            Err(source) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(CommandError::Start { command: line, source });
            }
        };
        Ok(Process {
            host: host.clone(),
            line,
            input: child.stdin.take(),
            child,
            pidfd,
            stdout,
            stderr,
            tail: VecDeque::new(),
            noted: String::new(),
            started,
            deadline: command.time_limit(),
            accepted: command.clone(),
            ended: false,
        })
    }

    /// Returns the process id, which is also that of its group.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Keeps of the output only the last lines.
    pub(crate) fn forget_output(&mut self) {
        (self.stdout.kept, self.stderr.kept) = (false, false);
    }

    /// Goes on for another host: a dialogue that began where it could be cancelled may go on where it cannot.
    pub(crate) fn set_host(&mut self, host: &Host) {
        self.host = host.clone();
    }

    /// Sends one line to a dialogue.
    pub(crate) fn write_line(&mut self, line: &str) -> io::Result<()> {
        let Some(input) = &mut self.input else { return Err(io::ErrorKind::BrokenPipe.into()) };
        input.write_all(line.as_bytes())?;
        input.write_all(b"\n")?;
        input.flush()
    }

    /// Tells a dialogue that nothing more will come.
    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    /// Waits for the next line on the standard output; `None` when the program ended without one.
    ///
    /// `limit` counts from this call and has nothing to do with the command's own deadline.
    pub(crate) fn read_line(
        &mut self,
        limit: Option<Duration>,
        on_line: &mut dyn FnMut(Stream, &str),
    ) -> Result<Option<String>, CommandError> {
        let limit = limit.map(|limit| (Instant::now(), limit));
        match self.next(limit, on_line) {
            News::Line(line) => Ok(Some(line)),
            News::Ended => Ok(None),
            news => self.give_up(news, limit).map(|()| None),
        }
    }

    /// Waits for the next line on the standard output, and leaves a program alone that is cancelled or late. `limit` is a time
    /// and how long after it.
    pub(crate) fn next(
        &mut self,
        limit: Option<(Instant, Duration)>,
        on_line: &mut dyn FnMut(Stream, &str),
    ) -> News {
        loop {
            self.hand_over_stderr(on_line);
            let at_end = self.stdout.source.is_none() || self.ended;
            if let Some(line) = self.stdout.next_line(at_end) {
                return News::Line(line);
            }
            if at_end {
                return News::Ended;
            }
            if let Some(news) = self.wait(limit) {
                return news;
            }
        }
    }

    /// Hands over what is there of the standard error, its last line also without an end, and forgets the last lines that were
    /// kept; returns these.
    pub(crate) fn take_tail(&mut self) -> Vec<String> {
        self.stderr.fill();
        while let Some(line) = self.stderr.next_line(true) {
            self.keep(Stream::Stderr, &line, &mut |_, _| ());
        }
        self.hand_over_stderr(&mut |_, _| ());
        self.tail.drain(..).collect()
    }

    /// Reads to the end of the program.
    pub(crate) fn finish(mut self, on_line: &mut dyn FnMut(Stream, &str)) -> Result<Output, CommandError> {
        loop {
            self.hand_over(on_line);
            if self.ended {
                break;
            }
            let limit = self.deadline.map(|deadline| (self.started, deadline));
            self.wait_for_news(limit)?;
        }
        let status =
            self.child.wait().map_err(|source| CommandError::Start { command: self.line.clone(), source })?;
        self.output(status)
    }

    /// Ends the process group, first politely.
    pub(crate) fn end(&mut self) {
        if self.ended && matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        self.signal(Signal::TERM);
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let _ = poll(&mut fds, Some(&timespec(GRACE)));
        self.signal(Signal::KILL);
        let _ = self.child.wait();
        self.ended = true;
        // What it said last belongs into the message.
        self.stdout.fill();
        self.stderr.fill();
        self.hand_over(&mut |_, _| ());
    }

    fn signal(&self, signal: Signal) {
        signal_group(self.child.id(), signal);
    }

    /// Waits until there is output or an end; cancellation and deadline end the process group.
    fn wait_for_news(&mut self, limit: Option<(Instant, Duration)>) -> Result<(), CommandError> {
        match self.wait(limit) {
            None => Ok(()),
            Some(news) => self.give_up(news, limit),
        }
    }

    /// Ends the process group of a program that is cancelled or late.
    fn give_up(&mut self, news: News, limit: Option<(Instant, Duration)>) -> Result<(), CommandError> {
        self.end();
        let command = self.line.clone();
        match (news, limit) {
            (News::Late, Some((_, deadline))) => {
                let tail = self.tail.iter().cloned().collect();
                Err(CommandError::DeadlinePassed { command, deadline, tail })
            }
            _ => Err(CommandError::Cancelled { command }),
        }
    }

    /// Waits until there is output or an end, or says that it is cancelled or late.
    fn wait(&mut self, limit: Option<(Instant, Duration)>) -> Option<News> {
        if self.host.is_cancelled() {
            return Some(News::Cancelled);
        }
        let timeout = match limit {
            None => None,
            Some((since, deadline)) => {
                let left = deadline.saturating_sub(since.elapsed());
                if left.is_zero() {
                    return Some(News::Late);
                }
                Some(timespec(left))
            }
        };
        let ended = {
            let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
            if let Some(source) = &self.stdout.source {
                fds.push(PollFd::new(source, PollFlags::IN));
            }
            if let Some(source) = &self.stderr.source {
                fds.push(PollFd::new(source, PollFlags::IN));
            }
            let cancel = self.host.cancel().map(super::Cancel::fd);
            if let Some(cancel) = &cancel {
                fds.push(PollFd::new(cancel, PollFlags::IN));
            }
            // An interrupted poll looks again.
            let _ = poll(&mut fds, timeout.as_ref());
            !fds[0].revents().is_empty()
        };
        self.stdout.fill();
        self.stderr.fill();
        // A grandchild may keep the pipes open for ever: the end of the program itself is what counts.
        self.ended = ended;
        None
    }

    fn hand_over(&mut self, on_line: &mut dyn FnMut(Stream, &str)) {
        while let Some(line) = self.stdout.next_line(self.ended) {
            self.keep(Stream::Stdout, &line, on_line);
        }
        self.hand_over_stderr(on_line);
    }

    fn hand_over_stderr(&mut self, on_line: &mut dyn FnMut(Stream, &str)) {
        while let Some(line) = self.stderr.next_line(self.ended) {
            self.keep(Stream::Stderr, &line, on_line);
        }
        self.host.note_lines(&self.noted);
        self.noted.clear();
    }

    fn keep(&mut self, stream: Stream, line: &str, on_line: &mut dyn FnMut(Stream, &str)) {
        let line = self.host.redactor().redact(line).into_owned();
        self.noted.push_str(&line);
        self.noted.push('\n');
        on_line(stream, &line);
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    fn output(&mut self, status: ExitStatus) -> Result<Output, CommandError> {
        let duration = self.started.elapsed();
        let tail: Vec<String> = self.tail.iter().cloned().collect();
        let command = self.line.clone();
        match (status.code(), status.signal()) {
            (Some(code), _) if self.accepted.accepts(code) => Ok(Output {
                code,
                stdout_bytes: self.stdout.other_bytes(),
                stdout: self.stdout.take_text(),
                stderr: self.stderr.take_text(),
                tail,
                duration,
            }),
            (Some(code), _) => Err(CommandError::Failed { command, code, duration, tail }),
            (None, signal) => {
                Err(CommandError::Killed { command, signal: signal.unwrap_or_default(), duration, tail })
            }
        }
    }
}

/// The leader of a process group that a program of ours started.
#[derive(Debug)]
pub(crate) struct Grandchild {
    id: u32,
    pidfd: OwnedFd,
}

impl Grandchild {
    /// Takes a process that its own parent has not waited for.
    pub(crate) fn new(id: u32) -> io::Result<Self> {
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
        Ok(Grandchild { id, pidfd: pidfd_open(pid, PidfdFlags::empty())? })
    }

    /// Ends its process group, first politely.
    pub(crate) fn end(&self) {
        signal_group(self.id, Signal::TERM);
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let _ = poll(&mut fds, Some(&timespec(GRACE)));
        signal_group(self.id, Signal::KILL);
    }
}

fn signal_group(id: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        // It may be gone already.
        let _ = kill_process_group(pid, signal);
    }
}

/// A program that is no longer waited for is ended, never leaked.
impl Drop for Process {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.end();
        }
    }
}

#[cfg(test)]
mod tests;
