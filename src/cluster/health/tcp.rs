//! The check that a port accepts a connection.

use super::target::Target;

/// Connects, and closes.
pub(super) async fn ask(target: &Target) -> Result<(), String> {
    target.connect().await.map(drop)
}
