//! Writing by the API: tokens, what each path answers, limits.

use std::io::Write as _;

use super::*;
use crate::metadata::DeviceRecord;
use crate::telemetry;

impl Bench {
    pub(super) async fn write_token(&self, name: &str, devices: &[&str]) -> String {
        let asked = json!({"name": name, "role": "writer", "devices": devices});
        let (status, made) = self.local("POST", "/api/v1/tokens", asked).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        made["token"].as_str().unwrap().to_owned()
    }

    async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> (Response<()>, Value) {
        let mut builder = Request::builder().method("POST").uri(path).header("host", "hub.test");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        self.send(Door::Plain, builder.body(body.into()).unwrap()).await
    }

    pub(super) async fn line(&self, path: &str, token: &str, body: &str) -> (u16, Value) {
        let (response, body) =
            self.post(path, &[("authorization", &format!("Token {token}"))], body.to_owned()).await;
        (response.status().as_u16(), body)
    }

    /// Times in ns and values of a series.
    pub(super) async fn stored(&self, series: &str) -> Value {
        let store = self.hub.store.clone();
        tokio::task::spawn_blocking(move || store.settle()).await.unwrap().unwrap();
        let (status, body) =
            self.local("GET", &format!("/api/v1/query?series={series}&from=0"), Value::Null).await;
        if status == StatusCode::NOT_FOUND {
            return Value::Null;
        }
        assert_eq!((status, &body["partial"]), (StatusCode::OK, &json!(false)), "{body}");
        json!([body["series"][0]["t_ns"], body["series"][0]["v"]])
    }
}

#[tokio::test]
async fn line_protocol_is_stored_and_shown_like_all_other_readings() {
    let bench = Bench::new();
    let token = bench.write_token("telegraf", &["roof", "site3-*"]).await;
    let mut live = bench.hub.store.subscribe();
    let text = "weather,host=roof temp=1.5 1000000000\nweather,host=site3-a,room=b temp=2 2000000000\n";
    assert_eq!(bench.line("/api/v2/write?org=o&bucket=b", &token, text).await, (204, Value::Null));
    let batch = live.recv().await.unwrap();
    assert_eq!((batch.agent.as_str(), batch.columns.len()), ("_write.telegraf", 2));
    assert_eq!(bench.stored("roof/weather/temp").await, json!([["1000000000"], [1.5]]));
    assert_eq!(bench.stored("site3-a/weather/temp/room.b").await, json!([["2000000000"], [2.0]]));
    let (_, page) = bench.local("GET", "/api/v1/devices", Value::Null).await;
    let ids: Vec<_> = page["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| {
            (
                d["id"].as_str().unwrap(),
                d["agent"].as_str().unwrap(),
                d["state"].as_str().unwrap(),
                d["readings"].as_u64().unwrap(),
            )
        })
        .collect();
    let writer = "_write.telegraf";
    assert_eq!(
        ids,
        [(writer, writer, "online", 0), ("roof", writer, "online", 1), ("site3-a", writer, "online", 1)]
    );
    let (_, ledger) = bench.local("GET", "/api/v1/devices/roof/ledger", Value::Null).await;
    assert_eq!((&ledger["total"]["stored"], &ledger["total"]["balanced"]), (&json!(2), &json!(true)));
    // What is sent again is stored again: at least once.
    assert_eq!(bench.line("/write?db=d&precision=s", &token, "weather,host=roof temp=1.5 1").await.0, 204);
    assert_eq!(bench.stored("roof/weather/temp").await, json!([["1000000000", "1000000000"], [1.5, 1.5]]));
    let page = telemetry::page(&bench.hub.counters, 0, (0, 0), &bench.hub.store.metrics());
    assert!(page.contains("tideline_hub_written_rows_total 3\n"), "{page}");
}

