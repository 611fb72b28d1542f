//! Services that flags describe.

use std::path::PathBuf;

use deploykit::operations::service_control::Want;
use deploykit::services::{Flags, ManagerKind, Role, Service};
use deploykit::{Host, Site};

use crate::args::{Global, ServiceArgs, Words};
use crate::commands;
use crate::exit_code;
use crate::failure::Failure;

/// Returns the services that flags describe, and the site that they belong to: their own, or that of the configuration here.
/// A service that the site has is returned as it is configured.
pub fn services(
    global: &Global,
    args: &ServiceArgs,
    kind: ManagerKind,
    want: Option<Want>,
) -> Result<(Option<Site>, Vec<Service>), Failure> {
    fits(args, kind, want)?;
    let named: Vec<Service> = args.names.iter().map(|name| service(name, args, kind)).collect();
    let site = commands::site_of_or_here(global, |environment| site_of_all(&named, environment))?;
    let Some(site) = site else { return Ok((None, named)) };
    let services = named.into_iter().map(|named| -> Result<Service, Failure> {
        if let Some(known) = configured(&site, &named)? {
            return Ok(known);
        }
        let find = |environment: Option<&str>| site_of(&named, &site.host(None), environment);
        commands::not_of_another(global, &site, &the(&named), find)?;
        Ok(named)
    });
    let services = services.collect::<Result<_, _>>()?;
    Ok((Some(site), services))
}

/// Returns the site that the services belong to, running or stopped, or `None` when they belong to none.
fn site_of_all(named: &[Service], environment: Option<&str>) -> Result<Option<Site>, Failure> {
    let mut found: Option<(Site, &Service)> = None;
    for service in named {
        let Some(site) = site_of(service, &Host::new(), environment)? else { continue };
        match &found {
            Some((first, of)) if !commands::is_same(&first.config().path, &site.config().path) => {
                let which = format!("the one of `{}`", of.name);
                let hint = "call deploykit once per site";
                return Err(commands::of_another(&the(service), &site, first, &which, hint));
            }
            Some(_) => {}
            None => found = Some((site, service)),
        }
    }
    Ok(found.map(|(site, _)| site))
}

fn site_of(service: &Service, host: &Host, environment: Option<&str>) -> Result<Option<Site>, Failure> {
    let origin = service.origin(host).map_err(|error| Failure::refused(&error))?;
    Ok(Site::of_service(&origin, environment)?)
}

fn the(service: &Service) -> String {
    format!("the service `{}`", service.name)
}

/// Refuses flags of another manager, and missing flags.
fn fits(args: &ServiceArgs, kind: ManagerKind, want: Option<Want>) -> Result<(), Failure> {
    let usage = |message: String, hint: &'static str| Err(Failure::message(exit_code::USAGE, message, hint));
    let name = kind.as_str();
    let flags = [
        ("--supervisor-config", args.supervisor_config.is_some(), "config"),
        ("--user", args.user, "user"),
        ("--pidfile", args.pidfile.is_some(), "pidfile"),
        ("--start", args.start.is_some(), "start"),
        ("--stop", args.stop.is_some(), "stop"),
        ("--status", args.status.is_some(), "status"),
    ];
    if let Some((flag, ..)) = flags.iter().find(|(_, is_given, key)| *is_given && !kind.has_key(key)) {
        return usage(format!("`{flag}` cannot be used with `--manager {name}`"), "leave it out");
    }
    // Others know their services by name.
    if !kind.has_key("start") {
        return Ok(());
    }
    if args.names.len() > 1 {
        return usage(
            format!("`--manager {name}` describes one service, not {}", args.names.len()),
            "name one service, and call deploykit again for the next",
        );
    }
    // A stop that fails is undone by a start.
    if want.is_some() && args.start.is_none() {
        return usage(format!("`--manager {name}` lacks `--start`"), "add `--start 'PROGRAM ARGUMENTS'`");
    }
    if kind.has_key("stop") && matches!(want, Some(Want::Stop | Want::Restart)) && args.stop.is_none() {
        return usage(format!("`--manager {name}` lacks `--stop`"), "add `--stop 'PROGRAM ARGUMENTS'`");
    }
    Ok(())
}

