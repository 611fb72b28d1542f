//! Smoke checks against real sockets, real TLS, a real gunicorn, uWSGI and nginx.

mod answers;
mod servers;
mod tls;

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use deploykit::internal::http::{BODY_LIMIT, Client, Connect, HttpError};
use deploykit::operations::smoke_check::{Page, PageResult, Problem, SmokeCheck, SmokeError};
use deploykit::operations::{self, ApplyError};
use deploykit::{Cancel, Check, Command, Context, Host, Operation, Redactor, Variables};

use crate::support::http::{PATIENCE, Reply, Running, Server, eventually, must};
use crate::support::services::server;
use crate::support::{program, skip, wheels};

fn check(base: &str, pages: &[&str]) -> SmokeCheck {
    SmokeCheck {
        base: Some(base.to_owned()),
        pages: pages.iter().map(|path| Page::new(*path)).collect(),
        deadline: PATIENCE,
        ..SmokeCheck::default()
    }
}

/// A check that soon gives up on pages that answer wrongly.
fn strict(base: &str, pages: &[&str]) -> SmokeCheck {
    SmokeCheck { settle: Duration::from_millis(300), ..check(base, pages) }
}

fn failing(result: Result<(), SmokeError>) -> Vec<PageResult> {
    match result {
        Err(SmokeError::Pages { failing, .. }) => failing,
        other => panic!("{other:?}"),
    }
}

fn tcp(port: u16) -> Connect {
    format!("127.0.0.1:{port}").parse().unwrap()
}

// Answers

#[test]
fn pages_are_compared_with_what_is_expected() {
    let server = Server::start(|request| match request.path.as_str() {
        "/" => Reply::with(302, "Location: /login/?next=/", ""),
        "/about/" => Reply::page(200, "<title>About us</title>Größe"),
        _ => Reply::page(404, "<title>Not Found</title>"),
    });
    let mut check = strict(&server.url(), &[]);
    check.pages = vec![
        Page { redirect: Some("/login/".to_owned()), ..Page::new("/") },
        Page {
            contains: vec!["Größe".to_owned()], lacks: vec!["Error".to_owned()], ..Page::new("/about/")
        },
        Page { status: Some(404), ..Page::new("/nothing/") },
    ];
    check.perform(&Host::new()).unwrap();
    assert_eq!(
        check.check(&Host::new()).unwrap(),
        Check::Unchanged { reason: "3 pages answer as expected".to_owned() }
    );

    check.pages = vec![
        Page { redirect: Some("/start/".to_owned()), ..Page::new("/") },
        Page { contains: vec!["Contact".to_owned()], ..Page::new("/about/") },
        Page::new("/about/"),
        Page::new("/nothing/"),
    ];
    let before = server.asked().len();
    let Check::Change(change) = check.check(&Host::new()).unwrap() else { panic!("they are wrong") };
    assert_eq!((change.reason.as_str(), change.details.len(), change.actions.len()), ("4 pages", 3, 1));
    assert_eq!(server.asked().len() - before, 4, "a check asks once");
    let error = operations::apply(&check, &mut Context::default()).unwrap_err();
    let ApplyError::Undone { failed } = error else { panic!("{error}") };
    for said in [
        "3 of 4 pages are not as expected",
        "`/`: expected a redirect to `/start/`, got one to `/login/?next=/` after",
        "`/about/`: the text `Contact` is missing (\"About us\") after",
        "`/nothing/`: expected status 200, got 404 (\"Not Found\") after",
    ] {
        assert!(failed.to_string().contains(said), "{failed}");
    }
}

#[test]
fn a_redirect_is_not_followed_and_the_client_names_itself() {
    let server = Server::start(|_| Reply::with(301, "Location: /elsewhere/", "moved"));
    let answer = Client::new(None, None).unwrap().get(&server.url(), PATIENCE).unwrap();
    assert_eq!((answer.status, answer.location.as_deref()), (301, Some("/elsewhere/")));
    assert_eq!(answer.body, "moved");
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    let agent = format!("user-agent: deploykit/{}", env!("CARGO_PKG_VERSION"));
    assert!(asked[0].headers.contains(&agent), "{:?}", asked[0].headers);
}

