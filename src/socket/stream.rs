//! A connection, whatever kind of socket it has.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net as unix;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::Address;

/// A connected socket. An enum and no parameter: one branch for each system call, instead of a second copy of h2.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connected socket on its way from one runtime to another.
#[derive(Debug)]
pub(crate) enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(unix::UnixStream),
}

impl Stream {
    /// Connects.
    pub(crate) async fn connect(address: &Address) -> io::Result<Stream> {
        match address {
            Address::Ip(address) => {
                let socket = TcpStream::connect(address).await?;
                socket.set_nodelay(true)?;
                Ok(Stream::Tcp(socket))
            }
            Address::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
        }
    }

    /// Takes it from its runtime, to serve it on another one.
    pub(crate) fn into_accepted(self) -> io::Result<Accepted> {
        Ok(match self {
            Stream::Tcp(socket) => {
                socket.set_nodelay(true)?;
                Accepted::Tcp(socket.into_std()?)
            }
            Stream::Unix(socket) => Accepted::Unix(socket.into_std()?),
        })
    }

    /// Goes on with what another runtime accepted.
    pub(crate) fn from_accepted(accepted: Accepted) -> io::Result<Stream> {
        Ok(match accepted {
            Accepted::Tcp(socket) => Stream::Tcp(TcpStream::from_std(socket)?),
            Accepted::Unix(socket) => Stream::Unix(UnixStream::from_std(socket)?),
        })
    }

    /// Waits for bytes and looks at them; they stay to be read. 0 at the end.
    pub(crate) async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => socket.peek(bytes).await,
            Stream::Unix(socket) => {
                let look = || Ok(recv(socket, &mut *bytes, RecvFlags::PEEK)?.1);
                socket.async_io(Interest::READABLE, look).await
            }
        }
    }

    /// Writes what the kernel takes now.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => socket.try_write(bytes),
            Stream::Unix(socket) => socket.try_write(bytes),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(socket) => socket.as_fd(),
            Stream::Unix(socket) => socket.as_fd(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Stream::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Stream::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, bytes),
            Stream::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, bytes),
        }
    }

    /// TLS writes several records at once: without this each would be a system call and a packet of its own, and in a handshake the
    /// peer may hang up over the first.
    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is held back here.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Stream::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_written_in_pieces_leaves_at_once() {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        let mut near = Stream::Unix(near);
        let written = near.write_vectored(&[IoSlice::new(b"hel"), IoSlice::new(b"lo")]).await.expect("a write");
        let mut read = [0; 8];
        assert_eq!((written, far.read(&mut read).await.expect("bytes")), (5, 5));
    }

    #[tokio::test]
    async fn what_is_looked_at_stays() {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        let mut near = Stream::Unix(near);
        far.write_all(b"hello").await.expect("somebody reads");
        let (mut seen, mut read) = ([0; 3], [0; 5]);
        assert_eq!(near.peek(&mut seen).await.expect("bytes"), 3);
        near.read_exact(&mut read).await.expect("bytes");
        assert_eq!((&seen, &read), (b"hel", b"hello"));
        drop(far);
        assert_eq!(near.peek(&mut seen).await.expect("the end"), 0);
    }
}
