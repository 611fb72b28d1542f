//! The documents that are written from the table of keys.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use deploykit::site::{Config, Section, describe, reference};
use snapbox::{Data, assert_data_eq};

use crate::support::root;

const EXAMPLE_HEAD: &str = "\
# Every key of deploykit.toml, as `deploykit docs` shows them. Relative paths start at the directory of this file; `project`,
# `requirements` and `lock` start at the repository.

";

/// Returns the tables and the example of a section, with those inside it, such as the pages of `[smoke]`.
fn markdown(sections: &[Section]) -> String {
    let mut text = String::new();
    let prefix = sections.first().map(|section| format!("{}.", section.name)).unwrap_or_default();
    for (index, section) in sections.iter().enumerate() {
        if index > 0 {
            write!(text, "\n{}\n\n", section.about).unwrap();
        }
        text.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
        for key in &section.keys {
            let name = key.name.strip_prefix(&prefix).unwrap_or(&key.name);
            writeln!(text, "| `{name}` | {} | {} | {} |", key.kind, key.default, key.about).unwrap();
        }
    }
    let examples: Vec<&str> = sections.iter().map(|section| section.example.as_str()).collect();
    let examples = examples.into_iter().filter(|example| !example.is_empty()).collect::<Vec<_>>().join("\n");
    format!("{text}\n```toml\n{examples}```\n")
}

#[test]
fn the_tables_of_the_document_are_those_of_the_code() {
    let path = root().join("docs/configuration.md");
    let document = fs::read_to_string(&path).unwrap();
    let mut sections: BTreeSet<String> =
        reference().into_iter().map(|section| section.name.split('.').next().unwrap().to_owned()).collect();
    let (mut written, mut rest) = (String::new(), document.as_str());
    while let Some((before, after)) = rest.split_once("<!-- keys: ") {
        let (name, after) = after.split_once(" -->\n").unwrap();
        let (_, after) = after.split_once("<!-- end -->").unwrap_or_else(|| panic!("`{name}` has no end"));
        let found = match name {
            "top" => vec![reference().swap_remove(0)],
            name => describe(name).unwrap(),
        };
        assert!(sections.remove(&found[0].name), "`{name}` is there twice");
        write!(written, "{before}<!-- keys: {name} -->\n\n{}\n<!-- end -->", markdown(&found)).unwrap();
        rest = after;
    }
    assert!(sections.is_empty(), "the document lacks {sections:?}");
    assert_data_eq!(written + rest, Data::read_from(&path, None).raw());
}

#[test]
fn the_example_has_all_keys() {
    let sections: Vec<String> = reference().iter().map(Section::to_string).collect();
    let written = EXAMPLE_HEAD.to_owned() + &sections.join("\n");
    assert_data_eq!(written, Data::read_from(&root().join("examples/deploykit.toml"), None).raw());
}

/// Collects the keys of a document, those of list items without their number.
fn collect(prefix: &str, value: &toml::Value, keys: &mut BTreeSet<String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                keys.insert(path.clone());
                collect(&path, value, keys);
            }
        }
        toml::Value::Array(items) => items.iter().for_each(|item| collect(prefix, item, keys)),
        _ => {}
    }
}

#[test]
fn every_key_has_a_description_and_an_example() {
    let mut shown = BTreeSet::new();
    for section in reference() {
        collect("", &toml::Value::Table(section.example.parse().unwrap()), &mut shown);
        assert!(!section.about.is_empty(), "{section:?}");
        for key in &section.keys {
            assert!(key.about.ends_with('.') && !key.kind.is_empty() && !key.default.is_empty(), "{key:?}");
            // An example that cannot stand beside another one is a comment.
            shown.extend(key.example.starts_with("# ").then(|| key.name.clone()));
        }
    }
    let known: BTreeSet<String> =
        reference().into_iter().flat_map(|section| section.keys).map(|key| key.name).collect();
    assert!(known.len() > 60, "{known:?}");
    // One that cannot stand beside the others is a comment.
    let keys = reference().into_iter().flat_map(|section| section.keys);
    shown.extend(keys.filter(|key| key.example.starts_with("# ")).map(|key| key.name));
    // Its keys are anything.
    let missing: Vec<_> = known.difference(&shown).filter(|key| *key != "logs.NAME").collect();
    assert!(missing.is_empty(), "no example of {missing:?}");
}

#[test]
fn every_example_in_a_comment_is_read_where_it_belongs() {
    let around = |section: &str, key: &str| match section {
        "python" if key == "lock" => ("", ""),
        "python" => ("lock = \"uv.lock\"\n", ""),
        "services" if key == "rehearse" => {
            ("[[services]]\nname = \"app\"\nmanager = \"supervisor\"\nconfig = \"/s.conf\"\n", "")
        }
        "services" => ("[[services]]\nname = \"app\"\nmanager = \"uwsgi\"\npidfile = \"/run/app.pid\"\n", ""),
        "steps" => ("[[steps]]\nname = \"own\"\nafter = \"static\"\n", ""),
        "smoke.pages" if key == "path" => ("[smoke]\nbase = \"https://a.example/\"\npages = [{ ", " }]"),
        "smoke.pages" => ("[smoke]\nbase = \"https://a.example/\"\npages = [{ path = \"/\", ", " }]"),
        other => panic!("where does `{key}` of `{other}` belong?"),
    };
    let mut read = 0;
    for key in reference().iter().flat_map(|section| &section.keys) {
        let Some(example) = key.example.strip_prefix("# ") else { continue };
        let (section, name) = key.name.rsplit_once('.').unwrap();
        let (before, after) = around(section, name);
        let text =
            format!("[site]\nsettings = \"a\"\n[python]\nvirtualenv = \"venv\"\n{before}{example}{after}\n");
        let config = Config::parse(&text, Path::new("/srv/site/deploykit.toml"), None);
        config.unwrap_or_else(|error| panic!("{}: {error}\n{text}", key.name));
        read += 1;
    }
    assert!(read > 10, "{read}");
}
