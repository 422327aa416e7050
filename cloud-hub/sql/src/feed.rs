//! What a worker is told over its stdin, and the head of what it answers.
//!
//! ```text
//! stdin   ┌ len u32 ┬ kind u8 ┬ payload ┐ …   job, blocks and what is beside them, end; little-endian
//! stdout  ┌ len u32 ┬ head (JSON) ┐ the answer in its format, to the end
//! ```
//! After the end the hub keeps stdin open for as long as it wants the answer: a worker that finds it closed ends.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tideline_protocol::value::Quality;

use crate::answer::Format;
use crate::table::Table;

/// Longest frame: all devices of a hub are in one.
const FRAME_BYTES_MAX: u32 = 256 * 1024 * 1024;
/// Longest head of an answer.
pub const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// Most rows of a block.
pub const BLOCK_ROWS_MAX: usize = 64 * 1024;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The statement.
    pub sql: String,
    /// How to answer.
    pub format: Format,
    /// Most rows of the answer.
    pub rows_max: usize,
    /// The tables that there are, with about how many rows will come.
    pub tables: BTreeMap<Table, usize>,
    /// Which of device, point, unit, text, quality and figures there are.
    pub texts: Vec<String>,
    /// The devices.
    pub devices: Vec<Device>,
}

/// A row of the table of devices.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// The id.
    pub id: String,
    /// The agent that speaks for it.
    pub agent: String,
    /// A name for people.
    pub title: String,
    /// Its profile, as its agent says, like the next three.
    pub profile: String,
    /// Its firmware's version.
    pub firmware: String,
    /// Who made it.
    pub vendor: String,
    /// What the maker calls it.
    pub model: String,
    /// Where it is.
    pub site: String,
    /// Its groups, with commas.
    pub groups: String,
    /// Its tags, as JSON.
    pub tags: String,
    /// Whether its agent is there.
    pub state: String,
    /// Whether its agent was shut out for good.
    pub revoked: bool,
    /// How it is connected.
    pub transport: Option<String>,
    /// The agent's software.
    pub software: Option<String>,
    /// Since when, ns.
    pub connected_ns: Option<i64>,
    /// Its last frame, ns.
    pub last_seen_ns: Option<i64>,
    /// Its newest reading, ns.
    pub last_reading_ns: Option<i64>,
    /// Readings a second.
    pub rate: f64,
    /// Readings that can be queried.
    pub readings: i64,
    /// Readings pending at its agent.
    pub backlog: i64,
}

/// How an answer begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Head {
    /// The answer follows.
    Rows(usize),
    /// It would have more rows than are allowed.
    TooManyRows,
    /// The statement cannot be answered: what Polars says of it.
    Failed(String),
    /// It took more memory than there is for it.
    NoMemory,
}

/// A column of numbers of a block.
#[derive(Debug, Clone, Copy)]
pub enum Numbers<'a> {
    /// Whole numbers.
    I64(&'a [i64]),
    /// Doubles.
    F64(&'a [f64]),
}

const JOB: u8 = 1;
const BLOCK: u8 = 2;
const END: u8 = 3;
const BESIDE: u8 = 4;

/// The frame of a job.
///
/// # Errors
/// It is too long.
pub fn job(job: &Job) -> io::Result<Vec<u8>> {
    framed(JOB, &serde_json::to_vec(job)?)
}

/// The frame of rows of one series: device, point, unit, and the columns of the table in their order.
///
/// # Errors
/// It is too long.
pub fn block(table: Table, texts: [&str; 3], columns: &[Numbers<'_>]) -> io::Result<Vec<u8>> {
    let mut payload = vec![
        Table::ALL.iter().position(|t| *t == table).map_or(u8::MAX, |at| u8::try_from(at).unwrap_or(u8::MAX)),
    ];
    for text in texts {
        payload.extend(u16::try_from(text.len()).map_err(|_| too_long())?.to_le_bytes());
        payload.extend(text.as_bytes());
    }
    for column in columns {
        match column {
            Numbers::I64(numbers) => numbers.iter().for_each(|n| payload.extend(n.to_le_bytes())),
            Numbers::F64(numbers) => numbers.iter().for_each(|n| payload.extend(n.to_le_bytes())),
        }
    }
    framed(BLOCK, &payload)
}

/// What is beside a row of readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// The row, counted from the first of the block.
    pub row: u32,
    /// Its quality.
    pub quality: Quality,
    /// Its text.
    pub text: Option<Arc<str>>,
}

/// The frame of what is beside the rows of the block of readings that was sent last: those that have a text, or are
/// not of good quality.
///
/// # Errors
/// It is too long.
pub fn beside(rows: &[Beside]) -> io::Result<Vec<u8>> {
    let mut payload = Vec::new();
    for Beside { row, quality, text } in rows {
        let len =
            text.as_ref().map_or(Ok(u32::MAX), |text| u32::try_from(text.len())).map_err(|_| too_long())?;
        payload.extend(row.to_le_bytes());
        payload.push(*quality as u8);
        payload.extend(len.to_le_bytes());
        payload.extend(text.as_deref().unwrap_or_default().as_bytes());
    }
    framed(BESIDE, &payload)
}

fn parse_beside(mut rest: &[u8]) -> Option<Vec<Beside>> {
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let (row, after) = rest.split_first_chunk::<4>()?;
        let (quality, after) = after.split_first()?;
        let (len, after) = after.split_first_chunk::<4>()?;
        let (text, after) = match u32::from_le_bytes(*len) {
            u32::MAX => (None, after),
            len => {
                let (text, after) = after.split_at_checked(usize::try_from(len).ok()?)?;
                (Some(std::str::from_utf8(text).ok()?.into()), after)
            }
        };
        let quality = *Quality::ALL.get(usize::from(*quality))?;
        rows.push(Beside { row: u32::from_le_bytes(*row), quality, text });
        rest = after;
    }
    Some(rows)
}

