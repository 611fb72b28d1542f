//! Brings together what the readers find and what is chosen of it.

use std::path::{Path, PathBuf};

use deploykit::Host;
use deploykit::internal::names;
use deploykit::internal::owners::not_root_over_others;

use crate::InitError;
use crate::choose::{self, maintenance, packages, project, secrets, services, web};
use crate::findings::{FILE_NAME, Findings, Found};
use crate::read::around::Around;
use crate::read::files::{Tree, text, walk};
use crate::read::settings::Settings;
use crate::read::{git, nginx};
use crate::write;

/// Where supervisor, systemd and nginx have their settings on the usual distributions.
const ELSEWHERE: [&str; 9] = [
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

/// Looks at the site around a directory; reads files of the checkout, beside it and where servers have their settings, and asks git.
///
/// # Errors
///
/// See [`InitError`]: no checkout, no manage.py.
pub fn look(directory: &Path, host: &Host) -> Result<Findings, InitError> {
    look_also_in(directory, host, &ELSEWHERE.map(PathBuf::from))
}

/// Does what [`look`] does with other places than [`ELSEWHERE`]: files, or directories whose files are read.
pub(crate) fn look_also_in(
    directory: &Path,
    host: &Host,
    elsewhere: &[PathBuf],
) -> Result<Findings, InitError> {
    let read = |source| InitError::Read { path: directory.to_owned(), source };
    std::fs::read_dir(directory).map_err(read)?;
    let directory = names::normal(&std::path::absolute(directory).map_err(read)?);
    let repository = git::find(&directory)?;
    not_root_over_others(&repository)?;
    let above = directory.ancestors().take_while(|above| above.starts_with(&repository));
    let there = [directory.as_path(), &repository]
        .into_iter()
        .chain(above)
        .map(|directory| directory.join(FILE_NAME));
    let existing = there.into_iter().find(|path| path.symlink_metadata().is_ok());
    let git = git::observe(&repository, host);
    let tree = walk(&repository, host);
    let around = Around::read(&repository, &tree, elsewhere);
    if host.is_cancelled() {
        return Err(InitError::Cancelled { directory });
    }
    let mut findings = Findings { directory: directory.clone(), existing, ..Findings::default() };
    (findings.remote, findings.branch) = choose::git::decide(&git);
    let source = if repository == directory { "" } else { "the git checkout" };
    findings.repository = Found::new(repository, source);
    fill(&mut findings, &tree, &around)?;
    findings.questions = write::draft(&findings).1;
    Ok(findings)
}

fn fill(findings: &mut Findings, tree: &Tree, around: &Around) -> Result<(), InitError> {
    let top = findings.repository.value.clone().unwrap_or_default();
    let virtualenvs = packages::virtualenvs(&top, tree);
    let programs = services::of_this_site(&top, &around.programs, &virtualenvs);
    let (programs, unsure) = services::without_doubles(&top, programs);

    findings.project = project::project(&top, tree, &programs)?;
    let project = findings.project.value.clone().unwrap_or_else(|| top.clone());
    findings.settings = project::settings(&top, &project, tree, &programs);
    let env_files = [project.join(".env"), top.join(".env")];
    let dotenv = env_files.iter().find_map(|file| text(file));
    findings.environment = project::environment(&findings.settings, dotenv.as_deref());
    let environment = findings.environment.value.clone().unwrap_or_default();
    let module = findings.settings.value.clone().unwrap_or_default();
    let imported = project::import_directory(&top, &project, &module).unwrap_or_else(|| project.clone());
    let mut settings = Settings::read(&imported, &module);
    settings.variables = dotenv.unwrap_or_default();

    findings.virtualenv = packages::virtualenv(&top, &virtualenvs, &programs);
    findings.requirements = packages::requirements(&top, &project, tree, &environment);
    let secrets = secrets::choose(&top, &project, tree, &settings, &programs);
    (findings.secrets_file, findings.secrets_pattern) = (secrets.file, secrets.pattern);
    findings.env_file = secrets.env_file;
    findings.env = services::variables(&top, &programs, findings.env_file.value.as_deref());
    findings.static_root = project::static_root(&top, &settings);

    findings.services = services::services(&top, &programs, &unsure);
    findings.connect = web::connect(&programs);
    let env_files: Vec<PathBuf> = findings.env_file.value.iter().cloned().chain(env_files).collect();
    let host = web::allowed_host(&settings, &env_files);
    let nginx =
        web::nginx_of_this_site(&top, &around.nginx, host.as_ref(), findings.connect.value.as_deref());
    findings.base = web::base(&top, host, &nginx);
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
