//! The rules of both ends one by one, and all of them in a simulation with kills, cuts, wipes and restores.

mod world;

use std::collections::BTreeSet;

use self::world::{Fault, Trouble, World};
use super::*;
use crate::model::{AgentId, DeviceId};
use crate::wire::{
    Command, CommandError, CommandId, CommandState, Journal, JournalId, Noted, OUTPUT_BYTES_MAX, OutputChunk,
    Progress, ToAgent, ToHub,
};

const SEEDS: u64 = 400;

/// Runs a seed to its end; says in which states commands were when something was killed.
fn run(seed: u64, trouble: Trouble, fault: Fault) -> Result<BTreeSet<(CommandState, &'static str)>, String> {
    let mut world = World::new(seed, trouble, fault);
    for _ in 0..600 {
        world.step()?;
    }
    world.settle()?;
    world.check()?;
    Ok(world.killed)
}

#[test]
fn whatever_is_killed_a_command_runs_at_most_once_and_both_ends_agree() {
    let mut killed = BTreeSet::new();
    for trouble in [Trouble::Kills, Trouble::Wipes, Trouble::Restores] {
        for seed in 0..SEEDS {
            match run(seed, trouble, Fault::None) {
                Ok(seen) => killed.extend(seen),
                Err(error) => panic!("SEED={seed} {trouble:?}: {error}"),
            }
        }
    }
    for state in CommandState::ALL {
        for whom in ["hub", "agent", "line", "wipe", "restore"] {
            assert!(killed.contains(&(state, whom)), "no {state} command met a {whom} that was lost");
        }
    }
}

#[test]
fn canaries_are_found() {
    for (fault, trouble) in [
        (Fault::BeginsBeforeItIsDurable, Trouble::Kills),
        (Fault::ForgetsAtOnce, Trouble::Restores),
        (Fault::ForgetsWithoutNoting, Trouble::Restores),
        (Fault::SendsBeforeNoting, Trouble::Wipes),
    ] {
        let ran_twice = |seed| run(seed, trouble, fault).is_err_and(|error| error.contains(" times"));
        // The rarest is met once in hundreds of seeds.
        assert!((0..SEEDS * 10).any(ran_twice), "{fault:?} is not found by {trouble:?}");
    }
}

const ID: CommandId = CommandId::from_bytes([1; 16]);
const JOURNAL: JournalId = JournalId::from_bytes([9; 16]);

fn command(id: u8, priority: u8, deadline_ms: i64) -> Command {
    Command {
        id: CommandId::from_bytes([id; 16]),
        device: DeviceId::parse("pump").unwrap(),
        kind: "once".into(),
        input: b"{}".to_vec(),
        priority,
        deadline_ms,
        author: "eve".into(),
        attempt: 1,
    }
}

fn agent(running_max: usize) -> AgentCommands {
    let mut agent =
        AgentCommands::open(JOURNAL, i64::MIN, [], [], Limits::running(running_max), |_| Repeat::Never);
    agent.handle_connected();
    agent
}

/// All steps, with every commit made.
fn steps(agent: &mut AgentCommands) -> Vec<AgentStep> {
    let mut steps = Vec::new();
    while let Some(step) = agent.poll() {
        if matches!(step, AgentStep::Commit(_)) {
            agent.handle_committed();
        }
        steps.push(step);
    }
    steps
}

fn said(steps: &[AgentStep]) -> Vec<(CommandState, Option<String>)> {
    let said = steps.iter().filter_map(|step| match step {
        AgentStep::Say(ToHub::Progress(said)) => {
            Some((said.state, said.error.as_ref().map(|e| e.code.clone())))
        }
        _ => None,
    });
    said.collect()
}

