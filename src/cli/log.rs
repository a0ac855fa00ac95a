//! The log: lines on stderr.

use std::io::IsTerminal;

use tracing::level_filters::STATIC_MAX_LEVEL;
use tracing_subscriber::EnvFilter;

/// Starts the log with a filter that has been checked already; `info` where there is none.
///
/// A release build carries no event below `info`, because asking whether one is wanted costs every call. Whoever asks for
/// one all the same is told so.
pub(super) fn start(filter: Option<&str>) {
    let filter = EnvFilter::new(filter.unwrap_or("info"));
    if filter.max_level_hint().is_some_and(|asked| asked > STATIC_MAX_LEVEL) {
        eprintln!("notice: this build logs nothing below {STATIC_MAX_LEVEL}; a build without --release does");
    }
    // Fails when a log is there already, which is then the one that its owner wants.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}
