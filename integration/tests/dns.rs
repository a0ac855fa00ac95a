//! Clusters whose endpoints are found by name. The answers come from a hosts file of the test's own, which stands in the
//! place of the machine's in a mount namespace that the gateway has for itself, and no name server is there beside it.
//! Those of a DNS server are in `dns_answers.rs`.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::Backend;
use weir_integration::peers::client::{Client, METHOD};
use weir_integration::peers::dns::start_with;
use weir_integration::peers::names::neighbours;
use weir_integration::peers::setup::Setup;
use weir_integration::peers::{eventually, page};

const NAME: &str = "backend.test";

/// The names that a gateway resolves.
struct Names {
    folder: tempfile::TempDir,
}

/// As long as every hosts file is: a file that neither grows nor shrinks is replaced by one write, and no look-up finds half.
const HOSTS_LENGTH: usize = 1024;

impl Names {
    fn new(lines: &str) -> Names {
        let names = Names { folder: tempfile::tempdir().unwrap() };
        fs::write(names.file(), hosts(lines)).unwrap();
        fs::write(names.folder.path().join("resolv.conf"), "").unwrap();
        names
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("hosts")
    }

    /// Replaces the answers.
    fn set(&self, lines: &str) {
        let file = fs::OpenOptions::new().write(true).open(self.file()).unwrap();
        file.write_all_at(&hosts(lines), 0).unwrap();
    }

    fn start(&self, setup: &Setup, workers: usize) -> Gateway {
        start_with(&self.file(), &self.folder.path().join("resolv.conf"), setup, workers).unwrap()
    }
}

fn hosts(lines: &str) -> Vec<u8> {
    let mut hosts = format!("127.0.0.1 localhost\n{lines}\n").into_bytes();
    assert!(hosts.len() <= HOSTS_LENGTH, "{lines}");
    hosts.resize(HOSTS_LENGTH, b'\n');
    hosts
}

fn cluster(kind: &str, host: &str, port: u16, keys: &str) -> Setup {
    let endpoint = format!("{{socket_address: {{address: {host}, port: {port}}}}}");
    let keys = format!("type: {kind}, lb_policy: RoundRobin{keys}");
    Setup::new().route("prefix: /", "named").cluster_of("named", &keys, [endpoint])
}

async fn client(gateway: &Gateway) -> Client {
    Client::connect(gateway.listener("grpc").unwrap()).await.unwrap()
}

/// How many calls each backend got of these many more.
async fn shares(client: &Client, backends: &[Backend], calls: usize) -> Vec<usize> {
    let before: Vec<usize> = backends.iter().map(|backend| backend.seen().calls.len()).collect();
    for _ in 0..calls {
        let answer = client.call(METHOD, &[]).await.unwrap();
        assert_eq!(answer.status(), Some(0), "{answer:?}");
    }
    backends.iter().zip(before).map(|(backend, before)| backend.seen().calls.len() - before).collect()
}

