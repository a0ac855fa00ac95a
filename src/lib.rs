//! Weir: a transparent L7 gateway for gRPC.
//!
//! This is the table of contents. A gateway with filters of its own is [`run`] with a [`Registry`](registry::Registry)
//! that holds them.

mod access_log;
mod admin;
mod call;
mod chain;
mod chance;
pub mod cli;
mod cluster;
pub mod config;
pub mod demo;
mod downstream;
mod drain;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod gateway;
mod handover;
mod io;
mod listener;
mod local;
mod memory;
mod metrics;
mod notify;
pub mod registry;
mod route;
mod socket;
mod status;
mod tls;
mod upstream;
mod worker;

pub use cli::run;
pub use socket::Address;
