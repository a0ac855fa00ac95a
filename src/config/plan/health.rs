//! When an endpoint gets no calls.

use std::ops::RangeInclusive;
use std::time::Duration;

use weir_filter::Code;

/// An active health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// Time between the end of a check and the start of the next.
    pub interval: Duration,
    /// The same while the check says that the endpoint is down.
    pub unhealthy_interval: Duration,
    /// Every wait is longer by up to this; `None` is a tenth of the wait.
    pub interval_jitter: Option<Duration>,
    /// Time before the first check.
    pub initial_delay: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// This many good answers in a row bring an endpoint back.
    pub healthy_threshold: u32,
    /// This many bad answers in a row take an endpoint out.
    pub unhealthy_threshold: u32,
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// That the port accepts a connection.
    Tcp,
    /// `grpc.health.v1.Health` for this service; empty asks for the server as a whole.
    Grpc {
        /// The service name in the request.
        service_name: String,
    },
    /// A GET.
    Http {
        /// Its path, with a query where it has one.
        path: http::uri::PathAndQuery,
        /// Its authority; `None` is the endpoint's address.
        host: Option<http::uri::Authority>,
        /// HTTP/2 with prior knowledge, or HTTP/1.1.
        use_http2: bool,
        /// The statuses that are a good answer.
        expected_statuses: Vec<RangeInclusive<u16>>,
    },
}

/// When calls that fail eject an endpoint (gRFC A50, and Envoy's consecutive failures).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Gateway failures in a row that eject; 0 is never.
    pub consecutive_gateway_failure: u32,
    /// Failing statuses in a row that eject; 0 is never.
    pub consecutive_grpc_failure: u32,
    /// The statuses from a backend that are its failures.
    pub failure_statuses: Codes,
    /// The window of the rates.
    pub interval: Duration,
    /// An ejection lasts this long, times the ejections in a row.
    pub base_ejection_time: Duration,
    /// No ejection lasts longer.
    pub max_ejection_time: Duration,
    /// At most this percentage of the endpoints is ejected at a time.
    pub max_ejection_percent: u32,
    /// Ejection by success rate; `None` is never.
    pub success_rate: Option<SuccessRate>,
    /// Ejection by failure percentage; `None` is never.
    pub failure_percentage: Option<FailurePercentage>,
}

/// Ejection of endpoints whose success rate is far below that of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuccessRate {
    /// How far below the mean is too far, in thousandths of the standard deviation.
    pub stdev_factor: u32,
    /// The endpoints that must have had the volume.
    pub minimum_hosts: usize,
    /// The calls that an endpoint must have had in the window.
    pub request_volume: u64,
}

/// Ejection of endpoints too many of whose calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailurePercentage {
    /// This percentage of the calls, or more.
    pub threshold: u32,
    /// The endpoints that must have had the volume.
    pub minimum_hosts: usize,
    /// The calls that an endpoint must have had in the window.
    pub request_volume: u64,
}

/// A set of gRPC statuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Codes(u32);

impl Codes {
    /// True when the status is in the set.
    #[must_use]
    pub const fn contains(self, code: Code) -> bool {
        self.0 & 1 << code.number() != 0
    }

    /// The statuses in the set, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Code> {
        Code::ALL.into_iter().filter(move |code| self.contains(*code))
    }
}

impl FromIterator<Code> for Codes {
    fn from_iter<I: IntoIterator<Item = Code>>(codes: I) -> Codes {
        Codes(codes.into_iter().fold(0, |set, code| set | 1 << code.number()))
    }
}
