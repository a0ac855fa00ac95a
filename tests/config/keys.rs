//! Every key of the schema is honoured: another value means another plan, and a default that is written out means the
//! same plan.

use serde_json::Value as Json;
use serde_yaml::{Mapping, Value};

use super::load;
use super::schema::{Key, keys};

/// Has at least one item in every list, so that every key has a place.
const ADDRESSES: &str = r#"
workers: 3
admin: {address: {socket_address: {port: 9901}}}
metric: {enable: true}
access_log: {path: /dev/stdout}
log: {}
static_resources:
  listeners:
    - name: grpc
      protocol_type: GRPC
      address: {socket_address: {port: 8881}}
      config: {enable_tls: false, tls: {certificates: [{}]}}
      filter_chains:
        filters:
          - name: dgp.filter.network.grpcconnectionmanager
            config:
              route_config:
                routes:
                  - match: {prefix: /a.B, headers: [{name: x-a, values: [b]}]}
                    route:
                      cluster: orders
                      retry_policy: {max_attempts: 2, retryable_status_codes: [ABORTED]}
                      on_drain: {policy: end_at_message_boundary}
              grpc_filters:
                - name: dgp.filter.grpc.proxy
                  config: {}
  clusters:
    - name: orders
      endpoints: [{socket_address: {address: 10.0.0.1, port: 50051}}]
      slow_start_config: {slow_start_window: 30s}
      dns_resolvers: [{socket_address: {address: 10.0.0.53}}]
      health_checks: [{protocol: grpc}]
      outlier_detection: {success_rate_stdev_factor: 1, failure_percentage_threshold: 1}
      retry_policy: {max_attempts: 3, retryable_status_codes: [UNAVAILABLE]}
      retry_throttling: {max_tokens: 10, token_ratio: 0.1}
      rebalance: {}
"#;

/// The same under TLS.
fn secured() -> String {
    let own = "cert_file: tests/tls/server.pem, key_file: tests/tls/server.key";
    let listener = format!("enable_tls: true, tls: {{{own}, certificates: [{{{own}}}]");
    ADDRESSES
        .replace("{protocol: grpc}]\n", "{protocol: tcp}]\n      tls: {ca_file: tests/tls/ca.pem}\n")
        .replace("enable_tls: false, tls: {certificates: [{}]", &listener)
}

/// The same with clients that are asked who they are.
fn asking() -> String {
    let clients = "client_auth: optional, ca_file: tests/tls/ca.pem, forward_client_cert: {}, certificates";
    secured().replace("certificates", clients)
}

/// The same with calls that are hedged.
fn hedged() -> String {
    let hedged = ADDRESSES.replace("retry_policy: {max_attempts", "hedging_policy: {hedging_delay: 9s, max_attempts");
    hedged.replace("retryable_status_codes", "non_fatal_status_codes")
}

/// The same with a cluster that is looked up and hashed. No streams move where they are hashed.
fn names() -> String {
    let cluster =
        "- name: orders\n      type: StrictDNS\n      lb_policy: MaglevHashing\n      hash_on: {metadata: x-user}\n";
    ADDRESSES
        .replace("- name: orders\n", cluster)
        .replace("10.0.0.1", "orders.internal")
        .replace("      rebalance: {}\n", "")
}

/// The same with streams that a drain cuts.
fn cut() -> String {
    ADDRESSES.replace("policy: end_at_message_boundary", "policy: cut")
}

/// What a user gets: the plan as YAML with the notices, or the errors.
fn outcome(config: &Value) -> Result<String, String> {
    let text = serde_yaml::to_string(config).unwrap();
    match load(&text, "f.yaml") {
        Ok(plan) => Ok(format!("{}{:?}", plan.to_yaml().unwrap(), without_places(&plan.notices))),
        Err(errors) => Err(errors.to_string()),
    }
}

/// A notice moves when a key is put in front of it.
fn without_places(notices: &[weir::config::plan::Notice]) -> Vec<&str> {
    notices.iter().map(|notice| notice.text.as_str()).collect()
}

/// Sets the value at a path such as `a.b[].c`, in the first item of each list. `None` where the base has no such list,
/// or another filter at its place.
fn set(config: &mut Value, key: &Key, value: Value) -> Option<()> {
    if let Some(filter) = &key.filter {
        let filters = "static_resources.listeners[].filter_chains.filters[].config.grpc_filters";
        let list = walk(config, filters)?.as_sequence_mut()?;
        let name = list.first()?.get("name")?.as_str()?.to_owned();
        if name != *filter {
            let mut other = Mapping::new();
            other.insert("name".into(), filter.as_str().into());
            other.insert("config".into(), Mapping::new().into());
            list.insert(0, other.into());
        }
    }
    *walk(config, &key.path)? = value;
    Some(())
}

fn walk<'v>(mut at: &'v mut Value, path: &str) -> Option<&'v mut Value> {
    for step in path.split('.') {
        let (name, is_list) = step.strip_suffix("[]").map_or((step, false), |name| (name, true));
        if at.is_null() {
            *at = Mapping::new().into();
        }
        at = at.as_mapping_mut()?.entry(name.into()).or_insert(Value::Null);
        if is_list {
            at = at.as_sequence_mut()?.first_mut()?;
        }
    }
    Some(at)
}