#[test]
fn nothing_is_said_or_begun_before_it_is_durable() {
    let mut agent = agent(1);
    assert_eq!(
        agent.poll(),
        Some(AgentStep::Say(ToHub::Journal(Journal { journal: JOURNAL, forgotten_ms: i64::MIN })))
    );
    agent.handle_said(Some(5), ToAgent::Command(command(1, 0, 100)), None);
    assert!(matches!(agent.poll(), Some(AgentStep::Commit(_))));
    assert_eq!(agent.poll(), None);
    agent.handle_committed();
    let rest = steps(&mut agent);
    assert!(rest.contains(&AgentStep::Begin(command(1, 0, 100))));
    assert_eq!(said(&rest), [(CommandState::Delivered, None), (CommandState::Running, None)]);
}

#[test]
fn the_highest_priority_begins_first_and_no_more_than_may_run() {
    let mut agent = agent(2);
    (1..=4).for_each(|id| agent.handle_said(None, ToAgent::Command(command(id, id, 100)), None));
    let begun = |steps: &[AgentStep]| {
        let ids = steps.iter().filter_map(|step| match step {
            AgentStep::Begin(command) => Some(command.priority),
            _ => None,
        });
        ids.collect::<Vec<u8>>()
    };
    assert_eq!(begun(&steps(&mut agent)), [0_u8; 0], "nobody knows the time yet");
    agent.handle_time(Some(5));
    assert_eq!(begun(&steps(&mut agent)), [4, 3]);
    agent.handle_ended(Some(6), CommandId::from_bytes([3; 16]), Ended::Succeeded(None));
    assert_eq!(begun(&steps(&mut agent)), [2]);
    agent.handle_time(Some(100));
    assert_eq!(said(&steps(&mut agent)), [(CommandState::Expired, None)]);
}

#[test]
fn after_a_kill_a_command_that_was_begun_is_told_by_its_kind() {
    for (repeat, expected) in [
        (Repeat::Never, (CommandState::Failed, Some(errors::INTERRUPTED.to_owned()))),
        (Repeat::Done, (CommandState::Succeeded, None)),
        (Repeat::Again, (CommandState::Delivered, None)),
    ] {
        let mut first = agent(1);
        first.handle_said(Some(5), ToAgent::Command(command(1, 0, 100)), None);
        let changes = steps(&mut first).into_iter().filter_map(|step| match step {
            AgentStep::Commit(changes) => Some(changes),
            _ => None,
        });
        let mut bytes = changes.flatten().filter_map(|change| match change {
            AgentChange::Put(_, bytes) => Some(bytes),
            _ => None,
        });
        let kept = Kept::read(&bytes.next_back().unwrap()).unwrap();
        let mut second = AgentCommands::open(JOURNAL, i64::MIN, [kept], [], Limits::running(1), |_| repeat);
        second.handle_connected();
        assert_eq!(said(&steps(&mut second)), [expected], "{repeat:?}");
        // Asked again, it says the same.
        second.handle_said(None, ToAgent::Command(command(1, 0, 100)), None);
        assert_eq!(said(&steps(&mut second)).len(), 1);
        // What began in time and is to begin again too late has not merely expired.
        second.handle_time(Some(100));
        let late = said(&steps(&mut second));
        let failed = (CommandState::Failed, Some(errors::INTERRUPTED.to_owned()));
        assert_eq!(late, if repeat == Repeat::Again { vec![failed] } else { vec![] });
    }
}