/// The last frame.
#[must_use]
pub fn end() -> Vec<u8> {
    vec![0, 0, 0, 0, END]
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "longer than a frame may be")
}

fn framed(kind: u8, payload: &[u8]) -> io::Result<Vec<u8>> {
    let len = u32::try_from(payload.len()).ok().filter(|len| *len <= FRAME_BYTES_MAX).ok_or_else(too_long)?;
    let mut out = Vec::with_capacity(payload.len() + 5);
    out.extend(len.to_le_bytes());
    out.push(kind);
    out.extend(payload);
    Ok(out)
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Frame {
    Job(Box<Job>),
    Block(Block),
    Beside(Vec<Beside>),
    End,
}

/// Rows of one series.
#[derive(Debug)]
pub(crate) struct Block {
    pub table: Table,
    pub texts: [String; 3],
    /// The columns one after the other.
    pub words: Vec<[u8; 8]>,
}

/// Reads the next frame.
pub(crate) fn read(from: &mut impl Read) -> io::Result<Frame> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let [a, b, c, d, kind] = head;
    let len = u32::from_le_bytes([a, b, c, d]);
    if len > FRAME_BYTES_MAX {
        return Err(too_long());
    }
    let mut payload = vec![0; usize::try_from(len).unwrap_or(0)];
    from.read_exact(&mut payload)?;
    match kind {
        JOB => Ok(Frame::Job(Box::new(serde_json::from_slice(&payload)?))),
        BLOCK => parse(&payload).map(Frame::Block).ok_or_else(|| io::ErrorKind::InvalidData.into()),
        BESIDE => parse_beside(&payload).map(Frame::Beside).ok_or_else(|| io::ErrorKind::InvalidData.into()),
        END => Ok(Frame::End),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn parse(payload: &[u8]) -> Option<Block> {
    let (no, mut rest) = payload.split_first()?;
    let table = *Table::ALL.get(usize::from(*no))?;
    let mut texts: [String; 3] = Default::default();
    for text in &mut texts {
        let (len, after) = rest.split_first_chunk::<2>()?;
        let (own, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        (*text, rest) = (std::str::from_utf8(own).ok()?.to_owned(), after);
    }
    let (words, none) = rest.as_chunks::<8>();
    none.is_empty().then(|| Block { table, texts, words: words.to_vec() })
}

/// The head of an answer, as a frame without a kind.
///
/// # Errors
/// It cannot be written as JSON.
pub(crate) fn head(head: &Head) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(head)?;
    let mut out = u32::try_from(text.len()).map_err(|_| too_long())?.to_le_bytes().to_vec();
    out.extend(text);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beside_rows_reads_back_and_damage_does_not() {
        let rows = [
            Beside { row: 0, quality: Quality::Good, text: Some("".into()) },
            Beside { row: 7, quality: Quality::Bad, text: None },
            Beside { row: 9, quality: Quality::Uncertain, text: Some("läuft".into()) },
        ];
        let frame = beside(&rows).unwrap();
        let Frame::Beside(found) = read(&mut frame.as_slice()).unwrap() else { panic!("another frame") };
        assert_eq!(found, rows);
        let payload = &frame[5..];
        for cut in 1..payload.len() {
            let whole = rows.iter().any(|row| {
                let before = beside(&rows[..rows.iter().position(|r| r == row).unwrap()]).unwrap();
                before.len() - 5 == cut
            });
            assert_eq!(parse_beside(&payload[..cut]).is_some(), whole, "{cut}");
        }
    }

    #[test]
    fn frames_read_back_and_damaged_ones_do_not() {
        let frame = block(
            Table::Readings,
            ["pump-7", "temp", "Cel"],
            &[Numbers::I64(&[1, -2]), Numbers::F64(&[0.5, f64::INFINITY])],
        )
        .unwrap();
        let Frame::Block(found) = read(&mut frame.as_slice()).unwrap() else { panic!("no block") };
        assert_eq!(
            (found.table, found.texts),
            (Table::Readings, ["pump-7", "temp", "Cel"].map(str::to_owned))
        );
        assert_eq!(found.words.iter().map(|w| i64::from_le_bytes(*w)).take(2).collect::<Vec<_>>(), [1, -2]);
        assert!(matches!(read(&mut end().as_slice()).unwrap(), Frame::End));
        for cut in 0..frame.len() {
            assert!(read(&mut frame.get(..cut).unwrap()).is_err(), "{cut}");
        }
        for bad in [
            framed(9, b""),
            framed(BLOCK, b""),
            framed(BLOCK, &[9, 0, 0]),
            framed(BLOCK, &[0, 0, 0, 0, 0, 0, 0, 1]),
        ] {
            assert!(read(&mut bad.unwrap().as_slice()).is_err());
        }
        assert!(read(&mut [255, 255, 255, 255, JOB].as_slice()).is_err());
    }
}
