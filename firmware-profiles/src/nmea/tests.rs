//! Sentences and what they say.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const GPS: &str = r#"
name = "gps"
[nmea]
[points]
latitude = { unit = "deg", min = -90, max = 90, address = "GGA.2", encoding = "latitude" }
longitude = { unit = "deg", min = -180, max = 180, address = "GGA.4", encoding = "longitude" }
fix = { type = "text", address = "GGA.6", enum = { 0 = "none", 1 = "gps", 2 = "differential" } }
satellites = { type = "int", unit = "1", min = 0, max = 99, address = "GGA.7" }
altitude = { unit = "m", min = -500, max = 20000, address = "GGA.9" }
valid = { type = "bool", address = "RMC.2", enum = { A = "true", V = "false" } }
"#;

fn mapping() -> Mapping {
    Mapping::of(&Profile::parse("gps.toml", GPS).unwrap()).unwrap()
}

fn read(line: &str) -> BTreeMap<String, Result<Value, String>> {
    let decoded = mapping().read(line.as_bytes()).unwrap();
    let outcome =
        |outcome: Result<(Value, Quality), BadValue>| outcome.map(|(v, _)| v).map_err(|bad| bad.to_string());
    decoded.into_iter().map(|decoded| (decoded.point.to_string(), outcome(decoded.outcome))).collect()
}

#[test]
fn a_sentence_is_read_by_its_fields() {
    let said = read("$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n");
    assert_eq!(said["latitude"], Ok(Value::Float(48.1173)));
    assert_eq!(said["longitude"], Ok(Value::Float(11.516_666_667)));
    assert_eq!(said["fix"], Ok(Value::Text("gps".into())));
    assert_eq!(said["satellites"], Ok(Value::Int(8)));
    assert_eq!(said["altitude"], Ok(Value::Float(545.4)));
    assert_eq!(said.len(), 5);
}

#[test]
fn a_receiver_without_a_fix_tells_no_position() {
    let line = encode("GN", "GGA", &[",,,,,0,00,99.99,,,,,,".into()]);
    let said = read(&line);
    assert_eq!(said["fix"], Ok(Value::Text("none".into())));
    assert_eq!(said["latitude"], Err("the device has no value for it (raw )".into()));
    assert_eq!(said["altitude"], Err("the device has no value for it (raw )".into()));
}

#[test]
fn south_and_west_are_negative_and_nonsense_is_none() {
    let position = |lat: &str, ns: &str, lon: &str, ew: &str| {
        let fields = ["1", lat, ns, lon, ew, "1"].map(str::to_owned);
        let said = read(&encode("GP", "GGA", &fields));
        (said["latitude"].clone().ok(), said["longitude"].clone().ok())
    };
    let (south, west) = (Some(Value::Float(-33.5)), Some(Value::Float(-70.25)));
    assert_eq!(position("3330.0", "S", "07015.0", "W"), (south, west));
    for (lat, ns) in [
        ("9100.0", "N"),
        ("4860.0", "N"),
        ("4807.0", "E"),
        ("-807.0", "N"),
        ("48+7.0", "N"),
        ("4", "N"),
        ("äö00", "N"),
    ] {
        assert_eq!(position(lat, ns, "07015.0", "W").0, None, "{lat} {ns}");
    }
}

#[test]
fn a_line_that_is_no_sentence_is_told() {
    let error = |line: &str| decode(line.as_bytes()).unwrap_err();
    assert_eq!(error("$GPGGA,1*00"), SentenceError::Checksum { found: 0x4B, said: 0 });
    for line in ["", "GPGGA*00", "$", "$GPGGA", "$*00", "$GP*17", "$GPGGA,1*6", "$GPGGA,1*+7", "$GPGGA,1*067"]
    {
        assert!(matches!(error(line), SentenceError::NoSentence(_)), "{line}");
    }
    assert_eq!(error(&"x".repeat(300)), SentenceError::TooLong(300));
    assert!(decode(&[b'$', 0xFF]).is_err());
}

#[test]
fn other_sentences_and_talkers_say_nothing() {
    assert_eq!(read(&encode("GP", "VTG", &["1".into()])).len(), 0);
    let only = GPS.replace("[nmea]", "[nmea]\ntalkers = [\"GN\"]");
    let mapping = Mapping::of(&Profile::parse("gps.toml", &only).unwrap()).unwrap();
    assert_eq!(mapping.read(encode("GP", "RMC", &["1".into(), "A".into()]).as_bytes()), Ok(Vec::new()));
    assert_eq!(
        mapping.read(encode("GN", "RMC", &["1".into(), "A".into()]).as_bytes()).map(|d| d.len()),
        Ok(1)
    );
}

proptest! {
    #[test]
    fn no_line_makes_it_panic(line in prop::collection::vec(any::<u8>(), 0..90), body in "(GPGGA|GNRMC|[A-Z]{0,6})[ -~äß,]{0,60}") {
        let _ = mapping().read(&line);
        let sum = checksum(&body);
        let _ = mapping().read(format!("${body}*{sum:02X}").as_bytes());
    }

    #[test]
    fn what_is_told_is_read_as_it_was(lat in -90_000_000_i32..=90_000_000, lon in -180_000_000_i32..=180_000_000, satellites in 0_i64..99, altitude in -500_i32..20_000, valid: bool) {
        let degrees = |micro: i32| Value::Float(f64::from(micro) / 1e6);
        let values: BTreeMap<PointId, Value> = [
            ("latitude", degrees(lat)),
            ("longitude", degrees(lon)),
            ("fix", Value::Text("differential".into())),
            ("satellites", Value::Int(satellites)),
            ("altitude", Value::Float(f64::from(altitude) + 0.5)),
            ("valid", Value::Bool(valid)),
        ].map(|(id, value)| (PointId::parse(id).unwrap(), value)).into();
        let mapping = mapping();
        let mut read = BTreeMap::new();
        for line in mapping.lines(&values).unwrap() {
            for decoded in mapping.read(line.as_bytes()).unwrap() {
                let value = decoded.outcome.unwrap().0;
                // Minutes of seven decimals are 2e-9 degrees.
                let value = match (&value, &values[&decoded.point]) {
                    (Value::Float(found), Value::Float(told)) if (found - told).abs() < 2e-9 => Value::Float(*told),
                    _ => value,
                };
                read.insert(decoded.point, value);
            }
        }
        prop_assert_eq!(read, values);
    }
}
