//! How long a manager lets a service take to end, and whether that leaves something behind.
//!
//! Source: `stopwaitsecs` and `killasgroup` of supervisor, `TimeoutStopSec` and `KillMode` of `systemd.service(5)` and
//! `systemd.kill(5)`, `graceful_timeout` of gunicorn.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use procfs::process::Process;
use regex_lite::Regex;

use super::ProcessId;
use super::uwsgi_options::{OnSignal, options_of};

/// gunicorn's own default for `graceful_timeout`.
const GRACEFUL: Duration = Duration::from_secs(30);

/// What is known of a service's stop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// After how long the manager ends the service by force, and what that setting is called.
    pub force: Option<(Duration, &'static str)>,
    /// The setting that keeps the manager from ending more than one process.
    pub one_only: Option<&'static str>,
    /// How long gunicorn lets its workers finish; `None`: it is no gunicorn, or nobody knows.
    pub graceful: Option<Duration>,
    /// The signal that ends the service, and the setting that would send SIGINT instead.
    pub signal: Option<(i32, &'static str)>,
    /// Why the signal does not end it, and what to change.
    pub reloads: Option<String>,
    /// Further effects of a stop, as fragments: `daphne interrupts running requests`.
    pub more: Vec<String>,
}

impl Limits {
    /// Says what makes it likely that a stop fails or leaves something behind.
    #[must_use]
    pub fn cautions(&self, stop_timeout: Duration) -> Vec<String> {
        let mut cautions = self.more.clone();
        if let (Some(reloads), Some((force, setting))) = (&self.reloads, self.force) {
            cautions.push(format!("{reloads}; its manager kills it after {} (`{setting}`)", seconds(force)));
            return cautions;
        }
        if let (Some((force, setting)), Some(graceful), Some(one)) =
            (self.force, self.graceful, self.one_only)
            && force <= graceful
        {
            cautions.push(format!(
                "its manager kills gunicorn's master after {} (`{setting}`) and nothing else (`{one}`), while a request may \
                 take {} (`graceful-timeout`): a worker may live on with the socket",
                seconds(force),
                seconds(graceful)
            ));
        }
        // gunicorn ends its workers by itself before that.
        let longest = match (self.force, self.graceful) {
            (Some((force, setting)), Some(graceful)) if force <= graceful => Some((force, setting)),
            (_, Some(graceful)) => Some((graceful, "graceful-timeout")),
            (force, None) => force,
        };
        if let Some((longest, setting)) = longest.filter(|(longest, _)| *longest > stop_timeout) {
            cautions.push(format!(
                "it may take {} to end (`{setting}`), and `stop-timeout` is {}",
                seconds(longest),
                seconds(stop_timeout)
            ));
        }
        cautions
    }
}

impl Limits {
    /// Adds what is known of the servers that these processes are; `command` has started them.
    pub(super) fn of_servers(self, processes: &[ProcessId], command: &[String]) -> Self {
        processes.iter().fold(self, |mut limits, process| {
            limits.graceful = limits.graceful.max(graceful_of(*process, command));
            let mut limits = limits.of_server(*process);
            let mut seen = BTreeSet::new();
            limits.more.retain(|text| seen.insert(text.clone()));
            limits
        })
    }

    fn of_server(mut self, process: ProcessId) -> Self {
        let words = process.words();
        self.more.extend(interrupts(&words).map(str::to_owned));
        let (Some((number, setting)), Some(options)) = (self.signal, options_of(process)) else {
            return self;
        };
        let signal = match number {
            1 => "SIGHUP".to_owned(),
            2 => "SIGINT".to_owned(),
            3 => "SIGQUIT".to_owned(),
            15 => "SIGTERM".to_owned(),
            number => format!("signal {number}"),
        };
        let place =
            options.file().map_or_else(|| "its options".to_owned(), |file| format!("`{}`", file.display()));
        match options.on_signal(number) {
            OnSignal::Ends => {}
            OnSignal::Interrupts => self.more.push(format!("{signal} interrupts running requests in uWSGI")),
            OnSignal::Reloads => {
                let way_out = if number == 15 {
                    format!("`die-on-term = true` to {place}, or ")
                } else {
                    String::new()
                };
                let text = format!("{signal} reloads uWSGI and does not end it: add {way_out}`{setting}`");
                if options.whole {
                    self.reloads.get_or_insert(text);
                } else {
                    self.more.push(format!(
                        "not all options of uWSGI can be read; unless they say otherwise, {text}"
                    ));
                }
            }
        }
        self
    }

    /// Returns why the service cannot be stopped within this time.
    #[must_use]
    pub fn obstacle(&self, stop_timeout: Duration) -> Option<String> {
        let is_killed = self.force.is_some_and(|(force, _)| force <= stop_timeout);
        self.reloads.clone().filter(|_| !is_killed)
    }
}

/// Says whether a server of ASGI interrupts running requests when it is told to end; uvicorn and granian complete them, as seen with
/// daphne 4.2, hypercorn 0.18, granian 2.8 and uvicorn 0.54.
fn interrupts(words: &[String]) -> Option<&'static str> {
    let is = |name: &str| words.iter().take(8).any(|word| file_name(word) == name);
    if is("daphne") {
        return Some("daphne interrupts running requests");
    }
    let workers = option(words, &["-w", "--workers"]).and_then(|number| number.parse().ok());
    let is_several = workers.is_some_and(|number: u32| number > 1);
    (is("hypercorn") && is_several).then_some("hypercorn with several workers interrupts running requests")
}

