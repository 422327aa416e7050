//! Which tier a series of an answer is told to be read from.

use super::rig::*;
use crate::buckets::{HOUR_NS, MINUTE_NS};
use crate::query::Tier;

const SECOND_NS: i64 = 1_000_000_000;
/// When the first reading is.
const T0: i64 = 100 * HOUR_NS;

#[test]
fn each_series_names_the_coarsest_tier_that_there_is_something_of_in_its_buckets() {
    let dir = tempfile::tempdir().unwrap();
    let store = ready(config(dir.path()));
    // The first has enough readings for minutes, but not for hours; the second for neither, and the third is not sealed.
    let dense = (0..1_200).map(|n| (0, T0 + n * 10 * SECOND_NS, 1.0));
    let sparse = (0..20).map(|n| (1, T0 + n * 10 * MINUTE_NS, 1.0));
    append(&store, 1, &[dense.chain(sparse).collect()]);
    store.flush().unwrap();
    append(&store, 2, &[(0..1_200).map(|n| (2, T0 + n * 10 * SECOND_NS, 1.0)).collect()]);
    store.settle().unwrap();
    let tiers = |from: i64, to: i64, width_ns: i64| {
        let most = usize::try_from((to - from) / width_ns + 1).unwrap();
        let answer = store.query_buckets(&[0, 1, 2], from, to, most).unwrap();
        assert_eq!(answer.width_ns, Some(width_ns));
        answer.series.iter().map(|column| column.tier).collect::<Vec<_>>()
    };
    let end = T0 + 3 * HOUR_NS;
    assert_eq!(tiers(T0, end, MINUTE_NS), [Tier::Minute, Tier::Raw, Tier::Raw]);
    assert_eq!(tiers(T0, end, HOUR_NS), [Tier::Minute, Tier::Raw, Tier::Raw]);
    assert_eq!(tiers(T0, T0 + 10 * MINUTE_NS, 10 * SECOND_NS), [Tier::Raw; 3]);
    // Where there is nothing, nothing coarser was read.
    assert_eq!(tiers(T0 - 9 * HOUR_NS, T0 - 6 * HOUR_NS, HOUR_NS), [Tier::Raw; 3]);
    store.flush().unwrap();
    assert_eq!(tiers(T0, end, MINUTE_NS), [Tier::Minute, Tier::Raw, Tier::Minute]);
    store.close().unwrap();
}
