//! Has long-lived streams move to an endpoint that joins. Each worker does so with its own, and so they need no lock.

use std::collections::HashMap;
use std::rc::Rc;

use tokio::time::Instant;

use super::pool::Pool;
use super::streams::{Move, Stream};
use crate::chance;
use crate::cluster::Members;
use crate::config::plan::{self, Balance};

/// Streams are counted at most so often in a window: with many, one count for each would take long.
const COUNTS: u32 = 100;

/// A worker's part in the rebalancing of a cluster.
pub(super) struct Rebalance {
    plan: plan::Rebalance,
    cluster: String,
    balance: Balance,
    /// The endpoints that got calls when that was last looked at, by their ids, and what each may expect of them.
    usable: HashMap<usize, f64>,
    /// When streams are to end, the next one last.
    due: Vec<Instant>,
    /// No streams end before.
    pause: Instant,
}

/// The streams of an endpoint that could move.
struct Load {
    streams: usize,
    /// Those among them that are old enough.
    old: Vec<Rc<Stream>>,
    weight: f64,
}

impl Rebalance {
    pub(super) fn new(plan: plan::Rebalance, cluster: &plan::Cluster) -> Rebalance {
        let (balance, usable, due) = (cluster.balance.clone(), HashMap::new(), Vec::new());
        Rebalance { plan, cluster: cluster.name.to_string(), balance, usable, due, pause: Instant::now() }
    }

    /// Does what is due now, and says when there will be more.
    pub(super) fn follow(&mut self, members: &Members, pools: &[Rc<Pool>]) -> Option<Instant> {
        if self.has_to_begin(members) {
            self.begin(&self.loads(pools));
        }
        let now = Instant::now();
        let due = self.due.iter().rev().take_while(|due| **due <= now).count();
        if due > 0 && now >= self.pause {
            self.due.truncate(self.due.len() - due);
            end(due, &mut self.loads(pools));
            self.pause = now + self.plan.window / COUNTS;
        }
        self.due.last().map(|due| (*due).max(self.pause))
    }

    /// True when an endpoint gets calls that got none, or when one gets none any more while streams move. In panic all are used,
    /// whoever joins.
    fn has_to_begin(&mut self, members: &Members) -> bool {
        let expected = members.expected(&self.balance).into_iter();
        let usable: HashMap<usize, f64> = expected.map(|(endpoint, share)| (endpoint.id, share)).collect();
        let joined = usable.keys().any(|id| !self.usable.contains_key(id));
        let left = self.usable.keys().any(|id| !usable.contains_key(id));
        self.usable = usable;
        (joined || left && !self.due.is_empty()) && !members.panic
    }

    /// Plans the ends of as many streams as are above what each endpoint should have. What an earlier joining has left to do
    /// is in that number.
    fn begin(&mut self, loads: &[Load]) {
        let count = to_move(loads);
        let now = Instant::now();
        let at = |place: usize| (place as f64 + chance::fraction()) / count as f64;
        self.due = (0..count).rev().map(|place| now + self.plan.window.mul_f64(at(place))).collect();
        if count > 0 {
            let window = self.plan.window;
            tracing::info!(cluster = %self.cluster, streams = count, ?window, "endpoints have changed: streams move");
        }
    }

    /// What there is at each endpoint that gets calls.
    fn loads(&self, pools: &[Rc<Pool>]) -> Vec<Load> {
        let usable = pools.iter().filter_map(|pool| Some((pool, *self.usable.get(&pool.endpoint.id)?)));
        usable
            .map(|(pool, weight)| {
                let mut old = pool.streams().map(|streams| streams.settled()).unwrap_or_default();
                let streams = old.len();
                old.retain(|stream| stream.since.elapsed() >= self.plan.min_stream_age);
                Load { streams, old, weight }
            })
            .collect()
    }
}

/// How many streams each endpoint has above its share, or below.
fn surplus(loads: &[Load]) -> Vec<f64> {
    let streams: usize = loads.iter().map(|load| load.streams).sum();
    let weight: f64 = loads.iter().map(|load| load.weight).sum();
    loads.iter().map(|load| load.streams as f64 - streams as f64 * load.weight / weight).collect()
}

