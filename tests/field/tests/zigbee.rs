//! The profile of sensors behind Zigbee2MQTT, beside what the converters of that program say of real ones.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value as Json};
use tideline_field::{left_out, peer};
use tideline_profiles::json::Mapping;
use tideline_profiles::{Place, Point, Profile, shipped};
use tideline_protocol::value::{Quality, Value};

/// What Zigbee2MQTT tells of every device by itself.
const BY_ITSELF: [&str; 1] = ["/linkquality"];
/// Its root in messages.
const ROOT: &str = "zigbee2mqtt/{device}";

/// The folder that `make converters` installs the library in, beside the target folder's programs; none without.
fn installed() -> Result<Option<PathBuf>> {
    let own = std::env::current_exe()?;
    let folders = own.ancestors().map(|folder| folder.join("converters"));
    Ok(folders.into_iter().find(|folder| folder.join("node_modules/zigbee-herdsman-converters").is_dir()))
}

/// Units as the converters have them, and as profiles do.
fn unit(of_converters: &str) -> &str {
    match of_converters {
        "°C" => "Cel",
        other => other,
    }
}

/// The profile's point of a property, with its id.
fn point<'p>(profile: &'p Profile, property: &str) -> Result<(&'p str, &'p Point)> {
    let found =
        profile.points().find(|(_, point)| stands_at(point).as_deref() == Some(&format!("/{property}")));
    found.with_context(|| format!("no point of {} stands at #/{property}", profile.name()))
}

fn stands_at(point: &Point) -> Option<String> {
    let Place::Message { topic, pointer } = &point.place else { return None };
    pointer.as_ref().filter(|_| topic == ROOT).map(ToString::to_string)
}

#[test]
fn the_profile_says_of_sensors_what_their_converters_do() -> Result<()> {
    let Some(folder) = installed()? else {
        return left_out("zigbee-herdsman-converters is not installed: `make converters`");
    };
    let said = Command::new("node").arg(peer("zigbee.cjs")).arg(&folder).output().context("node")?;
    anyhow::ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let sensors: Vec<Map<String, Json>> = serde_json::from_slice(&said.stdout)?;
    let models: Vec<Option<&str>> = sensors.iter().map(|sensor| sensor["model"].as_str()).collect();
    assert_eq!(models, [Some("WSDCGQ11LM"), Some("SNZB-02")]);

    let shipped = shipped::ALL.iter().find(|shipped| shipped.name == "zigbee2mqtt-temperature");
    let profile = shipped.context("it ships")?.profile()?;
    let mut told: Vec<&str> = BY_ITSELF.to_vec();
    for sensor in &sensors {
        for expose in sensor["exposes"].as_array().context("exposes")? {
            let property = expose["property"].as_str().context("a property")?;
            let (id, point) = point(&profile, property)?;
            assert_eq!(expose["type"], "numeric", "{property}");
            assert_eq!(point.unit, unit(expose["unit"].as_str().unwrap_or("1")), "{property}");
            for end in ["value_min", "value_max"] {
                let Some(end) = expose[end].as_f64() else { continue };
                let checked = profile.check(id, Value::Float(end));
                assert!(checked.is_ok(), "{property}: {checked:?}");
            }
        }
        reads_what_is_published(&profile, sensor["published"].as_object().context("a message")?)?;
    }
    let exposes = sensors.iter().filter_map(|sensor| sensor["exposes"].as_array()).flatten();
    let properties: Vec<String> =
        exposes.filter_map(|expose| Some(format!("/{}", expose["property"].as_str()?))).collect();
    told.extend(properties.iter().map(String::as_str));
    for (id, point) in profile.points() {
        if let Some(pointer) = stands_at(point) {
            assert!(told.contains(&pointer.as_str()), "no sensor tells {id}, which stands at #{pointer}");
        }
    }
    Ok(())
}

/// The message that the converters make of a sensor's reports is read to the same numbers.
fn reads_what_is_published(profile: &Profile, published: &Map<String, Json>) -> Result<()> {
    assert!(published.len() >= 4, "{published:?}");
    let mapping = Mapping::of(profile)?;
    let payload = serde_json::to_vec(published)?;
    let message = mapping.read("zigbee2mqtt/window", &payload)?.context("a message of the profile")?;
    for (property, number) in published {
        let (id, _) = point(profile, property)?;
        let read = message.readings.iter().find(|decoded| decoded.point.as_str() == id);
        let (value, quality) = read.with_context(|| format!("{id} is not read"))?.reading();
        assert_eq!(
            (value, quality),
            (Value::Float(number.as_f64().context("a number")?), Quality::Good),
            "{id}"
        );
    }
    Ok(())
}
