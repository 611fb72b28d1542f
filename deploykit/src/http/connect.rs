//! Where to connect to when it is not the address in the URL.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use ureq::config::Config;
use ureq::http::{Uri, uri::Scheme};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// An address to connect to in place of the URL's: the Host header, and under TLS the server's name, stay the URL's.
///
/// As a text: `127.0.0.1:8000`, `[::1]:8000`, `unix:/run/site.sock`, and with a scheme `http://127.0.0.1:8000` or
/// `https://10.0.0.5:8443`. Without a scheme, TLS is spoken when the URL is `https` and the port is 443 or the URL's own;
/// any other port, and every Unix socket, is taken for an application server behind the TLS server and asked in plain
/// HTTP, with `X-Forwarded-Proto: https` for an `https` URL. A missing port is that of the URL.
///
/// `uwsgi:127.0.0.1:8001` and `uwsgi:unix:/run/site.sock` are asked in the uwsgi protocol, as nginx' `uwsgi_pass` does.
///
/// # Examples
///
/// ```
/// use deploykit::operations::smoke_check::Connect;
///
/// let connect: Connect = "unix:/run/site.sock".parse()?;
/// assert_eq!(connect, Connect::Unix("/run/site.sock".into()));
/// assert!("127.0.0.1:http".parse::<Connect>().is_err());
/// # Ok::<(), deploykit::errors::ConnectError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Connect {
    /// A host and a port.
    Tcp {
        /// Whether TLS is spoken; `None`: as the port says.
        tls: Option<bool>,
        /// The host, or its address, with or without a port.
        target: String,
    },
    /// A Unix socket.
    Unix(PathBuf),
    /// A host and a port that speak the uwsgi protocol.
    UwsgiTcp(String),
    /// A Unix socket that speaks the uwsgi protocol.
    UwsgiUnix(PathBuf),
}

/// Why a text is no address to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected `HOST:PORT`, `unix:/PATH`, `uwsgi:HOST:PORT` or `uwsgi:unix:/PATH`, found `{text}`")]
#[non_exhaustive]
pub struct ConnectError {
    /// The text.
    pub text: String,
}

impl FromStr for Connect {
    type Err = ConnectError;

    fn from_str(text: &str) -> Result<Self, ConnectError> {
        let error = || ConnectError { text: text.to_owned() };
        if let Some(rest) = text.strip_prefix("uwsgi:") {
            // nginx writes `uwsgi://host:port`, too.
            return match rest.strip_prefix("//").unwrap_or(rest).parse().map_err(|_| error())? {
                Connect::Unix(path) => Ok(Connect::UwsgiUnix(path)),
                Connect::Tcp { tls: None, target } if has_port(&target) => Ok(Connect::UwsgiTcp(target)),
                _ => Err(error()),
            };
        }
        if let Some(path) = text.strip_prefix("unix:") {
            // curl and nginx write `unix:///path` and `unix:/path:`, too.
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') { Ok(Connect::Unix(path.into())) } else { Err(error()) };
        }
        let (tls, target) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(target), _) => (Some(false), target),
            (_, Some(target)) => (Some(true), target),
            _ => (None, text),
        };
        let target = target.strip_suffix('/').unwrap_or(target);
        let authority: ureq::http::uri::Authority = target.parse().map_err(|_| error())?;
        let valid = !authority.host().is_empty()
            && !target.contains('@')
            && (authority.port_u16().is_some() || !has_port(target));
        if valid { Ok(Connect::Tcp { tls, target: target.to_owned() }) } else { Err(error()) }
    }
}

/// Tells whether a port, or what stands in its place, follows the host.
fn has_port(target: &str) -> bool {
    target.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'))
}

impl TryFrom<String> for Connect {
    type Error = ConnectError;

    fn try_from(text: String) -> Result<Self, ConnectError> {
        text.parse()
    }
}

impl From<Connect> for String {
    fn from(connect: Connect) -> String {
        connect.to_string()
    }
}

impl fmt::Display for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Connect::Tcp { tls: None, target } => f.write_str(target),
            Connect::Tcp { tls: Some(false), target } => write!(f, "http://{target}"),
            Connect::Tcp { tls: Some(true), target } => write!(f, "https://{target}"),
            Connect::Unix(path) => write!(f, "unix:{}", path.display()),
            Connect::UwsgiTcp(target) => write!(f, "uwsgi:{target}"),
            Connect::UwsgiUnix(path) => write!(f, "uwsgi:unix:{}", path.display()),
        }
    }
}

