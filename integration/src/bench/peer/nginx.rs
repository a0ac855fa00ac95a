//! nginx: one worker, `grpc_pass` with connections to the backend that stay open.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result};

use crate::bench::bed::Bed;
use crate::tools::debian;

const PROGRAM: &str = "/usr/sbin/nginx";

pub(super) fn install() -> Result<()> {
    debian::install(&["nginx"])
}

pub(super) fn version() -> Result<String> {
    // On stderr: `nginx version: nginx/1.22.1`.
    let output = Command::new(PROGRAM).arg("-v").output().with_context(|| format!("starting {PROGRAM}"))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let version = text.split_once("nginx/").map(|(_, version)| version.trim());
    Ok(format!("nginx {}", version.with_context(|| format!("nginx -v says {text}"))?))
}

pub(super) fn command(bed: &Bed, address: SocketAddr, tls: bool) -> Result<Command> {
    let name = format!("nginx-{}", address.port());
    let config = bed.file(&format!("{name}.conf"), &config(bed, address, &name, tls))?;
    let mut command = Bed::pinned(&bed.proxy_core.to_string(), PROGRAM);
    command.arg("-e").arg("stderr").arg("-p").arg(bed.folder()).arg("-c").arg(config);
    Ok(command)
}

fn config(bed: &Bed, address: SocketAddr, name: &str, tls: bool) -> String {
    let (backend, files) = (bed.backend, bed.files);
    let (cert, key) = (bed.certificate.cert.display(), bed.certificate.key.display());
    let secured = match tls {
        true => format!(
            " ssl http2;\n    ssl_certificate {cert};\n    ssl_certificate_key {key};\n    ssl_protocols TLSv1.3"
        ),
        false => " http2".to_owned(),
    };
    // nginx closes a connection after 1,000 requests, and gives a stream 60 s, unless it is told otherwise.
    format!(
        "daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {name}.pid;
error_log stderr error;
events {{ worker_connections {files}; }}
http {{
  access_log off;
  client_body_temp_path {name}-body;
  proxy_temp_path {name}-proxy;
  fastcgi_temp_path {name}-fastcgi;
  uwsgi_temp_path {name}-uwsgi;
  scgi_temp_path {name}-scgi;
  client_max_body_size 0;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  upstream echo {{ server {backend}; keepalive 2000; keepalive_requests 1000000000; keepalive_timeout 1h; }}
  server {{
    listen {address}{secured};
    http2_max_concurrent_streams 1000;
    grpc_read_timeout 1h;
    grpc_send_timeout 1h;
    client_body_timeout 1h;
    location / {{ grpc_pass grpc://echo; }}
  }}
}}
"
    )
}
