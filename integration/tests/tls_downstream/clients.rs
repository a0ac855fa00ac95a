//! Clients that nobody here wrote.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use weir_integration::certificates::{Authority, Certificate};
use weir_integration::tools;

use super::Secured;

/// What a script says in the end.
fn said(mut command: Command, secured: &Secured, ca: &Authority, own: Option<&Certificate>) -> Result<String> {
    command.arg(secured.address.to_string()).arg(ca.file()).arg("weir.test");
    if let Some(own) = own {
        command.args([&own.cert, &own.key]);
    }
    let output = command.output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{error}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn grpcio() -> Result<Command> {
    let mut command = Command::new(tools::python()?);
    command.arg(tools::scripts().join("echo/grpcio_client.py"));
    Ok(command)
}

fn grpc_js() -> Result<Command> {
    let mut command = tools::node()?;
    command.arg(tools::scripts().join("echo/grpc_js_client.js"));
    Ok(command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpcio_and_grpc_js_call_under_tls() -> Result<()> {
    for workers in [1, 2] {
        let secured = Secured::start("", workers).await?;
        for command in [grpcio()?, grpc_js()?] {
            let said = tokio::task::block_in_place(|| said(command, &secured, &secured.authority, None))?;
            ensure!(said == "good", "{said}");
        }
        ensure!(secured.handshakes("1.3", false)? >= 2.0);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpcio_and_grpc_js_do_not_believe_anybody() -> Result<()> {
    let secured = Secured::start("", 1).await?;
    let another = Authority::named("another")?;
    for command in [grpcio()?, grpc_js()?] {
        let said = tokio::task::block_in_place(|| said(command, &secured, &another, None))?;
        ensure!(said.starts_with("UNAVAILABLE:") || said.starts_with("14:"), "{said}");
    }
    ensure!(secured.backend.seen().calls.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpcio_and_grpc_js_show_who_they_are() -> Result<()> {
    let clients = Authority::named("clients")?;
    let own = clients.issue_client("alice", "spiffe://mesh/alice", 7)?;
    let strangers = Authority::named("strangers")?;
    let stranger = strangers.issue_client("mallory", "spiffe://mesh/alice", 7)?;
    let keys = format!("client_auth: required, ca_file: {}", clients.file().display());
    let secured = Secured::start(&keys, 1).await?;
    for (own, good) in [(Some(&own), true), (Some(&stranger), false), (None, false)] {
        for command in [grpcio()?, grpc_js()?] {
            let said = tokio::task::block_in_place(|| said(command, &secured, &secured.authority, own))?;
            ensure!((said == "good") == good, "{said}");
        }
    }
    Ok(())
}

/// The alert, in the words of a program that shows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_is_told_what_is_missing() -> Result<()> {
    let secured = Secured::start("", 1).await?;
    let talk = |arguments: &[&str]| -> Result<String> {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &secured.address.to_string(), "-CAfile"]).arg(secured.authority.file());
        let output =
            command.args(arguments).stdin(Stdio::null()).output().context("the tests need the openssl program")?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let good = tokio::task::block_in_place(|| talk(&["-alpn", "h2"]))?;
    ensure!(good.contains("ALPN protocol: h2") && good.contains("Verify return code: 0 (ok)"), "{good}");
    for arguments in [&[][..], &["-alpn", "http/1.1"], &["-tls1_2"]] {
        let told = tokio::task::block_in_place(|| talk(arguments))?;
        ensure!(told.contains("no application protocol"), "{arguments:?}: {told}");
    }
    Ok(())
}
