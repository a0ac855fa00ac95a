//! Rules for the gRPC connection manager of a listener.

use super::{Checker, Scope};
use crate::config::diagnostic::Diagnostic;
use crate::config::file::listener::NetworkFilter;
use crate::config::file::manager::Manager;
use crate::config::located::At;
use crate::config::plan;
use crate::config::suggest::did_you_mean;

const MANAGERS: [&str; 2] = ["dgp.filter.network.grpcconnectionmanager", "dgp.filter.grpcconnectionmanager"];

/// Network filters of Pixiu that Weir does not have so far.
const NOT_BUILT: [&str; 4] = [
    "dgp.filter.httpconnectionmanager",
    "dgp.filter.network.dubboconnectionmanager",
    "dgp.filter.network.mysql",
    "dgp.filter.network.tcpproxy",
];

/// What a manager comes to.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) routes: Vec<plan::Route>,
    pub(super) filters: Vec<plan::NamedFilter>,
}

impl Checker<'_, '_> {
    pub(super) fn manager(&mut self, at: &At<NetworkFilter>, scope: &Scope) -> Option<Chain> {
        let filter = at.value.as_ref()?;
        let named = scope.item("network filter", None, at);
        let name = self.required(filter.name.as_ref(), "name", &named)?;
        self.is_manager(name)?;
        let config = self.required(filter.config.as_ref(), "config", &named)?;
        let held = self.reader.held(config.value?)?;
        let manager: Manager = self.reader.read(&held)?;
        self.no_effect("server_name", manager.server_name.as_ref(), "Weir adds nothing to a response");
        let why = "a call has the time limit that its client and its route give it";
        self.no_effect("timeout_config", manager.timeout_config.as_ref(), why);

        let scope = scope.at(config.key);
        let routes = self.required(manager.route_config.as_ref(), "route_config", &scope);
        let routes = routes.map_or_else(Vec::new, |routes| self.routes(routes, &scope));
        let filters = self.required(manager.grpc_filters.as_ref(), "grpc_filters", &scope)?;
        let (filters, proxy) = self.grpc_filters(filters, &scope);
        if let Some(proxy) = proxy {
            let clusters = routes.iter().map(|(route, _)| route.cluster);
            self.proxies.apply(&proxy, clusters);
        }
        Some(Chain { routes: routes.into_iter().map(|(route, _)| route).collect(), filters })
    }

    fn is_manager(&self, name: &At<String>) -> Option<()> {
        let text = self.text(name, "name")?;
        if MANAGERS.contains(&text) {
            return Some(());
        }
        let error = if NOT_BUILT.contains(&text) {
            Diagnostic::new(name.place, format!("the network filter `{text}` is not built yet"))
                .label(format!("Weir has `{}` so far", MANAGERS[0]))
        } else {
            let label = did_you_mean(text, MANAGERS).unwrap_or_else(|| format!("Weir has `{}`", MANAGERS[0]));
            Diagnostic::new(name.place, format!("unknown network filter `{text}`")).label(label)
        };
        self.error(error);
        None
    }
}
