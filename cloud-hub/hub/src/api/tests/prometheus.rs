//! The Prometheus API: forms, logins, names, errors. What it answers is compared with Prometheus itself
//! in tests/e2e.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tideline_protocol::block::BlockBuilder;
use tideline_protocol::durability::{Batch, Received};
use tideline_protocol::model::{DeviceId, Epoch, PointId, RowCounts, Sample, Seq, SeriesDef};
use tideline_protocol::wire::{Lane, RunEnvelope, Series};
use tideline_store::buckets::DAY_NS;
use tideline_store::{Limit, Retention};

use super::*;

const EPOCH: Epoch = Epoch::from_bytes([3; 16]);
pub(super) const T_NS: i64 = 1_760_000_000_000_000_000;

/// A hub with `pump-7/oil.temp` and `pump-7/oil-temp` in Cel and `pump-8/level` without a unit: ten
/// readings each, a minute apart, that of the last minute twice, and then one that is no number.
async fn bench() -> Bench {
    let bench = Bench::new();
    fill(&bench).await;
    bench
}

/// The same, when the readings and what was known of minutes are past their retention.
pub(super) async fn thinned() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let day = Limit { age_ns: Some(DAY_NS), bytes: None };
    let mut store = StoreConfig::new(dir.path().join("store"));
    store.retention = Retention { raw: day, minute: day, ..Retention::default() };
    let bench = Bench { hub: hub_on(dir.path(), Config::default(), store), _dir: dir };
    fill(&bench).await;
    let store = bench.hub.store.clone();
    let thin = move || store.flush().and_then(|()| store.retain());
    tokio::task::spawn_blocking(thin).await.unwrap().unwrap();
    bench
}

async fn fill(bench: &Bench) {
    let agent = AgentId::parse("gateway").unwrap();
    let def = |device: &str, point: &str, unit: &str| {
        SeriesDef::new(DeviceId::parse(device).unwrap(), PointId::parse(point).unwrap(), unit.to_owned())
    };
    let defs =
        vec![def("pump-7", "oil.temp", "Cel"), def("pump-7", "oil-temp", "Cel"), def("pump-8", "level", "")];
    let known = bench.hub.store.define_series(agent.clone(), EPOCH, Series { first: 0, defs }).await.unwrap();
    let mut samples: Vec<Sample> =
        (0..10_i64).map(|i| Sample { time_ns: T_NS + i * 60_000_000_000, value: i as f64 }).collect();
    samples.push(Sample { time_ns: T_NS + 540_000_000_000, value: 99.5 });
    samples.push(Sample { time_ns: T_NS + 540_000_000_000, value: f64::NAN });
    let mut builder = BlockBuilder::new();
    let items: Vec<_> = (0..known).map(|no| (no, &samples[..])).collect();
    builder.push_batch(&items);
    let envelope = RunEnvelope {
        epoch: EPOCH,
        lane: Lane::Live,
        first: Seq::new(1),
        rows: RowCounts::one(known * 12),
        series_end: known,
        restamps: vec![],
    };
    let run = tideline_protocol::wire::Run { envelope, block: builder.finish().bytes };
    let batch = Batch::<Received>::received(agent, run).validate(known).unwrap();
    bench.hub.store.append(batch).await.unwrap();
    let store = bench.hub.store.clone();
    tokio::task::spawn_blocking(move || store.settle()).await.unwrap().unwrap();
}

impl Bench {
    async fn prom(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.local("GET", &format!("/prometheus/api/v1/{path}"), Value::Null).await;
        (status.as_u16(), body)
    }

    async fn posted(&self, path: &str, form: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let mut request =
            Request::builder().method("POST").uri(format!("/prometheus/api/v1/{path}")).header("host", "hub");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (response, body) =
            self.send(Door::Plain, request.body(Body::from(form.to_owned())).unwrap()).await;
        (response.status().as_u16(), body)
    }
}

