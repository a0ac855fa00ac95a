//! TLS towards backends as it is written.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};

use crate::config::located::At;

/// TLS towards the backends of a cluster.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClusterTls {
    /// Whether TLS is spoken. `false` keeps a cluster in plaintext whose proxy has `enable_tls`.
    #[schemars(extend("default" = true))]
    pub(crate) enable: Option<At<bool>>,
    /// The CA certificates that are believed, in a PEM file. Default: those of the system.
    pub(crate) ca_file: Option<At<String>>,
    /// Weir's own certificate, for backends that ask for one: a PEM file, with the intermediate certificates behind it.
    pub(crate) cert_file: Option<At<String>>,
    /// The private key of `cert_file`, in a PEM file, not encrypted.
    pub(crate) key_file: Option<At<String>>,
    /// The name that a backend's certificate must have, and that it is asked for (SNI). Default: each endpoint's own
    /// `address`, a host name or an IP address.
    pub(crate) server_name: Option<At<String>>,
    /// Believes any certificate, of anybody. Whoever is on the way to the backend can then read and change all calls.
    #[schemars(extend("default" = false))]
    pub(crate) insecure_skip_verify: Option<At<bool>>,
}

/// A mapping that must not be left empty: `tls:` with nothing behind it asks for TLS or for none, and nothing is guessed.
#[derive(Debug)]
pub(crate) struct Asked<T>(pub(crate) Option<At<Option<T>>>);

impl<T> Default for Asked<T> {
    fn default() -> Asked<T> {
        Asked(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Asked<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Asked<T>, D::Error> {
        At::deserialize(deserializer).map(|at| Asked(Some(at)))
    }
}

impl<T: JsonSchema> JsonSchema for Asked<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
