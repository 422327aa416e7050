//! rustls configurations for both ends; ring is always named, never taken from a process default.
//!
//! No configuration here trusts the public web's authorities: a hub is known by its own authority,
//! or, at enrolment, by the fingerprint of it that the token carries.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tideline_protocol::time::Clock;

use crate::identity::{KeyAndCert, fingerprint_of_der};

/// What enrolment speaks over its pinned connection.
pub const ALPN_HTTP: &str = "http/1.1";

const NS_PER_S: i64 = 1_000_000_000;

/// Why a configuration could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A text is not the PEM that it should be.
    #[error("{what} is not valid PEM")]
    Pem {
        /// Which text.
        what: &'static str,
    },
    /// rustls does not accept the keys or certificates.
    #[error("tls configuration refused: {0}")]
    Rustls(#[from] rustls::Error),
    /// The authority cannot be used to check the peer's certificate.
    #[error("certificate authority cannot verify: {reason}")]
    Verifier {
        /// What is wrong.
        reason: String,
    },
}

/// The time that certificates are checked at: the clock's, but never before a floor.
///
/// A device without a clock battery boots in 1970, where every certificate is not valid yet. The
/// floor is the latest moment that is known to have passed: the build, the token's issue time.
#[derive(Clone)]
pub struct FloorTime {
    clock: Arc<dyn Clock>,
    floor_s: i64,
}

impl FloorTime {
    /// Takes the later of the clock and `floor_s`, in seconds since 1970.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, floor_s: i64) -> Self {
        Self { clock, floor_s }
    }

    /// The time in seconds since 1970.
    #[must_use]
    pub fn now_s(&self) -> i64 {
        self.clock.wall_ns().div_euclid(NS_PER_S).max(self.floor_s).max(0)
    }
}

impl fmt::Debug for FloorTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FloorTime").field("floor_s", &self.floor_s).finish_non_exhaustive()
    }
}

impl TimeProvider for FloorTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.now_s().unsigned_abs())))
    }
}

/// The hub's side. With `require_client` it is TLS 1.3 only, and nobody gets in without a
/// certificate of the authority in `ca_pem`; without, it is for browsers, programs and enrolment.
///
/// # Errors
/// A text is not PEM, or key and certificate do not fit.
pub fn server_config(
    server: &KeyAndCert,
    ca_pem: &str,
    require_client: bool,
    alpn: &[&str],
) -> Result<ServerConfig, TlsError> {
    let clients = if require_client { Clients::Certified } else { Clients::Any };
    server_config_for(server, ca_pem, clients, alpn)
}

/// Whom a server takes by TLS alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// Nobody without a certificate of the authority; TLS 1.3 only.
    Certified,
    /// Those with a certificate of the authority, and those without any, who prove themselves otherwise.
    CertifiedOrAny,
    /// Everybody; no certificate is asked for.
    Any,
}

/// As [`server_config`], with all the choices there are.
///
/// # Errors
/// As [`server_config`].
pub fn server_config_for(
    server: &KeyAndCert,
    ca_pem: &str,
    clients: Clients,
    alpn: &[&str],
) -> Result<ServerConfig, TlsError> {
    let provider = provider();
    let versions: &[_] = if clients == Clients::Certified { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions)?;
    let builder = if clients == Clients::Any {
        builder.with_no_client_auth()
    } else {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots_of(ca_pem)?), provider);
        let verifier =
            if clients == Clients::Certified { verifier } else { verifier.allow_unauthenticated() };
        let verifier = verifier.build().map_err(|error| TlsError::Verifier { reason: error.to_string() })?;
        builder.with_client_cert_verifier(verifier)
    };
    let mut config = builder.with_single_cert(chain_of(server)?, key_of(server)?)?;
    if clients != Clients::Any {
        // A resumed session would skip the check of the client's certificate, so that an expired one
        // lived on for as long as its tickets; a link lasts for days and saves nothing by resuming.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config.alpn_protocols = alpn_of(alpn);
    Ok(config)
}

