//! Brings together what the readers find.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::choose::{self, uses};
use super::files::{self, Tree, directory_name, entries_of, file_name, real, seen_from, text, walk};
use super::packages::{self, virtualenvs_of};
use super::python::Settings;
use super::supervisor::{self, Conf, Program};
use super::{FILE_NAME, Findings, Found, FoundMaintenance, FoundManager, FoundService, InitError};
use super::{checkout, secrets, systemd, web, write};
use deploykit::Host;
use deploykit::internal::limits::{Limits, graceful};
use deploykit::internal::names;
use deploykit::internal::owners::not_root_over_others;
use deploykit::services::Role;

/// Where supervisor, systemd and nginx have their settings on the usual distributions.
pub const ELSEWHERE: [&str; 9] = [
    "/etc/supervisor/supervisord.conf",
    "/etc/supervisor/conf.d",
    "/etc/supervisord.conf",
    "/etc/supervisord.d",
    "/etc/systemd/system",
    "/etc/nginx/nginx.conf",
    "/etc/nginx/conf.d",
    "/etc/nginx/sites-enabled",
    "/usr/local/etc/supervisord.conf",
];

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

/// Looks at the site around a directory; reads files of the checkout, beside it and in [`ELSEWHERE`], and asks git.
///
/// # Errors
///
/// See [`InitError`]: no checkout, no manage.py.
pub fn look(directory: &Path, host: &Host) -> Result<Findings, InitError> {
    look_also_in(directory, host, &ELSEWHERE.map(PathBuf::from))
}

/// Does what [`look`] does with other places than [`ELSEWHERE`]: files, or directories whose files are read.
///
/// # Errors
///
/// See [`InitError`].
pub fn look_also_in(directory: &Path, host: &Host, elsewhere: &[PathBuf]) -> Result<Findings, InitError> {
    let read = |source| InitError::Read { path: directory.to_owned(), source };
    std::fs::read_dir(directory).map_err(read)?;
    let directory = names::normal(&std::path::absolute(directory).map_err(read)?);
    let repository = checkout::find(&directory)?;
    not_root_over_others(&repository)?;
    let above = directory.ancestors().take_while(|above| above.starts_with(&repository));
    let there = [directory.as_path(), &repository]
        .into_iter()
        .chain(above)
        .map(|directory| directory.join(FILE_NAME));
    let existing = there.into_iter().find(|path| path.symlink_metadata().is_ok());
    let git = checkout::observe(&repository, host);
    let tree = walk(&repository, host);
    let around = Around::read(&repository, &tree, elsewhere);
    if host.is_cancelled() {
        return Err(InitError::Cancelled { directory });
    }
    let mut findings = Findings { directory: directory.clone(), existing, ..Findings::default() };
    (findings.remote, findings.branch) = checkout::decide(&git);
    let source = if repository == directory { "" } else { "the git checkout" };
    findings.repository = Found::new(repository, source);
    fill(&mut findings, &tree, &around)?;
    findings.questions = write::draft(&findings, &directory).1;
    Ok(findings)
}

/// The files of service managers and web servers.
#[derive(Default)]
struct Around {
    programs: Vec<Program>,
    /// Files of nginx with their text.
    nginx: Vec<(PathBuf, String)>,
}

impl Around {
    fn read(top: &Path, tree: &Tree, elsewhere: &[PathBuf]) -> Self {
        let mut files: Vec<PathBuf> = elsewhere
            .iter()
            .flat_map(|place| if place.is_dir() { entries_of(place) } else { vec![place.clone()] })
            .collect();
        files.extend(tree.files.iter().filter(|file| is_settings(file)).cloned());
        // A directory of many sites' configurations is common; which of them are this site's is decided later.
        if let Some(parent) = top.parent().filter(|parent| parent.parent().is_some()) {
            for entry in entries_of(parent) {
                let name = file_name(&entry);
                if ["conf", "config", "etc", "deploy", "supervisor", "supervisord", "nginx"]
                    .contains(&name.as_str())
                {
                    files.extend(entries_of(&entry).into_iter().filter(|file| is_settings(file)));
                } else if is_settings(&entry) {
                    files.push(entry);
                }
            }
        }
        let mut around = Around::default();
        let (mut confs, mut sockets): (Vec<Conf>, Vec<(String, String)>) = (Vec::new(), Vec::new());
        let mut seen = Vec::new();
        for file in files {
            let real = real(&file);
            if seen.contains(&real) {
                continue;
            }
            seen.push(real);
            let Some(text) = text(&file) else { continue };
            let name = file_name(&file);
            if let Some(stem) = name.strip_suffix(".socket") {
                sockets.extend(systemd::socket(&text).map(|address| (stem.to_owned(), address)));
            } else if name.ends_with(".service") {
                around.programs.extend(systemd::parse(&text, &file));
            } else if let Some(conf) = supervisor::parse(&text, &file) {
                confs.push(conf);
            } else if text.contains("server") && text.contains('{') && !text.contains("{%") {
                around.nginx.push((file, text));
            }
        }
        for program in &mut around.programs {
            if let Some((_, address)) = sockets.iter().find(|(stem, _)| *stem == program.name) {
                program.socket = Some(address.clone());
            }
        }
        around.programs.extend(supervisor::join(confs));
        for program in &mut around.programs {
            let started = script(program).map(|script| web::script_words(&script));
            program.command.extend(started.unwrap_or_default());
        }
        around
    }
}

