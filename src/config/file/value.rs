//! Scalars with a unit, as they are written.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// A duration as it is written; see [`duration`](crate::config::duration).
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Duration(pub(crate) String);

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration with its unit: `5s`, `100ms`, `1m30s`.",
            "type": "string",
            "pattern": r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$|^0$|\$\{",
        })
    }
}

/// A number of bytes as it is written; see [`size`](crate::config::size).
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Size(pub(crate) String);

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of bytes: `64KiB`, `4MiB`, `1000000`.",
            "type": ["string", "integer"],
            "minimum": 0,
            "pattern": r"^[0-9]+ ?(B|KiB|MiB|GiB)?$|\$\{",
        })
    }
}

/// An HTTP status, or a range of them, as it is written.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct HttpStatus(pub(crate) String);

impl JsonSchema for HttpStatus {
    fn schema_name() -> Cow<'static, str> {
        "HttpStatus".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An HTTP status or a range of them: `200`, `200-299`.",
            "type": ["string", "integer"],
            "minimum": 100,
            "maximum": 599,
            "pattern": r"^[1-5][0-9]{2}(-[1-5][0-9]{2})?$|\$\{",
        })
    }
}

/// The permissions of a file, as they are written.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct FileMode(pub(crate) String);

impl JsonSchema for FileMode {
    fn schema_name() -> Cow<'static, str> {
        "FileMode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What a file permits, as `chmod` takes it in octal: `0660`.",
            "type": ["string", "integer"],
            "minimum": 0,
            "maximum": 777,
            "pattern": r"^(0|0o)?[0-7]{3}$|\$\{",
        })
    }
}

/// A version of TLS as it is written.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TlsVersion(pub(crate) String);

impl JsonSchema for TlsVersion {
    fn schema_name() -> Cow<'static, str> {
        "TlsVersion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A version of TLS: `1.2` or `1.3`.",
            "type": ["string", "number"],
            "anyOf": [{ "enum": ["1.2", "1.3", 1.2, 1.3] }, { "type": "string", "pattern": r"\$\{" }],
        })
    }
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident $words:expr;)*) => {
        $($(#[$doc])*
        #[derive(Clone, Debug, Deserialize)]
        pub(crate) struct $name(pub(crate) String);

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "anyOf": [{ "enum": $words }, { "pattern": r"\$\{" }] })
            }
        })*
    };
}

words! {
    /// What a listener speaks.
    ProtocolType ["GRPC", "grpc", "HTTP2", "http2"];
    /// What happens to what a request says about its way.
    ForwardingHeaders ["PASS", "REMOVE", "REPLACE"];
    /// How a cluster's endpoints are found.
    DiscoveryType ["Static", "StrictDNS", "LogicalDns"];
    /// Who looks names up.
    DnsResolver ["DNS", "GETADDRINFO"];
    /// Which of a name's addresses are endpoints.
    LookupFamily ["ALL", "V4_ONLY", "V6_ONLY", "V4_PREFERRED", "V6_PREFERRED"];
    /// How an endpoint is chosen for a call.
    LbPolicy [
        "RoundRobin", "WeightedRoundRobin", "Rand", "WeightRandom", "LeastRequest", "PeakEwma", "RingHashing", "MaglevHashing",
        "lb", "rand", "round_robin", "ROUND_ROBIN", "least_conn",
    ];
    /// Who takes calls that no endpoint has the labels for.
    FallbackPolicy ["NO_FALLBACK", "ANY_ENDPOINT", "DEFAULT_SUBSET"];
    /// What a health check speaks.
    HealthProtocol ["tcp", "grpc", "http"];
    /// What is told of a client's certificate.
    ClientCertField ["hash", "subject", "uri", "dns"];
    /// Whether clients are asked for a certificate.
    ClientAuth ["none", "optional", "required"];
    /// A gRPC status that counts as a backend's failure.
    FailureStatus [
        "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
        "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
        "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
    ];
}
