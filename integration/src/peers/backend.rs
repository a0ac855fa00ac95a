//! A backend that does with each call what the call's metadata says, and counts what it saw.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::script::Script;
use super::{framed, within};

/// The metadata key whose value is a [`Script`].
pub const DO: &str = "x-do";

/// The response header that holds the port of the backend that answered.
pub const FROM: &str = "x-from";

const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// It is UNIMPLEMENTED here: who wants pushes takes a real server.
const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// A backend on a port of its own. Dropping it closes everything at once.
#[derive(Debug)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

/// What a backend has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The requests, without health checks, in the order of their arrival.
    pub calls: Vec<Call>,
    /// Services that health checks asked for, in the order of their arrival.
    pub checks: Vec<String>,
    /// Health checks that wanted to watch, and were told that they cannot.
    pub watches: usize,
    /// Requests by GET: the authority and the path of each.
    pub gets: Vec<String>,
    /// Connections that were accepted.
    pub accepted: usize,
    /// Connections that are open.
    pub connected: usize,
    /// Bytes of DATA that echoing calls received.
    pub bytes: usize,
    /// Calls that the other side reset, with the codes.
    pub resets: Vec<Reason>,
}

/// The head of a request.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method, `/service/method`.
    pub path: String,
    /// The metadata.
    pub metadata: HeaderMap,
}

#[derive(Debug)]
struct Shared {
    from: HeaderValue,
    seen: watch::Sender<Seen>,
    released: watch::Sender<bool>,
    /// The answers to health checks, by service; `SERVING` where there are none.
    health: watch::Sender<HashMap<String, Vec<Health>>>,
    /// What is done with a call that says nothing about it; `echo` where there is none.
    usual: watch::Sender<Option<Script>>,
    /// The HTTP status of answers to GET.
    http_status: watch::Sender<u16>,
}

/// The answer to a health check (`grpc.health.v1.HealthCheckResponse.ServingStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// 1.
    Serving,
    /// 2.
    NotServing,
    /// No answer at all.
    Silent,
}

impl Backend {
    /// Starts a backend on a port that the kernel chooses.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub async fn start() -> Result<Backend> {
        Backend::start_on((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Starts several.
    ///
    /// # Errors
    ///
    /// When one cannot listen.
    pub async fn start_many(count: usize) -> Result<Vec<Backend>> {
        let mut backends = Vec::new();
        for _ in 0..count {
            backends.push(Backend::start().await?);
        }
        Ok(backends)
    }

    /// Starts a backend on this address, such as that of one that has ended.
    ///
    /// # Errors
    ///
    /// When it cannot listen there.
    pub async fn start_on(address: SocketAddr) -> Result<Backend> {
        let listener = TcpListener::bind(address).await.with_context(|| format!("a backend on {address}"))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            from: HeaderValue::from(address.port()),
            seen: watch::Sender::default(),
            released: watch::Sender::default(),
            health: watch::Sender::default(),
            usual: watch::Sender::default(),
            http_status: watch::Sender::new(200),
        });
        let accepting = tokio::spawn(accept(listener, shared.clone())).abort_handle();
        Ok(Backend { address, shared, accepting })
    }

    /// What it has seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.shared.seen.borrow().clone()
    }

    /// Waits until what it has seen is as `enough` says.
    ///
    /// # Errors
    ///
    /// When that does not happen.
    pub async fn until(&self, what: &str, enough: impl FnMut(&Seen) -> bool) -> Result<Seen> {
        let mut seen = self.shared.seen.subscribe();
        let waited = within(what, seen.wait_for(enough)).await;
        let reached = waited.with_context(|| format!("the backend saw {:?}", self.seen()))??.clone();
        Ok(reached)
    }

    /// Waits until this many calls have come.
    ///
    /// # Errors
    ///
    /// When they do not.
    pub async fn until_calls(&self, count: usize) -> Result<Seen> {
        self.until(&format!("{count} calls"), |seen| seen.calls.len() >= count).await
    }

    /// Lets every call that holds or is silent go on, now and later.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }

    /// Lets calls hold and be silent again, from now on.
    pub fn hold(&self) {
        self.shared.released.send_replace(false);
    }

    /// Changes what is done with calls that say nothing about it themselves.
    ///
    /// # Errors
    ///
    /// When there is no such script.
    pub fn set_script(&self, script: &str) -> Result<()> {
        self.shared.usual.send_replace(Some(Script::parse(script)?));
        Ok(())
    }

    /// Changes the HTTP status of answers to GET.
    pub fn set_http_status(&self, status: u16) {
        self.shared.http_status.send_replace(status);
    }

    /// Changes the answers to health checks of a service: these in turn, over and over.
    pub fn set_health(&self, service: &str, answers: &[Health]) {
        self.shared.health.send_modify(|services| {
            services.insert(service.to_owned(), answers.to_vec());
        });
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        shared.seen.send_modify(|seen| {
            seen.accepted += 1;
            seen.connected += 1;
        });
        connections.spawn(connection(socket, Connected(shared.clone())));
        while connections.try_join_next().is_some() {}
    }
}

