//! Rules for the choice of an endpoint.

use std::time::Duration;

use super::{Checker, Scope};
use crate::config::diagnostic::Diagnostic;
use crate::config::file::balance::HashOn;
use crate::config::file::cluster::Cluster;
use crate::config::file::value::LbPolicy;
use crate::config::located::At;
use crate::config::plan::{self, Balance};
use crate::config::suggest::did_you_mean;

/// The policies by the names that the documentation uses.
const POLICIES: [&str; 8] = [
    "RoundRobin",
    "WeightedRoundRobin",
    "Rand",
    "WeightRandom",
    "LeastRequest",
    "PeakEwma",
    "RingHashing",
    "MaglevHashing",
];

/// A peak is half forgotten after seven seconds.
const DECAY_TIME: Duration = Duration::from_secs(10);

/// A policy before it is known what a hashing one hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    RoundRobin,
    WeightedRoundRobin,
    Random,
    WeightedRandom,
    LeastRequest,
    PeakEwma,
    Ring,
    Maglev,
}

/// Every spelling that is seen in the wild, without case and separators.
fn policy(text: &str) -> Option<Policy> {
    let folded: String = text.chars().filter(|c| !matches!(c, '_' | '-')).collect();
    Some(match folded.to_ascii_lowercase().as_str() {
        "roundrobin" => Policy::RoundRobin,
        "weightedroundrobin" | "weightroundrobin" => Policy::WeightedRoundRobin,
        "rand" | "random" | "lb" => Policy::Random,
        "weightrandom" => Policy::WeightedRandom,
        "leastrequest" | "leastconn" => Policy::LeastRequest,
        "peakewma" => Policy::PeakEwma,
        "ringhashing" | "ringhash" => Policy::Ring,
        "maglevhashing" | "maglev" => Policy::Maglev,
        _ => return None,
    })
}

impl Checker<'_, '_> {
    pub(super) fn balance(&self, cluster: &Cluster, scope: &Scope) -> Balance {
        let policy = self.policy(cluster, scope);
        let hashes = matches!(policy, Policy::Ring | Policy::Maglev);
        let hash_on = cluster.hash_on.as_ref();
        if let Some(hash_on) = hash_on.filter(|_| !hashes) {
            self.useless("hash_on", Some(hash_on), "`lb_policy` is not a hashing one");
        }
        if let Some(consistent) = cluster.consistent.as_ref().filter(|_| !hashes) {
            self.useless("consistent", Some(consistent), "`lb_policy` is not a hashing one");
        }
        let decay_time = self.decay_time(cluster, policy);
        let on = hash_on.and_then(|at| self.hash_on(at, scope));
        match policy {
            Policy::RoundRobin => Balance::RoundRobin,
            Policy::WeightedRoundRobin => Balance::WeightedRoundRobin,
            Policy::Random => Balance::Random,
            Policy::WeightedRandom => Balance::WeightedRandom,
            Policy::LeastRequest => Balance::LeastRequest,
            Policy::PeakEwma => Balance::PeakEwma { decay_time },
            Policy::Ring => Balance::Ring(on.unwrap_or_else(|| self.hash_on_path(cluster, scope))),
            Policy::Maglev => Balance::Maglev(on.unwrap_or_else(|| self.hash_on_path(cluster, scope))),
        }
    }

    fn decay_time(&self, cluster: &Cluster, policy: Policy) -> Duration {
        let field = cluster.peak_ewma.as_ref();
        if policy != Policy::PeakEwma {
            self.useless("peak_ewma", field, "`lb_policy` is not `PeakEwma`");
        }
        let decay_time = field.and_then(|at| at.value.as_ref()?.decay_time.as_ref());
        self.positive(decay_time, "decay_time").unwrap_or(DECAY_TIME)
    }

    pub(super) fn slow_start(&self, cluster: &Cluster, scope: &Scope) -> Option<plan::SlowStart> {
        let field = cluster.slow_start_config.as_ref()?;
        let config = field.value.as_ref()?;
        let policy = cluster.lb_policy.as_ref().and_then(|at| policy(&at.value.as_ref()?.0));
        if matches!(policy, Some(Policy::Ring | Policy::Maglev)) {
            let why = "`lb_policy` is a hashing one: a key goes where it belongs";
            self.useless("slow_start_config", Some(field), why);
        }
        let inner = scope.key("slow_start_config", field);
        let window = self.required(config.slow_start_window.as_ref(), "slow_start_window", &inner);
        let window = self.positive(window, "slow_start_window");
        let aggression = config.aggression.as_ref().and_then(|at| self.thousandths(at, "aggression"));
        Some(plan::SlowStart {
            aggression: aggression.unwrap_or(plan::Thousandths(1000)),
            min_weight_percent: self.number(config.min_weight_percent.as_ref(), "min_weight_percent", 0..=100, 10),
            window: window?,
        })
    }

