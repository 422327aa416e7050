//! Commands by the API, without an agent; `ingest/tests/commands.rs` has one.

use tideline_protocol::commands::{HubCommand, Order};
use tideline_protocol::wire::{CommandId, CommandState};

use super::*;
use crate::metadata::{
    CommandIndexRecord, CommandKeyRecord, CommandOutputRecord, CommandRecord, DeviceRecord,
};

fn bench() -> Bench {
    let bench = Bench::new();
    for device in ["gate", "pump"] {
        bench.hub.metadata.put(device, &DeviceRecord::behind("gate", 1)).unwrap();
    }
    tokio::spawn(crate::commands::run(Arc::clone(&bench.hub)));
    bench
}

fn write() -> Value {
    json!({"kind": "write", "input": {"point": "speed", "value": 3}, "priority": 7, "correlation_id": "job-1"})
}

#[tokio::test]
async fn a_command_is_taken_shown_listed_and_cancelled() {
    let bench = bench();
    let (status, made) = bench.local("POST", "/api/v1/devices/pump/commands", write()).await;
    assert_eq!((status, &made["state"]), (StatusCode::CREATED, &json!("queued")), "{made}");
    for (field, value) in [
        ("device", json!("pump")),
        ("agent", json!("gate")),
        ("author", json!("local")),
        ("input", write()["input"].clone()),
        ("correlation_id", json!("job-1")),
        ("attempts", json!(3)),
    ] {
        assert_eq!(made[field], value, "{field}");
    }
    let within_ms = made["deadline_ms"].as_i64().unwrap() - made["created_ms"].as_i64().unwrap();
    assert!((3_599_000..=3_600_000).contains(&within_ms), "{within_ms}");
    let path = format!("/api/v1/commands/{}", made["id"].as_str().unwrap());
    let (_, shown) = bench.local("GET", &path, Value::Null).await;
    assert_eq!((&shown["id"], &shown["output"]), (&made["id"], &json!("")));
    let (_, second) = bench.local("POST", "/api/v1/devices/pump/commands", json!({"kind": "sync"})).await;
    let (_, page) = bench.local("GET", "/api/v1/devices/pump/commands?limit=1", Value::Null).await;
    assert_eq!((&page["commands"][0]["id"], &page["next"]), (&second["id"], &second["id"]));
    let next = format!("/api/v1/devices/pump/commands?cursor={}", second["id"].as_str().unwrap());
    let (_, page) = bench.local("GET", &next, Value::Null).await;
    assert_eq!((&page["commands"][0]["id"], &page["next"]), (&made["id"], &Value::Null));
    for _ in 0..2 {
        let (status, ended) = bench.local("POST", &format!("{path}/cancel"), Value::Null).await;
        assert_eq!((status, &ended["state"]), (StatusCode::OK, &json!("cancelled")), "{ended}");
    }
    let metrics = crate::telemetry::commands(bench.hub.commands.counts());
    assert!(metrics.contains("tideline_hub_commands{state=\"queued\"} 1"), "{metrics}");
}

