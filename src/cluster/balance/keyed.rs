//! Policies that hash a key of the call: equal keys go to the same endpoint.

use std::sync::Arc;

use super::{Question, Turn};
use crate::cluster::Endpoint;
use crate::cluster::hashing::{self, Maglev, Ring};
use crate::config::plan::{Consistent, HashOn};

/// A hashing policy.
#[derive(Debug)]
pub(super) struct Keyed {
    table: Table,
    on: HashOn,
    /// No endpoint gets more than this percentage of its even share (Mirrokni, Thorup and Zadimoghaddam, "Consistent
    /// Hashing with Bounded Loads", 2016).
    bound: Option<u32>,
    /// Of all that may be chosen, together.
    weight: u64,
}

#[derive(Debug)]
enum Table {
    Ring(Ring),
    Maglev(Maglev),
}

impl Keyed {
    pub(super) fn ring(endpoints: &[Arc<Endpoint>], up: &[usize], on: &HashOn, sizes: Consistent) -> Keyed {
        let named = up.iter().map(|at| (&*endpoints[*at].label, endpoints[*at].weight));
        Keyed::new(Table::Ring(Ring::new(named, sizes.replicas)), endpoints, up, on, sizes)
    }

    pub(super) fn maglev(endpoints: &[Arc<Endpoint>], up: &[usize], on: &HashOn, sizes: Consistent) -> Keyed {
        let named = up.iter().map(|at| (&*endpoints[*at].label, endpoints[*at].weight));
        Keyed::new(Table::Maglev(Maglev::new(named, sizes.table_size)), endpoints, up, on, sizes)
    }

    fn new(table: Table, endpoints: &[Arc<Endpoint>], up: &[usize], on: &HashOn, sizes: Consistent) -> Keyed {
        let weight = up.iter().map(|at| u64::from(endpoints[*at].weight)).sum();
        Keyed { table, on: on.clone(), bound: sizes.balance_factor, weight }
    }

    /// The hash of a call's key; by chance where it has none.
    pub(super) fn hash(&self, turn: &Turn, question: &Question<'_>) -> u64 {
        match &self.on {
            HashOn::Path => hashing::hash(question.path.as_bytes(), 0),
            HashOn::Metadata(key) => match question.metadata.get(key) {
                Some(value) => hashing::hash(value.as_bytes(), 0),
                None => turn.random(),
            },
        }
    }

    /// Where a key belongs, or where it goes while there is too much to do there.
    pub(super) fn choose(&self, endpoints: &[Arc<Endpoint>], up: &[usize], hash: u64) -> usize {
        let own = self.table.find(hash, |_| true).unwrap_or(0);
        match self.bound {
            None => own,
            Some(bound) => {
                let has_room = self.has_room(endpoints, up, bound);
                if has_room(&own) { own } else { self.table.find(hash, has_room).unwrap_or(own) }
            }
        }
    }

    /// The same among those that `may` be taken.
    pub(super) fn choose_again(
        &self,
        endpoints: &[Arc<Endpoint>],
        up: &[usize],
        hash: u64,
        may: impl Fn(&usize) -> bool,
    ) -> Option<usize> {
        let with_room = self.bound.and_then(|bound| {
            let has_room = self.has_room(endpoints, up, bound);
            self.table.find(hash, |place| may(place) && has_room(place))
        });
        with_room.or_else(|| self.table.find(hash, may))
    }

    /// Whether an endpoint stays within its bound with one call more. There is always one that does.
    fn has_room(&self, endpoints: &[Arc<Endpoint>], up: &[usize], bound: u32) -> impl Fn(&usize) -> bool {
        let load = |at: &usize| endpoints[*at].load() as u64;
        let total = up.iter().map(load).sum::<u64>() + 1;
        move |place| {
            let endpoint = &endpoints[up[*place]];
            let share = u128::from(total) * u128::from(endpoint.weight) * u128::from(bound);
            let most = share.div_ceil(u128::from(self.weight) * 100);
            (endpoint.load() as u128) < most
        }
    }
}

impl Table {
    /// The first place from this hash on that `may` be taken.
    fn find(&self, hash: u64, may: impl Fn(&usize) -> bool) -> Option<usize> {
        match self {
            Table::Ring(ring) => ring.from(hash).find(may),
            Table::Maglev(table) => table.from(hash).find(may),
        }
    }

    #[cfg(test)]
    pub(super) fn points(&self) -> usize {
        match self {
            Table::Ring(ring) => ring.points(),
            Table::Maglev(table) => table.slots(),
        }
    }
}

#[cfg(test)]
impl Keyed {
    /// How large its table is.
    pub(super) fn points(&self) -> usize {
        self.table.points()
    }
}
