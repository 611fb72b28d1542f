//! The book of `docs/`, which `book/build` builds: its pages, links, figures and snippets.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{program, root};
use crate::tidy::{all, blocks, documents, files, pattern, read};

/// What a fenced block may be, and what keeps it true.
const LANGUAGES: [(&str, &str); 17] = [
    ("", "nothing: calls of the benchmark"),
    ("apache", "parsed here"),
    ("cron", "tests/cli/readme.rs: the commands exist"),
    ("ini", "parsed here; those of held-sockets.md run: examples/demo_site/held.rs"),
    ("json", "tests/cli/documents.rs: compared with the output"),
    ("layers", "tests/library/tidy.rs"),
    ("nginx", "tests/library/demo.rs"),
    ("python", "parsed here"),
    ("rust", "rows for the code's own macros"),
    ("rust,no_run", "the documentation tests"),
    ("sh", "parsed here, linted by tests/python; their commands exist; those of the tutorial run"),
    ("sql", "tests/library/rehearsal/scratch.rs makes such databases"),
    ("sudoers", "tests/library/services/systemd.rs"),
    ("text", "tests/cli/tutorial.rs and help.rs: compared with the output"),
    ("toml", "tests/library/tidy.rs: read"),
    ("way", "tests/library/tidy.rs"),
    ("yaml", "the collection's own tests"),
];

/// Removes what looks like a link and is none.
fn without_code(text: &str) -> String {
    pattern("(?s)\n```.*?\n```|`[^`\n]*`").replace_all(text, "").into_owned()
}

/// Returns the anchors of a page's headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> Vec<String> {
    let text = pattern("(?s)\n```.*?\n```").replace_all(text, "").into_owned();
    let mut seen = BTreeMap::<String, usize>::new();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let links = pattern(r"\]\([^)]*\)");
    headings
        .map(|heading| {
            let heading = links.replace_all(heading.trim_start_matches('#').trim(), "").to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            let anchor = kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>();
            let count = seen.entry(anchor.clone()).or_default();
            *count += 1;
            if *count == 1 { anchor } else { format!("{anchor}-{}", *count - 1) }
        })
        .collect()
}

/// Joins a link with the directory of its page, without `..`.
fn target(page: &Path, link: &str) -> PathBuf {
    let mut path = page.parent().unwrap().to_owned();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => assert!(path.pop(), "{}: {link}", page.display()),
            part => path.push(part),
        }
    }
    path
}

#[test]
fn links_lead_somewhere() {
    let mut dead = Vec::new();
    for page in documents() {
        for link in all(&without_code(&read(&page)), r"\]\(([^)\s]+)") {
            if link.contains("://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let path = if path.is_empty() { page.clone() } else { target(&page, path) };
            let exists = root().join(&path).exists()
                && (anchor.is_empty() || anchors(&read(&path)).iter().any(|known| known == anchor));
            // The book has nothing but the directory.
            if !exists || page.starts_with("docs") && !path.starts_with("docs") {
                dead.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

#[test]
fn every_page_is_in_the_summary() {
    let summary = Path::new("docs/SUMMARY.md");
    let listed: Vec<PathBuf> =
        all(&read(summary), r"\]\(([^)]+)").iter().map(|link| target(summary, link)).collect();
    let forgotten: Vec<_> =
        files("docs", ".md").into_iter().filter(|page| page != summary && !listed.contains(page)).collect();
    assert!(forgotten.is_empty(), "docs/SUMMARY.md lacks {forgotten:?}");
}

#[test]
fn figures_elsewhere_are_those_of_the_benchmark() {
    let measured = read("docs/measurements.md");
    let comparison = read("docs/comparison.md");
    // Their last column is the number of runs.
    let copied: Vec<&str> =
        pattern(r"(?m)^\| .* \| \d+ \|$").find_iter(&comparison).map(|row| row.as_str()).collect();
    assert!(copied.len() > 10, "{copied:?}");
    let other: Vec<_> = copied.iter().filter(|row| !measured.lines().any(|line| line == **row)).collect();
    assert!(other.is_empty(), "not in docs/measurements.md: {other:#?}");
}

#[test]
fn every_block_is_of_a_kind_that_something_checks() {
    for page in documents() {
        for (language, text) in blocks(&read(&page)) {
            let kind = language.split(' ').next().unwrap_or_default();
            let known = LANGUAGES.iter().any(|(name, _)| *name == kind);
            assert!(known, "{}: what checks blocks of `{kind}`?\n{text}", page.display());
        }
    }
}

/// Gives each block of a kind to a program, which must take it.
fn parse_all(kind: &str, at_least: usize, program: &Path, args: &[&str]) {
    let mut parsed = 0;
    for page in documents() {
        let blocks = blocks(&read(&page));
        for (_, text) in blocks.iter().filter(|(info, _)| info.split(' ').next() == Some(kind)) {
            let mut command = Command::new(program);
            command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            let done = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{}: {said}\n{text}", page.display());
            parsed += 1;
        }
    }
    assert!(parsed >= at_least, "only {parsed} blocks of {kind} were found");
}

#[test]
fn snippets_can_be_parsed() {
    parse_all("sh", 25, Path::new("sh"), &["-n"]);
    let python = Path::new("python3");
    parse_all("python", 1, python, &["-c", "import sys; compile(sys.stdin.read(), 'snippet', 'exec')"]);
    // One command may be shown without the section that it belongs to.
    let ini = "import configparser, sys\ntext = sys.stdin.read()\nconfigparser.RawConfigParser().read_string(\
               text if text.startswith('[') else '[section]\\n' + text)";
    parse_all("ini", 7, python, &["-c", ini]);
}

#[test]
fn apache_takes_its_snippet() {
    let Some(apache) = program("apache2") else { return };
    let modules = ["mpm_event", "authz_core", "alias", "rewrite"];
    let load =
        modules.map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"));
    let directory = tempfile::tempdir().unwrap();
    let head = format!(
        "ServerRoot {0}\nErrorLog {0}/log\nListen 127.0.0.1:8443\n{1}",
        directory.path().display(),
        load.concat()
    );
    let config = directory.path().join("head.conf");
    fs::write(&config, head).unwrap();
    // It reads regular files only.
    let check = format!(
        "cat >{0}/snippet && exec {1} -t -C 'Include {2}' -f {0}/snippet",
        directory.path().display(),
        apache.display(),
        config.display()
    );
    parse_all("apache", 1, Path::new("sh"), &["-c", &check]);
}
