//! Another configuration for a gateway that serves: no call fails, what stays is not touched, and a wrong file changes nothing.

use std::fmt::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use weir_integration::admin;
use weir_integration::gateway::Gateway;
use weir_integration::load::backend::{Backend, Options};
use weir_integration::load::client::{Call, Client, UNAVAILABLE, expect_failure};
use weir_integration::load::config::Config;
use weir_integration::load::grpcio;
use weir_integration::load::runner::Load;
use weir_integration::process::PATIENCE;

/// A configuration of which each part can be another.
#[derive(Clone, Debug, Default)]
struct File {
    root: String,
    listeners: Vec<(&'static str, SocketAddr, &'static str)>,
    /// What the routes say beside their cluster.
    action: &'static str,
    filter: &'static str,
    clusters: Vec<(&'static str, Vec<SocketAddr>, &'static str)>,
}

const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

impl File {
    /// The listener `grpc` and the cluster `backend`.
    fn new(backend: SocketAddr) -> File {
        File {
            listeners: vec![("grpc", ANYWHERE, "backend")],
            clusters: vec![("backend", vec![backend], "lb_policy: RoundRobin")],
            ..File::default()
        }
    }

    fn yaml(&self) -> String {
        let mut yaml = format!(
            "admin: {{address: {{socket_address: {{address: 127.0.0.1, port: 0}}}}}}\n{}\nstatic_resources:\n  listeners:\n",
            self.root
        );
        for (name, address, cluster) in &self.listeners {
            let (ip, port, action, filter) = (address.ip(), address.port(), self.action, self.filter);
            let _ = writeln!(
                yaml,
                "    - name: {name}
      protocol_type: GRPC
      address: {{socket_address: {{address: {ip}, port: {port}}}}}
      filter_chains:
        filters:
          - name: dgp.filter.network.grpcconnectionmanager
            config:
              route_config: {{routes: [{{match: {{prefix: \"/\"}}, route: {{cluster: {cluster}, {action}}}}}]}}
              grpc_filters: [{filter}{{name: dgp.filter.grpc.proxy}}]"
            );
        }
        yaml.push_str("  clusters:\n");
        for (name, endpoints, keys) in &self.clusters {
            let endpoint =
                |at: &SocketAddr| format!("{{socket_address: {{address: {}, port: {}}}}}", at.ip(), at.port());
            let endpoints: Vec<String> = endpoints.iter().map(endpoint).collect();
            let _ = writeln!(yaml, "    - {{name: {name}, {keys}, endpoints: [{}]}}", endpoints.join(", "));
        }
        yaml
    }

    fn start(&self, workers: usize) -> Result<Gateway> {
        Gateway::start_with(&self.yaml(), &["--workers", &workers.to_string()])
    }
}

/// A stream whose first message has come back.
async fn open_stream(client: &Client) -> Result<Call> {
    let mut call = client.start("Echo", &[]).await?;
    echo(&mut call, b"open").await?;
    Ok(call)
}

async fn echo(call: &mut Call, message: &[u8]) -> Result<()> {
    call.send(message).await?;
    ensure!(call.message().await?.as_deref() == Some(message));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_call_fails_in_fifty_reloads_with_one_worker() -> Result<()> {
    no_call_fails_in_fifty_reloads(1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_call_fails_in_fifty_reloads_with_two_workers() -> Result<()> {
    no_call_fails_in_fifty_reloads(2).await
}

/// 500 calls are in flight and 100 streams are open all the while; each reload changes something else.
async fn no_call_fails_in_fifty_reloads(workers: usize) -> Result<()> {
    let backends = [Backend::start(Options::default())?, Backend::start(Options::default())?];
    let [a, b] = [backends[0].address, backends[1].address];
    let file = File::new(a);
    let filter = "{name: weir.filter.grpc.headers, config: {request: {set: {x-by: weir}}}}, ";
    let backend = |endpoints: &[SocketAddr], keys| vec![("backend", endpoints.to_vec(), keys)];
    let files = [
        File { action: "timeout: 1h", filter, ..file.clone() },
        File { clusters: backend(&[a, b], "lb_policy: LeastRequest"), ..file.clone() },
        // Another endpoint altogether.
        File { clusters: backend(&[b], "lb_policy: RoundRobin"), ..file.clone() },
        // Connections are made anew.
        File { clusters: backend(&[a, b], "lb_policy: RoundRobin, http2: {stream_window: 128KiB}"), ..file.clone() },
        // Another cluster altogether, and another listener.
        File {
            listeners: vec![("grpc", ANYWHERE, "other"), ("more", ANYWHERE, "other")],
            clusters: vec![("other", vec![b], "lb_policy: RoundRobin")],
            ..file.clone()
        },
        file.clone(),
    ];
    let gateway = file.start(workers)?;
    let address = gateway.listener("grpc")?;
    let python = grpcio::start("keep", address, &["50"])?;
    let mut clients = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..5 {
        let client = Client::connect(address).await?;
        for _ in 0..10 {
            streams.push(open_stream(&client).await?);
        }
        clients.push(client);
    }
    let load = Load { connections: 10, in_flight: 50, delay: Duration::from_millis(20) }.start(address).await?;
    load.more(500).await?;
    for at in 0..50 {
        gateway.reload_with(&files[at % files.len()].yaml())?;
        load.more(20).await?;
    }
    load.more(500).await?;
    let report = load.stop().await?;
    report.none_failed()?;
    for stream in &mut streams {
        echo(stream, b"still here").await?;
    }
    for stream in streams {
        ensure!(stream.finish().await? == 0);
    }
    ensure!(clients.iter().all(|client| client.goaways().is_empty()), "a connection was told to go");
    python.signal("USR1")?;
    let mut python = python;
    ensure!(python.wait()?.success(), "{}", python.lines().join("\n"));
    ensure!(gateway.metric("weir_config_version")? == 51.0);
    ensure!(gateway.metric("weir_config_reloads_total{result=\"success\"}")? == 50.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn routes_and_filters_change_on_connections_that_are_open() -> Result<()> {
    let backends = [Backend::start(Options::default())?, Backend::start(Options::default())?];
    let mut file = File::new(backends[0].address);
    file.clusters.push(("other", vec![backends[1].address], "lb_policy: RoundRobin"));
    let gateway = file.start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    let mut stream = open_stream(&client).await?;
    file.listeners[0].2 = "other";
    let told = gateway.reload_with(&file.yaml())?;
    ensure!(told.contains("route `/` of listener `grpc` changed\n    route.cluster: backend -> other"), "{told}");
    ensure!(client.unary("Echo", &[], b"new").await? == b"new"[..]);
    ensure!((backends[0].counts().calls, backends[1].counts().calls) == (1, 1));
    echo(&mut stream, b"still where it was").await?;
    ensure!(stream.finish().await? == 0);
    for (cluster, calls) in [("backend", 1.0), ("other", 1.0)] {
        let series = format!("weir_calls_total{{listener=\"grpc\",cluster=\"{cluster}\",status=\"OK\"}}");
        gateway.wait_metric(&series, |count| count == calls).await?;
    }
    ensure!(client.goaways().is_empty());
    Ok(())
}

/// A cluster with other keys keeps its connections; the endpoint that goes loses its own after the last stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn endpoints_that_stay_keep_their_connections() -> Result<()> {
    let backends = [Backend::start(Options::default())?, Backend::start(Options::default())?];
    let [a, b] = [backends[0].address, backends[1].address];
    let mut file = File::new(a);
    let gateway = file.start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    let mut stream = open_stream(&client).await?;
    for (endpoints, keys) in [
        (vec![a], "lb_policy: LeastRequest"),
        (vec![a, b], "lb_policy: RoundRobin"),
        (vec![b, a], "lb_policy: RoundRobin, connect_timeout: 7s, circuit_breakers: {max_calls: 10000}"),
        (vec![a], "lb_policy: Rand, outlier_detection: {}, health_checks: [{protocol: tcp, interval: 1h}]"),
    ] {
        file.clusters[0] = ("backend", endpoints, keys);
        gateway.reload_with(&file.yaml())?;
        if keys.contains("outlier_detection") {
            break;
        }
        for _ in 0..4 {
            client.unary("Echo", &[], b"call").await?;
        }
        ensure!(backends[0].counts().connections == 1, "{keys}: {:?}", backends[0].counts());
    }
    echo(&mut stream, b"still here").await?;
    client.unary("Echo", &[], b"call").await?;
    backends[1].wait("the end of its connection", |counts| counts.open_connections == 0).await?;
    ensure!(stream.finish().await? == 0);
    backends[0].wait("the end of the first connection", |counts| counts.open_connections == 1).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_wrong_file_changes_nothing_and_every_error_is_told() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let mut file = File::new(backend.address);
    let gateway = file.start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    let mut stream = open_stream(&client).await?;
    let before = admin::page(gateway.admin()?, "/config")?.1;
    file.listeners[0].2 = "nowhere";
    file.clusters[0].2 = "lb_polcy: RoundRobin";
    gateway.put_config(&file.yaml())?;
    let (status, text) = gateway.reload()?;
    ensure!(status == 422, "{status}: {text}");
    for error in ["unknown key `lb_polcy`", "`nowhere`", ".yaml:15:23"] {
        ensure!(text.contains(error), "no {error} in: {text}");
    }
    gateway.process.signal("HUP")?;
    gateway.wait_metric("weir_config_reloads_total{result=\"failure\"}", |failed| failed == 2.0).await?;
    for error in ["unknown key `lb_polcy` in cluster `backend`", "no cluster is named `nowhere`"] {
        let says =
            |line: &str| (line.contains("ERROR") && line.contains(".yaml:") && line.contains(error)).then_some(());
        gateway.process.wait_line(error, says)?;
    }
    ensure!(gateway.metric("weir_config_last_reload_successful")? == 0.0);
    ensure!(gateway.metric("weir_config_version")? == 1.0);
    ensure!(admin::page(gateway.admin()?, "/config")?.1 == before);
    client.unary("Echo", &[], b"as before").await?;
    echo(&mut stream, b"as before").await?;

    gateway.put_config(&File::new(backend.address).yaml())?;
    gateway.process.signal("HUP")?;
    gateway.wait_metric("weir_config_version", |version| version == 2.0).await?;
    ensure!(gateway.metric("weir_config_last_reload_successful")? == 1.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn listeners_come_and_go_beside_one_that_stays() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let only = File::new(backend.address);
    let mut both = only.clone();
    both.listeners.push(("more", ANYWHERE, "backend"));
    let gateway = only.start(2)?;
    let stays = Client::connect(gateway.listener("grpc")?).await?;
    gateway.reload_with(&both.yaml())?;
    let address = gateway.listener("more")?;
    let goes = Client::connect(address).await?;
    let mut stream = open_stream(&goes).await?;
    let in_flight = goes.clone();
    let gated = tokio::spawn(async move { in_flight.unary("Gated", &[], b"in flight").await });
    backend.wait("a call", |counts| counts.open_calls == 2).await?;

    let told = gateway.reload_with(&only.yaml())?;
    ensure!(told.contains("- listener `more` removed\n    => drains"), "{told}");
    goes.goaway().await?;
    ensure!(TcpStream::connect(address).is_err(), "its socket is still open");
    echo(&mut stream, b"still here").await?;
    ensure!(gateway.metric("weir_downstream_connections{listener=\"more\"}")? == 1.0);
    backend.open_gate();
    ensure!(gated.await?? == b"in flight"[..]);
    ensure!(stream.finish().await? == 0);
    goes.closed().await?;
    let gone = || anyhow::Ok(!admin::page(gateway.admin()?, "/metrics")?.1.contains("listener=\"more\""));
    let end = Instant::now() + PATIENCE;
    while !gone()? {
        ensure!(Instant::now() < end, "metrics of a listener that is gone");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    ensure!(stays.goaways().is_empty());
    stays.unary("Echo", &[], b"here").await?;
    Ok(())
}

/// What does not end by itself ends with the time that a drain would have.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_listener_that_goes_has_the_time_of_a_drain() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let mut file = File::new(backend.address);
    file.listeners.push(("more", ANYWHERE, "backend"));
    file.root = "shutdown_config: {timeout: 300ms}".to_owned();
    let gateway = file.start(1)?;
    let stays = Client::connect(gateway.listener("grpc")?).await?;
    let mut kept = open_stream(&stays).await?;
    let goes = Client::connect(gateway.listener("more")?).await?;
    let mut stuck = open_stream(&goes).await?;
    file.listeners.pop();
    gateway.reload_with(&file.yaml())?;
    expect_failure(stuck.message().await, UNAVAILABLE)?;
    goes.closed().await?;
    echo(&mut kept, b"still here").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_listener_with_another_name_takes_its_socket_along() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let free = TcpListener::bind(ANYWHERE)?.local_addr()?;
    let mut file = File::new(backend.address);
    file.listeners[0].1 = free;
    let gateway = file.start(1)?;
    file.listeners[0].0 = "renamed";
    gateway.reload_with(&file.yaml())?;
    ensure!(gateway.listener("renamed")? == free);
    Client::connect(free).await?.unary("Echo", &[], b"call").await?;
    Ok(())
}

/// Nothing of a configuration holds where some of it cannot.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_cannot_be_had_or_cannot_change_is_refused_whole() -> Result<()> {
    let backends = [Backend::start(Options::default())?, Backend::start(Options::default())?];
    let taken = TcpListener::bind(ANYWHERE)?;
    let file = File::new(backends[0].address);
    let gateway = file.start(1)?;
    let other = vec![("backend", vec![backends[1].address], "lb_policy: RoundRobin")];
    let mut more = File { clusters: other.clone(), ..file.clone() };
    more.listeners.push(("more", taken.local_addr()?, "backend"));
    let root = |root: &str| File { clusters: other.clone(), root: root.to_owned(), ..file.clone() };
    for (file, why) in [
        (more, "listener more cannot listen on 127.0.0.1:"),
        (root("metric: {enable: true, prometheus_port: 2999}"), "`metric.prometheus_port` cannot change"),
        (root("access_log: {path: /dev/stdout}"), "`access_log` cannot change"),
    ] {
        gateway.put_config(&file.yaml())?;
        let (status, text) = gateway.reload()?;
        ensure!(status == 409 && text.contains(why), "{status}: {text}");
        Client::connect(gateway.listener("grpc")?).await?.unary("Echo", &[], b"call").await?;
    }
    ensure!(backends[1].counts().connections == 0);
    Ok(())
}

/// An endpoint that is down stays down, whatever else its cluster says now; and comes back when it is up.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn health_survives() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let down = TcpListener::bind(ANYWHERE)?.local_addr()?;
    let mut file = File::new(backend.address);
    let check = "health_checks: [{protocol: tcp, interval: 20ms, unhealthy_threshold: 2, healthy_threshold: 2}]";
    let keys = |more: &str| -> &'static str { format!("{more}, {check}").leak() };
    file.clusters[0] = ("backend", vec![backend.address, down], keys("lb_policy: RoundRobin"));
    let gateway = file.start(1)?;
    let healthy = format!("weir_endpoint_healthy{{cluster=\"backend\",endpoint=\"{down}\"}}");
    gateway.wait_metric(&healthy, |up| up == 0.0).await?;
    for more in ["lb_policy: LeastRequest", "lb_policy: RoundRobin, http2: {stream_window: 128KiB}"] {
        file.clusters[0].2 = keys(more);
        gateway.reload_with(&file.yaml())?;
        ensure!(gateway.metric(&healthy)? == 0.0, "{more}");
    }
    let _up = Backend::start(Options { port: down.port(), ..Options::default() })?;
    gateway.wait_metric(&healthy, |up| up == 1.0).await?;
    Ok(())
}

/// As log rotation does it: the file is renamed, and SIGHUP makes a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_access_log_is_opened_anew() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let folder = tempfile::tempdir()?;
    let [path, old] = ["access.log", "access.log.1"].map(|name| folder.path().join(name));
    let mut file = File::new(backend.address);
    file.root = format!("access_log: {{path: {}}}", path.display());
    let gateway = file.start(2)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    client.unary("Echo", &[], b"first").await?;
    std::fs::rename(&path, &old)?;
    client.unary("Echo", &[], b"second").await?;
    gateway.process.signal("HUP")?;
    gateway.wait_metric("weir_config_version", |version| version == 2.0).await?;
    client.unary("Echo", &[], b"third").await?;
    let lines = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    let end = Instant::now() + PATIENCE;
    while lines(&old) + lines(&path) < 3 {
        ensure!(Instant::now() < end, "a line is lost");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    ensure!(lines(&path) >= 1, "the new file is empty");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_file_that_is_watched_is_reloaded_when_it_changes() -> Result<()> {
    let backends = [Backend::start(Options::default())?, Backend::start(Options::default())?];
    let gateway = Gateway::start_with(&File::new(backends[0].address).yaml(), &["--workers", "1", "--watch"])?;
    gateway.put_config(&File::new(backends[1].address).yaml())?;
    gateway.wait_metric("weir_config_version", |version| version == 2.0).await?;
    Client::connect(gateway.listener("grpc")?).await?.unary("Echo", &[], b"call").await?;
    ensure!((backends[0].counts().calls, backends[1].counts().calls) == (0, 1));
    Ok(())
}

/// What reloads have made is gone again: streams that stay open hold on to no more than their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn two_hundred_reloads_leave_nothing_behind() -> Result<()> {
    let backends = [Backend::start(Options::default())?, Backend::start(Options::default())?];
    let mut file = File::new(backends[0].address);
    let gateway = file.start(2)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    let mut stream = open_stream(&client).await?;
    let mut resident = Vec::new();
    for at in 0..220 {
        let keys = ["lb_policy: LeastRequest", "lb_policy: RoundRobin, http2: {stream_window: 128KiB}"][at % 2];
        file.clusters[0] = ("backend", vec![backends[at % 2].address], keys);
        // A cluster and a listener with names that never come back.
        file.clusters.truncate(1);
        file.clusters.push((format!("once-{at}").leak(), vec![backends[1].address], "lb_policy: RoundRobin"));
        file.listeners.truncate(1);
        file.listeners.push((format!("once-{at}").leak(), ANYWHERE, "backend"));
        gateway.reload_with(&file.yaml())?;
        client.unary("Echo", &[], b"call").await?;
        if at >= 20 {
            resident.push(gateway.resident_memory()?);
        }
    }
    let (first, last) = (resident[0], resident[resident.len() - 1]);
    ensure!(last < first + (8 << 20), "{first} bytes became {last}");
    let page = admin::page(gateway.admin()?, "/metrics")?.1;
    ensure!(page.matches("weir_upstream_connections{").count() == 2, "{page}");
    for backend in &backends {
        backend.wait("the ends of old connections", |counts| counts.open_connections <= 2).await?;
    }
    echo(&mut stream, b"still here").await?;
    ensure!(stream.finish().await? == 0);
    Ok(())
}

/// A gateway that was told to end is not told anything else.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_hang_up_does_not_disturb_a_drain() -> Result<()> {
    let backend = Backend::start(Options::default())?;
    let mut gateway = Config::new(&[backend.address]).start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    let mut stream = open_stream(&client).await?;
    gateway.process.signal("TERM")?;
    client.goaway().await?;
    gateway.process.signal("HUP")?;
    let (status, text) = gateway.reload()?;
    ensure!(status == 409, "{status}: {text}");
    echo(&mut stream, b"still here").await?;
    ensure!(stream.finish().await? == 0);
    ensure!(gateway.process.wait()?.code() == Some(0));
    Ok(())
}
