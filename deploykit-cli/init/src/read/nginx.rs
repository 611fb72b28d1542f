//! Reads nginx's configuration files.

use std::path::{Path, PathBuf};

use deploykit::internal::names;
use regex_lite::Regex;

use super::program::is_log;

/// Returns the file that makes nginx answer 503 while it exists.
pub(crate) fn maintenance_page(nginx: &str) -> Option<PathBuf> {
    let nginx: String =
        nginx.lines().map(|line| line.split('#').next().unwrap_or(line).to_owned() + "\n").collect();
    let condition = Regex::new(r#"if\s*\(\s*-f\s+["']?([^)"'\s]+)["']?\s*\)\s*\{([^}]*)\}"#).ok()?;
    let root = Regex::new(r#"(?m)(?:^|[\s;{])root\s+["']?([^;"']+)["']?\s*;"#).ok()?;
    condition.captures_iter(&nginx).find_map(|found| {
        let path = &found[1];
        if !path.to_lowercase().contains("maint") && !found[2].contains("503") {
            return None;
        }
        let before = found.get(0).map_or(0, |whole| whole.start());
        let root = root.captures_iter(&nginx[..before]).last().map(|root| root[1].trim().to_owned());
        let path = match root {
            Some(root) => path.replace("$document_root", &root),
            None => path.to_owned(),
        };
        (path.starts_with('/') && !path.contains('$')).then(|| names::normal(Path::new(&path)))
    })
}

/// Returns the names of the servers that a file of nginx is about.
pub(crate) fn server_names(nginx: &str) -> Vec<String> {
    let Ok(pattern) = Regex::new(r"(?m)^\s*server_name\s+([^;]+);") else { return Vec::new() };
    pattern
        .captures_iter(nginx)
        .flat_map(|found| found[1].split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// Returns nginx's log of errors.
pub(crate) fn error_log(nginx: &str) -> Option<PathBuf> {
    let found = Regex::new(r"(?m)^\s*error_log\s+([^;\s]+)").ok()?.captures(nginx)?;
    Some(PathBuf::from(&found[1])).filter(|path| is_log(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nginx_names_the_maintenance_page() {
        let page = |text: &str| maintenance_page(text).map(|path| path.to_string_lossy().into_owned());
        assert_eq!(
            page("if (-f /srv/www/tmp/maintenance.html) { return 503; }").as_deref(),
            Some("/srv/www/tmp/maintenance.html")
        );
        let root = "server {\n  root /srv/www;\n  if (-f $document_root/maintenance_on.html) {\n    return 503;\n  }\n}";
        assert_eq!(page(root).as_deref(), Some("/srv/www/maintenance_on.html"));
        assert_eq!(page("if (-f $request_filename) { break; }"), None);
        assert_eq!(page("# if (-f /srv/maintenance.html) { return 503; }"), None);
        assert_eq!(page("if (-f $x/maintenance.html) { return 503; }"), None);
    }
}
