//! Lock files with real pip and uv.

use deploykit::errors::LockFileError;
use deploykit::operations::pip_install::Lock;

use super::*;

/// Returns the entry of a wheel in `pylock.toml`; its hash is the true one unless another is given.
fn entry(site: &PythonSite, name: &str, version: &str, more: &str, hash: Option<&str>) -> String {
    let wheel = format!("{name}-{version}-py3-none-any.whl");
    let true_hash = sha256(&site.wheels.join(&wheel));
    let hash = hash.unwrap_or(&true_hash);
    format!(
        "[[packages]]\nname = {name:?}\nversion = {version:?}\n{more}wheels = [{{ name = {wheel:?}, url = \"https://files.example/{wheel}\", hashes = {{ sha256 = {hash:?} }} }}]\n"
    )
}

fn sha256(file: &Path) -> String {
    let hash = run(std::process::Command::new("sha256sum").arg(file));
    hash.split(' ').next().unwrap().to_owned()
}

fn lock(site: &PythonSite, installer: Installer, text: &str) -> PipInstall {
    let file = site.checkout.join("pylock.toml");
    fs::write(&file, format!("lock-version = \"1.0\"\nextras = [\"more\"]\n{text}")).unwrap();
    PipInstall { wanted: Lock::new(file).into(), ..operation(site, installer) }
}

/// Returns a host that has packages from the wheels of the site only, as variables tell pip and uv.
fn host(site: &PythonSite) -> Host {
    let wheels = site.wheels.to_str().unwrap();
    let told =
        [("PIP_FIND_LINKS", wheels), ("PIP_NO_INDEX", "1"), ("UV_FIND_LINKS", wheels), ("UV_NO_INDEX", "1")];
    site.host_with(&told)
}

fn locked(site: &PythonSite) -> String {
    let entries = [
        entry(site, "alpha", "2.0", "", None),
        entry(site, "beta", "1.0", "marker = \"python_version >= '3.8'\"\n", None),
        entry(site, "gamma", "3.0", "", None),
        entry(site, "gone", "1.0", "marker = \"sys_platform == 'win32' or 'more' in extras\"\n", None),
    ];
    entries.concat()
}

#[test]
fn exactly_the_locked_packages_go_in_and_come_out_again() {
    for (installer, tool) in tools() {
        let (site, tool) = (outdated(), tool.name());
        let (host, mut operation) = (host(&site), lock(&site, installer, &locked(&site)));
        let before = tree_hash(&site.virtualenv);
        let Prepared::Upgrade(upgrade) = operation.plan(&host).unwrap() else { panic!("{tool}") };
        let asked = site.transcript();
        assert!(
            !asked.contains("pip install") && !asked.contains("pip compile"),
            "a lock needs no resolver: {asked}"
        );
        assert_eq!(tree_hash(&site.virtualenv), before, "{tool}");

        let ready = upgrade.build(&host).unwrap();
        let all = ["alpha 1.0 → 2.0", "+ beta 1.0", "+ gamma 3.0", "- gone 1.0"];
        assert_eq!(changes(&ready), all, "{tool}");
        let installed = site.transcript();
        assert!(installed.contains("--require-hashes") || installed.contains("--verify-hashes"), "{tool}");
        ready.switch.perform().unwrap();
        assert_eq!(site.live("beta", &[]), "beta 1.0", "{tool}");

        operation.record = Some(ready.record.clone());
        let again = operation.plan(&host).unwrap();
        let Prepared::Unchanged { reason, .. } = again else { panic!("{again:?}") };
        assert_eq!(reason, "`pylock.toml` and the installed packages are as deploykit last saw them");
        assert_eq!(site.transcript(), "", "{tool}: no program was run");
        operation.record = None;
        let Prepared::Unchanged { reason, .. } = operation.plan(&host).unwrap() else { panic!("{tool}") };
        assert_eq!(reason, "the installed packages are the 3 of `pylock.toml`");

        // An extra has one more.
        let Wanted::Lock(lock) = operation.wanted.clone() else { panic!() };
        operation.wanted = Lock { extras: vec!["More".to_owned()], ..lock }.into();
        assert_eq!(changes(&super::ready(&operation, &host)), ["+ gone 1.0"], "{tool}");
        ready.back.perform().unwrap();
        assert_eq!(tree_hash(&site.virtualenv), before, "{tool}");
    }
}

