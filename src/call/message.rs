//! Follows the length-prefixed messages of gRPC over HTTP/2 ("Length-Prefixed-Message") as they pass, in place.

/// One byte of flags and four of length.
pub(crate) const PREFIX: usize = 5;

/// Where in its messages a direction stands.
#[derive(Debug)]
pub(crate) struct Follow {
    prefix: [u8; PREFIX],
    filled: usize,
    /// Payload bytes of the current message still to come.
    left: usize,
    /// Messages whose last byte has passed.
    messages: u64,
    limit: usize,
}

/// A message is larger than the limit that the configuration sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge {
    /// The size that its prefix announces, in bytes.
    pub(crate) size: usize,
    /// The limit, in bytes.
    pub(crate) limit: usize,
    /// How many of the bytes stand before this message; `None` when a part of its prefix has passed already.
    pub(crate) before: Option<usize>,
}

impl Follow {
    /// At the start of a direction. `limit` is the largest message in bytes, without its prefix.
    pub(crate) fn new(limit: Option<usize>) -> Follow {
        Follow { prefix: [0; PREFIX], filled: 0, left: 0, messages: 0, limit: limit.unwrap_or(usize::MAX) }
    }

    /// Messages that have passed whole.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// True when the bytes so far end with a message.
    pub(crate) fn at_boundary(&self) -> bool {
        self.filled == 0 && self.left == 0
    }

    /// Takes note of bytes that pass.
    ///
    /// # Errors
    ///
    /// When a prefix among them announces more than the limit.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        let whole = bytes.len();
        let mut bytes = bytes;
        // Where the prefix that is being read begins, when it does so in these bytes.
        let mut begins = None;
        while !bytes.is_empty() {
            if self.left > 0 {
                let passed = self.left.min(bytes.len());
                self.left -= passed;
                bytes = &bytes[passed..];
                if self.left == 0 {
                    self.messages += 1;
                }
                continue;
            }
            if self.filled == 0 {
                begins = Some(whole - bytes.len());
            }
            let taken = (PREFIX - self.filled).min(bytes.len());
            self.prefix[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == PREFIX {
                self.begin_message(begins)?;
            }
        }
        Ok(())
    }

    /// How many of `bytes`, which come next, belong to the message that has begun; `None` when it does not end in them.
    pub(crate) fn rest_of_message(&self, bytes: &[u8]) -> Option<usize> {
        let mut end = self.left;
        if self.filled > 0 {
            let missing = PREFIX - self.filled;
            let mut prefix = self.prefix;
            prefix[self.filled..].copy_from_slice(bytes.get(..missing)?);
            end = missing + length(&prefix);
        }
        (end <= bytes.len()).then_some(end)
    }

    fn begin_message(&mut self, begins: Option<usize>) -> Result<(), TooLarge> {
        let size = length(&self.prefix);
        if size > self.limit {
            // What comes before may still be sent, and then the direction stands at a boundary.
            self.filled = if begins.is_some() { 0 } else { self.filled };
            return Err(TooLarge { size, limit: self.limit, before: begins });
        }
        self.filled = 0;
        self.left = size;
        if size == 0 {
            self.messages += 1;
        }
        Ok(())
    }
}

/// The payload length that a prefix announces.
pub(crate) fn length(prefix: &[u8; PREFIX]) -> usize {
    u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(size: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(u32::try_from(size).expect("small").to_be_bytes());
        bytes.extend(std::iter::repeat_n(7, size));
        bytes
    }

    #[test]
    fn counts_messages_however_they_are_cut() {
        let wire: Vec<u8> = [0, 1, 300, 0, 0, 5].into_iter().flat_map(message).collect();
        for piece in 1..wire.len() {
            let mut follow = Follow::new(None);
            for bytes in wire.chunks(piece) {
                follow.pass(bytes).expect("no limit");
            }
            assert_eq!(follow.messages(), 6, "in pieces of {piece}");
            assert!(follow.at_boundary());
        }
    }

    #[test]
    fn a_message_of_the_limit_passes_and_one_above_does_not() {
        let mut follow = Follow::new(Some(10));
        assert_eq!(follow.pass(&message(10)), Ok(()));
        let mut wire = message(3);
        wire.extend(message(11));
        assert_eq!(follow.pass(&wire), Err(TooLarge { size: 11, limit: 10, before: Some(8) }));
        assert!(follow.at_boundary());
    }

    #[test]
    fn a_prefix_that_was_sent_in_part_cannot_be_taken_back() {
        let mut follow = Follow::new(Some(10));
        let wire = message(11);
        assert_eq!(follow.pass(&wire[..2]), Ok(()));
        assert_eq!(follow.pass(&wire[2..]), Err(TooLarge { size: 11, limit: 10, before: None }));
        assert!(!follow.at_boundary());
    }

    #[test]
    fn the_rest_of_a_message_is_known_wherever_it_was_cut() {
        let wire = message(300);
        for cut in 0..=wire.len() {
            let mut follow = Follow::new(None);
            follow.pass(&wire[..cut]).expect("no limit");
            let mut next = wire[cut..].to_vec();
            if cut > 0 && cut < wire.len() {
                assert_eq!(follow.rest_of_message(&next[..next.len() - 1]), None, "cut at {cut}");
            }
            next.extend(message(9));
            let rest = if cut == 0 { 0 } else { wire.len() - cut };
            assert_eq!(follow.rest_of_message(&next), Some(rest), "cut at {cut}");
        }
    }

    #[test]
    fn inside_a_prefix_is_no_boundary() {
        let mut follow = Follow::new(None);
        follow.pass(&[0, 0]).expect("no limit");
        assert!(!follow.at_boundary());
    }
}
