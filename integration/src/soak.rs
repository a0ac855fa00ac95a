//! A gateway under everything at once for as long as one likes: a steady load, backends that die and hang, clients that read
//! slowly, leave in the middle, or say half a word, a reload every ten seconds. No call of the steady load may fail, and neither memory nor
//! descriptors may grow.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::gateway::Gateway;
use crate::load::backend::echo_process;
use crate::load::client::{Client, Windows};
use crate::load::pace::Pace;
use crate::process::Process;
use crate::sturdy;

/// The steady load.
const PACE: Pace = Pace { per_second: 200, connections: 8 };

/// What a later third of the time may have more than the one before it.
const GROWTH: u64 = 2 << 20;

#[derive(Debug, Parser)]
struct Options {
    /// How long it goes on.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How the gateway stands.
#[derive(Clone, Copy, Debug)]
struct Sample {
    memory: u64,
    descriptors: usize,
    threads: usize,
}

/// Runs it, by the command line.
///
/// # Errors
///
/// When a call fails that should not, or something grows.
pub fn run() -> Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(soak(Duration::from_secs(options.minutes * 60)))
}

async fn soak(time: Duration) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut backends = Vec::new();
    for name in ["healthy", "first", "second"] {
        backends.push(echo_process(0, &folder.path().join(name))?);
    }
    let addresses: Vec<SocketAddr> = backends.iter().map(|(_, address)| *address).collect();
    let gateway = Gateway::start_with(&sturdy::with(&addresses)?, &["--workers", "2"])?;
    let address = gateway.listener("grpc")?;
    let mut samples = Vec::new();
    let mut trouble = JoinSet::new();
    trouble.spawn(slow_readers(address));
    trouble.spawn(half_words(address));
    let mut failing = backends.split_off(1);
    let paced = PACE
        .run(address, async {
            let began = Instant::now();
            let mut turn = 0;
            while began.elapsed() < time {
                fail(&mut failing, turn, folder.path()).await?;
                turn += 1;
                gateway.process.signal("HUP")?;
                let sample = sample(&gateway)?;
                println!("{:>5} s: {sample:?}", began.elapsed().as_secs());
                samples.push(sample);
            }
            Ok(())
        })
        .await?;
    trouble.shutdown().await;
    paced.none_failed()?;
    gateway.wait_metric("weir_calls_in_flight{cluster=\"orders\"}", |calls| calls == 0.0).await?;
    gateway.wait_metric("weir_downstream_connections{listener=\"grpc\"}", |open| open == 0.0).await?;
    println!("{} calls, none failed; the slowest took {:?}", paced.calls(), paced.slowest());
    let reloads = gateway.metric("weir_config_reloads_total{result=\"success\"}")?;
    ensure!(reloads > 0.0, "nothing was reloaded");
    println!("{reloads} reloads; at rest: {:?}", sample(&gateway)?);
    judge(&samples)
}

/// Each in turn dies and comes back, or hangs and goes on: ten seconds.
async fn fail(backends: &mut [(Process, SocketAddr)], turn: usize, folder: &Path) -> Result<()> {
    let count = backends.len();
    let (process, address) = &mut backends[turn % count];
    if turn % 4 < 2 {
        process.signal("KILL")?;
        process.wait()?;
        sleep(Duration::from_secs(5)).await;
        *process = echo_process(address.port(), &folder.join(format!("life {turn}")))?.0;
    } else {
        process.signal("STOP")?;
        sleep(Duration::from_secs(5)).await;
        process.signal("CONT")?;
    }
    sleep(Duration::from_secs(5)).await;
    Ok(())
}

/// Streams without end whose clients read little, and leave in the middle of a message.
async fn slow_readers(address: SocketAddr) {
    loop {
        // A backend that dies takes streams along.
        let _ = read_slowly(address).await;
        sleep(Duration::from_millis(100)).await;
    }
}

async fn read_slowly(address: SocketAddr) -> Result<()> {
    let windows = Windows { stream: 65_535, connection: 1 << 20 };
    let client = Client::connect_with(address, windows).await?;
    let mut calls = Vec::new();
    for _ in 0..10 {
        let mut call = client.start("Endless", &[]).await?;
        call.end_sending()?;
        calls.push(call);
    }
    for _ in 0..5 {
        for call in &mut calls {
            call.message().await?;
        }
        sleep(Duration::from_millis(50)).await;
    }
    calls.into_iter().for_each(crate::load::client::Call::cancel);
    Ok(())
}

/// Connections that end in the middle of a preface, of a frame, of a header block, or say nothing.
async fn half_words(address: SocketAddr) {
    let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".as_slice();
    let words: [&[u8]; 5] = [
        b"",
        b"PRI * HT",
        begin,
        &[begin, &[0, 0, 9, 1]].concat(),
        &[begin, &[0, 0, 9, 1, 0, 0, 0, 0, 1, 0x83]].concat(),
    ];
    for word in words.iter().cycle() {
        if let Ok(mut socket) = TcpStream::connect(address).await {
            let _ = socket.write_all(word).await;
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn sample(gateway: &Gateway) -> Result<Sample> {
    let process = format!("/proc/{}", gateway.process.pid());
    let count = |folder: &str| -> Result<usize> { Ok(fs::read_dir(format!("{process}/{folder}"))?.count()) };
    Ok(Sample { memory: gateway.resident_memory()?, descriptors: count("fd")?, threads: count("task")? })
}

/// Compares the thirds: the first is for warming up.
fn judge(samples: &[Sample]) -> Result<()> {
    let third = samples.len() / 3;
    ensure!(third > 0, "too short a time to tell");
    let most = |samples: &[Sample]| {
        let each = |value: fn(&Sample) -> u64| samples.iter().map(value).max().unwrap_or_default();
        [each(|one| one.memory), each(|one| one.descriptors as u64), each(|one| one.threads as u64)]
    };
    let (middle, last) = (most(&samples[third..2 * third]), most(&samples[2 * third..]));
    println!("at most, in the middle third: {middle:?}; in the last: {last:?} (bytes, descriptors, threads)");
    ensure!(last[0] <= middle[0] + GROWTH, "memory grows");
    ensure!(last[1] <= middle[1] + 10, "descriptors grow");
    ensure!(last[2] <= middle[2], "threads grow");
    Ok(())
}