#[test]
fn what_is_not_as_locked_is_refused_and_the_live_environment_stays() {
    for (installer, tool) in tools() {
        let (site, tool) = (outdated(), tool.name());
        let (host, before) = (host(&site), tree_hash(&site.virtualenv));
        let wrong = entry(&site, "alpha", "2.0", "", Some(&"0".repeat(64)));
        let operation = lock(&site, installer, &wrong);
        let error = operation.build(&host).unwrap_err();
        assert!(matches!(error, PythonError::BuildFailed { .. }), "{tool}: {error:?}");
        assert!(error.tail().join("\n").to_lowercase().contains("hash"), "{tool}: {:?}", error.tail());
        assert!(fs::read_dir(&site.virtualenvs).unwrap().next().is_none(), "{tool}: nothing is left");

        // What a package needs must be locked too: the set is not added to.
        let lacking = entry(&site, "beta", "1.0", "", None);
        let error = lock(&site, installer, &lacking).build(&host).unwrap_err();
        let PythonError::Conflicts { lines } = &error else { panic!("{tool}: {error:?}") };
        assert!(lines[0].contains("gamma"), "{tool}: {lines:?}");

        let other = format!("requires-python = \">=3.99\"\n{}", entry(&site, "alpha", "2.0", "", None));
        let error = lock(&site, installer, &other).plan(&host).unwrap_err();
        assert!(matches!(error, PythonError::Lock(LockFileError::OtherPython { .. })), "{tool}: {error:?}");
        assert_eq!(tree_hash(&site.virtualenv), before, "{tool}");
    }
}

#[test]
fn a_private_index_of_the_lock_is_used_and_its_password_stays_in_the_file() {
    for (installer, tool) in tools() {
        let (site, tool) = (outdated(), tool.name());
        let index = Index::serve(vec![site.wheels.clone()]);
        let url = index.url.replace("http://", "http://me:hunter22@");
        let text = entry(&site, "alpha", "2.0", &format!("index = \"{url}\"\n"), None);
        let operation = lock(&site, installer, &text);
        let check = operation.check(&site.host()).unwrap();
        let Check::Change(change) = &check else { panic!("{check:?}") };
        operations::perform(change, &mut Context::from(site.host())).unwrap();
        assert!(!serde_json::to_string(change).unwrap().contains("hunter22"), "{tool}");
        assert!(!site.transcript().contains("hunter22"), "{tool}");
        assert_eq!(site.live("alpha", &[]), "alpha 2.0", "{tool}");
    }
}

/// Makes a project that depends on `beta`, in a workspace of its own, and locks it with the real uv.
fn uv_project(site: &PythonSite, uv: &Path, host: &Host) {
    let text = "[project]\nname = \"site\"\nversion = \"1\"\nrequires-python = \">=3.8\"\ndependencies = [\"beta\"]\n\n\
                [project.optional-dependencies]\nmore = [\"gone\"]\n\n[dependency-groups]\ndev = [\"nosuch-tool\"]\nprod = [\"alpha>=2\"]\n\n\
                [tool.uv]\nconstraint-dependencies = [\"gamma>=2\"]\n";
    site.wheel("nosuch_tool", "1.0", &[]);
    fs::write(site.checkout.join("pyproject.toml"), text).unwrap();
    relock(site, uv, host);
}

fn relock(site: &PythonSite, uv: &Path, host: &Host) {
    let command =
        deploykit::Command::new(uv).args(["lock", "-q"]).directory(&site.checkout).with_site_variables();
    host.run(&command).unwrap();
    site.transcript();
}

