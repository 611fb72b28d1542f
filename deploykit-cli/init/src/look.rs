//! Brings together what the readers find and what is chosen of it.

use std::path::{Path, PathBuf};

use deploykit::Host;
use deploykit::internal::names;
use deploykit::internal::owners::not_root_over_others;

use crate::InitError;
use crate::choose::{self, maintenance, packages, project, secrets, services, steps, virtualenv, web};
use crate::findings::{FILE_NAME, Findings, Found, FoundPage, MIGRATE_SCHEMAS, in_backticks};
use crate::read::around::Around;
use crate::read::files::{Tree, shown, text, walk};
use crate::read::hints::Hints;
use crate::read::settings::Settings;
use crate::read::{git, literals, nginx, scripts};
use deploykit::services::Role;

/// Where service managers, web servers and cron have their settings on the usual distributions.
pub(crate) const PLACES: [&str; 22] = [
    "/etc/supervisor/supervisord.conf",
    "/etc/supervisor/conf.d",
    "/etc/supervisord.conf",
    "/etc/supervisord.d",
    "/etc/systemd/system",
    "/etc/nginx/nginx.conf",
    "/etc/nginx/conf.d",
    "/etc/nginx/sites-enabled",
    "/etc/apache2/apache2.conf",
    "/etc/apache2/conf-enabled",
    "/etc/apache2/sites-enabled",
    "/etc/httpd/conf/httpd.conf",
    "/etc/httpd/conf.d",
    "/etc/caddy/Caddyfile",
    "/etc/uwsgi",
    "/etc/uwsgi/apps-enabled",
    "/etc/uwsgi/vassals",
    "/etc/uwsgi-emperor/vassals",
    "/etc/cron.d",
    "/etc/crontab",
    "/var/spool/cron/crontabs",
    "/usr/local/etc/supervisord.conf",
];

/// What to look at.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// A directory of the site's checkout, or the one above it.
    pub directory: PathBuf,
    /// The configuration to write; default: `deploykit.toml` in that directory.
    pub file: Option<PathBuf>,
    /// The environment; default: what the settings and the `.env` file say.
    pub environment: Option<String>,
}

impl From<&Path> for Request {
    fn from(directory: &Path) -> Self {
        Request { directory: directory.to_owned(), ..Request::default() }
    }
}

/// Looks at the site around a directory; reads files of the checkout, beside it and where servers have their settings, and asks git.
///
/// # Errors
///
/// See [`InitError`]: no checkout, no manage.py.
pub fn look(request: &Request, host: &Host) -> Result<Findings, InitError> {
    let home = std::env::home_dir().and_then(|home| home.canonicalize().ok());
    look_also_in(request, host, &PLACES.map(PathBuf::from), home)
}

/// Does what [`look`] does with other places than [`PLACES`], which are files, or directories whose files are read, and with another
/// home directory.
pub(crate) fn look_also_in(
    request: &Request,
    host: &Host,
    elsewhere: &[PathBuf],
    home: Option<PathBuf>,
) -> Result<Findings, InitError> {
    let read = |source| InitError::Read { path: request.directory.clone(), source };
    std::fs::read_dir(&request.directory).map_err(read)?;
    let absolute = |path: &Path| std::path::absolute(path).map(|path| names::normal(&path)).map_err(read);
    let directory = absolute(&request.directory)?;
    let repository = git::find(&directory)?;
    not_root_over_others(&repository)?;
    let file = match &request.file {
        Some(file) => absolute(file)?,
        None => directory.join(FILE_NAME),
    };
    let existing = match &request.file {
        Some(_) => Some(file.clone()).filter(|path| path.symlink_metadata().is_ok()),
        None => configuration_above(&directory, &repository),
    };
    let git = git::observe(&repository, host);
    let tree = walk(&repository, host);
    let around = Around::read(&repository, &tree, elsewhere, home.as_deref());
    if host.is_cancelled() {
        return Err(InitError::Cancelled { directory });
    }
    let mut findings = Findings {
        directory: file.parent().unwrap_or(&directory).to_owned(),
        file: file.clone(),
        existing,
        ..Findings::default()
    };
    if let Some(environment) = &request.environment {
        findings.environment = Found::new(environment.clone(), "--environment");
    }
    (findings.remote, findings.branch) = choose::git::decide(&git);
    let source = if repository == directory { "" } else { "the git checkout" };
    findings.repository = Found::new(repository, source);
    fill(&mut findings, &directory, &tree, &around)?;
    findings.number();
    Ok(findings)
}

/// Finds the configuration of a directory, or of those above it in the checkout.
fn configuration_above(directory: &Path, repository: &Path) -> Option<PathBuf> {
    let above = directory.ancestors().take_while(|above| above.starts_with(repository));
    let mut there =
        [directory, repository].into_iter().chain(above).map(|directory| directory.join(FILE_NAME));
    there.find(|path| path.symlink_metadata().is_ok())
}

