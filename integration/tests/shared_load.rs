//! The load that a choice goes by is that of all workers, and of calls that still wait for a connection.

#![allow(clippy::unwrap_used)]

use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::{Backend, DO};
use weir_integration::peers::client::{Client, METHOD, Open};
use weir_integration::peers::setup::Setup;
use weir_integration::peers::{eventually, page};

const ENDPOINTS: usize = 10;

/// Two workers, and one connection to each of them.
struct Skewed {
    gateway: Gateway,
    backends: Vec<Backend>,
    clients: [Client; 2],
    /// Open calls, with the port of the backend that has each.
    held: Vec<(u16, Open)>,
}

impl Skewed {
    /// The first connection has an open call when the second comes, so that the second goes to the other worker.
    async fn start() -> Skewed {
        let backends = Backend::start_many(ENDPOINTS).await.unwrap();
        let addresses = backends.iter().map(|backend| backend.address);
        let gateway = Setup::new()
            .admin()
            .listener("http2: {max_concurrent_streams: 2000}")
            .route("prefix: /", "c")
            .cluster("c", "lb_policy: LeastRequest, http2: {max_streams_per_connection: 2000}", addresses)
            .start(2)
            .unwrap();
        let address = gateway.listener("grpc").unwrap();
        let first = Client::connect(address).await.unwrap();
        let call = held(&first).await;
        let second = Client::connect(address).await.unwrap();
        Skewed { gateway, backends, clients: [first, second], held: vec![call] }
    }

    /// Opens calls on one of the connections, and leaves them open.
    async fn hold(&mut self, client: usize, calls: usize) {
        for _ in 0..calls {
            self.held.push(held(&self.clients[client]).await);
        }
    }

    /// Cancels the open calls of these backends, and waits until the gateway counts none of them.
    async fn end(&mut self, backends: std::ops::Range<usize>) {
        let admin = self.gateway.admin().unwrap();
        let ports: Vec<u16> = self.backends[backends].iter().map(|backend| backend.address.port()).collect();
        self.held.retain(|(port, _)| !ports.contains(port));
        for port in ports {
            let series = format!("weir_endpoint_open_streams{{cluster=\"c\",endpoint=\"127.0.0.1:{port}\"}}");
            let none = async || Ok((page::metric(admin, &series).await? == Some(0.0)).then_some(()));
            eventually("the backend has no call", none).await.unwrap();
        }
    }

    /// Each endpoint's open calls.
    fn shares(&self) -> Vec<usize> {
        let of = |backend: &Backend| self.held.iter().filter(|(port, _)| *port == backend.address.port()).count();
        self.backends.iter().map(of).collect()
    }

    /// Each backend has connections of two workers: one worker needs one connection, for all that it has fits on that.
    fn both_workers_serve(&self) {
        let connections: Vec<usize> = self.backends.iter().map(|backend| backend.seen().accepted).collect();
        assert_eq!(connections, [2; ENDPOINTS], "{:?}", self.gateway.process.lines());
    }
}

async fn held(client: &Client) -> (u16, Open) {
    let mut open = client.script("hold").await.unwrap();
    let headers = open.headers().await.unwrap();
    (headers["x-from"].to_str().unwrap().parse().unwrap(), open)
}

/// In 20,000 simulations of this the fewest were 98 and the most 102.
fn is_even(shares: &[usize]) -> bool {
    shares.iter().sum::<usize>() == 1000 && shares.iter().all(|held| (95..=105).contains(held))
}

#[tokio::test(flavor = "multi_thread")]
async fn skewed_connections_spread_streams_evenly() {
    let mut skewed = Skewed::start().await;
    for _ in 0..50 {
        skewed.hold(1, 2).await;
        skewed.hold(0, 18).await;
    }
    skewed.held.truncate(1000);
    skewed.both_workers_serve();
    let shares = skewed.shares();
    assert!(is_even(&shares), "{shares:?}");
}

/// What one worker alone has seen would make it spread its own calls evenly, over endpoints that are not evenly busy.
#[tokio::test(flavor = "multi_thread")]
async fn one_worker_makes_up_for_what_another_left_uneven() {
    let mut skewed = Skewed::start().await;
    skewed.hold(0, 499).await;
    skewed.end(0..ENDPOINTS / 2).await;
    let before = skewed.shares();
    let rest = 1000 - skewed.held.len();
    skewed.hold(1, rest).await;
    skewed.both_workers_serve();
    let shares = skewed.shares();
    assert!(is_even(&shares), "{before:?} became {shares:?}");
}

/// Before the first connection is up nothing is open anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_wait_for_the_first_connection_count() {
    let skewed = Skewed::start().await;
    // The second connection's worker has no connection to any backend.
    let mut opened = Vec::new();
    for _ in 0..199 {
        opened.push(skewed.clients[1].open(METHOD, &[(DO, "hold")]).await.unwrap());
    }
    for open in &mut opened {
        open.headers().await.unwrap();
    }
    let shares: Vec<usize> = skewed.backends.iter().map(|backend| backend.seen().calls.len()).collect();
    // By chance alone the share of 20 would differ by 4 or so, and by 8 for some of ten endpoints.
    assert!(shares.iter().all(|calls| (17..=23).contains(calls)), "{shares:?}");
}
