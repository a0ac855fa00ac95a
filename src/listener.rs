//! Accepts, and hands each connection to the worker with the fewest open streams.

mod admission;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use weir_filter::Peer;

use crate::socket::{ListeningSocket, Stream};
use crate::worker::Handle;

pub(crate) use admission::{Admission, Place, Refused};

/// Without descriptors `accept` fails at once and for ever. Waiting lets calls end and costs no core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts for as long as there is a worker to serve what comes. `number` is the listener's among all of the process.
pub(crate) async fn accept(
    number: usize,
    name: Arc<str>,
    listener: Arc<ListeningSocket>,
    admission: Arc<Admission>,
    workers: Arc<Vec<Handle>>,
) {
    let mut paused = false;
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                paused = false;
                let place = match admission.admit(peer) {
                    Ok(place) => place,
                    Err((why, times)) => {
                        tell_refused(&name, peer, why, times);
                        continue;
                    }
                };
                let Some(worker) = least_loaded(&workers) else {
                    return tracing::error!(listener = %name, "no worker is left: the listener closes");
                };
                if let Err(error) = hand_over(number, socket, peer, place, worker) {
                    tracing::warn!(%peer, %error, "a connection could not be handed over");
                }
            }
            // The client left before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !paused {
                    tracing::warn!(%error, "accepting is paused");
                    paused = true;
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A worker that has ended is passed over.
fn least_loaded(workers: &[Handle]) -> Option<&Handle> {
    workers.iter().filter(|worker| worker.is_alive()).min_by_key(|worker| worker.load())
}

/// A line for each would be one more thing to flood.
pub(crate) fn tell_refused(listener: &str, peer: Peer, why: Refused, times: u64) {
    if times.is_power_of_two() {
        tracing::warn!(listener, %peer, limit = why.name(), times, "a connection is refused");
    }
}

fn hand_over(number: usize, socket: Stream, peer: Peer, place: Place, worker: &Handle) -> io::Result<()> {
    worker.serve(number, socket.into_accepted()?, peer, place);
    Ok(())
}
