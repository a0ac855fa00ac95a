//! TLS towards clients: what the file says, and what comes of it.

use std::path::PathBuf;
use std::time::Duration;

use weir::config::Plan;
use weir::config::plan::{ClientAuth, ClientCertField, ListenerTls};

use super::{load, with};

const OWN: &str = "cert_file: tests/tls/server.pem, key_file: tests/tls/server.key";

fn plan(config: &str) -> Plan {
    let text = with(&format!("config: {{{config}}}"), "lb_policy: RoundRobin");
    load(&text, "f.yaml").unwrap_or_else(|errors| panic!("{errors}"))
}

fn tls(plan: &Plan) -> &ListenerTls {
    plan.listeners[0].tls.as_ref().expect("TLS")
}

fn notices(plan: &Plan) -> Vec<&str> {
    plan.notices.iter().map(|notice| notice.text.as_str()).collect()
}

#[test]
fn what_pixiu_says_is_enough() {
    let plan = plan(&format!("enable_tls: true, tls: {{{OWN}}}"));
    let tls = tls(&plan);
    assert_eq!(tls.certificates, [(PathBuf::from("tests/tls/server.pem"), PathBuf::from("tests/tls/server.key"))]);
    assert!(tls.tls12 && !tls.allow_plaintext);
    assert_eq!((tls.handshake_timeout, tls.reload_interval), (Duration::from_secs(10), Some(Duration::from_secs(5))));
    assert_eq!((&tls.cipher_suites, &tls.client_auth, &tls.forward_client_cert), (&None, &None, &None));
    assert_eq!(notices(&plan), [""; 0]);
}

#[test]
fn certificates_that_are_switched_off_are_told_of() {
    let plan = plan("enable_tls: false, tls: {cert_file: no/such.pem}");
    assert!(plan.listeners[0].tls.is_none());
    assert_eq!(notices(&plan), ["`tls` has no effect: `enable_tls: false` is plaintext"]);
}

#[test]
fn a_certificate_that_has_expired_is_told() {
    let own = "cert_file: tests/tls/expired.pem, key_file: tests/tls/expired.key";
    let plan = plan(&format!("enable_tls: true, tls: {{{own}}}"));
    assert_eq!(notices(&plan), ["the certificate in `tests/tls/expired.pem` has expired"]);
}

#[test]
fn the_first_of_several_is_the_default() {
    let plan = plan(&format!("enable_tls: true, tls: {{certificates: [{{{OWN}}}, {{{OWN}}}], reload_interval: 0s}}"));
    assert_eq!((tls(&plan).certificates.len(), tls(&plan).reload_interval), (2, None));
}

#[test]
fn clients_are_asked_as_the_file_says() {
    let asked = "ca_file: tests/tls/ca.pem, crl_files: [tests/tls/crl.pem], forward_client_cert: {header: X-Who, fields: [uri]}";
    let required = plan(&format!("enable_tls: true, tls: {{{OWN}, client_auth: required, {asked}}}"));
    let [ca_file, crl] = ["tests/tls/ca.pem", "tests/tls/crl.pem"].map(PathBuf::from);
    assert_eq!(tls(&required).client_auth, Some(ClientAuth { required: true, ca_file, crl_files: vec![crl] }));
    let forward = tls(&required).forward_client_cert.as_ref().unwrap();
    assert_eq!((forward.header.as_str(), forward.fields.as_slice()), ("x-who", &[ClientCertField::Uri][..]));
    let optional = plan(&format!("enable_tls: true, tls: {{{OWN}, client_auth: optional, ca_file: tests/tls/ca.pem}}"));
    assert!(!tls(&optional).client_auth.as_ref().unwrap().required);
    let none = plan(&format!("enable_tls: true, tls: {{{OWN}, client_auth: none, ca_file: tests/tls/ca.pem}}"));
    assert_eq!(tls(&none).client_auth, None);
    assert_eq!(notices(&none), ["`ca_file` has no effect: `client_auth: none` asks for no certificate"]);
}

#[test]
fn suites_of_one_version_speak_that_version() {
    let plan =
        plan(&format!("enable_tls: true, tls: {{{OWN}, min_version: 1.3, cipher_suites: [TLS_AES_128_GCM_SHA256]}}"));
    assert!(!tls(&plan).tls12);
    assert_eq!(tls(&plan).cipher_suites.as_deref(), Some(&["TLS_AES_128_GCM_SHA256".to_owned()][..]));
}
