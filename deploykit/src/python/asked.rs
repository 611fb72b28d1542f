//! Which packages the requirements ask for, themselves or through what they depend on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::lines::{is_name, logical_lines, value};
use super::packages::{Packages, normalise};
use super::virtualenv::{names_in, site_packages};
use crate::names;

/// A name with the extras that are wanted of it; of a requirements file or of a package's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) name: String,
    pub(crate) extras: BTreeSet<String>,
    /// The extras of whoever wishes for it that bring it; empty: it is always wanted.
    pub(super) only_with: BTreeSet<String>,
}

impl Wish {
    /// Wishes for a package whatever brings it.
    pub(crate) fn of(name: &str) -> Self {
        Wish { name: normalise(name), extras: BTreeSet::new(), only_with: BTreeSet::new() }
    }

    /// Reads a requirement as PEP 508 writes it. Its markers count as true, but for those of extras: a package that this
    /// Python does not need counts as asked for, which changes nothing about it.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        let end = text.find(|c: char| !(c.is_alphanumeric() || "-_.".contains(c))).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        if !name.starts_with(|c: char| c.is_alphanumeric()) {
            return None;
        }
        let rest = rest.trim_start();
        let (extras, rest) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((extras, rest)) => (extras, rest),
            None => ("", rest),
        };
        // A URL may hold a semicolon: markers follow one with a space before it there.
        let marker =
            if rest.trim_start().starts_with('@') { rest.split_once(" ;") } else { rest.split_once(';') };
        Some(Wish {
            name: normalise(name),
            extras: extras.split(',').map(normalise).filter(|extra| !extra.is_empty()).collect(),
            only_with: marker.map(|(_, marker)| extras_of(marker)).unwrap_or_default(),
        })
    }
}

/// Returns the extras that a marker compares with: `extra == "argon2"`.
fn extras_of(marker: &str) -> BTreeSet<String> {
    let parts = marker.split("extra").skip(1);
    let values = parts.filter_map(|part| {
        let part = part.trim_start().strip_prefix("==")?.trim_start();
        let quote = part.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        part[1..].split(quote).next().map(normalise)
    });
    values.collect()
}

/// Returns what the files ask for by name, those that they include too; constraints ask for nothing. `is_local` tells of a
/// line whether it names a package of the checkout.
pub(super) fn wishes_in(files: &[PathBuf], is_local: &dyn Fn(&str) -> bool) -> Option<Vec<Wish>> {
    let mut wishes = Vec::new();
    let mut waiting: Vec<PathBuf> = files.to_vec();
    let mut seen: Vec<PathBuf> = Vec::new();
    while let Some(file) = waiting.pop() {
        if seen.contains(&file) {
            continue;
        }
        let text = fs::read(&file).ok()?;
        let directory = file.parent().unwrap_or(Path::new("."));
        for (_, line) in logical_lines(&String::from_utf8_lossy(&text)) {
            if value(&line, "-c", "--constraint").is_some() {
                continue;
            }
            if let Some(name) = value(&line, "-r", "--requirement") {
                if name.contains("://") && !name.starts_with("file:") {
                    return None;
                }
                waiting.push(names::normal(&directory.join(name.strip_prefix("file://").unwrap_or(name))));
                continue;
            }
            let target = value(&line, "-e", "--editable");
            if target.is_none() && line.starts_with('-') || is_local(&line) {
                continue;
            }
            wishes.push(wish_of(target.unwrap_or(&line))?);
        }
        seen.push(file);
    }
    Some(wishes)
}

/// Returns what one requirement asks for: by its name, by the `egg` of an address, or by the name of a wheel.
pub(super) fn wish_of(line: &str) -> Option<Wish> {
    let target = line.split_whitespace().next().unwrap_or_default();
    let is_named = line.split_once('@').is_some_and(|(name, _)| is_name(name));
    if is_named || !(target.contains('/') || target.starts_with("file:")) {
        return Wish::read(line);
    }
    if let Some((_, fragment)) = target.split_once('#') {
        return fragment.split('&').find_map(|part| Wish::read(part.strip_prefix("egg=")?));
    }
    let file = target.rsplit('/').next()?;
    // Source: <https://packaging.python.org/en/latest/specifications/binary-distribution-format/>
    file.ends_with(".whl").then(|| Wish::read(file.split('-').next()?)).flatten()
}

/// What packages depend on, by normalised names.
pub(crate) type Needs = BTreeMap<String, Vec<Wish>>;

