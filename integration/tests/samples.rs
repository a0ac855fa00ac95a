//! The samples, each run the way its README says.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tokio_stream::StreamExt;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use weir::demo::backend::Backend;
use weir::demo::proto::EchoRequest;
use weir::demo::proto::echo_client::EchoClient;
use weir_integration::binary::built;
use weir_integration::process::Process;
use weir_integration::tools;

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples")
}

#[test]
fn hello_greets_from_three_languages() -> Result<()> {
    let node = tools::node()?;
    let script = Command::new(samples().join("hello/run.sh"))
        .envs(node.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))))
        .env("HELLO_WEIR", built("weir")?)
        .env("HELLO_RUST_CLIENT", built("weir-sample-hello")?)
        .env("HELLO_PYTHON", tools::python()?)
        .output()?;
    let stdout = String::from_utf8_lossy(&script.stdout);
    ensure!(script.status.success(), "{}\n{stdout}\n{}", script.status, String::from_utf8_lossy(&script.stderr));
    for line in [
        "rust: Hello, Rust!",
        "rust: Hello, Graydon! Hello, Niko! Hello, Carl!",
        "python: Hello, Python!",
        "python: Hello, Guido! Hello, Barry! Hello, Tim!",
        "node: Hello, Node!",
        "node: Hello, Ryan! Hello, Isaac! Hello, Bert!",
    ] {
        ensure!(stdout.lines().any(|printed| printed == line), "no line `{line}` in:\n{stdout}");
    }
    Ok(())
}

/// The sample's gateway in front of the demo's backend.
struct CustomFilter {
    client: EchoClient<Channel>,
    _gateway: Process,
    _backend: Backend,
}

impl CustomFilter {
    async fn start() -> Result<CustomFilter> {
        let backend = Backend::start(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?)?;
        let mut command = Command::new(built("weir-sample-custom-filter")?);
        command.args(["run", "--workers", "1", "-c"]).arg(samples().join("custom-filter/gateway.yaml"));
        command.env("GATEWAY_PORT", "0").env("ORDERS_PORT", backend.address().port().to_string());
        let gateway = Process::start("custom-filter", &mut command)?;
        let address = gateway.wait_line("the listener", |line| {
            line.strip_prefix("listening: listener orders on ")?.parse::<SocketAddr>().ok()
        })?;
        gateway.wait_line("ready", |line| line.starts_with("ready").then_some(()))?;
        let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
        Ok(CustomFilter { client: EchoClient::new(channel), _gateway: gateway, _backend: backend })
    }

