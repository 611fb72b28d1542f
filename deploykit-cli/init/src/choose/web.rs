//! Chooses what answers requests: the role of a program, where it listens, and its public address.

use std::path::{Path, PathBuf};

use crate::findings::{Found, in_backticks};
use crate::read::files::{dotenv, file_name, shown, text};
use crate::read::front::{Front, Wsgi};
use crate::read::literals;
use crate::read::program::{Program, SERVERS};
use crate::read::settings::{Settings, assignment};
use deploykit::internal::names;
use deploykit::services::Role;

/// Programs that serve the site and hold none of its code: they never stop in a window.
const REQUIRED: [&str; 18] = [
    "apache2",
    "caddy",
    "elasticsearch",
    "haproxy",
    "httpd",
    "mariadbd",
    "meilisearch",
    "memcached",
    "minio",
    "mysqld",
    "nginx",
    "pgbouncer",
    "postgres",
    "rabbitmq-server",
    "redis-server",
    "traefik",
    "valkey-server",
    "varnishd",
];

/// Returns what a command line is for.
pub(crate) fn role(command: &[String]) -> Role {
    let first = command.first().map(|word| file_name(Path::new(word))).unwrap_or_default();
    if server(command).is_some()
        || first == "mod_wsgi"
        || first.contains("gunicorn")
        || command.iter().any(|word| word == "runserver")
    {
        Role::Web
    } else if REQUIRED.contains(&first.as_str()) {
        Role::Required
    } else if is_scheduler(command) {
        Role::Timer
    } else {
        Role::Worker
    }
}

/// Tells whether a command only starts jobs by the clock, which others run.
fn is_scheduler(command: &[String]) -> bool {
    let named = |name: &str| command.iter().any(|word| file_name(Path::new(word)) == name);
    (named("celery") && named("beat")) || named("celerybeat") || named("rqscheduler")
}

/// Returns what a program is for; a worker that a web server passes requests to is a web service.
pub(crate) fn role_behind(program: &Program, fronts: &[&Front]) -> Role {
    if program.unit.as_ref().is_some_and(|unit| unit.ends_with(".timer")) {
        return Role::Timer;
    }
    let role = role(&program.command);
    let asked = |word: &String| fronts.iter().any(|front| front.passes_to(word).is_some());
    if role == Role::Worker && program.command.iter().any(asked) { Role::Web } else { role }
}

/// Returns the server that a command line starts, and its arguments.
fn server(command: &[String]) -> Option<(&'static str, &[String])> {
    // `env A=b python -m gunicorn …` has it at the fifth place.
    command.iter().take(8).enumerate().find_map(|(index, word)| {
        let name = file_name(Path::new(word));
        let server = SERVERS.into_iter().find(|server| *server == name)?;
        Some((server, &command[index + 1..]))
    })
}

/// Returns where a program listens.
fn listens(program: &Program) -> Found<String> {
    let source = file_name(&program.file);
    if let Some(listens) = &program.listens {
        return Found::new(listens.clone(), source);
    }
    let Some((server, args)) = server(&program.command) else { return Found::default() };
    let directory = program.directory.clone().unwrap_or_default();
    if let Some(socket) = &program.socket {
        return address(socket, &directory)
            .map_or_else(Found::default, |address| Found::new(address, source));
    }
    let option = |names: &[&str]| {
        args.iter().enumerate().rev().find_map(|(index, word)| {
            names.iter().find_map(|name| {
                if word == name {
                    return args.get(index + 1).cloned();
                }
                let rest = word.strip_prefix(name)?;
                let short = !name.starts_with("--");
                rest.strip_prefix('=').or(short.then_some(rest)).map(str::to_owned)
            })
        })
    };
    let given = match server {
        "uvicorn" | "daphne" => option(&["--uds", "-u"]).map(|path| format!("unix:{path}")).or_else(|| {
            let port = option(&["--port", "-p"]).unwrap_or_else(|| "8000".to_owned());
            let host = option(&["--host", "-b", "--bind"]).unwrap_or_else(|| "127.0.0.1".to_owned());
            Some(joined(&host, &port))
        }),
        "gunicorn" | "hypercorn" => option(&["--bind", "-b"]),
        "granian" => {
            let host = option(&["--host"]).or_else(|| program.variable("GRANIAN_HOST"));
            let port = option(&["--port"]).or_else(|| program.variable("GRANIAN_PORT"));
            let host = host.unwrap_or_else(|| "127.0.0.1".to_owned());
            Some(joined(&host, &port.unwrap_or_else(|| "8000".to_owned())))
        }
        "waitress-serve" => option(&["--listen"]),
        // uwsgi speaks a protocol of its own there.
        _ => return Found::default(),
    };
    if let Some(given) = given {
        return match address(&program.filled(&given), &directory) {
            Some(address) => Found::new(address, source),
            None => Found::open(format!(
                "the web service listens at `{given}`, which is not an address that can be used as it stands"
            )),
        };
    }
    if server == "hypercorn" {
        let file = directory.join(option(&["--config", "-c"]).unwrap_or_default());
        let binds = text(&file).and_then(|text| text.parse::<toml::Table>().ok());
        let bind = binds.and_then(|table| match table.get("bind")? {
            toml::Value::Array(all) => all.first()?.as_str().map(str::to_owned),
            one => one.as_str().map(str::to_owned),
        });
        let bind = bind.and_then(|bind| address(&bind, &directory));
        return bind.map_or_else(Found::default, |bind| Found::new(bind, file_name(&file)));
    }
    if server != "gunicorn" {
        return Found::default();
    }
    let config = directory.join(option(&["--config", "-c"]).unwrap_or_else(|| "gunicorn.conf.py".to_owned()));
    if let Some(bind) = text(&config).and_then(|text| assignment(&text, "bind")) {
        let first = literals::strings(&bind).into_iter().next().unwrap_or_default();
        return match address(&first, &directory) {
            Some(address) => Found::new(address, file_name(&config)),
            None => Found::open(format!("`{}` computes where gunicorn listens", file_name(&config))),
        };
    }
    match program.variable("PORT") {
        Some(port) if port.parse::<u16>().is_ok() => {
            Found::new(format!("127.0.0.1:{port}"), "PORT of gunicorn")
        }
        _ => Found::new("127.0.0.1:8000".to_owned(), "where gunicorn listens when it is told nothing"),
    }
}

