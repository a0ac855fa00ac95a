//! The client side of HTTP/2, as one worker has it: for every endpoint a pool of its own.

mod connection;
mod dial;
mod driver;
mod pool;
mod rebalance;
mod removal;
mod resets;
mod socket;
mod streams;
mod timers;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{sleep_until, timeout};
use weir_filter::{Code, Status};

use crate::cluster::balance::{Question, Turn};
use crate::cluster::breaker::{Full, Kind, Methods, Pending, Place};
use crate::cluster::{Cluster, Endpoint, Members};
use crate::metrics::WorkerMetrics;
use crate::tls::Reason;

use pool::Patience;
pub(crate) use pool::{Lease, Pool};
use rebalance::Rebalance;
pub(crate) use resets::reset;
pub(crate) use streams::{Enrolled, Move, Stream};

/// A worker's way to the endpoints of one cluster.
pub(crate) struct Upstream {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) worker: usize,
    metrics: Arc<WorkerMetrics>,
    view: RefCell<View>,
    version: Cell<u64>,
    /// What this worker knows of the cluster's methods.
    pub(crate) methods: Rc<Methods>,
    follower: RefCell<Option<AbortHandle>>,
}

/// A snapshot of the cluster, with a pool beside each endpoint.
struct View {
    members: Arc<Members>,
    pools: Vec<Rc<Pool>>,
    /// What this worker remembers between choices.
    turns: Vec<Turn>,
}

/// The beginning of a call's search for a stream.
pub(crate) enum Begun {
    /// It has one.
    Leased(Lease),
    /// It has to wait.
    Waits(Waits),
}

/// A call that has to wait for a stream, and where it would have had one.
pub(crate) struct Waits {
    place: Option<Place>,
    pool: Rc<Pool>,
}

/// The answer to a call that met a circuit breaker.
#[derive(Debug)]
pub(crate) struct Shed {
    pub(crate) status: Status,
    /// The client may try again after this long.
    pub(crate) pushback: Option<Duration>,
}

/// Why a call got no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unavailable {
    /// The cluster has no endpoint.
    #[error("it has no endpoints")]
    NoEndpoints,
    /// None of its endpoints has the labels that the route asks for.
    #[error("none of its endpoints has the labels that the route asks for")]
    NotInSubset,
    /// Health checks say that every endpoint is down.
    #[error("none of its endpoints is healthy")]
    NoneHealthy,
    /// No endpoint could be connected to. What TLS had against the last one, where it was that, is told: nobody finds it
    /// out who asks the backend without TLS.
    #[error("none of its endpoints could be connected to{}", .0.map_or(String::new(), |why| format!(": TLS: {why}")))]
    NoConnection(Option<Reason>),
    /// A circuit breaker is open.
    #[error("{0}")]
    Full(#[from] Full),
}

impl Waits {
    /// The endpoint whose stream it waits for.
    pub(crate) fn endpoint(&self) -> usize {
        self.pool.endpoint.id
    }
}

impl Upstream {
    pub(crate) fn new(cluster: Arc<Cluster>, worker: usize, metrics: Arc<WorkerMetrics>) -> Upstream {
        let members = cluster.members();
        let version = Cell::new(0);
        let view = RefCell::new(View { members, pools: Vec::new(), turns: Vec::new() });
        Upstream { cluster, worker, metrics, view, version, methods: Rc::default(), follower: RefCell::default() }
    }

    /// The way to the same cluster with another configuration: over the pools of the endpoints that stay. Those of the
    /// others leave.
    pub(crate) fn succeed(cluster: Arc<Cluster>, before: &Upstream) -> Upstream {
        before.unfollow();
        let upstream = Upstream {
            methods: before.methods.clone(),
            ..Upstream::new(cluster.clone(), before.worker, before.metrics.clone())
        };
        let members = cluster.members();
        let stays = |pool: &Rc<Pool>| members.endpoints.iter().any(|endpoint| endpoint.id == pool.endpoint.id);
        let (stay, leave): (Vec<_>, Vec<_>) = before.view.borrow().pools.iter().cloned().partition(stays);
        stay.iter().chain(&leave).for_each(|pool| pool.hand_over(cluster.clone()));
        leave.iter().for_each(Pool::leave);
        upstream.view.borrow_mut().pools = stay;
        upstream.refresh();
        upstream
    }

    /// No configuration has the cluster any more. Calls that began before are served to their ends.
    pub(crate) fn leave(&self) {
        self.unfollow();
        self.cluster.leave();
        self.view.borrow().pools.iter().for_each(Pool::leave);
    }

    fn unfollow(&self) {
        if let Some(follower) = self.follower.take() {
            follower.abort();
        }
    }

    /// Counts a call that met a circuit breaker, and says what its client is told.
    pub(crate) fn shed(&self, full: Full) -> Shed {
        self.metrics.shed(self.cluster.index, full).add(1);
        let text = format!("cluster {}: {full}", self.cluster.plan.name);
        let pushback = self.cluster.breaker.as_ref().and_then(|breaker| breaker.plan.pushback);
        Shed { status: Status::new(Code::ResourceExhausted, text), pushback }
    }

