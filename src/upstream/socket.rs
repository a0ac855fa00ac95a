//! The socket to a backend, in plaintext or under TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::socket::Stream;
use crate::tls::{self, Failure, rustls_error};

/// An enum and no parameter: one branch for each system call, instead of a second copy of h2.
pub(super) enum Socket {
    Plain(Stream),
    Tls(Box<Tls>),
}

/// A socket under TLS.
pub(super) struct Tls {
    stream: TlsStream<Stream>,
    /// h2 keeps of an error only its text, and what TLS has against a connection is in here.
    failure: Option<rustls::Error>,
}

// === impl Socket ===

impl Socket {
    pub(super) fn tls(stream: TlsStream<Stream>) -> Socket {
        Socket::Tls(Box::new(Tls { stream, failure: None }))
    }

    /// What TLS has against the connection, as far as that is known.
    pub(super) fn take_failure(&mut self) -> Option<Failure> {
        match self {
            Socket::Plain(_) => None,
            Socket::Tls(tls) => tls.failure.take().map(|error| Failure::of(&error)),
        }
    }

    /// The same on a connection that cannot be written to any more. With TLS 1.3 a backend refuses our certificate after the
    /// handshake, and that it hung up may show before the word that it has said.
    pub(super) fn poll_failure(&mut self, cx: &mut Context<'_>) -> Poll<Option<Failure>> {
        let mut unread = [0; 1024];
        while let Socket::Tls(tls) = self
            && tls.failure.is_none()
        {
            let mut buffer = ReadBuf::new(&mut unread);
            let read = ready!(tls.poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(self.take_failure())
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Socket::Tls(tls) => tls.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Socket::Tls(tls) => Pin::new(&mut tls.stream).poll_write(cx, bytes),
        }
    }

    /// Under TLS a write that the kernel did not take as a whole has left a rest.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(_) => Poll::Ready(Ok(())),
            Socket::Tls(tls) => Pin::new(&mut tls.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Tls(tls) => Pin::new(&mut tls.stream).poll_shutdown(cx),
        }
    }
}

// === impl Tls ===

impl Tls {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &read {
            self.failure = rustls_error(error).cloned();
        }
        read
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let (socket, session) = self.stream.get_mut();
        tls::close(socket, session);
    }
}
