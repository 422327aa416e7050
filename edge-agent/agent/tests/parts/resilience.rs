//! Back-off, breaker and calls, against models that are obviously right.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use edge_agent::resilience::{
    Breaker, BreakerState, CallError, Caller, Circuit, Held, Pace, Permit, Refusal, Retry,
};
use proptest::prelude::*;
use tideline_protocol::time::Clock;
use tideline_protocol::wire::RefuseCode;
use tokio::time::Instant;

const SECOND_NS: u64 = 1_000_000_000;

/// The runtime's paused time.
struct Paused(Instant);

impl Clock for Paused {
    fn wall_ns(&self) -> i64 {
        0
    }

    fn mono_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap()
    }
}

fn paused(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(test);
}

/// All that ever happened to a breaker; its state is told from that alone.
#[derive(Default)]
struct History {
    // When each call that counted ended, and how; as `Opened` and `Closed` where the state changed.
    events: Vec<(u64, Event)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Succeeded,
    Failed,
    Probe,
    Opened,
    Closed,
}

impl History {
    fn since(&self, what: &[Event]) -> &[(u64, Event)] {
        let from = self.events.iter().rposition(|(_, event)| what.contains(event)).map_or(0, |at| at + 1);
        &self.events[from..]
    }

    fn state(&self) -> BreakerState {
        match self.events.iter().rev().find(|(_, e)| matches!(e, Event::Opened | Event::Closed)) {
            None | Some((_, Event::Closed)) => BreakerState::Closed,
            Some(_) if self.since(&[Event::Opened]).iter().any(|(_, e)| *e == Event::Probe) => {
                BreakerState::HalfOpen
            }
            Some(_) => BreakerState::Open,
        }
    }

    fn opened_ns(&self) -> u64 {
        self.events.iter().rev().find(|(_, e)| *e == Event::Opened).unwrap().0
    }

    fn turn(&self) -> usize {
        let changes = self.events.iter().enumerate();
        changes.fold(0, |turn, (at, (_, event))| match event {
            Event::Opened | Event::Closed => turn + 1,
            // Only the first probe after an opening changes the state.
            Event::Probe if matches!(self.events[at - 1].1, Event::Opened) => turn + 1,
            _ => turn,
        })
    }

    fn add(&mut self, now_ns: u64, event: Event) {
        self.events.push((now_ns, event));
        let row = |of: &[(u64, Event)]| of.iter().filter(|(_, e)| *e == event).count();
        match (self.state(), event) {
            (BreakerState::Closed, Event::Failed)
                if row(self.since(&[Event::Succeeded, Event::Closed])) >= 5 =>
            {
                self.events.push((now_ns, Event::Opened));
            }
            (BreakerState::HalfOpen, Event::Failed) => self.events.push((now_ns, Event::Opened)),
            (BreakerState::HalfOpen, Event::Succeeded) if row(self.since(&[Event::Opened])) >= 3 => {
                self.events.push((now_ns, Event::Closed));
            }
            _ => {}
        }
    }
}

#[derive(Debug, Clone)]
enum Action {
    Pass(u64),
    Admit,
    // The index is taken modulo the calls on their way.
    Succeed(usize),
    Fail(usize),
    Release(usize),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        3 => (0..70 * SECOND_NS).prop_map(Action::Pass),
        4 => Just(Action::Admit),
        3 => any::<usize>().prop_map(Action::Succeed),
        5 => any::<usize>().prop_map(Action::Fail),
        1 => any::<usize>().prop_map(Action::Release),
    ];
    prop::collection::vec(action, 0..200)
}

