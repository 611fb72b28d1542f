use std::collections::BTreeMap;

use super::*;
use crate::action::Action;
use crate::operations::Change;
use crate::python::{Interpreter, LocalRequirement, Package, PackageChange};

fn packages(pins: &[(&str, &str)]) -> Packages {
    pins.iter().map(|(name, version)| Package::new(*name, *version)).collect()
}

fn operation() -> PipInstall {
    PipInstall::new("/srv/venv", vec!["/srv/site/r.txt".into()], "/srv/site", "/srv/environments")
}

fn facts(installed: &[(&str, &str)]) -> VirtualenvFacts {
    VirtualenvFacts {
        virtualenv: Virtualenv {
            path: "/srv/venv".into(),
            python: "3.11".into(),
            base: Some("/usr/bin/python3.11".into()),
            prompt: "venv".into(),
            packages: packages(installed),
            ..Virtualenv::default()
        },
        requirements: Requirements { fingerprint: "f".into(), ..Requirements::default() },
        ..VirtualenvFacts::default()
    }
}

fn recorded(pins: &[(&str, &str)]) -> Option<Record> {
    Some(Record {
        fingerprint: "f".into(),
        python: "3.11".into(),
        packages: packages(pins),
        ..Record::default()
    })
}

fn python() -> Python {
    let (name, version) = ("3.11".to_owned(), "3.11.7".to_owned());
    Python {
        found: Interpreter { program: "/usr/bin/python3.11".into(), name, version },
        ..Python::default()
    }
}

fn resolved(pins: &[(&str, &str)]) -> Answer {
    let resolved = Resolved { packages: packages(pins), ..Resolved::default() };
    Answer { resolved, ..Answer::default() }
}

#[test]
fn while_the_record_holds_nobody_is_asked() {
    let mut operation = operation();
    let facts = facts(&[("Django", "4.2"), ("pip", "23.0")]);
    operation.record = recorded(&[("django", "4.2")]);
    assert!(matches!(operation.decide(&facts), Ok(Decision::Unchanged(_))));

    for record in [
        None,
        recorded(&[("django", "4.1")]),
        recorded(&[("django", "4.2"), ("six", "1")]),
        recorded(&[]),
        Some(Record { fingerprint: "g".into(), ..recorded(&[("django", "4.2")]).unwrap() }),
        Some(Record { python: "3.12".into(), ..recorded(&[("django", "4.2")]).unwrap() }),
    ] {
        operation.record = record;
        assert_eq!(operation.decide(&facts).unwrap(), Decision::Resolve(Tool::Pip), "{:?}", operation.record);
    }

    operation.record = recorded(&[("django", "4.2")]);
    let mut remote = facts;
    remote.requirements.remote = true;
    assert_eq!(operation.decide(&remote).unwrap(), Decision::Resolve(Tool::Pip));
}

#[test]
fn the_installer_is_the_one_that_is_wanted_and_there() {
    let uv = Some(PathBuf::from("/usr/bin/uv"));
    let with_uv = Decision::Resolve(Tool::Uv { program: "/usr/bin/uv".into() });
    let with_pip = Decision::Resolve(Tool::Pip);
    let decide = |installer, uv: &Option<PathBuf>, installed: &[(&str, &str)]| {
        let operation = PipInstall { installer, ..operation() };
        operation.decide(&VirtualenvFacts { uv: uv.clone(), ..facts(installed) })
    };
    let pip = [("pip", "23.0")];
    assert_eq!(decide(Installer::Auto, &uv, &pip).unwrap(), with_uv);
    assert_eq!(decide(Installer::Auto, &None, &pip).unwrap(), with_pip);
    assert_eq!(decide(Installer::Pip, &uv, &pip).unwrap(), with_pip);
    assert_eq!(decide(Installer::Uv, &uv, &[]).unwrap(), with_uv);
    assert!(matches!(decide(Installer::Auto, &None, &[]), Err(PythonError::NoPip { .. })));
    assert!(matches!(decide(Installer::Pip, &uv, &[]), Err(PythonError::NoPip { .. })));
    assert!(matches!(
        decide(Installer::Uv, &None, &pip),
        Err(PythonError::InstallerMissing { program: "uv" })
    ));
}

