//! Clusters whose endpoints a DNS server names: when it is asked, what its answers change, and what happens when it has
//! none. What the hosts file says is in `dns.rs`.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::Backend;
use weir_integration::peers::client::{Client, METHOD};
use weir_integration::peers::dns::{DnsServer, start_with};
use weir_integration::peers::names::neighbours;
use weir_integration::peers::setup::Setup;
use weir_integration::peers::{eventually, page};

/// Asks as soon as an answer without a TTL, and every failure, lets it: what follows takes no second.
const QUICK: &str = "dns_min_refresh_rate: 20ms, dns_failure_refresh_rate: {base_interval: 20ms, max_interval: 40ms}";

const FAILED: &str = "DNS look-up failed; keeping the endpoints";
const WORKS: &str = "DNS look-up works again";
const GONE: &str = "DNS has nothing for a name; its endpoints go";

fn host(name: &str, port: u16) -> String {
    format!("{{socket_address: {{address: {name}, port: {port}}}}}")
}

fn service(name: &str) -> String {
    format!("{{socket_address: {{srv: {name}}}}}")
}

/// A gateway's configuration with one cluster, `named`.
fn setup(server: &DnsServer, keys: &str, endpoints: impl IntoIterator<Item = String>) -> Setup {
    let keys = format!("type: StrictDNS, {keys}, {}", server.key());
    let keys = if keys.contains("lb_policy") { keys } else { format!("{keys}, lb_policy: RoundRobin") };
    Setup::new().admin().route("prefix: /", "named").cluster_of("named", &keys, endpoints)
}

async fn client(gateway: &Gateway) -> Client {
    Client::connect(gateway.listener("grpc").unwrap()).await.unwrap()
}

/// How many calls each backend got of these many more, all of which are answered.
async fn shares(client: &Client, backends: &[Backend], calls: usize) -> Vec<usize> {
    let before: Vec<usize> = backends.iter().map(|backend| backend.seen().calls.len()).collect();
    for _ in 0..calls {
        let answer = client.call(METHOD, &[]).await.unwrap();
        assert_eq!(answer.status(), Some(0), "{answer:?}");
    }
    backends.iter().zip(before).map(|(backend, before)| backend.seen().calls.len() - before).collect()
}

/// Waits until as many more calls are shared out so. None fails meanwhile.
async fn settles(client: &Client, backends: &[Backend], expected: &[usize]) {
    let calls = expected.iter().sum();
    eventually("the shares", async || Ok((shares(client, backends, calls).await == expected).then_some(())))
        .await
        .unwrap();
}

fn said(gateway: &Gateway, words: &[&str]) {
    let line = |line: &str| words.iter().all(|word| line.contains(word)).then_some(());
    gateway.process.wait_line(&words.join(", "), line).unwrap();
}

async fn clusters(gateway: &Gateway) -> String {
    page::get(gateway.admin().unwrap(), "/clusters").await.unwrap().body
}

/// Each of these has a name that it asks for again and again, beside one that it asks for once.
#[tokio::test(flavor = "multi_thread")]
async fn the_ttl_says_when_a_name_is_looked_up_again() {
    let zone = "short.test. 0 IN A 127.0.0.1\nlong.test. 3600 IN A 127.0.0.1";
    for (keys, often, once) in [
        // The TTL, within bounds.
        ("dns_min_refresh_rate: 20ms", "short.test", Some("long.test")),
        ("dns_min_refresh_rate: 1h", "", Some("short.test")),
        ("dns_max_refresh_rate: 20ms", "long.test", None),
        ("dns_refresh_rate: 1h, respect_dns_ttl: true, dns_min_refresh_rate: 20ms", "short.test", Some("long.test")),
        ("dns_refresh_rate: 20ms, respect_dns_ttl: true", "", Some("long.test")),
        // The interval.
        ("dns_refresh_rate: 20ms", "long.test", None),
        ("dns_refresh_rate: 20ms, respect_dns_ttl: false", "long.test", None),
        ("dns_refresh_rate: 1h", "", Some("short.test")),
    ] {
        let server = DnsServer::start(zone).unwrap();
        // What is asked often shows that there was time to ask for the other.
        let beside = format!("type: StrictDNS, dns_refresh_rate: 20ms, {}", server.key());
        let names = [often, once.unwrap_or_default()];
        let endpoints = names.iter().filter(|name| !name.is_empty()).map(|name| host(name, 1));
        let setup = setup(&server, keys, endpoints).cluster_of("beside", &beside, [host("beside.test", 1)]);
        let _gateway = setup.start(1).unwrap();
        if !often.is_empty() {
            server.until_asked(&format!("udp A {often}."), 5).await.unwrap();
        }
        server.until_asked("udp A beside.test.", 10).await.unwrap();
        if let Some(once) = once {
            let asked = ["A", "AAAA"].map(|kind| server.asked(&format!("udp {kind} {once}.")));
            assert_eq!(asked, [1, 1], "{keys}: {:?}", server.questions());
        }
    }
}

