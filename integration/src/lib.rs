//! The harness of Weir's whole-program tests: processes that end with the test, a gateway on ephemeral ports, and the
//! third-party programs that the tests drive.

pub mod admin;
pub mod bench;
pub mod binary;
pub mod certificates;
pub mod config;
pub mod etcd;
pub mod gateway;
pub mod interop;
pub mod load;
pub mod parity;
pub mod peers;
pub mod process;
pub mod server;
pub mod soak;
pub mod sturdy;
pub mod tools;
