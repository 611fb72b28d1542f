//! Pages and commands that show that the site works.
//!
//! A freshly started site may refuse connections, answer "502 Bad Gateway" or nothing at all for a while: such answers
//! are asked again until the deadline. A page that answers, but wrongly, is asked again for [`SmokeCheck::settle`]: a worker
//! may warm up, and of a broken site users do not wait for the whole deadline.

mod ask;
mod page;
mod text;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use ask::AT_ONCE;
use ask::GivenUp;
pub use page::{Page, PageResult, Problem};

use crate::command::Command;
use crate::host::{CommandError, Host};
use crate::http::{Address, Connect, HttpError, parse_url, port};

/// Timeout of the first response of a process.
const FIRST: Duration = Duration::from_secs(60);

/// Pages that must answer as expected, and commands that must end with 0.
///
/// # Examples
///
/// ```
/// use deploykit::operations::smoke_check::{Page, SmokeCheck};
///
/// let check = SmokeCheck {
///     base: Some("https://example.org/".to_owned()),
///     connect: Some("unix:/run/site.sock".parse()?),
///     pages: vec![Page::new("/"), Page { contains: vec!["About".to_owned()], ..Page::new("/about/") }],
///     ..SmokeCheck::default()
/// };
/// # Ok::<(), deploykit::errors::ConnectError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SmokeCheck {
    /// The URL that the paths of pages belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Where to connect to in place of the base's address. Pages of other sites are asked for at their own address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<Connect>,
    /// A PEM file of certificates to trust beside the public authorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// What is asked for.
    pub pages: Vec<Page>,
    /// What is run in the site's environment once the pages are as expected. One without a deadline gets this check's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<Command>,
    /// How long all pages together may take to become as expected; default 60 s.
    #[serde(rename = "deadline_ms", with = "crate::millis")]
    pub deadline: Duration,
    /// For how long a page that answers wrongly is asked again, within the deadline; default 5 s.
    #[serde(rename = "settle_ms", with = "crate::millis")]
    pub settle: Duration,
    /// How long one answer may take; default 10 s.
    #[serde(rename = "timeout_ms", with = "crate::millis")]
    pub timeout: Duration,
}

impl Default for SmokeCheck {
    fn default() -> Self {
        SmokeCheck {
            base: None,
            connect: None,
            ca: None,
            pages: Vec::new(),
            commands: Vec::new(),
            deadline: Duration::from_secs(60),
            settle: Duration::from_secs(5),
            timeout: Duration::from_secs(10),
        }
    }
}

/// Why a site does not pass its check.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SmokeError {
    /// A page has only a path, and there is no base.
    #[error("cannot ask for `{path}`: there is no `base` that it belongs to")]
    NoBase {
        /// The path.
        path: String,
    },
    /// A URL or the file of certificates cannot be used; nothing was asked for.
    #[error(transparent)]
    Settings(HttpError),
    /// Pages are not as expected.
    #[error("{}", summary(failing, *asked))]
    Pages {
        /// Every one that is not, in the order of the settings.
        failing: Vec<PageResult>,
        /// How many were asked for.
        asked: usize,
    },
    /// A command failed.
    #[error(transparent)]
    Command(CommandError),
    /// The run was cancelled meanwhile.
    #[error("the check of the site was interrupted")]
    Cancelled,
}

/// Says how many pages are wrong, how many gave no answer at all, and which ones nobody waited for.
fn summary(failing: &[PageResult], asked: usize) -> String {
    let (pending, known): (Vec<_>, Vec<_>) = failing.iter().partition(|page| page.pending);
    let (wrong, silent): (Vec<_>, Vec<_>) = known.into_iter().partition(|page| page.status.is_some());
    let mut text = match (wrong.len(), silent.len()) {
        (0, silent) => {
            format!("{silent} of {asked} {} not answer", if asked == 1 { "page did" } else { "pages did" })
        }
        (wrong, 0) => format!("{wrong} of {asked} {} not as expected", are(asked, wrong)),
        (wrong, silent) => {
            format!("{wrong} of {asked} {} not as expected, {silent} did not answer", are(asked, wrong))
        }
    };
    text.push_str(&format!(": {}", list(wrong.into_iter().chain(silent))));
    if !pending.is_empty() {
        text.push_str(&format!("; not waited for after that: {}", list(pending)));
    }
    text
}

