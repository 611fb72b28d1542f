//! Indexes that refuse access, and how the installers tell it.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use regex_lite::Regex;

use super::error::PythonError;
use super::installer::{Budget, Tool};
use super::packages::clean_url;
use crate::command::Command;
use crate::host::{CommandError, Host, files};

/// How uv asks several indexes.
pub(super) const INDEX_STRATEGY: &str = "UV_INDEX_STRATEGY";

/// Returns the error of an index that refused access, if that is why an installer failed.
///
/// Otherwise such an index looks like one that does not have the package: pip says it only in its log, and uv only where
/// it asks one index after another. `directory` is for the log.
pub(super) fn refused(
    host: &Host,
    tool: &Tool,
    command: &Command,
    budget: Budget,
    error: CommandError,
    directory: &Path,
) -> Result<CommandError, PythonError> {
    let CommandError::Failed { tail, .. } = &error else { return Ok(error) };
    let said = tail.join("\n");
    let mut found = refusal_in(&said);
    let again = command.clone().deadline(budget.left());
    // With constraints, pip takes a package that it cannot find for a conflict with them.
    let is_missed = ["No matching distribution found", "The user requested (constraint)"];
    if found.is_none() && *tool == Tool::Pip && is_missed.iter().any(|missed| said.contains(missed)) {
        if let Ok(log) = files::temporary_file_like(directory, ".log") {
            repeat(host, &again.args([Path::new("--log"), log.path()]))?;
            found = refusal_in(&fs::read_to_string(log.path()).unwrap_or_default());
        }
    } else if found.is_none() && *tool != Tool::Pip && said.contains("was not found in the package registry")
    {
        found = refusal_in(&repeat(host, &again.env(INDEX_STRATEGY, "first-index"))?);
    }
    match found {
        Some((url, status)) => Err(PythonError::AccessRefused { url, status, source: Box::new(error) }),
        None => Ok(error),
    }
}

/// Repeats a command that failed, and returns its last lines. Only an interruption is an error of its own.
fn repeat(host: &Host, command: &Command) -> Result<String, CommandError> {
    match host.run(command) {
        Err(error @ CommandError::Cancelled { .. }) => Err(error),
        Err(error) => Ok(error.tail().join("\n")),
        Ok(_) => Ok(String::new()),
    }
}

/// Returns the address and the status of the first refusal that an installer tells of.
fn refusal_in(output: &str) -> Option<(String, String)> {
    static REFUSALS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
        [
            r"Could not fetch URL (?P<url>\S+): (?P<code>401|403) Client Error",
            r"(?P<code>401|403) Client Error: .* for url: (?P<url>\S+)",
            r"HTTP error (?P<code>401|403) while getting (?P<url>\S+)",
            r"An index URL \((?P<url>\S+)\) could not be queried due to .*\((?P<code>401|403)",
            r"HTTP status client error \((?P<code>401|403)[^)]*\) for url \((?P<url>[^)\s]+)\)",
        ]
        .iter()
        .filter_map(|pattern| Regex::new(pattern).ok())
        .collect()
    });
    let found = REFUSALS.iter().find_map(|refusal| refusal.captures(output))?;
    let status = match &found["code"] {
        "401" => "401 Unauthorized",
        _ => "403 Forbidden",
    };
    Some((clean_url(&found["url"]), status.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Cancel;

    #[test]
    fn an_interruption_is_no_failure_of_the_installer() {
        let cancel = Cancel::new().unwrap();
        let host = Host::new().with_cancel(cancel.clone());
        let directory = tempfile::tempdir().unwrap();
        let asked = || {
            let error = CommandError::Failed {
                command: "pip install six".to_owned(),
                code: 1,
                duration: Duration::ZERO,
                tail: vec!["ERROR: No matching distribution found for six".to_owned()],
            };
            let budget = Budget::new(Duration::from_secs(9));
            refused(&host, &Tool::Pip, &Command::new("true"), budget, error, directory.path())
        };
        assert!(matches!(asked(), Ok(CommandError::Failed { .. })));
        cancel.request();
        assert!(matches!(asked(), Err(PythonError::Command(CommandError::Cancelled { .. }))));
    }

    #[test]
    fn a_refusal_is_found_in_what_pip_and_uv_say() {
        for (text, url, status) in [
            (
                "2026-11-28T23:26:16,057 Could not fetch URL http://h/simple/six/: 401 Client Error: Unauthorized for url: http://h/simple/six/ - skipping",
                "http://h/simple/six/",
                "401 Unauthorized",
            ),
            (
                "ERROR: HTTP error 403 while getting https://me:****@h/files/six.whl (from https://h/)",
                "https://h/files/six.whl",
                "403 Forbidden",
            ),
            (
                "hint: An index URL (http://h/simple) could not be queried due to a lack of valid authentication credentials (401 Unauthorized)",
                "http://h/simple",
                "401 Unauthorized",
            ),
            (
                "  cause: HTTP status client error (403 Forbidden) for url (https://h/six.whl)",
                "https://h/six.whl",
                "403 Forbidden",
            ),
        ] {
            assert_eq!(refusal_in(text), Some((url.to_owned(), status.to_owned())), "{text}");
        }
        assert_eq!(refusal_in("ERROR: No matching distribution found for six"), None);
        assert_eq!(refusal_in("404 Client Error: Not Found for url: https://h/six/"), None);
    }
}
