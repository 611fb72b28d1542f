//! What no compiler checks: the layers of the library, registered tests, short files, and documents that are true.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use deploykit::plan::StepKind;
use deploykit::site::Config;
use regex_lite::Regex;

use crate::support::root;

/// The longest Rust file, in lines.
const LONGEST: usize = 500;
/// The crates whose layers ARCHITECTURE.md lists, in its order.
const SOURCES: [&str; 2] = ["deploykit/src", "deploykit-cli/init/src"];

pub fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns all files below a directory whose names end so, from the top of the project.
pub fn files(directory: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root().join(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                directories.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no {ending} in {directory}");
    found
}

/// Returns the files of [`SOURCES`].
fn sources() -> impl Iterator<Item = (&'static str, PathBuf)> {
    SOURCES.into_iter().flat_map(|source| files(source, ".rs").into_iter().map(move |path| (source, path)))
}

pub fn documents() -> Vec<PathBuf> {
    let top = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(PathBuf::from);
    top.into_iter().chain(files("docs", ".md")).collect()
}

/// Returns the fenced blocks of a document: language and text.
pub fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block has no end");
    blocks
}

pub fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

/// Returns the first groups of all matches.
pub fn all(text: &str, regex: &str) -> BTreeSet<String> {
    pattern(regex).captures_iter(text).map(|found| found[1].to_owned()).collect()
}

/// Returns the modules of a room that one of its files uses, by name.
fn used_in_room(room: &str, at_top: bool, text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or("");
    let code: String =
        code.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let roots = if at_top { format!("(?:super|crate::{room})") } else { format!("crate::{room}") };
    let mut used = all(&code, &format!(r"(?:^|[^\w:]){roots}::(\w+)"));
    let nested = pattern(r"\{[^{}]*\}");
    for found in pattern(&format!(r"(?s)(?:^|[^\w:]){roots}::\{{([^;]*?)\}};")).captures_iter(&code) {
        let flat = nested.replace_all(&found[1], "");
        used.extend(flat.split(',').filter_map(|name| Some(name.trim().split("::").next()?.to_owned())));
    }
    used
}

#[test]
fn no_modules_of_a_room_use_each_other_in_a_circle() {
    let mut rooms: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (source, path) in sources() {
        let inside: Vec<String> = path
            .strip_prefix(source)
            .unwrap()
            .iter()
            .map(|part| part.to_string_lossy().trim_end_matches(".rs").to_owned())
            .collect();
        let [room, module, deeper @ ..] = inside.as_slice() else { continue };
        if !["mod", "tests"].contains(&module.as_str()) && !inside.contains(&"tests".to_owned()) {
            let used = used_in_room(room, deeper.is_empty(), &read(&path));
            let room = format!("{source}/{room}");
            rooms.entry(room).or_default().entry(module.clone()).or_default().extend(used);
        }
    }
    let mut circles = Vec::new();
    for (room, mut modules) in rooms {
        let names: BTreeSet<String> = modules.keys().cloned().collect();
        modules
            .iter_mut()
            .for_each(|(name, used)| used.retain(|other| other != name && names.contains(other)));
        // Whatever uses nothing that is left cannot be in a circle.
        while let Some(free) = modules.iter().find(|(_, used)| used.is_empty()).map(|(name, _)| name.clone())
        {
            modules.remove(&free);
            modules.values_mut().for_each(|used| {
                used.remove(&free);
            });
        }
        if !modules.is_empty() {
            circles.push(format!("{room}: {modules:?}"));
        }
    }
    assert_eq!(circles, Vec::<String>::new());
}

