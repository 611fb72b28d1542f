//! Sites whose packages are locked: an update, nothing new, a stale lock, a wrong hash, a rollback.

use std::process::Command;

use deploykit::error_chain;
use deploykit::internal::python::Virtualenv;

use super::*;
use crate::support::program;
use crate::support::python::{Index, tree_hash};
use crate::support::releases::*;
use crate::support::site::TestSite;
use crate::support::site::demo_site::run;

/// Writes a `Pipfile` and its lock; the hash of the `Pipfile` is Python's own JSON, as it is for Pipenv.
const PIPENV: &str = r#"
import glob, hashlib, json, re, sys
tree, directories, default, prod = sys.argv[1], *map(str.split, sys.argv[2:5])
source = {"name": "pypi", "url": "https://pypi.org/simple", "verify_ssl": True}
text = '[[source]]\nname = "pypi"\nurl = "https://pypi.org/simple"\nverify_ssl = true\n'
content = {"_meta": {"sources": [source], "requires": {}}, "default": {}, "develop": {}, "prod": {}}
lock = {"default": {}, "develop": {}, "prod": {}}
for section, category, pins in [("packages", "default", default), ("prod", "prod", prod)]:
    text += f"\n[{section}]\n"
    for pin in pins:
        name, version = pin.split("==")
        safe = re.sub("[-_.]+", "[-_.]", name)
        files = [f for d in directories for f in glob.glob(f"{d}/*.whl")]
        files = [f for f in files if re.match(f"{safe}-{re.escape(version)}-", f.rsplit("/", 1)[1], re.I)]
        hashes = ["sha256:" + hashlib.sha256(open(f, "rb").read()).hexdigest() for f in files]
        text += f'"{name}" = "=={version}"\n'
        content[category][name] = f"=={version}"
        lock[category][name] = {"hashes": hashes, "index": "pypi", "version": f"=={version}"}
digest = hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
lock["_meta"] = {"hash": {"sha256": digest}, "pipfile-spec": 6, "requires": {}, "sources": [source]}
open(f"{tree}/Pipfile", "w").write(text)
open(f"{tree}/Pipfile.lock", "w").write(json.dumps(lock, indent=4))
"#;

/// Writes a lock for the site's packages and those of the group `prod` into a tree.
type WriteLock<'w> = dyn Fn(&Path, &[String], &[String]) + 'w;

#[test]
fn a_site_locked_by_pipenv() {
    for installer in ["pip", "uv"] {
        let Some(site) = TestSite::builder().start() else { return };
        configure(&site, "extra-args = [", &format!("installer = \"{installer}\"\nextra-args = ["));
        let write = |tree: &Path, default: &[String], prod: &[String]| {
            let wheels = site.options.wheels.as_ref().unwrap();
            let directories = format!("{} {}", wheels.display(), site.extra_wheels.display());
            let mut command = site.command(&site.options.python);
            command.args(["-c", PIPENV]).arg(tree).args([directories, default.join(" "), prod.join(" ")]);
            run(&mut command).unwrap_or_else(|error| panic!("{error}"));
        };
        course(&site, "Pipfile", "Pipfile.lock", &write);
    }
}

#[test]
fn a_site_locked_by_uv() {
    let Some(site) = TestSite::builder().start() else { return };
    let Some(uv) = program("uv") else { return };
    let index = Index::serve(vec![site.options.wheels.clone().unwrap(), site.extra_wheels.clone()]);
    configure(&site, "env = {", &format!("env = {{ UV_DEFAULT_INDEX = \"{}\",", index.url));
    let python = Virtualenv::read(&site.virtualenv).unwrap().python;
    let lock = |tree: &Path| {
        let mut command: Command = site.command(&uv);
        ["UV_NO_INDEX", "UV_FIND_LINKS"].into_iter().for_each(|name| {
            command.env_remove(name);
        });
        // An index that had no such package may have it now.
        command.args(["lock", "-q", "--refresh", "--python"]).arg(site.virtualenv.join("bin/python"));
        run(command.env("UV_DEFAULT_INDEX", &index.url).current_dir(tree))
            .unwrap_or_else(|error| panic!("{error}"));
    };
    let write = |tree: &Path, default: &[String], prod: &[String]| {
        // Django names packages for Windows that no test has.
        let text = format!(
            "[project]\nname = \"demo\"\nversion = \"1\"\nrequires-python = \">={python}\"\ndependencies = {default:?}\n\n\
             [dependency-groups]\ndev = [\"demo-never\"]\nprod = {prod:?}\n\n\
             [tool.uv]\nenvironments = [\"sys_platform == 'linux'\"]\n"
        );
        write(tree, "pyproject.toml", &text);
        lock(tree);
    };
    make_wheel(&site, "demo-never", "1.0", &[], "");
    course(&site, "pyproject.toml", "uv.lock", &write);

    // The project becomes a package itself.
    configure(&site, "groups = [", "install-project = true\ngroups = [");
    let publish = |version: &str| {
        let packaged = |tree: &Path| {
            let text = fs::read_to_string(tree.join("pyproject.toml")).unwrap();
            let (text, _) = text.split_once("\n[build-system]").unwrap_or((&text, ""));
            let more = "\n[build-system]\nrequires = [\"setuptools\"]\nbuild-backend = \"setuptools.build_meta\"\n\n\
                        [project.scripts]\ndemo-where = \"demo_where:main\"\n\n\
                        [tool.setuptools]\npackages = [\"demo_where\"]\npackage-dir = { demo_where = \"src/where\" }\n";
            crate::support::releases::write(tree, "pyproject.toml", &format!("{text}{more}"));
            let module = format!("def main():\n    print({version:?}, __file__)\n");
            crate::support::releases::write(tree, "src/where/__init__.py", &module);
            lock(tree);
        };
        site.publish_as(version, packaged).unwrap();
    };
    let place = fs::canonicalize(&site.checkout).unwrap().join("src/where/__init__.py");
    let where_is = || run(&mut Command::new(site.virtualenv.join("bin/demo-where"))).unwrap();
    for version in ["one", "two"] {
        publish(version);
        let (_, told) = updated(&site);
        assert!(told.outcome("staged-virtualenv").unwrap().contains("demo"));
        assert_eq!(where_is().trim(), format!("{version} {}", place.display()));
        let live = fs::canonicalize(&site.virtualenv).unwrap();
        let named = Command::new("grep").args(["-rlF", ".deploykit-next"]).arg(live).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&named.stdout), "");
        assert_eq!(run_update(&site).unwrap().outcome, Outcome::Unchanged);
    }
    roll_back(&site);
    assert_eq!(where_is().trim(), format!("one {}", place.display()));

    // A Python of another tool is left alone where nothing is to be installed.
    configure(&site, "lock = \"uv.lock\"\ninstall-project = true\ngroups = [\"prod\"]\n", "");
    fs::create_dir(fs::canonicalize(&site.virtualenv).unwrap().join("conda-meta")).unwrap();
    publish("three");
    updated(&site);
    assert_eq!(where_is().trim(), format!("three {}", place.display()));
    roll_back(&site);
    assert_eq!(where_is().trim(), format!("one {}", place.display()));
    assert_tidy(&site);
}

