//! Reads Apache's virtual hosts.
//!
//! Source: <https://httpd.apache.org/docs/2.4/configuring.html> and mod_wsgi's `WSGIDaemonProcess`.

use std::path::{Path, PathBuf};

use super::front::{Front, Wsgi, address};
use super::program::words;

/// Reads the virtual hosts of a file.
pub(crate) fn parse(text: &str, file: &Path) -> Vec<Front> {
    let mut fronts: Vec<Front> = Vec::new();
    let mut open: Option<(Front, Wsgi)> = None;
    let mut location = "/".to_owned();
    for line in text.replace("\\\n", " ").lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let words = words(line.trim_end_matches('>'));
        let Some((directive, arguments)) = words.split_first() else { continue };
        let argument = |index: usize| arguments.get(index).cloned().unwrap_or_default();
        let directive = directive.to_lowercase();
        if directive == "<virtualhost" {
            let https = arguments.iter().any(|address| address.ends_with(":443"));
            let wsgi = Wsgi { listens: Some(connected(&argument(0))), ..Wsgi::default() };
            open = Some((Front { file: file.to_owned(), https, ..Front::default() }, wsgi));
        }
        let Some((front, wsgi)) = &mut open else { continue };
        front.text.extend([line, "\n"]);
        match directive.as_str() {
            "</virtualhost" => {
                wsgi.listens = wsgi.listens.take().filter(|_| !front.https);
                front.wsgi = (!wsgi.script.as_os_str().is_empty()).then(|| std::mem::take(wsgi));
                fronts.extend(open.take().map(|(front, _)| front));
            }
            "servername" | "serveralias" => front.names.extend(arguments.iter().cloned()),
            "sslengine" => front.https = argument(0).eq_ignore_ascii_case("on"),
            "<location" => location = argument(0),
            "</location" => location = "/".to_owned(),
            "proxypass" => {
                let (path, url) = if arguments.len() > 1 && !argument(0).contains(':') {
                    (argument(0), argument(1))
                } else {
                    (location.clone(), argument(0))
                };
                front.passes.extend(address(&url).filter(|_| url != "!").map(|to| (path, to)));
            }
            "wsgidaemonprocess" => {
                for (name, value) in arguments.iter().filter_map(|word| word.split_once('=')) {
                    match name {
                        "python-home" => wsgi.home = Some(PathBuf::from(value)),
                        "python-path" => wsgi.path = value.split(':').map(PathBuf::from).collect(),
                        _ => {}
                    }
                }
            }
            "wsgiscriptalias" => wsgi.script = PathBuf::from(argument(1)),
            _ => {}
        }
    }
    fronts
}

/// Returns where a client of this machine connects for a virtual host's address: `*:80`, `127.0.0.1:8080`, `[::]:80`.
fn connected(address: &str) -> String {
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (address, "80"),
    };
    let host = match host {
        "" | "*" | "_default_" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    format!("{host}:{}", if port == "*" { "80" } else { port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_hosts_are_read() {
        let text = "<VirtualHost *:80>\nServerName a.example\nProxyPass /static !\n# ProxyPass / http://x:1/\n\
                    ProxyPass / http://127.0.0.1:8300/\n</VirtualHost>\n\
                    <VirtualHost *:443>\nServerName b.example\nServerAlias www.b.example\n\
                    WSGIDaemonProcess b python-home=/v python-path=/srv/b\nWSGIScriptAlias / /srv/b/b/wsgi.py\n\
                    <Location /x>\nProxyPass http://127.0.0.1:1/x\n</Location>\n</VirtualHost>\n";
        let fronts = parse(text, Path::new("/etc/apache2/sites-enabled/a.conf"));
        assert_eq!(fronts[0].passes, [("/".to_owned(), "127.0.0.1:8300".to_owned())]);
        assert!(!fronts[0].https && fronts[1].https);
        assert_eq!(fronts[1].names, ["b.example", "www.b.example"]);
        assert_eq!(fronts[1].passes, [("/x".to_owned(), "127.0.0.1:1".to_owned())]);
        let wsgi = fronts[1].wsgi.clone().unwrap();
        assert_eq!((wsgi.script, wsgi.home), ("/srv/b/b/wsgi.py".into(), Some("/v".into())));
        assert_eq!(wsgi.listens, None, "it is asked over TLS, at its own name");
    }

    #[test]
    fn an_address_is_one_to_connect_to() {
        let to = ["*:80", "*", "_default_:8080", "10.0.0.5:81", "[::]:80", "*:*"].map(connected);
        let expected =
            ["127.0.0.1:80", "127.0.0.1:80", "127.0.0.1:8080", "10.0.0.5:81", "[::1]:80", "127.0.0.1:80"];
        assert_eq!(to, expected);
    }
}
