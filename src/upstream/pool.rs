//! The connections of one worker to one endpoint, and who waits for a stream.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::connection::{self, Connection};
use crate::cluster::{Cluster, Endpoint};
use crate::metrics::WorkerMetrics;

/// Streams that a connection is expected to carry before its backend has said how many.
const EXPECTED_STREAMS: usize = 100;

/// An endpoint that failed to connect is left alone for this long, doubled with each failure in a row.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// An endpoint that keeps failing is still tried this often.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// The connections of one worker to one endpoint.
pub(crate) struct Pool {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) worker: usize,
    pub(crate) metrics: Arc<WorkerMetrics>,
    connections: RefCell<Vec<Rc<Connection>>>,
    waiting: RefCell<VecDeque<oneshot::Sender<Result<Lease, ConnectFailed>>>>,
    dialing: Cell<usize>,
    /// Streams that the backend's connections took last.
    usual_streams: Cell<usize>,
    failures: Cell<u32>,
    failing_until: Cell<Option<Instant>>,
    retired: Cell<bool>,
}

/// The endpoint could not be connected to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectFailed;

/// The right to open one stream, and the stream's place until it ends.
pub(crate) struct Lease {
    pub(crate) connection: Rc<Connection>,
    pub(crate) pool: Rc<Pool>,
}

impl Pool {
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        endpoint: Arc<Endpoint>,
        worker: usize,
        metrics: Arc<WorkerMetrics>,
    ) -> Pool {
        Pool {
            cluster,
            endpoint,
            worker,
            metrics,
            connections: RefCell::default(),
            waiting: RefCell::default(),
            dialing: Cell::new(0),
            usual_streams: Cell::new(EXPECTED_STREAMS),
            failures: Cell::new(0),
            failing_until: Cell::new(None),
            retired: Cell::new(false),
        }
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
        let connections = self.connections.borrow();
        let connection = connections.iter().find(|connection| connection.has_room())?;
        Some(self.open(connection.clone()))
    }

    fn open(self: &Rc<Pool>, connection: Rc<Connection>) -> Lease {
        connection.opened();
        self.endpoint.opened(self.worker);
        Lease { connection, pool: self.clone() }
    }

    /// Waits for a stream, and has connections opened for as many as wait.
    ///
    /// # Errors
    ///
    /// When connecting failed while this call waited.
    pub(crate) async fn lease(self: &Rc<Pool>) -> Result<Lease, ConnectFailed> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().push_back(sender);
        self.serve_waiting();
        receiver.await.unwrap_or(Err(ConnectFailed))
    }

    /// Gives free streams to those who wait, and dials for the rest.
    pub(crate) fn serve_waiting(self: &Rc<Pool>) {
        loop {
            if self.waiting.borrow().is_empty() {
                return;
            }
            let Some(lease) = self.take_free() else { break };
            let next = self.waiting.borrow_mut().pop_front();
            if let Some(next) = next {
                // A call that left in the meantime returns the lease, which comes back here by Drop.
                let _ = next.send(Ok(lease));
            }
        }
        self.dial_for_waiting();
    }

    /// The same, for somebody who does not know whether anyone waits.
    pub(super) fn serve_if_waiting(self: &Rc<Pool>) {
        if !self.waiting.borrow().is_empty() {
            self.serve_waiting();
        }
    }

    fn dial_for_waiting(self: &Rc<Pool>) {
        self.waiting.borrow_mut().retain(|waiting| !waiting.is_closed());
        let wanted = self.waiting.borrow().len().div_ceil(self.usual_streams.get().max(1));
        while self.dialing.get() < wanted {
            self.dial();
        }
    }

    fn dial(self: &Rc<Pool>) {
        self.dialing.set(self.dialing.get() + 1);
        tokio::task::spawn_local(connection::run(self.clone()));
    }

    /// A connection is up.
    pub(super) fn connected(self: &Rc<Pool>, connection: &Rc<Connection>) {
        self.dialing.set(self.dialing.get() - 1);
        self.failures.set(0);
        self.failing_until.set(None);
        self.usual_streams.set(connection.most_streams().max(1));
        self.metrics.upstream_connections[self.cluster.index].add(1);
        if self.retired.get() {
            connection.close();
            return;
        }
        self.connections.borrow_mut().push(connection.clone());
        self.serve_waiting();
    }

    /// A connect failed. Those who wait go elsewhere, unless another connection may still serve them.
    pub(super) fn connect_failed(self: &Rc<Pool>) {
        self.dialing.set(self.dialing.get() - 1);
        self.metrics.connect_failures[self.cluster.index].add(1);
        let failures = self.failures.get();
        self.failures.set(failures.saturating_add(1));
        let backoff = FIRST_BACKOFF.saturating_mul(1 << failures.min(16)).min(LONGEST_BACKOFF);
        self.failing_until.set(Some(Instant::now() + backoff));
        if self.dialing.get() == 0 && self.connections.borrow().is_empty() {
            for waiting in self.waiting.take() {
                let _ = waiting.send(Err(ConnectFailed));
            }
        }
    }

    /// A connection takes no more streams, or is gone.
    pub(super) fn forget(self: &Rc<Pool>, connection: &Rc<Connection>) {
        self.connections.borrow_mut().retain(|one| !Rc::ptr_eq(one, connection));
        self.serve_waiting();
    }

    /// True while the endpoint should be passed over because it could not be connected to. When its time is over, one
    /// connect is tried in the background, so that no call has to wait for it.
    pub(crate) fn is_failing(self: &Rc<Pool>) -> bool {
        let Some(until) = self.failing_until.get() else { return false };
        if Instant::now() >= until && self.dialing.get() == 0 {
            self.dial();
        }
        true
    }

    /// The endpoint has left the cluster: open streams go on, and each connection closes after its last.
    pub(crate) fn retire(&self) {
        self.retired.set(true);
        for connection in self.connections.take() {
            connection.close();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.endpoint.ended(self.pool.worker);
        self.connection.ended();
        self.pool.serve_if_waiting();
    }
}
