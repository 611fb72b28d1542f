//! Takes pip, setuptools and wheel along from one environment to the next, without an index.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use super::packages::normalise;
use super::virtualenv::{files_of_record, site_packages};

/// Copies an installed package from one environment to another one of the same Python; returns whether it could be found.
///
/// # Errors
///
/// When a file cannot be read or written.
pub(crate) fn copy_package(name: &str, from: &Path, to: &Path) -> io::Result<bool> {
    let (Some((_, source)), Some((_, target))) =
        (site_packages(from).into_iter().next(), site_packages(to).into_iter().next())
    else {
        return Ok(false);
    };
    let Some(record) = record_of(&source, name) else { return Ok(false) };
    let text = fs::read_to_string(record)?;
    for file in files_of_record(&text) {
        let path = Path::new(file);
        let old = source.join(path);
        // Compiled files are listed, but need not be there.
        if path.is_absolute() || !old.is_file() {
            continue;
        }
        if path.components().all(|part| matches!(part, Component::Normal(_))) {
            let new = target.join(path);
            fs::create_dir_all(new.parent().unwrap_or(&target))?;
            fs::copy(&old, &new)?;
            // A compiled file holds the time of its source, and is compiled anew when that differs.
            fs::File::open(&new)?.set_modified(fs::metadata(&old)?.modified()?)?;
        } else if let Some(script) = file.strip_prefix("../../../bin/").filter(|script| !script.contains('/'))
        {
            copy_script(&old, &to.join("bin").join(script), to)?;
        }
    }
    Ok(true)
}

fn record_of(packages: &Path, name: &str) -> Option<PathBuf> {
    fs::read_dir(packages).ok()?.filter_map(Result::ok).map(|entry| entry.path()).find_map(|path| {
        let file_name = path.file_name()?.to_str()?;
        let (package, _) = file_name.strip_suffix(".dist-info")?.split_once('-')?;
        let record = path.join("RECORD");
        (normalise(package) == name && record.is_file()).then_some(record)
    })
}

/// A script starts the Python of its environment by an absolute path in its first line.
fn copy_script(old: &Path, new: &Path, environment: &Path) -> io::Result<()> {
    let text = fs::read_to_string(old)?;
    // Behind a very long path there is a shell script, which is not worth the trouble: `python -m pip` works.
    let Some((first, rest)) = text.split_once('\n') else { return Ok(()) };
    if !first.starts_with("#!") || !first.contains("python") {
        return Ok(());
    }
    let python = environment.join("bin/python");
    fs::write(new, format!("#!{}\n{rest}", python.display()))?;
    fs::set_permissions(new, fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_comes_along_with_its_script_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        for environment in [&from, &to] {
            fs::create_dir_all(environment.join("lib/python3.11/site-packages")).unwrap();
            fs::create_dir_all(environment.join("bin")).unwrap();
        }
        let packages = from.join("lib/python3.11/site-packages");
        fs::create_dir_all(packages.join("pip/sub")).unwrap();
        fs::create_dir_all(packages.join("pip-23.0.dist-info")).unwrap();
        fs::write(packages.join("pip/sub/a.py"), "a").unwrap();
        fs::write(packages.join("other.py"), "").unwrap();
        fs::write(from.join("bin/pip"), "#!/old/bin/python3\nimport pip\n").unwrap();
        fs::write(
            packages.join("pip-23.0.dist-info/RECORD"),
            "pip/sub/a.py,,\n../../../bin/pip,,\n../../../../outside,,\n/etc/passwd,,\npip/gone.py,,\npip-23.0.dist-info/RECORD,,\n",
        )
        .unwrap();
        fs::write(folder.path().join("outside"), "").unwrap();
        assert!(copy_package("pip", &from, &to).unwrap());
        let target = to.join("lib/python3.11/site-packages");
        assert_eq!(fs::read_to_string(target.join("pip/sub/a.py")).unwrap(), "a");
        assert!(target.join("pip-23.0.dist-info/RECORD").is_file() && !target.join("other.py").exists());
        let script = fs::read_to_string(to.join("bin/pip")).unwrap();
        assert_eq!(script, format!("#!{}/bin/python\nimport pip\n", to.display()));
        assert!(!copy_package("wheel", &from, &to).unwrap());
    }
}
