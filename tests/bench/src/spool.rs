//! Durable append: the spool beside a bare append and fdatasync of the same bytes.

use std::io::Write as _;

use tideline_protocol::model::{DeviceId, PointId, Sample, SeriesDef, SeriesNo};
use tideline_spool::{EncodedBatch, Spool, SpoolConfig, encode_batch};

use crate::workload::{Batch, walk};
use crate::{Figure, median_of};

const SERIES: u32 = 1_000;
const SECONDS: usize = 1_000;
const SHAPE: &str = "walk, 1,000 readings a batch";

pub fn slices(batch: &Batch) -> Vec<(SeriesNo, &[Sample])> {
    batch.iter().map(|(no, samples)| (*no, samples.as_slice())).collect()
}

/// A new spool in a folder of its own, with the dictionary durable.
fn open() -> anyhow::Result<(tempfile::TempDir, Spool)> {
    let dir = tempfile::tempdir_in(".")?;
    let (mut spool, _) =
        Spool::open_file(&dir.path().join("spool.redb"), SpoolConfig { quota_bytes: 1 << 30 })?;
    for i in 0..SERIES {
        let (device, point) = (DeviceId::parse("bench")?, PointId::parse(&format!("p{i}"))?);
        spool.series_no(&SeriesDef { device, point, unit: String::new() })?;
    }
    spool.append(&[(0, &[Sample { time_ns: 0, value: 0.0 }])], &[])?;
    Ok((dir, spool))
}

fn bare_file() -> anyhow::Result<(tempfile::TempDir, std::fs::File)> {
    let dir = tempfile::tempdir_in(".")?;
    let file = std::fs::File::create(dir.path().join("log"))?;
    Ok((dir, file))
}

fn bare(file: &mut std::fs::File, encoded: &[EncodedBatch]) -> anyhow::Result<()> {
    for batch in encoded {
        file.write_all(&vec![0x5a; batch.bytes()])?;
        file.sync_data()?;
    }
    Ok(())
}

pub fn measure(figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let batches = walk(SERIES, SECONDS);
    let encoded = batches.iter().map(|b| encode_batch(&slices(b))).collect::<Result<Vec<_>, _>>()?;
    let rows = f64::from(SERIES) * SECONDS as f64;
    let bare_s = median_of(bare_file, |(_, file)| bare(file, &encoded))?;
    let mut flash = 0;
    let apart_s = median_of(open, |(_, spool)| {
        let before = spool.bytes_written();
        for batch in &encoded {
            spool.append_encoded(batch, &[])?;
        }
        flash = spool.bytes_written() - before;
        Ok(())
    })?;
    let whole_s = median_of(open, |(_, spool)| {
        for batch in &batches {
            spool.append(&slices(batch), &[])?;
        }
        Ok(())
    })?;
    let mut push = |name, value, unit| figures.push(Figure { name, workload: SHAPE, value, unit });
    push("bare append + fdatasync of the same bytes", rows / bare_s / 1e6, "M readings/s");
    push("spool append, durable, encoding apart", rows / apart_s / 1e6, "M readings/s");
    push("  of the bare log (goal 50)", bare_s / apart_s * 100.0, "%");
    push("spool append, durable, with encoding (goal 1)", rows / whole_s / 1e6, "M readings/s");
    push("flash bytes handed to the storage", flash as f64 / rows, "B/reading");
    Ok(())
}
