use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::Handle as Runtime;
use tokio::time::sleep;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::end::DRAIN_LOOK;
use super::*;
use crate::config::load_text;
use crate::listener::Admission;
use crate::registry::Registry;
use crate::socket::Accepted;

fn plan() -> Plan {
    let anywhere = "{socket_address: {address: 127.0.0.1, port: 0}}";
    let cluster = |name: &str, keys: &str| {
        let endpoint = "{socket_address: {address: localhost, port: 1}}";
        format!("    - {{name: {name}, lb_policy: Rand, {keys}, endpoints: [{endpoint}]}}\n")
    };
    let yaml = format!(
        "workers: 2
admin: {{address: {anywhere}}}
static_resources:
  shutdown_config: {{timeout: 1h, delay: 1h}}
  listeners:
    - name: grpc
      protocol_type: GRPC
      address: {anywhere}
      filter_chains:
        filters:
          - name: dgp.filter.network.grpcconnectionmanager
            config:
              route_config: {{routes: [{{match: {{prefix: /}}, route: {{cluster: named}}}}]}}
              grpc_filters: [{{name: dgp.filter.grpc.proxy}}]
  clusters:
{}{}",
        cluster("named", "type: StrictDNS, health_checks: [{protocol: tcp, interval: 1h}]"),
        cluster("fixed", "type: Static, health_checks: [{protocol: tcp, interval: 1h}]"),
    );
    load_text(&yaml, "test.yaml", &Registry::builtin(), &|_| None).expect("a good configuration")
}

async fn expect_nothing_running() {
    for _ in 0..1000 {
        if Runtime::current().metrics().num_alive_tasks() == 0 {
            return;
        }
        sleep(DRAIN_LOOK).await;
    }
    panic!("{} tasks go on", Runtime::current().metrics().num_alive_tasks());
}

#[tokio::test]
async fn a_start_that_fails_leaves_nothing_running() {
    let mut plan = plan();
    // No configuration leads here: what makes a worker panic is a bug.
    plan.listeners[0].routes[0].cluster = 7;
    let error = Gateway::start(plan).await.expect_err("a worker cannot start");
    assert_eq!(error.to_string(), "a worker cannot start: worker 0 panicked while it started");
    expect_nothing_running().await;
}

#[tokio::test]
async fn reloads_leave_no_task_behind() {
    let mut gateway = Gateway::start(plan()).await.expect("a start");
    let tasks = || Runtime::current().metrics().num_alive_tasks();
    let (before, mut after) = (tasks(), 0);
    for at in 0..30_u64 {
        let mut next = plan();
        // Its names stay, its checks begin anew.
        next.clusters[0].connect_timeout = Duration::from_secs(1 + at % 2);
        // Another cluster each time, and now and then other names for the first.
        next.clusters[1].name = format!("fixed-{at}").into();
        next.clusters[0].discovery = plan().clusters[usize::from(at % 3 == 0)].discovery.clone();
        let reloaded = gateway.reload(Ok(next)).await.expect("a reload");
        assert_eq!(reloaded.version, at + 2);
        after = tasks();
    }
    for _ in 0..1000 {
        if after <= before {
            return;
        }
        sleep(DRAIN_LOOK).await;
        after = tasks();
    }
    panic!("{before} tasks became {after}");
}

#[tokio::test]
async fn a_gateway_that_is_dropped_leaves_nothing_running() {
    drop(Gateway::start(plan()).await.expect("a start"));
    expect_nothing_running().await;
}

#[tokio::test]
async fn a_drain_that_is_forced_in_its_delay_closes_everything() {
    let gateway = Gateway::start(plan()).await.expect("a start");
    let (listener, admin) = (ip(&gateway.listeners()[0].1), ip(gateway.admin_address().expect("an admin listener")));
    let late = TcpStream::connect(listener).await.expect("a connection");
    let drained = gateway.drain(std::future::ready(())).await;
    assert_eq!(drained, Drained { cut: 0 });
    for address in [listener, admin] {
        assert!(TcpStream::connect(address).await.is_err(), "{address} still accepts");
    }
    expect_nothing_running().await;
    drop(late);
}

#[tokio::test]
async fn no_connection_goes_to_a_worker_that_is_dead() {
    let gateway = Gateway::start(plan()).await.expect("a start");
    let (address, workers) = (ip(&gateway.listeners()[0].1), gateway.state.load().workers.clone());
    for (dead, worker) in workers.iter().enumerate() {
        kill(worker).await;
        for _ in 0..4 {
            let mut socket = TcpStream::connect(address).await.expect("a connection");
            // The write may fail as the read would, where nobody is there.
            let _ = socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
            let spoken = socket.read_u8().await;
            assert_eq!(spoken.is_ok(), dead == 0, "with {} dead", dead + 1);
            if dead > 0 {
                break;
            }
        }
    }
    let mut gateway = gateway;
    gateway.listening.remove(0).ended().await;
    assert!(TcpStream::connect(address).await.is_err(), "the listener is still open");
}

fn ip(address: &Address) -> SocketAddr {
    address.ip().expect("a port")
}

/// A connection of a listener that does not exist is a bug that nobody catches.
async fn kill(worker: &Handle) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let socket = std::net::TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
    let peer = socket.peer_addr().expect("its peer");
    socket.set_nonblocking(true).expect("a socket");
    let place = Arc::new(Admission::new(Default::default(), None)).admit(peer.into()).expect("a place");
    worker.serve(99, Accepted::Tcp(socket), peer.into(), place);
    while worker.is_alive() {
        sleep(DRAIN_LOOK).await;
    }
}
