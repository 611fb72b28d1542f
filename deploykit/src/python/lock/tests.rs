//! Locks that the tools wrote: Poetry 1.8.5 and 2.5.1, PDM 2.29.4, Pipenv 2026.10.3, uv 0.13.9, pip 26.3. The lock of
//! Poetry 1.8.5 is read only to be refused.

use std::fs;
use std::path::PathBuf;

use super::super::packages::{Package, Packages};
use super::*;

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/locks").join(path)
}

fn lock(path: &str, groups: &[&str], extras: &[&str]) -> Lock {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Lock { groups: owned(groups), extras: owned(extras), ..Lock::new(fixture(path)) }
}

fn read_as(lock: &Lock, python: &str) -> Result<LockedSet, LockFileError> {
    lock.read_for(Markers::linux(python), None)
}

/// Returns the packages as `name version`, or `name version (origin)`.
fn names(path: &str, groups: &[&str], extras: &[&str], python: &str) -> String {
    let set = read_as(&lock(path, groups, extras), python).unwrap();
    let packages = set.packages();
    let lines = packages.iter().map(|(name, package)| match &package.origin {
        None => format!("{name} {}", package.version),
        Some(origin) => format!("{name} {} ({origin})", package.version),
    });
    lines.collect::<Vec<_>>().join(", ")
}

const COMMIT: &str = "993206b03688fe0d1020f5f82294b89f74f119b7";

#[test]
fn groups_extras_and_markers_select_packages() {
    for (path, groups, extras, python, expected) in [
        ("poetry-groups/poetry.lock", &[][..], &[][..], "3.11.7", "asgiref 3.12.1, click 8.1.8"),
        (
            "poetry-groups/poetry.lock",
            &["prod"],
            &["redis"],
            "3.11.2",
            "asgiref 3.12.1, async-timeout 5.0.1, click 8.1.8, gunicorn 23.0.0, packaging 26.4, pyjwt 2.15.1, redis 5.3.1",
        ),
        (
            "poetry-groups/poetry.lock",
            &[],
            &[],
            "3.10.1",
            "asgiref 3.12.1, async-timeout 5.0.1, click 8.1.8, typing-extensions 4.16.0",
        ),
        ("pdm-groups/pdm.lock", &[], &[], "3.11.7", "asgiref 3.12.1, click 8.1.8"),
        (
            "pdm-groups/pdm.lock",
            &["prod"],
            &["Redis"],
            "3.11.7",
            "asgiref 3.12.1, click 8.1.8, gunicorn 23.0.0, packaging 26.4, pyjwt 2.15.1, redis 5.3.1",
        ),
        (
            "pdm-groups/pdm.lock",
            &["dev"],
            &[],
            "3.11.7",
            "asgiref 3.12.1, click 8.1.8, iniconfig 2.3.1, packaging 26.4, pluggy 1.7.0, pygments 2.21.0, pytest 8.4.2",
        ),
        ("pipenv-categories/Pipfile.lock", &[], &[], "3.11.7", "asgiref 3.13.0, click 8.1.8"),
        (
            "pipenv-categories/Pipfile.lock",
            &["prod"],
            &[],
            "3.11.7",
            "asgiref 3.13.0, click 8.1.8, gunicorn 23.0.0, packaging 26.4",
        ),
    ] {
        assert_eq!(names(path, groups, extras, python), expected, "{path} {groups:?} {extras:?}");
    }
}