/// Makes the service that flags describe.
fn service(name: &str, args: &ServiceArgs, kind: ManagerKind) -> Service {
    let file = |file: &Option<PathBuf>| file.as_deref().map(commands::absolute).unwrap_or_default();
    let words = |words: &Option<Words>| words.clone().unwrap_or_default().0;
    let flags = Flags {
        config: file(&args.supervisor_config),
        user: args.user,
        pidfile: file(&args.pidfile),
        start: words(&args.start),
        stop: words(&args.stop),
        status: words(&args.status),
    };
    let is_web = matches!(kind, ManagerKind::Gunicorn | ManagerKind::Uwsgi);
    let role = if is_web { Role::Web } else { Role::Worker };
    Service::new(name, role, kind.of_flags(flags))
}

/// Returns the service as the site configures it, or `None` when the site does not have it.
fn configured(site: &Site, named: &Service) -> Result<Option<Service>, Failure> {
    let services = &site.config().services;
    if let Some(known) = services.iter().find(|known| is_same(known, named)) {
        return match other_command(known, named) {
            Some((flag, has)) => Err(commands::contradiction(site, flag, has)),
            None => Ok(Some(known.clone())),
        };
    }
    match services.iter().find(|known| known.name == named.name) {
        Some(known) => {
            let has = format!("other settings for the service `{}`", known.name);
            Err(commands::contradiction(site, "--manager", has))
        }
        None => Ok(None),
    }
}

/// Tells whether both are the same service: the manager finds it at the same place, whatever its settings.
fn is_same(known: &Service, named: &Service) -> bool {
    known.manager.is_same(&known.name, &named.manager, &named.name)
}

/// Returns the flag whose command differs from the configured one, and the configured one.
fn other_command(known: &Service, named: &Service) -> Option<(&'static str, String)> {
    let both = known.manager.commands().into_iter().zip(named.manager.commands());
    let mut all = ["--start", "--stop", "--status"].into_iter().zip(both);
    let (flag, (known, _)) = all.find(|(_, (known, named))| !named.is_empty() && known != named)?;
    let has = deploykit::Command::from_argv(known).map(|command| format!("`{command}`"));
    Some((flag, has.unwrap_or_else(|| "no such command".to_owned())))
}

#[cfg(test)]
mod tests {
    use deploykit::services::{CommandManager, Gunicorn, Manager};

    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn gunicorn(pidfile: &str, start: &str) -> Service {
        let manager = Gunicorn { pidfile: pidfile.into(), start: words(start), directory: None };
        Service::new("web", Role::Web, Manager::Gunicorn(manager))
    }

    fn command(start: &str, stop: &str, status: &str) -> Service {
        let [start, stop, status] = [start, stop, status].map(words);
        let manager = CommandManager { start, stop, status, ..CommandManager::default() };
        Service::new("jobs", Role::Worker, Manager::Command(manager))
    }

    #[test]
    fn a_service_is_the_same_whatever_its_commands() {
        let known = gunicorn("/run/web.pid", "gunicorn site");
        let other = gunicorn("/run/web.pid", "gunicorn other");
        assert!(is_same(&known, &other));
        assert_eq!(other_command(&known, &other), Some(("--start", "`gunicorn site`".to_owned())));
        assert_eq!(other_command(&known, &gunicorn("/run/web.pid", "")), None, "nothing contradicts");
        assert!(!is_same(&known, &gunicorn("/run/web-2.pid", "gunicorn site")));

        let known = command("jobs start", "", "jobs status");
        assert_eq!(other_command(&known, &command("jobs start", "", "jobs status")), None);
        let other = command("jobs begin", "", "jobs status");
        assert!(is_same(&known, &other));
        assert_eq!(other_command(&known, &other), Some(("--start", "`jobs start`".to_owned())));
        let other = command("jobs start", "jobs stop", "pgrep jobs");
        assert!(is_same(&known, &other));
        assert_eq!(other_command(&known, &other), Some(("--stop", "no such command".to_owned())));
        assert!(!is_same(&known, &command("mail start", "", "mail status")));
    }
}
