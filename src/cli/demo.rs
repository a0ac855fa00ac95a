//! `weir demo`: a backend, the gateway in front of it, and a call of each kind through both.

use std::io;
use std::process::ExitCode;

use tokio::runtime::Builder;

use super::run::{StopSignals, announce};
use super::{DemoArgs, EXIT_CONFIG, EXIT_CUT, EXIT_START, log, print};
use crate::config::{self, Diagnostics};
use crate::demo::backend::{Backend, BackendError};
use crate::demo::calls::{self, Report};
use crate::demo::config::{Ports, yaml};
use crate::demo::ports::Reserved;
use crate::demo::table;
use crate::gateway::{Gateway, StartError};
use crate::registry::Registry;

/// How often the gateway's start is tried on other ports, should somebody take one in the moment between looking and
/// binding.
const ATTEMPTS: usize = 3;

/// Calls came back otherwise than they should.
const EXIT_WRONG: u8 = 1;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("no port for the {owner}: {error}")]
    Port { owner: &'static str, error: io::Error },
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("{0}")]
    Config(Diagnostics),
    #[error(transparent)]
    Gateway(#[from] StartError),
    #[error("no signals or no runtime: {0}")]
    Process(#[from] io::Error),
    #[error("no client: {0}")]
    Client(#[from] tonic::transport::Error),
}

/// Shows the gateway at work.
pub(super) fn demo(registry: &Registry, args: &DemoArgs) -> ExitCode {
    log::start(Some("warn"));
    let shown = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DemoError::from)
        .and_then(|runtime| runtime.block_on(show(registry, args)));
    match shown {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if matches!(error, DemoError::Config(_)) { EXIT_CONFIG } else { EXIT_START })
        }
    }
}

async fn show(registry: &Registry, args: &DemoArgs) -> Result<ExitCode, DemoError> {
    let mut stop = StopSignals::new()?;
    let backend = Backend::start(reserve("backend", Ports::WANTED.backend)?.into_socket())?;
    let (gateway, ports) = start_gateway(backend.address().port(), registry).await?;
    print(&format!("The gateway runs with this configuration:\n\n{}\n", yaml(ports)));
    announce(&gateway);

    let reports = calls::four_kinds(([127, 0, 0, 1], ports.gateway).into()).await?;
    print(&format!("One call of each kind through it:\n\n{}\n", table::render(&reports)));
    if !args.once {
        print(&next_steps(ports, &program()));
        stop.next().await;
    }
    let drained = gateway.drain(async move { stop.next().await }).await;
    eprintln!("stopped");
    Ok(match drained.cut {
        _ if !reports.iter().all(Report::is_right) => ExitCode::from(EXIT_WRONG),
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(EXIT_CUT),
    })
}

async fn start_gateway(backend: u16, registry: &Registry) -> Result<(Gateway, Ports), DemoError> {
    let mut attempt = 1;
    loop {
        let gateway = reserve("gateway", Ports::WANTED.gateway)?;
        let admin = reserve("admin listener", Ports::WANTED.admin)?;
        let ports = Ports { gateway: gateway.port(), backend, admin: admin.port() };
        let plan = config::load_text(&yaml(ports), "the demo", registry, &config::process_env);
        // The gateway binds its ports itself, as it would with this file on any other day.
        drop((gateway, admin));
        match Gateway::start(plan.map_err(DemoError::Config)?).await {
            Ok(gateway) => return Ok((gateway, ports)),
            Err(error @ StartError::Bind { .. }) if attempt < ATTEMPTS => eprintln!("{error}; trying again"),
            Err(error) => return Err(error.into()),
        }
        attempt += 1;
    }
}

/// Takes the wanted port or another one, and says so when it is another.
fn reserve(owner: &'static str, wanted: u16) -> Result<Reserved, DemoError> {
    let reserved = Reserved::take(wanted).map_err(|error| DemoError::Port { owner, error })?;
    if let Some(notice) = reserved.notice() {
        eprintln!("{notice}");
    }
    Ok(reserved)
}

/// This program as whoever started it can start it again: it need not be on the PATH.
fn program() -> String {
    std::env::args_os().next().map_or_else(|| "weir".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn next_steps(ports: Ports, program: &str) -> String {
    let Ports { gateway, backend, admin } = ports;
    format!(
        "\
Serving until Ctrl-C. What to type next:

  grpcurl -plaintext 127.0.0.1:{gateway} list
  grpcurl -plaintext -d '{{\"text\": \"hello\"}}' 127.0.0.1:{gateway} weir.demo.v1.Echo/Unary
  curl http://127.0.0.1:{admin}/metrics

To keep the gateway, save the configuration above as weir.yaml, put your own server's port in place of {backend}, and
start it with

  {program} run -c weir.yaml

"
    )
}
