//! Where something listens on this machine.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// An address of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// Of TCP.
    Tcp(SocketAddr),
    /// The file of a Unix socket.
    Unix(#[serde(with = "crate::names::one")] PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Address {
    /// Tells whether only one of the two can be listened at.
    pub(crate) fn excludes(&self, other: &Address) -> bool {
        match (self, other) {
            (Address::Tcp(one), Address::Tcp(other)) => {
                one.port() == other.port()
                    && one.is_ipv4() == other.is_ipv4()
                    && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
            }
            (one, other) => one == other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_exclude_each_other_as_bind_does() {
        let tcp = |text: &str| Address::Tcp(text.parse().unwrap());
        assert!(tcp("127.0.0.1:80").excludes(&tcp("127.0.0.1:80")));
        assert!(tcp("0.0.0.0:80").excludes(&tcp("127.0.0.1:80")));
        assert!(tcp("[::1]:80").excludes(&tcp("[::]:80")));
        assert!(!tcp("127.0.0.1:80").excludes(&tcp("127.0.0.1:81")));
        assert!(!tcp("127.0.0.1:80").excludes(&tcp("127.0.0.2:80")));
        assert!(!tcp("127.0.0.1:80").excludes(&tcp("[::]:80")), "that may be for IPv6 only");
        let unix = |text: &str| Address::Unix(text.into());
        assert!(unix("/run/s").excludes(&unix("/run/s")) && !unix("/run/s").excludes(&unix("/run/t")));
    }
}
