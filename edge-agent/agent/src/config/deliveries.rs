//! The streams that profiles ask for: each `[delivery]` of a device's profile that is not as the default stream becomes one, named by
//! what it is, so that profiles that want the same share it. A `[[stream]]` of that name goes before it.

use std::collections::BTreeSet;
use std::sync::Arc;

use tideline_profiles::Profile;
use tideline_profiles::section::{Delivery, WhenFull};
use tideline_protocol::keep::{Keep, Rollups};
use tideline_protocol::model::Class;
use tideline_spool::{Overflow, Policy, STREAMS_MAX, StreamConfig};

use super::streams::{DOWNSAMPLE_S, HOUR_S};
use super::{SourceConfig, SourceKind};

/// The stream of a delivery; none for one that is as the default stream.
#[must_use]
pub fn stream(delivery: &Delivery) -> Option<StreamConfig> {
    let (full, overflow) = match delivery.when_full {
        WhenFull::Block => ("block", Overflow::Block),
        WhenFull::DropNewest => ("drop-newest", Overflow::DropNewest),
        WhenFull::DropOldest => ("drop-oldest", Overflow::DropOldest),
        WhenFull::KeepLatest => ("keep-latest", Overflow::KeepLatest),
        WhenFull::Downsample => ("downsample", Overflow::Downsample { bucket_s: DOWNSAMPLE_S }),
    };
    let class = match delivery.class {
        Class::Alarm => "alarm",
        Class::State => "state",
        Class::Live => "live",
    };
    let expire_h = delivery.expire_h.unwrap_or(0);
    let kept = kept(delivery.keep());
    if (delivery.class, overflow, expire_h) == (Class::Live, Overflow::DropOldest, 0) && kept.is_empty() {
        return None;
    }
    let expiry = if expire_h > 0 { format!("/{expire_h}h") } else { String::new() };
    let name = format!("profile/{class}/{full}{expiry}{kept}");
    let policy = Policy { overflow, quota_bytes: 0, keep_s: u64::from(expire_h) * HOUR_S };
    Some(StreamConfig { name, class: delivery.class, policy })
}

/// What the hub keeps of the readings, where that is not as much as of all. A hub keeps a batch as long as what of it is kept
/// longest, so that what is kept for different times travels in different ones.
fn kept(Keep { days, rollups }: Keep) -> String {
    let days = days.map(|days| format!("/keep-{days}d")).unwrap_or_default();
    let all = [(Rollups::MINUTE, "1m"), (Rollups::HOUR, "1h"), (Rollups::DAY, "1d")];
    let names = |kept: Rollups| {
        let names: Vec<&str> = all.iter().filter(|(one, _)| kept.has(*one)).map(|(_, name)| *name).collect();
        if names.is_empty() { "/no-rollups".to_owned() } else { format!("/{}", names.join("+")) }
    };
    days + &rollups.map(names).unwrap_or_default()
}

/// The profiles of a source's devices, of those that appear by themselves too.
pub fn profiles(source: &SourceConfig) -> impl Iterator<Item = &Arc<Profile>> {
    let appearing = match &source.kind {
        SourceKind::Mqtt { families, .. } => families.as_slice(),
        SourceKind::Http(door) => door.families.as_slice(),
        SourceKind::Sparkplug { family, .. } => std::slice::from_ref(family),
        _ => &[],
    };
    source.devices.iter().filter_map(|device| device.family.as_ref()).chain(appearing)
}

/// Adds the streams that profiles ask for to those of the configuration.
///
/// # Errors
/// They are too many.
pub fn add(streams: &mut Vec<StreamConfig>, sources: &[SourceConfig]) -> Result<(), String> {
    let known: BTreeSet<String> = streams.iter().map(|stream| stream.name.clone()).collect();
    let mut wanted = Vec::new();
    let asked = sources.iter().flat_map(profiles).flat_map(|profile| profile.delivery().values());
    for stream in asked.filter_map(stream) {
        if !known.contains(&stream.name) && !wanted.contains(&stream) {
            wanted.push(stream);
        }
    }
    // The default stream is one of them.
    let count = streams.len() + wanted.len() + 1;
    if !wanted.is_empty() && count > STREAMS_MAX {
        return Err(format!(
            "stream: with those that profiles ask for in [delivery] there are {count}; at most {STREAMS_MAX} are allowed"
        ));
    }
    streams.extend(wanted);
    Ok(())
}

#[cfg(test)]
mod tests {
    use tideline_protocol::model::DeviceId;

    use super::*;
    use crate::config::DeviceConfig;

    #[test]
    fn deliveries_of_profiles_become_streams_that_the_configuration_may_say_itself() {
        let text = "name = \"pump\"\n[points]\nflow = { unit = \"l/s\", min = 0, max = 90 }\nstate = { type = \"text\" }\nfault = { type = \"bool\" }\n\
            [delivery.plain]\npoints = [\"flow\"]\nkeep_days = 3\nrollups = [\"1h\", \"1d\"]\n[delivery.state]\npoints = [\"state\"]\nclass = \"state\"\n\
            expire_h = 48\nwhen_full = \"keep-latest\"\n[delivery.fault]\npoints = [\"fault\"]\nclass = \"alarm\"\nwhen_full = \"block\"\n";
        let profile = Arc::new(Profile::parse("pump.toml", text).unwrap());
        let device = |id: &str| DeviceConfig {
            id: DeviceId::parse(id).unwrap(),
            profile: "pump".into(),
            family: Some(Arc::clone(&profile)),
            address: String::new(),
            firmware: None,
            hardware: None,
            stream: None,
        };
        let devices = vec![device("pump-1"), device("pump-2")];
        let source = SourceConfig { devices, ..SourceConfig::plain("pumps", SourceKind::Coap) };
        let mut streams =
            vec![StreamConfig { name: "profile/alarm/block".into(), ..StreamConfig::default() }];
        add(&mut streams, std::slice::from_ref(&source)).unwrap();
        let [said, kept, state] = &*streams else { panic!("{streams:?}") };
        assert_eq!(said.class, Class::Live, "as the configuration says it");
        let policy = Policy::default();
        let name = "profile/live/drop-oldest/keep-3d/1h+1d".to_owned();
        assert_eq!(*kept, StreamConfig { name, class: Class::Live, policy });
        let policy = Policy { overflow: Overflow::KeepLatest, quota_bytes: 0, keep_s: 48 * 3600 };
        let name = "profile/state/keep-latest/48h".to_owned();
        assert_eq!(*state, StreamConfig { name, class: Class::State, policy });
        let other = |n: usize| StreamConfig { name: n.to_string(), ..StreamConfig::default() };
        let mut many: Vec<StreamConfig> = (0..STREAMS_MAX - 2).map(other).collect();
        assert!(add(&mut many, &[source]).unwrap_err().contains("at most 64"));
    }
}
