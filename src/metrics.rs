//! Counters that a worker keeps in cells of its own: no label is looked up and no other core's cache line is touched
//! during a call. The admin side folds them when somebody scrapes.

mod growing;
mod slots;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use weir_filter::Code;

use crate::call::Limit;
use crate::cluster::breaker::Full;
use crate::config::plan::DrainPolicy;
use crate::downstream::Abuse;
use crate::tls::{Cause, Reason};
use crate::upstream::Move;
use growing::Growing;
pub(crate) use slots::{Places, Slot};

/// Upper bounds of `weir_call_duration_seconds`, in microseconds.
pub(crate) const DURATION_BOUNDS: [u64; 18] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// What comes to a gRPC port by mistake.
pub(crate) const FOREIGN: [&str; 3] = ["tls", "http1", "other"];

/// Handshakes with clients by the version of TLS, and whether a session was resumed.
pub(crate) const HANDSHAKES: [(&str, bool); 4] = [("1.2", false), ("1.2", true), ("1.3", false), ("1.3", true)];

/// Why a call was not made again although its policy would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It has had as many attempts as the policy allows.
    Attempts,
    /// More has been sent than is kept.
    Buffer,
    /// The cluster has too many retries under way.
    Budget,
    /// The deadline would end it before its wait is over.
    Deadline,
    /// The backend said no.
    Pushback,
    /// Too many attempts fail.
    Throttled,
    /// A circuit breaker is open. That ends a retry's call with an answer of its own.
    CircuitBreaker,
}

impl Denied {
    /// What denies a retry, by its place, with its name in metrics.
    pub(crate) const RETRIES: [(Denied, &str); 6] = [
        (Denied::Attempts, "attempts"),
        (Denied::Buffer, "buffer"),
        (Denied::Budget, "budget"),
        (Denied::Deadline, "deadline"),
        (Denied::Pushback, "pushback"),
        (Denied::Throttled, "throttled"),
    ];

    /// What denies a hedge, with its name in metrics.
    pub(crate) const HEDGES: [(Denied, &str); 5] = [
        (Denied::Budget, "budget"),
        (Denied::CircuitBreaker, "circuit_breaker"),
        (Denied::Deadline, "deadline"),
        (Denied::Pushback, "pushback"),
        (Denied::Throttled, "throttled"),
    ];

    /// How many there are.
    const COUNT: usize = Denied::CircuitBreaker as usize + 1;
}

/// A number that one thread writes and others may read.
#[derive(Debug, Default)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    /// Adds, as the only writer: a load and a store, no locked instruction.
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// Subtracts, as the only writer.
    pub(crate) fn sub(&self, less: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(less), Ordering::Relaxed);
    }

    /// The value.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Begins anew. Nobody may write it meanwhile.
    fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// The counters of one worker. Listeners and clusters have their places in them from [`Slots`].