/// The TTL of an alias counts too.
#[tokio::test(flavor = "multi_thread")]
async fn the_shortest_ttl_of_an_answer_counts() {
    let backends = neighbours(1).await.unwrap();
    let zone = "alias.test. 0 IN CNAME host.test.\nhost.test. 3600 IN A 127.0.0.1";
    let server = DnsServer::start(zone).unwrap();
    let gateway = setup(&server, QUICK, [host("alias.test", backends[0].address.port())]).start(1).unwrap();
    server.until_asked("udp A alias.test.", 5).await.unwrap();
    assert_eq!(shares(&client(&gateway).await, &backends, 3).await, [3]);
}

/// New calls go to the new endpoint; a call that is open ends where it is, and then its connection does.
#[tokio::test(flavor = "multi_thread")]
async fn calls_follow_a_new_answer() {
    for kind in ["StrictDNS", "LogicalDns"] {
        let backends = neighbours(2).await.unwrap();
        let server = DnsServer::start("backend.test. 0 IN A 127.0.0.1").unwrap();
        let keys = format!("type: {kind}, lb_policy: RoundRobin, {QUICK}, {}", server.key());
        let setup = Setup::new().admin().route("prefix: /", "named");
        let endpoint = host("backend.test", backends[0].address.port());
        let gateway = setup.cluster_of("named", &keys, [endpoint]).start(1).unwrap();
        let client = client(&gateway).await;
        let mut held = client.script("hold").await.unwrap();
        held.headers().await.unwrap();
        assert_eq!(shares(&client, &backends, 3).await, [3, 0], "{kind}");
        server.set("backend.test. 0 IN A 127.0.0.2").unwrap();
        settles(&client, &backends, &[0, 4]).await;
        backends[0].release();
        assert_eq!(held.answer().await.unwrap().status(), Some(0), "{kind}");
        backends[0].until("no connection", |seen| seen.connected == 0).await.unwrap();
    }
}

/// Servers turn the order of their answers, which is no reason to leave a backend that is still among them.
#[tokio::test(flavor = "multi_thread")]
async fn logical_stays_with_its_address_while_that_is_in_the_answer() {
    let backends = neighbours(2).await.unwrap();
    let (one, two) = ("backend.test. 0 IN A 127.0.0.1\n", "backend.test. 0 IN A 127.0.0.2\n");
    let server = DnsServer::start(one).unwrap();
    let keys = format!("type: LogicalDns, lb_policy: RoundRobin, {QUICK}, {}", server.key());
    let setup = Setup::new().admin().route("prefix: /", "named");
    let gateway =
        setup.cluster_of("named", &keys, [host("backend.test", backends[0].address.port())]).start(1).unwrap();
    let client = client(&gateway).await;
    server.set(&format!("{two}{one}")).unwrap();
    let asked = server.asked("udp A backend.test.");
    server.until_asked("udp A backend.test.", asked + 3).await.unwrap();
    assert_eq!(shares(&client, &backends, 4).await, [4, 0]);
    server.set(two).unwrap();
    settles(&client, &backends, &[0, 4]).await;
}

/// A failure is no answer: what was known before stays, calls never notice, and the next answer counts.
#[tokio::test(flavor = "multi_thread")]
async fn last_good_answer_outlives_failures() {
    for code in ["SERVFAIL", "REFUSED", "FORMERR"] {
        let backends = neighbours(2).await.unwrap();
        let server = DnsServer::start("backend.test. 0 IN A 127.0.0.1").unwrap();
        let gateway = setup(&server, QUICK, [host("backend.test", backends[0].address.port())]).start(1).unwrap();
        let client = client(&gateway).await;
        assert_eq!(shares(&client, &backends, 2).await, [2, 0], "{code}");
        server.set(&format!("!{code} backend.test. A\n!{code} backend.test. AAAA")).unwrap();
        said(&gateway, &[FAILED, "cluster=named name=backend.test"]);
        let failures = "weir_dns_lookups_total{cluster=\"named\",result=\"failure\"}";
        gateway.wait_metric(failures, |failures| failures >= 5.0).await.unwrap();
        assert_eq!(shares(&client, &backends, 5).await, [5, 0], "{code}");
        server.set("backend.test. 0 IN A 127.0.0.2").unwrap();
        settles(&client, &backends, &[0, 4]).await;
        said(&gateway, &[WORKS, "cluster=named name=backend.test"]);
    }
}

