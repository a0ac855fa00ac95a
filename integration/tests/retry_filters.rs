//! Filters beside a retry policy: a call passes them once, however often it is made.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use weir_integration::binary::built;
use weir_integration::peers::backend::{Backend, DO};
use weir_integration::peers::client::{Client, METHOD};
use weir_integration::peers::setup::Setup;
use weir_integration::process::Process;

const KEYS: &str = "lb_policy: RoundRobin, retry_policy: {max_attempts: 3, initial_backoff: 1ms, max_backoff: 5ms, \
                    retryable_status_codes: [UNAVAILABLE]}";

/// What a filter adds to a response is in it once, and what it adds to a request is in each attempt once.
#[tokio::test(flavor = "multi_thread")]
async fn a_response_passes_the_filters_when_it_is_committed() -> Result<()> {
    let backend = Backend::start().await?;
    let filter = "request: {add: {x-asked: weir}}, response: {add: {x-answered: weir}}";
    let setup = Setup::new().route("prefix: /", "echo").cluster("echo", KEYS, [backend.address]);
    let gateway = setup.filter("weir.filter.grpc.headers", filter).start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    for script in ["status=14;late=14;echo", "status=14", "late=14"] {
        let before = backend.seen().calls.len();
        let answer = client.call(METHOD, &[(DO, script)]).await?;
        ensure!(answer.headers.get_all("x-answered").iter().count() == 1, "{script}: {answer:?}");
        let seen = backend.seen().calls.split_off(before);
        ensure!(seen.len() == 3, "{script}: {}", seen.len());
        ensure!(seen.iter().all(|call| call.metadata.get_all("x-asked").iter().count() == 1), "{script}");
    }
    Ok(())
}

/// Messages go through a filter that counts them as they come from the client, and not again with each attempt.
#[tokio::test(flavor = "multi_thread")]
async fn messages_pass_the_filters_once() -> Result<()> {
    let backend = Backend::start().await?;
    let config = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    let setup = Setup::new().route("prefix: /", "echo").cluster("echo", KEYS, [backend.address]);
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
    let mut open = client.open(METHOD, &[("x-tenant", "blue"), (DO, "read=16,14;read=24,14;echo")]).await?;
    open.message(b"one", false)?;
    open.message(b"two", false)?;
    backend.until_calls(2).await?;
    open.message(b"three", false)?;
    backend.until_calls(3).await?;
    open.message(b"four", true)?;
    let answer = open.answer().await?;
    ensure!(answer.status() == Some(0) && answer.messages == ["one", "two", "three", "four"], "{answer:?}");
    Ok(())
}
