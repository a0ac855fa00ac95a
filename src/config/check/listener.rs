//! Rules for listeners.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

use super::address::Asked;
use super::edge::Defaults;
use super::manager::Chain;
use super::{Checker, Scope};
use crate::config::diagnostic::Diagnostic;
use crate::config::file::listener::{Address, FilterChain, Listener, ListenerConfig};
use crate::config::file::value::ProtocolType;
use crate::config::located::{At, OneOrMany};
use crate::config::place::Place;
use crate::config::plan::{self, Binding};
use crate::config::suggest::did_you_mean;

/// Protocols of Pixiu that Weir does not serve so far.
const NOT_BUILT: [&str; 6] = ["HTTP", "HTTPS", "TCP", "UDP", "TRIPLE", "MYSQL"];

impl Checker<'_, '_> {
    pub(super) fn listeners(&mut self, field: Option<&At<Vec<At<Listener>>>>, scope: &Scope) -> Vec<plan::Listener> {
        let Some(field) = self.required(field, "listeners", scope) else { return Vec::new() };
        let Some(items) = &field.value else { return Vec::new() };
        if items.is_empty() {
            self.error(Diagnostic::new(field.key, "no listeners").label("Weir would serve nothing"));
        }
        let mut names = HashMap::new();
        items.iter().filter_map(|item| self.listener(item, scope, &mut names)).collect()
    }