/// Joins a host and a port; an IPv6 address without brackets gets them.
fn joined(host: &str, port: &str) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Turns what a server is told to listen at into what a client can connect to.
fn address(text: &str, directory: &Path) -> Option<String> {
    if text.contains(['$', '%', '{', '#']) {
        return None;
    }
    if let Some(path) = text.strip_prefix("unix:") {
        let path = if path.starts_with("//") { path.trim_start_matches('/') } else { path };
        let path =
            if text.starts_with("unix://") { PathBuf::from("/").join(path) } else { directory.join(path) };
        return path.is_absolute().then(|| format!("unix:{}", names::normal(&path).display()));
    }
    let text = text.strip_prefix("tcp://").or(text.strip_prefix("http://")).unwrap_or(text);
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (text, "8000"),
    };
    port.parse::<u16>().ok()?;
    let host = match host {
        "" | "0.0.0.0" | "*" if text.contains(':') || !host.is_empty() => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_[]:".contains(c);
    let number = host.chars().all(|c| c.is_ascii_digit());
    (!number && host.chars().all(plain)).then(|| format!("{host}:{port}"))
}

/// Returns where the site's web service listens: of several the one that gets most of the site.
pub(crate) fn connect(programs: &[&Program], fronts: &[Front]) -> Found<String> {
    let web = programs.iter().filter(|program| role(&program.command) == Role::Web);
    let mut found: Vec<Found<String>> = web.map(|program| listens(program)).collect();
    found.sort_by_key(|found| {
        let address = found.value.as_deref().unwrap_or_default();
        let paths = fronts.iter().filter_map(|front| front.passes_to(address)).map(str::len);
        paths.min().unwrap_or(usize::MAX)
    });
    found.into_iter().next().unwrap_or_default()
}

/// Returns the public hosts that the settings allow, and where they stand.
pub(crate) fn allowed_hosts(settings: &Settings, env_files: &[PathBuf]) -> Option<(Vec<String>, PathBuf)> {
    let (file, expression) = settings.assigned("ALLOWED_HOSTS")?;
    let hosts = public_hosts(&literals::strings(&expression));
    if !hosts.is_empty() {
        return Some((hosts, file.to_owned()));
    }
    let names = literals::strings(&expression);
    env_files.iter().find_map(|file| {
        let text = text(file)?;
        let hosts = names.iter().find_map(|name| dotenv(&text, name))?;
        let hosts: Vec<String> = hosts.split([',', ' ']).map(|host| host.trim().to_owned()).collect();
        Some((public_hosts(&hosts), file.clone())).filter(|(hosts, _)| !hosts.is_empty())
    })
}

