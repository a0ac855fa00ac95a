//! Rules for the PROXY protocol.

use super::Checker;
use crate::config::diagnostic::Diagnostic;
use crate::config::file::listener::{ListenerConfig, ProxyProtocol};
use crate::config::located::At;
use crate::config::plan::{Binding, NoNetwork, Source};

impl Checker<'_, '_> {
    /// The sources that speak it. Who names none would believe everybody, or nobody: neither is guessed.
    pub(super) fn proxy_protocol(&self, field: Option<&At<ProxyProtocol>>) -> Vec<Source> {
        let Some(at) = field else { return Vec::new() };
        let Some(value) = &at.value else { return Vec::new() };
        let listed = value.from.as_ref().map(|from| from.value.as_deref().unwrap_or_default());
        if value.from.as_ref().is_none_or(|from| from.value.as_ref().is_some_and(Vec::is_empty)) {
            let error = Diagnostic::new(at.key, "`proxy_protocol` names no sources");
            self.error(error.label("whose word counts? `from: [10.0.0.0/8]`"));
        }
        listed.unwrap_or_default().iter().filter_map(|item| self.source(item)).collect()
    }

    /// Who comes by a port has an address, and who comes by a Unix socket has none.
    pub(super) fn fits(&self, binding: &Binding, config: &ListenerConfig, from: &[Source]) {
        let is_port = binding.address.ip().is_some();
        if let Some(at) = config.proxy_protocol.as_ref()
            && let Some(other) = from.iter().find(|source| (**source == Source::Unix) == is_port)
        {
            let message = format!("nobody comes to `{}` from `{other}`", binding.address);
            let right = if is_port { "a network, such as `10.0.0.0/8`" } else { "`unix`" };
            self.error(Diagnostic::new(at.key, message).label(format!("`from` of this listener is {right}")));
        }
        if !is_port {
            let why = "who comes by a Unix socket has no address";
            self.useless("max_connections_per_source", config.max_connections_per_source.as_ref(), why);
        }
    }

    fn source(&self, field: &At<String>) -> Option<Source> {
        let text = self.text(field, "from")?;
        if text == Source::UNIX {
            return Some(Source::Unix);
        }
        let (what, label) = match text.parse() {
            Ok(network) => return Some(Source::Network(network)),
            Err(NoNetwork::Address) => {
                ("is no network", "an IP address and how many bits of it count: `10.0.0.0/8`".to_owned())
            }
            Err(NoNetwork::Bits) => ("has no such number of bits", "up to 32 with IPv4, 128 with IPv6".to_owned()),
            Err(NoNetwork::Rest(meant)) => ("has bits behind its own", format!("did you mean `{meant}`?")),
        };
        self.error(Diagnostic::new(field.place, format!("the network `{text}` {what}")).label(label));
        None
    }
}
