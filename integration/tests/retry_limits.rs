//! What bounds retries: pushback, tokens, a budget, a buffer; and service configs, which say the same by method.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::{Backend, DO};
use weir_integration::peers::client::{Answer, Client, METHOD};
use weir_integration::peers::eventually;
use weir_integration::peers::page::metric;
use weir_integration::peers::setup::Setup;

const POLICY: &str = "max_attempts: 5, initial_backoff: 1ms, max_backoff: 2ms, retryable_status_codes: [UNAVAILABLE]";

/// A gateway whose cluster `echo` has this policy and these keys.
fn setup(backends: impl IntoIterator<Item = SocketAddr>, policy: &str, keys: &str) -> Setup {
    let keys = format!("lb_policy: RoundRobin, retry_policy: {{{policy}}}, {keys}");
    Setup::new().admin().route("prefix: /", "echo").cluster("echo", &keys, backends)
}

async fn one(policy: &str, keys: &str, workers: usize) -> Result<(Backend, Gateway, Client)> {
    let backend = Backend::start().await?;
    let gateway = setup([backend.address], policy, keys).start(workers)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    Ok((backend, gateway, client))
}

async fn call(client: &Client, script: &str) -> Result<Answer> {
    client.call(METHOD, &[(DO, script)]).await
}

async fn denied(gateway: &Gateway, reason: &str) -> Result<f64> {
    let series = format!("weir_retries_denied_total{{cluster=\"echo\",reason=\"{reason}\"}}");
    metric(gateway.admin()?, &series).await?.context(series)
}

