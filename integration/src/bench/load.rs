//! The load generator: a process of its own, on one thread, that looks at every byte and every status it gets back.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

pub mod call;
mod closed;
mod connects;
mod held;
mod open;
mod tls;

use call::{Connection, Shape};

/// What the load is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Where to.
    pub target: SocketAddr,
    /// Connections, opened before anything is measured.
    pub connections: usize,
    /// Whether they speak TLS.
    pub tls: bool,
    /// What on them.
    pub work: Work,
}

/// What happens on the connections.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Work {
    /// So many calls, `streams` at once on each connection: as fast as they go.
    Closed {
        /// Calls at once on a connection.
        streams: usize,
        /// Calls in all.
        calls: usize,
        /// What a call is.
        shape: Shape,
    },
    /// Calls at a fixed rate, whether those before have ended or not.
    Open {
        /// Calls a second.
        rate: f64,
        /// Calls in all.
        calls: usize,
        /// What a call is.
        shape: Shape,
    },
    /// Connections one after the other, each up to the SETTINGS of both sides. `connections` says how many at once.
    Connects {
        /// Connections in all.
        count: usize,
        /// Whether they go on with what the first of each row has agreed on (RFC 8446 2.2).
        resumed: bool,
    },
    /// Connections that wait, until the process is killed.
    Held {
        /// Whether each first makes a call.
        called: bool,
        /// Calls that are held open on each, after one message has gone there and back.
        streams: usize,
    },
}

/// What the load saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Calls that were made, every one of which came back as it should.
    pub calls: usize,
    /// Seconds from the first call to the last answer.
    pub seconds: f64,
    /// Nanoseconds from when a call was due to when it had ended, in order of size. Open loads only.
    pub latencies: Vec<u64>,
}

impl Outcome {
    /// The latency, in microseconds, below which this share of the calls stays.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "a share of a length")]
        let rank = (self.latencies.len() as f64 * share).ceil() as usize;
        self.latencies.get(rank.max(1) - 1).map_or(f64::NAN, |nanos| *nanos as f64 / 1000.0)
    }
}

/// Does the job, and prints how it went as one line of JSON; of a [`Work::Held`], the line `held`.
///
/// # Errors
///
/// With the first call that does not come back as it should.
pub async fn run(job: Job) -> Result<()> {
    let is_new = matches!(job.work, Work::Connects { .. });
    let mut connections = Vec::with_capacity(job.connections);
    for index in 0..if is_new { 0 } else { job.connections } {
        let connection = Connection::open(job.target, job.tls).await;
        connections.push(connection.with_context(|| format!("connection {index} to {}", job.target))?);
    }
    let began = Instant::now();
    let mut outcome = match job.work {
        Work::Closed { streams, calls, shape } => closed::run(&connections, streams, calls, shape).await?,
        Work::Open { rate, calls, shape } => open::run(&connections, rate, calls, shape).await?,
        Work::Connects { count, resumed } => connects::run(job.target, job.connections, count, resumed).await?,
        Work::Held { called, streams } => return held::run(&connections, called, streams).await,
    };
    outcome.seconds = began.elapsed().as_secs_f64();
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
