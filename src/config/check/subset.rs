//! Rules for labels: what endpoints have, and what routes ask for.

use std::collections::{BTreeMap, HashMap};

use super::{Checker, Scope};
use crate::config::diagnostic::Diagnostic;
use crate::config::file::cluster::Cluster;
use crate::config::located::At;
use crate::config::place::Place;
use crate::config::plan::{self, Labels, SubsetFallback};
use crate::config::suggest::did_you_mean;

/// Labels as they are written.
pub(super) type Written = BTreeMap<String, Option<At<String>>>;

/// What routes ask of clusters, by the cluster's index: each set of labels once, with the place that asked first.
pub(super) type Asked = HashMap<usize, Vec<(Labels, Place)>>;

const POLICIES: [&str; 3] = ["NO_FALLBACK", "ANY_ENDPOINT", "DEFAULT_SUBSET"];

/// The weight is no label: it says how much, not who.
const WEIGHT: &str = "weight";

impl Checker<'_, '_> {
    /// The labels of an endpoint.
    pub(super) fn labels(&self, meta: Option<&At<Written>>) -> Labels {
        let written = meta.and_then(|meta| meta.value.as_ref());
        let labels = written.into_iter().flatten().filter(|(key, _)| *key != WEIGHT);
        labels.filter_map(|(key, field)| Some((key.clone(), field.as_ref()?.value.clone()?))).collect()
    }

    /// The subset that a route asks for.
    pub(super) fn metadata_match(&self, field: Option<&At<Written>>, cluster: usize) -> Option<usize> {
        let field = field?;
        let labels = self.wanted("metadata_match", field)?;
        Some(self.ask(cluster, labels, field.key))
    }

    fn wanted(&self, key: &str, field: &At<Written>) -> Option<Labels> {
        let written = field.value.as_ref()?;
        if written.is_empty() {
            let error = Diagnostic::new(field.key, format!("`{key}` names no label"));
            self.error(error.label("such as `{version: v2}`"));
            return None;
        }
        if let Some(weight) = written.get(WEIGHT) {
            let error = Diagnostic::new(weight.as_ref().map_or(field.key, |weight| weight.key), "`weight` is no label");
            self.error(error.label("every other key of an endpoint's `meta` is"));
            return None;
        }
        let value = |key: &str, value: &Option<At<String>>| match value {
            Some(value) => value.value.clone(),
            None => {
                self.error(Diagnostic::new(field.key, format!("the label `{key}` has no value")));
                None
            }
        };
        written.iter().map(|(key, text)| Some((key.clone(), value(key, text)?))).collect()
    }

    fn ask(&self, cluster: usize, labels: Labels, place: Place) -> usize {
        let mut asked = self.asked.borrow_mut();
        let asked = asked.entry(cluster).or_default();
        asked.iter().position(|(known, _)| *known == labels).unwrap_or_else(|| {
            asked.push((labels, place));
            asked.len() - 1
        })
    }

    /// What is asked of a cluster, and who takes the calls that nobody has the labels for.
    pub(super) fn subsets(
        &self,
        cluster: &Cluster,
        index: usize,
        endpoints: &[plan::Endpoint],
        scope: &Scope,
    ) -> (Vec<Labels>, SubsetFallback) {
        let fallback = self.fallback(cluster, index, scope);
        let asked = self.asked.borrow().get(&index).cloned().unwrap_or_default();
        if asked.is_empty() && cluster.lb_subset_config.is_some() {
            let why = "no route to this cluster has `metadata_match`";
            self.useless("lb_subset_config", cluster.lb_subset_config.as_ref(), why);
        }
        for (at, (labels, place)) in asked.iter().enumerate() {
            if let Some(why) = missing(endpoints, labels) {
                let is_needed = match fallback {
                    SubsetFallback::NoFallback => true,
                    SubsetFallback::AnyEndpoint => false,
                    SubsetFallback::DefaultSubset(default) => default == at,
                };
                self.nobody_has(labels, *place, &why, is_needed, scope);
            }
        }
        self.unasked_labels(cluster, &asked);
        (asked.into_iter().map(|(labels, _)| labels).collect(), fallback)
    }

