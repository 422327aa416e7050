//! What differs between firmware versions.

use tideline_protocol::value::Value;

use crate::modbus::{Function, Plan};
use crate::{FirmwareError, Place, Profile};

const PUMP: &str = r#"
format = 1
name = "pump"
[identity]
firmware = ">=1, <4"
[modbus]
[points]
flow = { unit = "l/s", min = 0, max = 90, address = "input:0", encoding = "u16", scale = 0.1 }
level = { unit = "m", min = 0, max = 9, address = "input:1", encoding = "u16" }
state = { type = "text", address = "input:2", encoding = "u16", enum = { 0 = "off", 1 = "on" } }

[[overlays]]
versions = ">=2"
[overlays.modbus]
function = "input"
[overlays.points]
flow = { address = "input:10", scale = 0.01 }
state = { enum = { 2 = "fault" } }

[[overlays]]
versions = ">=3.1"
remove = ["points.level"]
[overlays.points]
flow = { scale = 0.001 }
power = { unit = "W", min = 0, max = 900, address = "4", encoding = "u16" }
"#;

fn place(profile: &Profile, id: &str) -> Option<(Function, u16, f64)> {
    let point = profile.point(id)?;
    let Place::Register(register) = &point.place else { return None };
    Some((register.function, register.start, point.conversion.scale))
}

#[test]
fn the_overlays_of_a_version_are_laid_over_each_other() {
    let profile = Profile::parse("pump.toml", PUMP).unwrap();
    let of = |version: &str| profile.for_firmware(Some(version)).unwrap();
    assert_eq!(profile.for_firmware(None).unwrap(), profile);
    assert_eq!(of("1.9"), profile);
    assert_eq!(place(&of("1.9.9-beta"), "flow"), Some((Function::Input, 0, 0.1)));
    assert_eq!(place(&of("v2.0"), "flow"), Some((Function::Input, 10, 0.01)));
    assert_eq!(place(&of("3.1.0"), "flow"), Some((Function::Input, 10, 0.001)));
    assert_eq!(place(&of("2.0"), "level"), Some((Function::Input, 1, 1.0)));
    assert_eq!(place(&of("3.1"), "level"), None);
    assert_eq!(place(&of("3.1"), "power"), Some((Function::Input, 4, 1.0)));
    let fault = || Value::Text("fault".into());
    assert!(of("1.0").check("state", fault()).is_err());
    assert!(of("2.0").check("state", fault()).is_ok());
    assert!(Plan::of(&of("3.2")).is_ok());
}

#[test]
fn a_version_that_the_profile_is_not_for_is_told() {
    let profile = Profile::parse("pump.toml", PUMP).unwrap();
    let error = profile.for_firmware(Some("4.0.1")).unwrap_err();
    assert_eq!(error.to_string(), "profile pump is for firmware >=1, <4, not for 4.0.1");
    assert!(matches!(profile.for_firmware(Some("unknown")), Err(FirmwareError::NoVersion { .. })));
}

#[test]
fn what_is_wrong_with_an_overlay_is_told_with_its_line() {
    let text = PUMP
        .replace("versions = \">=2\"", "versions = \"two\"")
        .replace("versions = \">=3.1\"", "version = \">=3.1\"")
        .replace("[\"points.level\"]", "[\"points.depth\"]")
        .replace("flow = { scale = 0.001 }", "flow = { scale = 0 }");
    let error = Profile::parse("pump.toml", &text).unwrap_err().to_string();
    for part in [
        "pump.toml:13: overlays.versions: \"two\" is no range of versions",
        "pump.toml:20: overlays: versions is needed, as \">=1.2, <2\"",
        "pump.toml:21: overlays.version: unknown key; did you mean versions?",
        "pump.toml:22: overlays.remove: there is no \"points.depth\"; allowed is for example \"points.flow\"",
        "pump.toml:24: points.flow.scale: must be a number other than 0",
    ] {
        assert!(error.contains(part), "{part} is not in\n{error}");
    }
    assert_eq!(error.lines().count(), 5, "{error}");
}

