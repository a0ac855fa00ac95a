//! `weir.filter.grpc.headers` as a client and a backend see it.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use weir_integration::gateway::Gateway;

/// A backend that keeps the metadata of each call, and answers with some of its own.
async fn backend() -> Result<(SocketAddr, UnboundedReceiver<HeaderMap>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (seen, calls) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, seen.clone()));
        }
    });
    Ok((address, calls))
}

async fn serve(socket: TcpStream, seen: UnboundedSender<HeaderMap>) -> Result<()> {
    let mut connection = h2::server::handshake(socket).await?;
    while let Some(call) = connection.accept().await {
        let (request, mut respond) = call?;
        let head = Response::builder()
            .header("content-type", "application/grpc")
            .header("x-powered-by", "secret")
            .header("x-set", "old")
            .header("x-add", "1");
        if request.uri().path().ends_with("/TrailersOnly") {
            respond.send_response(head.header("grpc-status", "5").body(())?, true)?;
        } else {
            let mut stream = respond.send_response(head.body(())?, false)?;
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse()?);
            stream.send_trailers(trailers)?;
        }
        seen.send(request.headers().clone())?;
    }
    Ok(())
}

/// The metadata before the first message, of one call through the gateway.
async fn call(gateway: SocketAddr, method: &str) -> Result<HeaderMap> {
    let (client, connection) = h2::client::handshake(TcpStream::connect(gateway).await?).await?;
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await?;
    let request = Request::post(format!("http://gateway/a.B/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-add", "1")
        .header("x-set", "old")
        .header("x-gone", "x")
        .header("x-stays", "s")
        .body(())?;
    let (response, mut stream) = client.send_request(request, false)?;
    stream.send_data(Bytes::new(), true)?;
    let head = response.await?.into_parts().0.headers;
    connection.abort();
    Ok(head)
}

fn config(backend: SocketAddr) -> String {
    format!(
        "static_resources:
  listeners:
    - name: grpc
      protocol_type: GRPC
      address: {{socket_address: {{address: 127.0.0.1, port: 0}}}}
      filter_chains:
        filters:
          - name: dgp.filter.network.grpcconnectionmanager
            config:
              route_config: {{routes: [{{match: {{prefix: /}}, route: {{cluster: backend}}}}]}}
              grpc_filters:
                - name: weir.filter.grpc.headers
                  config:
                    request: {{add: {{x-add: '2'}}, set: {{x-set: new, x-raw-bin: AAEC}}, remove: [x-gone]}}
                    response: {{add: {{x-add: '2'}}, set: {{x-set: new}}, remove: [x-powered-by]}}
                - name: dgp.filter.grpc.proxy
  clusters:
    - name: backend
      lb_policy: RoundRobin
      endpoints: [{{socket_address: {{address: {}, port: {}}}}}]
",
        backend.ip(),
        backend.port()
    )
}

fn values<'m>(metadata: &'m HeaderMap, key: &str) -> Vec<&'m str> {
    metadata.get_all(key).iter().filter_map(|value| value.to_str().ok()).collect()
}

#[tokio::test]
async fn both_ends_see_the_changes_and_nothing_else() -> Result<()> {
    let (address, mut calls) = backend().await?;
    let gateway = Gateway::start(&config(address))?;
    for (method, status) in [("Unary", vec![]), ("TrailersOnly", vec!["5"])] {
        let answered = call(gateway.listener("grpc")?, method).await?;
        let received = calls.recv().await.context("the backend saw no call")?;

        assert_eq!(values(&received, "x-add"), ["1", "2"], "{method}");
        assert_eq!(values(&received, "x-set"), ["new"], "{method}");
        assert_eq!(values(&received, "x-raw-bin"), ["AAEC"], "{method}");
        assert_eq!(values(&received, "x-stays"), ["s"], "{method}");
        // content-type and te, and the four above: x-gone is not among them.
        assert_eq!(received.keys_len(), 6, "{method}: {received:?}");

        assert_eq!(values(&answered, "x-add"), ["1", "2"], "{method}");
        assert_eq!(values(&answered, "x-set"), ["new"], "{method}");
        assert_eq!(values(&answered, "grpc-status"), status, "{method}");
        assert!(!answered.contains_key("x-powered-by"), "{method}");
    }
    Ok(())
}
