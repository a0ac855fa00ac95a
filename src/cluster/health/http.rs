//! The check that a request to the endpoint's own port is answered with an expected status.

use std::ops::RangeInclusive;
use std::pin::pin;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, StatusCode, Uri};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;

use super::target::{Socket, Target};

/// How backends tell the check from their clients.
const AGENT: HeaderValue = HeaderValue::from_static("weir-health-check");

/// A GET that is made again and again, each time on a new connection: one that is kept could be that of a machine that
/// has died.
pub(super) struct Request {
    target: Target,
    path: PathAndQuery,
    host: Result<Authority, String>,
    use_http2: bool,
    expected: Vec<RangeInclusive<u16>>,
}

impl Request {
    pub(super) fn new(
        target: Target,
        label: &str,
        path: &PathAndQuery,
        host: Option<&Authority>,
        use_http2: bool,
        expected: &[RangeInclusive<u16>],
    ) -> Request {
        let host = match host {
            Some(host) => Ok(host.clone()),
            None => target.authority(label).parse().map_err(|error| format!("{label} cannot be asked: {error}")),
        };
        Request { target, path: path.clone(), host, use_http2, expected: expected.to_vec() }
    }

    pub(super) async fn ask(&self) -> Result<(), String> {
        let host = self.host.clone()?;
        let socket = self.target.connect().await?;
        let status = if self.use_http2 { self.http2(socket, host).await } else { self.http1(socket, host).await }?;
        if self.expected.iter().any(|range| range.contains(&status.as_u16())) {
            return Ok(());
        }
        Err(format!("HTTP status {}", status.as_u16()))
    }

    async fn http2(&self, socket: Box<dyn Socket>, host: Authority) -> Result<StatusCode, String> {
        let failed = |error: h2::Error| format!("HTTP/2: {error}");
        let uri = Uri::builder()
            .scheme(if self.target.has_tls() { "https" } else { "http" })
            .authority(host)
            .path_and_query(self.path.clone())
            .build();
        let mut request = http::Request::new(());
        *request.uri_mut() = uri.map_err(|error| error.to_string())?;
        request.headers_mut().insert(USER_AGENT, AGENT);
        let handshake = h2::client::Builder::new().enable_push(false).handshake::<_, Bytes>(socket).await;
        let (send, connection) = handshake.map_err(failed)?;
        let exchange = async {
            let (response, _) = send.ready().await?.send_request(request, true)?;
            Ok(response.await?.status())
        };
        alongside(connection, exchange).await.map_err(failed)
    }

    async fn http1(&self, socket: Box<dyn Socket>, host: Authority) -> Result<StatusCode, String> {
        let failed = |error: hyper::Error| format!("HTTP/1.1: {error}");
        let mut request = http::Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = Uri::from(self.path.clone());
        let value = HeaderValue::from_str(host.as_str()).map_err(|error| error.to_string())?;
        request.headers_mut().insert(HOST, value);
        request.headers_mut().insert(USER_AGENT, AGENT);
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await;
        let (mut send, connection) = handshake.map_err(failed)?;
        let answer = alongside(connection, send.send_request(request)).await;
        answer.map(|answer| answer.status()).map_err(failed)
    }
}

/// The outcome of an exchange on this connection. The connection may end with the answer; without one the exchange knows
/// that it has.
async fn alongside<T>(connection: impl Future, exchange: impl Future<Output = T>) -> T {
    let mut exchange = pin!(exchange);
    tokio::select! {
        answered = &mut exchange => return answered,
        _ = connection => {}
    }
    exchange.await
}
