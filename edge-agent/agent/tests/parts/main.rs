//! The agent's parts, put together as a running agent has them, against real files, sockets and a
//! hub's end of the protocol.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

mod chooser;
mod commands;
mod custom;
mod hub;
mod intake;
mod page;
mod pipelines;
mod process;
mod profile;
mod reload;
mod resilience;
mod serve;
mod spooler;
mod sync;
mod trial;
mod twin;
mod ways;
mod wide;

use std::path::Path;
use std::time::Duration;

use edge_agent::spooler::{SeriesRows, SpoolHandle, SpoolState};
use edge_agent::status::{Board, Status};
use tideline_protocol::model::{DeviceId, PointId, Sample, SeriesDef};
use tideline_spool::SpoolConfig;

/// Longest wait for anything; far more than it takes.
const LONG: Duration = Duration::from_secs(60);

/// `rows` readings of one series.
fn readings(rows: i64) -> Vec<SeriesRows> {
    let (device, point) = (DeviceId::parse("pump-7").unwrap(), PointId::parse("flow").unwrap());
    let samples = (0..rows).map(|row| Sample { time_ns: row, value: 0.5 }).collect();
    vec![(SeriesDef::new(device, point, "l/s".into()), samples)]
}

fn spool(folder: &Path, board: &Board) -> SpoolHandle {
    SpoolHandle::start(folder.join("spool.redb"), SpoolConfig::default(), board.clone()).unwrap().0
}

/// Waits until the spool is so.
async fn until(spool: &SpoolHandle, what: impl FnMut(&SpoolState) -> bool) -> SpoolState {
    let mut state = spool.state();
    let found = tokio::time::timeout(LONG, state.wait_for(what)).await;
    *found.expect("it does not happen").expect("the spool has ended")
}

/// Waits until the status is so.
async fn until_shown(board: &Board, what: impl Fn(&Status) -> bool) -> Status {
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    let seen = async {
        loop {
            looks.tick().await;
            let status = board.read();
            if what(&status) {
                return status;
            }
        }
    };
    tokio::time::timeout(LONG, seen).await.expect("it is never shown")
}
