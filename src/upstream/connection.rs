//! One connection to a backend: dialled, driven, watched, closed.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::client::SendRequest;
use h2::{Ping, PingPong};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::pool::Pool;
use crate::config::plan;
use crate::io::{Cork, Corked, FRAME_BUDGET, Frame, FrameMeter, Queued, Role, cork};

/// The largest window that HTTP/2 has (RFC 9113 6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// The largest response header list that is taken, in bytes. A backend is trusted with more than a client is.
const MAX_HEADER_LIST: u32 = 16 * 1024 * 1024;

/// Streams that were reset here and whose late frames h2 still recognises.
const REMEMBERED_RESETS: usize = 1024;

type H2Connection = h2::client::Connection<Corked<TcpStream, Rc<Meter>>, Queued>;

/// A connection to a backend, as its calls see it.
pub(crate) struct Connection {
    send: RefCell<SendRequest<Queued>>,
    meter: Rc<Meter>,
    open: Cell<usize>,
    /// Streams that the configuration and the backend allow, as of the connection's last turn.
    most: Cell<usize>,
    closing: Cell<bool>,
    idle_since: Cell<Instant>,
    wake: RefCell<Option<std::task::Waker>>,
}

/// What the frames on the wire tell about which requests have left and which were taken.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    ready: Cell<bool>,
    heard: Cell<bool>,
    last_taken: Cell<Option<u32>>,
    corked: Cell<u32>,
    written: Cell<u32>,
}

impl FrameMeter for Rc<Meter> {
    fn received(&self, frame: Frame) {
        self.heard.set(true);
        match frame {
            Frame::Settings => self.ready.set(true),
            Frame::GoAway(last) => self.last_taken.set(Some(last)),
            _ => {}
        }
    }

    fn sent(&self, frame: Frame) {
        if let Frame::Headers(stream) = frame {
            self.corked.set(self.corked.get().max(stream));
        }
    }

    fn flushed(&self) {
        self.written.set(self.corked.get());
    }
}

// === impl Connection ===

impl Connection {
    /// True when a stream opened now would leave at once: h2 would queue one above the backend's limit, and a call in
    /// that queue could neither move nor fail.
    pub(super) fn has_room(&self) -> bool {
        !self.closing.get() && self.meter.last_taken.get().is_none() && self.open.get() < self.most.get()
    }

    /// Streams that fit.
    pub(super) fn most_streams(&self) -> usize {
        self.most.get()
    }

    /// Takes note of the backend's limit, which its SETTINGS may change at any time.
    fn note_limit(&self, configured: usize) {
        self.most.set(configured.min(self.send.borrow().current_max_send_streams()));
    }

    pub(super) fn opened(&self) {
        self.open.set(self.open.get() + 1);
    }

    pub(super) fn ended(&self) {
        self.open.set(self.open.get() - 1);
        if self.open.get() == 0 {
            self.idle_since.set(Instant::now());
            if self.closing.get() || self.meter.last_taken.get().is_some() {
                self.wake();
            }
        }
    }

    /// Closes the connection after its last stream.
    pub(crate) fn close(&self) {
        self.closing.set(true);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.wake.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// The h2 handle that opens streams.
    pub(crate) fn send(&self) -> std::cell::RefMut<'_, SendRequest<Queued>> {
        self.send.borrow_mut()
    }

    /// True when it is certain that the backend has not seen this stream: its HEADERS were never given to the kernel,
    /// or the backend's GOAWAY excludes it (RFC 9113 6.8).
    pub(crate) fn never_processed(&self, stream: u32) -> bool {
        stream > self.meter.written.get() || self.meter.last_taken.get().is_some_and(|last| stream > last)
    }
}

/// Dials, and drives the connection until its end.
pub(super) async fn run(pool: Rc<Pool>) {
    let plan = &pool.cluster.plan;
    let (send, mut driver) = match timeout(plan.connect_timeout, dial(&pool)).await {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => return failed(&pool, &error.to_string()),
        Err(_) => return failed(&pool, &format!("no HTTP/2 SETTINGS within {:?}", plan.connect_timeout)),
    };
    let connection = Rc::new(Connection {
        send: RefCell::new(send),
        meter: driver.meter.clone(),
        open: Cell::new(0),
        most: Cell::new(0),
        closing: Cell::new(false),
        idle_since: Cell::new(Instant::now()),
        wake: RefCell::new(None),
    });
    let configured = plan.http2.max_streams_per_connection as usize;
    connection.note_limit(configured);
    pool.connected(&connection);
    let mut watch = pin!(Watch::new(plan, &connection, driver.h2.ping_pong()));
    let mut offered = true;
    let end = poll_fn(|cx| {
        connection.remember(cx);
        let driven = driver.poll(cx);
        connection.note_limit(configured);
        if offered && (connection.meter.last_taken.get().is_some() || connection.closing.get()) {
            offered = false;
            pool.forget(&connection);
        }
        if driven.is_ready() {
            return driven;
        }
        if !offered && connection.open.get() == 0 {
            return Poll::Ready(Ok(()));
        }
        // The backend may have raised its limit of streams.
        pool.serve_if_waiting();
        watch.as_mut().poll(cx)
    })
    .await;
    if let Err(error) = &end {
        tracing::debug!(cluster = %plan.name, endpoint = %pool.endpoint.label, %error, "connection to a backend ended");
    }
    connection.closing.set(true);
    if offered {
        pool.forget(&connection);
    }
    pool.metrics.upstream_connections[pool.cluster.index].sub(1);
}

