//! Reads the sites of a Caddyfile.
//!
//! Source: <https://caddyserver.com/docs/caddyfile/concepts>.

use std::path::Path;

use super::front::{Front, address};

/// Reads the sites of a file. Caddy serves https unless an address says `http://`.
pub(crate) fn parse(text: &str, file: &Path) -> Vec<Front> {
    let (mut fronts, mut depth): (Vec<Front>, usize) = (Vec::new(), 0);
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let opens = words.last() == Some(&"{");
        if depth == 0 && opens && words.len() > 1 && !line.starts_with('(') {
            let names = words[..words.len() - 1].iter().map(|name| name.trim_end_matches(','));
            let https = !names.clone().all(|name| name.starts_with("http://") || name.ends_with(":80"));
            let names = names
                .map(|name| name.rsplit("//").next().unwrap_or(name))
                .map(|name| name.split(':').next().unwrap_or(name).to_owned());
            fronts.push(Front { file: file.to_owned(), names: names.collect(), https, ..Front::default() });
        } else if let (Some(front), [at, rest @ ..]) = (fronts.last_mut(), words.as_slice()) {
            front.text.extend([line, "\n"]);
            if *at == "reverse_proxy" {
                let to = rest.iter().find_map(|word| {
                    (!word.starts_with(['/', '@', '*'])).then(|| address(&word.replace("unix//", "unix:/")))
                });
                let path = rest
                    .first()
                    .filter(|word| word.starts_with('/'))
                    .map_or("/", |path| path.trim_end_matches('*'));
                front.passes.extend(to.flatten().map(|to| (path.to_owned(), to)));
            }
        }
        if opens {
            depth += 1;
        } else if words.first() == Some(&"}") {
            depth = depth.saturating_sub(1);
        }
    }
    fronts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_read() {
        let text = "{\n  email a@b.example\n}\nwww.a.example {\n  redir https://a.example{uri}\n}\n\
                    a.example, http://b.example {\n  handle {\n    reverse_proxy unix//run/a.sock\n  }\n}\n";
        let fronts = parse(text, Path::new("/etc/caddy/Caddyfile"));
        assert_eq!(fronts.len(), 2);
        assert_eq!(fronts[1].names, ["a.example", "b.example"]);
        assert_eq!(fronts[1].passes, [("/".to_owned(), "unix:/run/a.sock".to_owned())]);
        assert!(fronts[1].https);
    }
}
