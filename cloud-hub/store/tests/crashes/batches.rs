//! What agents send.

use tideline_protocol::block::BlockBuilder;
use tideline_protocol::durability::{Batch, Validated};
use tideline_protocol::model::{AgentId, DropCause, Epoch, Gap, RowCounts, Sample, Seq};
use tideline_protocol::value::Boxes;
use tideline_protocol::wire::{Lane, Run, RunEnvelope};

use crate::reference::{Item, Row, SERIES, given};

pub const EPOCH: Epoch = Epoch::from_bytes([7; 16]);

pub fn agent(no: usize) -> AgentId {
    AgentId::parse(["pump-house", "gate-house"][no]).unwrap()
}

pub fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// A run of an agent; all of it has rows.
pub fn run(agent_no: usize, first: u64, seqs: &[&[Row]]) -> Batch<Validated> {
    let mut builder = BlockBuilder::new();
    for rows in seqs {
        let mut boxes = Boxes::new();
        let samples: Vec<(u32, [Sample; 1])> = rows
            .iter()
            .map(|(no, time_ns, n)| {
                let (value, quality) = given(SERIES[agent_no][*no as usize].1, *n);
                (*no, [Sample { time_ns: *time_ns, value: boxes.word(value, quality) }])
            })
            .collect();
        let items: Vec<(u32, &[Sample])> = samples.iter().map(|(no, one)| (*no, &one[..])).collect();
        builder.push_boxed(&items, &boxes);
    }
    let block = builder.finish();
    batch(agent_no, first, block.rows, block.bytes)
}

pub fn batch(agent_no: usize, first: u64, rows: RowCounts, block: Vec<u8>) -> Batch<Validated> {
    let (epoch, lane, first, series_end) = (EPOCH, Lane::Live, Seq::new(first), 3);
    let envelope = RunEnvelope { epoch, lane, first, rows, series_end, restamps: vec![] };
    Batch::received(agent(agent_no), Run { envelope, block }).validate(3).unwrap()
}

pub fn gap(item: &Item) -> Gap {
    let rows = RowCounts::one(u32::try_from(item.rows()).unwrap());
    Gap { first: Seq::new(item.seq), rows, from_ns: 0, to_ns: 9, cause: DropCause::Quota }
}
