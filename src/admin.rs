//! The admin listener: metrics, health and what runs. It lives on the control runtime, so that a scrape never delays a
//! call.

mod clusters;
mod config;
mod drain;
mod metrics;

use std::convert::Infallible;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::config::plan::Plan;
use crate::drain::{Left, Stage, Stages};
use crate::gateway::ReloadError;
use crate::listener::Admission;
use crate::memory::Memory;
use crate::metrics::Places;
use crate::socket::ListeningSocket;
use crate::worker::{Command, Handle};
pub(crate) use config::ConfigStatus;
pub use config::{ReloadRequest, ReloadRequests};

/// What the admin listener and the drain look at, as it is from one reload to the next.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) plan: Arc<Plan>,
    pub(crate) clusters: Vec<Arc<Cluster>>,
    pub(crate) workers: Arc<Vec<Handle>>,
    pub(crate) drain: Arc<Stages>,
    /// One for each listener.
    pub(crate) admissions: Vec<Arc<Admission>>,
    pub(crate) memory: Option<Arc<Memory>>,
    pub(crate) places: Arc<Places>,
    pub(crate) config: Arc<ConfigStatus>,
}

impl State {
    /// What a drain has left to wait for.
    pub(crate) fn left(&self) -> Left {
        Left::of(&self.workers)
    }

    /// Tells every worker.
    pub(crate) fn tell_workers(&self, command: impl Fn() -> Command) {
        self.workers.iter().for_each(|worker| worker.tell(command()));
    }
}

/// Which pages a socket serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pages {
    All,
    Metrics,
}

/// Serves for as long as this is polled; its connections end with it.
pub(crate) async fn serve(listener: Arc<ListeningSocket>, pages: Pages, state: Arc<ArcSwap<State>>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let state = state.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let state = state.load_full();
                async move { Ok::<_, Infallible>(answer(&request, pages, &state).await) }
            });
            if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await {
                tracing::debug!(%error, "an admin connection ended");
            }
        });
    }
}

async fn answer(request: &Request<Incoming>, pages: Pages, state: &State) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if path == "/reload" && pages == Pages::All {
        return reload(request, state).await;
    }
    let known =
        path == "/metrics" || pages == Pages::All && matches!(path, "/" | "/ready" | "/live" | "/clusters" | "/config");
    if pages == Pages::All && drain::is_asked_by(path) {
        return drain::answer(request.method(), path, state);
    }
    if !known {
        return page(StatusCode::NOT_FOUND, TEXT, "not found\n".into());
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refusal = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET only\n".into());
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match path {
        "/metrics" => match metrics::text(state) {
            Ok(text) => page(StatusCode::OK, prometheus::TEXT_FORMAT, text),
            Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        },
        "/ready" if state.drain.is_draining() => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n".into()),
        "/ready" if !state.workers.iter().any(Handle::is_alive) => {
            page(StatusCode::SERVICE_UNAVAILABLE, TEXT, "no worker is left\n".into())
        }
        "/ready" => page(StatusCode::OK, TEXT, "ready\n".into()),
        "/live" => page(StatusCode::OK, TEXT, "live\n".into()),
        "/clusters" => page(StatusCode::OK, "application/json", clusters::text(state)),
        "/config" => match state.plan.to_yaml() {
            Ok(text) => page(StatusCode::OK, "application/yaml", text),
            Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        },
        _ => page(StatusCode::OK, TEXT, INDEX.into()),
    }
}

/// Only a POST does something, and says what.
async fn reload(request: &Request<Incoming>, state: &State) -> Response<Full<Bytes>> {
    if request.method() != Method::POST {
        let mut refusal = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "POST only\n".into());
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return refusal;
    }
    if state.drain.get() == Stage::Leaving {
        return page(StatusCode::CONFLICT, TEXT, format!("{}\n", ReloadError::Draining));
    }
    let (status, text) = state.config.reload().await;
    page(status, TEXT, text)
}

/// What `/` says. Each line begins with a path, for whoever reads it with a program.
const INDEX: &str = "\
/metrics   Prometheus
/ready     503 while draining
/live      200 while the process answers
/clusters  endpoints and their health, JSON
/config    what runs, YAML
/drain     POST: asks clients to leave, and stays
/undrain   POST: takes that back
/reload    POST reads the file again
";

const TEXT: &str = "text/plain; charset=utf-8";

fn page(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
