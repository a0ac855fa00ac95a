//! Pages of the admin listener.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within;

/// One answer of the admin listener.
#[derive(Clone, Debug)]
pub struct Page {
    /// The HTTP status.
    pub status: u16,
    /// The headers, in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

/// Gets a page.
///
/// # Errors
///
/// When there is no answer.
pub async fn get(address: SocketAddr, path: &str) -> Result<Page> {
    ask("GET", address, path).await
}

/// Gets a page by another method.
///
/// # Errors
///
/// When there is no answer.
pub async fn ask(method: &str, address: SocketAddr, path: &str) -> Result<Page> {
    let mut socket = TcpStream::connect(address).await?;
    let request = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    within("a page", socket.read_to_string(&mut answer)).await??;
    let (head, body) = answer.split_once("\r\n\r\n").context("an HTTP answer")?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("a status line")?.parse()?;
    let header = |line: &str| line.split_once(": ").map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned()));
    Ok(Page { status, headers: lines.filter_map(header).collect(), body: body.to_owned() })
}

/// The value of one metric, such as `weir_calls_in_flight{cluster="a"}`; `None` when there is none.
///
/// # Errors
///
/// When there is no page, or the value is no number.
pub async fn metric(admin: SocketAddr, series: &str) -> Result<Option<f64>> {
    let page = get(admin, "/metrics").await?;
    let found = page.body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.map(|value| value.parse().with_context(|| format!("`{series} {value}`"))).transpose()
}