#[derive(Debug)]
pub(crate) struct WorkerMetrics {
    /// For each listener: one for its calls that found no cluster, and one for each cluster.
    calls: Growing<Growing<CallMetrics>>,
    /// Calls in flight, for none and for each cluster.
    in_flight: Growing<Cell>,
    /// Connections from clients, for each listener.
    pub(crate) downstream_connections: Growing<Cell>,
    /// Connections to backends, for each cluster.
    pub(crate) upstream_connections: Growing<Cell>,
    /// Connections closed because of what the client did: for each listener, one for each of [`Abuse::ALL`].
    abusive_connections: Growing<Cell>,
    /// Calls that were refused because the process was short of memory, for each listener.
    pub(crate) calls_without_memory: Growing<Cell>,
    /// Calls that ended because their connection was too old, for each listener.
    pub(crate) expired_calls: Growing<Cell>,
    /// Connections that spoke something else than HTTP/2 without TLS: for each listener, one for each of [`FOREIGN`].
    foreign_connections: Growing<Cell>,
    /// Connections of sources that should begin with the PROXY protocol and did not, for each listener.
    pub(crate) proxy_protocol_failures: Growing<Cell>,
    /// Connections under TLS that came about: for each listener, by [`HANDSHAKES`].
    tls_handshakes: Growing<Cell>,
    /// Those that did not: for each listener, one for each of [`Cause::LABELS`].
    downstream_tls_failures: Growing<Cell>,
    /// Attempts that were repeated because no backend had processed them, for each cluster.
    pub(crate) transparent_retries: Growing<Cell>,
    /// Streams whose reset waited until the backend could have looked at them, for each cluster.
    pub(crate) resets_delayed: Growing<Cell>,
    /// Attempts that a retry policy made again, for each cluster.
    pub(crate) retries: Growing<Cell>,
    /// Failures that a policy would have made again, for each cluster and reason of [`Denied`].
    denied_retries: Growing<Cell>,
    /// Attempts that a hedging policy made beside or after a call's first, for each cluster.
    pub(crate) hedges: Growing<Cell>,
    /// Calls that one of these has answered, for each cluster.
    pub(crate) hedges_won: Growing<Cell>,
    /// Attempts that a hedging policy would have made, for each cluster and reason of [`Denied`].
    denied_hedges: Growing<Cell>,
    /// Calls that sent more than is kept for another attempt, for each cluster.
    pub(crate) retry_buffer_overflows: Growing<Cell>,
    /// Calls that wait for a stream to a backend, for each cluster.
    pub(crate) calls_waiting: Growing<Cell>,
    /// Connects that failed, for each cluster.
    pub(crate) connect_failures: Growing<Cell>,
    /// Calls that a limit of their route ended: for each cluster, one for each of [`Limit::ALL`].
    timed_out: Growing<Cell>,
    /// Streams that were ended so that their clients open them elsewhere: for each cluster, one for each of [`Move::ALL`].
    moved: Growing<Cell>,
    /// Calls that met a circuit breaker: for each cluster, one for each of [`Full::ALL`].
    shed: Growing<Cell>,
    /// Those among them that failed in TLS: for each cluster, one for each of [`Reason::LABELS`].
    tls_failures: Growing<Cell>,
    /// Connections that ended with the drain's time although their client had not taken all of a response.
    pub(crate) untaken_responses: Cell,
    /// Streams that a drain ends between two messages, and those that it cuts.
    draining: [Cell; 2],
    /// Access-log records that were dropped because the writer was behind.
    pub(crate) dropped_records: Cell,
}

/// The counters of one listener's calls to one cluster.
#[derive(Debug, Default)]
pub(crate) struct CallMetrics {
    /// Calls that ended, by status.
    pub(crate) ended: [Cell; 17],
    /// How long they took.
    pub(crate) durations: Times,
    /// How long those that came with a deadline had left.
    pub(crate) deadlines: Times,
    /// Messages from clients.
    pub(crate) messages_in: Cell,
    /// Messages to clients.
    pub(crate) messages_out: Cell,
    /// Bytes of DATA from clients.
    pub(crate) bytes_in: Cell,
    /// Bytes of DATA to clients.
    pub(crate) bytes_out: Cell,
}

/// Durations, counted by [`DURATION_BOUNDS`].
#[derive(Debug, Default)]
pub(crate) struct Times {
    /// One for each bound and one for what is above.
    pub(crate) counts: [Cell; DURATION_BOUNDS.len() + 1],
    /// Their sum, in microseconds.
    pub(crate) sum: Cell,
}

