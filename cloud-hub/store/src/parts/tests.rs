//! Which series and batches of a flush go into which file.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tideline_protocol::keep::Rollups;
use tideline_protocol::model::{AgentId, Epoch, Seq};
use tideline_protocol::value::Boxes;

use super::*;
use crate::hot::Arrival;
use crate::log::Holding;

fn agent() -> AgentId {
    AgentId::parse("a").unwrap()
}

fn epoch(n: u8) -> Epoch {
    Epoch::from_bytes([n; 16])
}

fn days(days: u32) -> Keep {
    Keep { days: Some(days), rollups: None }
}

/// Batches by epoch and seq, each with rows of some series.
type Sent = BTreeMap<(u8, u64), Vec<u32>>;

fn hot(sent: &Sent) -> (Hot, Vec<HoldingEntry>) {
    let (mut hot, mut held) = (Hot::default(), BTreeMap::<u8, (RangeSet, u64)>::new());
    for ((n, seq), series) in sent {
        let origin = hot.origin(&agent(), epoch(*n));
        let (seqs, rows) = held.entry(*n).or_default();
        seqs.insert(*seq, *seq);
        *rows += series.len() as u64;
        for id in series {
            let boxes = Boxes::new();
            let arrival = Arrival { times: &[7], values: &[1.0], boxes: &boxes, rows_per_seq: &[1] };
            hot.push(*id, origin, Seq::new(*seq), None, arrival);
        }
    }
    let entry = |(n, (seqs, rows)): (u8, (RangeSet, u64))| {
        HoldingEntry::from(&Holding { agent: agent(), epoch: epoch(n), seqs, rows })
    };
    (hot, held.into_iter().map(entry).collect())
}

fn shown(parts: &[Part]) -> Vec<(Keep, Vec<u32>)> {
    parts.iter().map(|part| (part.keep, part.series.clone().unwrap_or_default())).collect()
}

#[test]
fn series_that_are_kept_alike_are_one_file_of_all() {
    let (hot, _) = hot(&Sent::from([((1, 1), vec![1, 2]), ((1, 2), vec![3])]));
    assert_eq!(shown(&parts(&hot, |_| days(3))), [(days(3), vec![])]);
    assert_eq!(shown(&parts(&Hot::default(), |_| days(3))), [(Keep::HUB, vec![])]);
}

#[test]
fn what_shares_a_batch_is_kept_as_long_as_the_longest_of_it() {
    let sent = Sent::from([((1, 1), vec![1]), ((1, 2), vec![2, 3]), ((2, 2), vec![4]), ((2, 9), vec![])]);
    let (hot, all) = hot(&sent);
    let keep = |id| days([1, 1, 5, 1][id as usize - 1]);
    let found = parts(&hot, keep);
    assert_eq!(shown(&found), [(days(5), vec![2, 3]), (days(1), vec![1, 4])]);
    let numbered: Vec<_> = (1..).zip(found).collect();
    let told: Vec<Vec<_>> = holdings(&hot, &all, &numbered)
        .iter()
        .map(|held| {
            held.iter().map(HoldingEntry::parts).map(|(_, epoch, seqs, rows)| (epoch, seqs, rows)).collect()
        })
        .collect();
    // The batch without rows is with the first.
    let first = vec![(epoch(1), RangeSet::of(2, 2), 2), (epoch(2), RangeSet::of(9, 9), 0)];
    let second = vec![(epoch(1), RangeSet::of(1, 1), 1), (epoch(2), RangeSet::of(2, 2), 1)];
    assert_eq!(told, [first, second]);
}

#[test]
fn of_too_many_those_that_are_kept_shortest_become_one() {
    let sent: Sent = (1..=40).map(|n| ((1, u64::from(n)), vec![n])).collect();
    let (hot, _) = hot(&sent);
    let found = parts(&hot, days);
    assert_eq!(found.len(), PARTS_MAX);
    let shortest = found.last().unwrap();
    assert_eq!((shortest.keep, shortest.series.as_ref().unwrap().len()), (days(25), 25));
}

proptest! {
    #[test]
    fn each_series_and_each_batch_is_in_one_part_that_keeps_it_long_enough(
        sent in prop::collection::btree_map((0_u8..3, 1_u64..30), prop::collection::btree_set(0_u32..20, 0..3), 1..40),
        keeps in prop::collection::vec((prop::option::of(1_u32..4), prop::option::of(0_u8..3)), 20),
    ) {
        let sent: Sent = sent.into_iter().map(|(at, ids)| (at, ids.into_iter().collect())).collect();
        let (hot, all) = hot(&sent);
        let kinds = [Rollups::NONE, Rollups::HOUR, Rollups::ALL];
        let keep = |id: u32| {
            let (days, rollups) = keeps[id as usize];
            Keep { days, rollups: rollups.map(|at| kinds[usize::from(at)]) }
        };
        let numbered: Vec<_> = (1..).zip(parts(&hot, keep)).collect();
        let held = holdings(&hot, &all, &numbered);
        let has = |part: &Part, id: u32| part.series.as_ref().is_none_or(|own| own.contains(&id));
        for id in hot.series() {
            let own: Vec<_> = numbered.iter().filter(|(_, part)| has(part, id)).collect();
            prop_assert_eq!(own.len(), 1);
            prop_assert_eq!(own[0].1.keep.or_longer(keep(id)), own[0].1.keep);
        }
        let mut rows = 0;
        for ((n, seq), series) in &sent {
            let of = |entry: &&HoldingEntry| entry.parts().1 == epoch(*n) && entry.parts().2.contains(*seq);
            let holders: Vec<usize> =
                (0..held.len()).filter(|at| held[*at].iter().any(|entry| of(&entry))).collect();
            prop_assert_eq!(holders.len(), 1, "{:?}", (n, seq));
            prop_assert!(series.iter().all(|id| has(&numbered[holders[0]].1, *id)));
            rows += series.len() as u64;
        }
        prop_assert_eq!(held.iter().flatten().map(|entry| entry.parts().3).sum::<u64>(), rows);
    }
}
