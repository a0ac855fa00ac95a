//! JSON values as serde_json writes them, for the few types that a line has: a call's share of the log is a microsecond, and
//! most of what a general serializer does would be spent on keys that are always the same.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use weir_filter::Peer;

/// The same byte in every place of a word.
const fn repeated(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Appends a string that is known to need no escape.
pub(super) fn word(out: &mut Vec<u8>, word: &str) {
    out.push(b'"');
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
}

/// Appends a string.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    if is_plain(text.as_bytes()) {
        out.extend_from_slice(text.as_bytes());
    } else {
        text.bytes().for_each(|byte| escaped(out, byte));
    }
    out.push(b'"');
}

/// Appends a string, or null.
pub(super) fn optional(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

/// True where every byte stands for itself, as in nearly every string. Looks at eight at a time, the last eight apart.
fn is_plain(bytes: &[u8]) -> bool {
    let is_plain = |word: &[u8; 8]| is_plain_word(u64::from_ne_bytes(*word));
    match bytes.last_chunk::<8>() {
        Some(last) => is_plain(last) && bytes.as_chunks::<8>().0.iter().all(is_plain),
        None => !bytes.iter().copied().any(needs_escape),
    }
}

/// A byte below N borrows from its highest bit when N is subtracted, and had not set it before.
fn is_plain_word(word: u64) -> bool {
    let below = |word: u64, limit: u8| word.wrapping_sub(repeated(limit)) & !word;
    let equals = |byte: u8| below(word ^ repeated(byte), 1);
    (below(word, b' ') | equals(b'"') | equals(b'\\')) & repeated(0x80) == 0
}

fn needs_escape(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// RFC 8259 section 7, with the short escapes where there are some. What is not ASCII stays as it is.
fn escaped(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        0..b' ' => {
            let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
            return out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
        }
        _ => return out.push(byte),
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Appends a whole number.
pub(super) fn number(out: &mut Vec<u8>, mut number: u64) {
    if number < 10 {
        return out.push(digit(number));
    }
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = digit(number);
        number /= 10;
        if number == 0 {
            return out.extend_from_slice(&digits[first..]);
        }
    }
}

/// Appends milliseconds, rounded to three decimals: as many as are not zero, one at least.
pub(super) fn millis(out: &mut Vec<u8>, time: Duration) {
    let micros = time.as_secs().saturating_mul(1_000_000).saturating_add(u64::from((time.subsec_nanos() + 500) / 1000));
    number(out, micros / 1000);
    let decimals = micros % 1000;
    let text = [b'.', digit(decimals / 100), digit(decimals / 10), digit(decimals)];
    let zeros = usize::from(decimals % 10 == 0) + usize::from(decimals % 100 == 0);
    out.extend_from_slice(&text[..text.len() - zeros]);
}

/// Appends where a client is, as a string.
pub(super) fn peer(out: &mut Vec<u8>, peer: Peer) {
    out.push(b'"');
    match peer {
        Peer::Ip(SocketAddr::V4(address)) => {
            for (index, part) in address.ip().octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                number(out, part.into());
            }
            out.push(b':');
            number(out, address.port().into());
        }
        // A vector takes all that is written.
        peer => drop(write!(out, "{peer}")),
    }
    out.push(b'"');
}

/// The last digit of a number.
pub(super) fn digit(number: u64) -> u8 {
    b'0' + (number % 10) as u8
}
