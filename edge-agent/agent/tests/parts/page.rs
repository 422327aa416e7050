//! The local page as a browser finds it.

use edge_agent::cards::Cards;
use edge_agent::commands::Commands;
use edge_agent::page::Shown;
use edge_agent::serve;
use edge_agent::spooler::Portion;
use edge_agent::status::{Board, ClockStatus, DeviceStatus, SourceState};
use serde_json::json;
use tideline_protocol::model::{Sample, SeriesDef};

use crate::serve::{answer, ask};
use crate::{readings, spool, twin};

const BROWSER: [(&str, &str); 2] = [("Host", "localhost"), ("Accept", "text/html,*/*;q=0.8")];

fn portion(device: &str, point: &str, value: f64) -> Portion {
    let def = SeriesDef::new(device.parse().unwrap(), point.parse().unwrap(), "Cel".into());
    Portion { rows: vec![(def, vec![Sample { time_ns: 1_000, value }])], ..Portion::default() }
}

#[tokio::test]
async fn who_asks_for_a_page_gets_one_that_runs_nothing_of_others() {
    let board = Board::default();
    board.source("<b>plc</b>", |source| {
        source.state = SourceState::Degraded;
        source.last_error = Some("</code><script>alert(1)</script>".into());
        let device = DeviceStatus { id: "\"><i>".into(), state: "silent".into(), ..DeviceStatus::default() };
        source.devices.push(device);
    });
    board.newest().take(&[portion("pump-1", "temperature", 21.5)]);
    let (addr, task) = serve::page("127.0.0.1:0", board).await.unwrap();
    let page = answer(addr, "GET /", &BROWSER).await;
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    for header in ["content-security-policy: default-src 'none'; ", "text/html", "nosniff", "no-store"] {
        assert!(head.contains(header), "{header} is not in {head}");
    }
    assert!(!body.contains("<b>plc") && !body.contains("<script>") && !body.contains("\"><i>"), "{body}");
    for text in
        ["&lt;b&gt;plc&lt;/b&gt;", "degraded", "temperature", "<b>21.5</b> °C", "silent", "not reached"]
    {
        assert!(body.contains(text), "{text} is not in {body}");
    }
    for (path, part) in
        [("/page.css", ".facts"), ("/page.js", "PERIOD_MS"), ("/view", "<section id=\"now\">")]
    {
        let (status, body) = ask(addr, &format!("GET {path}"), &BROWSER).await;
        assert!(status == 200 && body.contains(part), "{path}");
    }
    // Who asks for none gets the status.
    let (status, body) = ask(addr, "GET /", &[("Host", "localhost")]).await;
    assert!(status == 200 && serde_json::from_str::<serde_json::Value>(&body).unwrap()["sources"].is_array());
    task.abort();
}

#[tokio::test]
async fn a_device_is_chosen_in_the_address_and_what_is_none_is_left_out() {
    let board = Board::default();
    for number in 0..100 {
        board.newest().take(&[portion("a", &format!("p{number}"), 1.0), portion("b", "speed", 2.5)]);
    }
    let (addr, task) = serve::page("127.0.0.1:0", board).await.unwrap();
    let view = async |query: &str| ask(addr, &format!("GET /view{query}"), &BROWSER).await.1;
    let all = view("").await;
    assert!(
        all.contains(">p99<") && !all.contains(">speed<") && all.contains("href=\"/?device=b\""),
        "{all}"
    );
    let one = view("?device=b").await;
    assert!(one.contains(">speed<") && !one.contains(">p99<"), "{one}");
    assert_eq!(view("?device=%3Cscript%3E&level=%22").await, all);
    let (_, json) = ask(addr, "GET /readings", &BROWSER).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["devices"][1]["readings"][0]["value"], 2.5);
    task.abort();
}

