//! What `weir run` tells the service manager that has started it.

use std::sync::Arc;

use tokio::time::interval;

use crate::gateway::StartError;
use crate::notify::Notifier;

/// The service manager, where there is one that listens.
pub(super) struct Manager(Option<Arc<Notifier>>);

impl Manager {
    /// The one that the environment names.
    ///
    /// # Errors
    ///
    /// When it cannot be reached.
    pub(super) fn new() -> Result<Manager, StartError> {
        let notifier = Notifier::new(&variable).map_err(StartError::ServiceManager)?;
        Ok(Manager(notifier.map(Arc::new)))
    }

    /// The gateway serves; from now on the watchdog hears for as long as it is alive.
    pub(super) fn serves(&self, status: &str, is_alive: impl Fn() -> bool + Send + 'static) {
        let Some(notifier) = &self.0 else { return };
        notifier.tell(&format!("READY=1\nSTATUS={status}\n"));
        if let Some(every) = notifier.watchdog() {
            let notifier = notifier.clone();
            tokio::spawn(async move {
                let mut every = interval(every);
                while is_alive() {
                    every.tick().await;
                    notifier.tell("WATCHDOG=1\n");
                }
            });
        }
    }

    /// The gateway drains, and ends.
    pub(super) fn stops(&self) {
        if let Some(notifier) = &self.0 {
            notifier.tell("STOPPING=1\nSTATUS=draining\n");
        }
    }
}

/// A variable of this process; one that is no text counts as not set.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
