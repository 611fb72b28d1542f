//! The reference of the keys.

use super::*;
use crate::services::ManagerKind;
use crate::site::{describe, reference};

#[test]
fn every_example_of_the_reference_can_be_read() {
    let mut examples = 0;
    for section in reference().iter().filter(|section| !section.example.is_empty()) {
        let least: String = [("[site]", 0), ("[python]", 2)]
            .into_iter()
            .filter(|(header, _)| section.header != *header)
            .flat_map(|(_, line)| LEAST.lines().skip(line).take(2))
            .map(|line| format!("{line}\n"))
            .collect();
        parsed(&format!("{}\n{least}", section.example));
        examples += 1;
    }
    assert!(examples > 15, "{examples}");
}

#[test]
fn what_the_reference_shows_of_a_section_can_be_read() {
    let text: String = reference().iter().map(|section| format!("{section}\n")).collect();
    let config = parsed(&text);
    assert_eq!(config.git.branch, "main");
    assert_eq!(config.services.len(), 1 + ManagerKind::ALL.len());
}

#[test]
fn a_key_is_described_by_its_name_and_by_that_of_its_section() {
    let names = |name: &str| -> Vec<String> {
        let found = describe(name).unwrap();
        found.into_iter().flat_map(|section| section.keys).map(|key| key.name).collect()
    };
    assert_eq!(names("secrets"), ["secrets.file", "secrets.required", "secrets.pattern"]);
    assert_eq!(names("[static]"), ["static.collect", "static.clear", "static.keep-old"]);
    assert_eq!(names("git.branch"), ["git.branch"]);
    assert_eq!(names("deadline"), ["git.deadline", "python.deadline", "database.deadline", "smoke.deadline"]);
    assert_eq!(names("services.start"), ["services.start"; 3]);
    assert!(names("smoke").contains(&"smoke.pages.path".to_owned()));
    let near = |name: &str| describe(name).unwrap_err().near;
    assert_eq!(near("git.brnch").as_deref(), Some("git.branch"));
    assert_eq!(near("maintenence").as_deref(), Some("maintenance"));
    assert_eq!(near("wholly-unlike-anything"), None);
    assert_eq!(near(""), None);
}
