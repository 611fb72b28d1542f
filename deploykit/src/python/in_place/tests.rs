//! Two virtualenvs of files, without a Python.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::python::managed::managed;

const LIB: &str = "lib/python3.11/site-packages";

/// What is in a virtualenv beside what is prepared: contents, mode, time of each file.
fn seen(virtualenv: &Path) -> BTreeMap<PathBuf, (String, u32, i64)> {
    let (mut found, mut waiting) = (BTreeMap::new(), vec![virtualenv.to_owned()]);
    while let Some(directory) = waiting.pop() {
        for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_file() {
                let text = fs::read_to_string(&path).unwrap();
                let inside = path.strip_prefix(virtualenv).unwrap().to_owned();
                found.insert(inside, (text, metadata.mode(), metadata.mtime()));
            } else if !path.ends_with(PACKAGES) {
                waiting.push(path);
            }
        }
    }
    found
}

/// Puts a package with these files, from the directory of packages, into a virtualenv.
fn install(virtualenv: &Path, name: &str, version: &str, files: &[(&str, &str)]) {
    let packages = virtualenv.join(LIB);
    let info = format!("{name}-{version}.dist-info");
    let metadata = format!("Name: {name}\nVersion: {version}\n");
    let mut record = format!("{info}/METADATA,,\n{info}/RECORD,,\n");
    fs::create_dir_all(packages.join(&info)).unwrap();
    fs::write(packages.join(&info).join("METADATA"), metadata).unwrap();
    for (file, text) in files {
        let path = crate::names::normal(&packages.join(file));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        if file.contains("/bin/") {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        }
        if !file.ends_with(".pyc") {
            record.push_str(&format!("{file},sha256=x,1\n"));
        }
    }
    fs::write(packages.join(&info).join("RECORD"), record).unwrap();
}

/// A live virtualenv, a staged one, and a place.
fn site() -> (tempfile::TempDir, [PathBuf; 3]) {
    let directory = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(directory.path()).unwrap();
    let [live, staged] = ["live", "staged"].map(|name| root.join(name));
    let script = |top: &Path| format!("#!{}/bin/python\nrun()\n", top.display());
    let old = script(&live);
    install(
        &live,
        "a",
        "1",
        &[("a/__init__.py", "1"), ("a/__pycache__/__init__.cpython-311.pyc", "1"), ("../../../bin/a", &old)],
    );
    install(&live, "gone", "1", &[("gone.py", "1"), ("../../../share/doc/gone.txt", "1")]);
    install(&live, "stays", "1", &[("stays.py", "1")]);
    fs::write(live.join(LIB).join("own.pth"), "/srv\n").unwrap();
    let new = script(&staged);
    let files = [("a/more.py", "2"), ("../../../bin/a", &*new), ("../../../bin/a2", &*new)];
    install(&staged, "a", "2", &files);
    let place = vacant(&live, "key");
    (directory, [live, staged, place])
}

fn next_of<'a>([live, staged, place]: &'a [PathBuf; 3], before: &'a Packages) -> Next<'a> {
    Next { virtualenv: live, staged, place, trees: [staged, staged], before }
}

fn prepare(paths: &[PathBuf; 3]) {
    let before = Virtualenv::installed(&paths[0]);
    let next = next_of(paths, &before);
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    next.prepare(&Host::new(), &names(&["a", "gone"]), &names(&["a"])).unwrap();
}

#[test]
fn packages_are_exchanged_and_come_back_as_they_were() {
    let (_directory, paths) = site();
    let [live, _, place] = &paths;
    let before = seen(live);
    let old = files::inode(&live.join(LIB));
    prepare(&paths);
    assert_eq!(seen(live), before, "the preparation changes nothing");
    assert!(is_ready(place) && !is_live(place));
    assert_eq!(vacant(live, "key"), live.join(PACKAGES).join("key-2"));
    bring(live, place, false).unwrap();
    assert_eq!(seen(live), before);

    for _ in 0..2 {
        for _ in 0..2 {
            bring(live, place, true).unwrap();
            let now = seen(live);
            let is_there = |file: &str| now.contains_key(Path::new(file));
            assert!(is_there(&format!("{LIB}/a/more.py")) && is_there(&format!("{LIB}/own.pth")));
            assert!(is_there(&format!("{LIB}/stays.py")) && !is_there(&format!("{LIB}/gone.py")));
            assert!(!is_there(&format!("{LIB}/a/__init__.py")) && !is_there("share/doc/gone.txt"));
            assert!(!live.join(LIB).join("a/__pycache__").exists());
            for program in ["bin/a", "bin/a2"] {
                let (text, mode, _) = &now[Path::new(program)];
                assert_eq!(*text, format!("#!{}/bin/python\nrun()\n", live.display()));
                assert_eq!(mode & 0o777, 0o750);
            }
            let versions = Virtualenv::installed(live);
            let versions: Vec<&str> = versions.iter().map(|(_, package)| package.version.as_str()).collect();
            assert_eq!(versions, ["2", "1"]);
            assert!(is_live(place));
        }
        for _ in 0..2 {
            bring(live, place, false).unwrap();
            assert_eq!((seen(live), files::inode(&live.join(LIB))), (before.clone(), old));
            assert!(!is_live(place));
        }
    }
}

