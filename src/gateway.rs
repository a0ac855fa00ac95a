//! A plan at work: listeners, workers, clusters and the admin listener, from start to drain.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::access_log::AccessLog;
use crate::admin::{self, State};
use crate::cluster::{Cluster, dns, outlier, slow_start};
use crate::config::plan::Plan;
use crate::drain::{self, Stages};
use crate::handover::{Kept, Sockets};
use crate::listener;
use crate::local::Parts;
use crate::worker::{Command, Handle};

/// How often a drain looks whether it is done.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

/// What calls that are cut may take to tell their clients.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A gateway that serves. Dropping it ends it, calls and all; [`Gateway::drain`] ends it gently.
#[derive(Debug)]
pub struct Gateway {
    state: Arc<State>,
    acceptors: JoinSet<()>,
    /// Discovery with its health checks, and what the admin listener asks for.
    control: JoinSet<()>,
    /// The admin listener, and that of metrics alone.
    pages: JoinSet<()>,
    /// The sockets, where a process may take over from this one.
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
        let mut control = JoinSet::new();
        let clusters = start_clusters(&plan, workers, &mut control).await;
        let sender = access_log.as_ref().map(AccessLog::sender);
        let parts = Parts { plan: plan.clone(), clusters: clusters.clone(), access_log: sender };
        let handles = (0..workers).map(|index| Handle::start(index, parts.clone())).collect::<io::Result<Vec<_>>>();
        let handles = Arc::new(handles.map_err(StartError::Worker)?);
        for cluster in &clusters {
            cluster.retries.watch(handles.iter().map(|worker| worker.metrics.clone()));
        }

        let state = Arc::new(State { plan, clusters, workers: handles.clone(), drain: Stages::default() });
        control.spawn(drain::attend(state.clone()));
        let admin = admin_socket.as_ref().map(|(_, address)| *address);
        let metrics = metrics_socket.as_ref().map(|(_, address)| *address);
        let mut pages = JoinSet::new();
        for (socket, which) in [(admin_socket, admin::Pages::All), (metrics_socket, admin::Pages::Metrics)] {
            if let Some((socket, _)) = socket {
                pages.spawn(admin::serve(socket, which, state.clone()));
            }
        }
        let (mut acceptors, mut listeners) = (JoinSet::new(), Vec::new());
        for (index, (name, socket, address)) in sockets.into_iter().enumerate() {
            acceptors.spawn(listener::accept(index, name.clone(), socket, handles.clone()));
            listeners.push((name, address));
        }
        Ok(Gateway {
            state,
            acceptors,
            control,
            pages,
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
        self.state.workers.len()
    }

    /// What a process needs that takes over from this one.
    pub(crate) fn sockets(&self) -> &[Kept] {
        &self.kept
    }

    /// Another process serves at the same addresses: this one accepts nothing more, and answers for nothing.
    pub(crate) async fn relieve(&mut self) {
        self.is_relieved = true;
        self.kept.clear();
        self.acceptors.shutdown().await;
        self.pages.shutdown().await;
    }

    /// Asks whether somebody is left to serve.
    pub(crate) fn life(&self) -> impl Fn() -> bool + Send + 'static {
        let workers = self.state.workers.clone();
        move || workers.iter().any(Handle::is_alive)
    }

    /// What runs.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.state.plan
    }

    /// Ends the gateway without cutting a call, within the time that `shutdown_config` gives: readiness fails and every
    /// connection gets GOAWAY at once, listeners close after the delay (connections that came meanwhile get theirs then),
    /// calls in flight finish. When `force` is ready, calls that are still open are cut then.
    pub async fn drain(mut self, force: impl Future<Output = ()>) -> Drained {
        let shutdown = self.state.plan.shutdown.clone();
        // Who has known for a while that clients should not come need not be waited for again.
        let known = self.state.drain.leave();
        let delay = if self.is_relieved { Duration::ZERO } else { shutdown.delay.saturating_sub(known) };
        self.kept.clear();
        let drain::Left { calls, connections, .. } = self.state.left();
        tracing::info!(calls, connections, timeout = ?shutdown.timeout, "drain begins");
        self.state.tell_workers(|| Command::Drain);
        let finished = async {
            sleep(delay).await;
            close_listeners(&mut self.acceptors, &self.state).await;
            self.state.tell_workers(|| Command::EndStreams);
            wait_until_empty(&self.state).await;
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
            close_listeners(&mut self.acceptors, &self.state).await;
            cut(&self.state).await
        };
        let connections = self.state.left().connections;
        let workers = self.state.workers.clone();
        stop(self.state, self.access_log).await;
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

fn bind_listeners(plan: &Plan, bind: &mut Bind<'_>) -> Result<Vec<(Arc<str>, TcpListener, SocketAddr)>, StartError> {
    plan.listeners
        .iter()
        .map(|listener| {
            let (socket, bound) = bind(&format!("listener {}", listener.name), listener.address)?;
            Ok((listener.name.clone(), socket, bound))
        })
        .collect()
}

fn open_access_log(plan: &Plan) -> Result<Option<AccessLog>, StartError> {
    let open = |path: &std::path::PathBuf| {
        AccessLog::open(path).map_err(|error| StartError::AccessLog { path: path.display().to_string(), error })
    };
    plan.access_log.as_ref().map(open).transpose()
}

/// Fills every cluster, all at once, and leaves what keeps them up to date in `control`.
async fn start_clusters(plan: &Plan, workers: usize, control: &mut JoinSet<()>) -> Vec<Arc<Cluster>> {
    let mut clusters = Vec::new();
    let mut filled = Vec::new();
    for (index, cluster) in plan.clusters.iter().enumerate() {
        let cluster = Arc::new(Cluster::new(index, cluster.clone(), workers));
        let (tell, told) = oneshot::channel();
        control.spawn(dns::discover(cluster.clone(), tell));
        control.spawn(outlier::detect(cluster.clone()));
        control.spawn(slow_start::grow(cluster.clone()));
        clusters.push(cluster);
        filled.push(told);
    }
    for (told, cluster) in filled.into_iter().zip(&clusters) {
        if told.await.is_err() {
            tracing::error!(cluster = %cluster.plan.name, "a cluster's discovery panicked");
        }
    }
    clusters
}

/// The CPUs that affinity and the cgroup's quota grant, at least one.
fn granted_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// Closes the listening sockets. Connections that came since the drain began are told now: sooner, a client could not have
/// made its calls on them.
async fn close_listeners(acceptors: &mut JoinSet<()>, state: &State) {
    acceptors.shutdown().await;
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
    state.tell_workers(|| Command::Cut);
    let _ = tokio::time::timeout(LAST_WORDS, wait_until_empty(state)).await;
    calls
}

/// Ends the workers, and with them the access log once it has been written.
async fn stop(state: Arc<State>, access_log: Option<AccessLog>) {
    let closed = tokio::task::spawn_blocking(move || {
        state.workers.iter().for_each(Handle::stop);
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
        let (address, workers) = (gateway.listeners()[0].1, gateway.state.workers.clone());
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
        let mut acceptors = gateway.acceptors;
        acceptors.join_next().await.expect("an acceptor").expect("no panic");
        assert!(TcpStream::connect(address).await.is_err(), "the listener is still open");
    }

    /// A connection of a listener that does not exist is a bug that nobody catches.
    async fn kill(worker: &Handle) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let socket = std::net::TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
        let peer = socket.peer_addr().expect("its peer");
        socket.set_nonblocking(true).expect("a socket");
        worker.serve(99, socket, peer);
        while worker.is_alive() {
            sleep(DRAIN_LOOK).await;
        }
    }
}
