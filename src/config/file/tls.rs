//! TLS as it is written: towards backends, and towards clients.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};

use super::value::{ClientAuth, ClientCertField, Duration, TlsVersion};
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
    /// How often the files are looked at for changes. `0s` is never.
    #[schemars(extend("default" = "5s"))]
    pub(crate) reload_interval: Option<At<Duration>>,
}

/// TLS towards the clients of a listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenerTls {
    /// The certificate for clients that ask for no name of `certificates`: a PEM file, with the intermediate certificates behind
    /// it. Default: the first of `certificates`.
    pub(crate) cert_file: Option<At<String>>,
    /// The private key of `cert_file`, in a PEM file, not encrypted.
    pub(crate) key_file: Option<At<String>>,
    /// Further certificates. A client gets the one that has the name it asks for (SNI) among its DNS names.
    pub(crate) certificates: Option<At<Vec<At<CertificateFiles>>>>,
    /// The oldest version of TLS that is spoken: `1.2` or `1.3`.
    #[schemars(extend("default" = "1.2"))]
    pub(crate) min_version: Option<At<TlsVersion>>,
    /// The cipher suites, by the names of IANA's registry. Default: all that are good, the best first.
    pub(crate) cipher_suites: Option<At<Vec<At<String>>>>,
    /// How long a client may take from its connection to the end of the handshake.
    #[schemars(extend("default" = "10s"))]
    pub(crate) handshake_timeout: Option<At<Duration>>,
    /// How often the files are looked at for changes. `0s` is never.
    #[schemars(extend("default" = "5s"))]
    pub(crate) reload_interval: Option<At<Duration>>,
    /// Whether clients are asked for a certificate: `none`, `optional`, or `required`, which turns those away that have none.
    #[schemars(extend("default" = "none"))]
    pub(crate) client_auth: Option<At<ClientAuth>>,
    /// The CA certificates that clients' certificates must be of, in a PEM file. Required where clients are asked for one.
    pub(crate) ca_file: Option<At<String>>,
    /// The certificates that have been revoked, in PEM files. With one file, each CA between a client's certificate and
    /// `ca_file` must have a list. Default: nothing is revoked.
    pub(crate) crl_files: Option<At<Vec<At<String>>>>,
    /// Tells backends who a client is, in a header that no client can send itself. Only with `client_auth`.
    pub(crate) forward_client_cert: Option<At<ForwardClientCert>>,
    /// Whether clients without TLS are served on this port too. The first byte tells them apart.
    #[schemars(extend("default" = false))]
    pub(crate) allow_plaintext: Option<At<bool>>,
}

/// A header that tells who a client is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForwardClientCert {
    /// Its name. What a client sends under this name never reaches a backend.
    #[schemars(extend("default" = "x-forwarded-client-cert"))]
    pub(crate) header: Option<At<String>>,
    /// What it says: `hash` (SHA-256 of the certificate), `subject`, `uri` (a SPIFFE id, as a rule), `dns`.
    #[schemars(extend("default" = ["hash", "subject", "uri", "dns"]))]
    pub(crate) fields: Option<At<Vec<At<ClientCertField>>>>,
}

/// A certificate and its key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertificateFiles {
    /// The certificate, in a PEM file, with the intermediate certificates behind it.
    #[schemars(required)]
    pub(crate) cert_file: Option<At<String>>,
    /// Its private key, in a PEM file, not encrypted.
    #[schemars(required)]
    pub(crate) key_file: Option<At<String>>,
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
