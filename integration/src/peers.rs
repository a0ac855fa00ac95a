//! Peers in this process that do what a test tells them: backends, clients, and what stands between them.
//!
//! Both speak HTTP/2 through the `h2` crate and so see frames, resets and settings that gRPC libraries hide. What a
//! backend does with a call stands in the call's own metadata ([`backend::DO`]), so that one backend serves every case.

use std::time::Duration;

use anyhow::{Context, Result};

pub mod attacker;
pub mod attacks;
pub mod backend;
pub mod bare;
pub mod client;
pub mod dns;
pub mod names;
pub mod page;
pub mod raw;
pub mod script;
pub mod setup;
pub mod tap;
pub mod tls;

use crate::process::PATIENCE;

/// Waits for an event, for no longer than [`PATIENCE`].
///
/// # Errors
///
/// When it does not happen in that time.
pub async fn within<T>(what: &str, event: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(PATIENCE, event).await.with_context(|| format!("{what} did not happen in {PATIENCE:?}"))
}

/// Looks again and again until `look` returns something. For what gives no sign of its own: a page, a file.
///
/// # Errors
///
/// When `look` fails, or has returned nothing for [`PATIENCE`].
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let looking = async {
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(what, looking).await?
}

/// A message with its prefix (gRPC over HTTP/2, "Length-Prefixed-Message").
#[must_use]
pub fn framed(message: &[u8]) -> bytes::Bytes {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(message);
    bytes.into()
}
