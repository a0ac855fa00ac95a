//! Filters and limits of messages beside a hedging policy: a call passes them once, however many attempts it has.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use weir_integration::binary::built;
use weir_integration::peers::backend::{Backend, DO};
use weir_integration::peers::client::{Client, METHOD};
use weir_integration::peers::setup::Setup;
use weir_integration::process::Process;

const KEYS: &str = "lb_policy: RoundRobin, hedging_policy: {max_attempts: 3, hedging_delay: 0s, \
                    non_fatal_status_codes: [UNAVAILABLE]}";

/// What a filter adds to a response is in it once, and what it adds to a request is in each attempt once.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_winner_passes_the_filters() -> Result<()> {
    let backend = Backend::start().await?;
    let filter = "request: {add: {x-asked: weir}}, response: {add: {x-answered: weir}}";
    let setup = Setup::new().route("prefix: /", "echo").cluster("echo", KEYS, [backend.address]);
    let gateway = setup.filter("weir.filter.grpc.headers", filter).start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    for script in ["status=14;silent;echo", "status=14", "late=14"] {
        let before = backend.seen().calls.len();
        let answer = client.call(METHOD, &[(DO, script)]).await?;
        ensure!(answer.headers.get_all("x-answered").iter().count() == 1, "{script}: {answer:?}");
        let seen = backend.until_calls(before + 3).await?.calls.split_off(before);
        ensure!(seen.iter().all(|call| call.metadata.get_all("x-asked").iter().count() == 1), "{script}");
    }
    Ok(())
}

/// Messages go through a filter that counts them as they come from the client, and not for each attempt.
#[tokio::test(flavor = "multi_thread")]
async fn messages_pass_the_filters_once() -> Result<()> {
    let backends = Backend::start_many(3).await?;
    let config = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    let addresses = backends.iter().map(|backend| backend.address);
    let setup = Setup::new().route("prefix: /", "echo").cluster("echo", KEYS, addresses);
    let setup = setup.filter("acme.filter.tenant", "tenants: [blue], max_messages: 4");
    std::fs::write(config.path(), setup.yaml())?;
    let mut command = Command::new(built("weir-sample-custom-filter")?);
    let gateway = Process::start("custom-filter", command.args(["run", "--workers", "1", "-c"]).arg(config.path()))?;
    let address = gateway
        .wait_line("the listener", |line| line.strip_prefix("listening: listener grpc on ").map(str::to_owned))?
        .parse::<SocketAddr>()
        .context("an address")?;
    gateway.wait_line("ready", |line| line.starts_with("ready").then_some(()))?;
    let client = Client::connect(address).await?;
    let mut open = client.open(METHOD, &[("x-tenant", "blue"), (DO, "silent")]).await?;
    open.message(b"one", false)?;
    open.message(b"two", false)?;
    for backend in &backends {
        backend.until_calls(1).await?;
    }
    backends[1].release();
    open.headers().await?;
    open.message(b"three", false)?;
    open.message(b"four", true)?;
    let answer = open.answer().await?;
    ensure!(answer.status() == Some(0) && answer.messages == ["one", "two", "three", "four"], "{answer:?}");
    // One too many, while all attempts are under way: none of them may end by itself.
    backends[1].hold();
    let mut open = client.open(METHOD, &[("x-tenant", "blue"), (DO, "hold;silent;silent")]).await?;
    for message in [b"1", b"2", b"3", b"4", b"5"] {
        open.message(message, false)?;
    }
    let answer = open.answer().await?;
    ensure!(answer.status() == Some(8), "{answer:?}");
    Ok(())
}

/// A request that is refused for its size while several attempts are under way ends as it would with one.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_ends_the_call() -> Result<()> {
    let backends = Backend::start_many(3).await?;
    let addresses = backends.iter().map(|backend| backend.address);
    let setup = Setup::new().admin().route("prefix: /", "echo").cluster("echo", KEYS, addresses);
    let gateway = setup.listener("max_receive_message_size: 100").start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    let mut open = client.script("silent").await?;
    open.message(&[b'x'; 50], false)?;
    for backend in &backends {
        backend.until_calls(1).await?;
    }
    open.message(&[b'x'; 101], true)?;
    let answer = open.answer().await?;
    let said = "a message of 101 bytes is over the limit of 100 bytes (max_receive_message_size)";
    ensure!(answer.status() == Some(8) && answer.message() == said, "{answer:?}");
    for backend in &backends {
        backend.until("a reset", |seen| seen.resets == [h2::Reason::CANCEL]).await?;
    }
    Ok(())
}
