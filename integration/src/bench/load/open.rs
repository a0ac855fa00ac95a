//! Calls at the times when they are due, however long those before them take. A call's latency counts from when it was
//! due: a proxy that stalls pays for every call that it kept from being sent.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::task::JoinSet;

use super::Outcome;
use super::call::{Connection, Prepared, Shape};

/// Calls that may wait at once. More means that the rate is above what the target can do.
const MOST_OPEN: usize = 50_000;

/// The share of calls, at the start, whose latency is not recorded: connections to the backend are opened then.
const WARM_UP: f64 = 0.1;

pub(super) async fn run(connections: &[Connection], rate: f64, calls: usize, shape: Shape) -> Result<Outcome> {
    let prepared = Rc::new(Prepared::new(shape));
    let latencies = Rc::new(RefCell::new(Vec::with_capacity(calls)));
    let open = Rc::new(Cell::new(0));
    let interval = Duration::from_secs_f64(1.0 / rate);
    let (ticks, began) = (Ticks::every(interval)?, Instant::now());
    let mut tasks = JoinSet::new();
    let mut sent = 0;
    while sent < calls {
        let due = ticks.next().await?.min(calls - sent);
        for index in sent..sent + due {
            // The first tick is one interval after the start.
            let due_at = began + interval.mul_f64((index + 1) as f64);
            let mut connection = connections[index % connections.len()].clone();
            let (prepared, latencies, open) = (prepared.clone(), latencies.clone(), open.clone());
            open.set(open.get() + 1);
            tasks.spawn_local(async move {
                connection.call(&prepared).await?;
                open.set(open.get() - 1);
                if index as f64 >= calls as f64 * WARM_UP {
                    latencies.borrow_mut().push(nanos(due_at.elapsed()));
                }
                anyhow::Ok(())
            });
        }
        sent += due;
        while let Some(done) = tasks.try_join_next() {
            done??;
        }
        ensure!(open.get() < MOST_OPEN, "{rate} calls a second are more than it can do");
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let mut latencies = latencies.take();
    latencies.sort_unstable();
    Ok(Outcome { calls, latencies, ..Outcome::default() })
}

fn nanos(latency: Duration) -> u64 {
    u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX)
}

/// The kernel's own timer: tokio's counts in milliseconds, which would send calls in bursts.
struct Ticks {
    timer: AsyncFd<OwnedFd>,
}

impl Ticks {
    fn every(interval: Duration) -> Result<Ticks> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let interval = Timespec::try_from(interval).context("an interval of a load")?;
        let setting = Itimerspec { it_interval: interval, it_value: interval };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &setting)?;
        #[expect(deprecated, reason = "what stands in its place is unsafe, for types that lie about their descriptor")]
        let timer = AsyncFd::new(timer)?;
        Ok(Ticks { timer })
    }

    /// Waits for the next tick, and counts those that have come by then.
    async fn next(&self) -> Result<usize> {
        loop {
            let mut ready = self.timer.readable().await?;
            let mut count = [0; 8];
            match ready.try_io(|timer| Ok(rustix::io::read(timer, &mut count)?)) {
                Ok(read) => {
                    ensure!(read? == count.len(), "a timer's count has eight bytes");
                    return Ok(usize::try_from(u64::from_ne_bytes(count))?);
                }
                Err(_would_block) => {}
            }
        }
    }
}