proptest! {
    #[test]
    fn a_breaker_does_what_its_history_says(actions in actions(), open_s in prop_oneof![Just(60_u64), 0_u64..40]) {
        let (mut breaker, mut history, open_ns) = (Breaker::default(), History::default(), open_s * SECOND_NS);
        let mut calls: VecDeque<(Permit, usize)> = VecDeque::new();
        let mut now_ns = 0;
        for action in actions {
            let turn = history.turn();
            match action {
                Action::Pass(ns) => now_ns += ns,
                Action::Admit => {
                    let probing = calls.iter().any(|(_, of)| *of == turn);
                    let wanted = match history.state() {
                        BreakerState::Closed => true,
                        BreakerState::Open => now_ns >= history.opened_ns() + open_ns,
                        BreakerState::HalfOpen => !probing,
                    };
                    let permit = breaker.admit(now_ns, open_ns);
                    prop_assert_eq!(permit.is_some(), wanted);
                    if let Some(permit) = permit {
                        if history.state() != BreakerState::Closed {
                            history.add(now_ns, Event::Probe);
                        }
                        calls.push_back((permit, history.turn()));
                    }
                }
                Action::Succeed(n) if !calls.is_empty() => {
                    let n = n % calls.len();
                    let (permit, of) = &mut calls[n];
                    breaker.succeed(permit);
                    if *of == turn {
                        history.add(now_ns, Event::Succeeded);
                        *of = history.turn();
                    }
                }
                Action::Fail(n) if !calls.is_empty() => {
                    let (permit, of) = calls.remove(n % calls.len()).unwrap();
                    breaker.fail(permit, now_ns);
                    if of == turn {
                        history.add(now_ns, Event::Failed);
                    }
                }
                Action::Release(n) if !calls.is_empty() => {
                    breaker.release(calls.remove(n % calls.len()).unwrap().0);
                }
                Action::Succeed(_) | Action::Fail(_) | Action::Release(_) => {}
            }
            prop_assert_eq!(breaker.state(), history.state());
        }
    }

    #[test]
    fn waits_stay_within_a_bound_that_grows_to_its_maximum(
        base_ms in 0_u64..10_000, factor in 1_u64..10, max_ms in any::<u64>(), failures in any::<u32>(),
        entropy in any::<u64>(),
    ) {
        let retry = Retry { base_ms, factor, max_ms };
        let exact = (0..failures.min(64)).try_fold(u128::from(base_ms), |bound, _| {
            Some((bound * u128::from(factor)).min(u128::from(u64::MAX)))
        });
        // Past 64 steps a factor of 2 or more has reached any maximum.
        prop_assert_eq!(u128::from(retry.bound_ms(failures)), exact.unwrap().min(u128::from(max_ms)));
        prop_assert!(retry.wait_ms(failures, entropy) <= retry.bound_ms(failures));
        prop_assert!(retry.bound_ms(failures) <= retry.bound_ms(failures.saturating_add(1)));
    }

    #[test]
    fn calls_end_as_their_circuit_says_and_leave_nothing_behind(
        steps in prop::collection::vec((0_u64..5, 0_u64..70_000), 1..60),
    ) {
        paused(async move {
            let clock = Arc::new(Paused(Instant::now()));
            let caller = Caller::new(Arc::clone(&clock) as Arc<dyn Clock>);
            let limit = Duration::from_secs(30);
            for (kind, pass_ms) in steps {
                let (before, made) = (caller.status(), Cell::new(false));
                let ready_ns = caller.ready_ns(Pace::Idle).expect("a call was left behind");
                let admitted = clock.mono_ns() >= ready_ns;
                let call = |outcome: Result<(), ()>| {
                    made.set(true);
                    async move { outcome }
                };
                let ended = match kind {
                    0 | 1 => caller.call(Pace::Idle, limit, async { call(Ok(())).await }).await.is_ok(),
                    2 => caller.call(Pace::Idle, limit, async { call(Err(())).await }).await.is_ok(),
                    3 => {
                        let hangs = async { made.set(true); std::future::pending::<Result<(), ()>>().await };
                        caller.call(Pace::Idle, limit, hangs).await.is_ok()
                    }
                    _ => {
                        let hangs = async { made.set(true); std::future::pending::<Result<(), ()>>().await };
                        let given_up = caller.call(Pace::Idle, limit, hangs);
                        let _ = tokio::time::timeout(Duration::from_secs(1), given_up).await;
                        assert_eq!(caller.status().failures, before.failures, "giving up is no failure");
                        false
                    }
                };
                assert_eq!(made.get(), admitted);
                let failures = match (admitted, kind) {
                    (false, _) | (true, 4) => before.failures,
                    (true, _) if ended => 0,
                    (true, _) => before.failures + 1,
                };
                assert_eq!(caller.status().failures, failures);
                tokio::time::advance(Duration::from_millis(pass_ms)).await;
            }
        });
    }
}

