//! Load balancers that say whose connection they pass on, and strangers who say the same.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::{Backend, DO};
use weir_integration::peers::client::{Client, METHOD};
use weir_integration::peers::setup::Setup;
use weir_integration::peers::{eventually, within};

const TRUSTED: &str = "proxy_protocol: {from: [192.0.2.0/24, 127.0.0.0/8]}";

struct Passed {
    _backend: Backend,
    gateway: Gateway,
    address: SocketAddr,
}

impl Passed {
    async fn start(config: &str) -> Result<Passed> {
        let backend = Backend::start().await?;
        let setup = Setup::to([backend.address]).admin().root("access_log: {path: /dev/stdout}").listener(config);
        let gateway = setup.start(1)?;
        let address = gateway.listener("grpc")?;
        Ok(Passed { _backend: backend, gateway, address })
    }

    /// Says the pieces one after another, each once the one before is under way.
    async fn say(&self, pieces: &[&[u8]]) -> Result<TcpStream> {
        let mut socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        for piece in pieces {
            socket.write_all(piece).await?;
            tokio::task::yield_now().await;
        }
        Ok(socket)
    }

    /// Makes a call behind these pieces, and returns the peer of its line in the access log, and the real one.
    async fn peer(&self, pieces: &[&[u8]]) -> Result<(String, String)> {
        let socket = self.say(pieces).await?;
        let own = socket.local_addr()?;
        let client = Client::over(socket, own).await?;
        let method = format!("/test.Echo/From{}", own.port());
        let answer = client.call(&method, &[(DO, "echo")]).await?;
        ensure!(answer.status() == Some(0) && answer.messages == [&b"abc"[..]], "{answer:?}");
        let of_this = |line: &str| (line.starts_with('{') && line.contains(&method)).then(|| line.to_owned());
        let line = self.gateway.process.wait_line("a record", of_this)?;
        let line: Value = serde_json::from_str(&line)?;
        Ok((line["peer"].as_str().unwrap().to_owned(), own.to_string()))
    }

    async fn failures(&self, times: f64) -> Result<()> {
        let name = "weir_proxy_protocol_failures_total{listener=\"grpc\"}";
        self.gateway.wait_metric(name, |count| count == times).await.map(drop)
    }
}

