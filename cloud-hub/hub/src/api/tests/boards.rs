//! Boards by API: versions, conflicts, rights, what names mean, and what a share shows and what it does not.

use super::*;
use crate::boards::VERSIONS_MAX;
use crate::metadata::{BoardShareRecord, DeviceRecord};

fn board(title: &str, series: &[&str]) -> Value {
    let variables = json!([{"name": "site", "kind": "site"}, {"name": "device", "kind": "device"}]);
    let show = json!({"kind": "line", "series": series});
    json!({"version": 1, "title": title, "variables": variables, "panels": [{"id": "a", "x": 0, "y": 0, "w": 6, "h": 4, "show": show}]})
}

impl Bench {
    /// Three devices with a point each, of two sites.
    pub(super) async fn with_pumps() -> Self {
        let bench = Self::new();
        let token = bench.write_token("pumps", &["pump-*"]).await;
        let text = "m,host=pump-1 t=1 1000000000\nm,host=pump-2 t=2 1000000000\nm,host=pump-3 t=3 1000000000\n\
                    m,host=pump-1 secret=1 1000000000\n";
        assert_eq!(bench.line("/write", &token, text).await.0, 204);
        let store = bench.hub.store.clone();
        tokio::task::spawn_blocking(move || store.settle()).await.unwrap().unwrap();
        for (id, site) in [("pump-1", "north"), ("pump-2", "north"), ("pump-3", "south")] {
            let mut record: DeviceRecord = bench.hub.metadata.find(id).unwrap().unwrap();
            record.marks.site = site.to_owned();
            bench.hub.metadata.put(id, &record).unwrap();
        }
        bench
    }

    async fn made(&self, body: Value) -> String {
        let (status, body) = self.local("POST", "/api/v1/boards", body).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        body["info"]["id"].as_str().unwrap().to_owned()
    }

    async fn of(&self, tag: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let asked = request(method, path, &[("if-match", tag)], Some(body));
        let (response, body) = self.send(Door::Socket, asked).await;
        (response.status().as_u16(), body)
    }

    async fn shared(&self, token: &str, path: &str) -> (u16, Value) {
        let bearer = format!("Bearer {token}");
        let asked = request("GET", path, &[("authorization", &bearer)], None);
        let (response, body) = self.send(Door::Plain, asked).await;
        (response.status().as_u16(), body)
    }

    async fn share(&self, board: &str, body: Value) -> (StatusCode, Value) {
        self.local("POST", &format!("/api/v1/boards/{board}/shares"), body).await
    }
}

