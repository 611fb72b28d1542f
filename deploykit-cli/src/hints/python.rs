//! Hints about packages and virtualenvs.

use deploykit::internal::python::PythonError;

/// How setuptools ends what it says when it cannot tell the packages of a project, after "Multiple top-level packages discovered in a
/// flat-layout".
const FLAT_LAYOUT: &str = "\"package discovery\" on setuptools docs";

pub(super) fn hint(error: &PythonError) -> Option<String> {
    if error.tail().iter().any(|line| line.contains(FLAT_LAYOUT)) {
        return Some(
            "name the packages in pyproject.toml: `[tool.setuptools]` with `packages = [\"…\"]`, or `packages = []` for none; or do not \
             install the project: no `-e .` in the requirements, or `python.install-project = false` with a lock"
                .into(),
        );
    }
    Some(match error {
        PythonError::NoPip { .. } => "put `uv` into `PATH`, or install pip with `bin/python -m ensurepip`".into(),
        PythonError::NoVirtualenv { .. } | PythonError::NotAVirtualenv { .. } => {
            "set `python.virtualenv` to the directory that holds `pyvenv.cfg`".into()
        }
        PythonError::LocalRequirement { .. } => {
            "write the path from the top of the checkout, as in `-e ./lib`; that directory needs a pyproject.toml or a setup.py".into()
        }
        PythonError::CredentialsInArguments { .. } => {
            "put the address into PIP_INDEX_URL in `site.env-file`, or the password into pip.conf or .netrc".into()
        }
        PythonError::VirtualenvNotWritable { .. } => {
            "let the site's user write to that directory: the update changes files there".into()
        }
        PythonError::HoldsTheSite { .. } => {
            "make a virtualenv elsewhere, let the services use it, and set `python.virtualenv`".into()
        }
        PythonError::UnknownFiles { .. } => {
            "move them out of the virtualenv: a site that writes to them would keep the old ones".into()
        }
        PythonError::IndexOfPip { .. } => {
            "set `python.installer = \"pip\"`, or set the index for uv as UV_DEFAULT_INDEX in `site.env-file`"
                .into()
        }
        PythonError::NotReplaceable { in_place: true, path, .. } => format!(
            "set `python.in-place = true`, or make a virtualenv with its Python ({}/bin/python3 -m venv \
             DIRECTORY), let the services use it, and set `python.virtualenv`",
            path.display()
        ),
        PythonError::OfPackageManager { manager: "conda", names, .. } => format!(
            "update them with `conda install {}`, or let the requirements allow the installed versions",
            names.join(" ")
        ),
        PythonError::OfPackageManager { .. } => {
            "update them with the system's package manager, or let the requirements allow the installed versions".into()
        }
        PythonError::CannotTakeAlong { name, of_conda: true, .. } => {
            format!("name it in the requirements, or run `conda remove {name}` if nothing needs it")
        }
        PythonError::PythonStays { .. } => "remove `python.python`, or `python.in-place`".into(),
        PythonError::CannotUpdateInPlace { name, version } => format!(
            "install it again by hand: `bin/python -m pip install --ignore-installed --no-deps {name}=={version}`"
        ),
        PythonError::NamesStaged { .. } => "install it without `-e`".into(),
        PythonError::DirectoryInTheWay { .. } => "move it away, if nothing needs it".into(),
        PythonError::NoRoom { .. } => "make room on the disk, or set `keep` to fewer updates".into(),
        PythonError::ChangedMeanwhile { .. } => "start the update again".into(),
        PythonError::NotReplaceable { path, .. } => format!(
            "make a virtualenv with its Python ({}/bin/python3 -m venv DIRECTORY), let the services use it, and set `python.virtualenv`\
             ; or leave out `python.requirements` and `python.lock`, and install packages by a step of your own",
            path.display()
        ),
        PythonError::TrackedVirtualenv { .. } => {
            "make a virtualenv that git does not track, let the services use it, and set `python.virtualenv`".into()
        }
        PythonError::DifferentFileSystem { path } => format!(
            "set `python.in-place = true`, or make a virtualenv in `{}/venv`, let the services use it, and set `python.virtualenv`",
            path.display()
        ),
        PythonError::BasePythonGone { .. } => {
            "set `python.python` to a Python that is installed: the next update builds a new virtualenv with it".into()
        }
        PythonError::PythonNotFound { .. } => {
            "correct `python.python`, install that version, or set the absolute path of an interpreter".into()
        }
        PythonError::OtherPython { .. } => {
            "install such a Python and set `python.python` to its version: the next update builds a new virtualenv with it".into()
        }
        PythonError::PythonNotUsable { .. } | PythonError::NotAPython { .. } => {
            "set `python.python` to the absolute path of an interpreter, or to its version".into()
        }
        PythonError::BuiltInPlace { .. } => {
            "install the package without `-e`: its extension modules then go into the virtualenv".into()
        }
        PythonError::PipTooOld { .. } => {
            "upgrade pip with `bin/python -m pip install --upgrade pip`, or install uv".into()
        }
        PythonError::SourcesWithoutGit { .. } => {
            "install git and check that `git status` works in this directory".into()
        }
        PythonError::UnaskedEditable { name, .. } | PythonError::CannotTakeAlong { name, .. } => {
            format!("name it in the requirements, or run `pip uninstall {name}` if nothing needs it")
        }
        PythonError::AccessRefused { .. } => {
            "give the site's user the user name and password: in .netrc, in a keyring \
             (`--keyring-provider subprocess` in `python.extra-args`), or in the address of the index, as PIP_INDEX_URL or UV_DEFAULT_INDEX in `site.env-file`"
                .into()
        }
        PythonError::Constrained { .. } => {
            "a lock decides about each version: remove the constraint from PIP_CONSTRAINT, UV_CONSTRAINT, pip.conf or `python.extra-args`, or update the lock file so that it satisfies the constraint".into()
        }
        PythonError::Conflicts { .. } => "fix the requirements upstream".into(),
        PythonError::Lock(error) => return super::locks::hint(error),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use deploykit::CommandError;

    use super::*;

    #[test]
    fn a_package_without_a_record_is_installed_again_by_hand() {
        let error = PythonError::CannotUpdateInPlace { name: "six".into(), version: "1.16".into() };
        let said = hint(&error).unwrap();
        assert!(said.ends_with("pip install --ignore-installed --no-deps six==1.16`"), "{said}");
    }

    #[test]
    fn a_project_whose_packages_setuptools_cannot_tell_has_a_hint() {
        let failed = |line: &str| {
            let source = CommandError::Failed {
                command: "pip install -e .".to_owned(),
                code: 1,
                duration: Duration::ZERO,
                tail: vec![line.to_owned(), "[end of output]".to_owned()],
            };
            hint(&PythonError::BuildFailed { step: "installing the packages", source: Box::new(source) })
        };
        let said =
            failed("      To find more information, look for \"package discovery\" on setuptools docs.");
        assert!(said.is_some_and(|hint| hint.starts_with("name the packages in pyproject.toml: ")));
        assert_eq!(failed("error: no compiler"), None);
    }
}
