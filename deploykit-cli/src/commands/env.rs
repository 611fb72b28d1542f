//! `env`: what manage.py sees, for a shell. It is the one command that shows values, because that is its purpose.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::args::Global;
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Ui;
use crate::output::json::document;

pub fn run(global: &Global, ui: Ui) -> Result<u8, Failure> {
    let site = super::site(global)?;
    let host = site.host(None);
    let (config, project, virtualenv) = (site.config(), site.project()?, site.virtualenv()?);
    let mut variables: BTreeMap<String, String> =
        host.variables().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    variables.insert("DJANGO_SETTINGS_MODULE".to_owned(), project.settings);
    variables.insert("VIRTUAL_ENV".to_owned(), virtualenv.display().to_string());
    let mut text = String::new();
    for (name, value) in &variables {
        let _ = writeln!(text, "export {name}={}", deploykit::quote(value));
    }
    let bin_directory = virtualenv.join("bin").display().to_string();
    let bin = deploykit::quote(&bin_directory);
    let _ = writeln!(text, "export PATH={bin}:\"$PATH\"");
    let _ = writeln!(text, "cd {}", deploykit::quote(&config.site.project.display().to_string()));
    let directory = config.site.project.display().to_string();
    let answer = serde_json::json!({ "variables": variables, "path": bin_directory, "directory": directory });
    ui.exact(&document(answer), &text)?;
    Ok(exit_code::DONE)
}
