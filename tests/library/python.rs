//! Environments with real pip and uv, from wheels that the tests make.

mod in_place;
mod indexes;
mod interpreters;
mod keeps;
mod locks;
mod of_checkout;
mod refused;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use deploykit::Cancel;
use deploykit::internal::files::{Found, look};
use deploykit::internal::python::{Installer, PythonError, UpgradeStrategy, Virtualenv, prune};
use deploykit::operations::pip_install::{PipInstall, Prepared, Ready, Wanted};
use deploykit::operations::{self, Check, Operation};
use deploykit::{Action, CommandError, Context, Host};

use crate::support::python::{Index, PythonSite, run, tools, tree_hash};
use crate::support::{program, skip, wheels};

fn operation(site: &PythonSite, installer: Installer) -> PipInstall {
    let requirements = vec![site.checkout.join("requirements.txt")];
    let operation = PipInstall::new(&site.virtualenv, requirements, &site.checkout, &site.virtualenvs);
    PipInstall { installer, deadline: Duration::from_secs(120), ..operation }
}

fn ready(operation: &PipInstall, host: &Host) -> Ready {
    match operation.build(host) {
        Ok(Prepared::Ready(ready)) => *ready,
        other => panic!("{other:?}"),
    }
}

fn changes(ready: &Ready) -> Vec<String> {
    ready.changes.iter().map(ToString::to_string).collect()
}

/// A site with old `alpha` and `gone`, whose requirements want a newer `alpha` and `beta`, which needs `gamma`.
fn outdated() -> PythonSite {
    let site = PythonSite::new();
    for (name, version, requires) in [
        ("alpha", "1.0", &[][..]),
        ("gone", "1.0", &[]),
        ("gamma", "3.0", &[]),
        ("alpha", "2.0", &[]),
        ("beta", "1.0", &["gamma>=2"]),
    ] {
        site.wheel(name, version, requires);
    }
    site.install_by_hand(&["alpha==1.0", "gone"]);
    site.require("-r base.txt\nbeta\n");
    fs::write(site.checkout.join("base.txt"), "Alpha>=1\n").unwrap();
    site
}

#[test]
fn an_upgrade_is_built_beside_and_goes_live_at_once_and_back() {
    for (installer, tool) in tools() {
        let site = outdated();
        let (host, operation) = (site.host(), operation(&site, installer));
        let before = tree_hash(&site.virtualenv);

        let ready = ready(&operation, &host);
        assert_eq!(changes(&ready), CHANGES, "{}", tool.name());
        assert_eq!(tree_hash(&site.virtualenv), before, "{}: the live environment is untouched", tool.name());
        assert_eq!(ready.staged.parent(), Some(&*site.virtualenvs));
        assert_eq!(ready.missing_scripts, [""; 0]);
        assert_eq!(ready.warnings, ["kept although no requirement asks for them: gone 1.0"]);
        let compiled = fs::read_dir(packages(&ready.staged).join("__pycache__")).unwrap();
        assert!(compiled.count() >= 3, "{}: compiled beforehand", tool.name());

        let original = look(&site.virtualenv);
        ready.switch.perform().unwrap();
        assert_eq!(look(&site.virtualenv), Found::Link(ready.staged.clone()));
        assert_eq!(site.live("alpha", &[]), "alpha 2.0");
        assert_eq!(site.live("python", &["-c", "import beta, gamma; print(gamma.VERSION)"]), "3.0");
        assert_eq!(site.live("gone", &[]), "gone 1.0");
        let pip = site.live("python", &["-m", "pip", "--version"]);
        assert!(pip.starts_with("pip "), "the site keeps its pip: {pip}");

        ready.back.perform().unwrap();
        assert_eq!((look(&site.virtualenv), tree_hash(&site.virtualenv)), (original, before));
        assert_eq!(site.live("alpha", &[]), "alpha 1.0", "its scripts work again");
        assert_eq!(hidden(&site), [""; 0]);
    }
}

const CHANGES: [&str; 3] = ["alpha 1.0 → 2.0", "+ beta 1.0", "+ gamma 3.0"];