#[test]
fn sources_are_told_apart() {
    let six = "https://files.pythonhosted.org/packages/b7/ce/149a00dd41f10bc29e5921b496af8b574d8413afcd5e30dfa0ed46c2cc5e/six-1.17.0-py2.py3-none-any.whl";
    let git = format!("git+https://git.example/team/lib.git@{COMMIT}");
    for (path, expected) in [
        ("poetry-sources/poetry.lock", format!("asgiref 3.12.1, locklib 1.2 ({git}), six 1.17.0 ({six})")),
        ("pylock-of-uv/pylock.toml", format!("asgiref 3.13.0, locklib 1.2 ({git}), six 1.17.0 ({six})")),
        ("pylock-of-pip/pylock.prod.toml", format!("asgiref 3.12.1, locklib  ({git}), six  ({six})")),
    ] {
        assert_eq!(names(path, &[], &[], "3.11.7"), expected, "{path}");
    }
    let pdm = names("pdm-sources/pdm.lock", &[], &[], "3.11.7");
    assert!(
        pdm.contains(&format!("locklib 1.2 ({git})")) && pdm.contains(&format!("six 1.17.0 ({six})")),
        "{pdm}"
    );
    assert!(pdm.contains("asgiref 3.12.1, ") && pdm.contains("pytest-asyncio"), "with its extra: {pdm}");
    let pipenv = names("pipenv-git/Pipfile.lock", &[], &[], "3.11.7");
    assert_eq!(pipenv, format!("locklib  ({git}), pyjwt 2.15.1, redis 5.3.1, six 1.17.0"));
}

#[test]
fn what_has_hashes_is_apart_from_what_has_a_commit() {
    let set = read_as(&lock("poetry-sources/poetry.lock", &[], &[]), "3.11.7").unwrap();
    let [hashed, pinned] = set.requirements(&Packages::new());
    assert_eq!(pinned, format!("locklib @ git+https://git.example/team/lib.git@{COMMIT}\n"));
    let lines: Vec<&str> = hashed.lines().collect();
    assert_eq!(
        lines[0],
        "asgiref==3.12.1 --hash=sha256:fe386d1c2bff7259ea95929266d12a8cf9a8b5a1c2598402967d8792e7a7c094 --hash=sha256:59dcb51c272ad209d59bed5708a64a333083e86017d7fcdd67498eeab7784340"
    );
    assert!(
        lines[1].starts_with("six @ https://")
            && lines[1]
                .ends_with(" --hash=sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274"),
        "{}",
        lines[1]
    );
    assert!(set.options(true).is_empty(), "what comes from PyPI needs no word");
    // What was taken along is not installed again, but for another version and what comes from a URL.
    let there: Packages = [("asgiref", "3.12.1"), ("six", "1.17.0")]
        .into_iter()
        .map(|(name, version)| Package::new(name, version))
        .collect();
    let [rest, _] = set.requirements(&there);
    assert!(rest.starts_with("six @ ") && rest.lines().count() == 1, "{rest}");
    let other: Packages = [Package::new("asgiref", "3.12.0")].into_iter().collect();
    assert_eq!(set.requirements(&other)[0], hashed);
}

/// Copies a fixture, changes its files, and reads it.
fn changed(path: &str, changes: &[(&str, &str, &str)], groups: &[&str]) -> Result<LockedSet, LockFileError> {
    let directory = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(path).parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let mut text = fs::read_to_string(entry.path()).unwrap();
        for (file, from, to) in changes {
            if *file == name {
                assert!(text.contains(from), "{from} in {name}");
                text = text.replace(from, to);
            }
        }
        fs::write(directory.path().join(name), text).unwrap();
    }
    let file = directory.path().join(Path::new(path).file_name().unwrap());
    read_as(
        &Lock { groups: groups.iter().map(|name| (*name).to_owned()).collect(), ..Lock::new(file) },
        "3.11.7",
    )
}

#[test]
fn a_stale_lock_is_refused() {
    for (path, manifest, from, to, update) in [
        ("poetry-groups/poetry.lock", "pyproject.toml", "click (<8.2)", "click (<8.3)", "poetry lock"),
        ("poetry-groups/poetry.lock", "pyproject.toml", "gunicorn<24", "gunicorn<25", "poetry lock"),
        (
            "poetry-sources/poetry.lock",
            "pyproject.toml",
            "asgiref = \"^3.7\"",
            "asgiref = \"^3.8\"",
            "poetry lock",
        ),
        ("pdm-groups/pdm.lock", "pyproject.toml", "click<8.2", "click<8.3", "pdm lock"),
        ("pdm-sources/pdm.lock", "pyproject.toml", "iniconfig", "six", "pdm lock"),
        (
            "pipenv-categories/Pipfile.lock",
            "Pipfile",
            "gunicorn = \"<24\"",
            "gunicorn = \"<25\"",
            "pipenv lock",
        ),
        ("pipenv-git/Pipfile.lock", "Pipfile", "==4.16.0", "==4.16.1", "pipenv lock"),
    ] {
        let error = changed(path, &[(manifest, from, to)], &[]).unwrap_err();
        let LockFileError::Stale { update: found, .. } = &error else { panic!("{path}: {error:?}") };
        assert_eq!(*found, update);
        // What the tools do not count is no reason to lock again.
        let other = if manifest == "Pipfile" {
            ("Pipfile", "[packages]", "[scripts]\na = \"b\"\n[packages]")
        } else {
            ("pyproject.toml", "name = \"site\"", "name = \"other\"")
        };
        changed(path, &[other], &[]).unwrap();
    }
}

