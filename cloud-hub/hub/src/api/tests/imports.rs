//! Imports by the API: chunks once, rights, what is refused.

use super::*;
use crate::imports::{ChunkBody, ChunkColumn};

const IDENTITY: &str = "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3a94a8fe5ccb19ba61c4c0873";

fn begin(series: &[(&str, &str, &str)], readings: u64, chunks: u64) -> Value {
    let series: Vec<Value> = series
        .iter()
        .map(|(device, point, unit)| json!({"device": device, "point": point, "unit": unit}))
        .collect();
    json!({"identity": IDENTITY, "name": "a.csv", "rows": readings, "readings": readings, "chunks": chunks, "series": series})
}

fn chunk(columns: &[(u32, &[(i64, f64)])]) -> Vec<u8> {
    let column = |(series, readings): &(u32, &[(i64, f64)])| ChunkColumn {
        series: *series,
        times: readings.iter().flat_map(|(time, _)| time.to_le_bytes()).collect(),
        values: readings.iter().flat_map(|(_, value)| value.to_le_bytes()).collect(),
    };
    minicbor::to_vec(ChunkBody { columns: columns.iter().map(column).collect(), table: Vec::new() }).unwrap()
}

impl Bench {
    async fn import(&self, token: Option<&str>, body: Value) -> (u16, Value) {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        let door = if token.is_some() { Door::Plain } else { Door::Socket };
        let request = request("POST", "/api/v1/imports", &headers, Some(body));
        let (response, body) = self.send(door, request).await;
        (response.status().as_u16(), body)
    }

    async fn chunk(&self, token: Option<&str>, number: u64, body: Vec<u8>) -> (u16, Value) {
        let path = format!("/api/v1/imports/{IDENTITY}/chunks/{number}");
        let mut builder = Request::builder().method("PUT").uri(path).header("host", "hub.test");
        if let Some(token) = token {
            builder = builder.header("authorization", format!("Bearer {token}"));
        }
        let door = if token.is_some() { Door::Plain } else { Door::Socket };
        let (response, body) = self.send(door, builder.body(Body::from(body)).unwrap()).await;
        (response.status().as_u16(), body)
    }

    async fn imported(&self) -> Value {
        self.local("GET", &format!("/api/v1/imports/{IDENTITY}"), Value::Null).await.1
    }
}

#[tokio::test]
async fn a_chunk_is_stored_once_and_the_ledger_says_how_far_it_is() {
    let bench = Bench::new();
    let asked = begin(&[("a", "t", "Cel"), ("b", "t", "")], 3, 2);
    let dry = json!({"dry_run": true});
    let mut dry_asked = asked.clone();
    dry_asked.as_object_mut().unwrap().extend(dry.as_object().unwrap().clone());
    let (status, told) = bench.import(None, dry_asked).await;
    assert_eq!((status, &told["new_series"], &told["new_devices"]), (200, &json!(2), &json!(2)), "{told}");
    assert_eq!(bench.imported().await["code"], "not-found");
    let (status, told) = bench.import(None, asked.clone()).await;
    assert_eq!((status, &told["next"], &told["stored"]), (200, &json!(1), &json!(0)), "{told}");
    let first = chunk(&[(0, &[(1_000_000_000, 1.5), (1_000_000_000, 2.5)])]);
    for stored in [true, false] {
        assert_eq!(bench.chunk(None, 1, first.clone()).await, (200, json!({"stored": stored})));
    }
    // Begun again it goes on; a series that has become known by another way does not matter.
    let (_, told) = bench.import(None, asked.clone()).await;
    assert_eq!((&told["next"], &told["stored"]), (&json!(2), &json!(2)), "{told}");
    assert_eq!(bench.chunk(None, 2, chunk(&[(1, &[(2_000_000_000, -1.0)])])).await.0, 200);
    let told = bench.imported().await;
    assert_eq!((&told["next"], &told["stored"]), (&Value::Null, &json!(3)), "{told}");
    assert_eq!(bench.stored("a/t").await, json!([["1000000000", "1000000000"], [1.5, 2.5]]));
    assert_eq!(bench.stored("b/t").await, json!([["2000000000"], [-1.0]]));
    let agent = told["agent"].as_str().unwrap();
    assert!(agent.starts_with("_import."), "{agent}");
    let (_, ledger) = bench.local("GET", &format!("/api/v1/devices/{agent}/ledger"), Value::Null).await;
    assert_eq!((&ledger["total"]["stored"], &ledger["total"]["balanced"]), (&json!(3), &json!(true)));
    // It is no device of the fleet, which nobody could bring online.
    let (_, fleet) = bench.local("GET", "/api/v1/fleet?rows=200", Value::Null).await;
    assert_eq!((&fleet["counts"]["devices"], &fleet["counts"]["agents"]), (&json!(2), &json!(0)), "{fleet}");
    assert_eq!(fleet["first"]["id"], json!(["a", "b"]));
    // Once more, which is another agent.
    let mut again = asked.clone();
    again["again"] = json!(true);
    let (_, told) = bench.import(None, again).await;
    assert_eq!((&told["next"], &told["generation"]), (&json!(1), &json!(1)), "{told}");
    assert_ne!(told["agent"], agent);
    // Nothing may call itself so.
    let (status, told) =
        bench.local("POST", "/api/v1/enroll-tokens", json!({"device": "_import.x", "ttl_s": 60})).await;
    assert_eq!((status.as_u16(), &told["code"]), (409, &json!("reserved-id")), "{told}");
}

