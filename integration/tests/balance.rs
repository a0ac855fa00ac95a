//! Which endpoint of a cluster a call goes to.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::{Backend, DO};
use weir_integration::peers::client::{Client, METHOD};
use weir_integration::peers::setup::Setup;

/// Connections that calls are spread over, so that every worker gets some.
const CONNECTIONS: usize = 4;

struct Balanced {
    gateway: Gateway,
    clients: Vec<Client>,
    backends: Vec<Backend>,
}

/// Calls by the port that answered.
type Shares = BTreeMap<u16, usize>;

impl Balanced {
    async fn start(keys: &str, endpoints: usize, workers: usize) -> Balanced {
        let backends = Backend::start_many(endpoints).await.unwrap();
        let setup = |setup: Setup| setup.cluster("c", keys, backends.iter().map(|backend| backend.address));
        Balanced::over(setup, workers, Vec::new()).await.with(backends)
    }

    /// Weights, one an endpoint; 0 for none.
    async fn weighted(keys: &str, weights: &[usize], workers: usize) -> Balanced {
        let backends = Backend::start_many(weights.len()).await.unwrap();
        let endpoint = |(backend, weight): (&Backend, &usize)| {
            let meta = if *weight == 0 { String::new() } else { format!(", meta: {{weight: {weight}}}") };
            format!("{{socket_address: {{address: 127.0.0.1, port: {}}}{meta}}}", backend.address.port())
        };
        let setup = |setup: Setup| setup.cluster_of("c", keys, backends.iter().zip(weights).map(endpoint));
        Balanced::over(setup, workers, Vec::new()).await.with(backends)
    }

    async fn over(cluster: impl FnOnce(Setup) -> Setup, workers: usize, backends: Vec<Backend>) -> Balanced {
        let gateway = cluster(Setup::new().route("prefix: /", "c")).start(workers).unwrap();
        let address = gateway.listener("grpc").unwrap();
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(Client::connect(address).await.unwrap());
        }
        Balanced { gateway, clients, backends }
    }

    fn with(mut self, backends: Vec<Backend>) -> Balanced {
        self.backends = backends;
        self
    }

    fn ports(&self) -> Vec<u16> {
        self.backends.iter().map(|backend| backend.address.port()).collect()
    }

    /// Makes calls in turn over the connections.
    async fn shares(&self, calls: usize, key: impl Fn(usize) -> (String, String)) -> Shares {
        let mut shares: Shares = self.ports().into_iter().map(|port| (port, 0)).collect();
        for call in 0..calls {
            let (path, user) = key(call);
            let metadata: &[(&str, &str)] = if user.is_empty() { &[] } else { &[("x-user", &user)] };
            let answer = self.clients[call % self.clients.len()].call(&path, metadata).await.unwrap();
            assert_eq!(answer.status(), Some(0), "{answer:?}; {:?}", self.gateway.process.lines());
            *shares.get_mut(&answer.from().unwrap()).unwrap() += 1;
        }
        shares
    }
}

/// No key: what does not hash does not ask for one.
fn plain(_: usize) -> (String, String) {
    (METHOD.to_owned(), String::new())
}

