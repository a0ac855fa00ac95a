//! Rules for addresses that Weir listens on.

use std::net::{IpAddr, SocketAddr};

use super::Checker;
use crate::config::diagnostic::Diagnostic;
use crate::config::located::At;
use crate::config::place::Place;

/// The addresses that are taken, where, and by what.
#[derive(Debug, Default)]
pub(super) struct Bound(Vec<(SocketAddr, Place, String)>);

impl Checker<'_, '_> {
    /// An IP address to listen on.
    pub(super) fn ip(&self, field: &At<String>) -> Option<IpAddr> {
        let text = self.text(field, "address")?;
        if text.starts_with("unix:") {
            self.error(Diagnostic::new(field.place, "`unix:` addresses are not built yet"));
            return None;
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if bare.eq_ignore_ascii_case("localhost") {
            let error = Diagnostic::new(field.place, "an address to listen on must be an IP address");
            self.error(error.label("did you mean `127.0.0.1`?"));
            return None;
        }
        if let Ok(ip) = bare.parse() {
            return Some(ip);
        }
        let error = Diagnostic::new(field.place, format!("`{text}` is not an IP address"));
        self.error(if bare.parse::<SocketAddr>().is_ok() {
            error.label("the port has a key of its own: `port`")
        } else {
            error
        });
        None
    }

    /// A port to listen on; 0 lets the kernel choose.
    pub(super) fn listening_port(&self, field: &At<u64>) -> Option<u16> {
        self.in_range(field, "port", 0..=65_535).and_then(|port| u16::try_from(port).ok())
    }

    /// Takes an address, unless another has it.
    pub(super) fn bind(&mut self, address: SocketAddr, place: Place, owner: &str) {
        if let Some((other, taken, by)) = self.bound.0.iter().find(|(other, ..)| clashes(*other, address)) {
            let error = Diagnostic::new(place, format!("port {} is taken twice", address.port()));
            self.error(error.label(format!("{owner} on {address}")).other(*taken, format!("{by} on {other}")));
        }
        self.bound.0.push((address, place, owner.to_owned()));
    }
}

/// An unspecified address takes the port on every address of its family; `::` takes that of both.
fn clashes(a: SocketAddr, b: SocketAddr) -> bool {
    let takes_all =
        |all: SocketAddr, other: SocketAddr| all.ip().is_unspecified() && (all.is_ipv6() || other.is_ipv4());
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || takes_all(a, b) || takes_all(b, a))
}

#[cfg(test)]
mod tests {
    use super::clashes;

    #[test]
    fn an_address_clashes_with_what_would_fail_to_bind_beside_it() {
        for (a, b, clash) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let (a, b) = (a.parse().expect(a), b.parse().expect(b));
            assert_eq!((clashes(a, b), clashes(b, a)), (clash, clash), "{a} {b}");
        }
    }
}
