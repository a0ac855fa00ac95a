use super::*;
use crate::config::load_text;
use crate::registry::Registry;

const FILE: &str = "
log: {level: info}
static_resources:
  listeners:
    - name: grpc
      protocol_type: GRPC
      address: {socket_address: {address: 127.0.0.1, port: 8881}}
      config: {idle_timeout: 5s}
      filter_chains: {filters: [{name: dgp.filter.network.grpcconnectionmanager, config: {
        route_config: {routes: [{match: {prefix: /a}, route: {cluster: a}}, {match: {prefix: /b}, route: {cluster: b}}]},
        grpc_filters: [{name: dgp.filter.grpc.proxy}]}}]}
  clusters:
    - {name: a, lb_policy: Rand, endpoints: [{socket_address: {address: 127.0.0.1, port: 1}}]}
    - {name: b, lb_policy: Rand, endpoints: [{socket_address: {address: 127.0.0.1, port: 2}}]}
";

fn plan(text: &str) -> Plan {
    load_text(text, "test.yaml", &Registry::builtin(), &|_| None).unwrap_or_else(|errors| panic!("{errors}"))
}

/// What another file changes, where this stands in the place of that.
fn told(replaced: &[(&str, &str)]) -> Vec<Change> {
    let next = replaced.iter().fold(FILE.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "{old}");
        text.replacen(old, new, 1)
    });
    diff(&plan(FILE), &plan(&next))
}

fn lines(changes: &[Change]) -> Vec<String> {
    changes.iter().map(Change::in_a_line).collect()
}

#[test]
fn the_same_is_no_difference() {
    assert_eq!(told(&[]), []);
}

#[test]
fn keys_are_told_with_both_values_and_what_they_cost() {
    let changes = told(&[("idle_timeout: 5s", "idle_timeout: 6s"), ("level: info", "level: warn")]);
    assert_eq!(
        lines(&changes),
        ["`log` changed: log.level: info -> warn", "listener `grpc` changed: config.idle_timeout: 5s -> 6s"]
    );
    assert!(changes.iter().all(|change| !change.drains && !change.is_fixed));
}

#[test]
fn an_address_and_a_name_drain() {
    for (old, new) in [("port: 8881", "port: 8882"), ("- name: grpc", "- name: other")] {
        let changes = told(&[(old, new)]);
        assert_eq!(changes.iter().filter(|change| change.drains).count(), 1, "{changes:?}");
    }
}

#[test]
fn routes_are_told_one_by_one() {
    let changes = told(&[("route: {cluster: b}", "route: {cluster: a}"), ("prefix: /a", "prefix: /c")]);
    let routes = "of listener `grpc`";
    assert_eq!(
        lines(&changes),
        [
            format!("route `/c` {routes} added"),
            format!("route `/b` {routes} changed: route.cluster: b -> a"),
            format!("route `/a` {routes} removed"),
        ]
    );
}

#[test]
fn clusters_say_whether_their_connections_stay() {
    let changes = told(&[("port: 1}}]", "port: 1}}, {socket_address: {address: 127.0.0.1, port: 9}}]")]);
    assert_eq!((changes.len(), changes[0].reconnects), (1, false));
    assert!(changes[0].keys[0].starts_with("endpoints: +{"), "{changes:?}");
    let changes = told(&[("name: a,", "name: a, http2: {stream_window: 128KiB},")]);
    assert_eq!((changes.len(), changes[0].reconnects), (1, true));
    assert_eq!(changes[0].keys, ["http2.stream_window: 256KiB -> 128KiB"]);
}

#[test]
fn what_takes_a_restart_is_told() {
    for (with, is_fixed) in [
        ("workers: 3", true),
        ("admin: {address: {socket_address: {address: 127.0.0.1, port: 9}}}", true),
        ("metric: {enable: true}", true),
        ("access_log: {path: /dev/stdout}", true),
        ("node: {id: a}", false),
        ("shutdown_config: {timeout: 1s}", false),
    ] {
        let changes = told(&[("log: {level: info}", &format!("log: {{level: info}}\n{with}"))]);
        assert_eq!(changes.iter().map(|change| change.is_fixed).collect::<Vec<_>>(), [is_fixed], "{with}");
    }
    let one = plan(&format!("access_log: {{path: /dev/stdout}}\n{FILE}"));
    let other = plan(&format!("access_log: {{path: /dev/stderr}}\n{FILE}"));
    assert!(!diff(&one, &other)[0].is_fixed, "another path is no restart");
}
