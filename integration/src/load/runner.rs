//! A load that keeps a number of calls in flight until it is told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::client::{Client, Failure, UNKNOWN};
use crate::process::PATIENCE;

/// What to keep in flight.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Connections.
    pub connections: usize,
    /// Calls in flight on each.
    pub in_flight: usize,
    /// How long the backend sits on each call.
    pub delay: Duration,
}

/// A call that failed.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Its `x-call` metadata.
    pub call: u64,
    /// How it failed.
    pub failure: Failure,
    /// When it was started.
    pub began: Instant,
    /// When its client knew.
    pub ended: Instant,
}

/// What a load came to.
#[derive(Debug, Default)]
pub struct Report {
    /// Calls that came back as they should.
    pub succeeded: u64,
    /// The others.
    pub failed: Vec<Failed>,
}

/// A load at work.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    slots: JoinSet<Vec<Failed>>,
}

#[derive(Debug)]
struct Shared {
    delay: Duration,
    next: AtomicU64,
    stop: watch::Sender<bool>,
    succeeded: watch::Sender<u64>,
}

impl Load {
    /// Connects, and starts.
    ///
    /// # Errors
    ///
    /// When a connection cannot be had.
    pub async fn start(self, address: SocketAddr) -> Result<Running> {
        let shared = Arc::new(Shared {
            delay: self.delay,
            next: AtomicU64::new(1),
            stop: watch::Sender::new(false),
            succeeded: watch::Sender::new(0),
        });
        let mut slots = JoinSet::new();
        for _ in 0..self.connections {
            let client = Client::connect(address).await?;
            for _ in 0..self.in_flight {
                slots.spawn(slot(client.clone(), shared.clone()));
            }
        }
        Ok(Running { shared, slots })
    }
}

impl Running {
    /// Waits until this many more calls have succeeded.
    ///
    /// # Errors
    ///
    /// When [`PATIENCE`] ends first.
    pub async fn more(&self, calls: u64) -> Result<()> {
        let mut succeeded = self.shared.succeeded.subscribe();
        let goal = *succeeded.borrow() + calls;
        let reached = timeout(PATIENCE, succeeded.wait_for(|count| *count >= goal)).await;
        reached.with_context(|| format!("{calls} more calls did not succeed"))??;
        Ok(())
    }

    /// Lets the calls in flight end, and starts no more.
    ///
    /// # Errors
    ///
    /// When they outlast [`PATIENCE`].
    pub async fn stop(self) -> Result<Report> {
        self.shared.stop.send_replace(true);
        let failed = timeout(PATIENCE, self.slots.join_all()).await.context("calls in flight do not end")?.concat();
        Ok(Report { succeeded: *self.shared.succeeded.borrow(), failed })
    }
}

impl Report {
    /// Fails if a call did.
    ///
    /// # Errors
    ///
    /// With the first few failures.
    pub fn none_failed(&self) -> Result<()> {
        let some: Vec<_> = self.failed.iter().take(5).map(|failed| failed.failure.to_string()).collect();
        anyhow::ensure!(self.failed.is_empty(), "{} calls failed, such as {some:#?}", self.failed.len());
        Ok(())
    }
}

async fn slot(client: Client, shared: Arc<Shared>) -> Vec<Failed> {
    let mut failed = Vec::new();
    while !*shared.stop.borrow() && !client.is_closed() {
        let call = shared.next.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        match one(&client, call, shared.delay).await {
            Ok(()) => shared.succeeded.send_modify(|count| *count += 1),
            Err(failure) => failed.push(Failed { call, failure, began, ended: Instant::now() }),
        }
    }
    failed
}

async fn one(client: &Client, call: u64, delay: Duration) -> Result<(), Failure> {
    let message = call.to_be_bytes();
    let metadata = [("x-call", call.to_string()), ("x-delay-ms", delay.as_millis().to_string())];
    let method = if delay.is_zero() { "Echo" } else { "Slow" };
    let reply = client.unary(method, &metadata, &message).await?;
    if reply == message[..] {
        Ok(())
    } else {
        Err(Failure { code: UNKNOWN, why: format!("another call's answer: {reply:?}") })
    }
}
