//! The fleet at a glance, and what operators look at.

use std::io::Read as _;

use super::*;
use crate::metadata::DeviceRecord;
use crate::presence::End;
use crate::pulse;

impl Bench {
    fn registered(&self, id: &str, agent: &str) {
        self.hub.metadata.put(id, &DeviceRecord::behind(agent, 1)).unwrap();
    }

    fn heard(&self, agent: &str) {
        self.hub.presences.heard(&AgentId::parse(agent).unwrap(), self.hub.now(), None);
    }
}

#[tokio::test]
async fn the_fleet_at_a_glance_counts_devices_and_keeps_what_it_saw() {
    let bench = Bench::new();
    for (id, agent) in [("gw", "gw"), ("valve", "gw"), ("away", "away"), ("new", "new"), ("out", "out")] {
        bench.registered(id, agent);
    }
    bench.heard("gw");
    bench.heard("away");
    bench.hub.presences.ended(&AgentId::parse("away").unwrap(), bench.hub.now(), End::Goodbye);
    bench.local("POST", "/api/v1/devices/out/revoke", Value::Null).await;
    pulse::watch::look(&bench.hub).await.unwrap();
    let (status, fleet) = bench.local("GET", "/api/v1/fleet", Value::Null).await;
    assert_eq!(status, StatusCode::OK, "{fleet}");
    let counts = json!({"devices": 5, "agents": 4, "online": 2, "suspect": 0, "flapping": 0, "offline": 1, "never": 1, "revoked": 1});
    assert_eq!(fleet["counts"], counts);
    assert_eq!(fleet["freshness"]["none"], 4);
    assert!(fleet["since_ms"].is_i64(), "{fleet}");
    for history in ["minutes", "hours"] {
        assert_eq!(
            (&fleet[history]["online"], &fleet[history]["away"]),
            (&json!([2]), &json!([1])),
            "{history}"
        );
        assert_eq!(fleet[history]["rate"], json!([null]), "one look tells no rate");
    }
    assert_eq!(fleet["dropped_by_hour"].as_array().unwrap().len(), 24);
    assert!(fleet["storage"]["total_bytes"].as_u64() > fleet["storage"]["free_bytes"].as_u64(), "{fleet}");
}

#[tokio::test]
async fn all_devices_come_in_one_answer_by_columns_packed_for_who_takes_that() {
    let bench = Bench::new();
    bench.registered("gw", "gw");
    bench.registered("valve", "gw");
    bench.heard("gw");
    pulse::watch::look(&bench.hub).await.unwrap();
    let (_, plain) = bench.local("GET", "/api/v1/fleet/devices", Value::Null).await;
    assert_eq!((&plain["id"], &plain["agent"]), (&json!(["gw", "valve"]), &json!(["gw", "gw"])));
    let last = |no: usize| plain["hours"][no].as_str().unwrap().chars().last();
    // The valve is silent; its agent is heard of by itself. The picture is of before the look, which saw the same.
    assert!(matches!((last(0), last(1)), (Some('.' | 'o'), Some('.' | 's'))), "{plain}");
    let lengths = plain.as_object().unwrap().values().filter_map(Value::as_array).map(Vec::len);
    assert!(lengths.clone().count() > 20 && lengths.into_iter().all(|length| length == 2), "{plain}");
    let asked = request("GET", "/api/v1/fleet/devices", &[("accept-encoding", "gzip")], None);
    let response = router(Arc::clone(&bench.hub), Door::Socket).oneshot(asked).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
    let packed = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed.as_ref()).read_to_string(&mut text).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["id"], plain["id"]);
}

#[tokio::test]
async fn events_of_the_whole_fleet_come_by_pages_and_a_bad_cursor_is_told() {
    let bench = Bench::new();
    for agent in ["a", "b", "c"] {
        bench.registered(agent, agent);
        bench.heard(agent);
    }
    let (_, page) = bench.local("GET", "/api/v1/events?limit=2", Value::Null).await;
    let next = page["next"].as_str().unwrap();
    let (_, rest) = bench.local("GET", &format!("/api/v1/events?limit=2&cursor={next}"), Value::Null).await;
    assert_eq!(rest["next"], Value::Null);
    let agents = |page: &Value| -> Vec<String> {
        page["events"].as_array().unwrap().iter().map(|e| e["agent"].as_str().unwrap().to_owned()).collect()
    };
    let mut all = [agents(&page), agents(&rest)].concat();
    all.sort();
    assert_eq!(all, ["a", "b", "c"]);
    assert_eq!(page["events"][0]["change"], "online");
    for cursor in ["x", "1.", "a.b", "."] {
        let (status, body) =
            bench.local("GET", &format!("/api/v1/events?cursor={cursor}"), Value::Null).await;
        assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("bad-cursor")), "{cursor}");
    }
}

#[tokio::test]
async fn health_says_what_readyz_says() {
    let bench = Bench::new();
    let (_, health) = bench.local("GET", "/api/v1/health", Value::Null).await;
    assert_eq!((&health["ready"], &health["https"]), (&json!(true), &json!("localhost:8443")));
    let checks = health["checks"].as_array().unwrap();
    assert!(checks.iter().any(|check| check["name"] == "store log" && check["state"] == "fine"), "{health}");
    bench.hub.stopping.send_replace(true);
    let (_, health) = bench.local("GET", "/api/v1/health", Value::Null).await;
    assert_eq!(health["ready"], false);
}

#[tokio::test]
async fn enrolment_tokens_are_listed_without_secrets_and_taken_back() {
    let bench = Bench::new();
    let (_, made) = bench.local("POST", "/api/v1/enroll-tokens", json!({"device": "pump-7"})).await;
    let (_, list) = bench.local("GET", "/api/v1/enroll-tokens", Value::Null).await;
    let [token] = list["tokens"].as_array().unwrap().as_slice() else { panic!("{list}") };
    assert_eq!((&token["device"], &token["used"]), (&json!("pump-7"), &json!(false)));
    assert_eq!(token["expires_ms"], made["expires_ms"]);
    assert_eq!(token.as_object().unwrap().len(), 4, "no secret and no hash of one: {token}");
    let path = format!("/api/v1/enroll-tokens/{}", token["id"].as_str().unwrap());
    assert_eq!(bench.local("DELETE", &path, Value::Null).await.0, StatusCode::NO_CONTENT);
    assert_eq!(bench.local("DELETE", &path, Value::Null).await.0, StatusCode::NOT_FOUND);
    let (_, list) = bench.local("GET", "/api/v1/enroll-tokens", Value::Null).await;
    assert_eq!(list, json!({"tokens": []}));
}

#[tokio::test]
async fn viewers_see_the_fleet_and_none_of_the_tokens() {
    let bench = Bench::new();
    let (_, made) = bench.local("POST", "/api/v1/tokens", json!({"name": "wall", "role": "viewer"})).await;
    let bearer = format!("Bearer {}", made["token"].as_str().unwrap());
    for (path, status) in [
        ("/api/v1/fleet", StatusCode::OK),
        ("/api/v1/fleet/devices", StatusCode::OK),
        ("/api/v1/events", StatusCode::OK),
        ("/api/v1/health", StatusCode::OK),
        ("/api/v1/enroll-tokens", StatusCode::FORBIDDEN),
    ] {
        let asked = request("GET", path, &[("authorization", &bearer)], None);
        assert_eq!(bench.send(Door::Plain, asked).await.0.status(), status, "{path}");
        let stranger = request("GET", path, &[], None);
        assert_eq!(bench.send(Door::Plain, stranger).await.0.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
}
