//! A pause in which everybody else has a turn.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::task::yield_now;

/// Lasts until the sockets have been asked what has come meanwhile. The runtime does that when no task is ready any more, or after
/// sixty-one of them.
///
/// A task that just wakes itself may be all of these sixty-one. And whoever is woken is not known to have been woken for this: h2
/// wakes its connection for every stream that is dropped.
#[derive(Debug)]
pub(super) struct Rest(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    is_over: AtomicBool,
    task: Waker,
}

impl Rest {
    /// Begins one, at the end of which this task is woken.
    pub(super) fn begin(cx: &Context<'_>) -> Rest {
        let inner = Arc::new(Inner { is_over: AtomicBool::new(false), task: cx.waker().clone() });
        let waker = Waker::from(inner.clone());
        // Its first poll leaves the waker with the runtime, and that is all there is to it.
        let _ = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
        Rest(inner)
    }

    /// Ready when it is over.
    pub(super) fn poll(&self) -> Poll<()> {
        if self.0.is_over.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Wake for Inner {
    fn wake(self: Arc<Self>) {
        self.is_over.store(true, Ordering::Relaxed);
        self.task.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn the_sockets_are_asked_before_it_is_over() {
        const TRIPS: usize = 20;
        let turns = Arc::new(AtomicUsize::new(0));
        let (counted, mut rest) = (turns.clone(), None);
        let busy = tokio::spawn(poll_fn(move |cx| {
            if rest.as_ref().is_none_or(|rest: &Rest| rest.poll().is_ready()) {
                counted.fetch_add(1, Ordering::Relaxed);
                rest = Some(Rest::begin(cx));
                // As h2 does for streams that were dropped in this turn.
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        }));
        let (mut near, mut far) = UnixStream::pair().expect("a pair");
        for _ in 0..TRIPS {
            near.write_all(b"x").await.expect("a write");
            far.read_exact(&mut [0]).await.expect("a byte");
        }
        let turns = turns.load(Ordering::Relaxed);
        assert!((1..TRIPS * 5).contains(&turns), "{turns} turns in {TRIPS} trips");
        busy.abort();
    }
}