/// A family whose question fails keeps its addresses, whatever the other says.
#[tokio::test(flavor = "multi_thread")]
async fn half_an_answer_takes_nothing_away() {
    let v4 = Backend::start().await.unwrap();
    let port = v4.address.port();
    let backends = [v4, Backend::start_on(SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port))).await.unwrap()];
    let server = DnsServer::start("backend.test. 0 IN A 127.0.0.1\nbackend.test. 0 IN AAAA ::1").unwrap();
    let gateway = setup(&server, QUICK, [host("backend.test", port)]).start(1).unwrap();
    let client = client(&gateway).await;
    assert_eq!(shares(&client, &backends, 4).await, [2, 2]);
    server.set("!SERVFAIL backend.test. A\nbackend.test. 0 IN AAAA ::1").unwrap();
    said(&gateway, &[FAILED]);
    assert_eq!(shares(&client, &backends, 4).await, [2, 2]);
}

/// The server answers nothing, and then is no longer there.
#[tokio::test(flavor = "multi_thread")]
async fn last_good_answer_outlives_the_server() {
    let backends = neighbours(1).await.unwrap();
    let server = DnsServer::start("backend.test. 0 IN A 127.0.0.1").unwrap();
    let gateway = setup(&server, QUICK, [host("backend.test", backends[0].address.port())]).start(1).unwrap();
    let client = client(&gateway).await;
    drop(server);
    said(&gateway, &[FAILED, "no answer in 5s"]);
    assert_eq!(shares(&client, &backends, 5).await, [5]);
    let failures = "weir_dns_lookups_total{cluster=\"named\",result=\"failure\"}";
    gateway.wait_metric(failures, |failures| failures >= 1.0).await.unwrap();
    assert_eq!(shares(&client, &backends, 5).await, [5]);
    let page = clusters(&gateway).await;
    assert!(page.contains("\"last_failure\": \"127.0.0.1:") && page.contains("\"next_lookup\": \""), "{page}");
}

