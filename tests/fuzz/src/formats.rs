//! What clients of other systems write: any bytes are taken within the limits, or refused with a reason.

use std::collections::BTreeSet;

use tideline_formats::line::{self, Precision};
use tideline_formats::remote::{self, Version};
use tideline_formats::{FormatError, Mapping, PROBLEMS_LISTED_MAX, READINGS_MAX, Taken, body};
use tideline_protocol::model::DeviceId;

const LINES: u8 = 0;
const SAMPLES_V1: u8 = 1;
const SAMPLES_V2: u8 = 2;
const GZIP: u8 = 3;
const SNAPPY: u8 = 4;

pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "weather,host=roof,site=a\\ b temp=1.5,hum=40i,wet=t 5\n# a comment\n\nlone,device=d value=7u\r\n",
        "m,host=a s=\"x, y=1\n\\\"\",v=-2e-3,big=9007199254740993i 1\nm,host=a v=x\nm,host= v=1\n,host=a v=1\n",
        "m,host=-x2f v=1\nm,host=alien v=1\nm v=1 noon\nm\\,\\=,host=a a.b=1,value=2 -5\n",
    ];
    let v1 = [series_v1("plc-4:9100"), series_v1("a b"), vec![0x1a, 2, 8, 1]].concat();
    let symbols =
        ["", "__name__", "up", "instance", "plc-5"].map(|symbol| field(4, symbol.as_bytes())).concat();
    let series = [field(1, &[1, 2, 3, 4]), sample()].concat();
    let v2 = [symbols, field(5, &series), field(5, &field(1, &[1, 9]))].concat();
    let mut all: Vec<Vec<u8>> = texts.iter().map(|text| [&[LINES], text.as_bytes()].concat()).collect();
    all.push([&[SNAPPY][..], &snapped(&v1)].concat());
    all.push([&[SAMPLES_V1][..], &v1].concat());
    all.push([&[SAMPLES_V2][..], &v2].concat());
    // An empty member.
    all.push([&[GZIP, 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0][..], &[0; 8]].concat());
    all
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap_or(0)][..], bytes].concat()
}

fn sample() -> Vec<u8> {
    field(2, &[&[0x09][..], &1.5_f64.to_le_bytes(), &[0x10, 5]].concat())
}

fn series_v1(instance: &str) -> Vec<u8> {
    let label =
        |name: &str, value: &str| field(1, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat());
    field(1, &[label("__name__", "up"), label("instance", instance), label("job", "node"), sample()].concat())
}

/// A snappy block of literals of up to 60 bytes.
fn snapped(plain: &[u8]) -> Vec<u8> {
    let number = |n: usize| u8::try_from(n).unwrap_or(0);
    let mut out = vec![number(plain.len() & 0x7f) | 0x80, number(plain.len() >> 7)];
    for part in plain.chunks(60) {
        out.push(number(part.len() - 1) << 2);
        out.extend_from_slice(part);
    }
    out
}

fn with_mapping(
    parse: impl FnOnce(&mut Mapping<'_>) -> Result<Taken, FormatError>,
) -> Result<Taken, FormatError> {
    let mut admit = |device: &DeviceId| match device.as_str() {
        "alien" => Err("not for alien".to_owned()),
        _ => Ok(()),
    };
    let keys = ["host", "device", "instance"].map(str::to_owned);
    parse(&mut Mapping { device_keys: &keys, only_device: None, admit: &mut admit })
}

fn lines(bytes: &[u8]) -> Result<Taken, FormatError> {
    with_mapping(|mapping| line::parse(bytes, Precision::Nanos, 7, mapping))
}

/// The first byte says of which format the others are.
pub fn run(data: &[u8]) {
    let Some((mode, bytes)) = data.split_first() else { return };
    let taken = match *mode % 5 {
        LINES => lines(bytes),
        SAMPLES_V1 => with_mapping(|mapping| remote::parse(bytes, Version::V1, mapping)),
        SAMPLES_V2 => with_mapping(|mapping| remote::parse(bytes, Version::V2, mapping)),
        GZIP => body::gunzip(bytes).and_then(|plain| lines(&plain)),
        _ => body::unsnap(bytes)
            .and_then(|plain| with_mapping(|mapping| remote::parse(&plain, Version::V1, mapping))),
    };
    match taken {
        Ok(taken) => sound(&taken),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn sound(taken: &Taken) {
    let names: BTreeSet<_> = taken.columns.iter().map(|c| (&c.device, &c.point)).collect();
    assert_eq!(names.len(), taken.columns.len(), "a series has two columns");
    assert!(taken.columns.iter().all(|c| !c.samples.is_empty() && c.device.as_str() != "alien"));
    assert!(taken.readings() <= READINGS_MAX);
    let problems = &taken.problems;
    assert!(problems.listed.len() <= PROBLEMS_LISTED_MAX && problems.all >= problems.listed.len() as u64);
    assert!(problems.all >= problems.malformed);
    assert!(problems.listed.iter().all(|p| p.at > 0 && !p.reason.is_empty()));
    // What is printed of it comes back: every time, and every bit of every value that can be printed.
    let mut text = String::new();
    let mut wanted = Vec::new();
    for column in &taken.columns {
        for sample in column.samples.iter().filter(|sample| sample.value.is_finite()) {
            text += &format!("m,host={} v={:?} {}\n", column.device, sample.value, sample.time_ns);
            wanted.push((column.device.clone(), sample.time_ns, sample.value.to_bits()));
        }
    }
    let again = lines(text.as_bytes()).expect("what was printed");
    assert_eq!(again.problems.all, 0, "{:?}", again.problems);
    let mut found: Vec<_> = again
        .columns
        .iter()
        .flat_map(|c| c.samples.iter().map(|s| (c.device.clone(), s.time_ns, s.value.to_bits())))
        .collect();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
}