/// A connection's place in the count.
struct Connected(Arc<Shared>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.seen.send_modify(|seen| seen.connected -= 1);
    }
}

async fn connection(socket: TcpStream, connected: Connected) {
    let Ok(mut h2) = h2::server::Builder::new().max_concurrent_streams(10_000).handshake(socket).await else { return };
    let mut calls: JoinSet<Result<Verdict>> = JoinSet::new();
    loop {
        tokio::select! {
            accepted = h2.accept() => match accepted {
                Some(Ok((request, respond))) => { calls.spawn(serve(request, respond, connected.0.clone())); }
                _ => return,
            },
            Some(served) = calls.join_next() => if let Ok(Ok(Verdict::Disconnect(stream, body))) = served {
                // What the call sent must leave before the connection ends.
                let flush = tokio::time::timeout(std::time::Duration::from_millis(20), h2.accept());
                let _ = flush.await;
                drop(h2);
                drop((stream, body));
                return;
            },
        }
    }
}

/// What becomes of the connection after a call.
enum Verdict {
    Keep,
    /// It ends. Dropped before, the stream would be reset.
    Disconnect(Option<SendStream<Bytes>>, RecvStream),
}

async fn serve(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, shared: Arc<Shared>) -> Result<Verdict> {
    let (head, mut body) = request.into_parts();
    if head.uri.path() == HEALTH {
        return check(&mut body, &mut respond, &shared).await.map(|()| Verdict::Keep);
    }
    if head.uri.path() == WATCH {
        shared.seen.send_modify(|seen| seen.watches += 1);
        respond.send_response(trailers_only(12), true)?;
        return Ok(Verdict::Keep);
    }
    if head.method == http::Method::GET {
        let authority = head.uri.authority().map_or("", |authority| authority.as_str());
        shared.seen.send_modify(|seen| seen.gets.push(format!("{authority}{}", head.uri.path())));
        respond.send_response(Response::builder().status(*shared.http_status.borrow()).body(())?, true)?;
        return Ok(Verdict::Keep);
    }
    let previous = head
        .headers
        .get("grpc-previous-rpc-attempts")
        .map_or(Ok(0), |value| value.to_str()?.parse().context("a number"))?;
    let script = match head.headers.get(DO) {
        Some(value) => Script::of_attempt(value.to_str()?, previous)?,
        None => shared.usual.borrow().clone().unwrap_or(Script::Echo),
    };
    let call = Call { path: head.uri.path().to_owned(), metadata: head.headers };
    shared.seen.send_modify(|seen| seen.calls.push(call));
    match script {
        Script::Refuse => {
            respond.send_reset(Reason::REFUSED_STREAM);
            return Ok(Verdict::Keep);
        }
        Script::Abort(code) => {
            respond.send_reset(code.into());
            return Ok(Verdict::Keep);
        }
        Script::Drop => return Ok(Verdict::Disconnect(None, body)),
        Script::Page(status) => {
            let mut page = Response::new(());
            *page.status_mut() = status.try_into()?;
            page.headers_mut().insert("content-type", HeaderValue::from_static("text/html"));
            respond.send_response(page, false)?.send_data(framed(b"page"), true)?;
            return Ok(Verdict::Keep);
        }
        _ => {}
    }
    if script == Script::Silent {
        released(&shared, |cx| respond.poll_reset(cx)).await?;
    }
    let mut answer = Response::new(());
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    answer.headers_mut().insert(FROM, shared.from.clone());
    if let Script::Status(code, pushback) = &script {
        answer.headers_mut().extend(trailers(*code));
        push_back(answer.headers_mut(), pushback.as_deref())?;
        respond.send_response(answer, true)?;
        return Ok(Verdict::Keep);
    }
    if let Script::Read(bytes, code) = script {
        let mut read = 0;
        while read < bytes {
            let chunk = body.data().await.context("more of the request")??;
            read += chunk.len();
            body.flow_control().release_capacity(chunk.len())?;
        }
        answer.headers_mut().extend(trailers(code));
        respond.send_response(answer, true)?;
        return Ok(Verdict::Keep);
    }
    if matches!(script, Script::Keep | Script::Late(..) | Script::Void) {
        while let Some(chunk) = body.data().await {
            body.flow_control().release_capacity(chunk?.len())?;
        }
    }
    let mut stream = respond.send_response(answer, false)?;
    match script {
        Script::Echo | Script::Silent => echo(&mut body, &mut stream, &shared).await?,
        Script::Hold | Script::Keep => released(&shared, |cx| stream.poll_reset(cx)).await?,
        Script::Say(sizes) => {
            for size in sizes {
                send(&mut stream, framed(&vec![b'x'; size])).await?;
            }
        }
        Script::Reset(code) => {
            send(&mut stream, framed(b"one")).await?;
            // h2 drops what a reset finds queued, so the message gets a turn to leave.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            stream.send_reset(code.into());
            return Ok(Verdict::Keep);
        }
        Script::Lose => {
            send(&mut stream, framed(b"one")).await?;
            return Ok(Verdict::Disconnect(Some(stream), body));
        }
        Script::Tear => {
            send(&mut stream, framed(b"torn").slice(..7)).await?;
            return Ok(Verdict::Disconnect(Some(stream), body));
        }
        Script::Late(code, pushback) => {
            let mut trailers = trailers(code);
            push_back(&mut trailers, pushback.as_deref())?;
            // The headers travel by themselves.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            stream.send_trailers(trailers)?;
            return Ok(Verdict::Keep);
        }
        Script::Fail(code) => {
            send(&mut stream, framed(b"one")).await?;
            stream.send_trailers(trailers(code))?;
            return Ok(Verdict::Keep);
        }
        Script::Void => {
            stream.send_data(Bytes::new(), true)?;
            return Ok(Verdict::Keep);
        }
        _ => bail!("answered above"),
    }
    stream.send_trailers(trailers(0))?;
    Ok(Verdict::Keep)
}

