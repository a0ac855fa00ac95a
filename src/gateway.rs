//! A plan at work: listeners, workers, clusters and the admin listener, from start to drain.

mod end;
mod listening;
mod reload;
mod start;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use tokio::task::JoinSet;

use crate::access_log::AccessLog;
use crate::admin::State;
pub use crate::admin::{ReloadRequest, ReloadRequests};
use crate::cluster::keeper::Keeper;
use crate::config::plan::Plan;
use crate::handover::{Kept, Sockets};
use crate::socket::{Address, ListeningSocket};
use crate::worker::Handle;
use listening::Listening;
pub use reload::{ReloadError, Reloaded};

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
    /// Their sockets.
    page_sockets: Vec<Weak<ListeningSocket>>,
    /// Sockets of the process before that this one has no use for.
    unused: Sockets,
    /// A process may take over from this one.
    keeps_sockets: bool,
    /// The sockets that it would need.
    kept: Vec<Kept>,
    /// Another process serves in the place of this one.
    is_relieved: bool,
    access_log: Option<AccessLog>,
    listeners: Vec<(Arc<str>, Address)>,
    admin: Option<Address>,
    metrics: Option<Address>,
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
        address: Address,
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
        address: Address,
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
    /// Listeners and the addresses that they bound, in the order of the file.
    #[must_use]
    pub fn listeners(&self) -> &[(Arc<str>, Address)] {
        &self.listeners
    }

    /// The address that a listener bound.
    #[must_use]
    pub fn listener_address(&self, name: &str) -> Option<&Address> {
        self.listeners.iter().find(|(known, _)| &**known == name).map(|(_, address)| address)
    }

    /// The address of the admin listener.
    #[must_use]
    pub fn admin_address(&self) -> Option<&Address> {
        self.admin.as_ref()
    }

    /// The address where metrics alone are served.
    #[must_use]
    pub fn metrics_address(&self) -> Option<&Address> {
        self.metrics.as_ref()
    }

    /// Worker threads.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.state.load().workers.len()
    }

    /// The process before serves no longer: the files of its sockets are this one's now.
    pub(crate) fn inherit(&mut self) {
        self.sockets_in_use().for_each(|socket| socket.set_keeper(true));
        // Nobody listens at these any more.
        std::mem::take(&mut self.unused).rest().for_each(|socket| socket.set_keeper(true));
    }

    fn sockets_in_use(&self) -> impl Iterator<Item = Arc<ListeningSocket>> {
        let pages = self.page_sockets.iter().filter_map(Weak::upgrade);
        self.listening.iter().filter_map(Listening::socket).chain(pages)
    }

    /// What a process needs that takes over from this one.
    pub(crate) fn sockets(&self) -> &[Kept] {
        &self.kept
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
}
