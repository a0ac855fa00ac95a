//! Active health checks, once a process, on the control runtime.

mod grpc;
mod http;
mod target;
mod tcp;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Cluster, Endpoint};
use crate::config::plan::{HealthCheck, Probe};
use grpc::{Pushed, Service};
use target::Target;

/// The checks of one endpoint. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Checks {
    tasks: Vec<AbortHandle>,
}

impl Drop for Checks {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// How a cluster's checks ended.
#[derive(Debug, Default)]
pub(crate) struct CheckCounts {
    /// Answers that were good.
    pub(crate) good: AtomicU64,
    /// Answers that were bad, and checks that could not be made.
    pub(crate) bad: AtomicU64,
    /// No answer in time.
    pub(crate) late: AtomicU64,
}

/// Starts the cluster's checks of one endpoint, on the current runtime. It is up when all of them say so.
pub(crate) fn watch(cluster: &Arc<Cluster>, endpoint: &Arc<Endpoint>) -> Checks {
    let checks = &cluster.plan.health_checks;
    let verdicts = Arc::new(Mutex::new(vec![endpoint.is_healthy(); checks.len()]));
    let tasks = (0..checks.len())
        .map(|at| Checked { cluster: cluster.clone(), endpoint: endpoint.clone(), at, verdicts: verdicts.clone() })
        .map(|checked| tokio::spawn(run(checked)).abort_handle())
        .collect();
    Checks { tasks }
}

/// One check of one endpoint, and the verdicts of all of that endpoint's checks.
struct Checked {
    cluster: Arc<Cluster>,
    endpoint: Arc<Endpoint>,
    at: usize,
    verdicts: Arc<Mutex<Vec<bool>>>,
}

impl Checked {
    fn check(&self) -> &HealthCheck {
        &self.cluster.plan.health_checks[self.at]
    }

    /// This check's verdict has changed.
    fn report(&self, up: bool, why: &str) {
        let all_up = {
            let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
            verdicts[self.at] = up;
            verdicts.iter().all(|up| *up)
        };
        if self.cluster.set_health(&self.endpoint, all_up) {
            let (cluster, endpoint) = (&self.cluster.plan.name, &self.endpoint.label);
            if all_up {
                tracing::info!(%cluster, %endpoint, "endpoint up");
            } else {
                tracing::warn!(%cluster, %endpoint, why, "endpoint down");
            }
        }
    }
}

async fn run(checked: Checked) {
    let check = checked.check();
    sleep(jittered(check.initial_delay, check.interval_jitter)).await;
    let mut streak = Streak::new(check, checked.endpoint.is_healthy());
    let mut prober = Prober::new(check, &checked);
    loop {
        let result = ask(&checked, &mut prober).await;
        if let Some(up) = streak.count(result.is_ok()) {
            checked.report(up, result.err().as_deref().unwrap_or_default());
        }
        wait(&checked, &mut prober, &mut streak).await;
    }
}

/// Makes the check once.
async fn ask(checked: &Checked, prober: &mut Prober) -> Result<(), String> {
    let (check, counts) = (checked.check(), &checked.cluster.checks);
    let result = match timeout(check.timeout, prober.ask()).await {
        Ok(result) => {
            let count = if result.is_ok() { &counts.good } else { &counts.bad };
            count.fetch_add(1, Ordering::Relaxed);
            result
        }
        Err(_) => {
            counts.late.fetch_add(1, Ordering::Relaxed);
            // The connection may be that of a machine that died without a word, and would never answer again.
            *prober = Prober::new(check, checked);
            Err(format!("no answer in {:?}", check.timeout))
        }
    };
    result.inspect_err(|why| checked.endpoint.note_check_failure(why))
}

/// Waits until the check is due again. What the backend says of itself meanwhile counts at once.
async fn wait(checked: &Checked, prober: &mut Prober, streak: &mut Streak) {
    let check = checked.check();
    let pause = |up: bool| {
        let interval = if up { check.interval } else { check.unhealthy_interval };
        Instant::now() + jittered(interval, check.interval_jitter)
    };
    let mut due = pause(streak.up);
    loop {
        let pushed = tokio::select! {
            () = sleep_until(due) => return,
            pushed = prober.pushed() => pushed,
        };
        match pushed {
            Pushed::Down(why) => {
                checked.endpoint.note_check_failure(&why);
                if streak.break_off() {
                    checked.report(false, &why);
                    due = pause(false);
                }
            }
            Pushed::Up if streak.up => {}
            // Nobody need wait to find out more.
            Pushed::Up | Pushed::Broken => return,
        }
    }
}

/// Checks of many endpoints that began together fall out of step.
fn jittered(wait: Duration, most: Option<Duration>) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let most = most.unwrap_or(wait / 10).as_nanos() as u64;
    wait + Duration::from_nanos(if most == 0 { 0 } else { RandomState::new().hash_one(0) % most })
}

