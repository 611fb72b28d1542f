//! Takes packages along from one virtualenv to the next, without an installer and without their files' room on the disk.
//!
//! The files are shared by hard links: pip, uv and Python's compiler never write into a file that is there, they put another
//! one in its place. Where a file system knows no such links, or another one begins, they are copied.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::packages::Package;
use super::record::{self, hash_of, is_bytecode, records_in};
use super::virtualenv::site_packages;
use crate::host::files;

/// What became of a package that was to be taken along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is in the other virtualenv.
    Whole,
    /// It is not: this file, relative to the packages, is not as it was installed.
    Changed(String),
    /// It is not: its files are not known, or only an installer can place them.
    NotKnown,
}

/// The longest first line of a script that every Linux starts an interpreter by.
///
/// Source: <https://man7.org/linux/man-pages/man2/execve.2.html>
pub(super) const LONGEST_FIRST_LINE: usize = 127;

/// A file on its way.
struct Move {
    old: PathBuf,
    new: PathBuf,
    /// What is written instead of sharing the file.
    text: Option<String>,
}

/// Two virtualenvs of the same Python.
pub(crate) struct Sharing<'a> {
    /// The packages of the one.
    source: PathBuf,
    /// Those of the other.
    target: PathBuf,
    /// The other.
    to: &'a Path,
    records: BTreeMap<String, PathBuf>,
}

impl<'a> Sharing<'a> {
    /// Looks at both; none, where it is not certain which packages belong together.
    pub(crate) fn new(from: &Path, to: &'a Path) -> Option<Self> {
        let (source, target) = (packages_of(from)?, packages_of(to)?);
        Some(Sharing { records: records_in(&source), source, target, to })
    }

    /// Takes an installed package from the one to the other, if it is as it was installed. One `of_conda` is taken as it is: conda
    /// rewrites files and programs, and leaves some out.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or placed.
    pub(crate) fn take(&self, name: &str, of_conda: Option<&Package>) -> io::Result<Taken> {
        let Some(list) = self.records.get(name) else { return Ok(Taken::NotKnown) };
        let (mut lines, mut moves) = (Vec::new(), Vec::new());
        for mut line in record::read(&self.source.join(list))? {
            let [file, hash] = [0, 1].map(|column| line.get(column).unwrap_or_default().to_owned());
            let path = Path::new(&file);
            if of_conda.is_some_and(|package| package.origin.is_none()) && path.ends_with("direct_url.json") {
                continue;
            }
            // Bytecode comes by itself; the record is written at the end.
            if !is_bytecode(path) && path != list {
                let (old, Some(new)) = (self.source.join(path), place(path, &self.target, self.to)) else {
                    return Ok(Taken::NotKnown);
                };
                let hash = hash.strip_prefix("sha256=").map(|hash| hash.trim_end_matches('='));
                if hash.is_none() && of_conda.is_none() {
                    return Ok(Taken::NotKnown);
                }
                let contents = match fs::read(&old) {
                    Ok(contents) => contents,
                    Err(_) if of_conda.is_some() => continue,
                    Err(_) => return Ok(Taken::Changed(file)),
                };
                if of_conda.is_none() && hash != Some(&hash_of(&contents)) {
                    return Ok(Taken::Changed(file));
                }
                let is_program = new.starts_with(self.to.join("bin"));
                let text = match if is_program { script_for(&contents, self.to) } else { Script::Same } {
                    Script::Same => None,
                    Script::Other(text) => Some(text),
                    Script::OfTheInstaller => return Ok(Taken::NotKnown),
                };
                if let Some(text) = &text {
                    line = record::changed(&line, text.as_bytes());
                }
                moves.push(Move { old, new, text });
            }
            lines.push(line);
        }
        for Move { old, new, text } in moves {
            match text {
                None => share(&old, &new)?,
                Some(text) => {
                    fs::create_dir_all(files::parent(&new))?;
                    fs::write(&new, text)?;
                    fs::set_permissions(&new, fs::metadata(&old)?.permissions())?;
                }
            }
        }
        // The last one: with it the package is installed.
        let list = self.target.join(list);
        fs::create_dir_all(files::parent(&list))?;
        fs::write(list, record::text_of(&lines)?)?;
        Ok(Taken::Whole)
    }
}

/// Returns the only directory of packages of a virtualenv.
fn packages_of(staged: &Path) -> Option<PathBuf> {
    let mut directories = site_packages(staged).into_iter();
    let (_, directory) = directories.next()?;
    directories.next().is_none().then_some(directory)
}

