//! Asks for several pages at once, each until it is as expected or is known not to be.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::page::{Page, PageResult, Problem};
use super::text::{excerpt, resolve};
use super::{SmokeCheck, SmokeError};
use crate::error::error_chain;
use crate::host::Host;
use crate::http::{Client, parse_url, port};

/// How many pages are asked for at the same time: enough to be quick, too few to look like an attack.
pub const AT_ONCE: usize = 8;

/// The shortest and the longest pause before a server is asked again that seems to be starting.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// Between the two, a pause is this part of the time that it has been asked for: visitors wait as much longer at most.
const PART: u32 = 20;

/// The first pause after a wrong answer; each is twice as long as the one before, since each answer may cost the site an
/// error mail.
const DOUBT: Duration = Duration::from_millis(200);

/// Polling interval for a cancellation while an answer is awaited.
const WATCH: Duration = Duration::from_millis(50);

/// Returns the name of a service that its manager has given up, if there is one.
pub(super) type GivenUp<'g> = &'g (dyn Fn() -> Option<String> + Sync);

/// A page with its URL and the client that asks for it.
struct Target<'c> {
    page: &'c Page,
    url: String,
    client: &'c Client,
}

/// Asks for every page once.
pub(super) fn once(check: &SmokeCheck, host: &Host) -> Result<Vec<PageResult>, SmokeError> {
    let gate = Gate::new(AT_ONCE);
    all(check, host, |target| {
        let started = Instant::now();
        let result = gate.pass(|| attempt(target, host, check.timeout));
        Some(PageResult { attempts: 1, elapsed: started.elapsed(), ..result })
    })
}

/// Asks for the first page of the site itself once, and tells whether another web server answers than one that was started beforehand.
pub(super) fn is_handed_over(check: &SmokeCheck) -> Result<bool, SmokeError> {
    let mut check = check.clone();
    keep_own(&mut check)?;
    let clients = Clients::new(&check)?;
    let answer = clients.targets(&check)?.first().map(|target| target.client.get(&target.url, check.timeout));
    // With these statuses, a server in front says that it reached no web server: nothing has taken over yet.
    Ok(matches!(answer, Some(Ok(answer)) if !answer.is_bridge && !matches!(answer.status, 502..=504)))
}

/// Asks for every page until it is as expected, was wrong for too long, or the deadline is over.
pub(super) fn until_deadline(
    check: &SmokeCheck,
    host: &Host,
    given_up: GivenUp<'_>,
) -> Result<Vec<PageResult>, SmokeError> {
    let started = Instant::now();
    let gate = Gate::new(AT_ONCE);
    // Once a page is known to be wrong the check has failed: the other pages are not waited for.
    let failed = AtomicBool::new(false);
    all(check, host, |target| {
        let mut retries = Retries::new(check.settle);
        let mut attempts = 0;
        let mut before = None;
        loop {
            let (result, time) = gate.pass(|| {
                let left = check.deadline.saturating_sub(started.elapsed());
                let time = left.min(check.timeout).max(Duration::from_millis(1));
                (attempt(target, host, time), time)
            });
            attempts += 1;
            // The deadline cut the last question short: what came before says more than that nothing came any more.
            let cut_short = time < check.timeout && result.status.is_none();
            let mut result = before.take().filter(|_| cut_short).unwrap_or(result);
            if result.problems.iter().any(Problem::is_temporary)
                && let Some(service) = given_up()
            {
                result.problems = vec![Problem::ServiceFailed { service }];
                failed.store(true, Ordering::SeqCst);
                return Some(PageResult { attempts, elapsed: started.elapsed(), ..result });
            }
            let next = retries.next(&result.problems, started.elapsed());
            if next == Next::Wrong {
                failed.store(true, Ordering::SeqCst);
            }
            let left = check.deadline.saturating_sub(started.elapsed());
            match next {
                Next::Again(pause) if !left.is_zero() && !failed.load(Ordering::SeqCst) => {
                    before = Some(result);
                    if !host.wait(pause.min(left)) {
                        return None;
                    }
                }
                next => {
                    let pending = matches!(next, Next::Again(_)) && !left.is_zero();
                    return Some(PageResult { attempts, elapsed: started.elapsed(), pending, ..result });
                }
            }
        }
    })
}

/// What to do after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Done,
    Again(Duration),
    Wrong,
}

/// How often a page has been asked for, and with what success.
#[derive(Debug)]
struct Retries {
    settle: Duration,
    wrong: u32,
    /// When the first wrong answer came.
    wrong_since: Option<Duration>,
}

