//! `pip-install`: step 6 of the manual as a one-liner.

use deploykit::operations::pip_install::PipInstall;
use deploykit::python::Installer;

use crate::args::{self, Global, PipInstallArgs};
use crate::failure::Failure;
use crate::output::Ui;

pub fn run(global: &Global, args: &PipInstallArgs, ui: Ui) -> Result<u8, Failure> {
    let site = if args.virtualenv.is_some() { None } else { Some(super::site(global)?) };
    let mut install = match (&args.virtualenv, &site) {
        (None, Some(site)) => site.pip_install(),
        (virtualenv, _) => {
            let virtualenv = virtualenv.clone().unwrap_or_default();
            let virtualenv = std::path::absolute(&virtualenv).unwrap_or(virtualenv);
            // Without a site there is no state folder: the environments stand beside the one that is named.
            let mut name = std::ffi::OsString::from(".");
            name.push(virtualenv.file_name().unwrap_or_default());
            name.push(".environments");
            let environments = virtualenv.with_file_name(name);
            PipInstall::new(virtualenv, Vec::new(), super::here()?, environments)
        }
    };
    if !args.requirements.is_empty() {
        install.requirements = args
            .requirements
            .iter()
            .map(|file| std::path::absolute(file).unwrap_or_else(|_| file.clone()))
            .collect();
    }
    if install.requirements.is_empty() {
        return Err(Failure::message(
            crate::exit_code::USAGE,
            "there are no requirements to install",
            "name a file with `-r requirements.txt`, or set `python.requirements` in the configuration",
        ));
    }
    if let Some(installer) = args.installer {
        install.installer = match installer {
            args::Installer::Auto => Installer::Auto,
            args::Installer::Pip => Installer::Pip,
            args::Installer::Uv => Installer::Uv,
        };
    }
    let host = super::host(site.as_ref())?;
    super::say(&super::apply(&install, site.as_ref(), &host, args.check)?, ui)
}
