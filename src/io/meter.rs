//! Reads frame headers (RFC 9113 4.1) as they pass, without holding a byte back.

/// Length of a frame header.
pub(super) const HEADER: usize = 9;

/// Length of the client's connection preface (RFC 9113 3.4).
const PREFACE: usize = 24;

const GOAWAY: u8 = 0x7;

/// Which side of the connection this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The peer is a client.
    Server,
    /// The peer is a backend.
    Client,
}

/// What is told about each frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// DATA.
    Data,
    /// DATA that carries nothing, not even an end.
    EmptyData,
    /// HEADERS of this stream.
    Headers(u32),
    /// RST_STREAM.
    Reset,
    /// SETTINGS without ACK.
    Settings,
    /// SETTINGS with ACK.
    SettingsAck,
    /// PING without ACK.
    Ping,
    /// GOAWAY with the last stream id that the sender may have processed.
    GoAway(u32),
    /// WINDOW_UPDATE.
    WindowUpdate,
    /// PRIORITY.
    Priority,
    /// A kind that RFC 9113 does not know, and the ACK of a PING.
    Unknown,
    /// CONTINUATION, PUSH_PROMISE.
    Other,
}

/// Somebody who wants to know which frames pass.
pub(crate) trait FrameMeter {
    /// A frame began to arrive.
    fn received(&self, frame: Frame);
    /// A frame was handed to the cork.
    fn sent(&self, frame: Frame);
    /// Whether the peer is one that might like the others to wait.
    fn is_strange(&self) -> bool {
        false
    }
    /// Streams that were reset in this turn and the one before, by either side.
    fn resets(&self) -> usize {
        0
    }
    /// The kernel has taken some of what was handed to the cork, or all of it.
    fn some_left(&self) {}
}

/// A frame's header, and where it was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) frame: Frame,
    /// Where in the scanned bytes the header ends.
    pub(super) end: usize,
    /// Bytes of the payload.
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

/// A header with what may be looked at behind it.
type Head = [u8; HEADER + 4];

/// Follows one direction of a connection.
#[derive(Debug)]
pub(super) struct Scanner {
    /// Bytes to pass over before the next header: the preface, then payloads.
    skip: usize,
    head: Head,
    filled: usize,
}

impl Scanner {
    /// The scanners for what arrives and what leaves.
    pub(super) fn pair(role: Role) -> (Scanner, Scanner) {
        match role {
            Role::Server => (Scanner::after(PREFACE), Scanner::after(0)),
            Role::Client => (Scanner::after(0), Scanner::after(PREFACE)),
        }
    }

    fn after(skip: usize) -> Scanner {
        Scanner { skip, head: [0; HEADER + 4], filled: 0 }
    }

    /// True within a payload, or the preface.
    pub(super) fn is_in_payload(&self) -> bool {
        self.skip > 0
    }

    /// True when the next byte begins a frame.
    pub(super) fn is_between_frames(&self) -> bool {
        self.skip == 0 && self.filled == 0
    }

    /// Calls `tell` for every frame whose header is complete with `bytes`.
    pub(super) fn scan(&mut self, bytes: &[u8], mut tell: impl FnMut(Seen)) {
        let mut at = 0;
        while at < bytes.len() {
            if self.skip > 0 {
                let passed = self.skip.min(bytes.len() - at);
                self.skip -= passed;
                at += passed;
                continue;
            }
            let rest = &bytes[at..];
            // Almost every header comes whole, with something behind it.
            let (head, taken) = match rest.first_chunk() {
                Some(head) if self.filled == 0 => (head, wanted(head)),
                _ => {
                    let taken = self.fill(rest);
                    if !self.is_filled() {
                        return;
                    }
                    (&self.head, taken)
                }
            };
            at += taken;
            let seen = Seen::new(head, at);
            self.skip = seen.length - (wanted(head) - HEADER);
            self.filled = 0;
            tell(seen);
        }
    }

    /// Takes what is missing of a header from `bytes`, and returns how much that was.
    fn fill(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while !self.is_filled() && taken < bytes.len() {
            self.head[self.filled] = bytes[taken];
            self.filled += 1;
            taken += 1;
        }
        taken
    }

    fn is_filled(&self) -> bool {
        self.filled >= HEADER && self.filled == wanted(&self.head)
    }
}

/// Bytes of the header, and of a GOAWAY's last stream id behind it.
fn wanted(head: &Head) -> usize {
    if head[3] == GOAWAY && length(head) >= 4 { HEADER + 4 } else { HEADER }
}

fn length(head: &Head) -> usize {
    usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])
}

/// The 31 bits of a stream id.
fn number(head: &Head, at: usize) -> u32 {
    u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) & 0x7fff_ffff
}

impl Seen {
    fn new(head: &Head, end: usize) -> Seen {
        let (length, kind, flags) = (length(head), head[3], head[4]);
        let ack = flags & 1 != 0;
        let frame = match kind {
            0x0 if length == 0 && flags == 0 => Frame::EmptyData,
            0x0 => Frame::Data,
            0x1 => Frame::Headers(number(head, 5)),
            0x3 => Frame::Reset,
            0x4 if ack => Frame::SettingsAck,
            0x4 => Frame::Settings,
            0x6 if !ack => Frame::Ping,
            GOAWAY => Frame::GoAway(number(head, HEADER)),
            0x8 => Frame::WindowUpdate,
            0x2 => Frame::Priority,
            0x5 | 0x9 => Frame::Other,
            _ => Frame::Unknown,
        };
        Seen { frame, end, length, kind, flags, stream: number(head, 5) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(length: u32, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes
    }

    #[test]
    fn sees_the_same_frames_however_the_bytes_are_cut() {
        let mut wire = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        wire.extend(header(0, 0x4, 0, 0));
        wire.extend(header(3, 0x1, 0x4, 7));
        wire.extend([1, 2, 3]);
        wire.extend(header(10, 0x0, 0, 7));
        wire.extend([0; 10]);
        wire.extend(header(0, 0x0, 0, 7));
        wire.extend(header(0, 0x0, 1, 7));
        wire.extend(header(8, 0x6, 0, 0));
        wire.extend([0; 8]);
        wire.extend(header(8, 0x6, 1, 0));
        wire.extend([0; 8]);
        wire.extend(header(12, 0x7, 0, 0));
        wire.extend([0, 0, 0, 5, 0, 0, 0, 0, 9, 9, 9, 9]);
        wire.extend(header(4, 0x3, 0, 7));
        wire.extend([0; 4]);
        let expected = [
            Frame::Settings,
            Frame::Headers(7),
            Frame::Data,
            Frame::EmptyData,
            Frame::Data,
            Frame::Ping,
            Frame::Unknown,
            Frame::GoAway(5),
            Frame::Reset,
        ];
        for piece in 1..wire.len() {
            let (mut scanner, _) = Scanner::pair(Role::Server);
            let mut seen = Vec::new();
            for bytes in wire.chunks(piece) {
                scanner.scan(bytes, |of| seen.push(of.frame));
            }
            assert_eq!(seen, expected, "in pieces of {piece}");
        }
    }
}
