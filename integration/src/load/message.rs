//! gRPC's message framing (gRPC over HTTP/2, "Length-Prefixed-Message"), and DATA sent as flow control allows.

use std::future::poll_fn;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::SendStream;

/// Length of the prefix: a flag and four bytes of length.
pub const PREFIX: usize = 5;

/// A message with its prefix, uncompressed.
#[must_use]
pub fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX + message.len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).expect("a test's message is below 4 GiB"));
    bytes.put(message);
    bytes.freeze()
}

/// Cuts messages out of DATA.
#[derive(Debug, Default)]
pub struct Messages {
    buffer: BytesMut,
}

impl Messages {
    /// Adds a chunk of DATA.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole message, without its prefix.
    pub fn take(&mut self) -> Option<Bytes> {
        let prefix = self.buffer.first_chunk::<PREFIX>()?;
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if self.buffer.len() < PREFIX + length {
            return None;
        }
        self.buffer.advance(PREFIX);
        Some(self.buffer.split_to(length).freeze())
    }

    /// True when no part of a message waits for its rest.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// Hands `bytes` to h2 as the peer's windows open.
///
/// # Errors
///
/// When the stream takes no more.
pub async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let granted = poll_fn(|cx| stream.poll_capacity(cx)).await;
        let room = granted.unwrap_or(Err(h2::Reason::CANCEL.into()))?;
        stream.send_data(bytes.split_to(room.min(bytes.len())), false)?;
    }
    Ok(())
}
