//! Secrets in real files: permissions, links, line ends, and what other programs read from them afterwards.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use deploykit::internal::secrets::{SecretsError, SecretsFile, set};
use deploykit::{Redactor, Variables};

use crate::support::program;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_new_file_is_for_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (json, env) = (directory.path().join("secrets.json"), directory.path().join(".env"));
    for path in [&json, &env] {
        set(path, "SECRET_KEY", "hunter 22").unwrap();
        assert_eq!(mode(path), 0o600);
        assert_eq!(SecretsFile::read(path).unwrap().values().collect::<Vec<_>>(), ["hunter 22"]);
    }
    assert_eq!(fs::read_to_string(&json).unwrap(), "{\n    \"SECRET_KEY\": \"hunter 22\"\n}\n");
    assert_eq!(fs::read_to_string(&env).unwrap(), "SECRET_KEY='hunter 22'\n");
}

#[test]
fn a_file_keeps_its_mode_its_bytes_and_the_link_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let (real, path) = (directory.path().join("real"), directory.path().join("secrets.json"));
    let text =
        "\u{feff}{\r\n\t\"PORT\": 5.4320e3,\r\n\t\"A\": 1,\r\n\t\"KEY\": \"old\",\r\n\t\"A\": 2\r\n}\r\n\r\n";
    fs::write(&real, text).unwrap();
    fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
    symlink(&real, &path).unwrap();
    set(&path, "KEY", "new").unwrap();
    assert_eq!(fs::read_to_string(&real).unwrap(), text.replace("\"old\"", "\"new\""));
    assert_eq!(mode(&real), 0o640);
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing is left behind");
}

#[test]
fn a_file_that_cannot_be_edited_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secrets.json");
    fs::write(&path, "{\"A\": \"hunter22\"").unwrap();
    let error = set(&path, "B", "x").unwrap_err();
    assert!(matches!(error, SecretsError::Json { line: 1, .. }), "{error:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"A\": \"hunter22\"");
    let error = set(&directory.path().join("missing/secrets.json"), "B", "x").unwrap_err();
    assert!(matches!(error, SecretsError::Write(_)), "{error:?}");
    assert!(matches!(set(directory.path(), "B", "x"), Err(SecretsError::Read { .. })));
}

#[test]
fn setting_the_same_value_again_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".env");
    set(&path, "A", "x").unwrap();
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    set(&path, "A", "x").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
}

/// Values that need quotes of one kind or another.
const VALUES: [&str; 10] = [
    "plain",
    "two words",
    "it's",
    "say \"hi\"",
    "it's \"both\" \\",
    "a#b # c",
    "$HOME",
    "${HOME}",
    "b\\n\\",
    "Größe 😀 = é",
];

#[test]
fn lines_are_read_back_by_the_site_environment() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".env");
    fs::write(&path, "# first\r\nOTHER=1 # one\r\n").unwrap();
    for (index, value) in VALUES.iter().enumerate() {
        set(&path, &format!("V{index}"), "before").unwrap();
        set(&path, &format!("V{index}"), value).unwrap();
    }
    let mut variables = Variables::new();
    variables.read_file(&path).unwrap();
    for (index, value) in VALUES.iter().enumerate() {
        assert_eq!(variables.get(&format!("V{index}")), Some(*value));
    }
    assert_eq!(variables.get("OTHER"), Some("1"));
    assert!(fs::read_to_string(&path).unwrap().starts_with("# first\r\nOTHER=1 # one\r\n"));
}

#[test]
fn lines_are_read_back_by_a_shell() {
    let Some(shell) = program("sh") else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".env");
    for value in VALUES {
        set(&path, "VALUE", value).unwrap();
        let output = Command::new(&shell)
            .args(["-c", ". \"$1\"; printf %s \"$VALUE\"", "sh"])
            .arg(&path)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), value);
    }
}

#[test]
fn json_is_read_back_by_python() {
    let Some(python) = program("python3") else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secrets.json");
    // As Python itself writes it.
    must_write(&python, &path);
    for value in VALUES.into_iter().chain(["line\nbreak\t\u{7f}\u{1}"]) {
        set(&path, "VALUE", value).unwrap();
        let script = "import json, sys; d = json.load(open(sys.argv[1], encoding='utf-8')); \
                      assert d['SMILE'] == '\\U0001f600' and d['N'] != d['N']; \
                      sys.stdout.buffer.write(d['VALUE'].encode())";
        let output = Command::new(&python).args(["-c", script]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), value);
    }
}

fn must_write(python: &Path, path: &Path) {
    let script =
        "import json, sys; json.dump({'SMILE': '\\U0001f600', 'N': float('nan')}, open(sys.argv[1], 'w'))";
    crate::support::http::must(Command::new(python).args(["-c", script]).arg(path));
}

#[test]
fn the_values_of_a_file_feed_a_redactor() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secrets.json");
    fs::write(&path, r#"{"DB": {"PASSWORD": "swordfish", "HOST": "localhost"}, "KEY": "k\u00e9y-of-all"}"#)
        .unwrap();
    let file = SecretsFile::read(&path).unwrap();
    let redactor = Redactor::new(file.values().map(str::to_owned));
    assert_eq!(
        redactor.redact("swordfish refused at localhost with kéy-of-all"),
        "*** refused at localhost with ***"
    );
}
