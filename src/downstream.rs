//! The server side of HTTP/2: a connection from a client, and the streams that appear on it.

mod abuse;
mod authority;
mod budget;
mod greeting;
mod half_open;
mod policing;
pub(crate) mod proxy_protocol;
mod secure;
mod socket;
mod timers;

use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use weir_filter::Peer;

use crate::call::{self, Client, Shared};
use crate::config::plan;
use crate::drain::Listening;
use crate::io::{Cork, Corked, FRAME_BUDGET, Queued, Role, cork};
use crate::listener::Place;
use crate::local::{Listener, Local};
use crate::socket::Stream;

pub(crate) use abuse::Abuse;
use greeting::{Greeting, TO_HTTP1};
use policing::Policing;
use socket::Socket;
use timers::{Aged, Timers};

/// Streams that were reset here and whose late frames h2 still recognises.
const REMEMBERED_RESETS: usize = 1024;

/// h2 answers a header list over its own limit with HTTP 431, which no gRPC client understands. Its limit stands this many
/// times above the configured one, so that a list between the two gets an answer in gRPC.
const OVERSIZE: u32 = 4;

/// And no lower than this, in bytes: a connection has one list at a time that is not a call yet.
const OVERSIZE_AT_LEAST: u32 = 1 << 20;

/// How long a connection without streams may take to answer the PING of its GOAWAY, or to send its preface, during a
/// drain: many round trips.
const GOODBYE: Duration = Duration::from_secs(1);

type H2Connection = h2::server::Connection<Corked<Socket, Rc<Policing>>, Queued>;

