//! Another configuration for a gateway that serves.

use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::listening::{self, Listening, Place, Source};
use super::{Gateway, StartError};
use crate::access_log;
use crate::admin::State;
use crate::cluster::Cluster;
use crate::cluster::keeper::Keeper;
use crate::config::diff::{Change, diff};
use crate::config::plan::Binding;
use crate::config::{Diagnostics, Plan};
use crate::drain::Stage;
use crate::listener::Admission;
use crate::local::Parts;
use crate::tls;
use crate::worker::Command;

/// A reload that took effect.
#[derive(Debug)]
pub struct Reloaded {
    /// Counts the configurations of this process, from 1.
    pub version: u64,
    /// What is otherwise now.
    pub changes: Vec<Change>,
}

/// Why a reload did not take effect. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file is wrong.
    #[error("{0}")]
    Config(Diagnostics),
    /// The file is right, but has what cannot change while the gateway runs.
    #[error("{}", .0.join("\n"))]
    Fixed(Vec<String>),
    /// A socket or a file cannot be had.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Nobody can read a file again.
    #[error("this gateway was not started with a file that it can read again")]
    NoFile,
    /// The process ends.
    #[error("the gateway is draining")]
    Draining,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "configuration {} runs", self.version)?;
        if self.changes.is_empty() {
            return writeln!(f, "nothing has changed");
        }
        self.changes.iter().try_for_each(|change| write!(f, "{change}"))
    }
}

impl Gateway {
    /// Serves another configuration from now on, without a failed call: calls that have begun go on as they began, and what
    /// the new configuration leaves as it is stays as it is. It holds for every new call when this returns.
    ///
    /// It must be called on the runtime that the gateway was started on. A future that is dropped before its end leaves the
    /// old configuration, the new one, or some workers with each.
    ///
    /// # Errors
    ///
    /// What was loaded, where that is errors; when something cannot be had or cannot change. The old configuration goes on
    /// then, untouched.
    pub async fn reload(&mut self, loaded: Result<Plan, Diagnostics>) -> Result<Reloaded, ReloadError> {
        let reloaded = match loaded {
            Ok(plan) => self.replace(plan).await,
            Err(errors) => Err(ReloadError::Config(errors)),
        };
        match &reloaded {
            Ok(reloaded) => {
                let (version, changes) = (reloaded.version, reloaded.changes.len());
                tracing::info!(version, changes, "configuration reloaded");
                for change in &reloaded.changes {
                    tracing::info!(version, change = %change.in_a_line(), "configuration changed");
                }
            }
            Err(error) => {
                let errors = error.lines();
                tracing::error!(errors = errors.len(), "configuration not reloaded: the old one goes on");
                errors.iter().for_each(|error| tracing::error!(%error, "configuration not reloaded: what is wrong"));
            }
        }
        self.state.load().config.reloaded(reloaded.as_ref().err());
        reloaded
    }

    async fn replace(&mut self, plan: Plan) -> Result<Reloaded, ReloadError> {
        let state = self.state.load_full();
        if state.drain.get() == Stage::Leaving {
            return Err(ReloadError::Draining);
        }
        let plan = Arc::new(plan.with_tls_of(&state.plan));
        let fixed = fixed(&state.plan, &plan);
        if !fixed.is_empty() {
            return Err(ReloadError::Fixed(fixed));
        }
        // All that can fail, before anything changes.
        let sources = listening::sources(&plan.listeners, &self.listening)?;
        let log = plan.access_log.as_deref().map(|path| {
            access_log::open(path).map_err(|error| StartError::AccessLog { path: path.display().to_string(), error })
        });
        let log = log.transpose()?;

        let changes = diff(&state.plan, &plan);
        let clusters = self.replace_clusters(&state, &plan).await;
        self.replace_listeners(&state, &plan, &clusters, sources).await;
        tls::follow_files(&plan, Some(&state.plan), &mut self.control);
        let admissions = self.listening.iter().map(|one| one.admission.clone()).collect();
        if let (Some(log), Some(out)) = (&self.access_log, log) {
            log.go_on_in(out);
        }
        let version = state.config.begin_next();
        self.state.store(Arc::new(State { plan, clusters, admissions, ..State::clone(&state) }));
        Ok(Reloaded { version, changes })
    }

    /// The clusters of the new configuration, each with its endpoints.
    async fn replace_clusters(&mut self, state: &State, plan: &Plan) -> Vec<Arc<Cluster>> {
        let mut before = std::mem::take(&mut self.keepers);
        let mut ready = Vec::new();
        for cluster in &plan.clusters {
            let known = before.iter().position(|keeper| keeper.cluster.plan.name == cluster.name);
            let keeper = match known.map(|at| before.swap_remove(at)) {
                Some(keeper) if keeper.cluster.plan == *cluster => keeper,
                Some(mut keeper) => {
                    let next = Arc::new(Cluster::succeed(cluster.clone(), &keeper.cluster));
                    next.retries.watch(state.workers.iter().map(|worker| worker.metrics.clone()));
                    ready.push(keeper.hand_over(next).await);
                    keeper
                }
                None => {
                    let (keeper, is_ready) = super::start::keep(cluster, &state.places, &state.workers);
                    ready.push(is_ready);
                    keeper
                }
            };
            self.keepers.push(keeper);
        }
        for ready in ready {
            // It is as ready as it will be where its task is gone.
            let _ = ready.await;
        }
        self.keepers.iter().map(|keeper: &Keeper| keeper.cluster.clone()).collect()
    }

