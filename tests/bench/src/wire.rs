//! Bytes of frames per reading, and what packing and reading them costs.

use std::hint::black_box;

use tideline_protocol::block::{Block, BlockBuilder, decode, repack};
use tideline_protocol::model::{Epoch, Seq};
use tideline_protocol::wire::{Lane, Message, Run, RunEnvelope, encode};

use crate::spool::slices;
use crate::workload::{Batch, nab, walk};
use crate::{Figure, median_s};

/// Batches of one second in a backlog run of the walk.
const RUN_SEQS: usize = 500;

fn block(batch: &Batch) -> Block {
    let mut builder = BlockBuilder::new();
    builder.push_batch(&slices(batch));
    builder.finish()
}

fn pack(blocks: &[Block]) -> anyhow::Result<Block> {
    Ok(repack(blocks.iter().map(|b| (b.bytes.as_slice(), b.rows.iter().next().unwrap_or(0))))?)
}

fn frame_bytes(block: &Block) -> usize {
    let envelope = RunEnvelope {
        epoch: Epoch::from_bytes([1; 16]),
        lane: Lane::Backfill,
        first: Seq::FIRST,
        rows: block.rows.clone(),
        series_end: block.series_end,
        restamps: vec![],
    };
    encode(&Message::Run(Run { envelope, block: block.bytes.clone() }).into()).len()
}

pub fn measure(figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let live: Vec<Block> = walk(1_000, RUN_SEQS).iter().map(block).collect();
    let rows = 1_000.0 * RUN_SEQS as f64;
    let live_bytes: usize = live.iter().map(frame_bytes).sum();
    let run = pack(&live)?;
    let pack_s = median_s(|| {
        black_box(pack(&live)?);
        Ok(())
    })?;
    let read_s = median_s(|| {
        black_box(decode(&run.bytes, &run.rows, Seq::FIRST)?);
        Ok(())
    })?;
    let mut push = |name, workload, value, unit| figures.push(Figure { name, workload, value, unit });
    push("frame bytes, live", "walk, one frame a second", live_bytes as f64 / rows, "B/reading");
    push("frame bytes, backlog", "walk, runs of 500 s", frame_bytes(&run) as f64 / rows, "B/reading");
    push("re-packing a run, one core", "walk, runs of 500 s", rows / pack_s / 1e6, "M readings/s");
    push("decoding a run, one core", "walk, runs of 500 s", rows / read_s / 1e6, "M readings/s");
    for (name, label) in [
        ("machine_temperature_system_failure.csv", "machine_temperature, batches of 100"),
        ("ambient_temperature_system_failure.csv", "ambient_temperature, batches of 100"),
        ("occupancy_6005.csv", "occupancy, batches of 100"),
    ] {
        let Some(batches) = nab(name, 100) else {
            println!("no {name} beside the project: its figure is left out");
            continue;
        };
        let count: usize = batches.iter().flatten().map(|(_, samples)| samples.len()).sum();
        let run = pack(&batches.iter().map(block).collect::<Vec<_>>())?;
        push("frame bytes, backlog as one run", label, frame_bytes(&run) as f64 / count as f64, "B/reading");
    }
    Ok(())
}
