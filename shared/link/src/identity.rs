//! Who is who: the hub's certificate authority, the agents' keys, and the id inside a certificate.
//!
//! Nothing here reads a clock: `now_s` comes in, in seconds since 1970-01-01 UTC. Private keys are
//! never printed by `Debug`, and a certificate request is trusted for its public key only: the
//! names in an issued certificate are always the hub's own choice.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SanType, SerialNumber,
};
use ring::hmac;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tideline_protocol::model::AgentId;
use x509_parser::extensions::GeneralName;

/// How long an agent's certificate is valid unless the caller says otherwise, in days.
pub const AGENT_CERT_DAYS: u32 = 365;
/// How long a hub's certificate is valid, in days.
pub const SERVER_CERT_DAYS: u32 = 365;
/// How long the authority is valid, in days: longer than the devices last, because it is pinned in them.
pub const CA_CERT_DAYS: u32 = 20 * 365 + 5;
/// How far `not_before` lies before the moment of issue, in seconds, so that a slow clock does not refuse.
pub const BACKDATE_S: i64 = 3600;
/// Longest certificate request that is looked at, in bytes of PEM; ours has about 500.
pub const CSR_BYTES_MAX: usize = 8 * 1024;
/// Most names in a hub's certificate; they travel in every handshake.
pub const SERVER_NAMES_MAX: usize = 32;
/// What an agent's id is written after in the subject alternative name.
pub const AGENT_URN_PREFIX: &str = "urn:tideline:agent:";

const DAY_S: i64 = 24 * 3600;
/// The last second that X.509 can name (9999-12-31T23:59:59Z).
const X509_TIME_MAX_S: i64 = 253_402_300_799;

/// What went wrong with a key, a certificate or a request for one.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A text is not the PEM that it should be.
    #[error("{what} is not valid PEM")]
    Pem {
        /// Which text.
        what: &'static str,
    },
    /// A certificate cannot be read.
    #[error("certificate cannot be read: {reason}")]
    Certificate {
        /// What is wrong.
        reason: String,
    },
    /// The certificate is valid, but names no agent.
    #[error("certificate names no agent: {reason}")]
    NoAgent {
        /// What is missing or wrong.
        reason: String,
    },
    /// The key of the authority does not belong to its certificate.
    #[error("the key of the certificate authority does not belong to its certificate")]
    KeyMismatch,
    /// A certificate request was not accepted.
    #[error("certificate request refused: {reason}")]
    Request {
        /// What is wrong.
        reason: String,
    },
    /// The names for a hub's certificate are not usable.
    #[error("names for the server certificate refused: {reason}")]
    Names {
        /// What is wrong.
        reason: String,
    },
    /// Making a key or a certificate failed at this end.
    #[error("key or certificate could not be made: {reason}")]
    Make {
        /// What failed.
        reason: String,
    },
}

/// A private key with the certificates that go with it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyAndCert {
    /// The private key, PKCS#8 PEM. Secret.
    pub key_pem: String,
    /// The certificate and what leads from it to the authority, PEM, leaf first.
    pub chain_pem: String,
    /// The hub's authority, PEM.
    pub ca_pem: String,
}

impl fmt::Debug for KeyAndCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyAndCert").field("chain_pem", &self.chain_pem).finish_non_exhaustive()
    }
}

/// The hub's own certificate authority: the root of trust of one installation.
pub struct CertificateAuthority {
    cert_pem: String,
    cert_der: CertificateDer<'static>,
    not_before_s: i64,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

impl CertificateAuthority {
    /// Makes a new authority, valid for [`CA_CERT_DAYS`] from an hour before `now_s`.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn create(common_name: &str, now_s: i64) -> Result<Self, IdentityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make)?;
        let mut params = params(common_name, now_s.saturating_sub(BACKDATE_S), now_s, CA_CERT_DAYS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert = params.self_signed(&key).map_err(make)?;
        Self::load(&cert.pem(), &key.serialize_pem())
    }

    /// Takes up an authority that [`Self::create`] made.
    ///
    /// # Errors
    /// A text is not what it should be, or the two do not belong together.
    pub fn load(cert_pem: &str, key_pem: &str) -> Result<Self, IdentityError> {
        let cert_der = cert_of_pem(cert_pem)?;
        let key =
            KeyPair::from_pem(key_pem).map_err(|_| IdentityError::Pem { what: "the authority's key" })?;
        let (_, x509) = x509_parser::parse_x509_certificate(&cert_der).map_err(unreadable)?;
        if !x509.is_ca() {
            return Err(IdentityError::Certificate { reason: "it is not that of an authority".into() });
        }
        if x509.public_key().raw != key.subject_public_key_info() {
            return Err(IdentityError::KeyMismatch);
        }
        let not_before_s = x509.validity().not_before.timestamp();
        let issuer = Issuer::from_ca_cert_der(&cert_der, key).map_err(make)?;
        Ok(Self { cert_pem: cert_pem.to_owned(), cert_der, not_before_s, issuer })
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// A secret for `purpose` that follows from the authority's key and says nothing of it.
    #[must_use]
    pub fn secret(&self, purpose: &str) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.issuer.key().serialized_der());
        let mut secret = [0; 32];
        for (to, byte) in secret.iter_mut().zip(hmac::sign(&key, purpose.as_bytes()).as_ref()) {
            *to = *byte;
        }
        secret
    }

