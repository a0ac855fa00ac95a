//! What is told of the configurations of this process, and requests for another one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use http::StatusCode;
use tokio::sync::{mpsc, oneshot};

use crate::gateway::{ReloadError, Reloaded};

/// Requests that may wait for the one before.
const WAITING: usize = 16;

/// How the reloads of this process went.
#[derive(Debug)]
pub(crate) struct ConfigStatus {
    version: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    /// The last one failed.
    is_stale: AtomicBool,
    /// When the last one was tried, or the first configuration was loaded: seconds since 1970.
    tried: AtomicU64,
    /// When the one that runs was loaded.
    loaded: AtomicU64,
    reloads: Mutex<Option<mpsc::Sender<ReloadRequest>>>,
}

/// What metrics say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) version: u64,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) is_stale: bool,
    pub(super) tried: u64,
    pub(super) loaded: u64,
}

/// Requests for a reload, as they come.
#[derive(Debug)]
pub struct ReloadRequests(mpsc::Receiver<ReloadRequest>);

/// Somebody wants the configuration read again, and waits.
#[derive(Debug)]
pub struct ReloadRequest(oneshot::Sender<Answer>);

type Answer = (StatusCode, String);

// === impl ConfigStatus ===

impl ConfigStatus {
    /// The first configuration runs.
    pub(crate) fn new() -> ConfigStatus {
        ConfigStatus {
            version: AtomicU64::new(1),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            is_stale: AtomicBool::new(false),
            tried: AtomicU64::new(now()),
            loaded: AtomicU64::new(now()),
            reloads: Mutex::default(),
        }
    }

    /// The next configuration runs: its number.
    pub(crate) fn begin_next(&self) -> u64 {
        self.loaded.store(now(), Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A reload has been tried.
    pub(crate) fn reloaded(&self, error: Option<&ReloadError>) {
        let count = if error.is_some() { &self.failed } else { &self.succeeded };
        count.fetch_add(1, Ordering::Relaxed);
        self.is_stale.store(error.is_some(), Ordering::Relaxed);
        self.tried.store(now(), Ordering::Relaxed);
    }

    pub(super) fn told(&self) -> Told {
        Told {
            version: self.version.load(Ordering::Relaxed),
            succeeded: self.succeeded.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            is_stale: self.is_stale.load(Ordering::Relaxed),
            tried: self.tried.load(Ordering::Relaxed),
            loaded: self.loaded.load(Ordering::Relaxed),
        }
    }

    /// Requests go there from now on.
    pub(crate) fn requests(&self) -> ReloadRequests {
        let (send, receive) = mpsc::channel(WAITING);
        *self.reloads.lock().unwrap_or_else(PoisonError::into_inner) = Some(send);
        ReloadRequests(receive)
    }

    /// Has the configuration read again, and says what came of it.
    pub(super) async fn reload(&self) -> Answer {
        let reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (answer, answered) = oneshot::channel();
        if let Some(reloads) = reloads
            && reloads.send(ReloadRequest(answer)).await.is_ok()
            && let Ok(answer) = answered.await
        {
            return answer;
        }
        answer_to(&Err(ReloadError::NoFile))
    }
}

// === impl ReloadRequests ===

impl ReloadRequests {
    /// Waits for the next; `None` when none can come any more.
    pub async fn next(&mut self) -> Option<ReloadRequest> {
        self.0.recv().await
    }
}

// === impl ReloadRequest ===

impl ReloadRequest {
    /// Tells who has asked what came of it.
    pub fn answer(self, reloaded: &Result<Reloaded, ReloadError>) {
        // Who has left wants to know no more.
        let _ = self.0.send(answer_to(reloaded));
    }
}

fn answer_to(reloaded: &Result<Reloaded, ReloadError>) -> Answer {
    match reloaded {
        Ok(reloaded) => (StatusCode::OK, reloaded.to_string()),
        Err(error @ ReloadError::Config(_)) => (StatusCode::UNPROCESSABLE_ENTITY, format!("{error}")),
        Err(error) => (StatusCode::CONFLICT, format!("{error}\n")),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