/// How many streams are above the share of their endpoint. A worker with few streams ends a part of one by chance: many such
/// workers together end as many as they should.
fn to_move(loads: &[Load]) -> usize {
    surplus(loads).into_iter().map(|surplus| (surplus.max(0.0) + chance::fraction()) as usize).sum()
}

/// Ends so many streams, each where there are the most above the share. Where there are none, nothing ends: the streams have
/// moved by themselves.
fn end(count: usize, loads: &mut [Load]) {
    for _ in 0..count {
        let surplus = surplus(loads);
        let fullest = (0..loads.len()).filter(|at| surplus[*at] > 0.0 && !loads[*at].old.is_empty());
        let Some(at) = fullest.max_by(|a, b| surplus[*a].total_cmp(&surplus[*b])) else { return };
        let load = &mut loads[at];
        let stream = load.old.swap_remove((chance::fraction() * load.old.len() as f64) as usize);
        load.streams -= 1;
        stream.tell(Move::Rebalance);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Uri};
    use weir_filter::Call;

    use super::*;

    /// So many streams, of which so many are old enough, at an endpoint of this weight.
    fn load(streams: usize, old: usize, weight: f64) -> Load {
        let call = Call {
            uri: Uri::from_static("/test.Echo/Do"),
            metadata: HeaderMap::new(),
            peer: weir_filter::Peer::Ip(([127, 0, 0, 1], 1).into()),
            extensions: http::Extensions::new(),
        };
        let stream = |_| Rc::new(Stream::new(Instant::now(), &call, Rc::default()));
        Load { streams, old: (0..old).map(stream).collect(), weight }
    }

    fn even(streams: &[usize]) -> Vec<Load> {
        streams.iter().map(|streams| load(*streams, *streams, 1.0)).collect()
    }

    /// How many streams each endpoint has after so many should have ended.
    fn after(count: usize, mut loads: Vec<Load>) -> Vec<usize> {
        let old: Vec<Vec<Rc<Stream>>> = loads.iter().map(|load| load.old.clone()).collect();
        end(count, &mut loads);
        let told = |streams: &Vec<Rc<Stream>>| streams.iter().filter(|stream| stream.is_told()).count();
        let left: Vec<usize> = loads.iter().map(|load| load.streams).collect();
        let told: Vec<usize> = old.iter().zip(&left).map(|(old, left)| told(old) + left).collect();
        assert_eq!(told, old.iter().map(Vec::len).collect::<Vec<_>>(), "each one that ended was told");
        left
    }

    #[test]
    fn as_many_move_as_are_above_the_share() {
        for (streams, expected) in [
            (&[15, 15, 0][..], 10),
            (&[30, 0], 15),
            (&[10, 10, 10], 0),
            (&[0, 0], 0),
            (&[20, 4, 0], 12),
            (&[7], 0),
            (&[], 0),
        ] {
            assert_eq!(to_move(&even(streams)), expected, "{streams:?}");
        }
        // One that weighs twice as much may have twice as many.
        assert_eq!(to_move(&[load(20, 20, 2.0), load(12, 12, 1.0), load(0, 0, 1.0)]), 4 + 4);
    }

    #[test]
    fn many_workers_with_one_stream_each_end_their_share() {
        let ends: usize = (0..3000).map(|_| to_move(&even(&[1, 0, 0]))).sum();
        assert!((1850..2150).contains(&ends), "two of three: {ends}");
    }

    #[test]
    fn streams_end_where_there_are_the_most() {
        assert_eq!(after(10, even(&[15, 15, 0])), [10, 10, 0]);
        assert_eq!(after(4, even(&[15, 9, 0])), [11, 9, 0]);
        // What has moved by itself meanwhile need not be moved.
        assert_eq!(after(10, even(&[10, 10, 10])), [10, 10, 10]);
    }

    #[test]
    fn young_streams_stay() {
        let mut loads = vec![load(15, 2, 1.0), load(0, 0, 1.0)];
        end(7, &mut loads);
        assert_eq!(loads[0].streams, 13);
    }
}