#[test]
fn an_exchange_that_was_interrupted_is_undone_and_done() {
    let (_directory, paths) = site();
    let [live, _, place] = &paths;
    let before = seen(live);
    prepare(&paths);
    let ready = Ready::read(place).unwrap().unwrap();
    let files: Vec<&Path> = ready.files.iter().map(PathBuf::as_path).collect();
    assert_eq!(files, ["bin/a", "bin/a2", "share/doc/gone.txt"].map(Path::new));
    // Some of the files were replaced, and nothing else.
    put(&place.join("bin/a"), &live.join("bin/a")).unwrap();
    fs::remove_file(live.join("share/doc/gone.txt")).unwrap();
    bring(live, place, false).unwrap();
    assert_eq!(seen(live), before);
    // The packages came back, and the files did not.
    bring(live, place, true).unwrap();
    let after = seen(live);
    ready.directories[0][1].perform().unwrap();
    bring(live, place, true).unwrap();
    assert_eq!(seen(live), after);
    ready.directories[0][1].perform().unwrap();
    bring(live, place, false).unwrap();
    assert_eq!(seen(live), before);
}

#[test]
fn what_a_package_that_went_shared_with_one_that_stays_is_there() {
    let (_directory, paths) = site();
    let [live, staged, place] = &paths;
    install(live, "gone", "1", &[("gone.py", "1"), ("shared/mod.py", "1")]);
    install(live, "stays", "1", &[("stays.py", "1"), ("shared/mod.py", "1")]);
    install(staged, "stays", "1", &[("stays.py", "1"), ("shared/mod.py", "1")]);
    // Another version of what is not asked for, and a file that no package has.
    install(live, "pip", "24", &[("pip/new.py", "1")]);
    install(staged, "pip", "23", &[("pip/old.py", "1")]);
    fs::create_dir_all(live.join(LIB).join("a")).unwrap();
    fs::write(live.join(LIB).join("a/more.py"), "stray").unwrap();
    prepare(&paths);
    let read = |file: &str| fs::read_to_string(place.join(LIB).join(file)).ok();
    assert_eq!(read("shared/mod.py").as_deref(), Some("1"));
    assert_eq!(read("a/more.py").as_deref(), Some("2"));
    assert_eq!((read("pip/old.py"), read("pip/new.py").as_deref()), (None, Some("1")));
    assert!(!place.join(LIB).join("pip-23.dist-info").exists());
}

#[test]
fn links_and_directories_in_place_of_programs() {
    let (_directory, paths) = site();
    let [live, _, place] = &paths;
    let program = live.join("bin/a");
    fs::remove_file(&program).unwrap();
    std::os::unix::fs::symlink("/srv/wrapper", &program).unwrap();
    prepare(&paths);
    bring(live, place, true).unwrap();
    assert!(program.is_file());
    bring(live, place, false).unwrap();
    assert_eq!(files::look(&program), Found::Link("/srv/wrapper".into()));
    fs::remove_file(&program).unwrap();
    fs::create_dir(&program).unwrap();
    let before = Virtualenv::installed(live);
    let next = next_of(&paths, &before);
    let names = BTreeSet::from(["a".to_owned()]);
    let error = next.prepare(&Host::new(), &names, &names).unwrap_err();
    assert!(matches!(&error, PythonError::DirectoryInTheWay { path } if *path == program), "{error}");
}

#[test]
fn a_package_that_lies_in_the_staged_virtualenv_is_refused() {
    let (_directory, paths) = site();
    let [live, staged, _] = &paths;
    let source = staged.join("src/a").display().to_string();
    install(staged, "a", "2", &[("__editable___a.pth", &source)]);
    let before = Virtualenv::installed(live);
    let next = next_of(&paths, &before);
    let names = BTreeSet::from(["a".to_owned()]);
    let error = next.prepare(&Host::new(), &names, &names).unwrap_err();
    assert!(matches!(&error, PythonError::NamesStaged { name, .. } if name == "a"), "{error}");
}