/// Waits after `failures` failures, for entropies spread evenly.
fn waits(failures: u32, refused: Option<Refusal>) -> Vec<u64> {
    let wait = |n: u64| {
        let mut circuit = Circuit::default();
        for _ in 0..failures {
            let permit = circuit.admit(u64::MAX, Pace::Urgent).unwrap();
            circuit.fail(permit, 0, None, 0);
        }
        let permit = circuit.admit(u64::MAX, Pace::Urgent).unwrap();
        circuit.fail(permit, 0, refused, n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11)
    };
    (0..10_000).map(wait).collect()
}

#[test]
fn waits_are_spread_over_the_whole_bound_however_many_failures() {
    let revoked = Some(RefuseCode::Revoked.into());
    for (failures, refused, bound) in [
        (0, None, 100),
        (2, None, 400),
        (4, None, 1_000),
        (30, None, 1_000),
        (30, Some(RefuseCode::Unavailable.into()), 1_000),
        (0, revoked, 1_000),
        (3, revoked, 8_000),
        (30, revoked, 30_000),
    ] {
        let waits = waits(failures, refused);
        assert!(waits.iter().all(|wait| *wait <= bound), "{failures} {refused:?}");
        for tenth in 0..10 {
            let part = bound * tenth / 10..bound * (tenth + 1) / 10;
            let hits = waits.iter().filter(|wait| part.contains(wait)).count();
            assert!((800..1_200).contains(&hits), "{failures} {refused:?}: {hits} of 10000 in {part:?}");
        }
    }
}

/// A failure of a session that achieved something, or not.
fn session(circuit: &mut Circuit, achieved: u32, refused: Option<Refusal>) -> u32 {
    let mut permit = circuit.admit(u64::MAX, Pace::Urgent).unwrap();
    (0..achieved).for_each(|_| circuit.succeed(&mut permit));
    circuit.fail(permit, 0, refused, u64::MAX);
    circuit.status().failures
}

#[test]
fn only_what_was_achieved_ends_a_row_of_failures() {
    let mut circuit = Circuit::default();
    assert_eq!((1..=3).map(|_| session(&mut circuit, 0, None)).last(), Some(3));
    assert_eq!(session(&mut circuit, 1, Some(RefuseCode::Replaced.into())), 4, "it was refused in the end");
    assert_eq!(session(&mut circuit, 1, None), 1);
    let mut permit = circuit.admit(u64::MAX, Pace::Urgent).unwrap();
    circuit.succeed(&mut permit);
    assert_eq!((circuit.status().failures, circuit.status().wait_ms), (0, 0));
}

#[test]
fn an_open_circuit_waits_as_long_as_what_waits_for_it_allows() {
    let mut circuit = Circuit::default();
    assert_eq!((0..5).map(|_| session(&mut circuit, 0, None)).last(), Some(5));
    assert_eq!(circuit.status().state, BreakerState::Open);
    let standby = Pace::Standby { every_ns: 30 * SECOND_NS };
    assert_eq!(circuit.ready_ns(Pace::Idle), Some(60 * SECOND_NS));
    assert_eq!(circuit.ready_ns(standby), Some(30 * SECOND_NS));
    let urgent_ns = circuit.ready_ns(Pace::Urgent).unwrap();
    assert!(urgent_ns <= SECOND_NS, "{urgent_ns}");
    // A hub that refuses is not asked again sooner because readings wait.
    session(&mut circuit, 0, Some(RefuseCode::Revoked.into()));
    assert!(circuit.ready_ns(Pace::Urgent).unwrap() > SECOND_NS);
    // And it says itself when it wants to be asked again, within reason.
    let busy = |retry_after_ms| Some(Refusal { code: RefuseCode::Unavailable, retry_after_ms });
    session(&mut circuit, 0, busy(20_000));
    assert!((20..=21).contains(&(circuit.ready_ns(Pace::Urgent).unwrap() / SECOND_NS)));
    session(&mut circuit, 0, busy(u32::MAX));
    assert!(circuit.status().wait_ms <= 601_000);
    circuit.hurry();
    assert_eq!(circuit.ready_ns(Pace::Urgent), Some(0));
}

