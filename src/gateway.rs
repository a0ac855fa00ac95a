//! A plan at work: listeners, workers, clusters and the admin listener, from start to drain.

mod listening;
mod reload;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::access_log::AccessLog;
use crate::admin::{self, ConfigStatus, State};
pub use crate::admin::{ReloadRequest, ReloadRequests};
use crate::cluster::Cluster;
use crate::cluster::keeper::Keeper;
use crate::config::plan::{self, Plan};
use crate::drain::{self, Stages};
use crate::handover::{Kept, Sockets};
use crate::listener::{self, Admission};
use crate::local::Parts;
use crate::memory::Memory;
use crate::metrics::{Places, Slot};
use crate::tls;
use crate::worker::{Command, Handle};
use listening::Listening;
pub use reload::{ReloadError, Reloaded};

/// How often a drain looks whether it is done.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

/// What calls that are cut may take to tell their clients.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A gateway that serves. Dropping it ends it, calls and all; [`Gateway::drain`] ends it gently.
#[derive(Debug)]
pub struct Gateway {
    state: Arc<ArcSwap<State>>,
    /// In the order of the file.
    listening: Vec<Listening>,
    /// Numbers that listeners have had.
    numbers: usize,
    /// Discovery with its health checks, in the order of the file.
    keepers: Vec<Keeper>,
    /// What the admin listener asks for, files that are followed, and the ends of listeners that went.
    control: JoinSet<()>,
    /// The admin listener, and that of metrics alone.
    pages: JoinSet<()>,
    /// A process may take over from this one.
    keeps_sockets: bool,
    /// The sockets that it would need.
    kept: Vec<Kept>,
    /// Another process serves in the place of this one.
    is_relieved: bool,
    access_log: Option<AccessLog>,
    listeners: Vec<(Arc<str>, SocketAddr)>,
    admin: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
}

