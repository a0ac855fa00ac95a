//! Any bytes as a header of the PROXY protocol.

use std::net::SocketAddr;

use crate::downstream::proxy_protocol::{version_1, version_2};

/// What is taken for an address stands in the header, and written again it is the same.
///
/// # Panics
///
/// When that does not hold.
pub fn proxy_protocol(bytes: &[u8]) {
    if let Ok(Some(from)) = version_1(bytes) {
        let family = if from.is_ipv4() { 4 } else { 6 };
        let line = format!("PROXY TCP{family} {0} {0} {1} {1}", from.ip(), from.port());
        assert_eq!(version_1(line.as_bytes()).expect("a line that was written"), Some(from));
    }
    let Some((head, addresses)) = bytes.split_first_chunk::<2>() else { return };
    if let Ok(Some(from)) = version_2(head[0], head[1], addresses) {
        let (ip, port) = match from {
            SocketAddr::V4(from) => (from.ip().octets().to_vec(), from.port()),
            SocketAddr::V6(from) => (from.ip().octets().to_vec(), from.port()),
        };
        assert!(addresses.starts_with(&ip), "{from} does not stand there");
        assert_eq!(addresses[2 * ip.len()..][..2], port.to_be_bytes());
    }
}
