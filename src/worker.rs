//! A worker: one thread, one single-thread runtime, one pool of connections to each backend.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, net, thread};

use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::access_log::Entry;
use crate::chain::Chain;
use crate::cluster::Cluster;
use crate::config::plan::{self, Plan};
use crate::downstream;
use crate::drain::Signal;
use crate::metrics::WorkerMetrics;
use crate::route::Router;
use crate::upstream::Upstream;

/// What one worker's tasks share. It never leaves its thread.
pub(crate) struct Worker {
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) access_log: Option<SyncSender<Entry>>,
    /// Raised when connections should say goodbye. Those that come later listen to a signal of their own.
    pub(crate) drain: RefCell<Rc<Signal>>,
    /// Raised when the drain's time is over.
    pub(crate) cut: Rc<Signal>,
    listeners: Vec<Rc<Listener>>,
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
    pub(crate) chain: Rc<Chain>,
    pub(crate) upstream: Rc<Upstream>,
}

/// What a worker is told.
pub(crate) enum Command {
    /// Serve this connection.
    Serve(Accepted),
    /// Tell every connection that is open now that it should end.
    Drain,
    /// End every call.
    Cut,
    /// End.
    Stop,
}

/// A connection on its way to a worker, and its place in the worker's count for as long as it lives.
pub(crate) struct Accepted {
    /// Index of its listener.
    pub(crate) listener: usize,
    pub(crate) socket: net::TcpStream,
    pub(crate) peer: SocketAddr,
    count: Counted,
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The end that the rest of the process holds.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) metrics: Arc<WorkerMetrics>,
    /// Connections that were handed over and have not ended.
    connections: Arc<AtomicUsize>,
    commands: UnboundedSender<Command>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

/// What every worker is made from.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) plan: Arc<Plan>,
    pub(crate) clusters: Vec<Arc<Cluster>>,
    pub(crate) access_log: Option<SyncSender<Entry>>,
}

impl Handle {
    /// Starts a worker's thread.
    ///
    /// # Errors
    ///
    /// When the thread or its runtime cannot be made.
    pub(crate) fn start(index: usize, parts: Parts) -> io::Result<Handle> {
        let metrics = Arc::new(WorkerMetrics::new(parts.plan.listeners.len(), parts.clusters.len()));
        #[expect(clippy::disallowed_methods, reason = "holds accepted sockets, which the process's descriptors bound")]
        let (commands, receiver) = unbounded_channel();
        let for_thread = metrics.clone();
        let (report, started) = std::sync::mpsc::sync_channel(1);
        let thread =
            thread::Builder::new().name(format!("worker-{index}")).spawn(
                move || match Builder::new_current_thread()
                    .enable_io()
                    .enable_time()
                    .build_local(LocalOptions::default())
                {
                    Ok(runtime) => {
                        let _ = report.send(Ok(()));
                        runtime.block_on(run(index, parts, for_thread, receiver));
                    }
                    Err(error) => drop(report.send(Err(error))),
                },
            )?;
        started.recv().map_err(io::Error::other)??;
        Ok(Handle { metrics, connections: Arc::default(), commands, thread: Mutex::new(Some(thread)) })
    }

    /// Tells the worker. One that has ended has nothing left to be told.
    pub(crate) fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Hands a connection over.
    pub(crate) fn serve(&self, listener: usize, socket: net::TcpStream, peer: SocketAddr) {
        // Counted here and not by the worker: the next connection may come before the worker has looked.
        self.connections.fetch_add(1, Ordering::Relaxed);
        let count = Counted(self.connections.clone());
        self.tell(Command::Serve(Accepted { listener, socket, peer, count }));
    }

    /// Calls in flight and connections, in the order in which they weigh.
    pub(crate) fn load(&self) -> (u64, usize) {
        (self.metrics.all_in_flight(), self.connections.load(Ordering::Relaxed))
    }

    /// Ends the worker and waits for its thread.
    pub(crate) fn stop(&self) {
        self.tell(Command::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a worker panicked");
        }
    }
}

async fn run(index: usize, parts: Parts, metrics: Arc<WorkerMetrics>, mut commands: UnboundedReceiver<Command>) {
    let worker = Rc::new(Worker::new(index, parts, metrics));
    while let Some(command) = commands.recv().await {
        match command {
            Command::Serve(accepted) => worker.clone().serve(accepted),
            Command::Drain => worker.drain.take().raise(),
            Command::Cut => worker.cut.raise(),
            Command::Stop => return,
        }
    }
}

impl Worker {
    fn new(index: usize, parts: Parts, metrics: Arc<WorkerMetrics>) -> Worker {
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
        Worker { metrics, access_log: parts.access_log, drain, cut, listeners }
    }

    fn serve(self: Rc<Worker>, accepted: Accepted) {
        let Accepted { listener, socket, peer, count } = accepted;
        let socket = match TcpStream::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => return tracing::warn!(%peer, %error, "a connection could not be taken over"),
        };
        let listener = self.listeners[listener].clone();
        tokio::task::spawn_local(async move {
            downstream::serve(self, listener, socket, peer).await;
            drop(count);
        });
    }
}

impl Listener {
    fn new(index: usize, plan: plan::Listener, upstreams: &[Rc<Upstream>]) -> Listener {
        let chain = Rc::new(Chain::new(&plan.filters));
        let routes = plan.routes.iter().map(|route| {
            let target = RouteTarget {
                id: route.id.clone(),
                cluster: route.cluster,
                chain: chain.clone(),
                upstream: upstreams[route.cluster].clone(),
            };
            (route.clone(), Rc::new(target))
        });
        let router = Router::new(routes);
        Listener { index, plan, router }
    }
}
