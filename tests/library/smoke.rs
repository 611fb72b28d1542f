//! Smoke checks against real sockets, real TLS, a real gunicorn and a real nginx.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use deploykit::http::{BODY_LIMIT, Client, Connect, HttpError};
use deploykit::operations::smoke_check::{Page, PageResult, Problem, SmokeCheck, SmokeError};
use deploykit::{Cancel, Check, Command, Environment, Host, Operation, Redactor};

use crate::support::http::{PATIENCE, Reply, Running, Server, eventually, must};
use crate::support::{program, skip, wheels};

fn check(base: &str, pages: &[&str]) -> SmokeCheck {
    SmokeCheck {
        base: Some(base.to_owned()),
        pages: pages.iter().map(|path| Page::new(*path)).collect(),
        deadline: PATIENCE,
        ..SmokeCheck::default()
    }
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
    let mut check = check(&server.url(), &[]);
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
    let error = check.check(&Host::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "3 of 4 pages are not as expected: `/`: expected a redirect to `/start/`, came one to `/login/?next=/`; \
         `/about/`: the text `Contact` is missing (\"About us\"); `/nothing/`: expected status 200, came 404 (\"Not Found\")"
    );
    assert_eq!(server.asked().len() - before, 4, "a check asks once");
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
    let mut check = check(&server.url(), &[]);
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
    check.deadline = PATIENCE * 100;
    let failing = failing(check.perform(&Host::new()));
    let asked = server.asked();
    let count = |path: &str| asked.iter().filter(|request| request.path == path).count();
    assert_eq!((count("/"), count("/fine/")), (3, 1));
    let summary: Vec<_> =
        failing.iter().map(|page| (page.path.as_str(), page.status, page.excerpt.as_str())).collect();
    assert_eq!(
        summary,
        [("/", Some(500), "Server Error (500)"), ("/down/", Some(502), "Bad Gateway")],
        "what is only starting does not keep the rest waiting"
    );
    assert_eq!(failing[0].attempts, 3);
}

#[test]
fn a_socket_that_appears_later_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.sock");
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
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.sock");
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
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.sock");
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
    let failing = failing(check(&server.url(), &["/"]).perform(&Host::new()));
    let text = failing[0].to_string();
    assert!(text.starts_with("`/`: what listens at `127.0.0.1:"), "{text}");
    assert!(text.contains("does not answer in HTTP"), "{text}");
    assert_eq!(failing[0].attempts, 3, "it is not waited for");
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
    let mut check = check(&server.url(), &["/new/", "/broken/"]);
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
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let mut environment = Environment::new();
    environment.set("SITE_WORD", "from-the-site");
    let host = Host::new().with_environment(environment);
    let command = Command::new("sh").args(["-c", "printf %s \"$SITE_WORD\" > \"$0\""]).arg(&mark);
    let mut check = check(&server.url(), &["/wrong"]);
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

// TLS

/// A folder with `ca.pem`, and `site.pem` + `site.key` for `site.example` signed by it.
fn certificates() -> Option<tempfile::TempDir> {
    let openssl = program("openssl")?;
    let folder = tempfile::tempdir().unwrap();
    let run = |line: &str| {
        must(process::Command::new(&openssl).args(line.split(' ')).current_dir(folder.path()));
    };
    fs::write(folder.path().join("names"), "subjectAltName=DNS:site.example\n").unwrap();
    run(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=Test",
    );
    run(
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout site.key -out site.csr -subj /CN=site.example",
    );
    run(
        "x509 -req -in site.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out site.pem -days 2 -extfile names",
    );
    Some(folder)
}

/// Serves pages over TLS that say which name the client asked for, in the handshake and in the request.
fn tls_server(folder: &Path) -> Option<(Running, u16)> {
    let python = program("python3")?;
    let script = r#"
import http.server, ssl
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"sni={self.connection.asked} host={self.headers['Host']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("site.pem", "site.key")
class Socket(ssl.SSLSocket): asked = None
context.sslsocket_class = Socket
def remember(sock, name, _): sock.asked = name
context.sni_callback = remember
class Server(http.server.ThreadingHTTPServer):
    def get_request(self):
        sock, address = super().get_request()
        sock.settimeout(30)
        return context.wrap_socket(sock, server_side=True), address
    def handle_error(self, *args): pass
server = Server(("127.0.0.1", 0), Page)
print(server.server_port, flush=True)
server.serve_forever()
"#;
    let mut command = process::Command::new(python);
    command.args(["-c", script]).current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = Running::start(&mut command);
    let port = running.first_line().parse().unwrap();
    Some((running, port))
}