#[test]
fn a_lock_of_uv_is_checked_and_exported_by_uv() {
    let Some(uv) = program("uv") else { return };
    for (installer, tool) in tools() {
        let (site, tool) = (outdated(), tool.name());
        let index = Index::serve(vec![site.wheels.clone()]);
        let host = site.host_with(&[
            ("UV_DEFAULT_INDEX", &index.url),
            ("PIP_INDEX_URL", &index.url),
            ("UV_NO_CONFIG", "false"),
        ]);
        uv_project(&site, &uv, &host);
        let lock = Lock::new(site.checkout.join("uv.lock"));
        let operation = PipInstall { wanted: lock.clone().into(), ..operation(&site, installer) };
        let own = ready(&operation, &host);
        assert_eq!(changes(&own), ["+ beta 1.0", "+ gamma 3.0", "- alpha 1.0", "- gone 1.0"], "{tool}");
        assert_eq!(own.warnings, [""; 0], "{tool}");
        let all = Lock { groups: vec!["prod".to_owned()], extras: vec!["more".to_owned()], ..lock.clone() };
        let all = ready(&PipInstall { wanted: all.into(), ..operation.clone() }, &host);
        assert_eq!(changes(&all), ["alpha 1.0 → 2.0", "+ beta 1.0", "+ gamma 3.0"], "{tool}");
        all.switch.perform().unwrap();
        assert_eq!(site.live("alpha", &[]), "alpha 2.0", "{tool}");

        let unknown = Lock { groups: vec!["production".to_owned()], ..lock };
        let error = PipInstall { wanted: unknown.into(), ..operation.clone() }.plan(&host).unwrap_err();
        assert!(error.to_string().ends_with("has no group `production`: it has `dev`, `prod`"), "{error}");

        let manifest = site.checkout.join("pyproject.toml");
        let text = fs::read_to_string(&manifest).unwrap();
        fs::write(&manifest, text.replace("\"beta\"", "\"beta\", \"gone\"")).unwrap();
        let error = operation.plan(&host).unwrap_err();
        let PythonError::Lock(LockFileError::Stale { update, .. }) = &error else {
            panic!("{tool}: {error:?}")
        };
        assert_eq!(*update, "uv lock");
        relock(&site, &uv, &host);
        assert_eq!(changes(&ready(&operation, &host)), ["- alpha 2.0"], "{tool}: gone is asked for now");

        let without = host.variables().get("PATH").unwrap().to_owned();
        let without = std::env::split_paths(&without).filter(|directory| !directory.join("uv").exists());
        let without = std::env::join_paths(without).unwrap().into_string().unwrap();
        let blind = site.host_with(&[("PIP_INDEX_URL", &index.url), ("PATH", &without)]);
        let error = PipInstall { installer: Installer::Pip, ..operation }.plan(&blind).unwrap_err();
        assert!(matches!(error, PythonError::Lock(LockFileError::NoUv { .. })), "{tool}: {error:?}");
    }
}

#[test]
fn no_code_of_the_project_runs_to_check_a_lock() {
    let Some(uv) = program("uv") else { return };
    let site = outdated();
    let index = Index::serve(vec![site.wheels.clone()]);
    let host = site.host_with(&[
        ("UV_DEFAULT_INDEX", &index.url),
        ("PIP_INDEX_URL", &index.url),
        ("UV_NO_CONFIG", "false"),
    ]);
    uv_project(&site, &uv, &host);
    let manifest = site.checkout.join("pyproject.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let ran = site.directory.path().join("ran");
    fs::write(
        site.checkout.join("setup.py"),
        format!("open({:?}, 'w')\nraise SystemExit(1)\n", ran.display().to_string()),
    )
    .unwrap();
    fs::write(&manifest, text.replace("dependencies = [\"beta\"]", "dynamic = [\"dependencies\"]")).unwrap();
    let wanted = Lock::new(site.checkout.join("uv.lock")).into();
    let ready = ready(&PipInstall { wanted, ..operation(&site, Installer::Auto) }, &host);
    assert_eq!(
        ready.warnings,
        [
            "not checked whether `uv.lock` is up to date: that would run code of `site`, whose dependencies are dynamic"
        ]
    );
    assert!(!ran.exists());
}
