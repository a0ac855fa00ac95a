//! Tells HTTP/2 from what else comes to a gRPC port by mistake, by its first bytes.

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// Not enough has come to tell.
    Unknown,
    /// HTTP/2 without TLS, or so it begins (RFC 9113 3.4).
    Http2,
    /// HTTP/1: a browser, curl, a health check.
    Http1,
    /// TLS (RFC 8446 5.1: a handshake record).
    Tls,
    /// None of these.
    Other,
}

/// The answer to HTTP/1, in its own form.
pub(super) const TO_HTTP1: &str = "HTTP/1.1 426 Upgrade Required\r\nupgrade: h2c\r\nconnection: upgrade, close\r\n\
    content-type: text/plain\r\ncontent-length: 59\r\n\r\n\
    This port speaks gRPC: HTTP/2 with prior knowledge, no TLS.";

impl Greeting {
    /// Reads the first `known` bytes.
    pub(super) fn read((first, known): ([u8; 4], usize)) -> Greeting {
        let first = &first[..known];
        if b"PRI ".starts_with(first) {
            return if known == 4 { Greeting::Http2 } else { Greeting::Unknown };
        }
        if first.starts_with(&[0x16, 0x03]) {
            return Greeting::Tls;
        }
        let methods: [&[u8]; 8] = [b"GET ", b"POST", b"PUT ", b"HEAD", b"OPTI", b"DELE", b"PATC", b"CONN"];
        if methods.contains(&first) {
            return Greeting::Http1;
        }
        if known < 4 && (first == [0x16] || methods.iter().any(|method| method.starts_with(first))) {
            return Greeting::Unknown;
        }
        Greeting::Other
    }

    /// Its name in the log and the metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Greeting::Http1 => "http1",
            Greeting::Tls => "tls",
            _ => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Greeting {
        let mut first = [0; 4];
        first[..bytes.len()].copy_from_slice(bytes);
        Greeting::read((first, bytes.len()))
    }

    #[test]
    fn tells_protocols_as_soon_as_it_can() {
        for (bytes, expected) in [
            (&b""[..], Greeting::Unknown),
            (b"P", Greeting::Unknown),
            (b"PR", Greeting::Unknown),
            (b"PRI ", Greeting::Http2),
            (b"PO", Greeting::Unknown),
            (b"POST", Greeting::Http1),
            (b"GET ", Greeting::Http1),
            (&[0x16], Greeting::Unknown),
            (&[0x16, 3, 1, 2], Greeting::Tls),
            (b"SSH-", Greeting::Other),
            (b"S", Greeting::Other),
        ] {
            assert_eq!(read(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn the_answer_has_the_length_that_it_says() {
        let (head, body) = TO_HTTP1.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{} bytes", body.len());
    }
}