/// Returns where a file of a record belongs; none when that is not within the virtualenv.
fn place(path: &Path, packages: &Path, staged: &Path) -> Option<PathBuf> {
    // Programs, manuals and the like are three directories above `lib/python3.11/site-packages`.
    let (base, path) = match path.strip_prefix("../../..") {
        Ok(inside) => (staged, inside),
        Err(_) => (packages, path),
    };
    path.components().all(|part| matches!(part, Component::Normal(_))).then(|| base.join(path))
}

/// What a program is in another virtualenv.
#[derive(Debug, PartialEq)]
enum Script {
    Same,
    Other(String),
    /// Only an installer can write it.
    OfTheInstaller,
}

/// Python's scripts name the Python of their virtualenv by an absolute path in their first line.
fn script_for(contents: &[u8], staged: &Path) -> Script {
    let text = std::str::from_utf8(contents).ok().and_then(|text| text.strip_prefix("#!"));
    let Some((first, rest)) = text.and_then(|text| text.split_once('\n')) else { return Script::Same };
    // Behind a very long path, or one with a space, there is a shell script that starts Python.
    if rest.starts_with("'''exec'") {
        return Script::OfTheInstaller;
    }
    let first = first.trim();
    let (interpreter, flags) = first.split_at(first.find(' ').unwrap_or(first.len()));
    let name = Path::new(interpreter).file_name().unwrap_or_default();
    if !name.to_string_lossy().starts_with("python") {
        return Script::Same;
    }
    let first = format!("#!{}{flags}", staged.join("bin/python").display());
    if first.len() > LONGEST_FIRST_LINE || staged.to_string_lossy().contains(' ') {
        return Script::OfTheInstaller;
    }
    Script::Other(format!("{first}\n{rest}"))
}

/// Links a file, or copies it where that cannot be. What another package has put there stays: it had the same record.
pub(super) fn share(old: &Path, new: &Path) -> io::Result<()> {
    match link(old, new) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Another file system, one without links, too many links, or a file of another user.
        Err(_) => {
            fs::create_dir_all(files::parent(new))?;
            fs::copy(old, new)?;
            fs::File::open(new)?.set_modified(fs::metadata(old)?.modified()?)
        }
        Ok(()) => Ok(()),
    }
}

