//! `pip-install`: step 6 of the manual as a one-liner.

use deploykit::operations::pip_install::PipInstall;
use deploykit::python::Installer;
use deploykit::{Site, Umask};

use crate::args::{self, Global, PipInstallArgs};
use crate::failure::Failure;
use crate::output::Ui;

pub fn run(global: &Global, args: &PipInstallArgs, ui: Ui) -> Result<u8, Failure> {
    let virtualenv = args.virtualenv.as_ref().map(|path| std::path::absolute(path).unwrap_or(path.clone()));
    // From wherever it is called: the virtualenv of a site is changed as that site's.
    let site = match &virtualenv {
        Some(virtualenv) => {
            super::not_root_over_others(virtualenv)?;
            let site = Site::of_virtualenv(virtualenv, global.environment.as_deref())?;
            super::take(site.as_ref().map_or_else(|| Umask::of_files(virtualenv, None), Site::umask));
            site
        }
        None => Some(super::site(global)?),
    };
    let mut install = match (virtualenv, &site) {
        (_, Some(site)) => site.pip_install(),
        (virtualenv, None) => {
            let virtualenv = virtualenv.unwrap_or_default();
            // Without a site there is no state directory: the environments stand beside the one that is named.
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
