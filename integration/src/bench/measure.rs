//! What is measured, and in which turns.
//!
//! Peers take turns within each round, so that what else the machine does falls on all of them alike.

use anyhow::{Context, Result};

use super::bed::Bed;
use super::case::{CASES, Case};
use super::load::call::Shape;
use super::load::{Job, Work};
use super::options::Options;
use super::peer::Peer;
use super::report::terminal;
use super::results::{Results, Row};
use super::usage;
use crate::server::Server;

mod latency;
mod memory;
pub mod scaling;
mod start;
mod system_calls;
mod throughput;
mod tls;

/// A run under way.
#[derive(Debug)]
pub struct Bench<'a> {
    options: &'a Options,
    bed: &'a Bed,
    results: Results,
}

/// A peer that is up.
#[derive(Debug)]
struct Running {
    peer: Peer,
    server: Server,
}

/// What a closed loop came to.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// CPU of the proxy, in microseconds a call.
    cpu: f64,
    /// Calls a second.
    rate: f64,
    /// How much of its core the proxy used, in percent.
    busy: f64,
}

impl<'a> Bench<'a> {
    /// A run that has measured nothing yet.
    #[must_use]
    pub fn new(options: &'a Options, bed: &'a Bed, results: Results) -> Bench<'a> {
        Bench { options, bed, results }
    }

    /// Measures all that was asked for.
    ///
    /// # Errors
    ///
    /// When a peer does not come up, or a call does not come back as it should.
    pub fn run(mut self, peers: &[Peer]) -> Result<Results> {
        let running = self.start(peers)?;
        throughput::measure(&mut self, &running)?;
        latency::measure(&mut self, &running)?;
        system_calls::measure(&mut self, &running)?;
        throughput::check(&mut self, &running)?;
        // What follows starts processes of its own.
        drop(running);
        tls::measure(&mut self, peers)?;
        start::measure(&mut self, peers)?;
        scaling::measure(&mut self)?;
        // Last: after it the kernel is busy for a while with the ends of thousands of connections.
        memory::measure(&mut self, peers)?;
        Ok(self.results)
    }

    /// Starts the peers, and sees that each passes calls of every shape.
    fn start(&self, peers: &[Peer]) -> Result<Vec<Running>> {
        let mut running = Vec::with_capacity(peers.len());
        for &peer in peers {
            let server = peer.start(self.bed)?;
            for case in CASES {
                let calls = (2 * case.streams * case.connections).min(100);
                self.load(&peer, &server, &case, calls)?;
            }
            eprintln!("{} passes calls as they are", peer.name);
            running.push(Running { peer, server });
        }
        Ok(running)
    }

    fn load(&self, peer: &Peer, server: &Server, case: &Case, calls: usize) -> Result<f64> {
        let work = Work::Closed { streams: case.streams, calls, shape: case.shape };
        let job = Job { target: server.address, connections: case.connections, tls: peer.tls, work };
        let outcome = self.bed.load(&job).with_context(|| format!("{} at {}", peer.name, case.title))?;
        Ok(outcome.seconds)
    }

    fn sample(&self, peer: &Peer, server: &Server, case: &Case) -> Result<Sample> {
        let calls = self.options.calls(case.calls);
        let before = usage::cpu_seconds(server.process.pid())?;
        let seconds = self.load(peer, server, case, calls)?;
        let cpu = usage::cpu_seconds(server.process.pid())? - before;
        Ok(Sample { cpu: cpu / calls as f64 * 1e6, rate: calls as f64 / seconds, busy: 100.0 * cpu / seconds })
    }

    /// The peers in the order of a round: each is first once in a while.
    fn turns<'b, T>(&self, all: &'b [T]) -> impl Iterator<Item = (usize, &'b T)> + use<'b, T> {
        (0..self.options.rounds()).flat_map(move |round| {
            (0..all.len()).map(move |turn| {
                let index = (round + turn) % all.len();
                (round, &all[index])
            })
        })
    }

    /// Says that a row is done.
    fn keep(&mut self, row: Row) {
        println!("{}", terminal::line(&self.results, &row));
        self.results.rows.push(row);
    }

    fn progress(&self, row: &str, round: usize, column: &str) {
        eprint!("\r\x1b[K{row}, round {} of {}: {column} ", round + 1, self.options.rounds());
    }
}

/// Ends a line of [`Bench::progress`].
fn progress_done() {
    eprint!("\r\x1b[K");
}

/// Bytes of a unary call of this shape.
fn unary_size(shape: Shape) -> Option<usize> {
    match shape {
        Shape::Unary { size } => Some(size),
        _ => None,
    }
}
