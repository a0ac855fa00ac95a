//! How a drain goes.

use prometheus::proto::{MetricFamily, MetricType};

use super::super::State;
use super::{family, gauge, plain};
use crate::drain::Left;

pub(super) fn state(state: &State) -> MetricFamily {
    let help = "0 serves, 1 drains and can be taken back, 2 drains and ends.";
    plain(state, "weir_drain_state", help, |state| state.drain.get().number())
}

/// Nothing is left of a drain that there is not.
pub(super) fn calls_left(state: &State) -> MetricFamily {
    let left = if state.drain.is_draining() { state.left() } else { Left::default() };
    let waits_for = [("own_end", left.own_end()), ("message_boundary", left.to_end), ("cut", left.to_cut)];
    let mut family =
        family("weir_drain_calls_left", "Calls that a drain has left, by what ends them.", MetricType::GAUGE);
    for (what, calls) in waits_for {
        family.mut_metric().push(gauge(&[("waits_for", what)], calls));
    }
    family
}
