//! From an accepted connection to one that HTTP/2 can be spoken on.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;

use tokio::time::{Instant, sleep};
use weir_filter::Peer;

use super::GOODBYE;
use super::proxy_protocol::{self, NoHeader};
use super::socket::Socket;
use crate::call::Forwarded;
use crate::config::plan::{self, ListenerTls};
use crate::drain::Listening;
use crate::listener::{self, Place, Refused};
use crate::local::{Local, Served};
use crate::metrics::Cell;
use crate::socket::Stream;
use crate::tls::{Refusal, Session};

/// The first byte of TLS (RFC 8446 5.1).
const HANDSHAKE_RECORD: u8 = 0x16;

/// A connection that HTTP/2 can be spoken on.
pub(super) struct Opened {
    pub(super) socket: Socket,
    /// `None` in plaintext.
    pub(super) session: Option<Session>,
    /// Where the client is, by the word of whoever passed its connection on where that counts.
    pub(super) peer: Peer,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("{0}")]
    Tls(Refusal),
    #[error("{0}")]
    Proxy(#[from] NoHeader),
    #[error("nothing came in time")]
    Late,
    #[error("{} of {}", .0.name(), .1)]
    Refused(Refused, Peer, u64),
}

/// Hears where the client is, and shakes hands, where the listener is told to. Neither the listener nor a drain waits for a
/// client that never does.
///
/// # Errors
///
/// When there is no connection to be had, with the reason.
pub(super) async fn open(
    local: &Local,
    listener: &Served,
    socket: Stream,
    peer: Peer,
    place: &mut Place,
    drain: &Listening,
) -> Result<Opened, Failed> {
    let plan = &listener.plan;
    let is_passed_on = plan.proxy_protocol.iter().any(|source| source.has(peer));
    if plan.tls.is_none() && !is_passed_on {
        return Ok(Opened { socket: Socket::plain(socket), session: None, peer });
    }
    let opened = in_time(plan, drain, begin(plan, socket, peer, is_passed_on.then_some(place))).await?;
    if let Some(session) = &opened.session {
        local.metrics.tls_handshakes(listener.index, session.is_tls13, session.resumed).add(1);
    }
    Ok(opened)
}

async fn in_time(
    plan: &plan::Listener,
    drain: &Listening,
    opening: impl Future<Output = Result<Opened, Failed>>,
) -> Result<Opened, Failed> {
    let within = plan.tls.as_ref().map_or(plan.http2.header_timeout, |tls| tls.handshake_timeout);
    let mut opening = pin!(opening);
    let mut limit = pin!(sleep(within));
    let mut draining = false;
    poll_fn(|cx| {
        if let Poll::Ready(opened) = opening.as_mut().poll(cx) {
            return Poll::Ready(opened);
        }
        if !draining && drain.poll(cx).is_ready() {
            draining = true;
            let goodbye = limit.deadline().min(Instant::now() + GOODBYE);
            limit.as_mut().reset(goodbye);
        }
        limit.as_mut().poll(cx).map(|()| {
            Err(match (&plan.tls, draining) {
                (None, _) => Failed::Late,
                (Some(_), true) => Failed::Tls(Refusal::drain()),
                (Some(_), false) => Failed::Tls(Refusal::timeout(within)),
            })
        })
    })
    .await
}

async fn begin(
    plan: &plan::Listener,
    mut socket: Stream,
    mut peer: Peer,
    passed_on: Option<&mut Place>,
) -> Result<Opened, Failed> {
    if let Some(place) = passed_on
        && let Some(client) = proxy_protocol::read(&mut socket).await?
    {
        peer = client.into();
        place.comes_from(client.ip()).map_err(|(why, times)| Failed::Refused(why, peer, times))?;
    }
    let Some(tls) = &plan.tls else { return Ok(Opened { socket: Socket::plain(socket), session: None, peer }) };
    let (socket, session) = shake(tls, socket).await.map_err(Failed::Tls)?;
    Ok(Opened { socket, session, peer })
}

async fn shake(tls: &ListenerTls, socket: Stream) -> Result<(Socket, Option<Session>), Refusal> {
    if tls.allow_plaintext && is_plaintext(&socket).await.map_err(|error| Refusal::closed(&error))? {
        return Ok((Socket::plain(socket), None));
    }
    let (stream, session) = tls.acceptor.accept(socket).await?;
    Ok((Socket::tls(stream), Some(session)))
}

/// TLS begins with a record of a handshake, and HTTP/2 with a letter (RFC 8446 5.1, RFC 9113 3.4).
async fn is_plaintext(socket: &Stream) -> io::Result<bool> {
    let mut first = [0];
    match socket.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first != [HANDSHAKE_RECORD]),
    }
}

/// What backends are told of a client, where the listener tells them of clients: of one without a certificate nothing, and not
/// what it says of itself.
pub(super) fn forwarded(listener: &Served, session: Option<&Session>) -> Option<Forwarded> {
    let forward = listener.plan.tls.as_ref()?.forward_client_cert.as_ref()?;
    let client = session.and_then(|session| session.client.as_ref());
    Some((forward.header.clone(), client.and_then(|client| client.forwarded(&forward.fields))))
}

/// Counts a connection that did not come about. The first of its kind has a line in the log, which says what is wrong; the
/// metric says how often.
pub(super) fn failed(local: &Local, served: &Served, peer: Peer, failed: &Failed) {
    let (name, metrics) = (&served.plan.name, &local.metrics);
    match failed {
        Failed::Tls(refusal) => {
            let (cell, reason) = (refusal.cause.index(), refusal.cause.label());
            if first(metrics.downstream_tls_failures(served.index, cell)) {
                tracing::warn!(listener = %name, %peer, reason, why = %refusal, "no TLS connection with a client");
            } else {
                tracing::debug!(listener = %name, %peer, reason, why = %refusal, "no TLS connection with a client");
            }
        }
        Failed::Refused(why, peer, times) => listener::tell_refused(name, *peer, *why, *times),
        why @ (Failed::Proxy(_) | Failed::Late) => {
            if first(&metrics.proxy_protocol_failures[served.index]) {
                tracing::warn!(listener = %name, %peer, %why, "a source of the PROXY protocol does not speak it");
            } else {
                tracing::debug!(listener = %name, %peer, %why, "a source of the PROXY protocol does not speak it");
            }
        }
    }
}

/// Counts. True when it is the first.
fn first(cell: &Cell) -> bool {
    cell.add(1);
    cell.get() == 1
}
