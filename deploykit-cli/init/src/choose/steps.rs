//! Chooses the site's own steps: what its frontend, its messages and its bundles need.

use std::path::{Path, PathBuf};

use regex_lite::Regex;

use crate::findings::{Found, FoundStep};
use crate::read::files::{Tree, entries_of, file_name, shown, text};
use crate::read::settings::Settings;

/// Chooses the steps, in their order.
pub(crate) fn steps(top: &Path, tree: &Tree, settings: &Settings) -> Vec<FoundStep> {
    let ignored = text(&top.join(".gitignore")).unwrap_or_default();
    let packages: Vec<&PathBuf> = tree.named("package.json").collect();
    let mut steps: Vec<FoundStep> =
        packages.iter().flat_map(|file| frontend(top, file, packages.len() > 1)).collect();
    let step = |name: &str, after, manage: &[&str], outputs, source: String| FoundStep {
        name: name.to_owned(),
        after,
        manage: true,
        command: manage.iter().map(|word| (*word).to_owned()).collect(),
        outputs,
        source,
    };
    if ignored.lines().any(|line| ["*.mo", "**/*.mo"].contains(&line.trim())) {
        let messages = tree.files.iter().filter(|file| file.extension().is_some_and(|it| it == "po"));
        let compiled: Vec<String> = messages.map(|file| shown(top, &file.with_extension("mo"))).collect();
        if !compiled.is_empty() {
            let outputs = Found::new(compiled, "");
            let source = ".gitignore has *.mo".to_owned();
            steps.push(step("messages", "staged-virtualenv", &["compilemessages"], outputs, source));
        }
    }
    if settings.assigned("COMPRESS_OFFLINE").is_some_and(|(_, value)| value == "True") {
        let source = "COMPRESS_OFFLINE".to_owned();
        steps.push(step("compress", "static", &["compress", "--force"], Found::default(), source));
    }
    steps
}

/// Returns the steps that install a frontend's packages and build it; none when it has no build.
fn frontend(top: &Path, file: &Path, several: bool) -> Vec<FoundStep> {
    let package = text(file).and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let scripts =
        package.as_ref().and_then(|package| package["scripts"].as_object()).cloned().unwrap_or_default();
    let Some(build) = scripts.get("build").and_then(|build| build.as_str()) else { return Vec::new() };
    let directory = file.parent().unwrap_or(top);
    let inside = shown(top, directory);
    let path = |name: &str| if inside == "." { name.to_owned() } else { format!("{inside}/{name}") };
    let has = |name: &str| directory.join(name).is_file();
    let (program, at, install): (&str, &str, &[&str]) = if has("pnpm-lock.yaml") {
        ("pnpm", "--dir", &["install", "--frozen-lockfile"])
    } else if has("yarn.lock") {
        ("yarn", "--cwd", &["install", "--frozen-lockfile"])
    } else if has("package-lock.json") {
        ("npm", "--prefix", &["ci"])
    } else {
        ("npm", "--prefix", &["install"])
    };
    let command = |words: &[&str]| {
        let place: &[&str] = if inside == "." { &[] } else { &[at, &inside] };
        [&[program], place, words].concat().into_iter().map(str::to_owned).collect::<Vec<String>>()
    };
    // A script may call another one: `npm run sass -- --style=compressed`.
    let called = scripts.iter().filter(|(name, _)| build.contains(&format!("run {name}")));
    let text =
        called.filter_map(|(_, script)| script.as_str()).fold(build.to_owned(), |all, one| all + "\n" + one);
    let outputs = match output(directory, &text) {
        Some(output) => Found::new(vec![path(&output)], ""),
        None => Found::guess(vec![path("dist")], "what does the build create?"),
    };
    let suffix =
        if several && inside != "." { format!("-{}", inside.replace('/', "-")) } else { String::new() };
    let step = |name: &str, command, outputs| FoundStep {
        name: format!("{name}{suffix}"),
        after: "staged-tree",
        manage: false,
        command,
        outputs,
        source: shown(top, file),
    };
    vec![
        step("node-packages", command(install), Found::new(vec![path("node_modules")], "")),
        step("build", command(&["run", "build"]), outputs),
    ]
}

/// Returns the directory that a build creates, seen from the package.
fn output(directory: &Path, script: &str) -> Option<String> {
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
        let named = first(r#"outDir\s*:\s*["']([\w./-]+)["']"#, &config);
        // An expression would be something else than the default.
        named.or_else(|| (!config.contains("outDir")).then(|| "dist".to_owned()))
    };
    let webpack = || {
        let config = config("webpack.config").or_else(|| script.contains("webpack").then(String::new))?;
        let pattern = r#"path\s*:\s*path\.(?:resolve|join)\(\s*__dirname\s*,\s*["']([\w./-]+)["']\s*\)"#;
        first(pattern, &config).or_else(|| (!config.contains("path:")).then(|| "dist".to_owned()))
    };
    let found = given.or_else(sass).or_else(vite).or_else(webpack)?;
    // What lies outside of the package is said by nobody but a person.
    (!found.starts_with("..") && !found.starts_with('/')).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choose::tests::Site;

    #[test]
    fn a_build_is_a_step_with_what_it_creates() {
        let outputs = |files: &[(&str, &str)]| {
            let site = Site::new(files);
            let steps = steps(&site.top(), &site.tree(), &Settings::default());
            steps.into_iter().map(|step| (step.command.join(" "), step.outputs)).collect::<Vec<_>>()
        };
        let vite = ("web/package.json", r#"{"scripts": {"build": "vite build"}}"#);
        let steps = outputs(&[vite, ("web/yarn.lock", "")]);
        assert_eq!(steps[0].0, "yarn --cwd web install --frozen-lockfile");
        assert_eq!(
            steps[1],
            ("yarn --cwd web run build".to_owned(), Found::new(vec!["web/dist".to_owned()], ""))
        );
        let unknown = outputs(&[("package.json", r#"{"scripts": {"build": "node build.js"}}"#)]);
        assert!(unknown[1].1.question.is_some());
        assert_eq!(outputs(&[("package.json", r#"{"scripts": {"test": "jest"}}"#)]), []);
    }
}
