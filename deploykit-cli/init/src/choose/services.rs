//! Chooses the programs that are this site's, and says how each is managed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use deploykit::internal::limits::{Limits, graceful};
use deploykit::services::Role;

use super::web;
use crate::findings::{Found, FoundManager, FoundService, in_backticks};
use crate::read::around::Around;
use crate::read::cron::Job;
use crate::read::files::{directory_name, dotenv, file_name, real, shown, text};
use crate::read::front::Front;
use crate::read::program::{Program, words};

/// Variables that a shell has anyway, or that only the service itself needs.
const OWN: [&str; 11] = [
    "DJANGO_SETTINGS_MODULE",
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PWD",
    "PORT",
    "VIRTUAL_ENV",
    "PYTHONUNBUFFERED",
    "WEB_CONCURRENCY",
];
/// Variables that are never secret.
const PLAIN: [&str; 7] =
    ["LANG", "LC_ALL", "LC_CTYPE", "TZ", "PYTHONPATH", "DJANGO_CONFIGURATION", "LD_LIBRARY_PATH"];

/// Leaves the programs of other sites out.
pub(crate) fn of_this_site<'p>(top: &Path, all: &'p [Program], virtualenvs: &[PathBuf]) -> Vec<&'p Program> {
    let checkout = real(top);
    let inside = |file: &Path| real(file).starts_with(&checkout);
    let mut own: Vec<bool> = all
        .iter()
        .map(|program| {
            // A file of the checkout is about this site, unless it names a place of another one on this machine.
            let foreign = program.directory.as_deref().is_some_and(Path::is_dir);
            let required = web::role(&program.command) == Role::Required;
            program.uses(&checkout) || inside(&program.file) && (required || !foreign)
        })
        .collect();
    let chosen =
        |own: &[bool]| all.iter().zip(own).filter(|(_, own)| **own).map(|(program, _)| program).collect();
    let touching: Vec<&Program> = chosen(&own);
    let mut environments: Vec<PathBuf> = touching.iter().flat_map(|program| program.virtualenvs()).collect();
    if environments.is_empty() && virtualenvs.len() == 1 {
        environments.extend(virtualenvs.iter().cloned());
    }
    let environments: Vec<PathBuf> = environments.iter().map(|directory| real(directory)).collect();
    for (program, own) in all.iter().zip(&mut own) {
        *own |= program.virtualenvs().iter().any(|directory| environments.contains(&real(directory)));
    }
    let files: Vec<&Path> = chosen(&own).into_iter().map(|program| program.file.as_path()).collect();
    for (program, own) in all.iter().zip(&mut own) {
        let pathless = program.directory.is_none() && program.paths().is_empty();
        let harmless = pathless || web::role(&program.command) == Role::Required;
        *own |= harmless && files.contains(&program.file.as_path());
    }
    chosen(&own)
}

/// Of files with the same programs keeps the one that is installed, or is for production. What the repository ships is no
/// service beside what is installed, or lies beside the checkout.
pub(crate) fn without_doubles<'p>(
    top: &Path,
    mut programs: Vec<&'p Program>,
) -> (Vec<&'p Program>, Vec<(PathBuf, PathBuf)>) {
    let serves = |program: &Program| web::role(&program.command) == Role::Web;
    let is_shipped = |program: &Program| program.file.starts_with(top);
    if programs.iter().any(|program| serves(program) && program.installed) {
        programs.retain(|program| program.installed);
    } else if programs.iter().any(|program| serves(program) && !is_shipped(program)) {
        programs.retain(|program| !is_shipped(program));
    }
    let rank = |program: &Program| {
        let managed = program.config.is_some() || program.unit.is_some();
        let installed = !program.file.starts_with(top);
        (!managed, !installed, !is_for(&program.file, "prod"))
    };
    programs.sort_by_key(|program| rank(program));
    let mut lost: Vec<&Path> = Vec::new();
    let mut unsure = Vec::new();
    for (index, program) in programs.iter().enumerate() {
        let earlier = programs[..index]
            .iter()
            .find(|earlier| earlier.name == program.name && earlier.file != program.file);
        if let Some(earlier) = earlier.filter(|earlier| !lost.contains(&earlier.file.as_path())) {
            if rank(earlier) == rank(program) {
                unsure.push((earlier.file.clone(), program.file.clone()));
            }
            lost.push(&program.file);
        }
    }
    programs.retain(|program| !lost.contains(&program.file.as_path()));
    let mut names: Vec<&str> = Vec::new();
    programs.retain(|program| {
        let new = !names.contains(&program.name.as_str());
        names.push(&program.name);
        new
    });
    (programs, unsure)
}

