//! Last values and aggregates over the API: shapes, names, filters, refusals, and answers that are kept. That they are
//! right is proved in the store's tests, and beside DuckDB in tests/e2e.

use tideline_protocol::block::BlockBuilder;
use tideline_protocol::durability::{Batch, Received};
use tideline_protocol::model::{DeviceId, Epoch, PointId, Sample, Seq, SeriesDef};
use tideline_protocol::wire::{Lane, Run, RunEnvelope, Series};

use super::*;
use crate::metadata::DeviceRecord;

const EPOCH: Epoch = Epoch::from_bytes([4; 16]);
const T_MS: i64 = 1_760_000_400_000;
const TRUCKS: [&str; 3] = ["south.f150.truck-1", "south.g2.truck-2", "north.f150.truck-3"];
const POINTS: [&str; 2] = ["fuel", "velocity"];

/// Three trucks with ten readings each a minute apart: fuel falls from 0.9, 0.6 and 0.3 by 0.05; truck n drives n · 10 for
/// five minutes and then stands.
async fn bench() -> Bench {
    let bench = Bench::new();
    let agent = AgentId::parse("gateway").unwrap();
    let def = |device: &str, point: &str| {
        SeriesDef::new(
            DeviceId::parse(device).unwrap(),
            PointId::parse(point).unwrap(),
            if point == "fuel" { "1" } else { "km/h" }.to_owned(),
        )
    };
    let defs: Vec<_> = TRUCKS.iter().flat_map(|truck| POINTS.map(|point| def(truck, point))).collect();
    bench.hub.store.define_series(agent, EPOCH, Series { first: 0, defs }).await.unwrap();
    let at = |minute: i64| (T_MS + minute * 60_000) * 1_000_000;
    let rows = (0..3_i32).flat_map(|truck| {
        let fuel = move |minute: i64| f64::from(18 - 6 * truck - i32::try_from(minute).unwrap()) * 0.05;
        let velocity = move |minute: i64| if minute < 5 { f64::from(truck + 1) * 10.0 } else { 0.0 };
        let of = |value: &dyn Fn(i64) -> f64| -> Vec<Sample> {
            (0..10).map(|minute| Sample { time_ns: at(minute), value: value(minute) }).collect()
        };
        [of(&fuel), of(&velocity)]
    });
    append(&bench, 1, &rows.collect::<Vec<_>>()).await;
    bench
}

async fn append(bench: &Bench, seq: u64, samples: &[Vec<Sample>]) {
    let items: Vec<(u32, &[Sample])> = (0..).zip(samples.iter().map(Vec::as_slice)).collect();
    let mut builder = BlockBuilder::new();
    builder.push_batch(&items);
    let block = builder.finish();
    let envelope = RunEnvelope {
        epoch: EPOCH,
        lane: Lane::Live,
        first: Seq::new(seq),
        rows: block.rows,
        series_end: block.series_end,
        restamps: vec![],
    };
    let run = Run { envelope, block: block.bytes };
    let batch = Batch::<Received>::received(AgentId::parse("gateway").unwrap(), run).validate(6).unwrap();
    bench.hub.store.append(batch).await.unwrap();
    let store = bench.hub.store.clone();
    tokio::task::spawn_blocking(move || store.settle()).await.unwrap().unwrap();
}

impl Bench {
    async fn last(&self, query: &str) -> (u16, Value) {
        let (status, body) = self.local("GET", &format!("/api/v1/last{query}"), Value::Null).await;
        (status.as_u16(), body)
    }

    async fn aggregate(&self, body: Value) -> (u16, Value) {
        let (status, body) = self.local("POST", "/api/v1/aggregate", body).await;
        (status.as_u16(), body)
    }

    fn counted(&self, what: &str) -> u64 {
        let page = telemetry::page(&self.hub.counters, 0, (0, 0), &self.hub.store.metrics());
        let name = format!("\ntideline_hub_answers_{what}_total ");
        let (_, rest) = page.split_once(&name).unwrap();
        rest.lines().next().unwrap().parse().unwrap()
    }
}

/// The value as it is, which must be as good as this one.
fn near(value: &Value, wanted: f64) -> Value {
    assert!((value.as_f64().unwrap() - wanted).abs() < 1e-9, "{value}");
    value.clone()
}

