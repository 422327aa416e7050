//! Series as they are listed and found.

use tideline_protocol::keep::{Keep, KeepRule, Rollups};
use tideline_protocol::model::DeviceId;

use super::*;
use crate::metadata::DeviceRecord;

#[tokio::test]
async fn a_series_says_how_long_it_is_kept() {
    let bench = Bench::with_pumps().await;
    let keep = Keep { days: Some(30), rollups: Some(Rollups::HOUR.with(Rollups::DAY)) };
    let rules = [KeepRule { points: vec!["m/secret".into()], keep }];
    bench.hub.store.tell_keeps(&DeviceId::parse("pump-1").unwrap(), &rules);
    let (status, body) = bench.local("GET", "/api/v1/series?device=pump-1", Value::Null).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let kept = |at: usize| (body["series"][at]["id"].clone(), body["series"][at]["keep"].clone());
    let (own, all) = (["1h", "1d"], ["1m", "1h", "1d"]);
    let own = json!({ "readings": "30d", "rollups": own, "by_profile": true });
    let all = json!({ "readings": "forever", "rollups": all, "by_profile": false });
    assert_eq!(kept(0), (json!("pump-1/m/secret"), own));
    assert_eq!(kept(1), (json!("pump-1/m/t"), all));
}

#[tokio::test]
async fn series_are_found_by_words_of_their_own_and_of_their_devices() {
    let bench = Bench::with_pumps().await;
    let mut record: DeviceRecord = bench.hub.metadata.find("pump-2").unwrap().unwrap();
    record.marks.title = "Inlet, Hall B".into();
    record.marks.groups.insert("critical".into());
    record.marks.tags.insert("floor".into(), "2".into());
    bench.hub.metadata.put("pump-2", &record).unwrap();
    let ask = async |query: &str| {
        let (status, body) = bench.local("GET", &format!("/api/v1/series?{query}"), Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let all: Vec<String> = body["series"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect();
        (all, body["next"].clone())
    };
    for (query, want) in [
        ("q=", &["pump-1/m/secret", "pump-1/m/t", "pump-2/m/t", "pump-3/m/t"][..]),
        ("q=SECRET", &["pump-1/m/secret"]),
        ("q=north%20m/t", &["pump-1/m/t", "pump-2/m/t"]),
        ("q=hall%20inlet", &["pump-2/m/t"]),
        ("q=floor=2", &["pump-2/m/t"]),
        ("q=critical%20pump-2", &["pump-2/m/t"]),
        ("q=critical%20pump-1", &[]),
        ("q=m/t&device=pump-1", &["pump-1/m/t"]),
        // No word reaches from one thing into another.
        ("q=northcritical", &[]),
    ] {
        assert_eq!(ask(query).await.0, want, "{query}");
    }
    let (first, next) = ask("q=pump&limit=3").await;
    assert_eq!((first.len(), &next), (3, &json!("pump-2/m/t")));
    assert_eq!(ask("q=pump&limit=3&cursor=pump-2/m/t").await, (vec!["pump-3/m/t".to_owned()], Value::Null));
    let long = format!("/api/v1/series?q={}", "x".repeat(300));
    let (status, body) = bench.local("GET", &long, Value::Null).await;
    assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("bad-text")));
}

#[tokio::test]
async fn answers_say_up_to_when_readings_are_past_their_retention() {
    let bench = prometheus::thinned().await;
    let (t_ms, hour_ms) = (prometheus::T_NS / 1_000_000, 3_600_000);
    let last_ms = json!(t_ms + 540_000);
    let around = format!("from={}&to={}", t_ms - hour_ms, t_ms + 6 * hour_ms);
    let after = format!("from={}&to={}", t_ms + 2 * hour_ms, t_ms + 6 * hour_ms);
    let query = "/api/v1/query?series=pump-8/level";
    for (path, told) in [
        (format!("{query}&buckets=100&{around}"), Some(&last_ms)),
        (format!("{query}&buckets=100&{after}"), None),
        (format!("{query}&{around}"), Some(&last_ms)),
        (format!("{query}&{after}"), Some(&Value::Null)),
    ] {
        let (_, answer) = bench.local("GET", &path, Value::Null).await;
        assert_eq!(answer.get("thinned_to"), told, "{path}: {answer}");
    }
    let asked = json!({"select": {"points": ["level"]}, "functions": ["count"],
        "from": (t_ms - hour_ms).to_string(), "to": (t_ms + 6 * hour_ms).to_string()});
    let (_, answer) = bench.local("POST", "/api/v1/aggregate", asked).await;
    assert_eq!((answer.get("thinned_to"), &answer["tier"]), (Some(&last_ms), &json!("1h")), "{answer}");
    for path in [
        format!("/api/v1/export?device=pump-8&format=csv&{around}"),
        format!("/api/v1/export?device=pump-8&format=csv&rows=10&{around}"),
        format!("/api/v1/export?device=pump-8&format=csv&{after}"),
    ] {
        let (response, _) = bench.send(Door::Socket, request("GET", &path, &[], None)).await;
        let told = response.headers().get("tideline-thinned-to").map(|ms| ms.to_str().unwrap().to_owned());
        assert_eq!(told, path.contains(&around).then(|| last_ms.to_string()), "{path}");
    }
}
