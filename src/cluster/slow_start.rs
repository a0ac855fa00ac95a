//! Endpoints that join or come back get their share little by little.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Cluster, Endpoint};
use crate::config::plan::SlowStart;

/// In so many steps an endpoint gets from its first share to all of it.
const STEPS: u32 = 50;

/// More often than this nothing is worked out anew, however short the window is.
const SHORTEST_STEP: Duration = Duration::from_millis(20);

/// A weight of 1, in the parts that a share is counted in.
pub(super) const WHOLE: u64 = 1000;

/// The share of its weight that an endpoint has this long after it joined, in parts of [`WHOLE`].
pub(super) fn share(plan: &SlowStart, age: Duration) -> u64 {
    let grown = (age.as_secs_f64() / plan.window.as_secs_f64()).min(1.0).powf(1.0 / plan.aggression.as_f64());
    let least = u64::from(plan.min_weight_percent) * WHOLE / 100;
    ((grown * WHOLE as f64) as u64).clamp(least.max(1), WHOLE)
}

/// What an endpoint has of its weight now, in per cent; `None` where the cluster has no slow start.
pub(crate) fn percent(cluster: &Cluster, endpoint: &Endpoint, now: Instant) -> Option<u64> {
    let plan = cluster.plan.slow_start.as_ref()?;
    Some(endpoint.age(now).map_or(100, |age| share(plan, age) * 100 / WHOLE))
}

/// Lets the cluster's endpoints grow into their shares for as long as this is polled. Calls read no clock for it.
pub(crate) async fn grow(cluster: Arc<Cluster>) {
    let Some(plan) = cluster.plan.slow_start else { return };
    let step = (plan.window / STEPS).max(SHORTEST_STEP);
    loop {
        // Those who were growing when the configuration changed grow on.
        while cluster.is_growing(Instant::now()) {
            sleep(step).await;
            cluster.renew();
        }
        cluster.joined.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Thousandths;

    #[test]
    fn a_share_grows_from_its_least_to_all() {
        let plan = |aggression, min_weight_percent| SlowStart {
            window: Duration::from_secs(10),
            aggression: Thousandths(aggression),
            min_weight_percent,
        };
        let shares = |plan: SlowStart| [0, 1, 5, 9, 10, 60].map(|age| share(&plan, Duration::from_secs(age)));
        assert_eq!(shares(plan(1000, 10)), [100, 100, 500, 900, 1000, 1000]);
        assert_eq!(shares(plan(1000, 0)), [1, 100, 500, 900, 1000, 1000]);
        assert_eq!(shares(plan(2000, 10)), [100, 316, 707, 948, 1000, 1000]);
    }
}