impl Connect {
    /// Tells whether this address is asked in plain HTTP for a URL.
    pub(super) fn speaks_plain(&self, uri: &Uri) -> bool {
        match self {
            Connect::Unix(_) | Connect::UwsgiTcp(_) | Connect::UwsgiUnix(_) => true,
            Connect::Tcp { tls: Some(tls), .. } => !tls,
            Connect::Tcp { tls: None, target } => {
                let own = super::port(uri);
                let port = target.parse().ok().and_then(|target: Uri| target.port_u16()).unwrap_or(own);
                uri.scheme() != Some(&Scheme::HTTPS) || (port != 443 && port != own)
            }
        }
    }
}

/// Looks up the address to connect to.
#[derive(Debug)]
pub(super) enum To {
    /// That of the URL.
    Url,
    Address(String),
    /// The connector knows by itself.
    Nowhere,
}

/// A name that could not be looked up; tells the error apart from those of a connection.
#[derive(Debug, Error)]
#[error("{reason}")]
pub(super) struct LookupError {
    pub(super) reason: String,
}

impl Resolver for To {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let resolver = DefaultResolver::default();
        let found = match self {
            To::Url => resolver.resolve(uri, config, timeout),
            To::Address(target) => {
                let target: Uri = target.parse().map_err(|_| ureq::Error::BadUri(target.clone()))?;
                let host = target.host().unwrap_or_default();
                let port = target.port_u16().unwrap_or_else(|| super::port(uri));
                let uri = Uri::builder()
                    .scheme(Scheme::HTTP)
                    .authority(format!("{host}:{port}"))
                    .path_and_query("/")
                    .build()?;
                resolver.resolve(&uri, config, timeout)
            }
            To::Nowhere => {
                let mut none = self.empty();
                none.push(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
                Ok(none)
            }
        };
        found.map_err(|error| match error {
            ureq::Error::Io(error) => ureq::Error::Other(Box::new(LookupError { reason: error.to_string() })),
            ureq::Error::HostNotFound => {
                ureq::Error::Other(Box::new(LookupError { reason: "there is no address for it".to_owned() }))
            }
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_alike() {
        for text in [
            "127.0.0.1:8000",
            "localhost:8000",
            "[::1]:8000",
            "[::1]",
            "10.0.0.5",
            "unix:/run/site.sock",
            "http://127.0.0.1:8000",
            "https://10.0.0.5:8443",
            "uwsgi:127.0.0.1:8001",
            "uwsgi:[::1]:8001",
            "uwsgi:unix:/run/site.sock",
        ] {
            let connect: Connect = text.parse().unwrap();
            assert_eq!(connect.to_string(), text);
            let json = serde_json::to_string(&connect).unwrap();
            assert_eq!(serde_json::from_str::<Connect>(&json).unwrap(), connect);
        }
        assert_eq!("unix:///run/s".parse(), Ok(Connect::Unix("/run/s".into())));
        assert_eq!("uwsgi://unix:/run/s".parse(), Ok(Connect::UwsgiUnix("/run/s".into())));
        assert_eq!("uwsgi://127.0.0.1:1".parse(), Ok(Connect::UwsgiTcp("127.0.0.1:1".to_owned())));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            ":",
            ":80",
            "unix:",
            "unix:run",
            "host:port",
            "host:99999",
            "host:",
            "a b",
            "me@host:80",
            "h/p",
            "uwsgi:",
            "uwsgi::3031",
            "uwsgi:host",
            "uwsgi:/run/s",
            "uwsgi:uwsgi:host:1",
            "uwsgi:http://host:1",
        ] {
            assert!(text.parse::<Connect>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_application_server_behind_tls_is_asked_without_it() {
        for (connect, url, plain) in [
            ("127.0.0.1:8000", "https://example.org/", true),
            ("127.0.0.1:443", "https://example.org/", false),
            ("127.0.0.1", "https://example.org/", false),
            ("127.0.0.1:8443", "https://example.org:8443/", false),
            ("https://127.0.0.1:8443", "https://example.org/", false),
            ("http://127.0.0.1:443", "https://example.org/", true),
            ("unix:/run/site.sock", "https://example.org/", true),
            ("uwsgi:127.0.0.1:443", "https://example.org/", true),
            ("127.0.0.1:8000", "http://example.org/", true),
        ] {
            let connect: Connect = connect.parse().unwrap();
            assert_eq!(connect.speaks_plain(&url.parse().unwrap()), plain, "{connect} for {url}");
        }
    }
}
