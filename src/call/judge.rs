//! What the end of an attempt says about the endpoint, for outlier detection.

use std::time::Duration;

use tokio::time::Instant;

use super::deadline;
use super::exchange::{End, Parties};
use super::watch::Interrupt;
use crate::cluster::outlier::{Outliers, Verdict};
use crate::upstream::Pool;

/// A client library goes by its own clock, which was started when the call left: a moment before the gateway's.
const EARLY: Duration = Duration::from_millis(5);

/// Libraries announce a time that is rounded up, by a hundredth of it at most; this leaves some more.
const ROUNDED: u32 = 64;

/// Tells the cluster how an attempt at this endpoint ended, where that says something about the endpoint.
pub(super) fn tell(pool: &Pool, end: &End, parties: &Parties<'_, '_>) {
    let cluster = pool.cluster();
    let Some(outliers) = &cluster.outliers else { return };
    if let Some(verdict) = verdict(outliers, end, parties) {
        cluster.tell(&pool.endpoint, pool.worker, verdict);
    }
}

fn verdict(outliers: &Outliers, end: &End, parties: &Parties<'_, '_>) -> Option<Verdict> {
    match end {
        // A filter may have changed what the client makes of it.
        End::Complete(code) => Some(outliers.of_status(parties.notes.upstream_status.unwrap_or(*code))),
        End::Reset(_) | End::Lost => Some(Verdict::GatewayFailure),
        // The call goes on; this attempt at it has failed, with what the backend said or without a word.
        End::Again(_) => Some(match parties.notes.upstream_status {
            Some(code) => outliers.of_status(code),
            None => Verdict::GatewayFailure,
        }),
        // The client waited as long as it could, and nothing came. A backend that hangs can be told by nothing else.
        End::Interrupted(interrupt) if !parties.client.has_begun() && has_waited(*interrupt, parties) => {
            Some(Verdict::GatewayFailure)
        }
        // A backend that goes away in good order, or has no room: the call goes elsewhere.
        End::Unprocessed => None,
        // The gateway's word, or the client's.
        End::Local(_) | End::Shed(_) | End::Interrupted(_) => None,
    }
}

/// True when the call ended because its time was over, whoever noticed first.
fn has_waited(interrupt: Interrupt, parties: &Parties<'_, '_>) -> bool {
    match (interrupt, parties.watch.deadline()) {
        (Interrupt::Deadline | Interrupt::Limit(_), _) => true,
        (Interrupt::Left(_), Some(at)) => {
            let now = Instant::now();
            let whole = deadline::read(&parties.call.metadata, now).map_or(Duration::ZERO, |end| end - now);
            at.saturating_duration_since(now) <= EARLY + whole / ROUNDED
        }
        _ => false,
    }
}