/// Counts answers of one kind in a row against the thresholds.
#[derive(Debug)]
struct Streak {
    up: bool,
    against: u32,
    healthy_threshold: u32,
    unhealthy_threshold: u32,
}

impl Streak {
    /// An endpoint begins as up, since traffic does not wait for the first check, or as other checks have left it.
    fn new(check: &HealthCheck, up: bool) -> Streak {
        Streak {
            up,
            against: 0,
            healthy_threshold: check.healthy_threshold,
            unhealthy_threshold: check.unhealthy_threshold,
        }
    }

    /// The new verdict, when this answer changes it.
    fn count(&mut self, good: bool) -> Option<bool> {
        if good == self.up {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let threshold = if self.up { self.unhealthy_threshold } else { self.healthy_threshold };
        if self.against < threshold {
            return None;
        }
        self.against = 0;
        self.up = good;
        Some(good)
    }

    /// The verdict is that it is down, whatever was counted. True when that is a change.
    fn break_off(&mut self) -> bool {
        self.against = 0;
        std::mem::replace(&mut self.up, false)
    }
}

/// Who makes a check.
enum Prober {
    Tcp(Target),
    Grpc(Box<Service>),
    Http(http::Request),
}

impl Prober {
    fn new(check: &HealthCheck, checked: &Checked) -> Prober {
        let target = Target::new(&checked.cluster, &checked.endpoint);
        let label = &checked.endpoint.label;
        match &check.probe {
            Probe::Tcp => Prober::Tcp(target),
            Probe::Grpc { service_name } => {
                Prober::Grpc(Box::new(Service::new(target, label, service_name, check.interval)))
            }
            Probe::Http { path, host, use_http2, expected_statuses } => {
                Prober::Http(http::Request::new(target, label, path, host.as_ref(), *use_http2, expected_statuses))
            }
        }
    }

    async fn ask(&mut self) -> Result<(), String> {
        match self {
            Prober::Tcp(target) => tcp::ask(target).await,
            Prober::Grpc(service) => service.ask().await,
            Prober::Http(request) => request.ask().await,
        }
    }

    /// What the backend says without being asked.
    async fn pushed(&mut self) -> Pushed {
        match self {
            Prober::Grpc(service) => service.pushed().await,
            Prober::Tcp(_) | Prober::Http(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_count_answers_in_a_row() {
        let mut streak = Streak { up: true, against: 0, healthy_threshold: 2, unhealthy_threshold: 3 };
        let answers = [false, false, true, false, false, false, true, false, true, true];
        let changes: Vec<_> = answers.into_iter().map(|good| streak.count(good)).collect();
        let mut expected = [None; 10];
        expected[5] = Some(false);
        expected[9] = Some(true);
        assert_eq!(changes, expected);
    }

    #[test]
    fn a_backends_own_word_waits_for_no_threshold_and_its_return_does() {
        let mut streak = Streak { up: true, against: 2, healthy_threshold: 2, unhealthy_threshold: 3 };
        assert_eq!([streak.break_off(), streak.break_off()], [true, false]);
        assert_eq!([streak.count(true), streak.count(true)], [None, Some(true)]);
    }

    #[test]
    fn jitter_lengthens_by_less_than_its_most() {
        let wait = Duration::from_secs(1);
        for _ in 0..100 {
            assert!((wait..wait + wait / 10).contains(&jittered(wait, None)));
            assert!((wait..wait * 3).contains(&jittered(wait, Some(wait * 2))));
            assert_eq!(jittered(wait, Some(Duration::ZERO)), wait);
        }
    }
}
