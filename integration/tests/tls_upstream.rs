//! TLS to backends: what a call sees of good and bad ones. The backends are grpcio (BoringSSL) and Python's OpenSSL.
#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use weir_integration::certificates::{Authority, Certificate};
use weir_integration::gateway::Gateway;
use weir_integration::load::client::{Client, UNAVAILABLE, expect_failure};
use weir_integration::load::config::Config;
use weir_integration::load::{backend, grpcio};
use weir_integration::peers::eventually;
use weir_integration::process::Process;
use weir_integration::tools;

/// A backend of a script, and where it listens.
struct Backend {
    process: Process,
    address: SocketAddr,
}

impl Backend {
    fn start(script: &str, arguments: &[&OsStr]) -> Result<Backend> {
        let mut command = Command::new(tools::python()?);
        command.arg(tools::scripts().join("echo").join(script)).args(arguments);
        Backend::run(script, &mut command)
    }

    fn run(name: &str, command: &mut Command) -> Result<Backend> {
        let process = Process::start(name, command)?;
        let port = process.wait_line("its port", |line| line.strip_prefix("listening ")?.parse().ok())?;
        Ok(Backend { process, address: (Ipv4Addr::LOCALHOST, port).into() })
    }

    /// grpcio with this certificate.
    fn grpcio(certificate: &Certificate) -> Result<Backend> {
        Backend::start("grpcio_server.py", &[certificate.cert.as_os_str(), certificate.key.as_os_str()])
    }

    /// grpcio that takes only clients of this authority.
    fn grpcio_for(certificate: &Certificate, clients: &Authority) -> Result<Backend> {
        let clients = clients.file();
        let arguments = [certificate.cert.as_os_str(), certificate.key.as_os_str(), clients.as_os_str()];
        Backend::start("grpcio_server.py", &arguments)
    }

    /// Node's HTTP/2.
    fn node(certificate: &Certificate) -> Result<Backend> {
        let mut command = tools::node()?;
        command.arg(tools::scripts().join("echo/http2_server.js")).args([&certificate.cert, &certificate.key]);
        Backend::run("http2_server.js", &mut command)
    }

    /// OpenSSL that agrees on this protocol.
    fn openssl(certificate: &Certificate, arguments: &[&str]) -> Result<Backend> {
        let mut all = vec![certificate.cert.as_os_str(), certificate.key.as_os_str()];
        all.extend(arguments.iter().map(OsStr::new));
        Backend::start("openssl_server.py", &all)
    }

    /// Waits for so many connections that have begun or ended, and returns what it said of the last one.
    fn said(&self, word: &str, count: usize) -> Result<String> {
        let mut seen = 0;
        self.process.wait_line(word, |line| {
            let said = line.strip_prefix(word)?.trim();
            seen += 1;
            (seen == count).then(|| said.to_owned())
        })
    }
}

/// `ca_file: ...`, for the `tls` of a cluster.
fn believing(authority: &Authority) -> String {
    format!("ca_file: {}", authority.file().display())
}

/// The same, with a certificate of our own.
fn believing_as(authority: &Authority, own: &Certificate) -> String {
    let (cert, key) = (own.cert.display(), own.key.display());
    format!("{}, cert_file: {cert}, key_file: {key}", believing(authority))
}

/// A gateway in front of these backends whose cluster has these keys of `tls`, and further keys.
fn gateway(endpoints: &[SocketAddr], tls: &str, keys: &str, workers: usize) -> Result<Gateway> {
    Config::new(endpoints).cluster(&format!("tls: {{{tls}}}, {keys}connect_timeout: 20s")).start(workers)
}

/// A gateway whose one backend cannot be had for this reason: the metric counts it, the log names backend and reason, and
/// the client hears the reason without the address.
async fn expect_refusal(gateway: &Gateway, backend: SocketAddr, reason: &str, said: &str) -> Result<()> {
    let client = Client::connect(gateway.listener("grpc")?).await?;
    let failure = expect_failure(client.unary("Echo", &[], b"secret").await, UNAVAILABLE)?;
    let text = format!("cluster backend: none of its endpoints could be connected to: TLS: {said}");
    ensure!(failure.why == text, "{failure}");
    ensure!(!failure.why.contains("127.0.0.1"), "{failure}");
    let metric = format!("weir_upstream_tls_failures_total{{cluster=\"backend\",reason=\"{reason}\"}}");
    ensure!(gateway.metric(&metric)? >= 1.0, "{metric} is 0");
    ensure!(gateway.metric("weir_upstream_connect_failures_total{cluster=\"backend\"}")? >= 1.0);
    let line = gateway.process.wait_line("the failure", |line| {
        (line.contains("cannot connect") && line.contains(&backend.to_string())).then(|| line.to_owned())
    })?;
    ensure!(line.contains("TLS: ") || line.contains("no end of the handshake"), "{line}");
    Ok(())
}

