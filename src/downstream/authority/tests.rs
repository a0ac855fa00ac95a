//! Streams of frames, in every piece that a socket may bring them in.

use std::collections::VecDeque;
use std::task::Waker;

use super::*;
use crate::chance;

/// Reads in these pieces.
struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.0.pop_front() {
            let rest = piece.split_off(piece.len().min(buf.remaining()));
            buf.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What comes of a stream that is read in these pieces, into a buffer of this size.
fn read(pieces: impl IntoIterator<Item = Vec<u8>>, size: usize) -> Vec<u8> {
    let mut socket = Pieces(pieces.into_iter().filter(|piece| !piece.is_empty()).collect());
    let mut authorities = Authorities::new();
    let mut all = Vec::new();
    loop {
        let mut space = vec![0; size];
        let mut buffer = ReadBuf::new(&mut space);
        let polled = authorities.poll_read(&mut socket, &mut Context::from_waker(Waker::noop()), &mut buffer);
        assert!(matches!(polled, Poll::Ready(Ok(()))), "there is always something");
        if buffer.filled().is_empty() {
            return all;
        }
        all.extend_from_slice(buffer.filled());
    }
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

/// Huffman's code of the signs that stand here (RFC 7541 appendix B): those of a length follow each other.
fn huffman(text: &str) -> Vec<u8> {
    let lengths: [(u32, u32, &str); 4] = [
        (5, 0, "012aceiost"),
        (6, 20, " %-./3456789=A_bdfghlmnpru"),
        (7, 92, ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
        (8, 248, "&*,;XZ"),
    ];
    let code = |sign: char| {
        let found = lengths.iter().find_map(|(bits, first, signs)| Some((*bits, first + signs.find(sign)? as u32)));
        found.expect("a sign of a few bits")
    };
    let mut bits: Vec<bool> = Vec::new();
    for (length, code) in text.chars().map(code) {
        bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
    }
    bits.resize(bits.len().next_multiple_of(8), true);
    bits.chunks(8).map(|byte| byte.iter().fold(0, |all, bit| all << 1 | u8::from(*bit))).collect()
}

fn string(text: &str, coded: bool) -> Vec<u8> {
    let bytes = if coded { huffman(text) } else { text.as_bytes().to_vec() };
    let high = if coded { 0x80 } else { 0 };
    let length = match bytes.len() {
        short @ 0..0x7f => vec![high | short as u8],
        long => vec![high | 0x7f, (long - 0x7f) as u8 & 0x7f | 0x80, ((long - 0x7f) >> 7) as u8],
    };
    [length, bytes].concat()
}

/// A request as clients send it, with this authority in one kind of representation, and what resembles one elsewhere. An index
/// of 0 has the name spelt out.
fn block(authority: &str, coded: bool, representation: u8) -> Vec<u8> {
    let name = if representation & 0xf == 0 { string(":authority", coded) } else { Vec::new() };
    [
        vec![0x3f, 0xe1, 0x1f, 0x83, 0x86, 0x04],
        string("/a.B/C%2F", coded),
        vec![representation],
        name,
        string(authority, coded),
        vec![0x40],
        string("x-path", coded),
        string("%/%/", coded),
        vec![0x10],
        string(":authorit", coded),
        string("%/%/", coded),
        vec![0x00],
        string(":authorityy", coded),
        string("%/%/", coded),
        vec![0xff, 0x01, 0x0f, 0x2f],
        string("100%/", coded),
        vec![0xbe],
    ]
    .concat()
}

const PREFACE_AND_SETTINGS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A client's stream, with its authority in each of these forms of a frame.
fn stream(authority: &str, coded: bool) -> Vec<u8> {
    let mut all = PREFACE_AND_SETTINGS.to_vec();
    for representation in [0x41, 0x11, 0x01, 0x40, 0x10, 0x00] {
        let block = block(authority, coded, representation);
        all.extend(frame(HEADERS, 0x4, &block));
        all.extend(frame(0, 0, b"\x41\x05%/%/%"));
        all.extend(frame(HEADERS, 0x4 | PRIORITY, &[&b"%/%/%"[..], &block].concat()));
        let padded = [&[3][..], &b"%/%/%"[..], &block, b"%/%"].concat();
        all.extend(frame(HEADERS, 0x4 | PRIORITY | PADDED, &padded));
    }
    all
}

#[test]
fn signs_of_a_path_become_those_of_a_name_wherever_a_read_ends() {
    for (said, heard) in [
        ("tmp%2Fweir%2Ffront.sock", "tmp_2Fweir_2Ffront.sock"),
        ("/var/run/weir/front.sock", "_var_run_weir_front.sock"),
        ("%%%%//%/%/", "__________"),
        ("localhost", "localhost"),
        ("x", "x"),
    ] {
        for coded in [false, true] {
            for times in [1, 9] {
                let (said, heard) = (stream(&said.repeat(times), coded), stream(&heard.repeat(times), coded));
                assert!(read([said.clone()], 8192) == heard, "{coded}: at once");
                assert!(read(said.iter().map(|byte| vec![*byte]), 2) == heard, "{coded}: byte for byte");
            }
            let (said, heard) = (stream(said, coded), stream(heard, coded));
            for at in 0..said.len() {
                let (first, rest) = said.split_at(at);
                assert!(read([first.to_vec(), rest.to_vec()], 8192) == heard, "{coded}: in two, at {at}");
            }
        }
    }
}

#[test]
fn an_authority_goes_on_in_the_next_frame() {
    let block = block("tmp%2Ffront.sock", false, 0x41);
    let heard = self::block("tmp_2Ffront.sock", false, 0x41);
    for at in 0..block.len() {
        let whole = |block: &[u8]| {
            let (first, rest) = block.split_at(at);
            [PREFACE_AND_SETTINGS, &frame(HEADERS, 0, first), &frame(CONTINUATION, 0x4, rest)].concat()
        };
        assert!(read([whole(&block)], 8192) == whole(&heard), "at {at}");
    }
}

/// Where the code of a sign is cut in two by the head of a frame it stays, and nothing else is touched either.
#[test]
fn what_cannot_be_changed_stays_as_it_is() {
    let block = block("a%a%a%a%", true, 0x41);
    let heard = self::block("a_a_a_a_", true, 0x41);
    for at in 0..block.len() {
        let whole = |block: &[u8]| {
            let (first, rest) = block.split_at(at);
            [PREFACE_AND_SETTINGS, &frame(HEADERS, 0, first), &frame(CONTINUATION, 0x4, rest)].concat()
        };
        let read = read([whole(&block)], 8192);
        let (said, heard) = (whole(&block), whole(&heard));
        let bits = read.iter().zip(said.iter().zip(&heard));
        let only_signs = bits.map(|(now, (said, heard))| (now ^ said) & !(heard ^ said)).all(|other| other == 0);
        assert!(read.len() == said.len() && only_signs, "at {at}");
    }
}

#[test]
fn no_byte_is_lost_of_what_makes_no_sense() {
    for round in 0..4_000 {
        let mut said = stream("tmp%2Fweir.sock", round % 2 == 0);
        for _ in 0..4 {
            let at = (chance::fraction() * said.len() as f64) as usize;
            said[at] = (chance::fraction() * 256.0) as u8;
        }
        let cut = (chance::fraction() * said.len() as f64) as usize;
        let rest = said.split_off(cut);
        let all = said.len() + rest.len();
        let size = 1 + (chance::fraction() * 64.0) as usize;
        assert_eq!(read([said, rest], size).len(), all);
    }
}
