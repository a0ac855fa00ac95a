//! The end of a gateway: without cutting a call where it can be, and in time where it cannot.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::listening::Listening;
use super::{Drained, Gateway};
use crate::access_log::AccessLog;
use crate::admin::State;
use crate::drain;
use crate::worker::{Command, Handle};

/// How often a drain looks whether it is done.
pub(super) const DRAIN_LOOK: Duration = Duration::from_millis(5);

/// What calls that are cut may take to tell their clients.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Gateway {
    /// Another process serves at the same addresses: this one accepts nothing more, and answers for nothing.
    pub(crate) async fn relieve(&mut self) {
        self.is_relieved = true;
        self.kept.clear();
        self.sockets_in_use().for_each(|socket| socket.set_keeper(false));
        for listening in self.listening.drain(..) {
            listening.stop().await;
        }
        self.pages.shutdown().await;
    }

    /// Ends the gateway without cutting a call, within the time that `shutdown_config` gives: readiness fails and every
    /// connection gets GOAWAY at once, listeners close after the delay (connections that came meanwhile get theirs then),
    /// calls in flight finish. When `force` is ready, calls that are still open are cut then.
    pub async fn drain(mut self, force: impl Future<Output = ()>) -> Drained {
        let state = self.state.load_full();
        let shutdown = state.plan.shutdown.clone();
        // Who has known for a while that clients should not come need not be waited for again.
        let known = state.drain.leave();
        let delay = if self.is_relieved { Duration::ZERO } else { shutdown.delay.saturating_sub(known) };
        self.kept.clear();
        let drain::Left { calls, connections, .. } = state.left();
        tracing::info!(calls, connections, timeout = ?shutdown.timeout, "drain begins");
        state.tell_workers(|| Command::Drain);
        let finished = async {
            sleep(delay).await;
            close_listeners(&mut self.listening, &state).await;
            state.tell_workers(|| Command::EndStreams);
            wait_until_empty(&state).await;
        };
        let finished = tokio::select! {
            () = finished => true,
            () = force => false,
            () = sleep(shutdown.timeout.saturating_add(delay)) => false,
        };
        let cut = if finished {
            0
        } else {
            // The delay may not be over.
            close_listeners(&mut self.listening, &state).await;
            cut(&state).await
        };
        let connections = state.left().connections;
        let workers = state.workers.clone();
        stop(workers.clone(), self.access_log).await;
        self.keepers.clear();
        self.control.shutdown().await;
        self.pages.shutdown().await;
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

/// Closes the listening sockets. Connections that came since the drain began are told now: sooner, a client could not have
/// made its calls on them.
async fn close_listeners(listening: &mut Vec<Listening>, state: &State) {
    for listening in listening.drain(..) {
        listening.stop().await;
    }
    state.tell_workers(|| Command::Drain);
}

/// Waits until no call is in flight and every connection has had its last byte.
async fn wait_until_empty(state: &State) {
    let mut reported = Instant::now();
    loop {
        let left = state.left();
        if left.is_nothing() {
            return;
        }
        if reported.elapsed() >= drain::REPORT {
            reported = Instant::now();
            left.report();
        }
        sleep(DRAIN_LOOK).await;
    }
}

/// Ends the calls that are open and says how many there were.
async fn cut(state: &State) -> u64 {
    let calls = state.left().calls;
    state.tell_workers(|| Command::Cut(None));
    let _ = tokio::time::timeout(LAST_WORDS, wait_until_empty(state)).await;
    calls
}

/// Ends the workers, and with them the access log once it has been written.
async fn stop(workers: Arc<Vec<Handle>>, access_log: Option<AccessLog>) {
    let closed = tokio::task::spawn_blocking(move || {
        workers.iter().for_each(Handle::stop);
        if let Some(log) = access_log {
            log.close();
        }
    });
    if closed.await.is_err() {
        tracing::error!("the workers could not be ended");
    }
}
