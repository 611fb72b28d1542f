//! Packages of the checkout with real pip, uv and setuptools: editable ones and others, of requirements and of locks.

use super::*;

const PROJECT: &str = "[build-system]\nrequires = [\"setuptools\"]\nbuild-backend = \"setuptools.build_meta\"\n\n\
                       [project]\nname = \"Demo_Site\"\nversion = \"VERSION\"\ndependencies = [\"alpha\"]\n\n\
                       [project.scripts]\ndemo-NAME = \"demo:main\"\n";
/// A package whose editable form is a finder module.
const LIBRARY: &str = "from setuptools import setup\n\
                       setup(name='extra-lib', version='1', packages=['extra'], package_dir={'extra': 'code'}, install_requires=['gamma'])\n";

/// A site that is a package, with a library in it, and the next version of both in a staged tree.
struct Packaged {
    site: PythonSite,
    staged: PathBuf,
    /// Where nothing of the virtualenv leads afterwards.
    traces: Vec<String>,
}

fn git(directory: &Path, words: &[&str]) {
    let mut command = std::process::Command::new("git");
    command.arg("-C").arg(directory).args([
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@t",
        "-c",
        "commit.gpgsign=false",
    ]);
    run(command.args(words));
}

fn write(directory: &Path, file: &str, text: &str) {
    let path = directory.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn version(directory: &Path, version: &str, name: &str) {
    let module = format!("def main():\n    import extra\n    print({version:?}, extra.WHAT, __file__)\n");
    write(directory, "src/demo/__init__.py", &module);
    write(directory, "pyproject.toml", &PROJECT.replace("VERSION", version).replace("NAME", name));
    write(directory, "lib/code/__init__.py", &format!("WHAT = 'extra of {version}'\n"));
    write(directory, "lib/setup.py", LIBRARY);
    write(directory, ".gitignore", "*.egg-info\n");
    git(directory, &["add", "-A"]);
    git(directory, &["commit", "-qm", version]);
}

impl Packaged {
    fn new() -> Option<Packaged> {
        let wheels = wheels()?;
        let site = PythonSite::new();
        for file in fs::read_dir(wheels).unwrap().map(|entry| entry.unwrap().path()) {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            if ["setuptools-", "wheel-", "packaging-"].iter().any(|start| name.starts_with(start)) {
                fs::copy(&file, site.wheels.join(name)).unwrap();
            }
        }
        for (name, version) in [("alpha", "1.0"), ("gamma", "1.0")] {
            site.wheel(name, version, &[]);
        }
        site.install_by_hand(&["wheel"]);
        site.require("-e .\n-e ./lib\n");
        git(&site.checkout, &["init", "-q"]);
        version(&site.checkout, "1.0", "old");
        let staged = site.directory.path().join("staged tree");
        git(&site.checkout, &["worktree", "add", "-q", "--detach", staged.to_str().unwrap()]);
        version(&staged, "2.0", "new");
        let traces = [staged.to_str().unwrap(), "staged%20tree", "sources-"].map(str::to_owned).to_vec();
        Some(Packaged { site, staged, traces })
    }

    /// Returns a host whose pip builds with what is installed, which takes seconds less.
    fn host(&self) -> Host {
        self.site.host_with(&[("PIP_NO_BUILD_ISOLATION", "0")])
    }

    /// Returns the installation of an update: from the staged tree.
    fn operation(&self, installer: Installer) -> PipInstall {
        let operation = operation(&self.site, installer);
        let wanted = vec![self.staged.join("requirements.txt")].into();
        PipInstall { directory: self.staged.clone(), wanted, ..operation }
    }

    /// As the step `code` does it.
    fn code_goes_live(&self) {
        let commit =
            run(std::process::Command::new("git").arg("-C").arg(&self.staged).args(["rev-parse", "HEAD"]));
        git(&self.site.checkout, &["checkout", "-q", "--detach", commit.trim()]);
    }

    /// Returns the files of a virtualenv in which a trace of the preparation is.
    fn named_in(&self, virtualenv: &Path) -> Vec<PathBuf> {
        let (mut found, mut waiting) = (Vec::new(), vec![fs::canonicalize(virtualenv).unwrap()]);
        while let Some(directory) = waiting.pop() {
            for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
                match look(&path) {
                    Found::Directory => waiting.push(path),
                    Found::File => {
                        let bytes = fs::read(&path).unwrap();
                        let is_in = |trace: &String| {
                            bytes.windows(trace.len()).any(|window| window == trace.as_bytes())
                        };
                        if self.traces.iter().any(is_in) {
                            found.push(path);
                        }
                    }
                    _ => {}
                }
            }
        }
        found
    }
}

