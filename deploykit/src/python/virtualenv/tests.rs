use super::*;
use proptest::prelude::*;
use std::os::unix::fs::symlink;

fn staged(directory: &Path, settings: &str) -> PathBuf {
    let path = directory.join("venv");
    let home = directory.join("home");
    for made in [&home, &path.join("bin"), &path.join("lib/python3.11/site-packages")] {
        fs::create_dir_all(made).unwrap();
    }
    fs::write(home.join("python3.11"), "").unwrap();
    symlink(home.join("python3.11"), path.join("bin/python")).unwrap();
    symlink("lib", path.join("lib64")).unwrap();
    fs::write(path.join("pyvenv.cfg"), settings.replace("HOME", &home.to_string_lossy())).unwrap();
    path
}

fn install(path: &Path, name: &str, version: &str, record: &str) -> PathBuf {
    let info = path.join(format!("lib/python3.11/site-packages/{name}-{version}.dist-info"));
    fs::create_dir_all(&info).unwrap();
    let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: of the text\n");
    fs::write(info.join("METADATA"), metadata).unwrap();
    fs::write(info.join("RECORD"), record).unwrap();
    info
}

#[test]
fn a_virtualenv_is_read_from_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let path =
        staged(directory.path(), "home = HOME\nInclude-System-Site-Packages = TRUE\nprompt = 'site'\n");
    install(&path, "Django", "5.2", "");
    let read = Virtualenv::read(&path).unwrap();
    assert_eq!(
        (read.python.as_str(), read.prompt.as_str(), read.system_site_packages),
        ("3.11", "site", true)
    );
    assert_eq!(read.base, Some(directory.path().join("home/python3.11")));
    assert_eq!(read.packages, [Package::new("Django", "5.2")].into_iter().collect());
    fs::remove_file(directory.path().join("home/python3.11")).unwrap();
    assert_eq!(Virtualenv::read(&path).unwrap().base, None);
}

#[test]
fn another_name_of_a_python_does_not_count() {
    let directory = tempfile::tempdir().unwrap();
    let path = staged(directory.path(), "home = HOME\n");
    install(&path, "six", "1", "");
    // As conda has them.
    symlink("python3.11", path.join("lib/python3.1")).unwrap();
    symlink("python3.11", path.join("bin/python3.1")).unwrap();
    let packages = |python: &str| path.join("lib").join(python).join("site-packages");
    assert_eq!(site_packages(&path), [("python3.11".to_owned(), packages("python3.11"))]);
    let read = Virtualenv::read(&path).unwrap();
    assert_eq!((read.python.as_str(), read.base.is_some(), read.packages.len()), ("3.11", true, 1));
    // A directory elsewhere has no other name here.
    fs::rename(path.join("lib/python3.11"), directory.path().join("python3.11")).unwrap();
    symlink(directory.path().join("python3.11"), path.join("lib/python3.11")).unwrap();
    assert!(site_packages(&path).contains(&("python3.11".to_owned(), packages("python3.11"))));
}

#[test]
fn a_package_whose_files_are_gone_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = staged(directory.path(), "home = HOME\n");
    let record = "six.py,sha256=x,1\n__pycache__/six.pyc,,\n../../../bin/six,,\nsix-1.dist-info/RECORD,,\n";
    install(&path, "six", "1", record);
    let version = || Virtualenv::read(&path).unwrap().packages.get("six").unwrap().version.clone();
    assert_eq!(version(), "1 with files missing");
    fs::write(path.join("lib/python3.11/site-packages/six.py"), "").unwrap();
    assert_eq!(version(), "1");
}