#[test]
fn output_is_bounded_and_goes_ahead_of_the_end() {
    let mut agent = agent(1);
    agent.handle_said(Some(5), ToAgent::Command(command(1, 0, 100)), None);
    steps(&mut agent);
    let piece = vec![7; 100_000];
    let taken: Vec<usize> = (0..4).map(|_| agent.handle_output(ID, &piece)).collect();
    assert_eq!(taken, [100_000, 100_000, 62_144, 0]);
    steps(&mut agent);
    agent.handle_ended(Some(6), ID, Ended::Succeeded(Some(b"1".to_vec())));
    steps(&mut agent);
    agent.handle_connected();
    let again = steps(&mut agent);
    let mut next = 0;
    for step in &again {
        let AgentStep::Say(ToHub::Progress(Progress {
            output: Some(OutputChunk { offset, bytes }),
            state,
            ..
        })) = step
        else {
            continue;
        };
        assert_eq!((*offset, *state), (next, CommandState::Running));
        next += bytes.len() as u64;
    }
    assert_eq!(next, OUTPUT_BYTES_MAX);
    assert_eq!(said(&again).last(), Some(&(CommandState::Succeeded, None)));
    let number = again.iter().rev().find_map(|step| match step {
        AgentStep::Say(ToHub::Progress(said)) => Some(said.number),
        _ => None,
    });
    agent.handle_said(Some(7), ToAgent::Noted(Noted { id: ID, attempt: 1, number: number.unwrap() }), None);
    assert!(
        matches!(steps(&mut agent).as_slice(), [AgentStep::Commit(_)]),
        "the output is not needed any more"
    );
}

/// The record of a command that was just ended and noted, as it is on the disk.
fn end(agent: &mut AgentCommands, id: CommandId) -> Kept {
    agent.handle_ended(Some(9), id, Ended::Succeeded(None));
    agent.handle_said(Some(9), ToAgent::Noted(Noted { id, attempt: 1, number: u64::MAX }), None);
    let ended = steps(agent).into_iter().find_map(|step| match step {
        AgentStep::Commit(changes) => changes.into_iter().find_map(|change| match change {
            AgentChange::End(_, bytes) => Some(bytes),
            _ => None,
        }),
        _ => None,
    });
    Kept::read(&ended.expect("its end is written")).unwrap()
}

const FAR_MS: i64 = 1 << 40;

fn made(ms: i64) -> Command {
    Command { id: CommandId::made(ms, [3; 10]), ..command(0, 0, FAR_MS) }
}

#[test]
fn what_has_ended_takes_no_room_and_what_is_open_is_bounded() {
    let mut agent = agent(1);
    let first = CommandId::made(1, [3; 10]);
    for n in 1..=OPEN_MAX {
        agent.handle_said(Some(5), ToAgent::Command(made(n as i64)), None);
        steps(&mut agent);
    }
    let late = made(1 << 30);
    agent.handle_said(Some(5), ToAgent::Command(late.clone()), None);
    let busy = (CommandState::Failed, Some(errors::BUSY.to_owned()));
    assert_eq!(said(&steps(&mut agent)), [busy]);
    let kept = end(&mut agent, first);
    agent.handle_said(Some(11), ToAgent::Command(late), None);
    assert!(said(&steps(&mut agent)).contains(&(CommandState::Delivered, None)));
    // Sent again by a hub that was restored, it is looked for on the disk, and told.
    let again = ToAgent::Command(made(1));
    assert_eq!(agent.lacks(&again), Some(first));
    agent.handle_said(Some(11), again, Some(kept));
    assert_eq!(said(&steps(&mut agent)), [(CommandState::Succeeded, None)]);
}

#[test]
fn what_was_forgotten_is_not_begun_when_it_comes_again_and_what_is_newer_is() {
    let limits = Limits { ended_max: 1, ..Limits::running(1) };
    let mut agent = AgentCommands::open(JOURNAL, i64::MIN, [], [], limits, |_| Repeat::Never);
    agent.handle_connected();
    for ms in [10, 20, 30] {
        agent.handle_said(Some(5), ToAgent::Command(made(ms)), None);
        steps(&mut agent);
        end(&mut agent, made(ms).id);
    }
    agent.handle_time(Some(10));
    let forgotten = |step: &AgentStep| match step {
        AgentStep::Commit(changes) => changes.contains(&AgentChange::Forgotten(20)),
        _ => false,
    };
    assert!(steps(&mut agent).iter().any(forgotten), "or it did with the ends");
    let refused = (CommandState::Failed, Some(errors::FORGOTTEN.to_owned()));
    for ms in [10, 20] {
        agent.handle_said(Some(10), ToAgent::Command(made(ms)), None);
        assert_eq!(said(&steps(&mut agent)).first(), Some(&refused), "{ms}");
    }
    agent.handle_said(Some(10), ToAgent::Command(made(25)), None);
    assert!(said(&steps(&mut agent)).contains(&(CommandState::Running, None)));
    // Long after its end it is forgotten, whatever its deadline.
    end(&mut agent, made(25).id);
    agent.handle_time(Some(9 + ENDED_KEEP_MS));
    steps(&mut agent);
    agent.handle_said(Some(10), ToAgent::Command(made(30)), None);
    assert_eq!(said(&steps(&mut agent)), [refused]);
}

