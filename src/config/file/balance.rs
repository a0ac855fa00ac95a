//! The choice of an endpoint as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::value::{Duration, FallbackPolicy};
use crate::config::located::{At, Ignored};

/// What a hashing policy hashes: one of the two.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HashOn {
    /// The value of this metadata key. A call without it is spread by chance.
    pub(crate) metadata: Option<At<String>>,
    /// The full method name.
    pub(crate) path: Option<At<bool>>,
}

/// The size of a hashing policy's table.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Consistent {
    /// `RingHashing`: how often the endpoint of the least weight stands on the ring. More spread calls more evenly.
    /// Default: as often as makes 1024 points, and at least 160 times.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) replica_num: Option<At<u64>>,
    /// `MaglevHashing`: the size of the table, a prime number.
    #[schemars(range(min = 2, max = 5_000_011), extend("default" = 65537))]
    pub(crate) maglev_table_size: Option<At<u64>>,
    /// No endpoint gets more than this percentage of its even share of the open streams: a key whose endpoint has as much
    /// goes to the next one. Default: a key stays where it is, however much there is to do.
    #[schemars(range(min = 100, max = 10_000))]
    pub(crate) hash_balance_factor: Option<At<u64>>,
    /// No effect: a ring is as large as its endpoints make it.
    pub(crate) max_vnode_num: Option<At<Ignored>>,
}

/// What `PeakEwma` goes by: how long calls take until their responses begin.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeakEwma {
    /// How long it takes until little (1/e) is left of what was measured. A peak counts at once.
    #[schemars(extend("default" = "10s"))]
    pub(crate) decay_time: Option<At<Duration>>,
}

/// How an endpoint that joins or comes back gets its share.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SlowStartConfig {
    /// How long it takes until it has all of its weight.
    #[schemars(required)]
    pub(crate) slow_start_window: Option<At<Duration>>,
    /// `1` grows in a straight line, more than that grows faster at the beginning; three decimals count.
    #[schemars(range(min = 0.001, max = 1000), extend("default" = 1))]
    pub(crate) aggression: Option<At<f64>>,
    /// What it has of its weight at least, in per cent.
    #[schemars(range(min = 0, max = 100), extend("default" = 10))]
    pub(crate) min_weight_percent: Option<At<u64>>,
}

/// Who takes the calls of a route whose `metadata_match` no endpoint has.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LbSubsetConfig {
    /// `NO_FALLBACK` (nobody: such a route is an error), `ANY_ENDPOINT`, or `DEFAULT_SUBSET` (the endpoints with the labels of
    /// `default_subset`, which then also take the calls of routes without `metadata_match`).
    #[schemars(extend("default" = "NO_FALLBACK"))]
    pub(crate) fallback_policy: Option<At<FallbackPolicy>>,
    /// The labels of the endpoints that `DEFAULT_SUBSET` means. Needed by it.
    pub(crate) default_subset: Option<At<BTreeMap<String, Option<At<String>>>>>,
}

/// Where an endpoint or this process stands, from the large to the small.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Locality {
    /// Such as `eu-west`.
    #[schemars(required)]
    pub(crate) region: Option<At<String>>,
    /// Such as `eu-west-1a`.
    pub(crate) zone: Option<At<String>>,
    /// Such as a rack.
    pub(crate) sub_zone: Option<At<String>>,
}