impl Retries {
    fn new(settle: Duration) -> Self {
        Retries { settle, wrong: 0, wrong_since: None }
    }

    fn next(&mut self, problems: &[Problem], now: Duration) -> Next {
        if problems.is_empty() {
            return Next::Done;
        }
        if problems.iter().any(Problem::is_temporary) {
            return Next::Again((now / PART).clamp(PAUSES.0, PAUSES.1));
        }
        let left = self.settle.saturating_sub(now - *self.wrong_since.get_or_insert(now));
        if left.is_zero() {
            return Next::Wrong;
        }
        let pause = DOUBT.saturating_mul(2_u32.saturating_pow(self.wrong)).min(left);
        self.wrong += 1;
        Next::Again(pause)
    }
}

/// Runs `ask` for every page in a thread of its own; `None` from it means that the run was cancelled.
fn all(
    check: &SmokeCheck,
    host: &Host,
    ask: impl Fn(&Target) -> Option<PageResult> + Sync,
) -> Result<Vec<PageResult>, SmokeError> {
    let clients = Clients::new(check)?;
    let targets = clients.targets(check)?;
    let mut results: Vec<Option<PageResult>> = vec![None; targets.len()];
    thread::scope(|scope| {
        let (sender, answers) = mpsc::channel();
        for (index, target) in targets.iter().enumerate() {
            let (sender, ask) = (sender.clone(), &ask);
            let work = move || {
                // Nobody listens when the scope is left, which it is not before this thread.
                let _ = sender.send((index, ask(target)));
            };
            if let Err(error) =
                thread::Builder::new().name("smoke-check".to_owned()).spawn_scoped(scope, work)
            {
                log::warn!("cannot start a thread: {error}");
                results[index] = ask(target);
            }
        }
        drop(sender);
        let mut cancelled = false;
        loop {
            match answers.recv_timeout(WATCH) {
                Ok((index, result)) => results[index] = result,
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) if host.is_cancelled() && !cancelled => {
                    cancelled = true;
                    clients.shutdown();
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
    });
    if host.is_cancelled() {
        return Err(SmokeError::Cancelled);
    }
    results.into_iter().collect::<Option<_>>().ok_or(SmokeError::Cancelled)
}

/// The clients for the pages at `connect` and for those of other sites.
struct Clients {
    own: Client,
    others: Client,
}

impl Clients {
    fn new(check: &SmokeCheck) -> Result<Self, SmokeError> {
        let client = |connect| Client::new(connect, check.ca.as_deref()).map_err(SmokeError::Settings);
        Ok(Clients { own: client(check.connect.clone())?, others: client(None)? })
    }

    fn targets<'c>(&'c self, check: &'c SmokeCheck) -> Result<Vec<Target<'c>>, SmokeError> {
        let base = check.base.as_deref();
        let own_site = base.map(site).transpose()?;
        let target = |page: &'c Page| {
            let is_absolute = page.path.starts_with("http://") || page.path.starts_with("https://");
            let url = match base {
                Some(base) => resolve(base, &page.path),
                None if is_absolute => page.path.clone(),
                None => return Err(SmokeError::NoBase { path: page.path.clone() }),
            };
            let site = site(&url)?;
            let own = own_site.as_ref().is_none_or(|own| *own == site);
            Ok(Target { page, url, client: if own { &self.own } else { &self.others } })
        };
        check.pages.iter().map(target).collect()
    }

    fn shutdown(&self) {
        self.own.shutdown();
        self.others.shutdown();
    }
}

/// Removes the pages of other sites.
pub(super) fn keep_own(check: &mut SmokeCheck) -> Result<(), SmokeError> {
    let Some(base) = check.base.clone() else { return Ok(()) };
    let own = site(&base)?;
    check.pages.retain(|page| site(&resolve(&base, &page.path)).is_ok_and(|site| site == own));
    Ok(())
}

/// Returns what two URLs of one site have in common.
fn site(url: &str) -> Result<(Option<String>, Option<String>, u16), SmokeError> {
    let uri = parse_url(url).map_err(SmokeError::Settings)?;
    let port = port(&uri);
    Ok((uri.scheme_str().map(str::to_owned), uri.host().map(str::to_ascii_lowercase), port))
}

fn attempt(target: &Target, host: &Host, timeout: Duration) -> PageResult {
    let redact = |text: &str| host.redactor().redact(text).into_owned();
    let result =
        PageResult { path: target.page.path.clone(), url: redact(&target.url), ..PageResult::default() };
    match target.client.get(&target.url, timeout) {
        Ok(answer) => PageResult {
            status: Some(answer.status),
            location: answer.location.as_deref().map(redact),
            excerpt: redact(&excerpt(&answer.body)),
            duration: answer.duration,
            problems: target
                .page
                .judge(&target.url, &answer)
                .into_iter()
                .map(|p| without(p, &redact))
                .collect(),
            ..result
        },
        Err(error) => {
            let problem =
                Problem::NoAnswer { reason: redact(&error_chain(&error)), temporary: error.is_temporary() };
            PageResult { problems: vec![problem], ..result }
        }
    }
}

/// Removes secrets from what a problem quotes from the answer.
fn without(problem: Problem, redact: &impl Fn(&str) -> String) -> Problem {
    match problem {
        Problem::Redirect { expected, found } => {
            Problem::Redirect { expected: redact(&expected), found: found.as_deref().map(redact) }
        }
        problem => problem,
    }
}

/// Lets a few through at a time.
struct Gate {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Gate {
    fn new(places: usize) -> Self {
        Gate { free: Mutex::new(places), freed: Condvar::new() }
    }

    fn pass<T>(&self, work: impl FnOnce() -> T) -> T {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        drop(free);
        let result = work();
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.freed.notify_one();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HttpError;

    fn status(found: u16) -> [Problem; 1] {
        [Problem::Status { expected: Some(200), found }]
    }

    fn milliseconds(next: Next) -> u128 {
        let Next::Again(pause) = next else { panic!("{next:?}") };
        pause.as_millis()
    }

    const SETTLE: Duration = Duration::from_secs(3);

    #[test]
    fn a_starting_server_is_asked_again_without_end() {
        let mut retries = Retries::new(SETTLE);
        let seconds = Duration::from_secs_f64;
        let pauses =
            [0.0, 0.1, 0.4, 2.0, 1000.0].map(|now| milliseconds(retries.next(&status(502), seconds(now))));
        assert_eq!(pauses, [10, 10, 20, 100, 250]);
        assert_eq!(retries.next(&[], seconds(1000.0)), Next::Done);
    }

    #[test]
    fn a_wrong_answer_counts_when_it_stays() {
        let mut retries = Retries::new(SETTLE);
        let seconds = Duration::from_secs_f64;
        assert_eq!(milliseconds(retries.next(&status(500), seconds(10.0))), 200);
        assert_eq!(milliseconds(retries.next(&status(502), seconds(10.2))), 250);
        assert_eq!(milliseconds(retries.next(&status(404), seconds(10.3))), 400);
        assert_eq!(
            milliseconds(retries.next(&status(404), seconds(12.5))),
            500,
            "the last one is just in time"
        );
        assert_eq!(retries.next(&status(500), seconds(13.0)), Next::Wrong);
        assert_eq!(Retries::new(Duration::ZERO).next(&status(500), seconds(1.0)), Next::Wrong);
    }

    #[test]
    fn pages_of_other_sites_are_asked_for_at_their_own_address() {
        let check = SmokeCheck {
            base: Some("https://Example.org/app/".to_owned()),
            connect: Some("127.0.0.1:1".parse().unwrap()),
            pages: [
                "",
                "/about/",
                "https://example.org:443/x",
                "https://cdn.example.org/",
                "http://example.org/",
            ]
            .map(Page::new)
            .to_vec(),
            ..SmokeCheck::default()
        };
        let clients = Clients::new(&check).unwrap();
        let targets = clients.targets(&check).unwrap();
        let own: Vec<bool> = targets.iter().map(|target| std::ptr::eq(target.client, &clients.own)).collect();
        assert_eq!(own, [true, true, true, false, false]);
        assert_eq!(targets[0].url, "https://Example.org/app/");
        assert_eq!(targets[1].url, "https://Example.org/about/");
    }

    #[test]
    fn a_path_needs_a_base() {
        let check = SmokeCheck { pages: vec![Page::new("/about/")], ..SmokeCheck::default() };
        let error = check.run(&Host::new()).unwrap_err();
        assert_eq!(error.to_string(), "cannot ask for `/about/`: there is no `base` that it belongs to");
        let check = SmokeCheck { pages: vec![Page::new("https://")], ..SmokeCheck::default() };
        assert!(matches!(check.run(&Host::new()), Err(SmokeError::Settings(HttpError::Url { .. }))));
    }
}
