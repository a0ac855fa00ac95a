//! docs/operations.md and docs/filters.md, held against what the gateway shows and what the sources say.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use weir_integration::gateway::Gateway;
use weir_integration::peers::backend::Backend;
use weir_integration::peers::client::{Client, METHOD};
use weir_integration::peers::page;
use weir_integration::peers::setup::Setup;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document(name: &str) -> Result<String> {
    fs::read_to_string(root().join("docs").join(name)).with_context(|| name.to_owned())
}

/// A gateway that shows all it can show, and has served one call, which had a deadline.
async fn after_a_call() -> Result<Gateway> {
    let backend = Backend::start().await?;
    let keys = "lb_policy: RoundRobin, health_checks: [{protocol: tcp}], outlier_detection: {}, \
                healthy_panic_threshold: 1, circuit_breakers: {max_calls: 100}";
    let endpoints = [
        "{socket_address: {address: 127.0.0.1, port: 1}}",
        "{socket_address: {address: 127.0.0.1, port: 2}, priority: 1}",
    ];
    let file = |name: &str| root().join("tests/tls").join(name).display().to_string();
    let own = format!("cert_file: {}, key_file: {}", file("server.pem"), file("server.key"));
    let elsewhere = format!(
        "lb_policy: Rand, tls: {{insecure_skip_verify: true, {own}}}, slow_start_config: {{slow_start_window: 1s}}"
    );
    let setup = Setup::new()
        .listener(&format!(
            "max_connection_age: 1h, max_connection_age_grace: 1h, enable_tls: true, tls: {{{own}, allow_plaintext: true}}, proxy_protocol: {{from: [192.0.2.1]}}"
        ))
        .route("prefix: /", "echo")
        .cluster("echo", keys, [backend.address])
        .cluster_of("elsewhere", &elsewhere, endpoints.map(str::to_owned))
        .cluster_of("named", "type: StrictDNS", ["{socket_address: {address: localhost, port: 1}}".to_owned()])
        .admin()
        .root("node: {id: edge-1, cluster: edge}")
        .root("memory_limit: 1GiB")
        .root("access_log: {path: /dev/stdout}");
    let gateway = setup.start(1)?;
    let client = Client::connect(gateway.listener("grpc")?).await?;
    ensure!(client.call(METHOD, &[("grpc-timeout", "1M")]).await?.status() == Some(0));
    Ok(gateway)
}

/// The line of that call.
fn record(gateway: &Gateway) -> Result<String> {
    gateway.process.wait_line("a record", |line| line.starts_with('{').then(|| line.to_owned()))
}

/// The code words in a cell of a table.
fn words(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The rows of the table below a heading, cell by cell.
fn rows<'d>(text: &'d str, heading: &str) -> Vec<Vec<&'d str>> {
    let (_, section) = text.split_once(&format!("\n{heading}\n")).unwrap();
    let table = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    table.skip(2).map(|line| line.split('|').skip(1).map(str::trim).collect()).collect()
}

/// The keys of a JSON object of scalars, in their order.
fn keys(object: &str) -> Vec<String> {
    object.split(['{', ',']).filter_map(|pair| Some(pair.strip_prefix('"')?.split_once("\":")?.0.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_documented_with_its_labels() -> Result<()> {
    let gateway = after_a_call().await?;
    record(&gateway)?;
    let page = page::get(gateway.admin()?, "/metrics").await?.body;
    let mut shown: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    for line in page.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            shown.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if let Some((series, labels)) = line.split_once('{') {
            let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| series.strip_suffix(end)).unwrap_or(series);
            let (_, found) = shown.get_mut(name).with_context(|| format!("a family of `{line}`"))?;
            let labels = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
            found.extend(labels.filter(|label| label != "le"));
        }
    }
    let text = document("operations.md")?;
    let documented: BTreeMap<_, _> = rows(&text, "## Metrics")
        .into_iter()
        .map(|row| (words(row[0]).pop_first().unwrap(), (row[1].to_owned(), words(row[2]))))
        .collect();
    ensure!(documented == shown, "documented: {documented:#?}\nshown: {shown:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_the_access_log_is_documented_in_its_order() -> Result<()> {
    let written = keys(&record(&after_a_call().await?)?);
    let text = document("operations.md")?;
    let table: Vec<String> =
        rows(&text, "## Access log").into_iter().map(|row| words(row[0]).pop_first().unwrap()).collect();
    ensure!(table == written, "documented: {table:?}\nwritten: {written:?}");
    let example = text.lines().find_map(|line| line.trim().strip_prefix("{\"time\"")).context("an example")?;
    let example = keys(&format!("{{\"time\"{example}"));
    ensure!(example == written, "the example has {example:?}\nwritten: {written:?}");
    Ok(())
}

/// A page names messages that people search for: each must be one that the source can say.
#[test]
fn every_line_of_the_log_is_documented() -> Result<()> {
    let text = document("operations.md")?;
    let documented: BTreeSet<String> = rows(&text, "## The log").iter().flat_map(|row| words(row[1])).collect();
    let mut missing = Vec::new();
    for line in &documented {
        // What stands in braces in the source stands filled in here.
        let stem = line.split("in 5s").next().unwrap_or(line);
        if !sources("src")?.iter().any(|(_, source)| source.contains(stem)) {
            missing.push(line.clone());
        }
    }
    ensure!(missing.is_empty(), "no source logs {missing:?}");
    for level in ["info", "warn"] {
        for (path, source) in sources("src")? {
            for statement in source.split(&format!("tracing::{level}!(")).skip(1) {
                let said = statement.split('"').nth(1).context("a text")?;
                let known = documented.iter().any(|line| line.split("in 5s").next() == said.split("in {").next());
                ensure!(known, "{}: `{said}` is not in docs/operations.md", path.display());
            }
        }
    }
    Ok(())
}

/// The Rust in the documents is code that compiles, because it stands in a source that does.
#[test]
fn the_code_in_the_documents_exists() -> Result<()> {
    let mut all = sources("samples/custom-filter")?;
    all.extend(sources("filters")?);
    let plain = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let all: Vec<String> = all.iter().map(|(_, source)| plain(source)).collect();
    for block in document("filters.md")?.split("```rust\n").skip(1) {
        let block = block.split("```").next().context("the end of a block")?;
        ensure!(all.iter().any(|source| source.contains(plain(block).trim())), "nowhere in the sources:\n{block}");
    }
    Ok(())
}

/// The Rust files below a folder.
fn sources(folder: &str) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path)?;
                found.push((path, source));
            }
        }
    }
    Ok(found)
}
