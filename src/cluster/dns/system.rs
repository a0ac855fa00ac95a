//! What the system says about looking names up. Both files are read for every look-up: they change under a process that
//! runs for months, and nobody tells it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The port of a name server, where nothing else is said.
const DNS_PORT: u16 = 53;

/// glibc asks no more servers than this, and waits no longer and no more often.
const MOST_SERVERS: usize = 3;
const LONGEST_TIMEOUT: u32 = 30;
const MOST_ATTEMPTS: u32 = 5;

/// What `/etc/resolv.conf` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct System {
    pub(super) servers: Vec<SocketAddr>,
    pub(super) search: Vec<String>,
    pub(super) ndots: usize,
    pub(super) timeout: Duration,
    pub(super) attempts: u32,
    pub(super) edns: bool,
    pub(super) tcp_only: bool,
    pub(super) no_aaaa: bool,
}

impl System {
    /// Without the file there are its defaults, and no server.
    pub(super) fn read() -> System {
        System::parse(&std::fs::read(RESOLV_CONF).unwrap_or_default())
    }

    fn parse(text: &[u8]) -> System {
        // What it does not understand glibc passes over too.
        let (conf, _) = resolv_conf::Config::parse_with_errors(text);
        let server = |ip: &resolv_conf::ScopedIp| SocketAddr::new(IpAddr::from(ip), DNS_PORT);
        System {
            servers: conf.nameservers.iter().take(MOST_SERVERS).map(server).collect(),
            search: conf.get_last_search_or_domain().map(|domain| domain.to_owned()).collect(),
            ndots: conf.ndots as usize,
            timeout: Duration::from_secs(conf.timeout.clamp(1, LONGEST_TIMEOUT).into()),
            attempts: conf.attempts.clamp(1, MOST_ATTEMPTS),
            edns: conf.edns0,
            tcp_only: conf.use_vc,
            no_aaaa: conf.no_aaaa,
        }
    }

    /// The full names that a host may mean, in the order in which they are tried.
    pub(super) fn candidates(&self, host: &str) -> Vec<String> {
        if host.ends_with('.') {
            return vec![host.to_owned()];
        }
        let full = format!("{host}.");
        let searched = self.search.iter().map(|domain| format!("{host}.{}.", domain.trim_matches('.')));
        // A list may name the root, which is the name as it stands.
        let searched = searched.map(|name| name.replace("..", "."));
        let first = host.matches('.').count() >= self.ndots || host.eq_ignore_ascii_case("localhost");
        let mut names: Vec<String> = if first {
            std::iter::once(full).chain(searched).collect()
        } else {
            searched.chain(std::iter::once(full)).collect()
        };
        let mut seen = Vec::new();
        names.retain(|name| !seen.contains(name) && (seen.push(name.clone()), true).1);
        names
    }
}

/// The addresses of a host in the hosts file. That it is there ends the search, of whichever family they are.
pub(super) fn hosts(host: &str) -> Vec<IpAddr> {
    in_hosts(&std::fs::read_to_string(HOSTS).unwrap_or_default(), host)
}

fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        if words.any(|name| name.eq_ignore_ascii_case(host)) && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_searched_as_the_c_library_does() {
        let system = System::parse(b"nameserver 10.0.0.1\nsearch ns.svc.local svc.local\noptions ndots:2 nonsense\n");
        let candidates = |host: &str| system.candidates(host).join(" ");
        assert_eq!(candidates("orders"), "orders.ns.svc.local. orders.svc.local. orders.");
        assert_eq!(candidates("orders.ns"), "orders.ns.ns.svc.local. orders.ns.svc.local. orders.ns.");
        assert_eq!(candidates("a.b.c"), "a.b.c. a.b.c.ns.svc.local. a.b.c.svc.local.");
        assert_eq!(candidates("orders."), "orders.");
        assert_eq!(candidates("localhost"), "localhost. localhost.ns.svc.local. localhost.svc.local.");
        let rooted = System::parse(b"search . one\n");
        assert_eq!(rooted.candidates("a.b"), ["a.b.", "a.b.one."]);
    }

    #[test]
    fn an_empty_file_has_the_defaults_of_the_c_library() {
        let system = System::parse(b"");
        assert_eq!((system.servers.len(), system.ndots, system.attempts), (0, 1, 2));
        assert_eq!(system.timeout, Duration::from_secs(5));
        let many = System::parse(b"nameserver 10.0.0.1\nnameserver ::1\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n");
        let servers: Vec<String> = many.servers.iter().map(SocketAddr::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[::1]:53", "10.0.0.3:53"]);
    }

    #[test]
    fn the_hosts_file_is_read_line_by_line() {
        let text = "127.0.0.1 one two # three\n::1\tTwo\n#127.0.0.9 two\nnonsense two\n127.0.0.1 two\n";
        let found = |host: &str| in_hosts(text, host).iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(
            (found("two"), found("ONE."), found("three")),
            ("127.0.0.1 ::1".into(), "127.0.0.1".into(), "".into())
        );
    }
}
