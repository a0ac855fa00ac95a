//! The bound on the streams of an endpoint that has left its cluster.

use std::pin::pin;
use std::rc::Weak;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::pool::Pool;
use super::streams::Move;

/// Ends the streams of a pool whose endpoint has been gone for this long. One that comes back meanwhile, which happens where
/// DNS forgets, keeps the streams that it has.
///
/// The task holds the pool no longer than its streams and connections do.
pub(super) async fn bound(pool: Weak<Pool>, limit: Duration) {
    let Some((cluster, endpoint)) = pool.upgrade().map(|pool| (pool.cluster(), pool.endpoint.clone())) else {
        return;
    };
    let mut end = pin!(sleep(limit));
    while pool.strong_count() > 0 {
        let changed = cluster.changed();
        if cluster.has(&endpoint) {
            changed.await;
            end.as_mut().reset(Instant::now() + limit);
            continue;
        }
        tokio::select! {
            () = changed => {}
            () = end.as_mut() => return end_streams(&pool),
        }
    }
}

fn end_streams(pool: &Weak<Pool>) {
    let Some(pool) = pool.upgrade() else { return };
    let streams = pool.streams().map_or(0, |streams| streams.tell_all(Move::Removed));
    if streams > 0 {
        let (cluster, endpoint) = (&pool.cluster().plan.name, &pool.endpoint.label);
        tracing::warn!(%cluster, %endpoint, streams, "an endpoint that was removed has had its time: its streams end");
    }
}