fn of(virtualenv: &Path, program: &str) -> String {
    run(&mut std::process::Command::new(virtualenv.join("bin").join(program))).trim().to_owned()
}

#[test]
fn editable_packages_are_of_the_staged_tree_until_they_are_live() {
    let Some(_) = wheels() else { return };
    for (installer, tool) in tools() {
        let (packaged, tool) = (Packaged::new().unwrap(), tool.name());
        let (site, host) = (&packaged.site, packaged.host());
        let mut by_hand = std::process::Command::new("sh");
        let python = site.virtualenv.join("bin/python");
        let words = "cd \"$0\" && exec \"$1\" -m pip install --use-pep517 --no-build-isolation --no-index -q -r requirements.txt";
        run(by_hand.args(["-c", words]).arg(&site.checkout).arg(python));
        let checkout = fs::canonicalize(&site.checkout).unwrap();
        let old = format!("1.0 extra of 1.0 {}", checkout.join("src/demo/__init__.py").display());
        assert_eq!(of(&site.virtualenv, "demo-old"), old, "{tool}");
        let before = tree_hash(&checkout);

        // The same code is nothing new, wherever the virtualenv comes from.
        let mut same = operation(site, installer);
        let Prepared::Unchanged { reason, record } = same.plan(&host).unwrap() else { panic!("{tool}") };
        assert!(reason.starts_with("the installed packages are the 4 that"), "{tool}: {reason}");
        same.record = Some(record);
        site.transcript();
        assert!(matches!(same.plan(&host).unwrap(), Prepared::Unchanged { .. }), "{tool}");
        assert_eq!(site.transcript(), "", "{tool}: no program was run");

        let mut next = PipInstall { record: same.record.clone(), ..packaged.operation(installer) };
        let new = ready(&next, &host);
        assert_eq!(
            changes(&new),
            ["demo-site 1.0 → editable `.`", "extra-lib 1 → editable `./lib`"],
            "{tool}"
        );
        let staged = fs::canonicalize(&packaged.staged).unwrap();
        let text = format!("2.0 extra of 2.0 {}", staged.join("src/demo/__init__.py").display());
        assert_eq!(of(&new.staged, "demo-new"), text, "{tool}");
        assert!(packaged.named_in(&new.staged).len() >= 4, "{tool}");
        assert_eq!((tree_hash(&checkout), of(&site.virtualenv, "demo-old")), (before, old.clone()), "{tool}");
        let clean =
            run(std::process::Command::new("git").arg("-C").arg(&staged).args(["status", "-s", "--ignored"]));
        assert!(!clean.contains("egg-info"), "{tool}: {clean}");

        // A switch that was interrupted may be done once more.
        packaged.code_goes_live();
        for _ in 0..2 {
            new.switch.perform().unwrap();
            let text = format!("2.0 extra of 2.0 {}", checkout.join("src/demo/__init__.py").display());
            assert_eq!(of(&site.virtualenv, "demo-new"), text, "{tool}");
            assert_eq!(packaged.named_in(&site.virtualenv), Vec::<PathBuf>::new(), "{tool}");
        }
        site.live("python", &["-m", "pip", "check"]);
        assert!(!site.virtualenv.join("bin/demo-old").exists(), "{tool}");
        next.record = Some(new.record.clone());
        site.transcript();
        assert!(matches!(next.plan(&host).unwrap(), Prepared::Unchanged { .. }), "{tool}");
        assert_eq!(site.transcript(), "", "{tool}");

        // Back, and forward again: what has been live stays as it is, and another one is of the staged tree.
        git(&site.checkout, &["checkout", "-q", "--detach", "HEAD^"]);
        new.back.perform().unwrap();
        assert_eq!(of(&site.virtualenv, "demo-old"), old, "{tool}");
        next.record = None;
        let again = ready(&next, &host);
        assert!(!again.reused && again.staged != new.staged, "{tool}");
        assert_eq!(packaged.named_in(&new.staged), Vec::<PathBuf>::new(), "{tool}");
        assert!(of(&again.staged, "demo-new").starts_with("2.0 extra of 2.0 "), "{tool}");
        let reused = ready(&next, &host);
        assert!(reused.reused && reused.staged == again.staged, "{tool}");
        assert!(!packaged.named_in(&reused.staged).is_empty(), "{tool}");
        // It is not whole without a package of the checkout.
        let uninstall = |virtualenv: &Path| {
            let mut python = std::process::Command::new(virtualenv.join("bin/python"));
            run(python.args(["-m", "pip", "uninstall", "-q", "-y", "extra-lib"]));
        };
        uninstall(&again.staged);
        let again = ready(&next, &host);
        assert!(!again.reused && again.staged == reused.staged, "{tool}");
        packaged.code_goes_live();
        again.switch.perform().unwrap();
        assert_eq!(packaged.named_in(&site.virtualenv), Vec::<PathBuf>::new(), "{tool}");

        // Nor is the live one.
        next.record = Some(again.record);
        assert!(matches!(next.plan(&host).unwrap(), Prepared::Unchanged { .. }), "{tool}");
        uninstall(&site.virtualenv);
        let repaired = ready(&next, &host);
        assert_eq!(changes(&repaired), ["demo-site 2.0 → editable `.`", "+ lib editable `./lib`"], "{tool}");
        assert_ne!(repaired.staged, again.staged, "{tool}");
        assert!(of(&repaired.staged, "demo-new").starts_with("2.0 extra of 2.0 "), "{tool}");
    }
}

