//! Why there was no answer.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use ureq::http::{Uri, uri::Scheme};

use super::connect::{Connect, LookupError};

/// Why a page could not be asked for, or did not answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The URL cannot be used.
    #[error("cannot ask for `{url}`: {reason}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file of trusted certificates cannot be used.
    #[error("cannot use the certificates in `{}`", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is no address for a name.
    #[error("cannot look up `{name}`: {reason}")]
    Dns {
        /// The name.
        name: String,
        /// What the resolver says.
        reason: String,
    },
    /// Nothing listens there, or the Unix socket does not exist.
    #[error("nothing listens at `{address}`")]
    Refused {
        /// The address.
        address: String,
    },
    /// The connection could not be made for another reason.
    #[error("cannot connect to `{address}`")]
    Connect {
        /// The address.
        address: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The server is not the one that it should be, or does not speak TLS.
    #[error("cannot trust `{address}`: {reason}")]
    Tls {
        /// The address.
        address: String,
        /// What rustls says.
        reason: String,
    },
    /// The answer was not complete in time.
    #[error("`{url}` did not answer within {:.1} s", after.as_secs_f64())]
    TimedOut {
        /// The URL.
        url: String,
        /// The time that it had.
        after: Duration,
    },
    /// The connection ended before the answer did.
    #[error("`{address}` closed the connection without a complete answer")]
    Closed {
        /// The address.
        address: String,
    },
    /// What listens there does not speak HTTP.
    #[error("what listens at `{address}` does not answer in HTTP: {reason}")]
    Protocol {
        /// The address.
        address: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

impl HttpError {
    /// Tells whether a server that is just starting looks like this.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, HttpError::Refused { .. } | HttpError::TimedOut { .. } | HttpError::Closed { .. })
    }

    pub(super) fn from_ureq(
        error: ureq::Error,
        url: &str,
        uri: &Uri,
        connect: Option<&Connect>,
        after: Duration,
    ) -> Self {
        let address = match connect {
            Some(connect) => connect.to_string(),
            None => format!("{}:{}", uri.host().unwrap_or_default(), super::port(uri)),
        };
        let reason = error.to_string();
        match error {
            ureq::Error::Timeout(_) => HttpError::TimedOut { url: url.to_owned(), after },
            ureq::Error::Other(inner) => match inner.downcast::<LookupError>() {
                Ok(lookup) => {
                    let name = match connect {
                        Some(_) => address,
                        None => uri.host().unwrap_or_default().to_owned(),
                    };
                    HttpError::Dns { name, reason: lookup.reason }
                }
                Err(inner) => HttpError::Protocol { address, reason: inner.to_string() },
            },
            ureq::Error::Rustls(error) => HttpError::Tls { address, reason: error.to_string() },
            ureq::Error::Tls(reason) => HttpError::Tls { address, reason: reason.to_owned() },
            ureq::Error::Http(_) | ureq::Error::BadUri(_) => HttpError::Url { url: url.to_owned(), reason },
            ureq::Error::Protocol(error) => HttpError::Protocol { address, reason: error.to_string() },
            ureq::Error::Io(source) => HttpError::from_io(source, address, uri, url, after),
            _ => HttpError::Protocol { address, reason },
        }
    }

    fn from_io(source: io::Error, address: String, uri: &Uri, url: &str, after: Duration) -> Self {
        use io::ErrorKind as Kind;
        match source.kind() {
            Kind::ConnectionRefused | Kind::NotFound => HttpError::Refused { address },
            Kind::TimedOut | Kind::WouldBlock => HttpError::TimedOut { url: url.to_owned(), after },
            Kind::UnexpectedEof | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => {
                HttpError::Closed { address }
            }
            // rustls hands its errors through the socket's.
            Kind::InvalidData | Kind::Other if uri.scheme() == Some(&Scheme::HTTPS) => {
                HttpError::Tls { address, reason: source.to_string() }
            }
            _ => HttpError::Connect { address, source },
        }
    }
}
