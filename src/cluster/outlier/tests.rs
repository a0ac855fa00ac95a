use std::time::Duration;

use tokio::time::sleep;

use super::*;
use crate::cluster::{Found, fixture};

const WORKERS: usize = 2;

const NOBODY: [usize; 0] = [];

/// A cluster whose outlier detection runs, on a clock that the test moves.
struct Bed {
    cluster: Arc<Cluster>,
    detector: tokio::task::JoinHandle<()>,
}

impl Bed {
    /// With these keys of `outlier_detection`, and further ones of the cluster.
    fn new(endpoints: u16, keys: &str, cluster: &str) -> Bed {
        let keys = format!("lb_policy: RoundRobin, outlier_detection: {{{keys}}}, {cluster}");
        let cluster = Arc::new(fixture::cluster(&keys, &[]));
        let found: Vec<Found> = (0..endpoints).map(|at| Found::on(1000 + at)).collect();
        cluster.replace(&found);
        let detector = tokio::spawn(detect(cluster.clone()));
        Bed { cluster, detector }
    }

    /// The same verdict so many times, each from another worker than the last.
    async fn tell(&self, endpoint: usize, verdict: Verdict, times: usize) {
        let members = self.cluster.members();
        for at in 0..times {
            self.cluster.tell(&members.endpoints[endpoint], at % WORKERS, verdict);
        }
        sleep(Duration::from_millis(1)).await;
    }

    fn ejected(&self) -> Vec<usize> {
        let members = self.cluster.members();
        (0..members.endpoints.len()).filter(|at| members.endpoints[*at].is_ejected()).collect()
    }

    /// How often in a row an endpoint that is ejected has been so, and why.
    fn times(&self, endpoint: usize) -> Option<(u32, Reason)> {
        let ejection = self.cluster.members().endpoints[endpoint].reasons().ejection?;
        Some((ejection.times, ejection.reason))
    }

    /// How long an endpoint that is ejected stays so, to the second.
    async fn until_back(&self, endpoint: usize) -> u64 {
        let begun = Instant::now();
        while self.ejected().contains(&endpoint) {
            sleep(Duration::from_millis(100)).await;
        }
        (begun.elapsed().as_millis() as u64 + 500) / 1000
    }

