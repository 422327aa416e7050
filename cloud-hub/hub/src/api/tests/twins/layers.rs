//! The configuration in twins and templates by API: where it belongs, what is told of it, and what no agent can take.

use tideline_twin::{Actor, Change, Section, Side, Twin, merge_patch};

use super::patches::meet;
use super::*;

impl Bench {
    /// A device of the group, and what its agent writes to its twin.
    async fn member(&self, id: &str, agent: &str, written: &[(Section, Value)]) {
        let mut record = DeviceRecord::behind(agent.to_owned(), 1);
        record.marks.groups = ["pumps".to_owned()].into();
        self.hub.metadata.put(id, &record).unwrap();
        let name = id.bytes().last().unwrap();
        let mut site = Twin::new(Actor::new(Side::Agent, [name; 15])).unwrap();
        for (section, patch) in written {
            let edits = merge_patch(*section, &json!({}), patch).unwrap();
            let change = Change { edits, author: "ben".to_owned(), time_ms: 1 };
            let record = site.edit(&change).unwrap().unwrap();
            site.handle_durable(record.ticket);
        }
        meet(self, agent, id, &mut site).await;
    }
}

/// What an agent reports that takes this many rows.
fn rows(most: u64) -> (Section, Value) {
    let rows = json!({ "type": "integer", "minimum": 1, "maximum": most });
    let batch =
        json!({ "type": "object", "additionalProperties": false, "properties": { "rows_max": rows } });
    (Section::Reported, json!({ "config_schema": { "batch": batch.to_string() } }))
}

fn rows_max(rows: u64) -> Value {
    json!({ "config": { "batch": { "rows_max": rows } } })
}

#[tokio::test]
async fn what_is_wrong_with_a_configuration_that_was_left_on_site_is_told_and_refuses_nothing_else() {
    let bench = Bench::new();
    bench.member("pump-1", "pump-1", &[rows(500), (Section::Desired, rows_max(0))]).await;
    bench.member("valve-1", "pump-1", &[(Section::Desired, rows_max(7))]).await;
    let told = "/desired/config/batch/rows_max: must be a whole number from 1 to 500";
    let (status, body) = bench.patch("pump-1", json!({ "desired": { "mode": "eco" } })).await;
    assert_eq!((status, &body["warnings"]), (StatusCode::OK, &json!([told])), "{body}");
    let (status, body) = bench.patch("pump-1", json!({ "tags": { "floor": 2 } })).await;
    assert_eq!((status, &body["warnings"]), (StatusCode::OK, &json!([told])), "{body}");
    let (status, body) = bench.patch("pump-1", json!({ "desired": { "config": { "spool": {} } } })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "the agent refuses all of it: {body}");
    let (status, body) = bench.patch("pump-1", json!({ "desired": rows_max(8) })).await;
    assert_eq!((status, body.get("warnings")), (StatusCode::OK, None), "{body}");
    let (status, body) = bench.patch("valve-1", json!({ "desired": { "mode": "eco" } })).await;
    let told = body["warnings"][0].as_str().unwrap();
    assert!(status == StatusCode::OK && told.contains("is read by the agent pump-1"), "{body}");
    assert_eq!(bench.twin("valve-1", "").await.get("warnings"), None, "of what is written");
    let (status, body) = bench.patch("valve-1", json!({ "desired": { "config": null } })).await;
    assert_eq!((status, body.get("warnings")), (StatusCode::OK, None), "{body}");
}

