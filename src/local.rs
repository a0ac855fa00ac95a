//! What the tasks of one worker share. It never leaves the worker's thread, and so needs no locks.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::access_log::{Appender, Sender};
use crate::chain::Chain;
use crate::cluster::Cluster;
use crate::config::plan::{self, Plan};
use crate::drain::Signal;
use crate::metrics::WorkerMetrics;
use crate::route::Router;
use crate::upstream::Upstream;

/// A worker's own copy of what runs, and its way to the rest of the process.
pub(crate) struct Local {
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) access_log: Option<Appender>,
    /// Raised when connections should say goodbye. Those that come later listen to a signal of their own.
    pub(crate) drain: RefCell<Rc<Signal>>,
    /// Raised when the drain's time is over.
    pub(crate) cut: Rc<Signal>,
    pub(crate) listeners: Vec<Rc<Listener>>,
}

/// A listener, as one worker serves it.
pub(crate) struct Listener {
    pub(crate) index: usize,
    pub(crate) plan: plan::Listener,
    pub(crate) router: Router<RouteTarget>,
}

/// Where a route leads.
pub(crate) struct RouteTarget {
    pub(crate) id: Arc<str>,
    /// Index into the plan's clusters.
    pub(crate) cluster: usize,
    pub(crate) timeouts: plan::Timeouts,
    pub(crate) chain: Rc<Chain>,
    pub(crate) upstream: Rc<Upstream>,
}

/// What every worker is made from.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) plan: Arc<Plan>,
    pub(crate) clusters: Vec<Arc<Cluster>>,
    pub(crate) access_log: Option<Sender>,
}

impl Local {
    /// For the worker with this index.
    pub(crate) fn new(index: usize, parts: Parts, metrics: Arc<WorkerMetrics>) -> Local {
        let upstreams: Vec<Rc<Upstream>> = parts
            .clusters
            .iter()
            .map(|cluster| Rc::new(Upstream::new(cluster.clone(), index, metrics.clone())))
            .collect();
        let listeners = parts
            .plan
            .listeners
            .iter()
            .enumerate()
            .map(|(index, plan)| Rc::new(Listener::new(index, plan.clone(), &upstreams)))
            .collect();
        let (drain, cut) = (RefCell::default(), Rc::default());
        let access_log = parts.access_log.as_ref().map(Sender::appender);
        Local { metrics, access_log, drain, cut, listeners }
    }
}

impl Listener {
    fn new(index: usize, plan: plan::Listener, upstreams: &[Rc<Upstream>]) -> Listener {
        let chain = Rc::new(Chain::new(&plan.filters));
        let routes = plan.routes.iter().map(|route| {
            let target = RouteTarget {
                id: route.id.clone(),
                cluster: route.cluster,
                timeouts: route.timeouts,
                chain: chain.clone(),
                upstream: upstreams[route.cluster].clone(),
            };
            (route.clone(), Rc::new(target))
        });
        let router = Router::new(routes);
        Listener { index, plan, router }
    }
}
