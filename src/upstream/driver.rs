//! Drives a connection to a backend from the dial to its end.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::time::{Sleep, sleep, timeout};

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
    /// Between streams that were reset and others that have to wait for it.
    pause: Option<Pin<Box<Sleep>>>,
    settings: u32,
    clean_turns: u64,
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
        pause: None,
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
        let driven = self.driver.poll(cx);
        self.note_what_changed();
        self.reset_some(cx);
        if self.connection.is_leaving() {
            self.withdraw();
            if self.connection.open() == 0 {
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

    /// Resets streams that had to wait for it, and asks whether the backend goes on reading where others still have to.
    fn reset_some(&mut self, cx: &mut Context<'_>) {
        let resets = self.connection.resets();
        if !resets.are_waiting() {
            return;
        }
        let was_reset = resets.reset_some(self.connection.meter());
        if !resets.are_waiting() {
            self.pause = None;
            return;
        }
        match &mut self.pause {
            Some(pause) if !was_reset => {
                // The window stays as it is: it is the acknowledgement that is wanted. While one is under way there is no second.
                let is_over = pause.is_elapsed() || pause.as_mut().poll(cx).is_ready();
                if is_over && self.driver.h2.set_initial_window_size(self.stream_window).is_ok() {
                    cx.waker().wake_by_ref();
                }
            }
            pause => {
                *pause = Some(Box::pin(sleep(resets::PAUSE)));
                cx.waker().wake_by_ref();
            }
        }
    }

    /// Has the pool give away no more of the connection's places.
    fn withdraw(&mut self) {
        if std::mem::take(&mut self.offered) {
            self.pool.forget(self.connection);
        }
    }
}
