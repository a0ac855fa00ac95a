//! Calls of which several attempts are under way: who wins, and what becomes of the others.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use h2::Reason;
use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::{Backend, DO, Seen};
use weir_integration::peers::client::{Answer, Client, Failure, METHOD};
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

/// What each call was told of the attempts before it.
fn told(seen: &Seen) -> BTreeSet<Option<String>> {
    let told = seen.calls.iter().map(|call| call.metadata.get("grpc-previous-rpc-attempts"));
    told.map(|value| value.map(|value| value.to_str().unwrap_or("?").to_owned())).collect()
}

fn numbers(upto: u32) -> BTreeSet<Option<String>> {
    (0..upto).map(|number| (number > 0).then(|| number.to_string())).collect()
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
async fn a_slow_attempt_is_beaten_after_the_delay() -> Result<()> {
    let policy = "max_attempts: 2, hedging_delay: 50ms";
    let (backends, gateway, client) = some(2, policy, "").await?;
    let began = Instant::now();
    let answer = call(&client, "silent;echo").await?;
    ensure!(answer.status() == Some(0) && answer.messages == ["abc"], "{answer:?}");
    ensure!(began.elapsed() >= Duration::from_millis(50), "{:?}", began.elapsed());
    ensure!(answer.header("grpc-previous-rpc-attempts") == Some("1"), "{answer:?}");
    ensure!(answer.headers.get_all("x-from").iter().count() == 1, "{answer:?}");
    let (slow, fast) = if answer.from() == Some(backends[0].address.port()) { (1, 0) } else { (0, 1) };
    until_cancelled(&backends[slow], 1).await?;
    ensure!(told(&backends[slow].seen()) == [None].into() && told(&backends[fast].seen()) == [Some("1".into())].into());
    ensure!(backends[fast].seen().resets.is_empty());
    ensure!(of_cluster(&gateway, "weir_hedges_total").await? == 1.0);
    ensure!(of_cluster(&gateway, "weir_hedges_won_total").await? == 1.0);
    until_nothing_is_left(&gateway).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_fast_enough_is_the_only_one() -> Result<()> {
    let (backend, gateway, client) = one(AFTER_FAILURES, "").await?;
    for script in ["echo", "say=3,0,70000", "hold"] {
        backend.release();
        let answer = call(&client, script).await?;
        ensure!(answer.status() == Some(0), "{script}: {answer:?}");
        ensure!(answer.header("grpc-previous-rpc-attempts").is_none(), "{script}: {answer:?}");
    }
    ensure!(backend.seen().calls.len() == 3 && told(&backend.seen()) == numbers(1));
    ensure!(of_cluster(&gateway, "weir_hedges_total").await? == 0.0);
    ensure!(of_cluster(&gateway, "weir_hedges_won_total").await? == 0.0);
    Ok(())
}

/// Each goes to an endpoint of its own, knows its number, and is part of one call.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_delay_all_are_made_at_once() -> Result<()> {
    let (backends, gateway, client) = some(5, "max_attempts: 5, hedging_delay: 0s", "").await?;
    let mut open = client.script("silent").await?;
    open.message(b"abc", true)?;
    let mut numbers_seen = BTreeSet::new();
    for backend in &backends {
        let seen = backend.until_calls(1).await?;
        numbers_seen.extend(told(&seen));
    }
    ensure!(numbers_seen == numbers(5), "{numbers_seen:?}");
    ensure!(of_cluster(&gateway, "weir_calls_in_flight").await? == 1.0);
    ensure!(of_cluster(&gateway, "weir_hedges_total").await? == 4.0);
    backends[3].release();
    let answer = open.answer().await?;
    ensure!(answer.status() == Some(0) && answer.from() == Some(backends[3].address.port()), "{answer:?}");
    for backend in [0, 1, 2, 4] {
        until_cancelled(&backends[backend], 1).await?;
    }
    ensure!(backends.iter().all(|backend| backend.seen().calls.len() == 1));
    until_nothing_is_left(&gateway).await
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_never_more_than_the_policy_allows() -> Result<()> {
    let (backend, _gateway, client) = one("max_attempts: 3, hedging_delay: 1ms", "").await?;
    // A client with attempts of its own counts on.
    let mut open = client.open(METHOD, &[(DO, "silent"), ("grpc-previous-rpc-attempts", "4")]).await?;
    open.message(b"abc", true)?;
    backend.until_calls(3).await?;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let expected = ["4", "5", "6"].map(|number| Some(number.to_owned()));
    ensure!(backend.seen().calls.len() == 3 && told(&backend.seen()) == expected.into());
    backend.release();
    ensure!(open.answer().await?.status() == Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_is_not_fatal_brings_the_next_at_once() -> Result<()> {
    let (backend, gateway, client) = one(AFTER_FAILURES, "").await?;
    let scripts = ["status=14", "late=14", "status=10", "abort=2", "abort=8", "drop", "page=503", "void"];
    for script in scripts {
        let before = backend.seen().calls.len();
        let answer = call(&client, &format!("{script};echo")).await?;
        ensure!(answer.status() == Some(0) && answer.messages == ["abc"], "{script}: {answer:?}");
        ensure!(answer.headers.get_all("x-from").iter().count() == 1, "{script}: {answer:?}");
        ensure!(backend.seen().calls.len() - before == 2, "{script}");
    }
    ensure!(of_cluster(&gateway, "weir_hedges_total").await? == scripts.len() as f64);
    ensure!(of_cluster(&gateway, "weir_hedges_won_total").await? == scripts.len() as f64);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_failure_ends_the_call_and_the_other_attempts() -> Result<()> {
    let policy = "max_attempts: 2, hedging_delay: 0s, non_fatal_status_codes: [UNAVAILABLE]";
    let (backend, _gateway, client) = one(policy, "").await?;
    for (at, script) in ["status=5", "late=5", "abort=2", "page=404", "fail=14"].into_iter().enumerate() {
        let answer = call(&client, &format!("silent;{script}")).await?;
        match script {
            "abort=2" => ensure!(answer.failure == Some(Failure::Reset(Reason::INTERNAL_ERROR)), "{answer:?}"),
            "page=404" => ensure!(answer.http == 404 && answer.messages == ["page"], "{answer:?}"),
            "fail=14" => ensure!(answer.status() == Some(14) && answer.messages == ["one"], "committed: {answer:?}"),
            _ => {
                ensure!(answer.status() == Some(5), "{script}: {answer:?}");
                ensure!(answer.message() == "from the backend, 100%25", "{script}: {answer:?}");
                ensure!(answer.trailers.is_none() == (script == "status=5"), "{script}: {answer:?}");
            }
        }
        until_cancelled(&backend, at + 1).await?;
    }
    ensure!(backend.seen().calls.len() == 10);
    Ok(())
}

/// Without a set of statuses any failure is the end, and no hedge comes after it.
#[tokio::test(flavor = "multi_thread")]
async fn without_statuses_every_failure_is_fatal() -> Result<()> {
    let (backend, _gateway, client) = one("max_attempts: 3, hedging_delay: 10m", "").await?;
    let answer = call(&client, "status=14;echo").await?;
    ensure!(answer.status() == Some(14), "{answer:?}");
    ensure!(backend.seen().calls.len() == 1);
    Ok(())
}

/// The one that fails last is handed on as it came, whichever was begun last.
#[tokio::test(flavor = "multi_thread")]
async fn when_all_fail_the_client_gets_the_last_failure() -> Result<()> {
    let (backend, _gateway, client) = one(AFTER_FAILURES, "").await?;
    for (last, trailers_only) in [("status=10", true), ("late=10", false)] {
        let answer = call(&client, &format!("status=14;late=14;{last}")).await?;
        ensure!(answer.status() == Some(10), "{answer:?}");
        ensure!(answer.message() == "from the backend, 100%25" && answer.trailer("x-trailer") == Some("original"));
        ensure!(answer.trailers.is_none() == trailers_only && answer.from().is_some(), "{answer:?}");
        ensure!(answer.header("grpc-previous-rpc-attempts") == Some("2"), "{answer:?}");
    }
    let answer = call(&client, "abort=2;status=14;abort=8").await?;
    ensure!(answer.failure == Some(Failure::Reset(Reason::CANCEL)), "{answer:?}");
    let answer = call(&client, "drop").await?;
    ensure!(answer.status() == Some(14) && answer.message() == "the connection to the backend was lost", "{answer:?}");
    ensure!(backend.seen().calls.len() == 12);
    // All at once, and the first is the last to fail.
    let (backend, gateway, client) = one(AT_ONCE, "").await?;
    let mut open = client.script("read=16,10;status=14;status=14").await?;
    open.message(b"one", false)?;
    backend.until_calls(3).await?;
    let streams = format!("weir_endpoint_open_streams{{cluster=\"echo\",endpoint=\"{}\"}}", backend.address);
    let alone = async || Ok((metric(gateway.admin()?, &streams).await? == Some(1.0)).then_some(()));
    eventually("one attempt that is left", alone).await?;
    open.message(b"two", false)?;
    let answer = open.answer().await?;
    ensure!(answer.status() == Some(10) && answer.header("grpc-previous-rpc-attempts").is_none(), "{answer:?}");
    Ok(())
}

/// Every attempt gets all of it, also what is sent after it has begun; and the winner goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_still_sends_is_heard_by_all_attempts() -> Result<()> {
    let (backends, gateway, client) = some(3, AT_ONCE, "").await?;
    for winner in 0..3 {
        let mut open = client.script("silent").await?;
        open.message(b"one", false)?;
        for backend in &backends {
            backend.until_calls(winner + 1).await?;
        }
        open.message(b"two", false)?;
        eventually("bytes that are kept", async || {
            Ok((of_cluster(&gateway, "weir_retry_buffer_bytes").await? == 16.0).then_some(()))
        })
        .await?;
        backends[winner].release();
        let headers = open.headers().await?;
        ensure!(headers.get("x-from").is_some_and(|from| *from == backends[winner].address.port().to_string()));
        open.message(b"three", false)?;
        open.message(b"four", true)?;
        let answer = open.answer().await?;
        ensure!(answer.messages == ["one", "two", "three", "four"], "{answer:?}");
        ensure!(answer.status() == Some(0));
        backends[winner].hold();
    }
    for backend in &backends {
        until_cancelled(backend, 2).await?;
    }
    until_nothing_is_left(&gateway).await
}

/// What an attempt fails with in the middle of a request brings the next, which gets all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_is_sent_again_and_goes_on() -> Result<()> {
    let (backend, _gateway, client) = one(AFTER_FAILURES, "").await?;
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
    ensure!(answer.messages == ["one", "two", "three", "four"] && answer.status() == Some(0), "{answer:?}");
    Ok(())
}

/// Headers of a client that has ended its request are held, and win when their time is over.
#[tokio::test(flavor = "multi_thread")]
async fn headers_are_held_for_so_long_and_then_win() -> Result<()> {
    let policy = "max_attempts: 2, hedging_delay: 0s, hold_headers: 50ms";
    let (backend, _gateway, client) = one(policy, "").await?;
    let mut open = client.script("silent;keep").await?;
    open.message(b"abc", true)?;
    ensure!(open.headers().await?.contains_key("x-from"));
    until_cancelled(&backend, 1).await?;
    backend.release();
    ensure!(open.answer().await?.status() == Some(0));
    // gRFC A6 to the letter: headers win, whatever follows them.
    let policy = "max_attempts: 2, hedging_delay: 10m, non_fatal_status_codes: [UNAVAILABLE], hold_headers: 0s";
    let (backend, _gateway, client) = one(policy, "").await?;
    let answer = call(&client, "late=14;echo").await?;
    ensure!(answer.status() == Some(14) && backend.seen().calls.len() == 1, "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_all_attempts() -> Result<()> {
    let (backends, gateway, client) = some(3, AT_ONCE, "").await?;
    let mut open = client.script("silent").await?;
    open.message(b"abc", false)?;
    for backend in &backends {
        backend.until_calls(1).await?;
    }
    open.cancel();
    for backend in &backends {
        until_cancelled(backend, 1).await?;
    }
    until_nothing_is_left(&gateway).await?;
    // Also while there is none, but one to come.
    let (backend, gateway, client) = one(AFTER_FAILURES, "").await?;
    let mut open = client.script("status=14:600000;echo").await?;
    open.message(b"abc", true)?;
    backend.until_calls(1).await?;
    open.cancel();
    until_nothing_is_left(&gateway).await?;
    ensure!(backend.seen().calls.len() == 1);
    Ok(())
}

/// What a backend refuses or cannot be had is made again, and is no further attempt.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_backend_has_processed_is_the_same_attempt() -> Result<()> {
    let (backends, gateway, client) = some(2, "max_attempts: 2, hedging_delay: 10m", "").await?;
    backends[0].set_script("refuse")?;
    for _ in 0..6 {
        let answer = client.call(METHOD, &[]).await?;
        ensure!(answer.status() == Some(0) && answer.from() == Some(backends[1].address.port()), "{answer:?}");
    }
    ensure!(told(&backends[0].seen()) == numbers(1) && told(&backends[1].seen()) == numbers(1));
    ensure!(of_cluster(&gateway, "weir_transparent_retries_total").await? == backends[0].seen().calls.len() as f64);
    ensure!(of_cluster(&gateway, "weir_hedges_total").await? == 0.0);
    backends[1].set_script("refuse")?;
    let answer = client.call(METHOD, &[]).await?;
    ensure!(answer.failure == Some(Failure::Reset(Reason::REFUSED_STREAM)), "{answer:?}");
    // What is refused to one attempt ends no other, also where every status is fatal.
    let (backend, _gateway, client) = one("max_attempts: 2, hedging_delay: 0s", "").await?;
    let mut open = client.script("silent;refuse").await?;
    open.message(b"abc", true)?;
    backend.until_calls(6).await?;
    backend.release();
    let answer = open.answer().await?;
    ensure!(answer.status() == Some(0) && answer.header("grpc-previous-rpc-attempts").is_none(), "{answer:?}");
    Ok(())
}

/// An endpoint that cannot be connected to is passed over, and one that is all there is fails the call.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_gone_is_passed_over() -> Result<()> {
    let backend = Backend::start().await?;
    let gone = weir_integration::server::free_address()?;
    let gateway = setup([gone, backend.address], AT_ONCE, "").start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    for _ in 0..4 {
        ensure!(call(&client, "echo").await?.status() == Some(0));
    }
    // Nor does it end a call that another backend may still answer.
    let policy = "max_attempts: 2, hedging_delay: 100ms";
    let backend = Backend::start().await?;
    let gateway = setup([backend.address, gone], policy, "").start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    for call in 1..=4 {
        let mut open = client.script("silent").await?;
        open.message(b"abc", true)?;
        backend.until_calls(2 * call).await?;
        backend.release();
        ensure!(open.answer().await?.status() == Some(0));
        backend.hold();
    }
    let gateway = setup([gone], AT_ONCE, "").start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    let answer = call(&client, "echo").await?;
    let said = "cluster echo: none of its endpoints could be connected to";
    ensure!(answer.status() == Some(14) && answer.message() == said, "{answer:?}");
    until_nothing_is_left(&gateway).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_a_hedged_call_and_ends_it_like_any_other() -> Result<()> {
    let backends = Backend::start_many(3).await?;
    let addresses = backends.iter().map(|backend| backend.address);
    let mut gateway = setup(addresses, AT_ONCE, "").root("shutdown_config: {timeout: 100ms}").start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    let mut open = client.script("silent").await?;
    open.message(b"abc", true)?;
    for backend in &backends {
        backend.until_calls(1).await?;
    }
    gateway.process.signal("TERM")?;
    let answer = open.answer().await?;
    ensure!(answer.status() == Some(14) && answer.message() == "the gateway is shutting down", "{answer:?}");
    ensure!(gateway.process.wait()?.code() == Some(4));
    Ok(())
}

/// The access log tells of the attempt that won, and counts all.
#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_counts_all_attempts_and_names_the_winner() -> Result<()> {
    let backends = Backend::start_many(3).await?;
    let addresses = backends.iter().map(|backend| backend.address);
    let gateway = setup(addresses, AT_ONCE, "").root("access_log: {path: /dev/stdout}").start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    let answer = call(&client, "silent;echo;silent").await?;
    ensure!(answer.status() == Some(0), "{answer:?}");
    let line = gateway.process.wait_line("a record", |line| line.starts_with('{').then(|| line.to_owned()))?;
    let endpoint = format!("\"endpoint\":\"127.0.0.1:{}\"", answer.from().context("a port")?);
    for part in ["\"status\":\"OK\"", "\"upstream_status\":\"OK\"", "\"message\":null", "\"attempts\":3", &endpoint] {
        ensure!(line.contains(part), "no {part} in {line}");
    }
    Ok(())
}

/// An attempt that lost says nothing of its endpoint; one that failed does.
#[tokio::test(flavor = "multi_thread")]
async fn outlier_detection_hears_of_failures_and_not_of_losers() -> Result<()> {
    let detection = "outlier_detection: {consecutive_gateway_failure: 3, interval: 10ms, max_ejection_percent: 100}";
    let policy = "max_attempts: 2, hedging_delay: 0s, non_fatal_status_codes: [UNAVAILABLE]";
    let (backends, gateway, client) = some(2, policy, detection).await?;
    let ejected = async |backend: &Backend| -> Result<f64> {
        let series = format!("weir_endpoint_ejected{{cluster=\"echo\",endpoint=\"{}\"}}", backend.address);
        metric(gateway.admin()?, &series).await?.context(series)
    };
    backends[0].set_script("silent")?;
    for round in 1..=8 {
        ensure!(client.call(METHOD, &[]).await?.from() == Some(backends[1].address.port()));
        until_cancelled(&backends[0], round).await?;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    ensure!(ejected(&backends[0]).await? == 0.0);
    backends[0].set_script("abort=2")?;
    backends[0].set_script("drop")?;
    let is_out = async || {
        ensure!(client.call(METHOD, &[]).await?.from() == Some(backends[1].address.port()));
        Ok((ejected(&backends[0]).await? == 1.0).then_some(()))
    };
    eventually("an ejection", is_out).await?;
    ensure!(ejected(&backends[1]).await? == 0.0);
    Ok(())
}

/// A policy that would send all of them to one endpoint sends each elsewhere, also at once.
#[tokio::test(flavor = "multi_thread")]
async fn attempts_at_once_prefer_endpoints_of_their_own_under_every_policy() -> Result<()> {
    for balance in ["lb_policy: RingHashing, hash_on: {path: true}", "lb_policy: Rand", "lb_policy: LeastRequest"] {
        let backends = Backend::start_many(3).await?;
        let keys = format!("{balance}, hedging_policy: {{max_attempts: 3, hedging_delay: 0s}}");
        let addresses = backends.iter().map(|backend| backend.address);
        let gateway = Setup::new().route("prefix: /", "echo").cluster("echo", &keys, addresses).start(1)?;
        let client = Client::connect(gateway.listener("grpc")?).await?;
        // The first round waits for connections, the second has them.
        for round in 1..=2 {
            let mut open = client.script("silent").await?;
            open.message(b"abc", true)?;
            for backend in &backends {
                backend.until_calls(round).await?;
            }
            ensure!(backends.iter().all(|backend| backend.seen().calls.len() == round), "{balance}");
            open.cancel();
        }
    }
    Ok(())
}
