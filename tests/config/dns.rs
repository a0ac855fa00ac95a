//! How names are looked up: what a file means that says little of it.

use std::time::Duration;

use weir::config::plan::{Discovery, Dns, DnsResolver};

use super::load;

/// A cluster of names with these keys, and the notices that it brings.
fn dns(keys: &str) -> (Dns, Vec<String>) {
    let text = super::with("", &format!("type: StrictDNS\nlb_policy: Rand\n{keys}"))
        .replace("127.0.0.1, port: 50051", "a.test, port: 50051");
    let plan = load(&text, "f.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    let Discovery::StrictDns(dns) = plan.clusters[0].discovery.clone() else { panic!("{:?}", plan.clusters[0]) };
    (dns, plan.notices.iter().map(|notice| notice.text.clone()).collect())
}

#[test]
fn an_interval_that_is_written_goes_before_ttls() {
    for (keys, respect_ttl) in [
        ("", true),
        ("respect_dns_ttl: false", false),
        ("dns_refresh_rate: 5s", false),
        ("dns_refresh_rate: 5s\nrespect_dns_ttl: true", true),
    ] {
        let (dns, notices) = dns(keys);
        assert_eq!((dns.respect_ttl, dns.refresh_rate), (respect_ttl, Duration::from_secs(5)), "{keys}");
        assert!(notices.is_empty(), "{keys}: {notices:?}");
    }
}

#[test]
fn waits_that_are_not_written_follow_those_that_are() {
    let millis = Duration::from_millis;
    for (keys, failures) in [
        ("", [1000, 10_000]),
        ("dns_refresh_rate: 20ms", [20, 200]),
        ("dns_refresh_rate: 1h", [1000, 10_000]),
        ("dns_failure_refresh_rate: {base_interval: 2s}", [2000, 20_000]),
        ("dns_failure_refresh_rate: {base_interval: 2s, max_interval: 3s}", [2000, 3000]),
    ] {
        let (dns, _) = dns(keys);
        assert_eq!([dns.failure_base, dns.failure_max], failures.map(millis), "{keys}");
    }
    for (keys, bounds) in [
        ("", [1000, 300_000]),
        ("dns_min_refresh_rate: 10m", [600_000, 600_000]),
        ("dns_max_refresh_rate: 20ms", [20, 20]),
    ] {
        let (dns, _) = dns(keys);
        assert_eq!([dns.min_refresh_rate, dns.max_refresh_rate], bounds.map(millis), "{keys}");
    }
}

#[test]
fn what_has_no_effect_is_told() {
    let (_, notices) = dns("dns_refresh_rate: 5s\ndns_min_refresh_rate: 1s\ndns_max_refresh_rate: 1m");
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert!(notices[0].contains("`dns_min_refresh_rate` has no effect: TTLs are not obeyed"), "{notices:?}");

    let servers = "dns_resolvers: [{socket_address: {address: 10.0.0.53}}]\n";
    let (asked, notices) = dns(servers);
    assert_eq!(asked.resolver, DnsResolver::Servers(vec!["10.0.0.53:53".parse().unwrap()]));
    assert!(notices.is_empty(), "{notices:?}");
    let (asked, notices) = dns(&format!("{servers}dns_resolver: getaddrinfo\nrespect_dns_ttl: true"));
    assert_eq!((asked.resolver, asked.respect_ttl), (DnsResolver::GetAddrInfo, false));
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert!(notices[0].contains("the C library says neither"), "{notices:?}");
}
