//! Answers commands from a script instead of running programs.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{CommandError, Host, Output, Stream, TAIL_LINES};
use crate::command::{Command, quote};

/// The commands that a test expects, and the answers of a [scripted host](Host::scripted).
///
/// A command is matched by its words: the program, then each argument. A program without a directory matches in any
/// directory: `systemctl` also matches `/usr/bin/systemctl`. `*` matches any one argument, and `..` at the end matches any
/// number of further arguments.
///
/// [`once`](Script::once) expects a command as the next one of its order. [`always`](Script::always) expects a command any
/// number of times, from when the `once` before it was answered; a later `always` takes the place of an earlier one.
///
/// Clones share the expectations and the list of commands.
///
/// # Examples
///
/// ```
/// use deploykit::testing::{Answer, Script};
/// use deploykit::{Command, Host};
///
/// let script = Script::new()
///     .once(["redis-cli", "ping"], Answer::exit(1).stderr("connection refused\n"))
///     .always(["redis-cli", ".."], Answer::stdout("PONG\n"));
/// let host = Host::scripted(&script);
/// let ping = Command::new("redis-cli").arg("ping");
/// assert_eq!(host.run(&ping).unwrap_err().tail(), ["connection refused"]);
/// assert_eq!(host.run(&ping)?.stdout, "PONG\n");
/// assert_eq!(host.run(&Command::new("reboot")).unwrap_err().to_string(), "unexpected command: `reboot`");
/// assert_eq!(script.commands().len(), 3);
/// assert_eq!(script.unused(), [""; 0]);
/// # Ok::<(), deploykit::CommandError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Script(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    expected: Vec<Expected>,
    commands: Vec<Command>,
}

#[derive(Debug)]
struct Expected {
    words: Vec<String>,
    answer: Answer,
    /// It answers one command only.
    once: bool,
    used: bool,
}

/// The answer to one command of a [`Script`]; default: exit code 0 and no output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    ending: Ending,
    stdout: String,
    stderr: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Exit(i32),
    Signal(i32),
    NotFound,
    DeadlinePassed,
}

impl Default for Ending {
    fn default() -> Self {
        Ending::Exit(0)
    }
}

impl Answer {
    /// Exits with this code.
    #[must_use]
    pub fn exit(code: i32) -> Self {
        Answer { ending: Ending::Exit(code), ..Answer::default() }
    }

    /// Exits with 0 after this output.
    #[must_use]
    pub fn stdout(text: impl Into<String>) -> Self {
        Answer { stdout: text.into(), ..Answer::default() }
    }

    /// Ends by this signal.
    #[must_use]
    pub fn signal(signal: i32) -> Self {
        Answer { ending: Ending::Signal(signal), ..Answer::default() }
    }

    /// There is no such program.
    #[must_use]
    pub fn not_found() -> Self {
        Answer { ending: Ending::NotFound, ..Answer::default() }
    }

    /// The program does not end before the command's deadline.
    #[must_use]
    pub fn deadline_passed() -> Self {
        Answer { ending: Ending::DeadlinePassed, ..Answer::default() }
    }

    /// Writes this to the standard output, too.
    #[must_use]
    pub fn and_stdout(mut self, text: impl Into<String>) -> Self {
        self.stdout = text.into();
        self
    }

    /// Writes this to the standard error, too.
    #[must_use]
    pub fn stderr(mut self, text: impl Into<String>) -> Self {
        self.stderr = text.into();
        self
    }
}

impl Script {
    /// Makes a script that expects no command.
    #[must_use]
    pub fn new() -> Self {
        Script::default()
    }

    /// Expects a command once, after all that are expected once before it.
    #[must_use]
    pub fn once<W: Into<String>>(self, words: impl IntoIterator<Item = W>, answer: Answer) -> Self {
        self.expect(words, answer, true)
    }

    /// Expects a command any number of times, from when all that are expected once before it were answered.
    #[must_use]
    pub fn always<W: Into<String>>(self, words: impl IntoIterator<Item = W>, answer: Answer) -> Self {
        self.expect(words, answer, false)
    }

    fn expect<W: Into<String>>(self, words: impl IntoIterator<Item = W>, answer: Answer, once: bool) -> Self {
        let words = words.into_iter().map(Into::into).collect();
        self.state().expected.push(Expected { words, answer, once, used: false });
        self
    }

