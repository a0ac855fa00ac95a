//! One RPC, from its first header to its last trailer.

mod body;
mod client;
pub(crate) mod deadline;
mod draining;
mod exchange;
mod forwarded;
mod hedging;
mod held;
mod inspect;
mod judge;
pub(crate) mod message;
mod moving;
mod pump;
mod record;
mod rejection;
mod replay;
mod request;
mod retry;
mod timers;
mod trailers;
mod watch;

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use h2::{Reason, RecvStream};
use http::{Request, Response, StatusCode};
use tokio::time::{Instant, sleep};
use weir_filter::{Code, Direction, Ending, Status};

use crate::cluster::Cluster;
use crate::cluster::balance::Question;
use crate::config::plan::CallPolicy;
use crate::local::{Local, RouteTarget, Served};
use crate::memory;
use crate::metrics::WorkerMetrics;
use crate::status;
use crate::upstream::{Begun, Lease, Shed, Unavailable};
use body::Body;
pub(crate) use client::{Client, Forwarded, Shared};
use exchange::{Attempted, End, Parties};
use hedging::Schedule;
use pump::Pump;
use record::Record;
use replay::Claim;
use request::Refusal;
use retry::{Failure, Retry};
pub(crate) use timers::Limit;
use watch::{Interrupt, Watch, WatchedDrain};

/// Attempts at a call that no backend has processed. Each one goes to another endpoint while there is one; the bound is
/// for a backend that refuses everything.
const MOST_ATTEMPTS: u32 = 5;

/// A client that has taken nothing of its stream for this long does not read: what waits for it no longer holds back a
/// reset.
const STALLED: Duration = Duration::from_secs(1);

/// A call on its way to a backend.
///
/// What it holds is held for as long as its stream is open: a gateway has many that wait for years.
pub(crate) struct Serving {
    local: Rc<Local>,
    route: Rc<RouteTarget>,
    record: Record,
    stream: RecvStream,
    client: Client,
    deadline: Option<Instant>,
}

/// Takes a stream of a client on. `None` when it has been answered already: it was no gRPC call, or had no route.
pub(crate) fn take_on(
    local: &Rc<Local>,
    listener: &Rc<Served>,
    request: Request<RecvStream>,
    mut client: Client,
) -> Option<Serving> {
    let arrived = Instant::now();
    let (mut head, mut stream) = request.into_parts();
    let refusal = request::admit(&head, &listener.plan.http2).err();
    forwarded::apply(listener.plan.forwarding_headers, client.peer().ip(), &mut head.headers);
    let deadline = deadline::read(&head.headers, arrived);
    client.identify(&mut head.headers);
    let mut record = Record::new(local, listener, &client, head.uri, head.headers, arrived);
    if let Some(refusal) = refusal {
        refuse(&mut record, &mut client, refusal);
        return None;
    }
    if local.memory.as_ref().is_some_and(|memory| memory.is_short()) {
        local.metrics.calls_without_memory[listener.index].add(1);
        let status = Status::new(Code::ResourceExhausted, "the gateway is short of memory (memory_limit)");
        reply_after(&mut record, &mut client, &status, Ending::Gateway, Some(memory::PUSHBACK));
        return None;
    }
    let Some(route) = listener.router.find(record.call.method(), &record.call.metadata).cloned() else {
        let status = Status::new(Code::Unimplemented, format!("no route for {}", record.call.method()));
        reply(&mut record, &mut client, &status, Ending::Gateway);
        return None;
    };
    if let Some(deadline) = deadline {
        local.metrics.calls(listener.index, Some(route.cluster)).arrived(deadline - arrived);
    }
    let deadline = match &route.methods {
        None => deadline,
        Some(methods) => methods.deadline(record.call.method(), arrived, deadline),
    };
    record.routed(route.clone());
    if let Some(left) = client.left_at_once() {
        let interrupt = Interrupt::Left(left).told_by(&mut stream);
        record.end_with(interrupt.status().code, interrupt.ending(), &interrupt.status().message);
        return None;
    }
    Some(Serving { local: local.clone(), route, record, stream, client, deadline })
}

