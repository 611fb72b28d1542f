//! Sets of packages: what is installed, what is wanted, and the difference.

use crate::digest;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::PathBuf;
use std::sync::LazyLock;

use regex_lite::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What every virtualenv has, wanted or not: present or absent it is no change, unless the requirements ask for it.
pub(crate) const SEEDS: [&str; 3] = ["pip", "setuptools", "wheel"];

/// How a version is marked that is not there whole.
pub(crate) const FILES_MISSING: &str = " with files missing";

/// How an origin is marked that is a directory outside of the virtualenv's packages.
const EDITABLE: &str = "editable:";

/// One package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name as its author writes it: `Django`.
    pub name: String,
    /// Its version; empty where the installer does not say it beforehand (uv, for packages from a URL).
    pub version: String,
    /// Where it comes from, when that is not an index: a URL with the commit, without user name, password and query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

impl Package {
    /// Makes a package of an index.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Package { name: name.into(), version: version.into(), origin: None }
    }

    /// Returns the version that is meant by one that is broken: the newest where several are there.
    pub(crate) fn intended(&self) -> String {
        let whole =
            self.version.split(" and ").map(|version| version.strip_suffix(FILES_MISSING).unwrap_or(version));
        let numbers = |version: &str| {
            normal_version(version).split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u64>>()
        };
        whole.max_by_key(|version| numbers(version)).unwrap_or_default().to_owned()
    }

    /// Tells whether its version alone says what it is.
    pub(crate) fn is_of_index(&self) -> bool {
        self.origin.is_none() && !self.version.is_empty()
    }

    /// Returns the directory that it is imported from, when that is outside of the packages.
    pub(crate) fn editable_from(&self) -> Option<PathBuf> {
        self.origin.as_ref()?.starts_with(EDITABLE).then(|| self.installed_from()).flatten()
    }

    /// Returns the directory or file of this machine that it was installed from.
    pub(crate) fn installed_from(&self) -> Option<PathBuf> {
        let origin = self.origin.as_ref()?;
        let path = origin.strip_prefix(EDITABLE).unwrap_or(origin).strip_prefix("file://")?;
        let path = path.split('#').next().unwrap_or_default();
        Some(PathBuf::from(percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()))
    }

    /// Tells whether two descriptions are of the same thing.
    pub(crate) fn is(&self, other: &Package) -> bool {
        let editable = |package: &Package| package.origin.as_ref().is_some_and(|o| o.starts_with(EDITABLE));
        if editable(self) || editable(other) {
            return same_version(&self.version, &other.version);
        }
        self.origin == other.origin && same_version(&self.version, &other.version)
    }
}

fn same_version(one: &str, other: &str) -> bool {
    one == other || one.is_empty() || other.is_empty() || normal_version(one) == normal_version(other)
}

/// Packages by their normalised names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Packages(BTreeMap<String, Package>);

impl Packages {
    /// Makes an empty set.
    #[must_use]
    pub fn new() -> Self {
        Packages::default()
    }

    /// Adds a package. One that is there twice, as a broken installation leaves it, equals no version at all.
    pub fn insert(&mut self, package: Package) {
        let name = normalise(&package.name);
        match self.0.get_mut(&name) {
            None => {
                self.0.insert(name, package);
            }
            Some(known) if *known == package => {}
            Some(known) => {
                let _ = write!(known.version, " and {}", package.version);
            }
        }
    }

    /// Returns a package; the name need not be normalised.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Package> {
        self.0.get(&normalise(name))
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Package> {
        self.0.get_mut(&normalise(name))
    }

