//! The connections of one worker to one endpoint, and who waits for a stream.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::connection::Connection;
use super::driver;
use super::removal;
use super::streams::{Enrolled, Stream, Streams};
use crate::cluster::breaker::{Connected, Place};
use crate::cluster::outlier::Verdict;
use crate::cluster::{Cluster, Endpoint, latency};
use crate::metrics::WorkerMetrics;
use crate::status;
use crate::tls::Reason;

/// Streams that a connection is expected to carry before its backend has said how many.
const EXPECTED_STREAMS: usize = 100;

/// An endpoint that failed to connect is left alone for this long, doubled with each failure in a row.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// An endpoint that keeps failing is still tried this often.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// The connections of one worker to one endpoint.
pub(crate) struct Pool {
    /// The configuration that its next connection is made with.
    cluster: RefCell<Arc<Cluster>>,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) worker: usize,
    pub(crate) metrics: Arc<WorkerMetrics>,
    connections: RefCell<Vec<Rc<Connection>>>,
    waiting: RefCell<VecDeque<Waiting>>,
    /// Streams are being given to those who wait: one that comes back meanwhile is not given away from within.
    serving: Cell<bool>,
    dialing: Cell<usize>,
    /// Streams that the backend's connections took last.
    usual_streams: Cell<usize>,
    failures: Cell<u32>,
    failing_until: Cell<Option<Instant>>,
    /// What TLS had against the endpoint when it failed last.
    why: Cell<Option<Reason>>,
    /// A task looks after those who wait when the failing endpoint's time is over.
    later: Cell<bool>,
    retired: Cell<bool>,
    /// Only calls that began before a reload come here.
    leaving: Cell<bool>,
    /// Streams that may be told to end; `None` where nobody would tell them.
    streams: Option<Streams>,
}

struct Waiting {
    reply: oneshot::Sender<Result<Lease, ConnectFailed>>,
    patience: Patience,
    load: Rc<WaitingLoad>,
}

/// How long somebody waits for a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Until a connect fails: there may be another endpoint.
    UntilConnectFails,
    /// For as long as there is a connection whose streams may end.
    WhileConnected,
}

/// The endpoint could not be connected to, and what TLS had against it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectFailed(pub(super) Option<Reason>);

/// The right to open one stream, and the stream's place until it ends.
pub(crate) struct Lease {
    pub(crate) connection: Rc<Connection>,
    pub(crate) pool: Rc<Pool>,
    /// What only some clusters ask of a call; `None` where nobody does.
    watched: Option<Box<Watched>>,
}

/// What only some clusters ask of a call.
#[derive(Default)]
struct Watched {
    /// What circuit breakers count.
    place: Option<Place>,
    /// When the backend was asked, until it answers; where the policy wants to know how long that takes.
    asked: Cell<Option<Instant>>,
}