#[test]
fn the_time_that_a_silent_call_took_counts_as_waited_and_that_of_a_refused_one_does_not() {
    let mut circuit = Circuit::default();
    let begun_ns = 100 * SECOND_NS;
    let mut fail = |took_ns: u64, refused| {
        let permit = circuit.admit(u64::MAX, Pace::Urgent).unwrap();
        let wait_ms = circuit.fail_since(permit, begun_ns, begun_ns + took_ns, refused, u64::MAX >> 1);
        (wait_ms, circuit.ready_ns(Pace::Urgent).unwrap())
    };
    // The next one opens the breaker, which is another wait.
    for _ in 0..4 {
        let (wait_ms, ready_ns) = fail(5 * SECOND_NS, None);
        assert_eq!(ready_ns, begun_ns + wait_ms * 1_000_000);
        assert!(ready_ns <= begun_ns + 5 * SECOND_NS, "{wait_ms}");
    }
    let (wait_ms, ready_ns) = fail(5 * SECOND_NS, Some(RefuseCode::Unavailable.into()));
    assert_eq!(ready_ns, begun_ns + 5 * SECOND_NS + wait_ms * 1_000_000);
}

#[test]
fn exactly_one_probe_is_on_its_way_and_three_successes_close() {
    let mut circuit = Circuit::default();
    assert_eq!((0..5).map(|_| session(&mut circuit, 0, None)).last(), Some(5));
    assert_eq!(circuit.admit(60 * SECOND_NS - 1, Pace::Idle), Err(Held::Until(60 * SECOND_NS)));
    let mut probe = circuit.admit(60 * SECOND_NS, Pace::Idle).unwrap();
    assert_eq!(circuit.admit(u64::MAX, Pace::Urgent), Err(Held::Probing));
    circuit.release(probe);
    probe = circuit.admit(60 * SECOND_NS, Pace::Idle).unwrap();
    for (success, state) in
        [(1, BreakerState::HalfOpen), (2, BreakerState::HalfOpen), (3, BreakerState::Closed)]
    {
        circuit.succeed(&mut probe);
        assert_eq!(circuit.status().state, state, "after {success}");
    }
    circuit.fail(probe, 0, None, 0);
    assert_eq!((circuit.status().state, circuit.status().failures), (BreakerState::Closed, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_is_tried_again_until_it_answers_fails_for_good_or_opens_the_circuit() {
    let clock = Arc::new(Paused(Instant::now())) as Arc<dyn Clock>;
    let tries = Cell::new(0);
    let limit = Duration::from_secs(30);
    let failing = |until: u32| {
        let tries = &tries;
        move || async move {
            tries.set(tries.get() + 1);
            if tries.get() < until { Err(tries.get()) } else { Ok(tries.get()) }
        }
    };
    let caller = Caller::new(Arc::clone(&clock));
    assert_eq!(caller.retry(limit, failing(4), |_| false).await.unwrap(), 4);
    tries.set(0);
    let ended = caller.retry(limit, failing(9), |tries| *tries == 2).await.unwrap_err();
    assert!(matches!(ended, CallError::Failed(2)), "{ended:?}");
    let caller = Caller::new(clock);
    tries.set(0);
    let ended = caller.retry(limit, failing(9), |_| false).await.unwrap_err();
    assert!(matches!(ended, CallError::Failed(5)), "{ended:?}");
    let held = caller.call(Pace::Idle, limit, async { Ok::<(), u32>(()) }).await.unwrap_err();
    assert_eq!(held.to_string(), "not tried: the circuit is open after 5 failures");
}
