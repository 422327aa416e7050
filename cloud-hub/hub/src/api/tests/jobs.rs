//! Stream jobs by the API.

use http_body_util::BodyExt as _;
use std::time::Duration;

use super::*;
use crate::jobs;

fn definition() -> Value {
    json!({
        "source": {"devices": ["roof"], "points": ["t"]},
        "window": {"kind": "tumbling", "length_ms": 1000},
        "aggregates": ["mean"],
        "time": {"out_of_orderness_ms": 0, "idle_timeout_ms": null},
        "sinks": [{"kind": "series", "point": "{point}-1s"}, {"kind": "rows"}, {"kind": "live"}],
    })
}

#[tokio::test]
async fn a_job_is_made_shown_paused_resumed_and_deleted() {
    let bench = Bench::new();
    jobs::start(&bench.hub).await.unwrap();
    let (status, made) = bench.local("PUT", "/api/v1/jobs/mean", definition()).await;
    assert_eq!(
        (status, &made["phase"], &made["name"]),
        (StatusCode::CREATED, &json!("running"), &json!("mean"))
    );
    assert_eq!(made["definition"]["late"], json!({"allowed_ms": 0, "then": "side"}));
    assert_eq!(bench.local("PUT", "/api/v1/jobs/mean", definition()).await.0, StatusCode::OK);
    let (_, list) = bench.local("GET", "/api/v1/jobs", Value::Null).await;
    assert_eq!(list["jobs"].as_array().unwrap().len(), 1);
    for (path, status, phase) in
        [("pause", 200, "paused"), ("pause", 409, "paused"), ("resume", 200, "running")]
    {
        let (found, body) = bench.local("POST", &format!("/api/v1/jobs/mean/{path}"), json!(null)).await;
        assert_eq!(found.as_u16(), status, "{path}: {body}");
        let (_, shown) = bench.local("GET", "/api/v1/jobs/mean", Value::Null).await;
        assert_eq!(shown["phase"], phase);
    }
    let (_, page) = bench.send(Door::Socket, request("GET", "/api/v1/openapi.json", &[], None)).await;
    assert!(page["paths"]["/api/v1/jobs/{name}"]["put"].is_object());
    assert_eq!(bench.local("DELETE", "/api/v1/jobs/mean", Value::Null).await.0, StatusCode::NO_CONTENT);
    for (method, path) in [("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("GET", "/rows")] {
        let (status, body) = bench.local(method, &format!("/api/v1/jobs/mean{path}"), json!(null)).await;
        assert_eq!((status, &body["code"]), (StatusCode::NOT_FOUND, &json!("not-found")), "{method} {path}");
    }
    jobs::stop(&bench.hub).await;
}

#[tokio::test]
async fn results_are_rows_readings_events_and_metrics() {
    let bench = Bench::new();
    jobs::start(&bench.hub).await.unwrap();
    bench.local("PUT", "/api/v1/jobs/mean", definition()).await;
    let live = router(Arc::clone(&bench.hub), Door::Socket);
    let mut live =
        live.oneshot(request("GET", "/api/v1/live?device=roof", &[], None)).await.unwrap().into_body();
    let token = bench.write_token("rig", &["roof"]).await;
    let text =
        "t,host=roof value=1 100000000\nt,host=roof value=3 900000000\nt,host=roof value=9 1100000000\n";
    assert_eq!(bench.line("/api/v2/write?org=o&bucket=b", &token, text).await.0, 204);
    let mut seen = String::new();
    while !seen.contains("event: results") {
        let part =
            tokio::time::timeout(Duration::from_secs(60), live.frame()).await.unwrap().unwrap().unwrap();
        seen += &String::from_utf8_lossy(&part.into_data().unwrap());
    }
    assert!(seen.contains(r#"{"results":[{"job":"mean","number":1,"device":"roof","point":"t""#), "{seen}");
    assert_eq!(bench.stored("roof/t-1s").await, json!([["0"], [2.0]]));
    let (_, rows) = bench.local("GET", "/api/v1/jobs/mean/rows", Value::Null).await;
    let row = json!({"number": 1, "device": "roof", "point": "t", "from_ms": 0, "to_ms": 1000, "from_ns": "0",
        "to_ns": "1000000000", "revision": 0, "values": {"mean": 2.0}});
    assert_eq!((&rows["rows"], &rows["side"]), (&json!([row]), &json!([])));
    bench.line("/api/v2/write?org=o&bucket=b", &token, "t,host=roof value=1 200000000").await;
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    let shown = loop {
        looks.tick().await;
        let (_, shown) = bench.local("GET", "/api/v1/jobs/mean", Value::Null).await;
        if shown["figures"]["too_late"] == 1 {
            break shown;
        }
    };
    assert_eq!(
        (&shown["by_device"][0]["device"], &shown["by_device"][0]["late"]),
        (&json!("roof"), &json!(1))
    );
    let page = crate::telemetry::jobs(&bench.hub.jobs.views());
    for line in ["tideline_job_running{job=\"mean\"} 1", "tideline_job_late_readings_total{job=\"mean\"} 1"] {
        assert!(page.contains(line), "{page}");
    }
    let (_, device) = bench.local("GET", "/api/v1/devices/_job.mean/ledger", Value::Null).await;
    assert_eq!(
        (&device["total"]["stored"], &device["total"]["balanced"]),
        (&json!(1), &json!(true)),
        "{device}"
    );
    jobs::stop(&bench.hub).await;
}

#[tokio::test]
async fn a_wrong_definition_is_told_whole_and_a_viewer_changes_nothing() {
    let bench = Bench::new();
    jobs::start(&bench.hub).await.unwrap();
    let wrong = json!({
        "source": {"devices": [], "points": ["a b"]},
        "window": {"kind": "tumbling", "length_ms": 0},
        "sinks": [{"kind": "rows"}],
    });
    let (status, body) = bench.local("PUT", "/api/v1/jobs/mean", wrong).await;
    assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("bad-job")));
    let lines: Vec<&str> = body["detail"].as_str().unwrap().lines().collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[2].starts_with("/window/length_ms is 0; allowed are 1 to"), "{lines:?}");
    for (body, part) in [
        (json!([1]), "the definition is [1]; allowed are tables with name, source"),
        (json!({"name": "other"}), "/name is \"other\"; allowed are \"mean\", as in the path"),
        (json!({"colour": 1}), "/colour is unknown; allowed are name, source"),
        (
            json!({"source": {"devices": ["*"], "points": ["*"]}, "window": {"kind": "round"}, "sinks": []}),
            "tumbling",
        ),
    ] {
        let (status, found) = bench.local("PUT", "/api/v1/jobs/mean", body).await;
        let detail = found["detail"].as_str().unwrap();
        assert!(status == StatusCode::BAD_REQUEST && detail.contains(part), "{detail}");
    }
    // What is wrong with the form comes with what is wrong beyond it.
    let wrong = json!({
        "name": 5, "source": {"devices": ["roof"], "points": ["t", 5]}, "window": {"kind": "tumbling", "length_ms": 0},
        "late": {"allowed": 5}, "sinks": [{"kind": "series", "point": "t"}, {"kind": "row"}],
        "sql": "DROP TABLE readings", "limits": {"devices": 0},
    });
    let (status, body) = bench.local("PUT", "/api/v1/jobs/mean", wrong).await;
    let errors: Vec<&str> =
        body["errors"].as_array().unwrap().iter().map(|error| error.as_str().unwrap()).collect();
    let wanted = [
        "/name is 5; allowed are \"mean\"",
        "/source/points/1 is 5; allowed are texts",
        "/window/length_ms is 0; allowed are 1 to",
        "/sql is refused: ",
        "/late/allowed is unknown; allowed are allowed_ms, then",
        "/sinks/1/kind is \"row\"; allowed are series, rows, live",
        "/limits/devices is 0; allowed are 1 to",
    ];
    assert_eq!((status, errors.len()), (StatusCode::BAD_REQUEST, wanted.len()), "{errors:?}");
    for (error, start) in errors.iter().zip(wanted) {
        assert!(error.starts_with(start), "{error}");
    }
    let (_, made) = bench.local("POST", "/api/v1/tokens", json!({"name": "v", "role": "viewer"})).await;
    let bearer = format!("Bearer {}", made["token"].as_str().unwrap());
    let headers: [(&str, &str); 1] = [("authorization", &bearer)];
    let ask = |method, path, body| bench.send(Door::Plain, request(method, path, &headers, body));
    assert_eq!(ask("GET", "/api/v1/jobs", None).await.0.status(), StatusCode::OK);
    assert_eq!(ask("PUT", "/api/v1/jobs/mean", Some(definition())).await.0.status(), StatusCode::FORBIDDEN);
    assert_eq!(bench.local("GET", "/api/v1/jobs", Value::Null).await.1["jobs"], json!([]));
}
