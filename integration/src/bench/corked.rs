//! A socket that sends what one turn of a connection writes in one system call, as gRPC's own libraries do: h2 alone
//! would make one of each DATA frame.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is sent without waiting for the end of the turn, in bytes.
const LIMIT: usize = 128 * 1024;

/// The half that h2 gets.
pub(super) struct Corked<S>(Rc<RefCell<Inner<S>>>);

/// The half that the connection's task keeps.
pub(super) struct Cork<S>(Rc<RefCell<Inner<S>>>);

struct Inner<S> {
    socket: S,
    out: Vec<u8>,
    sent: usize,
}

/// Splits a socket.
pub(super) fn cork<S>(socket: S) -> (Corked<S>, Cork<S>) {
    let inner = Rc::new(RefCell::new(Inner { socket, out: Vec::new(), sent: 0 }));
    (Corked(inner.clone()), Cork(inner))
}

impl<S: AsyncWrite + Unpin> Cork<S> {
    /// Polls a connection, and sends what it has written after each turn.
    pub(super) async fn turns<T>(&self, mut connection: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
        poll_fn(|cx| {
            let turn = connection(cx);
            // A socket that is broken, h2 learns of when it reads or writes.
            let _ = self.0.borrow_mut().poll_send(cx);
            turn
        })
        .await
    }
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            let sent = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.out[self.sent..]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        self.out.clear();
        self.sent = 0;
        // Under TLS the socket has a buffer of its own.
        Pin::new(&mut self.socket).poll_flush(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().socket).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        if inner.out.len() >= LIMIT {
            ready!(inner.poll_send(cx))?;
        }
        inner.out.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    /// Left to the end of the turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_send(cx))?;
        Pin::new(&mut inner.socket).poll_shutdown(cx)
    }
}
