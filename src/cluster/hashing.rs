//! Consistent hashing: a ring, and Maglev's table (Eisenbud et al., NSDI 2016, section 3.4).

/// Points of the ring altogether, at least; shared out by weight.
const RING_POINTS: u64 = 1024;

/// A single endpoint's points, at least: fewer would make its share a matter of luck.
const POINTS_EACH: u64 = 160;

/// A point of the ring or the table leads to a place in the list it was built from.
#[derive(Debug)]
pub(super) struct Ring {
    points: Vec<(u64, u32)>,
}

/// Maglev's look-up table.
#[derive(Debug)]
pub(super) struct Maglev {
    table: Vec<u32>,
}

impl Ring {
    /// A ring over names and weights, on which the least weight has `replicas` points.
    pub(super) fn new<'a>(members: impl Iterator<Item = (&'a str, u32)> + Clone, replicas: Option<u32>) -> Ring {
        let count = members.clone().count().max(1) as u64;
        let least = members.clone().map(|(_, weight)| u64::from(weight)).min().unwrap_or(1).max(1);
        let each = replicas.map_or(POINTS_EACH.max(RING_POINTS / count), u64::from);
        let mut points = Vec::new();
        for (place, (name, weight)) in (0_u32..).zip(members) {
            // A weight of a thousand times the least is capped, or one endpoint's points would fill memory.
            let share = (each * u64::from(weight) / least).min(each * 1000);
            points.extend((0..share).map(|point| (hash(name.as_bytes(), point + 1), place)));
        }
        points.sort_unstable();
        Ring { points }
    }

    #[cfg(test)]
    pub(super) fn points(&self) -> usize {
        self.points.len()
    }

    /// The places around the ring from this hash on, each as often as it has points; the first owns it.
    pub(super) fn from(&self, hash: u64) -> impl Iterator<Item = usize> {
        let next = self.points.partition_point(|(point, _)| *point < hash);
        self.points[next..].iter().chain(&self.points[..next]).map(|(_, place)| *place as usize)
    }
}

impl Maglev {
    /// A table over names and weights. `size` is a prime, and large against the number of members, as the paper asks.
    pub(super) fn new<'a>(members: impl Iterator<Item = (&'a str, u32)> + Clone, size: u32) -> Maglev {
        struct Wish {
            next: usize,
            step: usize,
            weight: f64,
            turns: f64,
        }
        let length = size as usize;
        let size = u64::from(size);
        let most = members.clone().map(|(_, weight)| weight).max().unwrap_or(1).max(1);
        let mut wishes: Vec<Wish> = members
            .map(|(name, weight)| Wish {
                next: (hash(name.as_bytes(), 0) % size) as usize,
                step: (hash(name.as_bytes(), 1) % (size - 1) + 1) as usize,
                weight: f64::from(weight) / f64::from(most),
                turns: 0.0,
            })
            .collect();
        let mut table = vec![u32::MAX; length];
        let mut filled = if wishes.is_empty() { length } else { 0 };
        while filled < length {
            for (place, wish) in (0_u32..).zip(&mut wishes) {
                wish.turns += wish.weight;
                if wish.turns < 1.0 || filled == length {
                    continue;
                }
                wish.turns -= 1.0;
                while table[wish.next] != u32::MAX {
                    wish.next = (wish.next + wish.step) % length;
                }
                table[wish.next] = place;
                filled += 1;
            }
        }
        Maglev { table }
    }

    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.table.len()
    }

    /// The places along the table from this hash on, each as often as it has slots; the first owns it.
    pub(super) fn from(&self, hash: u64) -> impl Iterator<Item = usize> {
        let (before, after) = self.table.split_at(self.slot(hash));
        after.iter().chain(before).map(|place| *place as usize)
    }

    fn slot(&self, hash: u64) -> usize {
        (hash % self.table.len() as u64) as usize
    }
}

/// FNV-1a with a finisher: the same in every process and version, so that replicas of a gateway agree.
pub(super) fn hash(bytes: &[u8], seed: u64) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
