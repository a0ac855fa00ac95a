//! What clients call a Unix socket that they have dialled.
//!
//! gRPC's own clients do not agree on `:authority` there. Go and Node say `localhost`; those on the C core say the path with `%2F`
//! for every slash, and Java the path itself. Neither is an authority that the http crate takes (RFC 3986 3.2.2 allows `%2F` in
//! a name, the crate does not), and h2 resets the stream without a word to us. So both signs become `_` before h2 sees them.
//!
//! It is done in place, in the bytes of the header block. A literal of HPACK is as long afterwards as it was, with Huffman's code
//! as well (`%`, `/` and `_` have six bits each, RFC 7541 appendix B), so that both sides' tables stay in step; what was
//! changed once stands in the table for the requests that name it by its index.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes of the client's preface (RFC 9113 3.4).
const PREFACE: usize = 24;

const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// `:authority` in the static table (RFC 7541 appendix A).
const AUTHORITY: usize = 1;

/// The same spelt out, as clients on the C core do, and in Huffman's code.
const NAME: [u8; 10] = *b":authority";
const NAME_CODE: [u8; 8] = [0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];

/// Signs that stand in paths, and not in authorities.
const SIGNS: [u8; 2] = *b"%/";

/// The same in Huffman's code, and what they become.
const CODES: [u16; 2] = [0b01_0101, 0b01_1000];
const UNDERSCORE: u16 = 0b10_0010;
const BITS: u8 = 6;

/// Follows what a client sends, and changes the authorities in it.
#[derive(Debug)]
pub(super) struct Authorities {
    frame: Frame,
    block: Block,
    /// The last byte that came, while the next one decides what becomes of it.
    held: Option<u8>,
}

/// Where in the frames it is.
#[derive(Debug)]
enum Frame {
    /// What is of no interest: the preface, or the rest of a frame.
    Skip(usize),
    Head {
        bytes: [u8; 9],
        filled: usize,
    },
    /// Before the length of the padding, and its whole payload.
    PadLength {
        left: usize,
        priority: bool,
    },
    /// So many bytes before the block, so many of it, and so many behind it.
    Fields {
        before: usize,
        left: usize,
        padding: usize,
    },
}

/// Where in a header block it is (RFC 7541 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    /// Before a field.
    Field,
    /// In the index of a literal's name. `value` has been read so far.
    NameIndex(Integer),
    /// Further bytes of a number that stands alone.
    Number,
    NameLength(Option<Integer>),
    Name {
        left: usize,
        huffman: bool,
        /// Bytes that are those of `:authority`; `None` when one was not.
        same: Option<usize>,
    },
    ValueLength {
        authority: bool,
        integer: Option<Integer>,
    },
    Value {
        authority: bool,
        left: usize,
        /// The code that has begun, and how many bits of it are known; `None` where the value is not in Huffman's code.
        code: Option<(u16, u8)>,
    },
    /// What comes makes no sense, or is of no interest: h2 judges it.
    Passed,
}

/// A number that goes on (RFC 7541 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Integer {
    value: usize,
    shift: u8,
    /// Of a string's length: the string is in Huffman's code.
    huffman: bool,
}

impl Authorities {
    pub(super) fn new() -> Authorities {
        Authorities { frame: Frame::Skip(PREFACE), block: Block::Passed, held: None }
    }

    /// Reads, and changes what has come.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            if buf.remaining() < 2
                && let Some(held) = self.held.take()
            {
                // No room for the byte that would decide.
                self.block = Block::Passed;
                buf.put_slice(&[held]);
                return Poll::Ready(Ok(()));
            }
            buf.put_slice(self.held.as_slice());
            let start = buf.filled().len();
            let read = Pin::new(&mut *socket).poll_read(cx, buf);
            if !matches!(read, Poll::Ready(Ok(()))) {
                buf.set_filled(before);
                return read;
            }
            self.held = None;
            let came = buf.filled_mut();
            let is_end = came.len() == start;
            self.pass(&mut came[before..], start - before);
            if is_end || !self.is_undecided() {
                return Poll::Ready(Ok(()));
            }
            self.held = buf.filled().last().copied();
            buf.set_filled(buf.filled().len() - 1);
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Goes through bytes, of which those before `from` have been gone through.
    fn pass(&mut self, bytes: &mut [u8], from: usize) {
        let mut at = from;
        while at < bytes.len() {
            at += match &mut self.frame {
                Frame::Skip(left) => {
                    let skipped = (*left).min(bytes.len() - at);
                    *left -= skipped;
                    if *left == 0 {
                        self.frame = Frame::Head { bytes: [0; 9], filled: 0 };
                    }
                    skipped
                }
                _ => {
                    self.step(bytes, at);
                    1
                }
            };
        }
    }

