//! What comes to a gRPC port by mistake, HTTP/1 and TLS, is told so or turned away, and the operator sees it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use weir_integration::load::backend::{Backend, Options};
use weir_integration::load::client::Client;
use weir_integration::load::config::Config;

/// Says something and reads until the gateway hangs up.
fn say(address: SocketAddr, pieces: &[&[u8]]) -> Result<Vec<u8>> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    for piece in pieces {
        socket.write_all(piece)?;
    }
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn other_protocols_are_told_and_counted() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let gateway = Config::new(&[backend.address]).start(1)?;
    let address = gateway.listener("grpc")?;
    let counted = async |protocol: &str, times: f64| {
        let name = format!(r#"weir_foreign_connections_total{{listener="grpc",protocol="{protocol}"}}"#);
        gateway.wait_metric(&name, |count| count == times).await
    };

    for request in [&[&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..]][..], &[b"P", b"OS", b"T / HTTP/1.1\r\n\r\n"]] {
        let answer = String::from_utf8(say(address, request)?)?;
        ensure!(answer.starts_with("HTTP/1.1 426 ") && answer.contains("This port speaks gRPC"), "{answer}");
    }
    counted("http1", 2.0).await?;

    ensure!(say(address, &[&[0x16, 3, 1, 0, 1, 0]])?.is_empty(), "TLS is not answered in plain text");
    counted("tls", 1.0).await?;
    ensure!(say(address, &[b"SSH-2.0-x\r\n"])?.is_empty());
    counted("other", 1.0).await?;

    let said = |protocol: &str| {
        let word = format!("protocol=\"{protocol}\"");
        let line = |line: &String| line.contains("does not speak HTTP/2") && line.contains(&word);
        gateway.process.lines().into_iter().filter(line).count()
    };
    ensure!(said("http1") == 1, "one line is enough: {:?}", gateway.process.lines());

    let client = Client::connect(address).await?;
    ensure!(client.unary("Echo", &[], b"gRPC").await? == b"gRPC"[..]);
    Ok(())
}
