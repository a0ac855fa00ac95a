//! The corked socket: what one turn of a connection writes leaves in one system call.
//!
//! h2 writes a DATA frame of 256 bytes or more with a system call of its own. [`Corked`] collects what h2 writes while
//! its connection is polled; the task that polls it calls [`Cork::poll_uncork`] once after each poll. Both directions
//! pass a [`FrameMeter`], because h2 shows neither frame counts nor the numbers that tell whether a request has left. Small
//! DATA frames that arrive together are gathered into one a stream before h2 sees them.

mod ahead;
mod buffers;
mod gather;
mod half_open;
mod incoming;
mod meter;
mod queue;
mod rest;
mod share;
mod turns;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use incoming::{FIRST, Incoming};
pub(crate) use meter::{Frame, FrameMeter, Role};
pub(crate) use queue::{Queue, Queued};
pub(crate) use turns::Turns;

/// h2's allowance for small frames that it keeps, in bytes: it covers the smallest frames that a turn can bring, whatever
/// window was configured.
pub(crate) const FRAME_BUDGET: usize = 8 * 1024 * 1024;

/// A turn that has written this much is flushed early, so that a large response is not held back and the buffer stays
/// within what a socket takes at once.
const CORK_LIMIT: usize = 64 * 1024;

/// What h2 would be given of these reads.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn gathered(reads: &mut [Vec<u8>]) -> Vec<u8> {
    incoming::gathered(reads)
}

/// The half that h2 owns.
pub(crate) struct Corked<S, M> {
    shared: Rc<Cork<S, M>>,
}

/// The half that the connection's task owns.
pub(crate) struct Cork<S, M> {
    inner: RefCell<Inner<S>>,
    /// What was seen of the frames that passed.
    pub(crate) meter: M,
    pub(crate) turns: Rc<Turns>,
}

struct Inner<S> {
    socket: S,
    out: Vec<u8>,
    written: usize,
    incoming: Incoming,
    scan_out: meter::Scanner,
    /// h2 was told to wait in this turn, and so holds frames back.
    held: bool,
    shut: bool,
}

/// Splits a socket into what h2 gets and what the connection's task keeps.
pub(crate) fn cork<S, M>(socket: S, meter: M, role: meter::Role) -> (Corked<S, M>, Rc<Cork<S, M>>) {
    let (scan_in, scan_out) = meter::Scanner::pair(role);
    let shared = Rc::new(Cork {
        inner: RefCell::new(Inner {
            socket,
            out: Vec::new(),
            written: 0,
            incoming: Incoming::new(scan_in),
            scan_out,
            held: false,
            shut: false,
        }),
        meter,
        turns: Rc::default(),
    });
    (Corked { shared: shared.clone() }, shared)
}

// === impl Cork ===

