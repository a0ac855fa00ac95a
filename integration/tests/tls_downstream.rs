//! TLS from clients: what good and bad ones get. The clients are rustls, grpcio (BoringSSL), grpc-js and the openssl
//! program.
#![allow(clippy::unwrap_used)]

#[path = "tls_downstream/clients.rs"]
mod clients;
#[path = "tls_downstream/identity.rs"]
mod identity;
#[path = "tls_downstream/rotation.rs"]
mod rotation;

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_integration::certificates::{Authority, Certificate};
use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::{Backend, DO};
use weir_integration::peers::client::{Client, METHOD};
use weir_integration::peers::setup::Setup;
use weir_integration::peers::tls::Tls;
use weir_integration::peers::within;

/// A backend, and a gateway before it whose listener has a certificate for `127.0.0.1`.
struct Secured {
    authority: Authority,
    certificate: Certificate,
    backend: Backend,
    gateway: Gateway,
    address: SocketAddr,
}

/// `enable_tls` with this certificate, and further keys of `tls`.
fn listening(certificate: &Certificate, keys: &str) -> String {
    let (cert, key) = (certificate.cert.display(), certificate.key.display());
    format!("enable_tls: true, tls: {{cert_file: {cert}, key_file: {key}, {keys}}}")
}

impl Secured {
    async fn start(keys: &str, workers: usize) -> Result<Secured> {
        let authority = Authority::new()?;
        Secured::of(authority, keys, workers).await
    }

    async fn of(authority: Authority, keys: &str, workers: usize) -> Result<Secured> {
        let certificate = authority.issue(&["127.0.0.1", "weir.test"])?;
        let backend = Backend::start().await?;
        let setup = Setup::to([backend.address]).admin().root("access_log: {path: /dev/stdout}");
        let gateway = setup.listener(&listening(&certificate, keys)).start(workers)?;
        let address = gateway.listener("grpc")?;
        Ok(Secured { authority, certificate, backend, gateway, address })
    }

    /// Waits until so many handshakes failed for this reason, which the log tells once.
    async fn refused(&self, reason: &str, times: f64) -> Result<()> {
        let name = format!("weir_downstream_tls_failures_total{{listener=\"grpc\",reason=\"{reason}\"}}");
        self.gateway.wait_metric(&name, |count| count == times).await?;
        let word = format!("reason=\"{reason}\"");
        let told =
            |line: &str| (line.contains("no TLS connection with a client") && line.contains(&word)).then_some(());
        self.gateway.process.wait_line("why there is no TLS", told)
    }

    fn handshakes(&self, version: &str, resumed: bool) -> Result<f64> {
        let labels = format!("listener=\"grpc\",version=\"{version}\",resumed=\"{resumed}\"");
        self.gateway.metric(&format!("weir_downstream_tls_handshakes_total{{{labels}}}"))
    }

    /// A good client's call.
    async fn serves(&self) -> Result<()> {
        expect_call(&Tls::believing(&self.authority)?.connect(self.address).await?).await
    }
}

async fn expect_call(client: &Client) -> Result<()> {
    let answer = client.call(METHOD, &[(DO, "echo")]).await?;
    ensure!(answer.status() == Some(0) && answer.messages == [&b"abc"[..]], "{answer:?}");
    Ok(())
}

/// What a client of TLS has against a connection.
fn said(error: &anyhow::Error) -> String {
    format!("{error:#}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_call_under_tls() -> Result<()> {
    for version in ["1.2", "1.3"] {
        let secured = Secured::start("", 1).await?;
        let client = Tls::of(&secured.authority, None, &[version])?.connect(secured.address).await?;
        expect_call(&client).await?;
        ensure!(secured.handshakes(version, false)? == 1.0);
        let line = secured.gateway.process.wait_line("a record", |line| line.strip_prefix('{').map(str::to_owned))?;
        ensure!(line.contains(&format!("\"tls_version\":\"{version}\",\"client_subject\":null")), "{line}");
        ensure!(secured.backend.seen().calls.len() == 1);
    }
    Ok(())
}

/// RFC 9113 3.2 and 9.2: no HTTP/2 without its name in the handshake.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_does_not_offer_h2_is_told_so() -> Result<()> {
    let secured = Secured::start("", 1).await?;
    for (times, offered) in [(1.0, &[][..]), (2.0, &["http/1.1"][..]), (3.0, &["h2c", "h3"][..])] {
        for_each_version(&secured, offered).await?;
        secured.refused("alpn", times * 2.0).await?;
    }
    secured.serves().await
}

