//! Who is let in: connections of a listener, and of one source address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use weir_filter::Peer;

use crate::config::plan;
use crate::memory::Memory;

/// Why a connection was closed as soon as it was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The listener has as many as it may.
    Connections,
    /// The source address has.
    Source,
    /// The process has no memory for it.
    Memory,
}

/// The connections of a listener, counted where the configuration limits them.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: ArcSwap<Limits>,
    memory: Option<Arc<Memory>>,
    open: AtomicUsize,
    sources: Mutex<HashMap<IpAddr, usize>>,
    refused: [AtomicU64; Refused::ALL.len()],
}

/// What a configuration allows.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    most: plan::Admission,
    /// Who passes on the connections of others, and says whose.
    passers: Vec<plan::Source>,
}

impl From<&plan::Listener> for Limits {
    fn from(listener: &plan::Listener) -> Limits {
        Limits { most: listener.admission.clone(), passers: listener.proxy_protocol.clone() }
    }
}

impl Limits {
    /// The address that a connection is counted by, as far as that is known when it is accepted.
    fn source(&self, peer: Peer) -> Option<IpAddr> {
        peer.ip().filter(|_| !self.passers.iter().any(|passer| passer.has(peer)))
    }
}

/// A connection's place in the counts, for as long as it is open.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Arc<Admission>,
    source: Option<IpAddr>,
}

impl Refused {
    pub(crate) const ALL: [Refused; 3] = [Refused::Connections, Refused::Source, Refused::Memory];

    /// Its `reason` in metrics: the key that says so.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Refused::Connections => "max_connections",
            Refused::Source => "max_connections_per_source",
            Refused::Memory => "memory_limit",
        }
    }
}

impl Admission {
    pub(crate) fn new(limits: Limits, memory: Option<Arc<Memory>>) -> Admission {
        Admission {
            limits: ArcSwap::from_pointee(limits),
            memory,
            open: AtomicUsize::new(0),
            sources: Mutex::default(),
            refused: Default::default(),
        }
    }

    /// Other limits, for connections that come from now on. Those of a source are counted from when they are limited.
    pub(crate) fn change(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
    }

    /// A place for a connection. One by a Unix socket has no source to be counted by; that of one which a load balancer passes on
    /// is known when its header has been read ([`Place::comes_from`]).
    ///
    /// # Errors
    ///
    /// When there is none. It has been counted; the second value is how often that happened.
    pub(crate) fn admit(self: &Arc<Admission>, peer: Peer) -> Result<Place, (Refused, u64)> {
        if self.memory.as_ref().is_some_and(|memory| memory.is_short()) {
            return Err(self.refuse(Refused::Memory));
        }
        // One task accepts for a listener: between the look and the count the number can only fall.
        let limits = self.limits.load();
        if limits.most.max_connections.is_some_and(|most| self.open.load(Ordering::Relaxed) >= most) {
            return Err(self.refuse(Refused::Connections));
        }
        let source = match limits.source(peer) {
            Some(address) => self.count(&limits, address)?,
            None => None,
        };
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(Place { admission: self.clone(), source })
    }

    /// Counts a connection from this address, where those are limited. Returns what it is counted by.
    fn count(&self, limits: &Limits, address: IpAddr) -> Result<Option<IpAddr>, (Refused, u64)> {
        let Some(most) = limits.most.max_connections_per_source else { return Ok(None) };
        let source = source(address);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let open = sources.entry(source).or_default();
        if *open >= most {
            return Err(self.refuse(Refused::Source));
        }
        *open += 1;
        Ok(Some(source))
    }

    /// How many connections were refused for this reason.
    pub(crate) fn refused(&self, why: Refused) -> u64 {
        self.refused[why as usize].load(Ordering::Relaxed)
    }

    fn refuse(&self, why: Refused) -> (Refused, u64) {
        (why, self.refused[why as usize].fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl Place {
    /// Counts the connection by the address that it was passed on for.
    ///
    /// # Errors
    ///
    /// When that address has as many as it may. It has been counted; the second value is how often that happened.
    pub(crate) fn comes_from(&mut self, address: IpAddr) -> Result<(), (Refused, u64)> {
        if self.source.is_none() {
            self.source = self.admission.count(&self.admission.limits.load(), address)?;
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
        let Some(source) = self.source else { return };
        let mut sources = self.admission.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = sources.get_mut(&source) {
            *open -= 1;
            if *open == 0 {
                sources.remove(&source);
            }
        }
    }
}

/// Whom an address belongs to: of IPv6 a customer gets a network of 64 bits at least (RFC 6177).
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(most: Option<usize>, most_of_a_source: Option<usize>) -> Arc<Admission> {
        let most = plan::Admission { max_connections: most, max_connections_per_source: most_of_a_source };
        let passers = vec![plan::Source::Network("10.0.0.0/8".parse().expect("a network"))];
        Arc::new(Admission::new(Limits { most, passers }, None))
    }

    fn from(address: &str) -> Peer {
        Peer::Ip((address.parse::<IpAddr>().expect("an address"), 1024).into())
    }

    #[test]
    fn a_listener_has_as_many_connections_as_it_may() {
        let admission = admission(Some(2), None);
        let (first, second) = (from("192.0.2.1"), from("192.0.2.2"));
        let held = [admission.admit(first).expect("a place"), admission.admit(second).expect("a place")];
        assert_eq!(admission.admit(first).expect_err("none"), (Refused::Connections, 1));
        assert_eq!(admission.admit(first).expect_err("none"), (Refused::Connections, 2));
        drop(held);
        assert!(admission.admit(first).is_ok());
        assert_eq!(admission.refused(Refused::Connections), 2);
    }

    #[test]
    fn a_source_has_as_many_connections_as_it_may() {
        let admission = admission(None, Some(1));
        for (address, neighbour, stranger) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8:1:2::1", "2001:db8:1:2:3::4", "2001:db8:1:3::1"),
        ] {
            let held = admission.admit(from(address)).expect("a place");
            assert_eq!(admission.admit(from(neighbour)).expect_err("none").0, Refused::Source, "{neighbour}");
            drop(admission.admit(from(stranger)).expect("a place"));
            drop(held);
            drop(admission.admit(from(neighbour)).expect("a place"));
        }
        let unix = Peer::Unix { user: 0, process: None };
        let held = [admission.admit(unix).expect("a place"), admission.admit(unix).expect("one more")];
        assert!(admission.sources.lock().expect("no panic").is_empty());
        drop(held);
    }

    #[test]
    fn who_is_passed_on_counts_and_not_who_passes_on() {
        let admission = admission(None, Some(1));
        let pass_on = |address: &str| {
            let mut place = admission.admit(from("10.0.0.1")).expect("the balancer has any number of places");
            place.comes_from(address.parse().expect("an address")).map(|()| place)
        };
        let held = [pass_on("192.0.2.1").expect("a place"), pass_on("192.0.2.2").expect("a place")];
        assert_eq!(pass_on("192.0.2.1").expect_err("none"), (Refused::Source, 1));
        assert_eq!(
            admission.admit(from("192.0.2.2")).expect_err("none"),
            (Refused::Source, 2),
            "it comes by itself, too"
        );
        drop(held);
        drop(pass_on("192.0.2.1").expect("a place"));
        assert!(admission.sources.lock().expect("no panic").is_empty());
        assert_eq!(admission.open.load(Ordering::Relaxed), 0);
    }
}
