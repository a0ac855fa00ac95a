//! Any bytes as gRPC messages, in any pieces.

use super::Choices;
use crate::call::message::{Follow, PREFIX, length};

/// Messages are counted alike however they are cut, and a limit is met at the same message.
///
/// # Panics
///
/// When they are not.
pub fn messages(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let limit = match choices.byte() {
        255 => None,
        limit => Some(usize::from(limit)),
    };
    let piece = usize::from(choices.byte() % 40) + 1;
    let stream = choices.0;
    let (count, ends, too_large) = reference(stream, limit);
    let mut follow = Follow::new(limit);
    for chunk in stream.chunks(piece) {
        if let Some(rest) = follow.rest_of_message(chunk) {
            let mut copy = Follow::new(limit);
            // The same place, by the bytes up to here.
            let before = chunk.as_ptr() as usize - stream.as_ptr() as usize;
            if copy.pass(&stream[..before]).is_ok() && copy.pass(&chunk[..rest]).is_ok() {
                assert!(copy.at_boundary(), "the rest of a message does not end it");
            }
        }
        if let Err(error) = follow.pass(chunk) {
            assert_eq!(Some(error.size), too_large);
            assert_eq!(follow.messages(), count);
            return;
        }
    }
    assert_eq!(too_large, None);
    assert_eq!((follow.messages(), follow.at_boundary()), (count, ends));
}

/// How many messages there are, whether they end with the bytes, and the size of the first that is over the limit.
fn reference(mut bytes: &[u8], limit: Option<usize>) -> (u64, bool, Option<usize>) {
    let mut count = 0;
    while let Some(prefix) = bytes.first_chunk::<PREFIX>() {
        let size = length(prefix);
        if limit.is_some_and(|limit| size > limit) {
            return (count, false, Some(size));
        }
        let Some(rest) = bytes.get(PREFIX + size..) else { return (count, false, None) };
        count += 1;
        bytes = rest;
    }
    (count, bytes.is_empty(), None)
}
