//! Places of counters: a name has one for as long as anything may still count there, through every reload.

use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The place of a listener's or a cluster's counters. Whoever counts there holds it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) index: usize,
    pub(crate) name: Arc<str>,
}

/// The places of listeners and of clusters.
#[derive(Debug, Default)]
pub(crate) struct Places {
    pub(crate) listeners: Slots,
    pub(crate) clusters: Slots,
}

#[cfg(test)]
impl Slot {
    /// The first place, where there is no other.
    pub(crate) fn only(name: &str) -> Arc<Slot> {
        Arc::new(Slot { index: 0, name: name.into() })
    }
}

/// The places that are taken.
#[derive(Debug, Default)]
pub(crate) struct Slots(Mutex<Vec<Weak<Slot>>>);

impl Slots {
    /// The place of this name: the one that it has, or else the first that is free, whose counters `clear` sets to zero
    /// before anybody counts there again.
    pub(crate) fn take(&self, name: &Arc<str>, clear: impl FnOnce(usize)) -> Arc<Slot> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = slots.iter().filter_map(Weak::upgrade).find(|slot| slot.name == *name);
        if let Some(slot) = known {
            return slot;
        }
        let free = slots.iter().position(|slot| slot.strong_count() == 0);
        let index = free.unwrap_or(slots.len());
        if free.is_some() {
            // What the last one who counted there has written comes before the zeros.
            fence(Ordering::Acquire);
            clear(index);
        } else {
            slots.push(Weak::new());
        }
        let slot = Arc::new(Slot { index, name: name.clone() });
        slots[index] = Arc::downgrade(&slot);
        slot
    }

    /// Those that are taken, in the order in which they were first.
    pub(crate) fn taken(&self) -> Vec<Arc<Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_place_and_a_place_outlives_it_by_nobody() {
        let slots = Slots::default();
        let [a, b] = ["a", "b"].map(Arc::<str>::from);
        let mut cleared = Vec::new();
        let first = slots.take(&a, |at| cleared.push(at));
        let second = slots.take(&b, |at| cleared.push(at));
        assert!(Arc::ptr_eq(&first, &slots.take(&a, |at| cleared.push(at))));
        assert_eq!((first.index, second.index, cleared.len()), (0, 1, 0));
        let counting = first.clone();
        drop(first);
        assert_eq!(slots.take(&"c".into(), |at| cleared.push(at)).index, 2, "somebody still counts for a");
        drop(counting);
        assert_eq!(slots.taken().len(), 1, "a and c are gone");
        assert_eq!(slots.take(&"d".into(), |at| cleared.push(at)).index, 0);
        assert_eq!(cleared, [0]);
    }
}