#[test]
fn what_forbids_a_new_environment_is_named() {
    let good = facts(&[("pip", "23.0")]);
    let error = |change: &dyn Fn(&mut VirtualenvFacts)| {
        let mut facts = good.clone();
        change(&mut facts);
        operation().decide(&facts).unwrap_err().to_string()
    };
    assert_eq!(error(&|facts| facts.unwritable = Some("/srv".into())), "cannot write to `/srv`");
    assert_eq!(
        error(&|facts| facts.mount_point = true),
        "`/srv/venv` is a mount point, which no link can replace"
    );
    let gone = error(&|facts| {
        facts.virtualenv.base = None;
        facts.virtualenv.home = "/usr/bin".into();
    });
    assert_eq!(gone, "the Python 3.11 of `/srv/venv` is gone from `/usr/bin`");
    let problem = "no `pyproject.toml` or `setup.py` is there";
    let local =
        LocalRequirement { file: "/srv/site/r.txt".into(), line: 3, text: "-e ./lib".into(), problem };
    let local = error(&|facts| facts.requirements.local = Some(local.clone()));
    assert_eq!(
        local,
        "`r.txt`, line 3: `-e ./lib` names no package of the checkout: no `pyproject.toml` or `setup.py` is there"
    );
    let secret = ["--pre", "--index-url=https://me:hunter2@host/"].map(str::to_owned).to_vec();
    let error = PipInstall { extra_args: secret, ..operation() }.decide(&good).unwrap_err().to_string();
    assert_eq!(error, "argument 2 for the installer holds a user name or password");
}

#[test]
fn what_uv_would_not_find_is_left_to_pip() {
    let facts = |file: Option<&str>, installed: &[(&str, &str)]| VirtualenvFacts {
        uv: Some("/usr/bin/uv".into()),
        index_of_pip: file.map(PathBuf::from),
        ..facts(installed)
    };
    let decide = |installer, facts: &VirtualenvFacts| PipInstall { installer, ..operation() }.decide(facts);
    let private = facts(Some("/srv/venv/pip.conf"), &[("pip", "23.0")]);
    assert_eq!(decide(Installer::Auto, &private).unwrap(), Decision::Resolve(Tool::Pip));
    let error = decide(Installer::Uv, &private).unwrap_err().to_string();
    assert_eq!(error, "`/srv/venv/pip.conf` says where packages come from, and uv does not read it");
    // Whoever has uv only, or chose it, has told pip of it for something else.
    let with_uv = Decision::Resolve(Tool::Uv { program: "/usr/bin/uv".into() });
    let users = facts(Some("/home/me/.pip/pip.conf"), &[("pip", "23.0")]);
    assert_eq!(decide(Installer::Uv, &users).unwrap(), with_uv);
    assert_eq!(decide(Installer::Auto, &facts(Some("PIP_INDEX_URL"), &[])).unwrap(), with_uv);
}

#[test]
fn a_virtualenv_with_the_site_or_its_files_in_it_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let live = directory.path().join("venv");
    for made in ["code", "state", "lib/python3.11/site-packages"] {
        std::fs::create_dir_all(live.join(made)).unwrap();
    }
    std::fs::write(live.join("pyvenv.cfg"), "home = /usr/bin\n").unwrap();
    std::os::unix::fs::symlink(live.join("code"), directory.path().join("site")).unwrap();
    let elsewhere = PipInstall { virtualenv: live.clone(), ..operation() };
    let error = |operation: &PipInstall| {
        let planned = operation.compare(&facts(&[]), &Tool::Pip, &python(), resolved(&[("a", "1")]));
        planned.unwrap_err().to_string().replace(&*directory.path().to_string_lossy(), "")
    };
    for (checkout, virtualenvs, shown) in [
        (directory.path().join("site"), "/srv/environments".into(), "/site"),
        ("/srv/site".into(), live.join("state/environments"), "/venv/state/environments"),
        (live.clone(), "/srv/environments".into(), "/venv"),
    ] {
        let operation = PipInstall { checkout, virtualenvs, ..elsewhere.clone() };
        let expected =
            format!("`{shown}` lies in the virtualenv `/venv`, which is replaced when packages change");
        assert_eq!(error(&operation), expected);
    }
    let expected =
        "the virtualenv `/venv` holds files that neither Python nor a package brought: `code`, `state`";
    assert_eq!(error(&elsewhere), expected);
}

