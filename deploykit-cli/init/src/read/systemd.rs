//! Reads systemd's units.
//!
//! Source: `systemd.service(5)`, `systemd.exec(5)`, `systemd.socket(5)`.

use std::path::{Path, PathBuf};

use super::files::{file_name, is_template};
use super::program::{Program, is_log, words};
use deploykit::internal::limits::systemd_seconds;

/// Reads the service unit in a file and its drop-ins; `None` for anything that is neither a lasting service nor the job of a
/// timer.
pub(crate) fn parse(text: &str, file: &Path, drop_ins: &[String], is_job: bool) -> Option<Program> {
    let unit = file_name(file);
    let name = unit.strip_suffix(".service")?;
    // A unit whose name ends in `@` is a template.
    if name.is_empty() || name.ends_with('@') || is_template(text) {
        return None;
    }
    let (prefix, instance) = name.split_once('@').unwrap_or((name, ""));
    let text = [text].into_iter().chain(drop_ins.iter().map(String::as_str)).collect::<Vec<_>>().join("\n");
    let text = text.replace("\\\n", " ");
    let specifiers =
        [("%i", instance), ("%I", instance), ("%p", prefix), ("%n", unit.as_str()), ("%N", name)];
    let text = specifiers.iter().fold(text, |text, (specifier, value)| text.replace(specifier, value));
    let mut program = Program {
        name: name.to_owned(),
        file: file.to_owned(),
        unit: Some(unit.clone()),
        ..Program::default()
    };
    for (key, value) in keys(&text, "Service") {
        match key {
            "Type" if value == "oneshot" && !is_job => return None,
            "ExecStart" if value.is_empty() => program.command.clear(),
            "ExecStart" => program.command = words(value.trim_start_matches(['-', '@', ':', '+', '!'])),
            "WorkingDirectory" => program.directory = Some(PathBuf::from(value.trim_start_matches('-'))),
            "Environment" if value.is_empty() => program.environment.clear(),
            "Environment" => {
                for word in words(value) {
                    let pair = word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
                    program.environment.extend(pair);
                }
            }
            "EnvironmentFile" => program.environment_files.push(PathBuf::from(value.trim_start_matches('-'))),
            "TimeoutStopSec" | "TimeoutSec" => program.stop_seconds = systemd_seconds(value),
            "KillMode" if ["process", "none"].contains(&value) => program.kills_one = true,
            "StandardError" | "StandardOutput" => {
                let path = value.split_once(':').map(|(_, path)| PathBuf::from(path));
                program.log = path.filter(|path| is_log(path)).or(program.log);
            }
            _ => {}
        }
    }
    let program = program.held();
    let what = program.command.first().map(|word| file_name(Path::new(word)))?;
    // supervisord is asked itself.
    (what != "supervisord").then_some(program)
}

/// Returns the unit that a timer starts.
pub(crate) fn timer(text: &str, file: &Path) -> String {
    let named = keys(text, "Timer").filter(|(key, _)| *key == "Unit").last();
    let stem = file_name(file);
    let stem = stem.strip_suffix(".timer").unwrap_or(&stem);
    named.map_or_else(|| format!("{stem}.service"), |(_, unit)| unit.to_owned())
}

/// Reads the address that a socket unit listens at.
pub(crate) fn socket(text: &str) -> Option<String> {
    keys(text, "Socket").find(|(key, value)| *key == "ListenStream" && !value.is_empty()).map(|(_, value)| {
        if value.starts_with('/') {
            format!("unix:{value}")
        } else if value.contains(':') {
            value.to_owned()
        } else {
            format!("127.0.0.1:{value}")
        }
    })
}

fn keys<'t>(text: &'t str, section: &'t str) -> impl Iterator<Item = (&'t str, &'t str)> {
    let mut inside = false;
    text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])).filter_map(move |line| {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = name == section;
            return None;
        }
        let (key, value) = line.split_once('=')?;
        inside.then_some((key.trim(), value.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_read() {
        let text = "[Unit]\nDescription=site\n[Service]\nWorkingDirectory=/srv/site\nEnvironmentFile=-/srv/site/.env\n\
                    Environment=\"DJANGO_SETTINGS_MODULE=a.b\" LANG=C.UTF-8\nExecStart=/srv/venv/bin/gunicorn \\\n  -b :8000 a.wsgi\n\
                    TimeoutStopSec=5min 20s\nStandardError=append:/var/log/site.log\n[Install]\nWantedBy=multi-user.target\n";
        let program = parse(text, Path::new("/etc/systemd/system/site.service"), &[], false).unwrap();
        assert_eq!(program.name, "site");
        assert_eq!(program.command, ["/srv/venv/bin/gunicorn", "-b", ":8000", "a.wsgi"]);
        assert_eq!(program.environment_files, [PathBuf::from("/srv/site/.env")]);
        assert_eq!(program.environment[0], ("DJANGO_SETTINGS_MODULE".into(), "a.b".into()));
        assert_eq!(program.stop_seconds, Some(320));
        assert_eq!(program.log.as_deref(), Some(Path::new("/var/log/site.log")));
    }

    #[test]
    fn what_is_no_lasting_service_is_left_out() {
        let unit = |text: &str, name: &str| parse(text, &Path::new("/x").join(name), &[], false);
        assert_eq!(unit("[Service]\nType=oneshot\nExecStart=/bin/x\n", "backup.service"), None);
        assert_eq!(unit("[Service]\nExecStart=/usr/bin/supervisord -c x\n", "supervisor.service"), None);
        assert_eq!(unit("[Service]\nExecStart=/bin/x\n", "x@.service"), None);
        assert_eq!(unit("[Service]\n", "x.service"), None);
    }

    #[test]
    fn drop_ins_change_a_unit_and_an_instance_fills_its_template() {
        let text = "[Service]\nEnvironment=A=1\nExecStart=/bin/old\n";
        let drop_in = "[Service]\nEnvironment=A=2\nExecStart=\nExecStart=/bin/new -Q %i\n".to_owned();
        let program = parse(text, Path::new("/x/celery@fast.service"), &[drop_in], false).unwrap();
        assert_eq!(program.variable("A").as_deref(), Some("2"));
        assert_eq!(program.command, ["/bin/new", "-Q", "fast"]);
    }

    #[test]
    fn a_timer_names_its_unit() {
        let timer = |text: &str| timer(text, Path::new("/x/mail.timer"));
        assert_eq!(timer("[Timer]\nOnCalendar=*:0/2\n"), "mail.service");
        assert_eq!(timer("[Timer]\nOnCalendar=*-*-* *:30\nUnit=a.service\n"), "a.service");
        let job = "[Service]\nType=oneshot\nExecStart=/bin/x\n";
        assert!(parse(job, Path::new("/x/mail.service"), &[], true).is_some());
    }

    #[test]
    fn a_socket_has_an_address() {
        assert_eq!(socket("[Socket]\nListenStream=/run/site.sock\n").as_deref(), Some("unix:/run/site.sock"));
        assert_eq!(socket("[Socket]\nListenStream=8000\n").as_deref(), Some("127.0.0.1:8000"));
        assert_eq!(socket("[Service]\nListenStream=8000\n"), None);
    }
}