#[tokio::test]
async fn a_series_is_a_metric_with_labels() {
    let bench = bench().await;
    let at = T_NS / 1_000_000_000 + 61;
    let (status, body) = bench.prom(&format!("query?time={at}.5&query=oil_temp")).await;
    assert_eq!(status, 200, "{body}");
    let one = |point: &str| {
        json!({
            "metric": {"__name__": "oil_temp", "device": "pump-7", "point": point, "unit": "Cel"},
            "value": [1_760_000_061.5, "1"],
        })
    };
    assert_eq!(
        body,
        json!({"status": "success", "data": {"resultType": "vector", "result": [one("oil-temp"), one("oil.temp")]}})
    );
    let (_, body) = bench.prom(&format!("query?time={at}&query=level")).await;
    let metric = &body["data"]["result"][0]["metric"];
    assert_eq!(*metric, json!({"__name__": "level", "device": "pump-8", "point": "level"}));
    let (_, body) = bench.prom(&format!("query?time={at}&query=1.5")).await;
    assert_eq!(body["data"], json!({"resultType": "scalar", "result": [1_760_000_061, "1.5"]}));
    let (_, body) = bench.prom(&format!("query?time={at}&query='x'")).await;
    assert_eq!(body["data"], json!({"resultType": "string", "result": [1_760_000_061, "x"]}));
}

#[tokio::test]
async fn of_readings_with_one_time_the_last_that_came_counts() {
    let bench = bench().await;
    let at = T_NS / 1_000_000_000 + 600;
    let (_, body) = bench.prom(&format!("query?time={at}&query=level[3m]")).await;
    let values = &body["data"]["result"][0]["values"];
    assert_eq!(*values, json!([[1_760_000_480, "8"], [1_760_000_540, "99.5"]]));
    let (_, body) =
        bench.prom("query_range?start=2025-10-09T08:53:20Z&end=1760000120&step=1m&query=sum(level)").await;
    let values = &body["data"]["result"][0]["values"];
    assert_eq!(*values, json!([[1_760_000_000, "0"], [1_760_000_060, "1"], [1_760_000_120, "2"]]));
}

#[tokio::test]
async fn where_readings_are_gone_rollups_stand_in_and_a_warning_says_so() {
    let bench = thinned().await;
    let told =
        "readings up to 2025-10-09T09:02:20Z are past their retention; rollups of 1 h stand in for them";
    let (first, last) = ("readings up to 2025-10-09T08:59:20Z", told);
    // The hour from 8 on has 0 to 6, that from 9 on 7, 8, 9 and 99.5.
    for (query, after_s, value, warned) in [
        ("level", 361, "3", first),
        ("level", 600, "30.875", last),
        // A sample holds until the next one must have come.
        ("level", 7_599, "30.875", last),
        ("timestamp(level)", 600, "1760000540", last),
        ("max_over_time(level[1h])", 600, "99.5", last),
        ("min_over_time(level[1h])", 600, "0", last),
        ("sum_over_time(level[1h])", 600, "144.5", last),
        ("count_over_time(level[1h])", 600, "11", last),
        ("avg_over_time(level[1h])", 600, "16.9375", last),
        // What a counter had come to.
        ("last_over_time(level[1h])", 600, "99.5", last),
        ("idelta(level[1h])", 600, "93.5", last),
    ] {
        let at = T_NS / 1_000_000_000 + after_s;
        let (_, body) = bench.prom(&format!("query?time={at}&query={query}")).await;
        let warning = body["warnings"][0].as_str().unwrap_or_default();
        let found = body["data"]["result"][0]["value"][1].as_str();
        assert!(warning.starts_with(warned), "{query}: {body}");
        assert_eq!(found, Some(value), "{query}: {body}");
    }
    let (_, body) = bench.prom("query?time=1760007600&query=level").await;
    assert_eq!(body["data"]["result"], json!([]), "{body}");
    let (_, body) = bench.prom("query_range?start=1760000000&end=1760003600&step=20m&query=level").await;
    let values = &body["data"]["result"][0]["values"];
    assert_eq!(
        *values,
        json!([[1_760_001_200, "30.875"], [1_760_002_400, "30.875"], [1_760_003_600, "30.875"]])
    );
    assert_eq!(body["warnings"], json!([told]));
}

