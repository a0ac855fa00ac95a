//! What the load and fault tests are made of, on h2 directly: an echo backend that counts and misbehaves on request, a
//! client that shows what a channel hides, and a load that keeps calls in flight.

pub mod backend;
pub mod channel;
pub mod client;
pub mod config;
pub mod grpcio;
pub mod message;
pub mod pace;
pub mod runner;
mod service;
mod wire;