#[test]
fn modules_use_lower_layers_only() {
    let architecture = read("ARCHITECTURE.md");
    let listed: Vec<_> =
        blocks(&architecture).into_iter().filter(|(language, _)| language == "layers").collect();
    assert_eq!(listed.len(), SOURCES.len());
    let mut wrong = Vec::new();
    for (source, (_, listed)) in SOURCES.into_iter().zip(&listed) {
        wrong.extend(uses_of_higher_layers(source, listed, &architecture));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_ways_in_the_architecture_lead_through_their_files() {
    let architecture = read("ARCHITECTURE.md");
    let ways: Vec<_> = blocks(&architecture).into_iter().filter(|(language, _)| language == "way").collect();
    assert_eq!(ways.len(), 2);
    for line in ways.iter().flat_map(|(_, way)| way.lines()) {
        let (file, kind) = line.split_once(char::is_whitespace).unwrap();
        let kind = pattern(&format!(r"\b{}\b", kind.trim()));
        assert!(kind.is_match(&read(Path::new("deploykit/src").join(file))), "`{file}` has no {kind}");
    }
}

fn uses_of_higher_layers(source: &str, listed: &str, architecture: &str) -> Vec<String> {
    let mut layers = BTreeMap::new();
    for (layer, line) in listed.lines().enumerate() {
        layers.extend(line.split_whitespace().map(|module| (module.to_owned(), layer)));
    }
    let lib = read(Path::new(source).join("lib.rs"));
    let modules = all(&lib, r"(?m)^(?:pub )?mod (\w+);");
    assert_eq!(
        modules,
        layers.keys().cloned().collect(),
        "ARCHITECTURE.md lists other modules than {source}/lib.rs"
    );
    let described = all(architecture, r"(?m)^\| `(\w+)` \| ");
    assert!(modules.is_subset(&described), "not described: {:?}", modules.difference(&described));

    // `crate::Command` is `crate::command::Command`.
    let mut home = BTreeMap::new();
    for found in pattern(r"pub use (\w+)::(?:\{([^}]*)\}|(\w+));").captures_iter(&lib) {
        let names = found.get(2).or(found.get(3)).unwrap().as_str();
        home.extend(names.split(',').map(|name| (name.trim().to_owned(), found[1].to_owned())));
    }
    let (one, group) = (pattern(r"crate::(\w+)"), pattern(r"crate::\{([^;]*)\};"));
    let nested = pattern(r"\{[^{}]*\}");
    let mut wrong = Vec::new();
    for path in files(source, ".rs") {
        let inside = path.strip_prefix(source).unwrap();
        let module = inside.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned();
        if module == "lib" {
            continue;
        }
        let text = read(&path);
        let code: String =
            text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
        let mut used: BTreeSet<String> = one.captures_iter(&code).map(|found| found[1].to_owned()).collect();
        for found in group.captures_iter(&code) {
            let flat = nested.replace_all(&found[1], "");
            used.extend(flat.split(',').filter_map(|name| Some(name.trim().split("::").next()?.to_owned())));
        }
        for name in used.iter().filter(|name| !name.is_empty()) {
            let name = home.get(name).unwrap_or(name);
            let Some(layer) = layers.get(name) else {
                wrong.push(format!("{}: what is crate::{name}?", path.display()));
                continue;
            };
            if *name != module && *layer >= layers[&module] {
                wrong.push(format!("{}: `{module}` uses `{name}`", path.display()));
            }
        }
    }
    wrong
}

#[test]
fn every_test_file_is_registered() {
    let mut forgotten = Vec::new();
    for (directory, top) in [
        ("tests/library", "main.rs"),
        ("tests/cli", "main.rs"),
        ("tests/kills", "main.rs"),
        ("tests/support", "mod.rs"),
    ] {
        for path in files(directory, ".rs") {
            if path == Path::new(directory).join(top) {
                continue;
            }
            // `update/mod.rs` is the module `update`, as `update.rs` would be.
            let module =
                if path.ends_with("mod.rs") { path.parent().unwrap() } else { &path.with_extension("") };
            let name = module.file_name().unwrap().to_string_lossy();
            let parent = module.parent().unwrap();
            let registry = if parent == Path::new(directory) {
                parent.join(top)
            } else {
                [parent.with_extension("rs"), parent.join("mod.rs")]
                    .into_iter()
                    .find(|file| root().join(file).is_file())
                    .unwrap_or_else(|| panic!("{} belongs to no module", path.display()))
            };
            if !pattern(&format!(r"(?m)^(pub )?mod {name};")).is_match(&read(&registry)) {
                forgotten.push(format!("{} is not in {}", path.display(), registry.display()));
            }
        }
    }
    assert!(forgotten.is_empty(), "{}", forgotten.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let directories = ["deploykit", "deploykit-cli", "examples", "tests", "benches"];
    let directories = directories.into_iter().filter(|directory| has_rust(&root().join(directory)));
    let lines = directories
        .flat_map(|directory| files(directory, ".rs"))
        .map(|path| (read(&path).lines().count(), path));
    let long: Vec<_> = lines.filter(|(lines, _)| *lines > LONGEST).collect();
    assert!(long.is_empty(), "longer than {LONGEST} lines: {long:#?}");
}

fn has_rust(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() { has_rust(&path) } else { path.extension().is_some_and(|ending| ending == "rs") }
    })
}

/// Reads a configuration or a part of one: what must be in a whole one is added.
fn parse(text: &str, from: &Path) -> Config {
    let mut whole = text.to_owned();
    if !text.contains("[site]") {
        whole.push_str("[site]\nsettings = \"config.settings\"\n");
    }
    if !text.contains("[python]") {
        whole.push_str("[python]\nvirtualenv = \"../venv\"\n");
    }
    Config::parse(&whole, Path::new("/srv/site/deploykit.toml"), None)
        .unwrap_or_else(|error| panic!("{}: {error}\n{whole}", from.display()))
}

#[test]
fn every_configuration_that_is_shown_can_be_read() {
    for path in files("examples", ".toml") {
        let text = read(&path);
        for environment in [None, Some("staging"), Some("development")] {
            let config = Config::parse(&text, Path::new("/srv/site/deploykit.toml"), environment);
            config.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
    let mut shown = 0;
    for path in documents() {
        for (_, text) in blocks(&read(&path)).iter().filter(|(language, _)| language.starts_with("toml")) {
            parse(text, &path);
            shown += 1;
        }
    }
    assert!(shown > 10, "only {shown} configurations are shown");
}

#[test]
fn the_steps_in_the_documents_are_those_of_the_code() {
    let document = read("docs/how-it-works.md");
    let is_step = |name: &str| !matches!(StepKind::from(name), StepKind::Own(_));
    let mut named = BTreeSet::new();
    // The course of an update begins with what is no step.
    let courses =
        blocks(&document).into_iter().map(|(_, text)| text).filter(|text| text.contains("PREPARE "));
    for line in courses.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()) {
        let line = pattern("^ *[A-Z]* *").replace(&line, "").into_owned();
        if !line.starts_with("lock →") {
            named.extend(line.split(['→', '·', '∥']).map(|name| name.trim().to_owned()));
        }
    }
    named.extend(all(&read("README.md"), r"(?m)^  ✓ ([a-z-]+) "));
    named.remove("");
    assert!(named.len() > 20, "{named:?}");
    let unknown: Vec<_> = named.iter().filter(|name| !is_step(name)).collect();
    assert!(unknown.is_empty(), "no such steps: {unknown:?}");
    let rows = all(&read("deploykit/src/plan/step_kind.rs"), r#"(?m)^    \(\w+, "([a-z-]+)", Phase::"#);
    assert!(rows.len() > 20, "the steps were not found: {rows:?}");
    let missing: Vec<_> = rows
        .iter()
        .filter(|name| !named.contains(*name) && !document.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "docs/how-it-works.md does not mention {missing:?}");
}

#[test]
fn every_command_is_in_the_readme_and_every_documented_command_exists() {
    let source = read("deploykit-cli/src/args.rs");
    let (_, variants) = source.split_once("pub enum Command {\n").unwrap();
    let (variants, _) = variants.split_once("\n}\n").unwrap();
    let kebab = |name: String| pattern("([a-z])([A-Z])").replace_all(&name, "$1-$2").to_lowercase();
    let commands: BTreeSet<String> = all(variants, r"(?m)^    ([A-Z]\w+)").into_iter().map(kebab).collect();
    assert!(commands.len() > 15, "the commands were not found: {commands:?}");
    const CALL: &str = r"(?m)(?:`|\$\(|^)deploykit (?:-[^\s`]+ )*([a-z][a-z-]+)";
    let readme = read("README.md");
    let missing: Vec<_> = commands.iter().filter(|name| !all(&readme, CALL).contains(*name)).collect();
    assert!(missing.is_empty(), "README.md does not show {missing:?}");
    for path in documents() {
        let text = read(&path);
        let fenced: String = blocks(&text)
            .into_iter()
            .filter(|(language, _)| language == "sh")
            .map(|(_, text)| text)
            .collect();
        let mut called = all(&fenced, CALL);
        called.extend(all(&text, r"(?:`|\$\()deploykit (?:-[^\s`]+ )*([a-z][a-z-]+)"));
        let unknown: Vec<_> = called.difference(&commands).filter(|name| *name != "help").collect();
        assert!(unknown.is_empty(), "{}: no such commands: {unknown:?}", path.display());
    }
}

#[test]
fn the_readme_begins_with_two_commands() {
    let blocks = blocks(&read("README.md"));
    let first: Vec<(&str, &str)> =
        blocks.iter().take(2).map(|(language, text)| (language.as_str(), text.as_str())).collect();
    let quickstart = "cargo run -p deploykit --example quickstart\n";
    assert_eq!(first, [("sh", quickstart), ("sh", "./tests/run\n")]);
}

#[test]
fn the_changelog_has_this_version() {
    let changelog = read("CHANGELOG.md");
    for version in ["Unreleased", env!("CARGO_PKG_VERSION")] {
        assert!(changelog.contains(&format!("\n## [{version}]")), "no [{version}]");
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest: toml::Table = read("deploykit/Cargo.toml").parse().unwrap();
    let used: BTreeSet<String> = manifest["dependencies"].as_table().unwrap().keys().cloned().collect();
    let architecture = read("ARCHITECTURE.md");
    let (_, part) = architecture.split_once("\n## Dependencies\n").unwrap();
    assert_eq!(all(part, r"(?m)^\| `([\w-]+)` \| \S"), used);
    let own = ["deploykit", "deploykit-init", "clap_complete", "clap_mangen"];
    for path in ["deploykit-cli/Cargo.toml", "deploykit-cli/init/Cargo.toml"] {
        let manifest: toml::Table = read(path).parse().unwrap();
        let rest = manifest["dependencies"].as_table().unwrap().keys();
        let rest: Vec<_> = rest
            .filter(|name| !used.contains(*name) && !own.contains(&name.as_str()))
            .filter(|name| !part.contains(&format!("`{name}`")))
            .collect();
        assert!(rest.is_empty(), "{path}: no reason for {rest:?}");
    }
}

#[test]
fn the_tests_that_show_what_is_promised_exist() {
    let guarantees = read("docs/guarantees.md");
    let mut shown = 0;
    for row in guarantees.lines().filter(|line| line.starts_with("| ")) {
        for part in row.split("; ") {
            let names = all(part, "`([^`]+)`");
            let Some(file) = names.iter().find(|name| name.ends_with(".rs")) else { continue };
            let text = read(file);
            for name in names.iter().filter(|name| name.contains('_') && !name.contains('/')) {
                assert!(text.contains(&format!("fn {name}(")), "{file} has no test `{name}`");
                shown += 1;
            }
        }
    }
    assert!(shown > 30, "{shown}");
}
