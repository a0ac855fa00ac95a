//! What an attacker costs everybody else: the p99 of an honest load, alone and beside each attack.
//!
//! Two cores are few. What the attacker's bytes cost the machine, whoever they go to, is measured too: beside the same connections with
//! the same bytes to a process on the gateway's core that reads them and hangs up. The gateway is held to that.
//!
//! The attacker opens connections at a fixed rate and does with each what the attack is, for as long as it is let. It shares a core with the
//! load and the backend and gets what these leave of it; the gateway has the other one.

use std::net::SocketAddr;
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{interval, sleep};

use super::bed::Bed;
use super::case::USUAL;
use super::load::{Job, Work};
use super::peer::{PEERS, Peer};
use super::role;
use crate::binary;
use crate::peers::attacker::{Attacker, END_HEADERS, END_STREAM, field, frame, kind, request};
use crate::peers::attacks::{FLOODS, bomb, flood, stream};
use crate::process::Process;
use crate::server::Server;

/// Calls a second of the honest load.
const RATE: f64 = 2_000.0;

/// How long it is measured each time, in seconds.
const SECONDS: f64 = 3.0;

/// Bytes that the process reads of a connection which stands in for the gateway.
const SUNK: usize = 256 * 1024;

/// How long the attacker is at it before that.
const BEFORE: Duration = Duration::from_millis(500);

/// By what the p99 may be above that beside the same bytes, as a ratio.
const ALLOWED: f64 = 2.0;

/// Frames that a flood goes on for where nobody ends it.
const MANY: u32 = 25_000;

/// What is said at once of a flood, in bytes.
const PIECE: usize = 16 * 1024;

/// How long a connection is held that says nothing more.
const HELD: Duration = Duration::from_secs(5);

/// Of so many connections of the attack `deaf` only one is made: what it asks for is work for the backend, which shares a core with the
/// load.
const DEAF_OF: usize = 10;

static DEAF: AtomicUsize = AtomicUsize::new(0);

/// What is no flood.
const OTHERS: [(&str, &str); 4] = [
    ("bomb", "an HPACK bomb"),
    ("half", "half a header block, and silence"),
    ("silent", "connections that say nothing"),
    ("deaf", "calls of 3 MB each, and no window for them; two connections/s"),
];

/// Measures what an attacker costs the calls of others.
#[derive(Debug, Parser)]
#[command(name = "siege")]
struct Options {
    /// One round of a second
    #[arg(long)]
    quick: bool,
    /// Only these attacks; may be repeated
    #[arg(long = "attack", value_name = "NAME")]
    attacks: Vec<String>,
    /// Connections that the attacker opens a second
    #[arg(long, default_value_t = 20)]
    per_second: u32,
    /// Whom it attacks: `weir`, `envoy`, `haproxy` or `nginx`
    #[arg(long, default_value = "weir")]
    peer: String,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// Measures, and prints a row for each attack.
///
/// # Errors
///
/// When a call of the honest load fails; when the p99 has more than doubled, unless that is somebody else's.
pub fn run() -> Result<()> {
    let options = Options::parse();
    let known = || FLOODS.iter().map(|flood| (flood.name, flood.title)).chain(OTHERS);
    for name in &options.attacks {
        ensure!(known().any(|(known, _)| known == name), "there is no attack `{name}`");
    }
    let Some(peer) = PEERS.into_iter().find(|peer| peer.id() == options.peer) else {
        bail!("nobody is `{}`", options.peer)
    };
    peer.install()?;
    let bed = Bed::new(binary::released()?)?;
    println!(
        "{}, p99 of {RATE} calls/s in µs, attacker with {} connections/s",
        peer.version(&bed)?,
        options.per_second
    );
    println!("| attack | alone | beside the same bytes to nobody | beside the attack | |");
    let mut missed = Vec::new();
    for (name, title) in
        known().filter(|(name, _)| options.attacks.is_empty() || options.attacks.iter().any(|one| one == name))
    {
        let [alone, beside, besieged] = measure(&options, &bed, &peer, name)?;
        let ratio = besieged / beside.max(alone);
        println!("| {title} (`{name}`) | {alone:.0} | {beside:.0} | {besieged:.0} | {ratio:.2} |");
        if ratio > ALLOWED {
            missed.push(name);
        }
    }
    ensure!(
        missed.is_empty() || options.peer != "weir",
        "more than {ALLOWED} times the p99 beside {}",
        missed.join(", ")
    );
    Ok(())
}

/// The p99 alone, beside the bytes of an attack, and beside the attack: medians of rounds in turns.
fn measure(options: &Options, bed: &Bed, peer: &Peer, name: &str) -> Result<[f64; 3]> {
    let server = peer.start(bed)?;
    let sink =
        Server::start("the sink", |address| role::command(Some(bed.proxy_core), &["sink", &address.to_string()]))?;
    let mut samples = [const { Vec::new() }; 3];
    for _ in 0..if options.quick { 1 } else { 3 } {
        samples[0].push(p99(options, bed, server.address)?);
        for (at, target) in [(1, sink.address), (2, server.address)] {
            let arguments = ["attack", name, &target.to_string(), &options.per_second.to_string()];
            let mut command = in_the_gaps(&role::command(Some(bed.load_core), &arguments)?);
            let attacker = Process::start("the attacker", &mut command)?;
            attacker.wait_line("attacks", |line| (line == "attacking").then_some(()))?;
            std::thread::sleep(BEFORE);
            samples[at].push(p99(options, bed, server.address).with_context(|| format!("beside {name}"))?);
        }
    }
    Ok(samples.map(|mut samples| {
        samples.sort_by(f64::total_cmp);
        samples[samples.len() / 2]
    }))
}

/// The same command, which gets the core only while nobody else wants it: the load must not wait for its neighbour.
fn in_the_gaps(command: &Command) -> Command {
    let mut idle = Command::new("chrt");
    idle.args(["--idle", "0"]).arg(command.get_program()).args(command.get_args());
    idle
}

fn p99(options: &Options, bed: &Bed, target: SocketAddr) -> Result<f64> {
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "a count of calls")]
    let calls = (RATE * if options.quick { 1.0 } else { SECONDS }) as usize;
    let work = Work::Open { rate: RATE, calls, shape: USUAL.shape };
    let job = Job { target, connections: USUAL.connections, tls: false, work };
    Ok(bed.load(&job)?.quantile(0.99))
}