fn trailers_only(code: u8) -> Response<()> {
    let mut answer = Response::new(());
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    answer.headers_mut().extend(trailers(code));
    answer
}

fn trailers(code: u8) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(u16::from(code)));
    if code != 0 {
        trailers.insert("grpc-message", HeaderValue::from_static("from the backend, 100%25"));
    }
    trailers.insert("x-trailer", HeaderValue::from_static("original"));
    trailers
}

fn push_back(trailers: &mut HeaderMap, pushback: Option<&str>) -> Result<()> {
    if let Some(pushback) = pushback {
        trailers.insert("grpc-retry-pushback-ms", HeaderValue::from_str(pushback)?);
    }
    Ok(())
}

/// Waits for the release, or for the end of the call.
async fn released(
    shared: &Shared,
    mut reset: impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Result<Reason, h2::Error>>,
) -> Result<()> {
    let mut released = shared.released.subscribe();
    tokio::select! {
        released = released.wait_for(|released| *released) => { released?; Ok(()) }
        reset = std::future::poll_fn(&mut reset) => {
            let reason = reset?;
            shared.seen.send_modify(|seen| seen.resets.push(reason));
            bail!("reset: {reason}")
        }
    }
}

async fn echo(body: &mut RecvStream, stream: &mut SendStream<Bytes>, shared: &Shared) -> Result<()> {
    loop {
        match body.data().await {
            None => return Ok(()),
            Some(Ok(chunk)) => {
                shared.seen.send_modify(|seen| seen.bytes += chunk.len());
                let passed =
                    body.flow_control().release_capacity(chunk.len()).is_ok() && send(stream, chunk).await.is_ok();
                if !passed {
                    let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await?;
                    shared.seen.send_modify(|seen| seen.resets.push(reason));
                    bail!("reset: {reason}");
                }
            }
            Some(Err(error)) => {
                if let Some(reason) = error.reason() {
                    shared.seen.send_modify(|seen| seen.resets.push(reason));
                }
                return Err(error.into());
            }
        }
    }
}

async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes) -> Result<()> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let room = match stream.capacity() {
            0 => std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.context("the stream has ended")??,
            room => room,
        };
        stream.send_data(bytes.split_to(room.min(bytes.len())), false)?;
    }
    Ok(())
}

/// Answers a health check.
async fn check(body: &mut RecvStream, respond: &mut SendResponse<Bytes>, shared: &Shared) -> Result<()> {
    let mut request = Vec::new();
    while let Some(chunk) = body.data().await {
        request.extend(chunk?);
    }
    // The prefix, then field 1: tag, length, text. Nothing where the service is empty.
    let service = String::from_utf8(request.get(7..).unwrap_or_default().to_vec())?;
    let turn = shared.seen.borrow().checks.iter().filter(|known| **known == service).count();
    shared.seen.send_modify(|seen| seen.checks.push(service.clone()));
    let health = shared.health.borrow().get(&service).map(|answers| answers[turn % answers.len()]);
    let status = match health.unwrap_or(Health::Serving) {
        Health::Serving => 1,
        Health::NotServing => 2,
        Health::Silent => return std::future::pending().await,
    };
    let mut answer = Response::new(());
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let mut stream = respond.send_response(answer, false)?;
    stream.send_data(framed(&[0x08, status]), false)?;
    stream.send_trailers(trailers(0))?;
    Ok(())
}
