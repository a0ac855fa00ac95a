//! Files that change on disk while a listener works: certificates, keys, authorities, revocation lists.
//!
//! They are read every few seconds and taken when they have changed and stand still: programs write a certificate and its key
//! one after the other, and Kubernetes exchanges a symbolic link above both. What does not fit is refused, and what was
//! there stays.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::JoinSet;

use super::acceptor::{Acceptor, Look};
use super::{Identity, Validity};
use crate::config::plan::Plan;

/// How long files that have changed must stand still before they are taken, at most.
const SETTLED: Duration = Duration::from_secs(1);

/// How the rotation of a listener's files went so far.
#[derive(Debug, Default)]
pub(crate) struct Rotation {
    taken: AtomicU64,
    refused: AtomicU64,
    /// What stands on disk is not what is used.
    stale: AtomicBool,
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

/// Follows the files of a plan's listeners, but for those that the plan before it had: they are followed already. Each task
/// ends when nobody uses its listener's files any more.
pub(crate) fn follow_files(plan: &Plan, before: Option<&Plan>, tasks: &mut JoinSet<()>) {
    let listeners = before.into_iter().flat_map(|plan| &plan.listeners);
    let followed: Vec<_> = listeners.filter_map(|listener| Some(&listener.tls.as_ref()?.acceptor)).collect();
    for listener in &plan.listeners {
        if let Some(tls) = &listener.tls
            && let Some(interval) = tls.reload_interval
            && !followed.iter().any(|known| Arc::ptr_eq(known, &tls.acceptor))
        {
            tasks.spawn(follow(listener.name.clone(), Arc::downgrade(&tls.acceptor), interval));
        }
    }
}

async fn follow(listener: Arc<str>, acceptor: Weak<Acceptor>, interval: Duration) {
    let mut judged = None;
    loop {
        tokio::time::sleep(interval).await;
        let Some(acceptor) = acceptor.upgrade() else { return };
        let Some(seen) = look(&acceptor).await else { continue };
        let used = acceptor.current().look;
        if seen == used {
            // They were put back, or have never changed.
            judged = None;
            acceptor.rotation.stale.store(false, Ordering::Relaxed);
            continue;
        }
        if judged == Some(seen) {
            continue;
        }
        tokio::time::sleep(interval.min(SETTLED)).await;
        if look(&acceptor).await == Some(seen) {
            judged = Some(seen);
            let taker = acceptor.clone();
            let taken = tokio::task::spawn_blocking(move || take(&taker, seen)).await;
            tell(&listener, &acceptor.rotation, taken.unwrap_or_else(|panic| Err(panic.to_string())));
        }
    }
}

async fn look(acceptor: &Arc<Acceptor>) -> Option<Look> {
    let acceptor = acceptor.clone();
    tokio::task::spawn_blocking(move || acceptor.offer.look()).await.ok()
}

fn take(acceptor: &Acceptor, seen: Look) -> Result<(), String> {
    let material = acceptor.offer.read()?;
    if let Some(gone) = material.identities.iter().find(|identity| identity.validity() == Validity::Past) {
        return Err(expired(gone));
    }
    acceptor.exchange(material, seen)
}

fn expired(identity: &Identity) -> String {
    format!("the certificate in `{}` has expired", identity.cert_file.display())
}

fn tell(listener: &str, rotation: &Rotation, taken: Result<(), String>) {
    rotation.stale.store(taken.is_err(), Ordering::Relaxed);
    match taken {
        Ok(()) => {
            rotation.taken.fetch_add(1, Ordering::Relaxed);
            tracing::info!(listener, "TLS files have changed: new connections use them");
        }
        Err(why) => {
            rotation.refused.fetch_add(1, Ordering::Relaxed);
            tracing::error!(listener, why, "TLS files have changed and cannot be used: the old ones stay");
        }
    }
}