/// grpcio with an IP address for its name, on as many workers.
async fn a_good_backend(workers: usize) -> Result<()> {
    let authority = Authority::new()?;
    let backend = Backend::grpcio(&authority.issue(&["127.0.0.1"])?)?;
    let gateway = gateway(&[backend.address], &believing(&authority), "", workers)?;
    let address = gateway.listener("grpc")?;
    tokio::task::spawn_blocking(move || {
        grpcio::run("large", address, &["0", "1", "16384", "1048576", "5000000"])?;
        grpcio::run("empty", address, &["3000"])
    })
    .await??;
    let mut calls = JoinSet::new();
    for number in 0..8_u8 {
        let client = Client::connect(address).await?;
        calls.spawn(async move {
            for round in 0..20 {
                let message = vec![number; round * 5_000];
                ensure!(client.unary("Echo", &[], &message).await? == message[..], "call {round} of {number}");
            }
            Ok(())
        });
    }
    while let Some(done) = calls.join_next().await {
        done??;
    }
    ensure!(gateway.metric("weir_upstream_connect_failures_total{cluster=\"backend\"}")? == 0.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_good_backend_with_one_worker() -> Result<()> {
    a_good_backend(1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_good_backend_with_two_workers() -> Result<()> {
    a_good_backend(2).await
}

/// The backend ends each connection right behind its only answer: not one of them loses its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_that_close_cut_no_call() -> Result<()> {
    let authority = Authority::new()?;
    let backend = Backend::openssl(&authority.issue(&["127.0.0.1"])?, &["h2", "-", "-", "once"])?;
    let one_call = "http2: {max_streams_per_connection: 1}, ";
    let gateway = gateway(&[backend.address], &believing(&authority), one_call, 2)?;
    let address = gateway.listener("grpc")?;
    let mut calls = JoinSet::new();
    for slot in 0..4 {
        let client = Client::connect(address).await?;
        calls.spawn(async move {
            for call in 0..500 {
                let message = format!("{slot} {call}");
                ensure!(client.unary("Echo", &[], message.as_bytes()).await? == message.as_bytes(), "{message}");
            }
            Ok(())
        });
    }
    while let Some(done) = calls.join_next().await {
        done??;
    }
    backend.said("closed", 2_000)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_asks_for_a_certificate_gets_it() -> Result<()> {
    let authority = Authority::new()?;
    let clients = Authority::new()?;
    let backend = Backend::grpcio_for(&authority.issue(&["127.0.0.1"])?, &clients)?;
    let own = clients.issue(&["weir"])?;
    let gateway = gateway(&[backend.address], &believing_as(&authority, &own), "", 1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    ensure!(client.unary("Echo", &[], b"known").await? == b"known"[..]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_misses_a_certificate_is_not_had() -> Result<()> {
    let (authority, clients) = (Authority::new()?, Authority::new()?);
    let certificate = authority.issue(&["127.0.0.1"])?;
    let file = clients.file();
    let file = file.to_str().context("a path in UTF-8")?;
    for version in ["1.2", "1.3"] {
        let backend = Backend::openssl(&certificate, &["h2", version, file])?;
        let gateway = gateway(&[backend.address], &believing(&authority), "", 1)?;
        let (reason, said) = match version {
            "1.3" => ("client_certificate", "the backend refuses the gateway's certificate, or the lack of one"),
            // There is no alert for it before.
            _ => ("other", "the handshake failed"),
        };
        expect_refusal(&gateway, backend.address, reason, said).await?;
    }
    // grpcio hangs up without a word.
    let backend = Backend::grpcio_for(&certificate, &clients)?;
    let gateway = gateway(&[backend.address], &believing(&authority), "", 1)?;
    let said = "the backend closed the connection in the handshake, or right after it";
    expect_refusal(&gateway, backend.address, "closed", said).await?;
    gateway.process.wait_line("a hint", |line| line.contains("perhaps it refuses our certificate").then_some(()))
}

/// A certificate of an authority that the backend does not know is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_gets_another_certificate_is_not_had() -> Result<()> {
    let (authority, clients) = (Authority::new()?, Authority::named("clients")?);
    let file = clients.file();
    let file = file.to_str().context("a path in UTF-8")?;
    let backend = Backend::openssl(&authority.issue(&["127.0.0.1"])?, &["h2", "1.3", file])?;
    let own = authority.issue(&["weir"])?;
    let gateway = gateway(&[backend.address], &believing_as(&authority, &own), "", 1)?;
    let said = "the backend refuses the gateway's certificate, or the lack of one";
    expect_refusal(&gateway, backend.address, "client_certificate", said).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_of_an_unknown_authority_is_not_had() -> Result<()> {
    let believed = Authority::new()?;
    for authority in [Authority::new()?, Authority::named("another")?] {
        let backend = Backend::grpcio(&authority.issue(&["127.0.0.1"])?)?;
        let gateway = gateway(&[backend.address], &believing(&believed), "", 1)?;
        let said = "the backend's certificate is of an unknown CA";
        expect_refusal(&gateway, backend.address, "unknown_ca", said).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_certificate_that_has_expired_is_no_certificate() -> Result<()> {
    let authority = Authority::new()?;
    let backend = Backend::grpcio(&authority.issue_expired(&["127.0.0.1"])?)?;
    let gateway = gateway(&[backend.address], &believing(&authority), "", 1)?;
    expect_refusal(&gateway, backend.address, "expired", "the backend's certificate has expired").await
}

/// A name does not stand for the address, nor another address.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_certificate_of_another_name_is_no_certificate() -> Result<()> {
    let authority = Authority::new()?;
    let backend = Backend::grpcio(&authority.issue(&["localhost", "127.0.0.2"])?)?;
    let gateway = gateway(&[backend.address], &believing(&authority), "", 1)?;
    expect_refusal(&gateway, backend.address, "name", "the backend's certificate has another name").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_agrees_on_no_protocol_is_not_spoken_to() -> Result<()> {
    let authority = Authority::new()?;
    let certificate = authority.issue(&["127.0.0.1"])?;
    let silent = Backend::openssl(&certificate, &["-"])?;
    let of_old = Backend::openssl(&certificate, &["http/1.1"])?;
    let said = "the backend does not agree on HTTP/2 (ALPN h2)";
    for backend in [&silent, &of_old] {
        let gateway = gateway(&[backend.address], &believing(&authority), "", 1)?;
        expect_refusal(&gateway, backend.address, "alpn", said).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_without_tls_is_not_spoken_to() -> Result<()> {
    let backend = backend::Backend::start(backend::Options::default())?;
    let gateway = gateway(&[backend.address], &believing(&Authority::new()?), "", 1)?;
    expect_refusal(&gateway, backend.address, "not_tls", "the backend does not speak TLS").await?;
    ensure!(backend.counts().calls == 0, "a call went through in plaintext");
    Ok(())
}

/// It takes the connection, and that is all.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_stalls_in_the_handshake() -> Result<()> {
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let authority = Authority::new()?;
    let tls = format!("tls: {{{}}}, connect_timeout: 300ms", believing(&authority));
    let gateway = Config::new(&[mute.local_addr()?]).cluster(&tls).start(1)?;
    let said = "the backend did not finish the handshake in time";
    expect_refusal(&gateway, mute.local_addr()?, "timeout", said).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_hangs_up_in_the_handshake() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let hanging_up = tokio::spawn(async move {
        loop {
            // With the client's first words unread, the kernel says it with a reset.
            let (socket, _) = listener.accept().await?;
            socket.readable().await?;
            drop(socket);
        }
        #[allow(unreachable_code, reason = "the type of the error")]
        anyhow::Ok(())
    });
    let gateway = gateway(&[address], &believing(&Authority::new()?), "", 1)?;
    let said = "the backend closed the connection in the handshake, or right after it";
    expect_refusal(&gateway, address, "closed", said).await?;
    hanging_up.abort();
    Ok(())
}

/// Calls go to the endpoint that can be verified, whatever the others are.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn other_endpoints_get_the_calls() -> Result<()> {
    let authority = Authority::new()?;
    let good = Backend::grpcio(&authority.issue(&["127.0.0.1"])?)?;
    let expired = Backend::grpcio(&authority.issue_expired(&["127.0.0.1"])?)?;
    let plain = backend::Backend::start(backend::Options::default())?;
    let endpoints = [expired.address, plain.address, good.address];
    let gateway = gateway(&endpoints, &believing(&authority), "", 2)?;
    for _ in 0..4 {
        let client = Client::connect(gateway.listener("grpc")?).await?;
        for call in 0..25_u8 {
            ensure!(client.unary("Echo", &[], &[call]).await? == [call][..]);
        }
    }
    ensure!(plain.counts().calls == 0, "a call went through in plaintext");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn verification_is_off_where_a_line_says_so_and_start_up_says_so() -> Result<()> {
    let backend = Backend::grpcio(&Authority::new()?.issue_expired(&["elsewhere"])?)?;
    let gateway = gateway(&[backend.address], "insecure_skip_verify: true", "", 1)?;
    gateway.process.wait_line("the notice", |line| {
        line.contains("`insecure_skip_verify`: cluster `backend` believes any certificate").then_some(())
    })?;
    ensure!(gateway.metric("weir_config_notices")? == 1.0);
    let client = Client::connect(gateway.listener("grpc")?).await?;
    ensure!(client.unary("Echo", &[], b"anybody").await? == b"anybody"[..]);
    Ok(())
}

/// OpenSSL, in each version, under a name that the cluster gives: it is told the name, and the certificate must have it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_cluster_gives_the_name() -> Result<()> {
    let authority = Authority::new()?;
    let certificate = authority.issue(&["orders.internal"])?;
    for version in ["1.2", "1.3"] {
        let backend = Backend::openssl(&certificate, &["h2", version])?;
        let tls = format!("{}, server_name: orders.internal", believing(&authority));
        let gateway = gateway(&[backend.address], &tls, "", 1)?;
        let client = Client::connect(gateway.listener("grpc")?).await?;
        ensure!(client.unary("Echo", &[], b"named").await? == b"named"[..]);
        let said = backend.said("open", 1)?;
        ensure!(said == format!("TLSv{version} h2 fresh orders.internal"), "{said}");
    }
    Ok(())
}

/// A certificate that vouches for itself is believed where the file has it, but not one of a CA, which vouches for others.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_certificate_that_vouches_for_itself() -> Result<()> {
    let authority = Authority::new()?;
    for is_ca in [false, true] {
        let certificate = authority.self_signed(&["127.0.0.1"], is_ca)?;
        let backend = Backend::grpcio(&certificate)?;
        let gateway = gateway(&[backend.address], &format!("ca_file: {}", certificate.cert.display()), "", 1)?;
        if is_ca {
            let said = "the backend's certificate is not valid";
            expect_refusal(&gateway, backend.address, "certificate", said).await?;
            gateway.process.wait_line("why", |line| line.contains("CaUsedAsEndEntity").then_some(()))?;
        } else {
            let client = Client::connect(gateway.listener("grpc")?).await?;
            ensure!(client.unary("Echo", &[], b"itself").await? == b"itself"[..]);
        }
    }
    Ok(())
}

/// A proxy's `enable_tls` believes the authorities of the system; the name is that of the endpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_proxy_asks_for_tls() -> Result<()> {
    let authority = Authority::new()?;
    let backend = Backend::openssl(&authority.issue(&["localhost"])?, &["h2"])?;
    let yaml = weir_integration::config::pass_all(backend.address)
        .replace("address: 127.0.0.1, port: ", "address: localhost, port: ")
        .replace("{address: localhost, port: 0}", "{address: 127.0.0.1, port: 0}")
        .replace("name: dgp.filter.grpc.proxy", "{name: dgp.filter.grpc.proxy, config: {enable_tls: true}}");
    let file = authority.file();
    let file = file.to_str().context("a path in UTF-8")?;
    let gateway = Gateway::start_in(&yaml, &["--workers", "1"], [("SSL_CERT_FILE", file)])?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    ensure!(client.unary("Echo", &[], b"by the proxy").await? == b"by the proxy"[..]);
    ensure!(backend.said("open", 1)?.ends_with(" localhost"));
    Ok(())
}

/// What one worker's connection has begun, another's resumes; and each ends with a word of TLS, also in a drain.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sessions_are_resumed_and_ended_in_order() -> Result<()> {
    let authority = Authority::new()?;
    let backend = Backend::openssl(&authority.issue(&["127.0.0.1"])?, &["h2"])?;
    let mut gateway = gateway(&[backend.address], &believing(&authority), "idle_timeout: 50ms, ", 2)?;
    for (round, how) in [(1, "fresh"), (2, "resumed"), (3, "resumed"), (4, "resumed")] {
        // A client in a connection of its own comes to whichever worker has less to do.
        let client = Client::connect(gateway.listener("grpc")?).await?;
        ensure!(client.unary("Echo", &[], b"again").await? == b"again"[..]);
        let said = backend.said("open", round)?;
        ensure!(said.contains(how), "connection {round}: {said}");
        let said = backend.said("closed", round)?;
        ensure!(said == "notified", "connection {round}: {said}");
    }
    let client = Client::connect(gateway.listener("grpc")?).await?;
    ensure!(client.unary("Echo", &[], b"the last").await? == b"the last"[..]);
    drop(client);
    gateway.process.signal("TERM")?;
    ensure!(gateway.process.wait()?.code() == Some(0));
    ensure!(backend.said("closed", 5)? == "notified");
    Ok(())
}

/// TLS costs an idle gateway nothing.
/// Checks speak TLS as calls do: they find a good backend good, and one that calls would not believe down.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn health_checks_speak_tls_too() -> Result<()> {
    let authority = Authority::new()?;
    let certificate = authority.issue(&["127.0.0.1"])?;
    let (backend, web) = (Backend::grpcio(&certificate)?, Backend::node(&certificate)?);
    let stranger = Authority::new()?;
    for (backend, check) in
        [(&backend, "protocol: grpc"), (&backend, "protocol: tcp"), (&web, "protocol: http, path: /")]
    {
        let checks =
            format!("health_checks: [{{{check}, interval: 20ms, healthy_threshold: 1, unhealthy_threshold: 1}}], ");
        let good = gateway(&[backend.address], &believing(&authority), &checks, 1)?;
        let count = |result: &str| format!("weir_health_checks_total{{cluster=\"backend\",result=\"{result}\"}}");
        good.wait_metric(&count("success"), |count| count >= 3.0).await.context(check)?;
        ensure!(good.metric(&count("failure"))? == 0.0, "{check}");
        let bad = gateway(&[backend.address], &believing(&stranger), &checks, 1)?;
        let line = bad.process.wait_line("the reason", |line| {
            (line.contains("endpoint down") && line.contains("TLS: ")).then(|| line.to_owned())
        })?;
        ensure!(line.contains("UnknownIssuer") || line.contains("unknown"), "{line}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_connection_is_at_rest() -> Result<()> {
    let authority = Authority::new()?;
    let backend = Backend::grpcio(&authority.issue(&["127.0.0.1"])?)?;
    let gateway = gateway(&[backend.address], &believing(&authority), "", 1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    ensure!(client.unary("Echo", &[], b"once").await? == b"once"[..]);
    tokio::time::timeout(Duration::from_secs(60), gateway.expect_at_rest()).await?
}

/// The authority that is believed becomes the right one while the gateway works, and stays when nonsense follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn files_that_change_are_taken_when_they_are_good() -> Result<()> {
    let (authority, another) = (Authority::new()?, Authority::named("another")?);
    let folder = tempfile::TempDir::new()?;
    let ca = folder.path().join("ca.pem");
    std::fs::copy(another.file(), &ca)?;
    // A connection for each call: what is believed counts in every one.
    let backend = Backend::openssl(&authority.issue(&["127.0.0.1"])?, &["h2", "-", "-", "once"])?;
    let tls = format!("ca_file: {}, reload_interval: 50ms", ca.display());
    let gateway = gateway(&[backend.address], &tls, "http2: {max_streams_per_connection: 1}, ", 1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    expect_failure(client.unary("Echo", &[], b"early").await, UNAVAILABLE)?;
    let reloads = async |result: &str| {
        let name = format!("weir_upstream_tls_reloads_total{{cluster=\"backend\",result=\"{result}\"}}");
        gateway.wait_metric(&name, |count| count == 1.0).await
    };
    std::fs::copy(authority.file(), &ca)?;
    reloads("taken").await?;
    eventually("a call", async || Ok(client.unary("Echo", &[], b"late").await.ok())).await?;
    std::fs::write(&ca, "nonsense")?;
    reloads("refused").await?;
    ensure!(gateway.metric("weir_upstream_tls_files_refused{cluster=\"backend\"}")? == 1.0);
    ensure!(client.unary("Echo", &[], b"later").await? == b"later"[..]);
    Ok(())
}
