//! For what a client's connection is ended, and how often it may do what costs it less than us.

/// What a client has done to lose its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abuse {
    Pings,
    Resets,
    EmptyFrames,
    Settings,
    WindowUpdates,
    Priorities,
    UnknownFrames,
    /// A frame other than DATA, or a header block, that it began and did not end.
    SlowFrame,
    /// No preface with SETTINGS.
    SlowPreface,
    /// More than h2 takes, which has ended the connection by itself: CONTINUATION frames, header lists beyond measure.
    Http2Limits,
    /// What HTTP/2 makes a fault of the connection (RFC 9113 5.4.1).
    ProtocolError,
}

/// A token bucket: so many at once, and so many a second for ever.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    pub(super) burst: i32,
    pub(super) rate: u32,
}

/// More than any client has a use for. A flood is a hundred times as fast (CVE-2019-9518).
const MANY: Allowance = Allowance { burst: 20_000, rate: 2_000 };

/// Resets at once, of a client that may have few streams.
const FEWEST_RESETS: u32 = 2_000;

/// A new initial window is added to every stream that is open (RFC 9113 6.9.2), so that SETTINGS are dear. Clients that
/// measure the bandwidth send a handful in the life of a connection.
const FEW: Allowance = Allowance { burst: 1_000, rate: 100 };

impl Abuse {
    /// All, in the order of their numbers.
    pub(crate) const ALL: [Abuse; 11] = [
        Abuse::Pings,
        Abuse::Resets,
        Abuse::EmptyFrames,
        Abuse::Settings,
        Abuse::WindowUpdates,
        Abuse::Priorities,
        Abuse::UnknownFrames,
        Abuse::SlowFrame,
        Abuse::SlowPreface,
        Abuse::Http2Limits,
        Abuse::ProtocolError,
    ];

    /// How many of the first are counted.
    pub(super) const COUNTED: usize = Abuse::UnknownFrames as usize + 1;

    /// Its `reason` in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Abuse::Pings => "pings",
            Abuse::Resets => "resets",
            Abuse::EmptyFrames => "empty_frames",
            Abuse::Settings => "settings",
            Abuse::WindowUpdates => "window_updates",
            Abuse::Priorities => "priorities",
            Abuse::UnknownFrames => "unknown_frames",
            Abuse::SlowFrame => "slow_frame",
            Abuse::SlowPreface => "slow_preface",
            Abuse::Http2Limits => "http2_limits",
            Abuse::ProtocolError => "protocol_error",
        }
    }

    /// The words that travel with GOAWAY. gRPC's clients look for the first of these before they ping less (gRFC A8).
    pub(super) const fn words(self) -> &'static str {
        match self {
            Abuse::Pings => "too_many_pings",
            Abuse::Resets => "too_many_resets",
            Abuse::EmptyFrames => "too_many_empty_frames",
            Abuse::Settings => "too_many_settings",
            Abuse::WindowUpdates => "too_many_window_updates",
            Abuse::Priorities => "too_many_priorities",
            Abuse::UnknownFrames => "too_many_unknown_frames",
            Abuse::SlowFrame => "frame_took_too_long",
            Abuse::SlowPreface | Abuse::Http2Limits | Abuse::ProtocolError => self.name(),
        }
    }

    /// How many there may be of what is counted, where a client may have so many streams at once.
    pub(super) fn allowance(self, streams: u32) -> Allowance {
        match self {
            Abuse::Settings => FEW,
            Abuse::Resets => {
                // An honest client may give up on all that it has open, and once more. Each costs us a call's beginning and its
                // end (CVE-2023-44487, CVE-2025-8671).
                let burst = streams.saturating_mul(2).clamp(FEWEST_RESETS, MANY.burst as u32);
                Allowance { burst: burst as i32, ..MANY }
            }
            _ => MANY,
        }
    }

    /// Why h2 has ended a connection by itself; `None` when the client has, or the network.
    pub(super) fn told_by(error: &h2::Error) -> Option<Abuse> {
        if !error.is_library() || !error.is_go_away() {
            return None;
        }
        match error.reason() {
            Some(h2::Reason::NO_ERROR) | None => None,
            Some(h2::Reason::ENHANCE_YOUR_CALM) => Some(Abuse::Http2Limits),
            Some(_) => Some(Abuse::ProtocolError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_number_and_a_name_of_its_own() {
        let mut names: Vec<_> = Abuse::ALL.iter().map(|abuse| abuse.name()).collect();
        assert!(Abuse::ALL.iter().enumerate().all(|(at, abuse)| *abuse as usize == at));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Abuse::ALL.len());
    }
}
