//! Sources that fail, hang and recover, one by one and in random histories.

use proptest::prelude::*;

use super::*;

const S: u64 = NS_PER_S;
/// No jitter: each rest is as long as its bound.
const LONGEST: u64 = u64::MAX;

fn policy() -> Policy {
    Policy { failures_max: 3, ..Policy::default() }
}

/// Starts it at `now_ns`, which must be due.
fn start(watched: &mut Watched, now_ns: u64) {
    assert_eq!(watched.poll(now_ns, Signs::None, 0), Some(Step::Start));
}

#[test]
fn one_that_fails_is_started_again_after_rests_that_grow() {
    // Jitter draws from 0 to the bound; this draw is its end for each bound that occurs.
    let retry = Retry { base_ms: 1_000, factor: 2, max_ms: 8_000 };
    let mut watched = Watched::new(Policy { retry, failures_max: 10, ..policy() });
    assert_eq!(watched.state(Signs::None), SourceState::Starting);
    let (mut now_ns, mut rests) = (0, Vec::new());
    for failures in 0..5 {
        start(&mut watched, now_ns);
        watched.handle_end(now_ns, Ending::Failed, retry.bound_ms(failures));
        assert_eq!(watched.state(Signs::None), SourceState::Retrying);
        let next_ns = watched.next_ns(now_ns, Signs::None).unwrap();
        assert_eq!(watched.poll(next_ns - 1, Signs::None, 0), None);
        rests.push((next_ns - now_ns) / S);
        now_ns = next_ns;
    }
    assert_eq!(rests, [1, 2, 4, 8, 8]);
    assert_eq!(watched.counts(), Counts { restarts: 4, stalls: 0 });
}

#[test]
fn one_that_uses_up_its_budget_is_degraded_until_an_attempt_has_lasted() {
    let mut watched = Watched::new(policy());
    for _ in 0..4 {
        start(&mut watched, 0);
        watched.handle_end(0, Ending::Failed, 0);
    }
    assert_eq!(watched.state(Signs::None), SourceState::Degraded);
    assert_eq!(watched.next_ns(0, Signs::None), Some(60 * S));
    start(&mut watched, 60 * S);
    assert_eq!(watched.state(Signs::At(61 * S)), SourceState::Degraded, "it has yet to last");
    assert_eq!(watched.poll(120 * S, Signs::At(119 * S), 0), None);
    assert_eq!(watched.state(Signs::At(119 * S)), SourceState::Running);
    watched.handle_end(130 * S, Ending::Failed, 0);
    assert_eq!(watched.state(Signs::None), SourceState::Retrying, "its budget is whole again");
}

#[test]
fn failures_that_are_long_ago_do_not_count() {
    let mut watched = Watched::new(Policy { settled_ns: LONGEST, ..policy() });
    let mut now_ns = 0;
    for _ in 0..50 {
        start(&mut watched, now_ns);
        watched.handle_end(now_ns, Ending::Failed, 0);
        assert_eq!(watched.state(Signs::None), SourceState::Retrying);
        now_ns += 100 * S;
    }
}

#[test]
fn one_without_a_sign_of_life_is_aborted_and_started_again() {
    let mut watched = Watched::new(policy());
    start(&mut watched, S);
    assert_eq!(watched.state(Signs::None), SourceState::Starting);
    assert_eq!(watched.poll(30 * S, Signs::None, 0), None);
    assert_eq!(watched.poll(31 * S, Signs::At(5 * S), 0), None);
    assert_eq!(watched.next_ns(31 * S, Signs::At(5 * S)), Some(35 * S));
    assert_eq!(watched.poll(35 * S, Signs::At(5 * S), 0), Some(Step::Abort));
    assert_eq!(watched.state(Signs::At(5 * S)), SourceState::Stalled);
    watched.handle_end(35 * S, Ending::Failed, 0);
    assert_eq!(watched.state(Signs::None), SourceState::Stalled);
    start(&mut watched, 35 * S);
    assert_eq!(watched.counts(), Counts { restarts: 1, stalls: 1 });
}

#[test]
fn one_that_does_not_notice_that_it_was_aborted_is_left_behind() {
    let mut watched = Watched::new(policy());
    start(&mut watched, 0);
    assert_eq!(watched.poll(30 * S, Signs::None, 0), Some(Step::Abort));
    assert_eq!(watched.poll(30 * S, Signs::None, 0), None);
    assert_eq!(watched.poll(31 * S, Signs::None, 0), Some(Step::Abandon));
    start(&mut watched, 31 * S);
}