#[test]
fn an_entry_that_does_not_say_exactly_what_to_install_is_refused() {
    let poetry = "poetry-sources/poetry.lock";
    for (path, changes, expected) in [
        (poetry, ("poetry.lock", "version = \"3.12.1\"\n", ""), "`asgiref` in `poetry.lock` has no version"),
        (
            poetry,
            ("poetry.lock", "hash = \"sha256:4721", "not = \"sha256:4721"),
            "`six` in `poetry.lock` has no hash",
        ),
        (poetry, ("poetry.lock", COMMIT, "main"), "`locklib` in `poetry.lock` has no commit"),
        (
            poetry,
            ("poetry.lock", "\"2.1\"", "\"3.0\""),
            "`poetry.lock` has lock-version `3.0`, expected `2.1`, which Poetry 2 writes",
        ),
        (
            "poetry-1/poetry.lock",
            ("poetry.lock", "", ""),
            "`poetry.lock` has lock-version `2.0`, expected `2.1`, which Poetry 2 writes",
        ),
        // Poetry 1.0 to 1.2.
        (
            "poetry-1/poetry.lock",
            ("poetry.lock", "lock-version = \"2.0\"", "lock-version = \"1.1\""),
            "`poetry.lock` has lock-version `1.1`, expected `2.1`, which Poetry 2 writes",
        ),
        (
            "pdm-groups/pdm.lock",
            ("pdm.lock", "\"inherit_metadata\"", ""),
            "`pdm.lock` has no strategy `inherit_metadata`, expected PDM's default strategies",
        ),
        (
            "pdm-sources/pdm.lock",
            ("pdm.lock", "revision = ", "former = "),
            "`locklib` in `pdm.lock` has no commit",
        ),
        (
            "pipenv-git/Pipfile.lock",
            ("Pipfile.lock", "\"==1.17.0\"", "\"*\""),
            "`six` in `Pipfile.lock` has no version",
        ),
        (
            "pylock-of-uv/pylock.toml",
            ("pylock.toml", "requires-python = \">=3.10\"", "requires-python = \">=3.12\""),
            "`pylock.toml` requires Python >=3.12, and the virtualenv has Python 3.11.7",
        ),
        (
            "pylock-of-uv/pylock.toml",
            ("pylock.toml", "created-by", "environments = [\"sys_platform == 'win32'\"]\ncreated-by"),
            "`pylock.toml` does not support this platform, only `sys_platform == 'win32'`",
        ),
        (
            "pylock-of-uv/pylock.toml",
            ("pylock.toml", "python_full_version < '3.11'", "python_full_version < '3.14'"),
            "`pylock.toml` has `asgiref` twice: 3.12.1 and 3.13.0",
        ),
        (
            "pylock-of-uv/pylock.toml",
            ("pylock.toml", "python_full_version < '3.11'", "moon == 'full'"),
            "cannot read `pylock.toml`: marker `moon == 'full'` of `asgiref`: unknown variable `moon`",
        ),
        (
            "pylock-of-pip/pylock.prod.toml",
            ("pylock.prod.toml", "\"3.12.1\"", "\"3.12.1\\n--index-url https://evil.example\""),
            "cannot read `pylock.prod.toml`: `3.12.1\\n--index-url https://evil.example` is not a version of `asgiref`",
        ),
    ] {
        let error = changed(path, &[changes], &[]).unwrap_err();
        let shown = error.to_string();
        let directory = regex_lite::Regex::new("`/[^`]*/([^`/]+)`").unwrap();
        assert_eq!(directory.replace_all(&shown, "`$1`"), expected);
    }
}

