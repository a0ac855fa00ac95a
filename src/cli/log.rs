//! The log: lines on stderr.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};
use tracing_subscriber::EnvFilter;

/// Starts the log with a filter that has been checked already; `info` where there is none.
///
/// A release build carries no event below `info`, because asking whether one is wanted costs every call. Whoever asks for
/// one all the same is told so, once: the filter would add a paragraph for each directive that it cannot serve.
pub(super) fn start(filter: Option<&str>) {
    let asked = filter.unwrap_or("info");
    let possible = capped(asked, STATIC_MAX_LEVEL);
    if possible != asked {
        eprintln!("notice: this build logs nothing below {STATIC_MAX_LEVEL}; a build without --release does");
    }
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(possible))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter_reloading();
    let handle = log.reload_handle();
    // Fails when a log is there already, which is then the one that its owner wants.
    if log.try_init().is_ok() {
        let change = move |filter| handle.reload(filter).unwrap_or_else(|error| tracing::warn!(%error, "log.level"));
        let _ = CHANGE.set(Box::new(change));
    }
}

/// Goes on with another filter, where the log is our own.
pub(super) fn change(filter: Option<&str>) {
    if let Some(change) = CHANGE.get() {
        change(EnvFilter::new(capped(filter.unwrap_or("info"), STATIC_MAX_LEVEL)));
    }
}

/// Changes the filter of the log that runs.
static CHANGE: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();

/// The filter with no directive more talkative than `most`.
fn capped(filter: &str, most: LevelFilter) -> String {
    let cap = |directive: &str| {
        let (target, level) = match directive.rsplit_once('=') {
            Some((target, level)) => (Some(target), level),
            None => (None, directive),
        };
        match (level.trim().parse::<LevelFilter>(), target) {
            (Ok(level), Some(target)) if level > most => format!("{target}={most}"),
            (Ok(level), None) if level > most => most.to_string(),
            _ => directive.to_owned(),
        }
    };
    filter.split(',').map(cap).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use tracing::level_filters::LevelFilter;

    use super::capped;

    #[test]
    fn a_directive_says_no_more_than_the_build_carries() {
        for (asked, possible) in [
            ("debug", "info"),
            ("TRACE", "info"),
            ("warn", "warn"),
            ("off", "off"),
            ("info,weir::cluster=debug", "info,weir::cluster=info"),
            ("h2=trace,weir=error", "h2=info,weir=error"),
        ] {
            assert_eq!(capped(asked, LevelFilter::INFO), possible);
            assert_eq!(capped(asked, LevelFilter::TRACE), asked);
        }
    }
}
