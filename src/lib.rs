//! Weir: a transparent L7 gateway for gRPC.

mod access_log;
mod admin;
mod call;
mod chain;
mod cluster;
pub mod config;
mod downstream;
mod drain;
pub mod gateway;
mod io;
mod listener;
mod metrics;
mod route;
mod status;
mod upstream;
mod worker;
