//! Readings of several devices, parted by the stream that they go to and by whose times they have.

use std::collections::BTreeMap;

use tideline_protocol::model::{DeviceId, PointId, SeriesDef};
use tideline_protocol::time::Clock;
use tideline_protocol::value::{Quality, Value, ValueKind};
use tideline_protocol::wire::DeviceCard;

use super::reads::Found;
use super::statistics::Heard;
use super::{Context, Device, Readings, SourceError};

/// Whose times readings have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Times {
    /// The agent's clock, which may be corrected later.
    Ours,
    /// The device's.
    Theirs,
}

/// Readings that are handed on together.
pub struct Sheets<'c> {
    clock: &'c dyn Clock,
    by_stream: BTreeMap<(Option<String>, Times), Readings>,
    rejected: Vec<String>,
    cards: Vec<DeviceCard>,
    heard: BTreeMap<DeviceId, Heard>,
}

impl<'c> Sheets<'c> {
    /// None yet.
    pub fn new(context: &'c Context) -> Self {
        Self::of(context.clock())
    }

    /// None yet, with times of this clock.
    pub fn of(clock: &'c dyn Clock) -> Self {
        let (by_stream, heard) = (BTreeMap::new(), BTreeMap::new());
        Self { clock, by_stream, rejected: Vec::new(), cards: Vec::new(), heard }
    }

    /// Adds a value that came of a device; one without a time is of now. A point that the profile does not name is taken as it is: who
    /// gives it here was told to take others too.
    pub fn add(
        &mut self,
        to: (&Device, Option<&str>),
        point: &PointId,
        kind: ValueKind,
        time_ns: Option<i64>,
        reading: (Value, Quality),
    ) {
        let heard = self.heard(&to.0.id);
        (heard.readings, heard.is_silent) = (heard.readings + 1, false);
        self.put(to, point, kind, time_ns, reading);
    }

    /// Adds that there is none any more, which the device has not said itself.
    pub fn miss(
        &mut self,
        to: (&Device, Option<&str>),
        point: &PointId,
        kind: ValueKind,
        time_ns: Option<i64>,
    ) {
        self.put(to, point, kind, time_ns, (Value::Null, Quality::Bad));
    }

    /// What was heard of a device, to be noted with these.
    pub fn heard(&mut self, device: &DeviceId) -> &mut Heard {
        self.heard.entry(device.clone()).or_default()
    }

    /// As [`Self::reject`], of what a device has said.
    pub fn reject_of(&mut self, device: &DeviceId, reason: String) {
        self.heard(device).last_error = Some(reason.clone());
        self.reject(reason);
    }

    fn put(
        &mut self,
        to: (&Device, Option<&str>),
        point: &PointId,
        kind: ValueKind,
        time_ns: Option<i64>,
        reading: (Value, Quality),
    ) {
        let ((device, stream), (value, quality)) = (to, reading);
        let times = if time_ns.is_some() { Times::Theirs } else { Times::Ours };
        let clock = self.clock;
        let readings =
            self.by_stream.entry((stream.map(str::to_owned), times)).or_insert_with(|| match times {
                Times::Ours => Readings::now(clock),
                Times::Theirs => Readings::of_own_times(),
            });
        let time_ns = time_ns.unwrap_or_else(|| clock.wall_ns());
        match &device.profile {
            Some(profile) if profile.point(point.as_str()).is_some() => {
                readings.add_at(device, point.as_str(), time_ns, value, quality);
            }
            _ => {
                let def = SeriesDef::new(device.id.clone(), point.clone(), String::new()).of_kind(kind);
                readings.push(def, time_ns, value, quality);
            }
        }
    }

    /// Counts something that makes no reading, and says why.
    pub fn reject(&mut self, reason: String) {
        self.rejected.push(reason);
    }

    /// What was rejected, and why.
    pub fn rejected(&self) -> &[String] {
        &self.rejected
    }

    /// Says what is known of a device, where that is new.
    pub fn tell(&mut self, card: Option<DeviceCard>) {
        self.cards.extend(card);
    }

    /// The time that it is now, ns since 1970.
    pub fn now_ns(&self) -> i64 {
        self.clock.wall_ns()
    }

    /// The last value of a point.
    pub fn newest(&self, device: &DeviceId, point: &PointId) -> Option<Found> {
        self.by_stream.values().find_map(|readings| readings.newest(device, point))
    }

    /// As [`Context::judge`], of all of them.
    pub fn judge(&mut self, context: &Context) {
        let (editions, source) = (context.editions(), context.name());
        self.by_stream.values().for_each(|readings| editions.hear_all(source, readings));
        self.by_stream.values_mut().for_each(|readings| editions.judge(source, readings));
    }

    /// Hands all on; with `durable` this waits until they, and all that came before on their streams, are.
    pub async fn hand_on(mut self, context: &Context, durable: bool) -> Result<(), SourceError> {
        // A version that is said on one of them counts for all.
        self.judge(context);
        context.statistics().heard(self.clock.wall_ns(), self.heard);
        self.rejected.iter().for_each(|reason| context.rejected(reason));
        self.cards.into_iter().for_each(|card| context.tell(card));
        let mut sheets = self.by_stream.into_iter().peekable();
        while let Some(((stream, _), readings)) = sheets.next() {
            // What is durable after another of its stream says that of both.
            let is_last = sheets.peek().is_none_or(|((next, _), _)| *next != stream);
            let readings = match stream {
                Some(stream) => readings.to_stream(&stream),
                None => readings,
            };
            if durable && is_last {
                context.emit_durable(readings).await?;
            } else {
                context.emit(readings).await?;
            }
        }
        Ok(())
    }

    /// What there is, and what was rejected.
    pub fn seen(self) -> (Vec<Seen>, Vec<String>) {
        let mut seen = Vec::new();
        let mut rejected = self.rejected;
        for ((_, times), readings) in self.by_stream {
            rejected.extend(readings.reasons);
            for (def, samples) in readings.rows {
                for sample in samples {
                    let (value, quality) = readings.boxes.value(sample.value, def.kind());
                    let time_ns = (times == Times::Theirs).then_some(sample.time_ns);
                    seen.push((def.device.to_string(), def.point.to_string(), time_ns, value, quality));
                }
            }
        }
        (seen, rejected)
    }
}

/// Device, point, the device's own time, value and quality.
pub type Seen = (String, String, Option<i64>, Value, Quality);