#[tokio::test(flavor = "multi_thread")]
async fn round_robin_is_even() {
    for (spelling, workers) in [("RoundRobin", 1), ("ROUND_ROBIN", 2), ("round_robin", 2)] {
        let balanced = Balanced::start(&format!("lb_policy: {spelling}"), 3, workers).await;
        let shares = balanced.shares(60, plain).await;
        // Each worker has a turn of its own, so that two may differ by one each.
        for count in shares.values() {
            assert!(count.abs_diff(20) < workers, "{spelling}, {workers} workers: {shares:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rand_reaches_every_endpoint_in_no_order() {
    for keys in ["lb_policy: Rand", "lb_policy: rand", "lb_policy: lb", ""] {
        let balanced = Balanced::start(keys, 3, 2).await;
        let shares = balanced.shares(150, plain).await;
        // More than five standard deviations.
        assert!(shares.values().all(|count| (20..=80).contains(count)), "`{keys}`: {shares:?}");
        let mut last = None;
        let mut repeats = 0;
        for _ in 0..40 {
            let from = balanced.clients[0].call(METHOD, &[]).await.unwrap().from();
            repeats += usize::from(from == last);
            last = from;
        }
        // In turn there would be none, and without order there are 13 or so.
        assert!(repeats > 0, "`{keys}` is in turn");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_are_shares() {
    let balanced = Balanced::weighted("lb_policy: WeightRandom", &[1, 3, 6], 2).await;
    let shares = balanced.shares(300, plain).await;
    let counts: Vec<usize> = balanced.ports().iter().map(|port| shares[port]).collect();
    for (count, expected) in counts.iter().zip([30, 90, 180]) {
        assert!(count.abs_diff(expected) < 55, "{counts:?}");
    }
    assert!(counts[0] < counts[2], "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unlabelled_weight_is_one() {
    let balanced = Balanced::weighted("lb_policy: WeightRandom", &[0, 9], 1).await;
    let shares = balanced.shares(300, plain).await;
    let few = shares[&balanced.ports()[0]];
    assert!((5..75).contains(&few), "{shares:?}");
    balanced.gateway.process.wait_line("a notice", |line| line.contains("has weight 1").then_some(())).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn least_request_avoids_the_busy_endpoint() {
    for (policy, workers) in [("LeastRequest", 1), ("LeastRequest", 2), ("least_conn", 1)] {
        let balanced = Balanced::start(&format!("lb_policy: {policy}"), 2, workers).await;
        // Opens calls until one endpoint has more than the other, and waits there for all of them.
        let mut held = Vec::new();
        for at in 0..9 {
            let mut open = balanced.clients[at % CONNECTIONS].script("hold").await.unwrap();
            open.headers().await.unwrap();
            held.push(open);
        }
        let open: Vec<usize> = balanced.backends.iter().map(|backend| backend.seen().calls.len()).collect();
        // Each went to the one with fewer: 4 and 5.
        assert_eq!(open.iter().sum::<usize>(), 9);
        assert!(open[0].abs_diff(open[1]) <= 1, "{policy}, {workers} workers: {open:?}");
        let idle = balanced.ports()[usize::from(open[0] > open[1])];
        let shares = balanced.shares(40, plain).await;
        assert_eq!(shares[&idle], 40, "{policy}, {workers} workers: {shares:?} beside {open:?} held");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn least_request_weighs() {
    let balanced = Balanced::weighted("lb_policy: LeastRequest", &[1, 3, 6], 2).await;
    let mut held = Vec::new();
    for at in 0..300 {
        let mut open = balanced.clients[at % CONNECTIONS].script("hold").await.unwrap();
        open.headers().await.unwrap();
        held.push(open);
    }
    let shares: Vec<usize> = balanced.backends.iter().map(|backend| backend.seen().calls.len()).collect();
    for (share, expected) in shares.iter().zip([30_usize, 90, 180]) {
        assert!(share.abs_diff(expected) <= 10, "{shares:?} held with weights 1, 3 and 6");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn weighted_round_robin_is_exact_and_mixed() {
    for spelling in ["WeightedRoundRobin", "weighted_round_robin"] {
        let balanced = Balanced::weighted(&format!("lb_policy: {spelling}"), &[5, 1, 1], 1).await;
        let mut picked = Vec::new();
        for _ in 0..35 {
            picked.extend(balanced.clients[0].call(METHOD, &[]).await.unwrap().from());
        }
        let ports = balanced.ports();
        for round in picked.windows(7) {
            let counts: Vec<usize> =
                ports.iter().map(|port| round.iter().filter(|from| *from == port).count()).collect();
            assert_eq!(counts, [5, 1, 1], "{spelling}: {picked:?}");
        }
        let longest = picked.chunk_by(|one, next| one == next).map(<[u16]>::len).max();
        assert!(longest <= Some(4), "{spelling}: {picked:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hashing_sticks_by_metadata_on_every_worker() {
    for policy in ["RingHashing", "MaglevHashing"] {
        let keys = format!("lb_policy: {policy}, hash_on: {{metadata: x-user}}");
        let balanced = Balanced::start(&keys, 3, 2).await;
        let mut reached = std::collections::BTreeSet::new();
        for user in 0..30 {
            // The path differs with each call and does not count.
            let key = |call: usize| (format!("/pkg.S/M{call}"), format!("user-{user}"));
            let shares = balanced.shares(CONNECTIONS, key).await;
            let owners: Vec<u16> = shares.iter().filter(|(_, count)| **count > 0).map(|(port, _)| *port).collect();
            assert_eq!(owners.len(), 1, "{policy}: user {user} went to {shares:?}");
            reached.extend(owners);
        }
        assert_eq!(reached.len(), 3, "{policy}: 30 users went to {reached:?} alone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hashing_without_the_key_spreads() {
    for policy in ["RingHashing", "MaglevHashing"] {
        let keys = format!("lb_policy: {policy}, hash_on: {{metadata: x-user}}");
        let shares = Balanced::start(&keys, 2, 1).await.shares(100, plain).await;
        assert!(shares.values().all(|count| *count > 10), "{policy}: {shares:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hashing_sticks_by_path() {
    for keys in [
        "lb_policy: RingHashing, hash_on: {path: true}",
        "lb_policy: MaglevHashing, hash_on: {path: true}",
        // As in Pixiu, a file that does not say hashes the path.
        "lb_policy: RingHashing",
        "lb_policy: MaglevHashing",
    ] {
        let balanced = Balanced::start(keys, 3, 2).await;
        let mut reached = std::collections::BTreeSet::new();
        for method in 0..40 {
            let key = |call: usize| (format!("/pkg.S/M{method}"), format!("user-{call}"));
            let shares = balanced.shares(CONNECTIONS, key).await;
            let owners: Vec<u16> = shares.iter().filter(|(_, count)| **count > 0).map(|(port, _)| *port).collect();
            assert_eq!(owners.len(), 1, "{keys}: method {method} went to {shares:?}");
            reached.extend(owners);
        }
        assert_eq!(reached.len(), 3, "{keys}: 40 methods went to {reached:?} alone");
    }
}

/// A large table shares by weight. One of two slots has none for an endpoint whose share is a tenth.
#[tokio::test(flavor = "multi_thread")]
async fn maglev_table_has_the_size_that_was_asked_for() {
    let shares = async |size: usize| {
        let keys = format!(
            "lb_policy: MaglevHashing, hash_on: {{metadata: x-user}}, consistent: {{maglev_table_size: {size}}}"
        );
        let balanced = Balanced::weighted(&keys, &[1, 9], 1).await;
        let shares = balanced.shares(300, |call| (METHOD.to_owned(), format!("user-{call}"))).await;
        shares[&balanced.ports()[0]]
    };
    let (tiny, large) = (shares(2).await, shares(65_537).await);
    assert_eq!(tiny, 0, "of 300 with two slots");
    assert!((5..75).contains(&large), "{large} of 300 with weights 1 and 9");
}

/// A ring on which every endpoint stands once is uneven as chance has it; one on which it stands 1,000 times is not.
#[tokio::test(flavor = "multi_thread")]
async fn ring_has_as_many_points_as_were_asked_for() {
    let spread = async |replicas: usize| {
        let keys =
            format!("lb_policy: RingHashing, hash_on: {{metadata: x-user}}, consistent: {{replica_num: {replicas}}}");
        let balanced = Balanced::start(&keys, 8, 1).await;
        let shares = balanced.shares(800, |call| (METHOD.to_owned(), format!("user-{call}"))).await;
        shares.values().max().unwrap() - shares.values().min().unwrap()
    };
    let (one, many) = (spread(1).await, spread(1000).await);
    // A share of 100 each, give or take a few standard deviations of 9; single points differ by far more.
    assert!(many < 80, "{many} between the largest and the smallest of 8 shares of 800");
    assert!(one > 120, "{one} between the largest and the smallest of 8 shares of 800");
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_that_refuses_connections_is_passed_over_at_once() {
    for workers in [1, 2] {
        let mut balanced = Balanced::start("lb_policy: RoundRobin", 2, workers).await;
        let gone = balanced.backends.remove(0);
        let address = gone.address;
        drop(gone);
        // Every call is answered, though each second one's turn is the endpoint that is gone.
        let shares = balanced.shares(20, plain).await;
        assert_eq!(shares[&balanced.ports()[0]], 20);
        // It comes back, and so do its calls, without a check: a connect in the background says so.
        balanced.backends.insert(0, Backend::start_on(address).await.unwrap());
        let client = &balanced.clients[0];
        weir_integration::peers::eventually("the endpoint gets calls again", async || {
            let answer = client.call(METHOD, &[(DO, "echo")]).await?;
            Ok((answer.from() == Some(address.port())).then_some(()))
        })
        .await
        .unwrap();
    }
}

/// What an endpoint that is gone cannot take goes to all of the others, not to its neighbour.
#[tokio::test(flavor = "multi_thread")]
async fn share_of_an_endpoint_that_is_gone_is_shared_out() {
    for (policy, calls) in [("RoundRobin", 60), ("Rand", 150), ("RingHashing", 150), ("MaglevHashing", 150)] {
        let keys = format!("lb_policy: {policy}, hash_on: {{metadata: x-user}}");
        let mut balanced = Balanced::start(&keys, 4, 1).await;
        drop(balanced.backends.remove(1));
        let shares = balanced.shares(calls, |call| (METHOD.to_owned(), format!("user-{call}"))).await;
        let third = calls / 3;
        let off = if policy == "RoundRobin" { 3 } else { 40 };
        assert!(shares.values().all(|count| count.abs_diff(third) <= off), "{policy}: {shares:?}");
        if policy.ends_with("Hashing") {
            // A key whose endpoint is gone stays with the one that took it over.
            let again = balanced.shares(calls, |call| (METHOD.to_owned(), format!("user-{call}"))).await;
            assert_eq!(again, shares, "{policy}");
        }
    }
}
