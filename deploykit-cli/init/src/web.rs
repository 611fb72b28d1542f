//! What answers requests: the role of a program, where it listens, and what nginx does during maintenance.

use std::path::{Path, PathBuf};

use regex::Regex;

use super::files::{file_name, text};
use super::literals;
use super::supervisor::{Program, words};
use super::{Found, python};
use deploykit::internal::names;
use deploykit::services::Role;

const SERVERS: [&str; 7] =
    ["gunicorn", "uvicorn", "daphne", "hypercorn", "granian", "uwsgi", "waitress-serve"];
const REQUIRED: [&str; 6] =
    ["redis-server", "valkey-server", "memcached", "rabbitmq-server", "postgres", "mariadbd"];

/// Returns what a command line is for.
pub(super) fn role(command: &[String]) -> Role {
    let first = command.first().map(|word| file_name(Path::new(word))).unwrap_or_default();
    if server(command).is_some()
        || first.contains("gunicorn")
        || command.iter().any(|word| word == "runserver")
    {
        Role::Web
    } else if REQUIRED.contains(&first.as_str()) {
        Role::Required
    } else {
        Role::Worker
    }
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

/// Returns the words of the line of a start script that starts something, with the script's own variables filled in.
pub(super) fn script_words(script: &str) -> Vec<String> {
    let script = script.replace("\\\n", " ");
    let mut variables: Vec<(String, String)> = Vec::new();
    let fill = |line: &str, variables: &[(String, String)]| {
        // The longest name first: `$SITE_DIR` is not `$SITE`.
        let mut variables: Vec<&(String, String)> = variables.iter().collect();
        variables.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        variables.iter().fold(line.to_owned(), |line, (name, value)| {
            line.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value)
        })
    };
    let mut found = Vec::new();
    for line in script.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let assigned = line.strip_prefix("export ").unwrap_or(line);
        if let Some((name, value)) = assigned.split_once('=')
            && !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            let value = value.split(" #").next().unwrap_or(value);
            let value = words(&fill(value, &variables)).into_iter().next().unwrap_or_default();
            variables.push((name.to_owned(), value));
            continue;
        }
        let line = fill(line, &variables);
        let words = words(&line);
        let starts = |word: &String| {
            let name = file_name(Path::new(word));
            SERVERS.contains(&name.as_str()) || ["celery", "manage.py", "activate"].contains(&name.as_str())
        };
        if words.iter().any(starts) {
            found.extend(
                words
                    .into_iter()
                    .skip_while(|word| ["exec", "source", ".", "nohup"].contains(&word.as_str())),
            );
        }
    }
    found
}

