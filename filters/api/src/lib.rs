//! The contract between Weir and a filter.
//!
//! A filter looks at calls, and may change or answer them, on their way from a listener to a cluster. It is built once,
//! from its own typed configuration, and then shared by every call of the routes that name it: state that belongs to one
//! call goes into [`Call::extensions`].
//!
//! The hooks are synchronous, because a filter that waits for nothing should cost nothing: see [`Filter`] for the order
//! in which they run. Where a filter must wait (a token to verify, a quota to ask for), it returns a future for that
//! step alone.
//!
//! This crate knows no runtime and no HTTP/2 implementation, so that a filter compiles in seconds and outlives both.

mod call;
mod config;
mod filter;
mod needs;
mod status;

pub use call::{Call, Ending, Outcome, Peer, ResponseHead};
pub use config::ConfigError;
pub use filter::{Direction, Filter, FilterType, MessageStep, Step};
pub use needs::Needs;
pub use status::{Code, ParseCodeError, Status};
