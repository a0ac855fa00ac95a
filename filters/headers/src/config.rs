//! What stands under `config`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// Changes to the metadata of every call.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeadersConfig {
    /// Changes to what the backend receives.
    #[serde(default)]
    pub request: Direction,
    /// Changes to what the client receives: to the metadata before the first message, not to the trailers.
    #[serde(default)]
    pub response: Direction,
}

/// Changes to the metadata of one direction. Keys are removed first, then set, then added.
///
/// The value of a key that ends in `-bin` is base64, as it is on the wire.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Direction {
    /// Values that are added; those that the key has already stay.
    #[serde(default)]
    pub add: BTreeMap<String, String>,
    /// Values that take the place of those that the key has.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Keys that are removed with all their values.
    #[serde(default)]
    pub remove: Vec<String>,
}
