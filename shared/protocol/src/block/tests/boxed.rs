//! Blocks whose values are of all kinds.

use proptest::prelude::*;

use super::*;
use crate::value::{Quality, Value, ValueKind};

/// Series, time, value and quality.
type Row = (SeriesNo, i64, Value, Quality);

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (-1_000_i32..1_000).prop_map(|n| Value::Float(f64::from(n) / 10.0)),
        1 => Just(Value::Null),
        1 => any::<i64>().prop_map(Value::Int),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => "[a-c]{0,3}".prop_map(|text| Value::Text(text.into())),
    ]
}

/// Batches of readings in which a quarter is not of good quality.
fn batches() -> impl Strategy<Value = Vec<Vec<Row>>> {
    let quality = (0_usize..8).prop_map(|at| Quality::ALL.get(at).copied().unwrap_or_default());
    let row = (0_u32..6, -3_i64..3, value(), quality);
    prop::collection::vec(prop::collection::vec(row, 0..12), 1..6)
}

fn push(builder: &mut BlockBuilder, batch: &[Row]) {
    let mut boxes = Boxes::new();
    let samples: Vec<(SeriesNo, [Sample; 1])> = batch
        .iter()
        .map(|(no, time_ns, value, quality)| {
            (*no, [Sample { time_ns: *time_ns, value: boxes.word(value.clone(), *quality) }])
        })
        .collect();
    let items: Vec<_> = samples.iter().map(|(no, sample)| (*no, sample.as_slice())).collect();
    builder.push_boxed(&items, &boxes);
}

fn build(batches: &[Vec<Row>]) -> Block {
    let mut builder = BlockBuilder::new();
    batches.iter().for_each(|batch| push(&mut builder, batch));
    builder.finish()
}

/// Readings by series, as kind and place say what a number was.
fn shown(rows: impl Iterator<Item = Row>) -> Vec<String> {
    let mut rows: Vec<Row> = rows.collect();
    rows.sort_by_key(|row| row.0);
    let number = |value: Value| match value {
        Value::Bool(truth) => f64::from(u8::from(truth)).to_string(),
        Value::Text(text) => format!("{text:?}"),
        // Of those that a double holds nothing tells which kind they were: the series does.
        Value::Int(integer) if integer.unsigned_abs() > 1 << 53 => format!("int {integer}"),
        Value::Int(integer) => (integer as f64).to_string(),
        other => other.to_string(),
    };
    rows.into_iter()
        .map(|(no, time, value, quality)| format!("{no} {time} {} {quality}", number(value)))
        .collect()
}

fn decoded(decoded: &Decoded) -> Vec<String> {
    shown(decoded.columns.iter().flat_map(|column| {
        column.times.iter().zip(&column.values).map(|(time, word)| {
            let (value, quality) = decoded.boxes.value(*word, ValueKind::Float);
            (column.series, *time, value, quality)
        })
    }))
}

proptest! {
    #[test]
    fn values_of_all_kinds_come_back(batches in batches()) {
        let block = build(&batches);
        let found = decode(&block.bytes, &block.rows, Seq::FIRST).unwrap();
        prop_assert_eq!(decoded(&found), shown(batches.iter().flatten().cloned()));
        let boxed = batches.iter().flatten().any(|(_, _, value, quality)| {
            *quality != Quality::Good || match value {
                Value::Null | Value::Text(_) => true,
                Value::Int(integer) => integer.unsigned_abs() > 1 << 53,
                Value::Float(_) | Value::Bool(_) => false,
            }
        });
        prop_assert_eq!(block.bytes[0] == 3, boxed);
    }

    #[test]
    fn a_repacked_run_of_all_kinds_equals_its_parts(batches in batches()) {
        let parts: Vec<Block> = batches.iter().map(|batch| build(std::slice::from_ref(batch))).collect();
        let rows = |block: &Block| block.rows.iter().next().unwrap();
        let run = repack(parts.iter().map(|part| (part.bytes.as_slice(), rows(part)))).unwrap();
        prop_assert_eq!(&run, &build(&batches));
    }

    #[test]
    fn damaged_values_of_all_kinds_never_panic(
        batches in batches(), at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut block = build(&batches);
        let at = at.index(block.bytes.len());
        if cut { block.bytes.truncate(at) } else { block.bytes[at] = to }
        let _ = decode(&block.bytes, &block.rows, Seq::FIRST);
    }
}

#[test]
fn the_bytes_of_codec_3_do_not_change() {
    let batch: Vec<Row> = vec![
        (0, 1_000, Value::Float(1.5), Quality::Good),
        (0, 2_000, Value::Float(2.5), Quality::Uncertain),
        (1, 1_000, Value::Null, Quality::Good),
        (1, 2_000, Value::Null, Quality::Bad),
        (2, 1_000, Value::Text("on".into()), Quality::Good),
        (2, 2_000, Value::Text("on".into()), Quality::Good),
        (3, 1_000, Value::Int(i64::MAX), Quality::Good),
        (3, 2_000, Value::Bool(true), Quality::Bad),
    ];
    let block = build(std::slice::from_ref(&batch));
    assert_eq!(hex(&block.bytes), include_str!("../golden_block_v3.hex").trim());
    let found = decode(&block.bytes, &block.rows, Seq::FIRST).unwrap();
    assert_eq!(decoded(&found), shown(batch.into_iter()));
}

#[test]
fn a_few_words_that_are_none_cost_the_others_nothing() {
    let rows = |with: bool| -> Vec<Row> {
        let value = |n: i64| match n % 100 {
            7 if with => Value::Null,
            _ => Value::Float((200 + n % 7) as f64 / 10.0),
        };
        (0..4_000).map(|n| (0, n * 1_000_000_000, value(n), Quality::Good)).collect()
    };
    let (plain, with) = (build(&[rows(false)]).bytes.len(), build(&[rows(true)]).bytes.len());
    assert!(with < plain + 200, "{with} bytes instead of {plain}");
}

#[test]
fn texts_that_come_back_are_written_once_and_those_of_a_run_are_compressed() {
    let text = |n: i64| Value::Text(format!("pump {n} started by schedule {n}").into());
    let batch =
        |seq: i64| -> Vec<Row> { (0..20).map(|n| (0, n, text(seq * 20 + n), Quality::Good)).collect() };
    let run = build(&(0..20).map(batch).collect::<Vec<_>>()).bytes.len();
    assert!(run < 400 * 14, "{run} bytes for 400 texts of some 30");
    let same: Vec<Row> = (0..400).map(|n| (0, n, text(1), Quality::Good)).collect();
    let same = build(&[same]).bytes.len();
    assert!(same < 250, "{same} bytes for one text in 400 readings");
}