#[test]
fn directories_are_packages_of_the_checkout() {
    let git = "type = \"git\"\nurl = \"https://git.example/team/lib.git\"";
    let directory = tempfile::tempdir().unwrap();
    let top = fs::canonicalize(directory.path()).unwrap();
    fs::create_dir_all(top.join("libs/x")).unwrap();
    fs::write(top.join("libs/x/setup.py"), "").unwrap();
    let checks = |path: &str, changes: &[(&str, &str, &str)], editable: bool| {
        let name = Path::new(path).file_name().unwrap();
        for file in fs::read_dir(fixture(path).parent().unwrap()).unwrap().map(|entry| entry.unwrap().path())
        {
            let mut text = fs::read_to_string(&file).unwrap();
            for (_, from, to) in changes.iter().filter(|(changed, ..)| file.ends_with(changed)) {
                assert!(text.contains(from), "{from} in {path}");
                text = text.replace(from, to);
            }
            fs::write(top.join(file.file_name().unwrap()), text).unwrap();
        }
        let lock = Lock::new(top.join(name));
        let set = read_as(&lock, "3.11.7").unwrap();
        assert!(set.packages().get("locklib").is_none(), "{path}");
        assert!(!set.requirements(&Packages::new()).concat().contains("locklib"), "{path}");
        let sources = set.sources(&top, &lock.file).unwrap();
        assert_eq!(
            sources,
            [sources::Source::at(Path::new("libs/x"), editable, Vec::new()).unwrap()],
            "{path}"
        );
        let error = set.sources(&top.join("elsewhere"), &lock.file).unwrap_err().to_string();
        assert!(error.ends_with("/libs/x`, which is not a package of the checkout"), "{error}");
    };
    let directory_of = |editable: &str| format!("type = \"directory\"\nurl = \"libs/x\"{editable}");
    let [copied, editable] = [directory_of(""), directory_of("\n# develop")];
    let develop = ("poetry.lock", "develop = false", "develop = true");
    checks("poetry-sources/poetry.lock", &[("poetry.lock", git, &copied)], false);
    checks("poetry-sources/poetry.lock", &[("poetry.lock", git, &editable), develop], true);
    let vcs = "vcs = { type = \"git\"";
    checks("pylock-of-uv/pylock.toml", &[("pylock.toml", vcs, "directory = { path = \"libs/x\"")], false);
    let path = "directory = { editable = true, path = \"libs/x\"";
    checks("pylock-of-uv/pylock.toml", &[("pylock.toml", vcs, path)], true);
}

#[test]
fn a_group_or_extra_that_the_lock_lacks_is_named_with_those_that_it_has() {
    let error =
        |path: &str, groups: &[&str], extras: &[&str]| match read_as(&lock(path, groups, extras), "3.11.7")
            .unwrap_err()
        {
            LockFileError::UnknownSelection { kind, name, known, .. } => {
                format!("{kind} {name}: {}", known.join(" "))
            }
            other => panic!("{other:?}"),
        };
    assert_eq!(error("poetry-groups/poetry.lock", &["production"], &[]), "group production: dev main prod");
    assert_eq!(error("poetry-groups/poetry.lock", &[], &["cache"]), "extra cache: redis");
    assert_eq!(error("pdm-groups/pdm.lock", &["redis"], &[]), "group redis: dev prod");
    assert_eq!(error("pdm-groups/pdm.lock", &[], &["prod"]), "extra prod: redis");
    assert_eq!(error("pipenv-categories/Pipfile.lock", &["dev"], &[]), "group dev: develop prod");
    assert_eq!(error("pipenv-categories/Pipfile.lock", &[], &["x"]), "extra x: ");
    assert_eq!(error("pylock-of-pip/pylock.prod.toml", &["x"], &[]), "group x: ");
}

