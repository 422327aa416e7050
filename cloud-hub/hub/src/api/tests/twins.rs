//! Twins by API: what is shown, what is refused, and who may.

mod layers;
mod patches;

use tideline_protocol::model::AgentId;
use tideline_protocol::wire::{ConfigInForce, ConfigOption, ConfigSource};

use super::*;
use crate::in_force;
use crate::metadata::DeviceRecord;

impl Bench {
    fn device(&self, id: &str, site: &str) {
        let mut record = DeviceRecord::behind("gateway".to_owned(), 1);
        record.marks.site = site.to_owned();
        self.hub.metadata.put(id, &record).unwrap();
    }

    async fn patch(&self, id: &str, body: Value) -> (StatusCode, Value) {
        self.local("PATCH", &format!("/api/v1/devices/{id}/twin"), body).await
    }

    async fn twin(&self, id: &str, rest: &str) -> Value {
        let (status, body) =
            self.local("GET", &format!("/api/v1/devices/{id}/twin{rest}"), Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{rest}: {body}");
        body
    }
}

#[tokio::test]
async fn a_twin_is_patched_of_the_state_that_was_seen_only() {
    let bench = Bench::new();
    bench.device("valve-1", "");
    let empty = bench.twin("valve-1", "").await;
    assert_eq!(
        (&empty["desired"], &empty["agreed"], &empty["leaves"]),
        (&json!({}), &json!(false), &json!(0))
    );
    let (status, first) = bench.patch("valve-1", json!({"desired": {"open": 5, "mode": "eco"}})).await;
    assert_eq!(status, StatusCode::OK, "{first}");
    assert_eq!(first["desired"], json!({"open": 5, "mode": "eco"}));
    let delta = first["delta"].as_array().unwrap();
    assert_eq!((delta.len(), &delta[1]["key"], &delta[1]["reported"]), (2, &json!("open"), &Value::Null));
    let path = "/api/v1/devices/valve-1/twin";
    let (got, _) = bench.send(Door::Socket, request("GET", path, &[], None)).await;
    let tag = got.headers()[header::ETAG].to_str().unwrap().to_owned();
    assert_eq!(tag, format!("\"{}\"", first["etag"].as_str().unwrap()));
    let of = |tag: &str, body: Value| request("PATCH", path, &[("if-match", tag)], Some(body));
    let (made, body) = bench.send(Door::Socket, of(&tag, json!({"desired": {"mode": null}}))).await;
    assert_eq!((made.status(), &body["desired"]), (StatusCode::OK, &json!({"open": 5})));
    let (late, body) = bench.send(Door::Socket, of(&tag, json!({"desired": {"mode": "x"}}))).await;
    assert_eq!((late.status(), &body["code"]), (StatusCode::PRECONDITION_FAILED, &json!("twin-changed")));
    let (bad, body) = bench.send(Door::Socket, of("abc", json!({"desired": {}}))).await;
    assert_eq!((bad.status(), &body["code"]), (StatusCode::BAD_REQUEST, &json!("bad-etag")));
    let now = bench.twin("valve-1", "").await["etag"].as_str().unwrap().to_owned();
    let nothing = || json!({"desired": {}});
    for (tags, status) in [
        (format!("{tag}, \"{now}\""), StatusCode::OK),
        (format!("W/\"{now}\", \"{now}\""), StatusCode::OK),
        (format!("W/\"{now}\""), StatusCode::PRECONDITION_FAILED),
        (String::new(), StatusCode::BAD_REQUEST),
        (format!("*, \"{now}\""), StatusCode::BAD_REQUEST),
    ] {
        let (answer, body) = bench.send(Door::Socket, of(&tags, nothing())).await;
        assert_eq!(answer.status(), status, "{tags}: {body}");
    }
    let (any, _) = bench.send(Door::Socket, of("*", json!({"tags": {"floor": "2"}}))).await;
    assert_eq!(any.status(), StatusCode::OK);
    assert_eq!(bench.twin("valve-1", "").await["tags"], json!({"floor": "2"}));
    // A state of the past is none that a change could be made of.
    let (past, body) = bench.send(Door::Socket, request("GET", &format!("{path}?at=-1s"), &[], None)).await;
    assert_eq!((past.status(), &body["etag"]), (StatusCode::OK, &Value::Null));
    assert!(!past.headers().contains_key(header::ETAG));
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_a_code() {
    let bench = Bench::new();
    bench.device("valve-1", "");
    let long = "x".repeat(9_000);
    let many: serde_json::Map<_, _> = (0..300).map(|n| (n.to_string(), json!(n))).collect();
    // Each value is short enough, and the body; the change is not.
    let seven_and_more: serde_json::Map<_, _> =
        (0..8).map(|n| (n.to_string(), json!("x".repeat(7_900)))).collect();
    for (body, status, code) in [
        (json!({}), 400, "bad-patch"),
        (json!({"desired": [1]}), 400, "bad-patch"),
        (json!({"desired": {"a": {"$counter": "1"}}}), 400, "bad-patch"),
        (json!({"desired": {"": 1}}), 400, "bad-key"),
        (json!({"desired": {"a": long}}), 400, "bad-value"),
        (json!({"desired": {"a": {"$text": "x"}}}), 400, "bad-value"),
        (json!({"desired": many}), 400, "twin-too-many-edits"),
        (json!({ "desired": seven_and_more }), 400, "twin-change-too-long"),
        (json!({"reported": {"a": 1}}), 422, "bad-body"),
        (json!(null), 422, "bad-body"),
        (json!([{}]), 422, "bad-body"),
        ((0..100).fold(json!(1), |deep, _| json!({ "a": deep })), 422, "bad-body"),
        ((0..101).fold(json!(1), |deep, _| json!({ "a": deep })), 400, "bad-value"),
    ] {
        let (found, answer) = bench.patch("valve-1", body).await;
        assert_eq!((found.as_u16(), &answer["code"]), (status, &json!(code)), "{answer}");
    }
    assert_eq!(bench.patch("valve-2", json!({"tags": {}})).await.0, StatusCode::NOT_FOUND);
    let mut last = (StatusCode::OK, Value::Null);
    for n in 0..40 {
        let part: serde_json::Map<_, _> = (0..30).map(|m| (format!("{n}-{m}"), json!(m))).collect();
        last = bench.patch("valve-1", json!({ "desired": part })).await;
        if last.0 != StatusCode::OK {
            break;
        }
    }
    assert_eq!((last.0.as_u16(), &last.1["code"]), (409, &json!("twin-too-large")), "{}", last.1);
    for rest in
        ["?at=yesterday", "/history?from=x", "/history?key=wanted/a", "/history?limit=0", "/history?cursor=1"]
    {
        let (status, body) =
            bench.local("GET", &format!("/api/v1/devices/valve-1/twin{rest}"), Value::Null).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{rest}: {body}");
    }
}

#[tokio::test]
async fn history_tells_who_did_what_and_pages_by_cursor() {
    let bench = Bench::new();
    bench.device("valve-1", "");
    let (_, token) = bench.local("POST", "/api/v1/tokens", json!({"name": "ci", "role": "admin"})).await;
    let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
    for open in 1..=4 {
        let body = json!({"desired": {"valve": {"open": open}}, "notes": {"n": open}});
        let headers = [("authorization", bearer.as_str())];
        let asked = request("PATCH", "/api/v1/devices/valve-1/twin", &headers, Some(body));
        assert_eq!(bench.send(Door::Plain, asked).await.0.status(), StatusCode::OK);
    }
    let mut values = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = bench.twin("valve-1", &format!("/history?key=desired/valve&limit=3{cursor}")).await;
        for step in page["steps"].as_array().unwrap() {
            assert_eq!((&step["author"], &step["side"]), (&json!("token ci"), &json!("hub")));
            assert_eq!((&step["section"], &step["key"]), (&json!("desired"), &json!("valve/open")));
            values.push(step["value"].as_i64().unwrap());
        }
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(values, [1, 2, 3, 4]);
    const NEWEST: &str = "/history?key=desired/valve&limit=3&order=newest";
    let page = bench.twin("valve-1", NEWEST).await;
    let opened = |page: &Value| -> Vec<i64> {
        page["steps"].as_array().unwrap().iter().map(|step| step["value"].as_i64().unwrap()).collect()
    };
    assert_eq!(opened(&page), [4, 3, 2]);
    let next = page["next"].as_str().unwrap();
    let last = bench.twin("valve-1", &format!("{NEWEST}&cursor={next}")).await;
    assert_eq!((opened(&last), &last["next"]), (vec![1], &Value::Null));
    assert_eq!(bench.twin("valve-1", "/history").await["steps"].as_array().unwrap().len(), 8);
    assert_eq!(bench.twin("valve-1", "/history?to=-1h").await["steps"], json!([]));
    let past = bench.twin("valve-1", "?at=-1h").await;
    assert_eq!((&past["desired"], past["at_ms"].is_i64()), (&json!({}), true));
    assert_eq!((&past["leaves"], &past["bytes"], &past["changes"]), (&json!(0), &json!(0), &json!(1)));
    assert_eq!(past["agreed"], Value::Null);
    let (now, as_now) = (bench.twin("valve-1", "?at=now").await, bench.twin("valve-1", "").await);
    assert_eq!(now["desired"], json!({"valve": {"open": 4}}));
    for of in ["desired", "leaves", "bytes", "changes"] {
        assert_eq!(now[of], as_now[of], "{of}");
    }
    assert_eq!(as_now["agreed"], json!(false));
    assert_eq!(bench.twin("valve-1", "/conflicts").await["conflicts"], json!([]));
}

#[tokio::test]
async fn one_patch_goes_to_many_devices_with_a_result_for_each() {
    let bench = Bench::new();
    for (id, site) in [("gateway", ""), ("v1", "north"), ("v2", "north"), ("v3", "south")] {
        bench.device(id, site);
    }
    let ask = |devices: Value| json!({"devices": devices, "patch": {"desired": {"night": true}}});
    let (status, body) =
        bench.local("PATCH", "/api/v1/twins", ask(json!(["@site=north", "v1", "gone"]))).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let results: Vec<_> = body["results"].as_array().unwrap().iter().collect();
    let told: Vec<_> = results.iter().map(|r| (r["device"].as_str().unwrap(), r["code"].as_str())).collect();
    assert_eq!(told, [("gone", Some("not-found")), ("v1", None), ("v2", None)]);
    for id in ["v1", "v2"] {
        let twin = bench.twin(id, "").await;
        assert_eq!(twin["desired"], json!({"night": true}));
        assert!(results.iter().any(|result| result["etag"] == twin["etag"]));
    }
    assert_eq!(bench.twin("v3", "").await["desired"], json!({}));
    for devices in [json!([]), json!(["@site=west"]), json!(["@nonsense"])] {
        let (status, body) = bench.local("PATCH", "/api/v1/twins", ask(devices)).await;
        assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("bad-devices")));
    }
    let (_, metrics) = (0, telemetry::twins(bench.hub.twins.standing()));
    assert!(metrics.contains("tideline_hub_twins 2\n"), "{metrics}");
    assert!(!metrics.contains("tideline_hub_twins_kept_largest_bytes 0\n"), "{metrics}");
}

