//! What the access log tells of a call, and the line that it becomes.

use std::time::{Duration, SystemTime};

use weir_filter::{Code, Ending, Peer};

use super::clock::Clock;
use super::json;
use crate::tls::Session;

/// What is known of a call when it has ended.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    /// When it began.
    pub(crate) time: SystemTime,
    pub(crate) listener: &'a str,
    pub(crate) peer: Peer,
    pub(crate) method: &'a str,
    pub(crate) authority: Option<&'a str>,
    pub(crate) route: Option<&'a str>,
    pub(crate) cluster: Option<&'a str>,
    pub(crate) endpoint: Option<&'a str>,
    pub(crate) status: Code,
    pub(crate) upstream_status: Option<Code>,
    pub(crate) message: Option<&'a str>,
    pub(crate) duration: Duration,
    pub(crate) first_message: Option<Duration>,
    pub(crate) messages_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) attempts: u32,
    pub(crate) ended_by: Ending,
    /// `None` where the client does not speak TLS.
    pub(crate) tls: Option<&'a Session>,
}

impl Entry<'_> {
    /// Appends the line, with its end. The names are fixed: dashboards hold on to them.
    pub(super) fn write(&self, out: &mut Vec<u8>, clock: &mut Clock) {
        out.extend_from_slice(br#"{"time":""#);
        clock.write(out, self.time);
        out.extend_from_slice(br#"","listener":"#);
        json::string(out, self.listener);
        out.extend_from_slice(br#","peer":"#);
        json::peer(out, self.peer);
        out.extend_from_slice(br#","method":"#);
        json::string(out, self.method);
        out.extend_from_slice(br#","authority":"#);
        json::optional(out, self.authority);
        out.extend_from_slice(br#","route":"#);
        json::optional(out, self.route);
        out.extend_from_slice(br#","cluster":"#);
        json::optional(out, self.cluster);
        out.extend_from_slice(br#","endpoint":"#);
        json::optional(out, self.endpoint);
        out.extend_from_slice(br#","status":"#);
        json::word(out, self.status.name());
        out.extend_from_slice(br#","upstream_status":"#);
        json::optional(out, self.upstream_status.map(Code::name));
        out.extend_from_slice(br#","message":"#);
        json::optional(out, self.message);
        out.extend_from_slice(br#","duration_ms":"#);
        json::millis(out, self.duration);
        out.extend_from_slice(br#","first_message_ms":"#);
        match self.first_message {
            Some(after) => json::millis(out, after),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(br#","messages_in":"#);
        json::number(out, self.messages_in);
        out.extend_from_slice(br#","messages_out":"#);
        json::number(out, self.messages_out);
        out.extend_from_slice(br#","bytes_in":"#);
        json::number(out, self.bytes_in);
        out.extend_from_slice(br#","bytes_out":"#);
        json::number(out, self.bytes_out);
        out.extend_from_slice(br#","attempts":"#);
        json::number(out, self.attempts.into());
        out.extend_from_slice(br#","ended_by":"#);
        json::word(out, self.ended_by.name());
        match self.tls {
            None => out.extend_from_slice(NO_TLS),
            Some(tls) => write_tls(out, tls),
        }
        out.extend_from_slice(b"}\n");
    }
}

/// The fields about TLS of a call without.
const NO_TLS: &[u8] = br#","tls_version":null,"client_subject":null,"client_uri":null,"client_dns":null"#;

fn write_tls(out: &mut Vec<u8>, tls: &Session) {
    let client = tls.client.as_ref();
    out.extend_from_slice(br#","tls_version":"#);
    json::word(out, tls.version());
    out.extend_from_slice(br#","client_subject":"#);
    json::optional(out, client.and_then(|client| client.subject.as_deref()));
    out.extend_from_slice(br#","client_uri":"#);
    json::optional(out, client.and_then(|client| client.uris.as_deref()));
    out.extend_from_slice(br#","client_dns":"#);
    json::optional(out, client.and_then(|client| client.dns.as_deref()));
}

#[cfg(test)]
mod tests;
