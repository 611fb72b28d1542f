//! Asks a web server for one page: over TCP, TLS or a Unix socket, at the address in the URL or at another one.
//!
//! The client never follows a redirect, takes every status as an answer, holds one deadline over the whole exchange, and
//! reads no more than [`BODY_LIMIT`] of the body.

mod address;
mod body;
mod connect;
mod error;
mod head;
pub(crate) mod unix;
mod uwsgi;

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ureq::http::{Uri, uri::Scheme};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::{Connector, DefaultConnector};
use ureq::{Agent, Proxy};

pub use address::Address;
pub use body::Unread;
pub use connect::{Connect, ConnectError};
pub use error::HttpError;

use body::{About, Text};
use connect::To;
use head::Heads;

/// The most that is read of a body, in bytes: 1 MiB.
pub const BODY_LIMIT: u64 = 1 << 20;

/// The header of the answers of a web server that was started beforehand.
pub(crate) const BRIDGE_HEADER: &str = "X-Deploykit-Bridge";

/// A client for one address and one set of trusted certificates; to be shared by threads.
#[derive(Debug)]
pub struct Client {
    connect: Option<Connect>,
    /// Asked in turn; a further one only when the certificate was not trusted. The public authorities are the last.
    agents: Vec<Agent>,
    /// Without the environment's proxy, which cannot mean our own machine.
    direct: Vec<Agent>,
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header `Location`, as it came.
    pub location: Option<String>,
    /// The body as text; at most [`BODY_LIMIT`].
    pub body: String,
    /// Why the body, or part of it, could not be made text of.
    pub unread: Option<Unread>,
    /// The body was longer than that.
    pub truncated: bool,
    /// It comes from a web server that an update started beforehand, and that ends once the web service serves.
    pub is_bridge: bool,
    /// From the first look at the name to the last byte.
    pub duration: Duration,
}

impl Client {
    /// Makes a client that asks at `connect` instead of the URL's address, and also trusts the certificates in `ca`.
    ///
    /// `ca` is a PEM file. The public authorities are trusted with and without it.
    ///
    /// # Errors
    ///
    /// When `ca` cannot be read or holds no certificate.
    pub fn new(connect: Option<Connect>, ca: Option<&Path>) -> Result<Self, HttpError> {
        let mut roots = vec![RootCerts::WebPki];
        if let Some(path) = ca {
            roots.insert(0, RootCerts::new_with_certs(&read_certificates(path)?));
        }
        let agents = |proxy: Option<&Proxy>| -> Vec<Agent> {
            roots.iter().map(|roots| agent(connect.as_ref(), roots.clone(), proxy)).collect()
        };
        // A proxy would open the connection itself, so the address to connect to would mean nothing.
        let proxy = if connect.is_some() { None } else { Proxy::try_from_env() };
        let (agents, direct) = (agents(proxy.as_ref()), agents(None));
        Ok(Client { agents, direct, connect })
    }

    /// Asks for an absolute URL; `timeout` is for the whole exchange, from the name to the last byte.
    ///
    /// # Errors
    ///
    /// When no complete answer came; a status of 400 and more is an answer.
    pub fn get(&self, url: &str, timeout: Duration) -> Result<Answer, HttpError> {
        let started = Instant::now();
        let uri = parse_url(url)?;
        let agents = if is_loopback(&uri) { &self.direct } else { &self.agents };
        let mut untrusted = None;
        for agent in agents {
            let left = timeout.saturating_sub(started.elapsed());
            if left.is_zero() && untrusted.is_some() {
                break;
            }
            let result = self.exchange(agent, &uri, left.max(Duration::from_millis(1)));
            match result
                .map_err(|error| HttpError::from_ureq(error, url, &uri, self.connect.as_ref(), timeout))
            {
                // What the named authorities say about it is worth more than what the public ones do.
                Err(error @ HttpError::Tls { .. }) => untrusted = untrusted.or(Some(error)),
                other => return other.map(|answer| Answer { duration: started.elapsed(), ..answer }),
            }
        }
        Err(untrusted.unwrap_or(HttpError::TimedOut { url: url.to_owned(), after: timeout }))
    }

    /// Ends what is under way in other threads, and refuses everything from now on.
    pub fn shutdown(&self) {
        for agent in self.agents.iter().chain(&self.direct) {
            agent.clone().shutdown();
        }
    }

    fn exchange(&self, agent: &Agent, uri: &Uri, timeout: Duration) -> Result<Answer, ureq::Error> {
        let request = if self.connect.as_ref().is_some_and(|connect| connect.speaks_plain(uri)) {
            let secure = uri.scheme() == Some(&Scheme::HTTPS);
            let request = agent.get(plain(uri)?);
            // What the TLS server in front of it would say; without it the site redirects to https.
            if secure { request.header("X-Forwarded-Proto", "https") } else { request }
        } else {
            agent.get(uri.clone())
        };
        // Some servers compress all the same.
        let request = request.header("Accept-Encoding", "identity");
        let response = request.config().timeout_global(Some(timeout)).build().call()?;
        let status = response.status().as_u16();
        let location = response.headers().get("location");
        let location = location.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let is_bridge = response.headers().contains_key(BRIDGE_HEADER);
        let all = |name| -> Vec<_> {
            let values = response.headers().get_all(name).iter();
            values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
        };
        let about = About { codings: all("content-encoding").join(","), kind: all("content-type").join(";") };
        let mut body = Vec::new();
        response.into_body().into_reader().take(BODY_LIMIT + 1).read_to_end(&mut body)?;
        let limit = usize::try_from(BODY_LIMIT).unwrap_or(usize::MAX);
        let truncated = body.len() > limit;
        body.truncate(limit);
        let Text { text: body, truncated, unread } = body::read(body, truncated, &about, BODY_LIMIT);
        Ok(Answer { status, location, body, unread, truncated, is_bridge, duration: Duration::ZERO })
    }
}

