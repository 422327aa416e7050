//! The pinned connection of enrolment, over TLS in memory, and the clock floor.

use tideline_protocol::time::{ManualClock, SystemClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::identity::CertificateAuthority;

const YEAR_S: i64 = 365 * 24 * 3600;

fn now_s() -> i64 {
    SystemClock::default().wall_ns() / NS_PER_S
}

fn authority() -> CertificateAuthority {
    CertificateAuthority::create("test hub", now_s() - 3 * YEAR_S).unwrap()
}

fn system_time() -> FloorTime {
    FloorTime::new(Arc::new(SystemClock::default()), 0)
}

/// How enrolment's handshake with a hub of these certificates ends.
async fn enrol(server: &KeyAndCert, client: ClientConfig, name: &'static str) -> Result<(), String> {
    let config = server_config(server, &server.ca_pem, false, &[ALPN_HTTP]).unwrap();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let hub = async {
        if let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(far).await {
            stream.write_all(b"hi").await.unwrap();
            stream.flush().await.unwrap();
        }
    };
    let agent = async {
        let connector = TlsConnector::from(Arc::new(client));
        let mut stream =
            connector.connect(ServerName::try_from(name).unwrap(), near).await.map_err(|e| e.to_string())?;
        let mut greeting = [0; 2];
        stream.read_exact(&mut greeting).await.map_err(|e| e.to_string())?;
        Ok(())
    };
    let ((), outcome) = tokio::join!(hub, agent);
    outcome
}

#[tokio::test]
async fn a_pinned_client_accepts_the_hub_of_its_token() {
    let authority = authority();
    let server = authority.issue_server(&["hub.example".into(), "127.0.0.1".into()], now_s()).unwrap();
    for name in ["hub.example", "127.0.0.1"] {
        let client = pinned_client_config(authority.fingerprint(), system_time()).unwrap();
        enrol(&server, client, name).await.unwrap();
    }
}

#[tokio::test]
async fn a_pinned_client_refuses_any_other_fingerprint() {
    let authority = authority();
    let server = authority.issue_server(&["hub.example".into()], now_s()).unwrap();
    let mut pin = authority.fingerprint();
    pin[31] ^= 1;
    let client = pinned_client_config(pin, system_time()).unwrap();
    let reason = enrol(&server, client, "hub.example").await.unwrap_err();
    assert!(reason.contains("the token names"), "{reason}");
    // Nor does the fingerprint of the hub's own certificate do.
    let leaf = crate::identity::fingerprint_of(&server.chain_pem).unwrap();
    let client = pinned_client_config(leaf, system_time()).unwrap();
    assert!(enrol(&server, client, "hub.example").await.is_err());
}

#[tokio::test]
async fn a_pinned_client_refuses_a_stranger_who_shows_the_right_authority() {
    let (ours, other) = (authority(), authority());
    let stranger = other.issue_server(&["hub.example".into()], now_s()).unwrap();
    let chain_pem = format!("{}{}", stranger.chain_pem, ours.cert_pem());
    let client = pinned_client_config(ours.fingerprint(), system_time()).unwrap();
    assert!(enrol(&KeyAndCert { chain_pem, ..stranger }, client, "hub.example").await.is_err());
}

#[tokio::test]
async fn a_pinned_client_checks_name_and_time() {
    let authority = authority();
    let pinned = |time| pinned_client_config(authority.fingerprint(), time).unwrap();
    let server = authority.issue_server(&["hub.example".into()], now_s()).unwrap();
    assert!(enrol(&server, pinned(system_time()), "elsewhere.example").await.is_err());
    let expired = authority.issue_server(&["hub.example".into()], now_s() - 2 * YEAR_S).unwrap();
    assert!(enrol(&expired, pinned(system_time()), "hub.example").await.is_err());
    let boot = || Arc::new(ManualClock::at(0));
    assert!(enrol(&server, pinned(FloorTime::new(boot(), 0)), "hub.example").await.is_err());
    enrol(&server, pinned(FloorTime::new(boot(), now_s())), "hub.example").await.unwrap();
}

#[test]
fn the_floor_is_only_a_floor() {
    let at =
        |wall_s: i64, floor_s| FloorTime::new(Arc::new(ManualClock::at(wall_s * NS_PER_S)), floor_s).now_s();
    assert_eq!((at(0, 100), at(200, 100), at(-5, -9)), (100, 200, 0));
}

#[test]
fn damaged_texts_are_named() {
    let authority = authority();
    let good = authority.issue_server(&["localhost".into()], now_s()).unwrap();
    let bad_key = KeyAndCert { key_pem: "x".into(), ..good.clone() };
    let bad_chain = KeyAndCert { chain_pem: String::new(), ..good.clone() };
    assert!(matches!(server_config(&bad_key, &good.ca_pem, true, &[]), Err(TlsError::Pem { .. })));
    assert!(server_config(&bad_chain, &good.ca_pem, true, &[]).is_err());
    assert!(matches!(server_config(&good, "x", true, &[]), Err(TlsError::Pem { .. })));
}
