//! One direction's changes, checked once and applied to every call.

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use weir_filter::ConfigError;

use crate::config::Direction;

/// gRPC sends binary values without padding and accepts both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Headers that HTTP/2 or gRPC give a meaning of their own: changing them would break the call.
const PROTOCOL: [&str; 9] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Values that must not end up in a peer's HPACK table, where other calls' compression could reveal them.
const SENSITIVE: [HeaderName; 4] =
    [http::header::AUTHORIZATION, http::header::PROXY_AUTHORIZATION, http::header::COOKIE, http::header::SET_COOKIE];

/// Changes to metadata.
#[derive(Clone, Debug, Default)]
pub struct Change {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
}

impl Change {
    /// Checks the configuration of one direction, whose key is `name`; what is wrong with it joins `errors`.
    pub(crate) fn build(name: &str, config: Direction, errors: &mut Vec<ConfigError>) -> Change {
        let set = pairs(name, "set", &config.set, errors);
        let add = pairs(name, "add", &config.add, errors);
        let mut remove = Vec::new();
        for (index, key) in config.remove.iter().enumerate() {
            let path = [name, "remove", &index.to_string()];
            if config.set.contains_key(key) {
                let error = ConfigError::new(&path, format!("`{key}` is both set and removed"));
                errors.push(error.help("`set` replaces what is there"));
            }
            match header_name(key) {
                Ok(key) => remove.push(key),
                Err(error) => errors.push(error.at(&path)),
            }
        }
        Change { remove, set, add }
    }

    /// True when nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Changes this metadata.
    pub fn apply(&self, metadata: &mut HeaderMap) {
        for name in &self.remove {
            metadata.remove(name);
        }
        for (name, value) in &self.set {
            metadata.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            metadata.append(name, value.clone());
        }
    }
}

fn pairs(
    direction: &str,
    action: &str,
    config: &BTreeMap<String, String>,
    errors: &mut Vec<ConfigError>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut pairs = Vec::with_capacity(config.len());
    for (key, text) in config {
        let path = [direction, action, key];
        match header_name(key).and_then(|name| Ok((header_value(&name, text)?, name))) {
            Ok((value, name)) => pairs.push((name, value)),
            Err(error) => errors.push(error.at(&path)),
        }
    }
    pairs
}

/// What is wrong, and what to do about it.
struct Fault(String, Option<&'static str>);

impl Fault {
    fn at(self, path: &[&str]) -> ConfigError {
        let error = ConfigError::new(path, self.0);
        match self.1 {
            Some(help) => error.help(help),
            None => error,
        }
    }
}

/// A metadata key as gRPC over HTTP/2 has it ("Custom-Metadata": lower case letters, digits, `_`, `-`, `.`).
fn header_name(key: &str) -> Result<HeaderName, Fault> {
    if key.starts_with(':') {
        return Err(Fault(format!("`{key}` is a pseudo-header of HTTP/2"), Some("only metadata can be changed")));
    }
    if key.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(Fault(format!("the metadata key `{key}` has capital letters"), Some("write it in lower case")));
    }
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'.');
    if key.is_empty() || !key.bytes().all(allowed) {
        let help = "lower case letters, digits, `_`, `-` and `.`";
        return Err(Fault(format!("`{key}` is not a metadata key"), Some(help)));
    }
    if key.starts_with("grpc-") {
        return Err(Fault(format!("`{key}` is reserved: keys that begin with `grpc-` belong to gRPC itself"), None));
    }
    if PROTOCOL.contains(&key) {
        return Err(Fault(format!("`{key}` belongs to the protocol and cannot be changed"), None));
    }
    HeaderName::from_bytes(key.as_bytes()).map_err(|_| Fault(format!("`{key}` is not a metadata key"), None))
}

fn header_value(name: &HeaderName, text: &str) -> Result<HeaderValue, Fault> {
    if name.as_str().ends_with("-bin") {
        let help = "a key that ends in `-bin` has a binary value, which is base64 on the wire";
        BASE64.decode(text).map_err(|_| Fault(format!("the value of `{name}` is not base64"), Some(help)))?;
    }
    if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        let help = "a key that ends in `-bin` takes any bytes, as base64";
        return Err(Fault(format!("the value of `{name}` has characters other than printable ASCII"), Some(help)));
    }
    if text.trim() != text {
        return Err(Fault(format!("the value of `{name}` begins or ends with a space, which gRPC would strip"), None));
    }
    let mut value = HeaderValue::from_str(text).map_err(|error| Fault(error.to_string(), None))?;
    value.set_sensitive(SENSITIVE.contains(name));
    Ok(value)
}
