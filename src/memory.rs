//! `memory_limit`: what the process holds, and what it stops taking on before the kernel ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::config::size;
use crate::worker::{Command, Handle};

/// How often it is looked. A look takes some tens of microseconds of the control thread.
const LOOK: Duration = Duration::from_millis(50);

/// The process is no longer short of memory when it holds less than this many hundredths of the limit: it does not waver.
const RELIEF: u64 = 95;

/// Refusing what is new has not helped for this long: who is connected is told to go as well.
const PATIENCE: Duration = Duration::from_secs(5);

/// mimalloc gives pages back to the kernel some time after they were freed, and only when another large block is freed. A
/// gateway that takes nothing on frees none.
const NUDGE: usize = 8 << 20;

/// When a client that was refused may try again.
pub(crate) const PUSHBACK: Duration = Duration::from_secs(1);

/// The limit, and where the process stands.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: u64,
    resident: AtomicU64,
    short: AtomicBool,
}

impl Memory {
    pub(crate) fn new(limit: u64) -> Memory {
        Memory { limit, resident: AtomicU64::new(0), short: AtomicBool::new(false) }
    }

    /// True while nothing new should be taken on.
    pub(crate) fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }

    /// The limit, in bytes.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// What the process held when it was looked at last, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        self.resident.load(Ordering::Relaxed)
    }

    /// Looks for as long as it is polled.
    pub(crate) async fn watch(self: Arc<Memory>, workers: Arc<Vec<Handle>>) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut since = None;
        loop {
            looks.tick().await;
            let Some(resident) = std::fs::read_to_string("/proc/self/status").ok().as_deref().and_then(anonymous)
            else {
                return tracing::error!("memory_limit has no effect: /proc/self/status cannot be read");
            };
            self.tell(resident);
            if self.is_short() {
                drop(std::hint::black_box(Vec::<u8>::with_capacity(NUDGE)));
            }
            if !self.is_short() {
                since = None;
            } else if since.get_or_insert_with(Instant::now).elapsed() >= PATIENCE {
                since = Some(Instant::now());
                tracing::warn!("memory is still short: connections are told to end");
                workers.iter().for_each(|worker| worker.tell(Command::Drain));
            }
        }
    }

    fn tell(&self, resident: u64) {
        self.resident.store(resident, Ordering::Relaxed);
        let (resident_size, limit) = (size::show(resident), size::show(self.limit));
        if !self.is_short() && resident > self.limit {
            self.short.store(true, Ordering::Relaxed);
            tracing::warn!(resident = resident_size, limit, "memory is short: calls and connections are refused");
        } else if self.is_short() && resident < self.limit / 100 * RELIEF {
            self.short.store(false, Ordering::Relaxed);
            tracing::info!(resident = resident_size, limit, "memory is no longer short");
        }
    }
}

/// The resident memory that is no file's, in bytes, from `/proc/self/status`.
fn anonymous(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_waver() {
        let memory = Memory::new(1000);
        for (resident, short) in [(1000, false), (1001, true), (960, true), (949, false), (1000, false)] {
            memory.tell(resident);
            assert_eq!(memory.is_short(), short, "{resident}");
        }
    }

    #[test]
    fn files_do_not_count() {
        assert_eq!(anonymous("VmRSS:\t    3000 kB\nRssAnon:\t    1000 kB\nRssFile:\t 2000 kB\n"), Some(1000 << 10));
        assert_eq!(anonymous(""), None);
        assert!(std::fs::read_to_string("/proc/self/status").ok().as_deref().and_then(anonymous).is_some());
    }
}
