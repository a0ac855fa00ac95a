//! Cells that a reload may add to while they are read and written.

use std::ops::Index;
use std::sync::OnceLock;

/// How often the room may double.
const DOUBLINGS: usize = 24;

/// The size of the first room that is added.
const FIRST: usize = 16;

/// A list that grows and never moves what it holds: whoever writes a cell needs no lock.
///
/// What it began with is reached as in a slice. What came later lies in rooms that double in size, each made when somebody
/// first asks for it.
#[derive(Debug)]
pub(crate) struct Growing<T> {
    first: Box<[T]>,
    later: [OnceLock<Box<[T]>>; DOUBLINGS],
    /// Makes one that nobody has touched.
    fresh: fn(usize) -> T,
    /// What `fresh` is given.
    size: usize,
}

impl<T: Default> Growing<T> {
    /// With room for so many from the start.
    pub(crate) fn new(count: usize) -> Growing<T> {
        Growing::made_by(count, 0, |_| T::default())
    }
}

impl<T> Growing<T> {
    /// The same, where each is made from a size.
    pub(crate) fn made_by(count: usize, size: usize, fresh: fn(usize) -> T) -> Growing<T> {
        let first = (0..count).map(|_| fresh(size)).collect();
        Growing { first, later: [const { OnceLock::new() }; DOUBLINGS], fresh, size }
    }

    /// Those that somebody has asked for, and their neighbours.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(self.later.iter().filter_map(OnceLock::get).flatten())
    }

    #[cold]
    fn added(&self, index: usize) -> &T {
        let room = (index / FIRST + 1).ilog2() as usize;
        let before = FIRST * ((1 << room) - 1);
        let fresh = || (0..FIRST << room).map(|_| (self.fresh)(self.size)).collect();
        &self.later[room].get_or_init(fresh)[index - before]
    }
}

impl<T> Index<usize> for Growing<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        match self.first.get(index) {
            Some(value) => value,
            None => self.added(index - self.first.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cell;
    use super::*;

    #[test]
    fn every_place_is_a_cell_of_its_own_and_stays_where_it_is() {
        let cells = Growing::<Cell>::new(3);
        let first: *const Cell = &cells[200];
        (0..1000).for_each(|at| cells[at].add(at as u64));
        assert!((0..1000).all(|at| cells[at].get() == at as u64));
        assert!(std::ptr::eq(first, &cells[200]));
        assert_eq!(cells.iter().map(Cell::get).sum::<u64>(), 999 * 1000 / 2);
    }
}
