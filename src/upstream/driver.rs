//! Drives a connection to a backend from the dial to its end.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep, timeout};

use super::connection::Connection;
use super::dial::{DialError, Driver, Stage, dial};
use super::pool::Pool;
use super::resets;
use super::timers::Timers;
use crate::cluster::breaker::Connected;

/// A connection at work.
struct Driven<'a> {
    pool: &'a Rc<Pool>,
    connection: &'a Rc<Connection>,
    driver: Driver,
    timers: Timers<'a>,
    /// The pool gives its places away.
    offered: bool,
    most_streams: usize,
    stream_window: u32,
    /// What streams wait for that are to be reset.
    round: Option<Round>,
    settings: u32,
    clean_turns: u64,
}

/// A round trip that streams wait for.
struct Round {
    timer: Pin<Box<Sleep>>,
    wait: Duration,
    /// SETTINGS have been sent.
    asked: bool,
}

impl Round {
    fn begin() -> Round {
        Round { timer: Box::pin(sleep(resets::PAUSE)), wait: resets::PAUSE, asked: false }
    }

    /// Waits for the acknowledgement, or for that of earlier SETTINGS: longer each time.
    fn go_on(&mut self) {
        self.wait = if self.asked { resets::PATIENCE } else { (self.wait * 2).min(resets::PATIENCE) };
        self.timer.as_mut().reset(Instant::now() + self.wait);
    }
}

/// Dials for the pool, and drives the connection until its end. It is counted for as long.
pub(super) async fn run(pool: Rc<Pool>, _counted: Option<Connected>) {
    // What the connection is made with holds until its end, whatever a reload says.
    let cluster = pool.cluster();
    let plan = &cluster.plan;
    let stage = Cell::new(Stage::default());
    let dialed = timeout(plan.connect_timeout, dial(&pool, plan, &stage)).await;
    let dialed = dialed.unwrap_or_else(|_| Err(DialError::timeout(plan.connect_timeout, stage.get())));
    let (send, mut driver) = match dialed {
        Ok(connected) => connected,
        Err(error) => return pool.connect_failed(&error.to_string(), error.reason()),
    };
    let most = plan.http2.max_streams_per_connection as usize;
    let connection = Rc::new(Connection::new(send, driver.meter.clone(), most));
    let timers = Timers::new(plan, &connection, driver.h2.ping_pong());
    let (settings, clean_turns) = (driver.meter.settings(), driver.cork.turns.now());
    let connections = &pool.metrics.upstream_connections[cluster.index];
    connections.add(1);
    pool.connected(&connection);
    let mut driven = Driven {
        pool: &pool,
        connection: &connection,
        driver,
        timers,
        offered: true,
        most_streams: most,
        stream_window: plan.http2.stream_window,
        round: None,
        settings,
        clean_turns,
    };
    if let Err(error) = poll_fn(|cx| driven.poll(cx)).await {
        tracing::debug!(cluster = %plan.name, endpoint = %pool.endpoint.label, %error, "connection to a backend ended");
    }
    connection.close();
    connection.resets().end();
    driven.withdraw();
    connections.sub(1);
}

impl Driven<'_> {
    /// One turn. Ready when the connection should end, or has.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        self.connection.driven_by(cx);
        ready!(self.driver.cork.poll_rested());
        // Before h2 has its turn: what is reset leaves in it.
        self.reset_some(cx);
        let driven = self.driver.poll(cx);
        self.note_what_changed();
        if self.has_resets_due() {
            cx.waker().wake_by_ref();
        }
        if self.connection.is_leaving() {
            self.withdraw();
            if self.connection.open() == 0 && self.connection.resets().waiting() == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        if driven.is_ready() {
            return driven;
        }
        self.pool.serve_if_waiting();
        self.timers.poll(cx)
    }

    /// The backend may have changed its limit, and places may have become free.
    fn note_what_changed(&mut self) {
        if self.settings != self.driver.meter.settings() {
            self.settings = self.driver.meter.settings();
            self.connection.note_limit(self.most_streams);
        }
        if self.clean_turns != self.driver.cork.turns.now() {
            self.clean_turns = self.driver.cork.turns.now();
            self.connection.free_ended();
        }
    }

    /// Streams are to be reset in another turn than this.
    fn has_resets_due(&self) -> bool {
        let resets = self.connection.resets();
        let is_unwanted = || self.connection.is_leaving() && self.connection.open() == 0;
        resets.waiting() > 0 && (resets.have_news(self.connection.meter()) || is_unwanted())
    }

    /// Resets streams that had to wait for it, and asks whether the backend goes on reading where others still have to.
    fn reset_some(&mut self, cx: &mut Context<'_>) {
        let (connection, meter) = (self.connection, self.connection.meter());
        let resets = connection.resets();
        if resets.waiting() == 0 {
            self.round = None;
            return;
        }
        let is_unwanted = connection.is_leaving() && connection.open() == 0;
        let reset = if is_unwanted { resets.end() } else { resets.reset_some(meter) };
        if reset > 0 {
            connection.streams_ended(reset);
            self.round = None;
        }
        if resets.waiting() == 0 {
            return;
        }
        let round = self.round.get_or_insert_with(Round::begin);
        while round.timer.as_mut().poll(cx).is_ready() {
            if round.wait >= resets::PATIENCE && connection.open() == 0 {
                return connection.close();
            }
            // The window stays as it is: it is the acknowledgement that is wanted. While one is under way there is no second.
            if !round.asked && self.driver.h2.set_initial_window_size(self.stream_window).is_ok() {
                round.asked = true;
                resets.asked(meter);
            }
            round.go_on();
        }
    }

    /// Has the pool give away no more of the connection's places.
    fn withdraw(&mut self) {
        if std::mem::take(&mut self.offered) {
            self.pool.forget(self.connection);
        }
    }
}
