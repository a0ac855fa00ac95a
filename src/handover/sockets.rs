//! Listening sockets that wait for their listener.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::socket::{Address, ListeningSocket};

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
    address: Address,
    socket: ListeningSocket,
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
    pub(crate) address: Address,
    pub(crate) socket: OwnedFd,
    /// The file of a Unix socket goes with whoever serves at it.
    pub(crate) has_file: bool,
}

impl Kept {
    /// A socket once more. `address` is the one that it was bound for.
    ///
    /// # Errors
    ///
    /// When there are no descriptors left.
    pub(crate) fn new(what: String, address: &Address, socket: &ListeningSocket) -> io::Result<Kept> {
        let has_file = socket.has_file();
        Ok(Kept { what, address: address.clone(), socket: socket.as_fd().try_clone_to_owned()?, has_file })
    }
}

impl Sockets {
    /// Adds a socket. `address` is the one that it was bound for.
    pub(crate) fn add(&mut self, source: Source, name: String, address: Address, socket: ListeningSocket) {
        self.given.push(Given { name, address, socket, source });
    }

    /// The socket of `what`, as errors call it (`listener NAME`, `admin`), which the file has at this address.
    pub(crate) fn take(&mut self, what: &str, address: &Address) -> Option<ListeningSocket> {
        let at = self.given.iter().position(|given| given.is_named(what, address));
        let at = at.or_else(|| self.given.iter().position(|given| !address.is_open() && given.address == *address));
        at.map(|at| self.given.remove(at).socket)
    }

    /// Those that nobody has taken.
    pub(crate) fn rest(&self) -> impl Iterator<Item = &ListeningSocket> {
        self.given.iter().map(|given| &given.socket)
    }

    /// A socket of the service manager that nobody has taken: clients would wait at it for ever.
    pub(crate) fn untaken(&self) -> Option<(&str, &Address)> {
        let untaken = self.given.iter().find(|given| given.source == Source::ServiceManager);
        untaken.map(|given| (&*given.name, &given.address))
    }
}

impl Given {
    /// A service manager knows names and not what the file says.
    fn is_named(&self, what: &str, address: &Address) -> bool {
        match self.source {
            Source::ServiceManager => self.name == what.strip_prefix("listener ").unwrap_or(what),
            Source::Predecessor => self.name == what && self.address == *address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::bind;

    fn sockets(source: Source, names: &[&str]) -> (Sockets, Vec<Address>) {
        let (mut sockets, mut addresses) = (Sockets::default(), Vec::new());
        for name in names {
            let socket = bind(&elsewhere(0), None).expect("a port");
            let address = socket.address().expect("its address");
            sockets.add(source, (*name).to_owned(), address.clone(), socket);
            addresses.push(address);
        }
        (sockets, addresses)
    }

    fn elsewhere(port: u16) -> Address {
        format!("127.0.0.1:{port}").parse().expect("an address")
    }

    fn taken(sockets: &mut Sockets, what: &str, address: &Address) -> Option<Address> {
        sockets.take(what, address).map(|socket| socket.address().expect("its address"))
    }

    #[tokio::test]
    async fn a_service_managers_sockets_go_by_name_and_else_by_address() {
        let (mut sockets, at) = sockets(Source::ServiceManager, &["in", "weir.socket", "weir.socket"]);
        assert_eq!(taken(&mut sockets, "listener in", &elsewhere(1)), Some(at[0].clone()));
        assert_eq!(taken(&mut sockets, "listener out", &elsewhere(1)), None);
        assert_eq!(taken(&mut sockets, "admin", &at[2]), Some(at[2].clone()));
        assert_eq!(sockets.untaken(), Some(("weir.socket", &at[1])));
        assert_eq!(taken(&mut sockets, "listener out", &at[1]), Some(at[1].clone()));
        assert_eq!(sockets.untaken(), None);
    }

    #[tokio::test]
    async fn a_predecessors_sockets_go_by_the_address_in_the_file() {
        let (mut sockets, at) = sockets(Source::Predecessor, &["listener in", "listener out"]);
        assert_eq!(taken(&mut sockets, "listener in", &elsewhere(1)), None, "it has moved");
        assert_eq!(taken(&mut sockets, "listener new", &at[0]), Some(at[0].clone()), "it has another name");
        assert_eq!(sockets.untaken(), None, "a listener that is gone is closed");
    }
}
