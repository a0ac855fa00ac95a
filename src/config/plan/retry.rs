//! When a call that failed is made again, and what bounds that (gRFC A6).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use weir_filter::Code;

/// When a call that failed is made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often a call is made at most, the first time included.
    pub max_attempts: u32,
    /// The longest wait before the second attempt.
    pub initial_backoff: Duration,
    /// The longest wait before any attempt.
    pub max_backoff: Duration,
    /// What the longest wait grows by from attempt to attempt.
    pub backoff_multiplier: Thousandths,
    /// The statuses that are tried again.
    pub retryable: StatusCodes,
    /// How long an attempt may take until its response begins; `None` is as long as the call may.
    pub per_attempt_timeout: Option<Duration>,
    /// How long response headers are held back for what follows them; zero is not at all.
    pub hold_headers: Duration,
}

/// When a call is made more than once at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HedgingPolicy {
    /// How often a call is made at most, the first time included.
    pub max_attempts: u32,
    /// The time between an attempt and the next; zero is all at once.
    pub hedging_delay: Duration,
    /// The statuses that the other attempts outlive.
    pub non_fatal: StatusCodes,
    /// How long response headers are held back for what follows them; zero is not at all.
    pub hold_headers: Duration,
}

/// When a call is made more than once: after a failure, or before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallPolicy {
    /// After a failure.
    Retry(Arc<RetryPolicy>),
    /// Before.
    Hedging(Arc<HedgingPolicy>),
}

/// A positive number with three decimals, as the specification counts tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thousandths(pub u64);

/// A set of status codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusCodes(u32);

/// The tokens that stop retries where most attempts fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryThrottling {
    /// Tokens at the start, and at most. A failure costs one; with half of them or fewer nothing is retried.
    pub max_tokens: u32,
    /// What a success gives back.
    pub token_ratio: Thousandths,
}

/// How many retries a cluster may have under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// The share of the cluster's calls in flight, in per cent.
    pub percent: u32,
    /// So many are always allowed.
    pub min_concurrency: u32,
}

/// How much of requests is kept for another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBuffer {
    /// Bytes of one call.
    pub per_call: usize,
    /// Bytes of all calls of the cluster together.
    pub per_cluster: usize,
}

impl Default for RetryBuffer {
    /// What holds where the file does not say: most requests and the beginning of every stream fit.
    fn default() -> RetryBuffer {
        RetryBuffer { per_call: 64 << 10, per_cluster: 16 << 20 }
    }
}

/// A gRPC service config, as far as a gateway honours it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Where it was read.
    pub file: PathBuf,
    /// What holds for a method: under `service/method`, else under `service/`, else under nothing.
    pub methods: BTreeMap<String, MethodConfig>,
    /// The tokens of the cluster.
    pub throttling: Option<RetryThrottling>,
}

/// What a service config says of a method.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MethodConfig {
    /// When its calls are made more than once.
    pub call_policy: Option<CallPolicy>,
    /// What its calls may take at most.
    pub timeout: Option<Duration>,
}

impl CallPolicy {
    /// The policy that tries again after a failure.
    #[must_use]
    pub fn retry(&self) -> Option<&RetryPolicy> {
        match self {
            CallPolicy::Retry(policy) => Some(policy),
            CallPolicy::Hedging(_) => None,
        }
    }

    /// The policy that does not wait for a failure.
    #[must_use]
    pub fn hedging(&self) -> Option<&HedgingPolicy> {
        match self {
            CallPolicy::Retry(_) => None,
            CallPolicy::Hedging(policy) => Some(policy),
        }
    }
}

impl Thousandths {
    /// The number as one part in one.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "the configuration allows no number that large")]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl StatusCodes {
    /// Adds a code.
    pub fn insert(&mut self, code: Code) {
        self.0 |= 1 << code.number();
    }

    /// True when the code is one of them.
    #[must_use]
    pub fn contains(self, code: Code) -> bool {
        self.0 & 1 << code.number() != 0
    }

    /// The codes, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Code> {
        Code::ALL.into_iter().filter(move |code| self.contains(*code))
    }
}

impl ServiceConfig {
    /// What holds for the method of this path, `/service/method`.
    #[must_use]
    pub fn method(&self, path: &str) -> Option<&MethodConfig> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let service = path.rfind('/').map_or("", |slash| &path[..=slash]);
        [path, service, ""].into_iter().find_map(|name| self.methods.get(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_name_counts() {
        let method = |seconds| MethodConfig { timeout: Some(Duration::from_secs(seconds)), ..MethodConfig::default() };
        let methods = [("a.B/C".to_owned(), method(1)), ("a.B/".to_owned(), method(2)), (String::new(), method(3))];
        let mut config = ServiceConfig { file: PathBuf::new(), methods: methods.into(), throttling: None };
        let seconds = |config: &ServiceConfig, path: &str| config.method(path).and_then(|method| method.timeout);
        for (path, expected) in [("/a.B/C", 1), ("/a.B/D", 2), ("/a.BB/C", 3), ("/a/B", 3)] {
            assert_eq!(seconds(&config, path), Some(Duration::from_secs(expected)), "{path}");
        }
        config.methods.remove("");
        assert_eq!(seconds(&config, "/a.BB/C"), None);
    }

    #[test]
    fn a_set_of_codes() {
        let mut codes = StatusCodes::default();
        codes.insert(Code::Unavailable);
        codes.insert(Code::Aborted);
        assert_eq!(codes.iter().collect::<Vec<_>>(), [Code::Aborted, Code::Unavailable]);
        assert!(!codes.contains(Code::Ok));
    }
}