#[tokio::test]
async fn viewers_look_and_do_not_write() {
    let bench = Bench::new();
    bench.device("valve-1", "");
    let (_, token) = bench.local("POST", "/api/v1/tokens", json!({"name": "wall", "role": "viewer"})).await;
    let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
    let ask =
        |method: &str, path: &str, body| request(method, path, &[("authorization", bearer.as_str())], body);
    let path = "/api/v1/devices/valve-1/twin";
    for rest in ["", "/history", "/conflicts"] {
        let (got, _) = bench.send(Door::Plain, ask("GET", &format!("{path}{rest}"), None)).await;
        assert_eq!(got.status(), StatusCode::OK, "{rest}");
        let (nobody, _) = bench.send(Door::Plain, request("GET", &format!("{path}{rest}"), &[], None)).await;
        assert_eq!(nobody.status(), StatusCode::UNAUTHORIZED, "{rest}");
    }
    let body = json!({"tags": {"a": 1}});
    let many = json!({"devices": ["valve-1"], "patch": body});
    for (path, body) in [(path, body), ("/api/v1/twins", many)] {
        let (got, _) = bench.send(Door::Plain, ask("PATCH", path, Some(body))).await;
        assert_eq!(got.status(), StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(bench.twin("valve-1", "").await["tags"], json!({}));
}

#[tokio::test]
async fn readers_of_the_live_feed_are_told_of_changes_and_resume() {
    use crate::live::{Happening, Since};
    let bench = Bench::new();
    bench.device("valve-1", "");
    let start = bench.hub.live.end();
    bench.patch("valve-1", json!({"desired": {"open": 5}})).await;
    let (_, answer) = bench.patch("valve-1", json!({"tags": {"a": 1, "b": 2}})).await;
    let Since::Events(events) = bench.hub.live.since(start) else { panic!("reset") };
    let told: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.happening {
            Happening::Twin(twin) => Some((event.id, twin.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(told.len(), 2);
    let (_, last) = &told[1];
    assert_eq!(
        (last.device.as_str(), &last.keys),
        ("valve-1", &vec!["tags/a".to_owned(), "tags/b".to_owned()])
    );
    assert_eq!((&last.authors, last.more), (&vec!["local".to_owned()], false));
    assert_eq!(answer["etag"], last.etag);
    let Since::Events(events) = bench.hub.live.since(told[0].0) else { panic!("reset") };
    assert_eq!(events.len(), 1);
}

#[tokio::test]
async fn a_sites_document_is_shown_and_changed_where_a_device_is() {
    let bench = Bench::new();
    bench.device("valve-1", "hall-2");
    let path = "/api/v1/sites/hall-2/twin";
    let (status, empty) = bench.local("GET", path, Value::Null).await;
    assert_eq!(
        (status, &empty["device"], &empty["agreed"]),
        (StatusCode::OK, &json!("site/hall-2"), &json!(false))
    );
    let (status, made) = bench.local("PATCH", path, json!({"desired": {"heating": 20}})).await;
    assert_eq!((status, &made["desired"]), (StatusCode::OK, &json!({"heating": 20})));
    let (_, history) = bench.local("GET", &format!("{path}/history?key=desired/heating"), Value::Null).await;
    assert_eq!(history["steps"][0]["value"], json!(20));
    // What every agent would refuse is no part of it.
    let patch = json!({"desired": {"heating": 21, "schedules": {"night": 1}}});
    let (status, body) = bench.local("PATCH", path, patch).await;
    assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("bad-config")));
    let told = body["errors"][0].as_str().unwrap();
    assert_eq!(told, "/desired/schedules/night: must be of type object");
    let patch = json!({"desired": {"config": {"batch": {"rows_max": 7}}}});
    let (status, body) = bench.local("PATCH", path, patch).await;
    assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("bad-config")));
    assert!(body["errors"][0].as_str().unwrap().contains("PUT /api/v1/config-templates/"), "{body}");
    let night = json!({"cron": "0 2 * * *", "kind": "sync"});
    let (_, made) = bench.local("PATCH", path, json!({"desired": {"schedules": {"night": night}}})).await;
    let keys: Vec<_> = made["delta"].as_array().unwrap().iter().map(|one| &one["key"]).collect();
    assert_eq!(keys, ["heating", "schedules/night/cron", "schedules/night/kind"]);
    let once = json!({"once": {"at": "2020-01-01T00:00:00Z", "kind": "sync"}});
    let (status, made) = bench.local("PATCH", path, json!({"desired": {"schedules": once}})).await;
    let told = "/desired/schedules/once: its time is over, and missed is skip: it will not run";
    assert_eq!((status, &made["warnings"]), (StatusCode::OK, &json!([told])));
    assert_eq!(bench.local("GET", path, Value::Null).await.1.get("warnings"), None);
    let (status, _) = bench.local("PATCH", path, json!({"desired": {"schedules": null}})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(bench.local("GET", path, Value::Null).await.1["desired"], json!({"heating": 20}));
    let (_, conflicts) = bench.local("GET", &format!("{path}/conflicts"), Value::Null).await;
    assert_eq!(conflicts["conflicts"], json!([]));
    // Its device's twin is another document.
    assert_eq!(bench.twin("valve-1", "").await["desired"], json!({}));
    for (site, status, code) in
        [("hall-3", StatusCode::NOT_FOUND, "not-found"), ("hall%203", StatusCode::BAD_REQUEST, "bad-site")]
    {
        let (found, body) = bench.local("GET", &format!("/api/v1/sites/{site}/twin"), Value::Null).await;
        assert_eq!((found, &body["code"]), (status, &json!(code)), "{body}");
    }
}

#[tokio::test]
async fn a_device_is_told_to_which_groups_and_which_site_it_belongs_and_nobody_else_says_so() {
    let bench = Bench::new();
    bench.device("valve-1", "");
    let place = async |marks: Value| {
        bench.local("PATCH", "/api/v1/devices/valve-1", marks).await;
        bench.twin("valve-1", "").await
    };
    assert_eq!(place(json!({"title": "a valve"})).await["leaves"], 0);
    let placed = place(json!({"site": "north", "groups": ["wet", "dry", "no document"]})).await;
    assert_eq!(placed["tags"]["belongs_to"], json!(["group/dry", "group/wet", "site/north"]));
    assert_eq!(place(json!({"title": "the valve"})).await["etag"], placed["etag"]);
    let (status, body) = bench.patch("valve-1", json!({"tags": {"belongs_to": ["group/hot"]}})).await;
    assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("bad-config")), "{body}");
    assert_eq!(place(json!({"site": null, "groups": []})).await["tags"], json!({}));
}

