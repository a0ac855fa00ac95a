//! `acme.filter.tenant`: who may call, and how much of a stream each call may send.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use weir_filter::{Call, Code, ConfigError, Direction, Filter, FilterType, MessageStep, Needs, Status, Step};

/// What stands under `config:`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantConfig {
    /// The metadata key that names the tenant.
    #[serde(default = "x_tenant")]
    metadata: String,
    /// The tenants that may call.
    tenants: BTreeSet<String>,
    /// The most messages that a client may send in one call; missing means any number.
    max_messages: Option<u32>,
}

fn x_tenant() -> String {
    "x-tenant".to_owned()
}

/// The filter.
#[derive(Debug)]
pub(crate) struct Tenant {
    metadata: HeaderName,
    tenants: BTreeSet<String>,
    max_messages: Option<u32>,
}

/// How many messages the client has sent in this call. It changes after `request`, when the call is shared: so a cell.
#[derive(Clone, Debug, Default)]
struct Sent(Arc<AtomicU32>);

impl FilterType for Tenant {
    const NAME: &'static str = "acme.filter.tenant";

    type Config = TenantConfig;

    fn build(config: TenantConfig) -> Result<Tenant, Vec<ConfigError>> {
        // All that is wrong, not only the first of it.
        let mut errors = Vec::new();
        let metadata = config.metadata.parse::<HeaderName>().map_err(|_| {
            errors.push(ConfigError::new(&["metadata"], format!("`{}` is not a metadata key", config.metadata)));
        });
        if config.tenants.is_empty() {
            let error = ConfigError::new(&["tenants"], "no tenant is named, so that nobody may call");
            errors.push(error.help("list the tenants, or leave the filter out"));
        }
        if config.max_messages == Some(0) {
            let error = ConfigError::new(&["max_messages"], "0 forbids every call");
            errors.push(error.help("leave it out for any number of messages"));
        }
        match metadata {
            Ok(metadata) if errors.is_empty() => {
                Ok(Tenant { metadata, tenants: config.tenants, max_messages: config.max_messages })
            }
            _ => Err(errors),
        }
    }
}

impl Filter for Tenant {
    fn needs(&self) -> Needs {
        // Without a limit nobody has to cut the stream into messages, and it stays as fast as it was.
        match self.max_messages {
            Some(_) => Needs::REQUEST | Needs::REQUEST_MESSAGES,
            None => Needs::REQUEST,
        }
    }

    fn request<'a>(&'a self, call: &'a mut Call) -> Step<'a> {
        if let Err(status) = self.admit(call) {
            return Step::Reply(status);
        }
        if self.max_messages.is_some() {
            call.extensions.insert(Sent::default());
        }
        Step::Next
    }

    fn message<'a>(&'a self, call: &'a Call, direction: Direction, message: Bytes, _: bool) -> MessageStep<'a> {
        let (Direction::Request, Some(limit), Some(sent)) =
            (direction, self.max_messages, call.extensions.get::<Sent>())
        else {
            return MessageStep::Pass(message);
        };
        if sent.0.fetch_add(1, Ordering::Relaxed) >= limit {
            let text = format!("a call may send {limit} messages, and this is one more");
            return MessageStep::Reply(Status::new(Code::ResourceExhausted, text));
        }
        MessageStep::Pass(message)
    }
}

impl Tenant {
    /// A call names exactly one tenant, and that one is on the list.
    fn admit(&self, call: &Call) -> Result<(), Status> {
        let mut named = call.metadata.get_all(&self.metadata).iter();
        let (Some(tenant), None) = (named.next(), named.next()) else {
            let text = format!("the call must name one tenant in `{}`", self.metadata);
            return Err(Status::new(Code::Unauthenticated, text));
        };
        if !self.knows(tenant) {
            return Err(Status::new(Code::PermissionDenied, "this tenant may not call"));
        }
        Ok(())
    }

    fn knows(&self, tenant: &HeaderValue) -> bool {
        tenant.to_str().is_ok_and(|tenant| self.tenants.contains(tenant))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::json;

    use super::*;

    fn built(config: serde_json::Value) -> Result<Tenant, Vec<ConfigError>> {
        Tenant::build(serde_json::from_value(config).expect("the keys of the configuration"))
    }

    fn call(tenants: &[&'static str]) -> Call {
        let mut metadata = HeaderMap::new();
        for tenant in tenants {
            metadata.append("x-tenant", HeaderValue::from_static(tenant));
        }
        Call {
            uri: "http://orders/shop.Orders/Place".parse().expect("a URI"),
            metadata,
            peer: weir_filter::Peer::Ip(([127, 0, 0, 1], 40_000).into()),
            extensions: http::Extensions::new(),
        }
    }

    /// The status that the filter answers with; `None` when the call may pass.
    fn answer(filter: &Tenant, call: &mut Call) -> Option<Code> {
        match filter.request(call) {
            Step::Next => None,
            Step::Reply(status) => Some(status.code),
            Step::Wait(_) => panic!("this filter waits for nothing"),
        }
    }

    #[test]
    fn only_a_listed_tenant_may_call() {
        let filter = built(json!({"tenants": ["blue", "green"]})).expect("a filter");
        assert_eq!(answer(&filter, &mut call(&["blue"])), None);
        assert_eq!(answer(&filter, &mut call(&["red"])), Some(Code::PermissionDenied));
        assert_eq!(answer(&filter, &mut call(&[])), Some(Code::Unauthenticated));
        assert_eq!(answer(&filter, &mut call(&["blue", "green"])), Some(Code::Unauthenticated));
    }

    #[test]
    fn the_message_above_the_limit_ends_the_call() {
        let filter = built(json!({"tenants": ["blue"], "max_messages": 2})).expect("a filter");
        let mut call = call(&["blue"]);
        assert_eq!(answer(&filter, &mut call), None);
        let send = |direction| match filter.message(&call, direction, Bytes::from_static(b"m"), false) {
            MessageStep::Pass(bytes) => (bytes == "m").then_some(Code::Ok),
            MessageStep::Reply(status) => Some(status.code),
            MessageStep::Wait(_) => None,
        };
        let request = [(); 3].map(|()| send(Direction::Request));
        assert_eq!(request, [Some(Code::Ok), Some(Code::Ok), Some(Code::ResourceExhausted)]);
        assert_eq!(send(Direction::Response), Some(Code::Ok), "what comes back is not counted");
    }

    #[test]
    fn messages_are_asked_for_only_where_there_is_a_limit() {
        let limited = built(json!({"tenants": ["blue"], "max_messages": 2})).expect("a filter");
        let unlimited = built(json!({"tenants": ["blue"]})).expect("a filter");
        assert!(limited.needs().contains(Needs::REQUEST_MESSAGES));
        assert_eq!(unlimited.needs(), Needs::REQUEST);
    }

    #[test]
    fn every_error_of_the_configuration_is_told_at_once() {
        let errors =
            built(json!({"metadata": "x tenant", "tenants": [], "max_messages": 0})).expect_err("three errors");
        let paths: Vec<_> = errors.iter().map(|error| error.path.join(".")).collect();
        assert_eq!(paths, ["metadata", "tenants", "max_messages"]);
    }
}
