//! Durable append: the spool beside a bare append and fdatasync of the same bytes.

use std::io::Write as _;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tideline_protocol::model::{DeviceId, PointId, Sample, SeriesDef, SeriesNo};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::time::{Clock as _, SystemClock};
use tideline_protocol::wire::Settlement;
use tideline_spool::{EncodedBatch, Spool, SpoolConfig, encode_batch, journal_path};

use crate::workload::{Batch, walk};
use crate::{Figure, RUNS, median, median_of};

const SERIES: u32 = 1_000;
const SECONDS: usize = 1_000;
const SHAPE: &str = "walk, 1,000 readings a batch";
/// Batches that one sync makes durable together.
const GROUP: usize = 8;
/// Seconds of the walk in a batch of a slow source, and how many of such batches there are.
const MINUTE: (usize, usize) = (60, 20);
/// What lies in the spool that is opened again.
const HELD_BYTES: u64 = 1_000_000_000;
const HELD_BATCH_ROWS: usize = 10_000;

pub fn slices(batch: &Batch) -> Vec<(SeriesNo, &[Sample])> {
    batch.iter().map(|(no, samples)| (*no, samples.as_slice())).collect()
}

/// A new spool in a folder of its own, with the dictionary durable.
fn open() -> anyhow::Result<(tempfile::TempDir, Spool)> {
    let dir = tempfile::tempdir_in(".")?;
    let (mut spool, _) = Spool::open_file(
        &dir.path().join("spool.redb"),
        SpoolConfig { quota_bytes: 1 << 30, ..SpoolConfig::default() },
    )?;
    for i in 0..SERIES {
        let (device, point) = (DeviceId::parse("bench")?, PointId::parse(&format!("p{i}"))?);
        spool.series_no(&SeriesDef::new(device, point, String::new()))?;
    }
    spool.append(&[(0, &[Sample { time_ns: 0, value: 0.0 }])], &[])?;
    Ok((dir, spool))
}

fn bare_file() -> anyhow::Result<(tempfile::TempDir, std::fs::File)> {
    let dir = tempfile::tempdir_in(".")?;
    let file = std::fs::File::create(dir.path().join("log"))?;
    Ok((dir, file))
}

fn bare(file: &mut std::fs::File, encoded: &[EncodedBatch], group: usize) -> anyhow::Result<()> {
    for group in encoded.chunks(group) {
        for batch in group {
            file.write_all(&vec![0x5a; batch.bytes()])?;
        }
        file.sync_data()?;
    }
    Ok(())
}

/// Seconds of the bare log and of the spool with so many batches a sync, and bytes that the spool wrote. They take
/// turns, so that whatever else the machine does meets both.
fn beside(encoded: &[EncodedBatch], group: usize) -> anyhow::Result<(f64, f64, u64)> {
    let clock = SystemClock::default();
    let since = |start: u64| (clock.mono_ns() - start) as f64 / 1e9;
    let (mut bare_s, mut own_s, mut written) = (Vec::new(), Vec::new(), 0);
    for _ in 0..RUNS {
        let (_dir, mut file) = bare_file()?;
        let start = clock.mono_ns();
        bare(&mut file, encoded, group)?;
        bare_s.push(since(start));
        let (_dir, mut spool) = open()?;
        let before = spool.bytes_written();
        let start = clock.mono_ns();
        for group in encoded.chunks(group) {
            spool.append_group(group, &[])?;
        }
        own_s.push(since(start));
        written = spool.bytes_written() - before;
    }
    Ok((median(&mut bare_s), median(&mut own_s), written))
}

/// Bytes a reading when every batch is acked as soon as it was appended, with all the books of that.
pub fn flash(encoded: &[EncodedBatch]) -> anyhow::Result<f64> {
    let (_dir, mut spool) = open()?;
    let before = spool.bytes_written();
    let mut rows = 0;
    for batch in encoded {
        let seq = spool.append_encoded(batch, &[])?.get();
        let mut stored = RangeSet::new();
        stored.insert(seq, seq);
        spool.settle(&Settlement { stored, ..Settlement::default() })?;
        rows += u64::from(batch.rows());
    }
    // What the acks have changed reaches the tables with the next commit at the latest.
    spool.flush()?;
    Ok((spool.bytes_written() - before) as f64 / rows as f64)
}

