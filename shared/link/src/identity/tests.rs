//! What is issued holds what the hub chose, and nothing else.

use super::*;

const NOW_S: i64 = 1_763_719_200;

fn agent(id: &str) -> AgentId {
    AgentId::parse(id).unwrap()
}

fn authority() -> CertificateAuthority {
    CertificateAuthority::create("test hub", NOW_S).unwrap()
}

fn der(pem: &str) -> CertificateDer<'static> {
    cert_of_pem(pem).unwrap()
}

#[test]
fn an_authority_comes_back_from_its_pem() {
    let made = authority();
    let loaded = CertificateAuthority::load(made.cert_pem(), &made.key_pem()).unwrap();
    assert_eq!(loaded.fingerprint(), made.fingerprint());
    assert_eq!(fingerprint_of(made.cert_pem()).unwrap(), made.fingerprint());
    let server = loaded.issue_server(&["hub.example".into(), "::1".into()], NOW_S).unwrap();
    assert_eq!(CertificateDer::pem_slice_iter(server.chain_pem.as_bytes()).count(), 2);
}

#[test]
fn an_authority_needs_its_own_key_and_a_ca_certificate() {
    let (one, other) = (authority(), authority());
    assert!(matches!(
        CertificateAuthority::load(one.cert_pem(), &other.key_pem()),
        Err(IdentityError::KeyMismatch)
    ));
    let server = one.issue_server(&["localhost".into()], NOW_S).unwrap();
    assert!(matches!(
        CertificateAuthority::load(&server.chain_pem, &server.key_pem),
        Err(IdentityError::Certificate { .. })
    ));
    assert!(matches!(CertificateAuthority::load("x", "y"), Err(IdentityError::Pem { .. })));
}

#[test]
fn an_agent_certificate_names_the_agent_that_the_hub_chose() {
    let key = AgentKey::generate().unwrap();
    let csr = key.csr_pem(&agent("somebody-else")).unwrap();
    let pem = authority().issue_agent(&csr, &agent("pump-7"), NOW_S, AGENT_CERT_DAYS).unwrap();
    let der = der(&pem);
    assert_eq!(agent_id_of(&der).unwrap(), agent("pump-7"));
    let (_, x509) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert!(!x509.subject().to_string().contains("somebody-else"));
    assert!(!x509.is_ca());
    assert_eq!(x509.validity().not_before.timestamp(), NOW_S - BACKDATE_S);
    assert_eq!(x509.validity().not_after.timestamp(), NOW_S + 365 * DAY_S);
    let shown = PeerCertificate {
        key_sha256: csr_public_key_sha256(&csr).unwrap(),
        sha256: fingerprint_of(&pem).unwrap(),
        not_before_s: NOW_S - BACKDATE_S,
        not_after_s: NOW_S + 365 * DAY_S,
    };
    assert_eq!(PeerCertificate::of(&der).unwrap(), shown);
    let usage = x509.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth);
}

#[test]
fn the_same_key_asks_again_with_the_same_hash() {
    let key = AgentKey::generate().unwrap();
    let again = AgentKey::from_pem(&key.key_pem()).unwrap();
    let first = csr_public_key_sha256(&key.csr_pem(&agent("a")).unwrap()).unwrap();
    assert_eq!(csr_public_key_sha256(&again.csr_pem(&agent("a")).unwrap()).unwrap(), first);
    let other = AgentKey::generate().unwrap();
    assert_ne!(csr_public_key_sha256(&other.csr_pem(&agent("a")).unwrap()).unwrap(), first);
}

#[test]
fn a_request_with_a_wrong_signature_is_refused() {
    let csr = AgentKey::generate().unwrap().csr_pem(&agent("a")).unwrap();
    let mut bytes =
        rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(csr.as_bytes()).unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let mut pem = "-----BEGIN CERTIFICATE REQUEST-----\n".to_owned();
    pem += &base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &bytes);
    pem += "\n-----END CERTIFICATE REQUEST-----\n";
    assert!(matches!(csr_public_key_sha256(&pem), Err(IdentityError::Request { .. })));
    let issued = authority().issue_agent(&pem, &agent("a"), NOW_S, 1);
    assert!(matches!(issued, Err(IdentityError::Request { .. })));
}

#[test]
fn a_request_is_refused_for_another_kind_of_key_or_its_size() {
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    assert!(matches!(csr_public_key_sha256(&csr), Err(IdentityError::Request { .. })));
    let long = "x".repeat(CSR_BYTES_MAX + 1);
    assert!(matches!(csr_public_key_sha256(&long), Err(IdentityError::Request { .. })));
}

#[test]
fn a_certificate_with_no_or_two_agents_speaks_for_none() {
    let authority = authority();
    let server = authority.issue_server(&["localhost".into()], NOW_S).unwrap();
    assert!(matches!(agent_id_of(&der(&server.chain_pem)), Err(IdentityError::NoAgent { .. })));
    assert!(matches!(agent_id_of(b"no certificate"), Err(IdentityError::Certificate { .. })));
    let mut two = params("two", NOW_S, NOW_S, 1).unwrap();
    two.subject_alt_names =
        ["a", "b"].iter().map(|id| SanType::URI(ia5(&format!("{AGENT_URN_PREFIX}{id}")).unwrap())).collect();
    let key = KeyPair::generate().unwrap();
    let cert = two.signed_by(&key, &authority.issuer).unwrap();
    assert!(matches!(agent_id_of(cert.der()), Err(IdentityError::NoAgent { .. })));
}

#[test]
fn server_names_are_checked() {
    let authority = authority();
    for bad in [vec![], vec!["not a name".to_owned()], vec!["a".to_owned(); SERVER_NAMES_MAX + 1]] {
        assert!(matches!(authority.issue_server(&bad, NOW_S), Err(IdentityError::Names { .. })), "{bad:?}");
    }
}

#[test]
fn debug_keeps_private_keys() {
    let authority = authority();
    let server = authority.issue_server(&["localhost".into()], NOW_S).unwrap();
    let shown = format!("{authority:?} {server:?} {:?}", AgentKey::generate().unwrap());
    assert!(!shown.contains("PRIVATE KEY"), "{shown}");
}

#[test]
fn a_request_is_for_the_agent_that_it_names() {
    let (one, other) = (AgentId::parse("pump-7").unwrap(), AgentId::parse("pump-8").unwrap());
    let csr = AgentKey::generate().unwrap().csr_pem(&one).unwrap();
    assert!(csr_is_for(&csr, &one).unwrap());
    assert!(!csr_is_for(&csr, &other).unwrap());
    assert!(csr_is_for("no request", &one).is_err());
}