/// Why a gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listening socket could not be bound.
    #[error("{what} cannot listen on {address}: {error}")]
    Bind {
        /// Whose socket.
        what: String,
        /// The address in the configuration.
        address: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// The access log could not be opened.
    #[error("the access log {path} cannot be opened: {error}")]
    AccessLog {
        /// The path in the configuration.
        path: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// A socket of the service manager belongs to nobody: clients would wait at it for ever.
    #[error("the service manager passed a socket on {address} (`{name}`) that no listener has")]
    Untaken {
        /// What the service manager calls it.
        name: String,
        /// Where it listens.
        address: SocketAddr,
    },
    /// What the service manager passed makes no sense, or it cannot be told that the gateway serves.
    #[error("{0}")]
    ServiceManager(io::Error),
    /// There is a process to take over from, and it cannot be done; or none could take over from this one.
    #[error("no take-over at {path}: {error}")]
    TakeOver {
        /// The socket for it.
        path: String,
        /// What went wrong.
        error: io::Error,
    },
    /// A thread or a runtime could not be made.
    #[error("a worker cannot start: {0}")]
    Worker(io::Error),
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Calls that were ended before their backend ended them, or before their client took all of the answer; at least so
    /// many.
    pub cut: u64,
}

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
        let mut bind = |what: &str, address| bind(what, address, &mut given, &mut kept);
        let sockets = bind_listeners(&plan, &mut bind)?;
        let admin_socket = plan.admin.map(|address| bind("admin", address)).transpose()?;
        let metrics_socket = plan.metrics.map(|address| bind("metrics", address)).transpose()?;
        if let Some((name, address)) = given.untaken() {
            return Err(StartError::Untaken { name: name.to_owned(), address });
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

        let admissions: Vec<_> = plan
            .listeners
            .iter()
            .map(|listener| Arc::new(Admission::new(listener.admission.clone(), memory.clone())))
            .collect();
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
        let admin = admin_socket.as_ref().map(|(_, address)| *address);
        let metrics = metrics_socket.as_ref().map(|(_, address)| *address);
        let mut control = JoinSet::new();
        let mut pages = JoinSet::new();
        for (socket, which) in [(admin_socket, admin::Pages::All), (metrics_socket, admin::Pages::Metrics)] {
            if let Some((socket, _)) = socket {
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
        let listeners = listening.iter().map(|one| (one.slot.name.clone(), one.bound)).collect();
        let numbers = listening.len();
        Ok(Gateway {
            state,
            listening,
            numbers,
            keepers,
            control,
            pages,
            keeps_sockets: given.are_kept,
            kept,
            is_relieved: false,
            access_log,
            listeners,
            admin,
            metrics,
        })
    }

    /// Listeners and the addresses that they bound, in the order of the file.
    #[must_use]
    pub fn listeners(&self) -> &[(Arc<str>, SocketAddr)] {
        &self.listeners
    }

    /// The address that a listener bound.
    #[must_use]
    pub fn listener_address(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.iter().find(|(known, _)| &**known == name).map(|(_, address)| *address)
    }

    /// The address of the admin listener.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The address where metrics alone are served.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Worker threads.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.state.load().workers.len()
    }

    /// What a process needs that takes over from this one.
    pub(crate) fn sockets(&self) -> &[Kept] {
        &self.kept
    }

    /// Another process serves at the same addresses: this one accepts nothing more, and answers for nothing.
    pub(crate) async fn relieve(&mut self) {
        self.is_relieved = true;
        self.kept.clear();
        for listening in self.listening.drain(..) {
            listening.stop().await;
        }
        self.pages.shutdown().await;
    }

    /// Asks whether somebody is left to serve.
    pub(crate) fn life(&self) -> impl Fn() -> bool + Send + 'static {
        let workers = self.state.load().workers.clone();
        move || workers.iter().any(Handle::is_alive)
    }

    /// What runs.
    #[must_use]
    pub fn plan(&self) -> Arc<Plan> {
        self.state.load().plan.clone()
    }

    /// The requests for a reload that come over the admin listener. Until this is called, and once what it returns is
    /// dropped, they are answered that there is no file to read again.
    #[must_use]
    pub fn reload_requests(&self) -> ReloadRequests {
        self.state.load().config.requests()
    }

    /// Ends the gateway without cutting a call, within the time that `shutdown_config` gives: readiness fails and every
    /// connection gets GOAWAY at once, listeners close after the delay (connections that came meanwhile get theirs then),
    /// calls in flight finish. When `force` is ready, calls that are still open are cut then.
    pub async fn drain(mut self, force: impl Future<Output = ()>) -> Drained {
        let state = self.state.load_full();
        let shutdown = state.plan.shutdown.clone();
        // Who has known for a while that clients should not come need not be waited for again.
        let known = state.drain.leave();
        let delay = if self.is_relieved { Duration::ZERO } else { shutdown.delay.saturating_sub(known) };
        self.kept.clear();
        let drain::Left { calls, connections, .. } = state.left();
        tracing::info!(calls, connections, timeout = ?shutdown.timeout, "drain begins");
        state.tell_workers(|| Command::Drain);
        let finished = async {
            sleep(delay).await;
            close_listeners(&mut self.listening, &state).await;
            state.tell_workers(|| Command::EndStreams);
            wait_until_empty(&state).await;
        };
        let finished = tokio::select! {
            () = finished => true,
            () = force => false,
            () = sleep(shutdown.timeout.saturating_add(delay)) => false,
        };
        let cut = if finished {
            0
        } else {
            // The delay may not be over.
            close_listeners(&mut self.listening, &state).await;
            cut(&state).await
        };
        let connections = state.left().connections;
        let workers = state.workers.clone();
        stop(workers.clone(), self.access_log).await;
        self.keepers.clear();
        self.control.shutdown().await;
        self.pages.shutdown().await;
        let untaken = workers.iter().map(|worker| worker.metrics.untaken_responses.get()).sum();
        let cut = cut.max(untaken);
        if cut == 0 {
            tracing::info!(connections, "drain ends: every call finished");
        } else {
            tracing::warn!(cut, connections, "drain ends: calls were cut");
        }
        Drained { cut }
    }
}

