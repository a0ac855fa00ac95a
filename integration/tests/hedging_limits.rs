//! What bounds hedging: pushback, tokens, a budget, a buffer, circuit breakers, deadlines; and service configs, which say it by method.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use h2::Reason;
use tokio::task::JoinSet;
use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::{Backend, DO};
use weir_integration::peers::client::{Answer, Client, METHOD};
use weir_integration::peers::eventually;
use weir_integration::peers::page::metric;
use weir_integration::peers::setup::Setup;

/// All attempts at once.
const AT_ONCE: &str = "max_attempts: 3, hedging_delay: 0s, non_fatal_status_codes: [UNAVAILABLE, ABORTED]";

/// No attempt but those that a failure calls for.
const AFTER_FAILURES: &str = "max_attempts: 3, hedging_delay: 10m, \
                              non_fatal_status_codes: [UNAVAILABLE, ABORTED, INTERNAL, UNKNOWN, CANCELLED]";

/// A gateway whose cluster `echo` has this policy and these keys.
fn setup(backends: impl IntoIterator<Item = SocketAddr>, policy: &str, keys: &str) -> Setup {
    let keys = format!("lb_policy: RoundRobin, hedging_policy: {{{policy}}}, {keys}");
    Setup::new().admin().route("prefix: /", "echo").cluster("echo", &keys, backends)
}

async fn some(count: usize, policy: &str, keys: &str) -> Result<(Vec<Backend>, Gateway, Client)> {
    let backends = Backend::start_many(count).await?;
    let gateway = setup(backends.iter().map(|backend| backend.address), policy, keys).start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    Ok((backends, gateway, client))
}

async fn one(policy: &str, keys: &str) -> Result<(Backend, Gateway, Client)> {
    let (mut backends, gateway, client) = some(1, policy, keys).await?;
    Ok((backends.remove(0), gateway, client))
}

async fn call(client: &Client, script: &str) -> Result<Answer> {
    client.call(METHOD, &[(DO, script)]).await
}

async fn of_cluster(gateway: &Gateway, name: &str) -> Result<f64> {
    metric(gateway.admin()?, &format!("{name}{{cluster=\"echo\"}}")).await?.context("a metric")
}

async fn denied(gateway: &Gateway, reason: &str) -> Result<f64> {
    let series = format!("weir_hedges_denied_total{{cluster=\"echo\",reason=\"{reason}\"}}");
    metric(gateway.admin()?, &series).await?.context(series)
}

async fn until_cancelled(backend: &Backend, count: usize) -> Result<()> {
    let seen = backend.until("resets", |seen| seen.resets.len() >= count).await?;
    ensure!(seen.resets.len() == count && seen.resets.iter().all(|code| *code == Reason::CANCEL), "{:?}", seen.resets);
    Ok(())
}

