//! Files that change on disk while calls run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::task::{JoinSet, LocalSet};
use weir_integration::certificates::{Authority, Certificate};
use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::{Backend, DO};
use weir_integration::peers::client::METHOD;
use weir_integration::peers::setup::Setup;
use weir_integration::peers::tls::Tls;

use super::{expect_call, listening};

const INTERVAL: &str = "reload_interval: 50ms";

/// A folder as Kubernetes mounts a secret: the files are links through `..data`, which is a link to the folder of the day.
struct Mounted {
    folder: TempDir,
    days: usize,
}

impl Mounted {
    fn new(first: &Certificate) -> Result<Mounted> {
        let mut mounted = Mounted { folder: TempDir::new()?, days: 0 };
        mounted.mount(first)?;
        for (name, link) in [("tls.crt", "..data/tls.crt"), ("tls.key", "..data/tls.key")] {
            symlink(link, mounted.folder.path().join(name))?;
        }
        Ok(mounted)
    }

    fn files(&self) -> Certificate {
        Certificate { cert: self.folder.path().join("tls.crt"), key: self.folder.path().join("tls.key") }
    }

    /// Exchanges both files at once.
    fn mount(&mut self, certificate: &Certificate) -> Result<()> {
        self.days += 1;
        let (root, day) = (self.folder.path(), format!("..day-{}", self.days));
        fs::create_dir(root.join(&day))?;
        fs::copy(&certificate.cert, root.join(&day).join("tls.crt"))?;
        fs::copy(&certificate.key, root.join(&day).join("tls.key"))?;
        symlink(&day, root.join("..data_tmp"))?;
        Ok(fs::rename(root.join("..data_tmp"), root.join("..data"))?)
    }
}

async fn taken(gateway: &Gateway, result: &str, times: f64) -> Result<()> {
    let name = format!("weir_downstream_tls_reloads_total{{listener=\"grpc\",result=\"{result}\"}}");
    gateway.wait_metric(&name, |count| count == times).await.map(drop)
}

fn copy(from: &Certificate, to: &Certificate) -> Result<()> {
    fs::copy(&from.cert, &to.cert)?;
    fs::copy(&from.key, &to.key)?;
    Ok(())
}

/// Calls on a connection that stays, and on new ones, without one that fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_call_is_lost_while_certificates_change() -> Result<()> {
    LocalSet::new().run_until(calls_through_days()).await
}

async fn calls_through_days() -> Result<()> {
    let authority = Authority::new()?;
    let names = ["127.0.0.1"];
    let days: Vec<Certificate> =
        ["one", "two", "three", "four"].iter().map(|day| authority.issue(&[names[0], day])).collect::<Result<_>>()?;
    let mut mounted = Mounted::new(&days[0])?;
    let backend = Backend::start().await?;
    let setup = Setup::to([backend.address]).admin().listener(&listening(&mounted.files(), INTERVAL));
    let gateway = setup.start(2)?;
    let address = gateway.listener("grpc")?;
    let tls = Tls::believing(&authority)?;

    let (ended, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut callers = JoinSet::new();
    for caller in 0..4 {
        let (tls, ended, calls) = (tls.clone(), ended.clone(), calls.clone());
        callers.spawn_local(async move {
            let mut client = tls.connect(address).await?;
            while !ended.load(Ordering::Relaxed) {
                if caller % 2 == 0 {
                    client = tls.connect(address).await?;
                }
                expect_call(&client).await?;
                calls.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    for (day, certificate) in days.iter().enumerate().skip(1) {
        mounted.mount(certificate)?;
        taken(&gateway, "taken", day as f64).await?;
        // A client without a session sees the new one.
        let shown = Tls::believing(&authority)?.shake(address).await?.certificate();
        ensure!(shown == Some(certificate.der()?), "day {day}");
    }
    ended.store(true, Ordering::Relaxed);
    while let Some(done) = callers.join_next().await {
        done??;
    }
    ensure!(calls.load(Ordering::Relaxed) > 0);
    taken(&gateway, "refused", 0.0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn files_that_do_not_fit_are_refused_and_the_old_ones_stay() -> Result<()> {
    let authority = Authority::new()?;
    let folder = TempDir::new()?;
    let files = Certificate { cert: folder.path().join("a.pem"), key: folder.path().join("a.key") };
    let first = authority.issue(&["127.0.0.1"])?;
    let second = authority.issue(&["127.0.0.1", "second"])?;
    copy(&first, &files)?;
    let backend = Backend::start().await?;
    let setup = Setup::to([backend.address]).admin().listener(&listening(&files, INTERVAL));
    let gateway = setup.start(1)?;
    let address = gateway.listener("grpc")?;
    let stale = async |value: f64| {
        gateway.wait_metric("weir_downstream_tls_files_refused{listener=\"grpc\"}", |now| now == value).await.map(drop)
    };
    let refused = async |times: f64, why: &str| {
        taken(&gateway, "refused", times).await?;
        stale(1.0).await?;
        let told = |line: &str| (line.contains("the old ones stay") && line.contains(why)).then_some(());
        gateway.process.wait_line(why, told)?;
        let shown = Tls::believing(&authority)?.shake(address).await?;
        ensure!(shown.certificate() == Some(first.der()?), "{why}");
        expect_call(&shown.client().await?).await
    };
    // Half of a pair.
    fs::copy(&second.cert, &files.cert)?;
    refused(1.0, "holds a key of another certificate").await?;
    fs::write(&files.cert, "-----BEGIN CERTIFICATE-----\nMIIB\n")?;
    refused(2.0, "is no PEM file").await?;
    fs::remove_file(&files.cert)?;
    refused(3.0, "cannot be read").await?;
    copy(&authority.issue_expired(&["127.0.0.1"])?, &files)?;
    refused(4.0, "has expired").await?;
    // Back again, which is no change.
    copy(&first, &files)?;
    stale(0.0).await?;
    copy(&second, &files)?;
    taken(&gateway, "taken", 1.0).await?;
    let shown = Tls::believing(&authority)?.shake(address).await?.certificate();
    ensure!(shown == Some(second.der()?));
    Ok(())
}

/// What decides about clients changes: sessions that began under the old word are not resumed.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn clients_that_were_revoked_are_not_resumed() -> Result<()> {
    let (authority, clients) = (Authority::new()?, Authority::named("clients")?);
    let certificate = authority.issue(&["127.0.0.1"])?;
    let own = clients.issue_client("alice", "spiffe://a", 1)?;
    let crl = clients.revoke(&[9])?;
    let ca = clients.file();
    let show = |path: &Path| path.display().to_string();
    let keys = format!("client_auth: required, ca_file: {}, crl_files: [{}], {INTERVAL}", show(&ca), show(&crl));
    let backend = Backend::start().await?;
    let gateway = Setup::to([backend.address]).admin().listener(&listening(&certificate, &keys)).start(1)?;
    let address = gateway.listener("grpc")?;
    let tls = Tls::known_as(&authority, &own)?;
    let stays = tls.connect(address).await?;
    expect_call(&stays).await?;
    ensure!(tls.shake(address).await?.is_resumed());

    clients.revoke(&[1])?;
    taken(&gateway, "taken", 1.0).await?;
    let called = async {
        let client = tls.connect(address).await?;
        expect_call(&client).await
    };
    ensure!(called.await.is_err(), "a client that was revoked made a call");
    let answer = stays.call(METHOD, &[(DO, "echo")]).await.context("a connection that is open stays open")?;
    ensure!(answer.status() == Some(0));
    Ok(())
}
