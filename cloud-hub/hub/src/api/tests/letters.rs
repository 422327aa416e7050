//! What people do with dead letters, backups and strangers, by way of the API.

use tideline_protocol::durability::Batch;
use tideline_protocol::model::{DeviceId, Epoch, PointId, RowCounts, Seq, SeriesDef};
use tideline_protocol::wire::{Lane, Run, RunEnvelope, Series};

use super::*;

/// A hub that has stored a run of three readings that nobody can decode.
async fn bench() -> Bench {
    let bench = Bench::new();
    let (agent, epoch) = (AgentId::parse("pump-7").unwrap(), Epoch::from_bytes([3; 16]));
    let unit = "Cel".to_owned();
    let (device, point) = (DeviceId::parse("pump-7").unwrap(), PointId::parse("t").unwrap());
    let series = Series { first: 0, defs: vec![SeriesDef::new(device, point, unit)] };
    bench.hub.store.define_series(agent.clone(), epoch, series).await.unwrap();
    let (first, rows) = (Seq::FIRST, RowCounts::one(3));
    let envelope = RunEnvelope { epoch, lane: Lane::Live, first, rows, series_end: 1, restamps: vec![] };
    let run = Run { envelope, block: vec![0xab; 9] };
    bench.hub.store.append(Batch::received(agent, run).validate(1).unwrap()).await.unwrap();
    let store = bench.hub.store.clone();
    tokio::task::spawn_blocking(move || store.settle()).await.unwrap().unwrap();
    bench
}

#[tokio::test]
async fn dead_letters_are_listed_shown_refused_again_and_deleted() {
    let bench = bench().await;
    let (status, page) = bench.local("GET", "/api/v1/dead-letters", Value::Null).await;
    assert_eq!((status, page["letters"].as_array().unwrap().len()), (StatusCode::OK, 1), "{page}");
    let letter = &page["letters"][0];
    assert_eq!(
        (&letter["agent"], &letter["rows"], &letter["bytes"]),
        (&json!("pump-7"), &json!(3), &json!(9))
    );
    assert_eq!(letter["state"], "refused");
    assert!(!letter["reason"].as_str().unwrap().is_empty());
    let (_, none) = bench.local("GET", "/api/v1/dead-letters?agent=other", Value::Null).await;
    assert_eq!(none["letters"], json!([]));
    let path = format!("/api/v1/dead-letters/{}", letter["id"].as_str().unwrap());
    let (_, shown) = bench.local("GET", &path, Value::Null).await;
    assert_eq!((&shown["id"], &shown["begin"]), (&letter["id"], &json!("ab".repeat(9))));
    let (status, problem) = bench.local("POST", &format!("{path}/replay"), Value::Null).await;
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("undecodable")), "{problem}");
    let (_, ledger) = bench.local("GET", "/api/v1/store", Value::Null).await;
    assert_eq!(ledger["dead_letters"], 1);
    let (status, _) = bench.local("DELETE", &path, Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    for (method, path) in [("GET", path.clone()), ("DELETE", path), ("GET", "/api/v1/dead-letters/x".into())]
    {
        let (status, problem) = bench.local(method, &path, Value::Null).await;
        assert_eq!((status.as_u16(), &problem["code"]), (404, &json!("not-found")), "{method} {path}");
    }
}

#[tokio::test]
async fn a_running_hub_checks_its_store_and_makes_backups_for_its_own_machine_alone() {
    let bench = bench().await;
    let (status, found) = bench.local("POST", "/api/v1/store/verify", Value::Null).await;
    assert_eq!((status, &found["problems"]), (StatusCode::OK, &json!([])), "{found}");
    assert_eq!(found["dead_letters"], 1);
    let to = tempfile::tempdir().unwrap();
    let body = json!({"to": to.path().join("b").display().to_string()});
    let made = bench.local("POST", "/api/v1/backups", body.clone()).await;
    assert_eq!(made.0, StatusCode::CREATED, "{}", made.1);
    assert!(to.path().join("b/backup.json").exists());
    let taken = json!({"to": to.path().join("b/backup.json").display().to_string()});
    let (status, problem) = bench.local("POST", "/api/v1/backups", taken).await;
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("backup-place")));
    let (status, problem) = bench.local("POST", "/api/v1/backups", json!({"to": "b"})).await;
    assert_eq!((status.as_u16(), &problem["code"]), (400, &json!("bad-path")));
    let (_, token) = bench.local("POST", "/api/v1/tokens", json!({"name": "x", "role": "admin"})).await;
    let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
    let asked = request("POST", "/api/v1/backups", &[("authorization", &bearer)], Some(body));
    let (response, problem) = bench.send(Door::Plain, asked).await;
    assert_eq!((response.status().as_u16(), &problem["code"]), (403, &json!("local-only")));
}

#[tokio::test]
async fn an_agent_that_asked_with_a_certificate_of_this_hub_is_adopted_once() {
    let bench = Bench::new();
    let adopt = || bench.local("POST", "/api/v1/devices/late-1/adopt", Value::Null);
    assert_eq!(adopt().await.0, StatusCode::NOT_FOUND);
    bench.hub.strangers.note(&AgentId::parse("late-1").unwrap(), "its key", 5);
    let (_, asked) = bench.local("GET", "/api/v1/strangers", Value::Null).await;
    assert_eq!(asked["strangers"], json!([{"agent": "late-1", "asked_ms": 5}]));
    assert_eq!(adopt().await.0, StatusCode::CREATED);
    let record: crate::metadata::DeviceRecord = bench.hub.metadata.find("late-1").unwrap().unwrap();
    assert_eq!((record.agent.as_str(), record.key_hash.as_str()), ("late-1", "its key"));
    assert_eq!(adopt().await.0, StatusCode::NOT_FOUND, "nobody asks any more");
    bench.hub.strangers.note(&AgentId::parse("late-1").unwrap(), "another key", 6);
    let (status, problem) = adopt().await;
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("device-exists")));
}