/// Said once, it may be a mistake; said twice in a row, it is an answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_gone_twice_loses_its_endpoints() {
    for (once, gone) in [
        ("!NXDOMAIN backend.test. A 1\n!NXDOMAIN backend.test. AAAA 1", ""),
        ("!NOERROR backend.test. A 1\n!NOERROR backend.test. AAAA 1", "backend.test. 0 IN TXT nothing"),
    ] {
        let backends = neighbours(1).await.unwrap();
        let good = "backend.test. 0 IN A 127.0.0.1";
        let server = DnsServer::start(good).unwrap();
        let gateway = setup(&server, QUICK, [host("backend.test", backends[0].address.port())]).start(1).unwrap();
        let client = client(&gateway).await;
        server.set(&format!("{once}\n{good}")).unwrap();
        said(&gateway, &[FAILED]);
        said(&gateway, &[WORKS]);
        assert_eq!(shares(&client, &backends, 5).await, [5], "{gone}");
        assert!(!gateway.process.lines().iter().any(|line| line.contains(GONE)), "{gone}");

        server.set(gone).unwrap();
        said(&gateway, &[GONE, "cluster=named name=backend.test"]);
        let none = async || {
            let answer = client.call(METHOD, &[]).await?;
            Ok((answer.status() == Some(14) && answer.message() == "cluster named: it has no endpoints").then_some(()))
        };
        eventually("no endpoint", none).await.unwrap();
        let empty = "weir_dns_lookups_total{cluster=\"named\",result=\"empty\"}";
        gateway.wait_metric(empty, |empty| empty >= 3.0).await.unwrap();

        server.set(good).unwrap();
        let back = async || Ok((client.call(METHOD, &[]).await?.status() == Some(0)).then_some(()));
        eventually("the endpoint is back", back).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_long_for_udp_comes_by_tcp() {
    let zone: String = (1..=60).map(|host| format!("backend.test. 60 IN A 127.0.1.{host}\n")).collect();
    let server = DnsServer::start(&zone).unwrap();
    let gateway = setup(&server, QUICK, [host("backend.test", 1)]).start(1).unwrap();
    let page = clusters(&gateway).await;
    assert_eq!(page.matches("\"address\": \"127.0.1.").count(), 60, "{page}");
    assert_eq!((server.asked("udp A backend.test."), server.asked("tcp A backend.test.")), (1, 1));
}

/// A question is asked only where its answer is wanted.
#[tokio::test(flavor = "multi_thread")]
async fn families_are_asked_for_as_they_are_wanted() {
    let v4 = Backend::start().await.unwrap();
    let port = v4.address.port();
    let backends = [v4, Backend::start_on(SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port))).await.unwrap()];
    let (v4, v6) = ("backend.test. 60 IN A 127.0.0.1\n", "backend.test. 60 IN AAAA ::1\n");
    for (family, zone, expected, asked) in [
        ("ALL", [v4, v6].concat(), [2, 2], [1, 1]),
        ("V4_ONLY", [v4, v6].concat(), [4, 0], [1, 0]),
        ("V6_ONLY", [v4, v6].concat(), [0, 4], [0, 1]),
        ("V4_PREFERRED", [v4, v6].concat(), [4, 0], [1, 0]),
        ("V6_PREFERRED", [v4, v6].concat(), [0, 4], [0, 1]),
        ("V4_PREFERRED", v6.to_owned(), [0, 4], [1, 1]),
        ("V6_PREFERRED", v4.to_owned(), [4, 0], [1, 1]),
        ("ALL", v4.to_owned(), [4, 0], [1, 1]),
    ] {
        let server = DnsServer::start(&zone).unwrap();
        let keys = format!("dns_lookup_family: {family}");
        let gateway = setup(&server, &keys, [host("backend.test", port)]).start(1).unwrap();
        assert_eq!(shares(&client(&gateway).await, &backends, 4).await, expected, "{family} {zone}");
        for (question, times) in ["udp A backend.test.", "udp AAAA backend.test."].into_iter().zip(asked) {
            server.until_asked(question, times).await.unwrap();
            assert_eq!(server.asked(question), times, "{family} {zone}: {:?}", server.questions());
        }
        assert!(!gateway.process.lines().iter().any(|line| line.contains(FAILED)), "{family} {zone}");
    }
}

