//! Reads nginx's configuration files.

use std::path::{Path, PathBuf};

use deploykit::internal::names;
use regex_lite::Regex;

use super::front::{Front, address};
use super::literals::string_length;
use super::program::is_log;

/// Blocks of the longest file that is read.
const DEEPEST: usize = 2000;

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

/// A directive of nginx: its words, and the directives in its block.
struct Directive {
    words: Vec<String>,
    block: Vec<Directive>,
}

/// Reads directives until the end of the block; one that is not closed ends with the text.
fn directives(rest: &mut &str) -> Vec<Directive> {
    let mut all = Vec::new();
    let mut words: Vec<String> = Vec::new();
    while let Some(c) = rest.chars().next() {
        match c {
            '#' => *rest = rest.find('\n').map_or("", |end| &rest[end..]),
            '"' | '\'' => {
                let length = string_length(rest);
                words.push(rest[..length].trim_matches(c).to_owned());
                *rest = &rest[length..];
            }
            ';' | '{' | '}' => {
                *rest = &rest[1..];
                if c == '}' {
                    return all;
                }
                // As deep as files of nginx are nested; what goes deeper costs stack.
                let block = if c == '{' { directives(rest) } else { Vec::new() };
                all.push(Directive { words: std::mem::take(&mut words), block });
            }
            c if c.is_whitespace() => *rest = &rest[c.len_utf8()..],
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || ";{}".contains(c)).unwrap_or(rest.len());
                // `${name}` is a part of a word.
                let end = if rest[..end].ends_with('$') {
                    rest.find('}').map_or(rest.len(), |end| end + 1)
                } else {
                    end
                };
                words.push(rest[..end].to_owned());
                *rest = &rest[end..];
            }
        }
    }
    all
}

/// Reads the servers of the files of nginx; `upstream` may stand in another file.
pub(crate) fn fronts(files: &[(PathBuf, String)]) -> Vec<Front> {
    let mut upstreams: Vec<(String, String)> = Vec::new();
    let mut servers: Vec<(&Path, Directive)> = Vec::new();
    for (file, text) in files.iter().filter(|(_, text)| text.matches('{').count() < DEEPEST) {
        let mut open = directives(&mut text.as_str());
        while let Some(directive) = open.pop() {
            match directive.words.first().map(String::as_str) {
                Some("http") => open.extend(directive.block),
                Some("upstream") => {
                    let server = directive
                        .block
                        .iter()
                        .find(|one| one.words.first().is_some_and(|word| word == "server"));
                    let to = server.and_then(|server| address(server.words.get(1)?));
                    upstreams.extend(directive.words.get(1).cloned().zip(to));
                }
                Some("server") => servers.push((file, directive)),
                _ => {}
            }
        }
    }
    let mut fronts: Vec<Front> =
        servers.iter().map(|(file, server)| front(file, server, &upstreams)).collect();
    fronts.reverse();
    fronts
}

fn front(file: &Path, server: &Directive, upstreams: &[(String, String)]) -> Front {
    let mut front = Front { file: file.to_owned(), ..Front::default() };
    let mut open: Vec<(&Directive, String)> =
        server.block.iter().map(|one| (one, "/".to_owned())).rev().collect();
    while let Some((directive, location)) = open.pop() {
        let Some((name, arguments)) = directive.words.split_first() else { continue };
        front.text.extend([directive.words.join(" "), "\n".to_owned()]);
        match (name.as_str(), arguments) {
            ("server_name", names) => front.names.extend(names.iter().cloned()),
            ("listen", [at, ..]) => {
                front.https |=
                    at.rsplit(':').next() == Some("443") || arguments.iter().any(|word| word == "ssl");
            }
            ("ssl_certificate", _) => front.https = true,
            ("proxy_pass" | "uwsgi_pass" | "grpc_pass", [url, ..]) => {
                let to = address(url).map(|to| {
                    let known = upstreams.iter().find(|(name, _)| *name == to);
                    known.map_or(to, |(_, to)| to.clone())
                });
                let protocol = if name == "uwsgi_pass" { "uwsgi:" } else { "" };
                front.passes.extend(to.map(|to| (location.clone(), format!("{protocol}{to}"))));
            }
            _ => {}
        }
        let inner = match (name.as_str(), arguments) {
            // A named location serves what others send there: `/`, mostly.
            ("location", [path]) if path.starts_with('/') => path.clone(),
            _ => location,
        };
        open.extend(directive.block.iter().map(|one| (one, inner.clone())).rev());
    }
    front
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

    #[test]
    fn servers_say_what_they_pass_on() {
        let text = "upstream app { server unix:/run/a.sock fail_timeout=0; }\n# server { listen 1; }\n\
                    server { listen 80; server_name a.example; return 301 https://$host$request_uri; }\n\
                    server {\n listen [::]:443 ssl; server_name a.example www.a.example;\n\
                    location /ws/ { proxy_pass http://127.0.0.1:9000/; }\n\
                    location / { try_files $uri @app; if (!-f $request_filename) { uwsgi_pass app; break; } }\n}\n";
        let fronts = fronts(&[("/etc/nginx/a".into(), text.to_owned())]);
        assert_eq!(fronts.len(), 2);
        assert!(!fronts[0].https && fronts[1].https);
        assert_eq!(fronts[1].names, ["a.example", "www.a.example"]);
        let passes = [("/ws/", "127.0.0.1:9000"), ("/", "uwsgi:unix:/run/a.sock")];
        assert_eq!(fronts[1].passes, passes.map(|(path, to)| (path.to_owned(), to.to_owned())));
    }
}