    /// Returns the packages, sorted by normalised name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Package)> {
        self.0.iter().map(|(name, package)| (name.as_str(), package))
    }

    /// Returns their number.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns what leads from this set to `wanted`. pip, setuptools and wheel count only when they are wanted.
    #[must_use]
    pub fn changes_to(&self, wanted: &Packages) -> Vec<PackageChange> {
        let changed = wanted.0.iter().filter_map(|(name, to)| {
            let from = self.0.get(name);
            match from {
                Some(from) if from.is(to) => None,
                _ => {
                    Some(PackageChange { name: to.name.clone(), from: from.map(shown), to: Some(shown(to)) })
                }
            }
        });
        let dropped = self
            .0
            .iter()
            .filter(|(name, _)| !wanted.0.contains_key(*name) && !SEEDS.contains(&name.as_str()));
        changed
            .chain(dropped.map(|(_, from)| PackageChange {
                name: from.name.clone(),
                from: Some(shown(from)),
                to: None,
            }))
            .collect()
    }

    /// Returns the name of the virtualenv that holds exactly these packages: the same for pip and uv.
    #[must_use]
    pub fn key(&self, python: &str, system_site_packages: bool) -> String {
        let mut text = format!("python {python}\nsystem-site-packages {system_site_packages}\n");
        for (name, package) in &self.0 {
            let _ = match &package.origin {
                Some(origin) => writeln!(text, "{name} @ {origin}"),
                None => writeln!(text, "{name}=={}", normal_version(&package.version)),
            };
        }
        digest::sha256(text.as_bytes())[..16].to_owned()
    }

    /// Returns the lines of a constraints file that allows nothing else.
    pub(crate) fn constraints(&self) -> String {
        self.0
            .iter()
            .filter(|(_, package)| package.is_of_index())
            .fold(String::new(), |text, (name, package)| text + name + "==" + &package.version + "\n")
    }

    /// Returns them in a few words: the first ones by name, and how many more there are.
    #[must_use]
    pub fn summary(&self) -> String {
        const SHOWN: usize = 3;
        let mut parts: Vec<String> = self
            .0
            .values()
            .take(SHOWN)
            .map(|package| format!("{} {}", package.name, package.version))
            .collect();
        if self.0.len() > SHOWN {
            parts.push(format!("{} more", self.0.len() - SHOWN));
        }
        if parts.is_empty() { "no packages".to_owned() } else { parts.join(", ") }
    }
}

impl FromIterator<Package> for Packages {
    fn from_iter<I: IntoIterator<Item = Package>>(packages: I) -> Self {
        let mut set = Packages::new();
        packages.into_iter().for_each(|package| set.insert(package));
        set
    }
}

/// One package that is added, dropped or replaced. Its `Display` is a line for a person: `Django 4.2 → 5.2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageChange {
    /// Its name.
    pub name: String,
    /// The version now; `None`: it is added.
    pub from: Option<String>,
    /// The version to come; `None`: it is dropped.
    pub to: Option<String>,
}

impl fmt::Display for PackageChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "{} {from} → {to}", self.name),
            (None, Some(to)) => write!(f, "+ {} {to}", self.name),
            (Some(from), None) => write!(f, "- {} {from}", self.name),
            (None, None) => f.write_str(&self.name),
        }
    }
}

fn shown(package: &Package) -> String {
    match &package.origin {
        None => package.version.clone(),
        Some(origin) if package.version.is_empty() => origin.clone(),
        // As people ask for it.
        Some(origin) => match origin.strip_prefix(EDITABLE) {
            Some(place) => {
                format!("{} (-e {})", package.version, place.strip_prefix("file://").unwrap_or(place))
            }
            None => format!("{} ({origin})", package.version),
        },
    }
}

/// Returns a package's name as it is compared: lower case, runs of `-`, `_` and `.` as one `-`.
///
/// Source: <https://packaging.python.org/en/latest/specifications/name-normalization/>
#[must_use]
pub fn normalise(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for c in name.trim().chars() {
        if matches!(c, '-' | '_' | '.') {
            if !normal.ends_with('-') {
                normal.push('-');
            }
        } else {
            normal.extend(c.to_lowercase());
        }
    }
    normal
}