/// Ports, weights and hosts come from the records; those of a lower priority get nothing while the best are up.
#[tokio::test(flavor = "multi_thread")]
async fn srv_records_name_hosts_ports_and_weights() {
    let mut backends = Vec::new();
    for _ in 0..4 {
        backends.push(Backend::start().await.unwrap());
    }
    let ports: Vec<u16> = backends.iter().map(|backend| backend.address.port()).collect();
    let record = |priority: u16, weight: u16, port: u16, target: &str| {
        format!("_grpc._tcp.orders.test. 0 IN SRV {priority} {weight} {port} {target}\n")
    };
    let hosts = "a.test. 0 IN A 127.0.0.1\nb.test. 0 IN A 127.0.0.1\n";
    let zone = [
        record(5, 3, ports[0], "a.test."),
        record(5, 0, ports[1], "b.test."),
        record(9, 5, ports[2], "a.test."),
        hosts.to_owned(),
    ];
    let server = DnsServer::start(&zone.concat()).unwrap();
    let keys = format!("lb_policy: WeightedRoundRobin, {QUICK}");
    let gateway = setup(&server, &keys, [service("_grpc._tcp.orders.test")]).start(1).unwrap();
    let client = client(&gateway).await;
    assert_eq!(shares(&client, &backends, 8).await, [6, 2, 0, 0]);
    let page = clusters(&gateway).await;
    assert!(page.contains("\"name\": \"_grpc._tcp.orders.test\""), "{page}");

    // Another port, and another weight.
    server.set(&[&record(5, 1, ports[3], "b.test."), &record(5, 1, ports[0], "a.test."), hosts].concat()).unwrap();
    settles(&client, &backends, &[4, 0, 0, 4]).await;
    // What is best is gone, and what was second is best.
    server.set(&[&record(9, 5, ports[2], "a.test."), hosts].concat()).unwrap();
    settles(&client, &backends, &[0, 0, 4, 0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_priority_of_srv_records_takes_over() {
    let mut backends = vec![Backend::start().await.unwrap(), Backend::start().await.unwrap()];
    let ports: Vec<u16> = backends.iter().map(|backend| backend.address.port()).collect();
    let zone = format!(
        "_grpc._tcp.orders.test. 0 IN SRV 2 1 {} a.test.\n_grpc._tcp.orders.test. 0 IN SRV 1 1 {} a.test.\n\
         a.test. 0 IN A 127.0.0.1\n",
        ports[0], ports[1]
    );
    let server = DnsServer::start(&zone).unwrap();
    let gateway = setup(&server, QUICK, [service("_grpc._tcp.orders.test")]).start(1).unwrap();
    let client = client(&gateway).await;
    assert_eq!(shares(&client, &backends, 4).await, [0, 4]);
    drop(backends.pop());
    // A call that is sent meanwhile may have been processed, and is not made again.
    gateway.wait_metric("weir_upstream_connections{cluster=\"named\"}", |open| open == 0.0).await.unwrap();
    assert_eq!(shares(&client, &backends, 4).await, [4]);
}

/// More hosts than are asked for at once.
#[tokio::test(flavor = "multi_thread")]
async fn srv_records_may_name_many_hosts() {
    let line = |host: u8| {
        format!("_grpc._tcp.orders.test. 60 IN SRV 0 1 1 h{host}.test.\nh{host}.test. 60 IN A 127.0.1.{host}\n")
    };
    let server = DnsServer::start(&(1..=100).map(line).collect::<String>()).unwrap();
    let gateway = setup(&server, QUICK, [service("_grpc._tcp.orders.test")]).start(1).unwrap();
    let page = clusters(&gateway).await;
    assert_eq!(page.matches("\"address\": \"127.0.1.").count(), 100, "{page}");
    assert!(!gateway.process.lines().iter().any(|line| line.contains(FAILED)));
}

/// The records stay, and their hosts move: to other addresses, out of reach, and away.
#[tokio::test(flavor = "multi_thread")]
async fn targets_of_srv_records_are_followed() {
    let backends = neighbours(2).await.unwrap();
    let port = backends[0].address.port();
    let records = format!(
        "_grpc._tcp.orders.test. 0 IN SRV 0 1 {port} a.test.\n_grpc._tcp.orders.test. 0 IN SRV 0 1 {port} b.test.\n"
    );
    let with = |hosts: &str| format!("{records}{hosts}");
    let server = DnsServer::start(&with("a.test. 3600 IN A 127.0.0.1\nb.test. 3600 IN A 127.0.0.1")).unwrap();
    let gateway = setup(&server, QUICK, [service("_grpc._tcp.orders.test")]).start(1).unwrap();
    let client = client(&gateway).await;
    assert_eq!(shares(&client, &backends, 4).await, [4, 0]);
    server.set(&with("a.test. 0 IN A 127.0.0.1\nb.test. 0 IN A 127.0.0.2")).unwrap();
    settles(&client, &backends, &[2, 2]).await;

    // One cannot be asked for: it stays, and the other is followed.
    server.set(&with("a.test. 0 IN A 127.0.0.1\n!SERVFAIL b.test. A\n!SERVFAIL b.test. AAAA")).unwrap();
    said(&gateway, &[FAILED, "name=_grpc._tcp.orders.test"]);
    assert_eq!(shares(&client, &backends, 4).await, [2, 2]);
    // It does not exist: the other serves alone.
    server.set(&with("a.test. 0 IN A 127.0.0.1")).unwrap();
    settles(&client, &backends, &[4, 0]).await;
    // "." says that there is no such service.
    server.set("_grpc._tcp.orders.test. 0 IN SRV 0 0 0 .").unwrap();
    said(&gateway, &[GONE, "its SRV records lead to no host"]);
}

/// A server that says nothing delays the start by five seconds, and what others know by nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_without_an_answer_holds_up_no_other() {
    let backends = neighbours(2).await.unwrap();
    let port = backends[0].address.port();
    let silent = "!SILENT slow.test. A\n!SILENT slow.test. AAAA\n";
    let server = DnsServer::start(&format!("{silent}quick.test. 0 IN A 127.0.0.1")).unwrap();
    let slow = format!("type: StrictDNS, lb_policy: RoundRobin, {QUICK}, {}", server.key());
    let gateway = setup(&server, QUICK, [host("slow.test", port), host("quick.test", port)])
        .route("prefix: /test.Alone", "slow")
        .cluster_of("slow", &slow, [host("slow.test", port)])
        .start(1)
        .unwrap();
    said(&gateway, &[FAILED, "cluster=named name=slow.test", "no answer in 5s"]);
    let client = client(&gateway).await;
    assert_eq!(shares(&client, &backends, 3).await, [3, 0]);
    server.set(&format!("{silent}quick.test. 0 IN A 127.0.0.2")).unwrap();
    settles(&client, &backends, &[0, 3]).await;
    let answer = client.call("/test.Alone/Do", &[]).await.unwrap();
    assert_eq!((answer.status(), answer.message()), (Some(14), "cluster slow: it has no endpoints"));

    server.set("slow.test. 0 IN A 127.0.0.1\nquick.test. 0 IN A 127.0.0.2").unwrap();
    let found = async || Ok((client.call("/test.Alone/Do", &[]).await?.status() == Some(0)).then_some(()));
    eventually("the slow name is found", found).await.unwrap();
    settles(&client, &backends, &[2, 2]).await;
}

/// One server that is broken is what the others are for.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_server_is_asked_where_one_fails() {
    let backends = neighbours(1).await.unwrap();
    let broken = DnsServer::start("!SERVFAIL backend.test. A\n!REFUSED backend.test. AAAA").unwrap();
    let whole = DnsServer::start("backend.test. 60 IN A 127.0.0.1").unwrap();
    let keys = format!("type: StrictDNS, dns_resolvers: [{}, {}]", broken.item(), whole.item());
    let setup = Setup::new().route("prefix: /", "named");
    let gateway =
        setup.cluster_of("named", &keys, [host("backend.test", backends[0].address.port())]).start(1).unwrap();
    assert_eq!(shares(&client(&gateway).await, &backends, 2).await, [2]);
    assert_eq!((broken.asked("udp A backend.test."), whole.asked("udp A backend.test.")), (1, 1));
    assert!(!gateway.process.lines().iter().any(|line| line.contains(FAILED)));
}

/// The hosts file goes before DNS, and a short name is searched for, by the system's own files.
#[tokio::test(flavor = "multi_thread")]
async fn names_mean_what_the_files_of_the_system_say() {
    let backends = neighbours(3).await.unwrap();
    let port = backends[0].address.port();
    let zone = "short.ns.test. 60 IN A 127.0.0.2\nlisted.test. 60 IN A 127.0.0.1\na.b. 60 IN A 127.0.0.3";
    let server = DnsServer::start(zone).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name)
    };
    let hosts = file("hosts", "127.0.0.1 listed.test\n");
    let conf = file("resolv.conf", "search none.test ns.test\noptions ndots:1 timeout:1 attempts:1\n");
    let endpoints = [host("short", port), host("listed.test", port), host("a.b", port)];
    let gateway = start_with(&hosts, &conf, &setup(&server, "lb_policy: RoundRobin", endpoints), 1).unwrap();
    assert_eq!(shares(&client(&gateway).await, &backends, 6).await, [2, 2, 2]);
    assert_eq!(server.asked("udp A listed.test."), 0);
    assert_eq!((server.asked("udp A short.none.test."), server.asked("udp A short.")), (1, 0));
    assert_eq!(server.asked("udp A a.b.none.test."), 0);
}

/// The C library finds what it finds.
#[tokio::test(flavor = "multi_thread")]
async fn the_c_library_can_be_asked_instead() {
    let backends = neighbours(2).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (hosts, conf) = (folder.path().join("hosts"), folder.path().join("resolv.conf"));
    std::fs::write(&hosts, "127.0.0.2 backend.test").unwrap();
    std::fs::write(&conf, "").unwrap();
    let keys = "type: StrictDNS, dns_resolver: GETADDRINFO, dns_refresh_rate: 20ms";
    let setup = Setup::new().route("prefix: /", "named");
    let setup = setup.cluster_of("named", keys, [host("backend.test", backends[0].address.port())]);
    let gateway = start_with(&hosts, &conf, &setup, 1).unwrap();
    let client = client(&gateway).await;
    assert_eq!(shares(&client, &backends, 2).await, [0, 2]);
    // As many bytes: no look-up finds half of it.
    std::fs::write(&hosts, "127.0.0.1 backend.test").unwrap();
    settles(&client, &backends, &[3, 0]).await;
}
