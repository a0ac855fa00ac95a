//! The PROXY protocol, versions 1 and 2: whoever passes connections on says where they come from, ahead of their first byte.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt;

use crate::socket::Stream;

/// How version 2 begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// How version 1 begins.
const WORD: &[u8] = b"PROXY ";

/// The longest line of version 1, with its end.
const LINE: usize = 107;

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoHeader {
    #[error("it does not begin with the PROXY protocol")]
    Missing,
    #[error("its header of the PROXY protocol is malformed")]
    Malformed,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Reads a header and not a byte more. `None` where the sender speaks for itself, as for a health check, or does not say for
/// whom.
///
/// # Errors
///
/// When what has come is no header.
pub(super) async fn read(socket: &mut Stream) -> Result<Option<SocketAddr>, NoHeader> {
    // The shortest line of version 1 has three bytes more.
    let mut first = [0; SIGNATURE.len()];
    socket.read_exact(&mut first).await?;
    if first == SIGNATURE {
        let mut rest = [0; 4];
        socket.read_exact(&mut rest).await?;
        let mut addresses = vec![0; usize::from(u16::from_be_bytes([rest[2], rest[3]]))];
        socket.read_exact(&mut addresses).await?;
        return version_2(rest[0], rest[1], &addresses);
    }
    if !first.starts_with(WORD) {
        return Err(NoHeader::Missing);
    }
    version_1(&line(socket, &first).await?)
}

/// The line that begins so, without its end.
async fn line(socket: &mut Stream, first: &[u8]) -> Result<Vec<u8>, NoHeader> {
    let mut line = first.to_vec();
    while line.len() < LINE {
        // Looked at first: what stands behind the line is not the header's.
        let mut seen = [0; LINE];
        let room = LINE - line.len();
        let came = socket.peek(&mut seen[..room]).await?;
        let end = seen[..came].iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(came, |end| end + 1);
        if taken == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        socket.read_exact(&mut seen[..taken]).await?;
        line.extend_from_slice(&seen[..taken]);
        if end.is_some() {
            return line.strip_suffix(b"\r\n").map(<[u8]>::to_vec).ok_or(NoHeader::Malformed);
        }
    }
    Err(NoHeader::Malformed)
}

/// `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443`.
pub(crate) fn version_1(line: &[u8]) -> Result<Option<SocketAddr>, NoHeader> {
    let text = std::str::from_utf8(line).map_err(|_| NoHeader::Malformed)?;
    let words: Vec<&str> = text.split(' ').collect();
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", family @ ("TCP4" | "TCP6"), source, _, port, _] => {
            let source: IpAddr = source.parse().map_err(|_| NoHeader::Malformed)?;
            // A number for Rust may have a sign.
            let is_number = port.bytes().all(|digit| digit.is_ascii_digit());
            let port = port.parse().map_err(|_| NoHeader::Malformed)?;
            if is_number && source.is_ipv4() == (*family == "TCP4") {
                Ok(Some(SocketAddr::new(source, port)))
            } else {
                Err(NoHeader::Malformed)
            }
        }
        _ => Err(NoHeader::Malformed),
    }
}

/// What stands behind the addresses is not looked at.
pub(crate) fn version_2(command: u8, family: u8, addresses: &[u8]) -> Result<Option<SocketAddr>, NoHeader> {
    match (command, family) {
        // LOCAL.
        (0x20, _) => Ok(None),
        (0x21, 0x11) => {
            let (source, rest) = addresses.split_first_chunk::<4>().ok_or(NoHeader::Malformed)?;
            Ok(Some(SocketAddr::new(Ipv4Addr::from(*source).into(), port(rest, 4)?)))
        }
        (0x21, 0x21) => {
            let (source, rest) = addresses.split_first_chunk::<16>().ok_or(NoHeader::Malformed)?;
            Ok(Some(SocketAddr::new(Ipv6Addr::from(*source).into(), port(rest, 16)?)))
        }
        // UNSPEC, datagrams and unix sockets: no address of a client of ours.
        (0x21, _) => Ok(None),
        _ => Err(NoHeader::Malformed),
    }
}

/// The source's port, behind the destination's address, of that length; the destination's port must be there too.
fn port(rest: &[u8], address: usize) -> Result<u16, NoHeader> {
    let ports = rest.get(address..address + 4).ok_or(NoHeader::Malformed)?;
    Ok(u16::from_be_bytes([ports[0], ports[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(line: &str) -> Result<Option<SocketAddr>, String> {
        version_1(line.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_line_says_where_from() {
        let address = |text: &str| Ok(Some(text.parse().expect(text)));
        assert_eq!(first("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443"), address("192.0.2.1:56324"));
        assert_eq!(first("PROXY TCP6 2001:db8::1 2001:db8::2 1 2"), address("[2001:db8::1]:1"));
        assert_eq!(first("PROXY UNKNOWN"), Ok(None));
        assert_eq!(first("PROXY UNKNOWN ffff::1 ffff::2 1 2"), Ok(None));
        for line in [
            "PROXY TCP4 2001:db8::1 2001:db8::2 1 2",
            "PROXY TCP4 192.0.2.1 192.0.2.2 65536 443",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +5 443",
            "PROXY TCP4 192.0.2.1  192.0.2.2 1 443",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 2",
            "PROXY ",
        ] {
            assert!(first(line).is_err(), "{line}");
        }
    }

    #[test]
    fn addresses_in_bytes_say_where_from() {
        let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 1, 187];
        let read = |command, family, bytes: &[u8]| version_2(command, family, bytes).map_err(|error| error.to_string());
        assert_eq!(read(0x21, 0x11, &v4), Ok(Some("192.0.2.1:56324".parse().expect("an address"))));
        assert_eq!(read(0x21, 0x11, &[&v4[..], &[4, 0, 1, 0]].concat()).map(|from| from.is_some()), Ok(true));
        assert_eq!(read(0x20, 0x11, &v4), Ok(None));
        assert_eq!(read(0x21, 0, &[]), Ok(None));
        assert!(
            read(0x21, 0x11, &v4[..11]).is_err() && read(0x21, 0x21, &v4).is_err() && read(0x31, 0x11, &v4).is_err()
        );
        let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 16], &[0, 80, 1, 187]].concat();
        assert_eq!(read(0x21, 0x21, &v6), Ok(Some("[2001:db8::1]:80".parse().expect("an address"))));
    }
}
