//! The tasks that look after a cluster, through all of its configurations.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::{Cluster, dns, outlier, slow_start};

/// A configuration of the cluster whose time begins.
#[derive(Debug)]
pub(crate) struct Tenure {
    pub(crate) cluster: Arc<Cluster>,
    /// Hears when the search for its endpoints has been tried once: whoever does not wait for that has the first calls
    /// refused.
    pub(crate) ready: oneshot::Sender<()>,
}

/// The tasks of the clusters of one name. They end with it.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) cluster: Arc<Cluster>,
    tenures: mpsc::Sender<Tenure>,
    _discovery: Task,
    watchers: [Task; 2],
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(super) struct Task(AbortHandle);

impl Task {
    /// On the current runtime.
    pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Task {
        Task(tokio::spawn(task).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Keeper {
    /// Begins to look after a cluster.
    pub(crate) fn new(cluster: Arc<Cluster>) -> (Keeper, oneshot::Receiver<()>) {
        let (tenures, told) = mpsc::channel(1);
        let (ready, is_ready) = oneshot::channel();
        // There is room for one.
        let _ = tenures.try_send(Tenure { cluster: cluster.clone(), ready });
        let watchers = watchers(&cluster);
        (Keeper { cluster, tenures, _discovery: Task::spawn(dns::discover(told)), watchers }, is_ready)
    }

    /// Goes on with another configuration of the cluster.
    pub(crate) async fn hand_over(&mut self, cluster: Arc<Cluster>) -> oneshot::Receiver<()> {
        let (ready, is_ready) = oneshot::channel();
        self.watchers = watchers(&cluster);
        let _ = self.tenures.send(Tenure { cluster: cluster.clone(), ready }).await;
        self.cluster = cluster;
        is_ready
    }
}

fn watchers(cluster: &Arc<Cluster>) -> [Task; 2] {
    [Task::spawn(outlier::detect(cluster.clone())), Task::spawn(slow_start::grow(cluster.clone()))]
}
