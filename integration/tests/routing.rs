//! Which cluster a call goes to.

#![allow(clippy::unwrap_used)]

use std::fmt::Write;

use weir_integration::peers::backend::Backend;
use weir_integration::peers::client::Client;
use weir_integration::peers::setup::Setup;

/// Backends by name, a gateway in front of them, and a client.
struct Routed {
    backends: Vec<(&'static str, Backend)>,
    client: Client,
    _gateway: weir_integration::gateway::Gateway,
}

impl Routed {
    /// Each route is a `match` and the name of the cluster it leads to.
    async fn start(routes: &[(&str, &'static str)]) -> Routed {
        let mut setup = Setup::new();
        let mut backends: Vec<(&'static str, Backend)> = Vec::new();
        for (matches, name) in routes {
            setup = setup.route(matches, name);
            if !backends.iter().any(|(known, _)| known == name) {
                let backend = Backend::start().await.unwrap();
                setup = setup.cluster(name, "lb_policy: RoundRobin", [backend.address]);
                backends.push((name, backend));
            }
        }
        let gateway = setup.start(1).unwrap();
        let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
        Routed { backends, client, _gateway: gateway }
    }

    /// The cluster that answers, or the status and message without one.
    async fn goes(&self, path: &str, metadata: &[(&str, &str)]) -> String {
        let answer = self.client.call(path, metadata).await.unwrap();
        match answer.from() {
            Some(port) => self.backends.iter().find(|(_, one)| one.address.port() == port).unwrap().0.to_owned(),
            None => format!("{} {}", answer.status().unwrap(), answer.message()),
        }
    }

    async fn go(&self, expected: &[(&str, &str)]) {
        for (path, cluster) in expected {
            assert_eq!(self.goes(path, &[]).await, *cluster, "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prefix_is_whole_segments() {
    let routed = Routed::start(&[("prefix: /pkg.Orders", "orders"), ("prefix: pkg.Users/Get", "users")]).await;
    routed
        .go(&[
            ("/pkg.Orders/List", "orders"),
            ("/pkg.OrdersV2/List", "12 no route for /pkg.OrdersV2/List"),
            ("/pkg.Users/Get", "users"),
            ("/pkg.Users/GetAll", "12 no route for /pkg.Users/GetAll"),
            ("/Pkg.Orders/List", "12 no route for /Pkg.Orders/List"),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn path_is_exact_and_its_wildcards_are_segments() {
    let routed = Routed::start(&[
        ("path: /pkg.S/Exact", "exact"),
        ("path: /:service/Named", "named"),
        ("path: '/*/Starred'", "starred"),
        ("path: '/pkg.Rest/**'", "rest"),
    ])
    .await;
    routed
        .go(&[
            ("/pkg.S/Exact", "exact"),
            ("/any.Service/Named", "named"),
            ("/any.Service/Starred", "starred"),
            ("/pkg.Rest/Anything", "rest"),
            ("/pkg.S/Other", "12 no route for /pkg.S/Other"),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn most_specific_wins_in_any_order() {
    let mut routes = [
        ("prefix: /", "all"),
        ("path: '/pkg.S/**'", "rest"),
        ("path: '/pkg.S/*'", "star"),
        ("path: /pkg.S/M", "exact"),
        ("path: '/:any/M'", "method"),
    ];
    let expected = [("/pkg.S/M", "exact"), ("/pkg.S/N", "star"), ("/other.S/M", "method"), ("/other.S/N", "all")];
    Routed::start(&routes).await.go(&expected).await;
    routes.reverse();
    Routed::start(&routes).await.go(&expected).await;
    routes.swap(0, 3);
    Routed::start(&routes).await.go(&expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_header_conditions_must_hold_and_the_stricter_route_wins() {
    let routed = Routed::start(&[
        ("prefix: /pkg.S", "plain"),
        ("prefix: /pkg.S, headers: [{name: x-env, values: [canary, beta]}]", "one"),
        ("prefix: /pkg.S, headers: [{name: x-env, values: [canary]}, {name: X-User, values: [ann]}]", "two"),
        ("path: /pkg.S/M, headers: [{name: x-env, values: [never]}]", "unmet"),
    ])
    .await;
    for (metadata, cluster) in [
        (&[][..], "plain"),
        (&[("x-env", "stable")], "plain"),
        (&[("x-user", "ann")], "plain"),
        (&[("x-env", "canary")], "one"),
        (&[("x-env", "beta"), ("x-user", "ann")], "one"),
        (&[("x-env", "stable"), ("x-env", "canary")], "one"),
        (&[("x-env", "canary"), ("x-user", "ann")], "two"),
        (&[("x-env", "canary"), ("x-user", "bob")], "one"),
    ] {
        // A route whose conditions do not hold is not there: the less specific one takes the call.
        assert_eq!(routed.goes("/pkg.S/M", metadata).await, cluster, "{metadata:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn header_values_are_compared_as_they_stand() {
    let routed = Routed::start(&[
        ("prefix: /pkg.S, headers: [{name: x-env, values: ['can.*'], regex: false}]", "literal"),
        ("prefix: /pkg.S", "plain"),
    ])
    .await;
    for (value, cluster) in [("can.*", "literal"), ("canary", "plain"), ("CAN.*", "plain")] {
        assert_eq!(routed.goes("/pkg.S/M", &[("x-env", value)]).await, cluster, "{value:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_with_post_take_the_call() {
    let routed = Routed::start(&[("prefix: /pkg.S, methods: [GET, POST]", "posted")]).await;
    assert_eq!(routed.goes("/pkg.S/M", &[]).await, "posted");
}

#[tokio::test(flavor = "multi_thread")]
async fn route_id_names_it_in_the_access_log() {
    let backend = Backend::start().await.unwrap();
    let yaml = Setup::to([backend.address]).root("access_log: {path: /dev/stdout}").yaml();
    let yaml = yaml.replace("- {match: {prefix: /}", "- {id: my-route, match: {prefix: /}");
    let gateway = weir_integration::gateway::Gateway::start(&yaml).unwrap();
    let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    client.call("/pkg.S/M", &[]).await.unwrap();
    let line = gateway.process.wait_line("a record", |line| line.starts_with('{').then(|| line.to_owned())).unwrap();
    assert!(line.contains(r#""route":"my-route""#), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_listener_has_routes_of_its_own() {
    let backends = Backend::start_many(2).await.unwrap();
    let mut yaml = String::from("static_resources:\n  listeners:\n");
    for (name, cluster) in [("one", "first"), ("two", "second")] {
        let _ = write!(
            yaml,
            "    - name: {name}
      protocol_type: HTTP2
      address: {{socket_address: {{address: 127.0.0.1, port: 0}}}}
      filter_chains:
        - filters:
            - name: dgp.filter.grpcconnectionmanager
              config:
                route_config: {{routes: [{{match: {{prefix: /pkg.S}}, route: {{cluster: {cluster}}}}}]}}
                grpc_filters: [{{name: dgp.filter.grpc.proxy}}]
"
        );
    }
    yaml += "  clusters:\n";
    for (backend, cluster) in backends.iter().zip(["first", "second"]) {
        let port = backend.address.port();
        let endpoint = format!("{{socket_address: {{address: 127.0.0.1, port: {port}}}}}");
        let _ = writeln!(yaml, "    - {{name: {cluster}, lb_policy: RoundRobin, endpoints: [{endpoint}]}}");
    }
    let gateway = weir_integration::gateway::Gateway::start(&yaml).unwrap();
    for (listener, backend) in ["one", "two"].into_iter().zip(&backends) {
        let client = Client::connect(gateway.listener(listener).unwrap()).await.unwrap();
        assert_eq!(client.call("/pkg.S/M", &[]).await.unwrap().from(), Some(backend.address.port()), "{listener}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_routes_are_all_found() {
    let backends = Backend::start_many(2).await.unwrap();
    let mut setup = Setup::new();
    for service in 0..5_000 {
        setup = setup
            .route(&format!("prefix: /pkg.S{service}"), "even")
            .route(&format!("path: /pkg.S{service}/Odd"), "odd");
    }
    for (name, backend) in ["even", "odd"].into_iter().zip(&backends) {
        setup = setup.cluster(name, "lb_policy: RoundRobin", [backend.address]);
    }
    let gateway = setup.start(1).unwrap();
    let client = Client::connect(gateway.listener("grpc").unwrap()).await.unwrap();
    for service in (0..5_000).step_by(499).chain([4_999]) {
        for (method, backend) in [("Even", &backends[0]), ("Odd", &backends[1])] {
            let path = format!("/pkg.S{service}/{method}");
            assert_eq!(client.call(&path, &[]).await.unwrap().from(), Some(backend.address.port()), "{path}");
        }
    }
    assert_eq!(client.call("/pkg.S5000/Odd", &[]).await.unwrap().status(), Some(12));
}
