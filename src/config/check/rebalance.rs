//! Rules for rebalancing.

use std::time::Duration;

use super::Checker;
use crate::config::diagnostic::Diagnostic;
use crate::config::file::cluster::Cluster;
use crate::config::plan::{self, Balance, Discovery};

/// Long enough for clients that come back to find room, and short against the life of a stream.
const WINDOW: Duration = Duration::from_secs(30);

/// A stream that has moved does not move again at once.
const MIN_STREAM_AGE: Duration = Duration::from_secs(10);

impl Checker<'_, '_> {
    /// How streams of a cluster move; `None` where they stay.
    pub(super) fn rebalance(
        &self,
        cluster: &Cluster,
        index: usize,
        balance: &Balance,
        discovery: &Discovery,
    ) -> Option<plan::Rebalance> {
        let field = cluster.rebalance.as_ref()?;
        let value = field.value.as_ref()?;
        if matches!(balance, Balance::Ring(_) | Balance::Maglev(_)) {
            let error = Diagnostic::new(field.key, "`rebalance` does not go with a hashing policy");
            let error = error.label("a stream that is opened anew goes where its hash says, which is where it was");
            self.error(error.maybe_other(cluster.lb_policy.as_ref().map(|at| at.place), "the policy"));
        }
        if let Some((_, asked)) = self.asked_of(index) {
            let error = Diagnostic::new(field.key, "`rebalance` does not go with `metadata_match`");
            let error =
                error.label("streams that may only go to some of the endpoints are no measure of an even share");
            self.error(error.other(asked, "a route that asks for labels"));
        }
        let changes = cluster.health_checks.is_some() || cluster.outlier_detection.is_some();
        if *discovery == Discovery::Static && !changes {
            self.useless("rebalance", Some(field), "the endpoints are addresses that nothing checks: none ever joins");
        }
        Some(plan::Rebalance {
            window: self.positive(value.window.as_ref(), "window").unwrap_or(WINDOW),
            min_stream_age: self.duration(value.min_stream_age.as_ref()).unwrap_or(MIN_STREAM_AGE),
            pushback: self.duration(value.pushback.as_ref()).unwrap_or_default(),
        })
    }
}
