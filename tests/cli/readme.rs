//! Every command line of `deploykit` in the documents is one that the binary understands.

use std::path::PathBuf;

use regex_lite::Regex;

use crate::run::deploykit;
use crate::support::root;

/// Returns README.md, CONTRIBUTING.md and every page below `docs/`.
fn documents() -> Vec<PathBuf> {
    let mut found = ["README.md", "CONTRIBUTING.md"].map(|name| root().join(name)).to_vec();
    let mut directories = vec![root().join("docs")];
    while let Some(directory) = directories.pop() {
        for path in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// Returns the arguments of the calls in a line of a shell, a crontab or a configuration file.
fn calls(line: &str) -> Vec<Vec<String>> {
    let call = Regex::new(r"(?:^|[\s/=($])deploykit ").unwrap();
    // In quotes, a call ends with them.
    let starts = call.find_iter(line).map(|found| {
        let (before, rest) = line.split_at(found.end());
        if before.matches('"').count() % 2 == 1 { rest.split('"').next().unwrap() } else { rest }
    });
    let ends = |word: &str| {
        ["&&", "||", "|", ";", ";;", "&"].contains(&word)
            || word.starts_with(['>', '2']) && word.contains('>')
    };
    starts
        .map(|rest| {
            // A command in `$(…)` or in quotes ends with these.
            let rest = if line.contains("$(") { rest.split([')', '"']).next().unwrap() } else { rest };
            let words = shlex::split(rest).unwrap_or_else(|| panic!("quotes: {line}"));
            words
                .into_iter()
                .take_while(|word| !ends(word))
                .map(|word| word.trim_end_matches(';').to_owned())
                .collect()
        })
        .collect()
}

#[test]
fn the_commands_of_the_documents_exist() {
    let mut seen = 0;
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        let blocks = text.split("\n```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
        let kinds = ["sh", "cron", "ini"];
        let lines = blocks
            .filter(|(kind, _)| kinds.contains(&kind.split(' ').next().unwrap()))
            .flat_map(|(_, block)| block.lines())
            // Comments, and calls of cargo, which name the package.
            .filter(|line| !line.starts_with('#') && !line.contains("-p deploykit"));
        for (line, mut words) in
            lines.flat_map(|line| calls(line).into_iter().map(move |words| (line, words)))
        {
            // Nobody knows the value of a variable.
            if words.iter().any(|word| word.contains('$')) {
                continue;
            }
            // What follows `--` belongs to another program. `--help` keeps the rest from being done, not from being understood.
            let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
            words.insert(end, "--help".to_owned());
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let answer = deploykit("/", &words).run();
            assert_eq!(answer.code, Some(0), "{}: {line}\n{words:?}\n{}", document.display(), answer.stderr);
            seen += 1;
        }
    }
    assert!(seen > 40, "only {seen} command lines were found");
}
