//! Texts in, texts out; the files themselves are in `tests/library/secrets.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::Edit;
use super::edit::with;
use super::*;

fn set_in(file: &str, text: &str, name: &str, value: &str) -> Result<String, SecretsError> {
    with(Edit { path: Path::new(file), name, value }, text.as_bytes())
}

fn json(text: &str, name: &str, value: &str) -> String {
    set_in("secrets.json", text, name, value).unwrap()
}

fn env(text: &str, name: &str, value: &str) -> String {
    set_in(".env", text, name, value).unwrap()
}

fn parse(file: &str, text: &str) -> Result<SecretsFile, SecretsError> {
    SecretsFile::parse(Path::new(file), text.as_bytes())
}

// Reading

#[test]
fn names_and_nested_values_are_found() {
    let text = "\u{feff}{\r\n  // a comment\r\n  \"A\": \"first-value\",\r\n  \"B\": {\"C\": [\"nested-value\", 1, null]},\r\n}\r\n";
    let file = parse("secrets.json", text).unwrap();
    assert_eq!(file.names().iter().collect::<Vec<_>>(), ["A", "B"]);
    assert_eq!(file.values().collect::<Vec<_>>(), ["first-value", "nested-value", "1"]);
    let file = parse(".env", "# comment\n\nexport A='x y'\nB=\n").unwrap();
    assert_eq!(file.names().iter().collect::<Vec<_>>(), ["A", "B"]);
    assert_eq!(file.values().collect::<Vec<_>>(), ["x y"]);
}

#[test]
fn the_name_of_the_file_tells_its_format_and_else_its_text_does() {
    for (name, text, format) in [
        ("secrets.json", "A=1", Format::Json),
        ("SECRETS.JSON", "", Format::Json),
        (".env", "{}", Format::Dotenv),
        (".env.production", "{}", Format::Dotenv),
        ("site.env", "", Format::Dotenv),
        ("secrets", " \n{}", Format::Json),
        ("secrets", "A=1", Format::Dotenv),
        ("secrets", "", Format::Dotenv),
    ] {
        assert_eq!(Format::of(Path::new("/srv").join(name).as_path(), text), format, "{name}");
    }
}

#[test]
fn what_may_be_shown_alone_is_hidden_alone() {
    let text = r#"{"URL": "postgres://site:swordfish@db/site", "KEY": "-----BEGIN-----\nMIIEvQIBADANBgkq\nshort\n", "HOST": "localhost"}"#;
    let file = parse("secrets.json", text).unwrap();
    let values: Vec<&str> = file.values().collect();
    assert_eq!(
        values,
        [
            "swordfish",
            "postgres://site:swordfish@db/site",
            "MIIEvQIBADANBgkq",
            "-----BEGIN-----\nMIIEvQIBADANBgkq\nshort\n"
        ]
    );
}

#[test]
fn errors_name_the_place_and_show_nothing() {
    let cases = [
        ("secrets.json", "{\n  \"A\": \"hunter22\"\n  \"B\": 1\n}", "line 2, column 18: expected comma"),
        ("secrets.json", "{\n  \"A\": hunter22}", "line 2, column 8: unexpected token"),
        ("secrets.json", "{\"A\": \"hunter22\n", "line 1, column 7: a string has a wrong escape or no end"),
        ("secrets.json", "{\"A\": \"\\uhunt\"}", "line 1, column 8: a string has a wrong escape or no end"),
        ("secrets.json", "{\"A\": \"\\ud800\"}", "a string has a wrong escape or no end"),
        ("secrets.json", "{'A': 'hunter22'}", "single-quoted strings are not allowed"),
        ("secrets.json", "[\"hunter22\"]", "expected a JSON object with a name for every secret"),
        ("secrets.json", "", "expected a JSON object with a name for every secret"),
        (".env", "A=1\nhunter22\n", "line 2: expected `NAME=value`"),
        (".env", "A=\"hunter22\n", "line 1: the quotes have no end"),
        (".env", "A=1\nB=hunter\\22\n", "line 2: programs disagree about a backslash outside quotes"),
    ];
    for (file, text, expected) in cases {
        let error = parse(file, text).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(error.to_string().contains(expected), "{error} for {text}");
        assert!(!shown.contains("hunt"), "{shown}");
    }
    let error = SecretsFile::parse(Path::new(".env"), b"A=1\nB=\xff\n").unwrap_err();
    assert_eq!(error.to_string(), "`.env`, line 2: expected UTF-8");
    let deep = "[".repeat(100_000);
    assert!(parse("secrets.json", &format!("{{\"A\": {deep}")).is_err());
}

