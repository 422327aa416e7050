//! Plans of sites: what is taken, who may give it, and how it is served.

use super::*;
use crate::plans::{IMAGE_BYTES_MAX, PLANS_MAX};

fn png(width: u32, more: usize) -> Vec<u8> {
    let header = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice(), &width.to_be_bytes(), &300_u32.to_be_bytes()];
    [header.concat(), vec![0; more]].concat()
}

impl Bench {
    async fn give(&self, path: &str, image: Vec<u8>, headers: &[(&str, &str)]) -> (u16, Value) {
        let door = if headers.is_empty() { Door::Socket } else { Door::Plain };
        let mut asked = Request::builder().method("PUT").uri(path).header("host", "hub.test:8080");
        for (name, value) in headers {
            asked = asked.header(*name, *value);
        }
        let (response, body) = self.send(door, asked.body(Body::from(image)).unwrap()).await;
        (response.status().as_u16(), body)
    }

    async fn image(&self, path: &str, tag: Option<&str>) -> (Response<()>, Vec<u8>) {
        let headers: Vec<_> = tag.map(|tag| ("if-none-match", tag)).into_iter().collect();
        let asked = request("GET", path, &headers, None);
        let response = router(Arc::clone(&self.hub), Door::Socket).oneshot(asked).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 8 << 20).await.unwrap();
        (Response::from_parts(parts, ()), bytes.into())
    }
}