    /// The authority's private key, PKCS#8 PEM. Secret.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// SHA-256 of the certificate's DER: what an enrolment token pins.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint_of_der(&self.cert_der)
    }

    /// Issues a hub's certificate, valid for [`SERVER_CERT_DAYS`]. Each name is a DNS name or an IP
    /// address. The chain holds the authority too, for clients that know only its fingerprint.
    ///
    /// It is valid from the authority's own first moment: a device that lost its clock stands at its
    /// clock floor, which may be older than the hub's newest certificate.
    ///
    /// # Errors
    /// A name is neither, or there are none or more than [`SERVER_NAMES_MAX`].
    pub fn issue_server(&self, names: &[String], now_s: i64) -> Result<KeyAndCert, IdentityError> {
        if names.is_empty() || names.len() > SERVER_NAMES_MAX {
            let reason = format!("there are {}; allowed are 1 to {SERVER_NAMES_MAX}", names.len());
            return Err(IdentityError::Names { reason });
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make)?;
        let from_s = self.not_before_s.min(now_s.saturating_sub(BACKDATE_S));
        let mut params = params("tideline hub", from_s, now_s, SERVER_CERT_DAYS)?;
        params.subject_alt_names = names.iter().map(|name| san_of(name)).collect::<Result<_, _>>()?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let cert = params.signed_by(&key, &self.issuer).map_err(make)?;
        Ok(KeyAndCert {
            key_pem: key.serialize_pem(),
            chain_pem: format!("{}{}", cert.pem(), self.cert_pem),
            ca_pem: self.cert_pem.clone(),
        })
    }

    /// Issues an agent's certificate (PEM, the leaf alone: the hub has the authority).
    ///
    /// # Errors
    /// The request is malformed, its signature is wrong, or its key is not ECDSA P-256.
    pub fn issue_agent(
        &self,
        csr_pem: &str,
        agent: &AgentId,
        now_s: i64,
        days: u32,
    ) -> Result<String, IdentityError> {
        let request = request_of(csr_pem)?;
        let mut params = params(agent.as_str(), now_s.saturating_sub(BACKDATE_S), now_s, days)?;
        params.subject_alt_names = vec![SanType::URI(ia5(&format!("{AGENT_URN_PREFIX}{agent}"))?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params.signed_by(&request.public_key, &self.issuer).map_err(make)?.pem())
    }
}

/// SHA-256 of the public key (SubjectPublicKeyInfo DER) of a request whose signature holds; what an
/// enrolment token is bound to at its first use.
///
/// # Errors
/// As [`CertificateAuthority::issue_agent`].
pub fn csr_public_key_sha256(csr_pem: &str) -> Result<[u8; 32], IdentityError> {
    Ok(Sha256::digest(request_of(csr_pem)?.public_key.subject_public_key_info()).into())
}

/// Whether a request names this agent as its subject, as [`AgentKey::csr_pem`] does.
///
/// # Errors
/// As [`CertificateAuthority::issue_agent`].
pub fn csr_is_for(csr_pem: &str, agent: &AgentId) -> Result<bool, IdentityError> {
    Ok(request_of(csr_pem)?.params.distinguished_name == named(agent.as_str()))
}

/// What is known of the certificate that an agent has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCertificate {
    /// SHA-256 of its public key (DER of its SubjectPublicKeyInfo): the same that [`csr_public_key_sha256`] gives for the
    /// request that it was issued for.
    pub key_sha256: [u8; 32],
    /// SHA-256 of all of it (DER), as tools show a fingerprint.
    pub sha256: [u8; 32],
    /// From when it is valid, seconds since 1970.
    pub not_before_s: i64,
    /// Until when it is valid, seconds since 1970.
    pub not_after_s: i64,
}

impl PeerCertificate {
    /// Reads it.
    ///
    /// # Errors
    /// The bytes are no certificate.
    pub fn of(cert_der: &[u8]) -> Result<Self, IdentityError> {
        let (_, x509) = x509_parser::parse_x509_certificate(cert_der).map_err(unreadable)?;
        Ok(Self {
            key_sha256: Sha256::digest(x509.public_key().raw).into(),
            sha256: fingerprint_of_der(cert_der),
            not_before_s: x509.validity().not_before.timestamp(),
            not_after_s: x509.validity().not_after.timestamp(),
        })
    }
}