/// Reads of each connection what a gateway would, and hangs up.
///
/// # Errors
///
/// When it cannot listen.
pub(super) async fn sink(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (mut socket, _) = listener.accept().await?;
        spawn_local(async move {
            let mut buffer = [0; 8 * 1024];
            let mut read = 0;
            while let Ok(more @ 1..) = socket.read(&mut buffer).await {
                read += more;
                if read >= SUNK {
                    return;
                }
            }
        });
    }
}

/// Attacks until the process is killed.
///
/// # Errors
///
/// When there is no such attack.
pub(super) async fn attack(name: &str, target: SocketAddr, per_second: u32) -> Result<()> {
    ensure!(flood(name).is_some() || OTHERS.iter().any(|(other, _)| *other == name), "there is no attack `{name}`");
    let name: Rc<str> = name.into();
    // Made before anything is measured, and said in short system calls: the load waits for whoever is busy on its core.
    let said: Rc<[u8]> = flood(&name).map_or_else(Vec::new, |flood| (0..MANY).flat_map(flood.next).collect()).into();
    let mut due = interval(Duration::from_secs(1) / per_second);
    let mut open = JoinSet::new();
    println!("attacking");
    loop {
        due.tick().await;
        while open.try_join_next().is_some() {}
        let (name, said) = (name.clone(), said.clone());
        // How a connection ends is the gateway's choice.
        open.spawn_local(async move { drop(once(&name, target, &said).await) });
    }
}

/// One connection of an attack.
async fn once(name: &str, target: SocketAddr, said: &[u8]) -> Result<()> {
    if name == "deaf" && !DEAF.fetch_add(1, Ordering::Relaxed).is_multiple_of(DEAF_OF) {
        return Ok(());
    }
    if name == "silent" {
        let _silent = Attacker::connect(target).await?;
        sleep(HELD).await;
        return Ok(());
    }
    let mut attacker = Attacker::greet(target).await?;
    if !said.is_empty() {
        return attacker.pour(said.chunks(PIECE)).await;
    }
    match name {
        "bomb" => {
            attacker.say(&bomb()).await?;
            attacker.ended().await
        }
        "half" => {
            attacker.say(&frame(kind::HEADERS, 0, 1, &request("/bench.Echo/Unary"))).await?;
            sleep(HELD).await;
            Ok(())
        }
        _ => {
            // A window of nothing (RFC 9113 6.5.2), which no response fits into.
            attacker.say(&frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await?;
            let block = [request("/bench.Echo/Stream"), field(b"x-attack", b"deaf")].concat();
            let ask = crate::bench::load::call::Shape::Stream { messages: 300, size: 10_000 }.frame();
            for number in 0..10 {
                attacker.say(&frame(kind::HEADERS, END_HEADERS, stream(number), &block)).await?;
                attacker.say(&frame(kind::DATA, END_STREAM, stream(number), &ask)).await?;
            }
            sleep(HELD).await;
            Ok(())
        }
    }
}