#[test]
fn what_hangs_on_the_version_is_known_and_whether_a_profile_is_for_one() {
    let profile = Profile::parse("pump.toml", PUMP).unwrap();
    let varying: Vec<&str> = ["flow", "level", "state", "power", "other"]
        .into_iter()
        .filter(|point| profile.varying().has(point))
        .collect();
    assert_eq!(varying, ["flow", "level", "state", "power"], "what is only there in some of them, too");
    let (first, second) =
        (profile.for_firmware(Some("1.4")).unwrap(), profile.for_firmware(Some("2.0")).unwrap());
    assert!(!profile.has_version() && first.has_version());
    for (profile, version, is_for) in [
        (&profile, "1.9", true),
        (&profile, "2", false),
        (&first, "1.0", true),
        (&second, "2.9", true),
        (&second, "3.1", false),
    ] {
        assert_eq!(profile.is_for(version), Ok(is_for), "{version}");
    }
    assert!(second.is_for("4").is_err() && second.is_for("?").is_err());
    assert_eq!(second.for_firmware(Some("1.2")).unwrap(), profile, "it goes back, too");
    assert_eq!(place(&second.for_firmware(Some("3.1")).unwrap(), "flow"), Some((Function::Input, 10, 0.001)));
    assert!(second.varying().has("flow") && second.for_firmware(Some("2.5")).unwrap().varying().has("flow"));
    let bases = "name = \"a\"\n[sunspec]\n[points]\n[[overlays]]\nversions = \">=2\"\n[overlays.sunspec]\nbases = [0]\n";
    assert!(Profile::parse("a.toml", bases).unwrap().varying().has("anything"), "models stand elsewhere");
    let told = PUMP.replace("[identity]", "[identity]\nfirmware_point = \"state\"");
    let error = Profile::parse("pump.toml", &told).unwrap_err().to_string();
    assert!(error.contains("overlays: state says which version a device has"), "{error}");
}

const METER: &str = r#"
name = "meter"
[identity]
hardware = "A, B"
[firmware]
versions = "date"
[modbus]
[points]
power = { unit = "W", min = 0, max = 90000, address = "input:0", encoding = "u16", access = "read" }
energy = { unit = "kW.h", min = 0, max = 90000, address = "input:1", encoding = "u16" }

[[overlays]]
hardware = ["C"]
[overlays.points]
power = { scale = 0.1 }

[[overlays]]
versions = ">=20240601"
hardware = ["B", "C"]
[overlays.points]
energy = { scale = 0.01 }
"#;

#[test]
fn overlays_of_a_revision_are_laid_over_and_until_it_is_known_what_differs_is_open() {
    let profile = Profile::parse("meter.toml", METER).unwrap();
    assert_eq!(profile.hardware(), ["A", "B", "C"]);
    let of = |hardware: Option<&str>, firmware: Option<&str>| {
        profile.for_hardware(hardware).and_then(|profile| profile.for_firmware(firmware)).unwrap()
    };
    let scale = |profile: &Profile, id: &str| place(profile, id).map(|place| place.2);
    for (hardware, firmware, power, energy) in [
        (None, None, 1.0, 1.0),
        (None, Some("20240701"), 1.0, 1.0),
        (Some("A"), Some("20240701"), 1.0, 1.0),
        (Some("B"), Some("20240531"), 1.0, 1.0),
        (Some("B"), Some("20240601-0001"), 1.0, 0.01),
        (Some("C"), None, 0.1, 1.0),
        (Some("C"), Some("20250101"), 0.1, 0.01),
    ] {
        let made = of(hardware, firmware);
        assert_eq!(
            (scale(&made, "power"), scale(&made, "energy")),
            (Some(power), Some(energy)),
            "{hardware:?} {firmware:?}"
        );
        // What is said first makes no difference.
        let other =
            profile.for_firmware(firmware).and_then(|profile| profile.for_hardware(hardware)).unwrap();
        assert_eq!(made, other);
        assert_eq!(made.lacks_hardware_of("power"), hardware.is_none());
    }
    assert!(
        !profile.varying().has("power") && profile.varying().has("energy"),
        "one hangs on the version, too"
    );
    assert_eq!(of(Some("C"), None).is_for("20250101"), Ok(false));
    let error = profile.for_hardware(Some("D")).unwrap_err();
    assert_eq!(error.to_string(), "profile meter is for hardware A, B, C, not for D");
    let plain = Profile::parse("pump.toml", PUMP).unwrap();
    assert_eq!(
        plain.for_hardware(Some("D")).unwrap_err().to_string(),
        "profile pump is for hardware of any revision, not for D"
    );
    assert!(!plain.lacks_hardware());
}

#[test]
fn what_is_wrong_with_revisions_and_schemes_is_told_with_its_line() {
    let text = METER
        .replace("hardware = [\"C\"]", "hardware = [\"B\"]")
        .replace("hardware = [\"B\", \"C\"]", "hardware = \"B\"")
        .replace(
            "energy = { scale = 0.01 }",
            "energy = { scale = 0.01 }\n[overlays.firmware]\nversions = \"number\"",
        );
    let error = Profile::parse("meter.toml", &text).unwrap_err().to_string();
    for part in [
        "meter.toml:12: overlays.hardware: \"B\" is one that the file is for as it stands, by identity.hardware",
        "meter.toml:19: overlays.hardware: must be a list of texts, as [\"B\", \"C\"]",
        "overlays: firmware.versions says how versions are compared, and may not differ in one",
    ] {
        assert!(error.contains(part), "{part} is not in\n{error}");
    }
    let range = METER.replace(">=20240601", ">=1.2");
    let error = Profile::parse("meter.toml", &range).unwrap_err().to_string();
    assert!(
        error.contains("overlays.versions: \">=1.2\" is no range of versions")
            && error.contains(">=20240613"),
        "{error}"
    );
}
