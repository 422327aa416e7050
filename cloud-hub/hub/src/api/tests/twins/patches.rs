//! Patches of twins by API: the standard's examples, where errors are, and what keeps a value of a conflict.

use std::collections::BTreeMap;

use tideline_protocol::wire::{DocumentId, TwinSync};
use tideline_twin::{Actor, Change, Link, Message, Section, Side, Twin, merge_patch};

use super::*;
use crate::twins::{Speaker, Turn, turn};

#[tokio::test]
async fn what_is_refused_is_told_with_its_place_as_a_json_pointer() {
    let bench = Bench::new();
    bench.device("valve-1", "");
    let (status, body) = bench.patch("valve-1", json!({"tags": {"n": {"$add": i64::MAX}}})).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let long = "x".repeat(9_000);
    for (body, expected) in [
        (json!({"desired": [1]}), "/desired: a merge patch of a section is an object"),
        (
            json!({"desired": {"a/b": {"c~d": {"$counter": "1"}}}}),
            "/desired/a~1b/c~0d: \"$counter\" cannot be",
        ),
        (json!({"notes": {"a": {"": 1}}}), "/notes/a/: a name in the key"),
        (json!({"tags": {"a": {"b": long}}}), "/tags/a/b: a value has 9000 bytes"),
        (json!({"tags": {"a": {"b": u64::MAX}}}), "/tags/a/b: the number 18446744073709551615"),
        (json!({"tags": {"a": {"b": {"$text": "x"}}}}), "/tags/a/b: text that merges is kept in notes"),
        (json!({"tags": {"s": {"$set": [[1]]}}}), "/tags/s: an element of a set is"),
        (json!({"tags": {"n": {"$add": 1}}}), "/tags/n: the counter stands at 9223372036854775807"),
        (json!({"tags": {"n": {"$add": u64::MAX}}}), "/tags/n: a counter takes whole numbers"),
        (json!({"desired": {"schedules": {"night": 1}}}), "/desired/schedules/night: must be of type object"),
        (json!({"tags": {"belongs_to": []}}), "/tags/belongs_to: is what the registry says"),
    ] {
        let (status, answer) = bench.patch("valve-1", body).await;
        let detail = answer["detail"].as_str().unwrap();
        assert!(status == StatusCode::BAD_REQUEST && detail.starts_with(expected), "{answer}");
    }
    assert_eq!(bench.twin("valve-1", "").await["tags"], json!({"n": {"$counter": i64::MAX}}));
}

