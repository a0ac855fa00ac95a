//! Unix sockets, of listeners and of endpoints: calls by them, and what becomes of their files.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use weir_integration::gateway::{Gateway, weir_binary};
use weir_integration::peers::backend::{Backend, DO, FROM};
use weir_integration::peers::client::{Client, METHOD};
use weir_integration::peers::eventually;
use weir_integration::peers::setup::Setup;
use weir_integration::process::Process;
use weir_integration::tools;

/// A backend, and a folder for sockets.
struct Site {
    folder: TempDir,
    backend: Backend,
}

impl Site {
    async fn new() -> Result<Site> {
        Ok(Site { folder: tempfile::tempdir()?, backend: Backend::start().await? })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn front(&self) -> PathBuf {
        self.path("front.sock")
    }

    fn setup(&self) -> Setup {
        Setup::to([self.backend.address]).at(&self.front())
    }

    /// A process that may come up or not.
    fn try_start(&self, yaml: &str, arguments: &[&str]) -> Result<Process> {
        let config = self.path("gateway.yaml");
        fs::write(&config, yaml)?;
        let mut command = Command::new(weir_binary()?);
        Process::start("weir", command.arg("run").arg("-c").arg(config).args(arguments))
    }
}

/// An endpoint at a path.
fn endpoint(path: &Path) -> String {
    format!("{{socket_address: {{address: \"unix:{}\"}}}}", path.display())
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

async fn expect_served(path: &Path) -> Result<()> {
    let answer = Client::at(path).await?.call(METHOD, &[(DO, "echo")]).await?;
    ensure!(answer.status() == Some(0) && answer.messages == [&b"abc"[..]], "{answer:?}");
    Ok(())
}

fn end(mut gateway: Gateway) -> Result<()> {
    gateway.process.signal("TERM")?;
    ensure!(gateway.process.wait()?.code() == Some(0), "{:?}", gateway.process.lines());
    Ok(())
}

/// The output of a program that must end by itself, and its process id.
fn said(command: &mut Command) -> Result<(String, u32)> {
    let child = command.stdout(std::process::Stdio::piped()).spawn()?;
    let pid = child.id();
    let output = child.wait_with_output()?;
    Ok((String::from_utf8(output.stdout)?.trim().to_owned(), pid))
}

fn grpcio_server(path: &Path) -> Result<Process> {
    let mut command = Command::new(tools::python()?);
    command.arg(tools::scripts().join("echo/grpcio_server.py")).arg(format!("unix:{}", path.display()));
    let process = Process::start("grpcio", &mut command)?;
    process.wait_line("its start", |line| line.starts_with("listening").then_some(()))?;
    Ok(process)
}

/// Both sides by Unix sockets, with clients and servers that others wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpcio_and_grpc_js_call_by_unix_sockets() -> Result<()> {
    let site = Site::new().await?;
    let (front, back) = (site.front(), site.path("back.sock"));
    let _server = grpcio_server(&back)?;
    for workers in [1, 2] {
        let setup = Setup::new().at(&front).admin().root("access_log: {path: /dev/stdout}");
        let keys = "health_checks: [{protocol: grpc}]";
        let gateway = setup.route("prefix: /", "echo").cluster_of("echo", keys, [endpoint(&back)]).start(workers)?;
        let label = format!("endpoint=\"unix:{}\"", back.display());
        gateway.wait_metric(&format!("weir_endpoint_healthy{{cluster=\"echo\",{label}}}"), |up| up == 1.0).await?;
        let mut grpcio = Command::new(tools::python()?);
        grpcio.arg(tools::scripts().join("echo/grpcio_client.py"));
        let mut grpc_js = tools::node()?;
        grpc_js.arg(tools::scripts().join("echo/grpc_js_client.js"));
        // They do not agree on a name for it.
        let as_name = front.display().to_string().trim_start_matches('/').replace('/', "_2F");
        for (mut command, authority) in [(grpcio, &*as_name), (grpc_js, "localhost")] {
            command.arg(format!("unix:{}", front.display()));
            let (said, pid) = tokio::task::block_in_place(|| said(&mut command))?;
            ensure!(said == "good", "{said}");
            let peer = format!("unix:uid={},pid={pid}", rustix::process::geteuid().as_raw());
            let is_its = |line: &str| line.contains(&format!("\"peer\":\"{peer}\"")).then(|| line.to_owned());
            let line: Value = serde_json::from_str(&gateway.process.wait_line("a record", is_its)?)?;
            ensure!(line["status"] == "OK" && line["endpoint"] == format!("unix:{}", back.display()), "{line}");
            ensure!(line["authority"] == authority, "{line}");
        }
        end(gateway)?;
    }
    Ok(())
}

/// Two gateways one behind the other: what the first asks of the second's socket goes through both.
#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_on_a_unix_socket_too() -> Result<()> {
    use weir_integration::certificates::Authority;
    let site = Site::new().await?;
    let authority = Authority::new()?;
    let own = authority.issue(&["orders.internal"])?;
    let files = format!("cert_file: {}, key_file: {}", own.cert.display(), own.key.display());
    let _behind = site.setup().listener(&format!("enable_tls: true, tls: {{{files}}}")).start(1)?;
    let ca = authority.file();
    let before = |name: &str| {
        let tls = format!("tls: {{ca_file: {}{name}}}", ca.display());
        Setup::new().route("prefix: /", "echo").cluster_of("echo", &tls, [endpoint(&site.front())])
    };
    let gateway = before(", server_name: orders.internal").start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    let answer = client.call(METHOD, &[(DO, "echo")]).await?;
    ensure!(answer.status() == Some(0) && answer.header(FROM).is_some(), "{answer:?}");

