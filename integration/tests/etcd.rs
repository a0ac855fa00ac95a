//! etcd behind the gateway, driven by etcdctl: the same commands on two fresh etcds, one reached directly and one through
//! the gateway, must give the same answers, to the byte.

#![allow(clippy::unwrap_used)]

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use weir_integration::config::pass_all;
use weir_integration::etcd::{Etcd, Etcdctl};
use weir_integration::gateway::Gateway;
use weir_integration::process::{PATIENCE, Process};

/// What a scenario saw, line by line.
type Transcript = Vec<String>;
type Scenario = fn(&Etcdctl) -> Result<Transcript>;

#[test]
fn keys() -> Result<()> {
    same_through_gateway(keys_scenario, "1")
}

#[test]
fn transactions() -> Result<()> {
    same_through_gateway(transactions_scenario, "1")
}

#[test]
fn watch_across_two_clients() -> Result<()> {
    same_through_gateway(watch_scenario, "1")
}

#[test]
fn watch_across_two_workers() -> Result<()> {
    same_through_gateway(watch_scenario, "2")
}

#[test]
fn lease_keep_alive() -> Result<()> {
    same_through_gateway(lease_scenario, "1")
}

#[test]
fn lock_across_two_clients() -> Result<()> {
    same_through_gateway(lock_scenario, "2")
}

#[test]
fn maintenance() -> Result<()> {
    same_through_gateway(maintenance_scenario, "1")
}

fn same_through_gateway(scenario: Scenario, workers: &str) -> Result<()> {
    // Side by side, for the scenarios that wait for time to pass.
    let (direct, through) = std::thread::scope(|scope| {
        let direct = scope.spawn(|| without_gateway(scenario));
        let through = through_gateway(scenario, workers);
        (direct.join().unwrap(), through)
    });
    let expected = direct.context("without the gateway")?;
    let found = through.context("through the gateway")?;
    for (found, expected) in found.iter().zip(&expected) {
        ensure!(found == expected, "through the gateway:\n{found}\ndirect:\n{expected}");
    }
    assert_eq!(found.len(), expected.len());
    Ok(())
}

fn without_gateway(scenario: Scenario) -> Result<Transcript> {
    let etcd = Etcd::start()?;
    scenario(&Etcdctl::new(etcd.server.address)?)
}

fn through_gateway(scenario: Scenario, workers: &str) -> Result<Transcript> {
    let etcd = Etcd::start()?;
    let gateway = Gateway::start_with(&pass_all(etcd.server.address), &["--workers", workers])?;
    let told = scenario(&Etcdctl::new(gateway.listener("grpc")?)?);
    told.with_context(|| format!("the gateway said:\n{}", gateway.process.lines().join("\n")))
}

fn keys_scenario(etcdctl: &Etcdctl) -> Result<Transcript> {
    let mut told = Transcript::new();
    let large = "v".repeat(1_000_000);
    tell(&mut told, etcdctl, "put a 1", "")?;
    tell(&mut told, etcdctl, "put a 2 --prev-kv", "")?;
    tell(&mut told, etcdctl, "put large", &large)?;
    for key in 0..20 {
        tell(&mut told, etcdctl, &format!("put range/{key:02} {key}"), "")?;
    }
    for get in [
        "get a",
        "get nothing",
        "get large --print-value-only",
        "get range/05 range/10",
        "get range/ --prefix --limit=7 --order=DESCEND --sort-by=VALUE",
        "get range/ --prefix --keys-only",
        "get a --rev=2",
        "get a --rev=1000",
        "get range/15 --from-key --consistency=s",
        "del range/00",
        "del range/ --prefix --prev-kv",
        "del nothing",
        "get range/ --prefix",
        "compaction 5",
        "get a --rev=2",
        "put a b --lease=123",
    ] {
        tell(&mut told, etcdctl, get, "")?;
    }
    Ok(told)
}

fn transactions_scenario(etcdctl: &Etcdctl) -> Result<Transcript> {
    let mut told = Transcript::new();
    tell(&mut told, etcdctl, "put counter 1", "")?;
    let increment = "value(\"counter\") = \"1\"\n\nput counter 2\nget counter\n\nget counter\n\n";
    tell(&mut told, etcdctl, "txn", increment)?;
    tell(&mut told, etcdctl, "txn", increment)?;
    tell(&mut told, etcdctl, "txn", "mod(\"counter\") > \"0\"\n\ndel counter\n\n\n")?;
    tell(&mut told, etcdctl, "get counter", "")?;
    tell(&mut told, etcdctl, "txn", "version(\"counter\") = \"0\"\n\nput counter 1\nput counter 2\n\n\n")?;
    Ok(told)
}

fn watch_scenario(etcdctl: &Etcdctl) -> Result<Transcript> {
    let mut told = Transcript::new();
    tell(&mut told, etcdctl, "put watched/before 1", "")?;
    let watches = [watch(etcdctl, "watch watched/ --prefix --rev=1")?, watch(etcdctl, "watch watched/b --rev=1")?];
    // The event of before says that the watch stands, so that the next ones come to it live.
    await_event(&watches[0], "watched/before")?;
    for change in ["put watched/a 1", "put watched/b 1", "put elsewhere 1", "put watched/b 2", "del watched/b"] {
        tell(&mut told, etcdctl, change, "")?;
    }
    tell(&mut told, etcdctl, "txn", "\nput watched/c 1\nput watched/d 1\n\n\n")?;
    tell(&mut told, etcdctl, "put watched/b last", "")?;
    for watch in &watches {
        await_event(watch, "last")?;
        told.extend(watch.lines());
    }
    tell(&mut told, etcdctl, "compaction 3", "")?;
    tell(&mut told, etcdctl, "watch watched/ --prefix --rev=1", "")?;
    Ok(told)
}

