//! What the tasks of one worker share. It never leaves the worker's thread, and so needs no locks.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use crate::access_log::{Appender, Sender};
use crate::chain::Chain;
use crate::cluster::Cluster;
use crate::config::plan::{self, CallPolicy, MethodConfig, Plan, ServiceConfig};
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
    /// Raised when streams should end whose route has them end with a drain.
    pub(crate) streams_end: Rc<Signal>,
}

/// Where a route leads.
pub(crate) struct RouteTarget {
    pub(crate) id: Arc<str>,
    /// Index into the plan's clusters.
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

/// What every worker is made from.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) plan: Arc<Plan>,
    pub(crate) clusters: Vec<Arc<Cluster>>,
    pub(crate) access_log: Option<Sender>,
}

impl Local {
    /// For the worker with this index, on whose thread it is made.
    pub(crate) fn new(index: usize, parts: Parts, metrics: Arc<WorkerMetrics>) -> Local {
        let upstreams: Vec<Rc<Upstream>> = parts
            .clusters
            .iter()
            .map(|cluster| Rc::new(Upstream::new(cluster.clone(), index, metrics.clone())))
            .collect();
        for upstream in &upstreams {
            tokio::task::spawn_local(upstream.clone().follow());
        }
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
                subset: route.subset.or_else(|| upstreams[route.cluster].cluster.plan.default_subset()),
                timeouts: route.timeouts,
                on_drain: route.on_drain,
                chain: chain.clone(),
                upstream: upstreams[route.cluster].clone(),
                methods: Methods::new(route, &upstreams[route.cluster].cluster.plan),
            };
            (route.clone(), Rc::new(target))
        });
        let router = Router::new(routes);
        Listener { index, plan, router, streams_end: Rc::default() }
    }
}

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