/// The agent's side after enrolment: TLS 1.3, its own certificate, and no root but the hub's own.
///
/// # Errors
/// A text is not PEM, or key and certificate do not fit.
pub fn client_config(
    agent: &KeyAndCert,
    ca_pem: &str,
    floor: FloorTime,
    alpn: &[&str],
) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(floor))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots_of(ca_pem)?)
        .with_client_auth_cert(chain_of(agent)?, key_of(agent)?)?;
    config.alpn_protocols = alpn_of(alpn);
    Ok(config)
}

/// As [`client_config`], for a client that connects by another name than the hub's: whatever it asks
/// for, the certificate must be `server_name`'s. rustls itself checks the name that is asked for, and
/// rumqttc asks for the host that it connects to.
///
/// # Errors
/// As [`client_config`], or `server_name` is no name.
pub fn named_client_config(
    agent: &KeyAndCert,
    ca_pem: &str,
    floor: FloorTime,
    server_name: &str,
    alpn: &[&str],
) -> Result<ClientConfig, TlsError> {
    let unfit = |reason: String| TlsError::Verifier { reason };
    let name = ServerName::try_from(server_name.to_owned()).map_err(|error| unfit(error.to_string()))?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots_of(ca_pem)?), provider())
        .build()
        .map_err(|error| unfit(error.to_string()))?;
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(floor))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(NamedServer { name, verifier }))
        .with_client_auth_cert(chain_of(agent)?, key_of(agent)?)?;
    config.alpn_protocols = alpn_of(alpn);
    Ok(config)
}

/// For a broker of somebody else: any name that the authorities in `ca_pem` vouch for, without a
/// certificate of this end's. TLS 1.2 too, as such brokers may be old.
///
/// # Errors
/// The text holds no certificate.
pub fn broker_client_config(ca_pem: &str, floor: FloorTime) -> Result<ClientConfig, TlsError> {
    let pem = || TlsError::Pem { what: "the certificates of the broker's authority" };
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(cert.map_err(|_| pem())?)?;
    }
    if roots.is_empty() {
        return Err(pem());
    }
    Ok(ClientConfig::builder_with_details(provider(), Arc::new(floor))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Leaves all to webpki but the name.
#[derive(Debug)]
struct NamedServer {
    name: ServerName<'static>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for NamedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _asked_for: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verifier.verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// The agent's side at enrolment, for HTTPS: the hub must present an authority whose certificate has
/// exactly this SHA-256, and a leaf that this authority issued for the name asked for.
///
/// # Errors
/// The provider does not support TLS 1.3.
pub fn pinned_client_config(ca_sha256: [u8; 32], floor: FloorTime) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let verifier = PinnedAuthority { ca_sha256, provider: Arc::clone(&provider) };
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(floor))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = alpn_of(&[ALPN_HTTP]);
    Ok(config)
}

/// Takes its root from the peer's own chain, by fingerprint, and leaves all else to webpki.
#[derive(Debug)]
struct PinnedAuthority {
    ca_sha256: [u8; 32],
    provider: Arc<CryptoProvider>,
}

/// The hub is not the one that the token was made by.
#[derive(thiserror::Error)]
#[error("the hub's chain does not hold the authority that the token names")]
struct PinMismatch;

// rustls shows such an error by its `Debug`, and an installer is to read a sentence.
impl fmt::Debug for PinMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // Not looked for at the leaf: the authority's own certificate proves no hub.
        let authority = intermediates
            .iter()
            .find(|cert| fingerprint_of_der(cert) == self.ca_sha256)
            .ok_or_else(|| CertificateError::Other(OtherError(Arc::new(PinMismatch))))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn alpn_of(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

fn roots_of(ca_pem: &str) -> Result<RootCertStore, TlsError> {
    let pem = TlsError::Pem { what: "the authority's certificate" };
    let cert = CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(|_| pem)?;
    let mut roots = RootCertStore::empty();
    roots.add(cert)?;
    Ok(roots)
}

fn chain_of(own: &KeyAndCert) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(own.chain_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError::Pem { what: "the certificate chain" })
}

fn key_of(own: &KeyAndCert) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes())
        .map_err(|_| TlsError::Pem { what: "the private key" })
}

#[cfg(test)]
mod tests;
