//! Installs exactly the packages of a lock.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex_lite::Regex;

use super::{Build, failed, private_file};
use crate::command::Command;
use crate::host::files;
use crate::host::{Host, Output};
use crate::python::access;
use crate::python::error::PythonError;
use crate::python::installer::{Budget, Tool, knows_an_index};
use crate::python::lock::Lock;
use crate::python::sources::Source;
use crate::python::virtualenv::Virtualenv;

impl Build {
    /// Returns the Python that markers are evaluated for.
    fn python_of_lock(&self) -> PathBuf {
        self.interpreter.clone().unwrap_or_else(|| self.virtualenv.join("bin/python"))
    }

    /// Installs in two steps: installers refuse repositories where hashes are required.
    pub(super) fn install_locked(
        &self,
        host: &Host,
        budget: Budget,
        lock: &Lock,
        run_in: &Path,
    ) -> Result<Output, PythonError> {
        let read;
        let set = match &self.locked {
            Some(set) => &**set,
            None => {
                read = lock.read(host, &self.python_of_lock(), budget)?;
                &read
            }
        };
        let is_alone = !knows_an_index(host, &self.virtualenv, &self.directory, &self.extra_args);
        let options = set.options(is_alone);
        let [hashed, pinned] = set.requirements(&Virtualenv::read(&self.staged)?.packages);
        let mut told = Output::default();
        // Each line has hashes. uv would require them of `tool.uv.constraint-dependencies`, too.
        let checks = if self.tool == Tool::Pip { "--require-hashes" } else { "--verify-hashes" };
        let trusted = set.trusted();
        let trusted = trusted.iter().flat_map(|host| ["--trusted-host", host]);
        let of_checkout: String = self.sources.iter().map(Source::requirement).collect();
        for (requirements, checks) in [(hashed, Some(checks)), (pinned, None), (of_checkout, None)] {
            if requirements.is_empty() {
                continue;
            }
            // Not in arguments: an address may hold a password.
            let text = options.iter().map(|line| format!("{line}\n")).collect::<String>() + &requirements;
            let file = private_file(files::parent(&self.staged), &text)?;
            // uv would stop at the first index that knows the name. What has the right hash is right from any index.
            let any_index = matches!(self.tool, Tool::Uv { .. }) && !options.is_empty();
            let mut command = self.installer(&["install", "--no-deps"], budget);
            if checks.is_none() {
                // A commit needs no hash, and the checkout has none.
                command = ["PIP_REQUIRE_HASHES", "UV_REQUIRE_HASHES"]
                    .into_iter()
                    .fold(command, Command::env_remove);
            }
            let extra_args =
                self.extra_args.iter().filter(|argument| checks.is_some() || *argument != "--require-hashes");
            let command = command
                .args(self.of_pip())
                .args(checks)
                .args(trusted.clone())
                .args([Path::new("-r"), file.path()])
                .args(extra_args);
            let command =
                if any_index { command.env(access::INDEX_STRATEGY, "unsafe-best-match") } else { command };
            let command = self.tool.for_sources(command, &self.sources, run_in).directory(run_in);
            let output = host.run(&command).or_else(|error| {
                let directory = files::parent(&self.staged);
                let error = access::refused(host, &self.tool, &command, budget, error, directory)?;
                Err(match constraint_in(&error.tail().join("\n")) {
                    Some(constraint) => PythonError::Constrained {
                        lock: lock.file.clone(),
                        constraint,
                        source: Box::new(error),
                    },
                    None => failed("installing the locked packages", error),
                })
            })?;
            told.stdout.push_str(&output.stdout);
            told.stderr.push_str(&output.stderr);
        }
        Ok(told)
    }
}

/// Returns the constraint that does not allow a locked version: variables and arguments may name constraints.
fn constraint_in(output: &str) -> Option<String> {
    static CONSTRAINTS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
        [r"The user requested \(constraint\) (.+)", r"Because you require \S+ and (\S+), we can conclude"]
            .iter()
            .filter_map(|pattern| Regex::new(pattern).ok())
            .collect()
    });
    CONSTRAINTS.iter().find_map(|pattern| Some(pattern.captures(output)?[1].trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_read_for_the_python_that_the_virtualenv_gets() {
        let build = serde_json::json!({
            "staged": "/srv/environments/key", "virtualenv": "/srv/venv", "base": "/usr/bin/python3.12",
            "python": "3.12", "prompt": "", "system_site_packages": false, "tool": "pip", "requirements": [],
            "fingerprint": "", "directory": "/srv/site", "extra_args": [], "packages": {}, "seeds": {},
            "newer_pip": null, "deadline_ms": 1,
        });
        let mut build: Build = serde_json::from_value(build).unwrap();
        assert_eq!(build.python_of_lock(), Path::new("/srv/venv/bin/python"));
        build.interpreter = Some("/usr/bin/python3.12".into());
        let text = serde_json::to_string(&build).unwrap();
        let read: Build = serde_json::from_str(&text).unwrap();
        assert_eq!(read.python_of_lock(), Path::new("/usr/bin/python3.12"));
    }

    #[test]
    fn a_constraint_is_found_in_what_pip_and_uv_say() {
        let pip = "The conflict is caused by:\n    The user requested six==1.17.0\n    The user requested (constraint) six<1.17\n";
        let uv = "  cause: Because you require six==1.17.0 and six<1.17, we can conclude that your requirements are unsatisfiable.";
        assert_eq!([pip, uv].map(|text| constraint_in(text).unwrap_or_default()), ["six<1.17"; 2]);
        assert_eq!(constraint_in("Because six was not found and you require six==1, we can conclude"), None);
    }
}