    fn outliers(&self) -> &Outliers {
        self.cluster.outliers.as_ref().expect("outlier detection")
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.detector.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_row_ejects_at_once_and_an_answer_ends_the_row() {
    use Verdict::{FailureStatus, GatewayFailure, Good};
    let bed = Bed::new(3, "consecutive_gateway_failure: 3, consecutive_grpc_failure: 4", "");
    for ends_it in [Good, FailureStatus] {
        bed.tell(0, GatewayFailure, 2).await;
        bed.tell(0, ends_it, 1).await;
    }
    bed.tell(0, GatewayFailure, 2).await;
    assert_eq!(bed.ejected(), NOBODY);
    bed.tell(0, GatewayFailure, 1).await;
    assert_eq!(bed.times(0), Some((1, Reason::ConsecutiveGatewayFailure)));
    assert_eq!(bed.ejected(), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_row_of_statuses_goes_on_after_a_call_without_one() {
    use Verdict::{FailureStatus, GatewayFailure, Good};
    let bed = Bed::new(3, "consecutive_gateway_failure: 0, consecutive_grpc_failure: 4", "");
    bed.tell(1, FailureStatus, 3).await;
    bed.tell(1, Good, 1).await;
    bed.tell(1, GatewayFailure, 100).await;
    bed.tell(1, FailureStatus, 3).await;
    bed.tell(1, GatewayFailure, 1).await;
    assert_eq!(bed.ejected(), NOBODY);
    bed.tell(1, FailureStatus, 1).await;
    assert_eq!(bed.times(1), Some((1, Reason::ConsecutiveGrpcFailure)));
}

#[tokio::test(start_paused = true)]
async fn an_ejection_ends_grows_and_wears_off() {
    let bed = Bed::new(3, "consecutive_gateway_failure: 1, base_ejection_time: 30s, max_ejection_time: 70s", "");
    for (times, seconds) in [(1, 30), (2, 60), (3, 70)] {
        bed.tell(0, Verdict::GatewayFailure, 1).await;
        assert_eq!(bed.times(0), Some((times, Reason::ConsecutiveGatewayFailure)));
        // What open streams come to meanwhile neither prolongs it nor counts when it is over.
        bed.tell(0, Verdict::GatewayFailure, 3).await;
        assert_eq!(bed.until_back(0).await, seconds);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(bed.ejected(), NOBODY);
    }
    // Each window without an ejection takes one away; the last ejection ended within one.
    sleep(Duration::from_secs(20)).await;
    bed.tell(0, Verdict::GatewayFailure, 1).await;
    assert_eq!(bed.times(0).map(|(times, _)| times), Some(2));
    assert_eq!(bed.until_back(0).await, 60);
    sleep(Duration::from_secs(100)).await;
    bed.tell(0, Verdict::GatewayFailure, 1).await;
    assert_eq!(bed.times(0).map(|(times, _)| times), Some(1));
    assert_eq!(bed.until_back(0).await, 30);
    let ejections: Vec<u64> = bed.outliers().ejections().map(|(_, count)| count).collect();
    assert_eq!(ejections, [5, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_allowed_share_is_ejected() {
    let bed = Bed::new(10, "consecutive_gateway_failure: 1, max_ejection_percent: 25", "");
    for endpoint in 0..4 {
        bed.tell(endpoint, Verdict::GatewayFailure, 1).await;
    }
    assert_eq!(bed.ejected(), [0, 1]);
    assert_eq!(bed.outliers().prevented(), 2);
    bed.until_back(1).await;
    bed.tell(2, Verdict::GatewayFailure, 1).await;
    assert_eq!(bed.ejected(), [2]);

    for (endpoints, percent, most) in [(1, 10, 0), (2, 10, 1), (9, 10, 1), (20, 10, 2), (1, 100, 1), (3, 100, 3)] {
        assert_eq!(most_ejected(endpoints, percent), most, "{percent} % of {endpoints}");
    }
}

#[tokio::test(start_paused = true)]
async fn rates_are_those_of_one_window() {
    let off = "consecutive_gateway_failure: 0, consecutive_grpc_failure: 0, interval: 10s";
    let keys = "failure_percentage_threshold: 50, failure_percentage_minimum_hosts: 1";
    let bed = Bed::new(2, &format!("{off}, {keys}"), "");
    // 40 calls in each of two windows are not the 50 that one must have.
    for _ in 0..2 {
        bed.tell(0, Verdict::FailureStatus, 40).await;
        sleep(Duration::from_secs(10)).await;
    }
    assert_eq!(bed.ejected(), NOBODY);
    bed.tell(0, Verdict::FailureStatus, 13).await;
    bed.tell(0, Verdict::GatewayFailure, 12).await;
    bed.tell(0, Verdict::Good, 25).await;
    assert_eq!(bed.ejected(), NOBODY, "before the window has ended");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(bed.times(0), Some((1, Reason::FailurePercentage)));
    // The calls of that window are not those of the next.
    assert_eq!(bed.until_back(0).await, 30);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(bed.ejected(), NOBODY);
}

#[tokio::test(start_paused = true)]
async fn a_success_rate_is_compared_with_those_of_the_others() {
    let off = "consecutive_gateway_failure: 0, consecutive_grpc_failure: 0, max_ejection_percent: 50";
    let bed = Bed::new(6, &format!("{off}, success_rate_stdev_factor: 1900"), "");
    for endpoint in 0..5 {
        bed.tell(endpoint, Verdict::Good, if endpoint == 3 { 50 } else { 100 }).await;
    }
    bed.tell(3, Verdict::FailureStatus, 50).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(bed.times(3), Some((1, Reason::SuccessRate)));
    assert_eq!(bed.ejected(), [3]);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_has_left_is_forgotten() {
    let bed = Bed::new(2, "consecutive_gateway_failure: 1", "");
    bed.tell(0, Verdict::GatewayFailure, 1).await;
    let stays = bed.cluster.members().endpoints[1].clone();
    bed.cluster.replace(&[Found::at(stays.address.clone())]);
    sleep(Duration::from_secs(60)).await;
    // The same address again is another endpoint, with nothing against it.
    bed.cluster.replace(&[Found::on(1000), Found::at(stays.address.clone())]);
    assert_eq!(bed.ejected(), NOBODY);
    bed.tell(0, Verdict::GatewayFailure, 1).await;
    assert_eq!(bed.times(0).map(|(times, _)| times), Some(1));
}

#[tokio::test(start_paused = true)]
async fn below_the_panic_threshold_all_are_used() {
    let keys = "consecutive_gateway_failure: 1, max_ejection_percent: 100";
    let bed = Bed::new(4, keys, "healthy_panic_threshold: 50");
    let panic = || bed.cluster.members().panic;
    bed.tell(0, Verdict::GatewayFailure, 1).await;
    bed.cluster.set_health(&bed.cluster.members().endpoints[1], false);
    assert!(!panic(), "half of them is not below half");
    bed.tell(2, Verdict::GatewayFailure, 1).await;
    assert!(panic());
    // Both down and ejected is not usable once.
    bed.cluster.set_health(&bed.cluster.members().endpoints[2], false);
    bed.cluster.set_health(&bed.cluster.members().endpoints[1], true);
    assert!(!panic());
    bed.cluster.replace(&[]);
    assert!(!panic(), "a cluster without endpoints has nobody to use");
}
