//! The settings of programs, as `getAllConfigInfo` answers.
//!
//! Source: <http://supervisord.org/configuration.html#program-x-section-settings>.

use std::path::Path;
use std::time::Duration;

use dxr::Value;

use super::STARTSECS;
use super::processes::{Info, member};
use crate::services::Origin;
use crate::services::limits::Limits;

/// Finds the settings of these programs.
fn settings_of<'v>(answer: &'v Value, infos: &[Info]) -> Vec<&'v Value> {
    let Value::Array(list) = answer else { return Vec::new() };
    let ours = |config: &&Value| {
        let (group, name) = (text(config, "group"), text(config, "name"));
        infos.iter().any(|info| group == Some(&info.group) && name == Some(&info.name))
    };
    list.iter().filter(ours).collect()
}

fn text<'v>(config: &'v Value, name: &str) -> Option<&'v str> {
    match member(config, name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn seconds(config: &Value, name: &str) -> Option<Duration> {
    match member(config, name) {
        Some(Value::Integer(seconds)) => u64::try_from(*seconds).ok().map(Duration::from_secs),
        _ => None,
    }
}

pub(super) fn startsecs_from(answer: &Value, infos: &[Info]) -> Duration {
    let all = settings_of(answer, infos);
    all.into_iter().filter_map(|config| seconds(config, "startsecs")).max().unwrap_or(STARTSECS)
}

/// Returns how supervisord ends these programs, and the command of the first.
pub(super) fn limits_from(answer: &Value, infos: &[Info]) -> (Limits, Vec<String>) {
    let all = settings_of(answer, infos);
    let force = all.iter().filter_map(|config| seconds(config, "stopwaitsecs")).min();
    let one_only = all.iter().any(|config| member(config, "killasgroup") == Some(&Value::Boolean(false)));
    let command = all.first().and_then(|config| text(config, "command")).unwrap_or_default();
    let command = command.split_whitespace().map(str::to_owned).collect();
    let limits = Limits {
        force: force.map(|force| (force, "stopwaitsecs")),
        one_only: one_only.then_some("killasgroup = false"),
        signal: match all.first().and_then(|config| member(config, "stopsignal")) {
            Some(Value::Integer(signal)) => Some((*signal, "stopsignal=INT` in supervisor's `[program:x]")),
            _ => None,
        },
        ..Limits::default()
    };
    (limits, command)
}

/// Returns the commands of these programs and their working directories.
pub(super) fn origin_from(answer: &Value, infos: &[Info]) -> Origin {
    let mut origin = Origin::default();
    for config in settings_of(answer, infos) {
        // supervisord answers `none` for a missing setting.
        let directory = text(config, "directory").map(Path::new).filter(|path| path.is_absolute());
        origin.add(text(config, "command").unwrap_or_default().split_whitespace(), directory);
    }
    origin
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn settings_of_another_shape_are_none() {
        assert_eq!(startsecs_from(&Value::Array(vec![Value::Integer(1)]), &[]), STARTSECS);
    }

    #[test]
    fn the_settings_of_a_stopped_program_name_its_files() {
        let program = |name: &str, command: &str, directory: &str| {
            let texts = [("group", "site"), ("name", name), ("command", command), ("directory", directory)];
            Value::Struct(texts.map(|(name, text)| (name.to_owned(), Value::String(text.to_owned()))).into())
        };
        let answer = Value::Array(vec![
            program("web", "../venv/bin/gunicorn --chdir=/srv/a 'b c':app", "/srv/site"),
            program("jobs", "/other/bin/celery", "none"),
        ]);
        let info = |name: &str| Info {
            group: "site".to_owned(),
            name: name.to_owned(),
            state: State::Stopped,
            statename: "STOPPED".to_owned(),
            spawnerr: String::new(),
            pid: 0,
            logs: Vec::new(),
        };
        let origin = origin_from(&answer, &[info("web")]);
        let paths: Vec<&Path> = origin.paths().collect();
        for path in ["/srv/a", "/srv/site/../venv/bin/gunicorn"] {
            assert!(paths.contains(&Path::new(path)), "{path}: {paths:?}");
        }
        assert_eq!(origin.directories().collect::<Vec<_>>(), [Path::new("/srv/site")]);
        let origin = origin_from(&answer, &[info("jobs")]);
        assert_eq!(origin.paths().collect::<Vec<_>>(), [Path::new("/other/bin/celery")]);
        assert_eq!(origin.directories().count(), 0);
    }
}
