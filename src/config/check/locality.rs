//! Priorities, and localities, which make priorities of their own.

use super::{Checker, Scope};
use crate::config::file::cluster::{Cluster, Endpoint};
use crate::config::file::{self, Identity};
use crate::config::located::At;
use crate::config::plan::{self, Locality};

/// Endpoints that do not say where they stand are as far as those of another region.
const FARTHEST: u32 = 3;

impl Checker<'_, '_> {
    /// Where this process stands.
    pub(super) fn here(&self, node: Option<&At<Identity>>) -> Option<Locality> {
        let field = node?.value.as_ref()?.locality.as_ref()?;
        self.locality(field, &Scope::new(field.key, "`locality` of `node`"))
    }

    fn locality(&self, field: &At<file::balance::Locality>, scope: &Scope) -> Option<Locality> {
        let locality = field.value.as_ref()?;
        let region = self.required(locality.region.as_ref(), "region", scope)?;
        let text = |field: &Option<At<String>>, key| Some(self.text(field.as_ref()?, key)?.to_owned());
        let region = self.text(region, "region")?.to_owned();
        Some(Locality { region, zone: text(&locality.zone, "zone"), sub_zone: text(&locality.sub_zone, "sub_zone") })
    }

    /// How far an endpoint is from here.
    pub(super) fn distance(&self, endpoint: &Endpoint, scope: &Scope) -> u32 {
        let Some(field) = &endpoint.locality else { return FARTHEST };
        let there = self.locality(field, &scope.key("locality", field));
        match (&self.here, there) {
            (None, _) => {
                self.useless("locality", Some(field), "`node` has no `locality`, so nobody knows what is near");
                FARTHEST
            }
            (Some(_), None) => FARTHEST,
            (Some(here), Some(there)) => FARTHEST - here.shared_with(&there),
        }
    }

    /// Makes one priority of each endpoint's own and its distance: near ones go before far ones of the same priority. The
    /// numbers are those of the levels that there are.
    pub(super) fn by_distance(&self, endpoints: &mut [(plan::Endpoint, u32)]) {
        if self.here.is_none() {
            return;
        }
        let mut levels: Vec<(u32, u32)> = endpoints.iter().map(|(one, distance)| (one.priority, *distance)).collect();
        levels.sort_unstable();
        levels.dedup();
        for (endpoint, distance) in endpoints {
            let level = levels.iter().position(|level| *level == (endpoint.priority, *distance));
            endpoint.priority = level.unwrap_or_default() as u32;
        }
    }

    pub(super) fn overprovisioning_factor(&self, cluster: &Cluster, endpoints: &[plan::Endpoint]) -> u32 {
        let field = cluster.overprovisioning_factor.as_ref();
        let first = endpoints.first().map(|one| one.priority);
        if endpoints.iter().all(|one| Some(one.priority) == first) {
            self.useless("overprovisioning_factor", field, "all endpoints have the same priority");
        }
        self.number(field, "overprovisioning_factor", 100..=1000, 140)
    }
}
