//! The wire decoder: any bytes, in pieces of any size; with a right checksum too, so that the bytes
//! behind it are reached.

use tideline_protocol::durability::{Batch, Received};
use tideline_protocol::lives;
use tideline_protocol::model::{AgentId, Seq};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::wire::{self, Decoder, FRAME_BYTES_MAX, Frame, HEADER_LEN, Message, WireError};

use crate::block;

/// One frame of each kind, as the protocol's own tests know them.
pub fn golden_frames() -> Vec<Vec<u8>> {
    let text = include_str!("../../../shared/protocol/src/wire/golden_v1.hex");
    text.lines().filter_map(block::unhex).collect()
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = golden_frames();
    all.push(all.concat());
    [0, 1, 8, 9].iter().flat_map(|mode| all.iter().map(|frame| [&[*mode], &frame[..]].concat())).collect()
}

/// The first byte: bit 0 leaves the checksum as it is, the others are the size of the pieces.
pub fn run(data: &[u8]) {
    let Some((mode, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if mode & 1 == 0 {
        wire::seal(&mut bytes);
    }
    let (whole, error) = decoded(&bytes, bytes.len().max(1));
    let pieces = decoded(&bytes, usize::from(mode >> 1) + 1);
    assert_eq!((&whole, &error), (&pieces.0, &pieces.1), "pieces of another size, other frames");
    let mut rest = bytes.as_slice();
    for frame in &whole {
        // INV-7, and what the next frame begins with.
        let again = wire::encode(frame);
        assert!(rest.starts_with(&again), "{frame:?} encodes to other bytes than it came from");
        rest = rest.get(again.len()..).unwrap_or_default();
        use_message(frame);
    }
    if error.is_none() {
        assert!(rest.len() < HEADER_LEN + FRAME_BYTES_MAX, "a whole frame was left");
    }
}

fn decoded(bytes: &[u8], size: usize) -> (Vec<Frame>, Option<WireError>) {
    let (mut decoder, mut frames) = (Decoder::new(), Vec::new());
    for piece in bytes.chunks(size) {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    return (frames, Some(error));
                }
            }
        }
    }
    (frames, None)
}

/// What both ends do first with a message of a peer that they do not trust.
fn use_message(frame: &Frame) {
    match &frame.message {
        Message::Run(run) => {
            let Ok(agent) = AgentId::parse("pump-7") else { return };
            let (first, last) = (run.envelope.first, run.envelope.last());
            assert!(first <= last, "a run of no seqs was let through");
            let batch = Batch::<Received>::received(agent, run.clone());
            if let Ok(batch) = batch.validate(u32::MAX) {
                let half = RangeSet::of(1, first.get() + (last.get() - first.get()) / 2);
                let left = batch.without(&half);
                assert!(left.taken().intersect(&half).is_empty());
            }
            block::hostile(&run.block, &run.envelope.rows, first);
        }
        Message::Gap(gap) => {
            assert!(gap.first <= gap.last());
            let seqs = gap.rows.seqs();
            let (head, tail) = (gap.rows.part(0, seqs / 2), gap.rows.part(seqs / 2, seqs));
            assert_eq!((head.seqs() + tail.seqs(), head.total() + tail.total()), (seqs, gap.rows.total()));
        }
        Message::Welcome(welcome) => settled(&welcome.settled),
        Message::Ack(ack) => settled(&ack.settled),
        Message::Hello(hello) => {
            assert_eq!(lives::parted(&hello.lives, &hello.lives, &RangeSet::new()), None);
            let (_, branched) = lives::branch(hello.epoch, &hello.lives, hello.head);
            assert!(branched.len() <= hello.lives.len() + 1);
        }
        _ => {}
    }
}

fn settled(settlement: &tideline_protocol::wire::Settlement) {
    let all = settlement.all();
    if let Some(last) = all.last() {
        let before = settlement.before(Seq::new(last));
        assert!(!before.all().contains(last));
    }
}
