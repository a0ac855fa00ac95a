//! What a service manager passes and is told: `LISTEN_FDS` and `NOTIFY_SOCKET`, as systemd has them.

#![allow(clippy::unwrap_used)]

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use anyhow::{Result, ensure};
use weir_integration::gateway::{Gateway, weir_binary};
use weir_integration::load::backend::{Backend, Options};
use weir_integration::load::channel::{Channel, Outcome};
use weir_integration::peers;
use weir_integration::peers::client::{Client, METHOD};
use weir_integration::peers::setup::Setup;
use weir_integration::process::{PATIENCE, Process};
use weir_integration::tools;

/// Passes a listening socket for each name, and becomes the program. `/dev/null` is passed for what is called `null`, and a Unix
/// socket for a path.
const MANAGER: &str = r#"
import fcntl, os, socket, sys
names = sys.argv[1].split(":")
opened = []
for name in names:
    if name.startswith("/"):
        file = socket.socket(socket.AF_UNIX)
        file.bind(name)
        file.listen()
    else:
        file = open("/dev/null") if name == "null" else socket.create_server(("127.0.0.1", 0))
    if name != "null" and not name.startswith("/"):
        print("passed", name, "%s:%d" % file.getsockname(), flush=True)
    opened.append(fcntl.fcntl(file.fileno(), fcntl.F_DUPFD, 100))
for at, descriptor in enumerate(opened):
    os.dup2(descriptor, 3 + at)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=sys.argv[1])
os.execv(sys.argv[2], sys.argv[2:])
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_takes_the_socket_of_its_name() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let python = tools::python()?.display().to_string();
    let yaml = Setup::to([backend.address]).admin().yaml();
    let mut gateway = Gateway::start_by(&[&python, "-c", MANAGER, "admin:grpc"], &yaml, &[])?;
    for (name, address) in [("grpc", gateway.listener("grpc")?), ("admin", gateway.admin()?)] {
        let line = format!("passed {name} {address}");
        ensure!(gateway.process.lines().contains(&line), "no `{line}`: {:?}", gateway.process.lines());
    }
    ensure!(Channel::new(gateway.listener("grpc")?).call().await? == Outcome::Succeeded);
    gateway.process.signal("TERM")?;
    ensure!(gateway.process.wait()?.code() == Some(0));
    Ok(())
}

/// Its file stays: the manager goes on listening.
#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_taken_by_its_path_and_stays() -> Result<()> {
    let backend = peers::backend::Backend::start().await?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("weir.sock");
    let python = tools::python()?.display().to_string();
    let yaml = Setup::to([backend.address]).at(&path).yaml();
    let mut gateway = Gateway::start_by(&[&python, "-c", MANAGER, path.to_str().unwrap()], &yaml, &[])?;
    let client = Client::at(&path).await?;
    ensure!(client.call(METHOD, &[]).await?.status() == Some(0));
    drop(client);
    gateway.process.signal("TERM")?;
    ensure!(gateway.process.wait()?.code() == Some(0));
    ensure!(path.exists());
    Ok(())
}

#[test]
fn what_nobody_takes_is_an_error() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("gateway.yaml");
    std::fs::write(&config, Setup::to([([127, 0, 0, 1], 1).into()]).yaml())?;
    for (names, error) in
        [("grpc:other", "(`other`) that no listener has"), ("null:grpc", "descriptor 3 (`null`), which cannot be used")]
    {
        let mut command = Command::new(tools::python()?);
        command.args(["-c", MANAGER, names]).arg(weir_binary()?).arg("run").arg("-c").arg(&config);
        let mut refused = Process::start("weir", &mut command)?;
        ensure!(refused.wait()?.code() == Some(3), "{:?}", refused.lines());
        ensure!(refused.lines().iter().any(|line| line.contains(error)), "no `{error}`: {:?}", refused.lines());
    }
    Ok(())
}

#[test]
fn it_is_told_of_the_start_the_life_and_the_end() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path)?;
    manager.set_read_timeout(Some(PATIENCE))?;
    let until = |wanted: &str| -> Result<String> {
        loop {
            let mut heard = [0; 512];
            let count = manager.recv(&mut heard)?;
            let heard = String::from_utf8_lossy(&heard[..count]).into_owned();
            if heard.contains(wanted) {
                return Ok(heard);
            }
        }
    };
    let yaml = Setup::to([([127, 0, 0, 1], 1).into()]).yaml();
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "100000")];
    let mut gateway = Gateway::start_in(&yaml, &["--workers", "1"], variables)?;
    let heard = until("READY=1")?;
    ensure!(heard == "READY=1\nSTATUS=ready: 1 route, 1 cluster, 1 worker\n", "{heard}");
    until("WATCHDOG=1")?;
    until("WATCHDOG=1")?;
    gateway.process.signal("TERM")?;
    ensure!(until("STOPPING=1")?.contains("STATUS=draining"));
    ensure!(gateway.process.wait()?.code() == Some(0));
    Ok(())
}