fn file_name(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

/// Returns how long a running gunicorn lets its workers finish; `None` when it is none, or says so where nobody looks.
fn graceful_of(process: ProcessId, otherwise: &[String]) -> Option<Duration> {
    let words = process.words();
    // Its title may have replaced its arguments.
    let words = if arguments(&words).is_some() { words } else { otherwise.to_vec() };
    let variables = Process::new(process.pid).and_then(|process| process.environ()).unwrap_or_default();
    let variable = variables.get(std::ffi::OsStr::new("GUNICORN_CMD_ARGS"));
    let variable = variable.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default();
    graceful(&words, &variable, &process.directory().unwrap_or_default())
}

/// Returns how long gunicorn lets its workers finish, by its command line, its variable and its configuration file.
#[must_use]
pub fn graceful(command: &[String], variable: &str, directory: &Path) -> Option<Duration> {
    let arguments = arguments(command)?;
    let variable: Vec<String> = variable.split_whitespace().map(str::to_owned).collect();
    let sources = [arguments, variable.as_slice()];
    let option = |names: &[&str]| sources.iter().find_map(|words| option(words, names));
    if let Some(value) = option(&["--graceful-timeout"]) {
        return value.parse().ok().map(Duration::from_secs);
    }
    let file = option(&["-c", "--config"]).unwrap_or_else(|| "gunicorn.conf.py".to_owned());
    // `python:module` is not to be found without running anything.
    if file.starts_with("python:") {
        return None;
    }
    let file = directory.join(PathBuf::from(file.strip_prefix("file:").unwrap_or(&file)));
    let Ok(text) = std::fs::read_to_string(file) else { return Some(GRACEFUL) };
    if !text.contains("graceful_timeout") {
        // What it takes from elsewhere is not looked at.
        let is_whole = !text.contains("import *") && !text.contains("exec(");
        return is_whole.then_some(GRACEFUL);
    }
    let number = Regex::new(r"(?m)^graceful_timeout\s*=\s*(\d+)\s*(?:#.*)?$").ok()?;
    number.captures_iter(&text).last()?[1].parse().ok().map(Duration::from_secs)
}

/// Returns the arguments of a gunicorn's command line.
fn arguments(command: &[String]) -> Option<&[String]> {
    let is_one = |word: &String| Path::new(word).file_name().is_some_and(|name| name == "gunicorn");
    // `env A=b python -m gunicorn …` has it at the fifth place.
    command.iter().take(8).position(is_one).and_then(|place| command.get(place + 1..))
}

/// Returns the last value of an option.
pub(crate) fn option(words: &[String], names: &[&str]) -> Option<String> {
    words.iter().enumerate().rev().find_map(|(place, word)| match word.split_once('=') {
        Some((name, value)) => names.contains(&name).then(|| value.to_owned()),
        None => names.contains(&word.as_str()).then(|| words.get(place + 1).cloned()).flatten(),
    })
}

/// Reads `90`, `90s`, `2min` or `5min 20s` as systemd writes it; `None` for anything else.
#[must_use]
pub fn systemd_seconds(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    text.split_whitespace().try_fold(0_u64, |sum, part| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let unit = match &part[end..] {
            "" | "s" | "sec" => 1,
            "m" | "min" => 60,
            "h" | "hr" => 3600,
            _ => return None,
        };
        sum.checked_add(part[..end].parse::<u64>().ok()?.checked_mul(unit)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn second(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn a_manager_that_is_less_patient_than_gunicorn_is_told_of() {
        let supervisor = |force| Limits {
            force: Some((second(force), "stopwaitsecs")),
            one_only: Some("killasgroup = false"),
            graceful: Some(second(30)),
            ..Limits::default()
        };
        assert_eq!(
            supervisor(10).cautions(second(30)),
            [
                "its manager kills gunicorn's master after 10 s (`stopwaitsecs`) and nothing else (`killasgroup = false`), \
              while a request may take 30 s (`graceful-timeout`): a worker may live on with the socket"
            ]
        );
        assert!(supervisor(35).cautions(second(30)).is_empty());
        assert_eq!(
            supervisor(35).cautions(second(20)),
            ["it may take 30 s to end (`graceful-timeout`), and `stop-timeout` is 20 s"]
        );
        assert!(Limits { one_only: None, ..supervisor(10) }.cautions(second(30)).is_empty());
        let reloads = Limits { reloads: Some("SIGTERM reloads uWSGI".to_owned()), ..Limits::default() };
        assert_eq!(reloads.obstacle(second(30)).as_deref(), Some("SIGTERM reloads uWSGI"));
        let killed = Limits { graceful: None, reloads: reloads.reloads, ..supervisor(10) };
        assert_eq!(killed.obstacle(second(30)), None);
        assert_eq!(
            killed.cautions(second(30)),
            ["SIGTERM reloads uWSGI; its manager kills it after 10 s (`stopwaitsecs`)"]
        );
        let other = Limits { graceful: None, ..supervisor(90) };
        assert_eq!(
            other.cautions(second(30)),
            ["it may take 90 s to end (`stopwaitsecs`), and `stop-timeout` is 30 s"]
        );
        assert!(Limits::default().cautions(second(30)).is_empty());
    }

    #[test]
    fn servers_that_interrupt_requests_are_known_by_their_commands() {
        let found = |command: &str| interrupts(&command.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(found("/v/bin/python /v/bin/daphne -p 8000 site.asgi:application").is_some());
        assert!(found("/v/bin/python /v/bin/hypercorn -w 2 site.asgi").is_some());
        assert!(found("python -m hypercorn --workers=4 site.asgi").is_some());
        for command in
            ["/v/bin/hypercorn site.asgi", "hypercorn -w 1 site", "granian --workers 2 site", "uvicorn site"]
        {
            assert_eq!(found(command), None, "{command}");
        }
    }

    #[test]
    fn gunicorn_s_patience_is_read_where_it_stands() {
        let directory = tempfile::tempdir().unwrap();
        let found = |command: &str, variable: &str| {
            let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
            graceful(&words, variable, directory.path()).map(|time| time.as_secs())
        };
        let gunicorn = "/venv/bin/python /venv/bin/gunicorn";
        assert_eq!(found(&format!("{gunicorn} app"), ""), Some(30));
        assert_eq!(found(&format!("{gunicorn} --graceful-timeout 5 app"), "--graceful-timeout=7"), Some(5));
        assert_eq!(found(&format!("{gunicorn} app"), "--graceful-timeout=7"), Some(7));
        assert_eq!(found(&format!("{gunicorn} -c python:conf app"), ""), None);
        assert_eq!(found("celery -A app worker", ""), None);
        let file = directory.path().join("gunicorn.conf.py");
        std::fs::write(&file, "workers = 2\ngraceful_timeout = 12  # for reports\n").unwrap();
        assert_eq!(found(&format!("{gunicorn} app"), ""), Some(12));
        std::fs::write(&file, "graceful_timeout = 2 * 60\n").unwrap();
        assert_eq!(found(&format!("{gunicorn} app"), ""), None, "it is computed");
        std::fs::write(&file, "from shared import *\n").unwrap();
        assert_eq!(found(&format!("{gunicorn} app"), ""), None, "it may stand elsewhere");
        std::fs::write(&file, "graceful_timeout = 2 * 60\n").unwrap();
        std::fs::rename(&file, directory.path().join("g.py")).unwrap();
        assert_eq!(found(&format!("{gunicorn} app"), ""), Some(30));
        assert_eq!(found(&format!("{gunicorn} --config=g.py app"), ""), None);
    }
}
