//! Listening sockets that wait for their listener.

use std::io;
use std::net::{SocketAddr, TcpListener};

/// Sockets that are there before the gateway starts. A listener that finds its own among them binds none.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    given: Vec<Given>,
    /// The gateway keeps its sockets at hand, for a process that takes over from it.
    pub(crate) are_kept: bool,
}

#[derive(Debug)]
struct Given {
    name: String,
    address: SocketAddr,
    socket: TcpListener,
    source: Source,
}

/// Where a socket comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// systemd, or another that speaks its protocol.
    ServiceManager,
    /// The process that this one takes over from.
    Predecessor,
}

/// A socket of a gateway that runs.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) what: String,
    /// The address in the configuration.
    pub(crate) address: SocketAddr,
    pub(crate) socket: TcpListener,
}

impl Sockets {
    /// Adds a socket. `address` is the one that it was bound for.
    pub(crate) fn add(&mut self, source: Source, name: String, address: SocketAddr, socket: TcpListener) {
        self.given.push(Given { name, address, socket, source });
    }

    /// The socket of `what`, as errors call it (`listener NAME`, `admin`), which the file has at this address.
    ///
    /// # Errors
    ///
    /// When its socket cannot be used.
    pub(crate) fn take(&mut self, what: &str, address: SocketAddr) -> io::Result<Option<TcpListener>> {
        let at = self.given.iter().position(|given| given.is_named(what, address));
        let at = at.or_else(|| self.given.iter().position(|given| address.port() != 0 && given.address == address));
        let Some(given) = at.map(|at| self.given.remove(at)) else { return Ok(None) };
        given.socket.set_nonblocking(true)?;
        Ok(Some(given.socket))
    }

    /// A socket of the service manager that nobody has taken: clients would wait at it for ever.
    pub(crate) fn untaken(&self) -> Option<(&str, SocketAddr)> {
        let untaken = self.given.iter().find(|given| given.source == Source::ServiceManager);
        untaken.map(|given| (&*given.name, given.address))
    }
}

impl Given {
    /// A service manager knows names and not what the file says.
    fn is_named(&self, what: &str, address: SocketAddr) -> bool {
        match self.source {
            Source::ServiceManager => self.name == what.strip_prefix("listener ").unwrap_or(what),
            Source::Predecessor => self.name == what && self.address == address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(source: Source, names: &[&str]) -> (Sockets, Vec<SocketAddr>) {
        let (mut sockets, mut addresses) = (Sockets::default(), Vec::new());
        for name in names {
            let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = socket.local_addr().expect("its address");
            sockets.add(source, (*name).to_owned(), address, socket);
            addresses.push(address);
        }
        (sockets, addresses)
    }

    fn taken(sockets: &mut Sockets, what: &str, address: SocketAddr) -> Option<SocketAddr> {
        sockets.take(what, address).expect("a socket").map(|socket| socket.local_addr().expect("its address"))
    }

    #[test]
    fn a_service_managers_sockets_go_by_name_and_else_by_address() {
        let (mut sockets, at) = sockets(Source::ServiceManager, &["in", "weir.socket", "weir.socket"]);
        let elsewhere = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(taken(&mut sockets, "listener in", elsewhere), Some(at[0]));
        assert_eq!(taken(&mut sockets, "listener out", elsewhere), None);
        assert_eq!(taken(&mut sockets, "admin", at[2]), Some(at[2]));
        assert_eq!(sockets.untaken(), Some(("weir.socket", at[1])));
        assert_eq!(taken(&mut sockets, "listener out", at[1]), Some(at[1]));
        assert_eq!(sockets.untaken(), None);
    }

    #[test]
    fn a_predecessors_sockets_go_by_the_address_in_the_file() {
        let (mut sockets, at) = sockets(Source::Predecessor, &["listener in", "listener out"]);
        let elsewhere = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(taken(&mut sockets, "listener in", elsewhere), None, "it has moved");
        assert_eq!(taken(&mut sockets, "listener new", at[0]), Some(at[0]), "it has another name");
        assert_eq!(sockets.untaken(), None, "a listener that is gone is closed");
    }
}
