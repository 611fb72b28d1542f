//! The processes that supervisord lists, and what their states mean.

use std::path::PathBuf;

use dxr::Value;

use crate::services::Status;

/// How many known names an error lists.
const MOST_NAMES: usize = 20;

/// One process as supervisord reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Info {
    pub(super) group: String,
    pub(super) name: String,
    pub(super) state: State,
    pub(super) statename: String,
    /// Why it died, or that its exit code is not among `exitcodes`.
    pub(super) spawnerr: String,
    pub(super) pid: i32,
    pub(super) logs: Vec<PathBuf>,
}

/// Source: `supervisor/states.py`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Stopped,
    Starting,
    Running,
    Backoff,
    Stopping,
    Exited,
    Fatal,
    Unknown,
}

impl State {
    fn of(code: i32) -> Self {
        match code {
            0 => State::Stopped,
            10 => State::Starting,
            20 => State::Running,
            30 => State::Backoff,
            40 => State::Stopping,
            100 => State::Exited,
            200 => State::Fatal,
            _ => State::Unknown,
        }
    }
}

impl Info {
    /// `group:name`, or the name alone where the group is only that program's.
    pub(super) fn full_name(&self) -> String {
        if self.group == self.name { self.name.clone() } else { format!("{}:{}", self.group, self.name) }
    }

    pub(super) fn namespec(&self) -> String {
        format!("{}:{}", self.group, self.name)
    }

    fn status(&self) -> Status {
        match self.state {
            State::Running => Status::Running,
            State::Starting => Status::Starting,
            State::Stopping => Status::Stopping,
            State::Stopped => Status::Stopped,
            State::Backoff => Status::Retrying,
            State::Exited if self.spawnerr.is_empty() => Status::Stopped,
            State::Exited | State::Fatal | State::Unknown => Status::Failed,
        }
    }

    fn detail(&self) -> String {
        match (self.pid, self.spawnerr.as_str()) {
            (0, "") => self.statename.clone(),
            // It keeps the error of the time before.
            (0, error) if self.state != State::Stopped => format!("{}: {error}", self.statename),
            (0, _) => self.statename.clone(),
            (pid, _) => format!("{}, process {pid}", self.statename),
        }
    }
}

/// Finds the processes that a name means, or else answers with the names that there are.
pub(super) fn pick(all: &[Info], name: &str) -> Result<Vec<Info>, Vec<String>> {
    let matching =
        |test: &dyn Fn(&Info) -> bool| all.iter().filter(|info| test(info)).cloned().collect::<Vec<_>>();
    let found = match name.split_once(':') {
        Some((group, "" | "*")) => matching(&|info| info.group == group),
        Some((group, name)) => matching(&|info| info.group == group && info.name == name),
        None => match matching(&|info| info.group == name) {
            // A program that stands in a group of another name is that program, as long as no other is called so.
            nothing if nothing.is_empty() => {
                let found = matching(&|info| info.name == name);
                if found.len() == 1 { found } else { nothing }
            }
            group => group,
        },
    };
    if found.is_empty() { Err(all.iter().take(MOST_NAMES).map(Info::full_name).collect()) } else { Ok(found) }
}

/// Returns the state of a group: that of its worst member.
pub(super) fn together(infos: &[Info]) -> Status {
    let any = |status: &Status| infos.iter().any(|info| info.status() == *status);
    let bad = [Status::Retrying, Status::Failed, Status::Stopping, Status::Stopped, Status::Starting];
    match bad.into_iter().find(any) {
        // A part of it is less than was wanted.
        Some(Status::Stopped) if infos.iter().any(|info| info.status() != Status::Stopped) => Status::Failed,
        worst => worst.unwrap_or(Status::Running),
    }
}

pub(super) fn describe(infos: &[Info]) -> String {
    match infos {
        [info] => info.detail(),
        infos => {
            let parts: Vec<String> =
                infos.iter().map(|info| format!("{} {}", info.full_name(), info.detail())).collect();
            parts.join("; ")
        }
    }
}

pub(super) fn infos_from(answer: &Value) -> Result<Vec<Info>, String> {
    let Value::Array(list) = answer else { return Err("the process list is not an array".to_owned()) };
    list.iter().map(info_from).collect()
}

