//! A node, or a device behind one, with what its births have told of it. No I/O.

use std::collections::HashMap;
use std::sync::Arc;

use tideline_profiles::names::Names;
use tideline_protocol::model::PointId;
use tideline_protocol::value::{Quality, Value, ValueKind};

use super::asked::Asked;
use super::payload::{Metric, Payload, kind, time_ns};
use crate::source::sheets::Sheets;
use crate::source::{Device, Write};

/// What a metric is, by its birth.
#[derive(Debug, Clone)]
pub struct Known {
    /// What its values are.
    pub datatype: u32,
    /// What stands for its name.
    pub alias: Option<u64>,
    /// Whether it has had a value since it was last null.
    pub said: bool,
}

/// A node, or a device behind one.
#[derive(Debug)]
pub struct Party {
    /// What it is to the agent.
    pub device: Device,
    /// What its metrics are.
    pub names: Arc<Names>,
    /// The stream that its readings go to.
    pub stream: Option<String>,
    /// What its births have told.
    pub metrics: HashMap<Arc<str>, Known>,
    /// What it was told to do.
    pub asked: Asked,
    /// Whether it has told its birth, and not died since.
    pub is_born: bool,
}

impl Party {
    /// Takes what is said of a metric; false when no birth has told it.
    pub fn take(&mut self, name: &str, metric: &Metric, payload: &Payload, sheets: &mut Sheets<'_>) -> bool {
        let Some(known) = self.metrics.get_mut(name) else { return false };
        let datatype = metric.datatype.filter(|datatype| *datatype > 0).unwrap_or(known.datatype);
        let Some(point) = self.names.point(name) else { return true };
        let Some(kind) = kind(datatype) else {
            let reason = format!("{}/{point}: datatype {datatype} makes no reading", self.device.id);
            sheets.heard(&self.device.id).failures += 1;
            sheets.reject_of(&self.device.id, reason);
            return true;
        };
        let time_ns = metric.timestamp.or(payload.timestamp).and_then(time_ns);
        let to = (&self.device, self.stream.as_deref());
        let (value, quality) = match metric.read(datatype) {
            Ok(Value::Null) => (Value::Null, metric.quality()),
            Ok(value) => {
                let Some(decoded) = self.names.read(name, &value) else { return true };
                if let Err(bad) = &decoded.outcome {
                    sheets.heard(&self.device.id).bad_values += 1;
                    sheets.reject_of(&self.device.id, format!("{}/{point}: {bad}", self.device.id));
                }
                let (value, quality) = decoded.reading();
                (value, quality.max(metric.quality()))
            }
            Err(reason) => {
                sheets.heard(&self.device.id).bad_values += 1;
                sheets.reject_of(&self.device.id, format!("{}/{point}: {reason}", self.device.id));
                (Value::Null, Quality::Bad)
            }
        };
        if metric.is_historical != Some(true) {
            known.said = value != Value::Null;
            if let (Quality::Good, Ok(now)) = (quality, metric.read(datatype)) {
                self.asked.see(name, &now);
            }
        }
        sheets.add(to, &point, kind, time_ns, (value, quality));
        true
    }

    /// What it has said is null once; nothing shows any more what became of its commands.
    pub fn die(&mut self, sheets: &mut Sheets<'_>) {
        self.is_born = false;
        self.asked.give_up("it died before it told the value");
        let mut said: Vec<(Arc<str>, Known)> = Vec::new();
        for (name, known) in self.metrics.iter_mut().filter(|(_, known)| known.said) {
            said.push((Arc::clone(name), known.clone()));
            known.said = false;
        }
        said.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (name, known) in said {
            self.forget(&name, &known, sheets);
        }
        sheets.heard(&self.device.id).is_silent = true;
    }

    /// The metric that writes a value, with its name.
    pub fn written(&self, write: &Write, now_ms: u64) -> Result<(Arc<str>, Metric), String> {
        let (name, raw) = self.names.write(&write.point, &write.value).map_err(|error| error.to_string())?;
        let known = self.metrics.get_key_value(name.as_str());
        let (name, known) = known.ok_or_else(|| format!("no birth of {} tells {name:?}", write.device))?;
        let metric = Metric::written(&raw, known.datatype, now_ms)?;
        // Where births give aliases they stand alone for the names afterwards (6.4.6 of the specification).
        let metric = match known.alias {
            Some(alias) => Metric { alias: Some(alias), ..metric },
            None => Metric { name: Some(name.to_string()), ..metric },
        };
        Ok((Arc::clone(name), metric))
    }

    /// A metric that has had a value has none any more.
    pub fn forget(&self, name: &str, known: &Known, sheets: &mut Sheets<'_>) {
        let Some(point): Option<PointId> = self.names.point(name) else { return };
        let to = (&self.device, self.stream.as_deref());
        let kind: ValueKind = kind(known.datatype).unwrap_or_default();
        sheets.miss(to, &point, kind, None);
    }
}