impl<S: AsyncWrite + Unpin, M: FrameMeter> Cork<S, M> {
    /// Writes what has been collected. To be called after every poll of the connection, with the same task's context.
    ///
    /// `Pending` means that the socket takes no more now; the task is woken when it does.
    pub(crate) fn poll_uncork(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.inner.borrow_mut();
        inner.incoming.turned(&self.meter);
        ready!(inner.poll_write_out(&self.meter, cx))?;
        if std::mem::take(&mut inner.held) {
            // The socket has room again, and h2 has not heard of it.
            cx.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        self.turns.turned();
        Poll::Ready(Ok(()))
    }

    /// Ready when the connection may have a turn. One that has left something unread rests before the next: the task is woken then,
    /// and may be earlier, for other reasons.
    pub(crate) fn poll_rested(&self) -> Poll<()> {
        self.inner.borrow_mut().incoming.poll_rested()
    }

    /// Looks at the socket.
    pub(crate) fn socket<R>(&self, look: impl FnOnce(&mut S) -> R) -> R {
        look(&mut self.inner.borrow_mut().socket)
    }

    /// The first bytes that came, as far as they have.
    pub(crate) fn first_bytes(&self) -> ([u8; FIRST], usize) {
        self.inner.borrow().incoming.first_bytes()
    }

    /// True when the peer has reset a stream in what this turn has brought.
    pub(crate) fn has_resets(&self) -> bool {
        self.inner.borrow().incoming.has_resets()
    }

    /// True when this turn has not read all that came: another one follows after a rest.
    pub(crate) fn is_cut(&self) -> bool {
        self.inner.borrow().incoming.is_cut()
    }

    /// The number of the frame other than DATA, or of the header block, that the peer has begun and not ended, and whether
    /// it is the peer that keeps us waiting.
    pub(crate) fn half_open(&self) -> Option<(u32, bool)> {
        self.inner.borrow().incoming.half_open()
    }

    /// Adds a whole frame of our own behind what h2 has written in this turn. False when h2 is in the middle of a frame,
    /// where it would be taken for a part of that.
    pub(crate) fn push_frame(&self, frame: &[u8]) -> bool {
        let mut inner = self.inner.borrow_mut();
        let between_frames = inner.scan_out.is_between_frames() && !inner.held;
        if between_frames {
            inner.out.extend_from_slice(frame);
        }
        between_frames
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, M: FrameMeter> Cork<S, M> {
    /// Says `bytes` in the place of all that has not left yet, closes our side, and reads on until the peer closes its own:
    /// a socket that is closed with something unread takes back what was said.
    pub(crate) async fn turn_away(&self, bytes: &[u8]) -> io::Result<()> {
        {
            let mut inner = self.inner.borrow_mut();
            inner.out.clear();
            inner.written = 0;
            inner.out.extend_from_slice(bytes);
        }
        poll_fn(|cx| self.poll_uncork(cx)).await?;
        poll_fn(|cx| Pin::new(&mut self.inner.borrow_mut().socket).poll_shutdown(cx)).await?;
        let mut unheard = [0; 512];
        loop {
            let mut buffer = ReadBuf::new(&mut unheard);
            poll_fn(|cx| Pin::new(&mut self.inner.borrow_mut().socket).poll_read(cx, &mut buffer)).await?;
            if buffer.filled().is_empty() {
                return Ok(());
            }
        }
    }
}

// === impl Inner ===

impl<S: AsyncWrite + Unpin> Inner<S> {
    fn poll_write_out(&mut self, meter: &impl FrameMeter, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.out[self.written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
            meter.some_left();
        }
        if self.out.capacity() > 0 {
            buffers::give_back(std::mem::take(&mut self.out));
            self.written = 0;
        }
        // Under TLS the socket has a buffer of its own.
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// Room for more, or `Pending` when the socket is behind by a whole cork.
    fn poll_room(&mut self, meter: &impl FrameMeter, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.len() >= CORK_LIMIT {
            self.held = true;
            ready!(self.poll_write_out(meter, cx))?;
            self.held = false;
        }
        if self.out.capacity() == 0 {
            self.out = buffers::take();
        }
        Poll::Ready(Ok(()))
    }
}

// === impl Corked ===

impl<S: AsyncRead + Unpin, M: FrameMeter> AsyncRead for Corked<S, M> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.shared.inner.borrow_mut();
        let inner = &mut *inner;
        inner.incoming.poll_read(&mut inner.socket, &self.shared.meter, cx, buf)
    }
}

impl<S: AsyncWrite + Unpin, M: FrameMeter> AsyncWrite for Corked<S, M> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.shared.inner.borrow_mut();
        let inner = &mut *inner;
        ready!(inner.poll_room(&self.shared.meter, cx))?;
        let mut taken = 0;
        for slice in slices {
            inner.out.extend_from_slice(slice);
            inner.scan_out.scan(slice, |seen| self.shared.meter.sent(seen.frame));
            taken += slice.len();
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing: the bytes leave at the end of the turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// An orderly close pushes the last bytes out first.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.shared.inner.borrow_mut();
        ready!(inner.poll_write_out(&self.shared.meter, cx))?;
        if !inner.shut {
            ready!(Pin::new(&mut inner.socket).poll_shutdown(cx))?;
            inner.shut = true;
        }
        Poll::Ready(Ok(()))
    }
}
