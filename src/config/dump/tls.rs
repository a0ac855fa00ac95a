//! TLS in the words of the file.

use std::path::{Path, PathBuf};

use serde_yaml::Value;

use super::{list, map, some, time};
use crate::config::plan::{ForwardClientCert, ListenerTls, Tls};

pub(super) fn cluster(tls: &Tls) -> Value {
    map([
        ("enable", some(true)),
        ("ca_file", tls.ca_file.as_deref().and_then(path)),
        ("cert_file", tls.identity.as_ref().and_then(|(cert, _)| path(cert))),
        ("key_file", tls.identity.as_ref().and_then(|(_, key)| path(key))),
        ("server_name", tls.server_name.as_ref().and_then(|name| some(name.to_str().into_owned()))),
        ("insecure_skip_verify", some(tls.insecure_skip_verify)),
        ("reload_interval", time(tls.reload_interval.unwrap_or_default())),
    ])
}

pub(super) fn listener(tls: &ListenerTls) -> Value {
    let (default, further) = tls.certificates.split_at(tls.certificates.len().min(1));
    let auth = tls.client_auth.as_ref();
    let paths = |paths: &[PathBuf]| list(paths, |one| Value::from(one.display().to_string()));
    map([
        ("cert_file", default.first().and_then(|(cert, _)| path(cert))),
        ("key_file", default.first().and_then(|(_, key)| path(key))),
        ("certificates", list(further, certificate).filter(|_| !further.is_empty())),
        ("min_version", some(if tls.tls12 { "1.2" } else { "1.3" })),
        ("cipher_suites", tls.cipher_suites.as_ref().and_then(|suites| list(suites, |one| Value::from(one.clone())))),
        ("handshake_timeout", time(tls.handshake_timeout)),
        ("reload_interval", time(tls.reload_interval.unwrap_or_default())),
        ("client_auth", some(auth.map_or("none", |auth| if auth.required { "required" } else { "optional" }))),
        ("ca_file", auth.and_then(|auth| path(&auth.ca_file))),
        ("crl_files", auth.filter(|auth| !auth.crl_files.is_empty()).and_then(|auth| paths(&auth.crl_files))),
        ("forward_client_cert", tls.forward_client_cert.as_ref().map(forward_client_cert)),
        ("allow_plaintext", some(tls.allow_plaintext)),
    ])
}

fn forward_client_cert(forward: &ForwardClientCert) -> Value {
    let fields = list(&forward.fields, |field| Value::from(field.name()));
    map([("header", some(forward.header.as_str())), ("fields", fields)])
}

fn certificate((cert, key): &(PathBuf, PathBuf)) -> Value {
    map([("cert_file", path(cert)), ("key_file", path(key))])
}

fn path(path: &Path) -> Option<Value> {
    some(path.display().to_string())
}
