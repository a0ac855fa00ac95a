//! The socket of a client, in plaintext or under TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::tls;

/// An enum and no parameter: one branch for each system call, instead of a second copy of h2.
pub(super) enum Socket {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

/// A socket under TLS.
pub(super) struct Tls(TlsStream<TcpStream>);

impl Socket {
    pub(super) fn tls(stream: TlsStream<TcpStream>) -> Socket {
        Socket::Tls(Box::new(Tls(stream)))
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Socket::Tls(tls) => Pin::new(&mut tls.0).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Socket::Tls(tls) => Pin::new(&mut tls.0).poll_write(cx, bytes),
        }
    }

    /// Under TLS a write that the kernel did not take as a whole has left a rest.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(_) => Poll::Ready(Ok(())),
            Socket::Tls(tls) => Pin::new(&mut tls.0).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Tls(tls) => Pin::new(&mut tls.0).poll_shutdown(cx),
        }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let (socket, session) = self.0.get_mut();
        tls::close(socket, session);
    }
}
