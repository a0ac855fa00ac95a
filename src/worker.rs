//! A worker: one thread, one single-thread runtime, one pool of connections to each backend.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use weir_filter::Peer;

use crate::access_log::Sender;
use crate::downstream;
use crate::listener::Place;
use crate::local::{Local, Parts};
use crate::metrics::WorkerMetrics;
use crate::socket::{self, Stream};

/// What a worker is told.
pub(crate) enum Command {
    /// Serve this connection.
    Serve(Accepted),
    /// Tell every connection that is open now that it should end.
    Drain,
    /// Serve this from now on, and drop what is told when it is so.
    Reload(Parts, oneshot::Sender<()>),
    /// End streams whose route has them end with a drain.
    EndStreams,
    /// End no more streams.
    KeepStreams,
    /// End every call, or those of one listener that a reload took away.
    Cut(Option<usize>),
    /// End.
    Stop,
}

/// A connection on its way to a worker, and its place in the worker's count for as long as it lives.
pub(crate) struct Accepted {
    /// The number of its listener.
    pub(crate) listener: usize,
    pub(crate) socket: socket::Accepted,
    pub(crate) peer: Peer,
    place: Place,
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

impl Handle {
    /// Starts a worker's thread.
    ///
    /// # Errors
    ///
    /// When the thread, its runtime or what it works with cannot be made.
    pub(crate) fn start(index: usize, parts: Parts, access_log: Option<Sender>) -> io::Result<Handle> {
        let metrics = Arc::new(WorkerMetrics::new(parts.plan.listeners.len(), parts.clusters.len()));
        #[expect(clippy::disallowed_methods, reason = "holds accepted sockets, which the process's descriptors bound")]
        let (commands, receiver) = unbounded_channel();
        let for_thread = metrics.clone();
        let (report, started) = sync_channel(1);
        let work = move || {
            let worked =
                catch_unwind(AssertUnwindSafe(|| work(index, parts, access_log, for_thread, receiver, &report)));
            if worked.is_err() {
                tracing::error!(worker = index, "a worker panicked: its calls are lost, the others take what comes");
            }
        };
        let thread = thread::Builder::new().name(format!("worker-{index}")).spawn(work)?;
        // The sender is gone without a word when the worker panicked; it has been logged.
        started.recv().map_err(|_| io::Error::other(format!("worker {index} panicked while it started")))??;
        Ok(Handle { metrics, connections: Arc::default(), commands, thread: Mutex::new(Some(thread)) })
    }

    /// Tells the worker. One that has ended has nothing left to be told.
    pub(crate) fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// False once its thread has ended: what it is handed is closed.
    pub(crate) fn is_alive(&self) -> bool {
        !self.commands.is_closed()
    }

    /// Hands a connection over.
    pub(crate) fn serve(&self, listener: usize, socket: socket::Accepted, peer: Peer, place: Place) {
        // Counted here and not by the worker: the next connection may come before the worker has looked.
        self.connections.fetch_add(1, Ordering::Relaxed);
        let count = Counted(self.connections.clone());
        self.tell(Command::Serve(Accepted { listener, socket, peer, place, count }));
    }

    /// Calls in flight and connections, in the order in which they weigh.
    pub(crate) fn load(&self) -> (u64, usize) {
        (self.metrics.all_in_flight(), self.connections.load(Ordering::Relaxed))
    }

    /// Ends the worker and waits for its thread.
    pub(crate) fn stop(&self) {
        self.tell(Command::Stop);
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic does not reach this: it is logged where it happens.
            let _ = thread.join();
        }
    }
}

/// A worker's thread. What cannot be made is reported, and else that it serves.
fn work(
    index: usize,
    parts: Parts,
    access_log: Option<Sender>,
    metrics: Arc<WorkerMetrics>,
    commands: UnboundedReceiver<Command>,
    report: &SyncSender<io::Result<()>>,
) {
    // Nobody waits for a report when the start was given up; the commands end then, too.
    match Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime.block_on(async {
            let local = Rc::new(Local::new(index, &parts, access_log.as_ref(), metrics));
            drop((parts, access_log));
            let _ = report.send(Ok(()));
            run(&local, commands).await;
        }),
        Err(error) => drop(report.send(Err(error))),
    }
}

async fn run(local: &Rc<Local>, mut commands: UnboundedReceiver<Command>) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::Serve(accepted) => serve(local.clone(), accepted),
            Command::Drain => local.drain(),
            Command::EndStreams => local.end_streams(true),
            Command::KeepStreams => local.end_streams(false),
            Command::Reload(parts, done) => {
                local.reload(&parts);
                let _ = done.send(());
            }
            Command::Cut(only) => local.cut(only),
            Command::Stop => return,
        }
    }
}

fn serve(local: Rc<Local>, accepted: Accepted) {
    let Accepted { listener, socket, peer, mut place, count } = accepted;
    let socket = match Stream::from_accepted(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::warn!(%peer, %error, "a connection could not be taken over"),
    };
    let listener = local.listener(listener);
    tokio::task::spawn_local(async move {
        downstream::serve(local, listener, socket, peer, &mut place).await;
        drop((place, count));
    });
}
