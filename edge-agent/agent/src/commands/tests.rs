//! The task with its journal on disk, spoken to as by a session.

use tideline_protocol::model::DeviceId;
use tideline_protocol::wire::{CommandState, Noted, OutputChunk, Progress};
use tideline_spool::SpoolConfig;
use tokio::time::timeout;

use super::*;
use crate::logs::Recent;
use crate::reload::Asker;
use crate::spooler::SpoolHandle;
use crate::status::Board;
use crate::sync::{Syncer, Wake};

const PATIENCE: Duration = Duration::from_secs(30);

struct Bench {
    folder: tempfile::TempDir,
    commands: Commands,
    task: JoinHandle<()>,
    said: UnboundedReceiver<ToHub>,
    restart: Restart,
    logs: Recent,
}

impl Bench {
    async fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap()).await
    }

    async fn on(folder: tempfile::TempDir) -> Self {
        let (board, restart, logs) = (Board::default(), Restart::default(), Recent::default());
        let config = SpoolConfig { quota_bytes: 1 << 20, flash_bytes_per_day: 0 };
        // Each start has a spool of its own; commands do not look into it.
        let path = folder.path().join(format!("spool-{}", std::fs::read_dir(folder.path()).unwrap().count()));
        let (spool, _) = SpoolHandle::start_streams(path, config, Vec::new(), board.clone()).unwrap();
        let syncer = Syncer { spool, board, wake: Wake::default() };
        let reload = Asker::new().0;
        let (writes, again) = (Default::default(), Some(restart.clone()));
        let hands = Hands { writes, syncer, reload, restart: again, logs: logs.clone() };
        let (commands, inbox) = Commands::new();
        let task = inbox.start(folder.path(), hands, 4).unwrap();
        let said = commands.connect().unwrap();
        Self { folder, commands, task, said, restart, logs }
    }

    fn learn_time(&self) {
        let clock = AgentClock::default();
        let offset_ns = clock.wall_ns().saturating_sub_unsigned(clock.mono_ns());
        self.commands.learn_time(offset_ns);
    }

    async fn next(&mut self) -> ToHub {
        timeout(PATIENCE, self.said.recv()).await.expect("a word in time").expect("a task that lives")
    }

    /// What is said of the next command that ends, with its output.
    async fn end(&mut self) -> (Progress, Vec<u8>) {
        let mut whole = Vec::new();
        loop {
            match self.next().await {
                ToHub::Progress(said) if said.state.is_final() => return (said, whole),
                ToHub::Progress(Progress { output: Some(OutputChunk { offset, bytes }), .. }) => {
                    assert_eq!(offset, whole.len() as u64);
                    whole.extend(bytes);
                }
                _ => {}
            }
        }
    }

    async fn give(&self, kind: &str, input: &str) -> CommandId {
        let mut random = [0; 10];
        getrandom::fill(&mut random).unwrap();
        let id = CommandId::made(AgentClock::default().wall_ns() / 1_000_000, random);
        self.commands.said(ToAgent::Command(command(id, kind, input))).await;
        id
    }

    /// As a kill of the agent, and its next start.
    async fn start_again(self) -> Self {
        self.task.abort();
        let _ended = self.task.await;
        Self::on(self.folder).await
    }
}

fn command(id: CommandId, kind: &str, input: &str) -> Command {
    Command {
        id,
        device: DeviceId::parse("pump").unwrap(),
        kind: kind.to_owned(),
        input: input.as_bytes().to_vec(),
        priority: 0,
        deadline_ms: AgentClock::default().wall_ns() / 1_000_000 + 600_000,
        author: "eve".to_owned(),
        attempt: 1,
    }
}