#[test]
fn debug_shows_names_only() {
    let file = parse("secrets.json", r#"{"A": "hunter22"}"#).unwrap();
    assert_eq!(format!("{file:?}"), r#"SecretsFile { path: "secrets.json", names: {"A"} }"#);
}

// What the code asks for

#[test]
fn names_are_found_in_the_code() {
    let pattern = compile_pattern(DEFAULT_PATTERN).unwrap();
    let source = "A = get_secret('ONE')\nB = get_secret(\n    \"TWO\"\n)\n# C = get_secret('OLD')\n\
                  D = get_secret('ONE') + get_secret('THREE', '')\nE = get_secret('FOUR',)\n";
    assert_eq!(names_asked_for(source, &pattern), ["ONE", "TWO", "FOUR"]);
    let asked = asked_for([("base.py", source), ("prod.py", "get_secret('ONE')")], &pattern);
    assert_eq!(asked["ONE"], ["base.py:1", "base.py:6", "prod.py:1"]);
    assert_eq!(asked["TWO"], ["base.py:3"]);
    assert_eq!(asked["FOUR"], ["base.py:7"]);
    assert_eq!(asked.len(), 3);
}

#[test]
fn a_pattern_needs_a_group() {
    assert_eq!(
        compile_pattern("get_secret").unwrap_err().to_string(),
        "the pattern for secrets needs a group, `(…)`, around the name"
    );
    assert!(matches!(compile_pattern("("), Err(SecretsError::Pattern { .. })));
    let either = compile_pattern(r#"env\("(\w+)"\)|environ\["(\w+)"\]"#).unwrap();
    assert_eq!(names_asked_for(r#"env("A") environ["B"]"#, &either), ["A", "B"]);
}

#[test]
fn only_what_is_new_or_required_is_missing() {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let target: BTreeMap<String, Vec<String>> = ["HAS", "NEW", "OLD", "OLD_REQUIRED"]
        .map(|name| (name.to_owned(), vec![format!("base.py:{}", name.len())]))
        .into();
    let check = SecretsCheck {
        required: ["OLD_REQUIRED", "UNASKED", "HAS"].map(str::to_owned).to_vec(),
        ..SecretsCheck::default()
    };
    let outcome = check.decide(&target, &set(&["HAS", "OLD", "OLD_REQUIRED", "GONE"]), &set(&["HAS"]));
    let missing = |name: &str, asked_in: &[&str]| Missing {
        name: name.to_owned(),
        asked_in: asked_in.iter().map(|place| (*place).to_owned()).collect(),
    };
    assert_eq!(
        outcome,
        SecretsOutcome {
            missing: vec![
                missing("NEW", &["base.py:3"]),
                missing("OLD_REQUIRED", &["base.py:12"]),
                missing("UNASKED", &[]),
            ],
            tolerated: vec![missing("OLD", &["base.py:3"])],
        }
    );
    assert_eq!(
        check.decide(&BTreeMap::new(), &set(&[]), &set(&["OLD_REQUIRED", "UNASKED", "HAS"])),
        SecretsOutcome::default()
    );
}

// Editing JSON

#[test]
fn one_json_value_is_replaced_and_nothing_else() {
    let text = "\u{feff}{\r\n\t\"A\" : 1e0,\r\n\r\n\t\"B\": \"old\", // about B\r\n\t\"A\": 2.50, \"N\": {\"B\": 1}\r\n}";
    assert_eq!(json(text, "B", "n\"e\\w"), text.replace("\"old\"", r#""n\"e\\w""#));
    assert_eq!(json(text, "A", "x"), text.replace("2.50", "\"x\""), "the last one counts");
    assert_eq!(json(r#"{"A":null}"#, "A", "x"), r#"{"A":"x"}"#);
    assert_eq!(json(r#"{"\u0041": "old"}"#, "A", "é😀"), r#"{"\u0041": "é😀"}"#);
    let same = "{\"A\": \"x\"}";
    assert_eq!(json(same, "A", "x"), same);
}

#[test]
fn a_new_json_entry_takes_the_style_of_the_last() {
    for (text, expected) in [
        ("{\n  \"A\": 1\n}\n", "{\n  \"A\": 1,\n  \"B\": \"x\"\n}\n"),
        ("{\r\n\t\"A\": 1\r\n}", "{\r\n\t\"A\": 1,\r\n\t\"B\": \"x\"\r\n}"),
        ("{\"A\":1}", "{\"A\":1,\"B\":\"x\"}"),
        ("{ \"A\": 1 }\n", "{ \"A\": 1, \"B\": \"x\" }\n"),
        ("{\"A\": 1, \"C\": 2}", "{\"A\": 1, \"C\": 2, \"B\": \"x\"}"),
        ("{\n  \"A\": 1,\n}\n", "{\n  \"A\": 1,\n  \"B\": \"x\",\n}\n"),
        ("{\n  \"A\": 1,\n\n  \"C\": 2\n}", "{\n  \"A\": 1,\n\n  \"C\": 2,\n  \"B\": \"x\"\n}"),
        ("{\n  \"A\": 1 // about A\n}", "{\n  \"A\": 1, // about A\n  \"B\": \"x\"\n}"),
        ("{\n  \"A\": 1, /* about A */\n}", "{\n  \"A\": 1, /* about A */\n  \"B\": \"x\",\n}"),
        ("{\n  \"A\": {\n    \"B\": 1\n  }\n}", "{\n  \"A\": {\n    \"B\": 1\n  },\n  \"B\": \"x\"\n}"),
        ("{\n  \"A\": 1}", "{\n  \"A\": 1,\n  \"B\": \"x\"}"),
        ("{\n  \"A\": 1\n  // the end\n}", "{\n  \"A\": 1,\n  \"B\": \"x\"\n  // the end\n}"),
        ("{ /* about A */ \"A\": 1 }", "{ /* about A */ \"A\": 1, \"B\": \"x\" }"),
        ("{}", "{\n    \"B\": \"x\"\n}"),
        ("{ }\r\n", "{\r\n    \"B\": \"x\"\r\n}\r\n"),
        ("{\n}\n", "{\n    \"B\": \"x\"\n}\n"),
        ("{ // none yet\n}", "{\n    \"B\": \"x\"\n // none yet\n}"),
        ("", "{\n    \"B\": \"x\"\n}\n"),
    ] {
        assert_eq!(json(text, "B", "x"), expected, "{text:?}");
    }
}

#[test]
fn what_cannot_be_set_is_refused() {
    let error = set_in("secrets.json", r#"{"A": {"B": 1}}"#, "A", "x").unwrap_err();
    assert_eq!(error.to_string(), "`A` in `secrets.json` is an array or an object and is not replaced");
    for (file, name) in [
        ("secrets.json", ""),
        ("secrets.json", "A\nB"),
        (".env", ""),
        (".env", "A B"),
        (".env", "1A"),
        (".env", "Ä"),
    ] {
        assert!(matches!(set_in(file, "", name, "x"), Err(SecretsError::Name { .. })), "{file} {name:?}");
    }
    for value in ["a\nb", "a\rb", "a\0b", "it's ${x}"] {
        let error = set_in(".env", "", "A", value).unwrap_err();
        assert!(matches!(error, SecretsError::Value { .. }), "{value:?}");
        assert!(!format!("{error} {error:?}").contains(value));
    }
    assert!(set_in("secrets.json", "[]", "A", "x").is_err());
    assert!(set_in("secrets.json", "{", "A", "x").is_err());
    assert!(set_in(".env", "no line", "A", "x").is_err());
}

// Editing lines

#[test]
fn one_line_is_replaced_and_nothing_else() {
    for (text, expected) in [
        ("# head\nA=old\n\nB=1\n", "# head\nA=new\n\nB=1\n"),
        ("  export A = \"old\" # about A\r\nB=1\r\n", "  export A = new # about A\r\nB=1\r\n"),
        ("A=\"one\ntwo\" # both\nB=1\n", "A=new # both\nB=1\n"),
        ("A=old#er # about A", "A=new # about A"),
        ("A=\nB=1", "A=new\nB=1"),
        ("A=1\nB=1\nA=2\n", "A=1\nB=1\nA=new\n"),
        ("A= # nothing yet\n", "A=new # nothing yet\n"),
    ] {
        assert_eq!(env(text, "A", "new"), expected, "{text:?}");
    }
}

#[test]
fn a_new_line_goes_to_the_end() {
    for (text, expected) in [
        ("", "A=x\n"),
        ("B=1\n", "B=1\nA=x\n"),
        ("B=1", "B=1\nA=x"),
        ("B=1\r\n# end\r\n", "B=1\r\n# end\r\nA=x\r\n"),
        ("export B=1\n", "export B=1\nexport A=x\n"),
    ] {
        assert_eq!(env(text, "A", "x"), expected, "{text:?}");
    }
}

#[test]
fn values_are_quoted_where_they_must_be() {
    for (value, line) in [
        ("plain-1.0/x:y=z@w%+,", "A=plain-1.0/x:y=z@w%+,"),
        ("", "A="),
        ("two words", "A='two words'"),
        ("$HOME `x` \\ \"q\"", "A='$HOME `x` \\ \"q\"'"),
        ("${HOME}", "A='${HOME}'"),
        ("it's # x", "A=\"it's # x\""),
        ("a'b\"c", r#"A="a'b\"c""#),
        (r"b\", r#"A="b\\""#),
        (" x ", "A=' x '"),
        ("#1", "A='#1'"),
    ] {
        assert_eq!(env("", "A", value), format!("{line}\n"));
    }
}

// Anything at all

/// A JSON value of some depth.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,4}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn rendered(object: &Map<String, Value>, indent: Option<&'static [u8]>) -> String {
    use serde::Serialize;
    let Some(indent) = indent else { return serde_json::to_string(object).unwrap() };
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent);
    object.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter)).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// How many bytes two texts share at their start and, apart from that, at their end.
fn shared(old: &str, new: &str) -> usize {
    let (old, new) = (old.as_bytes(), new.as_bytes());
    let start = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let rest = (old[start..].iter().rev()).zip(new[start..].iter().rev());
    start + rest.take_while(|(old, new)| old == new).count()
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), name in ".{0,6}", value in ".{0,6}") {
        for file in ["secrets.json", ".env", "secrets"] {
            let path = Path::new(file);
            let _ = SecretsFile::parse(path, &bytes);
            let _ = with(Edit { path, name: &name, value: &value }, &bytes);
        }
    }

    #[test]
    fn anything_like_json_is_read_or_refused(text in r#"[\[\]{}:,"'\\/*\n\r \tA1u.\-é]{0,60}"#, value in ".{0,6}") {
        let path = Path::new("secrets.json");
        let _ = SecretsFile::parse(path, text.as_bytes());
        if let Ok(new) = with(Edit { path, name: "A", value: &value }, text.as_bytes()) {
            prop_assert!(SecretsFile::parse(path, new.as_bytes()).is_ok_and(|file| file.names().contains("A")));
        }
    }

    #[test]
    fn anything_like_lines_is_read_or_refused(text in r#"([ABé=#"' \texpor]{0,12}\r?\n?){0,6}"#, value in r#"[ab#"' \\$=é]{0,8}"#) {
        let path = Path::new(".env");
        if let Ok(new) = with(Edit { path, name: "A", value: &value }, text.as_bytes()) {
            let read = crate::host::dotenv::parse(&new).unwrap();
            let last = read.into_iter().rfind(|found| found.name == "A");
            prop_assert_eq!(last.map(|found| found.value), Some(value));
        }
    }

    #[test]
    fn one_key_of_an_object_changes(
        object in prop::collection::btree_map("[a-c\"\\\\é ]{1,3}", value(), 0..5),
        name in "[a-c\"\\\\é]{1,3}",
        value in ".{0,12}",
        indent in prop_oneof![Just(None), Just(Some(&b"  "[..])), Just(Some(&b"\t"[..]))],
        end in prop_oneof![Just(""), Just("\n")],
    ) {
        let mut object: Map<String, Value> = object.into_iter().collect();
        let old = rendered(&object, indent) + end;
        let result = set_in("secrets.json", &old, &name, &value);
        let before = object.insert(name.clone(), Value::from(value));
        if matches!(before, Some(Value::Object(_) | Value::Array(_))) {
            let nested = matches!(result, Err(SecretsError::Nested { .. }));
            prop_assert!(nested);
        } else {
            let new = result.unwrap();
            prop_assert_eq!(serde_json::from_str::<Map<String, Value>>(&new).unwrap(), object);
            let replaced = before.map_or(0, |value| value.to_string().len());
            prop_assert!(shared(&old, &new) >= old.len() - replaced, "{} became {}", old, new);
        }
    }
}
