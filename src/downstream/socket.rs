//! The socket of a client, in plaintext or under TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::authority::Authorities;
use crate::socket::Stream;
use crate::tls;

pub(super) struct Socket {
    kind: Kind,
    /// What is said on a Unix socket is put right where h2 would not take it.
    authorities: Option<Box<Authorities>>,
}

/// An enum and no parameter: one branch for each system call, instead of a second copy of h2.
enum Kind {
    Plain(Stream),
    Tls(Box<Tls>),
}

/// A socket under TLS.
pub(super) struct Tls(TlsStream<Stream>);

impl Socket {
    pub(super) fn plain(stream: Stream) -> Socket {
        Socket { authorities: authorities(&stream), kind: Kind::Plain(stream) }
    }

    pub(super) fn tls(stream: TlsStream<Stream>) -> Socket {
        Socket { authorities: authorities(stream.get_ref().0), kind: Kind::Tls(Box::new(Tls(stream))) }
    }
}

fn authorities(stream: &Stream) -> Option<Box<Authorities>> {
    matches!(stream, Stream::Unix(_)).then(|| Box::new(Authorities::new()))
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Socket { kind, authorities } = self.get_mut();
        match authorities {
            None => Pin::new(kind).poll_read(cx, buf),
            Some(authorities) => authorities.poll_read(kind, cx, buf),
        }
    }
}

impl AsyncRead for Kind {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Kind::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Kind::Tls(tls) => Pin::new(&mut tls.0).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            Kind::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Kind::Tls(tls) => Pin::new(&mut tls.0).poll_write(cx, bytes),
        }
    }

    /// Under TLS a write that the kernel did not take as a whole has left a rest.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Plain(_) => Poll::Ready(Ok(())),
            Kind::Tls(tls) => Pin::new(&mut tls.0).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Kind::Tls(tls) => Pin::new(&mut tls.0).poll_shutdown(cx),
        }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let (socket, session) = self.0.get_mut();
        tls::close(socket, session);
    }
}