#[test]
fn indexes_of_the_lock_are_named_unless_they_are_the_usual_one() {
    let private = |to: &str| {
        changed("pylock-of-uv/pylock.toml", &[("pylock.toml", "https://pypi.org/simple", to)], &[]).unwrap()
    };
    let set = private("https://pypi.example/simple/");
    assert_eq!(set.options(true), ["--index-url https://pypi.example/simple"]);
    assert_eq!(set.options(false), ["--extra-index-url https://pypi.example/simple"]);
    assert!(!format!("{:?}", private("https://me:secret@pypi.example/")).contains("secret"));
    let sources =
        ("Pipfile.lock", "https://pypi.org/simple", "https://${USER}:${PASSWORD}@pypi.example/simple");
    let manifest = ("Pipfile", sources.1, sources.2);
    let error = changed("pipenv-git/Pipfile.lock", &[sources, manifest], &[]).unwrap_err();
    assert!(matches!(error, LockFileError::Stale { .. }), "the address counts: {error:?}");
}

#[test]
fn a_wheel_beside_the_lock_is_found_there() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("wheels")).unwrap();
    fs::write(directory.path().join("wheels/x-1-py3-none-any.whl"), "wheel").unwrap();
    let text = "lock-version = \"1.0\"\n[[packages]]\nname = \"x\"\nversion = \"1\"\narchive = { path = \"wheels/x-1-py3-none-any.whl\" }\n[[packages]]\nname = \"site\"\ndirectory = { path = \".\", editable = true }\n";
    fs::write(directory.path().join("pylock.toml"), text).unwrap();
    let set = read_as(&Lock::new(directory.path().join("pylock.toml")), "3.11.7").unwrap();
    assert_eq!(
        set.requirements(&Packages::new())[0],
        format!("x==1 --hash=sha256:{}\n", digest::sha256(b"wheel"))
    );
    assert_eq!(set.options(true), [format!("--find-links {}/wheels", directory.path().display())]);
    assert_eq!(set.packages().len(), 1, "the project itself is not installed");

    // In a requirements file, a new line is another option, and a blank ends the path.
    fs::rename(directory.path().join("wheels"), directory.path().join("two words")).unwrap();
    fs::write(directory.path().join("pylock.toml"), text.replace("wheels/", "two words/")).unwrap();
    let error = read_as(&Lock::new(directory.path().join("pylock.toml")), "3.11.7").unwrap_err();
    assert!(error.to_string().ends_with("the URL or the path of `x` contains whitespace"), "{error}");
}

#[test]
fn names_of_lock_files_are_known() {
    for name in ["uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock.toml", "pylock.prod.toml"] {
        Lock::new(format!("/srv/site/{name}")).check_name().unwrap();
    }
    for name in ["requirements.lock", "pylock..toml", "pylock.a.b.toml", "Cargo.lock", "xuv.lock"] {
        let error = Lock::new(format!("/srv/site/{name}")).check_name().unwrap_err();
        assert!(matches!(error, LockFileError::UnknownName { .. }), "{name}");
    }
}

#[test]
fn addresses_of_repositories_are_those_of_installers() {
    for (url, expected) in [
        ("git@host.example:team/lib.git", "ssh://git@host.example/team/lib.git"),
        ("git+ssh://git@host.example/lib.git", "ssh://git@host.example/lib.git"),
        ("https://host.example:8443/lib.git", "https://host.example:8443/lib.git"),
    ] {
        assert_eq!(git_url(url), expected);
    }
}

#[test]
fn the_fingerprint_is_of_contents_and_selection() {
    let one = lock("pdm-groups/pdm.lock", &[], &[]);
    let fingerprint = |lock: &Lock| lock.fingerprint(&[]).unwrap();
    assert_eq!(fingerprint(&one), fingerprint(&one.clone()));
    assert_ne!(fingerprint(&one), fingerprint(&lock("pdm-groups/pdm.lock", &["prod"], &[])));
    assert_ne!(fingerprint(&one), fingerprint(&lock("pdm-groups/pdm.lock", &[], &["prod"])));
    assert_ne!(fingerprint(&one), fingerprint(&lock("pdm-sources/pdm.lock", &[], &[])));
    assert_ne!(fingerprint(&one), one.fingerprint(&["--pre".to_owned()]).unwrap());
    let missing = Lock { project: "/nowhere".into(), ..one };
    let error = missing.fingerprint(&[]).unwrap_err();
    assert!(
        matches!(&error, LockFileError::Missing { file, .. } if file.ends_with("pyproject.toml")),
        "{error:?}"
    );
}