impl Serving {
    /// Serves the call to its end.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn keeps its argument twice for as long as the stream is open"
    )]
    pub(crate) fn run(mut self) -> impl Future<Output = ()> {
        async move {
            let Serving { local, route, record, client, deadline, stream } = &mut self;
            let drain = WatchedDrain { local, listener: &record.listener };
            let expiry = client.expiry();
            let mut watch = Watch::new(record.started(), *deadline, route, &record.call, drain, expiry);
            if let Some(turn) = client.another_turn() {
                let interrupt = watch.or(client, turn).await.err();
                if let Some(interrupt) = client.left_at_once().map(Interrupt::Left).or(interrupt) {
                    let interrupt = interrupt.told_by(stream);
                    count(local, &record.listener, route, interrupt);
                    return reply(record, client, &interrupt.status(), interrupt.ending());
                }
            }
            if !route.chain.is_empty() {
                let filters = route.chain.request(&mut record.call, &mut record.filters_reached);
                match watch.or(client, filters).await {
                    Ok(Ok(())) => {}
                    Ok(Err(status)) => return reply(record, client, &status, Ending::Gateway),
                    Err(interrupt) => {
                        let interrupt = interrupt.told_by(stream);
                        count(local, &record.listener, route, interrupt);
                        return reply(record, client, &interrupt.status(), interrupt.ending());
                    }
                }
            }
            let mut attempted = forward(&mut self, &mut watch).await;
            if let End::Interrupted(interrupt) = &mut attempted.end {
                *interrupt = interrupt.told_by(&mut self.stream);
                count(&self.local, &self.record.listener, &self.route, *interrupt);
            }
            finish(&mut self.record, &mut self.client, &mut watch, attempted).await;
        }
    }
}

/// Counts a call that the configuration ended.
fn count(local: &Local, listener: &Served, route: &RouteTarget, interrupt: Interrupt) {
    match interrupt {
        Interrupt::Limit(limit) => local.metrics.timed_out(route.cluster, limit).add(1),
        Interrupt::Moved(why) => local.metrics.moved(route.cluster, why).add(1),
        Interrupt::ConnectionAge => local.metrics.expired_calls[listener.index].add(1),
        Interrupt::Left(_) | Interrupt::Deadline | Interrupt::Cut => {}
    }
}

/// Sends the request to a backend, again where no backend has processed it.
async fn forward(serving: &mut Serving, watch: &mut Watch) -> Attempted {
    let Serving { local, route, record, client, stream, .. } = serving;
    let Record { call, notes, listener, .. } = record;
    let (call, listener) = (&*call, &listener.plan);
    let pump = Pump::new(&route.chain, call, Direction::Request, listener.max_receive_message_size);
    let policy = route.methods.as_ref().and_then(|methods| methods.policy(call.method()));
    let (claim, retry) = policed(policy, &route.upstream.cluster, &local.metrics);
    let mut body = Body::new(stream, pump, claim);
    let mut parties = Parties { listener, chain: &route.chain, call, notes, client, body: &mut body, watch, retry };
    let attempted = match policy {
        Some(CallPolicy::Hedging(policy)) => {
            let schedule = Schedule::new(policy.clone(), route.upstream.cluster.clone(), local.metrics.clone());
            // Boxed: few calls are hedged, and none should make room for it.
            Box::pin(hedging::race(local, route, schedule, &mut parties)).await
        }
        Some(CallPolicy::Retry(_)) | None => attempts(local, route, &mut parties).await,
    };
    let (messages, bytes) = parties.body.traffic();
    parties.notes.messages_in = messages;
    parties.notes.bytes_in = bytes;
    attempted
}

/// What a call needs that its policy may make again.
fn policed(
    policy: Option<&CallPolicy>,
    cluster: &Arc<Cluster>,
    metrics: &Arc<WorkerMetrics>,
) -> (Option<Box<Claim>>, Option<Box<Retry>>) {
    let Some(policy) = policy else { return (None, None) };
    let claim = Box::new(Claim::new(cluster.clone(), metrics.clone()));
    let retry = match policy {
        CallPolicy::Retry(policy) => Some(Box::new(Retry::new(policy.clone(), cluster.clone(), metrics.clone()))),
        // The attempt that wins has one.
        CallPolicy::Hedging(_) => None,
    };
    (Some(claim), retry)
}

