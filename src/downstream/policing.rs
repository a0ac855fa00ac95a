//! What a client's frames may do before its connection is closed: keepalive pings as gRFC A8 has it, and resets in a
//! token bucket.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::config::plan;
use crate::io::{Frame, FrameMeter};

/// Pings that came too early and are forgiven, as in gRPC's servers (gRFC A8).
const PING_STRIKES: u32 = 2;

/// The least time between pings without a call where these are not permitted at all (gRFC A8).
const TWO_HOURS: Duration = Duration::from_secs(2 * 60 * 60);

/// Streams that a connection may have reset at once, by the client or by its faults, and empty DATA frames that it may
/// send at once: an honest client that gives up on all it has open, several times over.
pub(super) const BURST: u32 = 20_000;

/// Resets, and empty frames, a second that may go on for ever. A flood is a hundred times as fast (CVE-2023-44487,
/// CVE-2025-8671, CVE-2019-9518).
const RATE: u32 = 2_000;

/// What a connection has sent too many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pings,
    Resets,
    EmptyFrames,
}

impl Verdict {
    /// The words that travel with GOAWAY. gRPC's clients look for these very words before they ping less (gRFC A8).
    pub(super) const fn words(self) -> &'static str {
        match self {
            Verdict::Pings => "too_many_pings",
            Verdict::Resets => "too_many_resets",
            Verdict::EmptyFrames => "too_many_empty_frames",
        }
    }
}

/// The meter of a connection from a client.
#[derive(Debug)]
pub(crate) struct Policing {
    ping_min_time: Duration,
    ping_without_calls: bool,
    pings: Cell<u32>,
    last_ping: Cell<Option<Instant>>,
    strikes: Cell<u32>,
    answered: Cell<bool>,
    resets: Bucket,
    empty_frames: Bucket,
    last_stream: Cell<u32>,
    has_settings: Cell<bool>,
}

/// A token bucket, and what has been taken from it since it was looked at.
#[derive(Debug)]
struct Bucket {
    taken: Cell<u32>,
    tokens: Cell<u32>,
    refilled: Cell<Option<Instant>>,
}

impl FrameMeter for std::rc::Rc<Policing> {
    fn received(&self, frame: Frame) {
        match frame {
            Frame::Settings => self.has_settings.set(true),
            Frame::Ping => self.pings.set(self.pings.get() + 1),
            Frame::Reset => self.resets.take(),
            Frame::EmptyData => self.empty_frames.take(),
            // Trailers of an older stream come after the HEADERS of a newer one.
            Frame::Headers(stream) => self.last_stream.set(self.last_stream.get().max(stream)),
            _ => {}
        }
    }

    fn sent(&self, frame: Frame) {
        match frame {
            Frame::Data | Frame::Headers(_) => self.answered.set(true),
            Frame::Reset => self.resets.take(),
            _ => {}
        }
    }
}

impl Policing {
    pub(super) fn new(http2: &plan::DownstreamHttp2) -> Policing {
        Policing {
            ping_min_time: http2.keepalive_min_time,
            ping_without_calls: http2.keepalive_permit_without_calls,
            pings: Cell::new(0),
            last_ping: Cell::new(None),
            strikes: Cell::new(0),
            answered: Cell::new(false),
            resets: Bucket::new(),
            empty_frames: Bucket::new(),
            last_stream: Cell::new(0),
            has_settings: Cell::new(false),
        }
    }

    /// True once the client's SETTINGS have begun to arrive.
    pub(super) fn has_settings(&self) -> bool {
        self.has_settings.get()
    }

    /// Judges what arrived since the last time; `open` is the number of streams. Why the connection must end, if it must.
    pub(super) fn verdict(&self, open: usize) -> Option<Verdict> {
        if self.pings.get() > 0 && self.too_many_pings(open, Instant::now()) {
            return Some(Verdict::Pings);
        }
        if self.resets.is_overdrawn() {
            return Some(Verdict::Resets);
        }
        self.empty_frames.is_overdrawn().then_some(Verdict::EmptyFrames)
    }