fn roll_back(site: &DemoSite) {
    let loaded = load(site);
    let mut watch = |_: &Record| ();
    let rollback = update::rollback(&loaded, None, &Request::default(), None, &mut watch).unwrap();
    assert_eq!(rollback.run().unwrap().outcome, Outcome::Updated);
}

fn course(site: &DemoSite, manifest: &str, lock: &str, write: &WriteLock<'_>) {
    let live = || Virtualenv::read(&site.virtualenv).unwrap().packages;
    let base: Vec<String> = live()
        .iter()
        .filter(|(name, _)| !["pip", "setuptools", "wheel"].contains(name))
        .map(|(name, package)| format!("{name}=={}", package.version))
        .collect();
    let has_extra = || live().get("demo-extra").map(|package| package.version.clone());
    let publish =
        |message: &str, change: &dyn Fn(&Path)| site.publish_as(message, |tree| change(tree)).unwrap();

    // The lock has what is installed: the code is new, and the packages stay.
    publish("Lock the packages", &|tree| write(tree, &base, &[]));
    configure(
        site,
        "requirements = [\"requirements/production.txt\"]",
        &format!("lock = {lock:?}\ngroups = [\"prod\"]"),
    );
    let (_, told) = updated(site);
    let kept = format!("the installed packages are the {} of `{lock}`", base.len());
    assert_eq!(told.outcome("staged-virtualenv"), Some(kept));
    assert_eq!(run_update(site).unwrap().outcome, Outcome::Unchanged);

    // A changed lock, with a package of a group.
    make_wheel(site, "demo-extra", "1.0", &[], "");
    let extra = ["demo-extra==1.0".to_owned()];
    publish("Lock one more", &|tree| write(tree, &base, &extra));
    let (_, told) = updated(site);
    assert_eq!(told.outcome("staged-virtualenv").as_deref(), Some("+ demo-extra 1.0"));
    assert_eq!(has_extra().as_deref(), Some("1.0"));
    assert_eq!(run_update(site).unwrap().outcome, Outcome::Unchanged);

    let (before, processes) = (tree_hash(&fs::canonicalize(&site.virtualenv).unwrap()), site.processes());
    let refused = |expected: &[&str]| {
        let error = run_update(site).unwrap_err();
        let text = error_chain(&error);
        assert!(expected.iter().all(|part| text.to_lowercase().contains(part)), "{text}");
        assert_eq!(tree_hash(&fs::canonicalize(&site.virtualenv).unwrap()), before);
        assert_eq!(site.processes(), processes, "the site never noticed");
        assert_tidy(site);
    };
    make_wheel(site, "demo-extra", "2.0", &[], "");
    let next = ["demo-extra==2.0".to_owned()];
    publish("Change what is locked, and do not lock it", &|tree| {
        edit(tree, manifest, "demo-extra", "demo-other")
    });
    refused(&[&format!("{}` is out of date", lock.to_lowercase())]);
    publish("Lock a wrong hash", &|tree| {
        write(tree, &base, &next);
        let text = fs::read_to_string(tree.join(lock)).unwrap();
        let wheel = site.extra_wheels.join("demo_extra-2.0-py3-none-any.whl");
        let hash = run(Command::new("sha256sum").arg(wheel)).unwrap();
        let hash = hash.split(' ').next().unwrap();
        assert!(text.contains(hash), "{text}");
        fs::write(tree.join(lock), text.replace(hash, &"0".repeat(64))).unwrap();
    });
    refused(&["installing the locked packages failed"]);

    // Back to the packages of the first lock, and over again.
    roll_back(site);
    assert_eq!(has_extra(), None);
    publish("Lock the right hash", &|tree| write(tree, &base, &next));
    updated(site);
    assert_eq!(has_extra().as_deref(), Some("2.0"));
    assert_tidy(site);
}
