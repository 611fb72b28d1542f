//! Reads supervisor's configuration files.
//!
//! Source: <http://supervisord.org/configuration.html>.

use std::path::{Path, PathBuf};

use regex_lite::Regex;

use super::files::{is_template, text};
use super::program::{Program, is_log, words};
use deploykit::internal::names;
use deploykit::internal::{glob, ini};

/// One configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conf {
    pub file: PathBuf,
    /// Whether it is a supervisord's own, with the socket that it is asked through.
    pub serves: bool,
    /// What a supervisord gives to all of its programs.
    pub environment: Vec<(String, String)>,
    /// Patterns of the files that it includes, absolute.
    pub includes: Vec<PathBuf>,
    pub programs: Vec<Program>,
    /// Groups: name and programs.
    pub groups: Vec<(String, Vec<String>)>,
}

/// Reads a file; `None` when it is not one of supervisor's, or the template of one.
pub(crate) fn parse(text: &str, file: &Path) -> Option<Conf> {
    let header = r"(?m)^\[(?:program:|fcgi-program:|group:|supervisord\]|supervisorctl\]|unix_http_server\]|inet_http_server\])";
    if !Regex::new(header).ok()?.is_match(text) || is_template(text) {
        return None;
    }
    let here = file.parent().unwrap_or(Path::new("/"));
    let mut conf = Conf { file: file.to_owned(), ..Conf::default() };
    let sections = ini::parse(text).ok()?;
    for section in sections.names() {
        let (kind, name) = section.split_once(':').unwrap_or((section, ""));
        let get = |key: &str| {
            let value = sections.get(section, key)?;
            let here = here.to_string_lossy();
            Some(value.replace("%(here)s", &here).replace("%(program_name)s", name))
                .filter(|value| !value.is_empty())
        };
        match kind {
            "unix_http_server" | "inet_http_server" => conf.serves = true,
            "supervisord" => conf.environment = environment(&get("environment").unwrap_or_default()),
            "include" => {
                let files = get("files").unwrap_or_default();
                conf.includes
                    .extend(files.split_whitespace().map(|pattern| names::normal(&here.join(pattern))));
            }
            "group" => {
                let programs = get("programs").unwrap_or_default();
                let programs = programs.split(',').map(|name| name.trim().to_owned()).collect();
                conf.groups.push((name.to_owned(), programs));
            }
            "program" | "fcgi-program" if !name.is_empty() => {
                // One program of several processes is a group of its own name; of one process the process has a name.
                let many = get("numprocs").is_some_and(|number| number != "1");
                let process = get("process_name").unwrap_or_else(|| name.to_owned());
                let process = process.replace("%(process_num)02d", "00").replace("%(process_num)d", "0");
                // One process serves, the other one keeps the socket: docs/held-sockets.md.
                let command = get("command").unwrap_or_default();
                let held = kind == "fcgi-program" && many && command.contains("sleep infinity");
                let file_of = |key: &str| get(key).map(PathBuf::from).filter(|path| is_log(path));
                let log = file_of("stderr_logfile").or_else(|| file_of("stdout_logfile"));
                let program = Program {
                    name: name.to_owned(),
                    process: (!many && !process.contains('%')).then(|| process.clone()),
                    address: held.then(|| format!("{name}:{process}")),
                    command: words(&command),
                    directory: get("directory").map(|directory| names::normal(&here.join(directory))),
                    environment: environment(&get("environment").unwrap_or_default()),
                    stop_seconds: get("stopwaitsecs").and_then(|seconds| seconds.parse().ok()),
                    kills_one: !get("killasgroup").is_some_and(|value| is_true(&value)),
                    log,
                    socket: get("socket"),
                    file: file.to_owned(),
                    ..Program::default()
                };
                conf.programs.push(program.held());
            }
            _ => {}
        }
    }
    Some(conf)
}

/// Source: `boolean` in `supervisor/datatypes.py`.
fn is_true(value: &str) -> bool {
    ["true", "on", "yes", "1"].contains(&value.to_lowercase().as_str())
}

/// Splits `KEY="value",KEY2=value`.
fn environment(text: &str) -> Vec<(String, String)> {
    let Ok(pattern) = Regex::new(r#"(\w+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^,\s]*))"#) else {
        return Vec::new();
    };
    let value = |found: &regex_lite::Captures<'_>| {
        (2..=4).find_map(|n| found.get(n)).map(|found| found.as_str().to_owned())
    };
    pattern
        .captures_iter(text)
        .map(|found| (found[1].to_owned(), value(&found).unwrap_or_default()))
        .collect()
}

