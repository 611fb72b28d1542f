//! Requirements and virtualenvs that cannot be.

use super::*;

#[test]
fn a_requirement_that_nothing_satisfies_is_named() {
    for (installer, tool) in tools() {
        let site = PythonSite::new();
        site.wheel("alpha", "1.0", &[]);
        site.wheel("modern", "1.0", &["Requires-Python: >=3.99"]);
        for (text, wanted) in
            [("nosuch==1.0\n", "nosuch"), ("alpha==9\n", "alpha==9"), ("modern\n", "modern")]
        {
            site.require(text);
            let error = operation(&site, installer).build(&site.host()).unwrap_err();
            let PythonError::ResolutionFailed { requirement, needs_python, .. } = &error else {
                panic!("{error:?}")
            };
            let named = requirement.as_deref().unwrap_or_default();
            assert!(
                named.starts_with(wanted) || text.starts_with("modern"),
                "{}: {error} {:?}",
                tool.name(),
                error.tail()
            );
            if text.starts_with("modern") {
                assert_eq!(needs_python.as_deref(), Some(">=3.99"), "{}: {:?}", tool.name(), error.tail());
            }
            assert!(!error.tail().is_empty());
        }
        assert!(!site.virtualenvs.exists());
    }
}

#[test]
fn conflicts_that_the_resolver_was_told_to_ignore_are_found() {
    for (installer, tool) in tools() {
        let site = PythonSite::new();
        site.wheel("alpha", "1.0", &["beta<1"]);
        site.wheel("beta", "2.0", &[]);
        site.require("alpha\nbeta\n");
        let operation = PipInstall { extra_args: vec!["--no-deps".into()], ..operation(&site, installer) };
        let error = operation.build(&site.host()).unwrap_err();
        let PythonError::Conflicts { lines } = &error else { panic!("{}: {error:?}", tool.name()) };
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("beta"), "{lines:?}");
        assert!(
            fs::read_dir(&site.virtualenvs).unwrap().all(|entry| !entry
                .unwrap()
                .path()
                .join(".deploykit-complete")
                .exists())
        );
    }
}

#[test]
fn hashes_extras_markers_and_urls_are_installed_as_they_are_written() {
    for (installer, tool) in tools() {
        let site = PythonSite::new();
        let alpha = site.wheel("alpha", "1.0", &[]);
        let sum = run(std::process::Command::new("sha256sum").arg(&alpha));
        let hash = sum.split_whitespace().next().unwrap();
        site.require(&format!("alpha==1.0 \\\n    --hash=sha256:{hash}\n"));
        let hashed = ready(&operation(&site, installer), &site.host());
        assert_eq!(changes(&hashed), ["+ alpha 1.0"], "{}", tool.name());

        site.wheel("beta", "2024.01", &["Provides-Extra: more", "gamma; extra == 'more'"]);
        site.wheel("gamma", "1.0", &[]);
        site.wheel("old", "1.0", &[]);
        let outside = site.directory.path().join("delta-1.0-py3-none-any.whl");
        fs::rename(site.wheel("delta", "1.0", &[]), &outside).unwrap();
        site.require(&format!(
            "beta[more]\nold ; python_version < '3'\ndelta @ file://{}\n",
            outside.display()
        ));
        let mixed = ready(&operation(&site, installer), &site.host());
        mixed.switch.perform().unwrap();
        assert_eq!(site.live("delta", &[]), "delta 1.0");
        assert_eq!(site.live("gamma", &[]), "gamma 1.0");
        assert!(!site.virtualenv.join("bin/old").exists());
        let again = operation(&site, installer).build(&site.host()).unwrap();
        assert!(matches!(again, Prepared::Unchanged { .. }), "{}: {again:?}", tool.name());
    }
}

#[test]
fn requirements_that_cannot_be_used_are_refused_before_anything_runs() {
    let site = outdated();
    let (host, operation) = (site.host(), operation(&site, Installer::Auto));
    site.transcript();
    site.requirements("-r nowhere.txt\n");
    let error = operation.check(&host).unwrap_err();
    let PythonError::RequirementsMissing { path, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*path, site.checkout.join("nowhere.txt"));
    for text in
        ["alpha\n-e .\n", "alpha\n./libs/x\n", &format!("alpha\nx @ file://{}/x\n", site.checkout.display())]
    {
        site.requirements(text);
        let error = operation.check(&host).unwrap_err();
        assert!(matches!(error, PythonError::LocalRequirement { line: 2, .. }), "{error:?}");
    }
    assert_eq!(site.transcript(), "");
}

