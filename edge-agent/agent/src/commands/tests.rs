//! The task with its journal on disk, spoken to as by a session.

mod reading;
mod request;

use std::sync::atomic::{AtomicUsize, Ordering};

use tideline_protocol::model::DeviceId;
use tideline_protocol::wire::{Cancel, CommandState, Noted, OutputChunk, Progress};
use tideline_spool::SpoolConfig;
use tokio::time::timeout;

use super::*;
use crate::config::{Jobs, Program};
use crate::logs::Recent;
use crate::reload::Asker;
use crate::source::Writes;
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
    writes: Writes,
    board: Board,
}

impl Bench {
    async fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap()).await
    }

    async fn on(folder: tempfile::TempDir) -> Self {
        Self::with(folder, Jobs::default()).await
    }

    async fn with(folder: tempfile::TempDir, jobs: Jobs) -> Self {
        let (board, restart, logs) = (Board::default(), Restart::default(), Recent::default());
        let config = SpoolConfig { quota_bytes: 1 << 20, flash_bytes_per_day: 0 };
        // Each start has a spool of its own; commands do not look into it.
        let path = folder.path().join(format!("spool-{}", std::fs::read_dir(folder.path()).unwrap().count()));
        let (spool, _) = SpoolHandle::start_streams(path, config, Vec::new(), board.clone()).unwrap();
        let syncer = Syncer { spool, board: board.clone(), wake: Wake::default() };
        let reload = Asker::new().0;
        let (writes, again) = (Writes::default(), Some(restart.clone()));
        let to_devices = writes.clone();
        let (_jobs, jobs) = watch::channel(Arc::new(jobs));
        let hub_ahead = HubAhead::default();
        let hands = Hands { writes, syncer, reload, restart: again, logs: logs.clone(), jobs, hub_ahead };
        let (commands, inbox) = Commands::new();
        let task = inbox.start(folder.path(), hands, 4, DeviceId::parse("gate").unwrap()).unwrap().0;
        let said = commands.connect().unwrap();
        Self { folder, commands, task, said, restart, logs, writes: to_devices, board }
    }

    fn learn_time(&self) {
        let clock = AgentClock::default();
        let offset_ns = clock.wall_ns().saturating_sub_unsigned(clock.mono_ns());
        self.commands.learn_time(offset_ns);
    }

    async fn commands(&self) -> Vec<CommandShown> {
        self.commands.list().await.expect("a task that lives").commands
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
        ("dance", "{}", errors::UNKNOWN_KIND, "it knows write, read, sync"),
        ("run", r#"{"program":"sh"}"#, errors::NOT_ALLOWED, "allowed are none"),
        ("http", r#"{"url":"http://127.0.0.1/"}"#, errors::NOT_ALLOWED, "allowed are none"),
        ("http", r#"{"url":"hush"}"#, errors::BAD_INPUT, "url: relative URL without a base"),
        ("http", r#"{"url":"http://u:hush@a:8/b?hush"}"#, errors::NOT_ALLOWED, "url: http://a:8/b is below"),
        ("export", "{}", errors::NOT_ALLOWED, "commands.export_dir is not set"),
        ("write", "{ }", errors::BAD_INPUT, "input of write: missing field `point`"),
        ("write", r#"{"point":"a b","value":1}"#, errors::BAD_INPUT, "allowed are"),
        ("write", r#"{"point":"a","value":[1]}"#, errors::BAD_INPUT, "allowed are true"),
        (
            "write",
            r#"{"point":"a","value":1}"#,
            errors::UNAVAILABLE,
            "no running source writes to device pump",
        ),
        ("read", "{}", errors::BAD_INPUT, "missing field `point`"),
        ("read", r#"{"point":"a"}"#, errors::UNAVAILABLE, "no running source reads device pump"),
        ("reload", "[", errors::BAD_INPUT, "input of reload: it is no object"),
        ("sync", "[]", errors::BAD_INPUT, "input of sync: it is no object"),
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
    assert_eq!(bench.commands().await.first().map(|shown| shown.state.clone()), Some("delivered".to_owned()));
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
    assert_eq!(bench.commands().await.len(), 1);
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
    // Heard after it, and so answered when it is durable.
    assert_eq!(bench.commands().await.len(), 1);
    let mut bench = bench.start_again().await;
    let shown = bench.commands().await;
    assert_eq!(shown.first().map(|shown| shown.state.as_str()), Some("succeeded"));
    let ToHub::Journal(_) = bench.next().await else { panic!("nothing but the journal is told") };
    bench.learn_time();
    // As by a hub that was restored.
    bench.commands.said(ToAgent::Command(command(id, "logs", "{}"))).await;
    assert_eq!(bench.end().await.0.state, CommandState::Succeeded);
    assert_eq!(bench.commands().await.len(), 1);
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

#[tokio::test]
async fn a_record_that_does_not_read_back_costs_itself_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(JOURNAL);
    let id = CommandId::made(5, [7; 10]);
    drop(Journal::open(&path).unwrap());
    {
        let ended: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("ended");
        let database = redb::Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut table = transaction.open_table(ended).unwrap();
            table.insert(id.as_bytes().as_slice(), b"?".as_slice()).unwrap();
        }
        transaction.commit().unwrap();
    }
    let mut bench = Bench::on(folder).await;
    bench.learn_time();
    for _ in 0..2 {
        bench.commands.said(ToAgent::Command(command(id, "sync", "{}"))).await;
        let (said, _) = bench.end().await;
        assert_eq!((said.id, said.error.unwrap().code.as_str()), (id, errors::UNKNOWN));
    }
    bench.give("sync", "{}").await;
    assert_eq!(bench.end().await.0.state, CommandState::Succeeded, "others go on");
    assert!(!bench.folder.path().join("commands.damaged-1").exists(), "and so does the journal");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_journal_is_no_answer_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::open(&folder.path().join(JOURNAL)).unwrap().0);
    let id = CommandId::from_bytes([1; 16]);
    let fail = |_: &Journal| -> anyhow::Result<()> { panic!("as redb does on some damaged files") };
    assert!(journal.on_thread(fail).await.is_err());
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let work = move |journal: &Journal| {
        assert!(counted.fetch_add(1, Ordering::Relaxed) > 0, "the first time");
        journal.ended(id)
    };
    assert!(matches!(journal.until_done("it fails", work).await, Looked::None));
    assert_eq!(tries.load(Ordering::Relaxed), 2);
}

fn shell(name: &str, script: &str) -> Program {
    Program {
        name: name.to_owned(),
        path: "/bin/sh".into(),
        args: vec!["-c".to_owned(), script.to_owned(), name.to_owned()],
        allow: vec!["-x".to_owned(), "*".to_owned()],
        user: None,
        timeout: Duration::from_secs(60),
        output_max: 1_000,
        memory_max: None,
    }
}

async fn bench_with(programs: Vec<Program>) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let export_dir = Some(folder.path().to_owned());
    let bench = Bench::with(folder, Jobs { programs, export_dir, ..Jobs::default() }).await;
    bench.learn_time();
    bench
}

#[tokio::test]
async fn a_program_gets_what_it_may_and_nothing_more_and_its_output_is_bounded() {
    let script = "echo \"$# $1\"; env | sort; test -z \"$HOME\" || exit 9";
    let long = "i=0; while [ $i -lt 500 ]; do echo 0123456789; i=$((i + 1)); done";
    let bad = "echo why >&2; exit 3";
    let mut bench = bench_with(vec![shell("say", script), shell("long", long), shell("bad", bad)]).await;
    // Nothing of it is read by a shell.
    bench.give("run", r#"{"program":"say","args":["a; exit 7 $(exit 8)"]}"#).await;
    let (said, output) = bench.end().await;
    assert_eq!((said.state, said.error), (CommandState::Succeeded, None));
    let text = String::from_utf8(output).unwrap();
    assert!(text.starts_with("1 a; exit 7 $(exit 8)\nLANG=C.UTF-8\nPATH="), "{text}");
    assert!(!text.contains("CARGO"), "{text}");
    bench.give("run", r#"{"program":"long"}"#).await;
    let (said, output) = bench.end().await;
    assert_eq!((said.state, output.len()), (CommandState::Succeeded, 1_000));
    assert!(String::from_utf8(said.result.unwrap()).unwrap().contains("\"output_left_out\":4500"));
    bench.give("run", r#"{"program":"bad"}"#).await;
    let (said, output) = bench.end().await;
    assert_eq!(
        (said.error.unwrap().text.as_str(), output.as_slice()),
        ("it ended with 3", b"why\n".as_slice())
    );
    bench.give("run", r#"{"program":"say","args":["-y"]}"#).await;
    let (said, _) = bench.end().await;
    assert_eq!(said.error.unwrap().code, errors::NOT_ALLOWED);
}

#[tokio::test]
async fn a_program_runs_as_its_user_and_for_one_that_is_none_nothing_begins() {
    let me = nix::unistd::geteuid();
    let own = nix::unistd::User::from_uid(me).unwrap().unwrap().name;
    // Only root may become another.
    let user = if me.is_root() { "nobody".to_owned() } else { own };
    let by = |name: &str, user: &str| Program { user: Some(user.to_owned()), ..shell(name, "id -un") };
    let mut bench = bench_with(vec![by("who", &user), by("none", "no such user")]).await;
    bench.give("run", r#"{"program":"who"}"#).await;
    let (said, output) = bench.end().await;
    assert_eq!((said.error, String::from_utf8(output).unwrap()), (None, format!("{user}\n")));
    bench.give("run", r#"{"program":"none"}"#).await;
    let (said, _) = bench.end().await;
    let error = said.error.unwrap();
    assert_eq!((error.code.as_str(), error.text.contains("no such user")), (errors::NOT_ALLOWED, true));
}

#[tokio::test]
async fn lines_of_a_program_that_are_percentages_tell_how_far_it_is_and_it_only_goes_up() {
    let script = "echo begins; echo '7 %'; printf '40'; printf '%%\\n'; echo 12%; printf ' 80%%\\r101%%\\n+90%%\\n'; \
                  echo '100% of it'; echo 9999999999999999999999999999999%";
    let mut bench = bench_with(vec![shell("far", script)]).await;
    bench.give("run", r#"{"program":"far"}"#).await;
    let mut told = Vec::new();
    loop {
        let ToHub::Progress(said) = bench.next().await else { continue };
        if said.state.is_final() {
            break;
        }
        told.extend(said.percent);
    }
    told.dedup();
    // What comes in one piece is told once.
    assert!(told.is_sorted() && told.last() == Some(&80), "{told:?}");
}

/// The process that has written its number there, as long as it lives.
fn lives(path: &Path) -> bool {
    let number = std::fs::read_to_string(path).unwrap_or_default();
    let state = std::fs::read_to_string(format!("/proc/{}/stat", number.trim())).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

/// Returns when it lives no more.
async fn gone(path: &Path) {
    let wait = async {
        while lives(path) {
            tokio::task::yield_now().await
        }
    };
    timeout(PATIENCE, wait).await.unwrap();
}

#[tokio::test]
async fn a_program_that_is_cancelled_or_takes_too_long_is_killed_with_what_it_has_started() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("child");
    let script = format!("sleep 1000 & echo $! > {path:?}; echo ready; wait");
    let mut bench = bench_with(vec![shell("wait", &script)]).await;
    let id = bench.give("run", r#"{"program":"wait"}"#).await;
    while !matches!(bench.next().await, ToHub::Progress(Progress { output: Some(_), .. })) {}
    assert!(lives(&path));
    bench.commands.said(ToAgent::Cancel(Cancel { id, attempt: 1 })).await;
    assert_eq!(bench.end().await.0.state, CommandState::Cancelled);
    gone(&path).await;
    bench.give("run", r#"{"program":"wait","timeout_ms":300}"#).await;
    assert_eq!(bench.end().await.0.error.unwrap().code, errors::TIMEOUT);
    gone(&path).await;
}

#[tokio::test]
async fn what_a_program_has_started_does_not_outlive_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("child");
    let script = format!("sleep 1000 & echo $! > {path:?}; echo left");
    let mut bench = bench_with(vec![shell("leave", &script)]).await;
    bench.give("run", r#"{"program":"leave"}"#).await;
    let (said, output) = bench.end().await;
    assert_eq!((said.state, output.as_slice()), (CommandState::Succeeded, b"left\n".as_slice()));
    gone(&path).await;
}

#[tokio::test]
async fn exports_have_a_limit_together_and_parts_of_them_do_not_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, part) = ("a".repeat(32), "b".repeat(32));
    let at = |name: String| folder.path().join(name);
    let (whole, part) = (at(format!("{whole}.csv")), at(format!("{part}.part")));
    let others = at("somebody.part".to_owned());
    std::fs::write(&whole, vec![b'x'; 912]).unwrap();
    [&part, &others].into_iter().for_each(|path| std::fs::write(path, vec![b'x'; 500]).unwrap());
    let export_dir = Some(folder.path().to_owned());
    let jobs = Jobs { export_dir, export_bytes: 1_000, ..Jobs::default() };
    let mut bench = Bench::with(tempfile::tempdir().unwrap(), jobs).await;
    bench.learn_time();
    // There is room for the first line of two, and then for none.
    for expected in [None, None, Some("commands.export_mb allows 1000: remove some")] {
        bench.give("export", "{}").await;
        let error = bench.end().await.0.error.map(|error| error.text);
        match expected {
            None => assert_eq!(error, None),
            Some(text) => assert!(error.as_ref().is_some_and(|error| error.contains(text)), "{error:?}"),
        }
    }
    assert_eq!((whole.exists(), part.exists(), others.exists()), (true, false, true));
}

#[tokio::test]
async fn readings_are_exported_to_a_file_of_the_device() {
    let mut bench = bench_with(Vec::new()).await;
    let id = bench.give("export", r#"{"from":"2026-01-01T00:00:00Z","to":1800000000000}"#).await;
    let (said, _) = bench.end().await;
    let result: serde_json::Value = serde_json::from_slice(&said.result.unwrap()).unwrap();
    let path = bench.folder.path().join(format!("{id}.csv"));
    assert_eq!(result, serde_json::json!({"path": path, "missing_batches": 0}));
    assert_eq!(std::fs::read_to_string(path).unwrap(), "seq,device,point,unit,time_ns,value,quality\n");
    bench.give("export", r#"{"from":"-6h","to":"now"}"#).await;
    assert_eq!(bench.end().await.0.error, None);
    for (input, code) in [
        (r#"{"from":"soon"}"#, errors::BAD_INPUT),
        (r#"{"to":"6h"}"#, errors::BAD_INPUT),
        (r#"{"format":"parquet"}"#, errors::BAD_INPUT),
        (r#"{"series":["a/b"]}"#, errors::FAILED),
    ] {
        bench.give("export", input).await;
        assert_eq!(bench.end().await.0.error.unwrap().code, code, "{input}");
    }
}
