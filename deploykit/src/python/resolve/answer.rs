//! What installers answer: pip's report, and the file that uv compiles.

use serde_json::Value;

use crate::python::asked::{Needs, Wish};
use crate::python::error::PythonError;
use crate::python::packages::{Package, Packages, clean_url, normalise, origin_of};

/// Returns the packages that a requirements file names, as uv notes it behind each: `django==5.2  # via -r base.txt`.
pub(super) fn named_in(annotated: &str) -> Vec<String> {
    let named = annotated.lines().filter_map(|line| {
        let (package, via) = line.split_once("# via ")?;
        let is_named = via.split(',').any(|via| via.trim_start().starts_with("-r "));
        is_named.then(|| Wish::read(package).map(|wish| wish.name)).flatten()
    });
    named.collect()
}

/// Returns what the packages of a report that can be read depend on.
pub(super) fn needs_in_report(text: &[u8]) -> Needs {
    let report: Value = serde_json::from_slice(text).unwrap_or_default();
    let items = report.get("install").and_then(Value::as_array).into_iter().flatten();
    let needs = items.filter_map(|item| {
        let metadata = item.get("metadata")?;
        let requires = metadata.get("requires_dist").and_then(Value::as_array).into_iter().flatten();
        let wishes = requires.filter_map(|line| Wish::read(line.as_str()?)).collect();
        Some((normalise(metadata.get("name")?.as_str()?), wishes))
    });
    needs.collect()
}

/// Reads the packages of pip's installation report.
///
/// Source: <https://pip.pypa.io/en/stable/reference/installation-report/>, version 1.
///
/// # Errors
///
/// When it is no such report.
pub fn read_pip_report(text: &[u8]) -> Result<Packages, PythonError> {
    let unreadable =
        |problem: &str| PythonError::UnreadableResolution { installer: "pip", problem: problem.to_owned() };
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(Packages::new());
    }
    let report: Value = serde_json::from_slice(text).map_err(|error| unreadable(&error.to_string()))?;
    // "0" is that of pip 22.2, which has the same fields.
    let version = report.get("version").and_then(Value::as_str).unwrap_or_default();
    if !["0", "1"].contains(&version) {
        return Err(unreadable(&format!("its version is `{version}`, not `1`")));
    }
    let items =
        report.get("install").and_then(Value::as_array).ok_or_else(|| unreadable("it has no `install`"))?;
    items
        .iter()
        .map(|item| {
            let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str);
            let (Some(name), Some(version)) = (text("/metadata/name"), text("/metadata/version")) else {
                return Err(unreadable("a package has no name or version"));
            };
            let direct = item.get("is_direct").and_then(Value::as_bool).unwrap_or_default();
            let origin = if direct { item.get("download_info").and_then(origin_of) } else { None };
            Ok(Package { name: name.to_owned(), version: version.to_owned(), origin })
        })
        .collect()
}

/// Reads the packages that `uv pip compile` wrote: a requirements file of exact versions and URLs.
///
/// Source: <https://docs.astral.sh/uv/pip/compile/>
///
/// # Errors
///
/// When a line is neither.
pub fn read_uv_output(text: &str) -> Result<Packages, PythonError> {
    text.lines()
        .map(|line| line.trim().trim_end_matches('\\').trim())
        // Hashes follow on lines of their own; comments say where a package comes from.
        .filter(|line| !line.is_empty() && !line.starts_with(['#', '-']))
        .map(|line| {
            let line = line.split(" ;").next().unwrap_or(line).split(" #").next().unwrap_or(line).trim();
            let package = match line.split_once(" @ ") {
                Some((name, url)) => Some(Package {
                    name: name.to_owned(),
                    version: String::new(),
                    origin: Some(clean_url(url.trim())),
                }),
                None => {
                    line.split_once("==").map(|(name, version)| Package::new(name.trim(), version.trim()))
                }
            };
            let package = package.map(|mut package| {
                if let Some((name, _)) = package.name.split_once('[') {
                    package.name = name.trim().to_owned();
                }
                package
            });
            package.filter(|package| !package.name.is_empty()).ok_or_else(|| {
                PythonError::UnreadableResolution {
                    installer: "uv",
                    problem: format!("`{}` is no exact version", clean_url(line)),
                }
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        let report = r#"{"version": "1", "pip_version": "23.2.1", "install": [
            {"download_info": {"url": "https://host/a.whl", "archive_info": {}}, "is_direct": false, "metadata": {"name": "A", "version": "1"}},
            {"download_info": {"url": "https://me:pw@host/b.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}, "is_direct": true, "metadata": {"name": "b", "version": "2"}}
        ]}"#;
        let packages = read_pip_report(report.as_bytes()).unwrap();
        assert_eq!(packages.get("a"), Some(&Package::new("A", "1")));
        assert_eq!(packages.get("b").unwrap().origin.as_deref(), Some("git+https://host/b.git@c0ffee"));
        assert!(read_pip_report(b" \n").unwrap().is_empty());
        for bad in ["{}", "[]", r#"{"version":"2","install":[]}"#, r#"{"version":"1","install":[{}]}"#, "no"]
        {
            let error = read_pip_report(bad.as_bytes()).unwrap_err();
            assert!(matches!(error, PythonError::UnreadableResolution { installer: "pip", .. }), "{error:?}");
        }
    }

    #[test]
    fn what_uv_compiled_is_read() {
        let text = "# made by uv\n--index-url https://host\ndjango[argon2]==5.2 \\\n    --hash=sha256:1 \\\n    --hash=sha256:2\n    # via -r x\nsix==1.16 ; python_version < '4'\nb @ git+https://me:pw@host/b.git@c0ffee\n";
        let packages = read_uv_output(text).unwrap();
        assert_eq!(packages.len(), 3);
        assert_eq!(packages.get("django"), Some(&Package::new("django", "5.2")));
        assert_eq!(packages.get("six"), Some(&Package::new("six", "1.16")));
        let report = r#"{"version": "1", "install": [{"download_info": {"url": "https://host/b.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}, "is_direct": true, "metadata": {"name": "b", "version": "2"}}]}"#;
        let of_pip = read_pip_report(report.as_bytes()).unwrap();
        let of_uv: Packages = packages.get("b").cloned().into_iter().collect();
        assert_eq!(of_pip.key("3.11", false), of_uv.key("3.11", false), "both mean the same environment");
        assert!(of_pip.changes_to(&of_uv).is_empty());
        assert!(read_uv_output("django>=5\n").is_err());
    }

    #[test]
    fn what_pip_would_change_depends_on_more() {
        let report = r#"{"version": "1", "install": [{"metadata": {"name": "A.b", "version": "1", "requires_dist": ["c[d]>=1", "e; extra == 'f'"]}}]}"#;
        let needs = needs_in_report(report.as_bytes());
        let names: Vec<&str> = needs["a-b"].iter().map(|wish| wish.name.as_str()).collect();
        assert_eq!(names, ["c", "e"]);
        assert!(needs_in_report(b"").is_empty());
    }

    #[test]
    fn uv_notes_what_a_file_names() {
        let text = "asgiref==3.8  # via django\ndjango==5.2  # via djangorestframework, -r https://host/r.txt\n\
                    six==1  # via -c pins.txt, -r base.txt\nsqlparse==1 # via -c pins.txt, django\n";
        assert_eq!(named_in(text), ["django", "six"]);
    }
}