/// Attempts until one of them is the last.
async fn attempts(local: &Local, route: &RouteTarget, parties: &mut Parties<'_, '_>) -> Attempted {
    let mut tried = Vec::new();
    parties.notes.is_judged = route.upstream.cluster.outliers.is_some();
    let mut unprocessed = 0;
    loop {
        let mut endpoint = None;
        let attempted = match lease(route, parties, &mut tried).await {
            Ok(lease) => {
                let pool = lease.pool.clone();
                endpoint = Some(pool.endpoint.id);
                let attempted = exchange::attempt(parties, lease).await;
                if parties.notes.is_judged {
                    judge::tell(&pool, &attempted.end, parties);
                }
                attempted
            }
            Err(end) => Attempted { end, at_boundary: true },
        };
        if matches!(attempted.end, End::Unprocessed) {
            unprocessed += 1;
            if parties.body.can_be_sent_again() && unprocessed < MOST_ATTEMPTS {
                local.metrics.transparent_retries[route.cluster].add(1);
                tried.extend(endpoint);
                continue;
            }
        }
        let Some(wait) = next_attempt(parties, endpoint.is_some(), &attempted.end) else { return attempted };
        if let Err(interrupt) = parties.watch.or(parties.client, sleep(wait)).await {
            return Attempted { end: End::Interrupted(interrupt), at_boundary: true };
        }
        unprocessed = 0;
        match endpoint {
            Some(endpoint) => tried.push(endpoint),
            // None could be connected to: that may have changed.
            None => tried.clear(),
        }
    }
}

/// How long the call's policy waits before it makes the call again; `None` when it does not. `was_sent` is false where no
/// backend could be had.
fn next_attempt(parties: &mut Parties<'_, '_>, was_sent: bool, end: &End) -> Option<Duration> {
    parties.retry.as_ref()?;
    let circumstances = parties.circumstances();
    let retry = parties.retry.as_mut()?;
    let failure = match end {
        End::Again(wait) => return Some(*wait),
        End::Unprocessed => Failure::of(Code::Unavailable),
        End::Local(status) if !was_sent => Failure::of(status.code),
        _ => {
            if let Some(code) = end.told_by_backend() {
                retry.settle(code);
            }
            return None;
        }
    };
    retry.grant(failure, circumstances)
}

/// A stream to a backend. An endpoint that refused this call is asked again only when there is no other.
async fn lease(route: &RouteTarget, parties: &mut Parties<'_, '_>, tried: &mut Vec<usize>) -> Result<Lease, End> {
    let question = Question { path: parties.call.method(), metadata: &parties.call.metadata, subset: route.subset };
    let mut may_repeat = parties.notes.attempts > 0;
    loop {
        let leased = match route.upstream.try_lease(&question, tried) {
            Ok(Begun::Leased(lease)) => return Ok(lease),
            // Boxed: hardly a call waits, and none should make room for it.
            Ok(Begun::Waits(waits)) => {
                let lease = Box::pin(route.upstream.lease(waits, &question, tried));
                parties.watch.or(parties.client, lease).await.map_err(End::Interrupted)?
            }
            Err(unavailable) => Err(unavailable),
        };
        match leased {
            Ok(lease) => return Ok(lease),
            Err(Unavailable::NoConnection(_)) if may_repeat => {
                may_repeat = false;
                tried.clear();
            }
            Err(Unavailable::Full(full)) => return Err(End::Shed(Box::new(route.upstream.shed(full)))),
            Err(unavailable) => {
                let cluster = &route.upstream.cluster.plan.name;
                return Err(End::Local(Status::new(Code::Unavailable, format!("cluster {cluster}: {unavailable}"))));
            }
        }
    }
}

