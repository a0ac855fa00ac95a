//! What has been sent of a request, kept for a second attempt until the response begins.

use bytes::Bytes;

/// Beyond this a call gets no second attempt. Most unary requests and the start of every stream fit.
const LIMIT: usize = 64 * 1024;

/// The DATA of a request so far, as shared slices.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    /// Most requests are one chunk: it needs no list.
    first: Option<Bytes>,
    more: Vec<Bytes>,
    size: usize,
    over: bool,
}

impl Replay {
    /// Keeps a chunk that is about to be sent.
    pub(crate) fn keep(&mut self, chunk: &Bytes) {
        if self.over || chunk.is_empty() {
            return;
        }
        self.size += chunk.len();
        if self.size > LIMIT {
            self.end();
        } else if self.first.is_none() {
            self.first = Some(chunk.clone());
        } else {
            self.more.push(chunk.clone());
        }
    }

    /// No further attempt can come: the response has begun, or too much has been sent.
    pub(crate) fn end(&mut self) {
        *self = Replay { over: true, ..Replay::default() };
    }

    /// True while a second attempt could send all that the first did.
    pub(crate) fn is_whole(&self) -> bool {
        !self.over
    }

    /// The chunks in their order.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        self.first.iter().chain(&self.more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_all_or_nothing() {
        let mut replay = Replay::default();
        replay.keep(&Bytes::from(vec![1; LIMIT - 1]));
        replay.keep(&Bytes::from_static(b"x"));
        assert!(replay.is_whole());
        assert_eq!(replay.chunks().map(Bytes::len).sum::<usize>(), LIMIT);
        replay.keep(&Bytes::from_static(b"y"));
        assert!(!replay.is_whole());
        assert_eq!(replay.chunks().count(), 0);
    }
}
