//! From a plan to a gateway that serves.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::listening::{self, Listening};
use super::{Gateway, StartError};
use crate::access_log::AccessLog;
use crate::admin::{self, ConfigStatus, State};
use crate::cluster::Cluster;
use crate::cluster::keeper::Keeper;
use crate::config::plan::{self, Binding, Plan};
use crate::drain::{self, Stages};
use crate::handover::{Kept, Sockets};
use crate::listener::Admission;
use crate::local::Parts;
use crate::memory::Memory;
use crate::metrics::{Places, Slot};
use crate::socket::{self, Address, ListeningSocket};
use crate::tls;
use crate::worker::Handle;

impl Gateway {
    /// Binds everything, then starts everything. It serves when this returns.
    ///
    /// It must be called on a tokio runtime, which then carries discovery, health checks and the admin listener; calls
    /// run on threads of their own.
    ///
    /// # Errors
    ///
    /// When a socket, a file or a thread cannot be had. Nothing is left running.
    pub async fn start(plan: Plan) -> Result<Gateway, StartError> {
        Gateway::start_with(plan, Sockets::default()).await
    }

    /// The same, with sockets that are there already.
    pub(crate) async fn start_with(plan: Plan, mut given: Sockets) -> Result<Gateway, StartError> {
        let plan = Arc::new(plan);
        let mut kept = Vec::new();
        let mut bind = |what: &str, binding: &Binding| bind(what, binding, &mut given, &mut kept);
        let sockets = bind_listeners(&plan, &mut bind)?;
        let admin_socket = plan.admin.as_ref().map(|binding| bind("admin", binding)).transpose()?;
        let metrics_socket = plan.metrics.map(|address| bind("metrics", &address.into())).transpose()?;
        if let Some((name, address)) = given.untaken() {
            return Err(StartError::Untaken { name: name.to_owned(), address: address.clone() });
        }
        let access_log = open_access_log(&plan)?;

        let workers = plan.workers.map_or_else(granted_cpus, std::num::NonZeroUsize::get);
        let places = Arc::new(Places::default());
        let (keepers, clusters) = start_clusters(&plan, &places, workers).await;
        let slots: Vec<Arc<Slot>> = plan.listeners.iter().map(|one| place_of(&one.name, &places, &[])).collect();
        let memory = plan.memory_limit.map(|limit| Arc::new(Memory::new(limit)));
        let parts = Parts {
            plan: plan.clone(),
            listeners: slots.iter().cloned().enumerate().collect(),
            clusters: clusters.clone(),
            memory: memory.clone(),
        };
        let sender = || access_log.as_ref().map(AccessLog::sender);
        let handles = (0..workers).map(|index| Handle::start(index, parts.clone(), sender()));
        let handles = Arc::new(handles.collect::<io::Result<Vec<_>>>().map_err(StartError::Worker)?);
        for cluster in &clusters {
            cluster.retries.watch(handles.iter().map(|worker| worker.metrics.clone()));
        }

        let admissions: Vec<_> =
            plan.listeners.iter().map(|listener| Arc::new(Admission::new(listener.into(), memory.clone()))).collect();
        let state = State {
            plan: plan.clone(),
            clusters,
            workers: handles.clone(),
            drain: Arc::new(Stages::default()),
            admissions: admissions.clone(),
            memory,
            places,
            config: Arc::new(ConfigStatus::new()),
        };
        let state = Arc::new(ArcSwap::from_pointee(state));
        let admin = admin_socket.as_ref().map(|(_, address)| address.clone());
        let metrics = metrics_socket.as_ref().map(|(_, address)| address.clone());
        let mut control = JoinSet::new();
        let (mut pages, mut page_sockets) = (JoinSet::new(), Vec::new());
        for (socket, which) in [(admin_socket, admin::Pages::All), (metrics_socket, admin::Pages::Metrics)] {
            if let Some((socket, _)) = socket {
                let socket = Arc::new(socket);
                page_sockets.push(Arc::downgrade(&socket));
                pages.spawn(admin::serve(socket, which, state.clone()));
            }
        }
        if let Some(memory) = &state.load().memory {
            control.spawn(memory.clone().watch(handles.clone()));
        }
        control.spawn(drain::attend(state.clone()));
        tls::follow_files(&plan, None, &mut control);
        let sockets = plan.listeners.iter().zip(sockets).zip(admissions);
        let accept = |((number, slot), ((plan, socket), admission))| {
            let place = listening::Place { number, slot, admission };
            Listening::start(place, plan, Arc::new(socket), handles.clone())
        };
        let listening: Vec<Listening> = slots.into_iter().enumerate().zip(sockets).map(accept).collect();
        let listeners = listening.iter().map(|one| (one.slot.name.clone(), one.bound.clone())).collect();
        let numbers = listening.len();
        Ok(Gateway {
            state,
            listening,
            numbers,
            keepers,
            control,
            pages,
            page_sockets,
            keeps_sockets: given.are_kept,
            unused: given,
            kept,
            is_relieved: false,
            access_log,
            listeners,
            admin,
            metrics,
        })
    }
}