impl WorkerMetrics {
    pub(crate) fn new(listeners: usize, clusters: usize) -> WorkerMetrics {
        let cells = Growing::new;
        WorkerMetrics {
            calls: Growing::made_by(listeners, clusters + 1, Growing::new),
            in_flight: cells(clusters + 1),
            downstream_connections: cells(listeners),
            upstream_connections: cells(clusters),
            abusive_connections: cells(listeners * Abuse::ALL.len()),
            calls_without_memory: cells(listeners),
            expired_calls: cells(listeners),
            foreign_connections: cells(listeners * FOREIGN.len()),
            proxy_protocol_failures: cells(listeners),
            tls_handshakes: cells(listeners * HANDSHAKES.len()),
            downstream_tls_failures: cells(listeners * Cause::LABELS.len()),
            transparent_retries: cells(clusters),
            resets_delayed: cells(clusters),
            retries: cells(clusters),
            denied_retries: cells(clusters * Denied::COUNT),
            hedges: cells(clusters),
            hedges_won: cells(clusters),
            denied_hedges: cells(clusters * Denied::COUNT),
            retry_buffer_overflows: cells(clusters),
            calls_waiting: cells(clusters),
            connect_failures: cells(clusters),
            timed_out: cells(clusters * Limit::ALL.len()),
            moved: cells(clusters * Move::ALL.len()),
            shed: cells(clusters * Full::ALL.len()),
            tls_failures: cells(clusters * Reason::LABELS.len()),
            untaken_responses: Cell::default(),
            draining: Default::default(),
            dropped_records: Cell::default(),
        }
    }

    /// The counters of a listener's calls to a cluster, or to none.
    pub(crate) fn calls(&self, listener: usize, cluster: Option<usize>) -> &CallMetrics {
        &self.calls[listener][slot(cluster)]
    }

    /// The gauge of calls in flight to a cluster, or to none yet.
    pub(crate) fn in_flight(&self, cluster: Option<usize>) -> &Cell {
        &self.in_flight[slot(cluster)]
    }

    /// Sets a listener's counters to zero: another one has its place from now on.
    pub(crate) fn clear_listener(&self, index: usize) {
        self.calls[index].iter().for_each(CallMetrics::clear);
        for (cells, each) in [
            (&self.downstream_connections, 1),
            (&self.abusive_connections, Abuse::ALL.len()),
            (&self.calls_without_memory, 1),
            (&self.expired_calls, 1),
            (&self.proxy_protocol_failures, 1),
            (&self.tls_handshakes, HANDSHAKES.len()),
            (&self.downstream_tls_failures, Cause::LABELS.len()),
            (&self.foreign_connections, FOREIGN.len()),
        ] {
            clear(cells, index, each);
        }
    }

    /// Sets a cluster's counters to zero: another one has its place from now on.
    pub(crate) fn clear_cluster(&self, index: usize) {
        self.calls.iter().for_each(|listener| listener[slot(Some(index))].clear());
        self.in_flight(Some(index)).clear();
        for (cells, each) in [
            (&self.upstream_connections, 1),
            (&self.transparent_retries, 1),
            (&self.resets_delayed, 1),
            (&self.retries, 1),
            (&self.denied_retries, Denied::COUNT),
            (&self.hedges, 1),
            (&self.hedges_won, 1),
            (&self.denied_hedges, Denied::COUNT),
            (&self.retry_buffer_overflows, 1),
            (&self.calls_waiting, 1),
            (&self.connect_failures, 1),
            (&self.timed_out, Limit::ALL.len()),
            (&self.moved, Move::ALL.len()),
            (&self.shed, Full::ALL.len()),
            (&self.tls_failures, Reason::LABELS.len()),
        ] {
            clear(cells, index, each);
        }
    }

    /// Counts a connection that spoke something else. True when it is the first of its kind: one line in the log says what
    /// is wrong, the metric how often.
    pub(crate) fn foreign(&self, listener: usize, protocol: &str) -> bool {
        let at = FOREIGN.iter().position(|known| *known == protocol).unwrap_or(FOREIGN.len() - 1);
        let cell = self.foreign_connections(listener, at);
        cell.add(1);
        cell.get() == 1
    }

    /// The counter of a listener's connections that were closed for this reason.
    pub(crate) fn abusive(&self, listener: usize, abuse: Abuse) -> &Cell {
        &self.abusive_connections[listener * Abuse::ALL.len() + abuse as usize]
    }

