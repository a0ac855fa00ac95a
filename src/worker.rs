//! A worker: one thread, one single-thread runtime, one pool of connections to each backend.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, net, thread};

use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::downstream;
use crate::local::{Local, Parts};
use crate::metrics::WorkerMetrics;

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
    let local = Rc::new(Local::new(index, parts, metrics));
    while let Some(command) = commands.recv().await {
        match command {
            Command::Serve(accepted) => serve(local.clone(), accepted),
            Command::Drain => local.drain.take().raise(),
            Command::Cut => local.cut.raise(),
            Command::Stop => return,
        }
    }
}

fn serve(local: Rc<Local>, accepted: Accepted) {
    let Accepted { listener, socket, peer, count } = accepted;
    let socket = match TcpStream::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::warn!(%peer, %error, "a connection could not be taken over"),
    };
    let listener = local.listeners[listener].clone();
    tokio::task::spawn_local(async move {
        downstream::serve(local, listener, socket, peer).await;
        drop(count);
    });
}