/// Returns what is in the site's directory beside what belongs there.
fn hidden(site: &PythonSite) -> Vec<String> {
    let names = fs::read_dir(site.directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with(".venv")).collect()
}

fn packages(staged: &Path) -> PathBuf {
    fs::read_dir(staged.join("lib")).unwrap().next().unwrap().unwrap().path().join("site-packages")
}

#[test]
fn nothing_to_do_starts_no_program() {
    for (installer, tool) in tools() {
        let site = outdated();
        let host = site.host();
        let mut operation = operation(&site, installer);
        let first = ready(&operation, &host);
        first.switch.perform().unwrap();
        assert_ne!(site.transcript(), "");

        operation.record = Some(first.record.clone());
        let again = operation.build(&host).unwrap();
        assert!(matches!(&again, Prepared::Unchanged { record, .. } if *record == first.record), "{again:?}");
        assert!(matches!(operation.check(&host).unwrap(), Check::Unchanged { .. }));
        assert_eq!(site.transcript(), "", "{}", tool.name());

        // Without a record, the installer is asked and says the same.
        operation.record = None;
        let asked = operation.build(&host).unwrap();
        let Prepared::Unchanged { reason, record } = asked else { panic!("{asked:?}") };
        assert_eq!(
            reason,
            "the installed packages are the 3 that the requirements ask for, and 1 that none asks for"
        );
        assert_eq!(record.fingerprint, first.record.fingerprint);

        // A package that somebody removed is noticed, and the live virtualenv is not built upon.
        operation.record = Some(first.record);
        fs::remove_file(packages(&first.staged).join("gamma.py")).unwrap();
        let fixed = ready(&operation, &host);
        assert_eq!(changes(&fixed), ["gamma 3.0 with files missing → 3.0"]);
        assert_eq!(fixed.staged, Path::new(&format!("{}-2", first.staged.display())));
        fixed.switch.perform().unwrap();
        assert_eq!(site.live("gamma", &[]), "gamma 3.0");
    }
}

#[test]
fn the_operation_alone_checks_without_a_trace_applies_and_undoes() {
    for (installer, tool) in tools() {
        let site = outdated();
        let operation = operation(&site, installer);
        let before = tree_hash(site.directory.path().join("site").as_path()) + &tree_hash(&site.virtualenv);
        let check = operation.check(&site.host()).unwrap();
        let Check::Change(change) = &check else { panic!("{check:?}") };
        assert_eq!(change.reason, "3 packages change");
        assert_eq!(change.details.len(), 4, "three packages, and one that stays: {change:?}");
        let after = tree_hash(site.directory.path().join("site").as_path()) + &tree_hash(&site.virtualenv);
        assert_eq!(after, before, "{}", tool.name());
        assert!(!site.virtualenvs.exists());

        let mut context = Context::from(site.host());
        let journalled: operations::Change =
            serde_json::from_str(&serde_json::to_string(change).unwrap()).unwrap();
        for _ in 0..2 {
            operations::perform(&journalled, &mut context).unwrap();
            assert_eq!(site.live("alpha", &[]), "alpha 2.0");
        }
        operations::undo(&journalled, &mut context).unwrap();
        operations::undo(&journalled, &mut context).unwrap();
        assert_eq!(site.live("alpha", &[]), "alpha 1.0");
    }
}

#[test]
fn from_one_environment_to_the_next_a_link_follows() {
    let site = outdated();
    let (host, operation) = (site.host(), operation(&site, Installer::Auto));
    let first = ready(&operation, &host);
    first.switch.perform().unwrap();
    site.wheel("alpha", "2.5", &[]);
    let second = ready(&operation, &host);
    assert_eq!(changes(&second), ["alpha 2.0 → 2.5"]);
    second.switch.perform().unwrap();
    assert_eq!(site.live("alpha", &[]), "alpha 2.5");
    second.back.perform().unwrap();
    assert_eq!(look(&site.virtualenv), Found::Link(first.staged.clone()));
    assert_eq!(site.live("alpha", &[]), "alpha 2.0");

    // The way back to the directory of the beginning is still open, and what is not live can be pruned.
    let removed = prune(&site.virtualenvs, &site.virtualenv, &[]).unwrap();
    assert_eq!(removed, [second.staged]);
    first.back.perform().unwrap();
    assert_eq!(site.live("alpha", &[]), "alpha 1.0");
}

