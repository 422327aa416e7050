//! Properties of the block codec.

mod boxed;

use proptest::prelude::*;

use super::*;

type PlainBatch = Vec<(SeriesNo, Vec<(i64, u64)>)>;
type Plain = Vec<PlainBatch>;

fn batches() -> impl Strategy<Value = Plain> {
    let value = prop_oneof![
        (-100_000_i64..100_000).prop_map(|v| (v as f64 / 100.0).to_bits()),
        any::<f64>().prop_map(f64::to_bits),
        Just((-0.0_f64).to_bits()),
        any::<u64>(),
    ];
    // Few times, so that series have some in common.
    let time = prop_oneof![any::<i64>(), 0_i64..2, Just(7)];
    let samples = prop::collection::vec((time, value), 0..6);
    let batch = prop::collection::btree_map(0_u32..20, samples, 0..8).prop_map(|m| m.into_iter().collect());
    prop::collection::vec(batch, 1..8)
}

fn samples(plain: &[(i64, u64)]) -> Vec<Sample> {
    plain.iter().map(|(t, v)| Sample { time_ns: *t, value: f64::from_bits(*v) }).collect()
}

fn build(plain: &[PlainBatch]) -> Block {
    let mut builder = BlockBuilder::new();
    for batch in plain {
        let owned: Vec<_> = batch.iter().map(|(no, s)| (*no, samples(s))).collect();
        let items: Vec<_> = owned.iter().map(|(no, s)| (*no, s.as_slice())).collect();
        builder.push_batch(&items);
    }
    builder.finish()
}

fn flat(decoded: &Decoded) -> Vec<(SeriesNo, i64, u64)> {
    let rows = |c: &DecodedColumn| {
        let series = c.series;
        c.times.iter().zip(&c.values).map(move |(t, v)| (series, *t, v.to_bits())).collect::<Vec<_>>()
    };
    decoded.columns.iter().flat_map(rows).collect()
}

fn expected(plain: &[PlainBatch], keep: impl Fn(u64) -> bool) -> Vec<(SeriesNo, i64, u64)> {
    let mut out = Vec::new();
    for series in 0..20 {
        for (batch, seq) in plain.iter().zip(1_u64..).filter(|(_, seq)| keep(*seq)) {
            let _ = seq;
            for (no, samples) in batch.iter().filter(|(no, _)| *no == series) {
                out.extend(samples.iter().map(|(t, v)| (*no, *t, *v)));
            }
        }
    }
    out
}

proptest! {
    #[test]
    fn what_was_pushed_comes_back_bit_for_bit(plain in batches()) {
        let block = build(&plain);
        let decoded = decode(&block.bytes, &block.rows, Seq::FIRST).unwrap();
        prop_assert_eq!(flat(&decoded), expected(&plain, |_| true));
    }

    #[test]
    fn a_repacked_run_equals_its_parts(plain in batches(), odd in any::<bool>()) {
        let parts: Vec<Block> = plain.iter().map(|batch| build(std::slice::from_ref(batch))).collect();
        let rows = |block: &Block| block.rows.iter().next().unwrap();
        let run = repack(parts.iter().map(|p| (p.bytes.as_slice(), rows(p)))).unwrap();
        prop_assert_eq!(&run, &build(&plain));
        let mut decoded = decode(&run.bytes, &run.rows, Seq::FIRST).unwrap();
        let mut keep = RangeSet::new();
        (1..=plain.len() as u64).filter(|s| (s % 2 == 1) == odd).for_each(|s| keep.insert(s, s));
        decoded.retain(Seq::FIRST, &keep);
        prop_assert_eq!(flat(&decoded), expected(&plain, |s| keep.contains(s)));
    }

    #[test]
    fn damaged_bytes_never_panic(plain in batches(), at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<bool>()) {
        let mut block = build(&plain);
        let at = at.index(block.bytes.len());
        if cut { block.bytes.truncate(at) } else { block.bytes[at] = to }
        let _ = decode(&block.bytes, &block.rows, Seq::FIRST);
    }
}