#[test]
fn a_package_of_conda_does_not_come_from_where_it_was_built() {
    let directory = tempfile::tempdir().unwrap();
    let path = staged(directory.path(), "home = HOME\n");
    let here = format!("file://{}", directory.path().display());
    let there = "file:///home/conda/feedstock_root/build_artifacts/six/work";
    let origin = |name: &str, installer: &str, url: &str| {
        let info = install(&path, name, "1", &format!("{name}-1.dist-info/direct_url.json,,\n"));
        fs::write(info.join("direct_url.json"), format!("{{\"url\": \"{url}\", \"dir_info\": {{}}}}"))
            .unwrap();
        fs::write(info.join("INSTALLER"), format!("{installer}\n")).unwrap();
        Virtualenv::read(&path).unwrap().packages.get(name).unwrap().origin.clone()
    };
    assert_eq!(origin("six", "conda", there), None);
    assert_eq!(origin("six", "conda", &here), Some(here.clone()));
    assert_eq!(origin("six", "pip", there), Some(there.to_owned()));
    fs::create_dir(path.join("conda-meta")).unwrap();
    let listed = "{\"files\": [\"lib/python3.11/site-packages/six-1.dist-info/METADATA\"]}";
    fs::write(path.join("conda-meta/six-1-py_0.json"), listed).unwrap();
    assert_eq!(origin("six", "pip", there), None);
    assert_eq!(Virtualenv::installed(&path).get("six").unwrap().origin, None);
    assert_eq!(origin("cc", "pip", there), Some(there.to_owned()));
    let place = path.join(".deploykit-packages/key");
    let from = path.join("lib/python3.11/site-packages/six-1.dist-info");
    let copy = place.join("lib/python3.11/site-packages/six-1.dist-info");
    fs::create_dir_all(&copy).unwrap();
    for file in ["METADATA", "RECORD", "INSTALLER", "direct_url.json"] {
        fs::copy(from.join(file), copy.join(file)).unwrap();
    }
    assert_eq!(Virtualenv::installed(&place).get("six").unwrap().origin, None);
}

#[test]
fn other_directories_are_no_virtualenvs() {
    let directory = tempfile::tempdir().unwrap();
    let missing = Virtualenv::read(&directory.path().join("x")).unwrap_err();
    assert!(matches!(missing, PythonError::NoVirtualenv { .. }), "{missing:?}");
    // What cannot be looked at is not known to be missing.
    let round = directory.path().join("round");
    symlink(&round, &round).unwrap();
    let unseen = Virtualenv::read(&round).unwrap_err();
    assert!(unseen.to_string().starts_with("cannot look at `"), "{unseen}");
    let other = Virtualenv::read(directory.path()).unwrap_err();
    assert!(matches!(other, PythonError::NotAVirtualenv { .. }), "{other:?}");
    let message = |in_place: bool| {
        let error = Virtualenv::may_change(directory.path(), in_place).err();
        error.map(|error| error.to_string().replace(directory.path().to_str().unwrap(), "/x"))
    };
    let refused = |what: &str| Some(format!("`/x` is {what}; deploykit does not replace it"));
    assert_eq!(message(false), None);
    for made in ["bin", "lib/python3.11/site-packages"] {
        fs::create_dir_all(directory.path().join(made)).unwrap();
    }
    for python in ["python", "python3.11"] {
        fs::write(directory.path().join("bin").join(python), "").unwrap();
    }
    assert_eq!(message(false), refused("a Python installation, not a virtualenv"));
    assert_eq!(message(true), None);
    let base = Virtualenv::read(directory.path()).unwrap().base;
    assert_eq!(base, Some(directory.path().join("bin/python3.11")));
    let conda = directory.path().join("conda-meta");
    for library in ["lib", "lib64"] {
        let python = directory.path().join(library).join("python3.11");
        fs::create_dir_all(&python).unwrap();
        let managed = python.join("EXTERNALLY-MANAGED");
        fs::write(&managed, "").unwrap();
        let of_system = refused("the system's Python, not a virtualenv");
        assert_eq!([message(false), message(true)], [of_system.clone(), of_system], "{library}");
        fs::create_dir(&conda).unwrap();
        let of_conda = refused("a conda environment that pip must not change (`EXTERNALLY-MANAGED`)");
        assert_eq!([message(false), message(true)], [of_conda.clone(), of_conda], "{library}");
        fs::remove_file(managed).unwrap();
        assert_eq!([message(false), message(true)], [refused("a conda environment"), None], "{library}");
        fs::remove_dir(&conda).unwrap();
    }
}

proptest! {
    #[test]
    fn no_metadata_is_too_strange(bytes in any::<Vec<u8>>(), text in ".*") {
        let _ = package_of(&bytes);
        let _ = (top_level(&bytes), top_level(text.as_bytes()), settings_of(&text));
    }
}
