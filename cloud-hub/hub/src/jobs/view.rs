//! What is shown of a job.

use std::sync::Arc;

use tideline_protocol::model::DeviceId;
use tideline_store::LogPlace;
use tideline_streams::{DeviceView, Engine, StatementView, Totals};

use super::feed::Feed;
use super::results::{Row, SideRow};
use super::saved::Tally;
use crate::hub::Hub;

/// Devices that are shown of a job: those with the most late readings, then by id.
pub const DEVICES_SHOWN_MAX: usize = 1_000;

/// A job as it was a moment ago.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Up to where it has read the log.
    pub place: LogPlace,
    /// What the engine did since its state began.
    pub totals: Totals,
    /// What it holds, in bytes as its limit counts them.
    pub state_bytes: u64,
    /// Slices of windows and sessions that it holds.
    pub open_windows: u64,
    /// Devices that it knows.
    pub devices: u64,
    /// Some of them, by id.
    pub shown: Vec<(DeviceId, DeviceView)>,
    /// The least watermark of them, ns.
    pub watermark_ns: Option<i64>,
    /// Of the job's statement, if it has one.
    pub statement: Option<StatementView>,
    /// What the runner counted.
    pub tally: Tally,
    /// Bytes of the log that it has not read.
    pub behind_bytes: u64,
    /// When it was last saved, Unix ms, and its bytes.
    pub saved_ms: Option<i64>,
    /// See there.
    pub saved_bytes: u64,
    /// How often it could not go on for a moment since the hub started.
    pub troubles: u64,
    /// Why, while it cannot.
    pub trouble: Option<String>,
    /// The newest results, oldest first.
    pub rows: Arc<Vec<Row>>,
    /// The newest of the side output, oldest first.
    pub side: Arc<Vec<SideRow>>,
}

impl View {
    /// What an engine and a feed say of themselves.
    pub fn of(hub: &Hub, engine: &Engine, feed: &Feed, tally: Tally) -> Self {
        let mut shown: Vec<(DeviceId, DeviceView)> =
            engine.devices().map(|(id, view)| (id.clone(), view)).collect();
        let devices = shown.len() as u64;
        let watermark_ns = shown.iter().map(|(_, view)| view.watermark_ns).filter(|ns| *ns > i64::MIN).min();
        if shown.len() > DEVICES_SHOWN_MAX {
            shown.sort_by(|(a, x), (b, y)| y.counts.late.cmp(&x.counts.late).then_with(|| a.cmp(b)));
            shown.truncate(DEVICES_SHOWN_MAX);
            shown.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
        Self {
            place: feed.place(),
            totals: engine.totals(),
            state_bytes: engine.state_bytes(),
            open_windows: engine.open_windows(),
            devices,
            shown,
            watermark_ns,
            statement: engine.statement(),
            tally,
            behind_bytes: behind(hub, feed.place()),
            ..Self::default()
        }
    }
}

fn behind(hub: &Hub, place: LogPlace) -> u64 {
    let end = *hub.store.log_end().borrow();
    if place.segment == end.segment {
        return end.bytes.saturating_sub(place.bytes);
    }
    let segments = hub.store.log_segments().unwrap_or_default();
    let after = segments.iter().filter(|(number, _)| *number >= place.segment);
    after.map(|(_, bytes)| bytes).sum::<u64>().saturating_sub(place.bytes)
}
