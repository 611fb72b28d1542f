//! Reads uWSGI's options, from its ini files and command lines.
//!
//! Source: <https://uwsgi-docs.readthedocs.io/en/latest/Configuration.html>.

use std::path::{Path, PathBuf};

use deploykit::internal::names;

use super::files::{file_name, text};
use super::program::{Program, is_log, words};
use crate::findings::Uwsgi;

/// Options in their order; some stand several times.
#[derive(Debug, Default)]
pub(crate) struct Options(Vec<(String, String)>);

impl Options {
    /// Reads an ini file, with its own placeholders filled in.
    pub(crate) fn of_ini(ini: &str, file: &Path) -> Self {
        let directory = file.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut known = vec![
            ("p".to_owned(), file.to_string_lossy().into_owned()),
            ("n".to_owned(), stem),
            ("d".to_owned(), directory + "/"),
        ];
        let mut options = Options::default();
        let mut inside = false;
        for line in ini.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            if line.starts_with('[') {
                inside = line == "[uwsgi]";
            } else if inside && let Some((key, value)) = line.split_once('=') {
                let value = known.iter().fold(value.trim().to_owned(), |value, (name, known)| {
                    let short =
                        if name.len() == 1 { value.replace(&format!("%{name}"), known) } else { value };
                    short.replace(&format!("%({name})"), known)
                });
                known.push((key.trim().to_owned(), value.clone()));
                options.0.push((key.trim().to_owned(), value));
            }
        }
        options
    }

    /// Reads the command line of a program, and the ini file that it names.
    pub(crate) fn of_command(program: &Program) -> Option<Self> {
        let is_uwsgi = |word: &String| file_name(Path::new(word)).starts_with("uwsgi");
        let start = program.command.iter().take(8).position(is_uwsgi)?;
        let mut options = Options::default();
        let mut words = program.command[start + 1..].iter().peekable();
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--") else {
                if word.ends_with(".ini") {
                    options.0.push(("ini".to_owned(), word.clone()));
                }
                continue;
            };
            let value = match name.split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => {
                    let value = words.next_if(|next| !next.starts_with('-')).cloned();
                    (name.to_owned(), value.unwrap_or_else(|| "true".to_owned()))
                }
            };
            options.0.push(value);
        }
        if let Some(ini) = options.get("ini") {
            let file = program.directory.clone().unwrap_or_default().join(ini);
            if let Some(text) = text(&file) {
                options.0.extend(Self::of_ini(&text, &file).0);
            }
        }
        Some(options)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns the directory of an emperor's vassals.
    pub(crate) fn emperor(&self) -> Option<PathBuf> {
        self.get("emperor").map(PathBuf::from)
    }

    fn path(&self, names: &[&str], directory: &Path) -> Option<PathBuf> {
        let found = names.iter().find_map(|name| self.get(name))?;
        Some(names::normal(&directory.join(found)))
    }

    /// Adds to a program what its options say.
    pub(crate) fn fill(&self, program: &mut Program) {
        let filled = self.with_variables(program);
        filled.fill_with(program);
    }

    /// Fills in what the options take from the environment: `$(PORT)`.
    fn with_variables(&self, program: &Program) -> Self {
        let fill = |value: &String| {
            let (mut filled, mut rest) = (String::new(), value.as_str());
            while let Some((before, after)) = rest.split_once("$(")
                && let Some((name, end)) = after.split_once(')')
            {
                let known = program.variable(name).unwrap_or_else(|| format!("$({name})"));
                filled.extend([before, known.as_str()]);
                rest = end;
            }
            filled + rest
        };
        Options(self.0.iter().map(|(name, value)| (name.clone(), fill(value))).collect())
    }

    fn fill_with(&self, program: &mut Program) {
        let directory = program.directory.clone().unwrap_or_default();
        let directory = self.path(&["chdir"], &directory).unwrap_or(directory);
        program.home = self.path(&["home", "virtualenv", "venv", "pyhome", "H"], &directory);
        let module = ["module", "wsgi", "wsgi-file"].iter().find_map(|name| self.get(name));
        program.command.extend(module.map(str::to_owned));
        let variables = self.0.iter().filter(|(name, _)| name == "env");
        let pairs = variables.filter_map(|(_, value)| value.split_once('='));
        program.environment.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let log = self.path(&["daemonize", "logto2", "logto"], &directory);
        program.log = log.filter(|path| is_log(path)).or(program.log.take());
        let address = |names: &[&str]| {
            let address = names.iter().find_map(|name| self.get(name)).filter(|it| !it.contains('$'))?;
            Some(if address.contains(':') || address.parse::<u16>().is_ok() {
                address
                    .strip_prefix(':')
                    .map_or_else(|| address.to_owned(), |port| format!("127.0.0.1:{port}"))
            } else {
                format!("unix:{}", names::normal(&directory.join(address)).display())
            })
        };
        let http = address(&["http-socket", "http"]);
        program.listens = http
            .or_else(|| address(&["socket", "uwsgi-socket", "s"]).map(|address| format!("uwsgi:{address}")));
        if !directory.as_os_str().is_empty() {
            program.directory = Some(directory);
        }
    }

    /// Returns the program of an ini file that Debian's one service of uWSGI runs beside these others.
    pub(crate) fn app(&self, file: &Path, others: Vec<String>) -> Program {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut program = Program {
            name: "uwsgi".to_owned(),
            command: vec!["uwsgi".to_owned(), "--ini".to_owned(), file.to_string_lossy().into_owned()],
            unit: Some("uwsgi.service".to_owned()),
            file: file.to_owned(),
            installed: true,
            shared: others,
            ..Program::default()
        };
        self.fill(&mut program);
        // /usr/share/uwsgi/conf/default.ini
        let socket = format!("uwsgi:unix:/run/uwsgi/app/{stem}/socket");
        let log = PathBuf::from(format!("/var/log/uwsgi/app/{stem}.log"));
        program.listens.get_or_insert(socket);
        program.log.get_or_insert(log);
        program
    }

    /// Returns the program of an ini file whose uWSGI runs without systemd and supervisor: a vassal, or started by a command.
    pub(crate) fn program(&self, file: &Path, start: &str, vassal: bool) -> Option<Program> {
        let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let directory = self.path(&["chdir"], Path::new("/")).unwrap_or_default();
        let pidfile = self.path(&["safe-pidfile", "pidfile"], &directory)?;
        let mut program = Program {
            name: stem(&pidfile).or_else(|| stem(file))?,
            command: vec!["uwsgi".to_owned(), "--ini".to_owned(), file.to_string_lossy().into_owned()],
            file: file.to_owned(),
            installed: true,
            uwsgi: Some(Uwsgi {
                pidfile,
                // The emperor would start again what ends by itself.
                fifo: if vassal { None } else { self.path(&["master-fifo"], &directory) },
                start: words(start),
                vassal: vassal.then(|| file.to_owned()),
            }),
            ..Program::default()
        };
        self.fill(&mut program);
        Some(program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ini_file_fills_its_own_placeholders() {
        let ini = "[uwsgi]\nbase = /srv\nchdir = %(base)/site\nenv = A=1\nenv = B=2\nhttp-socket = :8000\n\
                   pidfile = %(base)/%n.pid\n[other]\nsocket = /x\n";
        let options = Options::of_ini(ini, Path::new("/etc/app.ini"));
        let program = options.program(Path::new("/etc/app.ini"), "uwsgi --ini /etc/app.ini", false).unwrap();
        assert_eq!(program.directory.as_deref(), Some(Path::new("/srv/site")));
        assert_eq!(program.listens.as_deref(), Some("127.0.0.1:8000"));
        assert_eq!(program.environment.len(), 2);
        assert_eq!((program.name.as_str(), program.uwsgi.unwrap().pidfile), ("app", "/srv/app.pid".into()));
    }

    #[test]
    fn an_app_of_debians_service_has_its_defaults() {
        let ini = "[uwsgi]\nproject = shop\nbase_dir = /var/www/shop\nchdir = %(base_dir)/public\n\
                   virtualenv = %(chdir)/.venv\nenv = DJANGO_SETTINGS_MODULE=%(project).settings\n";
        let file = Path::new("/etc/uwsgi/apps-enabled/shop.ini");
        let program = Options::of_ini(ini, file).app(file, Vec::new());
        assert_eq!(program.unit.as_deref(), Some("uwsgi.service"));
        assert_eq!(program.listens.as_deref(), Some("uwsgi:unix:/run/uwsgi/app/shop/socket"));
        assert_eq!(program.home.as_deref(), Some(Path::new("/var/www/shop/public/.venv")));
        assert_eq!(program.variable("DJANGO_SETTINGS_MODULE").as_deref(), Some("shop.settings"));
    }

    #[test]
    fn options_take_variables_of_the_program() {
        let ini = "[uwsgi]\nhttp-socket = :$(PORT)\nvirtualenv = $(VENV)\n";
        let mut program =
            Program { environment: vec![("PORT".to_owned(), "8200".to_owned())], ..Program::default() };
        Options::of_ini(ini, Path::new("/x.ini")).fill(&mut program);
        assert_eq!(program.listens.as_deref(), Some("127.0.0.1:8200"));
        program.environment.clear();
        program.listens = None;
        Options::of_ini(ini, Path::new("/x.ini")).fill(&mut program);
        assert_eq!(program.listens, None);
    }

    #[test]
    fn a_variable_that_names_itself_is_filled_in_once() {
        let mut program = Program {
            command: words("uwsgi --env P=$(PATH) --env Q=$(X):$(PATH) --env R=$(PATH"),
            environment: vec![("PATH".to_owned(), "/x:$(PATH)".to_owned())],
            ..Program::default()
        };
        Options::of_command(&program).unwrap().fill(&mut program);
        let variable = |name: &str| program.variable(name).unwrap();
        assert_eq!(variable("P"), "/x:$(PATH)");
        assert_eq!(variable("Q"), "$(X):/x:$(PATH)");
        assert_eq!(variable("R"), "$(PATH");
    }

    #[test]
    fn a_command_line_says_as_much() {
        let mut program = Program {
            command: words("/v/bin/uwsgi --socket /run/x.sock --chdir=/srv --master --home /v"),
            ..Program::default()
        };
        Options::of_command(&program).unwrap().fill(&mut program);
        assert_eq!(program.listens.as_deref(), Some("uwsgi:unix:/run/x.sock"));
        assert_eq!(program.home.as_deref(), Some(Path::new("/v")));
    }
}