#[tokio::test]
async fn a_point_that_no_device_of_a_group_tells_of_is_not_so_by_nobody() {
    let bench = Bench::new();
    let mut record = DeviceRecord::behind("gw-1".to_owned(), 1);
    record.marks.groups.insert("pumps".to_owned());
    bench.hub.metadata.put("pump-1", &record).unwrap();
    let path = "/api/v1/groups/pumps/twin";
    let patch = json!({"desired": {"points": {"motor": {"speed": 7}}, "night": true}});
    let (status, made) = bench.local("PATCH", path, patch).await;
    assert_eq!(status, StatusCode::OK, "{made}");
    assert_eq!(bench.local("GET", path, Value::Null).await.1["delta"], made["delta"]);
    let delta = made["delta"].as_array().unwrap();
    let keys: Vec<_> = delta.iter().map(|one| (one["key"].as_str().unwrap(), one.get("device"))).collect();
    assert_eq!(keys, [("night", None), ("points/motor/speed", None)]);
}

#[tokio::test]
async fn a_groups_document_is_shown_and_changed_where_a_device_is() {
    use crate::live::{Happening, Since};
    let bench = Bench::new();
    let mut record = DeviceRecord::behind("gw-1".to_owned(), 1);
    record.marks.groups = ["pumps", "hall 2"].map(str::to_owned).into();
    bench.hub.metadata.put("pump-1", &record).unwrap();
    let path = "/api/v1/groups/pumps/twin";
    let (status, empty) = bench.local("GET", path, Value::Null).await;
    assert_eq!(
        (status, &empty["device"], &empty["agreed"]),
        (StatusCode::OK, &json!("group/pumps"), &json!(false))
    );
    let before = bench.hub.live.end();
    let (status, made) = bench.local("PATCH", path, json!({"desired": {"speed": 20}})).await;
    assert_eq!((status, &made["desired"]), (StatusCode::OK, &json!({"speed": 20})));
    let Since::Events(events) = bench.hub.live.since(before) else { panic!("reset") };
    let told = events.iter().filter_map(|event| match &event.happening {
        Happening::Twin(twin) => Some(twin.device.as_str()),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), ["group/pumps"]);
    let (_, history) = bench.local("GET", &format!("{path}/history?key=desired/speed"), Value::Null).await;
    assert_eq!(history["steps"][0]["value"], json!(20));
    let (_, conflicts) = bench.local("GET", &format!("{path}/conflicts"), Value::Null).await;
    assert_eq!(conflicts["conflicts"], json!([]));
    // Its device's twin is another document, as that of a site of the same name.
    assert_eq!(bench.twin("pump-1", "").await["desired"], json!({}));
    for (path, status, code) in [
        ("/api/v1/sites/pumps/twin", StatusCode::NOT_FOUND, "not-found"),
        ("/api/v1/groups/valves/twin", StatusCode::NOT_FOUND, "not-found"),
        ("/api/v1/groups/hall%202/twin", StatusCode::BAD_REQUEST, "bad-group"),
    ] {
        let (found, body) = bench.local("GET", path, Value::Null).await;
        assert_eq!((found, &body["code"]), (status, &json!(code)), "{body}");
    }
}