#[test]
fn a_python_that_no_link_may_replace_is_refused() {
    let site = outdated();
    let (host, operation) = (site.host(), operation(&site, Installer::Auto));
    site.transcript();
    let conda = site.virtualenv.join("conda-meta");
    fs::create_dir(&conda).unwrap();
    let error = operation.check(&host).unwrap_err();
    let PythonError::NotReplaceable { what, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*what, "a conda environment");
    assert_eq!(site.transcript(), "");
    fs::remove_dir(conda).unwrap();

    let tracked = site.checkout.join("venv");
    fs::rename(&site.virtualenv, &tracked).unwrap();
    let git = |words: &[&str]| {
        let settings = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"];
        run(std::process::Command::new("git").arg("-C").arg(&site.checkout).args(settings).args(words));
    };
    git(&["init", "-q"]);
    git(&["add", "-f", "venv/pyvenv.cfg"]);
    git(&["commit", "-qm", "a virtualenv"]);
    for in_place in [false, true] {
        let operation = PipInstall { virtualenv: tracked.clone(), in_place, ..operation.clone() };
        let error = operation.check(&host).unwrap_err();
        let PythonError::TrackedVirtualenv { file, .. } = &error else { panic!("{error:?}") };
        assert_eq!(file, Path::new("pyvenv.cfg"), "{in_place}");
    }
}

#[test]
fn requirements_that_change_between_plan_and_build_are_not_built() {
    let site = outdated();
    let host = site.host();
    let Prepared::Upgrade(upgrade) = operation(&site, Installer::Auto).plan(&host).unwrap() else { panic!() };
    fs::write(site.checkout.join("base.txt"), "alpha<2\n").unwrap();
    let error = upgrade.build(&host).unwrap_err();
    assert!(matches!(error, PythonError::RequirementsChanged { .. }), "{error:?}");
}

#[test]
fn an_index_that_moves_between_plan_and_build_is_noticed() {
    let site = outdated();
    let host = site.host();
    let Prepared::Upgrade(upgrade) = operation(&site, Installer::Pip).plan(&host).unwrap() else { panic!() };
    site.wheel("alpha", "3.0", &[]);
    site.wheel("gamma", "4.0", &[]);
    let ready = upgrade.build(&host).unwrap();
    assert_eq!(changes(&ready), CHANGES, "what was planned is installed");
    fs::remove_dir_all(&site.virtualenvs).unwrap();
    fs::remove_file(site.wheels.join("gamma-3.0-py3-none-any.whl")).unwrap();
    let error = upgrade.build(&host).unwrap_err();
    assert!(matches!(error, PythonError::BuildFailed { step: "installing the packages", .. }), "{error:?}");
}

#[test]
fn a_directory_without_python_or_pip_is_told_apart() {
    let site = outdated();
    let host = site.host();
    let check = |virtualenv: &Path| {
        PipInstall { virtualenv: virtualenv.to_owned(), ..operation(&site, Installer::Pip) }
            .check(&host)
            .unwrap_err()
    };
    let missing = check(&site.directory.path().join("nowhere"));
    assert!(matches!(missing, PythonError::NoVirtualenv { .. }), "{missing:?}");
    let other = check(&site.checkout);
    assert!(matches!(other, PythonError::NotAVirtualenv { .. }), "{other:?}");
    let system = check(Path::new("/usr"));
    assert!(matches!(system, PythonError::NotReplaceable { .. }), "{system:?}");
    let bare = site.directory.path().join("bare");
    run(std::process::Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(&bare));
    let no_pip = check(&bare);
    assert!(matches!(no_pip, PythonError::NoPip { .. }), "{no_pip:?}");
    let settings = bare.join("pyvenv.cfg");
    fs::write(&settings, "home = /nowhere/bin\nversion = 3.11.0\n").unwrap();
    let gone = check(&bare);
    assert!(matches!(gone, PythonError::BasePythonGone { .. }), "{gone:?}");
    let nothing = PythonSite::new();
    let no_uv = operation(&nothing, Installer::Uv);
    nothing.require("");
    let host = nothing.host_with(&[("PATH", "/nowhere")]);
    let error = no_uv.check(&host).unwrap_err();
    assert!(matches!(error, PythonError::InstallerMissing { program: "uv" }), "{error:?}");
}

#[test]
fn an_index_that_never_answers_meets_the_deadline_or_the_cancellation() {
    let index = Index::silent();
    for (installer, tool) in tools() {
        let site = PythonSite::new();
        site.requirements(&format!("--index-url {}\nalpha\n", index.url));
        let before = tree_hash(&site.virtualenv);
        let patient = operation(&site, installer);
        let hasty = PipInstall { deadline: Duration::from_secs(2), ..patient.clone() };
        let error = hasty.build(&site.host()).unwrap_err();
        let late = matches!(&error, PythonError::Command(CommandError::DeadlinePassed { .. }));
        assert!(late, "{}: {error:?}", tool.name());

        let cancel = Cancel::new().unwrap();
        cancel.request();
        let error = patient.build(&site.host().with_cancel(cancel)).unwrap_err();
        assert!(matches!(error, PythonError::Command(CommandError::Cancelled { .. })), "{error:?}");
        assert_eq!(tree_hash(&site.virtualenv), before);
    }
}
