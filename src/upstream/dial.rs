//! Dials a backend.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::client::SendRequest;

use super::connection::Meter;
use super::pool::Pool;
use super::socket::Socket;
use crate::config::plan;
use crate::io::{Cork, Corked, FRAME_BUDGET, Queued, Role, cork};
use crate::socket::Stream;
use crate::tls::{Failure, Reason};

/// The largest window that HTTP/2 has (RFC 9113 6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// The largest response header list that is taken, in bytes. A backend is trusted with more than a client is.
const MAX_HEADER_LIST: u32 = 16 * 1024 * 1024;

/// Streams that were reset here and whose late frames h2 still recognises.
const REMEMBERED_RESETS: usize = 1024;

type H2Connection = h2::client::Connection<Corked<Socket, Rc<Meter>>, Queued>;

/// h2's connection and the cork around its socket.
pub(super) struct Driver {
    pub(super) h2: H2Connection,
    pub(super) cork: Rc<Cork<Socket, Rc<Meter>>>,
    pub(super) meter: Rc<Meter>,
}

/// Why a connection did not come about, or ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("{0}")]
    Tcp(io::Error),
    #[error("TLS: {0}")]
    Tls(Failure),
    #[error("HTTP/2: {0}")]
    Http2(h2::Error),
    #[error("the backend closed the connection")]
    Closed,
    #[error("no HTTP/2 SETTINGS within {0:?}")]
    Timeout(Duration),
    #[error("no answer to a keepalive ping in {0:?}")]
    Keepalive(Duration),
}

/// How far a dial has come, for whom it takes too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Tcp,
    Tls,
    Http2,
}

/// Connects, and waits for the backend's SETTINGS: a port that accepts and never speaks is no connection, and the first
/// streams respect the backend's limit.
pub(super) async fn dial(
    pool: &Pool,
    plan: &plan::Cluster,
    stage: &Cell<Stage>,
) -> Result<(SendRequest<Queued>, Driver), DialError> {
    let socket = connect(pool, plan, stage).await?;
    stage.set(Stage::Http2);
    let meter = Rc::new(Meter::default());
    let (corked, cork) = cork(socket, meter.clone(), Role::Client);
    match greet(plan, corked, cork.clone(), meter).await {
        Ok(greeted) => Ok(greeted),
        Err(error) => Err(in_terms_of_tls(error, &cork).await),
    }
}

/// What TLS has against the backend, where it is that, in the place of what HTTP/2 saw of it. A backend that hangs up
/// before its first word of HTTP/2 may have done so for a certificate, and not all of them say so.
async fn in_terms_of_tls(error: DialError, cork: &Cork<Socket, Rc<Meter>>) -> DialError {
    if cork.socket(|socket| matches!(socket, Socket::Plain(_))) {
        return error;
    }
    let failure = match &error {
        DialError::Tcp(_) => poll_fn(|cx| cork.socket(|socket| socket.poll_failure(cx))).await,
        _ => cork.socket(Socket::take_failure),
    };
    match (failure, &error) {
        (Some(failure), _) => DialError::Tls(failure),
        (None, DialError::Tcp(_) | DialError::Closed) => DialError::Tls(Failure::hung_up(&error.to_string())),
        (None, DialError::Http2(h2)) if h2.is_io() => DialError::Tls(Failure::hung_up(&error.to_string())),
        (None, _) => error,
    }
}

/// A socket that HTTP/2 can be spoken on.
async fn connect(pool: &Pool, plan: &plan::Cluster, stage: &Cell<Stage>) -> Result<Socket, DialError> {
    let socket = Stream::connect(&pool.endpoint.address).await.map_err(DialError::Tcp)?;
    let Some(tls) = &plan.tls else { return Ok(Socket::Plain(socket)) };
    stage.set(Stage::Tls);
    let name = pool.endpoint.server_name.as_ref();
    tls.connector.connect(socket, name).await.map(Socket::tls).map_err(DialError::Tls)
}

/// The beginning of HTTP/2, up to the backend's SETTINGS.
async fn greet(
    plan: &plan::Cluster,
    corked: Corked<Socket, Rc<Meter>>,
    cork: Rc<Cork<Socket, Rc<Meter>>>,
    meter: Rc<Meter>,
) -> Result<(SendRequest<Queued>, Driver), DialError> {
    let mut handshake = pin!(builder(&plan.http2).handshake::<_, Queued>(corked));
    let (send, h2) = poll_fn(|cx| {
        let shaken = handshake.as_mut().poll(cx);
        match cork.poll_uncork(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(DialError::Tcp(error))),
            _ => shaken.map_err(DialError::Http2),
        }
    })
    .await?;
    let mut driver = Driver { h2, cork, meter };
    poll_fn(|cx| match driver.poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Err(DialError::Closed)),
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending if driver.meter.has_settings() => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    Ok((send, driver))
}

/// The windows of a connection to a backend. The connection's covers what all of its streams may hold at once: a client
/// that does not read stalls its own streams and nobody else's.
fn builder(http2: &plan::UpstreamHttp2) -> h2::client::Builder {
    let whole = http2.stream_window.saturating_mul(http2.max_streams_per_connection.max(1)).min(MAX_WINDOW);
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(http2.stream_window)
        .initial_connection_window_size(whole)
        .data_frame_budget(FRAME_BUDGET.max(whole as usize / 2))
        .max_header_list_size(MAX_HEADER_LIST)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .max_local_error_reset_streams(None)
        .max_pending_accept_reset_streams(usize::MAX)
        .enable_push(false);
    builder
}

impl DialError {
    /// What a dial was at when `connect_timeout` was over.
    pub(super) fn timeout(after: Duration, stage: Stage) -> DialError {
        match stage {
            Stage::Tls => DialError::Tls(Failure::timeout(after)),
            Stage::Tcp | Stage::Http2 => DialError::Timeout(after),
        }
    }

    /// What TLS has against the backend.
    pub(super) fn reason(&self) -> Option<Reason> {
        match self {
            DialError::Tls(failure) => Some(failure.reason),
            _ => None,
        }
    }
}

impl Driver {
    /// One turn of the connection.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        let driven = Pin::new(&mut self.h2).poll(cx).map_err(DialError::Http2);
        match self.cork.poll_uncork(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(DialError::Tcp(error))),
            _ => driven,
        }
    }
}