/// Links a file into a directory, which is made when it is missing.
pub(super) fn link(old: &Path, new: &Path) -> io::Result<()> {
    match fs::hard_link(old, new) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(files::parent(new))?;
            fs::hard_link(old, new)
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn take(name: &str, from: &Path, to: &Path) -> io::Result<Taken> {
        Sharing::new(from, to).unwrap().take(name, None)
    }

    const PACKAGES: &str = "lib/python3.11/site-packages";

    /// Two virtualenvs, and a package in the first one: a file for each path, listed with its hash.
    fn virtualenvs(files: &[(&str, &str)]) -> (tempfile::TempDir, [PathBuf; 2]) {
        let directory = tempfile::tempdir().unwrap();
        let both = ["from", "to"].map(|name| directory.path().join(name));
        for staged in &both {
            fs::create_dir_all(staged.join(PACKAGES)).unwrap();
        }
        let packages = both[0].join(PACKAGES);
        let mut record = "Demo.One-1.dist-info/RECORD,,\n".to_owned();
        for (file, text) in files {
            let path = packages.join(file);
            // What is above the packages is there already.
            fs::create_dir_all(both[0].join("bin")).unwrap();
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            record.push_str(&format!("\"{file}\",sha256={},{}\n", hash_of(text.as_bytes()), text.len()));
        }
        fs::create_dir_all(packages.join("Demo.One-1.dist-info")).unwrap();
        fs::write(packages.join("Demo.One-1.dist-info/RECORD"), record).unwrap();
        (directory, both)
    }

    #[test]
    fn the_files_of_a_package_are_shared_and_its_scripts_are_its_own() {
        let script = "#!/old/bin/python3 -s\nimport demo\n";
        let files =
            [("demo/sub/a, b.py", "a"), ("../../../bin/demo", script), ("../../../share/man/demo.1", "m")];
        let (_directory, [from, to]) = virtualenvs(&files);
        let [old, new] = [&from, &to].map(|staged| staged.join(PACKAGES));
        assert_eq!(take("demo-one", &from, &to).unwrap(), Taken::Whole);

        let file = |staged: &Path, name: &str| fs::metadata(staged.join(name)).unwrap().ino();
        for name in ["demo/sub/a, b.py", "../../../share/man/demo.1"] {
            assert_eq!(file(&old, name), file(&new, name), "{name}");
        }
        let first = format!("#!{}/bin/python -s\nimport demo\n", to.display());
        assert_eq!(fs::read_to_string(to.join("bin/demo")).unwrap(), first);
        assert_eq!(fs::read_to_string(from.join("bin/demo")).unwrap(), script);
        let record = fs::read_to_string(new.join("Demo.One-1.dist-info/RECORD")).unwrap();
        let line = format!("../../../bin/demo,sha256={},{}", hash_of(first.as_bytes()), first.len());
        assert!(record.lines().any(|found| found == line), "{record}");
        // What was taken along is as it was installed, and can be taken further.
        let further = from.with_file_name("further");
        fs::create_dir_all(further.join(PACKAGES)).unwrap();
        assert_eq!(take("demo-one", &to, &further).unwrap(), Taken::Whole);
    }

    #[test]
    fn a_package_that_is_not_as_it_was_installed_is_left_to_the_installer() {
        let (_directory, [from, to]) = virtualenvs(&[("demo.py", "a"), ("other.py", "b")]);
        let other = from.join(PACKAGES).join("other.py");
        for change in [Some("fixed by hand"), None] {
            match change {
                Some(text) => fs::write(&other, text).unwrap(),
                None => fs::remove_file(&other).unwrap(),
            }
            assert_eq!(take("demo-one", &from, &to).unwrap(), Taken::Changed("other.py".to_owned()));
        }
        assert_eq!(take("another", &from, &to).unwrap(), Taken::NotKnown);
        assert_eq!(fs::read_dir(to.join(PACKAGES)).unwrap().count(), 0);
    }

    #[test]
    fn a_package_of_conda_is_taken_as_it_is() {
        let files =
            [("demo.py", "a"), ("left_out.py", "b"), ("../../../bin/demo", "#!/build/bin/python\nx\n")];
        let url = "Demo.One-1.dist-info/direct_url.json";
        let (_directory, [from, to]) = virtualenvs(&[&files[..], &[(url, "{}")]].concat());
        fs::write(from.join("bin/demo"), "#!/conda/bin/python\ny\n").unwrap();
        fs::remove_file(from.join(PACKAGES).join("left_out.py")).unwrap();
        assert!(matches!(take("demo-one", &from, &to).unwrap(), Taken::Changed(_)));
        let package = Package::new("Demo.One", "1");
        let taken = Sharing::new(&from, &to).unwrap().take("demo-one", Some(&package)).unwrap();
        assert_eq!(taken, Taken::Whole);
        let program = format!("#!{}/bin/python\ny\n", to.display());
        assert_eq!(fs::read_to_string(to.join("bin/demo")).unwrap(), program);
        let packages = to.join(PACKAGES);
        assert_eq!(
            ["demo.py", "left_out.py", url].map(|file| packages.join(file).exists()),
            [true, false, false]
        );
        let record = fs::read_to_string(packages.join("Demo.One-1.dist-info/RECORD")).unwrap();
        assert!(!record.contains("left_out") && !record.contains("direct_url"), "{record}");
    }

    #[test]
    fn what_only_an_installer_can_place_is_left_to_it() {
        let long = "#!/bin/sh\n'''exec' \"/a b/bin/python\" \"$0\" \"$@\"\n' '''\nimport demo\n";
        for (file, text) in [("../../../../outside", ""), ("/etc/demo", ""), ("../../../bin/demo", long)] {
            let (directory, [from, to]) = virtualenvs(&[("demo.py", "a")]);
            let packages = from.join(PACKAGES);
            if !file.starts_with('/') {
                fs::create_dir_all(from.join("bin")).unwrap();
                fs::write(packages.join(file), text).unwrap();
            }
            let record = packages.join("Demo.One-1.dist-info/RECORD");
            let more = format!("{file},sha256={},{}\n", hash_of(text.as_bytes()), text.len());
            fs::write(&record, fs::read_to_string(&record).unwrap() + &more).unwrap();
            assert_eq!(take("demo-one", &from, &to).unwrap(), Taken::NotKnown, "{file}");
            assert_eq!(fs::read_dir(to.join(PACKAGES)).unwrap().count(), 0, "{file}");
            drop(directory);
        }
    }

    #[test]
    fn a_script_keeps_what_is_not_python_s() {
        let script_for = |text: &str, staged: &str| script_for(text.as_bytes(), Path::new(staged));
        assert_eq!(script_for("#!/bin/sh\nexit\n", "/srv/venv"), Script::Same);
        assert_eq!(script_for("#!/usr/bin/env -S x\n", "/srv/venv"), Script::Same);
        let mine = script_for("#!/old/python3.11 -sE\nx\n", "/srv/venv");
        assert_eq!(mine, Script::Other("#!/srv/venv/bin/python -sE\nx\n".to_owned()));
        let deep = format!("/srv/{}", "x".repeat(LONGEST_FIRST_LINE));
        for staged in [deep.as_str(), "/srv/my site"] {
            assert_eq!(script_for("#!/old/bin/python\n", staged), Script::OfTheInstaller);
        }
    }
}