/// Ends the call towards the client as the last attempt ended.
async fn finish(record: &mut Record, client: &mut Client, watch: &mut Watch, attempted: Attempted) {
    let at_boundary = attempted.at_boundary;
    match attempted.end {
        End::Complete(code) => record.end(code, Ending::Backend),
        End::Reset(reason) => {
            record.end(status::of_reset(reason), Ending::Backend);
            reset(client, watch, reason).await;
        }
        End::Lost => {
            let status = Status::new(Code::Unavailable, "the connection to the backend was lost");
            end_early(record, client, watch, at_boundary, &status, Ending::Backend).await;
        }
        // The client may do what the gateway could not: send the call again.
        End::Unprocessed => {
            record.end_with(Code::Unavailable, Ending::Backend, "refused by the backend, not processed");
            client.reset(Reason::REFUSED_STREAM);
        }
        End::Local(status) => {
            end_early(record, client, watch, at_boundary, &status, Ending::Gateway).await;
        }
        End::Shed(shed) => {
            let Shed { status, pushback } = *shed;
            reply_after(record, client, &status, Ending::Gateway, pushback);
        }
        // Never the last: it would be a mistake in `attempts`.
        End::Again(_) => reply(record, client, &Status::new(Code::Internal, "an attempt is missing"), Ending::Gateway),
        End::Interrupted(interrupt) if interrupt.is_the_gateways() => {
            let status = interrupt.status();
            if at_boundary {
                let pushback = watch.pushback(interrupt);
                return reply_after(record, client, &status, interrupt.ending(), pushback);
            }
            end_early(record, client, watch, at_boundary, &status, interrupt.ending()).await;
        }
        End::Interrupted(interrupt) => {
            let status = interrupt.status();
            record.end_with(status.code, interrupt.ending(), &status.message);
            if at_boundary {
                reply(record, client, &status, interrupt.ending());
            } else {
                client.reset(Reason::CANCEL);
            }
        }
    }
}

/// Ends a call with a status of the gateway's, in the form that its response still allows.
async fn end_early(
    record: &mut Record,
    client: &mut Client,
    watch: &mut Watch,
    at_boundary: bool,
    status: &Status,
    ending: Ending,
) {
    if at_boundary {
        return reply(record, client, status, ending);
    }
    // In the middle of a message no trailers can follow, and no reset code says UNAVAILABLE without inviting a retry.
    record.end_with(Code::Internal, ending, &status.message);
    reset(client, watch, Reason::INTERNAL_ERROR).await;
}

/// Resets the client's stream once it has everything that came before, or has stopped reading: a backend's reset reaches a
/// client that does not read, and so does the gateway's.
async fn reset(client: &mut Client, watch: &mut Watch, reason: Reason) {
    let mut held = client.held();
    let mut stalled = None;
    poll_fn(|cx| {
        if client.poll_flushed(cx).is_ready() || watch.poll(client, cx).is_ready() {
            return Poll::Ready(());
        }
        let stalled = stalled.get_or_insert_with(|| Box::pin(sleep(STALLED)));
        ready!(stalled.as_mut().poll(cx));
        if client.held() == held {
            return Poll::Ready(());
        }
        held = client.held();
        stalled.as_mut().reset(Instant::now() + STALLED);
        stalled.as_mut().poll(cx)
    })
    .await;
    client.reset(reason);
}

/// Answers in the backend's place: trailers-only, or trailers where the response has begun.
fn reply(record: &mut Record, client: &mut Client, status: &Status, ending: Ending) {
    reply_after(record, client, status, ending, None);
}

/// The same, and tells the client when to try again.
fn reply_after(record: &mut Record, client: &mut Client, status: &Status, ending: Ending, pushback: Option<Duration>) {
    record.end_with(status.code, ending, &status.message);
    if client.has_begun() {
        let mut trailers = status::trailers(status);
        status::push_back(&mut trailers, pushback);
        client.send_trailers(trailers);
    } else {
        let mut answer = status::trailers_only(status);
        status::push_back(answer.headers_mut(), pushback);
        send_answer(client, answer);
    }
}

/// Sends an answer that is all in its head. A client that has left is not told: that is [`Client::poll_left`]'s to say.
fn send_answer(client: &mut Client, head: Response<()>) {
    if let Err(error) = client.send_head(head, true) {
        tracing::debug!(%error, "a client takes no answer");
    }
}

fn refuse(record: &mut Record, client: &mut Client, refusal: Refusal) {
    match refusal {
        Refusal::Grpc(status) => reply(record, client, &status, Ending::Gateway),
        Refusal::Http(code) => {
            record.end_with(status::of_http(code), Ending::Gateway, http_reason(code));
            send_answer(client, status::plain_http(code));
        }
    }
}

fn http_reason(code: StatusCode) -> &'static str {
    code.canonical_reason().unwrap_or("refused")
}
