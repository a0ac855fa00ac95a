//! Any frames, in any pieces, through what gathers them before h2 sees them.

use std::collections::BTreeMap;

use super::Choices;
use crate::io::gathered;

/// Length of a frame's header.
const HEADER: usize = 9;

const DATA: u8 = 0;
const END_STREAM: u8 = 1;

/// What a reader of frames can see, but for where DATA is cut.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Every other frame, with how much DATA of each stream came before it.
    others: Vec<(Vec<u8>, BTreeMap<u32, usize>)>,
    data: BTreeMap<u32, Vec<u8>>,
    /// How many bytes of a stream came before each of its ends.
    ends: BTreeMap<u32, Vec<usize>>,
}

/// Gathering moves DATA of one stream past DATA of another, and changes nothing else.
///
/// # Panics
///
/// When it does.
pub fn frames(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let pieces = usize::from(choices.byte()) + 1;
    let mut sent = Vec::new();
    while !choices.is_over() {
        frame(&mut choices, &mut sent);
    }
    let mut reads: Vec<Vec<u8>> = sent.chunks(pieces * pieces).map(<[u8]>::to_vec).collect();
    let received = gathered(&mut reads);
    assert_eq!(see(&received), see(&sent));
}

/// One frame as the next bytes choose it.
fn frame(choices: &mut Choices<'_>, sent: &mut Vec<u8>) {
    let (kind, flags, stream, length) = (choices.byte(), choices.byte(), choices.byte(), choices.byte());
    // Mostly DATA without padding, of which there is something to gather.
    let kind = if kind < 200 { DATA } else { kind % 11 };
    let flags = if flags < 220 { flags / 200 } else { flags };
    let length = if length < 250 { usize::from(length) } else { usize::from(length - 249) * 1000 };
    let payload = choices.take(length);
    sent.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    sent.extend([kind, flags, 0, 0, 0, stream % 8]);
    sent.extend(payload);
}

fn see(mut bytes: &[u8]) -> Seen {
    let mut seen = Seen::default();
    while let Some(header) = bytes.get(..HEADER) {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        let (whole, rest) = bytes.split_at(HEADER + length);
        bytes = rest;
        // A frame with padding is not looked into.
        if header[3] != DATA || header[4] & !END_STREAM != 0 {
            let before = seen.data.iter().filter(|(_, data)| !data.is_empty());
            seen.others.push((whole.to_vec(), before.map(|(stream, data)| (*stream, data.len())).collect()));
            continue;
        }
        let data = seen.data.entry(stream).or_default();
        data.extend(&whole[HEADER..]);
        if header[4] & END_STREAM != 0 {
            seen.ends.entry(stream).or_default().push(data.len());
        }
    }
    assert!(bytes.is_empty(), "{} bytes of a frame that is not whole", bytes.len());
    // An empty frame that ends nothing may vanish.
    seen.data.retain(|_, data| !data.is_empty());
    seen
}
