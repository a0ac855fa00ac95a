//! The example configurations of `conf/`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use weir::config::plan::{Balance, CallPolicy, Discovery, ForwardingHeaders, HashOn, Probe, Rest, Segment};
use weir::config::{Plan, load_text};
use weir::registry::Registry;

use super::{environment, load};

fn text(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name)).unwrap()
}

fn example(name: &str) -> Plan {
    load(&text(name), name).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn every_example_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    for name in [
        "pixiu.yaml",
        "minimal.yaml",
        "full.yaml",
        "balance.yaml",
        "health.yaml",
        "hedging.yaml",
        "retries.yaml",
        "tls.yaml",
        "tls_listener.yaml",
    ] {
        assert!(names.iter().any(|found| found == name), "{name} is gone");
    }
    for name in names.iter().filter(|name| name.ends_with(".yaml")) {
        example(name);
    }
}

#[test]
fn the_example_of_retries_means_what_it_says() {
    let plan = example("retries.yaml");
    let [get, cart, all] = plan.listeners[0].routes.as_slice() else { panic!("three routes") };
    let policy = get.call_policy.as_ref().and_then(CallPolicy::retry).unwrap();
    assert_eq!((policy.max_attempts, policy.per_attempt_timeout), (4, Some(Duration::from_millis(500))));
    assert_eq!((policy.initial_backoff, policy.hold_headers), (Duration::from_millis(100), Duration::from_secs(1)));
    assert_eq!(policy.retryable.iter().count(), 3);
    assert!(cart.call_policy.is_none() && all.call_policy.is_none());
    let [cart, orders] = plan.clusters.as_slice() else { panic!("two clusters") };
    assert_eq!(cart.call_policy.as_ref().and_then(CallPolicy::retry).unwrap().max_attempts, 2);
    assert_eq!(cart.retry_budget.unwrap().percent, 20);
    let config = orders.service_config.as_ref().unwrap();
    let policy = |path| config.method(path)?.call_policy.as_ref()?.retry().map(|one| one.max_attempts);
    assert_eq!(policy("/shop.Orders/Get"), Some(4));
    assert_eq!(policy("/shop.Catalogue/List"), Some(4));
    assert_eq!(policy("/shop.Orders/Put"), None);
    assert_eq!(config.method("/shop.Orders/Put").unwrap().timeout, Some(Duration::from_secs(30)));
    assert_eq!(orders.throttling().map(|throttling| throttling.max_tokens), Some(10));
    assert_eq!(plan.notices, []);
}

#[test]
fn the_example_of_hedging_means_what_it_says() {
    let plan = example("hedging.yaml");
    let [get, stock, all] = plan.listeners[0].routes.as_slice() else { panic!("three routes") };
    let policy = get.call_policy.as_ref().and_then(CallPolicy::hedging).unwrap();
    assert_eq!((policy.max_attempts, policy.hedging_delay), (3, Duration::from_millis(50)));
    assert_eq!((policy.non_fatal.iter().count(), policy.hold_headers), (1, Duration::from_secs(1)));
    assert!(stock.call_policy.is_none() && all.call_policy.is_none());
    let config = plan.clusters[1].service_config.as_ref().unwrap();
    let policy = |path| config.method(path)?.call_policy.as_ref()?.hedging().map(|one| one.hedging_delay);
    assert_eq!(policy("/shop.Stock/Count"), Some(Duration::from_millis(500)));
    assert_eq!(policy("/shop.Orders/Get"), None);
    assert_eq!(plan.notices, []);
}

#[test]
fn the_pixiu_file_means_what_it_says() {
    let plan = example("pixiu.yaml");
    let listener = &plan.listeners[0];
    assert_eq!((&*listener.name, listener.binding.address.to_string().as_str()), ("grpc", "0.0.0.0:8881"));
    assert_eq!(listener.idle_timeout, Some(Duration::from_secs(5)));
    let route = &listener.routes[0];
    assert_eq!(route.pattern.segments, [Segment::Literal("routeguide.RouteGuide".to_owned())]);
    assert_eq!((route.pattern.rest, route.cluster), (Rest::Any, 0));
    assert!(listener.filters.is_empty());
    let cluster = &plan.clusters[0];
    assert_eq!(
        (&*cluster.name, &cluster.balance, &cluster.discovery),
        ("test-grpc", &Balance::RoundRobin, &Discovery::Static)
    );
    assert_eq!(cluster.endpoints[0].location.to_string(), "127.0.0.1:50051");
    assert_eq!(plan.shutdown.timeout, Duration::from_secs(60));
    assert!(plan.admin.is_none() && plan.metrics.is_none() && plan.access_log.is_none());
}

#[test]
fn the_pixiu_file_gets_a_notice_for_each_key_without_its_effect() {
    let keys: Vec<String> = example("pixiu.yaml")
        .notices
        .iter()
        .map(|notice| format!("{} {}", notice.place, notice.text.split('`').nth(1).unwrap()))
        .collect();
    assert_eq!(
        keys,
        [
            "pixiu.yaml:19:25 cluster_not_found_response_code",
            "pixiu.yaml:23:9 idle_timeout",
            "pixiu.yaml:24:9 read_timeout",
            "pixiu.yaml:25:9 write_timeout",
            "pixiu.yaml:33:13 protocol_type",
            "pixiu.yaml:36:5 step_timeout",
            "pixiu.yaml:37:5 reject_policy",
        ]
    );
}

