//! Models that devices list, and what is read of them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tideline_protocol::value::Value;

use super::*;

const INVERTER: &str = r#"
name = "inverter"
[sunspec]
[points]
maker = { type = "text", address = "1:2", encoding = "string:32" }
power = { unit = "W", min = -1e6, max = 1e6, address = "101|102|103:14", encoding = "i16", scale_from = ":15" }
energy = { unit = "W.h", min = 0, max = 1e12, address = "101|102|103:24", encoding = "u32", scale_from = ":26", invalid = [0] }
cabinet = { unit = "Cel", min = -40, max = 120, address = "101|102|103:33", encoding = "i16", scale_from = ":37" }
state = { type = "text", address = "101|102|103:38", encoding = "u16", enum = { 1 = "off", 4 = "mppt" } }
storage = { unit = "%", min = 0, max = 100, address = "124:2", encoding = "u16" }
"#;

/// Registers of a device by number.
type Registers = BTreeMap<u16, u16>;

fn put(registers: &mut Registers, start: u16, words: &[u16]) {
    registers.extend(words.iter().zip(start..).map(|(word, at)| (at, *word)));
}

fn inverter(base: u16) -> Registers {
    let mut registers = Registers::new();
    put(&mut registers, base, &[0x5375, 0x6E53, 1, 66]);
    put(&mut registers, base + 4, &[0; 66]);
    put(&mut registers, base + 4, &[0x4142, 0x4300]);
    let model = base + 70;
    put(&mut registers, model, &[103, 50]);
    put(&mut registers, model + 2, &[0; 50]);
    put(&mut registers, model + 14, &[1234, 0xFFFF]);
    put(&mut registers, model + 24, &[0x0001, 0x0000, 0x0000]);
    put(&mut registers, model + 33, &[0x8000, 0, 0, 0, 0xFFFF, 4]);
    put(&mut registers, model + 52, &[0xFFFF, 0]);
    registers
}

fn read(registers: &Registers, start: u16, count: u16) -> Option<Vec<u16>> {
    (start..start.checked_add(count)?).map(|at| registers.get(&at).copied()).collect()
}

fn discover(registers: &Registers) -> Result<Vec<ModelAt>, DiscoveryError> {
    discover_of(&Profile::parse("inverter.toml", INVERTER).unwrap(), registers)
}

fn discover_of(profile: &Profile, registers: &Registers) -> Result<Vec<ModelAt>, DiscoveryError> {
    let Protocol::SunSpec(table) = profile.protocol() else { panic!("it is of SunSpec") };
    let mut discovery = Discovery::new(table);
    for _ in 0..200 {
        match discovery.poll() {
            Step::Read { start, count } => discovery.handle(read(registers, start, count).as_deref()),
            Step::Done(models) => return Ok(models),
            Step::Failed(error) => return Err(error),
        }
    }
    panic!("it comes to an end")
}

#[test]
fn models_are_found_wherever_the_mark_stands() {
    for base in [40_000, 50_000, 0] {
        let models = discover(&inverter(base)).unwrap();
        let expected = [(1, base + 2, 66), (103, base + 70, 50)];
        assert_eq!(models, expected.map(|(id, start, length)| ModelAt { id, start, length, blocks: None }));
    }
}

#[test]
fn a_device_that_lists_no_models_is_told() {
    assert_eq!(
        discover(&Registers::new()).unwrap_err().to_string(),
        "no \"SunS\" at holding registers 40000, 50000, 0"
    );
    let mut cut = inverter(40_000);
    cut.retain(|at, _| *at < 40_122);
    assert_eq!(discover(&cut), Err(DiscoveryError::BreaksOff(40_122)));
    let mut long = inverter(40_000);
    put(&mut long, 40_071, &[30_000]);
    assert_eq!(discover(&long), Err(DiscoveryError::Length { id: 103, start: 40_070, length: 30_000 }));
    let mut endless = Registers::new();
    put(&mut endless, 40_000, &[0x5375, 0x6E53]);
    put(&mut endless, 40_002, &[1, 0].repeat(500));
    assert_eq!(discover(&endless), Err(DiscoveryError::TooMany));
}