    /// A free stream to the endpoint that the policy chooses, if its connections have one, which is nearly always. Otherwise
    /// the call waits for one in [`Upstream::lease`].
    ///
    /// # Errors
    ///
    /// When no endpoint can be chosen, or a circuit breaker is open.
    pub(crate) fn try_lease(&self, question: &Question<'_>, tried: &[usize]) -> Result<Begun, Unavailable> {
        let place = Place::take(&self.cluster, &self.methods, question.path)?;
        let pool = self.pick(question, place.as_ref().map(Place::kind), tried)?;
        let Some(lease) = pool.try_lease() else { return Ok(Begun::Waits(Waits { place, pool })) };
        match place {
            None => Ok(Begun::Leased(lease)),
            Some(place) if place.take_at(&pool.endpoint) => Ok(Begun::Leased(lease.at(place))),
            place => Ok(Begun::Waits(Waits { place, pool })),
        }
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
    pub(crate) async fn lease(
        &self,
        waits: Waits,
        question: &Question<'_>,
        tried: &mut Vec<usize>,
    ) -> Result<Lease, Unavailable> {
        let Waits { mut place, pool } = waits;
        let kind = place.as_ref().map(Place::kind);
        let mut chosen = Some(pool);
        loop {
            let lease = self.find(chosen.take(), question, kind, tried).await?;
            match place.take() {
                None => return Ok(lease),
                Some(taken) if taken.take_at(&lease.pool.endpoint) => return Ok(lease.at(taken)),
                // Another worker's call has taken the endpoint's last place meanwhile.
                full => place = full,
            }
        }
    }

    async fn find(
        &self,
        mut chosen: Option<Rc<Pool>>,
        question: &Question<'_>,
        kind: Option<Kind>,
        tried: &mut Vec<usize>,
    ) -> Result<Lease, Unavailable> {
        let mut full = None;
        let mut why = None;
        loop {
            let picked = chosen.take().map_or_else(|| self.pick(question, kind, tried), Ok);
            let pool = match (picked, full.take()) {
                (Ok(pool), waiting) => {
                    full = waiting;
                    pool
                }
                (Err(Unavailable::NoConnection(_)), Some(pool)) => match self.wait(&pool).await {
                    // It has left the cluster. Another may have come in its place.
                    Err(Unavailable::NoConnection(reason)) if pool.is_retired() => {
                        why = reason.or(why);
                        continue;
                    }
                    waited => return waited,
                },
                (Err(Unavailable::NoConnection(_)), None) => return Err(Unavailable::NoConnection(why)),
                (Err(unavailable), _) => return Err(unavailable),
            };
            if let Some(lease) = pool.try_lease() {
                return Ok(lease);
            }
            match self.in_time(pool.lease(Patience::UntilConnectFails)).await? {
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
    fn pick(&self, question: &Question<'_>, kind: Option<Kind>, tried: &[usize]) -> Result<Rc<Pool>, Unavailable> {
        self.refresh();
        let view = self.view.borrow();
        let endpoints = &view.members.endpoints;
        let choose = |skip: &dyn Fn(usize) -> bool| view.members.pick(&view.turns, question, skip);
        let full = |at: usize| self.is_full(&endpoints[at], kind);
        let spent = |at: usize| (!tried.is_empty() && tried.contains(&endpoints[at].id)) || full(at);
        let place =
            choose(&|at| view.pools[at].is_failing() || spent(at)).or_else(|| choose(&spent)).ok_or_else(|| {
                if endpoints.is_empty() {
                    Unavailable::NoEndpoints
                } else if view.members.is_nobody(question) {
                    Unavailable::NotInSubset
                } else if let Some(kind) = kind.filter(|_| (0..endpoints.len()).any(full)) {
                    Unavailable::Full(if kind == Kind::Unary { Full::EndpointCalls } else { Full::EndpointStreams })
                } else if tried.is_empty() {
                    Unavailable::NoneHealthy
                } else {
                    Unavailable::NoConnection(None)
                }
            })?;
        Ok(view.pools[place].clone())
    }

    fn is_full(&self, endpoint: &Endpoint, kind: Option<Kind>) -> bool {
        let limits = kind.zip(self.cluster.breaker.as_ref());
        limits.is_some_and(|(kind, breaker)| breaker.is_full(endpoint, kind))
    }

    /// Waits for a stream to end where no more connections can be had.
    async fn wait(&self, pool: &Rc<Pool>) -> Result<Lease, Unavailable> {
        let lease = self.in_time(pool.lease(Patience::WhileConnected)).await?;
        lease.map_err(|pool::ConnectFailed(why)| Unavailable::NoConnection(why))
    }

    /// Waits for as long as a call may.
    async fn in_time<T>(&self, lease: impl Future<Output = T>) -> Result<T, Full> {
        let _pending = Pending::take(&self.cluster)?;
        match self.cluster.breaker.as_ref().and_then(|breaker| breaker.plan.pending_timeout) {
            Some(limit) => timeout(limit, lease).await.map_err(|_| Full::PendingTimeout),
            None => Ok(lease.await),
        }
    }

    /// Follows the cluster's endpoints for as long as its configuration holds, and has streams move to those that join, so
    /// that a change is noticed where no call comes.
    pub(crate) fn follow(self: &Rc<Upstream>) {
        let upstream = self.clone();
        let following = tokio::task::spawn_local(async move {
            let plan = &upstream.cluster.plan;
            let mut rebalance = plan.rebalance.map(|own| Rebalance::new(own, plan));
            loop {
                let changed = upstream.cluster.changed();
                upstream.refresh();
                let due = rebalance.as_mut().and_then(|rebalance| {
                    let view = upstream.view.borrow();
                    rebalance.follow(&view.members, &view.pools)
                });
                match due {
                    None => changed.await,
                    Some(due) => tokio::select! {
                        () = changed => {}
                        () = sleep_until(due) => {}
                    },
                }
            }
        });
        self.follower.replace(Some(following.abort_handle()));
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
        let missing = members.turns.saturating_sub(view.turns.len());
        view.turns.extend((0..missing).map(|_| Turn::new()));
        let is_same = |(pool, endpoint): (&Rc<Pool>, &Arc<Endpoint>)| pool.endpoint.id == endpoint.id;
        if view.pools.len() == members.endpoints.len() && view.pools.iter().zip(&members.endpoints).all(is_same) {
            view.members = members;
            return;
        }
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
