//! Commands over a session: handed out, told of, and never twice.

use tideline_protocol::commands::{HubCommand, Order};
use tideline_protocol::wire::{
    COMMANDS_ABILITY, Command, CommandState, Journal, JournalId, Noted, OutputChunk, Progress,
};

use super::*;
use crate::api::shapes::CommandPhase;
use crate::commands;
use crate::live::{Happening, Since};

const JOURNAL: JournalId = JournalId::from_bytes([5; 16]);

async fn connect(bench: &Bench, identity: &KeyAndCert) -> Agent {
    let Message::Hello(hello) = hello("gate", Vec::new()) else { panic!("a hello") };
    let capabilities = vec![COMMANDS_ABILITY.to_owned()];
    let mut agent =
        Agent::connect_with(bench, identity, Message::Hello(Hello { capabilities, ..hello })).await;
    assert_eq!(agent.welcome().await.capabilities, [COMMANDS_ABILITY]);
    agent
}

fn journal(journal: JournalId) -> Message {
    Message::Journal(Journal { journal, forgotten_ms: i64::MIN })
}

async fn order(bench: &Bench) -> HubCommand {
    let order = Order {
        device: DeviceId::parse("gate").unwrap(),
        agent: AgentId::parse("gate").unwrap(),
        kind: "sync".into(),
        input: "{}".into(),
        priority: 0,
        deadline_ms: bench.hub.now_ms() + 600_000,
        attempts_max: 1,
        author: "eve".into(),
        correlation: None,
    };
    commands::order(&bench.hub, order, None).await.unwrap().0
}

fn progress(command: &Command, number: u64, state: CommandState) -> Progress {
    let (id, attempt) = (command.id, command.attempt);
    Progress { id, attempt, number, state, percent: None, output: None, error: None, result: None }
}

async fn command(agent: &mut Agent) -> Command {
    match agent.next().await {
        Some(Message::Command(command)) => command,
        other => panic!("no command but {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_handed_out_once_the_journal_is_known_and_what_is_said_of_it_is_kept() {
    let bench = Bench::start();
    let identity = bench.enrol("gate");
    tokio::spawn(commands::run(Arc::clone(&bench.hub)));
    let start = bench.hub.live.end();
    let first = order(&bench).await;
    let mut agent = connect(&bench, &identity).await;
    agent.send(journal(JOURNAL)).await;
    let sent = command(&mut agent).await;
    assert_eq!((sent.id, sent.kind.as_str(), sent.attempt), (first.id, "sync", 1));
    // One that is given while the agent is there comes at once.
    let second = order(&bench).await;
    assert_eq!(command(&mut agent).await.id, second.id);
    let output = Some(OutputChunk { offset: 0, bytes: b"so far".to_vec() });
    let running = Progress { output, ..progress(&sent, 2, CommandState::Running) };
    let done =
        Progress { result: Some(b"{\"rows\":1}".to_vec()), ..progress(&sent, 3, CommandState::Succeeded) };
    for (said, number) in [(running, 2), (done.clone(), 3), (done, 3)] {
        agent.send(Message::Progress(said)).await;
        let noted = Noted { id: sent.id, attempt: 1, number };
        assert_eq!(agent.next().await, Some(Message::Noted(noted)));
    }
    let kept = commands::find(&bench.hub, first.id).unwrap().unwrap();
    assert_eq!((kept.state, kept.result.as_deref()), (CommandState::Succeeded, Some("{\"rows\":1}")));
    assert_eq!(commands::output(&bench.hub, &kept).unwrap(), b"so far");
    let Since::Events(events) = bench.hub.live.since(start) else { panic!("reset") };
    let told = events.iter().filter_map(|event| match &event.happening {
        Happening::Command(told) if told.id == first.id.to_string() => Some(told.state),
        _ => None,
    });
    // That it was sent is no other state.
    let states = [CommandPhase::Queued, CommandPhase::Queued, CommandPhase::Running, CommandPhase::Succeeded];
    assert_eq!(told.collect::<Vec<_>>(), states);
    // Cancelled while it runs: the agent is asked, and says how it ended.
    let asked = commands::cancel(&bench.hub, second.id).await.unwrap().unwrap();
    assert!(asked.cancel && !asked.state.is_final());
    assert!(matches!(agent.next().await, Some(Message::Cancel(cancel)) if cancel.id == second.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_word_was_lost_is_sent_again_and_a_wiped_agent_is_not_asked_twice() {
    let bench = Bench::start();
    let identity = bench.enrol("gate");
    tokio::spawn(commands::run(Arc::clone(&bench.hub)));
    let given = order(&bench).await;
    for _ in 0..2 {
        // The agent's end of the session goes before it has said a word of it.
        let mut agent = connect(&bench, &identity).await;
        agent.send(journal(JOURNAL)).await;
        assert_eq!(command(&mut agent).await.id, given.id);
    }
    let mut wiped = connect(&bench, &identity).await;
    wiped.send(journal(JournalId::from_bytes([6; 16]))).await;
    let next = order(&bench).await;
    assert_eq!(command(&mut wiped).await.id, next.id, "not the first one again");
    let lost = commands::find(&bench.hub, given.id).unwrap().unwrap();
    assert_eq!(lost.error.map(|error| error.code).as_deref(), Some("forgotten"));
}