    /// Takes one byte.
    fn step(&mut self, bytes: &mut [u8], at: usize) {
        match &mut self.frame {
            Frame::Skip(_) => {}
            Frame::Head { bytes: head, filled } => {
                head[*filled] = bytes[at];
                *filled += 1;
                if *filled == head.len() {
                    let head = *head;
                    self.begin_frame(head);
                }
            }
            Frame::PadLength { left, priority } => {
                let (left, before) = (*left - 1, if *priority { 5 } else { 0 });
                let padding = usize::from(bytes[at]);
                self.begin_fields(before, left, padding);
            }
            Frame::Fields { before, left, padding } => {
                if *before > 0 {
                    *before -= 1;
                } else {
                    *left -= 1;
                    self.block = self.block.next(bytes, at);
                }
                if (*before, *left) == (0, 0) {
                    let padding = *padding;
                    self.skip(padding);
                }
            }
        }
    }

    fn begin_frame(&mut self, head: [u8; 9]) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        match kind {
            HEADERS => {
                self.block = Block::Field;
                let priority = flags & PRIORITY != 0;
                if flags & PADDED != 0 && length > 0 {
                    self.frame = Frame::PadLength { left: length, priority };
                } else {
                    self.begin_fields(if priority { 5 } else { 0 }, length, 0);
                }
            }
            CONTINUATION => {
                if let Block::Value { authority: true, code: Some((_, 1..)), .. } = self.block {
                    // The first half of a code lies before this frame's head, out of reach.
                    self.block = Block::Passed;
                }
                self.begin_fields(0, length, 0);
            }
            _ => self.skip(length),
        }
    }

    /// `length` is what is left of the payload.
    fn begin_fields(&mut self, before: usize, length: usize, padding: usize) {
        match length.checked_sub(before + padding) {
            Some(left) if before + left > 0 && self.block != Block::Passed => {
                self.frame = Frame::Fields { before, left, padding };
            }
            // h2 will say that it is malformed, or it is of no interest.
            _ => self.skip(length),
        }
    }

    fn skip(&mut self, length: usize) {
        self.frame = match length {
            0 => Frame::Head { bytes: [0; 9], filled: 0 },
            _ => Frame::Skip(length),
        };
    }

    /// True when the last byte has the beginning of a sign that may have to go.
    fn is_undecided(&self) -> bool {
        let Block::Value { authority: true, code: Some((code, known @ 1..BITS)), left: 1.. } = self.block else {
            return false;
        };
        matches!(self.frame, Frame::Fields { .. }) && CODES.iter().any(|sign| sign >> (BITS - known) == code)
    }
}

impl Block {
    /// Where it is after a byte, which may have been changed.
    fn next(self, bytes: &mut [u8], at: usize) -> Block {
        let byte = bytes[at];
        match self {
            Block::Field => Block::field(byte),
            Block::NameIndex(integer) => match integer.add(byte) {
                Err(integer) => Block::NameIndex(integer),
                Ok(index) => Block::value_of(index),
            },
            Block::Number if byte & 0x80 != 0 => Block::Number,
            Block::Number => Block::Field,
            Block::NameLength(integer) => match Integer::of_length(integer, byte) {
                Err(integer) => Block::NameLength(Some(integer)),
                Ok((0, _)) => Block::value_of(0),
                Ok((left, huffman)) => Block::Name { left, huffman, same: Some(0) },
            },
            Block::Name { left, huffman, same } => {
                let name: &[u8] = if huffman { &NAME_CODE } else { &NAME };
                let same = same.filter(|same| name.get(*same) == Some(&byte)).map(|same| same + 1);
                match left {
                    1 if same == Some(name.len()) => Block::value_of(AUTHORITY),
                    1 => Block::value_of(0),
                    _ => Block::Name { left: left - 1, huffman, same },
                }
            }
            Block::ValueLength { authority, integer } => match Integer::of_length(integer, byte) {
                Err(integer) => Block::ValueLength { authority, integer: Some(integer) },
                Ok((0, _)) => Block::Field,
                Ok((left, huffman)) => Block::Value { authority, left, code: huffman.then_some((0, 0)) },
            },
            Block::Value { authority: false, left: 1, .. } => Block::Field,
            Block::Value { authority: false, left, code } => Block::Value { authority: false, left: left - 1, code },
            Block::Value { authority, left, code } => {
                let code = match code {
                    None => {
                        if SIGNS.contains(&byte) {
                            bytes[at] = b'_';
                        }
                        None
                    }
                    Some(code) => match decode(code, bytes, at) {
                        Some(code) => Some(code),
                        None => return Block::Passed,
                    },
                };
                if left == 1 { Block::Field } else { Block::Value { authority, left: left - 1, code } }
            }
            Block::Passed => Block::Passed,
        }
    }

