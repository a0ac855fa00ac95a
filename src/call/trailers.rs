//! What may not stand in trailers, from either side.
//!
//! h2 refuses fields of a connection and drops pseudo-headers. What is left says how a message is framed or where it goes, and
//! must come before it (RFC 9110 6.5.1): behind it, one program would believe it and another not.

use http::header::{CONTENT_LENGTH, HOST, HeaderName, TE, TRAILER};
use http::{HeaderMap, header};

const FORBIDDEN: [HeaderName; 5] = [CONTENT_LENGTH, HOST, TE, TRAILER, header::EXPECT];

/// The trailers without what may not stand there.
pub(super) fn cleaned(mut trailers: HeaderMap) -> HeaderMap {
    if trailers.keys().any(|name| FORBIDDEN.contains(name)) {
        for name in &FORBIDDEN {
            trailers.remove(name);
        }
    }
    trailers
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_what_is_forbidden_goes() {
        let mut trailers = HeaderMap::new();
        for name in ["grpc-status", "content-length", "host", "te", "trailer", "expect", "x-own", "content-type"] {
            let name = HeaderName::from_static(name);
            trailers.append(name.clone(), HeaderValue::from_static("1"));
            trailers.append(name, HeaderValue::from_static("2"));
        }
        let cleaned = cleaned(trailers);
        let mut left: Vec<_> = cleaned.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-type", "grpc-status", "x-own"]);
        assert_eq!(cleaned.len(), 6);
    }
}
