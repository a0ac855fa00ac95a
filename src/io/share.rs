//! What a client's frames may cost in one turn of its connection, before the others have theirs.
//!
//! A turn reads what there is, up to [`TURN_LIMIT`](super::incoming): of DATA that is hardly any work, of control frames thousands. A
//! client that sends nothing else makes everybody on its worker wait, and so do twenty of them, twenty times as long. What an honest
//! one sends at once fits into a share; whoever uses it up with resets or frames that say nothing gets a small one next.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::meter::{Frame, FrameMeter};

/// What a turn may cost: 64 streams, or eight times as many frames that are none. Some hundred microseconds.
const WHOLE: usize = 512;

/// What it may cost after a turn that was too much.
const SMALL: usize = 64;

/// What a stream costs that begins or is reset. All other control frames cost one, DATA nothing.
const STREAM: usize = 8;

/// Bytes that h2 is given at once of a small share: what it has been given, it takes in.
const PIECE: usize = 1024;

/// Streams that are reset in one turn, or two, without that being a flood.
const RESETS: usize = 8;

/// How a connection stands.
#[derive(Debug, Default)]
pub(super) struct Share {
    used: Cost,
    is_small: bool,
}

/// What frames cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    /// HEADERS.
    streams: usize,
    /// RST_STREAM.
    resets: usize,
    /// All others but DATA.
    controls: usize,
}

impl Cost {
    /// Adds a frame.
    pub(super) fn add(&mut self, frame: Frame) {
        match frame {
            Frame::Headers(_) => self.streams += 1,
            Frame::Reset => self.resets += 1,
            Frame::Data => {}
            _ => self.controls += 1,
        }
    }

    /// That of some of the bytes: of what there is at all there is one at least.
    pub(super) fn of(self, some: usize, all: usize) -> Cost {
        let part = |whole: usize| (whole * some).div_ceil(all.max(1));
        Cost { streams: part(self.streams), resets: part(self.resets), controls: part(self.controls) }
    }

    fn of_streams(self) -> usize {
        (self.streams + self.resets) * STREAM
    }

    fn sum(self) -> usize {
        self.of_streams() + self.controls
    }
}

impl Share {
    /// Frames have come that cost so much.
    pub(super) fn use_up(&mut self, cost: Cost) {
        self.used.streams += cost.streams;
        self.used.resets += cost.resets;
        self.used.controls += cost.controls;
    }

    /// True when it is another connection's turn.
    pub(super) fn is_used_up(&self, meter: &impl FrameMeter) -> bool {
        self.used.sum() >= if self.is_small { SMALL } else { WHOLE } && meter.is_strange()
    }

    /// A turn has ended. Whoever opens stream after stream and wants their answers goes on as before.
    pub(super) fn turned(&mut self, meter: &impl FrameMeter) {
        let resets = meter.resets() + self.used.resets;
        let is_flood = || resets >= RESETS || self.used.controls > self.used.of_streams();
        self.is_small = self.is_used_up(meter) && is_flood();
        self.used = Cost::default();
    }

    /// True when a reset is among what this turn has brought.
    pub(super) fn has_resets(&self) -> bool {
        self.used.resets > 0
    }

    /// How many bytes h2 may be given at once.
    pub(super) fn at_once(&self) -> usize {
        if self.is_small { PIECE } else { usize::MAX }
    }
}

/// Reads `most` bytes at most.
pub(super) fn read_some<S: AsyncRead + Unpin>(
    socket: &mut S,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
    most: usize,
) -> Poll<io::Result<()>> {
    if most >= buf.remaining() {
        return Pin::new(socket).poll_read(cx, buf);
    }
    let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
    ready!(Pin::new(socket).poll_read(cx, &mut part))?;
    let read = part.filled().len();
    buf.advance(read);
    Poll::Ready(Ok(()))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[derive(Default)]
    struct Client {
        resets: Cell<usize>,
    }

    impl FrameMeter for Client {
        fn received(&self, _: Frame) {}
        fn sent(&self, _: Frame) {}
        fn is_strange(&self) -> bool {
            true
        }
        fn resets(&self) -> usize {
            self.resets.get()
        }
    }

    /// Frames of this kind that fit into a turn, with others after it.
    fn fit(share: &mut Share, client: &Client, frame: Frame) -> usize {
        let mut count = 0;
        while !share.is_used_up(client) && count < 100_000 {
            let mut cost = Cost::default();
            cost.add(frame);
            share.use_up(cost);
            count += 1;
        }
        share.turned(client);
        count
    }

    #[test]
    fn a_flood_gets_a_small_share_and_an_honest_client_keeps_its_own() {
        let (client, mut share) = (Client::default(), Share::default());
        assert_eq!([(); 3].map(|()| fit(&mut share, &client, Frame::Headers(1))), [64, 64, 64]);
        assert_eq!([(); 3].map(|()| fit(&mut share, &client, Frame::Ping)), [512, 64, 64]);
        // A turn in which little came.
        share.use_up(Cost { controls: 1, ..Cost::default() });
        share.turned(&client);
        assert_eq!([(); 2].map(|()| fit(&mut share, &client, Frame::WindowUpdate)), [512, 64]);
        client.resets.set(100);
        share.turned(&client);
        assert_eq!([(); 2].map(|()| fit(&mut share, &client, Frame::Reset)), [64, 8]);
        assert_eq!(fit(&mut share, &client, Frame::Data), 100_000);
    }
}
