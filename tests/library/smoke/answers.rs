//! Answers that are not plain UTF-8.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn reply(headers: &str, body: &[u8]) -> Reply {
    let head = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    Reply::Bytes([head.as_bytes(), body].concat())
}

/// A server that compresses whatever is asked for, speaks Latin-1, has very many headers, or greets before it answers.
fn script(request: &crate::support::http::Request) -> Reply {
    assert!(request.headers.contains(&"accept-encoding: identity".to_owned()), "{:?}", request.headers);
    let many: String = (0..1000).map(|number| format!("X-Number-{number}: {}\r\n", "1".repeat(50))).collect();
    match request.path.as_str() {
        "/gzip/" => reply("Content-Encoding: gzip\r\n", &gzip("<title>Über uns</title> Größe")),
        "/latin/" => reply("Content-Type: text/html; charset=iso-8859-1\r\n", b"Gr\xf6\xdfe"),
        "/many/" => reply(&many, "Größe".as_bytes()),
        "/chunks/" => {
            let head = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n";
            let body = "Transfer-Encoding: chunked\r\n\r\n4\r\nGr\u{f6}\r\n4\r\n\u{df}e!\r\n0\r\n\r\n";
            Reply::Bytes(format!("{head}{many}{body}").into())
        }
        "/brotli/" => reply("Content-Encoding: br\r\n", b"\x0b\x02\x80Gr\x03"),
        _ => reply("Content-Type: text/html; charset=shift_jis\r\n", b"Welcome \x83"),
    }
}

#[test]
fn compressed_pages_other_charsets_and_very_many_headers_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let (tcp_server, unix_server) =
        (Server::start(script), Server::at(&directory.path().join("socket"), script));
    let mut check = check("http://site.example/", &[]);
    let with = |path: &str, text: &str| Page { contains: vec![text.to_owned()], ..Page::new(path) };
    check.pages = ["/gzip/", "/latin/", "/many/", "/chunks/"].map(|path| with(path, "Größe")).to_vec();
    check.pages.push(with("/other/", "Welcome"));
    let socket = Connect::Unix(directory.path().join("socket"));
    for connect in [tcp(tcp_server.port()), socket] {
        check.connect = Some(connect);
        check.perform(&Host::new()).unwrap();
        let results = check.run(&Host::new()).unwrap();
        assert_eq!(results[0].excerpt, "Über uns");
    }
    // What cannot be read is said, also when a text must not be there.
    check.pages = vec![
        with("/brotli/", "Gr"),
        Page { lacks: vec!["Error".to_owned()], ..Page::new("/brotli/") },
        with("/other/", "Größe"),
        Page::new("/brotli/"),
    ];
    let problems: Vec<Vec<String>> = (check.run(&Host::new()).unwrap().into_iter())
        .map(|result| result.problems.iter().map(ToString::to_string).collect())
        .collect();
    let brotli = "its text cannot be searched: it is compressed with `br`, which was not asked for";
    let charset = "its text cannot be searched: its charset is `shift_jis`, which deploykit does not read";
    assert_eq!(problems, [vec![brotli], vec![brotli], vec![charset], vec![]]);
    drop((tcp_server, unix_server));
}