    let mut refused = site.try_start(&before("").yaml(), &[])?;
    ensure!(refused.wait()?.code() == Some(1));
    let lines = refused.lines().join("\n");
    ensure!(lines.contains("no name that a certificate can have") && lines.contains("`server_name`"), "{lines}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_comes_and_goes_is_as_one_at_a_port() -> Result<()> {
    let site = Site::new().await?;
    let back = site.path("back.sock");
    let keys = "health_checks: [{protocol: tcp, interval: 50ms, unhealthy_interval: 50ms, healthy_threshold: 1}]";
    let setup = Setup::new().admin().route("prefix: /", "echo").cluster_of("echo", keys, [endpoint(&back)]);
    let gateway = setup.start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    let missing = client.call("/weir.Load/Echo", &[]).await?;
    ensure!(missing.status() == Some(14), "{missing:?}");
    ensure!(!missing.message().contains("sock"), "a path of ours in the message: {missing:?}");
    let label = format!("endpoint=\"unix:{}\"", back.display());
    let healthy = format!("weir_endpoint_healthy{{cluster=\"echo\",{label}}}");
    gateway.wait_metric(&healthy, |up| up == 0.0).await?;
    for _ in 0..2 {
        let mut server = grpcio_server(&back)?;
        gateway.wait_metric(&healthy, |up| up == 1.0).await?;
        let answer = client.call("/weir.Load/Echo", &[]).await?;
        ensure!(answer.status() == Some(0), "{answer:?}");
        server.signal("KILL")?;
        server.wait()?;
        ensure!(is_socket(&back), "it leaves its file behind");
        gateway.wait_metric(&healthy, |up| up == 0.0).await?;
        fs::remove_file(&back)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_there_for_as_long_as_the_listener() -> Result<()> {
    let site = Site::new().await?;
    let front = site.front();
    let at = format!("address: \"unix:{}\", mode: 0660", front.display());
    let mut gateway = Setup::to([site.backend.address]).at_address(&at).start(1)?;
    ensure!(is_socket(&front) && mode(&front) == 0o660, "{:o}", mode(&front));
    let listening = format!("listening: listener grpc on unix:{}", front.display());
    ensure!(gateway.process.lines().contains(&listening), "{:?}", gateway.process.lines());
    expect_served(&front).await?;

    // Somebody else's place is not taken, nor is what it has there.
    let mut second = site.try_start(&site.setup().yaml(), &[])?;
    ensure!(second.wait()?.code() == Some(3));
    let error = format!("listener grpc cannot listen on unix:{}: another process listens there", front.display());
    ensure!(second.lines().iter().any(|line| line.ends_with(&error)), "{:?}", second.lines());
    expect_served(&front).await?;

    gateway.process.signal("KILL")?;
    gateway.process.wait()?;
    ensure!(is_socket(&front), "kill -9 leaves it");
    let gateway = site.setup().start(1)?;
    expect_served(&front).await?;
    end(gateway)?;
    ensure!(!front.exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_socket_is_not_touched() -> Result<()> {
    let site = Site::new().await?;
    fs::write(site.front(), "a file")?;
    let mut refused = site.try_start(&site.setup().yaml(), &[])?;
    ensure!(refused.wait()?.code() == Some(3));
    let lines = refused.lines().join("\n");
    ensure!(lines.contains("there is something else than a socket"), "{lines}");
    ensure!(fs::read_to_string(site.front())? == "a file");

    let nowhere = site.path("no/such/folder.sock");
    let mut refused = site.try_start(&Setup::to([site.backend.address]).at(&nowhere).yaml(), &[])?;
    ensure!(refused.wait()?.code() == Some(3));
    ensure!(refused.lines().join("\n").contains("No such file or directory"), "{:?}", refused.lines());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_moves_a_socket_and_changes_its_mode() -> Result<()> {
    let site = Site::new().await?;
    let (front, other) = (site.front(), site.path("other.sock"));
    let at = |path: &Path, mode: &str| {
        let at = format!("address: \"unix:{}\"{mode}", path.display());
        Setup::to([site.backend.address]).admin().at_address(&at).yaml()
    };
    let gateway = Gateway::start(&at(&front, ", mode: 0600"))?;
    let client = Client::at(&front).await?;
    gateway.reload_with(&at(&front, ", mode: 0666"))?;
    ensure!(mode(&front) == 0o666, "{:o}", mode(&front));
    ensure!(client.call(METHOD, &[]).await?.status() == Some(0), "its connections are not touched");

    let told = gateway.reload_with(&at(&other, ""))?;
    ensure!(told.contains("drains") && told.contains("other.sock"), "{told}");
    ensure!(is_socket(&other) && !front.exists());
    expect_served(&other).await?;

    // What cannot be had changes nothing.
    let held = UnixListener::bind(&front)?;
    gateway.put_config(&at(&front, ""))?;
    let (status, error) = gateway.reload()?;
    ensure!(status != 200 && error.contains("another process listens there"), "{status} {error}");
    expect_served(&other).await?;
    drop(held);
    gateway.reload_with(&at(&front, ""))?;
    ensure!(is_socket(&front) && !other.exists());
    expect_served(&front).await
}

/// A process that takes over takes the files with the sockets: those that it serves at, and those that nobody serves at any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_take_over_takes_the_file_with_the_socket() -> Result<()> {
    let site = Site::new().await?;
    let (front, upgrade) = (site.front(), site.path("upgrade.sock"));
    let arguments = ["--workers", "1", "--upgrade-socket", upgrade.to_str().unwrap()];
    let yaml = site.setup().yaml();
    let mut old = Gateway::start_with(&yaml, &arguments)?;
    let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&front).unwrap());
    let first = inode();
    for _ in 0..2 {
        let client = Client::at(&front).await?;
        let new = Gateway::start_with(&yaml, &arguments)?;
        drop(client);
        ensure!(old.process.wait()?.code() == Some(0), "{:?}", old.process.lines());
        ensure!(inode() == first, "it is the same socket");
        expect_served(&front).await?;
        old = new;
    }
    // One that fails takes nothing.
    let bad = site.setup().root("access_log: {path: /no/such/folder/log}").yaml();
    let mut failed = site.try_start(&bad, &arguments)?;
    ensure!(failed.wait()?.code() == Some(3), "{:?}", failed.lines());
    expect_served(&front).await?;

    // The next has its listener at a port.
    let elsewhere = Setup::to([site.backend.address]).yaml();
    let new = Gateway::start_with(&elsewhere, &arguments)?;
    ensure!(old.process.wait()?.code() == Some(0), "{:?}", old.process.lines());
    eventually("the file to go", async || Ok((!front.exists()).then_some(()))).await?;
    end(new)
}

/// A load balancer on the same machine says whose connection it passes on.
#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_protocol_counts_where_unix_is_named() -> Result<()> {
    use tokio::io::AsyncWriteExt;
    let site = Site::new().await?;
    let setup = site.setup().admin().root("access_log: {path: /dev/stdout}");
    let gateway = setup.listener("proxy_protocol: {from: [unix]}").start(1)?;
    let mut socket = tokio::net::UnixStream::connect(site.front()).await?;
    for piece in [&b"PROXY TCP4 203.0.113.7 "[..], b"192.0.2.2 56324 443\r\n"] {
        socket.write_all(piece).await?;
        tokio::task::yield_now().await;
    }
    let client = Client::over(socket, ([0; 4], 0).into()).await?;
    ensure!(client.call(METHOD, &[]).await?.status() == Some(0));
    let line = gateway.process.wait_line("a record", |line| line.starts_with('{').then(|| line.to_owned()))?;
    ensure!(line.contains("\"peer\":\"203.0.113.7:56324\""), "{line}");
    let silent = UnixStream::connect(site.front())?;
    drop(silent);
    gateway.wait_metric("weir_proxy_protocol_failures_total{listener=\"grpc\"}", |count| count == 1.0).await?;
    Ok(())
}

/// The admin pages of a machine that has no port to spare, and whoever asks there.
#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_has_a_unix_socket() -> Result<()> {
    let site = Site::new().await?;
    let admin = site.path("admin.sock");
    let root = format!("admin: {{address: {{socket_address: {{address: \"unix:{}\", mode: 0600}}}}}}", admin.display());
    let yaml = site.setup().root(&root).yaml();
    let gateway = Gateway::start(&yaml)?;
    ensure!(mode(&admin) == 0o600);
    let held = Client::at(&site.front()).await?;
    ensure!(held.call(METHOD, &[]).await?.status() == Some(0));
    let (old, new) = (site.path("old.yaml"), site.path("new.yaml"));
    fs::write(&old, &yaml)?;
    fs::write(&new, yaml.replace("front.sock", "elsewhere.sock"))?;
    let mut command = Command::new(weir_binary()?);
    command.arg("diff").args([&old, &new]).arg("--admin").arg(format!("unix:{}", admin.display()));
    let (said, _) = said(&mut command).context("weir diff")?;
    ensure!(said.contains("=> 1 connection open now"), "{said}");
    end(gateway)?;
    ensure!(!admin.exists() && !site.front().exists());
    Ok(())
}