impl Pool {
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        endpoint: Arc<Endpoint>,
        worker: usize,
        metrics: Arc<WorkerMetrics>,
    ) -> Pool {
        let streams = cluster.plan.ends_streams().then(Streams::default);
        Pool {
            cluster: RefCell::new(cluster),
            endpoint,
            worker,
            metrics,
            connections: RefCell::default(),
            waiting: RefCell::default(),
            serving: Cell::new(false),
            dialing: Cell::new(0),
            usual_streams: Cell::new(EXPECTED_STREAMS),
            failures: Cell::new(0),
            failing_until: Cell::new(None),
            why: Cell::new(None),
            later: Cell::new(false),
            retired: Cell::new(false),
            leaving: Cell::new(false),
            streams,
        }
    }

    /// The cluster in the configuration that holds now.
    pub(crate) fn cluster(&self) -> Arc<Cluster> {
        self.cluster.borrow().clone()
    }

    /// Serves the same endpoint for another configuration of its cluster.
    pub(super) fn hand_over(&self, cluster: Arc<Cluster>) {
        self.cluster.replace(cluster);
    }

    /// A stream on a connection that is up and has room. The oldest connection is filled first: fuller connections
    /// share more system calls, and those that are not needed grow idle and close.
    pub(crate) fn try_lease(self: &Rc<Pool>) -> Option<Lease> {
        if !self.waiting.borrow().is_empty() {
            return None;
        }
        self.take_free()
    }

    fn take_free(self: &Rc<Pool>) -> Option<Lease> {
        let connection = self.connections.borrow().iter().find(|connection| connection.has_room())?.clone();
        connection.opened();
        self.endpoint.opened(self.worker);
        let timed = || Box::new(Watched { place: None, asked: Cell::new(Some(Instant::now())) });
        let watched = self.endpoint.latency.is_some().then(timed);
        Some(Lease { connection, pool: self.clone(), watched })
    }

    /// Waits for a stream, and has connections opened for as many as wait.
    ///
    /// # Errors
    ///
    /// When connecting failed and patience does not last.
    pub(crate) async fn lease(self: &Rc<Pool>, patience: Patience) -> Result<Lease, ConnectFailed> {
        if self.retired.get() {
            return Err(ConnectFailed(None));
        }
        let _counted = Counted::new(&self.metrics, self.cluster());
        let (reply, answer) = oneshot::channel();
        let load = WaitingLoad::new(self);
        let _until_left = EndOnDrop(load.clone());
        self.waiting.borrow_mut().push_back(Waiting { reply, patience, load });
        self.serve_waiting();
        answer.await.unwrap_or(Err(ConnectFailed(None)))
    }

    /// Gives free streams to those who wait, and dials for the rest.
    pub(super) fn serve_waiting(self: &Rc<Pool>) {
        if self.serving.replace(true) {
            return;
        }
        while let Some(lease) = self.somebody_waits().then(|| self.take_free()).flatten() {
            let next = self.waiting.borrow_mut().pop_front();
            if let Some(next) = next {
                next.load.end();
                // Whoever left in this very moment gives the lease back, to be given away here.
                let _ = next.reply.send(Ok(lease));
            }
        }
        self.serving.set(false);
        self.dial_for_waiting();
    }

    /// The same, for somebody who does not know whether anyone waits.
    pub(super) fn serve_if_waiting(self: &Rc<Pool>) {
        if !self.waiting.borrow().is_empty() {
            self.serve_waiting();
        }
    }

    /// Forgets those at the front who have left.
    fn somebody_waits(&self) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        while waiting.front().is_some_and(|next| next.reply.is_closed()) {
            waiting.pop_front();
        }
        !waiting.is_empty()
    }

    // Dialling: decided here, and nowhere else.

    /// Dials for those who wait, or sends them elsewhere when that is no use now.
    fn dial_for_waiting(self: &Rc<Pool>) {
        if self.wanted() <= self.dialing.get() {
            return;
        }
        self.waiting.borrow_mut().retain(|waiting| !waiting.reply.is_closed());
        if self.may_dial() {
            while self.dialing.get() < self.wanted() && self.may_dial() {
                self.dial();
            }
        } else if self.dialing.get() == 0 {
            self.send_elsewhere();
            self.serve_later();
        }
    }

    /// Connections that those who wait would fill.
    fn wanted(&self) -> usize {
        self.waiting.borrow().len().div_ceil(self.usual_streams.get())
    }

    /// False while a connect is likely to fail, and while a connection is up that may carry no stream at all: the backend
    /// has said that it takes none now.
    fn may_dial(&self) -> bool {
        !self.retired.get()
            && self.failing_until.get().is_none_or(|until| Instant::now() >= until)
            && self.connections.borrow().iter().all(|connection| connection.most_streams() > 0)
            && !self.has_all_it_may()
    }

    /// True when a circuit breaker allows no further connection. A worker may have one to each endpoint all the same: calls
    /// that wait for a stream that can never come would help nobody.
    fn has_all_it_may(&self) -> bool {
        let cluster = self.cluster.borrow();
        let Some(breaker) = &cluster.breaker else { return false };
        let has_one = self.dialing.get() > 0 || !self.connections.borrow().is_empty();
        has_one && breaker.is_connected_enough(&self.endpoint)
    }

    fn dial(self: &Rc<Pool>) {
        self.dialing.set(self.dialing.get() + 1);
        let counted = Connected::count(&self.cluster.borrow(), &self.endpoint);
        tokio::task::spawn_local(driver::run(self.clone(), counted));
    }

    /// True while the endpoint should be passed over because it could not be connected to. When its time is over, one
    /// connect is tried in the background, so that no call has to wait for it.
    pub(crate) fn is_failing(self: &Rc<Pool>) -> bool {
        if self.failing_until.get().is_none() || self.connections.borrow().iter().any(|one| one.has_room()) {
            return false;
        }
        if self.dialing.get() == 0 && self.may_dial() {
            self.dial();
        }
        true
    }

    /// A connection is up.
    pub(super) fn connected(self: &Rc<Pool>, connection: &Rc<Connection>) {
        self.dialing.set(self.dialing.get() - 1);
        self.failing_until.set(None);
        let failures = self.failures.take();
        if failures > 0 {
            let (cluster, endpoint) = (&self.cluster.borrow().plan.name, &self.endpoint.label);
            tracing::info!(%cluster, %endpoint, failures, "connects again");
        }
        if self.retired.get() {
            return connection.close();
        }
        if connection.most_streams() > 0 {
            self.usual_streams.set(connection.most_streams());
        }
        self.connections.borrow_mut().push(connection.clone());
        self.serve_waiting();
        if self.leaving.get() {
            if connection.most_streams() == 0 {
                self.send_elsewhere();
            }
            connection.close();
            self.forget(connection);
        }
    }

    /// A connect failed. Those who wait go elsewhere.
    pub(super) fn connect_failed(self: &Rc<Pool>, why: &str, tls: Option<Reason>) {
        self.dialing.set(self.dialing.get() - 1);
        let of = self.cluster();
        self.metrics.connect_failures[of.index].add(1);
        if let Some(reason) = tls {
            self.metrics.tls_failures(of.index, reason.index()).add(1);
        }
        self.why.set(tls);
        let (cluster, endpoint) = (&of.plan.name, &self.endpoint.label);
        let failures = self.failures.get();
        if failures == 0 {
            tracing::warn!(%cluster, %endpoint, why, "cannot connect");
        } else {
            tracing::debug!(%cluster, %endpoint, why, failures, "cannot connect");
        }
        self.failures.set(failures.saturating_add(1));
        // Several dials that fail together are one failure.
        if self.failing_until.get().is_none_or(|until| Instant::now() >= until) {
            let backoff = FIRST_BACKOFF.saturating_mul(1 << failures.min(16)).min(LONGEST_BACKOFF);
            self.failing_until.set(Some(Instant::now() + backoff));
            of.tell(&self.endpoint, self.worker, Verdict::GatewayFailure);
        }
        self.send_elsewhere();
        self.serve_later();
    }

    /// Answers those who need not wait here. Those who would wait for a stream to end stay while there is one.
    fn send_elsewhere(&self) {
        let connected = !self.retired.get() && !self.connections.borrow().is_empty();
        let stays = |waiting: &Waiting| connected && waiting.patience == Patience::WhileConnected;
        let (stay, go) = self.waiting.take().into_iter().partition(stays);
        self.waiting.replace(stay);
        for waiting in Vec::from(go) {
            let _ = waiting.reply.send(Err(ConnectFailed(self.why.get())));
        }
    }

    /// Those who stayed get another connect when the endpoint has been left alone for its time.
    fn serve_later(self: &Rc<Pool>) {
        let Some(until) = self.failing_until.get() else { return };
        if self.waiting.borrow().is_empty() || self.later.replace(true) {
            return;
        }
        let pool = self.clone();
        tokio::task::spawn_local(async move {
            sleep_until(until).await;
            pool.later.set(false);
            pool.serve_if_waiting();
        });
    }

    /// A connection takes no more streams, or is gone.
    pub(super) fn forget(self: &Rc<Pool>, connection: &Rc<Connection>) {
        self.connections.borrow_mut().retain(|one| !Rc::ptr_eq(one, connection));
        self.serve_if_waiting();
    }

    /// True when there is a connection, whose streams may end.
    pub(crate) fn is_connected(&self) -> bool {
        !self.connections.borrow().is_empty()
    }

    /// The endpoint has left the cluster: open streams go on for as long as the cluster allows, each connection closes
    /// after its last, and those who wait go elsewhere.
    pub(crate) fn retire(self: &Rc<Pool>) {
        self.retired.set(true);
        for connection in self.connections.take() {
            connection.close();
        }
        self.send_elsewhere();
        self.bound_streams();
    }

    fn bound_streams(self: &Rc<Pool>) {
        if let Some(limit) = self.cluster.borrow().plan.endpoint_drain_timeout {
            tokio::task::spawn_local(removal::bound(Rc::downgrade(self), limit));
        }
    }

    /// A reload has taken the endpoint away: the same, but for calls that began before it. They may have nowhere else to go,
    /// and get connections of their own.
    pub(super) fn leave(self: &Rc<Pool>) {
        self.leaving.set(true);
        for connection in self.connections.take() {
            connection.close();
        }
        self.serve_if_waiting();
        self.bound_streams();
    }

    /// True when the endpoint has left the cluster.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.get()
    }

    /// Lets a stream here be told to end, until what is returned is dropped; `None` where nobody would tell it.
    pub(crate) fn enroll(self: &Rc<Pool>, stream: &Rc<Stream>) -> Option<Enrolled> {
        Enrolled::new(self, stream)
    }

    /// Streams that may be told to end.
    pub(super) fn streams(&self) -> Option<&Streams> {
        self.streams.as_ref()
    }
}

