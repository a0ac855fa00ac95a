//! The listening sockets, through all reloads.

use std::sync::{Arc, Weak};

use tokio::task::JoinHandle;

use super::StartError;
use crate::config::plan::{self, Binding};
use crate::handover::{Kept, Sockets};
use crate::listener::{self, Admission};
use crate::metrics::Slot;
use crate::socket::{Address, ListeningSocket};
use crate::worker::Handle;

/// A socket that listens, and who accepts from it. It closes with this.
#[derive(Debug)]
pub(super) struct Listening {
    /// Unlike that of every other listener of the process, past ones included.
    pub(super) number: usize,
    pub(super) slot: Arc<Slot>,
    pub(super) admission: Arc<Admission>,
    /// As the configuration has it.
    binding: Binding,
    pub(super) bound: Address,
    /// Only who accepts holds it open.
    socket: Weak<ListeningSocket>,
    acceptor: JoinHandle<()>,
}

/// Where a listener's connections are counted.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) number: usize,
    pub(super) slot: Arc<Slot>,
    pub(super) admission: Arc<Admission>,
}

/// Where a listener of a configuration gets its socket.
#[derive(Debug)]
pub(super) enum Source {
    /// It has the one with this number.
    Kept(usize),
    /// It is new, or one of another name had the address.
    Open(Arc<ListeningSocket>),
}

impl Listening {
    /// Begins to accept for a listener.
    pub(super) fn start(
        place: Place,
        plan: &plan::Listener,
        socket: Arc<ListeningSocket>,
        workers: Arc<Vec<Handle>>,
    ) -> Listening {
        let Place { number, slot, admission } = place;
        // It was asked when the socket was bound.
        let bound = socket.address().unwrap_or_else(|_| plan.binding.address.clone());
        let weak = Arc::downgrade(&socket);
        let acceptor = listener::accept(number, slot.name.clone(), socket, admission.clone(), workers);
        let acceptor = tokio::spawn(acceptor);
        Listening { number, slot, admission, binding: plan.binding.clone(), bound, socket: weak, acceptor }
    }

    /// Its socket once more, for a process that takes over.
    pub(super) fn kept(&self) -> Option<Kept> {
        let what = format!("listener {}", self.slot.name);
        let kept = Kept::new(what, &self.binding.address, &*self.socket.upgrade()?);
        kept.inspect_err(|error| {
            let listener = &self.slot.name;
            tracing::error!(%error, %listener, "a socket cannot be handed over: a process that takes over has to bind it");
        })
        .ok()
    }

    /// Its socket, while it accepts.
    pub(super) fn socket(&self) -> Option<Arc<ListeningSocket>> {
        self.socket.upgrade()
    }

    /// Goes on at the same address, whose file may now permit something else.
    pub(super) fn go_on(&mut self, plan: &plan::Listener) {
        self.admission.change(plan.into());
        let before = std::mem::replace(&mut self.binding, plan.binding.clone());
        let (Some(mode), Some(socket)) = (self.binding.mode.filter(|mode| before.mode != Some(*mode)), self.socket())
        else {
            return;
        };
        if let Err(error) = socket.set_mode(mode) {
            let listener = &self.slot.name;
            tracing::error!(%error, %listener, "the file of a Unix socket keeps its permissions");
        }
    }

    /// Accepts no more. What has been accepted has been handed over when this returns.
    pub(super) async fn stop(mut self) {
        self.acceptor.abort();
        let _ = (&mut self.acceptor).await;
    }

    /// Ready when it has ended by itself.
    #[cfg(test)]
    pub(super) async fn ended(mut self) {
        (&mut self.acceptor).await.expect("no panic");
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// Where each listener of a configuration gets its socket, with those that are new bound.
///
/// # Errors
///
/// When one cannot be bound. Nothing has changed then.
pub(super) fn sources(listeners: &[plan::Listener], before: &[Listening]) -> Result<Vec<Source>, StartError> {
    let same = |one: &Listening, plan: &plan::Listener| {
        one.slot.name == plan.name && one.binding.address == plan.binding.address
    };
    let source = |plan: &plan::Listener| {
        if let Some(kept) = before.iter().find(|one| same(one, plan)) {
            return Ok(Source::Kept(kept.number));
        }
        let free = |one: &&Listening| !listeners.iter().any(|plan| same(one, plan));
        // A port that the kernel chose for one is not what the other asks for.
        let address = &plan.binding.address;
        let renamed = before.iter().filter(free).find(|one| one.binding.address == *address && !address.is_open());
        if let Some(socket) = renamed.and_then(|one| one.socket.upgrade()) {
            return Ok(Source::Open(socket));
        }
        let what = format!("listener {}", plan.name);
        let bound = super::start::bind(&what, &plan.binding, &mut Sockets::default(), &mut Vec::new());
        bound.map(|(socket, _)| Source::Open(Arc::new(socket)))
    };
    listeners.iter().map(source).collect()
}