#[test]
fn what_stays_in_its_place_may_hold_the_site_and_keeps_its_python() {
    let directory = tempfile::tempdir().unwrap();
    let virtualenv = directory.path().join("venv");
    for made in ["code", "lib/python3.11/site-packages"] {
        std::fs::create_dir_all(virtualenv.join(made)).unwrap();
    }
    std::fs::write(virtualenv.join("pyvenv.cfg"), "home = /usr/bin\n").unwrap();
    let checkout = virtualenv.join("code");
    let operation = PipInstall { virtualenv: virtualenv.clone(), checkout, in_place: true, ..operation() };
    let facts = VirtualenvFacts { mount_point: true, ..facts(&[("a", "1"), ("pip", "23.0")]) };
    assert_eq!(operation.decide(&facts).unwrap(), Decision::Resolve(Tool::Pip));
    let planned = operation.compare(&facts, &Tool::Pip, &python(), resolved(&[("a", "2")])).unwrap();
    let Prepared::Upgrade(upgrade) = &planned else { panic!("{planned:?}") };
    let place = upgrade.build.place.clone().unwrap();
    assert_eq!(place.before, facts.virtualenv.packages);
    let place = place.path;
    assert_eq!(place, virtualenv.join(".deploykit-packages").join(upgrade.build.key()));
    let [there, back] = [&upgrade.goes_live.switch, &upgrade.goes_live.back];
    assert_eq!([there.staged(), back.staged()], [Some(place.clone()), Some(place.clone())]);
    assert_eq!(there.makes(), [place.parent().unwrap()]);
    assert_eq!(there.replaces(), [virtualenv.join("lib/python3.11/site-packages")]);
    let text = serde_json::to_string(there).unwrap();
    assert_eq!(serde_json::from_str::<crate::python::Switch>(&text).unwrap(), *there);
    assert_eq!(planned.change().into_change().reason, "a 1 → 2, in place");

    let change = PackageChange { name: "Python".into(), from: Some("3.11".into()), to: Some("3.12".into()) };
    let other = Python { change: Some(change), ..python() };
    let error = operation.compare(&facts, &Tool::Pip, &other, resolved(&[("a", "2")])).unwrap_err();
    let expected = ": its packages are changed in place";
    assert!(error.to_string().ends_with(expected), "{error}");
}

#[test]
fn packages_that_git_tracks_are_not_changed_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let virtualenv = directory.path().join("venv");
    let packages = "lib/python3.11/site-packages";
    std::fs::create_dir_all(virtualenv.join(packages)).unwrap();
    for file in ["pyvenv.cfg", "manage.py", "lib/python3.11/site-packages/a.py"] {
        std::fs::write(virtualenv.join(file), "").unwrap();
    }
    let git = |words: &[&str]| {
        let settings = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"];
        let mut command = std::process::Command::new("git");
        assert!(command.arg("-C").arg(&virtualenv).args(settings).args(words).status().unwrap().success());
    };
    git(&["init", "-q"]);
    let error = |file: &str| {
        git(&["add", file]);
        git(&["commit", "-qm", file]);
        let live = virtualenv.clone();
        let operation =
            PipInstall { virtualenv: live.clone(), checkout: live, in_place: true, ..operation() };
        operation.compare(&facts(&[("a", "1")]), &Tool::Pip, &python(), resolved(&[("a", "2")])).err()
    };
    assert!(error("manage.py").is_none(), "the checkout is the virtualenv");
    let tracked = error(packages).unwrap().to_string();
    assert!(tracked.starts_with(&format!("git tracks `{packages}/a.py` in the virtualenv")), "{tracked}");
}

#[test]
fn packages_of_a_package_manager_are_not_changed_in_place() {
    let live = tempfile::tempdir().unwrap();
    let operation = PipInstall { virtualenv: live.path().into(), in_place: true, ..operation() };
    let info = live.path().join("lib/python3.11/site-packages/My_Lib-1.dist-info");
    std::fs::create_dir_all(&info).unwrap();
    std::fs::write(live.path().join("pyvenv.cfg"), "home = /usr/bin\n").unwrap();
    let error = |installer: &str| {
        std::fs::write(info.join("INSTALLER"), format!("{installer}\n")).unwrap();
        let wanted = resolved(&[("my-lib", "2")]);
        operation
            .compare(&facts(&[("My_Lib", "1")]), &Tool::Pip, &python(), wanted)
            .err()
            .map(|e| e.to_string())
    };
    for (installer, manager) in [("conda", "conda"), ("rpm", "rpm"), ("debian", "dpkg")] {
        let place = live.path().display();
        let expected =
            format!("the requirements would change packages that {manager} installed in `{place}`: `my-lib`");
        assert_eq!(error(installer), Some(expected));
    }
    assert_eq!(error("pip"), None);
}

#[test]
fn an_editable_package_of_the_checkout_does_not_stay_unnoticed() {
    let mut wanted = resolved(&[("a", "1")]);
    let origin = Some("editable:file:///srv/site/my%20lib".to_owned());
    wanted.resolved.packages.insert(Package { name: "Mine".into(), version: "1".into(), origin });
    wanted.resolved.unasked.insert("mine".into());
    let error =
        operation().compare(&facts(&[]), &Tool::Pip, &python(), wanted.clone()).unwrap_err().to_string();
    let expected = "no requirement asks for `Mine`, which is installed as editable from `/srv/site/my lib`";
    assert_eq!(error, expected);
    let live = tempfile::tempdir().unwrap();
    let virtualenv = live.path().to_owned();
    let elsewhere = PipInstall { checkout: "/srv/other".into(), virtualenv, ..operation() };
    elsewhere.compare(&facts(&[]), &Tool::Pip, &python(), wanted).unwrap();
}

