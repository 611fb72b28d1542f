//! Hints about lock files.

use deploykit::errors::LockFileError;

pub(super) fn hint(error: &LockFileError) -> Option<String> {
    Some(match error {
        LockFileError::UnknownName { .. } => {
            "files of `name==version` lines, such as those of pip-tools, belong in `python.requirements`".into()
        }
        LockFileError::Missing { .. } => {
            "set `python.lock` to the lock file, and `python.project` to the directory of its `pyproject.toml` or `Pipfile`"
                .into()
        }
        LockFileError::Version { file, update, .. } if file.ends_with("poetry.lock") => {
            format!("run `{update}` with Poetry 2; or run `poetry export` and name its file in `python.requirements`")
        }
        LockFileError::Version { update: "", .. } => {
            "regenerate the lock file with a tool that writes this version".into()
        }
        LockFileError::Version { update, .. } | LockFileError::Stale { update, .. } => {
            format!("run `{update}`, commit the lock file and push it")
        }
        LockFileError::OtherPython { .. } => {
            "install such a Python and set `python.python` to its version: the next update builds a new virtualenv with it".into()
        }
        LockFileError::Incomplete { missing: "hash", .. } => {
            "lock the package from an index that provides hashes, \
             or export requirements and name their file in `python.requirements`".into()
        }
        LockFileError::Directory { .. } => {
            "move the package into the repository, or lock a wheel of it".into()
        }
        LockFileError::NoVariable { variable, .. } => format!("set {variable} in `site.env-file`"),
        LockFileError::NoUv { .. } => {
            "install uv and add its directory to PATH in `site.env`; or run `uv export` and name its file in `python.requirements`".into()
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_of_poetry_1_has_two_ways_out() {
        let error = LockFileError::Version {
            file: "/srv/site/poetry.lock".into(),
            found: "lock-version `2.0`".to_owned(),
            expected: "`2.1`, which Poetry 2 writes",
            update: "poetry lock",
        };
        let hint = hint(&error).unwrap();
        assert_eq!(
            hint,
            "run `poetry lock` with Poetry 2; or run `poetry export` and name its file in `python.requirements`"
        );
    }
}
