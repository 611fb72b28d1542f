//! Every command line of `deploykit` in the documents is one that the binary understands.

use crate::run::deploykit;
use crate::support::root;

#[test]
fn the_commands_of_the_documents_exist() {
    let mut seen = 0;
    for document in ["README.md", "CONTRIBUTING.md", "docs/how-it-works.md", "docs/configuration.md"] {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        let blocks = text.split("\n```sh\n").skip(1).map(|block| block.split("\n```").next().unwrap());
        for line in blocks.flat_map(str::lines).filter(|line| line.starts_with("deploykit ")) {
            let line = line.split(" # ").next().unwrap();
            // Words in quotes are one; `--help` at the end keeps the rest from being done, not from being understood.
            let parts = line.split('\'').enumerate();
            let words =
                parts.flat_map(
                    |(index, part)| {
                        if index % 2 == 1 { vec![part] } else { part.split_whitespace().collect() }
                    },
                );
            let mut words: Vec<&str> = words.skip(1).collect();
            // What follows `--` belongs to another program.
            let end = words.iter().position(|word| *word == "--").unwrap_or(words.len());
            words.insert(end, "--help");
            let answer = deploykit("/", &words).run();
            assert_eq!(answer.code, Some(0), "{document}: {line}\n{}", answer.stderr);
            seen += 1;
        }
    }
    assert!(seen >= 12, "only {seen} command lines were found");
}
