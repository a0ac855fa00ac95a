//! `weir run`.

use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::Poll;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::manager::{self, Manager};
use super::watch::Watch;
use super::{EXIT_CUT, EXIT_START, RunArgs, counted, log, print_notices};
use crate::config::{self, Diagnostics, Plan};
use crate::gateway::{Drained, Gateway, ReloadError, Reloaded, StartError};
use crate::handover::{self, Kept, Offering, Predecessor, Sockets, Successor};
use crate::registry::Registry;

/// Where configurations come from.
pub(super) struct Source {
    pub(super) registry: Registry,
    pub(super) args: RunArgs,
}

impl Source {
    /// Reads the file, and lets the arguments have their say.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the file.
    pub(super) fn load(&self) -> Result<Plan, Diagnostics> {
        let mut plan = config::load(&self.args.config, &self.registry, &config::process_env)?;
        plan.workers = self.args.workers.or(plan.workers);
        plan.log_level = self.args.log.clone().or(plan.log_level);
        Ok(plan)
    }
}

/// Serves a plan until a signal, and drains.
pub(super) fn run(plan: Plan, source: Source, watch: Option<Watch>) -> ExitCode {
    log::start(plan.log_level.as_deref());
    print_notices(&plan);
    raise_file_limit();
    // Discovery, health checks and the admin listener: calls have threads of their own.
    let served = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::Worker)
        .and_then(|runtime| runtime.block_on(serve(plan, Arc::new(source), watch)));
    match served {
        Ok(Drained { cut: 0 }) => ExitCode::SUCCESS,
        Ok(Drained { .. }) => ExitCode::from(EXIT_CUT),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(EXIT_START)
        }
    }
}

/// Raises the soft limit on open files to the hard one: a connection is a descriptor, and the usual soft limit of 1,024 is
/// there for programs that call `select`.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!(%error, limit = limit.current, "the limit on open files stays as it is");
    }
}

async fn serve(plan: Plan, source: Arc<Source>, mut watch: Option<Watch>) -> Result<Drained, StartError> {
    // Before anything listens: a signal that comes at once must not find the default action.
    let mut stop = StopSignals::new().map_err(StartError::Worker)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(StartError::Worker)?;
    let manager = Manager::new()?;
    let (mut gateway, offering) = start(plan, source.args.upgrade_socket.as_deref()).await?;
    let mut requests = gateway.reload_requests();
    manager.serves(&announce(&gateway), gateway.life());
    let successor = loop {
        let request = tokio::select! {
            () = stop.next() => break None,
            successor = successor(offering.as_ref(), gateway.sockets()) => break Some(successor),
            Some(()) = hang_up.recv() => None,
            Some(request) = requests.next() => Some(request),
            () = changed(watch.as_mut()) => None,
        };
        let reloaded = reload(&mut gateway, &source).await;
        if let Some(request) = request {
            request.answer(&reloaded);
        }
    };
    // A SIGHUP that comes from now on finds nobody, and no default action either; and a new process binds its own sockets.
    drop((requests, offering));
    manager.stops();
    if let Some(successor) = successor {
        tracing::info!("a new process has taken over");
        gateway.relieve().await;
        successor.go().await;
    }
    Ok(gateway.drain(async move { stop.next().await }).await)
}

/// Starts with the sockets that others hand over, and relieves the process before.
async fn start(plan: Plan, upgrade_socket: Option<&Path>) -> Result<(Gateway, Option<Offering>), StartError> {
    let mut sockets = Sockets::default();
    handover::passed(&mut sockets, &manager::variable).map_err(StartError::ServiceManager)?;
    let Some(path) = upgrade_socket else { return Ok((Gateway::start_with(plan, sockets).await?, None)) };
    let problem = |error| StartError::TakeOver { path: path.display().to_string(), error };
    sockets.are_kept = true;
    let predecessor = Predecessor::find(path, &mut sockets).await.map_err(problem)?;
    let offering = Offering::prepare(path).map_err(problem)?;
    let mut gateway = Gateway::start_with(plan, sockets).await?;
    if let Some(predecessor) = predecessor {
        predecessor.relieve().await;
        gateway.inherit();
    }
    offering.publish();
    Ok((gateway, Some(offering)))
}

/// Reads the file again. Calls, health checks and new connections do not wait for that.
async fn reload(gateway: &mut Gateway, source: &Arc<Source>) -> Result<Reloaded, ReloadError> {
    let reading = source.clone();
    let loaded = tokio::task::spawn_blocking(move || reading.load());
    let loaded = loaded.await.map_err(|error| StartError::Worker(io::Error::other(error)))?;
    let before = gateway.listeners().to_vec();
    let reloaded = gateway.reload(loaded).await;
    if reloaded.is_ok() {
        let new = gateway.listeners().iter().filter(|one| !before.contains(one));
        new.for_each(|(name, address)| eprintln!("listening: listener {name} on {address}"));
        let plan = gateway.plan();
        print_notices(&plan);
        log::change(plan.log_level.as_deref());
    }
    reloaded
}

/// Waits for a process that takes over, for ever where none can.
async fn successor(offering: Option<&Offering>, sockets: &[Kept]) -> Successor {
    match offering {
        Some(offering) => offering.successor(sockets).await,
        None => std::future::pending().await,
    }
}

async fn changed(watch: Option<&mut Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// Says what listens where, and returns the last line. Scripts and tests read these lines: they do not change.
pub(super) fn announce(gateway: &Gateway) -> String {
    for (name, address) in gateway.listeners() {
        eprintln!("listening: listener {name} on {address}");
    }
    if let Some(address) = gateway.admin_address() {
        eprintln!("listening: admin on {address}");
    }
    if let Some(address) = gateway.metrics_address() {
        eprintln!("listening: metrics on {address}");
    }
    let plan = gateway.plan();
    let routes = plan.listeners.iter().map(|listener| listener.routes.len()).sum();
    let (routes, clusters) = (counted(routes, "route"), counted(plan.clusters.len(), "cluster"));
    let ready = format!("ready: {routes}, {clusters}, {}", counted(gateway.workers(), "worker"));
    eprintln!("{ready}");
    ready
}

/// SIGTERM and SIGINT.
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Takes the signals over from the default action.
    ///
    /// # Errors
    ///
    /// When the handlers cannot be installed.
    pub(super) fn new() -> io::Result<StopSignals> {
        Ok(StopSignals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next of either.
    pub(super) async fn next(&mut self) {
        poll_fn(|cx| {
            let came = self.terminate.poll_recv(cx).is_ready() || self.interrupt.poll_recv(cx).is_ready();
            if came { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