/// A value that no default is.
fn sample(key: &Key) -> Value {
    let text = match key.path.rsplit('.').next().unwrap() {
        "protocol_type" => "HTTP2x",
        "forwarding_headers" => "REMOVE",
        "memory_limit" => "77MiB",
        "lb_policy" => "LeastRequest",
        "type" => "LogicalDns",
        "protocol" => "tcp",
        "policy" => "wait",
        "level" => "trace",
        "address" => "10.1.2.3",
        "dns_resolver" => "GETADDRINFO",
        "srv" => "_grpc._tcp.orders.internal",
        "prefix" | "path" if key.kind == "string" => "/x.Y",
        "metadata" => "x-other",
        "enable" | "respect_dns_ttl" => return Value::Bool(false),
        _ if key.kind == "boolean" => return Value::Bool(true),
        _ if key.kind == "duration" => "7m7s",
        _ if key.kind == "size" => "77KiB",
        "maglev_table_size" => return 7.into(),
        _ if key.kind == "number" => return 77.into(),
        "domains" => return serde_yaml::from_str("[a.internal, b.internal]").unwrap(),
        "methods" => return serde_yaml::from_str("[GET]").unwrap(),
        "values" => return serde_yaml::from_str("[other]").unwrap(),
        "remove" => return serde_yaml::from_str("[x-gone]").unwrap(),
        "add" | "set" => return serde_yaml::from_str("{x-a: b}").unwrap(),
        _ => "other",
    };
    text.into()
}

#[test]
fn every_key_has_an_effect_or_a_notice() {
    let bases: Vec<Value> = [ADDRESSES.to_owned(), names(), secured(), asking(), hedged(), cut()]
        .iter()
        .map(|text| serde_yaml::from_str(text).unwrap())
        .collect();
    for base in &bases {
        assert!(outcome(base).is_ok(), "{:?}", outcome(base));
    }
    let mut without = Vec::new();
    let keys = keys();
    for key in keys.iter().filter(|key| key.is_leaf) {
        let changes = bases.iter().any(|base| {
            let mut config = base.clone();
            set(&mut config, key, sample(key)).unwrap_or_else(|| panic!("the base has no place for {}", key.path));
            if let Some(filter) = &key.filter {
                // A filter that the base does not have is a change of its own.
                let mut plain = base.clone();
                set(&mut plain, key, Value::Null).unwrap();
                assert!(outcome(&plain).is_ok(), "{filter}: {:?}", outcome(&plain));
                return outcome(&config) != outcome(&plain);
            }
            outcome(&config) != outcome(base)
        });
        if !changes {
            without.push(&key.path);
        }
    }
    assert!(without.is_empty(), "keys without any effect: {without:#?}");
}

#[test]
fn the_defaults_of_the_schema_are_those_that_hold() {
    let mut held = 0;
    for base in [ADDRESSES.to_owned(), names(), secured(), asking(), hedged(), cut()] {
        let (is_secured, is_hashed) = (base.contains("tests/tls"), base.contains("hash_on:"));
        let is_asking = base.contains("client_auth");
        let other_time = if base.contains("policy: cut") { ".on_drain.window" } else { ".on_drain.after" };
        let other_policy = if base.contains("hedging_policy") { ".retry_policy." } else { ".hedging_policy." };
        let base: Value = serde_yaml::from_str(&base).unwrap();
        for key in keys() {
            // A default of TLS holds where there is TLS: its mere presence asks for it.
            if key.path.contains(".tls.") && !is_secured {
                continue;
            }
            // `tls` wants to know, and so does `ca_file`.
            if key.path.ends_with("config.enable_tls") || key.path.ends_with(".client_auth") && is_asking {
                continue;
            }
            if key.path.contains("forward_client_cert") && !is_asking {
                continue;
            }
            // A call has one of the two.
            if key.path.contains(other_policy) || key.path.ends_with(other_time) {
                continue;
            }
            if key.path.contains(".rebalance.") && is_hashed {
                continue;
            }
            // What a filter was told is printed as it was given.
            let Some(default) = key.default.as_ref().filter(|_| !key.is_stranger()) else { continue };
            let mut implicit = base.clone();
            let mut explicit = base.clone();
            set(&mut explicit, &key, yaml(default)).unwrap_or_else(|| panic!("the base has no place for {}", key.path));
            // Null is the same as leaving a key out.
            set(&mut implicit, &key, Value::Null).unwrap();
            let (implicit, explicit) = (outcome(&implicit), outcome(&explicit));
            let (implicit, explicit) = (without_notices(&implicit), without_notices(&explicit));
            assert_eq!(implicit, explicit, "{} = {default}", key.path);
            assert!(explicit.is_ok(), "{} = {default}: {explicit:?}", key.path);
            held += 1;
        }
    }
    assert!(held > 50, "only {held} defaults");
}

/// A notice may say that a default was chosen; that is the difference between leaving it out and writing it.
fn without_notices(outcome: &Result<String, String>) -> Result<&str, &String> {
    outcome.as_ref().map(|text| text.rsplit_once("\n[").unwrap().0)
}

fn yaml(json: &Json) -> Value {
    serde_yaml::from_str(&json.to_string()).unwrap()
}