    /// The first byte of a field.
    fn field(byte: u8) -> Block {
        let (prefix, bits) = match byte {
            // Indexed; a size of the dynamic table.
            0x80.. => return if byte == 0xff { Block::Number } else { Block::Field },
            0x20..=0x3f => return if byte == 0x3f { Block::Number } else { Block::Field },
            0x40.. => (byte & 0x3f, 0x3f),
            _ => (byte & 0x0f, 0x0f),
        };
        match prefix {
            0 => Block::NameLength(None),
            _ if prefix == bits => Block::NameIndex(Integer::begin(prefix, false)),
            _ => Block::value_of(prefix.into()),
        }
    }

    fn value_of(index: usize) -> Block {
        Block::ValueLength { authority: index == AUTHORITY, integer: None }
    }
}

impl Integer {
    fn begin(prefix: u8, huffman: bool) -> Integer {
        Integer { value: prefix.into(), shift: 0, huffman }
    }

    /// The number, or as much of it as is known. One that is too large is large: h2 refuses it.
    fn add(self, byte: u8) -> Result<usize, Integer> {
        let more = usize::from(byte & 0x7f).checked_shl(self.shift.into()).unwrap_or(usize::MAX);
        let value = self.value.saturating_add(more);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
        Err(Integer { value, shift: self.shift.saturating_add(7), huffman: self.huffman })
    }

    /// A string's length, and whether it is in Huffman's code.
    fn of_length(begun: Option<Integer>, byte: u8) -> Result<(usize, bool), Integer> {
        match begun {
            Some(integer) => integer.add(byte).map(|length| (length, integer.huffman)),
            None if byte & 0x7f == 0x7f => Err(Integer::begin(0x7f, byte & 0x80 != 0)),
            None => Ok(((byte & 0x7f).into(), byte & 0x80 != 0)),
        }
    }
}

/// Reads the eight bits of a byte, changes the signs that end in it, and returns the code that goes on. `None` where a code has
/// more than eight bits, which no sign of an authority has, or the text ends.
fn decode((mut code, mut known): (u16, u8), bytes: &mut [u8], at: usize) -> Option<(u16, u8)> {
    for bit in 0..8 {
        code = code << 1 | u16::from(bytes[at] >> (7 - bit) & 1);
        known += 1;
        // The codes of a length follow each other, and the shorter come first (RFC 7541 appendix B).
        let is_whole = match known {
            5 => code <= 0b0_1001,
            6 => code <= 0b10_1101,
            7 => code <= 0b111_1011,
            8 => code <= 0b1111_1101,
            9.. => return None,
            _ => false,
        };
        if is_whole {
            if known == BITS && CODES.contains(&code) {
                put(code ^ UNDERSCORE, bytes, at, bit);
            }
            (code, known) = (0, 0);
        }
    }
    Some((code, known))
}

/// Changes these of the six bits that end with a bit of the byte at `at`.
fn put(change: u16, bytes: &mut [u8], at: usize, bit: u8) {
    let change = change << (7 - bit);
    bytes[at] ^= change as u8;
    if let (Some(before), high @ 1..) = (at.checked_sub(1), (change >> 8) as u8) {
        bytes[before] ^= high;
    }
}

#[cfg(test)]
#[path = "authority/tests.rs"]
mod tests;
