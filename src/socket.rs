//! Sockets of TCP and of Unix: where they are, who listens at them, and what is connected.

mod address;
mod file;
mod listening;
mod stream;

pub use address::Address;
pub(crate) use listening::{ListeningSocket, bind};
pub(crate) use stream::{Accepted, Stream};