#[tokio::test]
async fn values_of_all_kinds_are_shown_as_what_they_are() {
    let bench = Bench::new();
    let token = bench.write_token("telegraf", &["roof"]).await;
    let text = "m,host=roof f=1.5,i=9007199254740993i,b=true,t=\"läuft\" 1000000000\n\
                m,host=roof f=2,i=-3i,b=f,t=\"steht\" 2000000000\n";
    assert_eq!(bench.line("/write", &token, text).await.0, 204);
    for (series, kind, values) in [
        ("roof/m/f", "float", json!([1.5, 2.0])),
        ("roof/m/i", "int", json!([9_007_199_254_740_993_i64, -3])),
        ("roof/m/b", "bool", json!([true, false])),
        ("roof/m/t", "text", json!(["läuft", "steht"])),
    ] {
        assert_eq!(bench.stored(series).await, json!([["1000000000", "2000000000"], values]));
        let (_, page) = bench.local("GET", &format!("/api/v1/last?series={series}"), Value::Null).await;
        let last = &page["series"][0];
        assert_eq!((&last["v"], &last["type"], &last["t"]), (&values[1], &json!(kind), &json!(2000)));
        assert_eq!(last.get("quality"), None);
        let (_, page) = bench.local("GET", "/api/v1/series?device=roof", Value::Null).await;
        let listed = page["series"].as_array().unwrap().iter().find(|one| one["id"] == series).unwrap();
        assert_eq!((&listed["type"], &listed["last"]["v"]), (&json!(kind), &values[1]));
        // Texts are in no bucket; truth values are 0 and 1.
        let path = format!("/api/v1/query?series={series}&from=0&to=10&buckets=2");
        let (_, answer) = bench.local("GET", &path, Value::Null).await;
        let column = &answer["series"][0];
        let max = match kind {
            "float" => json!([2.0]),
            "int" => json!([9_007_199_254_740_992.0]),
            "bool" => json!([1.0]),
            _ => json!([]),
        };
        let path = format!("/api/v1/query?series={series}&from=0&to=10000&buckets=2");
        let (_, wide) = bench.local("GET", &path, Value::Null).await;
        assert_eq!((&column["t"], &wide["series"][0]["max"]), (&json!([]), &max), "{series}");
    }
    // What comes later may be of another kind, and stays what it is.
    assert_eq!(bench.line("/write", &token, "m,host=roof f=\"broken\",b=7 3000000000").await.0, 204);
    assert_eq!(bench.stored("roof/m/f").await[1], json!([1.5, 2.0, "broken"]));
    assert_eq!(bench.stored("roof/m/b").await[1], json!([true, false, 7.0]));
}

#[tokio::test]
async fn of_a_bad_request_as_much_is_stored_as_by_the_original() {
    let bench = Bench::new();
    let token = bench.write_token("telegraf", &["roof"]).await;
    let bad = "m,host=roof v=1 1\nm,host=roof v=x 2\nm,host=roof v=3,s=9223372036854775808u 3\n";
    let (status, body) = bench.line("/api/v2/write", &token, bad).await;
    assert_eq!((status, &body["code"]), (400, &json!("invalid")));
    for name in ["detail", "message", "error"] {
        let text = body[name].as_str().unwrap();
        assert!(text.starts_with("nothing was stored: line 2: field \"v\": \"x\" is no value"), "{text}");
    }
    assert_eq!(bench.stored("roof/m/v").await, Value::Null);
    let (status, body) = bench.line("/write", &token, bad).await;
    let text = body["error"].as_str().unwrap();
    assert!(
        status == 400 && text.starts_with("partial write: 2 readings were stored; not so line 2"),
        "{text}"
    );
    assert!(text.contains("line 3: field \"s\": 9223372036854775808 cannot be kept"), "{text}");
    assert_eq!(bench.stored("roof/m/v").await, json!([["1", "3"], [1.0, 3.0]]));
    // What is right and cannot be kept is left out on both paths.
    let (status, body) =
        bench.line("/api/v2/write", &token, "m,host=roof w=1 1\nm,host=cellar w=1 1\n").await;
    let text = body["message"].as_str().unwrap();
    assert!(
        status == 400
            && text.contains("1 readings were stored")
            && text.contains("line 2: this token may not write for device cellar; allowed are roof"),
        "{text}"
    );
    assert_eq!(bench.stored("roof/m/w").await, json!([["1"], [1.0]]));
    assert_eq!(bench.line("/api/v2/write?precision=years", &token, "").await.1["code"], "invalid");
}