#[tokio::test]
async fn series_labels_values_and_metadata_are_listed() {
    let bench = bench().await;
    let list = |body: Value| body["data"].clone();
    let pump_8 = json!([{"__name__": "level", "device": "pump-8", "point": "level"}]);
    assert_eq!(list(bench.prom("series?match[]=level").await.1), pump_8);
    assert_eq!(list(bench.prom("series?match[]=%7Bunit=%22%22,device=~%22pump.*%22%7D").await.1), pump_8);
    assert_eq!(list(bench.prom("series?match[]=level&start=1760009999").await.1), json!([]));
    assert_eq!(list(bench.prom("series?match[]=level&end=1759999999").await.1), json!([]));
    assert_eq!(list(bench.prom("labels").await.1), json!(["__name__", "device", "point", "unit"]));
    assert_eq!(list(bench.prom("labels?match[]=level").await.1), json!(["__name__", "device", "point"]));
    assert_eq!(list(bench.prom("label/__name__/values").await.1), json!(["level", "oil_temp"]));
    assert_eq!(list(bench.prom("label/device/values?match[]=oil_temp").await.1), json!(["pump-7"]));
    let (_, cut) = bench.prom("label/device/values?limit=1").await;
    assert_eq!(
        (&cut["data"], &cut["warnings"][0]),
        (&json!(["pump-7"]), &json!("results truncated due to limit"))
    );
    let (_, metadata) = bench.prom("metadata?metric=oil_temp").await;
    let of = |point: &str| json!({"type": "unknown", "help": format!("The point {point} of devices."), "unit": "Cel"});
    assert_eq!(metadata["data"], json!({"oil_temp": [of("oil-temp"), of("oil.temp")]}));
    let (_, build) = bench.prom("status/buildinfo").await;
    assert_eq!(build["data"]["version"], "3.0.0");
    assert_eq!(list(bench.prom("query_exemplars?query=level").await.1), json!([]));
}

#[tokio::test]
async fn a_form_is_taken_with_a_bearer_token_or_with_the_token_as_password() {
    let bench = bench().await;
    let made = bench.local("POST", "/api/v1/tokens", json!({"name": "grafana", "role": "viewer"})).await;
    let token = made.1["token"].as_str().unwrap().to_owned();
    let form = ("content-type", "application/x-www-form-urlencoded");
    let bearer = format!("Bearer {token}");
    let basic = format!("Basic {}", STANDARD.encode(format!("grafana:{token}")));
    for authorization in [bearer.as_str(), &basic] {
        let headers = [form, ("authorization", authorization)];
        let (status, body) = bench.posted("query", "query=1%2B1&time=5", &headers).await;
        assert_eq!((status, &body["data"]["result"]), (200, &json!([5, "2"])), "{body}");
    }
    let wrong = format!("Basic {}", STANDARD.encode("grafana:tlt_x_y"));
    for headers in [vec![form], vec![form, ("authorization", wrong.as_str())]] {
        assert_eq!(bench.posted("query", "query=1", &headers).await.0, 401);
    }
    // The password stands for the token here only.
    let elsewhere = request("GET", "/api/v1/devices", &[("authorization", &basic)], None);
    assert_eq!(bench.send(Door::Plain, elsewhere).await.0.status(), StatusCode::UNAUTHORIZED);
    let json_body = [("content-type", "application/json"), ("authorization", bearer.as_str())];
    let (status, body) = bench.posted("query", "{}", &json_body).await;
    assert_eq!((status, &body["errorType"]), (400, &json!("bad_data")), "{body}");
}

