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
        .with_env_filter(self::filter(asked))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter_reloading();
    let handle = log.reload_handle();
    // Fails when a log is there already, which is then the one that its owner wants.
    if log.try_init().is_ok() {
        let change = move |filter| {
            handle.reload(filter).unwrap_or_else(|error| tracing::warn!(%error, "the level of the log stays as it is"))
        };
        let _ = CHANGE.set(Box::new(change));
    }
}

/// What libraries say at `warn` tells of single frames that peers have sent, and a peer may send as many as it likes: h2 has a line for
/// every answer to a PING that nobody sent. Whoever wants to read it asks for it by name.
const QUIET: &str =
    "h2=error,hyper=error,hyper_util=error,rustls=error,tonic=error,hickory_resolver=error,hickory_proto=error";

/// The filter that a text asks for. What stands later in it goes before.
fn filter(text: &str) -> EnvFilter {
    EnvFilter::new(format!("{QUIET},{}", capped(text, STATIC_MAX_LEVEL)))
}

/// Goes on with another filter, where the log is our own.
pub(super) fn change(filter: Option<&str>) {
    if let Some(change) = CHANGE.get() {
        change(self::filter(filter.unwrap_or("info")));
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

    use super::{capped, filter};

    #[test]
    fn libraries_are_quiet_unless_somebody_asks() {
        let of = |text: &str, target: &str| {
            let filter = filter(text).to_string();
            filter.split(',').rev().find_map(|one| Some(one.strip_prefix(target)?.to_owned())).unwrap_or_default()
        };
        assert_eq!(of("info", "h2="), "error");
        assert_eq!(of("info,h2=warn", "h2="), "warn");
        assert_eq!(of("rustls=info,warn", "rustls="), "info");
        assert_eq!(of("rustls=info,warn", "h2="), "error");
    }

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
