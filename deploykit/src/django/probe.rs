//! The program that runs in the site's Python.

use serde_json::{Map, Value};

/// Takes the probe from the standard input, so that the command line stays readable and no file is needed.
pub(super) const LOADER: &str = "import json, os; requests = os.fdopen(os.dup(0), 'rb'); \
    exec(compile(json.loads(requests.readline()), '<deploykit>', 'exec'), {'requests': requests, '__name__': 'deploykit'})";

/// Lets Python import the modules, and runs them.
const START: &str = include_str!("probe/deploykit_probe/loader.py");

/// Includes the sources of modules.
macro_rules! modules {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("probe/deploykit_probe/", $name, ".py")))),+]
    };
}

/// The modules with their sources. Their order does not matter: they import each other.
const MODULES: &[(&str, &str)] = modules![
    "__init__",
    "answers",
    "backup",
    "backup_mariadb",
    "backup_postgresql",
    "backup_sqlite",
    "beside",
    "bytecode",
    "check",
    "connections",
    "database",
    "errors",
    "fork",
    "history",
    "identities",
    "kinds",
    "lines",
    "losses",
    "misfits",
    "moved",
    "origin",
    "own_command",
    "patience",
    "pooling",
    "programs_mysql",
    "record",
    "registry",
    "rows",
    "schema",
    "schema_mariadb",
    "schema_postgresql",
    "serve",
    "site",
    "sql",
    "static",
    "tables",
    "tools",
];

/// Returns the whole program.
pub(super) fn program() -> String {
    let sources: Map<String, Value> =
        MODULES.iter().map(|(name, source)| ((*name).to_owned(), Value::from(*source))).collect();
    // What JSON writes of strings, Python reads.
    format!("{START}\n\nstart({}, requests)\n", Value::from(sources))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn all_modules_are_included() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/django/probe/deploykit_probe");
        let there: BTreeSet<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| name.strip_suffix(".py").map(str::to_owned))
            .collect();
        let mut included: BTreeSet<String> = MODULES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(included.len(), MODULES.len());
        included.insert("loader".to_owned());
        assert_eq!(included, there);
    }
}