fn ids(page: &Value) -> Vec<&str> {
    page["series"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_last_values_of_a_fleet_come_in_one_page_and_by_name_value_and_page() {
    let bench = bench().await;
    let (status, all) = bench.last("").await;
    assert_eq!((status, ids(&all).len(), &all["next"]), (200, 6, &Value::Null));
    assert_eq!(
        all["series"][0],
        json!({"id": "north.f150.truck-3/fuel", "unit": "1", "type": "float", "t": T_MS + 540_000, "v": -0.15000000000000002,
            "age_ms": all["at_ms"].as_i64().unwrap() - T_MS - 540_000})
    );
    let (_, low) = bench.last("?point=fuel&below=0.4").await;
    assert_eq!(ids(&low), ["north.f150.truck-3/fuel", "south.g2.truck-2/fuel"]);
    let (_, some) = bench.last("?point=fuel&below=0.4&above=0").await;
    assert_eq!(ids(&some), ["south.g2.truck-2/fuel"]);
    let (_, south) = bench.last("?device=south.*&point=*city").await;
    assert_eq!(ids(&south), ["south.f150.truck-1/velocity", "south.g2.truck-2/velocity"]);
    let (_, named) = bench.last("?series=south.g2.truck-2/fuel").await;
    assert_eq!(ids(&named), ["south.g2.truck-2/fuel"]);
    assert_eq!(bench.last("?max_age=10m").await.1["series"], json!([]));
    let (mut path, mut seen) = ("?limit=4".to_owned(), Vec::new());
    loop {
        let (_, page) = bench.last(&path).await;
        seen.extend(ids(&page).into_iter().map(str::to_owned));
        match page["next"].as_str() {
            Some(next) => path = format!("?limit=4&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ids(&all));
    for (query, status, code) in [
        ("?limit=0", 400, "bad-limit"),
        ("?cursor=%20", 400, "bad-cursor"),
        ("?max_age=old", 400, "bad-time"),
        ("?device=south.f150.truck-9", 404, "not-found"),
        ("?series=south.f150.truck-1/none", 404, "not-found"),
        ("?series=south", 400, "bad-series"),
        ("?devices=x", 400, "bad-request"),
    ] {
        let (found, body) = bench.last(query).await;
        assert_eq!((found, &body["code"]), (status, &json!(code)), "{query}: {body}");
    }
}

#[tokio::test]
async fn a_registered_device_without_readings_is_known_and_has_none() {
    let bench = bench().await;
    bench.hub.metadata.put("silent-1", &DeviceRecord::behind("gateway", 1)).unwrap();
    let (status, none) = bench.last("?device=silent-1").await;
    assert_eq!((status, ids(&none)), (200, vec![]), "{none}");
    let (_, some) = bench.last("?device=silent-1,south.g2.truck-2&point=fuel").await;
    assert_eq!(ids(&some), ["south.g2.truck-2/fuel"]);
    let ask = |device: &str| {
        json!({"select": {"devices": [device]}, "functions": ["mean"], "group_by": "device",
            "from": T_MS.to_string(), "to": (T_MS + 600_000).to_string()})
    };
    let (status, answer) = bench.aggregate(ask("silent-1")).await;
    assert_eq!((status, &answer["groups"]), (200, &json!([])), "{answer}");
    // No other name becomes known by it.
    for (found, what) in [
        (bench.last("?device=silent-1,silent-2").await, r#"device "silent-2""#),
        (bench.last("?device=silent-1&point=none").await, r#"point "none""#),
        (bench.last("?series=silent-1/fuel").await, r#"series "silent-1/fuel""#),
        (bench.aggregate(ask("silent-2")).await, r#"device "silent-2""#),
    ] {
        assert_eq!(
            (found.0, found.1["detail"].as_str().map(|text| text.contains(what))),
            (404, Some(true)),
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn figures_that_json_has_no_number_for_are_told_by_their_places() {
    let bench = bench().await;
    let values = [1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    let sample = |(minute, value): (i64, &f64)| Sample {
        time_ns: (T_MS + minute * 60_000) * 1_000_000,
        value: *value,
    };
    append(&bench, 2, &[(60..).zip(&values).map(sample).collect()]).await;
    let (from, to) = (T_MS + 3_600_000, T_MS + 3_900_000);
    let path = format!("/api/v1/query?series={}/fuel&from={from}&to={to}", TRUCKS[0]);
    let (_, raw) = bench.local("GET", &path, Value::Null).await;
    let places = json!({"1": "Infinity", "2": "-Infinity", "3": "NaN"});
    assert_eq!(
        (&raw["series"][0]["v"], &raw["series"][0]["not_finite"]),
        (&json!([1.0, null, null, null]), &places)
    );
    let (_, buckets) = bench.local("GET", &format!("{path}&buckets=2"), Value::Null).await;
    let one = &buckets["series"][0];
    assert_eq!((&one["count"], &one["mean"]), (&json!([3]), &json!([null])), "{one}");
    let at = |text: &str| json!({"0": text});
    assert_eq!(
        one["not_finite"],
        json!({"min": at("-Infinity"), "max": at("Infinity"), "mean": at("NaN"), "last": at("-Infinity")})
    );
    let asked = json!({"select": {"series": [format!("{}/fuel", TRUCKS[0])]}, "functions": ["max", "sum", "count", "first"],
        "group_by": "series", "from": from.to_string(), "to": to.to_string()});
    let (_, groups) = bench.aggregate(asked).await;
    let group = &groups["groups"][0];
    assert_eq!((&group["max"], &group["first"]), (&json!([null]), &json!([1.0])));
    assert_eq!(group["not_finite"], json!({"max": at("Infinity"), "sum": at("NaN")}));
    let before = format!("/api/v1/query?series={}/fuel&from={T_MS}&to={from}&buckets=2", TRUCKS[0]);
    let (_, plain) = bench.local("GET", &before, Value::Null).await;
    assert!(plain["series"][0].get("not_finite").is_none(), "{plain}");
    let path = format!("/api/v1/export?series={}/fuel&from={from}&to={to}&format=csv", TRUCKS[0]);
    let asked = request("GET", &path, &[], None);
    let response = router(Arc::clone(&bench.hub), Door::Socket).oneshot(asked).await.unwrap();
    let csv = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
    let csv = String::from_utf8_lossy(&csv).to_lowercase();
    let told: Vec<&str> = csv.split(['\n', ',']).filter(|cell| cell.contains("inf")).collect();
    assert_eq!(told.len(), 2, "{csv}");
}

#[tokio::test]
async fn groups_are_made_by_name_and_filtered_and_counted_again() {
    let bench = bench().await;
    let range = |mut body: Value| {
        body["from"] = json!(T_MS.to_string());
        body["to"] = json!((T_MS + 600_000).to_string());
        body
    };
    let (status, fleets) = bench
        .aggregate(range(
            json!({"select": {"points": ["velocity"]}, "width": "5m", "functions": ["mean", "count", "max"],
            "group_by": {"prefix": {"of": "device", "separator": "."}}}),
        ))
        .await;
    assert_eq!(status, 200, "{fleets}");
    assert_eq!((&fleets["width_ms"], &fleets["tier"]), (&json!(300_000), &json!("raw")));
    let t = [T_MS, T_MS + 300_000];
    assert_eq!(
        fleets["groups"],
        json!([
            {"name": "north", "members": 1, "t": t, "count": [5, 5], "max": [30.0, 0.0], "mean": [30.0, 0.0]},
            {"name": "south", "members": 2, "t": t, "count": [10, 10], "max": [20.0, 0.0], "mean": [15.0, 0.0]},
        ])
    );
    // Who stood on average over the last five minutes.
    let (_, stood) = bench
        .aggregate(json!({"select": {"points": ["velocity"]}, "group_by": "device", "functions": ["mean"],
            "from": (T_MS + 240_000).to_string(), "to": (T_MS + 540_001).to_string(),
            "having": {"function": "mean", "below": 4}}))
        .await;
    let names: Vec<_> = stood["groups"].as_array().unwrap().iter().map(|group| &group["name"]).collect();
    assert_eq!(names, ["south.f150.truck-1", "south.g2.truck-2"]);
    assert_eq!(stood["width_ms"], Value::Null);
    // For how many minutes the trucks of each model drove.
    let drove = json!({"select": {"points": ["velocity"]}, "group_by": "device", "width": "1m", "functions": ["mean"],
        "having": {"function": "mean", "above": 1},
        "then": {"of": "mean", "functions": ["count", "min"], "width": "1d", "group_by": {"groups": [
            {"name": "f150", "members": ["*.f150.*"]}, {"name": "g2", "members": ["south.g2.truck-2"]}, {"name": "none", "members": []}]}}});
    let (_, drove) = bench.aggregate(range(drove)).await;
    let day = T_MS - T_MS % 86_400_000;
    assert_eq!(
        drove["groups"],
        json!([{"name": "f150", "members": 2, "t": [day], "count": [10], "min": [10.0]},
            {"name": "g2", "members": 1, "t": [day], "count": [5], "min": [20.0]},
            {"name": "none", "members": 0, "t": [], "count": [], "min": []}])
    );
    assert_eq!(drove["width_ms"], 86_400_000);
}

#[tokio::test]
async fn days_weeks_and_months_are_those_of_a_time_zone() {
    let bench = bench().await;
    let ask = async |path: &str| {
        let range = format!("from={T_MS}&to={}", T_MS + 600_000);
        bench
            .local(
                "GET",
                &format!("/api/v1/query?series=north.f150.truck-3/fuel&{range}&{path}"),
                Value::Null,
            )
            .await
    };
    for (path, start) in [
        ("every=1d", "2025-10-09T00:00:00Z"),
        ("every=1d&tz=Europe/Berlin", "2025-10-08T22:00:00Z"),
        ("every=1d&tz=Asia/Kolkata", "2025-10-08T18:30:00Z"),
        ("every=1w&tz=Europe/Berlin", "2025-10-05T22:00:00Z"),
        ("every=1mo&tz=America/New_York", "2025-10-01T04:00:00Z"),
    ] {
        let (_, answer) = ask(path).await;
        let series = &answer["series"][0];
        let start = crate::when::ms(crate::when::parse_time(start, 0).unwrap());
        assert_eq!(
            (&series["tier"], &series["t"], &series["count"]),
            // No file holds these yet.
            (&json!("raw"), &json!([start]), &json!([10])),
            "{path}: {answer}"
        );
    }
    for (path, code) in [
        ("every=1d&buckets=5", "bad-buckets"),
        ("every=2d", "bad-width"),
        ("every=1d&tz=Europe/Bonn", "bad-zone"),
        ("tz=Europe/Berlin", "bad-zone"),
        ("buckets=5&tz=Europe/Berlin", "bad-zone"),
    ] {
        let (status, answer) = ask(path).await;
        assert_eq!((status.as_u16(), &answer["code"]), (400, &json!(code)), "{path}: {answer}");
        assert!(answer["detail"].as_str().unwrap().len() > 20, "{answer}");
    }
    let groups = json!({"select": {"points": ["fuel"]}, "functions": ["count"], "width": "1w", "tz": "Europe/Berlin", "from": T_MS.to_string(), "to": (T_MS + 600_000).to_string()});
    let (_, groups) = bench.aggregate(groups).await;
    assert_eq!(
        groups["groups"],
        json!([{"name": "all", "members": 3, "t": [1_759_701_600_000_i64], "count": [30]}])
    );
    assert_eq!(groups["width_ms"], Value::Null);
    let (status, answer) = bench.aggregate(json!({"functions": ["count"], "tz": "UTC"})).await;
    assert_eq!((status, &answer["code"]), (400, &json!("bad-zone")));
}

#[tokio::test]
async fn buckets_have_quantiles_and_means_over_time_when_they_are_asked_for() {
    let bench = bench().await;
    let ask = async |query: &str| {
        let path = format!("/api/v1/query?series=north.f150.truck-3/velocity&from={T_MS}&{query}");
        let (status, answer) = bench.local("GET", &path, Value::Null).await;
        (status.as_u16(), answer)
    };
    // It drives 30 for five minutes of ten and then stands; the last reading is of the ninth minute.
    let (_, answer) = ask(&format!("to={}&every=1d&agg=twa,p50,p90,max", T_MS + 600_000)).await;
    let series = &answer["series"][0];
    near(&series["twa"][0], 15.0);
    assert_eq!(series["mean"], json!([15.0]));
    assert_eq!(series["quantiles"], json!({"p50": [15.0], "p90": [30.0]}));
    assert_eq!((&series["quantiles_error"], &series["figures_tier"]), (&json!([0.0]), &json!("raw")));
    assert_eq!(series.get("twa_near"), None);
    let (_, answer) = ask(&format!("to={}&every=1d&agg=twa", T_MS + 750_000)).await;
    near(&answer["series"][0]["twa"][0], 12.0);
    assert_eq!(answer["series"][0].get("quantiles"), None);
    let (_, answer) = ask(&format!("to={}&every=1d", T_MS + 600_000)).await;
    assert_eq!(answer["series"][0].get("twa"), None);
    // What comes late before the range changes with what its first bucket begins.
    let from = T_MS + 420_000;
    let ask_late = async || {
        let path = format!(
            "/api/v1/query?series=north.f150.truck-3/velocity&from={from}&to={}&every=1d&agg=twa",
            from + 60_000
        );
        bench.local("GET", &path, Value::Null).await.1["series"][0]["twa"].clone()
    };
    assert_eq!(ask_late().await, json!([0.0]));
    let path = format!(
        "/api/v1/query?series=north.f150.truck-3/velocity&from={}&to={}&every=1d&agg=twa",
        from + 1,
        from + 90_001
    );
    let before = bench.local("GET", &path, Value::Null).await.1;
    assert_eq!(before["series"][0]["twa"], json!([0.0]));
    let late = vec![Sample { time_ns: (from + 1) * 1_000_000 - 1, value: 60.0 }];
    append(&bench, 2, &[vec![], vec![], vec![], vec![], vec![], late]).await;
    let after = bench.local("GET", &path, Value::Null).await.1;
    let mean = after["series"][0]["twa"][0].as_f64().unwrap();
    assert!((mean - 60.0 * 59_999.0 / 90_000.0).abs() < 1e-9, "{after}");
    for (query, why) in [
        ("agg=twa", "neither"),
        ("buckets=5&agg=median", "p99.9"),
        ("buckets=5&agg=p101", "p99.9"),
        ("buckets=5&agg=p1,p2,p3,p4,p5,p6,p7,p8,p9", "at most 8"),
    ] {
        let (status, answer) = ask(query).await;
        assert_eq!((status, &answer["code"]), (400, &json!("bad-agg")), "{query}: {answer}");
        assert!(answer["detail"].as_str().unwrap().contains(why), "{query}: {answer}");
    }
}

#[tokio::test]
async fn groups_have_quantiles_and_means_over_time_of_all_their_readings() {
    let bench = bench().await;
    let ask = async |mut body: Value| {
        body["select"] = json!({"points": ["velocity"]});
        body["from"] = json!(T_MS.to_string());
        body["to"] = json!((T_MS + 750_000).to_string());
        bench.aggregate(body).await
    };
    // Each drives for five minutes of twelve and a half.
    let (status, all) = ask(json!({"functions": ["twa", "p50", "p100", "mean"], "width": "1d"})).await;
    assert_eq!(status, 200, "{all}");
    let day = T_MS - T_MS % 86_400_000;
    let mean = near(&all["groups"][0]["twa"][0], 8.0);
    assert_eq!(
        all["groups"],
        json!([{"name": "all", "members": 3, "t": [day], "mean": [10.0], "twa": [mean],
            "quantiles": {"p50": [5.0], "p100": [30.0]}, "quantiles_error": [0.0]}])
    );
    assert_eq!(all["figures_tier"], "raw");
    // Those whose median is above 10 as a median of what they drove; the figures of a filter need not be told.
    let (_, fast) = ask(json!({"functions": ["mean"], "width": "5m", "group_by": "device",
        "having": {"function": "p50", "above": 10},
        "then": {"of": "twa", "functions": ["p50", "count"]}}))
    .await;
    assert_eq!(
        fast["groups"],
        json!([{"name": "all", "members": 2, "t": [T_MS], "count": [2], "quantiles": {"p50": [25.0]}, "quantiles_error": [0.0]}])
    );
    let (_, plain) = ask(json!({"functions": ["mean"]})).await;
    assert_eq!((plain.get("figures_tier"), plain["groups"][0].get("quantiles")), (None, None));
    for (body, why) in [
        (json!({"functions": ["p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9"]}), "at most 8"),
        (json!({"functions": ["mean"], "then": {"of": "twa", "functions": ["twa"]}}), "then.of"),
    ] {
        let (status, answer) = ask(body.clone()).await;
        assert_eq!((status, &answer["code"]), (400, &json!("bad-functions")), "{body}: {answer}");
        assert!(answer["detail"].as_str().unwrap().contains(why), "{body}: {answer}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_says_what_is_allowed() {
    let bench = bench().await;
    for (body, status, code, why) in [
        (json!({"functions": ["p101"]}), 422, "bad-body", "p99.9"),
        (json!({"functions": []}), 400, "bad-functions", "mean"),
        (json!({"functions": ["median"]}), 422, "bad-body", "median"),
        (json!({"functions": ["mean"], "width": "0s"}), 400, "bad-time", "width"),
        (json!({"functions": ["mean"], "from": "-1h", "to": "-2h"}), 400, "bad-range", "from"),
        (json!({"functions": ["mean"], "having": {"function": "min"}}), 400, "bad-having", "below"),
        (json!({"functions": ["mean"], "select": {"points": ["none"]}}), 404, "not-found", "none"),
        (
            json!({"functions": ["mean"], "from": "0", "width": "1ms", "group_by": "series"}),
            400,
            "bad-query",
            "500000",
        ),
        (
            json!({"functions": ["mean"], "group_by": {"prefix": {"separator": "."}}}),
            400,
            "bad-group-by",
            "device",
        ),
        (
            json!({"functions": ["mean"], "group_by": {"prefix": {"of": "device", "separator": ""}}}),
            400,
            "bad-group-by",
            "separator",
        ),
        (
            json!({"functions": ["mean"], "then": {"of": "mean", "functions": ["max"], "group_by": "device"}}),
            400,
            "bad-group-by",
            "then",
        ),
        (json!({"functions": ["mean"], "whatever": 1}), 422, "bad-body", "whatever"),
    ] {
        let (found, answer) = bench.aggregate(body.clone()).await;
        assert_eq!((found, &answer["code"]), (status, &json!(code)), "{body}: {answer}");
        assert!(answer["detail"].as_str().unwrap().contains(why), "{body}: {answer}");
    }
}

#[tokio::test]
async fn an_answer_is_kept_until_readings_of_its_range_come() {
    let bench = bench().await;
    let (from, to) = (T_MS, T_MS + 600_000);
    let counts = json!({"functions": ["count"], "from": from.to_string(), "to": to.to_string()});
    let query = format!("/api/v1/query?series=south.g2.truck-2/fuel&from={from}&to={to}&buckets=2");
    let ask = async || {
        let (_, groups) = bench.aggregate(counts.clone()).await;
        let (_, buckets) = bench.local("GET", &query, Value::Null).await;
        let of_one: u64 =
            buckets["series"][0]["count"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
        (groups["groups"][0]["count"][0].as_u64().unwrap(), of_one)
    };
    assert_eq!(ask().await, (60, 10));
    assert_eq!(ask().await, (60, 10));
    assert_eq!((bench.counted("computed"), bench.counted("kept")), (2, 2));
    // Another day is not theirs; a late reading is.
    let at = |ms: i64, value| vec![Sample { time_ns: ms * 1_000_000, value }];
    append(&bench, 2, &[at(T_MS + 86_400_000, 1.0)]).await;
    assert_eq!(ask().await, (60, 10));
    assert_eq!((bench.counted("computed"), bench.counted("kept")), (2, 4));
    append(&bench, 3, &[vec![], vec![], at(T_MS + 1, 1.0)]).await;
    assert_eq!(ask().await, (61, 11));
    assert_eq!((bench.counted("computed"), bench.counted("kept")), (4, 4));
}

#[tokio::test]
async fn what_came_late_is_told_beside_the_readings_of_its_time_and_device() {
    let bench = bench().await;
    let mut batches = bench.hub.store.subscribe();
    // Truck 3 catches up: ten seconds after its eighth minute began, when the ninth was there.
    let late = vec![Sample { time_ns: (T_MS + 490_000) * 1_000_000, value: 60.0 }];
    append(&bench, 2, &[vec![], vec![], vec![], vec![], vec![], late]).await;
    // What came before may be decoded only now.
    while bench.hub.lateness.within(TRUCKS[2], T_MS, T_MS + 600_000).is_empty() {
        let batch = batches.recv().await.unwrap();
        crate::live::note_late(&bench.hub, &batch);
    }
    let ask = async |truck: &str, from_ms: i64| {
        let path = format!("/api/v1/query?series={truck}/velocity&from={from_ms}&to={}", T_MS + 600_000);
        let (raw, buckets) = (path.clone(), format!("{path}&buckets=10"));
        let raw = bench.local("GET", &raw, Value::Null).await.1["late"].clone();
        assert_eq!(bench.local("GET", &buckets, Value::Null).await.1["late"], raw);
        raw
    };
    let told = ask(TRUCKS[2], T_MS).await;
    assert_eq!(told.as_array().unwrap().len(), 1);
    let (one, at) = (&told[0], json!(T_MS + 490_000));
    assert_eq!((&one["device"], &one["from_ms"], &one["to_ms"]), (&json!(TRUCKS[2]), &at, &at));
    assert_eq!((&one["rows"], &one["came_from_ms"]), (&json!(1), &one["came_to_ms"]));
    assert_eq!(ask(TRUCKS[2], T_MS + 490_001).await, json!([]));
    assert_eq!(ask(TRUCKS[1], T_MS).await, json!([]));
}
