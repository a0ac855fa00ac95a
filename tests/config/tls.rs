//! TLS towards backends: what the file says, and what comes of it.

use std::path::PathBuf;

use weir::config::Plan;
use weir::config::plan::{Cluster, Tls};

use super::{load, with};

fn plan(cluster: &str) -> Plan {
    load(&with("", cluster), "f.yaml").unwrap_or_else(|errors| panic!("{errors}"))
}

/// With a proxy that says this, in a file whose cluster has these lines.
fn behind(proxy: &str, cluster: &str) -> Plan {
    let proxy = format!("dgp.filter.grpc.proxy, config: {{{proxy}}}}}");
    let text = with("", cluster).replace("dgp.filter.grpc.proxy}", &proxy);
    load(&text, "f.yaml").unwrap_or_else(|errors| panic!("{errors}"))
}

fn tls(plan: &Plan) -> &Tls {
    cluster(plan).tls.as_ref().expect("TLS")
}

fn cluster(plan: &Plan) -> &Cluster {
    &plan.clusters[0]
}

fn notices(plan: &Plan) -> Vec<String> {
    plan.notices.iter().map(|notice| format!("{}: {}", notice.place, notice.text)).collect()
}

fn server_names(plan: &Plan) -> Vec<String> {
    let name = |endpoint: &weir::config::plan::Endpoint| endpoint.server_name.as_ref().unwrap().to_str().into_owned();
    cluster(plan).endpoints.iter().map(name).collect()
}

#[test]
fn a_cluster_without_tls_is_plaintext() {
    let plan = plan("");
    assert_eq!(cluster(&plan).tls, None);
    assert_eq!(cluster(&plan).endpoints[0].server_name, None);
}

#[test]
fn a_backend_has_the_name_that_its_endpoint_has() {
    let plan = plan(
        "tls: {ca_file: tests/tls/ca.pem}
type: StrictDNS
lb_policy: RoundRobin",
    );
    assert_eq!(server_names(&plan), ["127.0.0.1"]);
    assert_eq!(tls(&plan).ca_file, Some(PathBuf::from("tests/tls/ca.pem")));
    assert!(!tls(&plan).insecure_skip_verify && tls(&plan).identity.is_none());
    assert_eq!(notices(&plan), [""; 0]);
    let text = with("", "tls: {ca_file: tests/tls/ca.pem}\nlb_policy: RoundRobin\ntype: StrictDNS");
    let named = load(&text.replace("127.0.0.1, port: 50051", "orders.internal., port: 50051"), "f.yaml").unwrap();
    assert_eq!(server_names(&named), ["orders.internal"]);
}

#[test]
fn a_name_of_the_cluster_is_that_of_every_backend() {
    let plan = plan("tls: {ca_file: tests/tls/ca.pem, server_name: orders.internal}\nlb_policy: RoundRobin");
    assert_eq!(server_names(&plan), ["orders.internal"]);
}

#[test]
fn verification_that_is_off_is_told() {
    let plan = plan("lb_policy: RoundRobin\ntls: {insecure_skip_verify: true}");
    assert!(tls(&plan).insecure_skip_verify);
    let text = "f.yaml:13:13: `insecure_skip_verify`: cluster `orders` believes any certificate, of whoever answers in a \
                backend's place";
    assert_eq!(notices(&plan), [text]);
}

#[test]
fn a_certificate_that_has_expired_is_told() {
    let plan = plan(
        "lb_policy: RoundRobin
tls: {ca_file: tests/tls/ca.pem, cert_file: tests/tls/expired.pem, key_file: tests/tls/expired.key}",
    );
    assert_eq!(notices(&plan), ["f.yaml:13:51: the certificate in `tests/tls/expired.pem` has expired"]);
}

#[test]
fn a_proxy_says_it_for_the_clusters_of_its_listener() {
    let files = "tls_cert_file: tests/tls/client.pem, tls_key_file: tests/tls/client.key";
    let skip = "tls: {insecure_skip_verify: true}\nlb_policy: RoundRobin";
    let off = "tls: {enable: false}\nlb_policy: RoundRobin";
    let on = format!("enable_tls: true, {files}");
    assert_eq!(cluster(&behind(&on, off)).tls, None, "the cluster's own word");
    assert!(tls(&behind(&on, skip)).identity.is_none(), "the cluster's own word, whole");
    let disabled = behind(&format!("enable_tls: false, {files}"), "lb_policy: RoundRobin");
    assert_eq!(cluster(&disabled).tls, None);
    let why = "has no effect: `enable_tls: false` is plaintext";
    let told: Vec<String> = disabled.notices.iter().map(|notice| notice.text.clone()).collect();
    assert_eq!(told, [format!("`tls_cert_file` {why}"), format!("`tls_key_file` {why}")]);
    let empty = behind("tls_cert_file: \"\", tls_key_file: \"\"", "lb_policy: RoundRobin");
    assert_eq!((cluster(&empty).tls.as_ref(), empty.notices.len()), (None, 0));
}

#[test]
fn tls_that_is_off_has_no_other_key() {
    let plan = plan("tls: {enable: false, ca_file: no/such.pem}\nlb_policy: RoundRobin");
    assert_eq!(cluster(&plan).tls, None);
    assert_eq!(notices(&plan), ["f.yaml:12:28: `ca_file` has no effect: `enable: false` is plaintext"]);
}
