//! Hints for sites that flags describe: they name flags instead of keys of the configuration.

/// Words of hints, and the words for flags that replace them.
const FLAGS: [(&str, &str); 29] = [
    ("`site.repository`", "`--repository`"),
    ("`git.branch`", "`--branch`"),
    ("set `git.local-changes = \"keep\"`", "add `--keep-changes`"),
    ("set `git.local-commits = \"rebase\"`", "add `--rebase`"),
    ("`python.virtualenv`", "`--virtualenv`"),
    ("`python.python`", "`--python`"),
    ("set `python.in-place = true`", "add `--in-place`"),
    (", or set `keep` to fewer updates", ""),
    (
        "`--keyring-provider subprocess` in `python.extra-args`",
        "PIP_KEYRING_PROVIDER=subprocess in the environment",
    ),
    ("pip.conf or `python.extra-args`", "or pip.conf"),
    (", or `python.install-project = false` with a lock", ""),
    (
        "; or leave out `python.requirements` and `python.lock`, and install packages by a step of your own",
        "",
    ),
    ("in `site.env-file`", "in the environment"),
    ("; `git.deadline` sets the timeout", ""),
    ("name its file in `python.requirements`", "give its file to `-r`"),
    ("set `python.lock` to the lock file", "give the lock file to `--lock`"),
    (
        ", and `python.project` to the directory of its `pyproject.toml` or `Pipfile`",
        ", with its `pyproject.toml` or `Pipfile` beside it",
    ),
    ("belong in `python.requirements`", "are for `-r`"),
    ("to PATH in `site.env`", "to PATH"),
    ("set `python.installer = \"pip\"`", "add `--installer pip`"),
    ("`site.project`", "`--project`"),
    ("`site.settings`", "`--settings`"),
    ("`smoke.base`", "`--base`"),
    ("`smoke.connect`", "`--connect`"),
    ("raise `stop-timeout`; with", "raise `stop-timeout` in a configuration (`deploykit init`); with"),
    ("correct the service's `config`", "correct `--supervisor-config`"),
    ("name it with `unit`", "name the unit"),
    ("`user = true` when", "add `--user` when"),
    ("set `sudo = true` to run `sudo -n systemctl`", "call deploykit with `sudo`"),
];

/// Makes a hint name flags.
pub fn in_flags(hint: &str) -> String {
    FLAGS.iter().fold(hint.to_owned(), |hint, (key, flag)| hint.replace(key, flag))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use deploykit::CommandError;
    use deploykit::errors::PythonError;

    use super::*;

    #[test]
    fn a_hint_names_flags_in_the_place_of_keys() {
        let hint = "commit them upstream, or set `git.local-changes = \"keep\"`: then they stay";
        assert_eq!(in_flags(hint), "commit them upstream, or add `--keep-changes`: then they stay");
        let hint = "set `python.lock` to the lock file, and `python.project` to the directory of its `pyproject.toml` or `Pipfile`";
        let flags = "give the lock file to `--lock`, with its `pyproject.toml` or `Pipfile` beside it";
        assert_eq!(in_flags(hint), flags);
        assert_eq!(in_flags("chmod go-w /srv"), "chmod go-w /srv");
    }

    #[test]
    fn a_hint_about_packages_names_no_key() {
        let path = || PathBuf::from("/srv");
        let source = || Box::new(CommandError::NotFound { program: "pip".to_owned() });
        let errors = [
            PythonError::NoRoom { directory: path(), copy: 2, reserve: 1, free: 2 },
            PythonError::CredentialsInArguments { position: 1 },
            PythonError::IndexOfPip { file: path() },
            PythonError::AccessRefused { url: String::new(), status: String::new(), source: source() },
            PythonError::Constrained { lock: path(), constraint: String::new(), source: source() },
            PythonError::NotReplaceable { path: path(), what: "", in_place: false },
        ];
        for error in errors {
            let hint = in_flags(&super::super::python::hint(&error).unwrap());
            let named = ["python.", "site.", "keep`"].iter().find(|key| hint.contains(*key));
            assert_eq!(named, None, "{hint}");
        }
    }

    #[test]
    fn every_word_is_one_of_a_hint() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/hints");
        let others = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let others = others.filter(|path| !path.ends_with("flags.rs"));
        let hints: String = others.map(|path| std::fs::read_to_string(path).unwrap()).collect();
        let hints = (include_str!("../hints.rs").to_owned() + &hints).replace("\\\"", "\"");
        let unknown: Vec<&str> =
            FLAGS.iter().map(|(key, _)| *key).filter(|key| !hints.contains(key)).collect();
        assert!(unknown.is_empty(), "no hint says: {unknown:?}");
    }
}
