//! Requests in the uwsgi protocol, which uWSGI speaks at its `socket`: a packet of variables in place of HTTP's head. The
//! answer is plain HTTP.
//!
//! Source: <https://uwsgi-docs.readthedocs.io/en/latest/Protocol.html>; the variables are those of nginx' `uwsgi_params`.

use std::io;

use percent_encoding::percent_decode_str;

/// What the packet's first byte says: a request of the Python plugin.
const PYTHON: u8 = 0;

/// Turns the head of a request in HTTP into a packet.
///
/// # Errors
///
/// When it does not fit into one: a packet has 65,535 bytes at most.
pub(super) fn packet(head: &str) -> io::Result<Vec<u8>> {
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let [method, target, protocol] = [(); 3].map(|()| words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: Vec<(String, &str)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_uppercase().replace('-', "_"), value.trim()))
        .collect();
    let header = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
    let secure = header("X_FORWARDED_PROTO") == Some("https");
    let authority = header("HOST").unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, if secure { "443" } else { "80" }),
    };
    let path: Vec<u8> = percent_decode_str(path).collect();
    let mut variables = Vec::new();
    for (name, value) in [
        ("REQUEST_METHOD", method.as_bytes()),
        ("REQUEST_URI", target.as_bytes()),
        ("PATH_INFO", &path),
        ("QUERY_STRING", query.as_bytes()),
        ("SERVER_PROTOCOL", protocol.as_bytes()),
        ("REQUEST_SCHEME", if secure { b"https" } else { b"http" }),
        ("REMOTE_ADDR", b"127.0.0.1"),
        ("SERVER_NAME", host.as_bytes()),
        ("SERVER_PORT", port.as_bytes()),
    ] {
        add(&mut variables, name, value)?;
    }
    if secure {
        add(&mut variables, "HTTPS", b"on")?;
    }
    for (name, value) in &headers {
        add(&mut variables, &format!("HTTP_{name}"), value.as_bytes())?;
    }
    let [low, high] = length(&variables)?;
    Ok([&[PYTHON, low, high, 0], variables.as_slice()].concat())
}

fn add(variables: &mut Vec<u8>, name: &str, value: &[u8]) -> io::Result<()> {
    for part in [name.as_bytes(), value] {
        variables.extend(length(part)?);
        variables.extend(part);
    }
    Ok(())
}

fn length(bytes: &[u8]) -> io::Result<[u8; 2]> {
    let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, "the request is too long for uwsgi");
    u16::try_from(bytes.len()).map(u16::to_le_bytes).map_err(too_long)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn variables(packet: &[u8]) -> BTreeMap<String, String> {
        let [0, low, high, 0, ref rest @ ..] = *packet else { panic!("{packet:?}") };
        assert_eq!(usize::from(u16::from_le_bytes([low, high])), rest.len());
        let mut rest = rest;
        let mut next = || {
            let (length, behind) = rest.split_first_chunk()?;
            let (text, behind) = behind.split_at(u16::from_le_bytes(*length).into());
            rest = behind;
            Some(String::from_utf8(text.to_vec()).unwrap())
        };
        let mut found = BTreeMap::new();
        while let Some(name) = next() {
            assert_eq!(found.insert(name, next().unwrap()), None);
        }
        found
    }

    #[test]
    fn a_request_becomes_variables() {
        let head = "GET /Gr%C3%B6%C3%9Fe/?q=a%20b HTTP/1.1\r\nhost: site.example\r\nuser-agent: x: y\r\n\r\n";
        let found = variables(&packet(head).unwrap());
        let expected = [
            ("HTTP_HOST", "site.example"),
            ("HTTP_USER_AGENT", "x: y"),
            ("PATH_INFO", "/Größe/"),
            ("QUERY_STRING", "q=a%20b"),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("REQUEST_METHOD", "GET"),
            ("REQUEST_SCHEME", "http"),
            ("REQUEST_URI", "/Gr%C3%B6%C3%9Fe/?q=a%20b"),
            ("SERVER_NAME", "site.example"),
            ("SERVER_PORT", "80"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn https_is_what_the_server_in_front_spoke() {
        for (host, name, port) in [
            ("site.example", "site.example", "443"),
            ("site.example:8443", "site.example", "8443"),
            ("[::1]", "[::1]", "443"),
            ("[::1]:8443", "[::1]", "8443"),
        ] {
            let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Proto: https\r\n\r\n");
            let found = variables(&packet(&head).unwrap());
            assert_eq!([&found["HTTPS"], &found["REQUEST_SCHEME"]], ["on", "https"]);
            assert_eq!([&found["SERVER_NAME"], &found["SERVER_PORT"]], [name, port]);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let head = |length| format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(length));
        assert!(packet(&head(30_000)).is_ok());
        for length in [40_000, 70_000] {
            assert_eq!(packet(&head(length)).unwrap_err().to_string(), "the request is too long for uwsgi");
        }
    }
}
