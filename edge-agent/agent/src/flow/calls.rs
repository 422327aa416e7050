//! What was asked of the pipelines since their state was last written whole.
//!
//! ```text
//! whole state, of a moment ──▶ part 1 ──▶ part 2 ──▶ …        each durable with the results that followed from it
//! ```
//! The same calls give the same outcomes. So a state is that of some time ago and the calls since, and what a batch adds to
//! what is durable are the readings that pipelines keep something of, packed as batches are, and not all that is kept. With a
//! window of a minute that is a tenth and less.
//!
//! ```text
//! "TLPL"  version u16  length u32  zstd of so many bytes of CBOR: the whole state that it follows, its number among
//!  4       2            4           the parts, series that are named first in it, calls      (little-endian)
//! ```
//! The readings of a call are a block as that of a batch. The spool keeps a checksum of each part.
//!
//! Invariant: parts are numbered from 1, without a hole; one that follows another state is left over and counts for nothing. One
//! that is lost with damage to the spool costs what it told, and those behind it are asked all the same.

use std::collections::HashMap;

use minicbor::{Decode, Encode};
use tideline_pipeline::{Chunk, Now, Pipelines, Setting};
use tideline_protocol::block::{self, BlockBuilder};
use tideline_protocol::model::{RowCounts, Sample, Seq, SeriesDef, SeriesNo};
use tideline_protocol::value::Boxes;
use tideline_protocol::wire::RUN_ROWS_MAX;

use super::kept::{KeptError, pack, unpack};
use crate::spooler::SeriesRows;

const MAGIC: [u8; 4] = *b"TLPL";
const VERSION: u16 = 1;
/// Most parts behind a whole state: each has a name in the spool, which goes on to take its room there.
pub const PARTS_MAX: u32 = 64;
/// Parts together are allowed so many times the bytes of the whole state: what it costs to write that is shared by them.
const PARTS_PER_WHOLE: usize = 4;
/// And so many bytes where that is less.
const PARTS_BYTES_MIN: usize = 64 * 1024;
/// Most series that parts name, before the state is written whole.
const SERIES_MAX: usize = 65_536;

/// A call of the pipelines.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(array)]
struct Call {
    #[n(0)]
    now: Now,
    /// The clock that gave the readings their times.
    #[n(1)]
    clock: Option<Setting>,
    /// How many readings; none where only time passed.
    #[n(2)]
    rows: u32,
    #[cbor(n(3), with = "minicbor::bytes")]
    block: Vec<u8>,
}

#[derive(Debug, PartialEq, Encode, Decode)]
#[cbor(array)]
struct Part {
    #[n(0)]
    of: u64,
    #[n(1)]
    number: u32,
    /// The number of the first series that it names.
    #[n(2)]
    series_from: SeriesNo,
    #[n(3)]
    series: Vec<SeriesDef>,
    #[n(4)]
    calls: Vec<Call>,
}

/// The calls since the whole state that is durable.
#[derive(Debug, Default)]
pub struct Calls {
    /// What tells that state from others; none where it has to be written first.
    of: Option<u64>,
    whole_bytes: usize,
    /// Parts that are durable, and their bytes.
    parts: u32,
    parts_bytes: usize,
    numbers: HashMap<SeriesDef, SeriesNo>,
    /// Series that no durable part names.
    fresh: Vec<SeriesDef>,
    pending: Vec<Call>,
    /// Whether one of those that are pending is more than time that passed and nothing came of it.
    has_news: bool,
    handed: Handed,
}

/// What waits to be durable.
#[derive(Debug, Default)]
enum Handed {
    #[default]
    Nothing,
    Whole {
        of: u64,
        bytes: usize,
    },
    Part {
        calls: usize,
        series: usize,
        bytes: usize,
    },
}

impl Calls {
    /// The state has to be written whole: other pipelines run, or what cannot be told in parts came.
    pub fn begin_anew(&mut self) {
        self.of = None;
    }

    /// Whether the state is to be written whole.
    pub fn is_whole_due(&self) -> bool {
        let bytes_max = self.whole_bytes.saturating_mul(PARTS_PER_WHOLE).max(PARTS_BYTES_MIN);
        self.of.is_none() || (self.has_news && (self.parts >= PARTS_MAX || self.parts_bytes >= bytes_max))
    }

