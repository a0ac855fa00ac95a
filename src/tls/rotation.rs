//! Files that change on disk while the gateway works: certificates, keys, authorities, revocation lists.
//!
//! They are read every few seconds and taken when they have changed and stand still: programs write a certificate and its key
//! one after the other, and Kubernetes exchanges a symbolic link above both. What does not fit is refused, and what was
//! there stays.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::acceptor::Acceptor;
use super::connector::Source;
use crate::config::plan::Plan;

/// How long files that have changed must stand still before they are taken, at most.
const SETTLED: Duration = Duration::from_secs(1);

/// What files were when somebody looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look(u64);

/// What is made of files, and may be made anew of others.
pub(super) trait Renewed: Send + Sync + 'static {
    /// Looks at the files, whether or not they are any good.
    fn look(&self) -> Look;

    /// What the files were that are used now.
    fn used(&self) -> Look;

    /// Uses the files from now on, which were so when somebody looked.
    ///
    /// # Errors
    ///
    /// When they are no good, with the reason; nothing has changed then.
    fn take(&self, seen: Look) -> Result<(), String>;

    /// How it went so far.
    fn rotation(&self) -> &Rotation;
}

/// How the rotation of files went so far.
#[derive(Debug, Default)]
pub(crate) struct Rotation {
    taken: AtomicU64,
    refused: AtomicU64,
    /// What stands on disk is not what is used.
    stale: AtomicBool,
}

impl Look {
    pub(super) fn at<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Look {
        let mut all = DefaultHasher::new();
        for path in paths {
            std::fs::read(path).map_err(|error| error.kind()).hash(&mut all);
        }
        Look(all.finish())
    }
}

impl Rotation {
    /// How often files were taken, and how often they were refused.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 2] {
        [("taken", self.taken.load(Ordering::Relaxed)), ("refused", self.refused.load(Ordering::Relaxed))]
    }

    /// True while what stands on disk was refused.
    pub(crate) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }
}

/// Follows the files of a plan's listeners and clusters, but for those that the plan before it had: they are followed already.
/// Each task ends when nobody uses its files any more.
pub(crate) fn follow_files(plan: &Plan, before: Option<&Plan>, tasks: &mut JoinSet<()>) {
    let known = |plan: &'_ Plan| -> (Vec<*const Acceptor>, Vec<*const Source>) {
        let acceptors = plan.listeners.iter().filter_map(|one| Some(Arc::as_ptr(&one.tls.as_ref()?.acceptor)));
        let sources = plan.clusters.iter().filter_map(|one| Some(Arc::as_ptr(one.tls.as_ref()?.connector.source())));
        (acceptors.collect(), sources.collect())
    };
    let (acceptors, sources) = before.map(known).unwrap_or_default();
    for listener in &plan.listeners {
        if let Some(tls) = &listener.tls
            && let Some(interval) = tls.reload_interval
            && !acceptors.contains(&Arc::as_ptr(&tls.acceptor))
        {
            tasks.spawn(follow(format!("listener {}", listener.name), Arc::downgrade(&tls.acceptor), interval));
        }
    }
    for cluster in &plan.clusters {
        if let Some(tls) = &cluster.tls
            && let Some(interval) = tls.reload_interval
            && !sources.contains(&Arc::as_ptr(tls.connector.source()))
        {
            tasks.spawn(follow(format!("cluster {}", cluster.name), Arc::downgrade(tls.connector.source()), interval));
        }
    }
}

async fn follow<R: Renewed>(whose: String, renewed: Weak<R>, interval: Duration) {
    let mut judged = None;
    loop {
        sleep(interval).await;
        let Some(renewed) = renewed.upgrade() else { return };
        let Some(seen) = look(&renewed).await else { continue };
        if seen == renewed.used() {
            // They were put back, or have never changed.
            judged = None;
            renewed.rotation().stale.store(false, Ordering::Relaxed);
            continue;
        }
        if judged == Some(seen) {
            continue;
        }
        sleep(interval.min(SETTLED)).await;
        if look(&renewed).await == Some(seen) {
            judged = Some(seen);
            let taker = renewed.clone();
            let taken = tokio::task::spawn_blocking(move || taker.take(seen)).await;
            tell(&whose, renewed.rotation(), taken.unwrap_or_else(|panic| Err(panic.to_string())));
        }
    }
}

async fn look<R: Renewed>(renewed: &Arc<R>) -> Option<Look> {
    let renewed = renewed.clone();
    tokio::task::spawn_blocking(move || renewed.look()).await.ok()
}

fn tell(whose: &str, rotation: &Rotation, taken: Result<(), String>) {
    rotation.stale.store(taken.is_err(), Ordering::Relaxed);
    match taken {
        Ok(()) => {
            rotation.taken.fetch_add(1, Ordering::Relaxed);
            tracing::info!(whose, "TLS files have changed: new connections use them");
        }
        Err(why) => {
            rotation.refused.fetch_add(1, Ordering::Relaxed);
            tracing::error!(whose, why, "TLS files have changed and cannot be used: the old ones stay");
        }
    }
}
