//! Virtualenvs that get another Python.

use std::collections::BTreeSet;

use super::*;

/// Returns the path and the version of a Python.
fn ask(program: &Path) -> Option<(PathBuf, String)> {
    let code =
        "import os, platform, sys; print(os.path.realpath(sys.executable)); print(platform.python_version())";
    let output = std::process::Command::new(program).args(["-I", "-c", code]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    let mut lines = text.lines();
    Some((lines.next()?.into(), lines.next()?.to_owned()))
}

/// Returns another Python than the one that virtualenvs are made with here; best one of another version.
fn other_python() -> Option<(PathBuf, String)> {
    let (own, version) = ask(Path::new("python3")).unwrap();
    let pyenv = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pyenv/versions"));
    let installed = pyenv.and_then(|versions| fs::read_dir(versions).ok()).into_iter().flatten();
    let installed = installed.map(|entry| entry.unwrap().path().join("bin/python3"));
    let all = ["/usr/bin/python3", "/usr/local/bin/python3"].map(PathBuf::from).into_iter().chain(installed);
    let short = |version: &str| {
        version.split('.').map(|part| part.parse().unwrap_or(0)).take(2).collect::<Vec<u32>>()
    };
    let mut found: Vec<_> =
        all.filter_map(|program| ask(&program)).filter(|(program, _)| *program != own).collect();
    found.retain(|(_, version)| short(version) >= vec![3, 9]);
    found.sort_by_key(|(_, found)| short(found) == short(&version));
    found.into_iter().next().or_else(|| crate::support::harness::leave_out("there is only one Python"))
}

/// Returns the files of a tree by their places on the disk.
fn inodes(path: &Path) -> BTreeSet<(u64, u64)> {
    let (mut found, mut waiting) = (BTreeSet::new(), vec![path.to_owned()]);
    while let Some(directory) = waiting.pop() {
        for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            match look(&path) {
                Found::Directory => waiting.push(path),
                Found::File => {
                    let file = fs::metadata(&path).unwrap();
                    found.extend((file.len() > 0).then(|| (file.dev(), file.ino())));
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn another_python_makes_a_whole_new_virtualenv_and_a_way_back() {
    let Some((program, version)) = other_python() else { return };
    let has_pip = run(std::process::Command::new(&program)
        .args(["-c", "import importlib.util as u; print(u.find_spec('ensurepip'))"]));
    for (installer, tool) in tools() {
        let (site, tool) = (outdated(), tool.name());
        if installer == Installer::Pip && has_pip.trim() == "None" {
            eprintln!("not tried with pip: `{}` comes without one", program.display());
            continue;
        }
        let of_live = |code: &str| {
            run(std::process::Command::new(site.virtualenv.join("bin/python")).args(["-c", code]))
        };
        let old = of_live("import sys; print(sys.version)");
        write_own(&site);
        let known = site.host().variables().get("PATH").map(str::to_owned);
        let known = known.unwrap_or_else(|| std::env::var("PATH").unwrap());
        let path = format!("{}:{known}", site.directory.path().join("bin").display());
        fs::create_dir(site.directory.path().join("bin")).unwrap();
        let short = version.rsplit_once('.').unwrap().0;
        std::os::unix::fs::symlink(
            &program,
            site.directory.path().join("bin").join(format!("python{short}")),
        )
        .unwrap();
        let host = site.host_with(&[("PATH", &path)]);
        let by_path =
            PipInstall { python: Some(program.display().to_string()), ..operation(&site, installer) };
        let new = ready(&by_path, &host);
        let changes = changes(&new);
        assert!(changes[0].starts_with("Python ") && changes[0].contains(&version), "{tool}: {changes:?}");
        assert!(changes.contains(&"+ beta 1.0".to_owned()), "{tool}: {changes:?}");
        assert!(
            new.warnings
                .iter()
                .any(|text| text.contains("not copied into the virtualenv of the other Python: `lib/")),
            "{tool}: {:?}",
            new.warnings
        );
        let shared: Vec<_> = inodes(&site.virtualenv).intersection(&inodes(&new.staged)).copied().collect();
        // uv has both from its cache, if it installed both.
        assert_eq!(shared, [], "{tool}");

        new.switch.perform().unwrap();
        let found = of_live("import platform; print(platform.python_version())");
        assert_eq!((found.trim(), site.live("beta", &[]).as_str()), (version.as_str(), "beta 1.0"), "{tool}");
        site.live("python", &["-m", "pip", "--version"]);
        let same = PipInstall { record: Some(new.record.clone()), ..by_path };
        site.transcript();
        assert!(matches!(same.plan(&host).unwrap(), Prepared::Unchanged { .. }), "{tool}");
        assert_eq!(site.transcript(), "", "{tool}: no program was run");
        // By its version it is the one that the virtualenv has.
        let named = PipInstall { python: Some(short.to_owned()), ..same };
        assert!(matches!(named.plan(&host).unwrap(), Prepared::Unchanged { .. }), "{tool}");
        new.back.perform().unwrap();
        assert_eq!(of_live("import sys; print(sys.version)"), old, "{tool}");
    }
}

/// Puts a file of one's own among the packages.
fn write_own(site: &PythonSite) {
    let packages = fs::read_dir(site.virtualenv.join("lib")).unwrap().next().unwrap().unwrap().path();
    fs::write(packages.join("site-packages/mine.pth"), "").unwrap();
}

#[test]
fn a_python_that_the_project_does_not_allow_is_refused_before_anything_is_built() {
    let site = outdated();
    let (host, operation) = (site.host(), operation(&site, Installer::Auto));
    fs::write(
        site.checkout.join("pyproject.toml"),
        "[project]\nname = \"site\"\nrequires-python = \">=3.99\"\n",
    )
    .unwrap();
    let error = operation.build(&host).unwrap_err();
    assert!(matches!(error, PythonError::OtherPython { .. }), "{error:?}");
    let asked = site.transcript();
    assert!(!asked.contains("pip") && !site.virtualenvs.exists(), "{asked}");
    for (python, expected) in [
        ("3.99", "no Python 3.99 found in the virtualenv, in `PATH`, or among the Pythons of pyenv and uv"),
        ("/nowhere/python", "cannot use the Python `/nowhere/python`"),
    ] {
        let error =
            PipInstall { python: Some(python.to_owned()), ..operation.clone() }.build(&host).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    fs::write(site.checkout.join("pyproject.toml"), "[project]\nname = \"site\"\n").unwrap();
    fs::write(site.checkout.join(".python-version"), "3.99\n").unwrap();
    let ready = ready(&operation, &host);
    assert!(
        ready
            .warnings
            .iter()
            .any(|text| text.starts_with("`.python-version` names Python 3.99; the virtualenv has "))
    );
    // What the project requires is looked at although the requirements stay.
    ready.switch.perform().unwrap();
    let recorded = PipInstall { record: Some(ready.record), ..operation };
    assert!(matches!(recorded.plan(&host).unwrap(), Prepared::Unchanged { .. }));
    fs::write(
        site.checkout.join("pyproject.toml"),
        "[project]\nname = \"site\"\nrequires-python = \">=3.98\"\n",
    )
    .unwrap();
    assert!(matches!(recorded.plan(&host).unwrap_err(), PythonError::OtherPython { .. }));
}