/// A connection that has exchanged prefaces.
struct Connection {
    local: Rc<Local>,
    listener: Rc<Listener>,
    h2: H2Connection,
    cork: Rc<Cork<Socket, Rc<Policing>>>,
    shared: Rc<Shared>,
    timers: Timers,
    /// GOAWAY has been sent; the connection ends with its last stream.
    draining: bool,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(local: Rc<Local>, listener: Rc<Listener>, socket: Stream, peer: Peer, place: &mut Place) {
    let metrics = local.metrics.clone();
    let index = listener.index;
    metrics.downstream_connections[index].add(1);
    let drain = listener.drain.borrow().listen();
    let name = listener.name();
    // Boxed, so that what only the handshake needs does not stay for as long as the connection.
    match Box::pin(accept(local.clone(), listener.clone(), socket, peer, place, &drain)).await {
        Ok(mut connection) => {
            let peer = connection.shared.peer;
            match poll_fn(|cx| connection.poll(&drain, cx)).await {
                Err(End::Abused(abuse)) => {
                    let times = metrics.abusive(index, abuse);
                    times.add(1);
                    // A line for each would be one more thing to flood.
                    if times.get().is_power_of_two() {
                        let (why, times) = (abuse.words(), times.get());
                        tracing::warn!(listener = %name, %peer, why, times, "connection closed");
                    }
                }
                Err(error) => {
                    if let End::Http2(error) = &error
                        && let Some(abuse) = Abuse::told_by(error)
                    {
                        metrics.abusive(index, abuse).add(1);
                    }
                    tracing::debug!(listener = %name, %peer, %error, "connection ended");
                }
                Ok(()) => {}
            }
        }
        Err(End::Foreign(greeting)) => {
            if metrics.foreign(index, greeting.name()) {
                let protocol = greeting.name();
                tracing::warn!(listener = %name, %peer, protocol, "a client does not speak HTTP/2 without TLS");
            }
        }
        Err(End::Unopened(failed)) => secure::failed(&local, &listener.served(), peer, &failed),
        Err(error) => {
            if let End::Abused(abuse) = error {
                metrics.abusive(index, abuse).add(1);
            }
            tracing::debug!(listener = %name, %peer, %error, "no HTTP/2 connection came about");
        }
    }
    metrics.downstream_connections[index].sub(1);
}

/// Exchanges prefaces. Neither the listener nor a drain waits for a client that never speaks.
async fn accept(
    local: Rc<Local>,
    listener: Rc<Listener>,
    socket: Stream,
    peer: Peer,
    place: &mut Place,
    drain: &Listening,
) -> Result<Box<Connection>, End> {
    // What a connection is made with holds until its end, whatever a reload says.
    let served = listener.served();
    let secure::Opened { socket, session, peer } = secure::open(&local, &served, socket, peer, place, drain).await?;
    let policing = Rc::new(Policing::new(&served.plan.http2));
    let (corked, cork) = cork(socket, policing, Role::Server);
    let mut handshake = pin!(builder(&served.plan.http2).handshake::<_, Queued>(corked));
    let mut limit = Box::pin(sleep(served.plan.http2.header_timeout));
    let mut draining = false;
    let shaken = poll_fn(|cx| {
        let shaken = handshake.as_mut().poll(cx);
        match Greeting::read(cork.first_bytes()) {
            // What h2 has to say waits until somebody is there who understands it.
            Greeting::Unknown => {}
            Greeting::Http2 => {
                // An error shows when h2 reads or writes next.
                let _ = cork.poll_uncork(cx);
            }
            foreign => return Poll::Ready(Err(End::Foreign(foreign))),
        }
        if shaken.is_ready() {
            return shaken.map_err(End::Http2);
        }
        if !draining && drain.poll(cx).is_ready() {
            draining = true;
            let goodbye = limit.deadline().min(Instant::now() + GOODBYE);
            limit.as_mut().reset(goodbye);
        }
        let silent = if draining { End::Left } else { End::Abused(Abuse::SlowPreface) };
        limit.as_mut().poll(cx).map(|()| Err(silent))
    })
    .await;
    if let Err(End::Foreign(greeting)) = shaken {
        let answer = if greeting == Greeting::Http1 { TO_HTTP1.as_bytes() } else { &[] };
        // Whether it hears the answer is up to the client; what counts is said in the log and the metrics.
        let _ = timeout(GOODBYE, cork.turn_away(answer)).await;
    }
    let h2 = shaken?;
    let forwarded = secure::forwarded(&served, session.as_ref()).map(Box::new);
    let expires = served.plan.max_connection_age.is_some() && served.plan.max_connection_age_grace.is_some();
    let shared = Rc::new(Shared::new(peer, session.map(Rc::new), forwarded, cork.turns.clone(), expires));
    let timers = Timers::new(&served.plan, limit);
    Ok(Box::new(Connection { local, listener, h2, cork, shared, timers, draining: false }))
}

fn builder(http2: &plan::DownstreamHttp2) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(http2.max_concurrent_streams)
        .initial_window_size(http2.stream_window)
        .initial_connection_window_size(http2.connection_window)
        .data_frame_budget(FRAME_BUDGET.max(http2.connection_window as usize / 2))
        .max_header_list_size(http2.max_header_list_size.saturating_mul(OVERSIZE).max(OVERSIZE_AT_LEAST))
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        // Resets are counted by `Policing`, which knows a burst of cancels from a flood; h2's limits hold for the whole
        // life of a connection and would end an honest one.
        .max_pending_accept_reset_streams(Abuse::Resets.allowance(http2.max_concurrent_streams).burst as usize)
        .max_local_error_reset_streams(None);
    builder
}

