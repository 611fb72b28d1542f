//! The real servers.

use super::*;

// gunicorn and nginx

/// Starts gunicorn from the wheels, which needs no installation.
fn gunicorn(directory: &Path) -> Option<Running> {
    let (python, wheels) = (program("python3")?, wheels()?);
    let wheel = |name: &str| -> Option<PathBuf> {
        let found = fs::read_dir(&wheels).unwrap().map(|entry| entry.unwrap().path());
        found.into_iter().find(|path| path.file_name().unwrap().to_string_lossy().starts_with(name))
    };
    let (Some(gunicorn), Some(packaging)) = (wheel("gunicorn-"), wheel("packaging-")) else {
        skip("there is no wheel of gunicorn")
    };
    let application = r#"
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['wsgi.url_scheme']}://{environ['HTTP_HOST']}{environ['PATH_INFO']}".encode()]
"#;
    fs::write(directory.join("site_wsgi.py"), application).unwrap();
    let mut command = process::Command::new(python);
    command
        .args(["-m", "gunicorn", "--no-control-socket", "--bind", "unix:site.sock", "site_wsgi"])
        .current_dir(directory)
        .env("PYTHONPATH", format!("{}:{}", gunicorn.display(), packaging.display()))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("GUNICORN_CMD_ARGS")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Some(Running::start(&mut command))
}

#[test]
fn gunicorn_is_asked_through_its_socket_while_it_starts() {
    let directory = tempfile::tempdir().unwrap();
    let Some(_gunicorn) = gunicorn(directory.path()) else { return };
    let mut check = check("https://site.example/", &[]);
    check.connect = Some(Connect::Unix(directory.path().join("site.sock")));
    check.pages = vec![Page { contains: vec!["https://site.example/a b".to_owned()], ..Page::new("/a b") }];
    check.perform(&Host::new()).unwrap();
}

#[test]
fn nginx_is_asked_until_gunicorn_behind_it_answers() {
    let directory = tempfile::tempdir().unwrap();
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
        location / { proxy_pass http://unix:DIRECTORY/site.sock; proxy_set_header Host $host; }
    }
}
";
    let configuration = configuration
        .replace("DIRECTORY", &directory.path().to_string_lossy())
        .replace("unix:nginx.sock", &format!("unix:{}/nginx.sock", directory.path().display()));
    fs::write(directory.path().join("nginx.conf"), configuration).unwrap();
    let mut command = process::Command::new(nginx);
    command.arg("-p").arg(directory.path()).args(["-c", "nginx.conf"]).stderr(Stdio::null());
    let _nginx = Running::start(&mut command);
    let mut check = check("http://site.example/", &[]);
    check.connect = Some(Connect::Unix(directory.path().join("nginx.sock")));
    check.pages = vec![Page { status: Some(502), ..Page::new("/") }];
    check.perform(&Host::new()).unwrap();

    let Some(_gunicorn) = gunicorn(directory.path()) else { return };
    check.pages = vec![Page { contains: vec!["http://site.example/".to_owned()], ..Page::new("/") }];
    check.perform(&Host::new()).unwrap();

    check.base = Some("http://other.example/".to_owned());
    check.pages = vec![Page { status: Some(400), ..Page::new("/") }];
    check.perform(&Host::new()).unwrap();
}

// uWSGI

/// Starts a uWSGI that speaks its own protocol at the Unix socket `site.sock` and at a port, which it returns.
fn uwsgi(directory: &Path) -> Option<(Running, u16)> {
    let program = server("uwsgi")?;
    let application = r#"
def application(environ, start):
    path = environ["PATH_INFO"].encode("latin-1").decode()
    if path == "/private/":
        start("302 Found", [("Location", "/login/?next=" + environ["REQUEST_URI"])])
        return []
    start("200 OK" if path != "/broken/" else "500 Internal Server Error", [("Content-Type", "text/plain; charset=utf-8")])
    host, proto = environ["HTTP_HOST"], environ.get("HTTP_X_FORWARDED_PROTO")
    return [f"{environ['wsgi.url_scheme']}://{host}{path}?{environ['QUERY_STRING']} ({proto})".encode()]
"#;
    fs::write(directory.join("site_wsgi.py"), application).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = process::Command::new(program);
    command
        .args(["--socket", "site.sock", "--socket", &format!("127.0.0.1:{port}"), "--module", "site_wsgi"])
        .args(["--socket-timeout", "2", "--need-app"])
        .current_dir(directory)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Some((Running::start(&mut command), port))
}

#[test]
fn uwsgi_is_asked_in_its_own_protocol() {
    let directory = tempfile::tempdir().unwrap();
    let Some((_uwsgi, port)) = uwsgi(directory.path()) else { return };
    let socket = directory.path().join("site.sock");
    for (base, connect, text) in [
        (
            "https://site.example/",
            format!("uwsgi:unix:{}", socket.display()),
            "https://site.example/Größe/?q=a%20b (https)",
        ),
        (
            "http://site.example:81/",
            format!("uwsgi:127.0.0.1:{port}"),
            "http://site.example:81/Größe/?q=a%20b (None)",
        ),
    ] {
        let mut check = strict(base, &[]);
        check.connect = Some(connect.parse().unwrap());
        check.pages = vec![
            Page { contains: vec![text.to_owned()], ..Page::new("/Größe/?q=a b") },
            Page { redirect: Some("/login/?next=/private/".to_owned()), ..Page::new("/private/") },
            Page { status: Some(500), ..Page::new("/broken/") },
        ];
        check.perform(&Host::new()).unwrap();
        check.pages =
            vec![Page { lacks: vec!["site.example".to_owned()], ..Page::new("/") }, Page::new("/broken/")];
        let failing = failing(check.perform(&Host::new()));
        let problems: Vec<String> = failing.iter().map(|page| page.problems[0].to_string()).collect();
        assert_eq!(problems, ["the text `site.example` is there", "expected status 200, got 500"]);
    }
    let mut check = strict("http://site.example/", &[]);
    // Asked in HTTP it says nothing.
    check.deadline = Duration::from_secs(1);
    check.connect = Some(Connect::Unix(socket));
    check.pages = vec![Page::new("/")];
    let failed = failing(check.perform(&Host::new()));
    assert!(matches!(failed[0].problems[0], Problem::NoAnswer { temporary: true, .. }), "{failed:?}");
}
