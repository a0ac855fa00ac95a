//! What a client's frames may do before its connection is closed: keepalive pings as gRFC A8 has it, and what costs a client
//! less than us in token buckets.

use std::array;
use std::cell::Cell;
use std::time::{Duration, Instant};

use super::abuse::Abuse;
use super::budget::Budget;
use crate::config::plan;
use crate::io::{Frame, FrameMeter};

/// Pings that came too early and are forgiven, as in gRPC's servers (gRFC A8).
const PING_STRIKES: u32 = 2;

/// The least time between pings without a call where these are not permitted at all (gRFC A8).
const TWO_HOURS: Duration = Duration::from_secs(2 * 60 * 60);

/// WINDOW_UPDATEs and PINGs that a frame of ours may be answered with, and a new stream brings: simple clients send two
/// WINDOW_UPDATEs for each DATA, others measure the bandwidth with a PING.
const EARNED: i32 = 10;

/// The meter of a connection from a client.
#[derive(Debug)]
pub(crate) struct Policing {
    /// How many a client may have at once.
    streams: u32,
    ping_min_time: Duration,
    ping_without_calls: bool,
    pings: Cell<u32>,
    last_ping: Cell<Option<Instant>>,
    strikes: Cell<u32>,
    answered: Cell<bool>,
    /// One for each of the first [`Abuse::COUNTED`].
    budgets: [Budget; Abuse::COUNTED],
    /// What there was too much of since the last look, if the clock does not say otherwise.
    suspect: Cell<Option<Abuse>>,
    /// DATA that was sent and streams that were opened.
    answers: Cell<u32>,
    /// How many of them have earned WINDOW_UPDATEs and PINGs already.
    credited: [Cell<u32>; 2],
    /// Streams that were reset in this turn, by either side, and in the one before.
    resets: Cell<usize>,
    resets_before: Cell<usize>,
    last_stream: Cell<u32>,
    has_settings: Cell<bool>,
}

impl FrameMeter for std::rc::Rc<Policing> {
    fn received(&self, frame: Frame) {
        match frame {
            // Trailers of an older stream come after the HEADERS of a newer one.
            Frame::Headers(stream) => {
                self.last_stream.set(self.last_stream.get().max(stream));
                self.answers.set(self.answers.get().wrapping_add(1));
            }
            Frame::WindowUpdate => self.take(Abuse::WindowUpdates),
            Frame::Settings => {
                self.has_settings.set(true);
                self.take(Abuse::Settings);
            }
            Frame::Ping => {
                self.pings.set(self.pings.get() + 1);
                self.take(Abuse::Pings);
            }
            Frame::Reset => self.reset(),
            Frame::EmptyData => self.take(Abuse::EmptyFrames),
            Frame::Priority => self.take(Abuse::Priorities),
            Frame::Unknown | Frame::SettingsAck => self.take(Abuse::UnknownFrames),
            Frame::Data | Frame::GoAway(_) | Frame::Other => {}
        }
    }

    fn is_strange(&self) -> bool {
        true
    }

    fn resets(&self) -> usize {
        self.resets_before.get() + self.resets.get()
    }

    fn sent(&self, frame: Frame) {
        match frame {
            Frame::Data => {
                self.answered.set(true);
                self.answers.set(self.answers.get().wrapping_add(1));
            }
            Frame::Headers(_) => self.answered.set(true),
            Frame::Reset => self.reset(),
            _ => {}
        }
    }
}

impl Policing {
    pub(super) fn new(http2: &plan::DownstreamHttp2) -> Policing {
        let now = Instant::now();
        Policing {
            streams: http2.max_concurrent_streams,
            ping_min_time: http2.keepalive_min_time,
            ping_without_calls: http2.keepalive_permit_without_calls,
            pings: Cell::new(0),
            last_ping: Cell::new(None),
            strikes: Cell::new(0),
            answered: Cell::new(false),
            budgets: array::from_fn(|at| Budget::new(Abuse::ALL[at].allowance(http2.max_concurrent_streams), now)),
            suspect: Cell::new(None),
            answers: Cell::new(0),
            credited: [Cell::new(0), Cell::new(0)],
            resets: Cell::new(0),
            resets_before: Cell::new(0),
            last_stream: Cell::new(0),
            has_settings: Cell::new(false),
        }
    }