fn fill(findings: &mut Findings, directory: &Path, tree: &Tree, around: &Around) -> Result<(), InitError> {
    let top = findings.repository.value.clone().unwrap_or_default();
    let virtualenvs = virtualenv::virtualenvs(&top, tree);
    let programs = services::of_this_site(&top, &around.programs, &virtualenvs);
    let (mut programs, unsure) = services::without_doubles(&top, programs);
    // What the web service says counts first.
    programs.sort_by_key(|program| web::role(&program.command) != Role::Web);
    let served = programs.iter().any(|program| program.installed && web::role(&program.command) == Role::Web);

    findings.project = project::project(&top, directory, tree, &programs)?;
    let project = findings.project.value.clone().unwrap_or_else(|| top.clone());
    let wanted = findings.environment.value.clone();
    let hints = Hints::read(&top, tree);
    findings.documents = hints.docs.iter().map(|hint| shown(&top, &hint.file)).collect();
    findings.settings = project::settings(&top, &project, tree, &programs, wanted.as_deref(), &hints);
    let env_files = [project.join(".env"), top.join(".env")];
    let dotenv = env_files.iter().find_map(|file| text(file));
    if wanted.is_none() {
        findings.environment = project::environment(&findings.settings, dotenv.as_deref(), served);
    }
    let environment = findings.environment.value.clone().unwrap_or_default();
    let module = findings.settings.value.clone().unwrap_or_default();
    let imported = project::import_directory(&top, &project, &module, &programs);
    let mut settings = Settings::read(&imported.unwrap_or_else(|| project.clone()), &module);
    settings.variables = dotenv.unwrap_or_default();
    let starters = project::starters(&project, tree);

    findings.virtualenv = virtualenv::virtualenv(&top, &virtualenvs, &programs);
    let packages = packages::packages(&top, &project, tree, &environment, &hints);
    let version = findings.virtualenv.value.as_deref().and_then(virtualenv::version);
    findings.python = virtualenv::python(&top, &project, version.as_deref(), &hints);
    (findings.requirements, findings.lock) = (packages.requirements, packages.lock);
    (findings.groups, findings.extras) = (packages.groups, packages.extras);
    let secrets = secrets::choose(&top, &project, tree, &settings, &starters, &programs);
    (findings.secrets_file, findings.secrets_pattern) = (secrets.file, secrets.pattern);
    (findings.env_file, findings.secrets_required) = (secrets.env_file, secrets.required);
    let is_read = |name: &str| {
        let quoted = format!(r#"["']{name}["']"#);
        settings.matches(&quoted) || starters.matches(&quoted)
    };
    let (env, secret) = services::variables(&top, &programs, findings.env_file.value.as_deref(), is_read);
    findings.env = env;
    if !secret.is_empty() {
        let names = in_backticks(secret);
        let question =
            format!("manage.py needs {names} as the services get them; put them into a file for both");
        findings.env_file.question = Some(question);
    }
    findings.static_root = project::static_root(&top, &settings);
    findings.collect = project::collect(&top, &findings.static_root);
    if settings.matches(r#"["'](?:django_tenants|tenant_schemas)["']"#) {
        findings.migrate_command = Found::new(vec![MIGRATE_SCHEMAS.to_owned()], "INSTALLED_APPS");
    }
    findings.steps = steps::steps(&top, tree, &settings, &hints.docs);
    let (later, more) = steps::of_updates(&top, tree, &hints.docs);
    findings.steps.extend(later);
    findings.more_steps = more;

    findings.connect = web::connect(&programs, &around.fronts);
    let env_files: Vec<PathBuf> = findings.env_file.value.iter().cloned().chain(env_files).collect();
    let hosts = web::allowed_hosts(&settings, &env_files);
    let allowed = hosts.as_ref().map(|(hosts, _)| hosts.clone()).unwrap_or_default();
    let fronts = web::of_this_site(&top, &around.fronts, &allowed, &programs);
    findings.services = services::services(&top, &programs, &unsure, &fronts);
    findings.shared = services::shared(&programs);
    let starts = scripts::starts(&top).into_iter().map(|(file, it)| (shown(&top, &file), it));
    findings.starts = hints.starts(&top).into_iter().chain(starts).collect();
    findings.jobs = services::jobs(&top, around, findings.virtualenv.value.as_slice());
    let connect = findings.connect.value.clone();
    let nginx = web::nginx_of_this_site(&top, &around.nginx, &fronts, connect.as_deref());
    let secure =
        settings.matches(r"\bSECURE_(?:SSL_REDIRECT|PROXY_SSL_HEADER|HSTS_SECONDS)[ \t]*=[ \t]*[^F0\s]");
    findings.secure = secure;
    let first_page;
    (findings.base, first_page) = web::base(&top, hosts, &fronts, connect.as_deref(), secure);
    let mut page = FoundPage::new(first_page.as_deref().unwrap_or("/"));
    if settings.matches(r"\bLoginRequiredMiddleware\b") {
        let login = settings.assigned("LOGIN_URL").map_or_else(
            || Some("/accounts/login/".to_owned()),
            |(_, url)| literals::strings(&url).into_iter().next(),
        );
        page.redirect = login.filter(|url| url.starts_with('/'));
    }
    if findings.base.value.is_some() {
        findings.pages.value = Some(vec![page]);
    }
    findings.page = maintenance::page(&top, &nginx);
    findings.maintenance = maintenance::commands(&top, tree, &settings);
    findings.status_file = maintenance::status_file(&top, &settings);

    let logs = programs.iter().filter_map(|program| Some((program.name.clone(), program.log.clone()?)));
    let error_log = nginx.iter().find_map(|(_, text)| nginx::error_log(text));
    findings.logs = logs.chain(error_log.map(|log| ("nginx".to_owned(), log))).take(8).collect();
    findings.logs.sort();
    findings.logs.dedup_by(|one, other| one.0 == other.0);
    Ok(())
}
