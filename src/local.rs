//! What the tasks of one worker share. It never leaves the worker's thread, and so needs no locks.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::time::Instant;

use crate::access_log::{Appender, Sender};
use crate::chain::Chain;
use crate::cluster::Cluster;
use crate::config::plan::{self, CallPolicy, MethodConfig, Plan, ServiceConfig};
use crate::drain::Signal;
use crate::memory::Memory;
use crate::metrics::{Slot, WorkerMetrics};
use crate::route::Router;
use crate::upstream::Upstream;

/// A worker's own copy of what runs, and its way to the rest of the process.
pub(crate) struct Local {
    index: usize,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) access_log: Option<Appender>,
    /// By their numbers.
    listeners: RefCell<HashMap<usize, Rc<Listener>>>,
    /// Those that a reload took away, while they have connections.
    leaving: RefCell<Vec<(usize, Weak<Listener>)>>,
    upstreams: RefCell<Vec<Rc<Upstream>>>,
    pub(crate) memory: Option<Arc<Memory>>,
}

/// A listening socket, as one worker serves what comes from it.
pub(crate) struct Listener {
    /// The place of its counters.
    pub(crate) index: usize,
    /// Raised when connections should say goodbye. Those that come later listen to a signal of their own.
    pub(crate) drain: RefCell<Rc<Signal>>,
    /// Raised when calls have had their time.
    pub(crate) cut: Rc<Signal>,
    /// Raised when streams should end whose route has them end with a drain.
    streams_end: Rc<Signal>,
    now: RefCell<Rc<Served>>,
}

/// What ends calls, and streams whose route says so.
type Signals = (Rc<Signal>, Rc<Signal>);

/// What a listener serves, from one reload to the next. A call that has begun keeps it to its end.
pub(crate) struct Served {
    /// The place of its counters, for as long as something is counted there.
    slot: Arc<Slot>,
    pub(crate) index: usize,
    pub(crate) plan: plan::Listener,
    pub(crate) router: Router<RouteTarget>,
    pub(crate) cut: Rc<Signal>,
    /// Raised when streams should end whose route has them end with a drain.
    pub(crate) streams_end: Rc<Signal>,
}

/// Where a route leads.
pub(crate) struct RouteTarget {
    pub(crate) id: Arc<str>,
    /// The place of its cluster's counters.
    pub(crate) cluster: usize,
    /// Which of the cluster's endpoints; `None` is all of them.
    pub(crate) subset: Option<usize>,
    pub(crate) timeouts: plan::Timeouts,
    pub(crate) on_drain: plan::OnDrain,
    pub(crate) chain: Rc<Chain>,
    pub(crate) upstream: Rc<Upstream>,
    /// What holds for some of its calls; `None` where nothing does.
    pub(crate) methods: Option<Methods>,
}

/// What a route and its cluster say of a method's calls.
pub(crate) struct Methods {
    /// The route's policy, or the cluster's.
    policy: Option<CallPolicy>,
    service_config: Option<Arc<ServiceConfig>>,
}

/// What every worker is made from, and made anew by a reload.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) plan: Arc<Plan>,
    /// The number and the place of each listener of the plan.
    pub(crate) listeners: Vec<(usize, Arc<Slot>)>,
    /// In the order of the plan.
    pub(crate) clusters: Vec<Arc<Cluster>>,
    pub(crate) memory: Option<Arc<Memory>>,
}

// === impl Local ===

impl Local {
    /// For the worker with this index, on whose thread it is made.
    pub(crate) fn new(index: usize, parts: &Parts, access_log: Option<&Sender>, metrics: Arc<WorkerMetrics>) -> Local {
        let local = Local {
            index,
            metrics,
            access_log: access_log.map(Sender::appender),
            listeners: RefCell::default(),
            leaving: RefCell::default(),
            upstreams: RefCell::default(),
            memory: parts.memory.clone(),
        };
        local.reload(parts);
        local
    }

    /// Serves this from the next call on.
    pub(crate) fn reload(&self, parts: &Parts) {
        self.reload_upstreams(&parts.clusters);
        let upstreams = self.upstreams.borrow();
        let mut before = self.listeners.take();
        let mut listeners = HashMap::new();
        for (plan, (number, slot)) in parts.plan.listeners.iter().zip(&parts.listeners) {
            let kept = before.remove(number).filter(|listener| listener.index == slot.index);
            let signals = kept.as_ref().map(|listener| (listener.cut.clone(), listener.streams_end.clone()));
            let served = Rc::new(Served::new(slot.clone(), plan.clone(), &upstreams, signals.unwrap_or_default()));
            let listener = kept.unwrap_or_else(|| Rc::new(Listener::new(served.clone())));
            listener.now.replace(served);
            listeners.insert(*number, listener);
        }
        self.listeners.replace(listeners);
        let mut leaving = self.leaving.borrow_mut();
        leaving.retain(|(_, listener)| listener.strong_count() > 0);
        for (number, listener) in before {
            listener.drain.take().raise();
            listener.streams_end.raise();
            leaving.push((number, Rc::downgrade(&listener)));
        }
    }

