//! Commands that read a point, and what is counted of commands.

use tideline_protocol::model::PointId;
use tideline_protocol::value::{Quality, Value};

use super::*;
use crate::clock::Ahead;
use crate::source::reads::Found;
use crate::status::CommandsStatus;

#[tokio::test]
async fn a_read_tells_value_quality_and_time_and_why_there_is_none() {
    let mut bench = Bench::new().await;
    let right = Ahead::of(&AgentClock::default());
    bench.commands.learn_time(right.offset_ns);
    let reads = bench.writes.reads().clone();
    let (device, point) = (DeviceId::parse("pump").unwrap(), PointId::parse("speed").unwrap());
    let mut inbox = reads.inbox("bus".into());
    inbox.serve(&device);
    let slow = Some(Ahead { offset_ns: right.offset_ns - 3_600_000_000_000, ..right });
    for (found, result) in [
        (
            Found {
                value: Value::Float(4.5),
                quality: Quality::Good,
                time_ns: 1_700_000_000_123_456_789,
                clock: None,
            },
            r#"{"point":"speed","quality":"good","time_ms":1700000000123,"value":4.5}"#,
        ),
        (
            Found { value: Value::Null, quality: Quality::Bad, time_ns: -1, clock: None },
            r#"{"point":"speed","quality":"bad","time_ms":-1,"value":null}"#,
        ),
        (
            // By a clock here that the hub's is ahead of.
            Found { value: Value::Int(7), quality: Quality::Good, time_ns: 5_000_000, clock: slow },
            r#"{"point":"speed","quality":"good","time_ms":3600005,"value":7}"#,
        ),
    ] {
        bench.give("read", r#"{"point":"speed"}"#).await;
        let ask = timeout(PATIENCE, inbox.next()).await.unwrap();
        assert_eq!((&ask.device, &ask.point), (&device, &point));
        ask.answer(Some(found));
        let (said, _) = bench.end().await;
        assert_eq!(said.state, CommandState::Succeeded, "{:?}", said.error);
        let said: serde_json::Value = serde_json::from_slice(&said.result.unwrap()).unwrap();
        assert_eq!(said, serde_json::from_str::<serde_json::Value>(result).unwrap());
    }
    bench.give("read", r#"{"point":"speed"}"#).await;
    timeout(PATIENCE, inbox.next()).await.unwrap().failed("it does not answer");
    let error = bench.end().await.0.error.unwrap();
    assert_eq!((error.code.as_str(), error.text.as_str()), (errors::FAILED, "not read: it does not answer"));
    drop(inbox);
    reads.know(&device, &"broker".into());
    bench.give("read", r#"{"point":"speed"}"#).await;
    let error = bench.end().await.0.error.unwrap();
    assert_eq!(error.code, errors::NOT_ALLOWED);
    assert!(error.text.contains("source broker cannot ask device pump"), "{}", error.text);
}

#[tokio::test]
async fn a_read_waits_for_its_answer_no_longer_than_until_its_deadline() {
    let mut bench = Bench::new().await;
    bench.learn_time();
    let mut inbox = bench.writes.reads().inbox("bus".into());
    inbox.serve(&DeviceId::parse("pump").unwrap());
    let now_ms = AgentClock::default().wall_ns() / 1_000_000;
    let read = command(CommandId::made(now_ms, [7; 10]), "read", r#"{"point":"speed","timeout_ms":3600000}"#);
    let read = Command { deadline_ms: now_ms + 3_000, ..read };
    bench.commands.said(ToAgent::Command(read)).await;
    let unanswered = timeout(PATIENCE, inbox.next()).await.unwrap();
    assert_eq!(bench.end().await.0.error.unwrap().code, errors::TIMEOUT);
    drop(unanswered);
}

#[tokio::test]
async fn what_became_of_commands_is_counted_and_shown() {
    let mut bench = Bench::new().await;
    assert_eq!(bench.board.read().commands, CommandsStatus::default());
    bench.learn_time();
    let first = bench.give("sync", "{}").await;
    let (said, _) = bench.end().await;
    bench.give("dance", "{}").await;
    bench.end().await;
    bench.commands.said(ToAgent::Noted(Noted { id: first, attempt: 1, number: said.number })).await;
    bench.commands.said(ToAgent::Cancel(Cancel { id: CommandId::from_bytes([9; 16]), attempt: 1 })).await;
    assert_eq!(bench.end().await.0.state, CommandState::Cancelled, "it never came, which is no refusal");
    // Asked after these, it is answered after these.
    bench.commands.list().await;
    bench.give("sync", "{}").await;
    bench.end().await;
    let shown = bench.board.read().commands;
    assert_eq!(
        (shown.succeeded + shown.running, shown.failed, shown.cancelled, shown.declined),
        (2, 1, 0, 0)
    );
    let text = bench.board.read().metrics();
    for line in [
        "tideline_agent_commands_open{state=\"waiting\"} 0",
        "tideline_agent_commands_ended_total{state=\"failed\"} 1",
        "tideline_agent_commands_declined_total 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}