/// Reads a list to its end by pages, with new commands given after each.
async fn paged(bench: &Bench, path: &str, limit: usize) -> Vec<String> {
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = bench.local("GET", &format!("{path}?limit={limit}{cursor}"), Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        let commands = page["commands"].as_array().unwrap();
        ids.extend(commands.iter().map(|command| command["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { return ids };
        cursor = format!("&cursor={next}");
        bench.local("POST", "/api/v1/devices/pump/commands", json!({"kind": "sync"})).await;
    }
}

#[tokio::test]
async fn pages_neither_skip_nor_repeat_a_command_while_new_ones_come() {
    let bench = bench();
    for path in ["/api/v1/commands", "/api/v1/devices/pump/commands"] {
        for limit in 1..4 {
            for _ in 0..3 {
                bench.local("POST", "/api/v1/devices/pump/commands", json!({"kind": "sync"})).await;
            }
            let (_, all) = bench.local("GET", path, Value::Null).await;
            let all: Vec<_> =
                all["commands"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
            let found = paged(&bench, path, limit).await;
            let once: std::collections::BTreeSet<_> = found.iter().collect();
            assert_eq!(once.len(), found.len(), "{path} by {limit}");
            let found: Vec<_> = found.into_iter().map(Value::from).filter(|id| all.contains(id)).collect();
            assert_eq!(found, all, "{path} by {limit}");
        }
    }
}

#[tokio::test]
async fn a_cursor_that_is_none_is_refused() {
    let bench = bench();
    for path in ["/api/v1/commands", "/api/v1/devices/pump/commands"] {
        for cursor in ["", "zzz", "0", "%F0%9F%A6%86"] {
            let (status, body) = bench.local("GET", &format!("{path}?cursor={cursor}"), Value::Null).await;
            assert_eq!(
                (status.as_u16(), &body["code"]),
                (400, &json!("bad-cursor")),
                "{path} {cursor}: {body}"
            );
        }
    }
}

#[tokio::test]
async fn an_export_with_times_that_no_agent_reads_is_refused_when_it_is_given() {
    let bench = bench();
    let ask = async |input: Value| {
        let body = json!({"kind": "export", "input": input});
        let (status, body) = bench.local("POST", "/api/v1/devices/pump/commands", body).await;
        (status.as_u16(), body)
    };
    for input in [
        json!({"from": "-6h", "to": "now"}),
        json!({"from": "2026-01-01T00:00:00Z", "to": 1_800_000_000_000_i64}),
        json!({"from": null}),
        Value::Null,
    ] {
        let (status, body) = ask(input.clone()).await;
        assert_eq!((status, &body["input"]), (201, &if input.is_null() { json!({}) } else { input }));
    }
    for input in [json!({"from": "6h"}), json!({"to": "yesterday"}), json!({"to": true}), json!({"to": 1.5})]
    {
        let (status, body) = ask(input.clone()).await;
        assert_eq!((status, &body["code"]), (400, &json!("bad-command")), "{input}");
        assert!(body["detail"].as_str().unwrap().contains("is no time; allowed are"), "{body}");
    }
}

#[tokio::test]
async fn the_same_key_gives_the_same_command_and_is_of_one_device() {
    let bench = bench();
    let ask = async |device: &str, body: Value| {
        let path = format!("/api/v1/devices/{device}/commands");
        let asked = request("POST", &path, &[("idempotency-key", "k 1")], Some(body));
        let (response, body) = bench.send(Door::Socket, asked).await;
        (response.status().as_u16(), body)
    };
    let (first, again, other) =
        (ask("pump", write()).await, ask("pump", write()).await, ask("gate", write()).await);
    assert_eq!((first.0, again.0, other.0), (201, 200, 201));
    assert_eq!(first.1["id"], again.1["id"]);
    assert_ne!(first.1["id"], other.1["id"]);
    let (status, body) = ask("pump", json!({"kind": "restart"})).await;
    assert_eq!((status, &body["code"]), (409, &json!("key-used")));
}

#[tokio::test]
async fn the_same_key_gives_the_command_also_when_a_new_one_could_not_be_given_any_more() {
    let bench = bench();
    let ask = async |path: &str, body: Value| {
        let asked = request("POST", path, &[("idempotency-key", "k")], Some(body));
        let (response, body) = bench.send(Door::Socket, asked).await;
        (response.status().as_u16(), body)
    };
    let path = "/api/v1/devices/pump/commands";
    let first = ask(path, json!({"kind": "sync"})).await;
    // Its time is over, and the device was revoked meanwhile.
    let late = json!({"kind": "sync", "deadline_ms": 1});
    let again = ask(path, late.clone()).await;
    assert_eq!((first.0, again.0, &again.1["id"]), (201, 200, &first.1["id"]), "{}", again.1);
    let revoked = DeviceRecord { revoked: true, ..DeviceRecord::behind("gate", 1) };
    bench.hub.metadata.put("pump", &revoked).unwrap();
    assert_eq!(ask(path, json!({"kind": "sync"})).await.1["id"], first.1["id"]);
    let each = ask("/api/v1/commands", json!({"devices": ["pump", "gate"], "command": late})).await.1;
    assert_eq!(each["results"][0]["command"]["id"], first.1["id"], "{each}");
    assert_eq!(each["results"][1]["error"]["code"], "bad-command");
}

#[tokio::test]
async fn several_devices_are_asked_at_once_with_a_result_for_each() {
    let bench = bench();
    let body = json!({"devices": ["pump", "none", "gate"], "command": write()});
    let (status, answer) = bench.local("POST", "/api/v1/commands", body).await;
    assert_eq!(status, StatusCode::OK);
    let results = answer["results"].as_array().unwrap();
    assert_eq!((&results[0]["command"]["device"], &results[2]["device"]), (&json!("pump"), &json!("gate")));
    assert_eq!((&results[1]["error"]["code"], &results[1]["command"]), (&json!("not-found"), &Value::Null));
}

#[tokio::test]
async fn the_devices_of_a_group_or_a_site_are_asked_as_they_are_now_each_once() {
    let bench = bench();
    let marks = json!({"site": "north", "groups": ["pumps"], "tags": {"floor": "2"}});
    for device in ["gate", "pump"] {
        bench.local("PATCH", &format!("/api/v1/devices/{device}"), marks.clone()).await;
    }
    let ask = async |devices: Value| {
        let body = json!({"devices": devices, "command": write()});
        bench.local("POST", "/api/v1/commands", body).await
    };
    let devices = |answer: &Value| -> Vec<String> {
        let results = answer["results"].as_array().unwrap().iter();
        results.map(|one| one["command"]["device"].as_str().unwrap().to_owned()).collect()
    };
    for selector in ["@group=pumps", "@site=north", "@tag.floor=2", "@agent=gate"] {
        let (_, answer) = ask(json!(["pump", selector])).await;
        assert_eq!(devices(&answer), ["pump", "gate"], "{answer}");
    }
    bench.local("PATCH", "/api/v1/devices/gate", json!({"groups": []})).await;
    assert_eq!(devices(&ask(json!(["@group=pumps"])).await.1), ["pump"]);
    for (wrong, part) in [
        (json!(["@group=none"]), "@group=none: no device fits"),
        (json!(["@hall=2"]), "a selector is @site=…"),
        (json!([]), "0 devices; allowed are 1 to 1000"),
    ] {
        let (status, body) = ask(wrong).await;
        let told = (status, body["code"].as_str().unwrap());
        assert_eq!(told, (StatusCode::BAD_REQUEST, "bad-devices"));
        assert!(body["detail"].as_str().unwrap().contains(part), "{body}");
    }
}

#[tokio::test]
async fn who_hangs_up_has_given_the_command_to_all_and_the_same_key_gives_it_once() {
    let bench = bench();
    let devices: Vec<String> = (0..120).map(|n| format!("d{n:03}")).collect();
    for device in &devices {
        bench.hub.metadata.put(device, &DeviceRecord::behind("gate", 1)).unwrap();
    }
    let body = json!({"devices": devices, "command": write()});
    let asked = || request("POST", "/api/v1/commands", &[("idempotency-key", "k")], Some(body.clone()));
    {
        let mut first = std::pin::pin!(bench.send(Door::Socket, asked()));
        // It has begun, and nobody asks how it ends.
        while bench.hub.commands.counts()[0].1 == 0 {
            tokio::select! {
                biased;
                _ = &mut first => break,
                () = tokio::task::yield_now() => {}
            }
        }
    }
    let (_, answer) = bench.send(Door::Socket, asked()).await;
    let results = answer["results"].as_array().unwrap();
    assert!(results.iter().all(|one| one["error"].is_null()) && results.len() == 120, "{answer}");
    while bench.hub.commands.counts()[0].1 < 120 {
        tokio::task::yield_now().await;
    }
    let (_, page) = bench.local("GET", "/api/v1/commands?limit=1000", Value::Null).await;
    assert_eq!(page["commands"].as_array().unwrap().len(), 120);
}

#[tokio::test]
async fn commands_of_all_devices_are_listed_by_state_kind_device_author_and_time() {
    let bench = bench();
    let mut made = Vec::new();
    for (device, body) in
        [("pump", write()), ("gate", json!({"kind": "sync"})), ("pump", json!({"kind": "logs"}))]
    {
        let (_, command) = bench.local("POST", &format!("/api/v1/devices/{device}/commands"), body).await;
        made.push(command["id"].as_str().unwrap().to_owned());
    }
    let cancel = format!("/api/v1/commands/{}/cancel", made[1]);
    bench.local("POST", &cancel, Value::Null).await;
    for (asked, want) in [
        ("", vec![2, 1, 0]),
        ("?state=open", vec![2, 0]),
        ("?state=cancelled,failed", vec![1]),
        ("?kind=write,lo*", vec![2, 0]),
        ("?device=g*", vec![1]),
        ("?author=local&device=pump", vec![2, 0]),
        ("?author=ann", vec![]),
        ("?correlation=job-1", vec![0]),
        ("?from=-1h", vec![2, 1, 0]),
        ("?to=-1h", vec![]),
    ] {
        let (status, page) = bench.local("GET", &format!("/api/v1/commands{asked}"), Value::Null).await;
        let found: Vec<_> =
            page["commands"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
        let want: Vec<_> = want.into_iter().map(|at: usize| json!(made[at])).collect();
        assert_eq!((status, found, &page["next"]), (StatusCode::OK, want, &Value::Null), "{asked}");
    }
    let (_, page) = bench.local("GET", "/api/v1/commands?limit=2", Value::Null).await;
    assert_eq!(page["next"], made[1]);
    let (_, page) = bench.local("GET", &format!("/api/v1/commands?cursor={}", made[1]), Value::Null).await;
    assert_eq!((&page["commands"][0]["id"], &page["next"]), (&json!(made[0]), &Value::Null));
    for (asked, code) in [("state=done", "bad-state"), ("from=soon", "bad-time"), ("limit=0", "bad-limit")] {
        let (status, body) = bench.local("GET", &format!("/api/v1/commands?{asked}"), Value::Null).await;
        assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!(code)), "{asked}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_command_is_told_and_a_viewer_gives_none() {
    let bench = bench();
    for (body, part) in [
        (json!({"kind": ""}), "kind has 0 bytes"),
        (json!({"kind": "x", "within_s": 0}), "within a year"),
        (json!({"kind": "x", "within_s": 1, "deadline_ms": 5}), "allowed is one"),
        (json!({"kind": "x", "attempts": 17}), "1 to 16"),
        (json!({"kind": "x", "correlation_id": "y".repeat(129)}), "129 bytes"),
    ] {
        let (status, found) = bench.local("POST", "/api/v1/devices/pump/commands", body).await;
        let detail = found["detail"].as_str().unwrap();
        assert!(status == StatusCode::BAD_REQUEST && detail.contains(part), "{detail}");
    }
    for (method, path) in [
        ("POST", "/api/v1/devices/none/commands"),
        ("GET", "/api/v1/devices/none/commands"),
        ("GET", "/api/v1/commands/none"),
        ("POST", "/api/v1/commands/00000000000000000000000000000000/cancel"),
    ] {
        let (status, body) = bench.local(method, path, json!({"kind": "sync"})).await;
        assert_eq!((status, &body["code"]), (StatusCode::NOT_FOUND, &json!("not-found")), "{method} {path}");
    }
    let (_, made) = bench.local("POST", "/api/v1/tokens", json!({"name": "v", "role": "viewer"})).await;
    let bearer = format!("Bearer {}", made["token"].as_str().unwrap());
    let headers: [(&str, &str); 1] = [("authorization", &bearer)];
    let ask = |method, path, body| bench.send(Door::Plain, request(method, path, &headers, body));
    assert_eq!(ask("GET", "/api/v1/devices/pump/commands", None).await.0.status(), StatusCode::OK);
    let given = ask("POST", "/api/v1/devices/pump/commands", Some(write())).await;
    assert_eq!(given.0.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn viewers_see_no_secrets_of_commands_and_administrators_do() {
    let bench = bench();
    let wanted = [
        json!({"kind": "http", "input": {"url": "https://u:hush@a/b?token=hush"}}),
        json!({"kind": "http", "input": {"url": "https://a/b?token=hush"}}),
        json!({"kind": "run", "input": {"program": "p", "args": ["hush"]}}),
    ];
    let mut paths = vec!["/api/v1/devices/pump/commands".to_owned(), "/api/v1/commands".to_owned()];
    for body in wanted {
        let (_, made) = bench.local("POST", "/api/v1/devices/pump/commands", body).await;
        paths.push(format!("/api/v1/commands/{}", made["id"].as_str().unwrap()));
    }
    let mut told = Vec::new();
    for role in ["viewer", "admin"] {
        let (_, made) = bench.local("POST", "/api/v1/tokens", json!({"name": role, "role": role})).await;
        let bearer = format!("Bearer {}", made["token"].as_str().unwrap());
        for path in &paths {
            let asked = request("GET", path, &[("authorization", &bearer)], None);
            let (response, body) = bench.send(Door::Plain, asked).await;
            assert_eq!(response.status(), StatusCode::OK, "{role} {path}");
            assert_eq!(body.to_string().contains("hush"), role == "admin", "{role} {path} {body}");
            told.push(body["input"].clone());
        }
    }
    assert_eq!(told[3], json!({"url": "https://a/b?(set)"}));
    assert_eq!(told[4], json!({"program": "p", "args": "(set)"}));
}

#[tokio::test]
async fn commands_that_ended_too_long_ago_are_forgotten_with_all_that_is_kept_of_them() {
    const DAY_MS: i64 = 86_400_000;
    let bench = Bench::with(crate::config::Config { command_keep_days: 2, ..Config::default() });
    let metadata = &bench.hub.metadata;
    metadata.put("pump", &DeviceRecord::behind("gate", 1)).unwrap();
    let now_ms = bench.hub.now_ms();
    let put = |tag: u8, state: CommandState, ended_ms: Option<i64>| {
        let id = CommandId::from_bytes([tag; 16]);
        let order = Order {
            device: "pump".parse().unwrap(),
            agent: "gate".parse().unwrap(),
            kind: "sync".to_owned(),
            input: "{}".to_owned(),
            priority: 0,
            deadline_ms: now_ms + DAY_MS,
            attempts_max: 1,
            author: "ann".to_owned(),
            correlation: None,
        };
        let command = HubCommand { state, ended_ms, ..HubCommand::new(id, now_ms - 9 * DAY_MS, order) };
        let (id, key) = (id.to_string(), format!("key-{tag}"));
        metadata.put(&id, &CommandRecord { command }).unwrap();
        metadata.put(&format!("pump/{id}"), &CommandIndexRecord { key: Some(key.clone()) }).unwrap();
        metadata.put(&format!("pump/{key}"), &CommandKeyRecord { id: id.clone() }).unwrap();
        let output = CommandOutputRecord { bytes: "b2s=".to_owned() };
        metadata.put(&format!("{id}/{:010}/{:010}", 1, 0), &output).unwrap();
        id
    };
    let old = put(1, CommandState::Succeeded, Some(now_ms - 2 * DAY_MS - 60_000));
    let recent = put(2, CommandState::Failed, Some(now_ms - 2 * DAY_MS + 60_000));
    let open = put(3, CommandState::Queued, None);
    crate::commands::start(&bench.hub).await.unwrap();
    tokio::spawn(crate::commands::run(Arc::clone(&bench.hub)));
    while metadata.find::<CommandRecord>(&old).unwrap().is_some() {
        tokio::task::yield_now().await;
    }
    let counts = (
        metadata.list::<CommandRecord>().unwrap().len(),
        metadata.list::<CommandIndexRecord>().unwrap().len(),
        metadata.list::<CommandKeyRecord>().unwrap().len(),
        metadata.list::<CommandOutputRecord>().unwrap().len(),
    );
    assert_eq!(counts, (2, 2, 2, 2));
    let (_, page) = bench.local("GET", "/api/v1/devices/pump/commands", Value::Null).await;
    let left: Vec<_> = page["commands"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
    assert_eq!(left, [json!(open), json!(recent)]);
}

#[tokio::test]
async fn a_hub_that_starts_again_knows_its_commands() {
    let bench = bench();
    let (_, made) = bench.local("POST", "/api/v1/devices/pump/commands", write()).await;
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::new(
        bench.hub.config.clone(),
        Arc::clone(&bench.hub.clock),
        bench.hub.metadata.clone(),
        Twins::open(&folder.path().join(TWINS)).unwrap(),
        bench.hub.store.clone(),
        CertificateAuthority::create("test", bench.hub.now_ms() / 1000).unwrap(),
        Addresses::default(),
    )
    .unwrap();
    crate::commands::start(&hub).await.unwrap();
    assert_eq!(hub.commands.counts()[0].1, 1);
    let id = made["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(crate::commands::find(&hub, id).unwrap().unwrap().kind, "write");
}