fn info_from(value: &Value) -> Result<Info, String> {
    let text = |name: &str| match member(value, name) {
        Some(Value::String(text)) => Ok(text.clone()),
        _ => Err(format!("a process without `{name}`")),
    };
    let number = |name: &str| match member(value, name) {
        Some(Value::Integer(number)) => Ok(*number),
        _ => Err(format!("a process without `{name}`")),
    };
    let logs = ["stdout_logfile", "stderr_logfile"].map(|name| text(name).unwrap_or_default());
    Ok(Info {
        group: text("group")?,
        name: text("name")?,
        state: State::of(number("state")?),
        statename: text("statename")?,
        spawnerr: text("spawnerr")?,
        pid: number("pid")?,
        // `syslog`, or nothing: not files.
        logs: logs.into_iter().map(PathBuf::from).filter(|path| path.is_absolute()).collect(),
    })
}

pub(super) fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Struct(members) => members.get(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, state: State, spawnerr: &str) -> Info {
        let (group, name) = name.split_once(':').unwrap_or((name, name));
        Info {
            group: group.to_owned(),
            name: name.to_owned(),
            state,
            statename: format!("{state:?}").to_uppercase(),
            spawnerr: spawnerr.to_owned(),
            pid: 0,
            logs: Vec::new(),
        }
    }

    fn picked(name: &str) -> Result<Vec<String>, Vec<String>> {
        let all = ["web", "celery:celery_0", "celery:celery_1", "site:huey", "a:same", "b:same"];
        let all: Vec<Info> = all.iter().map(|name| info(name, State::Running, "")).collect();
        pick(&all, name).map(|found| found.iter().map(Info::full_name).collect())
    }

    #[test]
    fn names_mean_programs_and_groups() {
        assert_eq!(picked("web").unwrap(), ["web"]);
        assert_eq!(picked("web:web").unwrap(), ["web"]);
        assert_eq!(picked("celery").unwrap(), ["celery:celery_0", "celery:celery_1"]);
        assert_eq!(picked("celery:*").unwrap().len(), 2);
        assert_eq!(picked("celery:celery_1").unwrap(), ["celery:celery_1"]);
        assert_eq!(picked("huey").unwrap(), ["site:huey"]);
        assert!(picked("same").is_err(), "two programs have that name");
        assert!(picked("celery:web").unwrap_err().contains(&"celery:celery_0".to_owned()));
    }

    #[test]
    fn an_exit_is_a_failure_when_supervisor_calls_it_unexpected() {
        assert_eq!(info("a", State::Exited, "").status(), Status::Stopped);
        assert_eq!(info("a", State::Exited, "Bad exit code 1").status(), Status::Failed);
        assert_eq!(info("a", State::Exited, "Bad exit code 1").detail(), "EXITED: Bad exit code 1");
        assert_eq!(info("a", State::Stopped, "Bad exit code 1").detail(), "STOPPED");
    }

    #[test]
    fn a_group_is_as_well_as_its_worst_member() {
        use State::{Backoff, Exited, Fatal, Running, Starting, Stopped, Stopping};
        let group = |states: &[State]| {
            together(&states.iter().map(|state| info("g:a", *state, "")).collect::<Vec<_>>())
        };
        assert_eq!(group(&[Running, Running]), Status::Running);
        assert_eq!(group(&[Running, Starting]), Status::Starting);
        assert_eq!(group(&[Running, Backoff, Fatal]), Status::Retrying);
        assert_eq!(group(&[Running, Fatal]), Status::Failed);
        assert_eq!(group(&[Running, Stopped]), Status::Failed, "a part of it");
        assert_eq!(group(&[Stopped, Stopping]), Status::Stopping);
        assert_eq!(group(&[Stopped, Exited]), Status::Stopped);
    }

    #[test]
    fn answers_of_another_shape_are_errors() {
        assert_eq!(infos_from(&Value::Boolean(true)).unwrap_err(), "the process list is not an array");
        let list = Value::Array(vec![Value::Integer(1)]);
        assert_eq!(infos_from(&list).unwrap_err(), "a process without `group`");
    }
}