#[test]
fn another_address_is_asked_under_the_name_of_the_site() {
    let server = Server::start(|_| Reply::page(200, ""));
    let mut check = check("http://site.example/", &["/about/"]);
    check.connect = Some(tcp(server.port()));
    check.perform(&Host::new()).unwrap();
    check.base = Some("https://site.example/".to_owned());
    check.perform(&Host::new()).unwrap();
    let asked = server.asked();
    assert!(asked.iter().all(|request| request.headers.contains(&"host: site.example".to_owned())));
    let secure = "x-forwarded-proto: https".to_owned();
    let forwarded: Vec<bool> = asked.iter().map(|request| request.headers.contains(&secure)).collect();
    assert_eq!(forwarded, [false, true], "an application server behind TLS is told so");
}

#[test]
fn a_body_is_read_up_to_the_limit() {
    let fill = "x".repeat(usize::try_from(BODY_LIMIT).unwrap());
    let server = Server::start(move |_| Reply::page(200, &format!("early {fill}{fill} late")));
    let mut check = check(&server.url(), &[]);
    check.pages = vec![Page { contains: vec!["early".to_owned(), "late".to_owned()], ..Page::new("/") }];
    let results = check.run(&Host::new()).unwrap();
    assert_eq!(results[0].problems, [Problem::TextMissing { text: "late".to_owned(), truncated: true }]);
}

#[test]
fn a_page_that_answers_right_but_late_is_wrong() {
    // Every answer takes longer than nothing.
    let server = Server::start(|_| Reply::page(200, ""));
    let mut check = strict(&server.url(), &[]);
    check.pages = vec![Page { within: Some(Duration::ZERO), ..Page::new("/") }];
    let failing = failing(check.perform(&Host::new()));
    assert!(matches!(failing[0].problems[..], [Problem::Slow { .. }]), "{failing:?}");
    check.pages[0].within = Some(PATIENCE);
    check.perform(&Host::new()).unwrap();
}

#[test]
fn secrets_in_a_page_are_not_shown() {
    let server = Server::start(|_| Reply::page(500, "<title>KeyError hunter2222</title>"));
    let host = Host::new().with_redactor(Redactor::new(["hunter2222".to_owned()]));
    let results = check(&server.url(), &["/"]).run(&host).unwrap();
    assert_eq!(results[0].excerpt, "KeyError ***");
}

// Retries

#[test]
fn a_server_that_is_starting_is_asked_again() {
    let server = Server::start(|request| match request.number {
        1 => Reply::page(502, ""),
        2 => Reply::page(503, ""),
        3 => Reply::Bytes(Vec::new()),
        4 => Reply::page(504, ""),
        _ => Reply::page(200, ""),
    });
    check(&server.url(), &["/"]).perform(&Host::new()).unwrap();
    assert_eq!(server.asked().len(), 5);
}

#[test]
fn a_worker_may_warm_up() {
    let server = Server::start(|request| Reply::page(if request.number < 3 { 500 } else { 200 }, ""));
    check(&server.url(), &["/"]).perform(&Host::new()).unwrap();
}

#[test]
fn a_broken_site_is_found_out_long_before_the_deadline() {
    let server = Server::start(|request| match request.path.as_str() {
        "/fine/" => Reply::page(200, ""),
        "/down/" => Reply::page(502, "<h1>Bad Gateway</h1>"),
        _ => Reply::page(500, "<title>Server Error (500)</title>"),
    });
    let mut check = check(&server.url(), &["/", "/fine/", "/down/"]);
    // The test would not end within its patience if the deadline were waited for.
    (check.settle, check.deadline) = (Duration::from_millis(300), PATIENCE * 100);
    let failing = failing(check.perform(&Host::new()));
    let asked = server.asked();
    let count = |path: &str| asked.iter().filter(|request| request.path == path).count();
    assert!((2..=3).contains(&count("/")), "{asked:?}");
    assert_eq!(count("/fine/"), 1);
    let summary: Vec<_> =
        failing.iter().map(|page| (page.path.as_str(), page.status, page.excerpt.as_str())).collect();
    assert_eq!(
        summary,
        [("/", Some(500), "Server Error (500)"), ("/down/", Some(502), "Bad Gateway")],
        "what is only starting does not keep the rest waiting"
    );
    assert!(!failing[0].pending && failing[1].pending, "it may have been about to answer: {failing:?}");
}