    /// Notes readings that are about to be run, as far as anything is kept of them.
    pub fn note(
        &mut self,
        now: Now,
        clock: Option<Setting>,
        rows: &[SeriesRows],
        boxes: &Boxes,
        keeps: impl FnMut(&SeriesDef) -> bool,
    ) {
        // What is written whole next has all that came before.
        if self.of.is_none() {
            return;
        }
        let mut keeps = keeps;
        let mut items: Vec<(SeriesNo, &[Sample])> = Vec::new();
        for (def, samples) in rows.iter().filter(|(def, samples)| !samples.is_empty() && keeps(def)) {
            items.push((self.number(def), samples));
        }
        let count: u64 = items.iter().map(|(_, samples)| samples.len() as u64).sum();
        let Some(rows) = u32::try_from(count).ok().filter(|_| count <= RUN_ROWS_MAX) else {
            return self.begin_anew();
        };
        if rows == 0 {
            return;
        }
        if self.numbers.len() > SERIES_MAX {
            return self.begin_anew();
        }
        let mut builder = BlockBuilder::new();
        builder.push_boxed(&items, boxes);
        self.pending.push(Call { now, clock, rows, block: builder.finish().bytes });
        self.has_news = true;
    }

    /// Notes that time passed; whether anything came of it.
    pub fn note_tick(&mut self, now: Now, is_news: bool) {
        if self.of.is_none() {
            return;
        }
        // Of several of which nothing came the last says all.
        if !is_news && self.pending.last().is_some_and(|last| last.rows == 0) {
            self.pending.pop();
        }
        self.pending.push(Call { now, clock: None, rows: 0, block: Vec::new() });
        self.has_news |= is_news;
    }

    fn number(&mut self, def: &SeriesDef) -> SeriesNo {
        if let Some(number) = self.numbers.get(def) {
            return *number;
        }
        let number = SeriesNo::try_from(self.numbers.len()).unwrap_or(SeriesNo::MAX);
        self.numbers.insert(def.clone(), number);
        self.fresh.push(def.clone());
        number
    }

    /// Whether all that is kept is in a state that is whole.
    pub const fn is_whole(&self) -> bool {
        self.of.is_some() && self.parts == 0 && !self.has_news
    }

    /// The state was written whole as these bytes, which wait to be durable.
    pub fn hand_whole(&mut self, of: u64, bytes: usize) {
        self.handed = Handed::Whole { of, bytes };
        // What comes from now on is of that state, and what came before is in it.
        (self.of, self.parts, self.parts_bytes, self.whole_bytes) = (Some(of), 0, 0, bytes);
        self.numbers.clear();
        self.fresh.clear();
        self.pending.clear();
        self.has_news = false;
    }

    /// The next part and its number, which waits to be durable; none without news.
    pub fn hand_part(&mut self) -> Option<(u32, Vec<u8>)> {
        let of = self.of.filter(|_| self.has_news)?;
        let number = self.parts.saturating_add(1);
        let named = self.numbers.len().saturating_sub(self.fresh.len());
        let series_from = SeriesNo::try_from(named).unwrap_or(SeriesNo::MAX);
        let (series, calls) = (self.fresh.clone(), self.pending.clone());
        let part = Part { of, number, series_from, series, calls };
        // Writing to a vector cannot fail.
        let bytes = pack(MAGIC, VERSION, &minicbor::to_vec(&part).unwrap_or_default());
        let (calls, series) = (self.pending.len(), self.fresh.len());
        self.handed = Handed::Part { calls, series, bytes: bytes.len() };
        Some((number, bytes))
    }

    /// What was handed last is durable.
    pub fn saved(&mut self) {
        match std::mem::take(&mut self.handed) {
            Handed::Nothing => {}
            Handed::Whole { of, bytes } => (self.of, self.whole_bytes) = (self.of.and(Some(of)), bytes),
            Handed::Part { calls, series, bytes } => {
                self.parts = self.parts.saturating_add(1);
                self.parts_bytes = self.parts_bytes.saturating_add(bytes);
                self.pending.drain(..calls.min(self.pending.len()));
                self.fresh.drain(..series.min(self.fresh.len()));
                self.has_news = self.pending.iter().any(|call| call.rows > 0);
            }
        }
    }
}

/// What came of asking again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Parts whose calls were made again.
    pub parts: u32,
    /// Parts that are missing or damaged: what they told is lost.
    pub lost: u32,
}

/// Asks again what the parts of a state tell, each under its number. What is left over from another state says nothing.
pub fn ask_again(of: u64, parts: &[Vec<u8>], pipelines: &mut Pipelines) -> Asked {
    let read = |bytes: &Vec<u8>| -> Result<Part, KeptError> {
        minicbor::decode(&unpack(MAGIC, VERSION, bytes)?).map_err(|_| KeptError::Damaged)
    };
    let (mut series, mut asked, mut damaged) = (HashMap::new(), Asked::default(), 0_u32);
    for bytes in parts {
        match read(bytes) {
            Ok(part) if part.of == of => {
                // Those before it that are not there.
                asked.lost = part.number.saturating_sub(asked.parts.saturating_add(1));
                damaged = 0;
                match ask(part, &mut series, pipelines) {
                    Ok(()) => asked.parts += 1,
                    Err(_) => asked.lost += 1,
                }
            }
            Ok(_) => {}
            Err(_) => damaged += 1,
        }
    }
    // Behind the last one that is whole nobody knows of what state they were.
    asked.lost = asked.lost.saturating_add(damaged);
    asked
}