#[test]
fn an_environment_that_is_there_is_used_again_and_half_of_one_is_not() {
    let site = outdated();
    let (host, operation) = (site.host(), operation(&site, Installer::Auto));
    let first = ready(&operation, &host);
    assert!(!first.reused);
    assert!(ready(&operation, &host).reused);

    fs::remove_file(first.staged.join(".deploykit-complete")).unwrap();
    fs::write(first.staged.join("leftover"), "").unwrap();
    let error = first.switch.perform().unwrap_err();
    assert!(matches!(error, PythonError::Incomplete { .. }), "{error:?}");
    assert!(!ready(&operation, &host).reused);
    assert!(!first.staged.join("leftover").exists());

    fs::remove_file(packages(&first.staged).join("beta.py")).unwrap();
    assert!(!ready(&operation, &host).reused, "a marker is believed only as far as it is true");
}

#[test]
fn pip_and_uv_mean_the_same_environment() {
    let site = outdated();
    if site.uv.is_none() {
        return;
    }
    let one = ready(&operation(&site, Installer::Pip), &site.host());
    let other = ready(&operation(&site, Installer::Uv), &site.host());
    assert!(other.reused);
    assert_eq!(one.staged, other.staged);
}

#[test]
fn what_stays_shares_its_files_with_the_live_environment() {
    for (installer, tool) in tools() {
        let site = PythonSite::new();
        for (name, version) in [("alpha", "1.0"), ("delta", "1.0"), ("fixed", "1.0"), ("alpha", "2.0")] {
            site.wheel(name, version, &[]);
        }
        site.install_by_hand(&["alpha==1.0", "delta", "fixed"]);
        let fixed = packages(&site.virtualenv).join("fixed.py");
        let original = fs::read_to_string(&fixed).unwrap();
        fs::write(&fixed, original.clone() + "# by hand\n").unwrap();
        site.require("alpha\ndelta\nfixed\n");

        let ready = ready(&operation(&site, installer), &site.host());
        assert_eq!(changes(&ready), ["alpha 1.0 → 2.0"], "{}", tool.name());
        let [live, next] = [&site.virtualenv, &ready.staged].map(|staged| packages(staged));
        let inode = |directory: &Path, name: &str| fs::metadata(directory.join(name)).unwrap().ino();
        for name in ["delta.py", "delta-1.0.dist-info/METADATA", "pip/__main__.py"] {
            assert_eq!(inode(&live, name), inode(&next, name), "{}: {name}", tool.name());
        }
        // What was changed by hand is noticed, said, and does not spread.
        assert_eq!(ready.warnings.len(), 1, "{:?}", ready.warnings);
        assert!(ready.warnings[0].starts_with("`fixed.py` of fixed 1.0 was changed"), "{:?}", ready.warnings);
        assert_eq!(fs::read_to_string(next.join("fixed.py")).unwrap(), original, "{}", tool.name());

        ready.switch.perform().unwrap();
        for name in ["alpha", "delta", "fixed"] {
            let version = if name == "alpha" { "2.0" } else { "1.0" };
            assert_eq!(site.live(name, &[]), format!("{name} {version}"), "{}", tool.name());
        }
        let script = fs::read_to_string(ready.staged.join("bin/delta")).unwrap();
        assert!(script.starts_with(&format!("#!{}/", ready.staged.display())), "{}: {script}", tool.name());
        site.live("python", &["-m", "pip", "check"]);
        // pip knows each file that was taken along, and removes it as one of its own; the other virtualenv keeps its.
        site.live("python", &["-m", "pip", "uninstall", "-q", "-y", "delta"]);
        assert!(!next.join("delta.py").exists() && !ready.staged.join("bin/delta").exists());
        ready.back.perform().unwrap();
        assert_eq!(site.live("delta", &[]), "delta 1.0", "{}", tool.name());
    }
}