#[tokio::test]
async fn an_empty_configuration_is_one_too() {
    let bench = Bench::new();
    bench.member("pump-1", "pump-1", &[rows(500)]).await;
    bench.member("valve-1", "pump-1", &[rows(500)]).await;
    let mut record: DeviceRecord = bench.hub.metadata.find("valve-1").unwrap().unwrap();
    record.marks.site = "hall".to_owned();
    bench.hub.metadata.put("valve-1", &record).unwrap();
    for empty in [json!({}), json!({ "batch": {} })] {
        let patch = json!({ "desired": { "config": empty } });
        for path in ["/api/v1/devices/valve-1/twin", "/api/v1/groups/pumps/twin", "/api/v1/sites/hall/twin"] {
            let (status, body) = bench.local("PATCH", path, patch.clone()).await;
            assert_eq!(
                (status, &body["code"]),
                (StatusCode::BAD_REQUEST, &json!("bad-config")),
                "{path}: {body}"
            );
            assert!(body["detail"].as_str().unwrap().starts_with("/desired/config: "), "{body}");
        }
        assert_eq!(bench.patch("pump-1", patch).await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_template_that_no_agent_can_take_does_not_become_current() {
    let bench = Bench::new();
    bench.member("pump-1", "pump-1", &[rows(500)]).await;
    bench.member("pump-2", "pump-2", &[rows(50)]).await;
    let path = "/api/v1/config-templates/group/pumps";
    let put = async |rows: u64| {
        bench.local("PUT", path, json!({ "layer": { "batch": { "rows_max": rows } } })).await
    };
    let (status, body) = put(1_000).await;
    assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("bad-config")), "{body}");
    let told = [
        "pump-1: /desired/config/batch/rows_max: must be a whole number from 1 to 500",
        "pump-2: /desired/config/batch/rows_max: must be a whole number from 1 to 50",
    ];
    assert_eq!(body["errors"], json!(told));
    assert_eq!(body["detail"], json!(format!("none of its 2 agents can take it: {}", told.join("; "))));
    assert_eq!(bench.local("GET", path, Value::Null).await.0, StatusCode::NOT_FOUND);
    // One takes it, and the other one says why not.
    let (status, body) = put(400).await;
    assert_eq!((status, &body["template"]["current"]["version"]), (StatusCode::OK, &json!(1)), "{body}");
    assert_eq!(body["results"][0]["code"], Value::Null);
    assert_eq!(body["results"][1]["code"], json!("bad-config"));
    // What was current stays so, in twins too.
    assert_eq!(put(1_000).await.0, StatusCode::BAD_REQUEST);
    let (_, shown) = bench.local("GET", path, Value::Null).await;
    assert_eq!(shown["current"]["layer"]["batch"]["rows_max"], json!(400));
    assert_eq!(shown["earlier"], json!([]));
    assert_eq!(bench.twin("pump-1", "").await["desired"], rows_max(400));
    // A time that is over is told to who writes it.
    let over = json!({ "schedule": { "once": { "at": "2020-01-01T00:00:00Z" } } });
    let hall = "/api/v1/config-templates/site/hall";
    let (status, body) = bench.local("PUT", hall, json!({ "layer": over })).await;
    let told = "/desired/config/schedule/once: its time is over, and missed is skip: it will not run";
    assert_eq!((status, &body["warnings"][0]), (StatusCode::OK, &json!(told)), "{body}");
    // Where there is no agent yet, nobody says anything, which is told.
    let nobody = "/api/v1/config-templates/group/valves";
    let layer = json!({ "layer": { "batch": { "rows_max": 1_000 } } });
    let (status, body) = bench.local("PUT", nobody, layer).await;
    let warned = body["warnings"].as_array().unwrap();
    assert_eq!((status, warned.len()), (StatusCode::OK, 1), "{body}");
    assert!(warned[0].as_str().unwrap().starts_with("group/valves: it has no agent"), "{body}");
    assert_eq!(put(300).await.1.get("warnings"), None);
}

#[tokio::test]
async fn a_template_is_of_no_state_and_has_no_number_that_is_another_one() {
    let bench = Bench::new();
    let path = "/api/v1/config-templates/group/pumps";
    let put = async |header: (&str, &str), body: &str| {
        let mut ask = request("PUT", path, &[("content-type", "application/json"), header], None);
        *ask.body_mut() = Body::from(body.to_owned());
        let (answer, body) = bench.send(Door::Socket, ask).await;
        (answer.status().as_u16(), body)
    };
    let (status, body) = put(("if-match", "*"), "{\"layer\": {\"batch\": {\"rows_max\": 5}}}").await;
    assert_eq!((status, &body["code"]), (400, &json!("bad-etag")), "{body}");
    let great = "{\"layer\": {\"batch\": {\"rows_max\": 18446744073709551616}}}";
    let (status, body) = put(("x-a", "b"), great).await;
    assert_eq!((status, &body["code"]), (400, &json!("bad-value")), "{body}");
    let detail = body["detail"].as_str().unwrap();
    assert!(detail.starts_with("/layer/batch/rows_max: the number 18446744073709551616"), "{detail}");
    assert_eq!(bench.local("GET", path, Value::Null).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_patch_of_many_twins_warns_of_each() {
    let bench = Bench::new();
    let standing = json!({ "config": { "batch": { "rows_max": 5_000 } } });
    bench.member("pump-1", "pump-1", &[rows(500), (Section::Desired, standing)]).await;
    bench.member("pump-2", "pump-2", &[rows(500)]).await;
    let once = json!({ "schedules": { "once": { "kind": "sync", "at": "2020-01-01T00:00:00Z" } } });
    let both = json!(["pump-1", "pump-2"]);
    let body = json!({ "devices": both, "patch": { "desired": once } });
    let (status, body) = bench.local("PATCH", "/api/v1/twins", body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let over = "/desired/schedules/once: its time is over, and missed is skip: it will not run";
    let too_many = "/desired/config/batch/rows_max: must be a whole number from 1 to 500";
    assert_eq!(body["results"][0]["warnings"], json!([too_many, over]), "{body}");
    assert_eq!(body["results"][1]["warnings"], json!([over]), "{body}");
    let tags = json!({ "devices": both, "patch": { "tags": { "a": 1 } } });
    let (_, body) = bench.local("PATCH", "/api/v1/twins", tags).await;
    assert_eq!(
        (&body["results"][0]["warnings"], body["results"][1].get("warnings")),
        (&json!([too_many]), None)
    );
    // What is told of a long place is its begin and its end.
    let long = format!("{}end", "x".repeat(1_000));
    let (status, body) =
        bench.patch("pump-2", json!({ "desired": { "config": { long: { "a": 1 } } } })).await;
    let detail = body["detail"].as_str().unwrap();
    assert!(status == StatusCode::BAD_REQUEST && detail.starts_with("/desired/config/xxxxx"), "{detail}");
    let place = detail.split_once(": ").unwrap().0;
    assert!(place.chars().count() == 80 && place.ends_with("xend"), "{detail}");
}
