//! Rules for the PROXY protocol.

use super::Checker;
use crate::config::diagnostic::Diagnostic;
use crate::config::file::listener::ProxyProtocol;
use crate::config::located::At;
use crate::config::plan::{Network, NoNetwork};

impl Checker<'_, '_> {
    /// The sources that speak it. Who names none would believe everybody, or nobody: neither is guessed.
    pub(super) fn proxy_protocol(&self, field: Option<&At<ProxyProtocol>>) -> Vec<Network> {
        let Some(at) = field else { return Vec::new() };
        let Some(value) = &at.value else { return Vec::new() };
        let listed = value.from.as_ref().map(|from| from.value.as_deref().unwrap_or_default());
        if value.from.as_ref().is_none_or(|from| from.value.as_ref().is_some_and(Vec::is_empty)) {
            let error = Diagnostic::new(at.key, "`proxy_protocol` names no sources");
            self.error(error.label("whose word counts? `from: [10.0.0.0/8]`"));
        }
        listed.unwrap_or_default().iter().filter_map(|item| self.network(item)).collect()
    }

    fn network(&self, field: &At<String>) -> Option<Network> {
        let text = self.text(field, "from")?;
        let (what, label) = match text.parse() {
            Ok(network) => return Some(network),
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
