//! What `docs/json.md` promises, held against what the binary prints.

use serde_json::Value;

const DOCUMENT: &str = include_str!("../../docs/json.md");

/// Returns the examples of the document, by the name behind "```json".
fn examples() -> Vec<(&'static str, &'static str)> {
    let blocks = DOCUMENT.split("\n```json ").skip(1);
    blocks
        .map(|block| {
            let (name, rest) = block.split_once('\n').unwrap();
            (name.trim(), rest.split_once("\n```").unwrap().0)
        })
        .collect()
}

/// Fails unless an answer has just the fields of the document's example, and each of the same type.
#[track_caller]
pub fn assert_documented(name: &str, answer: &Value) {
    let (_, text) = examples()
        .into_iter()
        .find(|(known, _)| *known == name)
        .unwrap_or_else(|| panic!("docs/json.md has no example `{name}` for:\n{answer:#}"));
    let example: Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("example `{name}`: {error}"));
    let mut differences = Vec::new();
    compare(name, &example, answer, &mut differences);
    assert!(differences.is_empty(), "{}\nwhat came:\n{answer:#}", differences.join("\n"));
}

fn compare(path: &str, example: &Value, answer: &Value, differences: &mut Vec<String>) {
    match (example, answer) {
        // Whatever may be absent is there in the example.
        (_, Value::Null) => {}
        // Anything, described elsewhere.
        (Value::String(text), _) if text == "…" => {}
        (Value::Object(example), Value::Object(answer)) => {
            for key in example.keys().filter(|key| *key != "NAME" && !answer.contains_key(*key)) {
                differences.push(format!("{path}.{key} is documented and did not come"));
            }
            for (key, value) in answer {
                // `NAME` stands for names that depend on something.
                match example.get(key).or(example.get("NAME")) {
                    Some(example) => compare(&format!("{path}.{key}"), example, value, differences),
                    None => differences.push(format!("{path}.{key} came and is not documented")),
                }
            }
        }
        (Value::Array(example), Value::Array(answer)) => {
            let Some(example) = example.first() else {
                if !answer.is_empty() {
                    differences.push(format!("{path} has items and the example none"));
                }
                return;
            };
            for (index, value) in answer.iter().enumerate() {
                compare(&format!("{path}[{index}]"), example, value, differences);
            }
        }
        (example, answer) if std::mem::discriminant(example) == std::mem::discriminant(answer) => {}
        (example, answer) => differences.push(format!("{path}: {example} is documented, {answer} came")),
    }
}

#[test]
fn every_example_is_held_against_the_binary() {
    let tests = [
        include_str!("doctor.rs"),
        include_str!("failures.rs"),
        include_str!("one_liners.rs"),
        include_str!("one_liners/files.rs"),
        include_str!("phases.rs"),
        include_str!("rehearse.rs"),
        include_str!("services_hold.rs"),
        include_str!("signals.rs"),
        include_str!("trust.rs"),
        include_str!("updates.rs"),
        include_str!("usage.rs"),
    ]
    .concat();
    let examples = examples();
    assert!(examples.len() > 10, "{}", examples.len());
    for (name, text) in examples {
        serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("example `{name}`: {error}"));
        assert!(
            tests.contains(&format!("\"{name}\"")),
            "no test holds the example `{name}` against the binary"
        );
    }
}

#[test]
fn a_difference_is_seen() {
    let example = serde_json::json!({ "a": 1, "list": [{ "b": "x" }], "map": { "NAME": "x" } });
    let differences = |answer: Value| {
        let mut differences = Vec::new();
        compare("", &example, &answer, &mut differences);
        differences.join("; ")
    };
    assert_eq!(differences(serde_json::json!({ "a": 2, "list": [], "map": { "PATH": "/bin" } })), "");
    assert_eq!(
        differences(serde_json::json!({ "a": "2", "list": [{ "b": "x" }, { "c": 1 }], "more": true })),
        ".map is documented and did not come; .a: 1 is documented, \"2\" came; \
         .list[1].b is documented and did not come; .list[1].c came and is not documented; \
         .more came and is not documented"
    );
}