    /// The counter of connections of one kind of [`FOREIGN`].
    pub(crate) fn foreign_connections(&self, listener: usize, kind: usize) -> &Cell {
        &self.foreign_connections[listener * FOREIGN.len() + kind]
    }

    /// The counter of a listener's connections under TLS.
    pub(crate) fn tls_handshakes(&self, listener: usize, is_tls13: bool, resumed: bool) -> &Cell {
        let at = usize::from(is_tls13) * 2 + usize::from(resumed);
        &self.tls_handshakes[listener * HANDSHAKES.len() + at]
    }

    /// The counter of a listener's handshakes that failed for a cause, by its place in [`Cause::LABELS`].
    pub(crate) fn downstream_tls_failures(&self, listener: usize, cause: usize) -> &Cell {
        &self.downstream_tls_failures[listener * Cause::LABELS.len() + cause]
    }

    /// The counter of a cluster's calls that this limit has ended.
    pub(crate) fn timed_out(&self, cluster: usize, limit: Limit) -> &Cell {
        &self.timed_out[cluster * Limit::ALL.len() + limit as usize]
    }

    /// The counter of a cluster's streams that were ended for this reason.
    pub(crate) fn moved(&self, cluster: usize, why: Move) -> &Cell {
        &self.moved[cluster * Move::ALL.len() + why as usize]
    }

    /// The counter of a cluster's calls that were rejected by this circuit breaker.
    pub(crate) fn shed(&self, cluster: usize, full: Full) -> &Cell {
        &self.shed[cluster * Full::ALL.len() + full as usize]
    }

    /// The counter of a cluster's connects that failed in TLS for a reason, by its place in [`Reason::LABELS`].
    pub(crate) fn tls_failures(&self, cluster: usize, reason: usize) -> &Cell {
        &self.tls_failures[cluster * Reason::LABELS.len() + reason]
    }

    /// The counter of failures that were not made again for one reason.
    pub(crate) fn denied_retries(&self, cluster: usize, denied: Denied) -> &Cell {
        &self.denied_retries[cluster * Denied::COUNT + denied as usize]
    }

    /// The counter of hedges that were not made for one reason.
    pub(crate) fn denied_hedges(&self, cluster: usize, denied: Denied) -> &Cell {
        &self.denied_hedges[cluster * Denied::COUNT + denied as usize]
    }

    /// The gauge of streams that this policy ends in the drain that is under way.
    pub(crate) fn draining(&self, policy: DrainPolicy) -> &Cell {
        &self.draining[usize::from(matches!(policy, DrainPolicy::Cut(_)))]
    }

    /// Calls in flight altogether.
    pub(crate) fn all_in_flight(&self) -> u64 {
        self.in_flight.iter().map(Cell::get).sum()
    }
}

/// The place of a cluster where none has one too.
fn slot(cluster: Option<usize>) -> usize {
    cluster.map_or(0, |cluster| cluster + 1)
}

fn clear(cells: &Growing<Cell>, index: usize, each: usize) {
    (index * each..(index + 1) * each).for_each(|at| cells[at].clear());
}

impl CallMetrics {
    fn clear(&self) {
        let CallMetrics { ended, durations, deadlines, messages_in, messages_out, bytes_in, bytes_out } = self;
        let times = durations.cells().chain(deadlines.cells());
        ended.iter().chain(times).chain([messages_in, messages_out, bytes_in, bytes_out]).for_each(Cell::clear);
    }

    /// Counts the end of a call.
    pub(crate) fn ended(&self, status: Code, took: Duration) {
        self.ended[usize::from(status.number())].add(1);
        self.durations.count(took);
    }

    /// Counts a call that came with a deadline, and what was left until then.
    pub(crate) fn arrived(&self, left: Duration) {
        self.deadlines.count(left);
    }
}

impl Times {
    fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.counts.iter().chain([&self.sum])
    }

    fn count(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.counts[DURATION_BOUNDS.partition_point(|bound| *bound < micros)].add(1);
        self.sum.add(micros);
    }
}