fn lease_scenario(etcdctl: &Etcdctl) -> Result<Transcript> {
    let mut told = Transcript::new();
    let watch = watch(etcdctl, "watch leased --rev=1")?;
    let lease = grant(etcdctl, 2)?;
    tell(&mut told, etcdctl, &format!("put leased yes --lease={lease}"), "")?;
    let keep_alive = etcdctl.start(&["lease", "keep-alive", &lease])?;
    // It renews every third of the TTL: seven renewals last longer than two TTLs.
    let mut renewals = 0;
    keep_alive.wait_line("a seventh renewal", |line| {
        renewals += usize::from(line.contains("keepalived with TTL(2)"));
        (renewals == 7).then_some(())
    })?;
    tell(&mut told, etcdctl, "get leased", "")?;
    let life = etcdctl.ask(&["lease", "timetolive", &lease, "--keys"], "")?.stdout;
    ensure!(life.contains("granted with TTL(2s)") && life.contains("attached keys([leased])"), "{life}");
    drop(keep_alive);
    await_event(&watch, "DELETE")?;
    tell(&mut told, etcdctl, "get leased", "")?;
    tell(&mut told, etcdctl, &format!("lease keep-alive --once {lease}"), "")?;

    let revoked = grant(etcdctl, 600)?;
    tell(&mut told, etcdctl, &format!("put leased again --lease={revoked}"), "")?;
    tell(&mut told, etcdctl, "lease list", "")?;
    tell(&mut told, etcdctl, &format!("lease revoke {revoked}"), "")?;
    tell(&mut told, etcdctl, "get leased", "")?;
    Ok(told.iter().map(|line| name_leases(line, &[&lease, &revoked])).collect())
}

fn lock_scenario(etcdctl: &Etcdctl) -> Result<Transcript> {
    let mut told = Transcript::new();
    let holder = etcdctl.start(&["lock", "door"])?;
    let held = holder.wait_line("a key of the lock", |line| line.starts_with("door/").then(|| line.to_owned()))?;
    let waiting = etcdctl.start(&["lock", "door", "--", "echo", "opened"])?;
    // Its key says that it waits: etcd's lock is the oldest of the keys below its name.
    await_answer(etcdctl, &["get", "door/", "--prefix", "--keys-only"], |keys| keys.matches("door/").count() == 2)?;
    ensure!(waiting.lines().is_empty(), "two hold the lock {held}: {:?}", waiting.lines());
    holder.signal("TERM")?;
    waiting.wait_line("the lock", |line| (line == "opened").then_some(()))?;
    await_answer(etcdctl, &["get", "door/", "--prefix", "--keys-only"], str::is_empty)?;
    tell(&mut told, etcdctl, "get door/ --prefix --keys-only", "")?;
    Ok(told)
}

fn maintenance_scenario(etcdctl: &Etcdctl) -> Result<Transcript> {
    let mut told = Transcript::new();
    let folder = tempfile::tempdir()?;
    let snapshot = folder.path().join("snapshot").display().to_string();
    tell(&mut told, etcdctl, "put large", &"v".repeat(1_000_000))?;
    let saved = etcdctl.ask(&["snapshot", "save", &snapshot], "")?;
    ensure!(saved.status == 0, "{saved:?}");
    ensure!(std::fs::metadata(&snapshot)?.len() > 1_000_000, "a snapshot too small to hold the key");
    let healthy = etcdctl.ask(&["endpoint", "health"], "")?;
    ensure!(healthy.status == 0, "{healthy:?}");
    tell(&mut told, etcdctl, "alarm list", "")?;
    tell(&mut told, etcdctl, "user add root:secret", "")?;
    tell(&mut told, etcdctl, "user list", "")?;
    tell(&mut told, etcdctl, "role grant-permission nobody read a", "")?;
    Ok(told)
}

/// Runs one command and writes down the answer.
fn tell(told: &mut Transcript, etcdctl: &Etcdctl, command: &str, input: &str) -> Result<()> {
    let mut arguments: Vec<_> = command.split(' ').collect();
    if !command.contains("-w ") {
        arguments.extend(["-w", "json"]);
    }
    let answer = etcdctl.ask(&arguments, input)?;
    told.push(format!("$ etcdctl {command}\n{answer:?}"));
    Ok(())
}

/// Each etcd draws the ids of leases anew. They print as hex, and in JSON as decimal numbers.
fn name_leases(line: &str, leases: &[&str]) -> String {
    leases.iter().enumerate().fold(line.to_owned(), |line, (nth, hex)| {
        let decimal = i64::from_str_radix(hex, 16).unwrap().to_string();
        line.replace(hex, &format!("LEASE{nth}")).replace(&decimal, &format!("LEASE{nth}"))
    })
}

fn grant(etcdctl: &Etcdctl, seconds: u32) -> Result<String> {
    let answer = etcdctl.ask(&["lease", "grant", &seconds.to_string()], "")?;
    let lease = answer.stdout.split(' ').nth(1).filter(|_| answer.status == 0);
    Ok(lease.ok_or_else(|| anyhow::anyhow!("lease grant: {answer:?}"))?.to_owned())
}

fn watch(etcdctl: &Etcdctl, command: &str) -> Result<Process> {
    etcdctl.start(&command.split(' ').collect::<Vec<_>>())
}

fn await_event(watch: &Process, line: &str) -> Result<()> {
    watch.wait_line(line, |found| (found == line).then_some(()))
}

fn await_answer(etcdctl: &Etcdctl, question: &[&str], awaited: impl Fn(&str) -> bool) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = etcdctl.ask(question, "")?;
        if answer.status == 0 && awaited(&answer.stdout) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{question:?} keeps answering {answer:?}");
    }
}