fn are(asked: usize, failing: usize) -> &'static str {
    match (asked, failing) {
        (1, _) => "page is",
        (_, 1) => "pages is",
        _ => "pages are",
    }
}

fn list<'r>(failing: impl IntoIterator<Item = &'r PageResult>) -> String {
    failing.into_iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl SmokeCheck {
    /// Asks for every page until it is as expected or is known not to be, then runs the commands.
    ///
    /// # Errors
    ///
    /// When a page is not as expected in time, or a command fails.
    pub fn perform(&self, host: &Host) -> Result<(), SmokeError> {
        self.verify(host).map(|_| ())
    }

    /// Does the same, but stops once `given_up` names a service: then pages that do not answer are not requested again.
    pub(crate) fn perform_unless(&self, host: &Host, given_up: GivenUp<'_>) -> Result<(), SmokeError> {
        self.verify_unless(host, given_up).map(|_| ())
    }

    /// Does the same, and returns what the pages answered.
    ///
    /// # Errors
    ///
    /// Like [`perform`](SmokeCheck::perform).
    pub fn verify(&self, host: &Host) -> Result<Vec<PageResult>, SmokeError> {
        self.verify_unless(host, &|| None)
    }

    fn verify_unless(&self, host: &Host, given_up: GivenUp<'_>) -> Result<Vec<PageResult>, SmokeError> {
        let results = self.judge(ask::until_deadline(self, host, given_up)?)?;
        for command in &self.commands {
            let mut command = command.clone().with_site_variables();
            if command.time_limit().is_none() {
                command = command.deadline(self.deadline);
            }
            host.run_unread(&command).map_err(|error| match error {
                CommandError::Cancelled { .. } => SmokeError::Cancelled,
                error => SmokeError::Command(error),
            })?;
        }
        Ok(results)
    }

    /// Asks for every page once and returns what came, expected or not: the state to compare with later.
    ///
    /// # Errors
    ///
    /// When the settings cannot be used, or the run is cancelled; never for what a page answers.
    pub fn run(&self, host: &Host) -> Result<Vec<PageResult>, SmokeError> {
        ask::once(self, host)
    }

    /// Asks for every page until it is as expected, at most until the deadline, and returns what came like [`run`](SmokeCheck::run).
    pub(crate) fn wait(&self, host: &Host) -> Result<Vec<PageResult>, SmokeError> {
        ask::until_deadline(self, host, &|| None)
    }

    /// Asks for a page, and tells whether the web service answers: not a web server that was started beforehand.
    pub(crate) fn is_handed_over(&self) -> Result<bool, SmokeError> {
        ask::is_handed_over(self)
    }

    /// Returns the check for the same site after it was brought back to the state in which it answered `baseline`.
    ///
    /// Pages that did not answer then, or with a status of 500 and more, are left out. Those that were as expected stay,
    /// without their time limit, since a service that was just started is slower. Of the others only the status that
    /// they had is expected: texts and redirects may belong to the new version. Commands are left out for the same reason.
    #[must_use]
    pub fn like(&self, baseline: &[PageResult]) -> SmokeCheck {
        let pages = self.pages.iter().filter_map(|page| {
            let before = baseline.iter().find(|before| before.path == page.path)?;
            let status = before.status.filter(|status| *status < 500)?;
            let others = baseline.iter().filter(|other| other.path == page.path);
            if others.clone().count() == 1 && before.problems.is_empty() {
                return Some(Page { within: None, ..page.clone() });
            }
            Some(Page { status: Some(status), ..Page::new(&page.path) })
        });
        SmokeCheck { pages: pages.collect(), commands: Vec::new(), ..self.clone() }
    }

    /// Returns the check of the site's own pages through another socket. Each page is requested once, without `within`, and with a
    /// timeout that suits the first request of a process.
    ///
    /// # Errors
    ///
    /// When the settings cannot be used.
    pub(crate) fn through(&self, socket: PathBuf) -> Result<SmokeCheck, SmokeError> {
        let mut check = SmokeCheck {
            connect: Some(Connect::Unix(socket)),
            commands: Vec::new(),
            timeout: self.timeout.max(FIRST),
            ..self.clone()
        };
        ask::keep_own(&mut check)?;
        for page in &mut check.pages {
            page.within = None;
        }
        Ok(check)
    }

    /// Returns the scheme of the requests.
    pub(crate) fn scheme(&self) -> &str {
        let base = self.base.as_deref().or(self.pages.first().map(|page| page.path.as_str()));
        base.and_then(|base| base.split_once("://")).map_or("http", |(scheme, _)| scheme)
    }

    /// Returns where on this machine the pages are asked for; `None` when that is elsewhere, or a name that only a resolver
    /// knows.
    pub(crate) fn address(&self) -> Option<Address> {
        let base = self.base.as_deref().and_then(|base| parse_url(base).ok());
        let (host, port) = match &self.connect {
            Some(Connect::Unix(path) | Connect::UwsgiUnix(path)) => return Some(Address::Unix(path.clone())),
            Some(Connect::Tcp { target, .. } | Connect::UwsgiTcp(target)) => {
                let target = parse_url(&format!("http://{target}/")).ok()?;
                let port = target.port_u16().or_else(|| base.as_ref().map(port))?;
                (target.host()?.to_owned(), port)
            }
            None => (base.as_ref()?.host()?.to_owned(), port(base.as_ref()?)),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = if host.eq_ignore_ascii_case("localhost") { "127.0.0.1" } else { host };
        Some(Address::Tcp((host.parse::<IpAddr>().ok()?, port).into()))
    }

    /// Sorts out the pages that are not as expected.
    ///
    /// # Errors
    ///
    /// When there are any.
    pub(crate) fn judge(&self, results: Vec<PageResult>) -> Result<Vec<PageResult>, SmokeError> {
        let asked = results.len();
        let (good, failing): (Vec<PageResult>, Vec<PageResult>) =
            results.into_iter().partition(|result| result.problems.is_empty());
        if failing.is_empty() { Ok(good) } else { Err(SmokeError::Pages { failing, asked }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(path: &str, status: Option<u16>, problems: Vec<Problem>) -> PageResult {
        PageResult { path: path.to_owned(), status, problems, ..PageResult::default() }
    }

    fn wrong(found: u16) -> Vec<Problem> {
        vec![Problem::Status { expected: Some(200), found }]
    }

    #[test]
    fn the_old_site_is_held_to_what_it_answered_before() {
        let about = Page {
            contains: vec!["About".to_owned()],
            within: Some(Duration::from_secs(1)),
            ..Page::new("/about/")
        };
        let new = Page { contains: vec!["New".to_owned()], ..Page::new("/new/") };
        let check = SmokeCheck {
            base: Some("http://x/".to_owned()),
            pages: vec![
                about.clone(),
                new,
                Page::new("/broken/"),
                Page::new("/down/"),
                Page::new("/unasked/"),
            ],
            commands: vec![Command::new("true")],
            ..SmokeCheck::default()
        };
        let baseline = [
            result("/about/", Some(200), vec![]),
            result("/new/", Some(404), wrong(404)),
            result("/broken/", Some(500), wrong(500)),
            result("/down/", None, vec![Problem::NoAnswer { reason: "x".to_owned(), temporary: true }]),
        ];
        let old = check.like(&baseline);
        let pages = vec![Page { within: None, ..about }, Page { status: Some(404), ..Page::new("/new/") }];
        assert_eq!(old, SmokeCheck { pages, commands: vec![], ..check });
    }

    #[test]
    fn pages_of_this_machine_have_an_address() {
        let address = |base: Option<&str>, connect: Option<&str>| {
            let connect = connect.map(|text| text.parse().unwrap());
            let check = SmokeCheck { base: base.map(str::to_owned), connect, ..SmokeCheck::default() };
            check.address().map(|address| address.to_string())
        };
        let public = Some("https://example.org/");
        assert_eq!(address(public, Some("127.0.0.1:8000")).as_deref(), Some("127.0.0.1:8000"));
        assert_eq!(address(public, Some("https://[::1]")).as_deref(), Some("[::1]:443"));
        assert_eq!(address(public, Some("unix:/run/s")).as_deref(), Some("/run/s"));
        assert_eq!(address(public, Some("uwsgi:unix:/run/s")).as_deref(), Some("/run/s"));
        assert_eq!(address(public, Some("uwsgi:localhost:8001")).as_deref(), Some("127.0.0.1:8001"));
        assert_eq!(address(Some("http://localhost:81/"), None).as_deref(), Some("127.0.0.1:81"));
        assert_eq!(address(public, None), None);
        assert_eq!(address(None, None), None);
    }

    #[test]
    fn every_failing_page_is_in_the_message() {
        let mut first = result("/", Some(500), wrong(500));
        first.excerpt = "Server Error (500)".to_owned();
        (first.attempts, first.elapsed) = (3, Duration::from_millis(1260));
        let mut second = result("/about/", Some(302), wrong(302));
        second.location = Some("/login/".to_owned());
        (second.attempts, second.elapsed) = (1, Duration::ZERO);
        let error = SmokeError::Pages { failing: vec![first, second], asked: 3 };
        assert_eq!(
            error.to_string(),
            "2 of 3 pages are not as expected: `/`: expected status 200, got 500 (\"Server Error (500)\") after 3 \
             attempts in 1.3 s; `/about/`: expected status 200, got 302 to `/login/`"
        );
    }

    #[test]
    fn pages_without_an_answer_are_counted_apart() {
        let silent = |path: &str| {
            let reason = "the server did not answer within 10 s".to_owned();
            result(path, None, vec![Problem::NoAnswer { reason, temporary: true }])
        };
        let told = |failing: Vec<PageResult>| SmokeError::Pages { failing, asked: 3 }.to_string();
        assert_eq!(
            told(vec![silent("/"), silent("/about/")]),
            "2 of 3 pages did not answer: `/`: the server did not answer within 10 s; `/about/`: the server did not \
             answer within 10 s"
        );
        let wrong = result("/new/", Some(404), wrong(404));
        assert_eq!(
            told(vec![silent("/"), wrong.clone()]),
            "1 of 3 pages is not as expected, 1 did not answer: `/new/`: expected status 200, got 404; `/`: the server \
             did not answer within 10 s"
        );
        let pending = PageResult { pending: true, attempts: 3, ..silent("/") };
        assert_eq!(
            told(vec![pending, wrong]),
            "1 of 3 pages is not as expected: `/new/`: expected status 200, got 404; not waited for after that: `/`: the \
             server did not answer within 10 s"
        );
    }

    #[test]
    fn a_check_survives_the_journal() {
        let check = SmokeCheck {
            base: Some("https://example.org/".to_owned()),
            connect: Some("unix:/run/s".parse().unwrap()),
            pages: vec![Page { within: Some(Duration::from_millis(1500)), ..Page::new("/") }],
            ..SmokeCheck::default()
        };
        let text = serde_json::to_string(&check).unwrap();
        assert_eq!(
            text,
            r#"{"base":"https://example.org/","connect":"unix:/run/s","pages":[{"path":"/","within_ms":1500}],"deadline_ms":60000,"settle_ms":5000,"timeout_ms":10000}"#
        );
        assert_eq!(serde_json::from_str::<SmokeCheck>(&text).unwrap(), check);
        assert_eq!(serde_json::from_str::<SmokeCheck>("{}").unwrap(), SmokeCheck::default());
    }
}
