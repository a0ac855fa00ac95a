//! Who a client is, in the words of the access log and of the header that backends read.

use std::fmt::Write;

use http::HeaderValue;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::pki_types::CertificateDer;

use super::Facts;
use crate::config::plan::ClientCertField;

/// A client whose certificate was verified.
#[derive(Debug)]
pub(crate) struct ClientIdentity {
    /// The subject as RFC 4514 writes it.
    pub(crate) subject: Option<String>,
    /// The URIs, with commas between them; a SPIFFE id is one.
    pub(crate) uris: Option<String>,
    /// The DNS names, with commas between them.
    pub(crate) dns: Option<String>,
    facts: Facts,
    /// SHA-256 of the certificate, in hexadecimal.
    hash: String,
}

impl ClientIdentity {
    /// # Errors
    ///
    /// When the certificate is no X.509, with what is wrong about it.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Result<ClientIdentity, String> {
        let facts = Facts::of(certificate)?;
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        Ok(ClientIdentity {
            subject: text(facts.subject.clone()),
            uris: text(facts.uris.join(",")),
            dns: text(facts.dns.join(",")),
            facts,
            hash: sha256(certificate),
        })
    }

    /// Envoy's `x-forwarded-client-cert`, with what is asked for; `None` where there is nothing of that.
    pub(crate) fn forwarded(&self, fields: &[ClientCertField]) -> Option<HeaderValue> {
        let mut parts = Vec::new();
        for field in fields {
            match field {
                ClientCertField::Hash => parts.push(format!("Hash={}", self.hash)),
                ClientCertField::Subject => parts.push(format!("Subject=\"{}\"", printable(&self.facts.subject))),
                ClientCertField::Uri => parts.extend(self.facts.uris.iter().map(|uri| format!("URI={}", plain(uri)))),
                ClientCertField::Dns => parts.extend(self.facts.dns.iter().map(|name| format!("DNS={}", plain(name)))),
            }
        }
        HeaderValue::try_from(parts.join(";")).ok().filter(|value| !value.is_empty())
    }
}

fn sha256(bytes: &[u8]) -> String {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().map(|suite| suite.common.hash_provider);
    let mut hex = String::new();
    for byte in suite.map(|hash| hash.hash(bytes)).iter().flat_map(|output| output.as_ref()) {
        // A text takes all that is written.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// In quotes where it holds what separates values.
fn plain(text: &str) -> String {
    let needs_quotes = |c: char| matches!(c, ',' | ';' | '=' | '"' | '\\' | ' ') || c.is_control();
    if text.contains(needs_quotes) { quoted(text) } else { text.to_owned() }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", printable(text).replace('\\', "\\\\").replace('"', "\\\""))
}

/// What no header may hold is left out: names with such bytes are nobody's. In a subject RFC 4514 has put a backslash before
/// each quote already, and Envoy adds none.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(subject: &str, uris: &[&str], dns: &[&str]) -> ClientIdentity {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let facts = Facts { subject: subject.to_owned(), dns: own(dns), uris: own(uris), not_after: 0 };
        ClientIdentity { subject: None, uris: None, dns: None, facts, hash: sha256(b"abc") }
    }

    #[test]
    fn the_header_is_envoys() {
        use ClientCertField::{Dns, Hash, Subject, Uri};
        let known = client("CN=a,O=b", &["spiffe://mesh/ns/a"], &["a.internal", "b.internal"]);
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let all = format!("Hash={hash};Subject=\"CN=a,O=b\";URI=spiffe://mesh/ns/a;DNS=a.internal;DNS=b.internal");
        assert_eq!(known.forwarded(&[Hash, Subject, Uri, Dns]).expect("a value"), all);
        assert_eq!(client("", &[], &[]).forwarded(&[Uri, Dns]), None);
    }

    /// A certificate can hold anything; what separates values must not come of it.
    #[test]
    fn nobody_adds_values_by_a_name() {
        let sly = client("CN=a\\\",O=b\r\nx: y", &["spiffe://a;URI=spiffe://b", "spiffe://a,By=c"], &[]);
        let value = sly.forwarded(&[ClientCertField::Subject, ClientCertField::Uri]).expect("a value");
        let expected = r#"Subject="CN=a\",O=bx: y";URI="spiffe://a;URI=spiffe://b";URI="spiffe://a,By=c""#;
        assert_eq!(value, expected);
    }
}