#[test]
fn one_that_waits_for_its_input_may_take_as_long_as_it_wants() {
    let mut watched = Watched::new(policy());
    start(&mut watched, 0);
    assert_eq!(watched.poll(1_000_000 * S, Signs::Waits, 0), None);
    assert_eq!(watched.state(Signs::Waits), SourceState::Running);
    assert_eq!(watched.next_ns(1_000_000 * S, Signs::Waits), Some(1_000_030 * S));
}

#[test]
fn one_that_has_read_all_stays_ended() {
    let mut watched = Watched::new(policy());
    start(&mut watched, 0);
    watched.handle_end(S, Ending::Done, 0);
    assert_eq!(watched.state(Signs::None), SourceState::Ended);
    assert_eq!((watched.next_ns(S, Signs::None), watched.poll(LONGEST, Signs::None, 0)), (None, None));
}

/// What happens next, and how long after the last.
#[derive(Debug, Clone, Copy)]
enum Act {
    Fail,
    Finish,
    Sign,
    Wait,
    Nothing,
}

fn act() -> impl Strategy<Value = (Act, u64, u64)> {
    let act = prop_oneof![
        4 => Just(Act::Fail), 1 => Just(Act::Finish), 8 => Just(Act::Sign), 3 => Just(Act::Wait), 8 => Just(Act::Nothing)
    ];
    (act, 0..40_u64, any::<u64>())
}

/// Plain facts of a history, kept apart from the machine.
#[derive(Default)]
struct Facts {
    now_ns: u64,
    is_running: bool,
    is_done: bool,
    sign_ns: u64,
    starts_ns: Vec<u64>,
}

impl Facts {
    fn take(&mut self, step: Step, signs: Signs, policy: &Policy) -> Result<(), TestCaseError> {
        match step {
            Step::Start => {
                prop_assert!(
                    !self.is_running && !self.is_done,
                    "there is one at most, and none after the end"
                );
                (self.is_running, self.sign_ns) = (true, self.now_ns);
                self.starts_ns.push(self.now_ns);
            }
            Step::Abort => {
                prop_assert!(self.is_running && signs != Signs::Waits);
                prop_assert!(self.now_ns - self.sign_ns >= policy.patience_ns, "it was alive");
            }
            Step::Abandon => self.is_running = false,
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn no_history_starts_two_keeps_a_dead_one_or_knocks_more_often_than_allowed(
        acts in proptest::collection::vec(act(), 0..300)
    ) {
        let policy = policy();
        let (mut watched, mut facts, mut signs) = (Watched::new(policy), Facts::default(), Signs::None);
        for (act, seconds, entropy) in acts {
            facts.now_ns += seconds * S;
            while let Some(step) = watched.poll(facts.now_ns, signs, entropy) {
                facts.take(step, signs, &policy)?;
                if step == Step::Start {
                    signs = Signs::None;
                }
            }
            match act {
                Act::Fail | Act::Finish if facts.is_running => {
                    let was_aborted = watched.state(signs) == SourceState::Stalled;
                    let ending = if matches!(act, Act::Fail) { Ending::Failed } else { Ending::Done };
                    watched.handle_end(facts.now_ns, ending, entropy);
                    facts.is_running = false;
                    facts.is_done = ending == Ending::Done && !was_aborted;
                }
                Act::Sign => (signs, facts.sign_ns) = (Signs::At(facts.now_ns), facts.now_ns),
                Act::Wait => (signs, facts.sign_ns) = (Signs::Waits, facts.now_ns),
                _ => {}
            }
            // Whoever polls when it is told to never finds one that is dead and not aborted.
            let next_ns = watched.next_ns(facts.now_ns, signs);
            prop_assert_eq!(next_ns.is_none(), facts.is_done);
            if facts.is_running && signs != Signs::Waits {
                prop_assert!(next_ns.unwrap() <= facts.now_ns.max(facts.sign_ns) + policy.patience_ns);
            }
        }
        // Attempts that nothing settled between are bounded: the budget, then one a minute.
        for (at, first_ns) in facts.starts_ns.iter().enumerate() {
            let close = facts.starts_ns[at..].iter().take_while(|ns| **ns - first_ns < policy.settled_ns);
            prop_assert!(close.count() <= policy.failures_max + 2);
        }
    }
}