async fn until_nothing_is_left(gateway: &Gateway) -> Result<()> {
    let rest = async || {
        let calls = of_cluster(gateway, "weir_calls_in_flight").await?;
        let kept = of_cluster(gateway, "weir_retry_buffer_bytes").await?;
        Ok((calls == 0.0 && kept == 0.0).then_some(()))
    };
    eventually("rest", rest).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_says_when_the_next_may_come() -> Result<()> {
    let (backend, _gateway, client) = one(AFTER_FAILURES, "").await?;
    for kind in ["status", "late"] {
        let began = Instant::now();
        let answer = call(&client, &format!("{kind}=14:80;{kind}=14:0;echo")).await?;
        ensure!(answer.status() == Some(0) && answer.trailer("grpc-retry-pushback-ms").is_none(), "{answer:?}");
        ensure!(began.elapsed() >= Duration::from_millis(80), "{:?}", began.elapsed());
    }
    ensure!(backend.seen().calls.len() == 6);
    // It is no licence.
    let answer = call(&client, "status=5:0;echo").await?;
    ensure!(answer.status() == Some(5) && answer.trailer("grpc-retry-pushback-ms") == Some("0"), "{answer:?}");
    ensure!(backend.seen().calls.len() == 7);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_says_no() -> Result<()> {
    let (backend, gateway, client) = one(AFTER_FAILURES, "").await?;
    for pushback in ["-1", "soon"] {
        for kind in ["status", "late"] {
            let answer = call(&client, &format!("{kind}=14:{pushback};echo")).await?;
            ensure!(answer.status() == Some(14), "{pushback}: {answer:?}");
            ensure!(answer.trailer("grpc-retry-pushback-ms") == Some(pushback), "unchanged: {answer:?}");
        }
    }
    ensure!(backend.seen().calls.len() == 4 && denied(&gateway, "pushback").await? == 4.0);
    // Attempts that are under way go on.
    let (backend, gateway, client) = one(AT_ONCE, "").await?;
    let mut open = client.script("silent;status=14:-1;status=14:-1").await?;
    open.message(b"abc", true)?;
    backend.until_calls(3).await?;
    backend.release();
    ensure!(open.answer().await?.status() == Some(0));
    ensure!(denied(&gateway, "pushback").await? == 0.0, "there was none to deny");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_stop_hedges_and_come_back_with_successes() -> Result<()> {
    let tokens = "retry_throttling: {max_tokens: 6, token_ratio: 1}";
    let (backend, gateway, client) = one(AT_ONCE, tokens).await?;
    ensure!(call(&client, "status=14").await?.status() == Some(14));
    ensure!(backend.seen().calls.len() == 3, "three failures cost three tokens");
    let answer = call(&client, "echo").await?;
    ensure!(answer.status() == Some(0), "{answer:?}");
    ensure!(backend.seen().calls.len() == 4, "no hedge with half of the tokens");
    ensure!(denied(&gateway, "throttled").await? == 1.0);
    // The success gave one back.
    let answer = call(&client, "silent;echo").await?;
    ensure!(answer.status() == Some(0), "{answer:?}");
    ensure!(backend.until_calls(6).await?.calls.len() >= 6);
    Ok(())
}

/// A failure that a low count of tokens follows is the last, and reaches the client.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_empties_the_tokens_is_handed_on() -> Result<()> {
    let (backend, gateway, client) = one(AFTER_FAILURES, "retry_throttling: {max_tokens: 2, token_ratio: 0.1}").await?;
    let answer = call(&client, "status=14;echo").await?;
    ensure!(answer.status() == Some(14) && answer.trailer("x-trailer") == Some("original"), "{answer:?}");
    ensure!(backend.seen().calls.len() == 1 && denied(&gateway, "throttled").await? == 1.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_bounds_hedges() -> Result<()> {
    let budget = "retry_budget: {percent: 0, min_concurrency: 1}";
    let (backend, gateway, client) = one(AT_ONCE, budget).await?;
    for round in 1..=2 {
        let mut open = client.script("hold").await?;
        ensure!(open.headers().await?.contains_key("x-from"), "a client that still sends gets them");
        let mut silent = client.script("silent").await?;
        silent.message(b"abc", true)?;
        let enough = async || Ok((denied(&gateway, "budget").await? == 2.0 * f64::from(round)).then_some(()));
        eventually("hedges that are denied", enough).await?;
        silent.cancel();
        open.cancel();
        until_nothing_is_left(&gateway).await?;
    }
    ensure!(backend.seen().calls.len() == 8, "of each call one hedge");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_breaker_stops_a_hedge_and_not_its_call() -> Result<()> {
    let (backend, gateway, client) = one(AT_ONCE, "circuit_breakers: {max_calls: 2}").await?;
    let mut open = client.script("silent").await?;
    open.message(b"abc", true)?;
    backend.until_calls(2).await?;
    let full = async || Ok((denied(&gateway, "circuit_breaker").await? == 1.0).then_some(()));
    eventually("a hedge that is denied", full).await?;
    // A call of its own is rejected as ever.
    let answer = call(&client, "echo").await?;
    ensure!(answer.status() == Some(8), "{answer:?}");
    let shed = "weir_calls_shed_total{cluster=\"echo\",limit=\"max_calls\"}";
    ensure!(metric(gateway.admin()?, shed).await? == Some(1.0));
    backend.release();
    ensure!(open.answer().await?.status() == Some(0));
    ensure!(backend.seen().calls.len() == 2);
    until_nothing_is_left(&gateway).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_all_attempts_and_each_is_told_what_is_left() -> Result<()> {
    let (backends, gateway, client) = some(3, "max_attempts: 3, hedging_delay: 5ms", "").await?;
    let answer = client.call(METHOD, &[(DO, "silent"), ("grpc-timeout", "1S")]).await?;
    ensure!(answer.status() == Some(4), "{answer:?}");
    let mut left = BTreeSet::new();
    for backend in &backends {
        until_cancelled(backend, 1).await?;
        let timeout = backend.seen().calls[0].metadata.get("grpc-timeout").cloned().context("a timeout")?;
        left.insert(timeout.to_str()?.to_owned());
    }
    ensure!(left.len() == 3, "{left:?}");
    until_nothing_is_left(&gateway).await?;
    // One that could only begin after the deadline is not waited for.
    let (backend, gateway, client) = one(AFTER_FAILURES, "").await?;
    let answer = client.call(METHOD, &[(DO, "status=14:60000;echo"), ("grpc-timeout", "30S")]).await?;
    ensure!(answer.status() == Some(14) && answer.trailer("grpc-retry-pushback-ms") == Some("60000"), "{answer:?}");
    ensure!(backend.seen().calls.len() == 1 && denied(&gateway, "deadline").await? == 1.0);
    Ok(())
}

/// A request that is larger than what is kept goes on with one attempt.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_larger_than_the_buffer_is_left_with_one_attempt() -> Result<()> {
    let (backends, gateway, client) = some(3, AT_ONCE, "retry_buffer: {per_call: 100, per_cluster: 1MiB}").await?;
    let mut open = client.script("silent").await?;
    open.message(&[b'x'; 90], false)?;
    for backend in &backends {
        backend.until_calls(1).await?;
    }
    ensure!(of_cluster(&gateway, "weir_retry_buffer_overflows_total").await? == 0.0);
    open.message(&[b'y'; 70_000], false)?;
    eventually("two that are cancelled", async || {
        let cancelled: usize = backends.iter().map(|backend| backend.seen().resets.len()).sum();
        Ok((cancelled == 2).then_some(()))
    })
    .await?;
    ensure!(of_cluster(&gateway, "weir_retry_buffer_overflows_total").await? == 1.0);
    ensure!(of_cluster(&gateway, "weir_retry_buffer_bytes").await? == 0.0);
    backends.iter().for_each(Backend::release);
    open.message(b"end", true)?;
    let answer = open.answer().await?;
    ensure!(answer.status() == Some(0), "{answer:?}");
    ensure!(answer.messages.iter().map(bytes::Bytes::len).collect::<Vec<_>>() == [90, 70_000, 3], "{answer:?}");
    // The one that is left fails as it fails.
    let mut open = client.script("read=200,14").await?;
    open.message(&[b'x'; 300], true)?;
    let answer = open.answer().await?;
    ensure!(answer.status() == Some(14) && answer.trailer("x-trailer") == Some("original"), "{answer:?}");
    until_nothing_is_left(&gateway).await
}

/// The example of gRFC A6, and what it says of a policy without a delay.
const SERVICE_CONFIG: &str = r#"{
  "methodConfig": [
    {
      "name": [ { "service": "a.Service", "method": "Hedged" } ],
      "hedgingPolicy": {
        "maxAttempts": 4,
        "hedgingDelay": ".05s",
        "nonFatalStatusCodes": [
          "UNAVAILABLE",
          "INTERNAL",
          "ABORTED"
        ]
      }
    },
    { "name": [ { "service": "a.Service" } ], "hedgingPolicy": { "maxAttempts": 9, "hedgingDelay": "600s", "nonFatalStatusCodes": [ 14 ] } },
    {
      "name": [ {} ],
      "hedgingPolicy": { "maxAttempts": 3 }
    },
    {
      "name": [ { "service": "b.Service" } ],
      "retryPolicy": {
        "maxAttempts": 2, "initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1,
        "retryableStatusCodes": [ "UNAVAILABLE" ]
      }
    }
  ],
  "retryThrottling": { "maxTokens": 1000, "tokenRatio": 0.1 }
}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_service_config_is_read_as_it_is() -> Result<()> {
    let mut file = tempfile::Builder::new().suffix(".json").tempfile()?;
    file.write_all(SERVICE_CONFIG.as_bytes())?;
    let backend = Backend::start().await?;
    let keys = format!("lb_policy: RoundRobin, service_config_file: {}", file.path().display());
    let gateway = Setup::new().admin().route("prefix: /", "echo").cluster("echo", &keys, [backend.address]).start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    for (path, script, status, attempts) in [
        // By the delay, and by a failure.
        ("/a.Service/Hedged", "silent;echo", 0, 2),
        ("/a.Service/Hedged", "status=14;late=13;abort=2;echo", 0, 4),
        ("/a.Service/Other", "status=14;status=14;status=14;status=14;echo", 0, 5),
        ("/a.Service/Other", "status=10;echo", 10, 1),
        ("/b.Service/Any", "status=14;echo", 0, 2),
        ("/c.Service/Any", "silent;silent;echo", 0, 3),
    ] {
        let before = backend.seen().calls.len();
        let answer = client.call(path, &[(DO, script)]).await?;
        ensure!(answer.status() == Some(status), "{path} {script}: {answer:?}");
        let seen = backend.seen().calls.len() - before;
        ensure!(seen == attempts, "{path} {script}: {seen}");
    }
    ensure!(of_cluster(&gateway, "weir_retries_total").await? == 1.0);
    ensure!(of_cluster(&gateway, "weir_hedges_total").await? == 10.0);
    let notices = gateway.process.lines().join("\n");
    ensure!(notices.contains("`maxAttempts` of 9 counts as 5"), "{notices}");
    Ok(())
}

/// The policy of a route goes before that of its cluster, whatever the kinds are.
#[tokio::test(flavor = "multi_thread")]
async fn the_policy_of_a_route_goes_first() -> Result<()> {
    let backend = Backend::start().await?;
    let (hedged, retried) = (
        "hedging_policy: {max_attempts: 2, hedging_delay: 0s}",
        "retry_policy: {max_attempts: 2, initial_backoff: 1ms, retryable_status_codes: [UNAVAILABLE]}",
    );
    let gateway = Setup::new()
        .admin()
        .route("prefix: /hedged.Service", &format!("retried, {hedged}"))
        .route("prefix: /retried.Service", &format!("hedged, {retried}"))
        .route("prefix: /both.Hedged", "hedged")
        .route("prefix: /both.Retried", "retried")
        .cluster("hedged", hedged, [backend.address])
        .cluster("retried", retried, [backend.address])
        .start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    for (service, script, expected) in [
        ("hedged.Service", "silent;echo", 0),
        ("hedged.Service", "silent;status=14", 14),
        ("retried.Service", "status=14;echo", 0),
        ("retried.Service", "status=14;status=14", 14),
        ("both.Hedged", "silent;echo", 0),
        ("both.Retried", "status=14;echo", 0),
    ] {
        let before = backend.seen().calls.len();
        let answer = client.call(&format!("/{service}/Do"), &[(DO, script)]).await?;
        ensure!(answer.status() == Some(expected), "{service} {script}: {answer:?}");
        ensure!(backend.seen().calls.len() - before == 2, "{service} {script}");
    }
    let hedges = async |cluster: &str| -> Result<Option<f64>> {
        metric(gateway.admin()?, &format!("weir_hedges_total{{cluster=\"{cluster}\"}}")).await
    };
    ensure!(hedges("retried").await? == Some(2.0) && hedges("hedged").await? == Some(1.0), "by the cluster of each");
    Ok(())
}

/// Many calls of every kind, with everything on: each ends once, and nothing is left over.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_leaves_nothing_behind() -> Result<()> {
    let policy = "max_attempts: 4, hedging_delay: 2ms, non_fatal_status_codes: [UNAVAILABLE, INTERNAL]";
    let keys = "retry_throttling: {max_tokens: 1000, token_ratio: 1}, retry_budget: {percent: 100}, \
                retry_buffer: {per_call: 1KiB, per_cluster: 8KiB}, circuit_breakers: {max_calls: 100}";
    let backends = Backend::start_many(3).await?;
    let gateway = setup(backends.iter().map(|backend| backend.address), policy, keys).start(2)?;
    let scripts = [
        "status=14;echo",
        "silent;silent;echo",
        "late=14;drop;echo",
        "abort=2;echo",
        "refuse;echo",
        "echo",
        "fail=14",
        "silent;status=5",
        "status=14:5;echo",
        "silent;lose",
        "silent;tear",
        "say=3,0,70000",
    ];
    let mut calls = JoinSet::new();
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(Arc::new(Client::connect(gateway.listener("grpc")?).await?));
    }
    for number in 0..240 {
        let (client, script) = (clients[number % 2].clone(), scripts[number % scripts.len()]);
        calls.spawn(async move {
            if number % 11 == 0 {
                let mut open = client.script(script).await?;
                let _ = open.message(b"abc", false);
                open.cancel();
                return Ok(None);
            }
            // A hedge that is denied leaves a silent backend alone with its call.
            client.call(METHOD, &[(DO, script), ("grpc-timeout", "3S")]).await.map(Some)
        });
    }
    let mut ended = 0;
    while let Some(answer) = calls.join_next().await {
        if let Some(answer) = answer?? {
            ensure!(answer.status().is_some() || answer.failure.is_some(), "{answer:?}");
        }
        ended += 1;
    }
    ensure!(ended == 240);
    until_nothing_is_left(&gateway).await?;
    let open = async || {
        let mut open = 0.0;
        for backend in &backends {
            let series = format!("weir_endpoint_open_streams{{cluster=\"echo\",endpoint=\"{}\"}}", backend.address);
            open += metric(gateway.admin()?, &series).await?.context(series)?;
        }
        Ok((open == 0.0).then_some(()))
    };
    eventually("no open stream", open).await?;
    Ok(())
}
