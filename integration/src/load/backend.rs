//! An echo backend that counts what it sees, and misbehaves on request.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::Bytes;
use h2::Reason;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::timeout;

use super::service;
use crate::binary::built;
use crate::process::{PATIENCE, Process};

/// How a backend behaves. The default takes any port and as many streams as come.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The port; 0 lets the kernel choose.
    pub port: u16,
    /// The limit of streams a connection that SETTINGS announce.
    pub max_concurrent_streams: Option<u32>,
    /// A file that gets the `x-call` metadata of each call, a line each, before anything else is done with the call: it
    /// survives a kill.
    pub journal: Option<PathBuf>,
}

/// What a backend has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that were accepted.
    pub connections: usize,
    /// Connections that are open.
    pub open_connections: usize,
    /// Calls whose HEADERS arrived.
    pub calls: usize,
    /// Calls that have not ended.
    pub open_calls: usize,
    /// The most calls that were open at once.
    pub most_open_calls: usize,
    /// Calls that were answered to their end.
    pub answered: usize,
    /// Calls that the peer reset with CANCEL.
    pub cancelled: usize,
    /// Calls that ended in any other way.
    pub broken: usize,
}

/// A running backend, on a thread of its own. Dropping it closes its sockets.
#[derive(Debug)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

/// What the tasks of a backend share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) counts: watch::Sender<Counts>,
    /// Opens the calls of the method `Gated`.
    pub(super) gate: watch::Sender<bool>,
    goaways: watch::Sender<Option<Reason>>,
    journal: Option<Mutex<File>>,
    options: Options,
}

/// Starts a backend in a process of its own, on a port that may be 0. It notes its calls in `journal`.
///
/// # Errors
///
/// When it does not come up.
pub fn echo_process(port: u16, journal: &Path) -> Result<(Process, SocketAddr)> {
    let mut command = Command::new(built("echo-backend")?);
    let process = Process::start("the echo backend", command.arg(port.to_string()).arg(journal))?;
    let address = process.wait_line("its address", |line| line.strip_prefix("listening on ").map(str::to_owned))?;
    Ok((process, address.parse().with_context(|| address.clone())?))
}

impl Backend {
    /// Starts a backend that listens when this returns.
    ///
    /// # Errors
    ///
    /// When its port is taken or its journal cannot be opened.
    pub fn start(options: Options) -> Result<Backend> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let journal = options.journal.as_ref().map(|path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.with_context(|| format!("opening the journal {}", path.display())).map(Mutex::new)
        });
        // Not by the runtime: a test that starts a backend may be on a runtime of its own, which forbids to wait.
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))
            .with_context(|| format!("binding port {}", options.port))?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            counts: watch::Sender::default(),
            gate: watch::Sender::new(false),
            goaways: watch::Sender::new(None),
            journal: journal.transpose()?,
            options,
        });
        let address = listener.local_addr()?;
        runtime.spawn(accept(listener, shared.clone()));
        Ok(Backend { address, shared, runtime: Some(runtime) })
    }

    /// What it has seen so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counts.borrow().clone()
    }

    /// Waits until the counts are as `enough` wants them.
    ///
    /// # Errors
    ///
    /// When [`PATIENCE`] ends first; the error holds the counts.
    pub async fn wait(&self, what: &str, mut enough: impl FnMut(&Counts) -> bool) -> Result<Counts> {
        let mut counts = self.shared.counts.subscribe();
        match timeout(PATIENCE, counts.wait_for(|counts| enough(counts))).await {
            Ok(counts) => Ok(counts?.clone()),
            Err(_) => anyhow::bail!("the backend never saw {what}: {:?}", self.counts()),
        }
    }

    /// Lets the calls of `Gated` go on, those that come later too.
    pub fn open_gate(&self) {
        self.shared.gate.send_replace(true);
    }

    /// Sends GOAWAY on every connection that is open now, gracefully: the highest stream id, and after a round trip the
    /// real one.
    pub fn go_away(&self) {
        self.shared.goaways.send_replace(None);
    }

    /// Sends GOAWAY with this error on every connection that is open now, and closes it: calls that are open there are lost.
    pub fn break_off(&self, error: Reason) {
        self.shared.goaways.send_replace(Some(error));
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting is not allowed where a test drops this: on a runtime of its own.
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }

    pub(super) fn note(&self, call: &str) {
        if let Some(journal) = &self.journal {
            let line = format!("{call}\n");
            let mut file = journal.lock().unwrap_or_else(PoisonError::into_inner);
            file.write_all(line.as_bytes()).expect("the journal can be written");
        }
    }
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).expect("the socket is listening and non-blocking");
    while let Ok((socket, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            shared.count(|counts| {
                counts.connections += 1;
                counts.open_connections += 1;
            });
            // How a connection ended, its calls tell.
            let _ = serve(socket, &shared).await;
            shared.count(|counts| counts.open_connections -= 1);
        });
    }
}

async fn serve(socket: TcpStream, shared: &Arc<Shared>) -> Result<(), h2::Error> {
    let mut goaways = shared.goaways.subscribe();
    let _ = socket.set_nodelay(true);
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(1 << 20)
        .initial_connection_window_size(64 << 20)
        .max_concurrent_reset_streams(2000)
        // A backend that is no obstacle: what the gateway does with resets is looked at elsewhere.
        .max_pending_accept_reset_streams(100_000)
        .max_local_error_reset_streams(None);
    if let Some(most) = shared.options.max_concurrent_streams {
        builder.max_concurrent_streams(most);
    }
    let mut connection = builder.handshake::<_, Bytes>(socket).await?;
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(accepted) => {
                    let (request, respond) = accepted?;
                    tokio::spawn(service::serve(request, respond, shared.clone()));
                }
                None => return Ok(()),
            },
            Ok(()) = goaways.changed() => match *goaways.borrow_and_update() {
                None => connection.graceful_shutdown(),
                Some(error) => connection.abrupt_shutdown(error),
            },
        }
    }
}
