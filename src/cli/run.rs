//! `weir run`.

use std::future::poll_fn;
use std::io;
use std::process::ExitCode;
use std::task::Poll;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{EXIT_CUT, EXIT_START, RunArgs, counted, log, print_notices};
use crate::config::Plan;
use crate::gateway::{Drained, Gateway, StartError};

/// Serves a plan until a signal, and drains.
pub(super) fn run(plan: Plan, _args: RunArgs) -> ExitCode {
    log::start(plan.log_level.as_deref());
    print_notices(&plan);
    raise_file_limit();
    // Discovery, health checks and the admin listener: calls have threads of their own.
    let served = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::Worker)
        .and_then(|runtime| runtime.block_on(serve(plan)));
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

async fn serve(plan: Plan) -> Result<Drained, StartError> {
    // Before anything listens: a signal that comes at once must not find the default action.
    let mut stop = StopSignals::new().map_err(StartError::Worker)?;
    let gateway = Gateway::start(plan).await?;
    announce(&gateway);
    stop.next().await;
    Ok(gateway.drain(async move { stop.next().await }).await)
}

/// Says what listens where. Scripts and tests read these lines: they do not change.
pub(super) fn announce(gateway: &Gateway) {
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
    eprintln!("ready: {routes}, {clusters}, {}", counted(gateway.workers(), "worker"));
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