#[test]
fn a_pip_that_cannot_be_taken_along_is_that_of_python() {
    let site = outdated();
    fs::write(packages(&site.virtualenv).join("pip/__pip-runner__.py"), "").unwrap();
    let ready = ready(&operation(&site, Installer::Pip), &site.host());
    assert!(ready.warnings.iter().any(|warning| warning.starts_with("`pip` ")), "{:?}", ready.warnings);
    assert!(Virtualenv::read(&ready.staged).unwrap().packages.get("pip").is_some());
}

#[test]
fn without_upgrade_what_is_allowed_stays() {
    for (installer, tool) in tools() {
        let site = outdated();
        let operation = PipInstall { upgrade: UpgradeStrategy::Never, ..operation(&site, installer) };
        let ready = ready(&operation, &site.host());
        assert_eq!(changes(&ready), ["+ beta 1.0", "+ gamma 3.0"], "{}", tool.name());
    }
}

#[test]
fn a_newer_pip_that_pip_tells_of_is_installed_into_the_new_environment() {
    let Some(newer) = wheels() else { return };
    let site = outdated();
    let version =
        |staged: &Path| Virtualenv::read(staged).unwrap().packages.get("pip").unwrap().version.clone();
    let old = version(&site.virtualenv);
    let index = Index::serve(vec![site.wheels.clone(), newer.clone()]);
    site.requirements("alpha\nbeta\n");
    let operation = operation(&site, Installer::Pip);
    let with_check = site.host_with(&[("PIP_INDEX_URL", &index.url), ("PIP_DISABLE_PIP_VERSION_CHECK", "")]);
    let first = ready(&operation, &with_check);
    let told = site.transcript();
    if !told.contains("new release of pip") && !told.contains("You should consider upgrading") {
        skip(&format!("pip {old} knows no newer one"))
    }
    assert_ne!(version(&first.staged), old, "{:?}", first.warnings);
    assert_eq!(version(&site.virtualenv), old);

    // Whoever switched the notice off does not want it.
    fs::remove_dir_all(&site.virtualenvs).unwrap();
    let quiet = site.host_with(&[("PIP_INDEX_URL", &index.url), ("PIP_DISABLE_PIP_VERSION_CHECK", "1")]);
    let second = ready(&operation, &quiet);
    assert_eq!(version(&second.staged), old);

    // And never older than that of the live virtualenv, where that can be.
    site.transcript();
    run(std::process::Command::new(site.virtualenv.join("bin/python"))
        .args(["-m", "pip", "install", "-q", "-U", "--no-index", "--find-links"])
        .arg(&newer)
        .arg("pip"));
    let current = version(&site.virtualenv);
    fs::remove_dir_all(&site.virtualenvs).unwrap();
    assert_eq!(version(&ready(&operation, &quiet).staged), current);
    fs::remove_dir_all(&site.virtualenvs).unwrap();
    let Prepared::Upgrade(mut upgrade) = operation.plan(&quiet).unwrap() else { panic!() };
    upgrade.build.newer_pip = Some("99.0".into());
    let third = upgrade.build(&quiet).unwrap();
    let told = third.warnings.iter().filter(|warning| warning.starts_with("pip could not")).count();
    assert_eq!(told, 1, "no newer pip to be had is no failure: {:?}", third.warnings);
    assert_eq!(version(&third.staged), current);
}

#[test]
fn an_old_pip_that_cannot_report_is_helped_by_that_of_its_python() {
    let site = outdated();
    let directory = packages(&site.virtualenv);
    let info = fs::read_dir(&directory)
        .unwrap()
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with("pip-"));
    let metadata = info.unwrap().join("METADATA");
    let text = fs::read_to_string(&metadata).unwrap();
    let line = text.lines().find(|line| line.starts_with("Version: ")).unwrap();
    fs::write(&metadata, text.replacen(line, "Version: 20.3.4", 1)).unwrap();
    let before = tree_hash(&site.virtualenv);
    let ready = ready(&operation(&site, Installer::Pip), &site.host());
    assert_eq!(ready.changes.len(), 3);
    assert_eq!(tree_hash(&site.virtualenv), before);
}