/// Returns a version as it is compared: uv writes `2024.1rc1` where a package says `2024.01-RC1`.
///
/// Source: <https://packaging.python.org/en/latest/specifications/version-specifiers/#normalization>
pub(crate) fn normal_version(version: &str) -> String {
    static SUFFIX: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"[-_.]?(alpha|beta|preview|post|rev|dev|pre|rc|a|b|c|r)[-_.]?([0-9]*)").ok()
    });
    static ZEROS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(^|[^0-9])0+([0-9])").ok());
    let lower = version.trim().to_lowercase();
    let lower = lower.strip_prefix('v').unwrap_or(&lower);
    // What follows the `+` is a local label and no number.
    let (public, local) =
        lower.split_once('+').map_or((lower, None), |(public, local)| (public, Some(local)));
    let mut normal = public.to_owned();
    if let Some(suffix) = SUFFIX.as_ref() {
        normal = suffix
            .replace_all(&normal, |found: &regex_lite::Captures<'_>| {
                let number = if found[2].is_empty() { "0" } else { &found[2] };
                match &found[1] {
                    "alpha" | "a" => format!("a{number}"),
                    "beta" | "b" => format!("b{number}"),
                    "c" | "pre" | "preview" | "rc" => format!("rc{number}"),
                    "dev" => format!(".dev{number}"),
                    _ => format!(".post{number}"),
                }
            })
            .into_owned();
    }
    if let Some(zeros) = ZEROS.as_ref() {
        normal = zeros.replace_all(&normal, "$1$2").into_owned();
    }
    match local {
        Some(local) => format!("{normal}+{}", local.replace(['-', '_'], ".")),
        None => normal,
    }
}

/// Reads where a package comes from, as pip's report and `direct_url.json` say it.
///
/// Source: <https://packaging.python.org/en/latest/specifications/direct-url-data-structure/>
pub(crate) fn origin_of(direct: &Value) -> Option<String> {
    let url = direct.get("url")?.as_str()?;
    if direct.pointer("/dir_info/editable").and_then(Value::as_bool) == Some(true) {
        return Some(format!("{EDITABLE}{}", clean_url(url)));
    }
    let mut origin = match direct.get("vcs_info") {
        Some(vcs) => {
            let name = vcs.get("vcs").and_then(Value::as_str).unwrap_or("git");
            let commit = vcs.get("commit_id").and_then(Value::as_str).unwrap_or_default();
            format!("{name}+{}@{commit}", clean_url(url))
        }
        None => clean_url(url),
    };
    if let Some(directory) = direct.get("subdirectory").and_then(Value::as_str) {
        let _ = write!(origin, "#subdirectory={directory}");
    }
    Some(origin)
}