#[test]
fn what_was_made_while_the_hubs_clock_was_ahead_bars_nothing_that_is_made_later() {
    let limits = Limits { ended_max: 2, ..Limits::running(1) };
    let mut agent = AgentCommands::open(JOURNAL, i64::MIN, [], [], limits, |_| Repeat::Never);
    agent.handle_connected();
    let run = |agent: &mut AgentCommands, ms: i64, now_ms: i64| {
        agent.handle_said(Some(now_ms), ToAgent::Command(made(ms)), None);
        assert!(said(&steps(agent)).contains(&(CommandState::Running, None)), "{ms}");
        end(agent, made(ms).id);
        agent.handle_time(Some(now_ms));
    };
    run(&mut agent, 500, 500);
    // The clock is right again.
    for ms in [10, 20, 30, 40] {
        run(&mut agent, ms, ms + 1);
    }
    let refused = (CommandState::Failed, Some(errors::FORGOTTEN.to_owned()));
    agent.handle_said(Some(41), ToAgent::Command(made(30)), None);
    assert_eq!(said(&steps(&mut agent)).first(), Some(&refused));
    assert_eq!(agent.lacks(&ToAgent::Command(made(500))), Some(made(500).id), "its record is on the disk");
    assert!(!steps(&mut agent).iter().any(|step| matches!(step, AgentStep::Commit(_))));
    // When that time has come, it is as old as it always was.
    for ms in [600, 601] {
        run(&mut agent, ms, ms + 1);
    }
    agent.handle_said(Some(700), ToAgent::Command(made(500)), None);
    assert_eq!(said(&steps(&mut agent)).first(), Some(&refused));
}

#[test]
fn what_was_made_while_the_hubs_clock_was_ahead_and_ended_after_it_bars_nothing_when_it_is_old() {
    let mut agent = agent(1);
    agent.handle_connected();
    let run = |agent: &mut AgentCommands, ms: i64, now_ms: i64| {
        agent.handle_said(Some(now_ms), ToAgent::Command(made(ms)), None);
        assert!(said(&steps(agent)).contains(&(CommandState::Running, None)), "{ms}");
        end(agent, made(ms).id);
    };
    run(&mut agent, 3 * ENDED_KEEP_MS, 9);
    run(&mut agent, 5, 9);
    agent.handle_time(Some(9 + ENDED_KEEP_MS));
    steps(&mut agent);
    run(&mut agent, 20, 9 + ENDED_KEEP_MS);
    // What is behind it in order, and old, is forgotten all the same.
    let refused = (CommandState::Failed, Some(errors::FORGOTTEN.to_owned()));
    agent.handle_said(Some(9 + ENDED_KEEP_MS), ToAgent::Command(made(5)), None);
    assert_eq!(said(&steps(&mut agent)).first(), Some(&refused));
}