#[test]
fn the_full_example_means_what_it_says() {
    let plan = example("full.yaml");
    assert_eq!(plan.workers.map(std::num::NonZeroUsize::get), Some(2));
    assert_eq!(plan.admin.map(|admin| admin.to_string()).as_deref(), Some("127.0.0.1:9901"));
    assert_eq!(plan.metrics.map(|metrics| metrics.to_string()).as_deref(), Some("0.0.0.0:2222"));
    let listener = &plan.listeners[0];
    assert_eq!(listener.max_receive_message_size, Some(16 << 20));
    assert_eq!(listener.filters.iter().map(|filter| &*filter.name).collect::<Vec<_>>(), ["weir.filter.grpc.headers"]);
    assert_eq!(
        listener.routes.iter().map(|route| &*route.id).collect::<Vec<_>>(),
        ["orders", "orders-beta", "one-method", "the-rest"]
    );
    let [orders, beta, cart, everything] = plan.clusters.as_slice() else { panic!("{} clusters", plan.clusters.len()) };
    assert_eq!(orders.balance, Balance::Ring(HashOn::Metadata("x-user".parse().unwrap())));
    assert_eq!(orders.health_checks[0].probe, Probe::Grpc { service_name: "shop.Orders".to_owned() });
    assert_eq!(orders.connect_timeout, Duration::from_secs(1), "the cluster's own value beats the proxy's");
    assert_eq!(beta.connect_timeout, Duration::from_secs(2), "the proxy's value where the cluster has none");
    assert_eq!(beta.http2.keepalive_interval, Some(Duration::from_secs(300)));
    assert_eq!(beta.http2.keepalive_timeout, Duration::from_secs(10));
    assert_eq!(beta.http2.max_streams_per_connection, 50);
    assert_eq!(
        beta.endpoints.iter().map(|endpoint| endpoint.location.dns_name().unwrap_or_default()).collect::<Vec<_>>(),
        ["beta-1.orders.internal", "beta-2.orders.internal", "_grpc._tcp.beta.orders.internal"]
    );
    let Discovery::LogicalDns(dns) = &cart.discovery else { panic!("{:?}", cart.discovery) };
    assert!(dns.respect_ttl, "no interval stands there");
    let Discovery::StrictDns(dns) = &beta.discovery else { panic!("{:?}", beta.discovery) };
    assert_eq!((dns.refresh_rate, dns.failure_max), (Duration::from_secs(5), Duration::from_secs(30)));
    assert_eq!(everything.balance, Balance::Maglev(HashOn::Path));
}

/// What the admin listener prints is a configuration that means the same.
#[test]
fn a_plan_as_yaml_reads_back_as_the_same_plan() {
    for name in [
        "pixiu.yaml",
        "minimal.yaml",
        "full.yaml",
        "balance.yaml",
        "health.yaml",
        "retries.yaml",
        "tls.yaml",
        "tls_listener.yaml",
    ] {
        let printed = example(name).to_yaml().unwrap();
        let again = load_text(&printed, "dump.yaml", &Registry::builtin(), &environment)
            .unwrap_or_else(|errors| panic!("{name}: {errors}"));
        assert_eq!(again.to_yaml().unwrap(), printed, "{name}");
    }
}

#[test]
fn secrets_are_not_printed() {
    let text = text("minimal.yaml").replace(
        "grpc_filters: [",
        "grpc_filters: [{name: weir.filter.grpc.headers, config: {request: {set: {\
         authorization: Bearer abc, x-api-key: abc, x-token: abc, x-plain: shown}}}}, ",
    );
    let printed = load(&text, "f.yaml").unwrap_or_else(|errors| panic!("{errors}")).to_yaml().unwrap();
    assert!(!printed.contains("abc"), "{printed}");
    assert!(printed.contains("x-plain: shown"), "{printed}");
    assert_eq!(printed.matches("<hidden>").count(), 3, "{printed}");
}

#[test]
fn the_example_of_an_edge_means_what_it_says() {
    let plan = example("edge.yaml");
    let listener = &plan.listeners[0];
    assert_eq!(plan.memory_limit, Some(900 << 20));
    assert_eq!(listener.admission.max_connections, Some(20_000));
    assert_eq!(listener.admission.max_connections_per_source, Some(1000));
    assert_eq!(listener.forwarding_headers, ForwardingHeaders::Replace);
    assert_eq!(listener.http2.max_header_list_size, 64 << 10);
    assert_eq!(listener.max_connection_age, Some(Duration::from_secs(3600)));
    assert_eq!(listener.idle_timeout, Some(Duration::from_secs(300)));
    let idle: Vec<_> = listener.routes.iter().map(|route| route.timeouts.idle).collect();
    assert_eq!(idle, [Some(Duration::from_secs(300)), Some(Duration::from_secs(3600))]);
    // Each of them can be had back.
    let never = "edge: true, config: {max_connections_per_source: 0, stream_idle_timeout: 0s, \
                 idle_timeout: 0s, max_connection_age: 0s, forwarding_headers: PASS, http2: {max_header_list_size: 1MiB}},";
    let plain = text("minimal.yaml");
    let inside = load(&plain, "inside.yaml").unwrap();
    let inside_out = plain.replacen("protocol_type: GRPC,", &format!("protocol_type: GRPC, {never}"), 1);
    let edge = load(&inside_out, "edge.yaml").unwrap_or_else(|errors| panic!("{errors}"));
    let (mut listener, inside) = (edge.listeners[0].clone(), &inside.listeners[0]);
    assert!(listener.edge);
    listener.edge = false;
    assert_eq!(format!("{listener:?}"), format!("{inside:?}"));
}
