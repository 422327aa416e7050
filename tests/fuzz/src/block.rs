//! The block codec: blocks of a peer that is not trusted, and what comes back of our own.

use std::collections::BTreeMap;

use tideline_protocol::block::{self, BlockBuilder, CELLS_MAX, Decoded};
use tideline_protocol::model::{RowCounts, Sample, Seq, SeriesNo};
use tideline_protocol::value::{Boxes, Quality, Value};
use tideline_protocol::wire::{RUN_ROWS_MAX, RUN_SEQS_MAX};

use crate::input::Input;

/// Longest block that is encoded again: a few bytes can hold a million equal rows.
const AGAIN_ROWS_MAX: usize = 4096;

/// Bytes from hexadecimal text; `None` when it is none.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let text = text.split_whitespace().last()?;
    let pairs = (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok());
    pairs.collect()
}

pub fn seeds() -> Vec<Vec<u8>> {
    let golden = unhex(include_str!("../../../shared/protocol/src/block/golden_block_v1.hex"));
    let sizes = [(1, 1, 1), (1, 3, 40), (4, 2, 7), (30, 1, 2), (2, 12, 1)];
    let blocks = sizes.iter().map(|&(seqs, series, rows)| own_block(seqs, series, rows));
    let hostile = blocks.map(|(rows, bytes)| [&[0, 1], &rows[..], &bytes[..]].concat());
    let golden = golden.map(|bytes| [&[0, 1, 1, 0, 3, 0][..], &bytes].concat());
    let singles = unhex(include_str!("../../../shared/protocol/src/block/golden_block_v2.hex"));
    let singles = singles.map(|bytes| [&[0, 1, 1, 0, 4, 0][..], &bytes].concat());
    let text = b"round trips of all forms: 0123456789 ~ \x00\x80\xff\x7f";
    let round = (1_u8..6).map(|mode| [&[mode][..], text, text, &text[usize::from(mode)..]].concat());
    let boxed = [(1, 3), (3, 20)].map(|(seqs, rows)| boxed_block(seqs, rows));
    let boxed = boxed.map(|(rows, bytes)| [&[0, 1], &rows[..], &bytes[..]].concat());
    hostile.chain(golden).chain(singles).chain(round).chain(boxed).collect()
}

/// A block of our own, with what [`row_counts`] makes its rows of.
fn own_block(seqs: u16, series: u16, rows: u16) -> ([u8; 4], Vec<u8>) {
    let mut builder = BlockBuilder::new();
    for seq in 0..seqs {
        let samples: Vec<Sample> = (0..rows)
            .map(|row| Sample { time_ns: i64::from(seq * 100 + row), value: f64::from(row) / 8.0 })
            .collect();
        let items: Vec<_> = (0..series).map(|number| (SeriesNo::from(number), &samples[..])).collect();
        builder.push_batch(&items);
    }
    let [s0, s1] = seqs.to_le_bytes();
    let [r0, r1] = (series * rows).to_le_bytes();
    ([s0, s1, r0, r1], builder.finish().bytes)
}

/// A block of one series of values of all kinds.
fn boxed_block(seqs: u8, rows: u8) -> ([u8; 4], Vec<u8>) {
    let mut builder = BlockBuilder::new();
    for seq in 0..seqs {
        let mut boxes = Boxes::new();
        let samples: Vec<Sample> = (0..rows)
            .map(|row| {
                let bytes = [row, seq, 0xff, 0, 0, 0, 0, 0, 0x7f];
                let (value, quality) = typed(&mut Input::new(&bytes));
                Sample { time_ns: i64::from(seq) * 100 + i64::from(row), value: boxes.word(value, quality) }
            })
            .collect();
        builder.push_boxed(&[(0, &samples[..])], &boxes);
    }
    ([seqs, 0, rows, 0], builder.finish().bytes)
}

/// The first byte: 0 for a hostile block, else a form of our own.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() {
        0 => {
            let (rows, first) = (row_counts(&mut input), Seq::FIRST);
            hostile(input.rest(), &rows, first);
        }
        form => round_trip(form, input),
    }
}

/// How many runs of equal counts, then for each how many seqs and the rows of each.
fn row_counts(input: &mut Input<'_>) -> RowCounts {
    let mut rows = RowCounts::default();
    for _ in 0..input.byte() % 8 {
        let (seqs, each) = (input.short(), u32::from(input.short()));
        let mut unit = RowCounts::one(each);
        for bit in 0..u16::BITS {
            if seqs & (1 << bit) != 0 {
                rows.append(&unit);
            }
            let twice = unit.clone();
            unit.append(&twice);
        }
    }
    rows
}