    fn policy(&self, cluster: &Cluster, scope: &Scope) -> Policy {
        let Some(at) = &cluster.lb_policy else {
            self.notice(scope.place, format!("{} has no `lb_policy`: it is `Rand`, as in Pixiu", scope.what));
            return Policy::Random;
        };
        let Some(LbPolicy(text)) = &at.value else { return Policy::Random };
        match policy(text) {
            Some(policy) => {
                if text.eq_ignore_ascii_case("lb") {
                    self.notice(at.place, "`lb` means `Rand`, as in Pixiu");
                }
                if text.to_ascii_lowercase().contains("conn") {
                    self.notice(at.place, format!("`{text}` means `LeastRequest`: the fewest open streams"));
                }
                policy
            }
            None => {
                let label = did_you_mean(text, POLICIES).unwrap_or_else(|| format!("one of {}", POLICIES.join(", ")));
                self.error(Diagnostic::new(at.place, format!("unknown lb policy `{text}`")).label(label));
                Policy::Random
            }
        }
    }

    fn hash_on(&self, at: &At<HashOn>, scope: &Scope) -> Option<plan::HashOn> {
        let hash_on = at.value.as_ref()?;
        match (&hash_on.metadata, &hash_on.path) {
            (Some(metadata), Some(path)) if path.value == Some(true) => {
                let error = Diagnostic::new(path.key, "`hash_on` takes `metadata` or `path`, not both");
                self.error(error.label("keep one of them").other(metadata.key, "the other"));
                None
            }
            (Some(metadata), _) => self.metadata_key(metadata).map(plan::HashOn::Metadata),
            (None, Some(path)) if path.value != Some(false) => Some(plan::HashOn::Path),
            _ => {
                let what = scope.key("hash_on", at).what;
                let error = Diagnostic::new(at.key, format!("missing key `metadata` or `path` in {what}"));
                self.error(error.label("such as `{metadata: x-user}` or `{path: true}`"));
                None
            }
        }
    }

    /// Pixiu hashes the path of a gRPC call, so that is what a file without `hash_on` means.
    fn hash_on_path(&self, cluster: &Cluster, scope: &Scope) -> plan::HashOn {
        if cluster.hash_on.is_none() {
            let place = cluster.lb_policy.as_ref().map_or(scope.place, |at| at.place);
            self.notice(place, format!("{} has no `hash_on`: calls are spread by their path", scope.what));
        }
        plan::HashOn::Path
    }

    pub(super) fn consistent(&self, cluster: &Cluster) -> plan::Consistent {
        let consistent = cluster.consistent.as_ref().and_then(|at| at.value.as_ref());
        let replicas = consistent.and_then(|consistent| consistent.replica_num.as_ref());
        let table = consistent.and_then(|consistent| consistent.maglev_table_size.as_ref());
        if let Some(consistent) = consistent {
            let why = "a ring is as large as its endpoints make it";
            self.no_effect("max_vnode_num", consistent.max_vnode_num.as_ref(), why);
        }
        let table_size = self.number(table, "maglev_table_size", 2..=5_000_011, 65_537);
        if let Some(at) = table.filter(|_| !is_prime(table_size)) {
            let error = Diagnostic::new(at.place, format!("`maglev_table_size` must be a prime number: {table_size}"));
            self.error(error.label(format!("the next one is {}", next_prime(table_size))));
        }
        let number = |field: Option<&At<u64>>, key, range| {
            field.and_then(|at| self.in_range(at, key, range)).and_then(|number| u32::try_from(number).ok())
        };
        let factor = consistent.and_then(|consistent| consistent.hash_balance_factor.as_ref());
        plan::Consistent {
            replicas: number(replicas, "replica_num", 1..=1000),
            table_size,
            balance_factor: number(factor, "hash_balance_factor", 100..=10_000),
        }
    }
}

fn is_prime(number: u32) -> bool {
    let square_root_reached = |divisor: &u32| u64::from(*divisor).pow(2) <= u64::from(number);
    number > 1 && (2..).take_while(square_root_reached).all(|divisor| !number.is_multiple_of(divisor))
}

fn next_prime(number: u32) -> u32 {
    (number..).find(|candidate| is_prime(*candidate)).unwrap_or(65_537)
}

#[cfg(test)]
mod tests {
    use super::{Policy, is_prime, next_prime, policy};

    #[test]
    fn policies_are_known_in_every_spelling_of_the_wild() {
        for (text, known) in [
            ("RoundRobin", Some(Policy::RoundRobin)),
            ("ROUND_ROBIN", Some(Policy::RoundRobin)),
            ("round_robin", Some(Policy::RoundRobin)),
            ("weighted_round_robin", Some(Policy::WeightedRoundRobin)),
            ("WeightedRoundRobin", Some(Policy::WeightedRoundRobin)),
            ("lb", Some(Policy::Random)),
            ("rand", Some(Policy::Random)),
            ("WeightRandom", Some(Policy::WeightedRandom)),
            ("least_conn", Some(Policy::LeastRequest)),
            ("LeastRequest", Some(Policy::LeastRequest)),
            ("PeakEwma", Some(Policy::PeakEwma)),
            ("peak_ewma", Some(Policy::PeakEwma)),
            ("RingHashing", Some(Policy::Ring)),
            ("MaglevHashing", Some(Policy::Maglev)),
            ("IPHash", None),
            ("", None),
        ] {
            assert_eq!(policy(text), known, "{text}");
        }
    }

    #[test]
    fn primes() {
        let primes: Vec<u32> = (0..20).filter(|number| is_prime(*number)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19]);
        assert_eq!(next_prime(65_536), 65_537);
    }
}
