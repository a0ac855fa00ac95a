//! Adds, sets and removes metadata of requests and responses.

use schemars::JsonSchema;
use serde::Deserialize;
use weir_filter::{ConfigError, Filter, FilterType, Needs};

/// The filter.
#[derive(Debug)]
pub struct Headers;

/// What the filter is told.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeadersConfig {}

impl Filter for Headers {
    fn needs(&self) -> Needs {
        Needs::NONE
    }
}

impl FilterType for Headers {
    const NAME: &'static str = "weir.filter.grpc.headers";
    type Config = HeadersConfig;

    fn build(_: HeadersConfig) -> Result<Headers, Vec<ConfigError>> {
        Ok(Headers)
    }
}
