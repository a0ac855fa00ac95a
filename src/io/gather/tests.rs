use super::*;
use crate::io::meter::{Role, Scanner};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

fn data(stream: u32, payload: &[u8], end: bool) -> Frame {
    Frame { kind: DATA, flags: u8::from(end), stream, payload: payload.to_vec() }
}

fn wire(frames: &[Frame]) -> Vec<u8> {
    let mut wire = Vec::new();
    for Frame { kind, flags, stream, payload } in frames {
        wire.extend(&(payload.len() as u32).to_be_bytes()[1..]);
        wire.extend([*kind, *flags]);
        wire.extend(stream.to_be_bytes());
        wire.extend(payload);
    }
    wire
}

fn parse(mut wire: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = wire.split_at_checked(HEADER) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let (payload, rest) = rest.split_at(length);
        frames.push(Frame { kind: head[3], flags: head[4], stream, payload: payload.to_vec() });
        wire = rest;
    }
    assert!(wire.is_empty(), "half a header is left");
    frames
}

#[test]
fn streams_that_share_a_place_keep_their_order() {
    let far = 1 + 2 * PLACES as u32;
    let frames = [data(1, b"a", false), data(far, b"x", false), data(1, b"b", false), data(1, b"c", true)];
    assert_eq!(through(&frames, &[1000]), [data(1, b"a", false), data(far, b"x", false), data(1, b"bc", true)]);
}

/// What h2 gets of `frames` when they arrive in reads of these sizes, over and over.
fn through(frames: &[Frame], reads: &[usize]) -> Vec<Frame> {
    let (mut scanner, _) = Scanner::pair(Role::Client);
    let (mut out, wire) = (Vec::new(), wire(frames));
    let (mut rest, mut sizes) = (wire.as_slice(), reads.iter().cycle());
    while let (false, Some(size)) = (rest.is_empty(), sizes.next()) {
        let (read, after) = rest.split_at((*size).min(rest.len()));
        let mut read = read.to_vec();
        let kept = with(|gather| {
            let size = read.len();
            scanner.scan(&read, |seen| gather.add(seen, size));
            gather.rewrite(&mut read)
        });
        out.extend_from_slice(&read[..kept]);
        rest = after;
    }
    parse(&out)
}

#[test]
fn frames_of_a_stream_become_one() {
    let frames =
        [data(1, b"a", false), data(3, b"x", false), data(1, b"b", false), data(3, b"", false), data(1, b"c", true)];
    assert_eq!(through(&frames, &[1000]), [data(1, b"abc", true), data(3, b"x", false)]);
}

#[test]
fn nothing_passes_another_kind_of_frame() {
    let headers = Frame { kind: 1, flags: 4, stream: 3, payload: vec![9; 20] };
    let frames = [data(1, b"a", false), headers.clone(), data(1, b"b", false), data(1, b"c", false)];
    assert_eq!(through(&frames, &[1000]), [data(1, b"a", false), headers, data(1, b"bc", false)]);
}

#[test]
fn what_h2_must_see_is_left_alone() {
    let padded = Frame { kind: DATA, flags: 8, stream: 1, payload: vec![0; 5] };
    let large = data(1, &[7; SMALL + 1], false);
    for frames in [
        vec![padded.clone(), padded],
        vec![large.clone(), large],
        // DATA behind the end of its stream is an error of the peer's.
        vec![data(1, b"a", true), data(1, b"b", false)],
        vec![data(1, b"", true)],
    ] {
        assert_eq!(through(&frames, &[100_000]), frames);
    }
}

#[test]
fn empty_frames_vanish() {
    let frames = [data(1, b"", false), data(3, b"x", false), data(1, b"", false), data(1, b"", true)];
    assert_eq!(through(&frames, &[1000]), [data(1, b"", true), data(3, b"x", false)]);
    assert_eq!(through(&[data(1, b"", false)], &[1000]), []);
}

#[test]
fn no_frame_grows_beyond_the_smallest_maximum() {
    let frames = vec![data(1, &[7; 4000], false); 9];
    let lengths: Vec<_> = through(&frames, &[100_000]).iter().map(|frame| frame.payload.len()).collect();
    assert_eq!(lengths, [16_000, 16_000, 4000]);
}

/// For any frames in any reads: every other frame stays where it is, and between two of them every stream's bytes and
/// its end are what they were.
#[test]
fn a_stream_never_notices() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..500 {
        let streams = 1 + random(40);
        let frames: Vec<Frame> = (0..random(120))
            .map(|at| Frame {
                kind: if random(12) == 0 { 1 + random(9) as u8 } else { DATA },
                flags: if random(9) == 0 { random(16) as u8 } else { 0 },
                stream: 1 + 2 * random(streams) as u32,
                payload: vec![at as u8; [0, 1, 5, 100, 700, 4096, 5000][random(7) as usize]],
            })
            .filter(|frame| frame.kind != 0x7)
            .collect();
        let most = [10, 300, 9000][random(3) as usize];
        let reads: Vec<usize> = (0..5).map(|_| 1 + random(most) as usize).collect();
        let passed = through(&frames, &reads);
        assert!(passed.len() <= frames.len());
        assert_eq!(told(&passed), told(&frames), "{reads:?}");
    }
}

/// Sections between frames that are not DATA, each with its streams' bytes and flags.
fn told(frames: &[Frame]) -> Vec<(Vec<Frame>, Option<Frame>)> {
    let mut sections = vec![(Vec::<Frame>::new(), None)];
    for frame in frames {
        let last = sections.len() - 1;
        if frame.kind != DATA {
            sections[last].1 = Some(frame.clone());
            sections.push((Vec::new(), None));
            continue;
        }
        let streams = &mut sections[last].0;
        let open = streams.iter_mut().rev().find(|it| it.stream == frame.stream);
        match open {
            Some(open) if open.flags == 0 && frame.flags & !END_STREAM == 0 => {
                open.payload.extend_from_slice(&frame.payload);
                open.flags = frame.flags;
            }
            _ if frame.flags == 0 && frame.payload.is_empty() => {}
            _ => streams.push(frame.clone()),
        }
    }
    for (streams, _) in &mut sections {
        streams.sort_by_key(|frame| frame.stream);
    }
    sections
}
