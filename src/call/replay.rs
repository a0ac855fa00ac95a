//! What has been sent of a request, kept for another attempt until the response begins.

use std::sync::Arc;

use bytes::Bytes;

use crate::cluster::Cluster;
use crate::metrics::WorkerMetrics;

/// Beyond this a call without a retry policy gets no second attempt. Most unary requests and the start of every stream fit.
const LIMIT: usize = 64 * 1024;

/// The DATA of a request so far, as shared slices.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    /// Most requests are one chunk: it needs no list.
    first: Option<Bytes>,
    more: Vec<Bytes>,
    size: usize,
    over: bool,
    /// What bounds it where the call has a retry policy.
    claim: Option<Box<Claim>>,
}

/// A call's part of what its cluster keeps.
#[derive(Debug)]
pub(crate) struct Claim {
    cluster: Arc<Cluster>,
    metrics: Arc<WorkerMetrics>,
    kept: usize,
}

impl Replay {
    pub(crate) fn new(claim: Option<Box<Claim>>) -> Replay {
        Replay { claim, ..Replay::default() }
    }

    /// Keeps a chunk that is about to be sent.
    pub(crate) fn keep(&mut self, chunk: &Bytes) {
        if self.over || chunk.is_empty() {
            return;
        }
        self.size += chunk.len();
        let fits = match &mut self.claim {
            None => self.size <= LIMIT,
            Some(claim) => claim.take(chunk.len()),
        };
        if !fits {
            self.end();
        } else if self.first.is_none() {
            self.first = Some(chunk.clone());
        } else {
            self.more.push(chunk.clone());
        }
    }

    /// No further attempt can come: the response has begun, or too much has been sent.
    pub(crate) fn end(&mut self) {
        self.over = true;
        self.first = None;
        self.more = Vec::new();
        self.claim = None;
    }

    /// True while a second attempt could send all that the first did.
    pub(crate) fn is_whole(&self) -> bool {
        !self.over
    }

    /// The chunks in their order.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        self.first.iter().chain(&self.more)
    }
}

impl Claim {
    pub(crate) fn new(cluster: Arc<Cluster>, metrics: Arc<WorkerMetrics>) -> Claim {
        Claim { cluster, metrics, kept: 0 }
    }

    /// Takes room for more. False when there is none, and then the call goes on without.
    fn take(&mut self, bytes: usize) -> bool {
        let within = self.kept + bytes <= self.cluster.plan.retry_buffer.per_call;
        if within && self.cluster.retries.keep(bytes) {
            self.kept += bytes;
            return true;
        }
        self.metrics.retry_buffer_overflows[self.cluster.index].add(1);
        false
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.cluster.retries.release(self.kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_all_or_nothing() {
        let mut replay = Replay::default();
        replay.keep(&Bytes::from(vec![1; LIMIT - 1]));
        replay.keep(&Bytes::from_static(b"x"));
        assert!(replay.is_whole());
        assert_eq!(replay.chunks().map(Bytes::len).sum::<usize>(), LIMIT);
        replay.keep(&Bytes::from_static(b"y"));
        assert!(!replay.is_whole());
        assert_eq!(replay.chunks().count(), 0);
    }
}
