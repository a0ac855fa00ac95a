//! What the backend does with a call, by its method:
//!
//! - `Echo` returns what it gets, as it gets it, and ends when the client has;
//! - `Slow` does the same after `x-delay-ms` milliseconds;
//! - `Gated` does the same once the gate is open;
//! - `Deaf` reads nothing, and never ends;
//! - `Endless` sends messages of 16 KiB for as long as somebody takes them.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};

use super::backend::{Counts, Shared};
use super::message::{self, framed};

/// The size of the messages of an endless stream.
const ENDLESS_MESSAGE: usize = 16 * 1024;

/// Counts a call that is open, and how it ended even where its task is dropped.
struct Open {
    shared: Arc<Shared>,
    ended: fn(&mut Counts),
}

impl Open {
    fn new(shared: &Arc<Shared>) -> Open {
        shared.count(|counts| {
            counts.calls += 1;
            counts.open_calls += 1;
            counts.most_open_calls = counts.most_open_calls.max(counts.open_calls);
        });
        Open { shared: shared.clone(), ended: |counts| counts.broken += 1 }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.count(|counts| {
            counts.open_calls -= 1;
            (self.ended)(counts);
        });
    }
}

pub(super) async fn serve(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, shared: Arc<Shared>) {
    if let Some(call) = request.headers().get("x-call").and_then(|call| call.to_str().ok()) {
        shared.note(call);
    }
    let mut open = Open::new(&shared);
    open.ended = match answer(request, &mut respond, &shared).await {
        Ok(()) => |counts| counts.answered += 1,
        Err(error) if error.reason() == Some(Reason::CANCEL) => |counts| counts.cancelled += 1,
        Err(_) => |counts| counts.broken += 1,
    };
}

async fn answer(
    request: Request<RecvStream>,
    respond: &mut SendResponse<Bytes>,
    shared: &Shared,
) -> Result<(), h2::Error> {
    let (head, body) = request.into_parts();
    match head.uri.path() {
        "/weir.Load/Echo" => {}
        "/weir.Load/Slow" => unless_reset(respond, tokio::time::sleep(delay(&head.headers))).await?,
        "/weir.Load/Gated" => {
            let mut gate = shared.gate.subscribe();
            // The sender lives as long as the backend.
            unless_reset(respond, async { drop(gate.wait_for(|open| *open).await) }).await?;
        }
        "/weir.Load/Deaf" => return unless_reset(respond, std::future::pending()).await,
        "/weir.Load/Endless" => {
            let mut stream = respond.send_response(response_head(), false)?;
            return endless(&mut stream).await;
        }
        _ => {
            let mut head = response_head();
            head.headers_mut().insert("grpc-status", HeaderValue::from_static("12"));
            return respond.send_response(head, true).map(drop);
        }
    }
    let mut stream = respond.send_response(response_head(), false)?;
    echo(body, &mut stream).await?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)
}

async fn echo(mut body: RecvStream, stream: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        let size = chunk.len();
        message::send(stream, chunk).await?;
        // A stream that has ended has no window to open.
        let _ = body.flow_control().release_capacity(size);
    }
    Ok(())
}

async fn endless(stream: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    let message = framed(&[7; ENDLESS_MESSAGE]);
    loop {
        message::send(stream, message.clone()).await?;
    }
}

/// Waits for `what`, unless the client resets the stream first.
async fn unless_reset(respond: &mut SendResponse<Bytes>, what: impl Future<Output = ()>) -> Result<(), h2::Error> {
    tokio::select! {
        () = what => Ok(()),
        reset = poll_fn(|cx| respond.poll_reset(cx)) => Err(reset.map_or_else(|error| error, h2::Error::from)),
    }
}

fn delay(metadata: &HeaderMap) -> Duration {
    let millis = metadata.get("x-delay-ms").and_then(|delay| delay.to_str().ok()?.parse().ok());
    Duration::from_millis(millis.unwrap_or_default())
}

fn response_head() -> Response<()> {
    let mut head = Response::new(());
    head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    head
}