/// SHA-256 of the first certificate of a PEM text.
///
/// # Errors
/// The text holds no certificate.
pub fn fingerprint_of(cert_pem: &str) -> Result<[u8; 32], IdentityError> {
    Ok(fingerprint_of_der(&cert_of_pem(cert_pem)?))
}

/// SHA-256 of a certificate's DER.
#[must_use]
pub fn fingerprint_of_der(cert_der: &[u8]) -> [u8; 32] {
    Sha256::digest(cert_der).into()
}

/// The agent that a certificate speaks for. Only meaningful after the chain was verified.
///
/// # Errors
/// The certificate cannot be read, or does not hold exactly one agent URN with a valid id.
pub fn agent_id_of(cert_der: &[u8]) -> Result<AgentId, IdentityError> {
    let (_, x509) = x509_parser::parse_x509_certificate(cert_der).map_err(unreadable)?;
    let no_agent = |reason: &str| IdentityError::NoAgent { reason: reason.to_owned() };
    let names = x509
        .subject_alternative_name()
        .map_err(|error| IdentityError::Certificate { reason: error.to_string() })?
        .ok_or_else(|| no_agent("it has no subject alternative name"))?;
    let mut ids = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(AGENT_URN_PREFIX),
        _ => None,
    });
    match (ids.next(), ids.next()) {
        (Some(id), None) => AgentId::parse(id).map_err(|error| no_agent(&error.to_string())),
        (None, _) => Err(no_agent("it has no agent URN")),
        // Which one would count is anybody's guess, so neither does.
        (Some(_), Some(_)) => Err(no_agent("it has more than one agent URN")),
    }
}

/// An agent's own key pair, ECDSA P-256. The private half never leaves the device.
pub struct AgentKey(KeyPair);

impl fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentKey").finish_non_exhaustive()
    }
}

impl AgentKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self).map_err(make)
    }

    /// Takes up a key that [`Self::key_pem`] gave.
    ///
    /// # Errors
    /// The text is no PKCS#8 PEM of an ECDSA P-256 key.
    pub fn from_pem(key_pem: &str) -> Result<Self, IdentityError> {
        KeyPair::from_pem_and_sign_algo(key_pem, &PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(|_| IdentityError::Pem { what: "the agent's key" })
    }

    /// The private key, PKCS#8 PEM. Secret.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// A request for a certificate, PEM. The id in it is for people; the hub goes by its token.
    ///
    /// # Errors
    /// Signing failed.
    pub fn csr_pem(&self, agent: &AgentId) -> Result<String, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(agent.as_str());
        params.serialize_request(&self.0).and_then(|csr| csr.pem()).map_err(make)
    }
}

fn request_of(csr_pem: &str) -> Result<CertificateSigningRequestParams, IdentityError> {
    let refused = |reason: String| IdentityError::Request { reason };
    if csr_pem.len() > CSR_BYTES_MAX {
        return Err(refused(format!("it has {} bytes; allowed are {CSR_BYTES_MAX}", csr_pem.len())));
    }
    let request = CertificateSigningRequestParams::from_pem(csr_pem)
        .map_err(|error| refused(error.to_string().to_lowercase()))?;
    if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
        return Err(refused("its key must be ECDSA P-256".into()));
    }
    Ok(request)
}

fn params(common_name: &str, from_s: i64, now_s: i64, days: u32) -> Result<CertificateParams, IdentityError> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(|error| IdentityError::Make { reason: error.to_string() })?;
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = named(common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    // rcgen's epoch plus a std duration keeps the crate that rcgen tells time with out of our types.
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since = |at_s: i64| Duration::from_secs(at_s.clamp(0, X509_TIME_MAX_S).unsigned_abs());
    params.not_before = epoch + since(from_s);
    params.not_after = epoch + since(now_s.saturating_add(i64::from(days) * DAY_S));
    Ok(params)
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn san_of(name: &str) -> Result<SanType, IdentityError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    // A name that no client could ask for would only be noticed on the device.
    rustls_pki_types::DnsName::try_from(name).map_err(|_| IdentityError::Names {
        reason: format!("{name:?} is neither a DNS name nor an IP address"),
    })?;
    Ok(SanType::DnsName(ia5(name)?))
}

fn ia5<T: for<'a> TryFrom<&'a str, Error = rcgen::Error>>(text: &str) -> Result<T, IdentityError> {
    T::try_from(text).map_err(make)
}

fn cert_of_pem(cert_pem: &str) -> Result<CertificateDer<'static>, IdentityError> {
    CertificateDer::from_pem_slice(cert_pem.as_bytes())
        .map_err(|_| IdentityError::Pem { what: "the certificate" })
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn make(error: rcgen::Error) -> IdentityError {
    IdentityError::Make { reason: error.to_string() }
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn unreadable(error: x509_parser::nom::Err<x509_parser::error::X509Error>) -> IdentityError {
    IdentityError::Certificate { reason: error.to_string() }
}

#[cfg(test)]
mod tests;
