//! Enrolment: which key a token lets in, and which it shuts out.

use base64::Engine as _;
use tideline_link::identity::{AgentKey, csr_public_key_sha256};
use tideline_link::token::EnrollToken;

use super::*;
use crate::metadata::{DeviceRecord, MetadataError};
use crate::secret::hex;

const DEVICE: &str = "pump-7";

impl Bench {
    async fn enrol_token(&self) -> EnrollToken {
        let (status, made) =
            self.local("POST", "/api/v1/enroll-tokens", json!({"device": DEVICE, "ttl_s": 60})).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        EnrollToken::parse(made["token"].as_str().unwrap()).unwrap()
    }

    /// Enrols; gives the stable code, empty when it is let in.
    async fn enrol(&self, token: &EnrollToken, key: &AgentKey) -> String {
        let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token.secret);
        let body = json!({"id": token.id, "secret": secret, "csr": csr(key)});
        let (response, body) = self.send(Door::Tls, request("POST", "/enroll/v1", &[], Some(body))).await;
        if response.status() == StatusCode::OK {
            assert_eq!(body["agent"], DEVICE);
            let ways = (&body["quic"], &body["mqtt"]);
            assert_eq!(ways, (&json!("localhost:4433"), &json!("localhost:8883")));
        }
        body["code"].as_str().unwrap_or_default().to_owned()
    }

    fn is_keys_device(&self, key: &AgentKey) -> bool {
        let record: DeviceRecord = self.hub.metadata.find(DEVICE).unwrap().unwrap();
        record.key_hash == hex(&csr_public_key_sha256(&csr(key)).unwrap())
    }
}

/// A request with a good token and the name of another device.
fn key_of_another_device(token: &EnrollToken, key: &AgentKey) -> Request<Body> {
    let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token.secret);
    let csr = key.csr_pem(&AgentId::parse("pump-8").unwrap()).unwrap();
    request("POST", "/enroll/v1", &[], Some(json!({"id": token.id, "secret": secret, "csr": csr})))
}

fn csr(key: &AgentKey) -> String {
    key.csr_pem(&AgentId::parse(DEVICE).unwrap()).unwrap()
}

#[tokio::test]
async fn a_token_is_bound_to_the_first_key_that_uses_it() {
    let bench = Bench::new();
    let token = bench.enrol_token().await;
    let (one, other) = (AgentKey::generate().unwrap(), AgentKey::generate().unwrap());
    let other_name = key_of_another_device(&token, &one);
    let (refused, body) = bench.send(Door::Tls, other_name).await;
    assert_eq!((refused.status(), &body["code"]), (StatusCode::BAD_REQUEST, &json!("bad-csr")), "{body}");
    let wrong = EnrollToken { secret: [7; 32], ..token.clone() };
    assert_eq!(bench.enrol(&wrong, &one).await, "enroll-token-unknown");
    assert_eq!(bench.enrol(&token, &one).await, "");
    assert_eq!(bench.enrol(&token, &one).await, "", "the answer may have been lost");
    assert_eq!(bench.enrol(&token, &other).await, "enroll-token-used");
    let (_, device) = bench.local("GET", "/api/v1/devices/pump-7", Value::Null).await;
    assert_eq!(device["state"], "never");
    let (status, _) = bench.local("POST", "/api/v1/devices/pump-7/revoke", Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(bench.enrol(&token, &one).await, "device-revoked");
}

#[tokio::test]
async fn what_came_with_an_older_key_does_not_undo_a_new_enrolment() {
    let bench = Bench::new();
    let (stolen, new) = (AgentKey::generate().unwrap(), AgentKey::generate().unwrap());
    let (first, unused) = (bench.enrol_token().await, bench.enrol_token().await);
    assert_eq!(bench.enrol(&first, &stolen).await, "");
    assert_eq!(bench.enrol(&unused, &stolen).await, "enroll-token-unknown", "it went with the first use");
    let second = bench.enrol_token().await;
    assert_eq!(bench.enrol(&first, &stolen).await, "", "a token that nobody has used changes nothing");
    assert_eq!(bench.enrol(&second, &new).await, "");
    assert_eq!(bench.enrol(&first, &stolen).await, "enroll-token-unknown");
    assert_eq!(bench.enrol(&second, &stolen).await, "enroll-token-used");
    assert!(bench.is_keys_device(&new));
    assert_eq!(bench.enrol(&second, &new).await, "");
    // A token that is bound to a key which is no more the device's is of no use either.
    let third = bench.enrol_token().await;
    assert_eq!(bench.enrol(&third, &stolen).await, "");
    let mut record: DeviceRecord = bench.hub.metadata.find(DEVICE).unwrap().unwrap();
    record.key_hash = hex(&csr_public_key_sha256(&csr(&new)).unwrap());
    bench.hub.metadata.put(DEVICE, &record).unwrap();
    assert_eq!(bench.enrol(&third, &stolen).await, "enroll-token-replaced");
    assert!(bench.is_keys_device(&new));
}

#[tokio::test]
async fn guessing_tokens_does_not_wait_for_the_file() {
    let bench = Bench::new();
    let token = bench.enrol_token().await;
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let hub = Arc::clone(&bench.hub);
    let writer = tokio::task::spawn_blocking(move || {
        hub.metadata.change::<_, MetadataError>(|_| {
            begun.send(()).unwrap();
            let _told = ended.recv();
            Ok(())
        })
    });
    tokio::task::spawn_blocking(move || has_begun.recv()).await.unwrap().unwrap();
    let guess = EnrollToken { id: "0000".to_owned(), ..token };
    let key = AgentKey::generate().unwrap();
    let answered = bench.enrol(&guess, &key);
    let code = tokio::time::timeout(std::time::Duration::from_secs(20), answered).await;
    assert_eq!(code.expect("it does not wait for the writer"), "enroll-token-unknown");
    drop(end);
    writer.await.unwrap().unwrap();
}