/// Waits until these many more calls are shared out so.
async fn settles(client: &Client, backends: &[Backend], expected: &[usize]) {
    eventually("the shares", async || {
        let before: Vec<usize> = backends.iter().map(|backend| backend.seen().calls.len()).collect();
        for _ in 0..expected.iter().sum() {
            if client.call(METHOD, &[]).await?.status() != Some(0) {
                return Ok(None);
            }
        }
        let now = backends.iter().map(|backend| backend.seen().calls.len());
        let shares: Vec<usize> = now.zip(before).map(|(now, before)| now - before).collect();
        Ok((shares == expected).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn localhost_is_found() {
    let backend = Backend::start().await.unwrap();
    for kind in ["StrictDNS", "LogicalDns", "strictdns", "Static"] {
        let gateway = cluster(kind, "localhost", backend.address.port(), "").start(1).unwrap();
        assert_eq!(client(&gateway).await.call(METHOD, &[]).await.unwrap().status(), Some(0), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_domain_of_an_endpoint_is_one() {
    let backends = neighbours(2).await.unwrap();
    let port = backends[0].address.port();
    let names = Names::new("127.0.0.1 one.test\n127.0.0.2 two.test");
    let endpoint = format!("{{name: pair, socket_address: {{domains: [one.test, two.test], port: {port}}}}}");
    let setup = Setup::new().admin().route("prefix: /", "named");
    let keys = "type: StrictDNS, lb_policy: RoundRobin, dns_refresh_rate: 20ms";
    let gateway = names.start(&setup.cluster_of("named", keys, [endpoint]), 1);
    settles(&client(&gateway).await, &backends, &[5, 5]).await;
    let page = page::get(gateway.admin().unwrap(), "/clusters").await.unwrap();
    assert_eq!(page.body.matches(r#""name": "pair""#).count(), 2, "{}", page.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_takes_every_address_and_logical_the_first() {
    let backends = neighbours(3).await.unwrap();
    let names = Names::new(&format!("127.0.0.1 {NAME}\n127.0.0.2 {NAME}\n127.0.0.3 {NAME}"));
    let port = backends[0].address.port();
    let gateway = names.start(&cluster("StrictDNS", NAME, port, ""), 1);
    assert_eq!(shares(&client(&gateway).await, &backends, 30).await, [10, 10, 10]);

    let gateway = names.start(&cluster("LogicalDns", NAME, port, ""), 1);
    let mut shares = shares(&client(&gateway).await, &backends, 30).await;
    shares.sort_unstable();
    assert_eq!(shares, [0, 0, 30]);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_follow_a_change_of_the_answer() {
    for (kind, workers) in [("StrictDNS", 1), ("StrictDNS", 2), ("LogicalDns", 1)] {
        let backends = neighbours(2).await.unwrap();
        let names = Names::new(&format!("127.0.0.1 {NAME}"));
        let setup = cluster(kind, NAME, backends[0].address.port(), ", dns_refresh_rate: 20ms").admin();
        let gateway = names.start(&setup, workers);
        let client = client(&gateway).await;
        // A call that is open goes on where it is.
        let mut held = client.script("hold").await.unwrap();
        held.headers().await.unwrap();
        assert_eq!(shares(&client, &backends, 5).await, [5, 0], "{kind}");

        names.set(&format!("127.0.0.2 {NAME}"));
        eventually("the new endpoint gets calls", async || {
            Ok((shares(&client, &backends, 4).await == [0, 4]).then_some(()))
        })
        .await
        .unwrap();
        backends[0].release();
        assert_eq!(held.answer().await.unwrap().status(), Some(0), "{kind}");
        // Its last stream has ended, and nothing keeps the connection.
        backends[0].until("no connection", |seen| seen.connected == 0).await.unwrap();
    }
}

/// The endpoint accepts and never speaks, and then DNS names another.
#[tokio::test(flavor = "multi_thread")]
async fn call_that_waits_for_an_endpoint_that_leaves_goes_to_the_new_one() {
    let mut backends = neighbours(2).await.unwrap();
    let old = backends.remove(0).address;
    // The port is free once the backend's task has let go of it.
    let mute = eventually("the port is free", async || Ok(std::net::TcpListener::bind(old).ok())).await.unwrap();
    let names = Names::new(&format!("127.0.0.1 {NAME}"));
    let keys = ", connect_timeout: 10m, dns_refresh_rate: 20ms";
    let gateway = names.start(&cluster("StrictDNS", NAME, old.port(), keys).admin(), 1);
    let client = client(&gateway).await;
    let mut waits = client.open(METHOD, &[]).await.unwrap();
    waits.message(b"abc", true).unwrap();
    gateway.wait_metric("weir_calls_waiting{cluster=\"named\"}", |calls| calls == 1.0).await.unwrap();

    names.set(&format!("127.0.0.2 {NAME}"));
    // No other call has to come for that.
    assert_eq!(waits.answer().await.unwrap().status(), Some(0));
    assert_eq!(backends[0].seen().calls.len(), 1);
    drop(mute);
}

#[tokio::test(flavor = "multi_thread")]
async fn last_good_answer_stays_when_dns_fails() {
    let backends = neighbours(1).await.unwrap();
    let names = Names::new(&format!("127.0.0.1 {NAME}"));
    let setup = cluster("StrictDNS", NAME, backends[0].address.port(), ", dns_refresh_rate: 20ms");
    let gateway = names.start(&setup, 1);
    let client = client(&gateway).await;
    assert_eq!(shares(&client, &backends, 1).await, [1]);
    names.set("");
    let told = |line: &str| line.contains("DNS look-up failed; keeping the endpoints").then(|| line.to_owned());
    let line = gateway.process.wait_line("a warning", told).unwrap();
    assert!(line.contains("cluster=named"), "{line}");
    assert_eq!(shares(&client, &backends, 5).await, [5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn name_that_is_found_later_is_used_then() {
    let backends = neighbours(1).await.unwrap();
    let names = Names::new("");
    let setup = cluster("StrictDNS", NAME, backends[0].address.port(), ", dns_refresh_rate: 20ms");
    let gateway = names.start(&setup, 1);
    let client = client(&gateway).await;
    let answer = client.call(METHOD, &[]).await.unwrap();
    assert_eq!((answer.status(), answer.message()), (Some(14), "cluster named: it has no endpoints"));
    names.set(&format!("127.0.0.1 {NAME}"));
    eventually("the endpoint is found", async || {
        Ok((client.call(METHOD, &[]).await?.status() == Some(0)).then_some(()))
    })
    .await
    .unwrap();
}

/// A name that cannot be found takes nothing from those that can, and comes in when it is found.
#[tokio::test(flavor = "multi_thread")]
async fn each_name_stands_for_itself() {
    let backends = neighbours(2).await.unwrap();
    let port = backends[0].address.port();
    let names = Names::new("127.0.0.1 good.test");
    let endpoint = |name: &str| format!("{{socket_address: {{address: {name}, port: {port}}}}}");
    let setup = Setup::new().route("prefix: /", "named").cluster_of(
        "named",
        "type: StrictDNS, lb_policy: RoundRobin, dns_refresh_rate: 20ms",
        [endpoint("late.test"), endpoint("good.test")],
    );
    let gateway = names.start(&setup, 1);
    let said = |word: &str, name: &str| {
        let all = [word.to_owned(), format!("cluster=named name={name}")];
        let line = |line: &str| all.iter().all(|one| line.contains(one)).then_some(());
        gateway.process.wait_line(word, line).unwrap();
    };
    said("DNS look-up failed", "late.test");
    let client = client(&gateway).await;
    settles(&client, &backends, &[4, 0]).await;

    names.set("127.0.0.1 good.test\n127.0.0.2 late.test");
    said("DNS look-up works again", "late.test");
    settles(&client, &backends, &[2, 2]).await;

    // The one that fails now keeps its endpoint, the other follows its name.
    names.set("127.0.0.1 late.test");
    said("DNS look-up failed", "good.test");
    settles(&client, &backends, &[4, 0]).await;
}

/// A cluster without endpoints does not wait for its interval.
#[tokio::test(flavor = "multi_thread")]
async fn empty_cluster_asks_again_soon() {
    let backends = neighbours(1).await.unwrap();
    let names = Names::new("");
    let setup = cluster("StrictDNS", NAME, backends[0].address.port(), ", dns_refresh_rate: 1h");
    let gateway = names.start(&setup, 1);
    let client = client(&gateway).await;
    names.set(&format!("127.0.0.1 {NAME}"));
    eventually("the endpoint is found", async || {
        Ok((client.call(METHOD, &[]).await?.status() == Some(0)).then_some(()))
    })
    .await
    .unwrap();
}

/// One name with an address of each family: which of them gets the calls is the family's to say.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_of_the_family_that_was_asked_for() {
    let v4 = Backend::start().await.unwrap();
    let port = v4.address.port();
    let v6 = Backend::start_on(SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port))).await.unwrap();
    let backends = [v4, v6];
    let both = format!("127.0.0.1 {NAME}\n::1 {NAME}");
    let (only_v4, only_v6) = (format!("127.0.0.1 {NAME}"), format!("::1 {NAME}"));
    for (kind, family, names, expected) in [
        ("StrictDNS", "ALL", &both, [2, 2]),
        ("StrictDNS", "V4_ONLY", &both, [4, 0]),
        ("StrictDNS", "v6_only", &both, [0, 4]),
        ("StrictDNS", "V4_PREFERRED", &both, [4, 0]),
        ("StrictDNS", "V6_PREFERRED", &both, [0, 4]),
        ("StrictDNS", "V4_PREFERRED", &only_v6, [0, 4]),
        ("StrictDNS", "V6_PREFERRED", &only_v4, [4, 0]),
        ("LogicalDns", "V4_ONLY", &both, [4, 0]),
        ("LogicalDns", "V6_PREFERRED", &both, [0, 4]),
    ] {
        let gateway = Names::new(names).start(&cluster(kind, NAME, port, &format!(", dns_lookup_family: {family}")), 1);
        assert_eq!(shares(&client(&gateway).await, &backends, 4).await, expected, "{kind} {family} {names}");
    }
    let gateway = Names::new(&only_v4).start(&cluster("StrictDNS", NAME, port, ", dns_lookup_family: V6_ONLY"), 1);
    let told = |line: &str| line.contains("it has no address of V6_ONLY").then_some(());
    gateway.process.wait_line("why there is no endpoint", told).unwrap();
    assert_eq!(client(&gateway).await.call(METHOD, &[]).await.unwrap().status(), Some(14));
}
