//! Rules for the header that tells backends who a client is.

use http::HeaderName;

use super::Checker;
use crate::config::diagnostic::Diagnostic;
use crate::config::file::tls::ListenerTls;
use crate::config::file::value;
use crate::config::located::At;
use crate::config::plan::{ClientCertField, ForwardClientCert};
use crate::config::suggest::did_you_mean;

/// Envoy's, which backends know.
const HEADER: &str = "x-forwarded-client-cert";

/// Names that mean something to HTTP/2 or to gRPC.
const TAKEN: [&str; 9] =
    ["connection", "content-type", "cookie", "host", "keep-alive", "te", "transfer-encoding", "upgrade", "user-agent"];

impl Checker<'_, '_> {
    /// `is_asked`: clients are asked for certificates.
    pub(super) fn forward_client_cert(&self, file: &ListenerTls, is_asked: bool) -> Option<ForwardClientCert> {
        let at = file.forward_client_cert.as_ref()?;
        let asked = at.value.as_ref()?;
        if !is_asked {
            let error = Diagnostic::new(at.key, "`forward_client_cert` stands without `client_auth`");
            self.error(error.label("nobody is asked for a certificate: say `client_auth: optional`, or `required`"));
            return None;
        }
        let header = match &asked.header {
            Some(field) => self.header_of_ours(field),
            None => Some(HeaderName::from_static(HEADER)),
        };
        let fields = match &asked.fields {
            Some(list) => list.value.as_deref()?.iter().filter_map(|field| self.client_cert_field(field)).collect(),
            None => ClientCertField::ALL.map(|(field, _)| field).to_vec(),
        };
        if let Some(list) = asked.fields.as_ref().filter(|list| list.value.as_ref().is_some_and(Vec::is_empty)) {
            self.error(Diagnostic::new(list.key, "no `fields`").label("without the key, all of them"));
        }
        Some(ForwardClientCert { header: header?, fields })
    }

    fn header_of_ours(&self, field: &At<String>) -> Option<HeaderName> {
        let text = self.text(field, "header")?;
        let error = |label: &str| {
            let error = Diagnostic::new(field.place, format!("`{text}` cannot tell who a client is"));
            self.error(error.label(label.to_owned()));
        };
        match HeaderName::from_bytes(text.as_bytes()) {
            Err(_) => error("it is no name of a header"),
            Ok(name) if TAKEN.contains(&name.as_str()) || name.as_str().starts_with("grpc-") => {
                error("the header has a meaning of its own");
            }
            Ok(name) if name.as_str().ends_with("-bin") => error("gRPC takes `-bin` for a value in base64"),
            Ok(name) => return Some(name),
        }
        None
    }

    fn client_cert_field(&self, field: &At<value::ClientCertField>) -> Option<ClientCertField> {
        let text = field.value.as_ref()?.0.as_str();
        if let Some((known, _)) = ClientCertField::ALL.into_iter().find(|(_, name)| *name == text) {
            return Some(known);
        }
        let names = ClientCertField::ALL.map(|(_, name)| name);
        let label = did_you_mean(text, names).unwrap_or_else(|| names.join(", "));
        self.error(Diagnostic::new(field.place, format!("unknown field `{text}` of a certificate")).label(label));
        None
    }
}
