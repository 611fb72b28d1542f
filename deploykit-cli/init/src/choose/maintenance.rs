//! Chooses how the site announces maintenance.

use std::path::{Path, PathBuf};

use deploykit::internal::django::SiteFacts;

use crate::findings::{Found, FoundMaintenance};
use crate::read::files::{Tree, directory_name, shown};
use crate::read::nginx;
use crate::read::settings::Settings;

/// Finds the commands that announce maintenance.
pub(crate) fn commands(top: &Path, tree: &Tree, settings: &Settings) -> Found<FoundMaintenance> {
    let command = |name: &'static str| tree.named(name).find(|file| directory_name(file) == "commands");
    if let (Some(on), Some(_)) = (command("maintenanceon.py"), command("maintenanceoff.py")) {
        // `lib/management/commands/maintenanceon.py` is of `lib`.
        let app = on.ancestors().nth(3).unwrap_or(top);
        return Found::new(FoundMaintenance::Own, shown(top, app));
    }
    if settings.matches(r#"["']maintenance_mode["']"#) {
        return Found::new(FoundMaintenance::Package, "INSTALLED_APPS");
    }
    Found::default()
}

/// Corrects what was found by what Django knows.
pub(crate) fn known_to_django(found: Found<FoundMaintenance>, facts: &SiteFacts) -> Found<FoundMaintenance> {
    let command = |name: &str| facts.commands.iter().any(|command| command == name);
    if command("maintenanceon") && command("maintenanceoff") {
        if found.value == Some(FoundMaintenance::Own) {
            return found;
        }
        return Found::new(FoundMaintenance::Own, "an installed package");
    }
    if command("maintenance_mode") {
        return Found::new(FoundMaintenance::Package, "INSTALLED_APPS");
    }
    Found::default()
}

/// Finds the file that the commands write, where the settings name one.
pub(crate) fn status_file(top: &Path, settings: &Settings) -> Found<PathBuf> {
    let mut names = settings.names(r"\w*MAINTENANCE\w*(?:FILE|PATH)\w*");
    names.dedup();
    names.retain(|name| !["EXEMPT", "IGNORE", "PATHS", "URL"].iter().any(|other| name.contains(other)));
    // Of several none is more likely than the others.
    let [name] = &names[..] else { return Found::default() };
    let Some((file, expression)) = settings.assigned(name) else { return Found::default() };
    let source = Some(format!("{name} in {}", shown(top, file)));
    Found { value: settings.path(file, &expression), source, question: None }
}

/// Finds the file whose existence makes nginx answer 503.
pub(crate) fn page(top: &Path, nginx: &[&(PathBuf, String)]) -> Found<PathBuf> {
    let page = nginx.iter().find_map(|(file, text)| Some((nginx::maintenance_page(text)?, file)));
    let Some((page, file)) = page else { return Found::default() };
    let is_there = page.parent().is_some_and(Path::is_dir);
    let found = Found::new(page, shown(top, file));
    if is_there { found } else { found.asking("nginx looks for this file, but its directory does not exist") }
}