/// Version 2 with these bytes behind its signature.
fn version_2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, addresses].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_client_is_where_the_header_says() -> Result<()> {
    let passed = Passed::start(TRUSTED).await?;
    let line = b"PROXY TCP4 203.0.113.7 192.0.2.2 56324 443\r\n";
    for pieces in [&[&line[..]][..], &[&line[..1], &line[1..20], &line[20..44], &line[44..]]] {
        ensure!(passed.peer(pieces).await?.0 == "203.0.113.7:56324");
    }
    let v6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 1024 443\r\n";
    ensure!(passed.peer(&[v6]).await?.0 == "[2001:db8::7]:1024");
    let addresses = [203, 0, 113, 9, 192, 0, 2, 2, 0xdc, 4, 1, 187];
    let header = version_2(0x21, 0x11, &addresses);
    for pieces in [&[&header[..]][..], &[&header[..11], &header[11..15], &header[15..]]] {
        ensure!(passed.peer(pieces).await?.0 == "203.0.113.9:56324");
    }
    let with_more = version_2(0x21, 0x11, &[&addresses[..], &[3, 0, 4, 1, 2, 3, 4]].concat());
    ensure!(passed.peer(&[&with_more]).await?.0 == "203.0.113.9:56324");
    // Whoever speaks for itself.
    for header in [version_2(0x20, 0, &[]), b"PROXY UNKNOWN\r\n".to_vec()] {
        let (peer, own) = passed.peer(&[&header]).await?;
        ensure!(peer == own, "{peer}, and not {own}");
    }
    passed.failures(0.0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_source_that_does_not_speak_it_is_closed() -> Result<()> {
    let passed = Passed::start(TRUSTED).await?;
    let mut long = b"PROXY TCP4 ".to_vec();
    long.resize(200, b' ');
    for (times, bytes) in [
        (1.0, &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]),
        (2.0, b"PROXY TCP4 nowhere 192.0.2.2 1 2\r\n"),
        (3.0, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n"),
        (4.0, &long),
        (5.0, &version_2(0x22, 0x11, &[0; 12])),
        (6.0, &version_2(0x21, 0x11, &[0; 11])),
    ] {
        let mut socket = passed.say(&[bytes]).await?;
        let mut answer = Vec::new();
        // What stays unread may make a reset of the end.
        let _ = within("the end", socket.read_to_end(&mut answer)).await?;
        ensure!(answer.is_empty(), "an answer: {answer:?}");
        passed.failures(times).await?;
    }
    drop(passed.say(&[b"PROXY TCP4 192"]).await?);
    passed.failures(7.0).await?;
    ensure!(passed.peer(&[b"PROXY TCP4 203.0.113.7 192.0.2.2 1 443\r\n"]).await?.0 == "203.0.113.7:1");
    Ok(())
}

/// The balancer's own address is everybody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_are_counted_by_the_client_that_the_header_names() -> Result<()> {
    let passed = Passed::start(&format!("max_connections_per_source: 2, {TRUSTED}")).await?;
    let open = async |client: u8| {
        let socket = passed.say(&[format!("PROXY TCP4 203.0.113.{client} 192.0.2.2 1 443\r\n").as_bytes()]).await?;
        Client::over(socket, passed.address).await
    };
    let mut held = Vec::new();
    for client in [7, 7, 8, 8, 9] {
        held.push(open(client).await?);
    }
    let refused = open(7).await;
    ensure!(refused.is_err(), "a third connection of one client");
    let name = "weir_refused_connections_total{listener=\"grpc\",limit=\"max_connections_per_source\"}";
    passed.gateway.wait_metric(name, |count| count == 1.0).await?;
    for client in &held {
        ensure!(client.call(METHOD, &[(DO, "echo")]).await?.status() == Some(0));
    }
    drop(held);
    eventually("a place", async || Ok(open(7).await.ok())).await?;
    Ok(())
}

/// Not even one who would be another source.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stranger_is_not_believed() -> Result<()> {
    let passed = Passed::start("proxy_protocol: {from: [192.0.2.0/24]}").await?;
    let mut socket = passed.say(&[b"PROXY TCP4 203.0.113.7 192.0.2.2 56324 443\r\n"]).await?;
    let mut answer = Vec::new();
    let _ = within("the end", socket.read_to_end(&mut answer)).await?;
    ensure!(answer.is_empty(), "an answer: {answer:?}");
    let other = "weir_foreign_connections_total{listener=\"grpc\",protocol=\"other\"}";
    passed.gateway.wait_metric(other, |count| count == 1.0).await?;
    let (peer, own) = passed.peer(&[]).await?;
    ensure!(peer == own);
    passed.failures(0.0).await
}

/// The header is in clear, before TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn it_comes_before_tls() -> Result<()> {
    use weir_integration::certificates::Authority;
    use weir_integration::peers::tls::Tls;
    let authority = Authority::new()?;
    let own = authority.issue(&["127.0.0.1"])?;
    let files = format!("cert_file: {}, key_file: {}", own.cert.display(), own.key.display());
    let passed = Passed::start(&format!("enable_tls: true, tls: {{{files}}}, {TRUSTED}")).await?;
    let socket = passed.say(&[b"PROXY TCP4 203.0.113.7 192.0.2.2 56324 443\r\n"]).await?;
    let client = Tls::believing(&authority)?.shake_on(socket).await?.client().await?;
    ensure!(client.call(METHOD, &[(DO, "echo")]).await?.status() == Some(0));
    let line = passed.gateway.process.wait_line("a record", |line| line.starts_with('{').then(|| line.to_owned()))?;
    ensure!(line.contains("\"peer\":\"203.0.113.7:56324\"") && line.contains("\"tls_version\":\"1.3\""), "{line}");
    Ok(())
}