/// Leaves out the virtual hosts of other sites.
pub(crate) fn of_this_site<'f>(
    top: &Path,
    fronts: &'f [Front],
    hosts: &[String],
    programs: &[&Program],
) -> Vec<&'f Front> {
    let addresses: Vec<String> = programs.iter().filter_map(|program| listens(program).value).collect();
    let mut about: Vec<&Front> = fronts
        .iter()
        .filter(|front| {
            let passes = addresses.iter().any(|address| front.passes_to(address).is_some());
            let runs = |wsgi: &Wsgi| wsgi.script.starts_with(top);
            passes || front.wsgi.as_ref().is_some_and(runs)
        })
        .collect();
    if about.is_empty() {
        let named = |front: &&Front| {
            front.file.starts_with(top) || front.names.iter().any(|name| hosts.contains(name))
        };
        about = fronts.iter().filter(named).collect();
    }
    // What sends others to the site has its names.
    let names: Vec<&String> = about.iter().flat_map(|front| &front.names).collect();
    let same = |front: &&Front| {
        about.iter().any(|one| one == front) || front.names.iter().any(|name| names.contains(&name))
    };
    fronts.iter().filter(same).collect()
}

/// Leaves out nginx's files that are about other sites.
pub(crate) fn nginx_of_this_site<'n>(
    top: &Path,
    all: &'n [(PathBuf, String)],
    fronts: &[&Front],
    connect: Option<&str>,
) -> Vec<&'n (PathBuf, String)> {
    let connect = connect.map(|address| address.trim_start_matches("uwsgi:").trim_start_matches("unix:"));
    let about = |(file, text): &&(PathBuf, String)| {
        let named = fronts.iter().any(|front| front.file == *file);
        let at = |what: Option<&str>| what.is_some_and(|what| text.contains(what));
        file.starts_with(top) || named || at(connect) || at(top.to_str().filter(|top| top.len() > 1))
    };
    all.iter().filter(about).collect()
}

/// Chooses the public address, and the first page: what the web server in front passes on, under a name that is allowed.
pub(crate) fn base(
    top: &Path,
    hosts: Option<(Vec<String>, PathBuf)>,
    fronts: &[&Front],
    connect: Option<&str>,
    secure: bool,
) -> (Found<String>, Option<String>) {
    let (allowed, file) = hosts.unwrap_or_default();
    let passed = |front: &&&Front| {
        front.wsgi.is_some() || connect.is_some_and(|connect| front.passes_to(connect).is_some())
    };
    let mut serving: Vec<&&Front> = fronts.iter().filter(passed).collect();
    if serving.is_empty() {
        serving = fronts.iter().collect();
    }
    // What the repository ships is an example beside what is installed.
    serving.sort_by_key(|front| (front.file.starts_with(top), !front.https));
    for front in serving {
        let names = public_hosts(&front.names);
        let name = names.iter().find(|name| allowed.contains(name)).or(names.first()).or(allowed.first());
        let Some(name) = name else { continue };
        let page = connect.and_then(|connect| front.passes_to(connect)).filter(|path| *path != "/");
        let page = page.map(|path| format!("{}/", path.trim_end_matches('/')));
        let scheme = if front.https { "https" } else { "http" };
        return (Found::new(format!("{scheme}://{name}/"), shown(top, &front.file)), page);
    }
    let port = connect.and_then(|connect| connect.rsplit_once(':')).map_or("", |(_, port)| port);
    let found = match allowed.as_slice() {
        [] => Found::default(),
        [only] if secure => Found::new(format!("https://{only}/"), shown(top, &file)),
        [only] => Found::guess(
            format!("https://{only}/"),
            "no web server was found here; is it https, and at this host?",
        ),
        several => {
            let at = |host: &String| {
                if port.parse::<u16>().is_ok() {
                    format!("http://{host}:{port}/")
                } else {
                    format!("https://{host}/")
                }
            };
            Found::open(format!(
                "no web server was found here; is it {}?",
                in_backticks(several.iter().map(at))
            ))
        }
    };
    (found, None)
}

