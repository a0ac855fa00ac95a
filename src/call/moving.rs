//! What ends a call so that its client opens it anew, elsewhere.

use std::rc::Rc;
use std::task::{Context, Poll};

use crate::local::RouteTarget;
use crate::upstream::{Enrolled, Move, Pool, Stream};

/// A call whose stream may have to move.
pub(super) struct Moving {
    stream: Rc<Stream>,
    /// The stream's place in the pool of its attempt.
    enrolled: Option<Enrolled>,
}

impl Moving {
    /// For a call of this route. `None` where nothing makes its streams move.
    pub(super) fn new(route: &RouteTarget) -> Option<Moving> {
        let moves = route.upstream.cluster.plan.ends_streams();
        moves.then(|| Moving { stream: Rc::default(), enrolled: None })
    }

    /// The call has a stream of this pool now.
    pub(super) fn is_at(&mut self, pool: &Rc<Pool>) {
        self.stream.forget();
        self.enrolled = pool.enroll(&self.stream);
    }

    /// Ready when the stream has to move.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Move> {
        self.stream.poll_told(cx)
    }
}
