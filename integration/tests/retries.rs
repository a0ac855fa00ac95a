//! Which failures a retry policy makes again, and what backend and client see of it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::{Backend, DO};
use weir_integration::peers::client::{Answer, Client, Failure, METHOD};
use weir_integration::peers::page::metric;
use weir_integration::peers::setup::Setup;
use weir_integration::peers::{eventually, framed};
use weir_integration::server::free_address;

/// Short waits, and the status that most tests fail with.
const POLICY: &str = "max_attempts: 3, initial_backoff: 1ms, max_backoff: 5ms, retryable_status_codes: [UNAVAILABLE]";

/// A gateway whose cluster `echo` has this policy.
fn setup(backends: impl IntoIterator<Item = SocketAddr>, policy: &str) -> Setup {
    let keys = format!("lb_policy: RoundRobin, retry_policy: {{{policy}}}");
    Setup::new().admin().route("prefix: /", "echo").cluster("echo", &keys, backends)
}

/// One backend behind a policy.
async fn one(policy: &str) -> Result<(Backend, Gateway, Client)> {
    let backend = Backend::start().await?;
    let gateway = setup([backend.address], policy).start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    Ok((backend, gateway, client))
}

async fn call(client: &Client, script: &str) -> Result<Answer> {
    client.call(METHOD, &[(DO, script)]).await
}

