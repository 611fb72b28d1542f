//! A site seen whole, so that "everything is as before" can be asserted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::database::Database;
use super::site::demo_site::{DemoSite, run};

/// All that can be seen of a site, as named facts: `git HEAD`, `file project/manage.py`, `page /`…
///
/// Not looked at: process ids, whether the virtualenv is a directory or a link, `.deploykit`, `__pycache__`, logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub facts: BTreeMap<String, String>,
}

/// Reads schema, migrations and rows of a SQLite file; names are sorted, as undoing a migration may move columns.
const DATABASE: &str = r#"
import json, sqlite3, sys
facts = {}
db = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
db.execute("BEGIN")
tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
for table in tables:
    columns = sorted(row[1:] for row in db.execute(f"PRAGMA table_info('{table}')"))
    indexes = sorted(
        (row[1] if row[3] == "c" else row[3], row[2], [info[2] for info in db.execute(f"PRAGMA index_info('{row[1]}')")])
        for row in db.execute(f"PRAGMA index_list('{table}')")
    )
    keys = sorted(row[2:] for row in db.execute(f"PRAGMA foreign_key_list('{table}')"))
    facts[f"database schema {table}"] = json.dumps([columns, indexes, keys])
    if table.startswith("guestbook_"):
        names = sorted(row[1] for row in db.execute(f"PRAGMA table_info('{table}')"))
        wanted = ", ".join(f'"{name}"' for name in names)
        rows = [dict(zip(names, row)) for row in db.execute(f'SELECT {wanted} FROM "{table}" ORDER BY id')]
        facts[f"database rows {table}"] = json.dumps(rows, default=str)
if "django_migrations" in tables:
    for app, name in db.execute("SELECT app, name FROM django_migrations"):
        facts[f"migration {app}.{name}"] = "applied"
print(json.dumps(facts))
"#;

impl Snapshot {
    /// Looks at a site.
    pub fn of(site: &DemoSite) -> Snapshot {
        let mut snapshot = Snapshot { facts: BTreeMap::new() };
        snapshot.look_at_git(site);
        snapshot.look_at_files("file", &site.checkout);
        snapshot.look_at_files("static", &site.static_root);
        snapshot.look_at_packages(site);
        snapshot.look_at_database(site);
        snapshot.look_at_services(site);
        for (name, path) in
            [("maintenance status", &site.maintenance_status), ("maintenance page", &site.maintenance_page)]
        {
            snapshot.add(name, fs::read_to_string(path).unwrap_or_else(|_| "absent".to_owned()));
        }
        snapshot
    }

    /// Leaves out facts whose name begins so: `"page"`, `"database rows"`.
    #[must_use]
    pub fn without(mut self, prefix: &str) -> Snapshot {
        self.facts.retain(|name, _| !name.starts_with(prefix));
        self
    }

    /// Leaves out what visitors change who write while the site is looked at.
    #[must_use]
    pub fn without_entries(self) -> Snapshot {
        self.without("database rows guestbook_entry").without("page / body")
    }

    /// Says what differs, a line each.
    pub fn differences(&self, after: &Snapshot) -> Vec<String> {
        let names: BTreeSet<&String> = self.facts.keys().chain(after.facts.keys()).collect();
        let differing = names.into_iter().filter(|name| self.facts.get(*name) != after.facts.get(*name));
        differing
            .map(|name| match (self.facts.get(name), after.facts.get(name)) {
                (Some(before), None) => format!("- {name}: {}", shorten(before)),
                (None, Some(after)) => format!("+ {name}: {}", shorten(after)),
                (before, after) => {
                    let (before, after) =
                        (before.map_or("", |v| v.as_str()), after.map_or("", |v| v.as_str()));
                    format!("~ {name}: {} -> {}", shorten(before), shorten(after))
                }
            })
            .collect()
    }

    fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.facts.insert(name.into(), value.into());
    }

    fn look_at_git(&mut self, site: &DemoSite) {
        let questions: [(&str, &[&str]); 4] = [
            ("git HEAD", &["rev-parse", "HEAD"]),
            ("git branch", &["branch", "--show-current"]),
            ("git status", &["status", "--porcelain", "--untracked-files=all", "--", ".", ":!.deploykit"]),
            ("git stashes", &["stash", "list"]),
        ];
        for (name, args) in questions {
            let answer = site.git(&site.checkout, args).unwrap_or_else(|error| error.to_string());
            self.add(name, answer.trim_end());
        }
        for leftover in ["index.lock", "MERGE_HEAD", "rebase-merge", "rebase-apply"] {
            self.add(
                format!("git leftover {leftover}"),
                site.checkout.join(".git").join(leftover).exists().to_string(),
            );
        }
    }

    fn look_at_files(&mut self, kind: &str, directory: &Path) {
        walk(directory, directory, &mut |name, path, meta| {
            let value = if meta.is_symlink() {
                format!("link to {}", fs::read_link(path).unwrap_or_default().display())
            } else {
                let content = fs::read(path).unwrap_or_default();
                let hash = Sha256::digest(&content);
                let hash: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
                format!("{:o} {} bytes {hash}", meta.permissions().mode() & 0o777, content.len())
            };
            self.add(format!("{kind} {name}"), value);
        });
    }

    fn look_at_packages(&mut self, site: &DemoSite) {
        let mut imports = site.python();
        let works = run(imports.args(["-c", "import django, gunicorn, whitenoise"])).is_ok();
        self.add("packages can be imported", works.to_string());
        let lib = site.virtualenv.join("lib");
        let Ok(versions) = fs::read_dir(lib) else { return };
        for version in versions.flatten() {
            for entry in fs::read_dir(version.path().join("site-packages")).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if let Some((name, version)) = name.strip_suffix(".dist-info").and_then(|n| n.split_once('-'))
                {
                    self.add(format!("package {}", name.to_ascii_lowercase()), version);
                }
            }
        }
    }

    fn look_at_database(&mut self, site: &DemoSite) {
        if let Some(server) = &site.options.server {
            self.facts.extend(Database::of(&server.settings).facts());
            return;
        }
        // Not by the site's own Python, which a failed update may have broken.
        let mut command = site.command(&site.options.python);
        match run(command.args(["-S", "-c", DATABASE]).arg(&site.database)) {
            Ok(text) => {
                let facts: BTreeMap<String, String> =
                    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
                self.facts.extend(facts);
            }
            Err(error) => self.add("database", error.to_string()),
        }
    }

    fn look_at_services(&mut self, site: &DemoSite) {
        for (name, program) in site.processes() {
            self.add(format!("service {name}"), program.state);
        }
        for path in ["/", "/about/", "/version/"] {
            match site.page(path) {
                Ok(answer) => {
                    self.add(format!("page {path} status"), answer.status.to_string());
                    self.add(format!("page {path} body"), without_pid(&answer.body));
                }
                Err(error) => self.add(format!("page {path} status"), error.kind().to_string()),
            }
        }
    }
}

/// Fails with a list of what differs.
#[track_caller]
pub fn assert_same(before: &Snapshot, after: &Snapshot) {
    let differences = before.differences(after);
    assert!(differences.is_empty(), "the site is not as before:\n{}", differences.join("\n"));
}

fn walk(top: &Path, directory: &Path, found: &mut dyn FnMut(String, &Path, &fs::Metadata)) {
    const LEFT_OUT: [&str; 3] = [".git", ".deploykit", "__pycache__"];
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if meta.is_dir() {
            walk(top, &path, found);
        } else {
            let name = path.strip_prefix(top).unwrap_or(&path).display().to_string();
            found(name, &path, &meta);
        }
    }
}

fn without_pid(body: &str) -> String {
    match body.split_once("\"pid\": ") {
        Some((head, tail)) => format!("{head}{}", tail.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => body.to_owned(),
    }
}

fn shorten(value: &str) -> String {
    const MOST: usize = 600;
    let value = value.replace('\n', "\\n");
    if value.chars().count() <= MOST {
        value
    } else {
        value.chars().take(MOST).chain("…".chars()).collect()
    }
}