/// Reads what the packages of a virtualenv depend on.
///
/// Source: <https://packaging.python.org/en/latest/specifications/core-metadata/>
pub(crate) fn needs_of(staged: &Path) -> Needs {
    let mut needs = Needs::new();
    for (_, directory) in site_packages(staged) {
        for name in names_in(&directory) {
            let file = match name.rsplit_once('.') {
                Some((_, "dist-info")) => directory.join(&name).join("METADATA"),
                // An older form, whose sections are extras: all of them count.
                Some((_, "egg-info")) => directory.join(&name).join("requires.txt"),
                _ => continue,
            };
            let Some((package, _)) = name.split_once('-') else { continue };
            let text = fs::read(file).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let wishes: Vec<Wish> = if name.ends_with(".egg-info") {
                text.lines().filter_map(Wish::read).collect()
            } else {
                let header = text.lines().take_while(|line| !line.is_empty());
                header.filter_map(|line| Wish::read(line.strip_prefix("Requires-Dist:")?)).collect()
            };
            needs.entry(normalise(package)).or_default().extend(wishes);
        }
    }
    needs
}

/// Returns those of `packages` that `roots` ask for, with all that they depend on.
pub(crate) fn asked(packages: &Packages, roots: &[Wish], needs: &Needs) -> BTreeSet<String> {
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut waiting: Vec<&Wish> = roots.iter().collect();
    while let Some(wish) = waiting.pop() {
        let is_new = !found.contains_key(wish.name.as_str());
        let known = found.entry(&wish.name).or_default();
        let before = known.len();
        known.extend(wish.extras.iter().map(String::as_str));
        if !is_new && known.len() == before {
            continue;
        }
        let (known, wishes) = (known.clone(), needs.get(&wish.name).map(Vec::as_slice).unwrap_or_default());
        let wanted = |wish: &&Wish| {
            wish.only_with.is_empty() || wish.only_with.iter().any(|extra| known.contains(extra.as_str()))
        };
        waiting.extend(wishes.iter().filter(wanted));
    }
    found.into_keys().filter(|name| packages.get(name).is_some()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::{Package, Requirements};

    fn wish(text: &str) -> Wish {
        Wish::read(text).unwrap()
    }

    #[test]
    fn requirements_are_read_with_their_extras() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        for (text, name, extras, only_with) in [
            ("Django>=4.2,<5 ; python_version >= '3.9'", "django", &[][..], &[][..]),
            ("  zope.interface (>=5)", "zope-interface", &[], &[]),
            ("celery[Redis, tb_lib] ==5", "celery", &["redis", "tb-lib"], &[]),
            ("x @ https://host/x.whl;a=1 ; extra == 'more'", "x", &[], &["more"]),
            ("y; (extra=='a' or extra == \"B\") and os_name == 'posix'", "y", &[], &["a", "b"]),
        ] {
            let expected = Wish { name: name.into(), extras: set(extras), only_with: set(only_with) };
            assert_eq!(wish(text), expected, "{text}");
        }
        for text in ["", "[section]", "./x", "-e .", "# no"] {
            assert_eq!(Wish::read(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_asked_for_has_a_name_or_nothing_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let names = |text: &str| {
            let file = directory.path().join("r.txt");
            fs::write(&file, text).unwrap();
            fs::write(directory.path().join("base.txt"), "-r r.txt\nsix\n").unwrap();
            fs::write(directory.path().join("pins.txt"), "pinned==1\n").unwrap();
            let wishes = Requirements::read(&[file], directory.path(), &[]).unwrap().wishes?;
            Some(wishes.into_iter().map(|wish| wish.name).collect::<Vec<_>>().join(" "))
        };
        let text = "-c pins.txt\n--pre\nDjango[argon2]>=5 --hash=sha256:1\nx @ https://host/a-b.zip\n\
                    -e git+https://host/y.git@main#egg=y&subdirectory=z\n/opt/wheels/Z_z-1-py3-none-any.whl\n-r base.txt\n";
        assert_eq!(names(text).as_deref(), Some("django x y z-z six"));
        for text in ["git+https://host/y.git\n", "https://host/y.zip\n", "-r https://host/r.txt\n"] {
            assert_eq!(names(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_asked_for_is_followed_through_extras_and_circles() {
        let names = ["a", "b", "c", "d", "e", "f"];
        let packages: Packages = names.into_iter().map(|name| Package::new(name, "1")).collect();
        let needs = Needs::from([
            ("a".into(), vec![wish("b[more]"), wish("missing"), wish("e; extra == 'never'")]),
            ("b".into(), vec![wish("c; extra == 'more'"), wish("a")]),
            ("f".into(), vec![wish("d")]),
        ]);
        let found = |roots: &[&str]| {
            let roots: Vec<Wish> = roots.iter().map(|text| wish(text)).collect();
            asked(&packages, &roots, &needs).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(found(&["A"]), ["a", "b", "c"]);
        assert_eq!(found(&["b"]), ["a", "b", "c"], "another one asks for the extra");
        assert_eq!(found(&["f", "a[never]"]), ["a", "b", "c", "d", "e", "f"]);
        assert!(found(&[]).is_empty());
    }
}