#[tokio::test]
async fn a_token_that_writes_does_nothing_else_and_no_other_writes() {
    let bench = Bench::new();
    let write = bench.write_token("telegraf", &["roof"]).await;
    let (_, made) = bench.local("POST", "/api/v1/tokens", json!({"name": "ci", "role": "admin"})).await;
    let read = made["token"].as_str().unwrap().to_owned();
    let bearer = |token: &str| format!("Bearer {token}");
    for path in ["/api/v1/devices", "/api/v1/query?series=a/b", "/api/v1/tokens", "/api/v1/live", "/metrics"]
    {
        let ask = request("GET", path, &[("authorization", &bearer(&write))], None);
        let (response, body) = bench.send(Door::Plain, ask).await;
        assert_eq!(
            (response.status(), &body["code"]),
            (StatusCode::FORBIDDEN, &json!("forbidden")),
            "{path}"
        );
    }
    for path in ["/api/v2/write", "/write", "/api/v1/write"] {
        for (token, status) in [
            (bearer(&read), 403),
            (bearer("tlw_x_y"), 401),
            (bearer(&format!("{write}x")), 401),
            ("Digest x".to_owned(), 401),
        ] {
            let (response, _) = bench.post(path, &[("authorization", &token)], "").await;
            assert_eq!(response.status().as_u16(), status, "{path} {token}");
        }
        let (response, body) = bench.post(path, &[], "").await;
        assert_eq!(
            (response.status().as_u16(), response.headers()[header::WWW_AUTHENTICATE].as_bytes()),
            (401, &b"Bearer"[..])
        );
        assert!(body["detail"].as_str().unwrap().contains("token create NAME --write DEVICE"), "{body}");
        let (response, _) =
            bench.send(Door::Plain, request("GET", path, &[("authorization", &bearer(&write))], None)).await;
        assert_eq!(response.status().as_u16(), 405, "{path}");
    }
    let basic = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("any:{write}"));
    for authorization in
        [format!("Token {write}"), format!("Token any:{write}"), bearer(&write), format!("Basic {basic}")]
    {
        let (response, body) = bench.post("/write", &[("authorization", &authorization)], "m v=1 1").await;
        assert_eq!(response.status().as_u16(), 204, "{authorization}: {body}");
    }
    assert_eq!(bench.post(&format!("/write?u=any&p={write}"), &[], "m v=1 1").await.0.status().as_u16(), 204);
    assert_eq!(bench.stored("roof/m/v").await[1], json!([1.0, 1.0, 1.0, 1.0, 1.0]));
    let (_, all) = bench.local("GET", "/api/v1/tokens", Value::Null).await;
    let own = all["tokens"].as_array().unwrap().iter().find(|t| t["role"] == "writer").unwrap().clone();
    assert_eq!((&own["name"], &own["devices"]), (&json!("telegraf"), &json!(["roof"])));
    bench.local("DELETE", &format!("/api/v1/tokens/{}", own["id"].as_str().unwrap()), Value::Null).await;
    assert_eq!(bench.line("/write", &write, "m v=1 1").await.0, 401);
    // A new secret for the same writer, which goes on with the same ledger.
    let again = bench.write_token("telegraf", &["roof"]).await;
    assert_eq!(bench.line("/write", &again, "m v=1 1").await.0, 204);
    assert_eq!(bench.hub.store.ledger(&AgentId::parse("_write.telegraf").unwrap()).len(), 1);
    // Shut out for good.
    bench.local("POST", "/api/v1/devices/_write.telegraf/revoke", Value::Null).await;
    assert_eq!(bench.line("/write", &again, "m v=1 1").await.0, 403);
}

#[tokio::test]
async fn tokens_that_make_no_sense_are_refused_and_no_writer_can_be_enrolled() {
    let bench = Bench::new();
    bench.write_token("telegraf", &["roof"]).await;
    for (body, status, code) in [
        (json!({"name": "telegraf", "role": "writer", "devices": ["a"]}), 409, "token-exists"),
        (json!({"name": "x", "role": "writer"}), 400, "bad-devices"),
        (json!({"name": "x", "role": "writer", "devices": ["a b"]}), 400, "bad-devices"),
        (json!({"name": "x", "role": "writer", "devices": vec!["a"; 65]}), 400, "bad-devices"),
        (json!({"name": "x", "role": "viewer", "devices": ["a"]}), 400, "bad-devices"),
        (json!({"name": "x".repeat(60), "role": "writer", "devices": ["a"]}), 400, "bad-name"),
    ] {
        let (got, answer) = bench.local("POST", "/api/v1/tokens", body.clone()).await;
        assert_eq!((got.as_u16(), &answer["code"]), (status, &json!(code)), "{body}");
    }
    for (path, body) in [
        ("/api/v1/enroll-tokens", json!({"device": "_write.x"})),
        ("/api/v1/device-tokens", json!({"device": "_write.telegraf"})),
        ("/api/v1/devices/_write.x/adopt", Value::Null),
    ] {
        let (status, answer) = bench.local("POST", path, body).await;
        assert_eq!((status.as_u16(), &answer["code"]), (409, &json!("reserved-id")), "{path}: {answer}");
    }
    let (status, answer) =
        bench.local("POST", "/api/v1/devices", json!({"id": "_write.x", "agent": "_write.telegraf"})).await;
    assert_eq!((status.as_u16(), &answer["code"]), (409, &json!("reserved-id")), "{answer}");
    // Nor written for.
    let all = bench.write_token("all", &["*"]).await;
    assert_eq!(bench.line("/write", &all, "m,host=_write.telegraf v=1").await.0, 400);
}