#[test]
fn repacking_takes_regular_batches_as_well_as_any() {
    let regular = |seq: i64| -> PlainBatch {
        (0..5).map(|no| (no, vec![(seq, (seq as f64).to_bits()), (seq + 1, 0.25_f64.to_bits())])).collect()
    };
    let mut other = regular(3);
    other.remove(2);
    let mut late = regular(3);
    late[1].1[0].0 = 99;
    for middle in [regular(3), Vec::new(), other, late] {
        let plain: Plain = vec![regular(1), regular(2), middle, regular(4)];
        let parts: Vec<Block> = plain.iter().map(|batch| build(std::slice::from_ref(batch))).collect();
        let parts = parts.iter().map(|part| (part.bytes.as_slice(), part.rows.iter().next().unwrap()));
        assert_eq!(repack(parts).unwrap(), build(&plain));
    }
}

#[test]
fn a_block_that_disagrees_with_its_envelope_is_refused() {
    let block = build(&[vec![(3, vec![(1, 2), (3, 4)])]]);
    let error = decode(&block.bytes, &RowCounts::one(3), Seq::new(9)).unwrap_err();
    assert_eq!(error, BlockError::Rows { seq: Seq::new(9), found: 2, expected: 3 });
}

fn two() -> PlainBatch {
    vec![(0, vec![(1_000, 1.5_f64.to_bits())]), (2, vec![(1_000, 2.25_f64.to_bits())])]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bytes_of_codec_1_do_not_change() {
    let mut builder = BlockBuilder::new();
    for (no, rows) in two() {
        let column = builder.columns.entry(no).or_default();
        column.times.extend(rows.iter().map(|(time, _)| *time));
        column.values.extend(rows.iter().map(|(_, bits)| f64::from_bits(*bits)));
        column.counts.push(1);
    }
    let columns: Vec<_> = builder.columns.iter().map(|(no, column)| (*no, column)).collect();
    let bytes = write_columns(&columns);
    assert_eq!(hex(&bytes), include_str!("golden_block_v1.hex").trim());
    let decoded = decode(&bytes, &RowCounts::one(2), Seq::FIRST).unwrap();
    assert_eq!(flat(&decoded), expected(&[two()], |_| true));
}

#[test]
fn the_bytes_of_codec_2_do_not_change() {
    let more = [(3, -0.07_f64), (4, 4096.0 * 12345.0), (5, 1024.0 * 3.0), (9, 1.0 / 3.0), (10, f64::NAN)];
    let mut batch = two();
    batch.extend(more.map(|(no, value)| (no, vec![(1_000, value.to_bits())])));
    let block = build(std::slice::from_ref(&batch));
    assert_eq!(hex(&block.bytes), include_str!("golden_block_v2.hex").trim());
    let decoded = decode(&block.bytes, &block.rows, Seq::FIRST).unwrap();
    assert_eq!(flat(&decoded), expected(&[batch], |_| true));
}

#[test]
fn a_batch_of_single_readings_takes_little_more_than_its_values() {
    let value = |no: u32| (f64::from(no * 7919 % 1000) / 10.0).to_bits();
    let batch: PlainBatch = (0..19).map(|no| (no, vec![(1_763_719_200_123_456_789, value(no))])).collect();
    // Codec, stretch and time take 13; a percentage to a tenth takes 3 at most.
    assert!(build(&[batch]).bytes.len() <= 13 + 19 * 3);
}

proptest! {
    #[test]
    fn single_readings_come_back_bit_for_bit(
        time in any::<i64>(),
        values in prop::collection::btree_map(0_u32..20, prop_oneof![
            any::<u64>(),
            any::<f64>().prop_map(f64::to_bits),
            (any::<i32>(), 0..6).prop_map(|(v, places)| (f64::from(v) / 10_f64.powi(places)).to_bits()),
            (0..1_u32 << 30).prop_map(|pages| (f64::from(pages) * 4096.0).to_bits()),
            Just((-0.0_f64).to_bits()),
            Just(0),
        ], 1..20),
    ) {
        let batch: PlainBatch = values.into_iter().map(|(no, bits)| (no, vec![(time, bits)])).collect();
        let block = build(std::slice::from_ref(&batch));
        let decoded = decode(&block.bytes, &block.rows, Seq::FIRST).unwrap();
        prop_assert_eq!(flat(&decoded), expected(&[batch], |_| true));
    }

    #[test]
    fn damaged_single_readings_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), rows in 0_u32..70) {
        let bytes = [&[2][..], &bytes].concat();
        let _ = decode(&bytes, &RowCounts::one(rows), Seq::FIRST);
    }
}