#[tokio::test]
async fn a_plan_comes_back_as_what_it_is_and_can_do_nothing() {
    let bench = Bench::new();
    let path = "/api/v1/sites/Werk%20%2F%201/plan";
    let (status, made) = bench.give(path, png(400, 100_000), &[]).await;
    assert_eq!((status, &made["site"], &made["media"]), (200, &json!("Werk / 1"), &json!("image/png")));
    assert_eq!(
        (&made["width"], &made["height"], &made["bytes"]),
        (&json!(400), &json!(300), &json!(100_024))
    );
    let (response, image) = bench.image(path, None).await;
    assert_eq!(image, png(400, 100_000));
    for (name, value) in [
        (header::CONTENT_TYPE, "image/png"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
        (header::CACHE_CONTROL, "private, no-cache"),
    ] {
        assert_eq!(response.headers()[&name], value, "{name}");
    }
    let tag = response.headers()[header::ETAG].to_str().unwrap();
    let (known, nothing) = bench.image(path, Some(tag)).await;
    assert_eq!((known.status(), nothing.len()), (StatusCode::NOT_MODIFIED, 0));
    // Another in its place is another.
    bench.give(path, png(401, 0), &[]).await;
    assert_eq!(bench.image(path, Some(tag)).await.0.status(), StatusCode::OK);
    let (_, list) = bench.local("GET", "/api/v1/plans", Value::Null).await;
    assert_eq!((list["plans"].as_array().unwrap().len(), &list["plans"][0]["width"]), (1, &json!(401)));
    assert_eq!(bench.local("DELETE", path, Value::Null).await.0, StatusCode::NO_CONTENT);
    assert_eq!(bench.local("DELETE", path, Value::Null).await.0, StatusCode::NOT_FOUND);
    assert_eq!(bench.image(path, None).await.0.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_no_plan_is_refused_with_what_is_allowed() {
    let bench = Bench::new();
    let path = "/api/v1/sites/north/plan";
    for (image, status, code, told) in [
        (b"<svg onload='alert(1)'/>".to_vec(), 400, "bad-image", "PNG, JPEG or WebP"),
        (png(60_000, 0), 400, "bad-image", "60000 × 300 pixels; allowed are 16384"),
        (png(0, 0), 400, "bad-image", "does not say how large"),
        (png(400, IMAGE_BYTES_MAX), 413, "body-too-large", "4194304 bytes"),
    ] {
        let (got, body) = bench.give(path, image, &[]).await;
        assert_eq!((got, &body["code"]), (status, &json!(code)), "{body}");
        assert!(body["detail"].as_str().unwrap().contains(told), "{body}");
    }
    let (status, body) = bench.give(&format!("/api/v1/sites/{}/plan", "n".repeat(65)), png(9, 0), &[]).await;
    assert_eq!((status, &body["code"]), (400, &json!("bad-site")));
    for n in 0..PLANS_MAX {
        assert_eq!(bench.give(&format!("/api/v1/sites/{n}/plan"), png(9, 0), &[]).await.0, 200);
    }
    let (status, body) = bench.give(path, png(9, 0), &[]).await;
    assert_eq!((status, &body["code"]), (409, &json!("too-many")));
    assert_eq!(bench.give("/api/v1/sites/0/plan", png(10, 0), &[]).await.0, 200, "it has one already");
}

#[tokio::test]
async fn viewers_see_plans_and_give_none() {
    let bench = Bench::new();
    bench.give("/api/v1/sites/north/plan", png(400, 0), &[]).await;
    let (_, made) = bench.local("POST", "/api/v1/tokens", json!({"name": "wall", "role": "viewer"})).await;
    let bearer = format!("Bearer {}", made["token"].as_str().unwrap());
    let viewer = [("authorization", bearer.as_str())];
    for path in ["/api/v1/plans", "/api/v1/sites/north/plan"] {
        let seen = request("GET", path, &viewer, None);
        assert_eq!(bench.send(Door::Plain, seen).await.0.status(), StatusCode::OK, "{path}");
        let stranger = request("GET", path, &[], None);
        assert_eq!(bench.send(Door::Plain, stranger).await.0.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    let path = "/api/v1/sites/north/plan";
    assert_eq!(bench.give(path, png(9, 0), &viewer).await.0, 403);
    assert_eq!(bench.give(path, png(9, 0), &[("cookie", "tideline_session=none")]).await.0, 401);
    let taken = request("DELETE", path, &viewer, None);
    assert_eq!(bench.send(Door::Plain, taken).await.0.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_share_shows_the_plan_of_its_panel_and_no_other() {
    let bench = Bench::new();
    for (site, width) in [("Hall A, North", 400), ("south", 500)] {
        let path = format!("/api/v1/sites/{}/plan", site.replace(' ', "%20"));
        assert_eq!(bench.give(&path, png(width, 0), &[]).await.0, 200);
    }
    let panel = |id: &str, y: u32, more: Value| {
        let mut show = json!({"kind": "map", "devices": ["*"]});
        show.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"id": id, "x": 0, "y": y, "w": 6, "h": 4, "show": show})
    };
    let panels = [
        panel("chosen", 0, json!({"plan": "$where"})),
        panel("world", 4, json!({})),
        panel("none", 8, json!({"plan": "nowhere"})),
    ];
    let board = json!({"version": 1, "title": "Plan", "variables": [{"name": "where", "kind": "site"}], "panels": panels});
    let (status, made) = bench.local("POST", "/api/v1/boards", board.clone()).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let id = made["info"]["id"].as_str().unwrap();
    let wanted = json!({"note": "", "ttl_s": 60, "values": {"where": "Hall A, North"}});
    let (_, made) = bench.local("POST", &format!("/api/v1/boards/{id}/shares"), wanted).await;
    let bearer = format!("Bearer {}", made["token"].as_str().unwrap());
    let ask = async |path: &str, bearer: &str| {
        let asked = request("GET", path, &[("authorization", bearer)], None);
        let response = router(Arc::clone(&bench.hub), Door::Plain).oneshot(asked).await.unwrap();
        let status = response.status().as_u16();
        (status, axum::body::to_bytes(response.into_body(), 8 << 20).await.unwrap())
    };
    let (status, image) = ask("/api/v1/shared/plan?panel=chosen", &bearer).await;
    assert_eq!((status, image), (200, png(400, 0).into()));
    for (path, status) in [
        ("/api/v1/shared/plan?panel=world", 404),
        ("/api/v1/shared/plan?panel=none", 404),
        ("/api/v1/shared/plan?panel=chosen&site=south", 400),
        ("/api/v1/shared/plan", 400),
        ("/api/v1/sites/south/plan", 401),
    ] {
        assert_eq!(ask(path, &bearer).await.0, status, "{path}");
    }
    assert_eq!(ask("/api/v1/shared/plan?panel=chosen", "Bearer none").await.0, 401);
    let mut bad = board;
    bad["panels"][0]["show"]["plan"] = json!("$who");
    let (status, told) = bench.local("POST", "/api/v1/boards", bad).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(told["detail"].as_str().unwrap().contains("panels[0].show.plan: $who is no variable"), "{told}");
}
