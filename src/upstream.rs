//! The client side of HTTP/2, as one worker has it: for every endpoint a pool of its own.

mod connection;
mod dial;
mod driver;
mod pool;
mod socket;
mod timers;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::cluster::balance::{Question, Turn};
use crate::cluster::{Cluster, Members};
use crate::metrics::WorkerMetrics;
use crate::tls::Reason;

pub(crate) use pool::Lease;
use pool::{Patience, Pool};

/// A worker's way to the endpoints of one cluster.
pub(crate) struct Upstream {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) worker: usize,
    metrics: Arc<WorkerMetrics>,
    turn: Turn,
    view: RefCell<View>,
    version: Cell<u64>,
}

/// A snapshot of the cluster, with a pool beside each endpoint.
struct View {
    members: Arc<Members>,
    pools: Vec<Rc<Pool>>,
}

/// Why a call got no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unavailable {
    /// The cluster has no endpoint.
    #[error("it has no endpoints")]
    NoEndpoints,
    /// Health checks say that every endpoint is down.
    #[error("none of its endpoints is healthy")]
    NoneHealthy,
    /// No endpoint could be connected to. What TLS had against the last one, where it was that, is told: nobody finds it
    /// out who asks the backend without TLS.
    #[error("none of its endpoints could be connected to{}", .0.map_or(String::new(), |why| format!(": TLS: {why}")))]
    NoConnection(Option<Reason>),
}

impl Upstream {
    pub(crate) fn new(cluster: Arc<Cluster>, worker: usize, metrics: Arc<WorkerMetrics>) -> Upstream {
        let members = cluster.members();
        let version = Cell::new(0);
        let view = RefCell::new(View { members, pools: Vec::new() });
        Upstream { cluster, worker, metrics, turn: Turn::new(), view, version }
    }

    /// A free stream to the endpoint that the policy chooses, on a connection that is up.
    ///
    /// `tried` names endpoints that are not to be chosen again: this call has failed with them. One that cannot be
    /// connected to is passed over at once, and added; only when there is no other does a call wait for a stream to end on
    /// a connection that is there.
    ///
    /// # Errors
    ///
    /// When no endpoint is left.
    pub(crate) async fn lease(&self, question: &Question<'_>, tried: &mut Vec<usize>) -> Result<Lease, Unavailable> {
        let mut full = None;
        let mut why = None;
        loop {
            let pool = match (self.pick(question, tried), full.take()) {
                (Ok(pool), waiting) => {
                    full = waiting;
                    pool
                }
                (Err(Unavailable::NoConnection(_)), Some(pool)) => return wait(&pool).await,
                (Err(Unavailable::NoConnection(_)), None) => return Err(Unavailable::NoConnection(why)),
                (Err(unavailable), _) => return Err(unavailable),
            };
            if let Some(lease) = pool.try_lease() {
                return Ok(lease);
            }
            match pool.lease(Patience::UntilConnectFails).await {
                Ok(lease) => return Ok(lease),
                Err(pool::ConnectFailed(reason)) => {
                    why = reason.or(why);
                    tried.push(pool.endpoint.id);
                }
            }
            if pool.is_connected() {
                full.get_or_insert(pool);
            }
        }
    }

    /// The pool of the endpoint that the policy chooses. Endpoints that failed to connect a moment ago are left to a
    /// connect in the background while others can serve.
    fn pick(&self, question: &Question<'_>, tried: &[usize]) -> Result<Rc<Pool>, Unavailable> {
        self.refresh();
        let view = self.view.borrow();
        let endpoints = &view.members.endpoints;
        let choose = |skip: &dyn Fn(usize) -> bool| view.members.balancer.pick(endpoints, &self.turn, question, skip);
        let spent = |at: usize| !tried.is_empty() && tried.contains(&endpoints[at].id);
        let place = choose(&|at| view.pools[at].is_failing() || spent(at)).or_else(|| choose(&spent)).ok_or({
            if endpoints.is_empty() {
                Unavailable::NoEndpoints
            } else if tried.is_empty() {
                Unavailable::NoneHealthy
            } else {
                Unavailable::NoConnection(None)
            }
        })?;
        Ok(view.pools[place].clone())
    }

    /// Follows a change of the cluster's endpoints: pools of those that stay are kept.
    fn refresh(&self) {
        let version = self.cluster.version();
        if version == self.version.get() {
            return;
        }
        self.version.set(version);
        let members = self.cluster.members();
        let mut view = self.view.borrow_mut();
        let mut before = std::mem::take(&mut view.pools);
        view.pools = members
            .endpoints
            .iter()
            .map(|endpoint| match before.iter().position(|pool| pool.endpoint.id == endpoint.id) {
                Some(at) => before.swap_remove(at),
                None => Rc::new(Pool::new(self.cluster.clone(), endpoint.clone(), self.worker, self.metrics.clone())),
            })
            .collect();
        view.members = members;
        for gone in before {
            gone.retire();
        }
    }
}

/// Waits for a stream to end where no more connections can be had.
async fn wait(pool: &Rc<Pool>) -> Result<Lease, Unavailable> {
    pool.lease(Patience::WhileConnected).await.map_err(|pool::ConnectFailed(why)| Unavailable::NoConnection(why))
}