#[tokio::test]
async fn devices_are_registered_with_their_first_reading_unless_the_token_says_not() {
    let bench = Bench::new();
    let asked = json!({"name": "strict", "role": "writer", "devices": ["pump-*"], "registered_only": true});
    let (_, made) = bench.local("POST", "/api/v1/tokens", asked).await;
    let strict = made["token"].as_str().unwrap();
    let (status, body) = bench.line("/write", strict, "m,host=pump-1 v=1 1").await;
    let text = body["detail"].as_str().unwrap();
    assert!(status == 400 && text.contains("cloud-hub device add pump-1 --behind _write.strict"), "{text}");
    bench.local("POST", "/api/v1/devices", json!({"id": "pump-1", "agent": "_write.strict"})).await;
    assert_eq!(bench.line("/write", strict, "m,host=pump-1 v=1 1").await.0, 204);
    // Nothing of a request that is refused as a whole is registered.
    let token = bench.write_token("easy", &["pump-*"]).await;
    assert_eq!(bench.line("/api/v2/write", &token, "m,host=pump-2 v=1 1\nm,host=pump-2 v").await.0, 400);
    assert_eq!(bench.hub.metadata.find::<DeviceRecord>("pump-2").unwrap(), None);
    // A device that was shut out is not written for, and neither is one behind an agent that was.
    let record = |agent: &str, revoked| DeviceRecord {
        key_hash: "x".into(),
        revoked,
        ..DeviceRecord::behind(agent, 1)
    };
    bench.hub.metadata.put("gateway", &record("gateway", true)).unwrap();
    bench.hub.metadata.put("pump-3", &record("gateway", false)).unwrap();
    let (_, body) = bench.line("/write", &token, "m,host=pump-3 v=1 1").await;
    assert!(body["detail"].as_str().unwrap().contains("device pump-3 was revoked"), "{body}");
}

#[tokio::test]
async fn compressed_bodies_are_taken_and_bombs_and_long_ones_are_not() {
    let bench = Bench::new();
    let token = format!("Bearer {}", bench.write_token("telegraf", &["roof"]).await);
    let gzip = |plain: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    };
    let headers = |encoding: &'static str| {
        [("authorization", token.clone()), ("content-encoding", encoding.to_owned())]
    };
    let post = async |path: &str, encoding: &'static str, body: Vec<u8>| {
        let headers = headers(encoding);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (response, body) = bench.post(path, &headers, body).await;
        (response.status().as_u16(), body["code"].as_str().unwrap_or("").to_owned())
    };
    assert_eq!(post("/write", "gzip", gzip(b"m v=1 1\n")).await, (204, String::new()));
    assert_eq!(bench.stored("roof/m/v").await, json!([["1"], [1.0]]));
    let bomb = gzip(&vec![b'#'; tideline_formats::PLAIN_BYTES_MAX + 1]);
    assert_eq!(post("/write", "gzip", bomb).await, (413, "too-much".to_owned()));
    assert_eq!(
        post("/write", "identity", vec![b'#'; crate::api::write::BODY_BYTES_MAX + 1]).await,
        (413, "body-too-large".to_owned())
    );
    assert_eq!(post("/write", "gzip", b"m v=1".to_vec()).await, (400, "invalid".to_owned()));
    assert_eq!(post("/write", "br", vec![]).await, (415, "media-type".to_owned()));
    assert_eq!(post("/api/v1/write", "snappy", vec![]).await, (415, "media-type".to_owned()));
    // A body of twice what other paths take.
    let long = "m v=1 1\n".repeat(16_384);
    assert_eq!(post("/write", "identity", long.into_bytes()).await, (204, String::new()));
}

