//! What a steady load notices of each fault, through `conf/sturdy.yaml` as it stands. The figures of docs/resilience.md come
//! from here: `cargo test -p weir-integration --test faults -- --nocapture --test-threads=1`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use h2::Reason;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::time::sleep;
use weir_integration::gateway::Gateway;
use weir_integration::load::backend::{Backend, Options, echo_process};
use weir_integration::load::pace::{Pace, Paced};
use weir_integration::peers;
use weir_integration::peers::dns::DnsServer;
use weir_integration::peers::names::neighbours;
use weir_integration::sturdy;
use weir_integration::tools::debian;

/// Calls a second, by eight clients.
const PACE: Pace = Pace { per_second: 200, connections: 8 };

/// Longer than four attempts of half a second each no call may take. That is the configuration's word.
const LONGEST: Duration = Duration::from_secs(2);

/// How long the load goes on before a fault, and after it.
const BEFORE: Duration = Duration::from_millis(500);
const AFTER: Duration = Duration::from_secs(3);

/// Started by [`a_blackholed_address`] where packets to this address vanish.
const BLACKHOLE: &str = "192.0.2.1";

/// Makes a fault in a load that goes to these endpoints: no call may fail for it, and none may take too long.
async fn trial(name: &str, endpoints: &[SocketAddr], fault: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    trial_of(name, &sturdy::with(endpoints)?, fault).await
}

async fn trial_of(name: &str, config: &str, fault: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    let gateway = Gateway::start_with(config, &["--workers", "2"])?;
    let paced = PACE
        .run(gateway.listener("grpc")?, async {
            sleep(BEFORE).await;
            fault().await?;
            sleep(AFTER).await;
            Ok(())
        })
        .await?;
    report(name, &gateway, &paced)?;
    paced.none_failed()?;
    ensure!(paced.slowest() < LONGEST, "a call took {:?}", paced.slowest());
    Ok(())
}

/// A row of the page's table. Returns how many attempts there were beyond the calls.
fn report(name: &str, gateway: &Gateway, paced: &Paced) -> Result<f64> {
    let retries = gateway.metric("weir_retries_total{cluster=\"orders\"}")?;
    let repeated = gateway.metric("weir_transparent_retries_total{cluster=\"orders\"}")?;
    let (calls, extra) = (paced.calls(), retries + repeated);
    let (slowest, share) = (paced.slowest().as_millis(), extra * 100.0 / calls as f64);
    println!("| {name} | {} of {calls} | {slowest} ms | {share:.1} % |", paced.failed.len());
    Ok(extra)
}

