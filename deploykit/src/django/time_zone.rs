//! The time zone that settings spell out, read from their text: before Django has been asked for the first time.

use std::fs;
use std::path::{Path, PathBuf};

use regex_lite::Regex;

/// Returns the `TIME_ZONE` that a settings module, or one that it imports with `*`, assigns as a plain string.
pub(crate) fn spelled_time_zone(directory: &Path, module: &str) -> Option<String> {
    let expression = assigned(directory, &module_file(directory, module)?, &mut Vec::new())?;
    let string = Regex::new(r#"^["']([\w/+-]+)["']\s*(?:#.*)?$"#).ok()?;
    Some(string.captures(&expression)?[1].to_owned())
}

/// Returns what a file, or else the first one that it imports and that assigns it, assigns to `TIME_ZONE` last.
fn assigned(top: &Path, file: &Path, seen: &mut Vec<PathBuf>) -> Option<String> {
    if seen.iter().any(|known| known == file) {
        return None;
    }
    seen.push(file.to_owned());
    let text = fs::read_to_string(file).ok()?;
    let assignment = Regex::new(r"(?m)^[ \t]*TIME_ZONE[ \t]*(?::[^=\n]*)?=[ \t]*([^=\s].*)$").ok()?;
    if let Some(last) = assignment.captures_iter(&text).last() {
        return Some(last[1].to_owned());
    }
    let import = Regex::new(r"(?m)^[ \t]*from[ \t]+(\.*)([\w.]*)[ \t]+import[ \t]+\(?\*").ok()?;
    import.captures_iter(&text).find_map(|found| {
        let dots = found[1].len();
        let from = if dots == 0 { top } else { file.ancestors().nth(dots)? };
        assigned(top, &module_file(from, &found[2])?, seen)
    })
}

/// Returns the file of a module: `a/b.py` or `a/b/__init__.py`.
fn module_file(directory: &Path, module: &str) -> Option<PathBuf> {
    let path = directory.join(module.replace('.', "/"));
    let files = [path.with_extension("py"), path.join("__init__.py")];
    files.into_iter().find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_plain_string_of_the_nearest_module_counts() {
        let directory = tempfile::tempdir().unwrap();
        let package = directory.path().join("config/settings");
        fs::create_dir_all(&package).unwrap();
        let write = |name: &str, text: &str| fs::write(package.join(name), text).unwrap();
        let found = |module: &str| spelled_time_zone(directory.path(), module);
        write("__init__.py", "TIME_ZONE = 'UTC'\nTIME_ZONE: str = \"Europe/Berlin\"  # here\n");
        write("base.py", "from config.settings.prod import *\nTIME_ZONE = 'America/Port-au-Prince'\n");
        write("prod.py", "from .base import *\nUSE_TZ = True\n");
        write("staging.py", "from .base import *\nTIME_ZONE = env('TIME_ZONE', default='UTC')\n");
        write("other.py", "from . import *\n");
        assert_eq!(found("config.settings").as_deref(), Some("Europe/Berlin"));
        assert_eq!(found("config.settings.prod").as_deref(), Some("America/Port-au-Prince"));
        assert_eq!(found("config.settings.staging"), None, "the nearest one counts, and is computed");
        assert_eq!(found("config.settings.other").as_deref(), Some("Europe/Berlin"));
        assert_eq!(found("config.settings.missing"), None);
    }
}