/// The examples of RFC 7396, appendix A, each below a member: a section itself is always an object.
#[tokio::test]
async fn merge_patches_do_what_the_standards_examples_say() {
    let bench = Bench::new();
    for (n, (original, patch, result)) in [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        // Where the standard leaves an empty object, a twin has none: objects go with the last of their members.
        (json!({"a": "b"}), json!({"a": null}), Value::Null),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
        (json!({"a": "b"}), json!(["c"]), json!(["c"])),
        (json!({"a": "foo"}), Value::Null, Value::Null),
        (json!({"a": "foo"}), json!("bar"), json!("bar")),
        // The standard's target has {"e": null}, which no twin holds: null is what is absent, so that {} is written here.
        (json!({"e": null}), json!({"a": 1}), json!({"a": 1})),
        (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        // And what follows from its rules.
        (Value::Null, json!({}), json!({})),
        (Value::Null, json!({"a": {}}), json!({"a": {}})),
        (Value::Null, json!({"a": null}), json!({})),
        (json!({}), json!({}), json!({})),
        (json!({"a": 1}), json!({}), json!({"a": 1})),
        (json!(5), json!({}), json!({})),
        (json!({"$counter": 5}), json!({}), json!({})),
        (json!({"$set": [1]}), json!({"a": null}), json!({})),
        (json!({"$set": [1]}), json!({"a": {}}), json!({"a": {}})),
        (json!({"a": 1}), json!({"$set": []}), json!({"$set": []})),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("valve-{n}");
        bench.device(&id, "");
        let (first, _) = bench.patch(&id, json!({"tags": {"x": original}, "notes": {"other": 1}})).await;
        let (second, body) = bench.patch(&id, json!({"tags": {"x": patch}})).await;
        assert_eq!((first, second), (StatusCode::OK, StatusCode::OK), "{body}");
        assert_eq!(body["tags"]["x"], result, "{patch} on {original}");
        assert_eq!((&body["notes"], &body["conflicts"]), (&json!({"other": 1}), &json!(0)));
        // What is there already changes nothing.
        let (_, again) = bench.patch(&id, json!({"tags": {"x": {}}})).await;
        if result.is_object() && !result.to_string().contains('$') {
            assert_eq!(again["etag"], body["etag"], "{result}");
        }
    }
    for body in [json!({"tags": null}), json!({"tags": "bar"}), json!({"tags": ["c"]}), json!(null)] {
        assert!(bench.patch("valve-0", body).await.0.is_client_error());
    }
}

/// A session in which the device's agent tells what it has.
pub(super) async fn meet(bench: &Bench, agent: &str, device: &str, site: &mut Twin) {
    let who = Speaker { agent: AgentId::parse(agent).unwrap(), number: 1 };
    let document: DocumentId = device.parse().unwrap();
    let (mut link, mut links) = (Link::new("hub", site), BTreeMap::new());
    loop {
        let said = std::iter::from_fn(|| link.poll(site));
        let heard: Vec<_> = said
            .map(|message| TwinSync { document: document.clone(), message: message.to_bytes() })
            .collect();
        let is_over = heard.is_empty();
        let told = [document.clone()].into();
        let work = Turn { links, heard, told, ..Turn::default() };
        let turned = turn(Arc::clone(&bench.hub), who.clone(), work).await.unwrap();
        assert_eq!(turned.refused, Vec::<String>::new());
        if is_over && turned.say.is_empty() {
            return;
        }
        for sync in turned.say {
            let record = link.handle(site, &Message::from_bytes(&sync.message).unwrap()).unwrap();
            record.into_iter().for_each(|record| site.handle_durable(record.ticket));
        }
        links = turned.links;
    }
}

#[tokio::test]
async fn a_conflict_with_a_counter_or_an_empty_object_is_resolved_by_what_is_shown() {
    let bench = Bench::new();
    bench.device("valve-1", "");
    for (n, (here, there)) in
        [(json!(5), json!({"$add": 3})), (json!({}), json!({"$add": 3})), (json!({}), json!("x"))]
            .into_iter()
            .enumerate()
    {
        for kept in [0, 1] {
            let key = format!("k{n}{kept}");
            let mut site =
                Twin::new(Actor::new(Side::Agent, [u8::try_from(n * 2 + kept).unwrap() + 1; 15])).unwrap();
            let edits = merge_patch(Section::Tags, &json!({}), &json!({ &key: there })).unwrap();
            let record = site.edit(&Change { edits, author: "site".to_owned(), time_ms: 1 }).unwrap();
            record.into_iter().for_each(|record| site.handle_durable(record.ticket));
            bench.patch("valve-1", json!({"tags": { &key: here }})).await;
            meet(&bench, "gateway", "valve-1", &mut site).await;
            let found = bench.twin("valve-1", "/conflicts").await["conflicts"][0].clone();
            assert_eq!((&found["key"], found["values"].as_array().unwrap().len()), (&json!(key), 2));
            let value = found["values"][kept]["value"].clone();
            assert_eq!(found["values"][kept]["json"], json!(value.to_string()));
            let (status, body) = bench.patch("valve-1", json!({"tags": { &key: value }})).await;
            assert_eq!(
                (status, &body["tags"][&key], &body["conflicts"]),
                (StatusCode::OK, &value, &json!(0))
            );
        }
    }
}

impl Bench {
    /// Patches with a text as it is.
    async fn raw(&self, path: &str, text: String) -> (StatusCode, Value) {
        let mut ask = request("PATCH", path, &[("content-type", "application/json")], None);
        *ask.body_mut() = Body::from(text);
        let (answer, body) = self.send(Door::Socket, ask).await;
        (answer.status(), body)
    }
}

#[tokio::test]
async fn a_number_that_would_be_another_one_is_refused_wherever_it_stands() {
    let bench = Bench::new();
    bench.device("valve-1", "hall");
    for (at, value) in [
        ("/desired/a/b", "{\"a\": {\"b\": 18446744073709551616}}"),
        ("/desired/a/0/n", "{\"a\": [{\"n\": -9223372036854775809}]}"),
        ("/desired/a/$counter", "{\"a\": {\"$counter\": 99999999999999999999}}"),
    ] {
        for path in ["/api/v1/devices/valve-1/twin", "/api/v1/sites/hall/twin"] {
            let (answer, body) = bench.raw(path, format!("{{\"desired\": {value}}}")).await;
            assert_eq!((answer.as_u16(), &body["code"]), (400, &json!("bad-value")), "{body}");
            let detail = body["detail"].as_str().unwrap();
            assert!(detail.starts_with(&format!("{at}: the number")), "{detail}");
        }
    }
    let many = "{\"devices\": [\"valve-1\"], \"patch\": {\"tags\": {\"a\": 18446744073709551616}}}";
    let (answer, body) = bench.raw("/api/v1/twins", many.to_owned()).await;
    assert_eq!((answer.as_u16(), &body["code"]), (400, &json!("bad-value")), "{body}");
    // By its writer's will.
    let (answer, body) = bench
        .raw("/api/v1/devices/valve-1/twin", "{\"tags\": {\"a\": 1.8446744073709552e19}}".to_owned())
        .await;
    assert_eq!((answer.as_u16(), &body["tags"]["a"]), (200, &json!(1.844_674_407_370_955_2e19)), "{body}");
}

#[tokio::test]
async fn what_stands_twice_in_a_body_is_refused_with_its_place() {
    let bench = Bench::new();
    bench.device("valve-1", "");
    let bodies = [
        (
            "PATCH",
            "/api/v1/devices/valve-1/twin",
            r#"{"desired":{"a":1,"b":{"c":1,"c":2}}}"#,
            "/desired/b/c: ",
        ),
        ("PATCH", "/api/v1/devices/valve-1/twin", r#"{"desired":{"a":1},"desired":{"a":2}}"#, "/desired: "),
        (
            "POST",
            "/api/v1/devices/valve-1/commands",
            r#"{"kind":"write","input":{"value":1,"value":2}}"#,
            "/input/value: ",
        ),
    ];
    for (method, path, body, place) in bodies {
        let ask = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let (answer, body) = bench.send(Door::Socket, ask.body(body.into()).unwrap()).await;
        assert_eq!((answer.status().as_u16(), &body["code"]), (400, &json!("bad-value")), "{body}");
        let detail = body["detail"].as_str().unwrap();
        assert!(detail.starts_with(place) && detail.contains("stands twice in one object"), "{body}");
    }
    assert_eq!(bench.twin("valve-1", "").await["desired"], json!({}));
    for input in [json!([]), json!("point"), json!(1)] {
        let ask = request(
            "POST",
            "/api/v1/devices/valve-1/commands",
            &[],
            Some(json!({"kind": "sync", "input": input})),
        );
        let (answer, body) = bench.send(Door::Socket, ask).await;
        assert_eq!((answer.status().as_u16(), &body["code"]), (400, &json!("bad-command")), "{body}");
    }
}

#[tokio::test]
async fn a_patch_of_many_twins_is_of_no_state_of_one() {
    let bench = Bench::new();
    bench.device("valve-1", "");
    let body = json!({"devices": ["valve-1"], "patch": {"tags": {"a": 1}}});
    for tag in ["\"abc\"", "*"] {
        let ask = request("PATCH", "/api/v1/twins", &[("if-match", tag)], Some(body.clone()));
        let (answer, body) = bench.send(Door::Socket, ask).await;
        assert_eq!((answer.status().as_u16(), &body["code"]), (400, &json!("bad-etag")), "{body}");
        assert!(body["detail"].as_str().unwrap().starts_with("If-Match: an etag is of one twin"), "{body}");
    }
    assert_eq!(bench.twin("valve-1", "").await["tags"], json!({}));
}

#[tokio::test]
async fn a_text_that_merged_beyond_the_limit_is_patched_with_what_is_shown_and_cut_and_written_anew() {
    let bench = Bench::new();
    bench.device("valve-1", "");
    let mut site = Twin::new(Actor::new(Side::Agent, [1; 15])).unwrap();
    let text = |text: &str| json!({"notes": {"t": {"$text": text}}});
    bench.patch("valve-1", text("begun")).await;
    meet(&bench, "gateway", "valve-1", &mut site).await;
    let there = json!({"t": {"$text": "s".repeat(8_000)}});
    let edits = merge_patch(Section::Notes, &site.json(Section::Notes), &there).unwrap();
    let record = site.edit(&Change { edits, author: "site".to_owned(), time_ms: 1 }).unwrap();
    record.into_iter().for_each(|record| site.handle_durable(record.ticket));
    bench.patch("valve-1", text(&"h".repeat(8_000))).await;
    meet(&bench, "gateway", "valve-1", &mut site).await;
    let before = bench.twin("valve-1", "").await;
    let merged = before["notes"]["t"]["$text"].as_str().unwrap();
    assert_eq!(merged.len(), 16_000);
    let (status, body) = bench.patch("valve-1", json!({"notes": before["notes"]})).await;
    assert_eq!((status, &body["etag"]), (StatusCode::OK, &before["etag"]), "{body}");
    let (status, body) = bench.patch("valve-1", text(&format!("{merged}."))).await;
    assert_eq!((status.as_u16(), &body["code"]), (400, &json!("bad-value")), "{body}");
    for shorter in [&merged[1..], &"x".repeat(8_000)] {
        let (status, body) = bench.patch("valve-1", text(shorter)).await;
        assert_eq!((status, &body["notes"]["t"]["$text"]), (StatusCode::OK, &json!(shorter)), "{body}");
    }
    meet(&bench, "gateway", "valve-1", &mut site).await;
    assert_eq!(site.json(Section::Notes), json!({"t": {"$text": "x".repeat(8_000)}}));
}

#[tokio::test]
async fn history_stands_by_time_and_pages_go_on_where_they_were_when_something_came_between() {
    let bench = Bench::new();
    bench.device("valve-1", "");
    let ends = [1, 2, 3].map(|name| Twin::new(Actor::new(Side::Agent, [name; 15])).unwrap());
    // None knows of the other, and each tells what it wrote in turn: two, and later one from between.
    let writes: [&[(i64, &str)]; 3] = [&[(100, "a"), (400, "d")], &[(300, "c"), (500, "e")], &[(200, "b")]];
    let newest = "/history?order=newest&limit=2";
    let keys = |page: &Value| -> Vec<String> {
        page["steps"].as_array().unwrap().iter().map(|s| s["key"].as_str().unwrap().to_owned()).collect()
    };
    let mut cursors = Vec::new();
    for (mut site, writes) in ends.into_iter().zip(writes) {
        for (time_ms, key) in writes {
            let edits = merge_patch(Section::Tags, &json!({}), &json!({ *key: 1 })).unwrap();
            let record = site.edit(&Change { edits, author: "site".to_owned(), time_ms: *time_ms }).unwrap();
            record.into_iter().for_each(|record| site.handle_durable(record.ticket));
        }
        meet(&bench, "gateway", "valve-1", &mut site).await;
        cursors.push(bench.twin("valve-1", newest).await["next"].as_str().map(str::to_owned));
    }
    assert_eq!(keys(&bench.twin("valve-1", newest).await), ["e", "d"]);
    assert_eq!(keys(&bench.twin("valve-1", "/history").await), ["a", "b", "c", "d", "e"]);
    // The page that was asked for before "b" came begins with "c" all the same.
    let cursor = cursors[1].as_ref().unwrap();
    assert_eq!(keys(&bench.twin("valve-1", &format!("{newest}&cursor={cursor}")).await), ["c", "b"]);
}
