//! The one place where a status becomes an answer on the wire, and where HTTP and HTTP/2 become a status.

use std::borrow::Cow;
use std::time::Duration;

use h2::Reason;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use weir_filter::{Code, Status};

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(crate) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_RETRY_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// A trailers-only answer (gRPC over HTTP/2, "Responses").
pub(crate) fn trailers_only(status: &Status) -> Response<()> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.reserve(3);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    write(status, headers);
    response
}

/// The trailers that end a response which has begun.
pub(crate) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    write(status, &mut trailers);
    trailers
}

/// Asks the client to wait before it tries again (gRFC A6, "Pushback").
pub(crate) fn push_back(headers: &mut HeaderMap, after: Option<Duration>) {
    if let Some(after) = after {
        let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        headers.insert(GRPC_RETRY_PUSHBACK, HeaderValue::from(millis));
    }
}

/// An answer to a request that is not gRPC. It has no body, and no gRPC status that it could be mistaken by.
pub(crate) fn plain_http(code: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = code;
    response
}

fn write(status: &Status, headers: &mut HeaderMap) {
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(status.code.number())));
    if !status.message.is_empty() {
        headers.insert(GRPC_MESSAGE, percent_encode(&status.message));
    }
}

/// Percent-encodes what gRPC over HTTP/2 calls `Status-Message`: everything but the printable ASCII without `%`. Nothing
/// that a peer sent can so become a header or a line of its own.
fn percent_encode(message: &str) -> HeaderValue {
    let plain = |byte: &u8| (0x20..=0x7e).contains(byte) && *byte != b'%';
    let mut text: Cow<'_, str> = message.into();
    if !message.as_bytes().iter().all(plain) {
        let mut encoded = String::with_capacity(message.len() * 3);
        for byte in message.bytes() {
            if plain(&byte) {
                encoded.push(char::from(byte));
            } else {
                encoded.push('%');
                for nibble in [byte >> 4, byte & 15] {
                    encoded.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase());
                }
            }
        }
        text = encoded.into();
    }
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The text of a `Status-Message` from a peer. What is not percent-encoded as it should be stays as it is, as gRPC over
/// HTTP/2 asks of a reader.
pub(crate) fn percent_decode(value: &HeaderValue) -> String {
    let bytes = value.as_bytes();
    let mut text = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let pair = || Some(hex(*bytes.get(at + 1)?)? << 4 | hex(*bytes.get(at + 2)?)?);
        match (byte, pair()) {
            (b'%', Some(decoded)) => {
                text.push(decoded);
                at += 3;
            }
            _ => {
                text.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The status in a response's trailers, or in a trailers-only head.
pub(crate) fn read(headers: &HeaderMap) -> Option<Code> {
    let value = headers.get(GRPC_STATUS)?.to_str().ok()?;
    // A number that is no code is UNKNOWN to every client.
    Some(value.parse::<u8>().ok().and_then(Code::from_number).unwrap_or(Code::Unknown))
}

/// What a client makes of an HTTP status without `grpc-status` (gRPC's "HTTP to gRPC Status Code Mapping").
pub(crate) fn of_http(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// What a client makes of RST_STREAM (gRPC over HTTP/2, "Errors").
pub(crate) fn of_reset(reason: Reason) -> Code {
    match reason {
        Reason::REFUSED_STREAM => Code::Unavailable,
        Reason::CANCEL => Code::Cancelled,
        Reason::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
        Reason::INADEQUATE_SECURITY => Code::PermissionDenied,
        Reason::STREAM_CLOSED => Code::Unknown,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_crosses_as_printable_ascii() {
        let head = trailers_only(&Status::new(Code::NotFound, "no 50% of größe\r\nx: y"));
        assert_eq!(head.headers()["grpc-status"], "5");
        assert_eq!(head.headers()["grpc-message"], "no 50%25 of gr%C3%B6%C3%9Fe%0D%0Ax: y");
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        for text in ["", "plain", "no 50% of größe\r\nx: y", "%", "%%41"] {
            assert_eq!(percent_decode(&percent_encode(text)), text);
        }
        for (wire, text) in [("50%", "50%"), ("%4", "%4"), ("%zz%41", "%zzA"), ("%ff", "\u{fffd}")] {
            assert_eq!(percent_decode(&HeaderValue::from_static(wire)), text);
        }
    }

    #[test]
    fn a_code_out_of_range_is_unknown() {
        let mut headers = HeaderMap::new();
        assert_eq!(read(&headers), None);
        headers.insert(GRPC_STATUS, HeaderValue::from_static("14"));
        assert_eq!(read(&headers), Some(Code::Unavailable));
        headers.insert(GRPC_STATUS, HeaderValue::from_static("99"));
        assert_eq!(read(&headers), Some(Code::Unknown));
    }
}