fn names(matched: &Value) -> Vec<Vec<&str>> {
    matched["patterns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["series"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect())
        .collect()
}

#[tokio::test]
async fn a_board_is_changed_of_the_version_that_was_seen_only_and_an_older_one_comes_back() {
    let bench = Bench::new();
    let id = bench.made(board("One", &["a/b"])).await;
    let path = format!("/api/v1/boards/{id}");
    let (got, body) = bench.send(Door::Socket, request("GET", &path, &[], None)).await;
    assert_eq!(
        (&got.headers()[header::ETAG], &body["info"]["version"]),
        (&"\"1\"".parse().unwrap(), &json!(1))
    );
    let (status, body) = bench.local("PUT", &path, board("Two", &["a/b"])).await;
    assert_eq!((status.as_u16(), &body["code"]), (428, &json!("if-match-missing")));
    let (status, body) = bench.of("1", "PUT", &path, board("Two", &["a/b"])).await;
    assert_eq!((status, &body["code"]), (400, &json!("bad-etag")));
    let (status, body) = bench.of("\"1\"", "PUT", &path, board("Two", &["a/b"])).await;
    assert_eq!((status, &body["board"]["title"], &body["info"]["version"]), (200, &json!("Two"), &json!(2)));
    let (status, body) = bench.of("\"1\"", "PUT", &path, board("Three", &["a/b"])).await;
    assert_eq!((status, &body["code"]), (412, &json!("board-changed")));
    assert!(body["detail"].as_str().unwrap().contains("version 2 by now, changed by local"), "{body}");
    let (status, body) = bench.of("\"2\"", "POST", &format!("{path}/restore"), json!({"version": 1})).await;
    assert_eq!((status, &body["board"]["title"], &body["info"]["version"]), (200, &json!("One"), &json!(3)));
    let (_, body) = bench.local("GET", &format!("{path}/versions"), Value::Null).await;
    let told: Vec<_> =
        body["versions"].as_array().unwrap().iter().map(|one| one["version"].clone()).collect();
    assert_eq!((told, &body["versions"][0]["restored"]), (vec![json!(3), json!(2), json!(1)], &json!(1)));
    let (status, _) = bench.of("\"3\"", "DELETE", &path, Value::Null).await;
    assert_eq!(status, 204);
    let (status, _) = bench.local("GET", &path, Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn so_many_versions_are_kept_and_all_go_with_the_board() {
    let bench = Bench::new();
    let id = bench.made(board("0", &["a/b"])).await;
    let path = format!("/api/v1/boards/{id}");
    for n in 1..=VERSIONS_MAX + 4 {
        assert_eq!(bench.of("*", "PUT", &path, board(&n.to_string(), &["a/b"])).await.0, 200);
    }
    let (_, body) = bench.local("GET", &format!("{path}/versions"), Value::Null).await;
    let kept = body["versions"].as_array().unwrap();
    assert_eq!((kept.len() as u64, &kept[0]["version"]), (VERSIONS_MAX, &json!(VERSIONS_MAX + 5)));
    let (status, body) = bench.of("*", "POST", &format!("{path}/restore"), json!({"version": 2})).await;
    assert_eq!(status, 404);
    assert!(body["detail"].as_str().unwrap().contains("there are 6 to 25"), "{body}");
    assert_eq!(bench.of("*", "DELETE", &path, Value::Null).await.0, 204);
    assert_eq!(bench.hub.metadata.count::<crate::metadata::BoardVersionRecord>().unwrap(), 0);
}

#[tokio::test]
async fn boards_that_ship_are_copied_and_not_changed() {
    let bench = Bench::new();
    let (_, body) = bench.local("GET", "/api/v1/boards", Value::Null).await;
    let first = &body["boards"][0];
    assert_eq!((&first["id"], &first["shipped"]), (&json!("fleet"), &json!(true)));
    let (_, found) = bench.local("GET", "/api/v1/boards/fleet", Value::Null).await;
    for (method, path) in [("PUT", "/api/v1/boards/fleet"), ("DELETE", "/api/v1/boards/fleet")] {
        let (status, body) = bench.of("*", method, path, found["board"].clone()).await;
        assert_eq!((status, &body["code"]), (409, &json!("board-shipped")), "{method}");
    }
    let id = bench.made(found["board"].clone()).await;
    let (_, copy) = bench.local("GET", &format!("/api/v1/boards/{id}"), Value::Null).await;
    assert_eq!((&copy["board"], &copy["info"]["shipped"]), (&found["board"], &json!(false)));
}

#[tokio::test]
async fn a_bad_board_is_refused_with_all_that_is_wrong() {
    let bench = Bench::new();
    let (status, body) = bench.local("POST", "/api/v1/boards", board("", &["pump", "$who/t"])).await;
    assert_eq!((status.as_u16(), &body["code"]), (400, &json!("bad-board")));
    let told = body["detail"].as_str().unwrap();
    assert!(
        told.contains("title: it is empty\npanels[0].show.series[0]: ") && told.contains("series[1]: $who"),
        "{told}"
    );
    let mut unknown = board("x", &["a/b"]);
    unknown["panels"][0]["colour"] = json!("red");
    let (status, body) = bench.local("POST", "/api/v1/boards", unknown).await;
    assert_eq!((status.as_u16(), &body["code"]), (422, &json!("bad-body")));
    let told = body["detail"].as_str().unwrap();
    assert!(told.contains("panels[0]") && told.contains("unknown field `colour`, expected one of"), "{told}");
}

#[tokio::test]
async fn names_mean_the_series_of_their_variables() {
    let bench = Bench::with_pumps().await;
    let ask = |values: Value| {
        let variables = json!([{"name": "site", "kind": "site"}, {"name": "device", "kind": "device"}]);
        let patterns = ["$device/m/t", "@site=$site/m/t", "pump-*/m/t", "none/m/t"];
        bench.local(
            "POST",
            "/api/v1/boards/series",
            json!({"patterns": patterns, "variables": variables, "values": values}),
        )
    };
    let (status, body) = ask(json!({"site": "north", "device": "pump-3"})).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let all = ["pump-1/m/t", "pump-2/m/t", "pump-3/m/t"];
    assert_eq!(names(&body), [&["pump-3/m/t"][..], &all[..2], &all[..], &[][..]]);
    assert_eq!(body["series"].as_array().unwrap().len(), 3);
    let (_, body) = ask(json!({})).await;
    assert_eq!(names(&body), [&all[..], &all[..], &all[..], &[][..]]);
    let (_, body) = bench.local("POST", "/api/v1/boards/series", json!({"patterns": ["$x/t"]})).await;
    assert_eq!(body["code"], "bad-board");
    let (_, body) = bench.local("GET", "/api/v1/boards/choices?q=MP-2", Value::Null).await;
    assert_eq!((&body["sites"], &body["devices"]), (&json!(["north", "south"]), &json!(["pump-2"])));
}

#[tokio::test]
async fn a_device_has_a_board_without_a_profile_too() {
    let bench = Bench::with_pumps().await;
    let (status, body) = bench.local("GET", "/api/v1/boards/device/pump-1", Value::Null).await;
    assert_eq!((status, &body["title"]), (StatusCode::OK, &json!("pump-1")));
    assert_eq!(body["panels"][0]["show"]["series"], json!(["pump-1/m/secret", "pump-1/m/t"]));
    assert_eq!(bench.local("POST", "/api/v1/boards", body).await.0, StatusCode::CREATED);
    let (status, _) = bench.local("GET", "/api/v1/boards/device/none", Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn viewers_look_at_boards_and_change_none() {
    let bench = Bench::new();
    let id = bench.made(board("One", &["a/b"])).await;
    let (_, token) = bench.local("POST", "/api/v1/tokens", json!({"name": "wall", "role": "viewer"})).await;
    let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
    for (method, path, status) in [
        ("GET", "/boards".to_owned(), 200),
        ("GET", format!("/boards/{id}"), 200),
        ("GET", format!("/boards/{id}/versions"), 200),
        ("POST", "/boards".to_owned(), 403),
        ("PUT", format!("/boards/{id}"), 403),
        ("DELETE", format!("/boards/{id}"), 403),
        ("POST", format!("/boards/{id}/restore"), 403),
        ("GET", format!("/boards/{id}/shares"), 403),
        ("POST", format!("/boards/{id}/shares"), 403),
    ] {
        let headers = [("authorization", bearer.as_str()), ("if-match", "*")];
        let body = (method != "GET").then(|| board("Two", &["a/b"]));
        let (response, _) =
            bench.send(Door::Plain, request(method, &format!("/api/v1{path}"), &headers, body)).await;
        assert_eq!(response.status().as_u16(), status, "{method} {path}");
    }
}

#[tokio::test]
async fn a_share_shows_its_board_at_its_devices_and_nothing_else() {
    let bench = Bench::with_pumps().await;
    let id = bench.made(board("North", &["@site=$site/m/t"])).await;
    let (status, made) =
        bench.share(&id, json!({"note": "wall", "ttl_s": 3600, "values": {"site": "north"}})).await;
    assert_eq!(
        (status, &made["share"]["devices"]),
        (StatusCode::CREATED, &json!(["pump-1", "pump-2"])),
        "{made}"
    );
    let token = made["token"].as_str().unwrap();
    let (status, body) = bench.shared(token, "/api/v1/shared/board").await;
    assert_eq!((status, names(&body["series"])), (200, vec![vec!["pump-1/m/t", "pump-2/m/t"]]), "{body}");
    for (series, status) in [
        ("pump-1/m/t", 200),
        ("pump-1/m/t,pump-2/m/t", 200),
        ("pump-3/m/t", 403),
        ("pump-1/m/secret", 403),
        ("pump-1/m/t,pump-3/m/t", 403),
        ("none/m/t", 403),
    ] {
        let path = format!("/api/v1/shared/query?series={series}&from=0&to=10000&buckets=2");
        assert_eq!(bench.shared(token, &path).await.0, status, "{series}");
    }
    for path in
        ["/shared/live", "/shared/live?series=pump-3/m/t", "/shared/live?series=pump-1/m/t&device=pump-3"]
    {
        assert!(bench.shared(token, &format!("/api/v1{path}")).await.0 >= 400, "{path}");
    }
    for path in ["/session", "/boards", "/devices", "/series", "/query?series=pump-1/m/t", "/live", "/last"] {
        assert_eq!(bench.shared(token, &format!("/api/v1{path}")).await.0, 401, "{path}");
    }
    // A device that comes to the site later was not shared.
    let mut south: DeviceRecord = bench.hub.metadata.find("pump-3").unwrap().unwrap();
    south.marks.site = "north".to_owned();
    bench.hub.metadata.put("pump-3", &south).unwrap();
    assert_eq!(bench.shared(token, "/api/v1/shared/query?series=pump-3/m/t").await.0, 403);
    // One that has left it is not shown any more.
    let mut left: DeviceRecord = bench.hub.metadata.find("pump-2").unwrap().unwrap();
    left.marks.site = "south".to_owned();
    bench.hub.metadata.put("pump-2", &left).unwrap();
    let (_, body) = bench.shared(token, "/api/v1/shared/board").await;
    assert_eq!(names(&body["series"]), [["pump-1/m/t"]]);
}

#[tokio::test]
async fn a_share_ends_when_it_is_revoked_when_its_time_is_over_and_with_its_board() {
    let bench = Bench::with_pumps().await;
    let id = bench.made(board("All", &["pump-*/m/t"])).await;
    let board_path = "/api/v1/shared/board";
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let (_, made) = bench.share(&id, json!({"ttl_s": 3600})).await;
        tokens.push((
            made["share"]["id"].as_str().unwrap().to_owned(),
            made["token"].as_str().unwrap().to_owned(),
        ));
    }
    for (_, token) in &tokens {
        assert_eq!(bench.shared(token, board_path).await.0, 200);
    }
    let kept: BoardShareRecord = bench.hub.metadata.find(&tokens[0].0).unwrap().unwrap();
    assert!(!tokens[0].1.contains(&kept.secret_hash));
    let ended = format!("/api/v1/boards/{id}/shares/{}", tokens[0].0);
    assert_eq!(
        bench.local("DELETE", "/api/v1/boards/fleet/shares/x", Value::Null).await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(bench.local("DELETE", &ended, Value::Null).await.0, StatusCode::NO_CONTENT);
    assert_eq!(bench.shared(&tokens[0].1, board_path).await.1["code"], "share-ended");
    let over: BoardShareRecord = bench.hub.metadata.find(&tokens[1].0).unwrap().unwrap();
    bench.hub.metadata.put(&tokens[1].0, &BoardShareRecord { expires_ms: 1, ..over }).unwrap();
    assert_eq!(bench.shared(&tokens[1].1, board_path).await.0, 401);
    let (_, listed) = bench.local("GET", &format!("/api/v1/boards/{id}/shares"), Value::Null).await;
    assert_eq!(listed["shares"].as_array().unwrap().len(), 1);
    let wrong = format!("{}x", tokens[2].1);
    for token in [wrong.as_str(), "tlb_", "tlb_a_b", "tlt_a_b", ""] {
        assert_eq!(bench.shared(token, board_path).await.0, 401, "{token}");
    }
    assert_eq!(bench.of("*", "DELETE", &format!("/api/v1/boards/{id}"), Value::Null).await.0, 204);
    assert_eq!(bench.shared(&tokens[2].1, board_path).await.0, 401);
}

#[tokio::test]
async fn a_share_that_cannot_be_says_why() {
    let bench = Bench::with_pumps().await;
    let id = bench.made(board("All", &["pump-*/m/t"])).await;
    for (body, told) in [
        (json!({"ttl_s": 5}), "allowed are 60 to"),
        (
            json!({"ttl_s": 60, "values": {"floor": "2"}}),
            "\"floor\" is no variable of the board; there is site, device",
        ),
        (json!({"ttl_s": 60, "note": "x".repeat(200)}), "allowed are 120 characters"),
    ] {
        let (status, answer) = bench.share(&id, body).await;
        assert_eq!((status.as_u16(), &answer["code"]), (400, &json!("bad-share")));
        assert!(answer["detail"].as_str().unwrap().contains(told), "{answer}");
    }
    assert_eq!(bench.share("none", json!({"ttl_s": 60})).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn questions_by_links_are_slowed_down() {
    let bench = Bench::new();
    let ask = async || bench.shared("tlb_a_b", "/api/v1/shared/board").await.0;
    assert_eq!(ask().await, 401);
    // What there is was taken for an hour: how fast questions come is no part of it.
    let in_an_hour_ns = bench.hub.clock.mono_ns() + 3_600_000_000_000;
    bench.hub.shared.take(std::net::Ipv4Addr::LOCALHOST.into(), in_an_hour_ns).unwrap();
    assert_eq!(ask().await, 429);
}
