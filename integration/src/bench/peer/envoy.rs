//! Envoy: one worker, the router as its only filter, limits that no case reaches.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::bench::bed::Bed;
use crate::tools;

pub(super) fn program() -> Result<PathBuf> {
    tools::envoy()
}

pub(super) fn version() -> Result<String> {
    let text = tools::output(Command::new(program()?).arg("--version"))?;
    // The version stands between slashes: COMMIT/1.40.0/Clean/RELEASE/BoringSSL.
    let version = text.split('/').find(|part| part.starts_with(|c: char| c.is_ascii_digit()) && part.contains('.'));
    Ok(format!("Envoy {}", version.with_context(|| format!("envoy --version says {text}"))?))
}

pub(super) fn command(bed: &Bed, address: SocketAddr, tls: bool) -> Result<Command> {
    let socket = if tls { secured(bed) } else { String::new() };
    let config = bed.file(&format!("envoy-{}.yaml", address.port()), &config(address, bed.backend, &socket))?;
    let mut command = Bed::pinned(&bed.proxy_core.to_string(), program()?);
    command.arg("-c").arg(config).args(["--concurrency", "1", "-l", "error", "--use-dynamic-base-id"]);
    Ok(command)
}

/// Lines of a filter chain.
fn secured(bed: &Bed) -> String {
    let (cert, key) = (bed.certificate.cert.display(), bed.certificate.key.display());
    format!(
        r#"
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2]
            tls_params: {{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}}
            tls_certificates: [{{certificate_chain: {{filename: {cert}}}, private_key: {{filename: {key}}}}}]"#
    )
}

fn config(address: SocketAddr, backend: SocketAddr, secured: &str) -> String {
    let socket = |address: SocketAddr| {
        format!("{{socket_address: {{address: {}, port_value: {}}}}}", address.ip(), address.port())
    };
    let (address, backend) = (socket(address), socket(backend));
    format!(
        r#"static_resources:
  listeners:
  - address: {address}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          codec_type: HTTP2
          route_config: {{virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: backend, timeout: 0s}}}}]}}]}}
          stream_idle_timeout: 0s
          http_filters: [{{name: envoy.filters.http.router, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]{secured}
  clusters:
  - name: backend
    connect_timeout: 1s
    circuit_breakers: {{thresholds: [{{max_requests: 100000, max_pending_requests: 100000, max_connections: 10000}}]}}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment: {{cluster_name: backend, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {backend}}}}}]}}]}}
"#
    )
}