/// Returns those that are the name of one public host.
pub(crate) fn public_hosts(names: &[String]) -> Vec<String> {
    let is_name = |name: &str| {
        let labels: Vec<&str> = name.split('.').collect();
        labels.len() > 1
            && labels.iter().all(|label| {
                !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            })
            && labels.last().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_alphabetic()))
            && !name.ends_with(".local")
    };
    let concrete: Vec<String> = names.iter().filter(|name| is_name(name)).cloned().collect();
    if !concrete.is_empty() {
        return concrete;
    }
    // `.example.com` stands for the host itself, too.
    names
        .iter()
        .filter_map(|name| name.strip_prefix('.'))
        .filter(|name| is_name(name))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::program::words;

    fn program(command: &str) -> Program {
        Program {
            command: words(command),
            directory: Some("/srv/site".into()),
            file: "/etc/site.conf".into(),
            ..Program::default()
        }
    }

    fn listening(command: &str) -> Option<String> {
        listens(&program(command)).value
    }

    #[test]
    fn a_server_listens_where_it_was_told() {
        let is = |command: &str, expected: Option<&str>| {
            assert_eq!(listening(command).as_deref(), expected, "{command}")
        };
        is("/v/bin/gunicorn x -b 127.0.0.1:9000", Some("127.0.0.1:9000"));
        is("/v/bin/gunicorn x -b127.0.0.1:9000", Some("127.0.0.1:9000"));
        is("gunicorn x --bind=unix:/run/a.sock", Some("unix:/run/a.sock"));
        is("gunicorn x --bind unix:run/a.sock", Some("unix:/srv/site/run/a.sock"));
        is("gunicorn x --bind unix:///run/a.sock", Some("unix:/run/a.sock"));
        is("gunicorn x -b :8001", Some("127.0.0.1:8001"));
        is("gunicorn x -b 0.0.0.0:8001", Some("127.0.0.1:8001"));
        is("gunicorn x -b [::]:8001", Some("[::1]:8001"));
        is("gunicorn x -b localhost", Some("localhost:8000"));
        is("gunicorn x", Some("127.0.0.1:8000"));
        is("gunicorn x -b $ADDRESS", None);
        is("gunicorn x -b :${PORT:-8003}", Some("127.0.0.1:8003"));
        is("env A=b /v/bin/python -m gunicorn x -b :1", Some("127.0.0.1:1"));
        is("uvicorn x --host 0.0.0.0 --port 80", Some("127.0.0.1:80"));
        is("granian --host :: --port 81 x", Some("[::1]:81"));
        is("uvicorn x --uds /run/u.sock", Some("unix:/run/u.sock"));
        is("daphne -b 127.0.0.1 -p 8005 x", Some("127.0.0.1:8005"));
        is("uwsgi --ini x.ini", None);
        is("celery -A x worker -b redis://", None);
    }

    #[test]
    fn an_address_may_have_variables() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(".env");
        std::fs::write(&file, "PORT=8471\n").unwrap();
        let mut program = program("gunicorn x -b $HOST:${PORT}");
        program.environment_files = vec![file];
        assert!(listens(&program).question.is_some());
        program.environment = vec![("HOST".to_owned(), "localhost".to_owned())];
        assert_eq!(listens(&program).value.as_deref(), Some("localhost:8471"));
    }

    #[test]
    fn a_socket_that_the_manager_holds_comes_first() {
        let mut program = program("gunicorn x -b fd://0");
        program.socket = Some("unix:///run/held.sock".into());
        assert_eq!(listens(&program).value.as_deref(), Some("unix:/run/held.sock"));
        program.socket = Some("tcp://localhost:8002".into());
        assert_eq!(listens(&program).value.as_deref(), Some("localhost:8002"));
    }

    #[test]
    fn gunicorns_own_file_is_asked() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join("gunicorn.conf.py"),
            "workers = 2\nbind = ['127.0.0.1:8123', ':1']\n",
        )
        .unwrap();
        let mut program = program("gunicorn x");
        program.directory = Some(directory.path().to_owned());
        assert_eq!(listens(&program), Found::new("127.0.0.1:8123".into(), "gunicorn.conf.py"));
        std::fs::write(directory.path().join("other.py"), "bind = f'{host}:1'\n").unwrap();
        program.command = words("gunicorn -c other.py x");
        assert!(listens(&program).question.is_some());
    }

    #[test]
    fn roles_follow_from_command_lines() {
        let is = |command: &str| role(&words(command));
        assert_eq!(is("/v/bin/gunicorn x"), Role::Web);
        assert_eq!(is("/srv/site/bin/gunicorn_start"), Role::Web);
        assert_eq!(is("/v/bin/python manage.py runserver"), Role::Web);
        assert_eq!(is("/v/bin/celery -A x worker -B"), Role::Worker);
        assert_eq!(is("/v/bin/celery --app x beat -l info"), Role::Timer);
        assert_eq!(is("/v/bin/python manage.py rqscheduler"), Role::Timer);
        assert_eq!(is("/v/bin/python manage.py run_huey"), Role::Worker);
        assert_eq!(is("/usr/bin/redis-server /etc/redis.conf"), Role::Required);
        assert_eq!(is("/usr/sbin/nginx -g 'daemon off;'"), Role::Required);
    }

    #[test]
    fn a_public_host_is_one_that_others_can_ask() {
        let host =
            |names: &[&str]| public_hosts(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(host(&["*", "localhost", "127.0.0.1", "a.example"]), ["a.example"]);
        assert_eq!(host(&[".example.com", "[::1]"]), ["example.com"]);
        assert_eq!(host(&["ALLOWED_HOSTS", "_", ""]), [""; 0]);
    }
}