/// Puts included files to those that include them, and gives each program the configuration that runs it.
pub(crate) fn join(mut confs: Vec<Conf>) -> Vec<Program> {
    let patterns: Vec<PathBuf> =
        confs.iter().filter(|conf| conf.serves).flat_map(|conf| conf.includes.clone()).collect();
    for file in patterns.iter().flat_map(|pattern| glob::matching(pattern)) {
        if !confs.iter().any(|conf| conf.file == file)
            && let Some(conf) = text(&file).and_then(|text| parse(&text, &file))
        {
            confs.push(conf);
        }
    }
    let mut programs = Vec::new();
    let mut taken: Vec<PathBuf> = Vec::new();
    for server in confs.iter().filter(|conf| conf.serves) {
        let included = |conf: &&Conf| {
            !conf.serves && server.includes.iter().any(|pattern| glob::matches(pattern, &conf.file))
        };
        let own: Vec<&Conf> = std::iter::once(server).chain(confs.iter().filter(included)).collect();
        taken.extend(own.iter().map(|conf| conf.file.clone()));
        programs.extend(addressed(&own, Some(&server.file)).into_iter().map(|mut program| {
            let own = program.environment;
            let others =
                server.environment.iter().filter(|(name, _)| own.iter().all(|(known, _)| known != name));
            program.environment = others.cloned().chain(own.iter().cloned()).collect();
            program
        }));
    }
    for conf in confs.iter().filter(|conf| !taken.contains(&conf.file)) {
        programs.extend(addressed(&[conf], None));
    }
    programs
}

fn addressed(confs: &[&Conf], config: Option<&Path>) -> Vec<Program> {
    let groups: Vec<&(String, Vec<String>)> = confs.iter().flat_map(|conf| &conf.groups).collect();
    let mut programs: Vec<Program> = confs.iter().flat_map(|conf| conf.programs.clone()).collect();
    let several: Vec<String> = programs
        .iter()
        .filter(|program| program.process.is_none())
        .map(|program| program.name.clone())
        .collect();
    for program in &mut programs {
        program.config = config.map(Path::to_owned);
        program.installed |= config.is_some();
        if let Some((group, names)) = groups.iter().find(|(_, names)| names.contains(&program.name)) {
            // Of several processes in a group only the group as a whole has an address; then the others are within it.
            let whole = names.iter().any(|name| several.contains(name));
            program.address = Some(match &program.process {
                Some(process) if !whole => format!("{group}:{process}"),
                _ => group.clone(),
            });
        }
    }
    programs
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = "\
; the site
[unix_http_server]
file = /tmp/supervisor.sock

[program:gunicorn]
command = /srv/venv/bin/gunicorn config.wsgi
    --bind 'unix:/run/a b.sock' ; where nginx asks
directory=%(here)s/../project
environment=DJANGO_SETTINGS_MODULE=\"config.settings.production\",LANG='C.UTF-8',N=1
stdout_logfile=/srv/log/%(program_name)s.log
stderr_logfile=AUTO

[program:celery]
command=/srv/venv/bin/celery -A config worker
numprocs=2
process_name=%(program_name)s_%(process_num)02d
stopwaitsecs=600

[program:beat]
command=/srv/venv/bin/celery -A config beat

[group:jobs]
programs=beat,other
[include]
files = conf.d/*.conf /etc/x.ini
";

    #[test]
    fn programs_are_read_as_supervisor_reads_them() {
        let conf = parse(CONF, Path::new("/srv/site/config/supervisor.conf")).unwrap();
        assert!(conf.serves);
        assert_eq!(conf.includes, ["/srv/site/config/conf.d/*.conf", "/etc/x.ini"].map(PathBuf::from));
        let gunicorn = &conf.programs[0];
        assert_eq!(
            gunicorn.command,
            ["/srv/venv/bin/gunicorn", "config.wsgi", "--bind", "unix:/run/a b.sock"]
        );
        assert_eq!(gunicorn.directory.as_deref(), Some(Path::new("/srv/site/project")));
        assert_eq!(gunicorn.log.as_deref(), Some(Path::new("/srv/log/gunicorn.log")));
        let names: Vec<&str> = gunicorn.environment.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(names, ["config.settings.production", "C.UTF-8", "1"]);
        let programs = join(vec![conf]);
        let addresses: Vec<Option<&str>> =
            programs.iter().map(|program| program.address.as_deref()).collect();
        assert_eq!(addresses, [None, None, Some("jobs:beat")]);
        assert_eq!(programs[1].stop_seconds, Some(600));
        assert!(programs.iter().all(|program| program.config.is_some()));
    }

    #[test]
    fn an_included_program_belongs_to_the_server_that_includes_it() {
        let directory = tempfile::tempdir().unwrap();
        let server = directory.path().join("supervisord.conf");
        std::fs::create_dir(directory.path().join("conf.d")).unwrap();
        let file = directory.path().join("conf.d/site.conf");
        std::fs::write(&file, "[program:web]\ncommand=gunicorn x\nenvironment=B=own\n").unwrap();
        let main = "[unix_http_server]\nfile=/x\n[supervisord]\nenvironment=A=\"all\",B=\"all\"\n\
                    [include]\nfiles=conf.d/*.conf\n";
        let programs = join(vec![parse(main, &server).unwrap()]);
        assert_eq!(programs.len(), 1);
        let variables = programs[0].environment.iter().map(|(name, value)| format!("{name}={value}"));
        assert_eq!(variables.collect::<Vec<_>>(), ["A=all", "B=own"]);
        assert_eq!(programs[0].config.as_deref(), Some(server.as_path()));

        let alone = join(vec![parse("[program:web]\ncommand=gunicorn x\n", &file).unwrap()]);
        assert_eq!(alone[0].config, None);
    }

    #[test]
    fn other_files_and_templates_are_left_alone() {
        assert_eq!(parse("[flake8]\nmax=1\n", Path::new("/x/setup.cfg")), None);
        assert_eq!(parse("[program:{{ name }}]\n", Path::new("/x/a.conf")), None);
    }
}