fn failed(pool: &Rc<Pool>, why: &str) {
    let (cluster, endpoint) = (&pool.cluster.plan.name, &pool.endpoint.label);
    tracing::warn!(%cluster, %endpoint, why, "cannot connect");
    pool.connect_failed();
}

/// Connects, and waits for the backend's SETTINGS: a port that accepts and never speaks is no connection, and the first
/// streams respect the backend's limit.
async fn dial(pool: &Pool) -> Result<(SendRequest<Queued>, Driver), DialError> {
    let plan = &pool.cluster.plan;
    let socket = TcpStream::connect(pool.endpoint.address).await.map_err(DialError::Tcp)?;
    socket.set_nodelay(true).map_err(DialError::Tcp)?;
    let meter = Rc::new(Meter::default());
    let (corked, cork) = cork(socket, meter.clone(), Role::Client);
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
        Poll::Pending if driver.meter.ready.get() => Poll::Ready(Ok(())),
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

// === impl Driver ===

/// h2's connection and the cork around its socket.
struct Driver {
    h2: H2Connection,
    cork: Rc<Cork<TcpStream, Rc<Meter>>>,
    meter: Rc<Meter>,
}

#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("{0}")]
    Tcp(io::Error),
    #[error("HTTP/2: {0}")]
    Http2(h2::Error),
    #[error("the backend closed the connection")]
    Closed,
    #[error("no answer to a keepalive ping in {0:?}")]
    Keepalive(Duration),
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        let driven = Pin::new(&mut self.h2).poll(cx).map_err(DialError::Http2);
        match self.cork.poll_uncork(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(DialError::Tcp(error))),
            _ => driven,
        }
    }
}

impl Connection {
    fn remember(&self, cx: &Context<'_>) {
        let mut wake = self.wake.borrow_mut();
        match wake.as_mut() {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *wake = Some(cx.waker().clone()),
        }
    }
}

/// The timers of a connection: idle close and keepalive.
struct Watch<'a> {
    connection: &'a Rc<Connection>,
    idle_timeout: Option<Duration>,
    idle: Option<Pin<Box<Sleep>>>,
    keepalive: Option<Keepalive>,
}

struct Keepalive {
    interval: Duration,
    timeout: Duration,
    pings: PingPong,
    timer: Pin<Box<Sleep>>,
    asked: bool,
}

impl<'a> Watch<'a> {
    fn new(plan: &plan::Cluster, connection: &'a Rc<Connection>, pings: Option<PingPong>) -> Watch<'a> {
        let keepalive = plan.http2.keepalive_interval.zip(pings).map(|(interval, pings)| Keepalive {
            interval,
            timeout: plan.http2.keepalive_timeout,
            pings,
            timer: Box::pin(sleep(interval)),
            asked: false,
        });
        let idle = plan.idle_timeout.map(|idle| Box::pin(sleep(idle)));
        Watch { connection, idle_timeout: plan.idle_timeout, idle, keepalive }
    }

    /// Ready when the connection should end.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        let this = self.get_mut();
        if let (Some(timer), Some(after)) = (&mut this.idle, this.idle_timeout) {
            while timer.as_mut().poll(cx).is_ready() {
                let due = this.connection.idle_since.get() + after;
                if this.connection.open.get() > 0 {
                    timer.as_mut().reset(Instant::now() + after);
                } else if due <= Instant::now() {
                    return Poll::Ready(Ok(()));
                } else {
                    timer.as_mut().reset(due);
                }
            }
        }
        match &mut this.keepalive {
            Some(keepalive) => keepalive.poll(this.connection, cx),
            None => Poll::Pending,
        }
    }
}

impl Keepalive {
    /// Pings a backend that has been silent for an interval while streams are open.
    fn poll(&mut self, connection: &Connection, cx: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        if self.asked && self.pings.poll_pong(cx).is_ready() {
            self.asked = false;
            self.timer.as_mut().reset(Instant::now() + self.interval);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.asked {
                return Poll::Ready(Err(DialError::Keepalive(self.timeout)));
            }
            let heard = connection.meter.heard.replace(false);
            if !heard && connection.open.get() > 0 && self.pings.send_ping(Ping::opaque()).is_ok() {
                self.asked = true;
                self.timer.as_mut().reset(Instant::now() + self.timeout);
                let _ = self.pings.poll_pong(cx);
            } else {
                self.timer.as_mut().reset(Instant::now() + self.interval);
            }
        }
        Poll::Pending
    }
}