    /// GOAWAY with ENHANCE_YOUR_CALM and the verdict's words (RFC 9113 6.8). h2's own carries no words.
    pub(super) fn go_away(&self, verdict: Verdict) -> Vec<u8> {
        const FIXED: usize = 8;
        let words = verdict.words().as_bytes();
        let mut frame = vec![0, 0, (FIXED + words.len()) as u8, 0x7, 0, 0, 0, 0, 0];
        frame.extend(self.last_stream.get().to_be_bytes());
        frame.extend(u32::from(h2::Reason::ENHANCE_YOUR_CALM).to_be_bytes());
        frame.extend(words);
        frame
    }

    fn too_many_pings(&self, open: usize, now: Instant) -> bool {
        let pings = self.pings.replace(0);
        let idle = open == 0 && !self.ping_without_calls;
        let least = if idle { TWO_HOURS } else { self.ping_min_time };
        // Whoever gets an answer may measure the connection with a ping.
        if self.answered.replace(false) {
            self.strikes.set(0);
            self.last_ping.set(None);
        }
        for _ in 0..pings {
            if self.last_ping.replace(Some(now)).is_some_and(|last| now.duration_since(last) < least) {
                self.strikes.set(self.strikes.get() + 1);
            }
        }
        self.strikes.get() > PING_STRIKES
    }
}

impl Bucket {
    fn new() -> Bucket {
        Bucket { taken: Cell::new(0), tokens: Cell::new(BURST), refilled: Cell::new(None) }
    }

    fn take(&self) {
        self.taken.set(self.taken.get() + 1);
    }

    /// True when more was taken than the bucket held. The clock is read only when something was taken.
    fn is_overdrawn(&self) -> bool {
        self.taken.get() > 0 && self.settle(Instant::now())
    }

    fn settle(&self, now: Instant) -> bool {
        let since = self.refilled.replace(Some(now)).map_or(Duration::ZERO, |last| now.duration_since(last));
        let refill = (since.as_secs_f64() * f64::from(RATE)) as u32;
        let tokens = self.tokens.get().saturating_add(refill).min(BURST);
        let taken = self.taken.replace(0);
        self.tokens.set(tokens.saturating_sub(taken));
        taken > tokens
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    fn policing(without_calls: bool) -> Rc<Policing> {
        Rc::new(Policing::new(&plan::DownstreamHttp2 {
            max_concurrent_streams: 1,
            stream_window: 65_535,
            connection_window: 65_535,
            max_header_list_size: 1,
            keepalive_min_time: Duration::from_secs(300),
            keepalive_permit_without_calls: without_calls,
        }))
    }

    fn ping(policing: &Rc<Policing>, open: usize, now: Instant) -> bool {
        policing.received(Frame::Ping);
        policing.too_many_pings(open, now)
    }

    #[test]
    fn the_third_early_ping_is_too_many() {
        let policing = policing(false);
        let start = Instant::now();
        let early: Vec<bool> = (0..5).map(|at| ping(&policing, 1, start + Duration::from_secs(at * 10))).collect();
        assert_eq!(early, [false, false, false, true, true]);
    }

    #[test]
    fn patient_pings_never_are() {
        let policing = policing(true);
        let start = Instant::now();
        assert!((0..20).all(|at| !ping(&policing, 0, start + Duration::from_secs(at * 300))));
    }

    #[test]
    fn an_answer_in_between_clears_the_strikes() {
        let policing = policing(false);
        let start = Instant::now();
        for at in 0..20 {
            assert!(!ping(&policing, 1, start + Duration::from_secs(at)));
            policing.sent(Frame::Data);
        }
    }

    #[test]
    fn goaway_names_the_newest_stream_whatever_came_last() {
        let policing = policing(false);
        for stream in [1, 3, 5, 1] {
            policing.received(Frame::Headers(stream));
        }
        assert_eq!(policing.go_away(Verdict::Pings)[9..13], 5_u32.to_be_bytes());
    }

    #[test]
    fn a_burst_of_resets_passes_and_a_flood_does_not() {
        let bucket = Bucket::new();
        let start = Instant::now();
        let take = |count: u32, now| {
            bucket.taken.set(count);
            bucket.settle(now)
        };
        assert!(!take(BURST, start));
        assert!(!take(RATE / 2, start + Duration::from_secs(1)));
        assert!(take(BURST, start + Duration::from_secs(2)));
    }
}
