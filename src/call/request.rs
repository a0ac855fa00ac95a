//! What a request must be before the gateway takes it for a gRPC call.

use http::header::{CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{Method, StatusCode};
use weir_filter::{Code, Status};

use crate::config::plan::DownstreamHttp2;

/// Why a request is answered at the door.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not gRPC: plain HTTP answers it.
    Http(StatusCode),
    /// gRPC, but nothing that could have a route.
    Grpc(Status),
}

/// What RFC 9113 6.5.2 adds to the lengths of each header's name and value.
const HEADER_OVERHEAD: usize = 32;

/// Checks a request's head, whose header list may have as many bytes and fields as its listener says.
///
/// # Errors
///
/// The answer, when the request is none that a backend could get.
pub(crate) fn admit(head: &Parts, limits: &DownstreamHttp2) -> Result<(), Refusal> {
    if !is_grpc(head) {
        return Err(Refusal::Http(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    if head.method != Method::POST {
        return Err(Refusal::Http(StatusCode::METHOD_NOT_ALLOWED));
    }
    let ((size, hosts), limit) = (header_list(head), limits.max_header_list_size);
    if size > limit as usize {
        let text = format!("metadata of {size} bytes is over the limit of {limit} bytes (max_header_list_size)");
        return Err(Refusal::Grpc(Status::new(Code::ResourceExhausted, text)));
    }
    let (count, limit) = (head.headers.len(), limits.max_header_count);
    if count > limit as usize {
        let text = format!("metadata of {count} fields is over the limit of {limit} (max_header_count)");
        return Err(Refusal::Grpc(Status::new(Code::ResourceExhausted, text)));
    }
    if hosts > 0 && names_two_hosts(head) {
        return Err(Refusal::Grpc(Status::new(Code::Internal, "`:authority` and `host` are not the same")));
    }
    let path = head.uri.path_and_query().map_or("", |path| path.as_str());
    if is_method_path(path) {
        return Ok(());
    }
    let shown: String = path.chars().take(200).collect();
    Err(Refusal::Grpc(Status::new(Code::Unimplemented, format!("not a method path: {shown}"))))
}

/// Two programs would disagree about whom such a request is for (RFC 9113 8.3.1: it is malformed).
fn names_two_hosts(head: &Parts) -> bool {
    let authority = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    let hosts = head.headers.get_all(HOST).iter().map(http::HeaderValue::as_bytes);
    let mut names = authority.into_iter().chain(hosts);
    let first = names.next().unwrap_or_default();
    !names.all(|name| name.eq_ignore_ascii_case(first))
}

/// The size of the header list, and how many of its fields are `host`: one pass for both.
fn header_list(head: &Parts) -> (usize, usize) {
    let part = |name: &str, value: Option<&str>| value.map_or(0, |value| name.len() + value.len() + HEADER_OVERHEAD);
    let uri = &head.uri;
    let mut size = part(":method", Some(head.method.as_str()))
        + part(":scheme", uri.scheme_str())
        + part(":authority", uri.authority().map(http::uri::Authority::as_str))
        + part(":path", uri.path_and_query().map(http::uri::PathAndQuery::as_str));
    let mut hosts = 0;
    for (name, value) in &head.headers {
        size += name.as_str().len() + value.len() + HEADER_OVERHEAD;
        hosts += usize::from(*name == HOST);
    }
    (size, hosts)
}

/// `application/grpc`, alone or with `+format` or parameters (gRPC over HTTP/2, "Content-Type").
fn is_grpc(head: &Parts) -> bool {
    let Some(rest) = head
        .headers
        .get(CONTENT_TYPE)
        .map(http::HeaderValue::as_bytes)
        .filter(|value| value.len() >= 16 && value[..16].eq_ignore_ascii_case(b"application/grpc"))
        .map(|value| &value[16..])
    else {
        return false;
    };
    matches!(rest.first(), None | Some(b'+' | b';'))
}

/// `/service/method`, each of letters, digits, dots and underscores. What looks like anything else (escapes, dot
/// segments, parameters) is not made to look right: two programs would disagree about what it means.
fn is_method_path(path: &str) -> bool {
    let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
        return false;
    };
    let name = |text: &str| {
        text.split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
    };
    name(service) && name(method)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, path: &str, content_type: Option<&str>) -> Parts {
        let mut builder = http::Request::builder().method(method).uri(path);
        if let Some(content_type) = content_type {
            builder = builder.header(CONTENT_TYPE, content_type);
        }
        builder.body(()).expect("valid").into_parts().0
    }

    fn limits(size: usize, count: u32) -> DownstreamHttp2 {
        DownstreamHttp2 {
            max_concurrent_streams: 1,
            stream_window: 65_535,
            connection_window: 65_535,
            max_header_list_size: size as u32,
            max_header_count: count,
            header_timeout: std::time::Duration::MAX,
            keepalive_min_time: std::time::Duration::MAX,
            keepalive_permit_without_calls: false,
        }
    }

    fn admit_any(head: &Parts) -> Result<(), Refusal> {
        admit(head, &limits(u32::MAX as usize, u32::MAX))
    }

    #[test]
    fn counts_the_fields() {
        let mut head = head("POST", "/pkg.S/M", Some("application/grpc"));
        head.headers.append("k", http::HeaderValue::from_static("1"));
        head.headers.append("k", http::HeaderValue::from_static("2"));
        assert_eq!(admit(&head, &limits(1000, 3)), Ok(()));
        let Err(Refusal::Grpc(status)) = admit(&head, &limits(1000, 2)) else { panic!("three fields are too many") };
        assert_eq!(status.code, Code::ResourceExhausted);
        assert!(status.message.contains("max_header_count"), "{}", status.message);
    }

    #[test]
    fn a_host_says_what_the_authority_says() {
        for (path, hosts, good) in [
            ("http://a.b/pkg.S/M", &["a.b"][..], true),
            ("http://a.b/pkg.S/M", &["A.b"], true),
            ("http://a.b/pkg.S/M", &["a.b:80"], false),
            ("http://a.b/pkg.S/M", &["a.b", "c.d"], false),
            ("/pkg.S/M", &["a.b"], true),
            ("/pkg.S/M", &["a.b", "c.d"], false),
        ] {
            let mut head = head("POST", path, Some("application/grpc"));
            for host in hosts {
                head.headers.append(HOST, http::HeaderValue::from_static(host));
            }
            assert_eq!(admit_any(&head).is_ok(), good, "{path} {hosts:?}");
        }
    }

    #[test]
    fn counts_the_header_list_as_the_specification_does() {
        let mut head = head("POST", "http://a.b/pkg.S/M", Some("application/grpc"));
        head.headers.append("k", http::HeaderValue::from_static("v"));
        let lengths = [7 + 4, 7 + 4, 10 + 3, 5 + 8, 12 + 16, 1 + 1];
        let size: usize = lengths.into_iter().map(|length| length + 32).sum();
        assert_eq!(header_list(&head), (size, 0));
        assert_eq!(admit(&head, &limits(size, 100)), Ok(()));
        assert!(matches!(admit(&head, &limits(size - 1, 100)), Err(Refusal::Grpc(_))));
    }

    #[test]
    fn takes_every_grpc_content_type() {
        for content_type in ["application/grpc", "application/grpc+json", "application/grpc;v=1", "Application/GRPC"] {
            assert_eq!(admit_any(&head("POST", "/pkg.S/M", Some(content_type))), Ok(()), "{content_type}");
        }
    }

    #[test]
    fn what_is_not_grpc_gets_http() {
        for content_type in [None, Some("text/plain"), Some("application/grpc-web"), Some("application/grpcx")] {
            let refused = Err(Refusal::Http(StatusCode::UNSUPPORTED_MEDIA_TYPE));
            assert_eq!(admit_any(&head("POST", "/pkg.S/M", content_type)), refused, "{content_type:?}");
        }
        let refused = Err(Refusal::Http(StatusCode::METHOD_NOT_ALLOWED));
        assert_eq!(admit_any(&head("GET", "/pkg.S/M", Some("application/grpc"))), refused);
    }

    #[test]
    fn odd_paths_are_unimplemented() {
        for path in
            ["/", "/a", "/a/", "//b", "/a/b/c", "/a/../b", "/../b", "/a/%62", "/a/b?c", "/a/b;c", "/a./b", "/a-b/c"]
        {
            match admit_any(&head("POST", path, Some("application/grpc"))) {
                Err(Refusal::Grpc(status)) => assert_eq!(status.code, Code::Unimplemented, "{path}"),
                other => panic!("{path}: {other:?}"),
            }
        }
    }
}