fn ask(
    part: Part,
    series: &mut HashMap<SeriesNo, SeriesDef>,
    pipelines: &mut Pipelines,
) -> Result<(), KeptError> {
    series.extend((part.series_from..).zip(part.series));
    let mut is_whole = true;
    for call in part.calls {
        match chunk(&call, series)? {
            None => drop(pipelines.tick(call.now)),
            Some((chunk, all_known)) => {
                is_whole &= all_known;
                drop(pipelines.run(call.now, chunk));
            }
        }
    }
    if is_whole { Ok(()) } else { Err(KeptError::Damaged) }
}

/// The readings of a call, and whether a series is known of all of them: a part that is lost may have named it.
fn chunk(call: &Call, series: &HashMap<SeriesNo, SeriesDef>) -> Result<Option<(Chunk, bool)>, KeptError> {
    if call.rows == 0 {
        return Ok(None);
    }
    let decoded = block::decode(&call.block, &RowCounts::one(call.rows), Seq::FIRST);
    let block::Decoded { columns, boxes } = decoded.map_err(|_| KeptError::Damaged)?;
    let (mut rows, wanted) = (Vec::with_capacity(columns.len()), columns.len());
    for column in columns {
        let Some(def) = series.get(&column.series) else { continue };
        let both = column.times.into_iter().zip(column.values);
        let samples = both.map(|(time_ns, value)| Sample { time_ns, value }).collect();
        rows.push((def.clone(), samples));
    }
    let all_known = rows.len() == wanted;
    Ok(Some((Chunk { rows, boxes, clock: call.clock }, all_known)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn def() -> SeriesDef {
        SeriesDef::new("a".parse().unwrap(), "t".parse().unwrap(), "Cel".into())
    }

    fn noted(calls: &mut Calls, at: i64, keeps: bool) {
        let rows = [(def(), vec![Sample { time_ns: at, value: 1.0 }])];
        calls.note(at.into(), None, &rows, &Boxes::new(), |_| keeps);
    }

    #[test]
    fn a_part_has_what_came_since_the_last_that_is_durable() {
        let mut calls = Calls::default();
        noted(&mut calls, 1, true);
        assert!(calls.is_whole_due() && calls.hand_part().is_none());
        calls.hand_whole(5, 100);
        calls.saved();
        noted(&mut calls, 2, false);
        calls.note_tick(3.into(), false);
        assert!(!calls.is_whole_due() && calls.hand_part().is_none(), "nothing was kept of it");
        noted(&mut calls, 4, true);
        let (number, bytes) = calls.hand_part().unwrap();
        assert_eq!((number, calls.hand_part()), (1, Some((1, bytes))), "it is not durable yet");
        noted(&mut calls, 5, true);
        calls.saved();
        assert_eq!(calls.hand_part().unwrap().0, 2);
        calls.begin_anew();
        assert!(calls.is_whole_due() && calls.hand_part().is_none());
    }

    #[test]
    fn the_state_is_written_whole_when_there_are_many_parts() {
        let mut calls = Calls::default();
        calls.hand_whole(5, 100);
        calls.saved();
        for number in 1..=PARTS_MAX {
            noted(&mut calls, number.into(), true);
            assert!(!calls.is_whole_due());
            assert_eq!(calls.hand_part().unwrap().0, number);
            calls.saved();
        }
        assert!(!calls.is_whole_due(), "nothing came");
        noted(&mut calls, 99, true);
        assert!(calls.is_whole_due());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), rows in 0..9_u32, cut in 0..80_usize) {
            let run = |bytes: Vec<u8>| ask_again(1, &[bytes], &mut Pipelines::default());
            prop_assert_eq!(run(bytes.clone()).parts, 0);
            prop_assert_eq!(run([&MAGIC[..], &[1, 0], &bytes].concat()).parts, 0);
            prop_assert_eq!(run(pack(MAGIC, VERSION, &bytes)).parts, 0);
            let call = Call { now: 1.into(), clock: None, rows, block: bytes };
            let part = Part { of: 1, number: 1, series_from: 0, series: vec![def()], calls: vec![call] };
            let whole = pack(MAGIC, VERSION, &minicbor::to_vec(&part).unwrap());
            prop_assert_eq!(run(whole.get(..cut.min(whole.len() - 1)).unwrap_or_default().to_vec()).parts, 0);
            let asked = run(whole);
            prop_assert_eq!(asked.parts + asked.lost, 1);
        }
    }
}
