//! What is known of a call, told exactly once when it ends, whatever happened.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Uri};
use tokio::time::Instant;
use weir_filter::{Call, Code, Ending, Outcome};

use super::Client;
use crate::access_log::Entry;
use crate::local::{Local, RouteTarget, Served};
use crate::status;
use crate::tls::Session;

/// A call from its first header to its end.
///
/// Dropping it counts the call, writes its line in the access log and runs the filters' `finish`. A record that is
/// dropped before [`Record::end`] belongs to a call whose task was torn down: that is INTERNAL, and it is counted too.
pub(crate) struct Record {
    local: Rc<Local>,
    pub(crate) listener: Rc<Served>,
    pub(crate) call: Call,
    started: Instant,
    route: Option<Rc<RouteTarget>>,
    /// Filters whose `finish` is due.
    pub(crate) filters_reached: usize,
    pub(crate) notes: Notes,
    end: Option<(Code, Ending)>,
    message: Option<String>,
    tls: Option<Rc<Session>>,
}

/// What an attempt notes down. Bytes are those of DATA, prefixes included; in is from clients, out is to them.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Somebody reads the access log: what only it tells is noted.
    is_logged: bool,
    /// Somebody asks what the backend's status was.
    pub(crate) is_judged: bool,
    endpoint: Option<Arc<str>>,
    pub(crate) upstream_status: Option<Code>,
    /// `grpc-message` beside a status other than OK, as it was on the wire.
    upstream_message: Option<HeaderValue>,
    first_message: Option<Instant>,
    pub(crate) messages_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) attempts: u32,
}

impl Notes {
    /// An attempt at this endpoint begins.
    pub(crate) fn attempt(&mut self, endpoint: &Arc<str>) {
        self.attempts += 1;
        self.upstream_status = None;
        if self.is_logged {
            // What an earlier attempt heard is not how the call ended.
            self.upstream_status = None;
            self.upstream_message = None;
            self.endpoint = Some(endpoint.clone());
        }
    }

    /// The attempt at this endpoint answers the call, of several that were under way.
    pub(crate) fn answered_by(&mut self, endpoint: &Arc<str>) {
        self.upstream_status = None;
        self.upstream_message = None;
        if self.is_logged {
            self.endpoint = Some(endpoint.clone());
        }
    }

    /// Notes the status in a response's trailers, or in a trailers-only head.
    pub(crate) fn heard(&mut self, trailers: &HeaderMap) {
        if !self.is_logged && !self.is_judged {
            return;
        }
        self.upstream_status = status::read(trailers);
        if self.is_logged && self.upstream_status != Some(Code::Ok) {
            self.upstream_message = trailers.get(status::GRPC_MESSAGE).cloned();
        }
    }

    /// A part of the response's messages goes out now.
    pub(crate) fn message_sent(&mut self) {
        if self.is_logged {
            self.first_message.get_or_insert_with(Instant::now);
        }
    }
}

impl Record {
    pub(crate) fn new(
        local: &Rc<Local>,
        listener: &Rc<Served>,
        client: &Client,
        uri: Uri,
        metadata: HeaderMap,
        started: Instant,
    ) -> Record {
        local.metrics.in_flight(None).add(1);
        Record {
            local: local.clone(),
            listener: listener.clone(),
            call: Call { uri, metadata, peer: client.peer(), extensions: http::Extensions::new() },
            started,
            route: None,
            filters_reached: 0,
            notes: Notes { is_logged: local.access_log.is_some(), ..Notes::default() },
            end: None,
            message: None,
            tls: client.session(),
        }
    }

    /// When the call's first header came.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// The call's route is known.
    pub(crate) fn routed(&mut self, route: Rc<RouteTarget>) {
        let metrics = &self.local.metrics;
        metrics.in_flight(None).sub(1);
        metrics.in_flight(Some(route.cluster)).add(1);
        self.route = Some(route);
    }

    /// How the call ended. The first word stands.
    pub(crate) fn end(&mut self, status: Code, ending: Ending) {
        self.end.get_or_insert((status, ending));
    }

    /// The same, with what was said about it.
    pub(crate) fn end_with(&mut self, status: Code, ending: Ending, message: &str) {
        if self.end.is_none() && self.notes.is_logged {
            self.message = Some(message.to_owned());
        }
        self.end(status, ending);
    }

    fn write_line(&self, status: Code, ended_by: Ending, duration: Duration) {
        let Some(log) = &self.local.access_log else { return };
        // The gateway's own word goes first: where it has one, that is what the client got.
        let own = self.message.as_deref().filter(|message| !message.is_empty()).map(Cow::Borrowed);
        let message = own.or_else(|| self.notes.upstream_message.as_ref().map(status::percent_decode).map(Cow::Owned));
        let entry = Entry {
            time: SystemTime::now() - duration,
            listener: &self.listener.plan.name,
            peer: self.call.peer,
            method: self.call.uri.path(),
            authority: self.call.uri.authority().map(Authority::as_str),
            route: self.route.as_ref().map(|route| &*route.id),
            cluster: self.route.as_ref().map(|route| &*route.upstream.cluster.plan.name),
            endpoint: self.notes.endpoint.as_deref(),
            status,
            upstream_status: self.notes.upstream_status,
            message: message.as_deref(),
            duration,
            first_message: self.notes.first_message.map(|at| at - self.started),
            messages_in: self.notes.messages_in,
            messages_out: self.notes.messages_out,
            bytes_in: self.notes.bytes_in,
            bytes_out: self.notes.bytes_out,
            attempts: self.notes.attempts,
            ended_by,
            tls: self.tls.as_deref(),
        };
        if !log.append(&entry) {
            self.local.metrics.dropped_records.add(1);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let (status, ending) = self.end.unwrap_or((Code::Internal, Ending::Gateway));
        let duration = self.started.elapsed();
        let cluster = self.route.as_ref().map(|route| route.cluster);
        let metrics = &self.local.metrics;
        metrics.in_flight(cluster).sub(1);
        let calls = metrics.calls(self.listener.index, cluster);
        calls.ended(status, duration);
        calls.messages_in.add(self.notes.messages_in);
        calls.messages_out.add(self.notes.messages_out);
        calls.bytes_in.add(self.notes.bytes_in);
        calls.bytes_out.add(self.notes.bytes_out);
        if let Some(route) = &self.route {
            route.chain.finish(&self.call, &Outcome { status, ending }, self.filters_reached);
        }
        self.write_line(status, ending, duration);
    }
}
