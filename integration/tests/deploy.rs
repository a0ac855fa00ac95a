//! samples/deploy, held against the program: every flag, port, path and time in them must be there and fit.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_yaml::Value;
use weir_integration::gateway::weir_binary;
use weir_integration::peers::page;
use weir_integration::peers::setup::Setup;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/deploy")
}

fn text(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

/// The documents of the manifest.
fn manifest() -> Vec<Value> {
    let text = text("kubernetes.yaml");
    serde_yaml::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap()).collect()
}

fn of_kind(kind: &str) -> Value {
    manifest().into_iter().find(|document| document["kind"] == kind).unwrap()
}

fn gateway() -> Value {
    serde_yaml::from_str(&text("gateway.yaml")).unwrap()
}

/// The ports of the listener and of the admin pages.
fn ports() -> [u64; 2] {
    let gateway = gateway();
    let port = |at: &Value| at["address"]["socket_address"]["port"].as_u64().unwrap();
    [port(&gateway["static_resources"]["listeners"][0]), port(&gateway["admin"])]
}

fn seconds(text: &str) -> u64 {
    text.strip_suffix('s').unwrap_or(text).parse().unwrap()
}

/// What a drain of the configuration may take, with a second for last words.
fn longest_drain() -> Duration {
    let shutdown = &gateway()["static_resources"]["shutdown_config"];
    let time = |key: &str| seconds(shutdown[key].as_str().unwrap());
    Duration::from_secs(time("delay") + time("timeout") + 1)
}

/// Each flag is one of `run`, and the configuration is where it is put.
fn expect_run(arguments: &[&str], config: &str) -> Result<()> {
    ensure!(arguments.first() == Some(&"run"), "{arguments:?}");
    let help = Command::new(weir_binary()?).args(["run", "--help"]).output()?;
    let help = String::from_utf8(help.stdout)?;
    for flag in arguments.iter().filter(|argument| argument.starts_with('-')) {
        ensure!(help.split_whitespace().any(|word| word == *flag), "no {flag} in:\n{help}");
    }
    let at = arguments.iter().position(|argument| *argument == "--config").context("a configuration")?;
    ensure!(arguments[at + 1] == config, "{arguments:?} and not {config}");
    Ok(())
}

#[test]
fn the_configuration_is_good() -> Result<()> {
    let check = Command::new(weir_binary()?).arg("check").arg("-c").arg(folder().join("gateway.yaml")).output()?;
    ensure!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    ensure!(of_kind("ConfigMap")["data"]["gateway.yaml"] == text("gateway.yaml"), "the manifest has another");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deployment_fits_the_program() -> Result<()> {
    let deployment = of_kind("Deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let arguments: Vec<&str> = container["args"].as_sequence().unwrap().iter().filter_map(Value::as_str).collect();
    let mount = container["volumeMounts"][0]["mountPath"].as_str().unwrap();
    expect_run(&arguments, &format!("{mount}/gateway.yaml"))?;
    let port = |name: &str| {
        let ports = container["ports"].as_sequence().unwrap();
        ports.iter().find(|port| port["name"] == name).and_then(|port| port["containerPort"].as_u64())
    };
    ensure!([port("grpc"), port("admin")] == ports().map(Some));
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    ensure!(Duration::from_secs(grace) > longest_drain(), "{grace} s");
    ensure!(container["lifecycle"].is_null(), "a preStop is not needed");
    ensure!(pod["securityContext"]["runAsNonRoot"] == true);
    let running = Setup::to([([127, 0, 0, 1], 1).into()]).admin().start(1)?;
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let get = &container[probe]["httpGet"];
        ensure!(get["port"] == "admin", "{probe}");
        let path = get["path"].as_str().unwrap();
        ensure!(page::get(running.admin()?, path).await?.status == 200, "{probe}: {path}");
    }
    let service = of_kind("Service");
    ensure!(service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]);
    ensure!(service["spec"]["ports"][0]["targetPort"] == "grpc");
    Ok(())
}

#[test]
fn the_unit_fits_the_program() -> Result<()> {
    let unit = text("weir@.service");
    let value = |key: &str| {
        let found = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        found.with_context(|| format!("no {key}"))
    };
    let command: Vec<&str> = value("ExecStart")?.split_whitespace().collect();
    expect_run(&command[1..], "/etc/weir/gateway.yaml")?;
    ensure!(command.contains(&"/run/weir/upgrade.sock") && value("RuntimeDirectory")? == "weir");
    ensure!(value("RuntimeDirectoryPreserve")? == "yes", "the first that ends would take the socket with it");
    ensure!(value("Type")? == "notify" && value("User")? != "root");
    ensure!(Duration::from_secs(seconds(value("TimeoutStopSec")?)) > longest_drain());
    Ok(())
}

#[test]
fn the_image_fits_the_program() -> Result<()> {
    let file = text("Dockerfile");
    let last = |key: &str| file.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).next_back();
    let list = |key: &str| -> Result<Vec<String>> { Ok(serde_json::from_str(last(key).context("a list")?)?) };
    let entry = list("ENTRYPOINT")?;
    let [program] = &entry[..] else { anyhow::bail!("one program") };
    let copies: Vec<Vec<&str>> =
        file.lines().filter_map(|line| Some(line.strip_prefix("COPY ")?.split_whitespace().collect())).collect();
    ensure!(copies.iter().any(|copy| copy.last() == Some(&&**program)), "{program} is not in the image");
    let arguments = list("CMD")?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let config = copies.iter().find(|copy| copy[0] == "samples/deploy/gateway.yaml").context("a configuration")?;
    expect_run(&arguments, config[1])?;
    ensure!(last("EXPOSE").context("ports")? == ports().map(|port| port.to_string()).join(" "));
    ensure!(last("USER").is_some_and(|user| !user.starts_with("0") && !user.starts_with("root")));
    // The toolchain that the workspace asks for.
    let toolchain = std::fs::read_to_string(folder().join("../../rust-toolchain.toml"))?;
    let version = toolchain.split('"').nth(1).context("a version")?;
    ensure!(file.contains(&format!("FROM rust:{version}-")), "not {version}");
    Ok(())
}