/// Attempts of the calls since `before`, as the backend counted them.
fn attempts(backend: &Backend, before: usize) -> usize {
    backend.seen().calls.len() - before
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_of_the_policy_is_tried_again_and_no_other() -> Result<()> {
    let policy = "max_attempts: 2, initial_backoff: 1ms, backoff_multiplier: 1.5, \
                  retryable_status_codes: [UNAVAILABLE, RESOURCE_EXHAUSTED, ABORTED]";
    let (backend, _gateway, client) = one(policy).await?;
    for code in 1..=16_u8 {
        for kind in ["status", "late"] {
            let before = backend.seen().calls.len();
            let answer = call(&client, &format!("{kind}={code};echo")).await?;
            let again = [8, 10, 14].contains(&code);
            let expected = if again { 0 } else { code };
            ensure!(answer.status() == Some(expected), "{kind}={code}: {answer:?}");
            ensure!(attempts(&backend, before) == if again { 2 } else { 1 }, "{kind}={code}");
            ensure!(answer.header("grpc-previous-rpc-attempts") == again.then_some("1"), "{kind}={code}: {answer:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_failure_is_tried_again_before_the_response_is_committed() -> Result<()> {
    let policy = "max_attempts: 2, initial_backoff: 1ms, \
                  retryable_status_codes: [UNAVAILABLE, INTERNAL, UNKNOWN, CANCELLED]";
    let (backend, gateway, client) = one(policy).await?;
    for script in ["status=14", "late=14", "abort=2", "abort=8", "drop", "page=503", "page=404;echo", "void"] {
        let before = backend.seen().calls.len();
        let answer = call(&client, &format!("{script};echo")).await?;
        if script.starts_with("page=404") {
            ensure!(
                answer.http == 404 && attempts(&backend, before) == 1,
                "UNIMPLEMENTED is not in the set: {answer:?}"
            );
            continue;
        }
        ensure!(answer.status() == Some(0) && answer.messages == ["abc"], "{script}: {answer:?}");
        ensure!(answer.headers.get_all("x-from").iter().count() == 1, "{script}: {answer:?}");
        ensure!(attempts(&backend, before) == 2, "{script}");
    }
    let retries = metric(gateway.admin()?, "weir_retries_total{cluster=\"echo\"}").await?;
    ensure!(retries == Some(7.0), "{retries:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_message_is_not_tried_again() -> Result<()> {
    let (backend, _gateway, client) = one(POLICY).await?;
    for script in ["fail=14", "lose", "tear", "reset=8"] {
        let before = backend.seen().calls.len();
        let answer = call(&client, &format!("{script};echo")).await?;
        match script {
            "fail=14" => ensure!(answer.status() == Some(14) && answer.messages == ["one"], "{answer:?}"),
            "lose" => ensure!(answer.status() == Some(14) && answer.messages == ["one"], "{answer:?}"),
            "tear" => ensure!(answer.failure == Some(Failure::Reset(h2::Reason::INTERNAL_ERROR)), "{answer:?}"),
            _ => ensure!(answer.failure == Some(Failure::Reset(h2::Reason::CANCEL)), "{answer:?}"),
        }
        ensure!(attempts(&backend, before) == 1, "{script}");
    }
    Ok(())
}

/// gRFC A6 to the letter: response headers commit.
#[tokio::test(flavor = "multi_thread")]
async fn without_held_headers_they_commit() -> Result<()> {
    let (backend, _gateway, client) = one(&format!("{POLICY}, hold_headers: 0s")).await?;
    let answer = call(&client, "late=14;echo").await?;
    ensure!(answer.status() == Some(14) && answer.trailers.is_some(), "{answer:?}");
    ensure!(attempts(&backend, 0) == 1);
    ensure!(call(&client, "status=14;echo").await?.status() == Some(0));
    Ok(())
}

/// The headers of a slow response do not wait for ever, and then they commit.
#[tokio::test(flavor = "multi_thread")]
async fn headers_are_held_for_so_long_and_no_longer() -> Result<()> {
    let (backend, _gateway, client) = one(&format!("{POLICY}, hold_headers: 50ms")).await?;
    let mut open = client.script("keep").await?;
    open.message(b"abc", true)?;
    ensure!(open.headers().await?.contains_key("x-from"));
    backend.release();
    ensure!(open.answer().await?.status() == Some(0));
    Ok(())
}

/// A client that waits for headers before it sends more would wait for ever if they were held.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_still_sends_gets_the_headers_at_once() -> Result<()> {
    let (backend, _gateway, client) = one(&format!("{POLICY}, hold_headers: 10m")).await?;
    let mut open = client.script("echo;echo").await?;
    ensure!(open.headers().await?.contains_key("x-from"), "before the first message");
    open.message(b"one", false)?;
    open.message(b"two", true)?;
    let answer = open.answer().await?;
    ensure!(answer.status() == Some(0) && answer.messages == ["one", "two"], "{answer:?}");
    ensure!(attempts(&backend, 0) == 1);
    Ok(())
}

/// The last failure is handed on as it came.
#[tokio::test(flavor = "multi_thread")]
async fn when_attempts_are_used_up_the_client_gets_the_last_failure() -> Result<()> {
    let (backend, gateway, client) = one(POLICY).await?;
    for (script, trailers_only) in [("status=14", true), ("late=14", false)] {
        let before = backend.seen().calls.len();
        let answer = call(&client, script).await?;
        ensure!(answer.status() == Some(14), "{answer:?}");
        ensure!(answer.message() == "from the backend, 100%25" && answer.trailer("x-trailer") == Some("original"));
        ensure!(answer.trailers.is_none() == trailers_only && answer.from().is_some(), "{answer:?}");
        ensure!(answer.header("grpc-previous-rpc-attempts") == Some("2"), "{answer:?}");
        ensure!(attempts(&backend, before) == 3);
    }
    let answer = call(&client, "abort=2;abort=2;abort=7").await?;
    ensure!(
        answer.failure == Some(Failure::Reset(h2::Reason::INTERNAL_ERROR)),
        "INTERNAL is not in the set: {answer:?}"
    );
    let answer = call(&client, "drop").await?;
    ensure!(answer.status() == Some(14) && answer.message() == "the connection to the backend was lost", "{answer:?}");
    let series = "weir_retries_denied_total{cluster=\"echo\",reason=\"attempts\"}";
    ensure!(metric(gateway.admin()?, series).await? == Some(3.0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_are_counted_in_metadata() -> Result<()> {
    let (backend, _gateway, client) = one(POLICY).await?;
    ensure!(call(&client, "status=14;status=14;echo").await?.status() == Some(0));
    let told = |from: usize| -> Vec<Option<String>> {
        let calls = backend.seen().calls.split_off(from);
        let key = "grpc-previous-rpc-attempts";
        calls.iter().map(|call| call.metadata.get(key).map(|value| value.to_str().unwrap_or("?").to_owned())).collect()
    };
    ensure!(told(0) == [None, Some("1".to_owned()), Some("2".to_owned())], "{:?}", told(0));
    // A client with retries of its own counts on.
    let metadata = [(DO, "status=14"), ("grpc-previous-rpc-attempts", "4")];
    let answer = client.call(METHOD, &metadata).await?;
    ensure!(answer.status() == Some(14));
    ensure!(told(3) == ["4", "5", "6"].map(|count| Some(count.to_owned())), "{:?}", told(3));
    Ok(())
}

/// What was sent is sent again, and the stream goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_still_sends_is_tried_again_with_all_that_it_sent() -> Result<()> {
    let (backend, _gateway, client) = one(POLICY).await?;
    let mut open = client.script("read=16,14;read=24,14;echo").await?;
    open.message(b"one", false)?;
    open.message(b"two", false)?;
    backend.until_calls(2).await?;
    open.message(b"three", false)?;
    backend.until_calls(3).await?;
    let headers = open.headers().await?;
    ensure!(headers.get("grpc-previous-rpc-attempts").is_some_and(|value| value == "2"));
    open.message(b"four", true)?;
    let answer = open.answer().await?;
    ensure!(answer.messages == ["one", "two", "three", "four"], "{answer:?}");
    ensure!(answer.status() == Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_endpoint_is_preferred() -> Result<()> {
    let backends = Backend::start_many(3).await?;
    let gateway = setup(backends.iter().map(|backend| backend.address), POLICY).start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    for _ in 0..20 {
        let before: Vec<usize> = backends.iter().map(|backend| backend.seen().calls.len()).collect();
        ensure!(call(&client, "status=14").await?.status() == Some(14));
        let seen: Vec<usize> = backends.iter().zip(before).map(|(backend, before)| attempts(backend, before)).collect();
        ensure!(seen == [1, 1, 1], "{seen:?}");
    }
    Ok(())
}

/// An endpoint that nobody listens on, and then somebody does.
#[tokio::test(flavor = "multi_thread")]
async fn a_connect_that_fails_is_tried_again() -> Result<()> {
    let address = free_address()?;
    let policy = "max_attempts: 5, initial_backoff: 2s, max_backoff: 2s, retryable_status_codes: [UNAVAILABLE]";
    let gateway = setup([address], policy).start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    let mut open = client.script("echo").await?;
    open.message(b"abc", true)?;
    let admin = gateway.admin()?;
    let retries =
        async || Ok(metric(admin, "weir_retries_total{cluster=\"echo\"}").await?.filter(|count| *count > 0.0));
    eventually("a retry", retries).await?;
    let backend = Backend::start_on(address).await?;
    let answer = open.answer().await?;
    ensure!(answer.status() == Some(0) && attempts(&backend, 0) == 1, "{answer:?}");
    Ok(())
}

/// The policy of a route goes before that of its cluster, and a call without any is not tried again.
#[tokio::test(flavor = "multi_thread")]
async fn the_policy_of_a_route_goes_first() -> Result<()> {
    let backend = Backend::start().await?;
    let own = "max_attempts: 2, initial_backoff: 1ms, retryable_status_codes: [ABORTED]";
    let gateway = Setup::new()
        .route("prefix: /own.Service", &format!("both, retry_policy: {{{own}}}"))
        .route("prefix: /plain.Service", "plain")
        .route("prefix: /cluster.Service", "both")
        .cluster("both", &format!("retry_policy: {{{POLICY}}}"), [backend.address])
        .cluster("plain", "lb_policy: Rand", [backend.address]);
    let gateway = gateway.start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    for (service, script, expected) in [
        ("own", "status=10;echo", 0),
        ("own", "status=14;echo", 14),
        ("cluster", "status=10;echo", 10),
        ("cluster", "status=14;echo", 0),
        ("plain", "status=14;echo", 14),
    ] {
        let answer = client.call(&format!("/{service}.Service/Do"), &[(DO, script)]).await?;
        ensure!(answer.status() == Some(expected), "{service} {script}: {answer:?}");
    }
    Ok(())
}

/// The access log counts every attempt, and tells what the last one heard.
#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_counts_all_attempts() -> Result<()> {
    let backend = Backend::start().await?;
    let gateway = setup([backend.address], POLICY).root("access_log: {path: /dev/stdout}").start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    ensure!(call(&client, "status=14;late=14;echo").await?.status() == Some(0));
    let line = gateway.process.wait_line("a record", |line| line.starts_with('{').then(|| line.to_owned()))?;
    for part in ["\"status\":\"OK\"", "\"upstream_status\":\"OK\"", "\"message\":null", "\"attempts\":3"] {
        ensure!(line.contains(part), "no {part} in {line}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_a_backoff() -> Result<()> {
    let policy = "max_attempts: 2, initial_backoff: 10m, max_backoff: 10m, retryable_status_codes: [UNAVAILABLE]";
    let (backend, gateway, client) = one(policy).await?;
    let mut open = client.script("status=14:600000;echo").await?;
    open.message(b"abc", true)?;
    let admin = gateway.admin()?;
    let retries =
        async || Ok(metric(admin, "weir_retries_total{cluster=\"echo\"}").await?.filter(|count| *count > 0.0));
    eventually("a retry", retries).await?;
    open.cancel();
    let flight = "weir_calls_in_flight{cluster=\"echo\"}";
    eventually("the end", async || Ok(metric(admin, flight).await?.filter(|calls| *calls == 0.0))).await?;
    ensure!(attempts(&backend, 0) == 1);
    ensure!(metric(admin, "weir_retry_buffer_bytes{cluster=\"echo\"}").await? == Some(0.0));
    Ok(())
}

/// The end of a drain's time ends a wait as it ends a call.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_a_backoff() -> Result<()> {
    let backend = Backend::start().await?;
    let mut gateway = setup([backend.address], POLICY).root("shutdown_config: {timeout: 100ms}").start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    let mut open = client.script("status=14:600000;echo").await?;
    open.message(b"abc", true)?;
    backend.until_calls(1).await?;
    gateway.process.signal("TERM")?;
    let answer = open.answer().await?;
    ensure!(answer.status() == Some(14) && answer.message() == "the gateway is shutting down", "{answer:?}");
    ensure!(gateway.process.wait()?.code() == Some(4));
    Ok(())
}

/// A deadline that would end the call before its wait is over: the client hears the failure now.
#[tokio::test(flavor = "multi_thread")]
async fn no_attempt_that_the_deadline_would_end_before_it_begins() -> Result<()> {
    let (backend, gateway, client) = one(POLICY).await?;
    let metadata = [(DO, "status=14:60000;echo"), ("grpc-timeout", "30S")];
    let answer = client.call(METHOD, &metadata).await?;
    ensure!(answer.status() == Some(14) && answer.trailer("grpc-retry-pushback-ms") == Some("60000"), "{answer:?}");
    ensure!(attempts(&backend, 0) == 1);
    let admin = gateway.admin()?;
    let series = "weir_retries_denied_total{cluster=\"echo\",reason=\"deadline\"}";
    ensure!(metric(admin, series).await? == Some(1.0));
    let labels = "listener=\"grpc\",cluster=\"echo\"";
    ensure!(metric(admin, &format!("weir_call_deadline_seconds_count{{{labels}}}")).await? == Some(1.0));
    ensure!(metric(admin, &format!("weir_call_deadline_seconds_bucket{{{labels},le=\"30\"}}")).await? == Some(1.0));
    ensure!(metric(admin, &format!("weir_call_deadline_seconds_bucket{{{labels},le=\"10\"}}")).await? == Some(0.0));
    // Each attempt is told what is left.
    let metadata = [(DO, "status=14:20;echo"), ("grpc-timeout", "30S")];
    ensure!(client.call(METHOD, &metadata).await?.status() == Some(0));
    let left: HashSet<String> = backend
        .seen()
        .calls
        .iter()
        .skip(1)
        .map(|call| {
            call.metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).unwrap_or("none").to_owned()
        })
        .collect();
    ensure!(left.len() == 2, "{left:?}");
    Ok(())
}

/// A request that is still being sent is not cut; one that has been is, when its time is over.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_has_its_own_time() -> Result<()> {
    let (backend, gateway, client) = one(&format!("{POLICY}, per_attempt_timeout: 60ms")).await?;
    let answer = call(&client, "silent;silent;echo").await?;
    ensure!(answer.status() == Some(0), "{answer:?}");
    ensure!(attempts(&backend, 0) == 3);
    let answer = call(&client, "silent").await?;
    ensure!(answer.status() == Some(14), "{answer:?}");
    let said = "cluster echo: no answer within 60ms (per_attempt_timeout)";
    ensure!(answer.message() == said, "{answer:?}");
    backend.until("five resets", |seen| seen.resets.len() == 5).await?;
    // Held headers are no answer.
    let answer = call(&client, "keep;echo").await?;
    ensure!(answer.status() == Some(0), "{answer:?}");
    let before = backend.seen().calls.len();
    let mut open = client.script("silent;echo").await?;
    open.message(b"abc", false)?;
    backend.until_calls(before + 1).await?;
    tokio::time::sleep(Duration::from_millis(150)).await;
    ensure!(attempts(&backend, before) == 1, "the client still sends");
    open.send.send_data(framed(b"end"), true)?;
    let answer = open.answer().await?;
    ensure!(answer.messages == ["abc", "end"] && attempts(&backend, before) == 2, "{answer:?}");
    ensure!(metric(gateway.admin()?, "weir_retries_total{cluster=\"echo\"}").await?.context("retries")? >= 6.0);
    Ok(())
}
