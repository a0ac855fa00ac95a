//! The backend of the demo: an ordinary gRPC server that knows nothing of a gateway.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::thread::JoinHandle;

use tokio::sync::oneshot;
use tokio_stream::{Stream, StreamExt};
use tonic::service::RoutesBuilder;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::proto::echo_server::{Echo, EchoServer};
use super::proto::{DESCRIPTORS, EchoRequest, EchoResponse};

/// A running backend. Dropping it ends it, whatever it is doing.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    // Dropped first, which is the signal to stop; the thread is joined after that.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Why the backend did not start.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The socket, the runtime or the thread could not be had.
    #[error("starting the demo's backend")]
    Io(#[from] io::Error),
    /// The descriptors that were compiled in are not what the reflection service takes.
    #[error("reading the demo's own descriptors")]
    Descriptors(#[from] tonic_reflection::server::Error),
}

impl Backend {
    /// Serves on this socket, on a thread of its own, so that it shares nothing with the gateway but the machine.
    ///
    /// # Errors
    ///
    /// When the socket or the thread cannot be set up.
    pub fn start(socket: TcpListener) -> Result<Backend, BackendError> {
        let address = socket.local_addr()?;
        socket.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let routes = services()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("demo-backend".to_owned()).spawn(move || {
            if let Err(error) = runtime.block_on(serve(socket, routes, stopped)) {
                tracing::error!(%error, "the demo's backend ended");
            }
        })?;
        Ok(Backend { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic over there was printed by the panic hook, and must not become a second one here.
            let _ = thread.join();
        }
    }
}

/// Echo, health and both versions of reflection: what `grpcurl` and its like expect of a server today.
fn services() -> Result<RoutesBuilder, tonic_reflection::server::Error> {
    let descriptors = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut routes = RoutesBuilder::default();
    routes.add_service(EchoServer::new(EchoService));
    routes.add_service(descriptors().build_v1()?);
    routes.add_service(descriptors().build_v1alpha()?);
    Ok(routes)
}

async fn serve(
    socket: TcpListener,
    mut routes: RoutesBuilder,
    stopped: oneshot::Receiver<()>,
) -> Result<(), Box<dyn std::error::Error>> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<EchoServer<EchoService>>().await;
    routes.add_service(health_service);
    // Without TCP_NODELAY an answer may wait 40 ms for the client's acknowledgement, and the table would show that.
    let connections = TcpIncoming::from(tokio::net::TcpListener::from_std(socket)?).with_nodelay(Some(true));
    tokio::select! {
        ended = Server::builder().add_routes(routes.routes()).serve_with_incoming(connections) => Ok(ended?),
        // By the time that the backend goes, the gateway has drained: nobody is left to be waited for.
        _ = stopped => Ok(()),
    }
}

#[derive(Clone, Copy, Debug)]
struct EchoService;

type Answers = Pin<Box<dyn Stream<Item = Result<EchoResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Echo for EchoService {
    type ServerStreamStream = Answers;
    type BidiStreamStream = Answers;

    async fn unary(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        Ok(Response::new(EchoResponse { text: request.into_inner().text, number: 1 }))
    }

    async fn server_stream(&self, request: Request<EchoRequest>) -> Result<Response<Answers>, Status> {
        let EchoRequest { text, count } = request.into_inner();
        let answers = (1..=count).map(move |number| Ok(EchoResponse { text: text.clone(), number }));
        Ok(Response::new(Box::pin(tokio_stream::iter(answers))))
    }

    async fn client_stream(&self, request: Request<Streaming<EchoRequest>>) -> Result<Response<EchoResponse>, Status> {
        let mut requests = request.into_inner();
        let mut texts = Vec::new();
        let mut number = 0;
        while let Some(EchoRequest { text, .. }) = requests.message().await? {
            texts.push(text);
            number += 1;
        }
        Ok(Response::new(EchoResponse { text: texts.join(" "), number }))
    }

    async fn bidi_stream(&self, request: Request<Streaming<EchoRequest>>) -> Result<Response<Answers>, Status> {
        let mut number = 0;
        let answers = request.into_inner().map(move |message| {
            let text = message?.text;
            number += 1;
            Ok(EchoResponse { text, number })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tonic::transport::{Channel, Endpoint};
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    use super::*;

    async fn started() -> (Backend, Channel) {
        let backend = Backend::start(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port")).expect("a backend");
        let endpoint = Endpoint::from_shared(format!("http://{}", backend.address())).expect("a URI");
        (backend, endpoint.connect().await.expect("a connection"))
    }

    #[tokio::test]
    async fn the_server_and_the_echo_service_are_healthy() {
        let (_backend, channel) = started().await;
        let mut client = HealthClient::new(channel);
        for service in ["", "weir.demo.v1.Echo"] {
            let answer = client.check(HealthCheckRequest { service: service.to_owned() }).await.expect("an answer");
            assert_eq!(answer.into_inner().status(), ServingStatus::Serving, "service `{service}`");
        }
    }

    #[tokio::test]
    async fn both_versions_of_reflection_list_the_services() {
        macro_rules! listed {
            ($version:ident, $channel:expr) => {{
                use tonic_reflection::pb::$version as pb;
                let request = pb::ServerReflectionRequest {
                    message_request: Some(pb::server_reflection_request::MessageRequest::ListServices(String::new())),
                    ..Default::default()
                };
                let mut client = pb::server_reflection_client::ServerReflectionClient::new($channel);
                let answers = client.server_reflection_info(tokio_stream::iter([request])).await.expect("a stream");
                let answer = answers.into_inner().message().await.expect("an answer").expect("an answer");
                match answer.message_response {
                    Some(pb::server_reflection_response::MessageResponse::ListServicesResponse(list)) => {
                        list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
                    }
                    other => panic!("{other:?}"),
                }
            }};
        }
        let (_backend, channel) = started().await;
        for names in [listed!(v1, channel.clone()), listed!(v1alpha, channel)] {
            for service in ["weir.demo.v1.Echo", "grpc.health.v1.Health"] {
                assert!(names.iter().any(|name| name == service), "no {service} in {names:?}");
            }
        }
    }
}
