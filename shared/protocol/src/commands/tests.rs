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
        (Fault::SendsBeforeNoting, Trouble::Wipes),
    ] {
        let ran_twice = |seed| run(seed, trouble, fault).is_err_and(|error| error.contains(" times"));
        assert!((0..SEEDS).any(ran_twice), "{fault:?} is not found by {trouble:?}");
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
    let mut agent = AgentCommands::open(JOURNAL, i64::MIN, [], running_max, |_| Repeat::Never);
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
    agent.handle_said(Some(5), ToAgent::Command(command(1, 0, 100)));
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
    (1..=4).for_each(|id| agent.handle_said(None, ToAgent::Command(command(id, id, 100))));
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
        first.handle_said(Some(5), ToAgent::Command(command(1, 0, 100)));
        let changes = steps(&mut first).into_iter().filter_map(|step| match step {
            AgentStep::Commit(changes) => Some(changes),
            _ => None,
        });
        let mut bytes = changes.flatten().filter_map(|change| match change {
            AgentChange::Put(_, bytes) => Some(bytes),
            _ => None,
        });
        let kept = Kept::read(&bytes.next_back().unwrap()).unwrap();
        let mut second = AgentCommands::open(JOURNAL, i64::MIN, [kept], 1, |_| repeat);
        second.handle_connected();
        assert_eq!(said(&steps(&mut second)), [expected], "{repeat:?}");
        // Asked again, it says the same.
        second.handle_said(None, ToAgent::Command(command(1, 0, 100)));
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
    agent.handle_said(Some(5), ToAgent::Command(command(1, 0, 100)));
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
    agent.handle_said(Some(7), ToAgent::Noted(Noted { id: ID, attempt: 1, number: number.unwrap() }));
    assert!(
        matches!(steps(&mut agent).as_slice(), [AgentStep::Commit(_)]),
        "the output is not needed any more"
    );
}

#[test]
fn an_agent_that_is_full_forgets_what_is_over_or_says_that_it_is_busy() {
    let mut agent = agent(1);
    for n in 0..KEPT_MAX {
        let id = CommandId::from_bytes((n as u128 + 1).to_be_bytes());
        agent.handle_said(Some(5), ToAgent::Command(Command { id, ..command(0, 0, 10 + n as i64) }));
        steps(&mut agent);
    }
    agent.handle_said(Some(5), ToAgent::Command(command(0xee, 0, 1 << 40)));
    let busy = (CommandState::Failed, Some(errors::BUSY.to_owned()));
    assert_eq!(said(&steps(&mut agent)), [busy]);
    let first = CommandId::from_bytes(1_u128.to_be_bytes());
    agent.handle_ended(Some(9), first, Ended::Succeeded(None));
    agent.handle_said(Some(11), ToAgent::Noted(Noted { id: first, attempt: 1, number: u64::MAX }));
    agent.handle_said(Some(11), ToAgent::Command(command(0xee, 0, 1 << 40)));
    assert!(said(&steps(&mut agent)).contains(&(CommandState::Delivered, None)));
    // What it has forgotten is not begun when it comes again, whatever the clock says.
    agent.handle_said(Some(0), ToAgent::Command(Command { id: first, ..command(0, 0, 10) }));
    assert_eq!(said(&steps(&mut agent)), [(CommandState::Expired, None)]);
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