#[test]
fn what_does_not_read_back_is_answered_and_not_begun() {
    let mut agent = agent(1);
    agent.handle_connected();
    steps(&mut agent);
    let unknown = (CommandState::Failed, Some(errors::UNKNOWN.to_owned()));
    for of in
        [ToAgent::Command(made(10)), ToAgent::Cancel(crate::wire::Cancel { id: made(10).id, attempt: 1 })]
    {
        agent.handle_unreadable(&of);
        assert_eq!(said(&steps(&mut agent)).first(), Some(&unknown));
    }
    assert_eq!((agent.running(), agent.counts().declined), (0, 2));
}

#[test]
fn a_further_attempt_of_what_may_have_had_effects_is_the_same_run() {
    let mut agent = agent(1);
    agent.handle_said(Some(5), ToAgent::Command(made(10)), None);
    steps(&mut agent);
    let second = || ToAgent::Command(Command { attempt: 2, ..made(10) });
    agent.handle_said(Some(5), second(), None);
    let again = steps(&mut agent);
    assert!(!again.iter().any(|step| matches!(step, AgentStep::Begin(_))));
    assert_eq!(said(&again), [(CommandState::Running, None)]);
    agent.handle_ended(Some(9), made(10).id, Ended::Succeeded(None));
    let ended = steps(&mut agent).into_iter().find_map(|step| match step {
        AgentStep::Say(ToHub::Progress(said)) => Some((said.attempt, said.state)),
        _ => None,
    });
    assert_eq!(ended, Some((2, CommandState::Succeeded)), "as the attempt that the hub is in");
}

/// A hub with one command that its agent was sent.
fn hub_that_sent() -> (HubCommands, AgentId) {
    let mut hub = HubCommands::default();
    let order = world::order("once", 1_000_000);
    let agent = order.agent.clone();
    hub.handle_created(0, HubCommand::new(ID, 0, order));
    hub.handle_entered(&agent, 1);
    hub.handle_said(0, &agent, 1, ToHub::Journal(Journal { journal: JOURNAL, forgotten_ms: i64::MIN }));
    assert_eq!(words(&mut hub).len(), 1, "it is sent");
    (hub, agent)
}

/// What is said, and to whom, with every commit made.
fn words(hub: &mut HubCommands) -> Vec<(AgentId, ToAgent)> {
    let mut words = Vec::new();
    while let Some(step) = hub.poll() {
        match step {
            HubStep::Commit(_) => hub.handle_committed(),
            HubStep::Say(agent, _, said) => words.push((agent, said)),
        }
    }
    words
}

fn progress(state: CommandState, number: u64, code: Option<&str>) -> ToHub {
    let error = code.map(|code| CommandError::new(code, "no"));
    let (id, attempt, percent, output, result) = (ID, 1, None, None, None);
    ToHub::Progress(Progress { id, attempt, number, state, percent, output, error, result })
}

#[test]
fn a_word_that_was_not_heard_is_said_again_in_the_same_session() {
    let (mut hub, agent) = hub_that_sent();
    let journal = || ToHub::Journal(Journal { journal: JOURNAL, forgotten_ms: i64::MIN });
    hub.handle_said(1, &agent, 1, journal());
    assert!(matches!(words(&mut hub).as_slice(), [(_, ToAgent::Command(again))] if again.id == ID));
    hub.handle_said(2, &agent, 1, progress(CommandState::Delivered, 1, None));
    hub.handle_said(2, &agent, 1, journal());
    assert!(matches!(words(&mut hub).as_slice(), [(_, ToAgent::Noted(_))]), "now it was heard");
}

#[test]
fn what_an_agent_had_and_lacks_is_asked_for_and_not_sent_again() {
    let (mut hub, agent) = hub_that_sent();
    hub.handle_said(1, &agent, 1, progress(CommandState::Running, 2, None));
    hub.handle_entered(&agent, 2);
    hub.handle_said(2, &agent, 2, ToHub::Journal(Journal { journal: JOURNAL, forgotten_ms: i64::MIN }));
    assert!(matches!(words(&mut hub).last(), Some((_, ToAgent::Cancel(asked))) if asked.id == ID));
    hub.handle_said(3, &agent, 2, progress(CommandState::Cancelled, 1, None));
    let lost = hub.find(ID).unwrap();
    assert_eq!(lost.state, CommandState::Failed);
    assert_eq!(lost.error.as_ref().unwrap().code, errors::FORGOTTEN);
}

