//! Networks of addresses, and who is believed by where he comes from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use weir_filter::Peer;

/// Where somebody comes from who is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// One of these addresses.
    Network(Network),
    /// A process of this machine, by a Unix socket.
    Unix,
}

impl Source {
    /// What the file calls [`Source::Unix`].
    pub const UNIX: &str = "unix";

    /// True for a client that comes from here.
    #[must_use]
    pub fn has(&self, peer: Peer) -> bool {
        match (self, peer) {
            (Source::Network(network), Peer::Ip(address)) => network.contains(address.ip()),
            (Source::Unix, Peer::Unix { .. }) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Network(network) => network.fmt(f),
            Source::Unix => f.write_str(Source::UNIX),
        }
    }
}

/// The addresses that begin with the same bits, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u8,
}

/// Why a text is no [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoNetwork {
    /// Before the slash stands no IP address.
    Address,
    /// Behind it stands no number, or one that is too large.
    Bits,
    /// The address has bits behind the network's own. The network that is meant is this one.
    Rest(Network),
}

impl Network {
    /// True for an address of this network. One of IPv4 in the clothes of IPv6, as a socket for both shows it, is one of IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => masked_v4(address, self.bits) == first,
            (IpAddr::V6(first), IpAddr::V6(address)) => masked_v6(address, self.bits) == first,
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = NoNetwork;

    /// An address alone is a network of one.
    fn from_str(text: &str) -> Result<Network, NoNetwork> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| NoNetwork::Address)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| NoNetwork::Bits)?;
        if bits > most {
            return Err(NoNetwork::Bits);
        }
        let first = match address {
            IpAddr::V4(address) => IpAddr::V4(masked_v4(address, bits)),
            IpAddr::V6(address) => IpAddr::V6(masked_v6(address, bits)),
        };
        let network = Network { first, bits };
        if first == address { Ok(network) } else { Err(NoNetwork::Rest(network)) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

fn masked_v4(address: Ipv4Addr, bits: u8) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
    Ipv4Addr::from_bits(address.to_bits() & mask)
}

fn masked_v6(address: Ipv6Addr, bits: u8) -> Ipv6Addr {
    let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
    Ipv6Addr::from_bits(address.to_bits() & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_begin_as_it_does() {
        for (network, address, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7/32", "192.0.2.6", false),
            ("2001:db8::/33", "2001:db8:7fff::1", true),
            ("2001:db8::/33", "2001:db8:8000::1", false),
            ("::/0", "::1", true),
            ("::1", "::1", true),
        ] {
            let parsed: Network = network.parse().expect(network);
            assert_eq!(parsed.contains(address.parse().expect(address)), inside, "{network} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_told() {
        for (text, error) in [
            ("ten", NoNetwork::Address),
            ("10.0.0.0/33", NoNetwork::Bits),
            ("::/129", NoNetwork::Bits),
            ("10.0.0.0/", NoNetwork::Bits),
            ("10.0.0.1/8", NoNetwork::Rest("10.0.0.0/8".parse().expect("a network"))),
        ] {
            assert_eq!(text.parse::<Network>(), Err(error), "{text}");
        }
    }
}
