//! What the installer's `check` complains of.

use super::{Build, failed};
use crate::host::{Host, Output};
use crate::python::installer::Budget;
use crate::python::{Packages, PythonError, Tool, Virtualenv, normalise};

impl Build {
    /// Returns the conflicts of packages that no requirement asks for: an installer leaves them in their place, too.
    pub(super) fn check_conflicts(
        &self,
        host: &Host,
        budget: Budget,
        found: &Virtualenv,
    ) -> Result<Vec<String>, PythonError> {
        if self.tool == Tool::Pip && found.packages.get("pip").is_none() {
            return Ok(Vec::new());
        }
        let command = self.tool.command(&self.staged, &["check"]).accept([1]).deadline(budget.left());
        let output = host.run(&command).map_err(|error| failed("checking the packages", error))?;
        if output.code == 0 {
            return Ok(Vec::new());
        }
        let lines = conflicts(&output, &self.packages, self.system_site_packages);
        let is_unasked = |line: &String| self.unasked.contains(&normalise(complainer(line)));
        let (unasked, lines): (Vec<_>, Vec<_>) = lines.into_iter().partition(is_unasked);
        if lines.is_empty() && (self.system_site_packages || !unasked.is_empty()) {
            let text = |line| format!("a package that no requirement asks for is kept and conflicts: {line}");
            return Ok(unasked.into_iter().map(text).collect());
        }
        Err(PythonError::Conflicts { lines })
    }
}

/// Returns what `check` complains of. With the system's packages in view, only what concerns our own counts.
fn conflicts(output: &Output, packages: &Packages, system: bool) -> Vec<String> {
    output
        .stdout
        .lines()
        .chain(output.stderr.lines())
        .map(str::trim)
        .filter(|line| {
            line.contains(" requires ")
                || line.contains(" has requirement ")
                || line.contains(" is not supported")
        })
        .filter(|line| !system || packages.get(complainer(line)).is_some())
        .map(str::to_owned)
        .collect()
}

/// Returns the package that a line of `check` is about.
fn complainer(line: &str) -> &str {
    line.trim_start_matches("The package `").split([' ', '`']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::Package;

    #[test]
    fn conflicts_of_the_system_are_not_ours() {
        let output = Output {
            stdout: "a 1 has requirement b<2, but you have b 2.\nsys 1 requires x, which is not installed.\n"
                .into(),
            stderr: "Found 1 incompatibility\nThe package `a` requires `c`, but it's not installed\n".into(),
            ..Output::default()
        };
        let packages: Packages = [Package::new("a", "1")].into_iter().collect();
        assert_eq!(conflicts(&output, &packages, false).len(), 3);
        assert_eq!(conflicts(&output, &packages, true).len(), 2);
    }
}
