//! The check that `grpc.health.v1.Health` says SERVING.
//!
//! `Watch` tells a change at once. That a backend is still there is what it cannot tell: a stream on which nothing comes
//! may be one on which nothing can come. So `Check` is asked in every interval all the same; a backend without `Watch` is
//! only asked.

use std::error::Error;
use std::io;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::Status;
use tonic::transport::Channel;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tower::service_fn;
use weir_filter::Code;

use super::target::Target;

/// What a backend said without being asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// SERVING.
    Up,
    /// Anything else.
    Down(String),
    /// The stream on which it would say more has ended.
    Broken,
}

/// The health service of one backend, on a connection of its own.
pub(super) struct Service {
    /// Without a client, and with the reason, where the endpoint's address makes no URI.
    client: Result<HealthClient<Channel>, String>,
    service: String,
    pushed: mpsc::Receiver<Pushed>,
    /// Ends with this.
    _watching: JoinSet<()>,
}

impl Service {
    /// Begins to watch. A watch that breaks is begun again after `retry`.
    pub(super) fn new(target: Target, label: &str, service: &str, retry: Duration) -> Service {
        let client =
            channel(target, label).map(HealthClient::new).map_err(|error| format!("{label} cannot be asked: {error}"));
        let (tell, pushed) = mpsc::channel(1);
        let mut watching = JoinSet::new();
        if let Ok(client) = &client {
            watching.spawn(watch(client.clone(), service.to_owned(), tell, retry));
        }
        Service { client, service: service.to_owned(), pushed, _watching: watching }
    }

    pub(super) async fn ask(&mut self) -> Result<(), String> {
        let request = HealthCheckRequest { service: self.service.clone() };
        let client = self.client.as_mut().map_err(|error| error.clone())?;
        let answer = client.check(request).await.map_err(|status| reason(&status))?;
        match said(answer.get_ref()) {
            Pushed::Down(why) => Err(why),
            _ => Ok(()),
        }
    }

    /// Waits for what the backend says without being asked; for ever where it cannot.
    pub(super) async fn pushed(&mut self) -> Pushed {
        match self.pushed.recv().await {
            Some(pushed) => pushed,
            None => std::future::pending().await,
        }
    }
}

/// A channel that connects when it is used, and again when its connection has ended.
fn channel(target: Target, label: &str) -> Result<Channel, http::Error> {
    let authority = target.authority(label);
    let uri = |scheme| Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build();
    let origin = uri(if target.has_tls() { "https" } else { "http" })?;
    let connect = service_fn(move |_: Uri| {
        let target = target.clone();
        async move { target.connect().await.map(TokioIo::new).map_err(io::Error::other) }
    });
    // TLS is the target's: a channel of `https` would want to speak it too.
    Ok(Channel::builder(uri("http")?).origin(origin).connect_with_connector_lazy(connect))
}

/// Watches until the backend says that it has no `Watch`.
async fn watch(mut client: HealthClient<Channel>, service: String, tell: mpsc::Sender<Pushed>, retry: Duration) {
    loop {
        let request = HealthCheckRequest { service: service.clone() };
        match client.watch(request).await {
            Ok(stream) => {
                let mut stream = stream.into_inner();
                let mut open = false;
                let ended = loop {
                    match stream.message().await {
                        Ok(Some(answer)) => {
                            open = true;
                            // Nobody listens when the check has ended, and this task with it.
                            let _ = tell.send(said(&answer)).await;
                        }
                        Ok(None) => break None,
                        Err(status) => break Some(status),
                    }
                };
                if ended.is_some_and(|status| has_none(&status)) {
                    return;
                }
                if open {
                    let _ = tell.send(Pushed::Broken).await;
                }
            }
            Err(status) if has_none(&status) => return,
            Err(_) => {}
        }
        sleep(retry).await;
    }
}

fn has_none(status: &Status) -> bool {
    status.code() == tonic::Code::Unimplemented
}

fn said(answer: &HealthCheckResponse) -> Pushed {
    match answer.status() {
        ServingStatus::Serving => Pushed::Up,
        other => Pushed::Down(other.as_str_name().to_owned()),
    }
}

/// Why a check failed, in a line: the root of it where there was no answer, else what the backend said.
fn reason(status: &Status) -> String {
    match std::iter::successors(status.source(), |error| (**error).source()).last() {
        Some(root) => root.to_string(),
        None => {
            let code = Code::from_number(status.code() as u8).map_or("status", Code::name);
            format!("{code} {}", status.message()).trim_end().to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[tokio::test]
    async fn an_address_with_a_scope_can_be_asked() {
        let target = Target::plain(SocketAddr::from(([127, 0, 0, 1], 1)).into());
        assert!(channel(target, "[fe80::1%2]:1").is_ok());
        let unix = Target::plain("unix:/run/weir.sock".parse().expect("an address"));
        assert!(channel(unix, "unix:/run/weir.sock").is_ok());
    }

    #[test]
    fn a_reason_is_the_root_of_it_or_what_the_backend_said() {
        let answered = Status::unimplemented("unknown service");
        assert_eq!(reason(&answered), "UNIMPLEMENTED unknown service");
        assert_eq!(reason(&Status::unavailable("")), "UNAVAILABLE");
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let wrapped = std::io::Error::other(std::io::Error::other(refused));
        assert_eq!(reason(&Status::from_error(Box::new(wrapped))), "connection refused");
    }
}