#[test]
fn a_directory_that_the_window_could_not_write_is_refused() {
    // Root may write everywhere.
    if rustix::process::geteuid().is_root() {
        return;
    }
    let (_directory, paths) = site();
    let live = &paths[0];
    let directory = live.join("share/doc");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o555)).unwrap();
    let before = Virtualenv::installed(live);
    let next = next_of(&paths, &before);
    let error = next.prepare(&Host::new(), &BTreeSet::from(["gone".to_owned()]), &BTreeSet::new());
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    let error = error.unwrap_err();
    assert!(
        matches!(&error, PythonError::VirtualenvNotWritable { directory: found } if *found == directory),
        "{error}"
    );
}

#[test]
fn a_file_that_the_window_could_not_replace_is_refused() {
    let (_directory, paths) = site();
    let before = Virtualenv::installed(&paths[0]);
    let error = next_of(&paths, &before).is_writable(&BTreeSet::from(["/proc".into()])).unwrap_err();
    let why = match rustix::process::geteuid().is_root() {
        true => "cannot replace `/proc`: it is a mount point",
        false => "cannot write to `/`",
    };
    assert_eq!(crate::error_chain(&error), why);
}

#[test]
fn what_was_installed_meanwhile_is_never_lost() {
    let (_directory, paths) = site();
    let [live, _, place] = &paths;
    prepare(&paths);
    install(live, "new", "1", &[("new.py", "1"), ("../../../bin/a2", "mine")]);
    let before = seen(live);
    let error = bring(live, place, true).unwrap_err();
    assert!(matches!(error, PythonError::ChangedMeanwhile { .. }), "{error}");
    assert_eq!(seen(live), before);
    bring(live, place, false).unwrap();
    assert_eq!(seen(live), before, "the undo removes nothing either");
    let half = vacant(live, "half");
    fs::create_dir_all(&half).unwrap();
    remove_half(live).unwrap();
    assert!(is_ready(place) && !half.exists());
    prune(live, |kept| kept == place).unwrap();
    assert!(is_ready(place));
    prune(live, |_| false).unwrap();
    assert!(matches!(bring(live, place, true), Err(PythonError::Incomplete { .. })));
    bring(live, place, false).unwrap();
    assert_eq!(seen(live), before);
}

#[test]
fn packages_of_conda_and_those_without_a_record_are_told() {
    let (_directory, paths) = site();
    let [live, staged, place] = &paths;
    fs::create_dir(live.join("conda-meta")).unwrap();
    let listed = format!("{{\"files\": [\"{LIB}/gone-1.dist-info/METADATA\"]}}");
    fs::write(live.join("conda-meta/gone-1-py_0.json"), listed).unwrap();
    let names = BTreeSet::from(["a", "gone"].map(str::to_owned));
    let of_conda = managed(live, &names).unwrap();
    assert_eq!(of_conda, [("gone".to_owned(), "conda")].into());
    assert!(managed(staged, &names).unwrap().is_empty());
    fs::remove_file(live.join(LIB).join("gone-1.dist-info/RECORD")).unwrap();
    let before = Virtualenv::installed(live);
    let next = next_of(&paths, &before);
    let error = next.prepare(&Host::new(), &names, &BTreeSet::new()).unwrap_err();
    let expected = "`gone` cannot be changed in place: it is not known which files belong to it";
    assert_eq!(error.to_string(), expected);
    assert!(matches!(error, PythonError::CannotUpdateInPlace { version, .. } if version == "1"));
    assert!(!place.exists(), "nothing is left of it");
}

#[test]
fn a_program_below_a_long_path_starts_as_pip_writes_it() {
    let long = PathBuf::from("/srv").join("x".repeat(130));
    let staged = Path::new("/staged");
    let next = Next {
        virtualenv: &long,
        staged,
        place: staged,
        trees: [staged, staged],
        before: &Packages::default(),
    };
    let text = |next: &Next<'_>| {
        String::from_utf8(next.of_the_live(b"#!/staged/bin/python\nrun()\n".to_vec())).unwrap()
    };
    let python = long.join("bin/python").display().to_string();
    assert_eq!(text(&next), format!("#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\nrun()\n"));
    let next = Next { virtualenv: Path::new("/srv/venv"), ..next };
    assert_eq!(text(&next), "#!/srv/venv/bin/python\nrun()\n");
    assert_eq!(within(Path::new(LIB), Path::new("../../../bin/a")), Some("bin/a".into()));
    assert_eq!(within(Path::new(LIB), Path::new("../../../../bin/a")), None);
}