#[test]
fn points_are_read_where_their_model_stands() {
    let profile = Profile::parse("inverter.toml", INVERTER).unwrap();
    let registers = inverter(40_000);
    let found = plan(&profile, &discover(&registers).unwrap()).unwrap();
    assert_eq!(found.missing, ["storage"]);
    let mut said = BTreeMap::new();
    for request in found.plan.groups.iter().flat_map(|group| &group.requests) {
        let words = read(&registers, request.start, request.count).unwrap();
        for decoded in found.plan.decode(request, &words) {
            said.insert(
                decoded.point.to_string(),
                decoded.outcome.map(|(value, _)| value).map_err(|bad| bad.reason),
            );
        }
    }
    assert_eq!(said["maker"], Ok(Value::Text("ABC".into())));
    assert_eq!(said["power"], Ok(Value::Float(123.4)));
    assert_eq!(said["energy"], Ok(Value::Float(65_536.0)));
    assert_eq!(said["cabinet"], Err(crate::Reason::Absent));
    assert_eq!(said["state"], Ok(Value::Text("mppt".into())));
}

const MODULES: &str = r#"
name = "modules"
[sunspec]
blocks = { 160 = { first = 10, length = 20, count_from = ":8" } }
[points]
"power/*" = { unit = "W", min = 0, max = 1e6, address = "160:*:11", encoding = "u16", scale_from = ":4" }
"#;

/// Model 160 with room for so many blocks, that says that it has others.
fn modules(room: u16, count: u16) -> Registers {
    let mut registers = Registers::new();
    put(&mut registers, 40_000, &[0x5375, 0x6E53, 160, 8 + room * 20]);
    put(&mut registers, 40_004, &vec![7; usize::from(8 + room * 20)]);
    put(&mut registers, 40_010, &[count]);
    put(&mut registers, 40_004 + 8 + room * 20, &[0xFFFF, 0]);
    registers
}

#[test]
fn a_model_has_as_many_blocks_as_it_says_and_has_room_for() {
    let profile = Profile::parse("modules.toml", MODULES).unwrap();
    let points = |room: u16, count: u16| {
        let found = plan(&profile, &discover_of(&profile, &modules(room, count)).unwrap()).unwrap();
        let requests = found.plan.groups.iter().flat_map(|group| &group.requests);
        let points: usize = requests.map(|request| request.points().count()).sum();
        (points, found.missing.len())
    };
    for (room, count, expected) in [
        (3, 3, (3, 0)),
        (3, 2, (2, 0)),
        (3, 9, (3, 0)),
        // What it does not say is taken from its length.
        (3, 0xFFFF, (3, 0)),
        (3, 0, (3, 0)),
        (0, 0, (0, 1)),
        (30, 30, (30, 0)),
    ] {
        assert_eq!(points(room, count), expected, "{count} in room for {room}");
    }
}

#[test]
fn what_is_wrong_with_blocks_is_told() {
    for (from, to, told) in [
        ("\"power/*\"", "power", "end in /* with no other / before"),
        ("160:*:11", "160:21", "end in /* with no other / before"),
        ("160:*:11", "161:*:11", "says nothing of the blocks of model 161"),
        ("length = 20", "length = 0", "its length from 1"),
        ("\":8\"", "\"8\"", "count_from must be as :8"),
        ("\":4\"", "\"4\"", "no scale factor"),
        ("160:*:11", "160:*11", "no address"),
    ] {
        let text = MODULES.replace(from, to);
        let error = Profile::parse("modules.toml", &text).unwrap_err().to_string();
        assert!(error.contains(told), "{to}: {error}");
    }
}

#[test]
fn a_model_that_is_shorter_has_no_point_beyond_its_end() {
    let profile = Profile::parse("inverter.toml", INVERTER).unwrap();
    let found = plan(&profile, &[ModelAt { id: 101, start: 2, length: 36, blocks: None }]).unwrap();
    assert_eq!(found.missing, ["maker", "state", "storage"]);
}

proptest! {
    #[test]
    fn no_device_makes_it_panic_or_go_on_for_ever(words in prop::collection::vec(prop_oneof![any::<u16>(), 0_u16..8], 0..300), marked: bool, base in prop_oneof![Just(40_000_u16), Just(0), Just(65_300)]) {
        let mut registers = Registers::new();
        if marked {
            put(&mut registers, base, &[0x5375, 0x6E53]);
        }
        put(&mut registers, base + 2, words.get(..200.min(words.len())).unwrap());
        for text in [INVERTER, MODULES] {
            let profile = Profile::parse("inverter.toml", text).unwrap();
            if let Ok(models) = discover_of(&profile, &registers) {
                let _ = plan(&profile, &models);
            }
        }
    }
}