#[test]
fn a_socket_that_appears_later_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("site.sock");
    let mut check = check("http://site.example/", &["/"]);
    check.connect = Some(Connect::Unix(path.clone()));
    let refused = check.run(&Host::new()).unwrap();
    let address = format!("nothing listens at `unix:{}`", path.display());
    assert_eq!(refused[0].problems, [Problem::NoAnswer { reason: address, temporary: true }]);

    let asking = std::thread::spawn(move || check.perform(&Host::new()));
    let server = Server::at(&path, |_| Reply::page(200, ""));
    asking.join().unwrap().unwrap();
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_server_that_never_answers_is_given_up_at_the_deadline() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("site.sock");
    // It listens, and nobody ever accepts.
    let _listener = UnixListener::bind(&path).unwrap();
    let silent = Server::start(|_| Reply::Silence);
    let mut check = check(&silent.url(), &["/"]);
    (check.timeout, check.deadline) = (Duration::from_millis(100), Duration::from_millis(1500));
    let tcp = failing(check.perform(&Host::new()));
    check.connect = Some(Connect::Unix(path));
    let unix = failing(check.perform(&Host::new()));
    for page in [&tcp[0], &unix[0]] {
        assert!(page.attempts >= 2, "{page}");
        assert!(page.to_string().contains("did not answer within 0.1 s"), "{page}");
        assert!(matches!(page.problems[..], [Problem::NoAnswer { temporary: true, .. }]));
    }
}

#[test]
fn half_an_answer_is_none() {
    // The header promises what never comes.
    let server =
        Server::start(|_| Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec()));
    let error = Client::new(None, None).unwrap().get(&server.url(), PATIENCE).unwrap_err();
    assert!(matches!(error, HttpError::Closed { .. }), "{error:?}");
}

#[test]
fn pages_are_asked_for_at_once() {
    // Each page answers only when the other one was asked for, too.
    let both = Arc::new((Mutex::new(0), Condvar::new()));
    let server = Server::start(move |_| {
        let (count, changed) = &*both;
        *count.lock().unwrap() += 1;
        changed.notify_all();
        let waited = changed.wait_timeout_while(count.lock().unwrap(), PATIENCE, |count| *count < 2).unwrap();
        Reply::page(if waited.1.timed_out() { 500 } else { 200 }, "")
    });
    let results = SmokeCheck { timeout: PATIENCE, ..check(&server.url(), &["/a", "/b"]) }.run(&Host::new());
    assert!(results.unwrap().iter().all(|result| result.problems.is_empty()));
}

#[test]
fn many_pages_do_not_come_all_at_once() {
    let now = Arc::new(Mutex::new((0_usize, 0_usize)));
    let seen = now.clone();
    let server = Server::start(move |_| {
        let mut counts = now.lock().unwrap();
        counts.0 += 1;
        counts.1 = counts.1.max(counts.0);
        drop(counts);
        std::thread::yield_now();
        now.lock().unwrap().0 -= 1;
        Reply::page(200, "")
    });
    let paths: Vec<String> = (0..60).map(|number| format!("/{number}")).collect();
    let mut check = check(&server.url(), &[]);
    check.pages = paths.iter().map(Page::new).collect();
    check.perform(&Host::new()).unwrap();
    assert_eq!(server.asked().len(), 60);
    assert!(seen.lock().unwrap().1 <= deploykit::operations::smoke_check::AT_ONCE);
}

#[test]
fn a_cancellation_ends_the_wait_for_an_answer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("site.sock");
    let silent = Server::start(|_| Reply::Silence);
    let unix = Server::at(&path, |_| Reply::Silence);
    for (server, connect) in [(&silent, None), (&unix, Some(Connect::Unix(path.clone())))] {
        let cancel = Cancel::new().unwrap();
        let host = Host::new().with_cancel(cancel.clone());
        let mut check = check(&silent.url(), &["/"]);
        // Longer than any test may take.
        (check.connect, check.timeout, check.deadline) = (connect, PATIENCE * 100, PATIENCE * 100);
        let asking = std::thread::spawn(move || check.perform(&host));
        eventually("it is asked", || !server.asked().is_empty());
        cancel.request();
        assert!(matches!(asking.join().unwrap(), Err(SmokeError::Cancelled)));
    }
}

#[test]
fn a_cancellation_ends_a_pause() {
    let server = Server::start(|_| Reply::page(502, ""));
    let cancel = Cancel::new().unwrap();
    let host = Host::new().with_cancel(cancel.clone());
    let check = SmokeCheck { deadline: PATIENCE * 100, ..check(&server.url(), &["/"]) };
    let asking = std::thread::spawn(move || check.perform(&host));
    eventually("it is asked twice", || server.asked().len() > 1);
    cancel.request();
    assert!(matches!(asking.join().unwrap(), Err(SmokeError::Cancelled)));
}

// What listens is not what it should be