#[test]
fn what_is_the_same_is_not_built() {
    let facts = facts(&[("Django", "4.2"), ("pip", "23.0"), ("setuptools", "65")]);
    let planned = operation().compare(&facts, &Tool::Pip, &python(), resolved(&[("django", "4.2")])).unwrap();
    let Prepared::Unchanged { reason, record } = planned else { panic!("{planned:?}") };
    assert_eq!(reason, "the installed packages are the 1 that the requirements ask for");
    assert_eq!(Some(record), recorded(&[("django", "4.2")]));
}

#[test]
fn a_change_says_what_and_how_to_go_back() {
    let directory = tempfile::tempdir().unwrap();
    let live = directory.path().join("venv");
    std::fs::create_dir(&live).unwrap();
    let operation = PipInstall { virtualenv: live.clone(), ..operation() };
    let installed =
        [("Django", "4.2"), ("six", "1.16"), ("ipython", "8"), ("pip", "23.0"), ("wheel", "0.40")];
    let facts = facts(&installed);
    std::fs::create_dir_all(live.join("lib/python3.11/site-packages")).unwrap();
    std::fs::write(live.join("pyvenv.cfg"), "home = /usr/bin\n").unwrap();
    std::fs::write(live.join("lib/python3.11/site-packages/mine.pth"), "").unwrap();
    let mut wanted = resolved(&[("Django", "5.2"), ("humanize", "4.1"), ("ipython", "8"), ("wheel", "0.48")]);
    wanted.resolved.unasked.insert("ipython".into());
    let in_place = PipInstall { in_place: true, ..operation.clone() };
    let in_place = in_place.compare(&facts, &Tool::Pip, &python(), wanted.clone()).unwrap();
    let change = in_place.change_in_window(true).into_change();
    assert_eq!(change.reason, "4 packages change, in place, inside the window");
    let change = in_place.change_in_window(false).into_change();
    assert_eq!(change.reason, "4 packages change, in place");
    assert_eq!(change.details.last().unwrap(), UNSTOPPED);
    let planned = operation.compare(&facts, &Tool::Pip, &python(), wanted).unwrap();
    let Prepared::Upgrade(upgrade) = planned else { panic!("{planned:?}") };
    assert_eq!(upgrade.build.seeds, BTreeMap::from([("pip".to_owned(), "23.0".to_owned())]));
    let change = operation.change(&Prepared::Upgrade(upgrade)).into_change();
    assert_eq!(change.reason, "4 packages change");
    assert_eq!(change.before, "Django 4.2, six 1.16, wheel 0.40");
    assert_eq!(change.after, "Django 5.2, humanize 4.1, wheel 0.48");
    assert_eq!(
        change.details,
        [
            "Django 4.2 → 5.2",
            "+ humanize 4.1",
            "wheel 0.40 → 0.48",
            "- six 1.16",
            "! kept although no requirement asks for them: ipython 8",
            "! taken along, since no package brought it: `lib/python3.11/site-packages/mine.pth`"
        ]
    );
    let text = serde_json::to_string(&change).unwrap();
    assert_eq!(serde_json::from_str::<Change>(&text).unwrap(), change, "the journal takes and gives it");
    let [Action::SwitchVirtualenv(back)] = &change.undo[..] else { panic!("{:?}", change.undo) };
    back.perform().unwrap();
    assert!(live.is_dir(), "an undo before the deed does no harm");
}

#[test]
fn an_editable_package_knows_its_files() {
    let source = |path: &str, editable| Source { path: path.into(), editable, extras: Vec::new() };
    let has = |sources: &[Source], file: &str| {
        let record = Record { sources: sources.to_vec(), ..Record::default() };
        record.has_sources_at(Path::new("/srv/site"), Path::new(file))
    };
    assert!(has(&[source("lib", true)], "/srv/site/lib/src/demo/__init__.py"));
    assert!(!has(&[source("lib", true)], "/srv/site/library.py"));
    assert!(!has(&[source("lib", false)], "/srv/site/lib/demo.py"), "its copy is in the virtualenv");
    assert!(has(&[source("", true)], "/srv/site/project/settings.py"));
    assert!(!has(&[], "/srv/site/project/settings.py"));
}