#[tokio::test]
async fn what_is_no_chunk_of_the_import_is_refused() {
    let bench = Bench::new();
    assert_eq!(bench.chunk(None, 1, chunk(&[(0, &[(0, 0.0)])])).await.0, 404);
    for (change, word) in [
        (json!({"identity": "A1"}), "64 digits"),
        (json!({"chunks": 0}), "allowed are 1 to 2"),
        (json!({"chunks": 3}), "allowed are 1 to 2"),
        (json!({"series": [{"device": "a b", "point": "t"}]}), "a b"),
        (json!({"series": [{"device": "a", "point": "t"}, {"device": "a", "point": "t"}]}), "twice"),
        (json!({"more": 1}), "more"),
    ] {
        let mut asked = begin(&[("a", "t", "")], 2, 1);
        asked.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let (status, told) = bench.import(None, asked).await;
        assert!(status == 400 && told["detail"].as_str().unwrap().contains(word), "{word}: {told}");
    }
    assert_eq!(bench.import(None, begin(&[("a", "t", "")], 2, 1)).await.0, 200);
    // The same identity cannot be something else.
    assert_eq!(bench.import(None, begin(&[("a", "t", "")], 3, 1)).await.0, 409);
    let column = ChunkColumn { series: 0, times: vec![0; 8], values: vec![0; 9] };
    let odd = ChunkBody { columns: vec![column], table: Vec::new() };
    let one: &[(i64, f64)] = &[(0, 0.0)];
    let many = vec![(0, 0.0); 65_537];
    for (number, body, word) in [
        (2, chunk(&[(0, one)]), "allowed are 1 to 1"),
        (0, chunk(&[(0, one)]), "allowed are 1 to 1"),
        (1, chunk(&[(1, one)]), "series 1"),
        (1, chunk(&[(0, one), (0, one)]), "each once"),
        (1, chunk(&[(0, &[])]), "0 bytes of times"),
        (1, chunk(&[]), "0 readings"),
        (1, chunk(&[(0, &many)]), "65537 readings"),
        (1, minicbor::to_vec(odd).unwrap(), "9 of values"),
        (1, b"\xff".to_vec(), "the chunk"),
        (1, b"\x81\x9b\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(), "the chunk"),
    ] {
        let (status, told) = bench.chunk(None, number, body).await;
        assert!(status == 400 && told["detail"].as_str().unwrap().contains(word), "{word}: {told}");
    }
    assert_eq!(bench.imported().await["stored"], json!(0));
}

#[tokio::test]
async fn a_token_imports_for_its_devices_and_a_unit_that_differs_is_refused() {
    let bench = Bench::new();
    let token = bench.write_token("tool", &["site3-*"]).await;
    let (status, told) = bench.import(Some(&token), begin(&[("pump", "t", "")], 1, 1)).await;
    assert!(status == 409 && told["detail"].as_str().unwrap().contains("site3-*"), "{told}");
    assert_eq!(bench.import(Some(&token), begin(&[("site3-a", "t", "Cel")], 1, 1)).await.0, 200);
    let one = chunk(&[(0, &[(1, 1.0)])]);
    assert_eq!(bench.chunk(Some(&token), 1, one.clone()).await, (200, json!({"stored": true})));
    // What somebody else has begun is not known to the administrator, nor stored by it.
    assert_eq!(bench.imported().await["code"], "not-found");
    let (status, told) = bench.import(None, begin(&[("site3-a", "t", "K")], 1, 1)).await;
    assert!(status == 409 && told["detail"].as_str().unwrap().contains("\"Cel\""), "{told}");
    assert_eq!(bench.import(None, begin(&[("site3-a", "t", "")], 1, 1)).await.0, 200);
    let (_, made) = bench.local("POST", "/api/v1/tokens", json!({"name": "reader", "role": "viewer"})).await;
    let viewer = made["token"].as_str().unwrap();
    assert_eq!(bench.import(Some(viewer), begin(&[("site3-a", "t", "")], 1, 1)).await.0, 403);
    assert_eq!(bench.chunk(Some("tlw_x_y"), 1, one).await.0, 401);
    let (response, _) =
        bench.send(Door::Plain, request("GET", &format!("/api/v1/imports/{IDENTITY}"), &[], None)).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
}
