//! The pages that do something: a drain that can be taken back.

use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;

use super::{State, TEXT, page};

const DRAIN: &str = "/drain";
const UNDRAIN: &str = "/undrain";

/// True for the paths that are answered here.
pub(super) fn is_asked_by(path: &str) -> bool {
    matches!(path, DRAIN | UNDRAIN)
}

/// Does it. A probe or a browser that only looks must not.
pub(super) fn answer(method: &Method, path: &str, state: &State) -> Response<Full<Bytes>> {
    if method != Method::POST {
        let mut refusal = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "POST only\n".into());
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return refusal;
    }
    if path == DRAIN {
        state.drain.drain();
        return page(StatusCode::OK, TEXT, "draining\n".into());
    }
    match state.drain.undrain() {
        Ok(()) => page(StatusCode::OK, TEXT, "serving\n".into()),
        Err(_) => page(StatusCode::CONFLICT, TEXT, "the process ends: its drain cannot be taken back\n".into()),
    }
}
