//! A new process takes the listening sockets over from the old one: nobody is refused, no call fails, and a new process that fails
//! leaves the old one as it was.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use weir_integration::admin;
use weir_integration::gateway::{Gateway, weir_binary};
use weir_integration::load;
use weir_integration::load::channel::{Channel, Outcome};
use weir_integration::peers::backend::Backend;
use weir_integration::peers::client::Client;
use weir_integration::peers::setup::Setup;
use weir_integration::process::Process;

const UPGRADES: usize = 5;

/// Where gateways take over from each other.
struct Site {
    folder: TempDir,
    backend: Backend,
    /// Answers like a call of the load.
    load: load::backend::Backend,
}

impl Site {
    async fn new() -> Site {
        let load = load::backend::Backend::start(load::backend::Options::default()).unwrap();
        Site { folder: tempfile::tempdir().unwrap(), backend: Backend::start().await.unwrap(), load }
    }

    fn path(&self) -> String {
        self.folder.path().join("upgrade.sock").display().to_string()
    }

    fn setup(&self) -> Setup {
        let setup = Setup::new().admin().route("prefix: /", "load").route("prefix: /test.Echo", "echo");
        setup.cluster("load", "", [self.load.address]).cluster("echo", "", [self.backend.address])
    }

    fn start(&self) -> Gateway {
        Gateway::start_with(&self.setup().yaml(), &["--workers", "2", "--upgrade-socket", &self.path()]).unwrap()
    }

    /// The same configuration with another listener like `grpc`.
    fn with_listener(&self, name: &str) -> String {
        let yaml = self.setup().yaml();
        let (start, end) = (yaml.find("    - name: grpc").unwrap(), yaml.find("  clusters:").unwrap());
        let another = yaml[start..end].replace("name: grpc\n", &format!("name: {name}\n"));
        format!("{}{another}{}", &yaml[..end], &yaml[end..])
    }

    /// A new process that need not come up.
    fn try_start(&self, yaml: &str) -> Process {
        let config: PathBuf = self.folder.path().join("new.yaml");
        std::fs::File::create(&config).unwrap().write_all(yaml.as_bytes()).unwrap();
        let mut command = Command::new(weir_binary().unwrap());
        command.arg("run").arg("-c").arg(config).args(["--upgrade-socket", &self.path()]);
        Process::start("new", &mut command).unwrap()
    }
}

fn address(gateway: &Gateway) -> SocketAddr {
    gateway.listener("grpc").unwrap()
}

async fn expect_served(gateway: &Gateway) -> Result<()> {
    ensure!(Channel::new(address(gateway)).call().await? == Outcome::Succeeded);
    ensure!(admin::page(gateway.admin()?, "/ready")?.0 == 200);
    Ok(())
}

