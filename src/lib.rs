//! Weir.
pub mod config;