#[test]
fn passwords_of_an_index_reach_it_and_nothing_else() {
    for (installer, tool) in tools() {
        let site = outdated();
        let index = Index::serve(vec![site.wheels.clone()]);
        let url = index.url.replace("http://", "http://me:hunter22@");
        site.requirements(&format!("--index-url {url}\nalpha\nbeta\n"));
        let check = operation(&site, installer).check(&site.host()).unwrap();
        let Check::Change(change) = &check else { panic!("{check:?}") };
        let mut context = Context::from(site.host());
        operations::perform(change, &mut context).unwrap();
        assert!(!serde_json::to_string(change).unwrap().contains("hunter22"), "{}", tool.name());
        assert!(!site.transcript().contains("hunter22"), "{}", tool.name());
        let Action::BuildVirtualenv(build) = &change.actions[0] else { panic!() };
        let marker = fs::read_to_string(build.staged.join(".deploykit-complete")).unwrap();
        assert!(!marker.contains("hunter22"));

        let refused =
            PipInstall { extra_args: vec![format!("--index-url={url}")], ..operation(&site, installer) };
        let error = refused.check(&site.host()).unwrap_err();
        assert!(matches!(error, PythonError::CredentialsInArguments { position: 1 }), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("hunter22"));
    }
}

#[test]
fn a_virtualenv_that_sees_the_system_still_gets_all_its_packages() {
    for (installer, tool) in tools() {
        let site = outdated();
        let settings = site.virtualenv.join("pyvenv.cfg");
        let text = fs::read_to_string(&settings).unwrap();
        fs::write(&settings, text.replace("packages = false", "packages = true")).unwrap();
        let ready = ready(&operation(&site, installer), &site.host());
        assert_eq!(ready.changes.len(), 3, "{}", tool.name());
        assert!(Virtualenv::read(&ready.staged).unwrap().system_site_packages);
    }
}

#[test]
fn a_full_disk_leaves_the_live_environment_alone() {
    let Some(unshare) = program("unshare") else { return };
    let site = outdated();
    let before = tree_hash(&site.virtualenv);
    fs::create_dir(&site.virtualenvs).unwrap();
    // A file system of 20 files, mounted where only this test's installer sees it when it builds.
    let wrapper = site.directory.path().join("bin");
    fs::create_dir(&wrapper).unwrap();
    let mounted = run(std::process::Command::new(&unshare).args(["-m", "sh", "-c"]).arg(format!(
        "mount -t tmpfs -o nr_inodes=20 none {} 2>/dev/null && echo yes || true",
        site.virtualenvs.display()
    )));
    let Some(uv) = site.uv.clone().filter(|_| mounted.trim() == "yes") else { skip("no mounts, or no uv") };
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *compile*) exec {} \"$@\";; esac\n\
         exec {} -m sh -c 'mount -t tmpfs -o nr_inodes=20 none {} && exec {} \"$@\"' uv \"$@\"\n",
        uv.display(),
        unshare.display(),
        site.virtualenvs.display(),
        uv.display()
    );
    fs::write(wrapper.join("uv"), script).unwrap();
    fs::set_permissions(wrapper.join("uv"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", wrapper.display());
    let error = operation(&site, Installer::Uv).build(&site.host_with(&[("PATH", &path)])).unwrap_err();
    assert!(!matches!(error, PythonError::ResolutionFailed { .. }), "{error:?}");
    assert_eq!(tree_hash(&site.virtualenv), before);
}

#[test]
fn a_virtualenv_that_uv_made_is_read_like_any_other() {
    let Some(uv) = program("uv") else { return };
    let site = outdated();
    let base = Virtualenv::read(&site.virtualenv).unwrap().base.unwrap();
    fs::remove_dir_all(&site.virtualenv).unwrap();
    run(std::process::Command::new(&uv).args(["venv", "-q", "--python"]).arg(&base).arg(&site.virtualenv));
    let ready = ready(&operation(&site, Installer::Uv), &site.host());
    assert_eq!(changes(&ready), ["+ alpha 2.0", "+ beta 1.0", "+ gamma 3.0"]);
    assert!(Virtualenv::read(&ready.staged).unwrap().packages.get("pip").is_none());
    ready.switch.perform().unwrap();
    assert_eq!(site.live("beta", &[]), "beta 1.0");
}