/// A socket that listens, and its address: one that is given, or else a new one.
fn bind(
    what: &str,
    address: SocketAddr,
    given: &mut Sockets,
    kept: &mut Vec<Kept>,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let error = |error| StartError::Bind { what: what.to_owned(), address, error };
    let socket = match given.take(what, address).map_err(error)? {
        Some(socket) => socket,
        None => listener::bind(address).map_err(error)?,
    };
    if given.are_kept {
        let socket = socket.try_clone().map_err(error)?;
        kept.push(Kept { what: what.to_owned(), address, socket });
    }
    let bound = socket.local_addr().map_err(error)?;
    Ok((TcpListener::from_std(socket).map_err(error)?, bound))
}

/// Binds one of the plan's sockets, by what errors call it.
type Bind<'b> = dyn FnMut(&str, SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> + 'b;

fn bind_listeners(plan: &Plan, bind: &mut Bind<'_>) -> Result<Vec<TcpListener>, StartError> {
    let mut bind = |listener: &plan::Listener| bind(&format!("listener {}", listener.name), listener.address);
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
fn keep(plan: &plan::Cluster, places: &Places, workers: &[Handle]) -> (Keeper, oneshot::Receiver<()>) {
    let clear = |index| workers.iter().for_each(|worker| worker.metrics.clear_cluster(index));
    let slot = places.clusters.take(&plan.name, clear);
    let cluster = Arc::new(Cluster::new(slot, plan.clone(), workers.len()));
    cluster.retries.watch(workers.iter().map(|worker| worker.metrics.clone()));
    Keeper::new(cluster)
}

/// The place of a listener's counters.
fn place_of(name: &Arc<str>, places: &Places, workers: &[Handle]) -> Arc<Slot> {
    places.listeners.take(name, |index| workers.iter().for_each(|worker| worker.metrics.clear_listener(index)))
}

/// The CPUs that affinity and the cgroup's quota grant, at least one.
fn granted_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// Closes the listening sockets. Connections that came since the drain began are told now: sooner, a client could not have
/// made its calls on them.
async fn close_listeners(listening: &mut Vec<Listening>, state: &State) {
    for listening in listening.drain(..) {
        listening.stop().await;
    }
    state.tell_workers(|| Command::Drain);
}

/// Waits until no call is in flight and every connection has had its last byte.
async fn wait_until_empty(state: &State) {
    let mut reported = Instant::now();
    loop {
        let left = state.left();
        if left.is_nothing() {
            return;
        }
        if reported.elapsed() >= drain::REPORT {
            reported = Instant::now();
            left.report();
        }
        sleep(DRAIN_LOOK).await;
    }
}

/// Ends the calls that are open and says how many there were.
async fn cut(state: &State) -> u64 {
    let calls = state.left().calls;
    state.tell_workers(|| Command::Cut(None));
    let _ = tokio::time::timeout(LAST_WORDS, wait_until_empty(state)).await;
    calls
}

/// Ends the workers, and with them the access log once it has been written.
async fn stop(workers: Arc<Vec<Handle>>, access_log: Option<AccessLog>) {
    let closed = tokio::task::spawn_blocking(move || {
        workers.iter().for_each(Handle::stop);
        if let Some(log) = access_log {
            log.close();
        }
    });
    if closed.await.is_err() {
        tracing::error!("the workers could not be ended");
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;
    use tokio::runtime::Handle as Runtime;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::config::load_text;
    use crate::registry::Registry;

    fn plan() -> Plan {
        let anywhere = "{socket_address: {address: 127.0.0.1, port: 0}}";
        let cluster = |name: &str, keys: &str| {
            let endpoint = "{socket_address: {address: localhost, port: 1}}";
            format!("    - {{name: {name}, lb_policy: Rand, {keys}, endpoints: [{endpoint}]}}\n")
        };
        let yaml = format!(
            "workers: 2
admin: {{address: {anywhere}}}
static_resources:
  shutdown_config: {{timeout: 1h, delay: 1h}}
  listeners:
    - name: grpc
      protocol_type: GRPC
      address: {anywhere}
      filter_chains:
        filters:
          - name: dgp.filter.network.grpcconnectionmanager
            config:
              route_config: {{routes: [{{match: {{prefix: /}}, route: {{cluster: named}}}}]}}
              grpc_filters: [{{name: dgp.filter.grpc.proxy}}]
  clusters:
{}{}",
            cluster("named", "type: StrictDNS, health_checks: [{protocol: tcp, interval: 1h}]"),
            cluster("fixed", "type: Static, health_checks: [{protocol: tcp, interval: 1h}]"),
        );
        load_text(&yaml, "test.yaml", &Registry::builtin(), &|_| None).expect("a good configuration")
    }

    async fn expect_nothing_running() {
        for _ in 0..1000 {
            if Runtime::current().metrics().num_alive_tasks() == 0 {
                return;
            }
            sleep(DRAIN_LOOK).await;
        }
        panic!("{} tasks go on", Runtime::current().metrics().num_alive_tasks());
    }

    #[tokio::test]
    async fn a_start_that_fails_leaves_nothing_running() {
        let mut plan = plan();
        // No configuration leads here: what makes a worker panic is a bug.
        plan.listeners[0].routes[0].cluster = 7;
        let error = Gateway::start(plan).await.expect_err("a worker cannot start");
        assert_eq!(error.to_string(), "a worker cannot start: worker 0 panicked while it started");
        expect_nothing_running().await;
    }

    #[tokio::test]
    async fn reloads_leave_no_task_behind() {
        let mut gateway = Gateway::start(plan()).await.expect("a start");
        let tasks = || Runtime::current().metrics().num_alive_tasks();
        let (before, mut after) = (tasks(), 0);
        for at in 0..30_u64 {
            let mut next = plan();
            // Its names stay, its checks begin anew.
            next.clusters[0].connect_timeout = Duration::from_secs(1 + at % 2);
            // Another cluster each time, and now and then other names for the first.
            next.clusters[1].name = format!("fixed-{at}").into();
            next.clusters[0].discovery = plan().clusters[usize::from(at % 3 == 0)].discovery.clone();
            let reloaded = gateway.reload(Ok(next)).await.expect("a reload");
            assert_eq!(reloaded.version, at + 2);
            after = tasks();
        }
        for _ in 0..1000 {
            if after <= before {
                return;
            }
            sleep(DRAIN_LOOK).await;
            after = tasks();
        }
        panic!("{before} tasks became {after}");
    }

    #[tokio::test]
    async fn a_gateway_that_is_dropped_leaves_nothing_running() {
        drop(Gateway::start(plan()).await.expect("a start"));
        expect_nothing_running().await;
    }

    #[tokio::test]
    async fn a_drain_that_is_forced_in_its_delay_closes_everything() {
        let gateway = Gateway::start(plan()).await.expect("a start");
        let (listener, admin) = (gateway.listeners()[0].1, gateway.admin_address().expect("an admin listener"));
        let late = TcpStream::connect(listener).await.expect("a connection");
        let drained = gateway.drain(std::future::ready(())).await;
        assert_eq!(drained, Drained { cut: 0 });
        for address in [listener, admin] {
            assert!(TcpStream::connect(address).await.is_err(), "{address} still accepts");
        }
        expect_nothing_running().await;
        drop(late);
    }

    #[tokio::test]
    async fn no_connection_goes_to_a_worker_that_is_dead() {
        let gateway = Gateway::start(plan()).await.expect("a start");
        let (address, workers) = (gateway.listeners()[0].1, gateway.state.load().workers.clone());
        for (dead, worker) in workers.iter().enumerate() {
            kill(worker).await;
            for _ in 0..4 {
                let mut socket = TcpStream::connect(address).await.expect("a connection");
                // The write may fail as the read would, where nobody is there.
                let _ = socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
                let spoken = socket.read_u8().await;
                assert_eq!(spoken.is_ok(), dead == 0, "with {} dead", dead + 1);
                if dead > 0 {
                    break;
                }
            }
        }
        let mut gateway = gateway;
        gateway.listening.remove(0).ended().await;
        assert!(TcpStream::connect(address).await.is_err(), "the listener is still open");
    }

    /// A connection of a listener that does not exist is a bug that nobody catches.
    async fn kill(worker: &Handle) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let socket = std::net::TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
        let peer = socket.peer_addr().expect("its peer");
        socket.set_nonblocking(true).expect("a socket");
        let place = Arc::new(Admission::new(Default::default(), None)).admit(peer.ip()).expect("a place");
        worker.serve(99, socket, peer, place);
        while worker.is_alive() {
            sleep(DRAIN_LOOK).await;
        }
    }
}