/// Decodes a block that may hold anything: refused with a reason, or exactly what was announced.
pub fn hostile(bytes: &[u8], rows: &RowCounts, first: Seq) {
    let decoded = match block::decode(bytes, rows, first) {
        Ok(decoded) => decoded,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(rows.total() <= RUN_ROWS_MAX && rows.seqs() <= RUN_SEQS_MAX);
    assert_eq!(decoded.rows() as u64, rows.total(), "other rows than announced");
    let seqs = usize::try_from(rows.seqs()).unwrap_or(usize::MAX);
    assert!(decoded.columns.len().saturating_mul(seqs) <= CELLS_MAX);
    for pair in decoded.columns.windows(2) {
        assert!(pair[0].series < pair[1].series, "a series comes twice");
    }
    for column in &decoded.columns {
        let sum: usize = column.rows_per_seq.iter().map(|rows| *rows as usize).sum();
        assert_eq!((column.times.len(), column.values.len()), (sum, sum));
        assert_eq!(column.rows_per_seq.len(), seqs);
    }
    if decoded.rows() <= AGAIN_ROWS_MAX && decoded.columns.len() * seqs <= AGAIN_ROWS_MAX {
        again(&decoded, rows, seqs);
    }
}

/// What was decoded is encoded by our own hand and comes back the same.
fn again(decoded: &Decoded, rows: &RowCounts, seqs: usize) {
    let mut builder = BlockBuilder::new();
    let mut taken: Vec<usize> = vec![0; decoded.columns.len()];
    for seq in 0..seqs {
        let mut items = Vec::new();
        for (column, at) in decoded.columns.iter().zip(&mut taken) {
            let end = *at + column.rows_per_seq[seq] as usize;
            let rows = column.times[*at..end].iter().zip(&column.values[*at..end]);
            let samples: Vec<Sample> =
                rows.map(|(time_ns, value)| Sample { time_ns: *time_ns, value: *value }).collect();
            items.push((column.series, samples));
            *at = end;
        }
        let items: Vec<_> = items.iter().map(|(series, samples)| (*series, &samples[..])).collect();
        builder.push_boxed(&items, &decoded.boxes);
    }
    let block = builder.finish();
    assert_eq!(block.rows.iter().collect::<Vec<_>>(), rows.iter().collect::<Vec<_>>());
    let back = block::decode(&block.bytes, &block.rows, Seq::FIRST).expect("our own block");
    let plain = |decoded: &Decoded| -> Vec<_> {
        let columns = decoded.columns.iter().filter(|column| !column.times.is_empty());
        columns
            .map(|c| (c.series, c.rows_per_seq.clone(), c.times.clone(), prints(&c.values, &decoded.boxes)))
            .collect()
    };
    assert_eq!(plain(&back), plain(decoded));
}

/// What is the same is so whatever the number of its entry.
fn prints(words: &[f64], boxes: &Boxes) -> Vec<u64> {
    words.iter().map(|word| boxes.print(*word)).collect()
}

/// A value that no word of its own stands for, or one of few that do.
fn typed(input: &mut Input<'_>) -> (Value, Quality) {
    let form = input.byte();
    let value = match form & 7 {
        0 => Value::Text("ä".repeat(usize::from(input.byte() % 40)).into()),
        1 => Value::Text(format!("state {}", input.byte() % 4).into()),
        2 => Value::Int(input.long().cast_signed()),
        3 => Value::Null,
        4 => Value::Bool(form >> 7 == 0),
        5 => Value::Float(f64::from_bits(input.long())),
        _ => Value::Float(-f64::from(form >> 7)),
    };
    (value, Quality::ALL[usize::from(form >> 3 & 15) % Quality::ALL.len()])
}

fn sample(form: u8, input: &mut Input<'_>, last: &mut i64, boxes: &mut Boxes) -> Sample {
    *last = if form & 1 == 0 {
        last.wrapping_add(i64::from(input.byte()))
    } else {
        i64::from_le_bytes(input.array())
    };
    let value = match form >> 1 & 3 {
        0 => f64::from(input.short()) / 100.0,
        1 => f64::from(input.byte()) * 10_f64.powi(i32::from(form >> 3) - 16),
        2 => f64::from_bits(input.long()),
        _ => {
            let (value, quality) = typed(input);
            boxes.word(value, quality)
        }
    };
    Sample { time_ns: *last, value }
}

/// Batches of our own, one block of each and one of all: the same readings come back, bit for bit, and what is no
/// plain number with its quality.
fn round_trip(form: u8, mut input: Input<'_>) {
    let mut model: BTreeMap<SeriesNo, Vec<(u64, i64, u64)>> = BTreeMap::new();
    let (mut all, mut parts, mut last) = (BlockBuilder::new(), Vec::new(), 0);
    for seq in 1..=u64::from(input.byte() % 6 + 1) {
        let (mut items, mut boxes): (Vec<(SeriesNo, Vec<Sample>)>, _) = (Vec::new(), Boxes::new());
        for _ in 0..input.byte() % 6 {
            let series = SeriesNo::from(input.short() >> 1);
            let rows = 0..input.byte() % 24;
            let samples = rows.map(|_| sample(form, &mut input, &mut last, &mut boxes)).collect();
            items.push((series, samples));
        }
        let items: Vec<_> = items.iter().map(|(series, samples)| (*series, &samples[..])).collect();
        for (series, samples) in &items {
            let rows = samples.iter().map(|s| (seq, s.time_ns, boxes.print(s.value)));
            model.entry(*series).or_default().extend(rows);
        }
        all.push_boxed(&items, &boxes);
        let mut one = BlockBuilder::new();
        one.push_boxed(&items, &boxes);
        parts.push(one.finish());
    }
    model.retain(|_, rows| !rows.is_empty());
    let all = all.finish();
    let total = |part: &block::Block| u32::try_from(part.rows.total()).expect("few rows");
    let packed = block::repack(parts.iter().map(|part| (&part.bytes[..], total(part))));
    for block in [all, packed.expect("our own blocks")] {
        let decoded = block::decode(&block.bytes, &block.rows, Seq::FIRST).expect("our own block");
        let mut found: BTreeMap<SeriesNo, Vec<(u64, i64, u64)>> = BTreeMap::new();
        for column in &decoded.columns {
            let seqs = (1..).zip(&column.rows_per_seq);
            let seqs = seqs.flat_map(|(seq, rows)| std::iter::repeat_n(seq, *rows as usize));
            let rows = seqs.zip(column.times.iter().copied()).zip(&column.values);
            let rows = rows.map(|((seq, time), value)| (seq, time, decoded.boxes.print(*value)));
            found.insert(column.series, rows.collect());
        }
        assert_eq!(found, model);
        assert_eq!(block.series_end, model.last_key_value().map_or(0, |(series, _)| series + 1));
    }
}
