//! A socket that listens.

use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::net::{AddressFamily, SocketAddrUnix, getsockname};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use weir_filter::Peer;

use super::file::{self, SocketFile};
use super::{Address, Stream};

/// Connections that the kernel may hold for us; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A socket that listens, on a runtime. The file of a Unix socket goes with it, where it is this process's.
#[derive(Debug)]
pub(crate) struct ListeningSocket {
    kind: Kind,
    file: Option<SocketFile>,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Binds a listening socket. `mode` is what the file of a Unix socket permits; without it the umask decides.
///
/// # Errors
///
/// When the address is taken, or not this machine's, or not permitted.
pub(crate) fn bind(address: &Address, mode: Option<u32>) -> io::Result<ListeningSocket> {
    let (socket, file) = match address {
        Address::Ip(address) => {
            let socket = Socket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
            // A restart must not wait for the connections of the process before.
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&(*address).into())?;
            socket.listen(BACKLOG)?;
            (socket.into(), None)
        }
        Address::Unix(path) => {
            let (socket, file) = file::bind(path, mode, BACKLOG)?;
            (socket, Some(file))
        }
    };
    ListeningSocket::new(socket, file)
}

impl ListeningSocket {
    fn new(socket: OwnedFd, file: Option<SocketFile>) -> io::Result<ListeningSocket> {
        let kind = match getsockname(&socket)?.address_family() {
            AddressFamily::UNIX => Kind::Unix(UnixListener::from_std(socket.into())?),
            _ => Kind::Tcp(TcpListener::from_std(socket.into())?),
        };
        Ok(ListeningSocket { kind, file })
    }

    /// One that another process has bound. `has_file` says that its file may become this one's.
    pub(crate) fn inherited(socket: OwnedFd, has_file: bool) -> io::Result<ListeningSocket> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let file = match address_of(&socket)? {
            // Where the file is gone there is nothing to look after.
            Address::Unix(path) if has_file => SocketFile::at(&path, false).ok(),
            _ => None,
        };
        ListeningSocket::new(socket, file)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> io::Result<Address> {
        address_of(self)
    }

    /// Takes the next connection.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.kind {
            Kind::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                Ok((Stream::Tcp(socket), Peer::Ip(peer)))
            }
            Kind::Unix(listener) => {
                let (socket, _) = listener.accept().await?;
                let who = socket.peer_cred()?;
                Ok((Stream::Unix(socket), Peer::Unix { user: who.uid(), process: who.pid() }))
            }
        }
    }

    /// Its file, where it has one, goes with this process from now on, or with another one.
    pub(crate) fn set_keeper(&self, ours: bool) {
        if let Some(file) = &self.file {
            file.set_ours(ours);
        }
    }

    /// Whether it has a file that goes with whoever serves at it last. That of a service manager's socket stays.
    pub(crate) fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Changes what its file permits.
    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| file.set_mode(mode))
    }
}

impl AsFd for ListeningSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Tcp(listener) => listener.as_fd(),
            Kind::Unix(listener) => listener.as_fd(),
        }
    }
}

fn address_of(socket: &impl AsFd) -> io::Result<Address> {
    let address = getsockname(socket)?;
    if address.address_family() != AddressFamily::UNIX {
        return Ok(Address::Ip(SocketAddr::try_from(address)?));
    }
    let address = SocketAddrUnix::try_from(address)?;
    match address.path() {
        Some(path) => Ok(Address::Unix(OsStr::from_bytes(path.to_bytes()).into())),
        None => Err(io::Error::other("it is a Unix socket without a path")),
    }
}