    /// The first labels that a route asks of a cluster, and where.
    pub(super) fn asked_of(&self, cluster: usize) -> Option<(Labels, Place)> {
        self.asked.borrow().get(&cluster)?.first().cloned()
    }

    fn nobody_has(&self, labels: &Labels, place: Place, why: &str, is_needed: bool, scope: &Scope) {
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let text = format!("no endpoint of {} has `{}`", scope.what, labels.join(", "));
        if is_needed {
            self.error(Diagnostic::new(place, text).label(why));
        } else {
            self.notice(place, format!("{text}: its calls go where `lb_subset_config` says"));
        }
    }

    fn fallback(&self, cluster: &Cluster, index: usize, scope: &Scope) -> SubsetFallback {
        let Some((field, config)) = cluster.lb_subset_config.as_ref().and_then(|at| Some((at, at.value.as_ref()?)))
        else {
            return SubsetFallback::NoFallback;
        };
        let policy = config.fallback_policy.as_ref().and_then(|at| Some((at, &at.value.as_ref()?.0)));
        let known = policy.map_or(Some("NO_FALLBACK"), |(at, text)| {
            let known = POLICIES.into_iter().find(|policy| policy.eq_ignore_ascii_case(text));
            if known.is_none() {
                let label = did_you_mean(&text.to_ascii_uppercase(), POLICIES);
                let label = label.unwrap_or_else(|| format!("one of `{}`", POLICIES.join("`, `")));
                self.error(Diagnostic::new(at.place, format!("unknown fallback policy `{text}`")).label(label));
            }
            known
        });
        match (known, &config.default_subset) {
            (Some("DEFAULT_SUBSET"), _) => {
                let inner = scope.key("lb_subset_config", field);
                let default = self.required(config.default_subset.as_ref(), "default_subset", &inner);
                let wanted = default.and_then(|field| Some((self.wanted("default_subset", field)?, field.key)));
                wanted.map_or(SubsetFallback::NoFallback, |(labels, place)| {
                    SubsetFallback::DefaultSubset(self.ask(index, labels, place))
                })
            }
            (Some(policy), default) => {
                let why = "`fallback_policy` is not `DEFAULT_SUBSET`";
                self.useless("default_subset", default.as_ref(), why);
                if policy == "ANY_ENDPOINT" { SubsetFallback::AnyEndpoint } else { SubsetFallback::NoFallback }
            }
            (None, _) => SubsetFallback::NoFallback,
        }
    }

    /// A label that nobody asks for is misspelt, or somebody forgot to ask.
    fn unasked_labels(&self, cluster: &Cluster, asked: &[(Labels, Place)]) {
        let endpoints = cluster.endpoints.as_ref().and_then(|at| at.value.as_deref()).unwrap_or_default();
        let metas = endpoints.iter().filter_map(|at| at.value.as_ref()?.meta.as_ref());
        for (meta, written) in metas.filter_map(|meta| Some((meta, meta.value.as_ref()?))) {
            for (label, field) in written.iter().filter(|(label, _)| *label != WEIGHT) {
                if !asked.iter().any(|(labels, _)| labels.contains_key(label)) {
                    let place = field.as_ref().map_or(meta.key, |field| field.key);
                    self.notice(place, format!("the label `{label}` has no effect: no `metadata_match` asks for it"));
                }
            }
        }
    }
}

/// Why no endpoint has all of these labels; `None` where one has.
fn missing(endpoints: &[plan::Endpoint], labels: &Labels) -> Option<String> {
    let has = |one: &plan::Endpoint| labels.iter().all(|(key, value)| one.labels.get(key) == Some(value));
    if endpoints.is_empty() || endpoints.iter().any(has) {
        return None;
    }
    for (key, value) in labels {
        let mut there: Vec<&str> = endpoints.iter().filter_map(|one| Some(one.labels.get(key)?.as_str())).collect();
        there.sort_unstable();
        there.dedup();
        if there.is_empty() {
            return Some(format!("none of its endpoints has the label `{key}` in its `meta`"));
        }
        if !there.contains(&value.as_str()) {
            return Some(format!("its endpoints have `{key}` {}", there.join(", ")));
        }
    }
    Some("each of these labels is there, but not at one endpoint".to_owned())
}