#[tokio::test]
async fn commands_that_cannot_be_done_say_why() {
    let mut bench = Bench::new().await;
    bench.learn_time();
    for (kind, input, code, part) in [
        ("dance", "{}", errors::UNKNOWN_KIND, "it knows write, sync"),
        ("write", "{}", errors::BAD_INPUT, "missing field `point`"),
        ("write", r#"{"point":"a b","value":1}"#, errors::BAD_INPUT, "allowed are"),
        ("write", r#"{"point":"a","value":[1]}"#, errors::BAD_INPUT, "allowed are true"),
        (
            "write",
            r#"{"point":"a","value":1}"#,
            errors::UNAVAILABLE,
            "no running source writes to device pump",
        ),
        ("reload", "[", errors::BAD_INPUT, "input of reload"),
        ("reload", "{}", errors::UNAVAILABLE, "ending"),
        ("logs", r#"{"colour":1}"#, errors::BAD_INPUT, "unknown field"),
    ] {
        let id = bench.give(kind, input).await;
        let (said, _) = bench.end().await;
        let error = said.error.expect("an error");
        assert_eq!(
            (said.id, said.state, error.code.as_str()),
            (id, CommandState::Failed, code),
            "{kind} {input}"
        );
        assert!(error.text.contains(part), "{kind} {input}: {}", error.text);
    }
}

#[tokio::test]
async fn the_newest_lines_of_the_log_are_output() {
    use std::io::Write as _;
    let mut bench = Bench::new().await;
    bench.learn_time();
    (0..300).for_each(|n| bench.logs.write_all(format!("line {n}\n").as_bytes()).unwrap());
    bench.give("logs", r#"{"lines":2}"#).await;
    let (said, output) = bench.end().await;
    assert_eq!(
        (said.state, output.as_slice()),
        (CommandState::Succeeded, b"line 298\nline 299\n".as_slice())
    );
    bench.give("logs", "{}").await;
    let (_, output) = bench.end().await;
    assert_eq!(output.iter().filter(|byte| **byte == b'\n').count(), 200);
}

#[tokio::test]
async fn nothing_begins_before_the_time_is_known_and_that_is_kept_over_a_restart() {
    let mut bench = Bench::new().await;
    let id = bench.give("sync", "{}").await;
    loop {
        if let ToHub::Progress(said) = bench.next().await {
            assert_eq!(said.state, CommandState::Delivered);
            break;
        }
    }
    assert_eq!(
        bench.commands.list().await.first().map(|shown| shown.state.clone()),
        Some("delivered".to_owned())
    );
    bench.learn_time();
    let (said, _) = bench.end().await;
    assert_eq!((said.id, said.state), (id, CommandState::Succeeded), "{:?}", said.error);
    // The start after it knows the time of this start of the machine.
    let mut bench = bench.start_again().await;
    bench.give("sync", "{}").await;
    assert_eq!(bench.end().await.0.id, id, "what ended before is said again first");
    assert_eq!(bench.end().await.0.state, CommandState::Succeeded);
}

#[tokio::test]
async fn a_restart_is_asked_for_once_and_told_as_done_by_the_next_start() {
    let bench = Bench::new().await;
    bench.learn_time();
    let id = bench.give("restart", "{}").await;
    timeout(PATIENCE, bench.restart.asked()).await.unwrap();
    let mut bench = bench.start_again().await;
    let (said, _) = bench.end().await;
    assert_eq!((said.id, said.state), (id, CommandState::Succeeded));
    let noted = Noted { id, attempt: said.attempt, number: said.number };
    bench.commands.said(ToAgent::Noted(noted)).await;
    assert_eq!(bench.commands.list().await.len(), 1);
    assert!(!bench.restart.is_asked());
}

#[tokio::test]
async fn a_write_that_is_under_way_when_the_agent_is_killed_is_not_begun_again() {
    let mut bench = Bench::new().await;
    bench.learn_time();
    // As if it was killed right after it noted that it begins: the journal says so, and nothing of how it ended.
    let id = bench.give("write", r#"{"point":"a","value":1}"#).await;
    assert_eq!(bench.end().await.0.id, id);
    bench.task.abort();
    let _ended = bench.task.await;
    let path = bench.folder.path().join(JOURNAL);
    {
        let (journal, held) = Journal::open(&path).unwrap();
        let mut kept = held.kept.into_iter().next().unwrap();
        kept.state = CommandState::Running;
        kept.error = None;
        let change = AgentChange::Put(id, kept.bytes());
        journal.commit(&[change]).unwrap();
    }
    let mut bench = Bench::on(bench.folder).await;
    let (said, _) = bench.end().await;
    assert_eq!(said.error.map(|error| error.code), Some(errors::INTERRUPTED.to_owned()));
}

#[tokio::test]
async fn a_command_that_has_ended_is_told_from_the_disk_when_it_is_sent_again() {
    let mut bench = Bench::new().await;
    bench.learn_time();
    let id = bench.give("logs", "{}").await;
    let said = bench.end().await.0;
    let noted = Noted { id, attempt: said.attempt, number: said.number };
    assert!(bench.commands.said(ToAgent::Noted(noted)).await);
    let mut bench = bench.start_again().await;
    let shown = bench.commands.list().await;
    assert_eq!(shown.first().map(|shown| shown.state.as_str()), Some("succeeded"));
    let ToHub::Journal(_) = bench.next().await else { panic!("nothing but the journal is told") };
    bench.learn_time();
    // As by a hub that was restored.
    bench.commands.said(ToAgent::Command(command(id, "logs", "{}"))).await;
    assert_eq!(bench.end().await.0.state, CommandState::Succeeded);
    assert_eq!(bench.commands.list().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_word_that_a_busy_journal_does_not_take_is_told_to_the_session() {
    let (commands, _inbox) = Commands::new();
    (0..EVENTS_MAX).for_each(|_| commands.learn_time(0));
    let noted = Noted { id: CommandId::from_bytes([1; 16]), attempt: 1, number: 1 };
    assert!(!commands.said(ToAgent::Noted(noted)).await);
    assert!(commands.connect().is_none(), "nor is it asked for again before there is room");
}

#[tokio::test]
async fn a_journal_that_is_damaged_is_put_aside_and_another_begun() {
    let mut bench = Bench::new().await;
    let ToHub::Journal(first) = bench.next().await else { panic!("the journal first") };
    bench.task.abort();
    let _ended = bench.task.await;
    std::fs::write(bench.folder.path().join(JOURNAL), b"not a database").unwrap();
    let mut bench = Bench::on(bench.folder).await;
    let ToHub::Journal(second) = bench.next().await else { panic!("the journal first") };
    assert_ne!(first.journal, second.journal);
    assert!(bench.folder.path().join("commands.damaged-1").exists());
}