#[tokio::test]
async fn a_template_fills_in_what_nobody_wants_otherwise_and_follows_its_members() {
    let bench = Bench::new();
    for (id, agent) in [("pump-1", "pump-1"), ("pump-2", "pump-2"), ("valve-1", "pump-1")] {
        let mut record = DeviceRecord::behind(agent.to_owned(), 1);
        record.marks.groups = (id != "pump-2").then(|| "pumps".to_owned()).into_iter().collect();
        bench.hub.metadata.put(id, &record).unwrap();
    }
    let (status, _) = bench.patch("pump-1", json!({"desired": {"config": {"batch": {"rows_max": 7}}}})).await;
    assert_eq!(status, StatusCode::OK);
    let path = "/api/v1/config-templates/group/pumps";
    let layer = json!({"layer": {"batch": {"rows_max": 1, "flush_interval_ms": 20}}});
    let (status, made) = bench.local("PUT", path, layer).await;
    assert_eq!((status, &made["template"]["current"]["version"]), (StatusCode::OK, &json!(1)), "{made}");
    // Agents alone have a configuration.
    let config = json!({"desired": {"config": {"batch": {"rows_max": 7}}}});
    let (status, body) = bench.patch("valve-1", config.clone()).await;
    assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("bad-config")));
    assert!(body["errors"][0].as_str().unwrap().contains("is read by the agent pump-1"), "{body}");
    let many = json!({"devices": ["pump-1", "valve-1"], "patch": config});
    let (_, body) = bench.local("PATCH", "/api/v1/twins", many).await;
    let codes: Vec<_> = body["results"].as_array().unwrap().iter().map(|one| &one["code"]).collect();
    assert_eq!(codes, [&Value::Null, &json!("bad-config")]);
    assert_eq!(made["results"].as_array().unwrap().len(), 1);
    assert_eq!(made["template"]["members"], json!(["pump-1"]));
    let config = async |id: &str| bench.twin(id, "").await["desired"]["config"].clone();
    assert_eq!(config("pump-1").await, json!({"batch": {"rows_max": 7, "flush_interval_ms": 20}}));
    let (_, shown) = bench.local("GET", "/api/v1/devices/pump-1/config", Value::Null).await;
    let sources: Vec<_> =
        shown["values"].as_array().unwrap().iter().map(|one| (&one["option"], &one["source"])).collect();
    let (flush, rows) = (json!("batch.flush_interval_ms"), json!("batch.rows_max"));
    assert_eq!(sources, [(&flush, &json!("template group/pumps")), (&rows, &json!("device"))]);
    // The override goes, and the template fills in.
    bench.patch("pump-1", json!({"desired": {"config": {"batch": {"rows_max": null}}}})).await;
    assert_eq!(config("pump-1").await, json!({"batch": {"rows_max": 1, "flush_interval_ms": 20}}));
    // Into the group, and out of it.
    bench.local("PATCH", "/api/v1/devices/pump-2", json!({"groups": ["pumps"]})).await;
    assert_eq!(config("pump-2").await["batch"]["rows_max"], json!(1));
    bench.local("PATCH", "/api/v1/devices/pump-1", json!({"groups": []})).await;
    assert_eq!(config("pump-1").await["batch"], Value::Null);
    let (_, made) = bench.local("PUT", path, json!({"layer": {"batch": {"rows_max": 2}}})).await;
    assert_eq!(made["template"]["earlier"][0]["version"], json!(1));
    assert_eq!(config("pump-2").await, json!({"batch": {"rows_max": 2}}));
    let (status, _) = bench.local("DELETE", path, Value::Null).await;
    assert_eq!((status, config("pump-2").await["batch"].clone()), (StatusCode::OK, Value::Null));
    for (path, layer, code) in [
        ("/api/v1/config-templates/room/1", json!({"layer": {}}), "bad-template"),
        (path, json!({"layer": {"batch": {"rows_max": null}}}), "bad-config"),
    ] {
        let (status, body) = bench.local("PUT", path, layer).await;
        assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!(code)), "{body}");
    }
    let (status, _) = bench.local("GET", path, Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_in_force_is_shown_with_where_each_value_comes_from() {
    let bench = Bench::new();
    let mut record = DeviceRecord::behind("pump-1".to_owned(), 1);
    record.marks.groups = ["pumps".to_owned()].into();
    bench.hub.metadata.put("pump-1", &record).unwrap();
    bench.patch("pump-1", json!({"desired": {"config": {"batch": {"rows_max": 7}}}})).await;
    let layer = json!({"layer": {"batch": {"rows_max": 1, "flush_interval_ms": 20}}});
    let (status, _) = bench.local("PUT", "/api/v1/config-templates/group/pumps", layer).await;
    assert_eq!(status, StatusCode::OK);
    let (_, shown) = bench.local("GET", "/api/v1/devices/pump-1/config", Value::Null).await;
    assert_eq!(shown["in_force"], Value::Null);
    let told = |value: &str| {
        let option = |section: &str, name: &str, source, from: &str| ConfigOption {
            section: section.to_owned(),
            name: name.to_owned(),
            value: value.to_owned(),
            source,
            from: from.to_owned(),
        };
        let options = [
            option("batch", "rows_max", ConfigSource::Hub, ""),
            option("batch", "flush_interval_ms", ConfigSource::Hub, ""),
            option("source/a.b", "path\u{1b}[2J", ConfigSource::File, ""),
            option("spool", "quota_mb", ConfigSource::Environment, "TIDELINE_AGENT_SPOOL_QUOTA_MB"),
        ];
        ConfigInForce::of([u8::try_from(value.len()).unwrap(); 16], options)
    };
    let tell = |told| in_force::tell(&bench.hub, &AgentId::parse("pump-1").unwrap(), told).unwrap();
    assert!(tell(told("7").named()), "nothing is known yet");
    assert!(!tell(told("7")) && !tell(told("7").named()));
    assert!(tell(told("no json").named()));
    let (_, shown) = bench.local("GET", "/api/v1/devices/pump-1/config", Value::Null).await;
    let option = |at: usize| {
        let one = &shown["in_force"]["options"][at];
        (one["option"].as_str().unwrap(), one["source"].as_str().unwrap(), one["from"].as_str())
    };
    assert_eq!(option(0), ("batch.rows_max", "hub", Some("local")));
    assert_eq!(option(1), ("batch.flush_interval_ms", "hub", Some("template group/pumps")));
    assert_eq!(option(2), ("source.a.b.path[2J", "file", None), "nothing that a terminal obeys");
    assert_eq!(option(3), ("spool.quota_mb", "environment", Some("TIDELINE_AGENT_SPOOL_QUOTA_MB")));
    assert_eq!(shown["in_force"]["options"][0]["value"], json!(7));
    let times =
        |shown: &Value| [&shown["in_force"]["since_ms"], &shown["in_force"]["told_ms"]].map(Value::as_i64);
    let [since, told_at] = times(&shown);
    assert_eq!(since, told_at, "it was not heard since");
    let mut own: DeviceRecord = bench.hub.metadata.find("pump-1").unwrap().unwrap();
    own.last_seen_ms = since.map(|since_ms| since_ms + 60_000);
    bench.hub.metadata.put("pump-1", &own).unwrap();
    let (_, later) = bench.local("GET", "/api/v1/devices/pump-1/config", Value::Null).await;
    assert_eq!(times(&later), [since, own.last_seen_ms], "it said nothing else");
    assert!(!tell(told("no json")), "a text where the agent tells none of JSON");
}
