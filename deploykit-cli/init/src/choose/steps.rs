//! Chooses the site's own steps: what its frontend, its messages and its bundles need.

use std::path::{Path, PathBuf};

use regex_lite::Regex;

use deploykit::internal::names;

use crate::findings::{Found, FoundStep, in_backticks};
use crate::read::files::{Tree, entries_of, file_name, is_aside, shown, text};
use crate::read::git;
use crate::read::hints::Hint;
use crate::read::scripts::{self, ManageCommand};
use crate::read::settings::Settings;

/// Commands that an update has in its own steps, or that are no part of one.
const OWN: [&str; 19] = [
    "check",
    "clearcache",
    "collectstatic",
    "compilemessages",
    "compress",
    "createsuperuser",
    "dbshell",
    "dumpdata",
    "flush",
    "loaddata",
    "makemessages",
    "makemigrations",
    "migrate",
    "runserver",
    "shell",
    "showmigrations",
    "sqlmigrate",
    "test",
    "testserver",
];
/// Beginnings of the names of commands that fill caches and search indexes, or tidy up: the site serves without them.
const LATER: [&str; 12] = [
    "buildwatson",
    "clear_cache",
    "clear_expired",
    "clearsessions",
    "index_",
    "prime_cache",
    "rebuild_index",
    "reindex",
    "search_index",
    "update_index",
    "update_search",
    "warm",
];

/// Chooses among the commands that the project's own script for updates runs: those that need not be in the window are
/// steps; the others are a question, with the first of them.
pub(crate) fn of_updates(
    top: &Path,
    tree: &Tree,
    docs: &[Hint],
) -> (Vec<FoundStep>, Option<(String, FoundStep)>) {
    let of_script = scripts::commands_of_updates(top, tree);
    let is_script = of_script.is_some();
    let of_docs = docs.iter().find_map(|hint| {
        let mut commands = scripts::manage_commands(hint.updates.lines());
        // The others are in sentences.
        commands.retain(|command| command.plain);
        commands.iter().any(|command| command.words[0] == "migrate").then(|| (hint.file.clone(), commands))
    });
    let Some((script, mut commands)) = of_script.or(of_docs) else { return (Vec::new(), None) };
    let mut seen = Vec::new();
    commands.retain(|command| {
        let new = !seen.contains(command) && !OWN.contains(&command.words[0].as_str());
        seen.push(command.clone());
        new
    });
    let source = shown(top, &script);
    let step = |command: &ManageCommand, after| FoundStep {
        name: command.words[0].clone(),
        after,
        manage: true,
        command: command.words.clone(),
        outputs: Found::default(),
        rehearse: false,
        source: source.clone(),
    };
    // Documents decide nothing.
    let is_later = |command: &&ManageCommand| {
        is_script && command.plain && LATER.iter().any(|start| command.words[0].starts_with(start))
    };
    let (later, others): (Vec<_>, Vec<_>) = commands.iter().partition(is_later);
    let question = others.first().map(|first| {
        let names = in_backticks(others.iter().map(|command| command.words.join(" ")));
        (format!("`{source}` also runs {names}; which of them does an update need?"), step(first, "migrate"))
    });
    (later.into_iter().map(|command| step(command, "finish")).collect(), question)
}