/// What Grafana's Prometheus data source asks, as its documentation and Prometheus' have it: forms by POST for queries, with
/// times in seconds, and lists by GET.
#[tokio::test]
async fn what_grafana_asks_is_answered() {
    let bench = bench().await;
    let made = bench.local("POST", "/api/v1/tokens", json!({"name": "grafana", "role": "viewer"})).await;
    let basic = format!("Basic {}", STANDARD.encode(format!("any:{}", made.1["token"].as_str().unwrap())));
    let form = [("content-type", "application/x-www-form-urlencoded"), ("authorization", basic.as_str())];
    let level = json!({"__name__": "level", "device": "pump-8", "point": "level"});
    for (path, body, at, want) in [
        // Save & test, and the version that it is told apart by.
        ("query", "query=1%2B1&time=1760000061.123", "/data/result/1", json!("2")),
        // A panel, its table, and its legend.
        (
            "query_range",
            "query=level&start=1760000000&end=1760000060&step=30",
            "/data/result/0/values",
            json!([[1_760_000_000, "0"], [1_760_000_030, "0"], [1_760_000_060, "1"]]),
        ),
        (
            "query_range",
            "query=rate%28level%5B1m0s%5D%29&start=1760000120.000&end=1760000180.000&step=60.000",
            "/data/resultType",
            json!("matrix"),
        ),
        ("query", "query=level&time=1760000061.000&timeout=60s", "/data/result/0/metric", level.clone()),
        ("query_exemplars", "query=level&start=1760000000&end=1760000060", "/data", json!([])),
        // The builder's labels, and those of a variable.
        (
            "labels",
            "match%5B%5D=%7B__name__%3D%22level%22%7D&start=1760000000&end=1760000600&limit=40000",
            "/data",
            json!(["__name__", "device", "point"]),
        ),
        ("series", "match%5B%5D=level&start=1760000000&end=1760000600&limit=40000", "/data/0", level.clone()),
    ] {
        let (status, answer) = bench.posted(path, body, &form).await;
        assert_eq!((status, answer.pointer(at)), (200, Some(&want)), "{path} {body}: {answer}");
        assert_eq!(answer["status"], "success", "{path}");
        // The same where POST is not allowed by what stands between.
        let (status, answer) = bench.prom(&format!("{path}?{body}")).await;
        assert_eq!((status, answer.pointer(at)), (200, Some(&want)), "{path}?{body}: {answer}");
    }
    for (path, at, want) in [
        ("status/buildinfo", "/data/version", json!("3.0.0")),
        ("rules", "/data", json!({"groups": []})),
        ("metadata?limit=40000", "/data/level/0/type", json!("unknown")),
        ("metadata?limit=1&limit_per_metric=1&metric=level", "/data/level/0/unit", json!("")),
        (
            "label/__name__/values?start=1760000000&end=1760000600&limit=40000",
            "/data",
            json!(["level", "oil_temp"]),
        ),
        (
            "label/__name__/values?match%5B%5D=%7Bdevice%3D%22pump-8%22%7D&start=1760000000&end=1760000600",
            "/data",
            json!(["level"]),
        ),
        ("label/device/values?match[]=oil_temp&start=1760000000&end=1760000600", "/data", json!(["pump-7"])),
        ("series?match[]=level&start=1760000000&end=1760000600&limit=40000", "/data/0", level),
    ] {
        let (status, answer) = bench.prom(path).await;
        assert_eq!((status, answer.pointer(at)), (200, Some(&want)), "{path}: {answer}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_as_prometheus_tells_it() {
    let bench = bench().await;
    let long = "a".repeat(17 << 10);
    for (path, status, kind, what) in [
        (
            "query?query=sum(",
            400,
            "bad_data",
            "invalid parameter \"query\": 1:5: parse error: unexpected end",
        ),
        ("query", 400, "bad_data", "invalid parameter \"query\": it is missing"),
        ("query?query=1&time=x", 400, "bad_data", "invalid parameter \"time\": cannot parse \"x\""),
        ("query?query=1&time=1e300", 400, "bad_data", "invalid parameter \"time\": cannot parse"),
        ("query?query=1&limit=x", 400, "bad_data", "invalid parameter \"limit\""),
        ("query?query=1&lookback_delta=1m", 400, "bad_data", "invalid parameter \"lookback_delta\""),
        (
            "query?query=histogram_quantile(1,level)",
            400,
            "bad_data",
            "invalid parameter \"query\": 1:1: parse error: function \"histogram_quantile\" is not supported",
        ),
        (
            "query_range?query=1&start=0&end=11001&step=1",
            400,
            "bad_data",
            "exceeded maximum resolution of 11000 points",
        ),
        ("query_range?query=1&start=0&end=1&step=0", 400, "bad_data", "zero or negative query resolution"),
        (
            "query_range?query=1&start=0&end=1&step=1e-9",
            400,
            "bad_data",
            "invalid parameter \"step\": \"1e-9\" is too small; allowed is 0.001 s",
        ),
        ("query_range?query=1&start=0&end=1", 400, "bad_data", "invalid parameter \"step\": it is missing"),
        ("query?query=vector(1)[90y:1ms]", 422, "execution", "the query would compute more than"),
        (
            "query?query=level%2B%20on()%20oil_temp&time=1760000100",
            422,
            "execution",
            "found duplicate series for the match group {} on the right",
        ),
        ("series", 400, "bad_data", "no match[] parameter provided"),
        ("series?match[]=sum(level)", 400, "bad_data", "invalid parameter \"match[]\""),
        ("targets", 404, "not_found", "/prometheus/api/v1/targets is not supported"),
        (
            &format!("query?query={long}"),
            400,
            "bad_data",
            "invalid parameter \"query\": the query has 17408 bytes",
        ),
    ] {
        let (got, body) = bench.prom(path).await;
        let told = body["error"].as_str().unwrap_or_default();
        assert_eq!(
            (got, &body["status"], &body["errorType"]),
            (status, &json!("error"), &json!(kind)),
            "{path}: {body}"
        );
        assert!(told.starts_with(what), "{path}: {told}");
    }
    let (status, body) = bench.prom("query?query=max_over_time(vector(1)[2h:1ms])&timeout=1ms").await;
    assert_eq!((status, &body["errorType"]), (503, &json!("timeout")), "{body}");
}
