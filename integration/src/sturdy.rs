//! `conf/sturdy.yaml`, with a test's own endpoints and ports that are free.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use serde_yaml::Value;

use crate::peers::dns::DnsServer;

/// With these endpoints.
///
/// # Errors
///
/// When the file cannot be read.
pub fn with(endpoints: &[SocketAddr]) -> Result<String> {
    let endpoint = |at: &SocketAddr| format!("{{socket_address: {{address: {}, port: {}}}}}", at.ip(), at.port());
    let endpoints: Vec<String> = endpoints.iter().map(endpoint).collect();
    let mut config = read()?;
    cluster(&mut config)["endpoints"] = serde_yaml::from_str(&format!("[{}]", endpoints.join(", ")))?;
    Ok(serde_yaml::to_string(&config)?)
}

/// With the endpoints of a name that this server knows, on one port.
///
/// # Errors
///
/// When the file cannot be read.
pub fn by_name(name: &str, port: u16, server: &DnsServer) -> Result<String> {
    let mut config = read()?;
    let cluster = cluster(&mut config);
    cluster["type"] = "StrictDNS".into();
    cluster["dns_resolvers"] = serde_yaml::from_str(&format!("[{}]", server.item()))?;
    cluster["endpoints"] = serde_yaml::from_str(&format!("[{{socket_address: {{address: {name}, port: {port}}}}}]"))?;
    Ok(serde_yaml::to_string(&config)?)
}

fn read() -> Result<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/sturdy.yaml");
    let mut config: Value = serde_yaml::from_str(&fs::read_to_string(file)?)?;
    config["admin"]["address"]["socket_address"]["port"] = 0.into();
    config["static_resources"]["listeners"][0]["address"]["socket_address"]["port"] = 0.into();
    Ok(config)
}

fn cluster(config: &mut Value) -> &mut Value {
    &mut config["static_resources"]["clusters"][0]
}