    fn listener<'f>(
        &mut self,
        at: &'f At<Listener>,
        scope: &Scope,
        names: &mut HashMap<&'f str, Place>,
    ) -> Option<plan::Listener> {
        let listener = at.value.as_ref()?;
        let name = listener.name.as_ref().and_then(|name| Some((name.value.as_deref()?, name.place)));
        let scope = scope.item("listener", name.map(|(name, _)| name), at);
        if let Some(field) = self.required(listener.name.as_ref(), "name", &scope) {
            self.text(field, "name");
        }
        if let Some((name, place)) = name
            && let Some(first) = names.insert(name, place)
        {
            let error = Diagnostic::new(place, format!("two listeners are named `{name}`"));
            self.error(error.label("the second").other(first, "the first"));
        }
        let speaks_grpc = self.protocol(listener.protocol_type.as_ref(), &scope);
        let binding = self.listener_address(listener.address.as_ref(), &scope);
        let config = listener.config.as_ref().and_then(|config| config.value.as_ref());
        let defaults = Defaults::of(listener.edge.as_ref().is_some_and(|edge| edge.value == Some(true)));
        let settings = self.settings(config, defaults);
        if let (Some(binding), Some(config)) = (&binding, config) {
            self.fits(binding, config, &settings.proxy_protocol);
        }
        let streams = config.and_then(|config| config.stream_idle_timeout.as_ref());
        self.stream_idle = self.never_or(streams, defaults.stream_idle_timeout);
        // The chain of another protocol would only add errors that follow from the first.
        let chain = if speaks_grpc { self.chain(listener.filter_chains.as_ref(), &scope) } else { None };
        let Chain { routes, filters } = chain.unwrap_or_default();
        Some(plan::Listener {
            name: name.map_or("", |(name, _)| name).into(),
            binding: binding.unwrap_or_else(stand_in),
            edge: listener.edge.as_ref().is_some_and(|edge| edge.value == Some(true)),
            routes,
            filters,
            ..settings
        })
    }

    fn protocol(&self, field: Option<&At<ProtocolType>>, scope: &Scope) -> bool {
        let Some(field) = self.required(field, "protocol_type", scope) else { return true };
        let Some(ProtocolType(text)) = &field.value else { return true };
        let upper = text.to_ascii_uppercase();
        if upper == "GRPC" || upper == "HTTP2" {
            return true;
        }
        self.error(if NOT_BUILT.contains(&upper.as_str()) {
            Diagnostic::new(field.place, format!("listeners of type `{text}` are not built yet"))
                .label("Weir serves `GRPC` so far")
        } else {
            let label = did_you_mean(&upper, ["GRPC", "HTTP2"]).unwrap_or_else(|| "Weir serves `GRPC`".to_owned());
            Diagnostic::new(field.place, format!("unknown protocol type `{text}`")).label(label)
        });
        false
    }

    fn listener_address(&mut self, field: Option<&At<Address>>, scope: &Scope) -> Option<Binding> {
        let address = self.required(field, "address", scope)?;
        let value = address.value.as_ref()?;
        self.no_effect("name", value.name.as_ref(), "the listener has a name of its own");
        let inner = scope.key("address", address);
        let socket = self.required(value.socket_address.as_ref(), "socket_address", &inner)?;
        let value = socket.value.as_ref()?;
        let why = "`protocol_type` of the listener counts";
        self.no_effect("protocol_type", value.protocol_type.as_ref(), why);
        let asked = Asked {
            address: value.address.as_ref(),
            port: value.port.as_ref(),
            mode: value.mode.as_ref(),
            default: Ipv4Addr::UNSPECIFIED.into(),
        };
        self.binding(&asked, &scope.key("socket_address", socket), &scope.what)
    }

    fn settings(&self, config: Option<&ListenerConfig>, defaults: &Defaults) -> plan::Listener {
        if let Some(config) = config {
            self.listener_notices(config);
        }
        let size = |field, key| {
            let bytes = self.size(field, key, 1..=u64::from(u32::MAX), "")?;
            usize::try_from(bytes).ok()
        };
        let of = |field: fn(&ListenerConfig) -> Option<&At<_>>| config.and_then(field);
        plan::Listener {
            name: "".into(),
            binding: stand_in(),
            max_receive_message_size: size(
                config.and_then(|config| config.max_receive_message_size.as_ref()),
                "max_receive_message_size",
            ),
            max_send_message_size: size(
                config.and_then(|config| config.max_send_message_size.as_ref()),
                "max_send_message_size",
            ),
            edge: false,
            admission: self.admission(config, defaults),
            forwarding_headers: self.forwarding_headers(config, defaults.forwarding_headers),
            idle_timeout: self.never_or(of(|config| config.idle_timeout.as_ref()), defaults.idle_timeout),
            max_connection_age: self
                .never_or(of(|config| config.max_connection_age.as_ref()), defaults.max_connection_age),
            max_connection_age_grace: self.age_grace(config, defaults),
            tls: config.and_then(|config| self.listener_tls(config)),
            proxy_protocol: self.proxy_protocol(config.and_then(|config| config.proxy_protocol.as_ref())),
            http2: self.downstream_http2(config.and_then(|config| config.http2.as_ref()?.value.as_ref()), defaults),
            routes: Vec::new(),
            filters: Vec::new(),
        }
    }

    fn listener_notices(&self, config: &ListenerConfig) {
        if let Some(idle) = &config.idle_timeout {
            let text = "`idle_timeout` closes a connection that has no stream; in Pixiu it was the interval of pings";
            self.findings.difference(idle.key, text);
        }
        let why = "a stream has no time limit of its own";
        self.no_effect("read_timeout", config.read_timeout.as_ref(), why);
        self.no_effect("write_timeout", config.write_timeout.as_ref(), why);
        let why = "compressed messages pass as they are";
        self.no_effect("enable_compression", config.enable_compression.as_ref(), why);
    }

    /// The one filter of the one chain.
    fn chain(&mut self, field: Option<&At<OneOrMany<FilterChain>>>, scope: &Scope) -> Option<Chain> {
        let field = self.required(field, "filter_chains", scope)?;
        let OneOrMany(chains) = field.value.as_ref()?;
        let chain = self.only(chains, field.key, "filter chain", scope)?;
        let inner = scope.key("filter_chains", field);
        let filters = self.required(chain.value.as_ref()?.filters.as_ref(), "filters", &inner)?;
        let filter = self.only(filters.value.as_ref()?, filters.key, "network filter", scope)?;
        self.manager(filter, scope)
    }

    fn only<'f, T>(&self, items: &'f [At<T>], place: Place, kind: &str, scope: &Scope) -> Option<&'f At<T>> {
        match items {
            [] => self.error(Diagnostic::new(place, format!("no {kind} in {}", scope.what))),
            [_] => {}
            [first, second, ..] => {
                let message = format!("more than one {kind} in {} is not built yet", scope.what);
                let error = Diagnostic::new(second.place, message);
                self.error(error.label("the second").other(first.place, "the first"));
            }
        }
        items.first()
    }
}

/// In the place of an address that is none.
fn stand_in() -> Binding {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into()
}
