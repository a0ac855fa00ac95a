//! Rules for the process as a whole: workers, admin, metrics, access log, drain.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use super::address::Asked;
use super::{Checker, Scope};
use crate::config::diagnostic::Diagnostic;
use crate::config::file::{AccessLog, Admin, Identity, Metric, Shutdown};
use crate::config::located::At;
use crate::config::plan::{self, Binding};

/// Pixiu's port for metrics.
const PROMETHEUS_PORT: u16 = 2222;

impl Checker<'_, '_> {
    pub(super) fn workers(&self, field: Option<&At<u64>>) -> Option<NonZeroUsize> {
        let workers = self.in_range(field?, "workers", 1..=1024)?;
        usize::try_from(workers).ok().and_then(NonZeroUsize::new)
    }

    pub(super) fn admin(&mut self, field: Option<&At<Admin>>) -> Option<Binding> {
        let field = field?;
        let scope = Scope::new(field.key, "`admin`");
        let address = self.required(field.value.as_ref()?.address.as_ref(), "address", &scope)?;
        let scope = Scope::new(address.key, "`address` of `admin`");
        let socket = self.required(address.value.as_ref()?.socket_address.as_ref(), "socket_address", &scope)?;
        let scope = Scope::new(socket.key, "`socket_address` of `admin`");
        let socket = socket.value.as_ref()?;
        let asked = Asked {
            address: socket.address.as_ref(),
            port: socket.port.as_ref(),
            mode: socket.mode.as_ref(),
            default: Ipv4Addr::LOCALHOST.into(),
        };
        self.binding(&asked, &scope, "admin")
    }

    pub(super) fn metrics(&mut self, field: Option<&At<Metric>>) -> Option<SocketAddr> {
        let field = field?;
        let metric = field.value.as_ref()?;
        let port = match &metric.prometheus_port {
            Some(port) => self.listening_port(port)?,
            None => PROMETHEUS_PORT,
        };
        let enabled = metric.enable.as_ref().is_some_and(|enable| enable.value == Some(true));
        if !enabled {
            if metric.enable.is_none() {
                self.notice(field.key, "`metric` has no effect without `enable: true`");
            }
            return None;
        }
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let place = metric.prometheus_port.as_ref().map_or(field.key, |port| port.place);
        self.bind(&address.into(), place, "metrics");
        Some(address)
    }

    pub(super) fn access_log(&self, field: Option<&At<AccessLog>>) -> Option<String> {
        let field = field?;
        let path = field.value.as_ref()?.path.as_ref();
        let path = self.required(path, "path", &Scope::new(field.key, "`access_log`"))?;
        self.text(path, "path").map(str::to_owned)
    }

    pub(super) fn node(&self, field: Option<&At<Identity>>) -> plan::Node {
        let Some(identity) = field.and_then(|field| field.value.as_ref()) else { return plan::Node::default() };
        let text = |field: &Option<At<String>>, key| Some(self.text(field.as_ref()?, key)?.to_owned());
        let (id, cluster) = (text(&identity.id, "id"), text(&identity.cluster, "cluster"));
        plan::Node { id, cluster, locality: self.here.clone() }
    }

    /// Pixiu has it under `static_resources`; at the top of the file is where people look for it.
    pub(super) fn shutdown(&self, nested: Option<&At<Shutdown>>, top: Option<&At<Shutdown>>) -> plan::Shutdown {
        if let (Some(nested), Some(top)) = (nested, top) {
            let error = Diagnostic::new(nested.key, "`shutdown_config` stands both here and at the top of the file");
            self.error(error.label("keep one of them").other(top.key, "the other"));
        }
        let shutdown = nested.or(top).and_then(|at| at.value.as_ref());
        if let Some(shutdown) = shutdown {
            let why = "the steps of a drain have no time limit of their own";
            self.no_effect("step_timeout", shutdown.step_timeout.as_ref(), why);
            let why = "calls that arrive during a drain are still served";
            self.no_effect("reject_policy", shutdown.reject_policy.as_ref(), why);
        }
        let timeout = shutdown.and_then(|shutdown| self.duration(shutdown.timeout.as_ref()));
        let delay = shutdown.and_then(|shutdown| self.duration(shutdown.delay.as_ref()));
        plan::Shutdown { timeout: timeout.unwrap_or(Duration::from_secs(60)), delay: delay.unwrap_or_default() }
    }
}