impl Connection {
    /// One turn: what has arrived becomes calls, what is due is written.
    fn poll(&mut self, drain: &Listening, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        ready!(self.cork.poll_rested());
        self.grow_old(cx)?;
        if !self.draining && drain.poll(cx).is_ready() {
            self.say_goodbye();
        }
        let driven = self.accept_calls(cx);
        let policed = self.police(cx);
        if let Poll::Ready(Err(error)) = self.cork.poll_uncork(cx) {
            return Poll::Ready(Err(error.into()));
        }
        policed?;
        if driven.is_ready() {
            return driven.map_err(End::Http2);
        }
        if self.timers.is_silent(self.cork.meter.has_settings(), cx) {
            return Poll::Ready(Err(if self.draining { End::Left } else { End::Abused(Abuse::SlowPreface) }));
        }
        let busy = self.shared.open() > 0 || self.h2.has_streams();
        if self.timers.is_idle(busy, cx) {
            self.say_goodbye();
            cx.waker().wake_by_ref();
        }
        if self.draining && self.timers.is_left_over(self.h2.has_streams(), cx) {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    /// Does what comes with the connection's age.
    fn grow_old(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        while let Some(aged) = self.timers.age(cx) {
            match aged {
                Aged::Old if self.draining => {}
                Aged::Old => self.say_goodbye(),
                Aged::Expired => self.shared.expire(),
                Aged::Over => return Err(End::Expired),
            }
        }
        Ok(())
    }

    /// Sends GOAWAY with the highest id, a PING, and the real id when its answer is here (RFC 9113 6.8).
    fn say_goodbye(&mut self) {
        self.draining = true;
        self.h2.graceful_shutdown();
    }

    /// Drives h2, and gives every stream that has appeared a task.
    fn accept_calls(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            match ready!(self.h2.poll_accept(cx)) {
                Some(Ok((request, respond))) => {
                    let resets_came = self.cork.meter.resets_came() || self.cork.has_resets();
                    let may_leave = resets_came && self.cork.is_cut();
                    let client = Client::new(self.shared.clone(), respond, resets_came, may_leave);
                    if let Some(serving) =
                        guard(|| call::take_on(&self.local, &self.listener.served(), request, client))
                    {
                        // Boxed: the runtime moves a task's future about, and an aligned block that large is dear.
                        tokio::task::spawn_local(Box::pin(serving.run()));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Judges the frames of this turn. A connection that must end is told why, in the turn's last frame.
    fn police(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let slow = self.timers.half_open.is_over(self.cork.half_open(), cx);
        let slow = slow.then_some(Abuse::SlowFrame);
        let Some(abuse) = slow.or_else(|| self.cork.meter.verdict(self.shared.open())) else { return Ok(()) };
        self.cork.push_frame(&self.cork.meter.go_away(abuse));
        Err(End::Abused(abuse))
    }
}

/// A panic here ends its call alone: the client's side is dropped with it, which resets the stream with INTERNAL_ERROR.
fn guard<T>(take_on: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(take_on)).unwrap_or_else(|_| {
        tracing::error!("taking a call on panicked; its stream is reset");
        None
    })
}

impl Drop for Connection {
    /// A call is over for its backend before its client has taken the end of the response.
    fn drop(&mut self) {
        if self.listener.cut.is_raised() && self.h2.has_streams() {
            self.local.metrics.untaken_responses.add(1);
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum End {
    #[error("{0}")]
    Http2(h2::Error),
    #[error("{0}")]
    Unopened(#[from] secure::Failed),
    #[error("{0}")]
    Tcp(#[from] io::Error),
    #[error("{}", .0.words())]
    Abused(Abuse),
    #[error("the client speaks {}", .0.name())]
    Foreign(Greeting),
    #[error("max_connection_age and its grace are over")]
    Expired,
    #[error("the client did not speak before the drain")]
    Left,
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Request, Response};
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    /// Answers every call, and panics over the first.
    async fn serve_after_a_panic(socket: DuplexStream) -> Rc<Shared> {
        let shared = Rc::new(Shared::new(Peer::Ip(([127, 0, 0, 1], 1).into()), None, None, Rc::default(), false));
        let handshake = h2::server::Builder::new().handshake::<_, Queued>(socket);
        let mut connection = handshake.await.expect("a client");
        let mut calls = 0;
        while let Some(Ok((_, respond))) = connection.accept().await {
            let mut client = Client::new(shared.clone(), respond, false, false);
            calls += 1;
            guard(move || {
                assert!(calls > 1, "a bug");
                client.send_head(Response::new(()), true).expect("a head that h2 takes");
                Some(client)
            });
        }
        shared
    }

    async fn call_twice(socket: DuplexStream) -> [Result<http::StatusCode, Option<h2::Reason>>; 2] {
        let handshake = h2::client::Builder::new().handshake::<_, Bytes>(socket);
        let (mut send, connection) = handshake.await.expect("a server");
        let mut call = || send.send_request(Request::new(()), true).expect("a stream").0;
        let calls = [call(), call()];
        let answers = async {
            let mut answers = Vec::new();
            for call in calls {
                answers.push(call.await.map(|head| head.status()).map_err(|error| error.reason()));
            }
            answers.try_into().expect("two answers")
        };
        tokio::select! {
            answers = answers => answers,
            ended = connection => panic!("the connection ended: {ended:?}"),
        }
    }

    #[tokio::test]
    async fn a_panic_ends_its_call_alone() {
        let (near, far) = duplex(1 << 16);
        let (shared, answers) = tokio::join!(serve_after_a_panic(near), call_twice(far));
        assert_eq!(answers, [Err(Some(h2::Reason::INTERNAL_ERROR)), Ok(http::StatusCode::OK)]);
        assert_eq!(shared.open(), 0);
    }
}