/// Backends that work.
fn good() -> Result<(Backend, Backend)> {
    Ok((Backend::start(Options::default())?, Backend::start(Options::default())?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_is_killed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (mut doomed, address) = echo_process(0, &folder.path().join("calls"))?;
    let (one, other) = good()?;
    trial("`kill -9`", &[address, one.address, other.address], async || {
        doomed.signal("KILL")?;
        doomed.wait()?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_stands_still() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (frozen, address) = echo_process(0, &folder.path().join("calls"))?;
    let (one, other) = good()?;
    trial("`SIGSTOP`: it hangs", &[address, one.address, other.address], async || frozen.signal("STOP")).await?;
    frozen.signal("CONT")
}

/// From the beginning: the gateway has never had a connection there.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_port_accepts_and_never_answers() -> Result<()> {
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let (one, other) = good()?;
    let endpoints = [mute.local_addr()?, one.address, other.address];
    trial("a port that accepts and never answers", &endpoints, async || Ok(())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_takes_its_time_for_the_handshake() -> Result<()> {
    let (slow, one) = good()?;
    let other = Backend::start(Options::default())?;
    let door = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let endpoints = [door.local_addr()?, one.address, other.address];
    let behind = slow.address;
    let doorman = tokio::spawn(async move {
        while let Ok((mut outside, _)) = door.accept().await {
            tokio::spawn(async move {
                sleep(Duration::from_millis(400)).await;
                let mut inside = TcpStream::connect(behind).await?;
                copy_bidirectional(&mut outside, &mut inside).await
            });
        }
    });
    let tried = trial("a handshake of 400 ms", &endpoints, async || Ok(())).await;
    doorman.abort();
    tried
}

/// A backend of three does this with every call from the fault on.
async fn script(name: &str, script: &str) -> Result<()> {
    let bad = peers::backend::Backend::start().await?;
    let (one, other) = good()?;
    trial(name, &[bad.address, one.address, other.address], async || bad.set_script(script)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_resets_every_stream() -> Result<()> {
    script("RST_STREAM with INTERNAL_ERROR", "abort=2").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_refuses_every_stream() -> Result<()> {
    script("REFUSED_STREAM", "refuse").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_closes_every_connection() -> Result<()> {
    script("connections that close with each call", "drop").await
}

/// Its port is open and it answers: only what it answers is wrong, in trailers that follow headers.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_lies_about_its_health() -> Result<()> {
    script("good health, and UNAVAILABLE in trailers", "late=14").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_goes_away_in_good_order() -> Result<()> {
    let (leaving, one) = good()?;
    let other = Backend::start(Options::default())?;
    trial("GOAWAY, graceful, ten times", &[leaving.address, one.address, other.address], async || {
        for _ in 0..10 {
            leaving.go_away();
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_goes_away_with_an_error() -> Result<()> {
    let (leaving, one) = good()?;
    let other = Backend::start(Options::default())?;
    trial("GOAWAY with an error, ten times", &[leaving.address, one.address, other.address], async || {
        for _ in 0..10 {
            leaving.break_off(Reason::INTERNAL_ERROR);
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_takes_one_stream_at_a_time() -> Result<()> {
    let narrow = Backend::start(Options { max_concurrent_streams: Some(1), ..Options::default() })?;
    let (one, other) = good()?;
    trial("one stream a connection", &[narrow.address, one.address, other.address], async || Ok(())).await
}

/// The addresses of a name, each for no longer than a second.
fn zone(hosts: &[u8]) -> String {
    hosts.iter().map(|host| format!("orders.test. 1 IN A 127.0.0.{host}\n")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn dns_fails() -> Result<()> {
    let backends = neighbours(3).await?;
    let server = DnsServer::start(&zone(&[1, 2, 3]))?;
    let config = sturdy::by_name("orders.test", backends[0].address.port(), &server)?;
    let fault = async || server.set("!SERVFAIL orders.test. A\n!SERVFAIL orders.test. AAAA");
    trial_of("DNS answers with SERVFAIL", &config, fault).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn dns_changes() -> Result<()> {
    let backends = neighbours(3).await?;
    let server = DnsServer::start(&zone(&[1, 2]))?;
    let config = sturdy::by_name("orders.test", backends[0].address.port(), &server)?;
    trial_of("DNS takes one address out and another in", &config, async || server.set(&zone(&[2, 3]))).await?;
    ensure!(!backends[2].seen().calls.is_empty(), "the new one had no call");
    Ok(())
}

/// Runs a test of this file again where the address leads nowhere: no answer, no error, nothing.
#[test]
fn a_blackholed_address() -> Result<()> {
    debian::install(&["iproute2"])?;
    let script = format!(
        "ip link set lo up && ip link add v0 type veth peer name v1 && ip addr add 192.0.2.2/24 dev v0 && \
         ip link set v0 up && ip link set v1 up && ip neigh add {BLACKHOLE} lladdr 02:00:00:00:00:01 dev v0 && exec \"$@\""
    );
    // Whoever is not root has a user namespace for it, where the machine allows that.
    let as_root = rustix::process::getuid().is_root();
    let own: &[&str] = if as_root { &["--net"] } else { &["--net", "--user", "--map-root-user"] };
    let output = Command::new("unshare")
        .args(own)
        .args(["sh", "-c", &script, "sh"])
        .arg(std::env::current_exe()?)
        .args(["--exact", "in_a_namespace_of_its_own", "--ignored", "--nocapture"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    ensure!(text.contains("test result: ok. 1 passed"), "{text}");
    print!("{}", text.lines().filter(|line| line.starts_with('|')).map(|line| format!("{line}\n")).collect::<String>());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "a_blackholed_address runs it, in a network namespace of its own"]
async fn in_a_namespace_of_its_own() -> Result<()> {
    let (one, other) = good()?;
    let nowhere = SocketAddr::new(BLACKHOLE.parse()?, 50051);
    trial("a blackholed address", &[nowhere, one.address, other.address], async || Ok(())).await
}

/// Two of three backends fail in turn for a minute: they die and come back, they hang and go on. The third works all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_minute_in_which_two_of_three_fail_in_turn() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let journal = |name: &str| folder.path().join(name);
    let (_healthy, healthy_address) = echo_process(0, &journal("healthy"))?;
    let (first, first_address) = echo_process(0, &journal("first"))?;
    let (second, second_address) = echo_process(0, &journal("second"))?;
    let gateway =
        Gateway::start_with(&sturdy::with(&[healthy_address, first_address, second_address])?, &["--workers", "2"])?;
    let mut failing = [(first, first_address, "first"), (second, second_address, "second")];
    let paced = PACE
        .run(gateway.listener("grpc")?, async {
            for turn in 0..12 {
                let (process, address, name) = &mut failing[turn % 2];
                if turn % 4 < 2 {
                    process.signal("KILL")?;
                    process.wait()?;
                    sleep(Duration::from_secs(3)).await;
                    *process = echo_process(address.port(), &journal(name))?.0;
                } else {
                    process.signal("STOP")?;
                    sleep(Duration::from_secs(3)).await;
                    process.signal("CONT")?;
                }
                sleep(Duration::from_secs(2)).await;
            }
            Ok(())
        })
        .await?;
    let extra = report("a minute in which two of three fail in turn", &gateway, &paced)?;
    paced.none_failed()?;
    ensure!(paced.slowest() < LONGEST, "a call took {:?}", paced.slowest());
    ensure!(paced.calls() > 10_000, "{} calls in a minute", paced.calls());
    ensure!(extra > 0.0, "no backend had a call when it failed");
    let had = |name: &str| -> Result<usize> { Ok(fs::read_to_string(journal(name))?.lines().count()) };
    let (healthy, all) = (had("healthy")?, had("healthy")? + had("first")? + had("second")?);
    println!("the healthy one had {healthy} of {} calls, in {all} attempts", paced.calls());
    // By the backends' own count. A fifth is what the budget allows.
    ensure!(all * 5 <= paced.calls() * 6, "{all} attempts for {} calls", paced.calls());
    // Its share is a half while one of the others is out, and a third otherwise.
    ensure!(healthy * 10 <= paced.calls() * 6, "the healthy one had {healthy} of {}", paced.calls());
    Ok(())
}
