//! Rules for HTTP/2 settings.

use std::time::Duration;

use super::Checker;
use super::edge::Defaults;
use crate::config::diagnostic::Diagnostic;
use crate::config::file::cluster::ClusterHttp2;
use crate::config::file::listener::ListenerHttp2;
use crate::config::file::value::Size;
use crate::config::located::At;
use crate::config::place::Place;
use crate::config::plan;
use crate::config::size;

/// The largest window, in bytes (RFC 9113 6.9.1).
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 32 << 20;
const STREAMS_PER_CONNECTION: u32 = 100;

/// Three lost packets in a row cost a client seven seconds; whoever needs longer to say who it is, or to end a header block
/// that a library hands to the kernel in one piece, holds what is ours for nothing, as a scanner does or an attacker
/// (Slowloris).
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// A value that holds, and where it stands; `None` where it is the default.
struct Held {
    value: u32,
    place: Option<Place>,
}

impl Checker<'_, '_> {
    pub(super) fn downstream_http2(&self, http2: Option<&ListenerHttp2>, defaults: &Defaults) -> plan::DownstreamHttp2 {
        let streams = http2.and_then(|http2| http2.max_concurrent_streams.as_ref());
        let stream = http2.and_then(|http2| http2.stream_window.as_ref());
        let stream = self.window(stream, "stream_window", STREAM_WINDOW);
        let connection = http2.and_then(|http2| http2.connection_window.as_ref());
        let connection = self.window(connection, "connection_window", CONNECTION_WINDOW);
        if let (Some(stream), Some(connection)) = (&stream, &connection) {
            self.stream_fits_connection(stream, connection);
        }
        let headers = http2.and_then(|http2| http2.max_header_list_size.as_ref());
        let headers = self.size(headers, "max_header_list_size", 8 << 10..=1 << 30, "");
        let ping = self.duration(http2.and_then(|http2| http2.keepalive_min_time.as_ref()));
        let count = http2.and_then(|http2| http2.max_header_count.as_ref());
        let headers_in = http2.and_then(|http2| http2.header_timeout.as_ref());
        let permit = http2.and_then(|http2| http2.keepalive_permit_without_calls.as_ref()?.value);
        plan::DownstreamHttp2 {
            max_concurrent_streams: self.number(streams, "max_concurrent_streams", 1..=(1 << 31) - 1, 1000),
            stream_window: stream.map_or(STREAM_WINDOW, |held| held.value),
            connection_window: connection.map_or(CONNECTION_WINDOW, |held| held.value),
            max_header_list_size: headers
                .and_then(|size| u32::try_from(size).ok())
                .unwrap_or(defaults.max_header_list_size),
            max_header_count: self.number(count, "max_header_count", 16..=24_000, 2000),
            header_timeout: self.positive(headers_in, "header_timeout").unwrap_or(HEADER_TIMEOUT),
            keepalive_min_time: ping.unwrap_or(Duration::from_secs(300)),
            keepalive_permit_without_calls: permit.unwrap_or(false),
        }
    }

    pub(super) fn upstream_http2(&self, http2: Option<&ClusterHttp2>, index: usize, name: &str) -> plan::UpstreamHttp2 {
        let window = http2.and_then(|http2| http2.stream_window.as_ref());
        let window = self.window(window, "stream_window", STREAM_WINDOW);
        let streams = http2.and_then(|http2| http2.max_streams_per_connection.as_ref());
        let streams = self.streams_per_connection(streams, index, name);
        if let (Some(window), Some(streams)) = (&window, &streams) {
            self.streams_fit_connection(window, streams);
        }
        let interval = http2.and_then(|http2| http2.keepalive_interval.as_ref());
        let timeout = http2.and_then(|http2| http2.keepalive_timeout.as_ref());
        plan::UpstreamHttp2 {
            stream_window: window.map_or(STREAM_WINDOW, |held| held.value),
            max_streams_per_connection: streams.map_or(STREAMS_PER_CONNECTION, |held| held.value),
            keepalive_interval: match interval {
                Some(_) => self.positive(interval, "keepalive_interval"),
                None => self.proxy_keepalive_time(index, name),
            },
            keepalive_timeout: match timeout {
                Some(_) => self.positive(timeout, "keepalive_timeout"),
                None => self.proxy_keepalive_timeout(index, name),
            }
            .unwrap_or(Duration::from_secs(20)),
        }
    }