fn is_settings(file: &Path) -> bool {
    let (name, directory) = (file_name(file), directory_name(file));
    let extension = file.extension().unwrap_or_default().to_string_lossy();
    let known = ["conf", "ini", "service", "socket", "nginx"].contains(&extension.as_ref());
    file.is_file()
        && (known || name.contains("nginx") || directory.contains("nginx") || directory.starts_with("sites-"))
}

/// Returns the shell script that a program consists in.
fn script(program: &Program) -> Option<String> {
    let words = program.command.iter().take(2).map(|word| match &program.directory {
        Some(directory) => directory.join(word),
        None => PathBuf::from(word),
    });
    words.filter(|path| path.is_absolute()).filter_map(|path| text(&path)).find(|text| {
        let first = text.lines().next().unwrap_or_default();
        first.starts_with("#!") && first.trim_end().ends_with("sh")
    })
}

/// Leaves the programs of other sites out.
fn of_this_site<'p>(top: &Path, all: &'p [Program], virtualenvs: &[PathBuf]) -> Vec<&'p Program> {
    let checkout = real(top);
    let inside = |file: &Path| real(file).starts_with(&checkout);
    let mut own: Vec<bool> = all
        .iter()
        .map(|program| {
            // A file of the checkout is about this site, unless it names a place of another one on this machine.
            let foreign = program.directory.as_deref().is_some_and(Path::is_dir);
            let required = web::role(&program.command) == Role::Required;
            uses(program, &checkout) || inside(&program.file) && (required || !foreign)
        })
        .collect();
    let chosen =
        |own: &[bool]| all.iter().zip(own).filter(|(_, own)| **own).map(|(program, _)| program).collect();
    let touching: Vec<&Program> = chosen(&own);
    let mut environments: Vec<PathBuf> =
        touching.iter().flat_map(|program| virtualenvs_of(program)).collect();
    if environments.is_empty() && virtualenvs.len() == 1 {
        environments.extend(virtualenvs.iter().cloned());
    }
    let environments: Vec<PathBuf> = environments.iter().map(|directory| real(directory)).collect();
    for (program, own) in all.iter().zip(&mut own) {
        *own |= virtualenvs_of(program).iter().any(|directory| environments.contains(&real(directory)));
    }
    let files: Vec<&Path> = chosen(&own).into_iter().map(|program| program.file.as_path()).collect();
    for (program, own) in all.iter().zip(&mut own) {
        let pathless = program.directory.is_none() && choose::paths_of(program).is_empty();
        let harmless = pathless || web::role(&program.command) == Role::Required;
        *own |= harmless && files.contains(&program.file.as_path());
    }
    chosen(&own)
}