#[test]
fn what_does_not_speak_http_is_named() {
    let server = Server::start(|_| Reply::Bytes(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n".to_vec()));
    // The test would not end within its patience if the deadline were waited for.
    let settle = Duration::from_millis(300);
    let check = SmokeCheck { settle, deadline: PATIENCE * 100, ..check(&server.url(), &["/"]) };
    let failing = failing(check.perform(&Host::new()));
    let text = failing[0].to_string();
    assert!(text.starts_with("`/`: what listens at `127.0.0.1:"), "{text}");
    assert!(text.contains("does not answer in HTTP"), "{text}");
    assert!(failing[0].attempts > 1, "{failing:?}");
}

#[test]
fn a_name_that_does_not_exist_is_named() {
    let error = Client::new(None, None).unwrap().get("http://nothing.invalid/", PATIENCE).unwrap_err();
    assert!(matches!(&error, HttpError::Dns { name, .. } if name == "nothing.invalid"), "{error:?}");
    assert!(!error.is_temporary());
}

#[test]
fn tls_to_a_server_without_it_is_named() {
    let server = Server::start(|_| Reply::page(400, ""));
    let connect = format!("https://127.0.0.1:{}", server.port()).parse().unwrap();
    let error = Client::new(Some(connect), None).unwrap().get("https://site.example/", PATIENCE).unwrap_err();
    assert!(matches!(error, HttpError::Tls { .. }), "{error:?}");
}

// Baseline

#[test]
fn the_site_after_a_rollback_is_compared_with_the_site_before() {
    let server = Server::start(|request| match request.path.as_str() {
        "/" => Reply::page(200, "Welcome"),
        "/new/" => Reply::page(404, ""),
        _ => Reply::page(500, ""),
    });
    let mut check = strict(&server.url(), &["/new/", "/broken/"]);
    check.pages.push(Page { contains: vec!["Welcome".to_owned()], ..Page::new("/") });
    let baseline = check.run(&Host::new()).unwrap();
    assert_eq!(
        baseline.iter().map(|page| page.status).collect::<Vec<_>>(),
        [Some(404), Some(500), Some(200)]
    );
    let stored: Vec<PageResult> = serde_json::from_str(&serde_json::to_string(&baseline).unwrap()).unwrap();
    let old = check.like(&stored);
    assert_eq!(old.pages.iter().map(|page| page.path.as_str()).collect::<Vec<_>>(), ["/new/", "/"]);
    old.perform(&Host::new()).unwrap();
    assert!(check.perform(&Host::new()).is_err());
}

// Commands

#[test]
fn commands_run_in_the_environment_of_the_site_after_the_pages() {
    let server = Server::start(|request| Reply::page(if request.path == "/" { 200 } else { 404 }, ""));
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("mark");
    let mut variables = Variables::new();
    variables.set("SITE_WORD", "from-the-site");
    let host = Host::new().with_variables(variables);
    let command = Command::new("sh").args(["-c", "printf %s \"$SITE_WORD\" > \"$0\""]).arg(&mark);
    let mut check = strict(&server.url(), &["/wrong"]);
    check.commands = vec![command];
    assert!(check.perform(&host).is_err());
    assert!(!mark.exists(), "no command runs while a page is wrong");
    check.pages = vec![Page::new("/")];
    check.check(&host).unwrap();
    assert!(!mark.exists(), "looking runs no command");
    check.perform(&host).unwrap();
    assert_eq!(fs::read_to_string(&mark).unwrap(), "from-the-site");

    check.commands = vec![Command::new("sh").args(["-c", "echo no login; exit 3"])];
    let error = check.perform(&host).unwrap_err();
    let SmokeError::Command(error) = error else { panic!("{error:?}") };
    assert_eq!((error.code(), error.tail()), (Some(3), &["no login".to_owned()][..]));
    check.pages.clear();
    (check.commands, check.deadline) = (vec![Command::new("sleep").arg("300")], Duration::from_millis(500));
    let error = check.perform(&host).unwrap_err();
    assert!(error.to_string().contains("did not finish within"), "{error}");
}

#[test]
fn commands_alone_are_a_check() {
    let check = SmokeCheck { commands: vec![Command::new("true")], ..SmokeCheck::default() };
    check.perform(&Host::new()).unwrap();
    let Check::Change(change) = check.check(&Host::new()).unwrap() else { panic!("it is not known") };
    assert_eq!(change.reason, "1 command");
    operations::apply(&check, &mut Context::default()).unwrap();
    let failing = SmokeCheck { commands: vec![Command::new("false")], ..check };
    assert!(matches!(operations::apply(&failing, &mut Context::default()), Err(ApplyError::Undone { .. })));
}