/// Channels that call all the time, and clients that connect all the time.
#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_across_upgrades_in_a_row() -> Result<()> {
    let site = Site::new().await;
    let mut old = site.start();
    let (listener, admin) = (address(&old), old.admin()?);
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = tokio::task::JoinSet::new();
    for is_new_each_time in [false, false, false, true, true] {
        let (stop, calls) = (stop.clone(), calls.clone());
        load.spawn(async move {
            let mut channel = Channel::new(listener);
            while !stop.load(Ordering::Relaxed) {
                if is_new_each_time {
                    channel = Channel::new(listener);
                    let fresh = load::client::Client::connect(listener).await.context("a connection was refused")?;
                    ensure!(fresh.spoken().await, "a connection was accepted and not served");
                }
                ensure!(channel.call().await? == Outcome::Succeeded, "a connection was refused");
                calls.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
    }
    for upgrade in 0..UPGRADES {
        let before = calls.load(Ordering::Relaxed);
        let new = site.start();
        ensure!((address(&new), new.admin()?) == (listener, admin), "upgrade {upgrade}");
        ensure!(old.process.wait()?.code() == Some(0), "upgrade {upgrade}: {:?}", old.process.lines());
        old = new;
        ensure!(admin::page(admin, "/ready")?.0 == 200, "upgrade {upgrade}");
        // Each upgrade happens under load.
        while calls.load(Ordering::Relaxed) < before + 50 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended??;
    }
    old.process.signal("TERM")?;
    ensure!(old.process.wait()?.code() == Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_the_old_process_go_on_in_it() -> Result<()> {
    let site = Site::new().await;
    let mut old = site.start();
    let client = Client::connect(address(&old)).await?;
    let mut open = client.script("echo").await?;
    open.message(b"one", false)?;
    site.backend.until_calls(1).await?;
    let new = site.start();
    old.process.wait_line("the take-over", |line| line.contains("a new process has taken over").then_some(()))?;
    expect_served(&new).await?;
    ensure!(!old.process.has_ended()?);
    open.message(b"two", true)?;
    let answer = open.answer().await?;
    ensure!((answer.status(), answer.messages.len()) == (Some(0), 2), "{answer:?}");
    ensure!(old.process.wait()?.code() == Some(0));
    expect_served(&new).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_that_cannot_start_leaves_the_old_one_serving() -> Result<()> {
    let site = Site::new().await;
    let mut old = site.start();
    let mut wrong = site.try_start("static_resources: {}");
    ensure!(wrong.wait()?.code() == Some(1), "{:?}", wrong.lines());
    expect_served(&old).await?;

    // It has the sockets by the time when it finds that another one is taken.
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    let yaml = site.setup().yaml().replace(
        "admin: {address: {socket_address: {address: 127.0.0.1, port: 0}}}",
        &format!("admin: {{address: {{socket_address: {{address: 127.0.0.1, port: {port}}}}}}}"),
    );
    let mut wrong = site.try_start(&yaml);
    ensure!(wrong.wait()?.code() == Some(3), "{:?}", wrong.lines());
    let line = |line: &str| line.contains("a new process did not take over").then_some(());
    old.process.wait_line("that it goes on", line)?;
    expect_served(&old).await?;

    let new = site.start();
    ensure!(old.process.wait()?.code() == Some(0));
    expect_served(&new).await
}

/// What is handed over is what the old process listens on by then, not what it was started with.
#[tokio::test(flavor = "multi_thread")]
async fn listeners_that_a_reload_changed_are_handed_over_as_they_are() -> Result<()> {
    let site = Site::new().await;
    let path = site.path();
    let arguments = ["--workers", "2", "--upgrade-socket", &path];
    let mut old = Gateway::start_with(&site.with_listener("goes"), &arguments)?;
    let goes = old.listener("goes")?;
    let yaml = site.with_listener("comes");
    old.reload_with(&yaml)?;
    let comes = old.listener("comes")?;

    let new = Gateway::start_with(&yaml, &arguments)?;
    ensure!(old.process.wait()?.code() == Some(0), "{:?}", old.process.lines());
    ensure!((address(&new), new.listener("comes")?) == (address(&old), comes));
    ensure!(Channel::new(comes).call().await? == Outcome::Succeeded);
    ensure!(std::net::TcpStream::connect(goes).is_err(), "the socket of a listener that went is still open");
    expect_served(&new).await
}

/// It is killed while it waits for a name server that does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_that_is_killed_leaves_the_old_one_serving() -> Result<()> {
    let site = Site::new().await;
    let mut old = site.start();
    let silent = UdpSocket::bind("127.0.0.1:0")?;
    let server = format!("{{socket_address: {{address: 127.0.0.1, port: {}}}}}", silent.local_addr()?.port());
    let slow = site.setup().cluster_of(
        "slow",
        &format!("type: StrictDNS, dns_resolvers: [{server}]"),
        ["{socket_address: {address: slow.internal, port: 1}}".to_owned()],
    );
    let mut new = site.try_start(&slow.yaml());
    // It has been asked: the sockets are bound, and the start goes on.
    let mut question = [0; 512];
    silent.set_read_timeout(Some(weir_integration::process::PATIENCE))?;
    silent.recv(&mut question).context("a question to the name server")?;
    new.signal("KILL")?;
    new.wait()?;
    let line = |line: &str| line.contains("a new process did not take over").then_some(());
    old.process.wait_line("that it goes on", line)?;
    expect_served(&old).await?;
    let new = site.start();
    ensure!(old.process.wait()?.code() == Some(0));
    expect_served(&new).await
}

/// What an old process leaves behind is no process, and what somebody else has put there stays.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_socket_is_replaced() -> Result<()> {
    let site = Site::new().await;
    let mut dead = site.start();
    dead.process.signal("KILL")?;
    dead.process.wait()?;
    expect_served(&site.start()).await?;

    std::fs::remove_file(site.path())?;
    std::fs::write(site.path(), "precious")?;
    let mut refused = site.try_start(&site.setup().yaml());
    ensure!(refused.wait()?.code() == Some(3), "{:?}", refused.lines());
    ensure!(std::fs::read_to_string(site.path())? == "precious");
    Ok(())
}
