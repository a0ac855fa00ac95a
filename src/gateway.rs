//! A plan at work: listeners, workers, clusters and the admin listener, from start to drain.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::access_log::AccessLog;
use crate::admin::{self, State};
use crate::cluster::{Cluster, dns};
use crate::config::plan::Plan;
use crate::listener;
use crate::local::Parts;
use crate::worker::{Command, Handle};

/// How often a drain looks whether it is done.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

/// How often a drain's progress is logged.
const DRAIN_REPORT: Duration = Duration::from_secs(5);

/// What calls that are cut may take to tell their clients.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A gateway that serves.
#[derive(Debug)]
pub struct Gateway {
    state: Arc<State>,
    acceptors: Vec<JoinHandle<()>>,
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
    /// When a socket, a file or a thread cannot be had. Nothing is left behind.
    pub async fn start(plan: Plan) -> Result<Gateway, StartError> {
        let plan = Arc::new(plan);
        let sockets = bind_listeners(&plan)?;
        let admin_socket = plan.admin.map(|address| bind("admin", address)).transpose()?;
        let metrics_socket = plan.metrics.map(|address| bind("metrics", address)).transpose()?;
        let access_log = open_access_log(&plan)?;

        let workers = plan.workers.map_or_else(granted_cpus, std::num::NonZeroUsize::get);
        let clusters = start_clusters(&plan, workers).await;
        let sender = access_log.as_ref().map(AccessLog::sender);
        let parts = Parts { plan: plan.clone(), clusters: clusters.clone(), access_log: sender };
        let handles = (0..workers).map(|index| Handle::start(index, parts.clone())).collect::<io::Result<Vec<_>>>();
        let handles = Arc::new(handles.map_err(StartError::Worker)?);

        let state = Arc::new(State { plan, clusters, workers: handles.clone(), draining: AtomicBool::new(false) });
        let admin = admin_socket.as_ref().map(|(_, address)| *address);
        let metrics = metrics_socket.as_ref().map(|(_, address)| *address);
        for (socket, pages) in [(admin_socket, admin::Pages::All), (metrics_socket, admin::Pages::Metrics)] {
            if let Some((socket, _)) = socket {
                tokio::spawn(admin::serve(socket, pages, state.clone()));
            }
        }
        let mut gateway = Gateway { state, acceptors: Vec::new(), access_log, listeners: Vec::new(), admin, metrics };
        for (index, (name, socket, address)) in sockets.into_iter().enumerate() {
            gateway.listeners.push((name, address));
            gateway.acceptors.push(tokio::spawn(listener::accept(index, socket, handles.clone())));
        }
        Ok(gateway)
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

    /// What runs.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.state.plan
    }

    /// Ends the gateway without cutting a call, within the time that `shutdown_config` gives: readiness fails and every
    /// connection gets GOAWAY at once, listeners close after the delay (connections that came meanwhile get theirs then),
    /// calls in flight finish. When `force` is ready, calls that are still open are cut then.
    pub async fn drain(self, force: impl Future<Output = ()>) -> Drained {
        let shutdown = self.state.plan.shutdown.clone();
        self.state.draining.store(true, Ordering::Relaxed);
        let (calls, connections) = self.state.load();
        tracing::info!(calls, connections, timeout = ?shutdown.timeout, "drain begins");
        self.state.workers.iter().for_each(|worker| worker.tell(Command::Drain));
        let (acceptors, workers) = (self.acceptors, self.state.workers.clone());
        let close_listeners = async move {
            sleep(shutdown.delay).await;
            for acceptor in &acceptors {
                acceptor.abort();
            }
            for acceptor in acceptors {
                // Cancelled is what it should be; the socket is closed when this returns.
                let _ = acceptor.await;
            }
            // Connections that came in the meantime are told now: sooner, a client could not have made its calls on them.
            workers.iter().for_each(|worker| worker.tell(Command::Drain));
        };
        let finished = async {
            close_listeners.await;
            wait_until_empty(&self.state).await;
        };
        let cut = tokio::select! {
            () = finished => 0,
            () = force => cut(&self.state).await,
            () = sleep(shutdown.timeout.saturating_add(shutdown.delay)) => cut(&self.state).await,
        };
        let (_, connections) = self.state.load();
        let workers = self.state.workers.clone();
        stop(self.state, self.access_log).await;
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

fn bind(what: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let error = |error| StartError::Bind { what: what.to_owned(), address, error };
    let socket = listener::bind(address).map_err(error)?;
    let bound = socket.local_addr().map_err(error)?;
    Ok((socket, bound))
}

fn bind_listeners(plan: &Plan) -> Result<Vec<(Arc<str>, TcpListener, SocketAddr)>, StartError> {
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

/// Fills every cluster, all at once.
async fn start_clusters(plan: &Plan, workers: usize) -> Vec<Arc<Cluster>> {
    let clusters: Vec<_> = plan
        .clusters
        .iter()
        .enumerate()
        .map(|(index, cluster)| Arc::new(Cluster::new(index, cluster.clone(), workers)))
        .collect();
    let discoveries: Vec<_> = clusters.iter().map(|cluster| tokio::spawn(dns::discover(cluster.clone()))).collect();
    for discovery in discoveries {
        if discovery.await.is_err() {
            tracing::error!("a cluster's discovery panicked");
        }
    }
    clusters
}

/// The CPUs that affinity and the cgroup's quota grant, at least one.
fn granted_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// Waits until no call is in flight and every connection has had its last byte.
async fn wait_until_empty(state: &State) {
    let mut reported = Instant::now();
    loop {
        let (calls, connections) = state.load();
        if calls == 0 && connections == 0 {
            return;
        }
        if reported.elapsed() >= DRAIN_REPORT {
            reported = Instant::now();
            tracing::info!(calls, connections, "draining");
        }
        sleep(DRAIN_LOOK).await;
    }
}

/// Ends the calls that are open and says how many there were.
async fn cut(state: &State) -> u64 {
    let (calls, _) = state.load();
    for worker in state.workers.iter() {
        worker.tell(Command::Cut);
    }
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
