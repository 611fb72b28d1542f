//! Which secrets the code of a commit asks for and the file lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};

use regex_lite::Regex;

use crate::git::Tree;
use crate::secrets::{SecretsCheck, SecretsFile, SecretsOutcome, asked_for, compile_pattern};
use crate::site::{Config, Site};

/// Any error of a part.
type Failed = Box<dyn Error + Send + Sync>;

/// Compares what the code of a commit asks for with the secrets file; `None`: the live commit.
///
/// # Errors
///
/// When the commit or the file cannot be read.
pub fn check_secrets(site: &Site, revision: Option<&str>) -> Result<SecretsOutcome, Failed> {
    let config = site.config();
    check_secrets_of(&config.site.repository, &config.git.remote, &check_of(config), revision)
}

/// Does the same for a checkout without a configuration.
///
/// # Errors
///
/// When the pattern is wrong; when the commit or the file cannot be read.
pub fn check_secrets_of(
    repository: &Path,
    remote: &str,
    check: &SecretsCheck,
    revision: Option<&str>,
) -> Result<SecretsOutcome, Failed> {
    let pattern = compile_pattern(&check.pattern)?;
    let commit = match revision {
        Some(revision) => crate::git::commit_of(repository, remote, revision)?,
        None => crate::git::head(repository)?.commit,
    };
    let asked = asked_by(repository, &commit, &pattern, |_| true)?;
    Ok(check.decide(&asked, &BTreeSet::new(), &names_in(check)?))
}

fn check_of(config: &Config) -> SecretsCheck {
    SecretsCheck {
        file: config.secrets.file.clone(),
        required: config.secrets.required.clone(),
        pattern: config.secrets.pattern.clone(),
    }
}

/// Returns the names that the Python files of a commit ask for, those that `wanted` picks.
fn asked_by(
    repository: &Path,
    commit: &str,
    pattern: &Regex,
    wanted: impl Fn(&Path) -> bool,
) -> Result<BTreeMap<String, Vec<String>>, Failed> {
    let is_python = |path: &Path| path.extension().is_some_and(|extension| extension == "py");
    let texts = Tree::open(repository, commit)?.texts(|path| is_python(path) && wanted(path))?;
    let texts: Vec<_> = texts.iter().map(|(path, text)| (path.to_string_lossy(), text)).collect();
    Ok(asked_for(texts.iter().map(|(path, text)| (path.as_ref(), text.as_str())), pattern))
}

/// Returns the names that the file has.
fn names_in(check: &SecretsCheck) -> Result<BTreeSet<String>, Failed> {
    Ok(match &check.file {
        Some(file) => SecretsFile::read(file)?.names().clone(),
        None => BTreeSet::new(),
    })
}

/// Compares the names that the new version asks for, in its settings and in what changed, with the secrets file; what the live commit
/// lacks as well is only noticed. Also returns how many names are asked for or required.
pub(crate) fn compare(
    site: &Site,
    live: &str,
    new: &str,
    changed: &BTreeSet<PathBuf>,
) -> Result<(SecretsOutcome, usize), Failed> {
    let config = site.config();
    let check = check_of(config);
    let pattern = compile_pattern(&check.pattern)?;
    let settings = SettingsFiles::of(config);
    let counts = |path: &Path| settings.matches(path) || changed.contains(path);
    let asked_by_new = asked_by(&config.site.repository, new, &pattern, counts)?;
    let asked_by_live = asked_by(&config.site.repository, live, &pattern, counts)?.into_keys().collect();
    let outcome = check.decide(&asked_by_new, &asked_by_live, &names_in(&check)?);
    let named: BTreeSet<&String> = asked_by_new.keys().chain(&check.required).collect();
    Ok((outcome, named.len()))
}

/// The files that the settings module may be made of.
struct SettingsFiles(Vec<PathBuf>);

impl SettingsFiles {
    /// The module, what is below it, and its neighbours when they are settings too.
    fn of(config: &Config) -> Self {
        let inside = config.site.project.strip_prefix(&config.site.repository).unwrap_or(Path::new(""));
        let Some(settings) = &config.site.settings else { return SettingsFiles(Vec::new()) };
        let module = inside.join(settings.replace('.', "/"));
        let mut files = vec![module.with_extension("py"), module.clone()];
        if let Some(package) = module.parent()
            && package.file_name().is_some_and(|name| name.to_string_lossy().contains("settings"))
        {
            files.push(package.to_owned());
        }
        SettingsFiles(files)
    }

    fn matches(&self, path: &Path) -> bool {
        self.0.iter().any(|prefix| path.starts_with(prefix))
    }
}
