//! Rules for the proxy at the end of a chain, and what it says about clusters.
//!
//! Pixiu keeps settings of backend connections in the proxy of a listener; here they belong to the cluster. A proxy's
//! settings go to the clusters that its listener's routes name, where the cluster does not say otherwise.

use std::collections::HashMap;
use std::time::Duration;

use super::Checker;
use super::tls::ProxyTls;
use crate::config::diagnostic::Diagnostic;
use crate::config::file::manager::{GrpcFilter, Proxy};
use crate::config::located::At;
use crate::config::place::Place;

/// A value and where it stands.
pub(super) type Placed<T> = (T, Place);

/// What one proxy is told.
#[derive(Clone, Debug, Default)]
pub(super) struct ProxyConfig {
    connect_timeout: Option<Placed<Duration>>,
    keepalive_time: Option<Placed<Duration>>,
    keepalive_timeout: Option<Placed<Duration>>,
    max_concurrent_streams: Option<Placed<u32>>,
    tls: Option<Placed<ProxyTls>>,
}

/// What all proxies say about each cluster.
#[derive(Debug, Default)]
pub(super) struct ProxySettings(HashMap<usize, Vec<ProxyConfig>>);

impl ProxySettings {
    pub(super) fn apply(&mut self, proxy: &ProxyConfig, clusters: impl Iterator<Item = usize>) {
        let mut clusters: Vec<usize> = clusters.collect();
        clusters.sort_unstable();
        clusters.dedup();
        for cluster in clusters {
            self.0.entry(cluster).or_default().push(proxy.clone());
        }
    }

    fn of(&self, cluster: usize) -> &[ProxyConfig] {
        self.0.get(&cluster).map_or(&[], Vec::as_slice)
    }
}

impl Checker<'_, '_> {
    pub(super) fn proxy(&self, filter: &GrpcFilter) -> Option<ProxyConfig> {
        let Some(config) = &filter.config else { return Some(ProxyConfig::default()) };
        let proxy: Proxy = self.reader.read(&self.reader.held(config.value?)?)?;
        self.proxy_notices(&proxy);
        let streams = proxy.max_concurrent_streams.as_ref().and_then(|field| {
            let streams = self.in_range(field, "max_concurrent_streams", 1..=(1 << 31) - 1)?;
            Some((u32::try_from(streams).ok()?, field.place))
        });
        let placed = |duration: Option<Duration>, place: Option<Place>| Some((duration?, place?));
        let place = |field: Option<&At<_>>| field.map(|field: &At<crate::config::file::value::Duration>| field.place);
        let (connect, time, timeout) =
            (proxy.connect_timeout.as_ref(), proxy.keepalive_time.as_ref(), proxy.keepalive_timeout.as_ref());
        Some(ProxyConfig {
            connect_timeout: placed(self.positive(connect, "connect_timeout"), place(connect)),
            keepalive_time: placed(self.positive(time, "keepalive_time"), place(time)),
            keepalive_timeout: placed(self.positive(timeout, "keepalive_timeout"), place(timeout)),
            max_concurrent_streams: streams,
            tls: self.proxy_tls(&proxy),
        })
    }

    fn proxy_notices(&self, proxy: &Proxy) {
        let descriptors = "Weir needs no descriptors, and reflection passes through to the backend";
        self.no_effect("reflection_mode", proxy.reflection_mode.as_ref(), descriptors);
        self.no_effect("descriptor_cache_ttl", proxy.descriptor_cache_ttl.as_ref(), descriptors);
        self.no_effect("reflection_timeout", proxy.reflection_timeout.as_ref(), descriptors);
        self.no_effect("extract_triple_metadata", proxy.extract_triple_metadata.as_ref(), "all metadata passes");
        let why = "gRPC is what a `GRPC` listener speaks";
        self.no_effect("enable_protocol_detection", proxy.enable_protocol_detection.as_ref(), why);
        self.no_effect("force_codec", proxy.force_codec.as_ref(), "messages pass as they are");
    }

    /// What the proxies say about `connect_timeout` of a cluster.
    pub(super) fn proxy_connect_timeout(&self, cluster: usize, name: &str) -> Option<Duration> {
        self.agreed(cluster, name, "connect_timeout", |proxy| proxy.connect_timeout).map(|(value, _)| value)
    }

    /// What the proxies say about keepalive pings to a cluster.
    pub(super) fn proxy_keepalive_time(&self, cluster: usize, name: &str) -> Option<Duration> {
        self.agreed(cluster, name, "keepalive_time", |proxy| proxy.keepalive_time).map(|(value, _)| value)
    }

    /// What the proxies say about the answers to such pings.
    pub(super) fn proxy_keepalive_timeout(&self, cluster: usize, name: &str) -> Option<Duration> {
        self.agreed(cluster, name, "keepalive_timeout", |proxy| proxy.keepalive_timeout).map(|(value, _)| value)
    }

    /// What the proxies say about streams on one connection to a cluster.
    pub(super) fn proxy_max_streams(&self, cluster: usize, name: &str) -> Option<Placed<u32>> {
        self.agreed(cluster, name, "max_concurrent_streams", |proxy| proxy.max_concurrent_streams)
    }

    /// What the proxies say about TLS to a cluster.
    pub(super) fn proxy_tls_of(&self, cluster: usize, name: &str) -> Option<Placed<ProxyTls>> {
        self.agreed(cluster, name, "enable_tls", |proxy| proxy.tls.clone())
    }

    /// The one value that all proxies give with a place that gives it, and an error where two differ.
    fn agreed<T: PartialEq>(
        &self,
        cluster: usize,
        name: &str,
        key: &str,
        setting: impl Fn(&ProxyConfig) -> Option<Placed<T>>,
    ) -> Option<Placed<T>> {
        let mut all = self.proxies.of(cluster).iter().filter_map(setting);
        let (first, place) = all.next()?;
        if let Some((_, other)) = all.find(|(value, _)| *value != first) {
            let message = format!("two listeners give cluster `{name}` different values of `{key}`");
            let error = Diagnostic::new(other, message).label(format!("say it once, in cluster `{name}`"));
            self.error(error.other(place, "the other"));
        }
        Some((first, place))
    }
}