    /// True once the client's SETTINGS have begun to arrive.
    pub(super) fn has_settings(&self) -> bool {
        self.has_settings.get()
    }

    /// True when a stream was reset in this turn, by either side.
    pub(super) fn resets_came(&self) -> bool {
        self.resets.get() > 0
    }

    /// Judges what arrived since the last time; `open` is the number of streams. Why the connection must end, if it must.
    pub(super) fn verdict(&self, open: usize) -> Option<Abuse> {
        self.resets_before.set(self.resets.replace(0));
        if self.pings.get() > 0 && self.too_many_pings(open, Instant::now()) {
            return Some(Abuse::Pings);
        }
        let suspect = self.suspect.get()?;
        self.suspect.set(None);
        self.credit(suspect);
        let overdrawn = self.budgets[suspect as usize].is_overdrawn(suspect.allowance(self.streams), Instant::now());
        overdrawn.then_some(suspect)
    }

    /// GOAWAY with ENHANCE_YOUR_CALM and the words for it (RFC 9113 6.8). h2's own carries no words.
    pub(super) fn go_away(&self, abuse: Abuse) -> Vec<u8> {
        const FIXED: usize = 8;
        let words = abuse.words().as_bytes();
        let mut frame = vec![0, 0, (FIXED + words.len()) as u8, 0x7, 0, 0, 0, 0, 0];
        frame.extend(self.last_stream.get().to_be_bytes());
        frame.extend(u32::from(h2::Reason::ENHANCE_YOUR_CALM).to_be_bytes());
        frame.extend(words);
        frame
    }

    fn reset(&self) {
        self.resets.set(self.resets.get() + 1);
        self.take(Abuse::Resets);
    }

    fn take(&self, what: Abuse) {
        if !self.budgets[what as usize].take() {
            self.suspect.set(Some(what));
        }
    }

    /// Adds what answers have earned since the last time.
    fn credit(&self, what: Abuse) {
        let credited = match what {
            Abuse::WindowUpdates => &self.credited[0],
            Abuse::Pings => &self.credited[1],
            _ => return,
        };
        let answers = self.answers.get();
        let new = answers.wrapping_sub(credited.replace(answers));
        let earned = i32::try_from(new).unwrap_or(i32::MAX).saturating_mul(EARNED);
        let allowance = what.allowance(self.streams);
        self.budgets[what as usize].earn(earned.min(allowance.burst), allowance);
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
            max_header_count: 1,
            header_timeout: Duration::from_secs(10),
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
        assert_eq!(policing.go_away(Abuse::Pings)[9..13], 5_u32.to_be_bytes());
    }

    fn receive(policing: &Rc<Policing>, frame: Frame, times: usize) -> Option<Abuse> {
        (0..times).for_each(|_| policing.received(frame));
        policing.verdict(1)
    }

    #[test]
    fn a_flood_is_told_from_a_burst_and_named() {
        for (frame, abuse) in [
            (Frame::Reset, Abuse::Resets),
            (Frame::EmptyData, Abuse::EmptyFrames),
            (Frame::Settings, Abuse::Settings),
            (Frame::WindowUpdate, Abuse::WindowUpdates),
            (Frame::Priority, Abuse::Priorities),
            (Frame::Unknown, Abuse::UnknownFrames),
        ] {
            let policing = policing(false);
            let burst = abuse.allowance(1).burst as usize;
            assert_eq!(receive(&policing, frame, burst), None, "{frame:?}");
            assert_eq!(receive(&policing, frame, burst), Some(abuse), "{frame:?}");
        }
    }

    #[test]
    fn our_own_resets_count_as_the_clients() {
        let policing = policing(false);
        (0..2 * Abuse::Resets.allowance(1).burst).for_each(|_| policing.sent(Frame::Reset));
        assert_eq!(policing.verdict(1), Some(Abuse::Resets));
    }

    #[test]
    fn window_updates_that_answer_data_are_no_flood() {
        let policing = policing(false);
        for _ in 0..100_000 {
            policing.sent(Frame::Data);
            assert_eq!(receive(&policing, Frame::WindowUpdate, 2), None);
        }
    }
}
