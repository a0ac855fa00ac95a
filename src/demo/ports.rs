//! The demo's ports: the well-known ones where they are free, others where they are not.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A port of this machine's loopback address, held until it is let go.
#[derive(Debug)]
pub struct Reserved {
    socket: TcpListener,
    address: SocketAddr,
    wanted: u16,
}

impl Reserved {
    /// Takes this port, or a free one when somebody else has it.
    ///
    /// # Errors
    ///
    /// When the port cannot be bound for another reason than that it is taken, or no port is free.
    pub fn take(wanted: u16) -> io::Result<Reserved> {
        let socket = match bind(wanted) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => bind(0)?,
            other => other?,
        };
        let address = socket.local_addr()?;
        Ok(Reserved { socket, address, wanted })
    }

    /// The port that was had.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What to tell the user when it is not the port that was wanted.
    #[must_use]
    pub fn notice(&self) -> Option<String> {
        let Reserved { wanted, .. } = self;
        (self.port() != *wanted).then(|| format!("port {wanted} is taken, using {} instead", self.port()))
    }

    /// The listening socket itself.
    #[must_use]
    pub fn into_socket(self) -> TcpListener {
        self.socket
    }
}

fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_is_taken_without_a_word() {
        let free = bind(0).and_then(|socket| socket.local_addr()).expect("a port").port();
        let reserved = Reserved::take(free).expect("the port");
        assert_eq!((reserved.port(), reserved.notice()), (free, None));
    }

    #[test]
    fn a_taken_port_is_replaced_aloud() {
        let holder = bind(0).expect("a port");
        let taken = holder.local_addr().expect("an address").port();
        let reserved = Reserved::take(taken).expect("another port");
        assert_ne!(reserved.port(), taken);
        let expected = format!("port {taken} is taken, using {} instead", reserved.port());
        assert_eq!(reserved.notice(), Some(expected));
    }
}