    /// A flow-control window (RFC 9113 6.9.2); `None` when it is wrong.
    fn window(&self, field: Option<&At<Size>>, key: &str, default: u32) -> Option<Held> {
        let Some(field) = field.filter(|field| field.value.is_some()) else {
            return Some(Held { value: default, place: None });
        };
        let why = ": HTTP/2 begins with the one and ends with the other";
        let window = self.size(Some(field), key, 65_535..=u64::from(LARGEST_WINDOW), why)?;
        Some(Held { value: u32::try_from(window).ok()?, place: Some(field.place) })
    }

    /// How many streams share a connection, in the words of the cluster or of a proxy; `None` when that is wrong.
    fn streams_per_connection(&self, field: Option<&At<u64>>, index: usize, name: &str) -> Option<Held> {
        if let Some(field) = field {
            let streams = self.in_range(field, "max_streams_per_connection", 1..=(1 << 31) - 1)?;
            return Some(Held { value: u32::try_from(streams).ok()?, place: Some(field.place) });
        }
        let default = Held { value: STREAMS_PER_CONNECTION, place: None };
        Some(self.proxy_max_streams(index, name).map_or(default, |(value, at)| Held { value, place: Some(at) }))
    }

    /// A stream could never use a window that is larger than its connection's.
    fn stream_fits_connection(&self, stream: &Held, connection: &Held) {
        if stream.value <= connection.value {
            return;
        }
        let (stream_size, connection_size) = (size::show(stream.value.into()), size::show(connection.value.into()));
        let message =
            format!("`connection_window` is smaller than `stream_window`: {connection_size}, and {stream_size}");
        match (connection.place, stream.place) {
            (Some(connection), Some(stream)) => {
                let label = "a connection's window covers at least one stream's";
                self.error(Diagnostic::new(connection, message).label(label).other(stream, "the stream's"));
            }
            (Some(connection), None) => {
                let label = format!("`stream_window` is {stream_size} by default");
                self.error(Diagnostic::new(connection, message).label(label));
            }
            (None, place) => {
                let label = format!("`connection_window` is {connection_size} by default");
                self.error(Diagnostic::new(place.unwrap_or(Place::FILE), message).label(label));
            }
        }
    }

    /// The connection's window is that of all its streams together, so that a client that does not read stalls its own
    /// calls alone: HTTP/2 must be able to say it.
    fn streams_fit_connection(&self, window: &Held, streams: &Held) {
        let whole = u64::from(window.value) * u64::from(streams.value);
        if whole <= u64::from(LARGEST_WINDOW) {
            return;
        }
        let window_size = size::show(window.value.into());
        let message = format!(
            "{} streams with a window of {window_size} each are more than a connection can hold",
            streams.value
        );
        let fit = LARGEST_WINDOW / window.value;
        let label = match fit {
            0 | 1 => "with this `stream_window`, 1 stream fits in 2GiB less one byte".to_owned(),
            _ => format!("with this `stream_window`, {fit} streams fit in 2GiB less one byte"),
        };
        match (streams.place, window.place) {
            (Some(streams), Some(window)) => {
                self.error(Diagnostic::new(streams, message).label(label).other(window, "the window of each"));
            }
            (Some(streams), None) => {
                let label = format!("with the default `stream_window`, {fit} streams fit in 2GiB less one byte");
                self.error(Diagnostic::new(streams, message).label(label));
            }
            (None, place) => {
                let label = format!("{STREAMS_PER_CONNECTION} streams share a connection by default; {fit} fit");
                self.error(Diagnostic::new(place.unwrap_or(Place::FILE), message).label(label));
            }
        }
    }
}