/// Chooses the steps, in their order.
pub(crate) fn steps(top: &Path, tree: &Tree, settings: &Settings, docs: &[Hint]) -> Vec<FoundStep> {
    let ignored = text(&top.join(".gitignore")).unwrap_or_default();
    let packages: Vec<&PathBuf> = tree.named("package.json").filter(|file| !is_aside(top, file)).collect();
    let run = scripts::node_scripts(tree, docs.iter().map(|hint| hint.text.as_str()));
    let mut steps: Vec<FoundStep> =
        packages.iter().flat_map(|file| frontend(top, file, packages.len() > 1, &run)).collect();
    let step = |name: &str, after, manage: &[&str], outputs, source: String| FoundStep {
        name: name.to_owned(),
        after,
        manage: true,
        command: manage.iter().map(|word| (*word).to_owned()).collect(),
        outputs,
        rehearse: false,
        source,
    };
    if ignored.lines().any(|line| ["*.mo", "**/*.mo"].contains(&line.trim())) {
        let is_message =
            |file: &&PathBuf| file.extension().is_some_and(|it| it == "po") && !is_aside(top, file);
        let messages = tree.files.iter().filter(is_message);
        let compiled: Vec<String> = messages.map(|file| shown(top, &file.with_extension("mo"))).collect();
        if !compiled.is_empty() {
            let outputs = Found::new(compiled, "");
            let source = ".gitignore has *.mo".to_owned();
            steps.push(step("messages", "staged-virtualenv", &["compilemessages"], outputs, source));
        }
    }
    if settings.assigned("COMPRESS_OFFLINE").is_some_and(|(_, value)| value == "True") {
        let source = "COMPRESS_OFFLINE".to_owned();
        let compress = step("compress", "static", &["compress", "--force"], Found::default(), source);
        steps.push(FoundStep { rehearse: true, ..compress });
    }
    steps
}

/// Returns the steps that install a frontend's packages and build it; none when it has no build. `run` are the scripts of
/// packages that the project's own scripts run.
fn frontend(top: &Path, file: &Path, several: bool, run: &[String]) -> Vec<FoundStep> {
    let package = text(file).and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let scripts =
        package.as_ref().and_then(|package| package["scripts"].as_object()).cloned().unwrap_or_default();
    let builds = |name: &&str| {
        let words: Vec<&str> = name.split([':', '-', '_', '.']).collect();
        let other = ["watch", "dev", "test", "install"].iter().any(|other| words.contains(other));
        !other && words.iter().any(|word| ["build", "compile", "production", "prod", "dist"].contains(word))
    };
    let known = |name: &&str| scripts.contains_key(*name);
    let used = run.iter().map(String::as_str).filter(builds).find(known);
    let usual = || ["build", "build:prod", "build-prod", "production"].into_iter().find(known);
    let Some((name, build)) = used
        .or_else(usual)
        .and_then(|name| Some((name.to_owned(), scripts.get(&name.to_owned())?.as_str()?)))
    else {
        return Vec::new();
    };
    let directory = file.parent().unwrap_or(top);
    let inside = shown(top, directory);
    let path = |name: &str| if inside == "." { name.to_owned() } else { format!("{inside}/{name}") };
    let has = |name: &str| directory.join(name).is_file();
    // Without a lock, or with one of the server's own, npm writes it.
    let npm_lock = "package-lock.json";
    let (mut installed, frozen): (_, &[&str]) =
        (vec![path("node_modules")], &["install", "--frozen-lockfile"]);
    let (program, at, install) = if has("pnpm-lock.yaml") {
        ("pnpm", "--dir", frozen)
    } else if has("yarn.lock") {
        ("yarn", "--cwd", frozen)
    } else if has(npm_lock) && git::is_tracked(top, &directory.join(npm_lock)) {
        ("npm", "--prefix", ["ci"].as_slice())
    } else if has("bun.lock") || has("bun.lockb") {
        ("bun", "--cwd=", frozen)
    } else {
        installed.push(path(npm_lock));
        ("npm", "--prefix", ["install"].as_slice())
    };
    let place = match inside.as_str() {
        "." => Vec::new(),
        inside if at.ends_with('=') => vec![format!("{at}{inside}")],
        inside => vec![at.to_owned(), inside.to_owned()],
    };
    let command = |words: &[&str]| -> Vec<String> {
        let words = words.iter().map(|word| (*word).to_owned());
        std::iter::once(program.to_owned()).chain(place.clone()).chain(words).collect()
    };
    // A script may call another one: `npm run sass -- --style=compressed`.
    let called = scripts.iter().filter(|(name, _)| build.contains(&format!("run {name}")));
    let text =
        called.filter_map(|(_, script)| script.as_str()).fold(build.to_owned(), |all, one| all + "\n" + one);
    // What lies outside of the checkout is said by nobody but a person.
    let within = |output: String| {
        let real = names::normal(&directory.join(output));
        real.strip_prefix(top).ok().filter(|inside| !inside.as_os_str().is_empty()).map(|_| shown(top, &real))
    };
    let all: Vec<String> = output(directory, &text).into_iter().filter_map(within).collect();
    let outputs = match all.as_slice() {
        [] => Found::guess(vec![path("dist")], "what does the build create?"),
        [only] => Found::new(vec![only.clone()], ""),
        [.., last] => {
            let question =
                format!("what does the build create? its configuration names {}", in_backticks(&all));
            Found::guess(vec![last.clone()], question)
        }
    };
    let suffix =
        if several && inside != "." { format!("-{}", inside.replace('/', "-")) } else { String::new() };
    let step = |name: &str, command, outputs| FoundStep {
        name: format!("{name}{suffix}"),
        after: "staged-tree",
        manage: false,
        command,
        outputs,
        rehearse: false,
        source: shown(top, file),
    };
    vec![
        step("node-packages", command(install), Found::new(installed, "")),
        step("build", command(&["run", &name]), outputs),
    ]
}

