//! Properties that hold for any bytes: what strangers send, and what people write into a file. Each target takes bytes and
//! panics where its property does not hold. The unit tests run them over mutated seeds for a moment; `integration/fuzz` runs
//! them under libFuzzer for as long as somebody likes.

mod connection;
mod file;
mod frames;
mod messages;
mod metadata;
#[cfg(test)]
mod mutate;
mod proxy_protocol;

pub use connection::connection;
pub use file::config;
pub use frames::frames;
pub use messages::messages;
pub use metadata::metadata;
pub use proxy_protocol::proxy_protocol;

/// Bytes that are read as choices.
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// The next byte; 0 when there are no more.
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// The next bytes, as many as there are.
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