#[test]
fn editable_packages_are_changed_in_place() {
    let Some(packaged) = Packaged::new() else { return };
    let (site, host) = (&packaged.site, packaged.host());
    let next = PipInstall { in_place: true, ..packaged.operation(Installer::Pip) };
    let new = ready(&next, &host);
    let checkout = fs::canonicalize(&site.checkout).unwrap();
    packaged.code_goes_live();
    new.switch.perform().unwrap();
    let text = format!("2.0 extra of 2.0 {}", checkout.join("src/demo/__init__.py").display());
    assert_eq!(of(&site.virtualenv, "demo-new"), text);
    fs::remove_dir_all(site.virtualenv.join(".deploykit-packages")).unwrap();
    assert_eq!(packaged.named_in(&site.virtualenv), Vec::<PathBuf>::new());
}

#[test]
fn other_packages_of_the_checkout_are_built_anew_with_every_change() {
    let Some(packaged) = Packaged::new() else { return };
    // Only uv keeps what it has built of a directory.
    for (installer, tool) in tools().into_iter().skip(1) {
        let tool = tool.name();
        let (site, host) = (&packaged.site, packaged.host());
        fs::write(
            packaged.staged.join("requirements.txt"),
            fs::read_to_string(site.require("./lib\n")).unwrap(),
        )
        .unwrap();
        let next = packaged.operation(installer);
        let first = ready(&next, &host);
        assert_eq!(changes(&first), ["+ gamma 1.0", "+ lib `./lib`"], "{tool}");
        let what = |virtualenv: &Path| {
            let mut python = std::process::Command::new(virtualenv.join("bin/python"));
            run(python.args(["-c", "import extra; print(extra.WHAT)"])).trim().to_owned()
        };
        assert_eq!(what(&first.staged), "extra of 2.0", "{tool}");
        // A file that neither installer looks at to tell what it has built.
        write(&packaged.staged, "lib/code/__init__.py", "WHAT = 'another'\n");
        git(&packaged.staged, &["commit", "-qam", "more"]);
        let second = ready(&next, &host);
        assert_ne!(second.staged, first.staged, "{tool}");
        assert_eq!(what(&second.staged), "another", "{tool}");
        second.switch.perform().unwrap();
        assert_eq!(packaged.named_in(&site.virtualenv), Vec::<PathBuf>::new(), "{tool}");
        // Elsewhere in the checkout nothing concerns it.
        write(&packaged.staged, "src/demo/more.py", "");
        git(&packaged.staged, &["add", "-A"]);
        git(&packaged.staged, &["commit", "-qm", "elsewhere"]);
        let next = PipInstall { record: Some(second.record), ..next };
        assert!(matches!(next.plan(&host).unwrap(), Prepared::Unchanged { .. }), "{tool}");
        // No longer asked for, it goes.
        fs::write(
            packaged.staged.join("requirements.txt"),
            fs::read_to_string(site.require("gamma\n")).unwrap(),
        )
        .unwrap();
        assert_eq!(
            changes(&ready(&next, &host)),
            ["- extra-lib 1 (file://CHECKOUT/lib)"
                .replace("CHECKOUT", fs::canonicalize(&site.checkout).unwrap().to_str().unwrap())],
            "{tool}"
        );
    }
}