#[test]
fn the_next_attempt_goes_to_the_agent_that_the_device_has_then() {
    let (mut hub, agent) = hub_that_sent();
    let other = AgentId::parse("other").unwrap();
    hub.handle_entered(&other, 2);
    hub.handle_said(0, &other, 2, ToHub::Journal(Journal { journal: JOURNAL, forgotten_ms: i64::MIN }));
    hub.handle_moved(0, &world::order("", 0).device, &other);
    assert_eq!(hub.find(ID).unwrap().agent, agent, "it may be running there");
    hub.handle_said(1, &agent, 1, progress(CommandState::Failed, 2, Some(errors::UNAVAILABLE)));
    hub.handle_time(RETRY_MS + 1);
    let sent: Vec<_> = words(&mut hub)
        .into_iter()
        .filter_map(|(agent, said)| matches!(said, ToAgent::Command(_)).then_some(agent))
        .collect();
    assert_eq!(sent, [other]);
}

#[test]
fn a_command_of_another_agent_is_not_changed_by_this_one() {
    let (mut hub, eve) = (HubCommands::default(), AgentId::parse("eve").unwrap());
    let order = world::order("once", 1_000);
    hub.handle_created(0, HubCommand::new(ID, 0, order));
    hub.handle_entered(&eve, 1);
    let progress = Progress {
        id: ID,
        attempt: 1,
        number: 9,
        state: CommandState::Succeeded,
        percent: None,
        output: None,
        error: None,
        result: None,
    };
    hub.handle_said(1, &eve, 1, ToHub::Progress(progress));
    let noted = ToAgent::Noted(Noted { id: ID, attempt: 1, number: 9 });
    assert_eq!(hub.poll(), Some(HubStep::Say(eve, 1, noted)));
    assert_eq!(hub.poll(), None);
    assert_eq!(hub.find(ID).unwrap().state, CommandState::Queued);
}

#[test]
fn an_error_that_may_be_retried_makes_another_attempt_until_they_are_used_up() {
    let mut hub = HubCommands::default();
    let order = world::order("once", 1_000_000);
    let agent = order.agent.clone();
    hub.handle_created(0, HubCommand::new(ID, 0, order));
    hub.handle_entered(&agent, 1);
    let journal = Journal { journal: JOURNAL, forgotten_ms: i64::MIN };
    hub.handle_said(0, &agent, 1, ToHub::Journal(journal));
    let mut attempts = Vec::new();
    let mut ended = None;
    for second in 0..100 {
        hub.handle_time(second * 1_000);
        while let Some(step) = hub.poll() {
            match step {
                HubStep::Commit(changes) => {
                    hub.handle_committed();
                    for change in changes {
                        if let HubChange::Put(put) = change {
                            ended = Some(put.state);
                        }
                    }
                }
                HubStep::Say(_, _, ToAgent::Command(command)) => {
                    attempts.push((second, command.attempt));
                    let error = Some(CommandError::new(errors::UNAVAILABLE, "no line"));
                    let (id, attempt, state) = (ID, command.attempt, CommandState::Failed);
                    let (number, percent, output, result) = (2, None, None, None);
                    let said = Progress { id, attempt, number, state, percent, output, error, result };
                    hub.handle_said(second * 1_000, &agent, 1, ToHub::Progress(said));
                }
                HubStep::Say(..) => {}
            }
        }
    }
    assert_eq!(attempts, [(0, 1), (2, 2), (6, 3)]);
    assert_eq!((ended, hub.find(ID)), (Some(CommandState::Failed), None));
}
