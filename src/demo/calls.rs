//! One call of each kind, with every answer compared to what it must be.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use weir_filter::Code;

use super::proto::echo_client::EchoClient;
use super::proto::{EchoRequest, EchoResponse};

/// How long one call may take. A loopback call takes a millisecond: this bounds a hang.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many messages a stream of the demo carries.
const STREAM_LENGTH: u32 = 5;

/// What one call came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which of gRPC's four kinds of call it was.
    pub kind: &'static str,
    /// The status that the client saw.
    pub status: Code,
    /// Messages that the client sent.
    pub sent: usize,
    /// Messages that the client received.
    pub received: usize,
    /// From the start of the call to its status.
    pub elapsed: Duration,
    /// What was not as it must be; `None` when all was.
    pub fault: Option<String>,
}

impl Report {
    /// True when status, number and content of the messages are as they must be.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.fault.is_none()
    }
}

/// What the client had seen of a call when it ended.
#[derive(Debug, Default)]
struct Seen {
    sent: usize,
    received: Vec<EchoResponse>,
}

/// Makes one call of each kind to the server at `address`, one after the other, and reports on each.
///
/// A server that cannot be reached is a fault of every call, not an error of this function: its error is an address
/// that makes no URI.
///
/// # Errors
///
/// When no client can be built for `address`.
pub async fn four_kinds(address: SocketAddr) -> Result<Vec<Report>, tonic::transport::Error> {
    let client = connect(address)?;
    Ok(vec![
        report("unary", &[answer("hello", 1)], async |seen| unary(client.clone(), seen).await).await,
        report("server stream", &numbered(|_| "tick".to_owned()), async |seen| {
            server_stream(client.clone(), seen).await
        })
        .await,
        report("client stream", &[answer("1 2 3 4 5", STREAM_LENGTH)], async |seen| {
            client_stream(client.clone(), seen).await
        })
        .await,
        report("bidi stream", &numbered(|number| format!("ping {number}")), async |seen| {
            bidi_stream(client.clone(), seen).await
        })
        .await,
    ])
}

/// The connection is made with the first call, so that a failure to connect is that call's status.
fn connect(address: SocketAddr) -> Result<EchoClient<Channel>, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.connect_timeout(PATIENCE);
    Ok(EchoClient::new(endpoint.connect_lazy()))
}

async fn unary(mut client: EchoClient<Channel>, seen: &mut Seen) -> Result<(), Status> {
    seen.sent += 1;
    seen.received.push(client.unary(question("hello", 0)).await?.into_inner());
    Ok(())
}

async fn server_stream(mut client: EchoClient<Channel>, seen: &mut Seen) -> Result<(), Status> {
    seen.sent += 1;
    let mut answers = client.server_stream(question("tick", STREAM_LENGTH)).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        seen.received.push(answer);
    }
    Ok(())
}

async fn client_stream(mut client: EchoClient<Channel>, seen: &mut Seen) -> Result<(), Status> {
    let questions: Vec<_> = (1..=STREAM_LENGTH).map(|number| question(&number.to_string(), 0)).collect();
    seen.sent += questions.len();
    seen.received.push(client.client_stream(tokio_stream::iter(questions)).await?.into_inner());
    Ok(())
}

/// Asks the next question only when the last is answered: a gateway that holds messages back would hang here.
async fn bidi_stream(mut client: EchoClient<Channel>, seen: &mut Seen) -> Result<(), Status> {
    let (questions, stream) = mpsc::channel(1);
    let mut answers = client.bidi_stream(ReceiverStream::new(stream)).await?.into_inner();
    for number in 1..=STREAM_LENGTH {
        if questions.send(question(&format!("ping {number}"), 0)).await.is_err() {
            break; // The call is over; what is read next says how it ended.
        }
        seen.sent += 1;
        let Some(answer) = answers.message().await? else { return Ok(()) };
        seen.received.push(answer);
    }
    drop(questions);
    while let Some(answer) = answers.message().await? {
        seen.received.push(answer);
    }
    Ok(())
}

async fn report(
    kind: &'static str,
    expected: &[EchoResponse],
    call: impl AsyncFnOnce(&mut Seen) -> Result<(), Status>,
) -> Report {
    let mut seen = Seen::default();
    let start = Instant::now();
    let ended = tokio::time::timeout(PATIENCE, call(&mut seen)).await;
    let elapsed = start.elapsed();
    let (status, message) = match ended {
        Ok(Ok(())) => (Code::Ok, String::new()),
        Ok(Err(status)) => (code(&status), status.message().to_owned()),
        Err(_) => (Code::DeadlineExceeded, format!("no end within {PATIENCE:?}")),
    };
    let fault = fault(status, &message, &seen.received, expected);
    Report { kind, status, sent: seen.sent, received: seen.received.len(), elapsed, fault }
}

fn fault(status: Code, message: &str, received: &[EchoResponse], expected: &[EchoResponse]) -> Option<String> {
    if status != Code::Ok {
        return Some(format!("ended with {status}: {message}"));
    }
    if received.len() != expected.len() {
        return Some(format!("{} messages came where {} should", received.len(), expected.len()));
    }
    let (number, (received, expected)) = received.iter().zip(expected).enumerate().find(|(_, (r, e))| r != e)?;
    Some(format!("message {}: {received:?} came where {expected:?} should", number + 1))
}

fn code(status: &Status) -> Code {
    // tonic knows the same seventeen codes; it reads any other number as UNKNOWN.
    u8::try_from(status.code() as i32).ok().and_then(Code::from_number).unwrap_or(Code::Unknown)
}

fn question(text: &str, count: u32) -> EchoRequest {
    EchoRequest { text: text.to_owned(), count }
}

fn answer(text: &str, number: u32) -> EchoResponse {
    EchoResponse { text: text.to_owned(), number }
}

fn numbered(text: impl Fn(u32) -> String) -> Vec<EchoResponse> {
    (1..=STREAM_LENGTH).map(|number| EchoResponse { text: text(number), number }).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::demo::backend::Backend;

    #[tokio::test]
    async fn the_backend_answers_the_four_kinds_as_expected() {
        let backend = Backend::start(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port")).expect("a backend");
        let reports = four_kinds(backend.address()).await.expect("a client");
        let faults: Vec<_> = reports.iter().filter_map(|report| report.fault.clone()).collect();
        assert!(faults.is_empty(), "{faults:#?}");
        let counts: Vec<_> = reports.iter().map(|report| (report.kind, report.sent, report.received)).collect();
        assert_eq!(counts, [("unary", 1, 1), ("server stream", 1, 5), ("client stream", 5, 1), ("bidi stream", 5, 5)]);
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_the_status_of_every_call() {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = socket.local_addr().expect("an address");
        drop(socket);
        let reports = four_kinds(address).await.expect("a client");
        assert_eq!(reports.len(), 4);
        assert!(reports.iter().all(|report| report.status == Code::Unavailable && !report.is_right()), "{reports:#?}");
    }

    #[test]
    fn a_wrong_status_count_or_content_is_a_fault() {
        let expected = numbered(|_| "tick".to_owned());
        assert_eq!(fault(Code::Ok, "", &expected, &expected), None);
        assert_eq!(fault(Code::Internal, "no", &expected, &expected).as_deref(), Some("ended with INTERNAL: no"));
        let short = fault(Code::Ok, "", &expected[1..], &expected);
        assert_eq!(short.as_deref(), Some("4 messages came where 5 should"));
        let mut wrong = expected.clone();
        wrong.swap(1, 2);
        assert!(fault(Code::Ok, "", &wrong, &expected).is_some_and(|text| text.starts_with("message 2: ")));
    }
}