/// The walk with one batch a minute.
fn minutes() -> anyhow::Result<Vec<EncodedBatch>> {
    let (seconds, count) = MINUTE;
    let mut out = Vec::new();
    for minute in walk(SERIES, seconds * count).chunks(seconds) {
        let mut series = vec![Vec::with_capacity(seconds); SERIES as usize];
        for (no, samples) in minute.iter().flatten() {
            if let Some(column) = series.get_mut(*no as usize) {
                column.extend_from_slice(samples);
            }
        }
        let batch: Batch = (0..).zip(series).collect();
        out.push(encode_batch(&slices(&batch))?);
    }
    Ok(out)
}

/// Seconds to open a spool of [`HELD_BYTES`] as a kill has left it. The files are copied while the spool
/// is open: that is what the next start finds after a kill, with the page cache warm.
fn reopen() -> anyhow::Result<f64> {
    let mut random = StdRng::seed_from_u64(1);
    let mut batch = || {
        let sample = |i| Sample { time_ns: i, value: f64::from_bits(random.random::<u64>() >> 2) };
        encode_batch(&[(0, &(0..HELD_BATCH_ROWS as i64).map(sample).collect::<Vec<_>>())])
    };
    let encoded = (0..32).map(|_| batch()).collect::<Result<Vec<_>, _>>()?;
    let small = encode_batch(&[(0, &[Sample { time_ns: 0, value: 0.5 }])])?;
    let (dir, after) = (tempfile::tempdir_in(".")?, tempfile::tempdir_in(".")?);
    let config = SpoolConfig { quota_bytes: 4 * HELD_BYTES, ..SpoolConfig::default() };
    let (path, left) = (dir.path().join("spool.redb"), after.path().join("spool.redb"));
    let (mut spool, _) = Spool::open_file(&path, config)?;
    let (device, point) = (DeviceId::parse("bench")?, PointId::parse("p0")?);
    spool.series_no(&SeriesDef::new(device, point, String::new()))?;
    let bytes: usize = encoded.iter().map(EncodedBatch::bytes).sum();
    for _ in 0..HELD_BYTES.div_ceil(bytes as u64) {
        spool.append_group(&encoded, &[])?;
    }
    // Some that only the journal has.
    for _ in 0..100 {
        spool.append_encoded(&small, &[])?;
    }
    for (from, to) in [(path.clone(), left.clone()), (journal_path(&path), journal_path(&left))] {
        std::fs::copy(from, &to)?;
        // As the spool's are: otherwise the first sync of the next start would have the whole copy to write.
        std::fs::File::open(to)?.sync_all()?;
    }
    let clock = SystemClock::default();
    let start = clock.mono_ns();
    let (opened, _) = Spool::open_file(&left, config)?;
    let seconds = (clock.mono_ns() - start) as f64 / 1e9;
    anyhow::ensure!(opened.account() == spool.account(), "the spool has lost something");
    Ok(seconds)
}

pub fn measure(figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let batches = walk(SERIES, SECONDS);
    let encoded = batches.iter().map(|b| encode_batch(&slices(b))).collect::<Result<Vec<_>, _>>()?;
    let rows = f64::from(SERIES) * SECONDS as f64;
    let (bare_s, apart_s, written) = beside(&encoded, 1)?;
    let (bare_group_s, group_s, _) = beside(&encoded, GROUP)?;
    let whole_s = median_of(open, |(_, spool)| {
        for batch in &batches {
            spool.append(&slices(batch), &[])?;
        }
        Ok(())
    })?;
    let mut push = |name, value, unit| figures.push(Figure { name, workload: SHAPE, value, unit });
    push("bare append + fdatasync of the same bytes", rows / bare_s / 1e6, "M readings/s");
    push("spool append, durable, encoding apart", rows / apart_s / 1e6, "M readings/s");
    push("  of the bare log (goal 60)", bare_s / apart_s * 100.0, "%");
    push("spool append, durable, eight batches a sync", rows / group_s / 1e6, "M readings/s");
    push("  of the bare log with eight a sync (goal 80)", bare_group_s / group_s * 100.0, "%");
    push("spool append, durable, with encoding (goal 1)", rows / whole_s / 1e6, "M readings/s");
    push("flash bytes handed to the storage", written as f64 / rows, "B/reading");
    push("flash bytes with acks, one batch a second (goal 40)", flash(&encoded)?, "B/reading");
    let per_minute = flash(&minutes()?)?;
    let workload = "walk, 60,000 readings a batch";
    let name = "flash bytes with acks, one batch a minute (goal 4)";
    figures.push(Figure { name, workload, value: per_minute, unit: "B/reading" });
    let mut times = vec![reopen()?, reopen()?, reopen()?];
    let name = "spool opened again after a kill, three runs (goal 2)";
    figures.push(Figure { name, workload: "1 GB held", value: median(&mut times), unit: "s" });
    Ok(())
}
