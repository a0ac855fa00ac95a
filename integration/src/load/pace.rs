//! A load that starts calls at a steady rate, whatever becomes of those before.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::client::{Client, Failure, UNKNOWN};
use crate::process::PATIENCE;

/// How long a backend works on a call: a fault finds some of them open.
const WORK: Duration = Duration::from_millis(10);

/// Unary calls at a steady rate.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Calls a second.
    pub per_second: u32,
    /// Connections that they are spread over.
    pub connections: usize,
}

/// What came of them.
#[derive(Debug, Default)]
pub struct Paced {
    /// How long each call took that came back as it should.
    pub took: Vec<Duration>,
    /// How the others failed.
    pub failed: Vec<Failure>,
}

impl Pace {
    /// Calls `address` until `meanwhile` has ended, and waits for the calls that are open then.
    ///
    /// # Errors
    ///
    /// When no connection can be had, or `meanwhile` fails.
    pub async fn run(self, address: SocketAddr, meanwhile: impl Future<Output = Result<()>>) -> Result<Paced> {
        let mut clients = Vec::new();
        for _ in 0..self.connections {
            clients.push(Client::connect(address).await?);
        }
        let mut calls = JoinSet::new();
        let starts = async {
            let mut tick = interval(Duration::from_secs(1) / self.per_second);
            tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for call in 0_u64.. {
                tick.tick().await;
                let client = clients[call as usize % clients.len()].clone();
                calls.spawn(one(client, call));
            }
        };
        tokio::select! {
            () = starts => {}
            ended = meanwhile => ended?,
        }
        let mut paced = Paced::default();
        while let Some(ended) = calls.join_next().await {
            match ended? {
                Ok(took) => paced.took.push(took),
                Err(failure) => paced.failed.push(failure),
            }
        }
        Ok(paced)
    }
}

impl Paced {
    /// Calls that were made.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.took.len() + self.failed.len()
    }

    /// The time of the slowest call that came back.
    #[must_use]
    pub fn slowest(&self) -> Duration {
        self.took.iter().max().copied().unwrap_or_default()
    }

    /// Fails if a call did.
    ///
    /// # Errors
    ///
    /// With the first few failures.
    pub fn none_failed(&self) -> Result<()> {
        let some: Vec<_> = self.failed.iter().take(5).map(ToString::to_string).collect();
        ensure!(self.failed.is_empty(), "{} of {} calls failed, such as {some:#?}", self.failed.len(), self.calls());
        Ok(())
    }
}

async fn one(client: Client, call: u64) -> Result<Duration, Failure> {
    let began = Instant::now();
    let message = call.to_be_bytes();
    let metadata = [("x-call", call.to_string()), ("x-delay-ms", WORK.as_millis().to_string())];
    let unknown = |why: String| Failure { code: UNKNOWN, why };
    let answer = timeout(PATIENCE, client.unary("Slow", &metadata, &message)).await;
    let reply = answer.map_err(|_| unknown(format!("no answer in {PATIENCE:?}")))??;
    match reply == message[..] {
        true => Ok(began.elapsed()),
        false => Err(unknown(format!("another call's answer: {reply:?}"))),
    }
}
