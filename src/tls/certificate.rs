//! What a certificate says of its owner.
//!
//! Nothing here decides whether to believe it: that is webpki's work, which comes first.

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::parse_x509_certificate;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// What a certificate says of its owner, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The subject as RFC 4514 writes it; empty where the certificate has none.
    pub(crate) subject: String,
    /// The DNS names, in the certificate's order.
    pub(crate) dns: Vec<String>,
    /// The URIs, a SPIFFE id among them.
    pub(crate) uris: Vec<String>,
    /// The last second in which it is valid, since 1970.
    pub(crate) not_after: i64,
}

impl Facts {
    /// # Errors
    ///
    /// When the certificate is no X.509, with what is wrong about it.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Result<Facts, String> {
        let (_, parsed) = parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
        let names = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
        let mut facts = Facts {
            subject: subject(parsed.subject()),
            dns: Vec::new(),
            uris: Vec::new(),
            not_after: parsed.validity().not_after.timestamp(),
        };
        for name in names.map(|names| &names.value.general_names).into_iter().flatten() {
            match name {
                GeneralName::DNSName(name) => facts.dns.push(name.to_ascii_lowercase()),
                GeneralName::URI(uri) => facts.uris.push((*uri).to_owned()),
                _ => {}
            }
        }
        Ok(facts)
    }
}

/// RFC 4514: the last part first.
fn subject(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> =
        name.iter_rdn().map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+")).collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let kind = oid2abbrev(attribute.attr_type(), oid_registry())
        .map_or_else(|_| attribute.attr_type().to_id_string(), str::to_owned);
    match attribute.as_str() {
        Ok(value) => format!("{kind}={}", escaped(value)),
        // RFC 4514 2.4: what is no text is its encoding.
        Err(_) => {
            let hex: String = attribute.as_slice().iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{kind}=#{hex}")
        }
    }
}

/// RFC 4514 2.4.
fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut out = String::with_capacity(value.len());
    for (at, c) in value.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', c]),
            '#' if at == 0 => out.extend(['\\', c]),
            ' ' if at == 0 || at == last => out.extend(['\\', c]),
            c if c.is_ascii_control() => out.push_str(&format!("\\{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out
}
