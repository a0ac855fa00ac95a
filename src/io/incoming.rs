//! The direction from the peer: metered, and gathered before h2 sees it.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::ahead::Ahead;
use super::gather;
use super::half_open::Latest;
use super::meter::{FrameMeter, Scanner};
use super::rest::Rest;
use super::share::{Cost, Share, read_some};

/// A turn reads no more than this, so that one connection's burst does not keep the others waiting, and its calls take
/// its frames out of h2 before they are too many (h2 ends a connection that makes it keep many small ones).
const TURN_LIMIT: usize = 256 * 1024;

/// As many first bytes as tell HTTP/2 from what else comes to a port by mistake.
pub(super) const FIRST: usize = 4;

/// What has come of a connection.
#[derive(Debug)]
pub(super) struct Incoming {
    scanner: Scanner,
    latest: Latest,
    /// The first bytes that came, and how many.
    first: ([u8; FIRST], usize),
    in_turn: usize,
    share: Share,
    /// The turn ended before all had been read that there was.
    is_cut: bool,
    rest: Option<Rest>,
    ahead: Ahead,
    /// What the frames cost that were read ahead, and how many bytes they have.
    ahead_costs: (Cost, usize),
    /// The socket had nothing more when it was asked last.
    starved: bool,
}

/// What one read has brought.
pub(super) struct Came {
    pub(super) size: usize,
    /// How much of it is left after gathering.
    kept: usize,
    pub(super) frames: usize,
    cost: Cost,
}

impl Incoming {
    pub(super) fn new(scanner: Scanner) -> Incoming {
        Incoming {
            scanner,
            latest: Latest::new(),
            first: ([0; FIRST], 0),
            in_turn: 0,
            share: Share::default(),
            is_cut: false,
            rest: None,
            ahead: Ahead::default(),
            ahead_costs: Default::default(),
            starved: false,
        }
    }

    /// The first bytes that came, as far as they have.
    pub(super) fn first_bytes(&self) -> ([u8; FIRST], usize) {
        self.first
    }

    /// The frame that has begun and not ended ([`Latest::half_open`]), and whether the peer is what it waits for.
    pub(super) fn half_open(&self) -> Option<(u32, bool)> {
        Some((self.latest.half_open(&self.scanner)?, self.starved))
    }

    /// True when the peer has reset a stream in what this turn has brought.
    pub(super) fn has_resets(&self) -> bool {
        self.share.has_resets()
    }

    /// True when another turn is due for what this one has not read.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Ready when others have had their turns since this one left something unread.
    pub(super) fn poll_rested(&mut self) -> Poll<()> {
        if let Some(rest) = &self.rest {
            ready!(rest.poll());
            self.rest = None;
        }
        Poll::Ready(())
    }

    /// A turn of the connection has ended.
    pub(super) fn turned(&mut self, meter: &impl FrameMeter) {
        (self.in_turn, self.is_cut) = (0, false);
        self.share.turned(meter);
    }

    /// Gives h2 what has come. Nothing more in `buf` is the end of the connection.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        meter: &impl FrameMeter,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            if self.share.is_used_up(meter) || self.in_turn >= TURN_LIMIT && self.ahead.is_empty() {
                self.is_cut = true;
                self.rest.get_or_insert_with(|| Rest::begin(cx));
                return Poll::Pending;
            }
            if !self.ahead.is_empty() {
                self.ahead.take(buf, self.share.at_once());
                let (cost, size) = self.ahead_costs;
                self.share.use_up(cost.of(buf.filled().len() - before, size));
                return Poll::Ready(Ok(()));
            }
            let read = if self.ahead.is_due() {
                ready!(self.poll_ahead(socket, meter, cx))?
            } else {
                ready!(self.poll_straight(socket, meter, cx, buf))?
            };
            // Nothing left of what was read is not the end.
            if read == 0 || buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_straight<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        meter: &impl FrameMeter,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let before = buf.filled().len();
        let read = read_some(socket, cx, buf, self.share.at_once());
        self.starved = read.is_pending();
        ready!(read)?;
        let came = self.pass(meter, &mut buf.filled_mut()[before..]);
        self.ahead.learn(&came);
        self.share.use_up(came.cost);
        buf.set_filled(before + came.kept);
        Poll::Ready(Ok(came.size))
    }

    fn poll_ahead<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        meter: &impl FrameMeter,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let read = self.ahead.poll_fill(socket, cx);
        self.starved = read.is_pending();
        ready!(read)?;
        let mut ahead = std::mem::take(&mut self.ahead);
        let came = self.pass(meter, ahead.bytes());
        ahead.learn(&came);
        ahead.keep(came.kept);
        self.ahead_costs = (came.cost, came.kept);
        self.ahead = ahead;
        Poll::Ready(Ok(came.size))
    }

    /// Meters and gathers what one read has brought.
    fn pass(&mut self, meter: &impl FrameMeter, bytes: &mut [u8]) -> Came {
        self.note_first(bytes);
        let (size, mut frames, mut cost) = (bytes.len(), 0, Cost::default());
        self.in_turn += size;
        let kept = gather::with(|gather| {
            self.scanner.scan(bytes, |seen| {
                self.latest.note(&seen);
                gather.add(seen, size);
                meter.received(seen.frame);
                frames += 1;
                cost.add(seen.frame);
            });
            gather.rewrite(bytes)
        });
        Came { size, kept, frames, cost }
    }

    fn note_first(&mut self, bytes: &[u8]) {
        let (first, known) = &mut self.first;
        let new = bytes.len().min(FIRST - *known);
        first[*known..*known + new].copy_from_slice(&bytes[..new]);
        *known += new;
    }
}

/// What is left of these reads from a backend.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn gathered(reads: &mut [Vec<u8>]) -> Vec<u8> {
    struct Nobody;
    impl FrameMeter for Nobody {
        fn received(&self, _: super::Frame) {}
        fn sent(&self, _: super::Frame) {}
    }
    let (scanner, _) = Scanner::pair(super::Role::Client);
    let mut incoming = Incoming::new(scanner);
    let pass = |read: &mut Vec<u8>| {
        let came = incoming.pass(&Nobody, read);
        read[..came.kept].to_vec()
    };
    reads.iter_mut().flat_map(pass).collect()
}
