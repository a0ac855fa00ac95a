//! Any bytes from a client, through a whole gateway.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::config::load_text;
use crate::gateway::Gateway;
use crate::registry::Registry;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Longer than a gateway ever takes to say something to a client that speaks.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whatever a client sends, with the preface before it or without: its connection ends once it has, and the next client is
/// served.
///
/// # Panics
///
/// When it is not, or when a worker panics.
pub fn connection(bytes: &[u8]) {
    static RUNNING: OnceLock<(SocketAddr, Mutex<(Gateway, Runtime)>)> = OnceLock::new();
    let address = RUNNING.get_or_init(start).0;
    let Some((first, rest)) = bytes.split_first() else { return };
    let mut socket = connect(address);
    if first % 8 > 0 {
        let _ = socket.write_all(PREFACE);
        let _ = socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    }
    let _ = socket.write_all(rest);
    let _ = socket.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    match socket.read_to_end(&mut answer) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
            panic!("a connection does not end: {error}")
        }
        _ => {}
    }
    serves(address);
}

/// A PING is answered.
fn serves(address: SocketAddr) {
    let mut socket = connect(address);
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    socket.write_all(&[PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0], &ping].concat()).expect("the next client can write");
    let mut seen: Vec<u8> = Vec::new();
    let mut chunk = [0; 256];
    while !seen.windows(8).any(|window| window == [1, 2, 3, 4, 5, 6, 7, 8]) {
        let read = socket.read(&mut chunk).expect("the next client is answered");
        assert!(read > 0, "the next client's connection is closed");
        seen.extend(&chunk[..read]);
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("the gateway listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time that is not zero");
    socket.set_nodelay(true).expect("a socket");
    socket
}

/// A gateway that lives as long as the process.
fn start() -> (SocketAddr, Mutex<(Gateway, Runtime)>) {
    let yaml = "workers: 1
static_resources:
  listeners:
    - name: grpc
      protocol_type: GRPC
      address: {socket_address: {address: 127.0.0.1, port: 0}}
      filter_chains: {filters: [{name: dgp.filter.network.grpcconnectionmanager, config: {
        route_config: {routes: [{match: {prefix: /}, route: {cluster: a}}]},
        grpc_filters: [{name: dgp.filter.grpc.proxy}]}}]}
  clusters:
    - {name: a, lb_policy: Rand, endpoints: []}
";
    let plan = load_text(yaml, "fuzz.yaml", &Registry::builtin(), &|_| None).expect("a good configuration");
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let gateway = runtime.block_on(Gateway::start(plan)).expect("a port is free");
    let address = gateway.listener_address("grpc").and_then(crate::Address::ip).expect("its listener");
    (address, Mutex::new((gateway, runtime)))
}