async fn for_each_version(secured: &Secured, offered: &[&str]) -> Result<()> {
    for version in ["1.2", "1.3"] {
        let tls = Tls::of(&secured.authority, None, &[version])?.offering(offered);
        let error = tls.shake(secured.address).await.expect_err("no handshake");
        ensure!(said(&error).contains("NoApplicationProtocol"), "{offered:?}: {}", said(&error));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_without_tls_gets_no_http2() -> Result<()> {
    let secured = Secured::start("", 1).await?;
    for (times, greeting) in [(1.0, &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]), (2.0, b"GET / HTTP/1.1\r\n\r\n")] {
        let mut socket = TcpStream::connect(secured.address).await?;
        socket.write_all(greeting).await?;
        let mut answer = Vec::new();
        // The kernel may say with a reset that something stays unread.
        let _ = within("the end", socket.read_to_end(&mut answer)).await?;
        ensure!(answer.is_empty() || answer.starts_with(&[21, 3]), "no alert: {answer:?}");
        secured.refused("not_tls", times).await?;
    }
    secured.serves().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_never_shakes_hands_is_not_waited_for() -> Result<()> {
    let secured = Secured::start("handshake_timeout: 300ms", 1).await?;
    for (times, first) in [(1.0, &b""[..]), (2.0, &[22, 3, 1, 2, 0, 1])] {
        let mut socket = TcpStream::connect(secured.address).await?;
        socket.write_all(first).await?;
        ensure!(within("the end", socket.read(&mut [0; 16])).await?? == 0);
        secured.refused("timeout", times).await?;
    }
    drop(TcpStream::connect(secured.address).await?);
    secured.refused("closed", 1.0).await?;
    secured.serves().await
}

/// Neither does a drain wait for its ten seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_drain_does_not_wait_for_a_handshake() -> Result<()> {
    let mut secured = Secured::start("handshake_timeout: 1h", 1).await?;
    let socket = TcpStream::connect(secured.address).await?;
    let connections = "weir_downstream_connections{listener=\"grpc\"}";
    secured.gateway.wait_metric(connections, |count| count == 1.0).await?;
    secured.gateway.process.signal("TERM")?;
    ensure!(secured.gateway.process.wait()?.code() == Some(0));
    drop(socket);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_refuses_the_certificate_is_told_of() -> Result<()> {
    let secured = Secured::start("", 1).await?;
    let stranger = Tls::believing(&Authority::named("another")?)?;
    let error = stranger.shake(secured.address).await.expect_err("no handshake");
    ensure!(said(&error).contains("UnknownIssuer"), "{}", said(&error));
    secured.refused("refused", 1.0).await?;
    secured.serves().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_gets_the_certificate_of_the_name_it_asks_for() -> Result<()> {
    let authority = Authority::new()?;
    let shop = authority.issue(&["shop.test", "*.shop.test"])?;
    let stock = authority.issue(&["stock.test"])?;
    let further: Vec<String> = [&shop, &stock]
        .map(|one| format!("{{cert_file: {}, key_file: {}}}", one.cert.display(), one.key.display()))
        .into();
    let keys = format!("certificates: [{}]", further.join(", "));
    let secured = Secured::of(authority, &keys, 1).await?;
    let tls = Tls::believing(&secured.authority)?;
    for (name, expected) in [
        ("shop.test", &shop),
        ("SHOP.test", &shop),
        ("a.shop.test", &shop),
        ("stock.test", &stock),
        ("weir.test", &secured.certificate),
        ("127.0.0.1", &secured.certificate),
    ] {
        let shaken = tls.clone().asking_for(name)?.shake(secured.address).await.with_context(|| name.to_owned())?;
        ensure!(shaken.certificate() == Some(expected.der()?), "{name}");
        expect_call(&shaken.client().await?).await?;
    }
    for name in ["a.b.shop.test", "elsewhere.test"] {
        let error = tls.clone().asking_for(name)?.shake(secured.address).await.expect_err("the default's certificate");
        ensure!(said(&error).contains("weir.test"), "{}", said(&error));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn versions_and_suites_are_those_of_the_file() -> Result<()> {
    let secured = Secured::start("min_version: 1.3, cipher_suites: [TLS_CHACHA20_POLY1305_SHA256]", 1).await?;
    let old = Tls::of(&secured.authority, None, &["1.2"])?;
    let error = old.shake(secured.address).await.expect_err("no version in common");
    ensure!(said(&error).contains("ProtocolVersion"), "{}", said(&error));
    secured.refused("version", 1.0).await?;
    let agreed = Tls::believing(&secured.authority)?.shake(secured.address).await?.agreed();
    ensure!(agreed.contains("TLSv1_3") && agreed.contains("CHACHA20"), "{agreed}");

    let secured = Secured::start("cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]", 1).await?;
    let agreed = Tls::believing(&secured.authority)?.shake(secured.address).await?.agreed();
    ensure!(agreed.contains("TLSv1_2") && agreed.contains("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"), "{agreed}");
    let new = Tls::of(&secured.authority, None, &["1.3"])?;
    new.shake(secured.address).await.expect_err("no suite in common");
    Ok(())
}

/// A connection goes to the worker with the fewest calls: the second is not that of the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_session_is_resumed_by_another_worker() -> Result<()> {
    for version in ["1.2", "1.3"] {
        let secured = Secured::start("", 2).await?;
        let tls = Tls::of(&secured.authority, None, &[version])?;
        let first = tls.shake(secured.address).await?;
        ensure!(!first.is_resumed());
        let first = first.client().await?;
        // With TLS 1.3 tickets come behind the handshake.
        expect_call(&first).await?;
        let held = first.script("hold").await?;
        secured.backend.until("the call", |seen| seen.calls.len() == 2).await?;
        let second = tls.shake(secured.address).await?;
        ensure!(second.is_resumed(), "a full handshake with TLS {version}");
        expect_call(&second.client().await?).await?;
        ensure!(secured.handshakes(version, true)? == 1.0 && secured.handshakes(version, false)? == 1.0);
        drop(held);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn plaintext_and_tls_on_one_port_where_that_is_asked_for() -> Result<()> {
    let secured = Secured::start("allow_plaintext: true, handshake_timeout: 1s", 1).await?;
    secured.serves().await?;
    expect_call(&Client::connect(secured.address).await?).await?;
    let plain = |line: &str| (line.starts_with('{') && line.contains("\"tls_version\":null")).then_some(());
    secured.gateway.process.wait_line("a record", plain)?;
    ensure!(secured.handshakes("1.3", false)? == 1.0, "plaintext is no handshake");
    let mut mute = TcpStream::connect(secured.address).await?;
    ensure!(within("the end", mute.read(&mut [0; 16])).await?? == 0);
    secured.refused("timeout", 1.0).await
}

/// What a large answer leaves in the buffers of TLS when the client is slow still comes, and comes whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn large_messages_come_whole() -> Result<()> {
    let secured = Secured::start("", 1).await?;
    let client = Tls::believing(&secured.authority)?.connect(secured.address).await?;
    for _ in 0..3 {
        let mut open = client.script("echo").await?;
        let message: Vec<u8> = (0..3_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        open.message(&message, true)?;
        let answer = open.answer().await?;
        ensure!(answer.status() == Some(0) && answer.messages == [&message[..]], "{} messages", answer.messages.len());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_end_of_a_certificate_is_a_metric() -> Result<()> {
    let secured = Secured::start("", 1).await?;
    let file = secured.certificate.cert.display();
    let name = format!("weir_downstream_tls_certificate_expiry_timestamp_seconds{{listener=\"grpc\",file=\"{file}\"}}");
    // rcgen's own: the first of January 4096.
    ensure!(secured.gateway.metric(&name)? == 67_090_118_400.0, "{}", secured.gateway.metric(&name)?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn files_that_do_not_load_are_no_plaintext() -> Result<()> {
    let authority = Authority::new()?;
    let good = authority.issue(&["127.0.0.1"])?;
    let mixed = Certificate { key: authority.issue(&["another"])?.key, ..good };
    let backend = Backend::start().await?;
    let error = Setup::to([backend.address]).listener(&listening(&mixed, "")).start(1).expect_err("no gateway");
    let text = said(&error);
    ensure!(text.contains("holds a key of another certificate") && !text.contains("\nready"), "{text}");
    Ok(())
}
