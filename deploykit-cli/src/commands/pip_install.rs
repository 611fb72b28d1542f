//! `pip-install`: step 6 of the manual as a one-liner.

use std::path::{Path, PathBuf};

use deploykit::internal::python::{Installer, keep_newest};
use deploykit::operations::pip_install::{Lock, PipInstall};
use deploykit::{Site, Umask};

use crate::args::{self, Global, PipInstallArgs};
use crate::failure::Failure;
use crate::output::Ui;

pub fn run(global: &Global, args: &PipInstallArgs, ui: Ui) -> Result<u8, Failure> {
    let virtualenv = match &args.virtualenv {
        Some(virtualenv) => Some(super::absolute(virtualenv)),
        None if super::is_configured(global)? => None,
        None => active(),
    };
    // From wherever it is called: the virtualenv of a site is changed as that site's.
    let site = match &virtualenv {
        Some(virtualenv) => {
            super::not_root_over_others(virtualenv)?;
            let site = super::site_of(global, |environment| Site::of_virtualenv(virtualenv, environment))?;
            match &site {
                Some(site) => super::agrees(site, "--virtualenv", virtualenv, site.virtualenv()?)?,
                None => super::take(Umask::of_files(virtualenv, None)),
            }
            site
        }
        None => Some(super::site_or(global, "`--virtualenv DIRECTORY`, or activate the virtualenv")?),
    };
    let mut install = match (virtualenv, &site) {
        (_, Some(site)) => site.pip_install()?,
        (virtualenv, None) => {
            let virtualenv = virtualenv.unwrap_or_default();
            // Without a site there is no state directory: new virtualenvs are built beside the named one.
            let mut name = std::ffi::OsString::from(".");
            name.push(virtualenv.file_name().unwrap_or_default());
            name.push(".environments");
            let environments = virtualenv.with_file_name(name);
            PipInstall::new(virtualenv, Vec::new(), super::here()?, environments)
        }
    };
    if !args.requirements.is_empty() {
        let files: Vec<PathBuf> = args.requirements.iter().map(|file| super::absolute(file)).collect();
        install.wanted = files.into();
    }
    if let Some(file) = &args.lock {
        let (groups, extras) = (args.groups.clone(), args.extras.clone());
        install.wanted = Lock { groups, extras, ..Lock::new(super::absolute(file)) }.into();
    }
    if install.wanted.is_empty() {
        return Err(Failure::message(
            crate::exit_code::USAGE,
            "there are no requirements to install",
            "name a file with `-r requirements.txt` or `--lock uv.lock`, or set `python.requirements` or `python.lock` in the configuration",
        ));
    }
    if let Some(python) = &args.python {
        install.python = Some(python.clone());
    }
    install.in_place |= args.in_place;
    if let Some(installer) = args.installer {
        install.installer = match installer {
            args::Installer::Auto => Installer::Auto,
            args::Installer::Pip => Installer::Pip,
            args::Installer::Uv => Installer::Uv,
        };
    }
    let host = super::host(site.as_ref())?;
    let previous = std::fs::canonicalize(&install.virtualenv).ok();
    let done = super::apply(&install, site.as_ref(), &host, args.check.check)?;
    let code = super::say(&done, args.check, ui)?;
    // No update of a site removes what its rollback needs no longer.
    if site.is_none() && done.changed && !args.check.check {
        match keep_newest(&install.virtualenv, &install.virtualenvs, previous) {
            Ok(Some(kept)) if install.in_place => {
                ui.say(&format!("the previous packages are kept in `{}`", kept.display()));
            }
            Ok(_) => {}
            // The packages have changed.
            Err(error) => log::warn!("{}", deploykit::error_chain(&error)),
        }
    }
    Ok(code)
}

/// Returns the virtualenv that is active in the caller's shell.
fn active() -> Option<PathBuf> {
    let virtualenv = std::env::var_os("VIRTUAL_ENV").filter(|virtualenv| !virtualenv.is_empty());
    virtualenv.map(|virtualenv| super::absolute(Path::new(&virtualenv)))
}