/// Says how each program is managed.
pub(crate) fn services(
    top: &Path,
    programs: &[&Program],
    unsure: &[(PathBuf, PathBuf)],
    fronts: &[&Front],
) -> Vec<FoundService> {
    let mut services: Vec<FoundService> = programs
        .iter()
        .filter(|program| program.shared.is_empty())
        .map(|program| {
            let twice = unsure.iter().find(|(kept, _)| *kept == program.file);
            let mut question = twice
                .map(|(_, other)| format!("`{}` has the same program; which one runs?", shown(top, other)));
            let manager = if let Some(uwsgi) = program.uwsgi.clone() {
                FoundManager::Uwsgi(uwsgi)
            } else if let Some(unit) = program.unit.clone() {
                if real(&program.file).starts_with(real(top)) && !program.file.starts_with("/etc") {
                    let why = "is this unit installed? it was found in the checkout only";
                    question.get_or_insert_with(|| why.to_owned());
                }
                FoundManager::Systemd { unit, sudo: !rustix::process::geteuid().is_root() }
            } else {
                if program.config.is_none() {
                    let which =
                        "which supervisord runs it? name its configuration, the one with [unix_http_server]";
                    question.get_or_insert_with(|| which.to_owned());
                }
                let (config, program) = (program.config.clone(), program.address.clone());
                FoundManager::Supervisor { config, program }
            };
            FoundService {
                name: called(program),
                role: web::role_behind(program, fronts),
                manager,
                stop_seconds: program.stop_seconds,
                cautions: cautions(program),
                source: shown(top, &program.file),
                question,
            }
        })
        .collect();
    services.sort_by_key(|service| service.role);
    // A group that can only be asked for as a whole is one service, of its most public role.
    let mut groups: Vec<FoundService> = Vec::new();
    for service in services {
        let grouped = matches!(&service.manager, FoundManager::Supervisor { program: Some(_), .. });
        match groups.iter_mut().find(|known| grouped && known.manager == service.manager) {
            Some(known) => known.stop_seconds = known.stop_seconds.max(service.stop_seconds),
            None => groups.push(service),
        }
    }
    groups
}

/// Returns the name of a program's service: of several processes in a group only the group as a whole has one.
fn called(program: &Program) -> String {
    let whole =
        program.process.is_none() || program.address.as_ref().is_some_and(|address| !address.contains(':'));
    program.address.clone().filter(|_| whole).unwrap_or_else(|| program.name.clone())
}

/// Says which service of the site serves other sites, too.
pub(crate) fn shared(programs: &[&Program]) -> Option<String> {
    let shared = programs.iter().find(|program| !program.shared.is_empty())?;
    let others = in_backticks(&shared.shared);
    Some(format!("`{}` serves the site, and {others} as well; may an update stop it?", shared.name))
}

/// Says which cron jobs may run in the middle of an update.
pub(crate) fn jobs(top: &Path, around: &Around, virtualenvs: &[PathBuf]) -> Option<String> {
    let places: Vec<PathBuf> = [top.to_owned()].into_iter().chain(virtualenvs.iter().cloned()).collect();
    let own = |job: &&Job| {
        job.often
            && !waits(&job.command)
            && places.iter().any(|place| place.to_str().is_some_and(|place| job.command.contains(place)))
    };
    let job = around.jobs.iter().find(own)?;
    let file = shown(top, &job.file);
    Some(format!(
        "`{file}` starts a job of the site several times an hour; start it through `deploykit exec`, so that it and updates \
         wait for each other?"
    ))
}