    /// Returns every command that the host was asked to run, in order, the unexpected ones as well.
    #[must_use]
    pub fn commands(&self) -> Vec<Command> {
        self.state().commands.clone()
    }

    /// Returns the command lines that were expected and that nothing ran.
    #[must_use]
    pub fn unused(&self) -> Vec<String> {
        self.state().expected.iter().filter(|expected| !expected.used).map(ToString::to_string).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the answer to a command, unless the command is unexpected.
    fn answer(&self, command: &Command) -> Option<Answer> {
        let mut state = self.state();
        state.commands.push(command.clone());
        let expected = &mut state.expected;
        let next = expected.iter().position(|expected| expected.once && !expected.used);
        let answering = next.filter(|next| expected[*next].matches(command)).or_else(|| {
            let reached = &expected[..next.unwrap_or(expected.len())];
            reached.iter().rposition(|expected| !expected.once && expected.matches(command))
        })?;
        expected[answering].used = true;
        Some(expected[answering].answer.clone())
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.words.iter().map(|word| quote(word)).collect();
        f.write_str(&words.join(" "))
    }
}

impl Expected {
    fn matches(&self, command: &Command) -> bool {
        let Some((program, words)) = self.words.split_first() else { return false };
        let name = command.program().rsplit('/').next();
        if command.program() != program && name != Some(program) {
            return false;
        }
        let (words, open) = match words.split_last() {
            Some((last, first)) if last == ".." => (first, true),
            _ => (words, false),
        };
        let arguments = command.arguments();
        (arguments.len() == words.len() || open && arguments.len() > words.len())
            && words.iter().zip(arguments).all(|(word, argument)| word == "*" || word == argument)
    }
}

/// Answers a command as [`Process`](super::process::Process) does.
pub(super) fn run(
    host: &Host,
    script: &Script,
    command: &Command,
    keep_output: bool,
    on_line: &mut dyn FnMut(Stream, &str),
) -> Result<Output, CommandError> {
    let line = host.redactor().redact(&command.to_string()).into_owned();
    host.note(&format!("$ {line}"));
    let Some(Answer { ending, stdout, stderr }) = script.answer(command) else {
        return Err(CommandError::Unexpected { command: line });
    };
    if host.is_cancelled() {
        return Err(CommandError::Cancelled { command: line });
    }
    let mut tail = VecDeque::new();
    for (stream, text) in [(Stream::Stdout, &stdout), (Stream::Stderr, &stderr)] {
        for line in text.lines() {
            let line = host.redactor().redact(line).into_owned();
            host.note(&line);
            on_line(stream, &line);
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(line);
        }
    }
    let (command_line, tail, duration) = (line, Vec::from(tail), Duration::ZERO);
    match ending {
        Ending::Exit(code) if command.accepts(code) => {
            let (stdout, stderr) = if keep_output { (stdout, stderr) } else { Default::default() };
            Ok(Output { code, stdout, stderr, tail, ..Output::default() })
        }
        Ending::Exit(code) => Err(CommandError::Failed { command: command_line, code, duration, tail }),
        Ending::Signal(signal) => Err(CommandError::Killed { command: command_line, signal, duration, tail }),
        Ending::NotFound => Err(CommandError::NotFound { program: command.program().to_owned() }),
        Ending::DeadlinePassed => {
            let deadline = command.time_limit().unwrap_or_default();
            Err(CommandError::DeadlinePassed { command: command_line, deadline, tail })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cancel, Redactor};

    fn error(host: &Host, command: &Command) -> String {
        host.run(command).unwrap_err().to_string()
    }

    #[test]
    fn words_match_a_command() {
        let matches = |words: &[&str], command: Command| {
            let script = Script::new().once(words.iter().copied(), Answer::default());
            Host::scripted(&script).run(&command).is_ok()
        };
        let stop = || Command::new("/usr/bin/systemctl").args(["stop", "web"]);
        assert!(matches(&["systemctl", "stop", "web"], stop()));
        assert!(matches(&["/usr/bin/systemctl", "stop", "*"], stop()));
        assert!(matches(&["systemctl", ".."], stop()));
        assert!(matches(&["systemctl", "stop", "web", ".."], stop()));
        assert!(!matches(&["/bin/systemctl", "stop", "web"], stop()));
        assert!(!matches(&["systemctl", "stop"], stop()));
        assert!(!matches(&["systemctl", "stop", "web", "*"], stop()));
        assert!(!matches(&["systemctl", "start", ".."], stop()));
        assert!(!matches(&[], stop()));
    }

    #[test]
    fn the_answers_to_one_command_come_in_order() {
        let script = Script::new()
            .once(["status"], Answer::exit(3))
            .once(["status"], Answer::stdout("up\n"))
            .once(["stop"], Answer::default())
            .once(["start", "the web"], Answer::default());
        let host = Host::scripted(&script);
        let (status, stop) = (Command::new("status").accept([3]), Command::new("stop"));
        assert_eq!(host.run(&status).unwrap().code, 3);
        assert_eq!(error(&host, &stop), "unexpected command: `stop`");
        assert_eq!(host.clone().run(&status).unwrap().stdout, "up\n");
        assert_eq!(error(&host, &status), "unexpected command: `status`");
        assert!(host.run(&stop).is_ok());
        assert_eq!(script.unused(), ["start 'the web'"]);
        assert_eq!(script.commands(), [status.clone(), stop.clone(), status.clone(), status, stop]);
    }

    #[test]
    fn a_state_changes_with_what_was_run() {
        let script = Script::new()
            .always(["status"], Answer::stdout("up"))
            .once(["stop"], Answer::default())
            .always(["status"], Answer::stdout("down"))
            .always(["never"], Answer::default());
        let host = Host::scripted(&script);
        let status = || host.run(&Command::new("status")).unwrap().stdout;
        assert_eq!(error(&host, &Command::new("never")), "unexpected command: `never`");
        assert_eq!((status(), status()), ("up".to_owned(), "up".to_owned()));
        host.run(&Command::new("stop")).unwrap();
        assert_eq!((status(), status()), ("down".to_owned(), "down".to_owned()));
        assert_eq!(script.unused(), ["never"]);
    }

    #[test]
    fn a_failure_is_that_of_a_real_program() {
        let script = Script::new()
            .once(["a"], Answer::exit(2).and_stdout("out\n").stderr("the key is hunter22\n"))
            .once(["b"], Answer::signal(9))
            .once(["c"], Answer::not_found())
            .once(["d"], Answer::deadline_passed())
            .once(["e"], Answer::stdout("x\n".repeat(50)));
        let host = Host::scripted(&script).with_redactor(Redactor::new(["hunter22".to_owned()]));
        let failed = host.run(&Command::new("a")).unwrap_err();
        assert_eq!(
            (failed.code(), failed.tail()),
            (Some(2), &["out".to_owned(), "the key is ***".to_owned()][..])
        );
        assert_eq!(error(&host, &Command::new("b")), "`b` was ended by signal 9 after 0.0 s");
        assert_eq!(error(&host, &Command::new("c")), "command not found: `c`");
        let slow = Command::new("d").deadline(Duration::from_secs(9));
        assert_eq!(error(&host, &slow), "`d` did not finish within 9 s");
        let mut lines = 0;
        let output = host.run_with_lines(&Command::new("e"), &mut |_, _| lines += 1).unwrap();
        assert_eq!((lines, output.stdout.as_str(), output.tail.len()), (50, "", TAIL_LINES));
    }

    #[test]
    fn a_cancelled_host_answers_nothing() {
        let script = Script::new().always(["true"], Answer::default());
        let cancel = Cancel::new().unwrap();
        let host = Host::scripted(&script).with_cancel(cancel.clone());
        cancel.request();
        assert_eq!(error(&host, &Command::new("true")), "`true` was interrupted");
        assert!(host.uninterrupted().run(&Command::new("true")).is_ok());
    }

    #[test]
    fn what_is_talked_to_is_no_part_of_a_script() {
        let host = Host::scripted(&Script::new().always(["cat"], Answer::default()));
        let cat = Command::new("cat");
        let dialogue = super::super::process::Process::start_dialogue(&host, &cat).unwrap_err();
        assert_eq!(dialogue.to_string(), "unexpected command: `cat`");
        assert_eq!(host.hand_over(&cat).unwrap(), 0);
    }
}
