//! The first minute: `weir demo` as a newcomer runs it.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use weir_integration::gateway::weir_binary;
use weir_integration::process::Process;

const KINDS: [&str; 4] = ["unary", "server stream", "client stream", "bidi stream"];

fn demo_once() -> Result<Output> {
    Ok(Command::new(weir_binary()?).args(["demo", "--once"]).output()?)
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The configuration that the demo has printed.
fn printed_config(stdout: &str) -> Result<String> {
    let start = stdout.find("static_resources:").context("no configuration was printed")?;
    let end = stdout.find("One call of each kind").context("no calls were made")?;
    Ok(stdout[start..end].to_owned())
}

fn port_of(config: &str, owner: &str) -> Result<u16> {
    let marked = |line: &str| line.trim().strip_suffix(&format!(" # {owner}")).map(str::to_owned);
    let line = config.lines().find_map(marked).with_context(|| format!("no port of the {owner} in:\n{config}"))?;
    Ok(line.trim_start_matches("port: ").parse()?)
}

#[test]
fn once_makes_the_four_kinds_of_calls_and_says_what_came_of_them() -> Result<()> {
    let output = demo_once()?;
    let stdout = stdout(&output);
    ensure!(output.status.code() == Some(0), "{}\n{stdout}\n{}", output.status, stderr(&output));
    for (kind, messages) in KINDS.into_iter().zip(["1 out, 1 in", "1 out, 5 in", "5 out, 1 in", "5 out, 5 in"]) {
        let row = stdout.lines().find(|line| line.trim_start().starts_with(kind));
        let row = row.with_context(|| format!("no row for {kind} in:\n{stdout}"))?;
        ensure!(row.contains(" OK ") && row.contains(messages) && row.ends_with(" ms"), "{row}");
    }
    Ok(())
}

#[test]
fn the_printed_configuration_is_one_that_check_accepts() -> Result<()> {
    let config = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    std::fs::write(config.path(), printed_config(&stdout(&demo_once()?))?)?;
    let check = Command::new(weir_binary()?).arg("check").arg("-c").arg(config.path()).output()?;
    ensure!(check.status.success(), "{}", stderr(&check));
    Ok(())
}

#[test]
fn a_taken_port_is_replaced_aloud() -> Result<()> {
    // If somebody else has them already, they are just as taken.
    let _held = [8881, 9901, 50051].map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
    let output = demo_once()?;
    let (stdout, stderr) = (stdout(&output), stderr(&output));
    ensure!(output.status.code() == Some(0), "{}\n{stdout}\n{stderr}", output.status);
    let config = printed_config(&stdout)?;
    for (wanted, owner) in [(8881, "gateway"), (9901, "admin"), (50051, "backend")] {
        let used = port_of(&config, owner)?;
        ensure!(used != wanted);
        let notice = format!("port {wanted} is taken, using {used} instead");
        ensure!(stderr.lines().any(|line| line == notice), "no line `{notice}` in:\n{stderr}");
    }
    Ok(())
}

#[test]
fn it_serves_until_ctrl_c() -> Result<()> {
    let mut demo = Process::start("weir demo", Command::new(weir_binary()?).arg("demo"))?;
    let grpcurl = demo.wait_line("grpcurl", |line| line.contains("grpcurl").then(|| line.to_owned()))?;
    let admin = demo.wait_line("the admin address", |line| {
        line.split_once("http://").map(|(_, rest)| rest.trim_end_matches("/metrics").to_owned())
    })?;
    // What it says to type next leads to something that listens.
    let gateway = grpcurl.split(' ').find(|word| word.starts_with("127.0.0.1:")).context(grpcurl.clone())?;
    for address in [gateway, &admin] {
        std::net::TcpStream::connect(address).with_context(|| address.to_owned())?;
    }
    demo.wait_line("Ctrl-C", |line| line.contains("Ctrl-C").then_some(()))?;
    // The program need not be on the PATH.
    let again = format!("  {} run -c weir.yaml", weir_binary()?.display());
    demo.wait_line(&again, |line| (line == again).then_some(()))?;
    demo.signal("INT")?;
    demo.wait_line("stopped", |line| (line == "stopped").then_some(()))?;
    let status = demo.wait()?;
    ensure!(status.code() == Some(0), "{status}\n{}", demo.lines().join("\n"));
    Ok(())
}