/// Tells whether a command goes through `deploykit exec`, with whatever options.
fn waits(command: &str) -> bool {
    let words = words(command);
    let tool = words.iter().position(|word| file_name(Path::new(word)) == "deploykit");
    tool.is_some_and(|tool| words[tool..].iter().take_while(|word| *word != "--").any(|word| word == "exec"))
}

/// Says where a program's manager is less patient than gunicorn, as far as the files tell.
fn cautions(program: &Program) -> Vec<String> {
    let (force, one_only) = match program.unit {
        Some(_) => ((program.stop_seconds.unwrap_or(90), "TimeoutStopSec"), "KillMode"),
        None => ((program.stop_seconds.unwrap_or(10), "stopwaitsecs"), "killasgroup = false"),
    };
    let variable = program.variable("GUNICORN_CMD_ARGS").unwrap_or_default();
    let directory = program.directory.clone().unwrap_or_default();
    let limits = Limits {
        force: Some((Duration::from_secs(force.0), force.1)),
        one_only: program.kills_one.then_some(one_only),
        graceful: graceful(&program.command, &variable, &directory),
        ..Limits::default()
    };
    // `stop-timeout` is written to fit.
    if limits.graceful.is_some() { limits.cautions(Duration::MAX) } else { Vec::new() }
}

/// Returns the variables that manage.py needs as much as the services do.
pub(crate) fn variables(
    top: &Path,
    programs: &[&Program],
    env_file: Option<&Path>,
    is_read: impl Fn(&str) -> bool,
) -> (Found<Vec<(String, String)>>, Vec<String>) {
    let known = env_file.and_then(text).unwrap_or_default();
    let (mut plain, mut secret, mut source) = (Vec::new(), Vec::new(), String::new());
    for program in programs.iter().filter(|program| web::role(&program.command) != Role::Required) {
        for (name, value) in &program.environment {
            if OWN.contains(&name.as_str()) || dotenv(&known, name).is_some() {
                continue;
            }
            let own = PLAIN.contains(&name.as_str());
            // A variable that nothing of the site reads is the service's own.
            if !own && !is_read(name) {
                continue;
            }
            if !own && is_secret(name, value) {
                if !secret.contains(name) {
                    secret.push(name.clone());
                }
            } else if !value.contains(['%', '$']) && !plain.iter().any(|(known, _)| known == name) {
                source = shown(top, &program.file);
                plain.push((name.clone(), value.clone()));
            }
        }
    }
    (if plain.is_empty() { Found::default() } else { Found::new(plain, source) }, secret)
}

/// Tells whether a variable may be a secret, by its name or because it is a URL with a password.
fn is_secret(name: &str, value: &str) -> bool {
    let name = name.to_uppercase();
    let words = ["SECRET", "PASS", "TOKEN", "KEY", "DSN", "CREDENTIAL", "SALT", "AUTH"];
    words.iter().any(|word| name.contains(word)) || value.contains("://") && value.contains('@')
}

/// Tells whether a file's name or directory says that it is for this environment.
fn is_for(file: &Path, environment: &str) -> bool {
    file_name(file).contains(environment) || directory_name(file).contains(environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_goes_through_exec_waits() {
        for command in [
            "deploykit exec -- /srv/site/manage.py x",
            "/usr/local/bin/deploykit -c /srv/site/deploykit.toml exec --skip -- /srv/site/manage.py x",
            "cd /srv/site && deploykit exec -- ./manage.py x",
        ] {
            assert!(waits(command), "{command}");
        }
        for command in
            ["/srv/site/manage.py exec", "deploykit manage -- exec", "cat /srv/deploykit.toml exec"]
        {
            assert!(!waits(command), "{command}");
        }
    }
}