/// Of files with the same programs keeps the one that is installed, or is for production.
fn without_doubles<'p>(
    top: &Path,
    mut programs: Vec<&'p Program>,
) -> (Vec<&'p Program>, Vec<(PathBuf, PathBuf)>) {
    let rank = |program: &Program| {
        let managed = program.config.is_some() || program.unit.is_some();
        let installed = !program.file.starts_with(top);
        (!managed, !installed, !supervisor::is_for(&program.file, "prod"))
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

fn fill(findings: &mut Findings, tree: &Tree, around: &Around) -> Result<(), InitError> {
    let top = findings.repository.value.clone().unwrap_or_default();
    let virtualenvs = packages::virtualenvs(&top, tree);
    let programs = of_this_site(&top, &around.programs, &virtualenvs);
    let (programs, unsure) = without_doubles(&top, programs);
    let shown = |path: &Path| seen_from(&top, path).to_string_lossy().into_owned();

    findings.project = choose::project(&top, tree, &programs)?;
    let project = findings.project.value.clone().unwrap_or_else(|| top.clone());
    findings.settings = choose::settings(&top, &project, tree, &programs);
    let env_files = [project.join(".env"), top.join(".env")];
    let dotenv = env_files.iter().find_map(|file| text(file));
    findings.environment = choose::environment(&findings.settings, dotenv.as_deref());
    let environment = findings.environment.value.clone().unwrap_or_default();
    let module = findings.settings.value.clone().unwrap_or_default();
    let imported = choose::import_directory(&top, &project, &module).unwrap_or_else(|| project.clone());
    let mut settings = Settings::read(&imported, &module);
    settings.variables = dotenv.unwrap_or_default();

    findings.virtualenv = packages::virtualenv(&top, &virtualenvs, &programs);
    findings.requirements = packages::requirements(&top, &project, tree, &environment);
    let secrets = secrets::choose(&top, &project, tree, &settings, &programs);
    (findings.secrets_file, findings.secrets_pattern) = (secrets.file, secrets.pattern);
    findings.env_file = secrets.env_file;
    findings.env = variables(&top, &programs, findings.env_file.value.as_deref());

    findings.services = services(&top, &programs, &unsure);
    let server = programs.iter().find(|program| web::role(&program.command) == Role::Web);
    findings.connect = server.map(|program| web::listens(program)).unwrap_or_default();
    let env_files: Vec<PathBuf> = findings.env_file.value.iter().cloned().chain(env_files).collect();
    let host = secrets::allowed_host(&settings, &env_files);

    let connect = findings.connect.value.as_deref().map(|address| address.trim_start_matches("unix:"));
    let about = |(file, text): &&(PathBuf, String)| {
        let named = host.as_ref().is_some_and(|(host, _)| web::server_names(text).contains(host));
        let at = |what: Option<&str>| what.is_some_and(|what| text.contains(what));
        file.starts_with(&top) || named || at(connect) || at(top.to_str().filter(|top| top.len() > 1))
    };
    let nginx: Vec<&(PathBuf, String)> = around.nginx.iter().filter(about).collect();
    let from_nginx = || {
        nginx
            .iter()
            .find_map(|(file, text)| Some((web::public_host(&web::server_names(text))?, file.clone())))
    };
    findings.base = match host.clone().or_else(from_nginx) {
        Some((host, file)) => Found::new(format!("https://{host}/"), shown(&file)),
        None => Found::default(),
    };
    let page = nginx.iter().find_map(|(file, text)| Some((web::maintenance_page(text)?, file)));
    if let Some((page, file)) = page {
        let directory_is_there = page.parent().is_some_and(Path::is_dir);
        findings.page = Found::new(page, shown(file));
        if !directory_is_there {
            let question = "nginx looks for this file, and its directory is not there";
            findings.page.question = Some(question.to_owned());
        }
    }

    findings.maintenance = maintenance(&top, tree, &settings);
    let mut names = settings.names(r"\w*MAINTENANCE\w*(?:FILE|PATH)\w*");
    names.dedup();
    // Of several none is more likely than the others.
    if let [name] = &names[..]
        && let Some((file, expression)) = settings.assigned(name)
    {
        findings.status_file.value = settings.path(file, &expression);
        findings.status_file.source = Some(format!("{name} in {}", shown(file)));
    }
    if let Some((file, expression)) = settings.assigned("STATIC_ROOT") {
        let path = settings.path(file, &expression).map(|path| path.to_string_lossy().into_owned());
        let spelled = expression.lines().next().unwrap_or_default().chars().take(60).collect();
        findings.static_root = Found::new(path.unwrap_or(spelled), shown(file));
    }
    let logs = programs.iter().filter_map(|program| Some((program.name.clone(), program.log.clone()?)));
    let own = nginx
        .iter()
        .filter_map(|(_, text)| web::error_log(text))
        .take(1)
        .map(|log| ("nginx".to_owned(), log));
    findings.logs = logs.chain(own).take(8).collect();
    findings.logs.sort();
    findings.logs.dedup_by(|one, other| one.0 == other.0);
    Ok(())
}

fn services(top: &Path, programs: &[&Program], unsure: &[(PathBuf, PathBuf)]) -> Vec<FoundService> {
    let mut services: Vec<FoundService> = programs
        .iter()
        .map(|program| {
            let shown = |path: &Path| seen_from(top, path).to_string_lossy().into_owned();
            let twice = unsure.iter().find(|(kept, _)| *kept == program.file);
            let mut question =
                twice.map(|(_, other)| format!("`{}` has the same program; which one runs?", shown(other)));
            let manager = if let Some(unit) = program.unit.clone() {
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
                name: program.name.clone(),
                role: web::role(&program.command),
                manager,
                stop_seconds: program.stop_seconds,
                cautions: cautions(program),
                source: shown(&program.file),
                question,
            }
        })
        .collect();
    services.sort_by_key(|service| service.role);
    // A group that can only be asked for as a whole is one service, of its most public role.
    let mut asked: Vec<FoundManager> = Vec::new();
    services.retain(|service| {
        let grouped = matches!(&service.manager, FoundManager::Supervisor { program: Some(_), .. });
        let again = grouped && asked.contains(&service.manager);
        asked.push(service.manager.clone());
        !again
    });
    services
}

/// Says where a program's manager is less patient than gunicorn, as far as the files tell.
fn cautions(program: &Program) -> Vec<String> {
    let (force, one_only) = match program.unit {
        Some(_) => ((program.stop_seconds.unwrap_or(90), "TimeoutStopSec"), "KillMode"),
        None => ((program.stop_seconds.unwrap_or(10), "stopwaitsecs"), "killasgroup = false"),
    };
    let variables = program.environment.iter().find(|(name, _)| name == "GUNICORN_CMD_ARGS");
    let variables = variables.map(|(_, value)| value.as_str()).unwrap_or_default();
    let directory = program.directory.clone().unwrap_or_default();
    let limits = Limits {
        force: Some((Duration::from_secs(force.0), force.1)),
        one_only: program.kills_one.then_some(one_only),
        graceful: graceful(&program.command, variables, &directory),
    };
    // `stop-timeout` is written to fit.
    if limits.graceful.is_some() { limits.cautions(Duration::MAX) } else { Vec::new() }
}

/// Returns the variables that manage.py needs as much as the services do.
fn variables(top: &Path, programs: &[&Program], env_file: Option<&Path>) -> Found<Vec<(String, String)>> {
    let known = env_file.and_then(text).unwrap_or_default();
    let (mut plain, mut others, mut source) = (Vec::new(), Vec::new(), String::new());
    for program in programs.iter().filter(|program| web::role(&program.command) != Role::Required) {
        for (name, value) in &program.environment {
            if OWN.contains(&name.as_str()) || files::dotenv(&known, name).is_some() {
                continue;
            }
            if PLAIN.contains(&name.as_str()) && !value.contains(['%', '$']) {
                if !plain.iter().any(|(known, _)| known == name) {
                    source = seen_from(top, &program.file).to_string_lossy().into_owned();
                    plain.push((name.clone(), value.clone()));
                }
            } else if !others.contains(name) {
                others.push(name.clone());
            }
        }
    }
    let mut found = if plain.is_empty() { Found::default() } else { Found::new(plain, source) };
    if !others.is_empty() {
        let names = others.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        found.question = Some(format!(
            "the services get {names}; if manage.py needs them, put them here, or secret ones into an env-file"
        ));
    }
    found
}

fn maintenance(top: &Path, tree: &Tree, settings: &Settings) -> Found<FoundMaintenance> {
    let command = |name: &'static str| tree.named(name).find(|file| directory_name(file) == "commands");
    if let (Some(on), Some(_)) = (command("maintenanceon.py"), command("maintenanceoff.py")) {
        // `lib/management/commands/maintenanceon.py` is of `lib`.
        let app = on.ancestors().nth(3).unwrap_or(top);
        return Found::new(FoundMaintenance::Own, seen_from(top, app).to_string_lossy());
    }
    if settings.matches(r#"["']maintenance_mode["']"#) {
        return Found::new(FoundMaintenance::Package, "INSTALLED_APPS");
    }
    Found::default()
}
