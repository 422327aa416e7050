//! The map: positions that are set and measured, clusters, lists, and what a share shows of them.

use tideline_protocol::block::BlockBuilder;
use tideline_protocol::durability::{Batch, Received};
use tideline_protocol::model::{DeviceId, Epoch, PointId, RowCounts, Sample, Seq, SeriesDef};
use tideline_protocol::wire::{Lane, Run, RunEnvelope, Series};

use super::*;
use crate::metadata::DeviceRecord;
use crate::presence::End;

impl Bench {
    fn there(&self, id: &str, agent: &str, site: &str) {
        let mut record = DeviceRecord::behind(agent, 1);
        record.marks.site = site.to_owned();
        self.hub.metadata.put(id, &record).unwrap();
    }

    async fn marked(&self, id: &str, body: Value) -> (u16, Value) {
        let (status, body) = self.local("PATCH", &format!("/api/v1/devices/{id}"), body).await;
        (status.as_u16(), body)
    }

    async fn put_at(&self, id: &str, lat: f64, lon: f64) {
        let (status, body) = self.marked(id, json!({"position": {"lat": lat, "lon": lon}})).await;
        assert_eq!(status, 200, "{body}");
    }

    async fn asked(&self, path: &str) -> Value {
        let (status, body) = self.local("GET", path, Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    /// What a receiver of `gw` measured.
    async fn measured(&self, device: &str, values: &[(&str, &str, f64)]) {
        let agent = AgentId::parse("gw").unwrap();
        let epoch = Epoch::from_bytes([4; 16]);
        let def = |(point, unit, _): &(&str, &str, f64)| {
            let (device, point) = (DeviceId::parse(device).unwrap(), PointId::parse(point).unwrap());
            SeriesDef::new(device, point, (*unit).to_owned())
        };
        let series = Series { first: 0, defs: values.iter().map(def).collect() };
        let known = self.hub.store.define_series(agent.clone(), epoch, series).await.unwrap();
        let samples: Vec<[Sample; 1]> =
            values.iter().map(|(.., value)| [Sample { time_ns: 7_000_000_000, value: *value }]).collect();
        let items: Vec<_> = (0..).zip(samples.iter().map(|sample| &sample[..])).collect();
        let mut builder = BlockBuilder::new();
        builder.push_batch(&items);
        let (rows, first) = (RowCounts::one(known), Seq::new(1));
        let envelope =
            RunEnvelope { epoch, lane: Lane::Live, first, rows, series_end: known, restamps: vec![] };
        let run = Run { envelope, block: builder.finish().bytes };
        let batch = Batch::<Received>::received(agent, run).validate(known).unwrap();
        self.hub.store.append(batch).await.unwrap();
        let store = self.hub.store.clone();
        tokio::task::spawn_blocking(move || store.settle()).await.unwrap().unwrap();
    }
}

fn ids(list: &Value) -> Vec<&str> {
    list["devices"].as_array().unwrap().iter().map(|device| device["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_position_is_set_checked_and_taken_away_and_a_spot_goes_with_its_site() {
    let bench = Bench::new();
    bench.there("gw", "gw", "north");
    let (_, body) =
        bench.marked("gw", json!({"position": {"lat": 48.1374, "lon": -11.5755, "alt_m": 519.5}})).await;
    let placed = json!({"lat": 48.1374, "lon": -11.5755, "alt_m": 519.5, "source": "set"});
    assert_eq!(body["position"], placed);
    for (position, told) in [
        (json!({"lat": 90.5, "lon": 0}), "latitude 90.5; allowed are -90 to 90"),
        (json!({"lat": 0, "lon": 181}), "longitude 181; allowed are -180 to 180"),
        (json!({"lat": 0, "lon": 0, "alt_m": 1e7}), "altitude in metres 10000000; allowed are"),
    ] {
        let (status, body) = bench.marked("gw", json!({"position": position})).await;
        assert_eq!((status, &body["code"]), (400, &json!("bad-mark")));
        assert!(body["detail"].as_str().unwrap().contains(told), "{body}");
    }
    let (status, body) = bench.marked("gw", json!({"spot": {"x": 0.25, "y": 1.5}})).await;
    assert_eq!(status, 400);
    assert!(body["detail"].as_str().unwrap().contains("y 1.5; allowed are 0 to 1"), "{body}");
    let (_, body) = bench.marked("gw", json!({"spot": {"x": 0.25, "y": 1}})).await;
    assert_eq!((&body["spot"], &body["position"]), (&json!({"x": 0.25, "y": 1.0}), &placed));
    let (_, body) = bench.marked("gw", json!({"site": "north", "title": "t"})).await;
    assert_eq!(body["spot"]["x"], 0.25, "it is where it was");
    let (_, body) = bench.marked("gw", json!({"site": "south"})).await;
    assert!(body.get("spot").is_none() && body["position"] == placed, "{body}");
    let (_, body) = bench.marked("gw", json!({"position": null})).await;
    assert!(body.get("position").is_none(), "{body}");
    assert_eq!(bench.marked("gw", json!({"position": {"lat": 1}})).await.0, 422);
}

#[tokio::test]
async fn a_device_is_where_it_measures_unless_operators_say_otherwise() {
    let bench = Bench::new();
    bench.there("gw", "gw", "");
    bench.there("van", "gw", "");
    // Series that come after it was asked for first are seen too.
    assert!(bench.asked("/api/v1/devices/van").await.get("position").is_none());
    let fix = [("gps/latitude", "deg", 52.5), ("gps/longitude", "deg", 13.4), ("gps/altitude", "m", 34.0)];
    bench.measured("van", &fix).await;
    let placed = json!({"lat": 52.5, "lon": 13.4, "alt_m": 34.0, "source": "measured", "as_of_ms": 7_000});
    assert_eq!(bench.asked("/api/v1/devices/van").await["position"], placed);
    assert_eq!(bench.asked("/api/v1/map/devices?placed=true").await["devices"][0]["position"], placed);
    bench.put_at("van", 1.0, 2.0).await;
    let set = &bench.asked("/api/v1/devices/van").await["position"];
    assert_eq!((&set["lat"], &set["source"]), (&json!(1.0), &json!("set")));
    let (_, body) = bench.marked("van", json!({"position": null})).await;
    assert_eq!(body["position"]["source"], "measured");
}

#[tokio::test]
async fn clusters_and_lists_are_of_the_devices_that_are_meant_the_worst_first() {
    let bench = Bench::new();
    for (id, site, lat, lon) in
        [("a", "north", 48.0, 11.0), ("b", "north", 48.01, 11.01), ("c", "south", -33.9, 151.2)]
    {
        bench.there(id, id, site);
        bench.put_at(id, lat, lon).await;
        bench.hub.presences.heard(&AgentId::parse(id).unwrap(), bench.hub.now(), None);
    }
    bench.there("d", "d", "north");
    bench.hub.presences.ended(&AgentId::parse("b").unwrap(), bench.hub.now(), End::Goodbye);
    let map = bench.asked("/api/v1/map?zoom=4").await;
    assert_eq!((&map["placed"], &map["unplaced"], &map["zoom"]), (&json!(3), &json!(1), &json!(4)));
    assert_eq!(map["bounds"], json!({"west": 11.0, "south": -33.9, "east": 151.2, "north": 48.01}));
    let clusters = map["clusters"].as_array().unwrap();
    let pair = clusters.iter().find(|cluster| cluster["count"] == 2).unwrap();
    assert_eq!((&pair["worst"], &pair["states"]["online"]), (&json!("offline"), &json!(1)));
    assert!(pair["apart_zoom"].as_u64().unwrap() > 4 && pair.get("device").is_none(), "{pair}");
    let one = clusters.iter().find(|cluster| cluster["count"] == 1).unwrap();
    assert_eq!((&one["device"]["id"], &one["apart_zoom"]), (&json!("c"), &Value::Null));
    let north = bench.asked("/api/v1/map?zoom=4&devices=@site%3Dnorth,nobody").await;
    assert_eq!((&north["placed"], &north["unplaced"]), (&json!(2), &json!(1)));
    let list = bench.asked("/api/v1/map/devices?bbox=10,45,12,50").await;
    assert_eq!((ids(&list), &list["total"]), (vec!["b", "a"], &json!(2)), "offline comes first");
    let page = bench.asked("/api/v1/map/devices?limit=3").await;
    assert_eq!(ids(&page), ["b", "d", "a"]);
    let next = page["next"].as_str().unwrap();
    let rest = bench.asked(&format!("/api/v1/map/devices?limit=3&cursor={next}")).await;
    assert_eq!((ids(&rest), &rest["next"], &rest["total"]), (vec!["c"], &Value::Null, &json!(4)));
    assert_eq!(ids(&bench.asked("/api/v1/map/devices?placed=false").await), ["d"]);
    assert_eq!(ids(&bench.asked("/api/v1/map/devices?site=south&q=C").await), ["c"]);
}

#[tokio::test]
async fn the_devices_of_a_site_are_found_whatever_its_name_is_like() {
    let bench = Bench::new();
    bench.there("other", "other", "Hall A");
    bench.there("North", "North", "");
    let escaped = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    for (no, site) in ["Halle/2", "Hall A, North", "$site", "[1]", "North "].into_iter().enumerate() {
        let id = format!("at-{no}");
        bench.there(&id, &id, site);
        bench.put_at(&id, 48.0, 11.0).await;
        let of_site = escaped(site);
        let list = bench.asked(&format!("/api/v1/map/devices?site={of_site}")).await;
        assert_eq!(ids(&list), [id.as_str()], "{site}");
        let map = bench.asked(&format!("/api/v1/map?site={of_site}")).await;
        assert_eq!((&map["placed"], &map["unplaced"]), (&json!(1), &json!(0)), "{site}");
        if site.starts_with('$') {
            continue;
        }
        let named = escaped(&json!([format!("@site={site}"), "nobody"]).to_string());
        let list = bench.asked(&format!("/api/v1/map/devices?devices={named}")).await;
        assert_eq!(ids(&list), [id.as_str()], "{site}");
    }
}

#[tokio::test]
async fn bad_questions_about_the_map_name_what_is_allowed() {
    let bench = Bench::new();
    for (path, code) in [
        ("/api/v1/map?bbox=1,2,3", "bad-bbox"),
        ("/api/v1/map?zoom=19", "bad-zoom"),
        ("/api/v1/map?devices=a/b", "bad-select"),
        ("/api/v1/map?devices=@floor%3D2", "bad-select"),
        ("/api/v1/map?devices=[1]", "bad-select"),
        ("/api/v1/map?devices=a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a", "bad-select"),
        ("/api/v1/map?panel=a", "bad-request"),
        ("/api/v1/map/devices?limit=1001", "bad-limit"),
        ("/api/v1/map/devices?cursor=9.a", "bad-cursor"),
        ("/api/v1/map/devices?bbox=0,1,2,x", "bad-bbox"),
    ] {
        let (status, body) = bench.local("GET", path, Value::Null).await;
        assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!(code)), "{path}: {body}");
    }
    for path in ["/api/v1/map", "/api/v1/map/devices", "/api/v1/shared/map?panel=a"] {
        let (response, _) = bench.send(Door::Plain, request("GET", path, &[], None)).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn a_share_shows_the_devices_of_its_maps_and_no_others() {
    let bench = Bench::new();
    for (id, site) in [("a", "north"), ("b", "north"), ("c", "south")] {
        bench.there(id, id, site);
        bench.put_at(id, 48.0, 11.0).await;
    }
    let map = |id: &str, y: u32, devices: Value| json!({"id": id, "x": 0, "y": y, "w": 6, "h": 4, "show": {"kind": "map", "devices": devices}});
    let text = json!({"id": "none", "x": 0, "y": 8, "w": 6, "h": 4, "show": {"kind": "text", "text": ""}});
    let board = json!({"version": 1, "title": "Map", "variables": [{"name": "where", "kind": "site"}],
        "panels": [map("of-site", 0, json!(["@site=$where"])), map("one", 4, json!(["a"])), text]});
    let (_, made) = bench.local("POST", "/api/v1/boards", board).await;
    let board = made["info"]["id"].as_str().unwrap();
    let wanted = json!({"note": "", "ttl_s": 60, "values": {"where": "north"}});
    let (status, made) = bench.local("POST", &format!("/api/v1/boards/{board}/shares"), wanted).await;
    assert_eq!((status, &made["share"]["devices"]), (StatusCode::CREATED, &json!(["a", "b"])), "{made}");
    // One that comes to the site afterwards is none of the share.
    bench.there("late", "late", "north");
    bench.put_at("late", 48.0, 11.0).await;
    let bearer = format!("Bearer {}", made["token"].as_str().unwrap());
    let ask = async |path: &str| {
        let (response, body) =
            bench.send(Door::Plain, request("GET", path, &[("authorization", &bearer)], None)).await;
        (response.status().as_u16(), body)
    };
    let (status, list) = ask("/api/v1/shared/map/devices?panel=of-site").await;
    assert_eq!((status, ids(&list)), (200, vec!["a", "b"]));
    let (_, map) = ask("/api/v1/shared/map?panel=of-site&zoom=5").await;
    assert_eq!((&map["placed"], &map["clusters"][0]["count"]), (&json!(2), &json!(2)));
    assert_eq!(ids(&ask("/api/v1/shared/map/devices?panel=one").await.1), ["a"]);
    for (path, status) in [
        ("/api/v1/shared/map?panel=none", 404),
        ("/api/v1/shared/map?panel=nobody", 404),
        ("/api/v1/shared/map?panel=one&devices=c", 400),
        ("/api/v1/shared/map/devices?panel=one&site=south", 400),
        ("/api/v1/map", 401),
    ] {
        assert_eq!(ask(path).await.0, status, "{path}");
    }
}