#[tokio::test]
async fn what_waits_is_told_with_the_age_of_the_oldest() {
    let (folder, board) = (tempfile::tempdir().unwrap(), Board::default());
    let spool = spool(folder.path(), &board);
    let mut shown = Shown::of(board);
    shown.spool = Some(spool.clone());
    let listener = serve::bind_page("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = serve::page_on(listener, shown, axum::Router::new());
    assert!(ask(addr, "GET /view", &BROWSER).await.1.contains("<b>0 readings</b>"));
    spool.append(readings(7), Vec::new()).await.unwrap();
    let (_, body) = ask(addr, "GET /view", &BROWSER).await;
    assert!(body.contains("<b>7 readings</b> the oldest of 1970-01-01T"), "{body}");
    assert!(body.contains("0 stored + 7 pending + 0 dropped + 0 refused"), "{body}");
    task.abort();
}

#[tokio::test]
async fn what_needs_somebody_is_told_first_and_all_is_well_otherwise() {
    let board = Board::default();
    let (addr, task) = serve::page("127.0.0.1:0", board.clone()).await.unwrap();
    board.update(|status| {
        (status.connected, status.epoch, status.hub) = (true, "e".into(), "hub:4433".into());
        (status.transport, status.rtt_ms) = (Some("quic".into()), Some(12.5));
        status.clock = ClockStatus::measured(2_500_000, 750_000);
    });
    let view = async || ask(addr, "GET /view", &BROWSER).await.1;
    let well = view().await;
    for text in ["All is well.", "hub:4433 over quic, round trip 12.5 ms", "ahead by 2.5 ± 0.8 ms"] {
        assert!(well.contains(text), "{text} is not in {well}");
    }
    board.update(|status| {
        status.spool.disk_full = true;
        status.config.needs_restart = vec!["http.listen".into()];
        status.clock = ClockStatus::measured(9_000_000_000, 750_000);
        status.drops.insert("quota".into(), 1_200);
    });
    board.source("bus", |source| {
        source.devices.push(DeviceStatus {
            id: "m".into(),
            state: "silent".into(),
            ..DeviceStatus::default()
        });
    });
    let ill = view().await;
    let troubles = [
        "The disk is full",
        "Needs a restart to change: http.listen",
        "Device m is silent",
        "clock of this machine is wrong",
    ];
    for text in troubles.into_iter().chain(["<b>1\u{202f}200 readings</b> quota"]) {
        assert!(ill.contains(text), "{text} is not in {ill}");
    }
    assert!(!ill.contains("All is well."));
    task.abort();
}

#[tokio::test]
async fn a_part_that_does_not_answer_is_told_of_and_the_rest_is_shown() {
    let mut shown = Shown::of(Board::default());
    // Nobody starts what has them: as a task that waits for its disk.
    let (commands, _inbox) = Commands::new();
    shown.commands = Some(commands);
    let listener = serve::bind_page("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = serve::page_on(listener, shown, axum::Router::new());
    let view = async || ask(addr, "GET /view", &BROWSER).await;
    for (status, body) in <[_; 3]>::from(tokio::join!(view(), view(), view())) {
        assert_eq!(status, 200);
        assert!(body.contains("<section id=\"commands\"><h2>Commands</h2>"), "{body}");
        assert!(body.contains("Not known now") && body.contains("<section id=\"log\">"), "{body}");
    }
    task.abort();
}

#[tokio::test]
async fn a_twin_with_more_differences_than_there_is_room_for_says_how_many_are_left_out() {
    let (folder, board) = (tempfile::tempdir().unwrap(), Board::default());
    let (spool, cards) = (spool(folder.path(), &board), Cards::default());
    let twins = twin::start(folder.path(), &spool, &cards, &board);
    for number in 0..30 {
        twin::put(&twins, "pump-7", &format!("k{number:02}"), json!("x".repeat(1_000))).await;
    }
    let mut shown = Shown::of(board);
    shown.twins = Some(twins);
    let listener = serve::bind_page("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = serve::page_on(listener, shown, axum::Router::new());
    let (_, body) = ask(addr, "GET /view", &BROWSER).await;
    assert!(body.contains("<p>10 more differ; all are in the JSON.</p>"), "{body}");
    assert!(body.contains(">k19<") && !body.contains(">k20<") && body.len() < 10_000, "{body}");
    task.abort();
}