/// Removes from a URL what may be secret or only helps the installer: user, query, fragment (but for a subdirectory).
pub(crate) fn clean_url(url: &str) -> String {
    let (url, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (url, query) = url.split_once('?').unwrap_or((url, ""));
    let mut clean = match url.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => url.to_owned(),
    };
    if !query.is_empty() {
        // Another query may name another file, but it may also be a token.
        let _ = write!(clean, "?{}", &digest::sha256(query.as_bytes())[..8]);
    }
    if let Some(directory) = fragment.split('&').find(|part| part.starts_with("subdirectory=")) {
        let _ = write!(clean, "#{directory}");
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn set(pins: &[(&str, &str)]) -> Packages {
        pins.iter().map(|(name, version)| Package::new(*name, *version)).collect()
    }

    #[test]
    fn changes_are_lines_for_a_person() {
        let old = set(&[("Django", "4.2"), ("six", "1.16"), ("pip", "23.0"), ("asgiref", "3.8")]);
        let new = set(&[("django", "5.2"), ("humanize", "4.1"), ("asgiref", "3.8")]);
        let lines: Vec<String> = old.changes_to(&new).iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["django 4.2 → 5.2", "+ humanize 4.1", "- six 1.16"]);
        let wanted = set(&[("django", "5.2"), ("humanize", "4.1"), ("asgiref", "3.8"), ("pip", "24.0")]);
        assert_eq!(new.changes_to(&wanted)[0].to_string(), "+ pip 24.0");
    }

    #[test]
    fn an_editable_package_is_shown_as_people_ask_for_it() {
        let package = |origin: &str| Package { origin: Some(origin.to_owned()), ..Package::new("a", "1") };
        let dropped = |origin: &str| {
            let old: Packages = [package(origin)].into_iter().collect();
            old.changes_to(&set(&[]))[0].to_string()
        };
        assert_eq!(dropped("editable:file:///srv/site/lib"), "- a 1 (-e /srv/site/lib)");
        assert_eq!(dropped("editable:git+https://h/r@c0ffee"), "- a 1 (-e git+https://h/r@c0ffee)");
        assert_eq!(dropped("file:///srv/site/lib"), "- a 1 (file:///srv/site/lib)");
    }

    #[test]
    fn a_package_that_is_there_twice_is_no_version() {
        let broken = set(&[("a", "1"), ("a", "2")]);
        assert_eq!(broken.changes_to(&set(&[("a", "2")]))[0].to_string(), "a 1 and 2 → 2");
    }

    #[test]
    fn spelling_makes_no_difference() {
        assert_eq!(normalise("Zope.Interface__x"), "zope-interface-x");
        for (one, other) in
            [("2024.01", "2024.1"), ("1.0-RC1", "1.0rc1"), ("v1.0.alpha2", "1.0a2"), ("1.0.0", "1.0.0")]
        {
            assert_eq!(normal_version(one), normal_version(other));
        }
        assert_ne!(normal_version("1.10"), normal_version("1.1"));
        assert_ne!(normal_version("1.0+cpu"), normal_version("1.0+cu12"));
        let key = |name, version| set(&[(name, version)]).key("3.11", false);
        assert_eq!(key("Foo_Bar", "2024.01"), key("foo-bar", "2024.1"));
        assert_ne!(key("foo", "1"), key("foo", "2"));
        assert_ne!(set(&[]).key("3.11", false), set(&[]).key("3.12", false));
    }

    #[test]
    fn an_origin_names_the_commit_and_no_secret() {
        let vcs = json!({"url": "https://me:pw@host/repo.git", "subdirectory": "lib",
            "vcs_info": {"vcs": "git", "commit_id": "abc", "requested_revision": "main"}});
        assert_eq!(origin_of(&vcs).unwrap(), "git+https://host/repo.git@abc#subdirectory=lib");
        let wheel = origin_of(&json!({"url": "https://tok@host/x.whl?key=s3cret#sha256=1"})).unwrap();
        assert!(wheel.starts_with("https://host/x.whl?") && !wheel.contains("s3cret"), "{wheel}");
        assert_eq!(clean_url("git+ssh://git@host/a/b@v1#egg=b"), "git+ssh://host/a/b@v1");
    }

    #[test]
    fn a_package_from_a_branch_changes_with_its_commit() {
        let at = |commit: &str| -> Packages {
            let origin = Some(format!("git+https://h/r@{commit}"));
            [Package { name: "a".into(), version: "1".into(), origin }].into_iter().collect()
        };
        assert!(at("x").changes_to(&at("x")).is_empty());
        assert_eq!(at("x").changes_to(&at("y")).len(), 1);
        assert_eq!(set(&[("a", "1")]).changes_to(&at("y")).len(), 1);
    }

    #[test]
    fn a_summary_is_short() {
        assert_eq!(set(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]).summary(), "a 1, b 2, c 3, 1 more");
        assert_eq!(set(&[]).summary(), "no packages");
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in ".*", other in ".*") {
            let _ = (normalise(&text), clean_url(&text));
            prop_assert_eq!(normal_version(&normal_version(&text)), normal_version(&normal_version(&normal_version(&text))));
            let _ = set(&[(&text, &other)]).key(&text, true);
        }
    }
}
