//! Which stream readings go to: where the configuration names none for their device or source, that which the device's profile
//! asks for by `[delivery]`.

use std::collections::BTreeMap;

use tideline_protocol::model::{Sample, SeriesDef};
use tideline_spool::DEFAULT_STREAM;
use tokio::sync::mpsc::Sender;

use super::outlets::WeakOutlets;
use super::{Readings, SourceError};
use crate::config::deliveries::stream;
use crate::intake::Chunk;

/// Readings by the stream that they go to, the source's own first. What is durable with a position stays together, and so
/// does what is for a stream that is there after a restart only.
pub fn parted(mut readings: Readings, own: &str, outlets: &WeakOutlets) -> Vec<Readings> {
    let has_deliveries = readings.profiles.values().any(|profile| !profile.delivery().is_empty());
    if !has_deliveries || own != DEFAULT_STREAM || readings.stream.is_some() || readings.position.is_some() {
        return vec![readings];
    }
    let mut others: BTreeMap<String, Readings> = BTreeMap::new();
    for (def, samples) in std::mem::take(&mut readings.rows) {
        let profile = readings.profiles.get(&def.device);
        let delivery = profile.and_then(|profile| profile.delivery_of(def.point.as_str()));
        match delivery.and_then(stream).filter(|stream| outlets.has(&stream.name)) {
            Some(stream) => {
                let part = others.entry(stream.name).or_insert_with_key(|name| beside(&readings, name));
                adopt(part, def, samples, &readings);
            }
            None => readings.rows.push((def, samples)),
        }
    }
    std::iter::once(readings).chain(others.into_values()).collect()
}

/// Which of these are the last to go their way: who waits for one of those ends a batch, and what is durable then is so with
/// all that went before it.
///
/// # Errors
/// As of [`WeakOutlets::of`].
pub fn lasts(parts: &[Readings], own: &str, outlets: &WeakOutlets) -> Result<Vec<bool>, SourceError> {
    let way = |part: &Readings| outlets.of(part.stream.as_deref().unwrap_or(own));
    let ways = parts.iter().map(way).collect::<Result<Vec<_>, _>>()?;
    let is_last =
        |(at, way): (usize, &Sender<Chunk>)| !ways.iter().skip(at + 1).any(|more| more.same_channel(way));
    Ok(ways.iter().enumerate().map(is_last).collect())
}

/// None yet, of the same devices and clock.
fn beside(readings: &Readings, stream: &str) -> Readings {
    let mut part = Readings::of_own_times().to_stream(stream);
    (part.clock, part.profiles) = (readings.clock, readings.profiles.clone());
    part
}

fn adopt(part: &mut Readings, def: SeriesDef, mut samples: Vec<Sample>, of: &Readings) {
    let mut words: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
    part.boxes.adopt(&mut words, &of.boxes);
    for (sample, word) in samples.iter_mut().zip(words) {
        sample.value = word;
    }
    part.rows.push((def, samples));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tideline_profiles::Profile;
    use tideline_protocol::model::DeviceId;
    use tideline_protocol::value::Quality;
    use tokio::sync::mpsc;

    use super::*;
    use crate::clock::AgentClock;
    use crate::source::{Device, Outlets};

    #[test]
    fn readings_go_where_their_profile_wants_them_unless_the_configuration_says_so() {
        let text = "name = \"pump\"\n[points]\nflow = { unit = \"l/s\", min = 0, max = 90 }\nstate = { type = \"text\" }\nmode = { type = \"text\" }\n\
            [delivery.state]\npoints = [\"state\"]\nclass = \"state\"\n[delivery.mode]\npoints = [\"mode\"]\nwhen_full = \"block\"\n";
        let profile = Arc::new(Profile::parse("pump.toml", text).unwrap());
        let pump = Device::of(DeviceId::parse("pump-1").unwrap(), profile);
        let plain = Device::plain(DeviceId::parse("other").unwrap());
        let readings = || {
            let mut readings = Readings::now(&AgentClock::default());
            readings.add(&pump, "mode", "auto");
            readings.add(&pump, "flow", 7.0);
            readings.add(&pump, "state", "on");
            readings.add(&plain, "state", "off");
            readings
        };
        let (out, _inbox) = mpsc::channel(1);
        // The stream of modes is there after a restart only.
        let all = [DEFAULT_STREAM, "profile/state/drop-oldest"].map(|name| (name.to_owned(), out.clone()));
        let outlets = Outlets::new(all.into()).weak();
        let seen = |readings: Readings, own: &str| -> Vec<(Option<String>, Vec<String>)> {
            let said = |part: &Readings| {
                let of =
                    part.rows.iter().flat_map(|(def, samples)| samples.iter().map(move |one| (def, one)));
                let said = of.map(|(def, one)| match part.boxes.value(one.value, def.kind()) {
                    (value, Quality::Good) => format!("{}/{}={value}", def.device, def.point),
                    other => panic!("{other:?}"),
                });
                said.collect()
            };
            parted(readings, own, &outlets).iter().map(|part| (part.stream.clone(), said(part))).collect()
        };
        let rest = ["pump-1/mode=auto", "pump-1/flow=7", "other/state=off"].map(str::to_owned).to_vec();
        let state = (Some("profile/state/drop-oldest".to_owned()), vec!["pump-1/state=on".to_owned()]);
        assert_eq!(seen(readings(), DEFAULT_STREAM), [(None, rest), state]);
        for (readings, own) in [
            (readings(), "fast"),
            (readings().to_stream("fast"), DEFAULT_STREAM),
            (readings().at(vec![1]), DEFAULT_STREAM),
        ] {
            assert_eq!(seen(readings, own).len(), 1);
        }
        let parts = parted(readings(), DEFAULT_STREAM, &outlets);
        assert_eq!(lasts(&parts, DEFAULT_STREAM, &outlets).ok(), Some(vec![false, true]), "one way for both");
    }
}
