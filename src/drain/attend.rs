//! A drain without an end of the process: `/drain` and `/undrain` of the admin listener.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::{Instant, interval, sleep};

use super::{Left, Stage};
use crate::admin::State;
use crate::worker::Command;

/// How often clients are asked to leave that came in spite of the drain. They could make their calls meanwhile.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// How often a drain's progress is logged.
pub(crate) const REPORT: Duration = Duration::from_secs(5);

/// Does what the stages ask for, until the process ends.
pub(crate) async fn attend(state: Arc<ArcSwap<State>>) {
    let mut stages = state.load().drain.follow();
    let mut is_drained = false;
    loop {
        let stage = *stages.borrow_and_update();
        match stage {
            Stage::Drained { since } => {
                is_drained = true;
                tokio::select! {
                    never = drain(&state, since) => match never {},
                    changed = stages.changed() => drop(changed),
                }
                continue;
            }
            Stage::Serving if std::mem::take(&mut is_drained) => {
                state.load().tell_workers(|| Command::KeepStreams);
                tracing::info!("the drain is taken back");
            }
            Stage::Serving => {}
            Stage::Leaving => return,
        }
        if stages.changed().await.is_err() {
            return;
        }
    }
}

/// Has clients leave, for as long as it is polled.
async fn drain(state: &ArcSwap<State>, since: Instant) -> Infallible {
    let Left { calls, connections, .. } = state.load().left();
    tracing::info!(calls, connections, "drain begins, and can be taken back");
    let ask = async {
        let mut again = interval(ASK_AGAIN);
        loop {
            again.tick().await;
            state.load().tell_workers(|| Command::Drain);
        }
    };
    let end_streams = async {
        let delay = state.load().plan.shutdown.delay;
        sleep(delay.saturating_sub(since.elapsed())).await;
        state.load().tell_workers(|| Command::EndStreams);
        std::future::pending::<Infallible>().await
    };
    let report = async {
        let mut was_empty = false;
        loop {
            sleep(REPORT).await;
            let left = state.load().left();
            if left.calls > 0 {
                left.report();
            } else if !was_empty {
                tracing::info!("drained: no call is in flight");
            }
            was_empty = left.calls == 0;
        }
    };
    tokio::select! {
        never = ask => never,
        never = end_streams => never,
        never = report => never,
    }
}