impl Lease {
    /// The same, counted by circuit breakers.
    pub(super) fn at(mut self, place: Place) -> Lease {
        self.watched.get_or_insert_default().place = Some(place);
        self
    }

    /// What circuit breakers count of it.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.watched.as_ref()?.place.as_ref()
    }

    /// The backend has answered with this head.
    pub(crate) fn answered(&self, head: &HeaderMap) {
        if let Some(asked) = self.asked() {
            self.measure(asked, status::read(head).is_some_and(latency::is_failure));
        }
    }

    /// When the backend was asked, if that is still of interest: from then on it is not.
    fn asked(&self) -> Option<Instant> {
        self.watched.as_ref().and_then(|watched| watched.asked.take())
    }

    fn measure(&self, asked: Instant, failed: bool) {
        let Some(latency) = &self.pool.endpoint.latency else { return };
        match failed {
            true => latency.failed(self.pool.worker, asked, Instant::now()),
            false => latency.answered(self.pool.worker, asked, Instant::now()),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(asked) = self.asked() {
            self.measure(asked, true);
        }
        self.pool.endpoint.ended(self.pool.worker);
        self.connection.stream_ended(!self.pool.waiting.borrow().is_empty());
    }
}

/// A call that waits, in the load of its endpoint: until it is given a stream, which is counted from then on, or leaves.
struct WaitingLoad {
    endpoint: Arc<Endpoint>,
    worker: usize,
    ended: Cell<bool>,
}

impl WaitingLoad {
    fn new(pool: &Pool) -> Rc<WaitingLoad> {
        pool.endpoint.waits(pool.worker);
        Rc::new(WaitingLoad { endpoint: pool.endpoint.clone(), worker: pool.worker, ended: Cell::new(false) })
    }

    fn end(&self) {
        if !self.ended.replace(true) {
            self.endpoint.waits_no_longer(self.worker);
        }
    }
}

/// Whoever leaves is no load, though the pool may yet have to notice.
struct EndOnDrop(Rc<WaitingLoad>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// One call that waits for a stream, in the metrics.
struct Counted<'a>(&'a WorkerMetrics, Arc<Cluster>);

impl<'a> Counted<'a> {
    fn new(metrics: &'a WorkerMetrics, cluster: Arc<Cluster>) -> Counted<'a> {
        metrics.calls_waiting[cluster.index].add(1);
        Counted(metrics, cluster)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.calls_waiting[self.1.index].sub(1);
    }
}
