//! A device that speaks when it likes: what it has said, so that its silence can be told once.

use std::collections::BTreeMap;

use tideline_profiles::Reason;
use tideline_profiles::modbus::Decoded;
use tideline_protocol::model::PointId;
use tideline_protocol::value::{Quality, Value, ValueKind};

use super::Device;
use super::introduction::Introduction;
use super::sheets::Sheets;

/// A device that speaks when it likes.
#[derive(Debug)]
pub struct Subject {
    /// What it is.
    pub device: Device,
    stream: Option<String>,
    introduction: Introduction,
    said: BTreeMap<PointId, ValueKind>,
}

impl Subject {
    /// One that has said nothing yet; `via` is how it is reached, without secrets.
    pub fn new(device: Device, stream: Option<String>, via: &str) -> Self {
        Self { introduction: Introduction::new(&device, via), device, stream, said: BTreeMap::new() }
    }

    /// Adds what it says of a point; `quality` is the best that it can be of. What is no value is null, and told.
    pub fn say(
        &mut self,
        decoded: &Decoded,
        time_ns: Option<i64>,
        quality: Quality,
        sheets: &mut Sheets<'_>,
    ) {
        if let Err(bad) = &decoded.outcome
            && bad.reason != Reason::Absent
        {
            sheets.heard(&self.device.id).bad_values += 1;
            sheets.reject_of(&self.device.id, format!("{}/{}: {bad}", self.device.id, decoded.point));
        }
        let (value, found) = decoded.reading();
        // The registry is told of it when it speaks first, and when it tells of another firmware.
        self.introduction.hear(&self.device, &decoded.point, &value);
        sheets.tell(self.introduction.news());
        let kind = self.kind(&decoded.point, &value);
        if value != Value::Null {
            self.said.insert(decoded.point.clone(), kind);
        }
        let to = (&self.device, self.stream.as_deref());
        sheets.add(to, &decoded.point, kind, time_ns, (value, found.max(quality)));
    }

    /// It says nothing of these points any more: what it has said of them is null of bad quality, once.
    pub fn silence(&mut self, is_meant: impl Fn(&PointId) -> bool, sheets: &mut Sheets<'_>) {
        let all = std::mem::take(&mut self.said);
        let (gone, kept): (BTreeMap<_, _>, _) = all.into_iter().partition(|(point, _)| is_meant(point));
        self.said = kept;
        for (point, kind) in gone {
            let to = (&self.device, self.stream.as_deref());
            sheets.miss(to, &point, kind, None);
        }
    }

    /// What a point's values are.
    fn kind(&self, point: &PointId, value: &Value) -> ValueKind {
        let profile = self.device.profile.as_ref();
        let known = profile.and_then(|profile| Some(profile.point(point.as_str())?.allowed.kind()));
        known.or_else(|| self.said.get(point).copied()).or_else(|| value.kind()).unwrap_or_default()
    }
}
