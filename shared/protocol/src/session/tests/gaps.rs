//! Drops among readings: neither waits for the other, and the hub keeps few ranges.

use super::*;

fn gap(seq: u64) -> crate::model::Gap {
    crate::model::Gap {
        first: Seq::new(seq),
        rows: crate::model::RowCounts::one(1),
        from_ns: 0,
        to_ns: 0,
        cause: crate::model::DropCause::Quota,
    }
}

/// Every other batch of so many is given up, as two streams that take turns make it on a full disk, and then
/// two more come.
fn every_other_given_up(batches: u64) -> Pair {
    let mut pair = Pair::new(batches, Settlement::default());
    pair.seqs_per_run = 1_000;
    (1..=batches).step_by(2).for_each(|seq| pair.agent.handle_gap(gap(seq)));
    pair.append();
    pair.append();
    pair
}

#[test]
fn drops_and_readings_that_take_turns_for_long_leave_the_hub_few_ranges() {
    let mut pair = every_other_given_up(50_000);
    for now_s in 1..2_000 {
        while pair.agent_step(now_s * 1_000_000_000) || pair.hub_step() {}
        if pair.agent.is_drained() {
            break;
        }
    }
    assert!(pair.agent.is_drained());
    assert_eq!(pair.lanes[0], (Lane::Live, 50_001, 50_002), "fresh readings do not wait");
    assert_eq!(pair.stored.all(), RangeSet::of(1, 50_002));
    assert!(pair.ranges <= RANGES_MAX, "{} ranges at once", pair.ranges);
    assert!(pair.ranges > RANGES_AHEAD_MAX, "nothing was held back");
}

#[test]
fn an_agent_that_does_not_know_what_became_of_its_gaps_stays_within_the_ranges_of_the_hub() {
    let mut pair = every_other_given_up(50_000);
    for now_s in 1..60 {
        while pair.agent_step(now_s * 1_000_000_000) || pair.hub_step() {
            // Its disk takes nothing more.
            pair.agent.handle_account(pair.account(), Seq::default());
        }
        pair.append();
        let head = pair.blocks.len() as u64;
        pair.agent.handle_appended(Seq::new(head), 1);
    }
    assert!(pair.ranges <= RANGES_MAX + RUN_RANGES_MAX, "{} ranges at once", pair.ranges);
    assert!(pair.stored.stored.within(50_001, u64::MAX).len() >= 60, "fresh readings still come");
    assert!(!pair.agent.is_drained());
    // When it does again, what was held back goes.
    for now_s in 60..2_000 {
        while pair.agent_step(now_s * 1_000_000_000) || pair.hub_step() {}
    }
    assert!(pair.agent.is_drained());
}

#[test]
fn thousands_of_gaps_and_readings_take_turns_and_few_gaps_are_on_the_way() {
    let mut pair = Pair::new(3_000, Settlement::default());
    // Of every three batches one is left: as two streams that take turns make it on a full disk.
    for seq in (1..=3_000).filter(|seq| seq % 3 != 0) {
        pair.agent.handle_gap(gap(seq));
    }
    let sent = |pair: &mut Pair, of: &mut Vec<char>| {
        while let Some(action) = pair.agent.poll(1).unwrap() {
            match action {
                AgentAction::Send(Message::Gap(gap)) => {
                    of.push('g');
                    pair.hub.handle_message(0, Message::Gap(gap)).unwrap();
                }
                AgentAction::Send(message) => {
                    of.extend(matches!(message, Message::Run(_)).then_some('r'));
                    pair.hub.handle_message(0, message).unwrap();
                }
                AgentAction::LoadRun { lane, seqs, .. } => {
                    let first = seqs.iter().next().unwrap().0;
                    let packed = crate::block::repack([(pair.blocks[&first].as_slice(), 1)]).unwrap();
                    let (epoch, first) = (Epoch::from_bytes([1; 16]), Seq::new(first));
                    let rows = packed.rows;
                    let run = RunEnvelope { epoch, lane, first, rows, series_end: 1, restamps: vec![] };
                    pair.agent.handle_run(1, run, packed.bytes);
                }
                AgentAction::LoadSeries { from, .. } => {
                    let def = SeriesDef::new(
                        DeviceId::parse("d").unwrap(),
                        PointId::parse("p").unwrap(),
                        String::new(),
                    );
                    pair.agent.handle_series(from, vec![def]);
                }
                _ => {}
            }
        }
    };
    let mut order = Vec::new();
    sent(&mut pair, &mut order);
    while pair.hub_step() {}
    sent(&mut pair, &mut order);
    while pair.hub_step() {}
    order.clear();
    sent(&mut pair, &mut order);
    let gaps = order.iter().filter(|one| **one == 'g').count();
    assert_eq!(gaps, GAPS_IN_FLIGHT_MAX, "{order:?}");
    // The first readings go when the first gaps do.
    assert!(order[..4].contains(&'r'), "{order:?}");
    pair.settle_down();
    assert!(pair.agent.is_drained());
    assert_eq!((pair.stored.stored.len(), pair.stored.dropped.len()), (1_000, 2_000));
}

fn run_for(pair: &mut Pair, seconds: std::ops::Range<u64>) {
    for now_s in seconds {
        while pair.agent_step(now_s * 1_000_000_000) || pair.hub_step() {}
        if pair.agent.is_drained() {
            return;
        }
    }
}

#[test]
fn the_oldest_of_all_goes_however_many_ranges_fresh_readings_have_made() {
    let mut pair = Pair::new(5_000, Settlement::default());
    pair.seqs_per_run = 1_000;
    for _ in 0..20_000 {
        pair.append();
        pair.append();
        pair.agent.handle_gap(gap(pair.blocks.len() as u64));
    }
    // Nothing is folded before what is older has gone, this one first.
    pair.agent.handle_gap(gap(1));
    run_for(&mut pair, 1..2_000);
    assert!(pair.agent.is_drained());
    assert!(pair.ranges <= RANGES_MAX + RUN_RANGES_MAX, "{} ranges at once", pair.ranges);
    assert_eq!(pair.stored.all(), RangeSet::of(1, 45_000));
}

#[test]
fn a_hub_that_lost_what_nobody_holds_any_more_is_refilled_with_the_rest() {
    let mut pair = Pair::new(50_000, Settlement::default());
    pair.seqs_per_run = 1_000;
    // Given up long ago, and forgotten by the hub.
    for seq in (1..=50_000).step_by(2) {
        pair.blocks.remove(&seq);
        pair.fates.insert(seq, seq);
    }
    run_for(&mut pair, 1..2_000);
    assert!(pair.agent.is_drained());
    assert!(pair.ranges <= RANGES_MAX + RUN_RANGES_MAX, "{} ranges at once", pair.ranges);
    assert!((2..=50_000).step_by(2).all(|seq| pair.stored.stored.contains(seq)));
}