/// Returns where a program listens.
pub(super) fn listens(program: &Program) -> Found<String> {
    let Some((server, args)) = server(&program.command) else { return Found::default() };
    let source = file_name(&program.file);
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
            Some(format!("{host}:{port}"))
        }),
        "gunicorn" | "hypercorn" => option(&["--bind", "-b"]),
        "waitress-serve" => option(&["--listen"]),
        // uwsgi speaks a protocol of its own there.
        _ => return Found::default(),
    };
    if let Some(given) = given {
        return match address(&given, &directory) {
            Some(address) => Found::new(address, source),
            None => Found::open(format!(
                "the web service listens at `{given}`, which is not an address that can be used as it stands"
            )),
        };
    }
    if server != "gunicorn" {
        return Found::default();
    }
    let config = directory.join(option(&["--config", "-c"]).unwrap_or_else(|| "gunicorn.conf.py".to_owned()));
    if let Some(bind) = text(&config).and_then(|text| python::assignment(&text, "bind")) {
        let first = literals::strings(&bind).into_iter().next().unwrap_or_default();
        return match address(&first, &directory) {
            Some(address) => Found::new(address, file_name(&config)),
            None => Found::open(format!("`{}` computes where gunicorn listens", file_name(&config))),
        };
    }
    match program.environment.iter().find(|(name, _)| name == "PORT") {
        Some((_, port)) if port.parse::<u16>().is_ok() => {
            Found::new(format!("127.0.0.1:{port}"), "PORT of gunicorn")
        }
        _ => Found::new("127.0.0.1:8000".to_owned(), "where gunicorn listens when it is told nothing"),
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

/// Returns the file that makes nginx answer 503 while it exists.
pub(super) fn maintenance_page(nginx: &str) -> Option<PathBuf> {
    let nginx: String =
        nginx.lines().map(|line| line.split('#').next().unwrap_or(line).to_owned() + "\n").collect();
    let condition = Regex::new(r#"if\s*\(\s*-f\s+["']?([^)"'\s]+)["']?\s*\)\s*\{([^}]*)\}"#).ok()?;
    let root = Regex::new(r#"(?m)(?:^|[\s;{])root\s+["']?([^;"']+)["']?\s*;"#).ok()?;
    condition.captures_iter(&nginx).find_map(|found| {
        let path = &found[1];
        if !path.to_lowercase().contains("maint") && !found[2].contains("503") {
            return None;
        }
        let before = found.get(0).map_or(0, |whole| whole.start());
        let root = root.captures_iter(&nginx[..before]).last().map(|root| root[1].trim().to_owned());
        let path = match root {
            Some(root) => path.replace("$document_root", &root),
            None => path.to_owned(),
        };
        (path.starts_with('/') && !path.contains('$')).then(|| names::normal(Path::new(&path)))
    })
}

/// Returns the names of the servers that a file of nginx is about.
pub(super) fn server_names(nginx: &str) -> Vec<String> {
    let Ok(pattern) = Regex::new(r"(?m)^\s*server_name\s+([^;]+);") else { return Vec::new() };
    pattern
        .captures_iter(nginx)
        .flat_map(|found| found[1].split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// Returns nginx's log of errors.
pub(super) fn error_log(nginx: &str) -> Option<PathBuf> {
    let found = Regex::new(r"(?m)^\s*error_log\s+([^;\s]+)").ok()?.captures(nginx)?;
    Some(PathBuf::from(&found[1])).filter(|path| super::supervisor::is_log(path))
}

/// Returns the first of these that is the name of one public host.
pub(super) fn public_host(names: &[String]) -> Option<String> {
    let is_name = |name: &str| {
        let labels: Vec<&str> = name.split('.').collect();
        labels.len() > 1
            && labels.iter().all(|label| {
                !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            })
            && labels.last().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_alphabetic()))
            && !name.ends_with(".local")
    };
    let concrete = names.iter().find(|name| is_name(name)).cloned();
    // `.example.com` stands for the host itself, too.
    concrete.or_else(|| {
        names.iter().filter_map(|name| name.strip_prefix('.')).find(|name| is_name(name)).map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        is("env A=b /v/bin/python -m gunicorn x -b :1", Some("127.0.0.1:1"));
        is("uvicorn x --host 0.0.0.0 --port 80", Some("127.0.0.1:80"));
        is("uvicorn x --uds /run/u.sock", Some("unix:/run/u.sock"));
        is("daphne -b 127.0.0.1 -p 8005 x", Some("127.0.0.1:8005"));
        is("uwsgi --ini x.ini", None);
        is("celery -A x worker -b redis://", None);
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
        assert_eq!(is("/v/bin/celery -A x worker"), Role::Worker);
        assert_eq!(is("/v/bin/python manage.py run_huey"), Role::Worker);
        assert_eq!(is("/usr/bin/redis-server /etc/redis.conf"), Role::Required);
    }

    #[test]
    fn a_start_script_is_read_with_its_variables() {
        let script = "#!/bin/bash\nSITE=/srv/site\nSITE_SOCK=$SITE/run/x.sock # here\n# gunicorn old\n\
                      source /srv/venv/bin/activate\nexec gunicorn app:application \\\n  --bind=unix:${SITE_SOCK}\n";
        let words = script_words(script);
        assert_eq!(
            words,
            ["/srv/venv/bin/activate", "gunicorn", "app:application", "--bind=unix:/srv/site/run/x.sock"]
        );
    }

    #[test]
    fn nginx_names_the_maintenance_page() {
        let page = |text: &str| maintenance_page(text).map(|path| path.to_string_lossy().into_owned());
        assert_eq!(
            page("if (-f /srv/www/tmp/maintenance.html) { return 503; }").as_deref(),
            Some("/srv/www/tmp/maintenance.html")
        );
        let root = "server {\n  root /srv/www;\n  if (-f $document_root/maintenance_on.html) {\n    return 503;\n  }\n}";
        assert_eq!(page(root).as_deref(), Some("/srv/www/maintenance_on.html"));
        assert_eq!(page("if (-f $request_filename) { break; }"), None);
        assert_eq!(page("# if (-f /srv/maintenance.html) { return 503; }"), None);
        assert_eq!(page("if (-f $x/maintenance.html) { return 503; }"), None);
    }

    #[test]
    fn a_public_host_is_one_that_others_can_ask() {
        let host =
            |names: &[&str]| public_host(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(host(&["*", "localhost", "127.0.0.1", "a.example"]).as_deref(), Some("a.example"));
        assert_eq!(host(&[".example.com", "[::1]"]).as_deref(), Some("example.com"));
        assert_eq!(host(&["ALLOWED_HOSTS", "_", ""]), None);
    }
}
