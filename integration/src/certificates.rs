//! Certificates for tests, made when a test needs them.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;

/// A certificate authority, with a folder for what it makes.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in files.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// A new authority, which nobody else knows, though all have one name.
    ///
    /// # Errors
    ///
    /// When the certificate cannot be made or written.
    pub fn new() -> Result<Authority> {
        Authority::named("an authority of a test")
    }

    /// The same, under a name of its own.
    ///
    /// # Errors
    ///
    /// When the certificate cannot be made or written.
    pub fn named(name: &str) -> Result<Authority> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let folder = TempDir::new()?;
        fs::write(folder.path().join("ca.pem"), issuer.pem())?;
        Ok(Authority { folder, issuer })
    }

    /// The file of its own certificate.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for these names and IP addresses.
    ///
    /// # Errors
    ///
    /// When it cannot be made or written.
    pub fn issue(&self, names: &[&str]) -> Result<Certificate> {
        self.sign(&names.join("+"), params(names)?)
    }

    /// The same, whose time is over.
    ///
    /// # Errors
    ///
    /// When it cannot be made or written.
    pub fn issue_expired(&self, names: &[&str]) -> Result<Certificate> {
        let mut params = params(names)?;
        params.not_after = date_time_ymd(2001, 1, 1);
        self.sign("expired", params)
    }

    /// A certificate of a client: its common name, its URI, and the serial number by which it can be revoked.
    ///
    /// # Errors
    ///
    /// When it cannot be made or written.
    pub fn issue_client(&self, name: &str, uri: &str, serial: u64) -> Result<Certificate> {
        let mut params = params(&[&format!("{name}.clients")])?;
        params.distinguished_name.push(DnType::OrganizationName, "Weir, tests");
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names.push(SanType::URI(uri.try_into()?));
        params.serial_number = Some(serial.into());
        self.sign(name, params)
    }

    /// A list of these serial numbers, which are revoked.
    ///
    /// # Errors
    ///
    /// When it cannot be made or written.
    pub fn revoke(&self, serials: &[u64]) -> Result<PathBuf> {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2124, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.folder.path().join("crl.pem");
        fs::write(&path, params.signed_by(&self.issuer)?.pem()?)?;
        Ok(path)
    }

    /// A certificate that vouches for itself, of a CA or not.
    ///
    /// # Errors
    ///
    /// When it cannot be made or written.
    pub fn self_signed(&self, names: &[&str], is_ca: bool) -> Result<Certificate> {
        let mut params = params(names)?;
        params.is_ca = if is_ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
        let key_pair = KeyPair::generate()?;
        let signed = params.self_signed(&key_pair)?;
        self.write("self-signed", &signed.pem(), &key_pair)
    }

    fn sign(&self, file: &str, params: CertificateParams) -> Result<Certificate> {
        let key_pair = KeyPair::generate()?;
        let signed = params.signed_by(&key_pair, &self.issuer)?;
        self.write(file, &signed.pem(), &key_pair)
    }

    fn write(&self, file: &str, pem: &str, key_pair: &KeyPair) -> Result<Certificate> {
        let path = |end: &str| self.folder.path().join(format!("{file}.{end}"));
        let (cert, key) = (path("pem"), path("key"));
        fs::write(&cert, pem)?;
        fs::write(&key, key_pair.serialize_pem())?;
        Ok(Certificate { cert, key })
    }
}

fn params(names: &[&str]) -> Result<CertificateParams> {
    Ok(CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?)
}
