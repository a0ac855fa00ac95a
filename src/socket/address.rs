//! Where something listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How the address of a Unix socket begins, as in gRPC's own names.
const UNIX: &str = "unix:";

/// The longest path that the kernel takes, in bytes: `sun_path` with its final zero (unix(7)).
const LONGEST: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Where something listens. As text it is `127.0.0.1:80`, `[::1]:80` or `unix:/run/weir.sock`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// An IP address and a port of TCP.
    Ip(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// Why a text is no path of a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPath {
    /// There is none, or it ends where a folder's would.
    #[error("names no file")]
    Missing,
    /// `unix://host/path`.
    #[error("has a host between the slashes: `unix:/path` or `unix:///path`")]
    Host,
    /// The kernel would cut it.
    #[error("is too long: the kernel takes {LONGEST} bytes of a path")]
    TooLong,
    /// Paths end at a zero byte.
    #[error("has a zero byte")]
    Zero,
}

/// Why a text is no [`Address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAddress {
    /// What stands behind `unix:` is no path.
    #[error("{0}")]
    Path(NoPath),
    /// It is none at all.
    #[error("expected an IP address with a port, such as 127.0.0.1:9901, or unix:/path")]
    Other,
}

impl Address {
    /// The path behind `unix:`; `None` for what does not begin so.
    pub(crate) fn unix(text: &str) -> Option<Result<PathBuf, NoPath>> {
        let path = text.strip_prefix(UNIX)?;
        // As in a URI: `unix:///path` has no host.
        let path = match path.strip_prefix("//") {
            None => path,
            Some(rest) if rest.starts_with('/') => rest,
            Some(_) => return Some(Err(NoPath::Host)),
        };
        Some(match path {
            _ if path.contains('\0') => Err(NoPath::Zero),
            _ if path.len() > LONGEST => Err(NoPath::TooLong),
            _ if path.ends_with('/') || Path::new(path).file_name().is_none() => Err(NoPath::Missing),
            _ => Ok(PathBuf::from(path)),
        })
    }

    /// Its IP address and port, where it has them.
    #[must_use]
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Address::Ip(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }

    /// True where the kernel is to choose a port: two that say so are not at one address.
    pub(crate) fn is_open(&self) -> bool {
        self.ip().is_some_and(|address| address.port() == 0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Ip(address)
    }
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Address, NotAnAddress> {
        match Address::unix(text) {
            Some(path) => path.map(Address::Unix).map_err(NotAnAddress::Path),
            None => text.parse().map(Address::Ip).map_err(|_| NotAnAddress::Other),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_shown() {
        for text in ["127.0.0.1:80", "[::1]:80", "unix:/run/weir.sock", "unix:weir.sock"] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), text);
        }
        assert_eq!("unix:///run/weir.sock".parse(), Ok(Address::Unix("/run/weir.sock".into())));
    }

    #[test]
    fn a_path_is_one_that_the_kernel_takes_whole() {
        let long = |length: usize| format!("unix:/{}", "a".repeat(length - 1));
        assert!(long(LONGEST).parse::<Address>().is_ok());
        for (text, why) in [
            (&*long(LONGEST + 1), NoPath::TooLong),
            ("unix:", NoPath::Missing),
            ("unix:/", NoPath::Missing),
            ("unix:/run/", NoPath::Missing),
            ("unix:/run/..", NoPath::Missing),
            ("unix://host/path", NoPath::Host),
            ("unix:/a\0b", NoPath::Zero),
        ] {
            assert_eq!(text.parse::<Address>(), Err(NotAnAddress::Path(why)), "{text:?}");
        }
        assert_eq!("localhost:80".parse::<Address>(), Err(NotAnAddress::Other));
    }
}