    fn reload_upstreams(&self, clusters: &[Arc<Cluster>]) {
        let mut before = self.upstreams.take();
        let mut upstreams = Vec::with_capacity(clusters.len());
        for cluster in clusters {
            let known = before.iter().position(|one| one.cluster.plan.name == cluster.plan.name);
            let known = known.map(|at| before.swap_remove(at));
            upstreams.push(match known {
                Some(upstream) if Arc::ptr_eq(&upstream.cluster, cluster) => upstream,
                known => {
                    let fresh = || Upstream::new(cluster.clone(), self.index, self.metrics.clone());
                    let upstream = known.map_or_else(fresh, |known| Upstream::succeed(cluster.clone(), &known));
                    let upstream = Rc::new(upstream);
                    upstream.follow();
                    upstream
                }
            });
        }
        before.iter().for_each(|gone| gone.leave());
        self.upstreams.replace(upstreams);
    }

    /// The listener with this number.
    pub(crate) fn listener(&self, number: usize) -> Rc<Listener> {
        self.listeners.borrow()[&number].clone()
    }

    /// Has every connection say goodbye that is open now.
    pub(crate) fn drain(&self) {
        self.listeners.borrow().values().for_each(|listener| listener.drain.take().raise());
    }

    /// Has streams end whose route has them end with a drain, or has no more of them end.
    pub(crate) fn end_streams(&self, end: bool) {
        for listener in self.listeners.borrow().values() {
            if end { listener.streams_end.raise() } else { listener.streams_end.lower() }
        }
    }

    /// Ends every call, or those of one listener that a reload took away.
    pub(crate) fn cut(&self, only: Option<usize>) {
        let leaving = self.leaving.borrow();
        let leaving = leaving.iter().filter(|(number, _)| only.is_none_or(|only| only == *number));
        leaving.filter_map(|(_, listener)| listener.upgrade()).for_each(|listener| listener.cut.raise());
        if only.is_none() {
            self.listeners.borrow().values().for_each(|listener| listener.cut.raise());
        }
    }
}

// === impl Listener ===

impl Listener {
    fn new(served: Rc<Served>) -> Listener {
        let (index, cut, streams_end) = (served.index, served.cut.clone(), served.streams_end.clone());
        Listener { index, drain: RefCell::default(), cut, streams_end, now: RefCell::new(served) }
    }

    /// What it serves now.
    pub(crate) fn served(&self) -> Rc<Served> {
        self.now.borrow().clone()
    }

    /// Its name in metrics and in logs.
    pub(crate) fn name(&self) -> Arc<str> {
        self.now.borrow().slot.name.clone()
    }
}

// === impl Served ===

impl Served {
    fn new(slot: Arc<Slot>, plan: plan::Listener, upstreams: &[Rc<Upstream>], signals: Signals) -> Served {
        let chain = Rc::new(Chain::new(&plan.filters));
        let routes = plan.routes.iter().map(|route| {
            let upstream = upstreams[route.cluster].clone();
            let target = RouteTarget {
                id: route.id.clone(),
                cluster: upstream.cluster.index,
                subset: route.subset.or_else(|| upstream.cluster.plan.default_subset()),
                timeouts: route.timeouts,
                on_drain: route.on_drain,
                chain: chain.clone(),
                methods: Methods::new(route, &upstream.cluster.plan),
                upstream,
            };
            (route.clone(), Rc::new(target))
        });
        let router = Router::new(routes);
        let (cut, streams_end) = signals;
        Served { index: slot.index, slot, plan, router, cut, streams_end }
    }
}

// === impl Methods ===

impl Methods {
    fn new(route: &plan::Route, cluster: &plan::Cluster) -> Option<Methods> {
        let policy = route.call_policy.as_ref().or(cluster.call_policy.as_ref()).cloned();
        let service_config = cluster.service_config.clone();
        (policy.is_some() || service_config.is_some()).then_some(Methods { policy, service_config })
    }

    /// When a call of this method is made more than once.
    pub(crate) fn policy(&self, path: &str) -> Option<&CallPolicy> {
        self.policy.as_ref().or_else(|| self.config(path)?.call_policy.as_ref())
    }

    /// The deadline of a call of this method, which came with this one: the earlier of that and the method's own.
    pub(crate) fn deadline(&self, path: &str, arrived: Instant, deadline: Option<Instant>) -> Option<Instant> {
        let own = self.config(path).and_then(|method| arrived.checked_add(method.timeout?));
        own.into_iter().chain(deadline).min()
    }

    fn config(&self, path: &str) -> Option<&MethodConfig> {
        self.service_config.as_ref()?.method(path)
    }
}
