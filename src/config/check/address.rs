//! Rules for addresses that Weir listens on.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::{Checker, Scope};
use crate::config::diagnostic::Diagnostic;
use crate::config::file::value::FileMode;
use crate::config::located::At;
use crate::config::place::Place;
use crate::config::plan::Binding;
use crate::socket::Address;

/// The addresses that are taken, where, and by what.
#[derive(Debug, Default)]
pub(super) struct Bound(Vec<(Address, Place, String)>);

/// What the file says of an address to listen on.
pub(super) struct Asked<'f> {
    pub(super) address: Option<&'f At<String>>,
    pub(super) port: Option<&'f At<u64>>,
    pub(super) mode: Option<&'f At<FileMode>>,
    /// Where there is no `address`.
    pub(super) default: IpAddr,
}

impl Checker<'_, '_> {
    /// Where a socket is to listen: nothing else of the file does so there. `owner` is what errors call it.
    pub(super) fn binding(&mut self, asked: &Asked<'_>, scope: &Scope, owner: &str) -> Option<Binding> {
        if let Some((path, place)) = asked.address.and_then(|field| self.unix_path(field, asked.port)) {
            let mode = asked.mode.and_then(|field| self.file_mode(field));
            let address = Address::Unix(path?);
            self.bind(&address, place, owner);
            return Some(Binding { address, mode });
        }
        if let Some(mode) = asked.mode {
            let error = Diagnostic::new(mode.key, "`mode` is that of a Unix socket, and this is a port");
            self.error(error.label("an address such as `unix:/run/weir/grpc.sock` has one"));
        }
        let ip = asked.address.map_or(Some(asked.default), |address| self.ip(address));
        let port = self.required(asked.port, "port", scope)?;
        let address = SocketAddr::new(ip?, self.listening_port(port)?).into();
        self.bind(&address, port.place, owner);
        Some(Binding { address, mode: None })
    }

    /// The path of an address that begins as those of Unix sockets do, where it is a good one.
    pub(super) fn unix_path(&self, field: &At<String>, port: Option<&At<u64>>) -> Option<(Option<PathBuf>, Place)> {
        let text = field.value.as_deref()?;
        if text.starts_with("unix-abstract:") || text.starts_with("unix:@") {
            let error = Diagnostic::new(field.place, "abstract Unix sockets are not built yet");
            self.error(error.label("one with a path is: `unix:/run/weir/grpc.sock`"));
            return Some((None, field.place));
        }
        let path = Address::unix(text)?;
        if let Some(port) = port {
            let error = Diagnostic::new(port.key, "a Unix socket has no port");
            self.error(error.label("leave it out").other(field.place, "the socket"));
        }
        let path = path.map_err(|why| {
            self.error(Diagnostic::new(field.place, format!("the path of `{text}` {why}")));
        });
        Some((path.ok(), field.place))
    }

    /// Permissions in octal, as chmod(1) takes them.
    fn file_mode(&self, field: &At<FileMode>) -> Option<u32> {
        let FileMode(text) = field.value.as_ref()?;
        let digits = text.strip_prefix("0o").or_else(|| text.strip_prefix('0')).unwrap_or(text);
        let mode = u32::from_str_radix(digits, 8).ok().filter(|_| digits.len() == 3 && !digits.starts_with('+'));
        if mode.is_none() {
            let error = Diagnostic::new(field.place, format!("`{text}` is no permission of a file"));
            self.error(error.label("three digits of octal, as `chmod` takes them: `0660`"));
        }
        mode
    }

    /// An IP address to listen on.
    pub(super) fn ip(&self, field: &At<String>) -> Option<IpAddr> {
        let text = self.text(field, "address")?;
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
    pub(super) fn bind(&mut self, address: &Address, place: Place, owner: &str) {
        if let Some((other, taken, by)) = self.bound.0.iter().find(|(other, ..)| clashes(other, address)) {
            let what = address.ip().map_or(format!("`{address}`"), |address| format!("port {}", address.port()));
            let error = Diagnostic::new(place, format!("{what} is taken twice"));
            self.error(error.label(format!("{owner} on {address}")).other(*taken, format!("{by} on {other}")));
        }
        self.bound.0.push((address.clone(), place, owner.to_owned()));
    }
}

/// An unspecified address takes the port on every address of its family; `::` takes that of both.
fn clashes(a: &Address, b: &Address) -> bool {
    let (Address::Ip(a), Address::Ip(b)) = (a, b) else { return a == b };
    let takes_all =
        |all: &SocketAddr, other: &SocketAddr| all.ip().is_unspecified() && (all.is_ipv6() || other.is_ipv4());
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || takes_all(a, b) || takes_all(b, a))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("unix:/run/a", "unix:/run/a", true),
            ("unix:/run/a", "unix:/run/b", false),
            ("unix:/run/a", "[::]:80", false),
        ] {
            let (a, b): (Address, Address) = (a.parse().expect(a), b.parse().expect(b));
            assert_eq!((clashes(&a, &b), clashes(&b, &a)), (clash, clash), "{a} {b}");
        }
    }
}
