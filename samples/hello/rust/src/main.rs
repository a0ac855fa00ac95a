//! Calls the greeter at the address in the first argument, once unary and once as a stream.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio_stream::StreamExt;
use tonic::transport::Endpoint;

use hello::Name;
use hello::greeter_client::GreeterClient;

#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
mod hello {
    tonic::include_proto!("weir.hello.v1");
}

const NAMES: [&str; 3] = ["Graydon", "Niko", "Carl"];

/// For a call; an unanswered one must not hang the script.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1).context("usage: weir-sample-hello HOST:PORT")?;
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.timeout(PATIENCE);
    let mut greeter = GreeterClient::new(endpoint.connect().await?);

    let text = greeter.greet(name("Rust")).await?.into_inner().text;
    println!("rust: {text}");
    ensure!(text == "Hello, Rust!");

    let greetings = greeter.greet_each(tokio_stream::iter(NAMES.map(name))).await?.into_inner();
    let greetings = greetings.map(|greeting| greeting.map(|greeting| greeting.text));
    let texts: Vec<String> = tokio::time::timeout(PATIENCE, greetings.collect::<Result<_, _>>()).await??;
    println!("rust: {}", texts.join(" "));
    ensure!(texts == NAMES.map(|name| format!("Hello, {name}!")));
    Ok(())
}

fn name(name: &str) -> Name {
    Name { name: name.to_owned() }
}