    /// Swaps what workers serve. Sockets that go are closed before, those that come accept afterwards.
    async fn replace_listeners(
        &mut self,
        state: &State,
        plan: &Arc<Plan>,
        clusters: &[Arc<Cluster>],
        sources: Vec<Source>,
    ) {
        let mut before = std::mem::take(&mut self.listening);
        let mut opened = Vec::new();
        for (plan, source) in plan.listeners.iter().zip(sources) {
            match source {
                Source::Kept(number) => {
                    let mut kept = before.iter().position(|one| one.number == number).map(|at| before.swap_remove(at));
                    kept.iter_mut().for_each(|kept| kept.go_on(plan));
                    opened.push((None, kept));
                }
                Source::Open(socket) => {
                    self.numbers += 1;
                    let slot = super::start::place_of(&plan.name, &state.places, &state.workers);
                    opened.push((Some((self.numbers, slot, socket)), None));
                }
            }
        }
        for gone in before {
            self.cut_later(state, &gone);
            gone.stop().await;
        }
        let listeners = opened.iter().filter_map(|(new, kept)| match (new, kept) {
            (Some((number, slot, _)), _) => Some((*number, slot.clone())),
            (None, kept) => kept.as_ref().map(|kept| (kept.number, kept.slot.clone())),
        });
        let (listeners, memory) = (listeners.collect(), state.memory.clone());
        let parts = Parts { plan: plan.clone(), listeners, clusters: clusters.to_vec(), memory };
        tell(state, &parts).await;
        for ((new, kept), plan) in opened.into_iter().zip(&plan.listeners) {
            let new = new.map(|(number, slot, socket)| {
                let admission = Arc::new(Admission::new(plan.into(), state.memory.clone()));
                Listening::start(Place { number, slot, admission }, plan, socket, state.workers.clone())
            });
            self.listening.extend(kept.or(new));
        }
        if self.keeps_sockets {
            // One that is kept for nobody would still take connections.
            self.kept.retain(|kept| !kept.what.starts_with("listener "));
            self.kept.extend(self.listening.iter().filter_map(Listening::kept));
        }
        self.listeners = self.listening.iter().map(|one| (one.slot.name.clone(), one.bound.clone())).collect();
    }

    /// The calls of a listener that goes may take as long as those of a process that ends.
    fn cut_later(&mut self, state: &State, gone: &Listening) {
        while self.control.try_join_next().is_some() {}
        let (number, workers, time) = (gone.number, state.workers.clone(), state.plan.shutdown.timeout);
        self.control.spawn(async move {
            sleep(time).await;
            workers.iter().for_each(|worker| worker.tell(Command::Cut(Some(number))));
        });
    }
}

impl ReloadError {
    /// One for each thing that is wrong, with its place in the file where it has one.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        match self {
            ReloadError::Config(errors) => errors.one_liners(),
            ReloadError::Fixed(errors) => errors.clone(),
            error => vec![error.to_string()],
        }
    }
}

/// Has every worker serve this, and waits until they do. One that has ended serves nothing.
async fn tell(state: &State, parts: &Parts) {
    let mut told = Vec::new();
    for worker in state.workers.iter() {
        let (done, is_done) = oneshot::channel();
        worker.tell(Command::Reload(parts.clone(), done));
        told.push(is_done);
    }
    for is_done in told {
        let _ = is_done.await;
    }
}

/// What is told of each key that has changed and cannot change while a gateway runs.
fn fixed(before: &Plan, now: &Plan) -> Vec<String> {
    let show = |value: Option<String>| value.unwrap_or_else(|| "not set".to_owned());
    let of = |plan: &Plan| {
        [
            ("workers", plan.workers.map(|workers| workers.to_string())),
            ("admin.address", plan.admin.as_ref().map(Binding::to_string)),
            ("metric.prometheus_port", plan.metrics.map(|address| address.port().to_string())),
            ("memory_limit", plan.memory_limit.map(|limit| limit.to_string())),
            ("access_log", plan.access_log.as_ref().map(|_| "set".to_owned())),
        ]
    };
    let differ = of(before).into_iter().zip(of(now)).filter(|(before, now)| before != now);
    differ
        .map(|((key, before), (_, now))| {
            let (before, now) = (show(before), show(now));
            format!("`{key}` cannot change while the gateway runs ({before}, now {now}): restart it")
        })
        .collect()
}
