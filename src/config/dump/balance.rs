//! The choice of an endpoint, in the words of the file.

use serde_yaml::{Mapping, Value};

use super::{map, some, time};
use crate::config::plan::{Balance, Cluster, Endpoint, HashOn, Labels, Locality, Location, SlowStart, SubsetFallback};

pub(super) fn policy(balance: &Balance) -> &'static str {
    match balance {
        Balance::RoundRobin => "RoundRobin",
        Balance::WeightedRoundRobin => "WeightedRoundRobin",
        Balance::Random => "Rand",
        Balance::WeightedRandom => "WeightRandom",
        Balance::LeastRequest => "LeastRequest",
        Balance::PeakEwma { .. } => "PeakEwma",
        Balance::Ring(_) => "RingHashing",
        Balance::Maglev(_) => "MaglevHashing",
    }
}

pub(super) fn hash_on(balance: &Balance) -> Option<Value> {
    match balance {
        Balance::Ring(on) | Balance::Maglev(on) => Some(match on {
            HashOn::Metadata(name) => map([("metadata", some(name.as_str()))]),
            HashOn::Path => map([("path", some(true))]),
        }),
        _ => None,
    }
}

pub(super) fn consistent(cluster: &Cluster) -> Option<Value> {
    let sizes = cluster.consistent;
    hash_on(&cluster.balance).map(|_| {
        map([
            ("replica_num", sizes.replicas.and_then(some)),
            ("maglev_table_size", some(sizes.table_size)),
            ("hash_balance_factor", sizes.balance_factor.and_then(some)),
        ])
    })
}

pub(super) fn peak_ewma(balance: &Balance) -> Option<Value> {
    match balance {
        Balance::PeakEwma { decay_time } => Some(map([("decay_time", time(*decay_time))])),
        _ => None,
    }
}

pub(super) fn slow_start(plan: &SlowStart) -> Value {
    map([
        ("slow_start_window", time(plan.window)),
        ("aggression", some(plan.aggression.as_f64())),
        ("min_weight_percent", some(plan.min_weight_percent)),
    ])
}

/// Where all endpoints have one priority it would only be a key without an effect.
pub(super) fn overprovisioning_factor(cluster: &Cluster) -> Option<Value> {
    let first = cluster.endpoints.first()?.priority;
    let are_several = cluster.endpoints.iter().any(|one| one.priority != first);
    are_several.then(|| some(cluster.overprovisioning_factor)).flatten()
}

pub(super) fn lb_subset_config(cluster: &Cluster) -> Option<Value> {
    match cluster.subset_fallback {
        SubsetFallback::NoFallback => None,
        SubsetFallback::AnyEndpoint => Some(map([("fallback_policy", some("ANY_ENDPOINT"))])),
        SubsetFallback::DefaultSubset(index) => Some(map([
            ("fallback_policy", some("DEFAULT_SUBSET")),
            ("default_subset", cluster.subsets.get(index).map(labels)),
        ])),
    }
}

pub(super) fn labels(labels: &Labels) -> Value {
    Value::Mapping(pairs(labels).collect())
}

fn pairs(labels: &Labels) -> impl Iterator<Item = (Value, Value)> {
    labels.iter().map(|(key, value)| (Value::from(key.clone()), Value::from(value.clone())))
}

pub(super) fn locality(locality: &Locality) -> Value {
    map([
        ("region", some(&*locality.region)),
        ("zone", locality.zone.as_deref().and_then(some)),
        ("sub_zone", locality.sub_zone.as_deref().and_then(some)),
    ])
}

/// Its locality has become a part of its priority.
pub(super) fn endpoint(endpoint: &Endpoint) -> Value {
    let address = match &endpoint.location {
        Location::Host(host, port) => map([("address", some(host.clone())), ("port", some(*port))]),
        Location::Service(service) => map([("srv", some(service.clone()))]),
        unix @ Location::Unix(_) => map([("address", some(unix.to_string()))]),
    };
    let mut meta: Mapping = pairs(&endpoint.labels).collect();
    // SRV records have weights of their own.
    if !endpoint.location.is_service() {
        meta.insert("weight".into(), endpoint.weight.into());
    }
    let is_plain = meta.is_empty();
    map([
        ("name", endpoint.name.as_deref().and_then(some)),
        ("socket_address", Some(address)),
        ("priority", Some(endpoint.priority).filter(|priority| *priority > 0).and_then(some)),
        ("meta", Some(Value::Mapping(meta)).filter(|_| !is_plain)),
    ])
}
