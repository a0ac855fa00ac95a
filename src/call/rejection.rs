//! Why h2 does not take a head.

/// What an error of h2's says about a head that it did not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The head is none that HTTP/2 has: somebody put into it what must not be there. Another connection takes it no more
    /// than this one.
    Malformed,
    /// Another stream of the connection still waits to be opened.
    Busy,
    /// The stream or its connection takes nothing more.
    Closed,
}

impl Rejection {
    /// Sorts an error of `send_request` or `send_response`.
    ///
    /// h2 keeps the kind of what it calls a user error to itself, and has nothing public that says more than its text.
    pub(super) fn of(error: &h2::Error) -> Rejection {
        if error.is_io() || error.reason().is_some() {
            return Rejection::Closed;
        }
        match error.to_string().trim_start_matches("user error: ") {
            "rejected" => Rejection::Busy,
            // A stream that its peer has closed, and a connection that has used up its stream ids.
            "inactive stream" | "unexpected frame type" | "stream ID overflowed" => Rejection::Closed,
            _ => Rejection::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::Bytes;
    use http::header::{CONNECTION, HeaderValue};
    use http::{Request, Response, Version};

    use super::*;

    fn request() -> Request<()> {
        Request::post("http://a/b.C/D").body(()).expect("a request")
    }

    #[tokio::test]
    async fn tells_the_errors_of_h2_apart() {
        let (near, far) = tokio::io::duplex(1 << 20);
        let mut builder = h2::client::Builder::new();
        let handshake = builder.initial_max_send_streams(1).handshake::<_, Bytes>(near);
        let (client, server) = tokio::join!(handshake, h2::server::Builder::new().handshake::<_, Bytes>(far));
        let ((mut send, connection), mut server) = (client.expect("a client"), server.expect("a server"));

        let mut malformed = request();
        malformed.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        let error = send.send_request(malformed, true).expect_err("a malformed request");
        assert_eq!(Rejection::of(&error), Rejection::Malformed);

        let malformed = Request::post("/b.C/D").version(Version::HTTP_2).body(()).expect("a request");
        let error = send.send_request(malformed, true).expect_err("neither scheme nor authority");
        assert_eq!(Rejection::of(&error), Rejection::Malformed);

        // Nothing has driven the connection: the first stream waits to be opened, and nothing may wait behind it.
        let (_first, mut up) = send.send_request(request(), false).expect("a stream");
        let error = send.send_request(request(), true).expect_err("a second stream that waits");
        assert_eq!(Rejection::of(&error), Rejection::Busy);

        let driver = tokio::spawn(connection);
        let (_, mut respond) = server.accept().await.expect("a request").expect("a request");
        let mut malformed = Response::new(());
        malformed.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        let error = respond.send_response(malformed, true).expect_err("a malformed response");
        assert_eq!(Rejection::of(&error), Rejection::Malformed);

        up.send_reset(h2::Reason::CANCEL);
        tokio::select! {
            reset = poll_fn(|cx| respond.poll_reset(cx)) => assert_eq!(reset.expect("a reset"), h2::Reason::CANCEL),
            more = server.accept() => panic!("another request: {more:?}"),
        }
        let error = respond.send_response(Response::new(()), true).expect_err("the client has left");
        assert_eq!(Rejection::of(&error), Rejection::Closed);

        drop(server);
        let _ = driver.await;
        let error = send.send_request(request(), true).expect_err("the connection is gone");
        assert_eq!(Rejection::of(&error), Rejection::Closed);
    }
}
