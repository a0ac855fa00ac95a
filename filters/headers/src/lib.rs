//! `weir.filter.grpc.headers`: adds, sets and removes metadata of requests and responses.
//!
//! ```yaml
//! - name: weir.filter.grpc.headers
//!   config:
//!     request:
//!       set: {x-gateway: weir}
//!       remove: [x-internal]
//! ```

mod change;
mod config;

pub use change::Change;
pub use config::{Direction, HeadersConfig};

use weir_filter::{Call, ConfigError, Filter, FilterType, Needs, ResponseHead, Status, Step};

/// The filter.
#[derive(Debug)]
pub struct Headers {
    request: Change,
    response: Change,
}

impl Filter for Headers {
    fn needs(&self) -> Needs {
        let request = if self.request.is_empty() { Needs::NONE } else { Needs::REQUEST };
        let response = if self.response.is_empty() { Needs::NONE } else { Needs::RESPONSE };
        request | response
    }

    fn request<'a>(&'a self, call: &'a mut Call) -> Step<'a> {
        self.request.apply(&mut call.metadata);
        Step::Next
    }

    fn response(&self, _: &Call, head: ResponseHead<'_>) -> Result<(), Status> {
        self.response.apply(head.metadata);
        Ok(())
    }
}

impl FilterType for Headers {
    const NAME: &'static str = "weir.filter.grpc.headers";
    type Config = HeadersConfig;

    fn build(config: HeadersConfig) -> Result<Headers, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let request = Change::build("request", config.request, &mut errors);
        let response = Change::build("response", config.response, &mut errors);
        if errors.is_empty() { Ok(Headers { request, response }) } else { Err(errors) }
    }
}

#[cfg(test)]
mod tests;
