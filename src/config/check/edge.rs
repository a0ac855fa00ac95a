//! Rules for who may come to a listener, and the defaults of one that strangers come to.

use std::time::Duration;

use super::Checker;
use crate::config::diagnostic::Diagnostic;
use crate::config::file::listener::ListenerConfig;
use crate::config::file::value::{self, Size};
use crate::config::located::At;
use crate::config::plan::{Admission, ForwardingHeaders};
use crate::config::suggest::did_you_mean;

/// What a gateway needs for itself; a lower limit would refuse the first call.
const LEAST_MEMORY: u64 = 16 << 20;

/// What holds where a listener's `config` says nothing.
#[derive(Debug)]
pub(super) struct Defaults {
    pub(super) max_connections_per_source: Option<usize>,
    pub(super) stream_idle_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_connection_age: Option<Duration>,
    pub(super) max_header_list_size: u32,
    pub(super) forwarding_headers: ForwardingHeaders,
}

/// Nothing that could cut an honest call.
const INSIDE: Defaults = Defaults {
    max_connections_per_source: None,
    stream_idle_timeout: None,
    idle_timeout: None,
    max_connection_age: None,
    max_header_list_size: 1 << 20,
    forwarding_headers: ForwardingHeaders::Pass,
};

/// docs/security.md says why.
const EDGE: Defaults = Defaults {
    max_connections_per_source: Some(100),
    stream_idle_timeout: Some(Duration::from_secs(5 * 60)),
    idle_timeout: Some(Duration::from_secs(5 * 60)),
    max_connection_age: Some(Duration::from_secs(60 * 60)),
    max_header_list_size: 64 << 10,
    forwarding_headers: ForwardingHeaders::Replace,
};

impl Defaults {
    pub(super) const fn of(edge: bool) -> &'static Defaults {
        if edge { &EDGE } else { &INSIDE }
    }
}

impl Checker<'_, '_> {
    pub(super) fn memory_limit(&self, field: Option<&At<Size>>) -> Option<u64> {
        self.size(field, "memory_limit", LEAST_MEMORY..=1 << 50, ": a gateway without calls needs some of it itself")
    }

    pub(super) fn admission(&self, config: Option<&ListenerConfig>, defaults: &Defaults) -> Admission {
        let limit = |field: Option<&At<u64>>, key, default| {
            let Some(field) = field else { return default };
            let limit = self.in_range(field, key, 0..=(1 << 31) - 1)?;
            usize::try_from(limit).ok().filter(|limit| *limit > 0)
        };
        Admission {
            max_connections: limit(config.and_then(|config| config.max_connections.as_ref()), "max_connections", None),
            max_connections_per_source: limit(
                config.and_then(|config| config.max_connections_per_source.as_ref()),
                "max_connections_per_source",
                defaults.max_connections_per_source,
            ),
        }
    }

    /// A time limit for which `0s` is never.
    pub(super) fn never_or(&self, field: Option<&At<value::Duration>>, default: Option<Duration>) -> Option<Duration> {
        match field {
            None => default,
            Some(_) => self.duration(field).filter(|limit| !limit.is_zero()),
        }
    }

    pub(super) fn age_grace(&self, config: Option<&ListenerConfig>, defaults: &Defaults) -> Option<Duration> {
        let config = config?;
        let age = self.never_or(config.max_connection_age.as_ref(), defaults.max_connection_age);
        if age.is_none() {
            let why = "no connection is too old without `max_connection_age`";
            self.useless("max_connection_age_grace", config.max_connection_age_grace.as_ref(), why);
        }
        self.duration(config.max_connection_age_grace.as_ref())
    }

    pub(super) fn forwarding_headers(
        &self,
        config: Option<&ListenerConfig>,
        default: ForwardingHeaders,
    ) -> ForwardingHeaders {
        let Some(at) = config.and_then(|config| config.forwarding_headers.as_ref()) else { return default };
        let Some(value::ForwardingHeaders(text)) = &at.value else { return default };
        let known = ForwardingHeaders::ALL.into_iter().find(|rule| rule.name().eq_ignore_ascii_case(text));
        known.unwrap_or_else(|| {
            let names = ForwardingHeaders::ALL.map(ForwardingHeaders::name);
            let label = did_you_mean(&text.to_ascii_uppercase(), names)
                .unwrap_or_else(|| format!("one of `{}`", names.join("`, `")));
            self.error(Diagnostic::new(at.place, format!("unknown `forwarding_headers`: `{text}`")).label(label));
            default
        })
    }
}
