//! What a drain does to streams, as YAML.

use serde_yaml::Value;

use super::{map, some, time};
use crate::config::plan::{DrainPolicy, OnDrain};

/// The value of `on_drain`. Waiting is what happens where nothing is said.
pub(super) fn value(on_drain: OnDrain) -> Option<Value> {
    let (window, after) = match on_drain.policy {
        DrainPolicy::Wait => return None,
        DrainPolicy::EndAtMessageBoundary(window) => (time(window), None),
        DrainPolicy::Cut(after) => (None, time(after)),
    };
    let policy = some(on_drain.policy.name());
    Some(map([("policy", policy), ("window", window), ("after", after), ("pushback", time(on_drain.pushback))]))
}