#[test]
fn a_private_authority_is_trusted_when_it_is_named() {
    let Some(folder) = certificates() else { return };
    let Some((_server, port)) = tls_server(folder.path()) else { return };
    let mut check = check(&format!("https://site.example:{port}/"), &["/"]);
    check.connect = Some(tcp(port));
    let refused = check.run(&Host::new()).unwrap();
    let [Problem::NoAnswer { reason, temporary: false }] = &refused[0].problems[..] else {
        panic!("{refused:?}")
    };
    assert!(reason.contains("UnknownIssuer"), "{reason}");

    check.ca = Some(folder.path().join("ca.pem"));
    check.pages[0].contains = vec![format!("sni=site.example host=site.example:{port}")];
    check.perform(&Host::new()).unwrap();

    // The same, at another port than the URL's.
    check.base = Some("https://site.example/".to_owned());
    check.connect = Some(format!("https://127.0.0.1:{port}").parse().unwrap());
    check.pages[0].contains = vec!["sni=site.example host=site.example".to_owned()];
    check.perform(&Host::new()).unwrap();

    check.base = Some("https://other.example/".to_owned());
    check.pages[0].contains.clear();
    let refused = failing(check.perform(&Host::new()));
    let text = refused[0].to_string();
    assert!(text.contains("cannot trust") && text.contains("other.example"), "{text}");
    assert!(matches!(refused[0].problems[..], [Problem::NoAnswer { temporary: false, .. }]));

    // Plain HTTP at the TLS server's door.
    check.connect = Some(format!("http://127.0.0.1:{port}").parse().unwrap());
    let refused = check.run(&Host::new()).unwrap();
    assert!(matches!(refused[0].problems[..], [Problem::NoAnswer { .. }]), "{refused:?}");
}

#[test]
fn certificates_that_cannot_be_read_are_refused_before_anything_is_asked() {
    let mut check = check("https://site.example/", &["/"]);
    check.ca = Some("/nowhere/ca.pem".into());
    let error = check.perform(&Host::new()).unwrap_err();
    assert_eq!(error.to_string(), "cannot use the certificates in `/nowhere/ca.pem`");
}

// gunicorn and nginx

/// Starts gunicorn from the wheels, which needs no installation.
fn gunicorn(folder: &Path) -> Option<Running> {
    let (python, wheels) = (program("python3")?, wheels()?);
    let wheel = |name: &str| -> Option<PathBuf> {
        let found = fs::read_dir(&wheels).unwrap().map(|entry| entry.unwrap().path());
        found.into_iter().find(|path| path.file_name().unwrap().to_string_lossy().starts_with(name))
    };
    let (Some(gunicorn), Some(packaging)) = (wheel("gunicorn-"), wheel("packaging-")) else {
        skip("there is no wheel of gunicorn");
        return None;
    };
    let application = r#"
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['wsgi.url_scheme']}://{environ['HTTP_HOST']}{environ['PATH_INFO']}".encode()]
"#;
    fs::write(folder.join("site_wsgi.py"), application).unwrap();
    let mut command = process::Command::new(python);
    command
        .args(["-m", "gunicorn", "--no-control-socket", "--bind", "unix:site.sock", "site_wsgi"])
        .current_dir(folder)
        .env("PYTHONPATH", format!("{}:{}", gunicorn.display(), packaging.display()))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("GUNICORN_CMD_ARGS")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Some(Running::start(&mut command))
}

#[test]
fn gunicorn_is_asked_through_its_socket_while_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_gunicorn) = gunicorn(folder.path()) else { return };
    let mut check = check("https://site.example/", &[]);
    check.connect = Some(Connect::Unix(folder.path().join("site.sock")));
    check.pages = vec![Page { contains: vec!["https://site.example/a b".to_owned()], ..Page::new("/a b") }];
    check.perform(&Host::new()).unwrap();
}

#[test]
fn nginx_is_asked_until_gunicorn_behind_it_answers() {
    let folder = tempfile::tempdir().unwrap();
    let (Some(nginx), Some(_)) = (program("nginx"), wheels()) else { return };
    let configuration = "
daemon off; pid nginx.pid; error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    server { listen unix:nginx.sock default_server; return 400; }
    server {
        listen unix:nginx.sock; server_name site.example;
        location / { proxy_pass http://unix:FOLDER/site.sock; proxy_set_header Host $host; }
    }
}
";
    let configuration = configuration
        .replace("FOLDER", &folder.path().to_string_lossy())
        .replace("unix:nginx.sock", &format!("unix:{}/nginx.sock", folder.path().display()));
    fs::write(folder.path().join("nginx.conf"), configuration).unwrap();
    let mut command = process::Command::new(nginx);
    command.arg("-p").arg(folder.path()).args(["-c", "nginx.conf"]).stderr(Stdio::null());
    let _nginx = Running::start(&mut command);
    let mut check = check("http://site.example/", &[]);
    check.connect = Some(Connect::Unix(folder.path().join("nginx.sock")));
    check.pages = vec![Page { status: Some(502), ..Page::new("/") }];
    check.perform(&Host::new()).unwrap();

    let Some(_gunicorn) = gunicorn(folder.path()) else { return };
    check.pages = vec![Page { contains: vec!["http://site.example/".to_owned()], ..Page::new("/") }];
    check.perform(&Host::new()).unwrap();

    check.base = Some("http://other.example/".to_owned());
    check.pages = vec![Page { status: Some(400), ..Page::new("/") }];
    check.perform(&Host::new()).unwrap();
}

#[test]
fn commands_alone_are_a_check() {
    let check = SmokeCheck { commands: vec![Command::new("true")], ..SmokeCheck::default() };
    check.perform(&Host::new()).unwrap();
    assert_eq!(
        check.check(&Host::new()).unwrap(),
        Check::Unchanged { reason: "no pages to ask for".to_owned() }
    );
}
