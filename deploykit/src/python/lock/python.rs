//! What a Python says of itself.

use std::path::Path;

use super::super::installer::{Budget, isolated};
use super::Lock;
use super::error::LockFileError;
use super::marker::Markers;
use crate::command::Command;
use crate::host::Host;

/// Source: <https://packaging.python.org/en/latest/specifications/dependency-specifiers/#environment-markers>
const PROGRAM: &str = r#"
import os, platform, sys
def version(info):
    text = "%d.%d.%d" % info[:3]
    return text if info.releaselevel == "final" else text + info.releaselevel[0] + str(info.serial)
for name, value in [
    ("implementation_name", sys.implementation.name),
    ("implementation_version", version(sys.implementation.version)),
    ("os_name", os.name),
    ("platform_machine", platform.machine()),
    ("platform_python_implementation", platform.python_implementation()),
    ("platform_release", platform.release()),
    ("platform_system", platform.system()),
    ("platform_version", platform.version()),
    ("python_full_version", platform.python_version()),
    ("python_version", ".".join(platform.python_version_tuple()[:2])),
    ("sys_platform", sys.platform),
]:
    print(name, value)
"#;

/// Asks a Python what environment markers are about.
pub(super) fn markers(
    lock: &Lock,
    host: &Host,
    python: &Path,
    budget: Budget,
) -> Result<Markers, LockFileError> {
    let command = isolated(Command::new(python).args(["-I", "-S", "-c", PROGRAM])).deadline(budget.left());
    let output = host.run(&command).map_err(|source| LockFileError::Program {
        file: lock.file.clone(),
        step: "asking the virtualenv's Python for its version",
        source: Box::new(source),
    })?;
    let lines = output.stdout.lines().filter_map(|line| line.split_once(' '));
    let variables = lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Ok(Markers { variables, ..Markers::default() })
}
