//! What a filter sees of a call.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::{Extensions, HeaderMap, Uri};

use crate::status::Code;

/// One RPC, as the filters of its route see it.
#[derive(Debug)]
pub struct Call {
    /// `:path` and `:authority` as the client sent them. The path is `/service/method`.
    pub uri: Uri,
    /// The request's metadata, with the HTTP/2 headers that gRPC gives a meaning (`content-type`, `te`, `grpc-timeout`,
    /// `user-agent`). What a filter changes here reaches the backend.
    pub metadata: HeaderMap,
    /// Where the client's connection came from.
    pub peer: Peer,
    /// State of a filter that belongs to this call. It allocates when first used; what has to change after `request`
    /// needs a cell of its own.
    pub extensions: Extensions,
}

impl Call {
    /// The full method name, `/service/method`.
    #[must_use]
    pub fn method(&self) -> &str {
        self.uri.path()
    }
}

/// Where a client's connection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// From this address, by the word of the kernel or of a load balancer that the listener believes.
    Ip(SocketAddr),
    /// By a Unix socket, from a process of this machine.
    Unix {
        /// The user that it runs as.
        user: u32,
        /// Its process id; `None` where the kernel does not tell.
        process: Option<i32>,
    },
}

impl Peer {
    /// The IP address; `None` for a Unix socket.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Peer::Ip(address) => Some(address.ip()),
            Peer::Unix { .. } => None,
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Peer {
        Peer::Ip(address)
    }
}

/// `127.0.0.1:49528`, or `unix:uid=1000,pid=77`.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Ip(address) => address.fmt(f),
            Peer::Unix { user, process: Some(process) } => write!(f, "unix:uid={user},pid={process}"),
            Peer::Unix { user, process: None } => write!(f, "unix:uid={user}"),
        }
    }
}

/// The head of a response: what the backend sent before its first message, or instead of any (trailers-only).
#[derive(Debug)]
pub struct ResponseHead<'a> {
    /// The HTTP status, 200 for every gRPC answer.
    pub http_status: u16,
    /// The response's metadata. In a trailers-only response this is also where `grpc-status` stands.
    pub metadata: &'a mut HeaderMap,
    /// True when the response has no messages and no trailers of its own.
    pub trailers_only: bool,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The backend ended it, with a status in its trailers or a reset.
    Backend,
    /// The gateway answered in the backend's place.
    Gateway,
    /// The client reset the stream.
    ClientCancel,
    /// The client's connection went away.
    ClientGone,
    /// The deadline passed.
    Deadline,
    /// The drain's time was over, or its route has its streams end with a drain.
    Drain,
    /// The endpoint left its cluster, and the time that its streams have then was over.
    EndpointRemoved,
    /// The client's connection was older than `max_connection_age` and its grace.
    ConnectionAge,
    /// The stream was older than its route's `max_stream_age`.
    StreamAge,
    /// The stream made room for an endpoint that joined.
    Rebalance,
}

impl Ending {
    /// The word for the access log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Ending::Backend => "backend",
            Ending::Gateway => "gateway",
            Ending::ClientCancel => "client_cancel",
            Ending::ClientGone => "client_gone",
            Ending::Deadline => "deadline",
            Ending::Drain => "drain",
            Ending::EndpointRemoved => "endpoint_removed",
            Ending::ConnectionAge => "max_connection_age",
            Ending::StreamAge => "max_stream_age",
            Ending::Rebalance => "rebalance",
        }
    }
}

/// What a call came to, for [`Filter::finish`](crate::Filter::finish).
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The status that the client saw.
    pub status: Code,
    /// Who ended the call.
    pub ending: Ending,
}