#[tokio::test]
async fn remote_write_is_taken_by_its_content_type_and_says_what_was_written() {
    let bench = Bench::new();
    let token = format!("Bearer {}", bench.write_token("prometheus", &["plc-*"]).await);
    // prometheus.WriteRequest: two series with a sample each, of instance plc-4:9100 and elsewhere:1.
    let label =
        |name: &str, value: &str| field(1, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat());
    let sample = field(2, &[&[0x09][..], &1.5_f64.to_le_bytes(), &[0x10, 5]].concat());
    let series =
        |instance| field(1, &[label("__name__", "up"), label("instance", instance), sample.clone()].concat());
    let v1 = snapped(&[series("plc-4:9100"), series("elsewhere:1")].concat());
    let (kind, kind_2) =
        ("application/x-protobuf", "application/x-protobuf;proto=io.prometheus.write.v2.Request");
    let post = async |kind: &str, encoding: &str, body: Vec<u8>| {
        bench
            .post(
                "/api/v1/write",
                &[("authorization", &token), ("content-type", kind), ("content-encoding", encoding)],
                body,
            )
            .await
    };
    let (response, body) = post(kind, "snappy", v1).await;
    let written = |response: &Response<()>| {
        response.headers()["x-prometheus-remote-write-samples-written"].to_str().unwrap().to_owned()
    };
    assert_eq!((response.status().as_u16(), written(&response)), (400, "1".to_owned()));
    assert!(
        body["detail"]
            .as_str()
            .unwrap()
            .contains("time series 2: \"up\": this token may not write for device elsewhere"),
        "{body}"
    );
    assert_eq!(bench.stored("plc-4/up/9100").await, json!([["5000000"], [1.5]]));
    let refs = field(1, &[1, 2, 3, 4]);
    let symbols =
        ["", "__name__", "up", "instance", "plc-5"].map(|symbol| field(4, symbol.as_bytes())).concat();
    let v2 = [symbols, field(5, &[refs, sample.clone()].concat())].concat();
    let (response, _) = post(kind_2, "snappy", snapped(&v2)).await;
    assert_eq!((response.status().as_u16(), written(&response)), (204, "1".to_owned()));
    assert_eq!(bench.stored("plc-5/up").await, json!([["5000000"], [1.5]]));
    for (kind, encoding) in [
        ("application/json", "snappy"),
        ("application/x-protobuf;proto=io.prometheus.write.v9.Request", "snappy"),
        (kind, "gzip"),
        (kind, ""),
    ] {
        assert_eq!(post(kind, encoding, vec![]).await.0.status().as_u16(), 415, "{kind} {encoding}");
    }
    assert_eq!(post(kind, "snappy", b"no snappy".to_vec()).await.0.status().as_u16(), 400);
}

/// A field of protobuf with a length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()][..], bytes].concat()
}

/// A snappy block that compresses nothing: a length and literals of up to 60 bytes.
fn snapped(plain: &[u8]) -> Vec<u8> {
    let mut out =
        vec![u8::try_from(plain.len() & 0x7f).unwrap() | 0x80, u8::try_from(plain.len() >> 7).unwrap()];
    for part in plain.chunks(60) {
        out.push((u8::try_from(part.len()).unwrap() - 1) << 2);
        out.extend_from_slice(part);
    }
    out
}

#[tokio::test]
async fn backpressure_is_told_with_a_time_to_come_again() {
    let bench = Bench::new();
    let token = bench.write_token("telegraf", &["roof"]).await;
    let authorization = format!("Bearer {token}");
    let post = async || {
        let (response, body) = bench.post("/write", &[("authorization", &authorization)], "m v=1 1").await;
        let after = response.headers().get(header::RETRY_AFTER).map(|v| v.to_str().unwrap().to_owned());
        (response.status().as_u16(), body["code"].as_str().unwrap_or("").to_owned(), after)
    };
    let places: Vec<_> = std::iter::from_fn(|| bench.hub.writers.places.take(None).ok()).collect();
    assert_eq!(post().await, (503, "busy".to_owned(), Some("1".to_owned())));
    drop(places);
    assert_eq!(post().await.0, 204);
    let store = bench.hub.store.clone();
    tokio::task::spawn_blocking(move || store.close()).await.unwrap().unwrap();
    assert_eq!(post().await, (503, "store-unavailable".to_owned(), Some("5".to_owned())));
    let page = telemetry::page(&bench.hub.counters, 0, (0, 0), &bench.hub.store.metrics());
    assert!(page.contains("tideline_hub_writes_put_off_total 2\n"), "{page}");
}