async fn of_cluster(gateway: &Gateway, name: &str) -> Result<f64> {
    metric(gateway.admin()?, &format!("{name}{{cluster=\"echo\"}}")).await?.context("a metric")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_says_how_long_to_wait() -> Result<()> {
    let policy = "max_attempts: 3, initial_backoff: 10m, max_backoff: 10m, retryable_status_codes: [UNAVAILABLE]";
    let (backend, _gateway, client) = one(policy, "", 1).await?;
    for kind in ["status", "late"] {
        let began = Instant::now();
        let answer = call(&client, &format!("{kind}=14:80;{kind}=14:0;echo")).await?;
        ensure!(answer.status() == Some(0), "{answer:?}");
        ensure!(answer.trailer("grpc-retry-pushback-ms").is_none(), "{answer:?}");
        ensure!(began.elapsed() >= Duration::from_millis(80), "{:?}", began.elapsed());
    }
    ensure!(backend.seen().calls.len() == 6);
    // It is no licence: what the policy does not try again stays as it is, and the last attempt is the last.
    let answer = call(&client, "status=5:0;echo").await?;
    ensure!(answer.status() == Some(5) && answer.trailer("grpc-retry-pushback-ms") == Some("0"), "{answer:?}");
    let answer = call(&client, "status=14:0").await?;
    ensure!(answer.status() == Some(14) && answer.trailer("grpc-retry-pushback-ms") == Some("0"), "{answer:?}");
    ensure!(backend.seen().calls.len() == 10);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_says_no() -> Result<()> {
    let (backend, gateway, client) = one(POLICY, "", 1).await?;
    for pushback in ["-1", "soon", "", "1.5", "99999999999"] {
        for kind in ["status", "late"] {
            let answer = call(&client, &format!("{kind}=14:{pushback};echo")).await?;
            ensure!(answer.status() == Some(14), "{pushback}: {answer:?}");
            ensure!(answer.trailer("grpc-retry-pushback-ms") == Some(pushback), "unchanged: {answer:?}");
        }
    }
    ensure!(backend.seen().calls.len() == 10 && denied(&gateway, "pushback").await? == 10.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_stop_a_storm_and_come_back_with_successes() -> Result<()> {
    let tokens = "retry_throttling: {max_tokens: 10, token_ratio: 0.5}";
    let (backend, gateway, client) = one(POLICY, tokens, 2).await?;
    // A second client, perhaps of the other worker: the tokens are the same.
    let other = Client::connect(gateway.listener("grpc")?).await?;
    ensure!(call(&client, "status=14").await?.status() == Some(14));
    ensure!(backend.seen().calls.len() == 5, "five attempts cost five tokens");
    for client in [&client, &other, &client, &other] {
        ensure!(call(client, "status=14").await?.status() == Some(14));
    }
    ensure!(backend.seen().calls.len() == 9, "no retry with half of the tokens or fewer");
    ensure!(denied(&gateway, "throttled").await? == 4.0);
    // Other failures cost nothing. One token is left, and ten successes give five.
    ensure!(call(&client, "status=3").await?.status() == Some(3));
    for success in 0..9 {
        ensure!(call(&client, "echo").await?.status() == Some(0));
        if success == 7 {
            ensure!(call(&other, "status=3;echo").await?.status() == Some(3));
        }
    }
    let before = backend.seen().calls.len();
    ensure!(call(&client, "status=14;echo").await?.status() == Some(14), "a failure of 5.5 tokens leaves 4.5");
    ensure!(backend.seen().calls.len() == before + 1);
    for _ in 0..6 {
        ensure!(call(&client, "echo").await?.status() == Some(0));
    }
    ensure!(call(&client, "status=14;echo").await?.status() == Some(0), "one of 7.5 leaves 6.5");
    Ok(())
}

/// A backend that says no costs a token too.
#[tokio::test(flavor = "multi_thread")]
async fn a_no_costs_a_token_whatever_the_status() -> Result<()> {
    let (_backend, gateway, client) = one(POLICY, "retry_throttling: {max_tokens: 2, token_ratio: 0.1}", 1).await?;
    ensure!(call(&client, "status=5:-1").await?.status() == Some(5));
    ensure!(call(&client, "status=14;echo").await?.status() == Some(14));
    ensure!(denied(&gateway, "throttled").await? == 1.0);
    Ok(())
}

/// Of so many calls in flight a share may be in a retry at a time, over all workers.
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_bounds_the_retries_that_are_under_way() -> Result<()> {
    let budget = "retry_budget: {percent: 25, min_concurrency: 2}";
    let (backend, gateway, client) = one(POLICY, budget, 2).await?;
    let other = Client::connect(gateway.listener("grpc")?).await?;
    let mut retrying = Vec::new();
    let mut held = Vec::new();
    // Two are always allowed, and a quarter of sixteen is four.
    for (open, allowed) in [(0, 2), (14, 4)] {
        for at in held.len()..open {
            held.push(if at % 2 == 0 { &client } else { &other }.script("hold").await?);
        }
        for open in &mut held {
            open.headers().await?;
        }
        while retrying.len() < allowed {
            let before = of_cluster(&gateway, "weir_retries_total").await?;
            let mut call = if retrying.len() % 2 == 0 { &client } else { &other }.script("status=14;silent").await?;
            call.message(b"abc", true)?;
            retrying.push(call);
            let more = async || Ok((of_cluster(&gateway, "weir_retries_total").await? > before).then_some(()));
            eventually("a retry", more).await.with_context(|| format!("{} retries", retrying.len()))?;
        }
        let before = denied(&gateway, "budget").await?;
        ensure!(call(&client, "status=14;echo").await?.status() == Some(14));
        ensure!(denied(&gateway, "budget").await? == before + 1.0);
    }
    backend.release();
    for call in retrying {
        ensure!(call.answer().await?.status() == Some(0));
    }
    ensure!(call(&client, "status=14;echo").await?.status() == Some(0), "the places came back");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_larger_than_the_buffer_goes_on_and_is_not_tried_again() -> Result<()> {
    let buffer = "retry_buffer: {per_call: 100, per_cluster: 1MiB}";
    let (backend, gateway, client) = one(POLICY, buffer, 1).await?;
    let fail = async |sizes: &[usize]| -> Result<Answer> {
        let total: usize = sizes.iter().map(|size| size + 5).sum();
        let mut open = client.script(&format!("read={total},14;echo")).await?;
        for (at, size) in sizes.iter().enumerate() {
            open.message(&vec![b'x'; *size], at + 1 == sizes.len())?;
        }
        open.answer().await
    };
    let answer = fail(&[45, 45]).await?;
    ensure!(answer.status() == Some(0) && answer.messages.len() == 2, "all that fits: {answer:?}");
    let answer = fail(&[45, 46]).await?;
    ensure!(answer.status() == Some(14), "one byte more: {answer:?}");
    ensure!(denied(&gateway, "buffer").await? == 1.0);
    ensure!(of_cluster(&gateway, "weir_retry_buffer_overflows_total").await? == 1.0);
    let mut open = client.script("echo").await?;
    open.message(&vec![b'x'; 100_000], true)?;
    let answer = open.answer().await?;
    ensure!(answer.status() == Some(0) && answer.messages[0].len() == 100_000);
    ensure!(of_cluster(&gateway, "weir_retry_buffer_bytes").await? == 0.0);
    ensure!(backend.seen().calls.len() == 4);
    Ok(())
}

/// What calls keep is bounded for all of them together, and given back when a response begins.
#[tokio::test(flavor = "multi_thread")]
async fn the_buffer_of_a_cluster_is_shared() -> Result<()> {
    let buffer = "retry_buffer: {per_call: 1000, per_cluster: 2500}";
    let (backend, gateway, client) = one(POLICY, buffer, 2).await?;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut call = client.script("silent").await?;
        call.message(&[b'x'; 995], true)?;
        open.push(call);
    }
    backend.until_calls(3).await?;
    let overflows =
        async || Ok((of_cluster(&gateway, "weir_retry_buffer_overflows_total").await? == 1.0).then_some(()));
    eventually("one call that has no room", overflows).await?;
    ensure!(of_cluster(&gateway, "weir_retry_buffer_bytes").await? == 2000.0);
    backend.release();
    for call in open {
        ensure!(call.answer().await?.status() == Some(0));
    }
    ensure!(of_cluster(&gateway, "weir_retry_buffer_bytes").await? == 0.0);
    Ok(())
}

/// The example of gRFC A6, with a name for each level.
const SERVICE_CONFIG: &str = r#"{
  "loadBalancingPolicy": "round_robin",
  "methodConfig": [
    {
      "name": [ { "service": "a.Service", "method": "Retried" } ],
      "waitForReady": true,
      "retryPolicy": {
        "maxAttempts": 4,
        "initialBackoff": ".01s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": [
          "UNAVAILABLE"
        ]
      }
    },
    { "name": [ { "service": "a.Service" } ], "timeout": "0.1s" },
    {
      "name": [ {} ],
      "retryPolicy": {
        "maxAttempts": 7, "initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1.3,
        "retryableStatusCodes": [ "ABORTED", 8 ]
      }
    }
  ],
  "retryThrottling": { "maxTokens": 100, "tokenRatio": 0.1 }
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
        ("/a.Service/Retried", "status=14;late=14;echo", 0, 3),
        ("/a.Service/Retried", "status=10;echo", 10, 1),
        ("/a.Service/Other", "status=14;echo", 14, 1),
        ("/a.Service/Other", "silent", 4, 1),
        ("/b.Service/Any", "status=10;status=8;echo", 0, 3),
        ("/b.Service/Any", "status=10", 10, 5),
        ("/b.Service/Any", "status=14;echo", 14, 1),
    ] {
        let before = backend.seen().calls.len();
        let answer = client.call(path, &[(DO, script)]).await?;
        ensure!(answer.status() == Some(status), "{path} {script}: {answer:?}");
        let seen = backend.seen().calls.split_off(before);
        ensure!(seen.len() == attempts, "{path} {script}: {}", seen.len());
        let timeout = seen.iter().all(|call| call.metadata.contains_key("grpc-timeout"));
        ensure!(timeout == (path == "/a.Service/Other"), "{path} is told its time");
    }
    let notices = gateway.process.lines().join("\n");
    for said in ["loadBalancingPolicy", "waitForReady", "`maxAttempts` of 7 counts as 5"] {
        ensure!(notices.contains(said), "no notice of {said}: {notices}");
    }
    Ok(())
}

/// The client's own deadline counts where it is the shorter.
#[tokio::test(flavor = "multi_thread")]
async fn the_shorter_of_two_times_counts() -> Result<()> {
    let mut file = tempfile::Builder::new().suffix(".json").tempfile()?;
    file.write_all(br#"{"methodConfig": [{"name": [{}], "timeout": "600s"}]}"#)?;
    let backend = Backend::start().await?;
    let keys = format!("lb_policy: RoundRobin, service_config_file: {}", file.path().display());
    let gateway = Setup::new().route("prefix: /", "echo").cluster("echo", &keys, [backend.address]).start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    let answer = client.call(METHOD, &[(DO, "silent"), ("grpc-timeout", "50m")]).await?;
    ensure!(answer.status() == Some(4), "{answer:?}");
    Ok(())
}

/// Many calls that fail half of the time, with everything on: each ends once, and nothing is left over.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_leaves_nothing_behind() -> Result<()> {
    let keys = "retry_throttling: {max_tokens: 1000, token_ratio: 1}, retry_budget: {percent: 100}, \
                retry_buffer: {per_call: 1KiB, per_cluster: 8KiB}";
    let (_backend, gateway, client) = one(&format!("{POLICY}, per_attempt_timeout: 10s"), keys, 2).await?;
    let other = Client::connect(gateway.listener("grpc")?).await?;
    let scripts = ["status=14;echo", "late=14;drop;echo", "abort=2;echo", "refuse;echo", "echo", "fail=14", "status=5"];
    let mut calls = JoinSet::new();
    let clients = [std::sync::Arc::new(client), std::sync::Arc::new(other)];
    for number in 0..210 {
        let (client, script) = (clients[number % 2].clone(), scripts[number % scripts.len()]);
        calls.spawn(async move { call(&client, script).await });
    }
    let mut ended = 0;
    while let Some(answer) = calls.join_next().await {
        let answer = answer??;
        ensure!(answer.status().is_some() || answer.failure.is_some(), "{answer:?}");
        ended += 1;
    }
    ensure!(ended == 210);
    let rest = async || {
        let rest = of_cluster(&gateway, "weir_calls_in_flight").await?;
        let kept = of_cluster(&gateway, "weir_retry_buffer_bytes").await?;
        Ok((rest == 0.0 && kept == 0.0).then_some(()))
    };
    eventually("rest", rest).await?;
    Ok(())
}