    async fn unary_as(&self, tenants: &[&'static str]) -> Result<String, Status> {
        let request = EchoRequest { text: "hello".to_owned(), count: 0 };
        Ok(self.client.clone().unary(named(request, tenants)).await?.into_inner().text)
    }

    /// Sends this many messages in one call, and returns how many answers came before its status.
    async fn stream(&self, messages: u32) -> (usize, Code) {
        let questions = (1..=messages).map(|count| EchoRequest { text: "hello".to_owned(), count });
        let request = named(tokio_stream::iter(questions.collect::<Vec<_>>()), &["green"]);
        let mut answers = match self.client.clone().bidi_stream(request).await {
            Ok(answers) => answers.into_inner(),
            Err(status) => return (0, status.code()),
        };
        let mut received = 0;
        loop {
            match answers.next().await {
                Some(Ok(_)) => received += 1,
                Some(Err(status)) => return (received, status.code()),
                None => return (received, Code::Ok),
            }
        }
    }
}

fn named<T>(message: T, tenants: &[&'static str]) -> Request<T> {
    let mut request = Request::new(message);
    for tenant in tenants {
        request.metadata_mut().append("x-tenant", MetadataValue::from_static(tenant));
    }
    request
}

#[tokio::test]
async fn a_filter_from_outside_answers_in_the_backends_place() -> Result<()> {
    let sample = CustomFilter::start().await?;
    ensure!(sample.unary_as(&["blue"]).await? == "hello");
    let refused = sample.unary_as(&[]).await.err().context("a call without a tenant passed")?;
    ensure!(refused.code() == Code::Unauthenticated && refused.message().contains("x-tenant"), "{refused:?}");
    let refused = sample.unary_as(&["red"]).await.err().context("an unknown tenant passed")?;
    ensure!(refused.code() == Code::PermissionDenied, "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_filter_from_outside_sees_every_message() -> Result<()> {
    let sample = CustomFilter::start().await?;
    ensure!(sample.stream(3).await == (3, Code::Ok));
    let (received, code) = sample.stream(4).await;
    ensure!(received <= 3 && code == Code::ResourceExhausted, "{received} answers, then {code:?}");
    Ok(())
}

#[test]
fn a_mistake_in_the_filters_configuration_is_shown_with_its_line() -> Result<()> {
    let yaml = std::fs::read_to_string(samples().join("custom-filter/gateway.yaml"))?;
    let wrong = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    std::fs::write(wrong.path(), yaml.replace("tenants: [blue, green]", "tenant: [blue, green]"))?;
    let check = Command::new(built("weir-sample-custom-filter")?).arg("check").arg("-c").arg(wrong.path()).output()?;
    let stderr = String::from_utf8_lossy(&check.stderr);
    ensure!(check.status.code() == Some(1), "{}\n{stderr}", check.status);
    let line = 1 + yaml.lines().position(|line| line.contains("tenants:")).context("the sample has changed")?;
    for part in ["`tenant`".to_owned(), "`tenants`".to_owned(), format!(":{line}:")] {
        ensure!(stderr.contains(&part), "no {part} in:\n{stderr}");
    }
    Ok(())
}

/// What docs/filters.md tells people to write, far from this workspace and what a member of it inherits.
#[test]
fn the_documented_manifest_stands_alone() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let page = std::fs::read_to_string(root.join("docs/filters.md"))?;
    let manifest = page.split_once("```toml\n").and_then(|(_, rest)| Some(rest.split_once("```")?.0));
    let manifest = local(manifest.context("docs/filters.md shows no manifest")?, &root)?;
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("Cargo.toml"), manifest)?;
    // The versions of this workspace: they are on this machine, and already built.
    std::fs::copy(root.join("Cargo.lock"), folder.path().join("Cargo.lock"))?;
    std::fs::create_dir(folder.path().join("src"))?;
    for source in ["main.rs", "tenant.rs"] {
        let from = samples().join("custom-filter/src").join(source);
        std::fs::copy(&from, folder.path().join("src").join(source)).with_context(|| from.display().to_string())?;
    }
    let mut check = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    check.args(["check", "--offline"]).current_dir(folder.path());
    check.env("CARGO_TARGET_DIR", target()?).env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
    let output = check.output().with_context(|| format!("starting {check:?}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{check:?}: {}; `cargo fetch` gets what is missing\n{stderr}", output.status);
    Ok(())
}

/// The manifest with this checkout in the place of the published repository.
fn local(manifest: &str, root: &Path) -> Result<String> {
    const PUBLISHED: &str = concat!("git = \"", env!("CARGO_PKG_REPOSITORY"), "\"");
    ensure!(manifest.matches(PUBLISHED).count() == 2, "not two dependencies on {PUBLISHED}:\n{manifest}");
    let path = |folder: PathBuf| format!("path = {:?}", folder.display().to_string());
    let line = |line: &str| {
        let folder = if line.starts_with("weir-filter ") { root.join("filters/api") } else { root.to_owned() };
        line.replace(PUBLISHED, &path(folder)) + "\n"
    };
    Ok(manifest.lines().map(line).collect())
}

/// The target folder of the running test, wherever it was put: what is built there is not built again.
fn target() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    Ok(test.ancestors().nth(3).context("a test lies in TARGET/PROFILE/deps")?.to_owned())
}
