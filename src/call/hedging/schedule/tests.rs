use std::future::poll_fn;

use tokio::time::timeout;

use super::*;
use crate::cluster::fixture;

/// What a call has of this policy, in a cluster with these keys.
fn schedule(policy: &str, keys: &str) -> Schedule {
    let cluster = fixture::cluster(&format!("lb_policy: RoundRobin, hedging_policy: {{{policy}}}, {keys}"), &[]);
    let Some(crate::config::plan::CallPolicy::Hedging(policy)) = cluster.plan.call_policy.clone() else {
        panic!("a policy")
    };
    Schedule::new(policy, Arc::new(cluster), Arc::new(WorkerMetrics::new(1, 1)))
}

/// When the next attempt is made, in milliseconds from now; `None` where there is none in an hour.
async fn next(schedule: &mut Schedule) -> Option<(u128, Place)> {
    let now = Instant::now();
    let place = timeout(Duration::from_secs(3600), poll_fn(|cx| schedule.poll(None, cx))).await.ok()?;
    schedule.begin();
    Some((now.elapsed().as_millis(), place))
}

/// The same, without the place.
async fn wait(schedule: &mut Schedule) -> Option<u128> {
    next(schedule).await.map(|(wait, _)| wait)
}

fn denied(schedule: &Schedule, denied: Denied) -> u64 {
    schedule.metrics.denied_hedges(0, denied).get()
}

fn after(millis: u64) -> Option<Pushback> {
    Some(Pushback::After(Duration::from_millis(millis)))
}

#[tokio::test(start_paused = true)]
async fn attempts_follow_one_another_by_the_delay() {
    let mut schedule = schedule("max_attempts: 4, hedging_delay: 100ms", "");
    assert_eq!(schedule.begin(), 0);
    for _ in 0..3 {
        assert_eq!(wait(&mut schedule).await, Some(100));
    }
    assert!(schedule.has_ended());
    assert_eq!(wait(&mut schedule).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_failure_brings_the_next_at_once_and_the_rest_follow_by_the_delay() {
    let mut schedule = schedule("max_attempts: 4, hedging_delay: 100ms", "");
    schedule.begin();
    sleep(Duration::from_millis(30)).await;
    schedule.failed(None, None);
    assert_eq!(wait(&mut schedule).await, Some(0));
    assert_eq!(wait(&mut schedule).await, Some(100));
}

#[tokio::test(start_paused = true)]
async fn a_backend_puts_the_next_off_or_brings_it_forward() {
    for (pushback, expected) in [(250, 250), (20, 20), (0, 0)] {
        let mut schedule = schedule("max_attempts: 3, hedging_delay: 100ms", "");
        schedule.begin();
        schedule.failed(after(pushback), None);
        assert_eq!(wait(&mut schedule).await, Some(expected));
        assert_eq!(wait(&mut schedule).await, Some(100));
    }
}

/// What fails meanwhile does not shorten the time that a backend has asked for; another backend may ask anew.
#[tokio::test(start_paused = true)]
async fn the_time_that_a_backend_asked_for_is_kept() {
    let mut schedule = schedule("max_attempts: 5, hedging_delay: 100ms", "");
    schedule.begin();
    assert_eq!(wait(&mut schedule).await, Some(100));
    schedule.failed(after(300), None);
    schedule.failed(None, None);
    assert_eq!(wait(&mut schedule).await, Some(300));
    schedule.failed(after(300), None);
    schedule.failed(after(500), None);
    schedule.failed(after(20), None);
    assert_eq!(wait(&mut schedule).await, Some(500));
}

#[tokio::test(start_paused = true)]
async fn a_no_is_for_all_that_would_follow() {
    let mut schedule = schedule("max_attempts: 5, hedging_delay: 100ms", "");
    schedule.begin();
    assert_eq!(wait(&mut schedule).await, Some(100));
    schedule.failed(Some(Pushback::Never), None);
    schedule.failed(None, None);
    schedule.failed(after(1), None);
    assert!(schedule.has_ended());
    assert_eq!(wait(&mut schedule).await, None);
    assert_eq!(denied(&schedule, Denied::Pushback), 1, "told once");
}

#[tokio::test(start_paused = true)]
async fn nothing_begins_at_the_deadline_or_after_it() {
    let mut schedule = schedule("max_attempts: 3, hedging_delay: 100ms", "");
    schedule.begin();
    let deadline = Instant::now() + Duration::from_millis(50);
    schedule.failed(after(50), Some(deadline));
    assert!(schedule.has_ended());
    assert_eq!(denied(&schedule, Denied::Deadline), 1);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_due_at_the_deadline_is_not_made() {
    let mut schedule = schedule("max_attempts: 3, hedging_delay: 100ms", "");
    schedule.begin();
    let deadline = Instant::now() + Duration::from_millis(100);
    let made = timeout(Duration::from_secs(3600), poll_fn(|cx| schedule.poll(Some(deadline), cx))).await;
    assert!(made.is_err());
    assert_eq!(denied(&schedule, Denied::Deadline), 0, "the call has ended");
}

#[tokio::test(start_paused = true)]
async fn few_tokens_deny_the_next() {
    let keys = "retry_throttling: {max_tokens: 2, token_ratio: 1}";
    let mut schedule = schedule("max_attempts: 3, hedging_delay: 100ms", keys);
    schedule.begin();
    assert_eq!(wait(&mut schedule).await, Some(100));
    schedule.cluster.retries.failed();
    assert_eq!(wait(&mut schedule).await, None, "when its time has come");
    assert_eq!(denied(&schedule, Denied::Throttled), 1);
}

#[tokio::test(start_paused = true)]
async fn a_place_in_the_budget_is_taken_with_the_wait_and_given_back_with_the_attempt() {
    let keys = "retry_budget: {percent: 0, min_concurrency: 1}";
    let mut schedule = schedule("max_attempts: 5, hedging_delay: 100ms", keys);
    schedule.begin();
    schedule.failed(after(50), None);
    assert!(!schedule.cluster.retries.begin(0), "it is taken");
    let (waited, place) = next(&mut schedule).await.expect("an attempt");
    assert_eq!(waited, 50);
    drop(place);
    assert_eq!(wait(&mut schedule).await, Some(100), "it is free again");
    let (_, _held) = next(&mut schedule).await.expect("an attempt");
    assert_eq!(wait(&mut schedule).await, None);
    assert_eq!(denied(&schedule, Denied::Budget), 1);
}