/// Returns a URL with everything encoded that may not stand in a request, and without its fragment.
///
/// # Errors
///
/// When it is no absolute `http` or `https` URL.
pub(crate) fn parse_url(url: &str) -> Result<Uri, HttpError> {
    let error = |reason: &str| HttpError::Url { url: url.to_owned(), reason: reason.to_owned() };
    let text = url.split('#').next().unwrap_or(url);
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, 0x21..=0x7e) && !b"\"<>\\^`{|}".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    let uri: Uri = encoded.parse().map_err(|_| error("it cannot be read"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(error("it does not start with `http://` or `https://`"));
    }
    match uri.host() {
        None | Some("") => Err(error("it names no host")),
        Some(_) => Ok(uri),
    }
}

/// Returns the port of a URL, the scheme's own where it names none.
pub(crate) fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 })
}

/// The same URL without TLS; its authority, and with it the Host header, stays.
fn plain(uri: &Uri) -> Result<Uri, ureq::Error> {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    Uri::from_parts(parts).map_err(|error| ureq::Error::BadUri(error.to_string()))
}

fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

fn agent(connect: Option<&Connect>, roots: RootCerts, proxy: Option<&Proxy>) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections(0)
        .max_response_header_size(1 << 20)
        .user_agent(concat!("deploykit/", env!("CARGO_PKG_VERSION")))
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .proxy(proxy.cloned())
        .build();
    let heads = Heads { uwsgi: matches!(connect, Some(Connect::UwsgiTcp(_) | Connect::UwsgiUnix(_))) };
    match connect {
        Some(Connect::Unix(path) | Connect::UwsgiUnix(path)) => {
            let connector = unix::UnixConnector { path: path.clone() };
            Agent::with_parts(config, Connector::<()>::chain(connector, heads), To::Nowhere)
        }
        Some(Connect::Tcp { target, .. } | Connect::UwsgiTcp(target)) => {
            let to = To::Address(target.clone());
            Agent::with_parts(config, DefaultConnector::default().chain(heads), to)
        }
        None => Agent::with_parts(config, DefaultConnector::default().chain(heads), To::Url),
    }
}

fn read_certificates(path: &Path) -> Result<Vec<Certificate<'static>>, HttpError> {
    let unusable = |source| HttpError::Certificates { path: PathBuf::from(path), source };
    let invalid = |reason: &str| unusable(io::Error::new(io::ErrorKind::InvalidData, reason));
    let text = std::fs::read(path).map_err(unusable)?;
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(_) => return Err(invalid("it is no PEM file")),
        }
    }
    if certificates.is_empty() { Err(invalid("it holds no certificate")) } else { Ok(certificates) }
}

/// Reads bytes as the head and the body of an answer.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let _ = head::shortened(bytes);
    let kind = String::from_utf8_lossy(bytes.get(..20).unwrap_or(bytes)).into_owned();
    for codings in ["", "gzip", "deflate", "deflate, gzip"] {
        for kind in [kind.as_str(), "text/html; charset=utf-16", "text/html; charset=latin1"] {
            let about = About { codings: codings.to_owned(), kind: kind.to_owned() };
            let _ = body::read(bytes.to_vec(), codings.is_empty(), &about, BODY_LIMIT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_encoded_and_loses_its_fragment() {
        let uri = parse_url("http://example.org/Größe?q=a b%20c#top").unwrap();
        assert_eq!(uri.to_string(), "http://example.org/Gr%C3%B6%C3%9Fe?q=a%20b%20c");
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for url in
            ["", "/about/", "ftp://x/", "http://", "http:///x", "example.org", "https://a b/", "http://[::1"]
        {
            assert!(matches!(parse_url(url), Err(HttpError::Url { .. })), "{url}");
        }
    }

    #[test]
    fn our_own_machine_is_known() {
        for (url, own) in [
            ("http://localhost:8000/", true),
            ("http://127.0.0.1/", true),
            ("http://[::1]:80/", true),
            ("http://example.org/", false),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(is_loopback(&parse_url(url).unwrap()), own, "{url}");
        }
    }

    #[test]
    fn a_file_without_a_certificate_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "nothing\n").unwrap();
        let error = Client::new(None, Some(file.path())).unwrap_err();
        assert!(error.to_string().starts_with("cannot use the certificates in `"), "{error}");
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), "it holds no certificate");
    }
}
