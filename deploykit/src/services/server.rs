//! Servers of Python web applications, recognized by their command lines.

use std::path::Path;

/// A command line of such a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Server<'w> {
    /// The name of its program.
    pub name: &'static str,
    /// Whether it was started by `python -m`.
    pub is_module: bool,
    /// Its own arguments.
    pub arguments: &'w [String],
}

/// The names of the servers' programs and modules.
const NAMES: [&str; 5] = ["gunicorn", "uvicorn", "hypercorn", "daphne", "granian"];

impl<'w> Server<'w> {
    /// Finds the server in a command line: `python /srv/venv/bin/gunicorn …`, `gunicorn …` or `python -m gunicorn …`.
    pub fn of(words: &'w [String]) -> Option<Self> {
        let (program, rest) = words.split_first()?;
        let found = |name, is_module, arguments| Some(Server { name, is_module, arguments });
        if let Some(name) = named(program) {
            return found(name, false, rest);
        }
        if !["python", "pypy"].iter().any(|python| file_name(program).starts_with(python)) {
            return None;
        }
        match rest {
            [option, module, arguments @ ..] if option == "-m" => {
                let module = if module == "gunicorn.app.wsgiapp" { "gunicorn" } else { module };
                found(NAMES.into_iter().find(|name| name == &module)?, true, arguments)
            }
            [script, arguments @ ..] => found(named(script)?, false, arguments),
            [] => None,
        }
    }
}

fn named(path: &str) -> Option<&'static str> {
    NAMES.into_iter().find(|name| file_name(path) == *name)
}

fn file_name(path: &str) -> &str {
    Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_found_in_each_shape_of_a_command_line() {
        let found = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            Server::of(&words).map(|it| format!("{} {} {}", it.name, it.is_module, it.arguments.join(" ")))
        };
        for line in ["/v/bin/python3.11 /v/bin/gunicorn", "gunicorn", "/v/bin/gunicorn"] {
            let line = format!("{line} -w 2 config.wsgi");
            assert_eq!(found(&line).as_deref(), Some("gunicorn false -w 2 config.wsgi"));
        }
        for module in ["gunicorn", "gunicorn.app.wsgiapp"] {
            let line = format!("python -m {module} config.wsgi");
            assert_eq!(found(&line).as_deref(), Some("gunicorn true config.wsgi"));
        }
        assert_eq!(found("uvicorn --fd 3 a:b").as_deref(), Some("uvicorn false --fd 3 a:b"));
        assert_eq!(found("pypy3 -m hypercorn a:b").as_deref(), Some("hypercorn true a:b"));
        assert_eq!(found("/v/bin/python /v/bin/daphne a:b").as_deref(), Some("daphne false a:b"));
        for line in [
            "gunicorn: master [config.wsgi]",
            "python manage.py runserver",
            "python -c spawn_main() --multiprocessing-fork",
            "sh -c gunicorn",
            "uwsgi --ini a",
        ] {
            assert_eq!(found(line), None, "{line}");
        }
    }
}
