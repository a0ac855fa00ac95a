//! Which frame, or which header block, has begun and not ended.

use super::meter::{Scanner, Seen};

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// What is known of the latest frame. A store or two for each frame; what they mean is asked once in a turn.
#[derive(Debug)]
pub(super) struct Latest {
    kind: u8,
    flags: u8,
    /// Frames that began, but for those that go on with a header block.
    begun: u32,
}

impl Latest {
    /// Nothing but the preface, which has a timer of its own.
    pub(super) fn new() -> Latest {
        Latest { kind: DATA, flags: 0, begun: 0 }
    }

    pub(super) fn note(&mut self, seen: &Seen) {
        (self.kind, self.flags) = (seen.kind, seen.flags);
        self.begun = self.begun.wrapping_add(u32::from(seen.kind != CONTINUATION));
    }

    /// The number of the frame, or of the header block, that is half open. A block ends with END_HEADERS, and no other frame may
    /// come before (RFC 9113 4.3). DATA may take its time: it holds up nobody but its own stream.
    pub(super) fn half_open(&self, scanner: &Scanner) -> Option<u32> {
        let in_block = matches!(self.kind, HEADERS | CONTINUATION) && self.flags & END_HEADERS == 0;
        (in_block || scanner.is_in_payload() && self.kind != DATA).then_some(self.begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Role;

    fn header(length: u32, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes
    }

    #[test]
    fn a_header_block_is_half_open_until_its_end() {
        let (mut scanner, _) = Scanner::pair(Role::Server);
        let mut latest = Latest::new();
        let mut scan = |bytes: &[u8]| {
            scanner.scan(bytes, |seen| latest.note(&seen));
            latest.half_open(&scanner)
        };
        assert_eq!(scan(b"PRI * HTTP/2.0\r\n\r\nSM\r\n"), None);
        assert_eq!(scan(b"\r\n"), None);
        assert_eq!(scan(&header(6, 0x4, 0, 0)), Some(1));
        assert_eq!(scan(&[0; 6]), None);
        assert_eq!(scan(&header(5, 0x0, 0, 1)), None);
        assert_eq!(scan(&[0; 5]), None);
        assert_eq!(scan(&header(1, 0x1, 0, 1)), Some(3));
        assert_eq!(scan(&[0]), Some(3));
        assert_eq!(scan(&header(0, 0x9, 0, 1)), Some(3));
        assert_eq!(scan(&header(1, 0x9, 0x4, 1)), Some(3));
        assert_eq!(scan(&[0]), None);
        assert_eq!(scan(&header(0, 0x1, 0x4, 1)), None);
    }
}
