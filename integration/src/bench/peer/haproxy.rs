//! HAProxy: one thread, HTTP/2 on both sides.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result};

use crate::bench::bed::Bed;
use crate::tools::{self, debian};

const PROGRAM: &str = "/usr/sbin/haproxy";

pub(super) fn install() -> Result<()> {
    debian::install(&["haproxy"])
}

pub(super) fn version() -> Result<String> {
    let text = tools::output(Command::new(PROGRAM).arg("-v"))?;
    let version = text.split(' ').nth(2).and_then(|version| version.split('-').next());
    Ok(format!("HAProxy {}", version.with_context(|| format!("haproxy -v says {text}"))?))
}

pub(super) fn command(bed: &Bed, address: SocketAddr, tls: bool) -> Result<Command> {
    let config = bed.file(&format!("haproxy-{}.cfg", address.port()), &config(bed, address, tls))?;
    let mut command = Bed::pinned(&bed.proxy_core.to_string(), PROGRAM);
    command.arg("-db").arg("-f").arg(config);
    Ok(command)
}

fn config(bed: &Bed, address: SocketAddr, tls: bool) -> String {
    // A connection has two ends; the margin is for listeners and what else it opens.
    let most = (bed.files / 2).saturating_sub(100);
    let backend = bed.backend;
    let proto = match tls {
        true => format!("ssl crt {} alpn h2 ssl-min-ver TLSv1.3", bed.certificate_with_key.display()),
        false => "proto h2".to_owned(),
    };
    format!(
        "global
  nbthread 1
  maxconn {most}
defaults
  mode http
  timeout connect 1s
  timeout client 1h
  timeout server 1h
frontend in
  bind {address} {proto}
  default_backend echo
backend echo
  server echo {backend} proto h2
"
    )
}