/// A socket that listens, and its address: one that is given, or else a new one.
pub(super) fn bind(
    what: &str,
    binding: &Binding,
    given: &mut Sockets,
    kept: &mut Vec<Kept>,
) -> Result<(ListeningSocket, Address), StartError> {
    let address = &binding.address;
    let error = |error| StartError::Bind { what: what.to_owned(), address: address.clone(), error };
    let socket = match given.take(what, address) {
        Some(socket) => socket,
        None => socket::bind(address, binding.mode).map_err(error)?,
    };
    if given.are_kept {
        kept.push(Kept::new(what.to_owned(), address, &socket).map_err(error)?);
    }
    let bound = socket.address().map_err(error)?;
    Ok((socket, bound))
}

/// Binds one of the plan's sockets, by what errors call it.
type Bind<'b> = dyn FnMut(&str, &Binding) -> Result<(ListeningSocket, Address), StartError> + 'b;

fn bind_listeners(plan: &Plan, bind: &mut Bind<'_>) -> Result<Vec<ListeningSocket>, StartError> {
    let mut bind = |listener: &plan::Listener| bind(&format!("listener {}", listener.name), &listener.binding);
    plan.listeners.iter().map(|listener| bind(listener).map(|(socket, _)| socket)).collect()
}

fn open_access_log(plan: &Plan) -> Result<Option<AccessLog>, StartError> {
    let open = |path: &std::path::PathBuf| {
        AccessLog::open(path).map_err(|error| StartError::AccessLog { path: path.display().to_string(), error })
    };
    plan.access_log.as_ref().map(open).transpose()
}

/// Fills every cluster, all at once, each with what keeps it up to date.
async fn start_clusters(plan: &Plan, places: &Places, workers: usize) -> (Vec<Keeper>, Vec<Arc<Cluster>>) {
    let start = |plan: &plan::Cluster| {
        let slot = places.clusters.take(&plan.name, |_| ());
        Keeper::new(Arc::new(Cluster::new(slot, plan.clone(), workers)))
    };
    let (keepers, filled): (Vec<Keeper>, Vec<_>) = plan.clusters.iter().map(start).unzip();
    for (told, keeper) in filled.into_iter().zip(&keepers) {
        if told.await.is_err() {
            tracing::error!(cluster = %keeper.cluster.plan.name, "a cluster's discovery panicked");
        }
    }
    let clusters = keepers.iter().map(|keeper| keeper.cluster.clone()).collect();
    (keepers, clusters)
}

/// Begins to look after a cluster that is new to a gateway which serves.
pub(super) fn keep(plan: &plan::Cluster, places: &Places, workers: &[Handle]) -> (Keeper, oneshot::Receiver<()>) {
    let clear = |index| workers.iter().for_each(|worker| worker.metrics.clear_cluster(index));
    let slot = places.clusters.take(&plan.name, clear);
    let cluster = Arc::new(Cluster::new(slot, plan.clone(), workers.len()));
    cluster.retries.watch(workers.iter().map(|worker| worker.metrics.clone()));
    Keeper::new(cluster)
}

/// The place of a listener's counters.
pub(super) fn place_of(name: &Arc<str>, places: &Places, workers: &[Handle]) -> Arc<Slot> {
    places.listeners.take(name, |index| workers.iter().for_each(|worker| worker.metrics.clear_listener(index)))
}

/// The CPUs that affinity and the cgroup's quota grant, at least one.
fn granted_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}