/// How a configuration in JavaScript names a directory beside itself.
const BESIDE_ITSELF: &str =
    r#"(?:path\.)?(?:resolve|join)\(\s*(?:__dirname|import\.meta\.dirname)\s*,\s*["']([\w./-]+)["']\s*\)"#;

/// Returns the directories that a build may create, seen from the package.
fn output(directory: &Path, script: &str) -> Vec<String> {
    let first = |pattern: &str, text: &str| {
        let found = Regex::new(pattern).ok()?.captures(text)?;
        Some(found[1].trim_start_matches("./").trim_end_matches('/').to_owned())
    };
    let given = first(r"(?:--outDir|--outdir|--output-path|--dist-dir|--out-dir)[ =]([\w./-]+)", script);
    let sass = || first(r"\bsass\s(?:.*\s)?[\w./-]+:([\w./-]+)", script);
    let config = |start: &str| {
        let files = entries_of(directory);
        files
            .iter()
            .find(|file| file_name(file).starts_with(start))
            .map(|file| text(file).unwrap_or_default())
    };
    let vite = || {
        let config = config("vite.config").or_else(|| script.contains("vite").then(String::new))?;
        let named = first(r#"outDir\s*:\s*["']([\w./-]+)["']"#, &config)
            .or_else(|| first(&format!(r"outDir\s*:\s*{BESIDE_ITSELF}"), &config));
        // An expression would be something else than the default.
        named.or_else(|| (!config.contains("outDir")).then(|| "dist".to_owned()))
    };
    let webpack = || {
        let config = config("webpack.config").or_else(|| script.contains("webpack").then(String::new))?;
        first(&format!(r"path\s*:\s*{BESIDE_ITSELF}"), &config)
            .or_else(|| (!config.contains("path:")).then(|| "dist".to_owned()))
    };
    let angular = || {
        let config = text(&directory.join("angular.json")).filter(|_| script.contains("ng build"))?;
        let path = Regex::new(r#""outputPath"\s*:\s*(?:\{\s*"base"\s*:\s*)?"([\w./-]+)""#).ok()?;
        let mut all: Vec<String> = path.captures_iter(&config).map(|found| found[1].to_owned()).collect();
        all.dedup();
        Some(all)
    };
    let one = given.or_else(sass).or_else(vite).or_else(webpack);
    one.map(|found| vec![found]).or_else(angular).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choose::tests::Site;

    #[test]
    fn a_build_is_a_step_with_what_it_creates() {
        let outputs = |files: &[(&str, &str)]| {
            let site = Site::new(files);
            let steps = steps(&site.top(), &site.tree(), &Settings::default(), &[]);
            steps.into_iter().map(|step| (step.command.join(" "), step.outputs)).collect::<Vec<_>>()
        };
        let vite = ("web/package.json", r#"{"scripts": {"build": "vite build"}}"#);
        let steps = outputs(&[vite, ("web/yarn.lock", "")]);
        assert_eq!(steps[0].0, "yarn --cwd web install --frozen-lockfile");
        assert_eq!(
            steps[1],
            ("yarn --cwd web run build".to_owned(), Found::new(vec!["web/dist".to_owned()], ""))
        );
        let beside = "build: { outDir: resolve(__dirname, \"../static\") }";
        let steps = outputs(&[vite, ("web/bun.lock", ""), ("web/vite.config.js", beside)]);
        assert_eq!(steps[0].0, "bun --cwd=web install --frozen-lockfile");
        assert_eq!(
            steps[1],
            ("bun --cwd=web run build".to_owned(), Found::new(vec!["static".to_owned()], ""))
        );
        let unknown = outputs(&[("package.json", r#"{"scripts": {"build": "node build.js"}}"#)]);
        let written = vec!["node_modules".to_owned(), "package-lock.json".to_owned()];
        assert_eq!(unknown[0], ("npm install".to_owned(), Found::new(written, "")));
        let untracked = outputs(&[vite, ("web/package-lock.json", "{}")]);
        assert_eq!(untracked[0].0, "npm --prefix web install");
        assert!(unknown[1].1.question.is_some());
        assert_eq!(outputs(&[("package.json", r#"{"scripts": {"test": "jest"}}"#)]), []);
        let named = (
            "package.json",
            r#"{"scripts": {"watch": "x", "webpack:build:prod": "webpack --mode production"}}"#,
        );
        let docker = ("Dockerfile", "RUN npm ci\nRUN npm run webpack:build:prod && npm run webpack:test\n");
        assert_eq!(outputs(&[named, docker])[1].0, "npm run webpack:build:prod");
        let angular = outputs(&[
            ("ui/package.json", r#"{"scripts": {"build": "ng build"}}"#),
            ("ui/angular.json", r#"{"outputPath": {"base": "../src/static/app/"}}"#),
        ]);
        assert_eq!(angular[1].1.value, Some(vec!["src/static/app".to_owned()]));
    }

    #[test]
    fn the_frontend_of_the_documents_is_none_of_the_sites() {
        let package = r#"{"scripts": {"build": "astro build"}}"#;
        let site = Site::new(&[("docs/package.json", package), ("docs/de.po", ""), (".gitignore", "*.mo\n")]);
        assert_eq!(steps(&site.top(), &site.tree(), &Settings::default(), &[]), []);
    }

    #[test]
    fn commands_of_a_document_are_a_question() {
        let text =
            "# Upgrade\n```\n./manage.py migrate\n./manage.py reindex\n```\n    (run `manage.py warm`.)\n";
        let site = Site::new(&[("docs/guide.md", text)]);
        let hints = crate::read::hints::Hints::read(&site.top(), &site.tree());
        let (steps, question) = of_updates(&site.top(), &site.tree(), &hints.docs);
        assert_eq!(steps, []);
        let (why, first) = question.unwrap();
        assert_eq!(why, "`docs/guide.md` also runs `reindex`; which of them does an update need?");
        assert_eq!(first.command, ["reindex"]);
    }

    #[test]
    fn commands_of_a_script_for_updates_are_steps_or_a_question() {
        let script = "#!/bin/bash\n# manage.py old\nCOMMAND=\"python3 app/manage.py migrate\"\n\
                      COMMAND=\"python3 app/manage.py trace_paths --no-input\"\npython manage.py collectstatic --no-input\n\
                      python manage.py reindex --lazy || exit 1\npython manage.py clearsessions 2>/dev/null\n\
                      python manage.py update_index --using \"$IDX\"\n";
        let site =
            Site::new(&[("upgrade.sh", script), ("docs/x/update.sh", "manage.py migrate; manage.py x")]);
        let (steps, question) = of_updates(&site.top(), &site.tree(), &[]);
        let told: Vec<(String, &str)> =
            steps.iter().map(|step| (step.command.join(" "), step.after)).collect();
        assert_eq!(told, [("reindex --lazy".to_owned(), "finish"), ("clearsessions".to_owned(), "finish")]);
        let (why, first) = question.unwrap();
        assert_eq!(
            why,
            "`upgrade.sh` also runs `trace_paths --no-input`, `update_index --using $IDX`; which of them does an update need?"
        );
        assert_eq!(first.command, ["trace_paths", "--no-input"]);
        assert_eq!(
            of_updates(&site.top(), &Site::new(&[("update.sh", "manage.py x")]).tree(), &[]),
            (Vec::new(), None)
        );
    }
}
