//! Serial lines: any bytes, cut anywhere, are the same lines; and what these say is within what the profile allows.

use edge_agent::source::serial::lines::Lines;
use tideline_profiles::nmea::{Mapping, SENTENCE_BYTES_MAX};
use tideline_profiles::{Profile, shipped};
use tideline_protocol::value::Value;

use crate::input::Input;

pub fn seeds() -> Vec<Vec<u8>> {
    [
        "\x07$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n",
        "\x01,M*4F\r\n$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A\n$GP",
        "\u{ff}!AIVDM,1,1,,A,x,0*5B$GPGGA\n\n\r$GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1*39\r\n",
    ]
    .map(|text| text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect())
    .to_vec()
}

fn profile() -> Profile {
    shipped::named("nmea-gps").expect("it ships").profile().expect("it is right")
}

/// How long pieces are, and the bytes.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let piece = usize::from(input.byte()) + 1;
    let bytes = input.rest();
    let (mut whole, mut pieces) = (Lines::default(), Lines::default());
    let lines = whole.push(bytes);
    let cut: Vec<_> = bytes.chunks(piece).flat_map(|part| pieces.push(part)).collect();
    assert_eq!(cut, lines, "where bytes are cut makes no difference");
    let profile = profile();
    let mapping = Mapping::of(&profile).expect("it is of NMEA");
    for line in lines.into_iter().flatten() {
        assert!(!line.is_empty() && line.len() <= SENTENCE_BYTES_MAX, "a line of {} bytes", line.len());
        let Ok(said) = mapping.read(&line) else { continue };
        for decoded in said {
            let (value, _) = decoded.reading();
            let point = decoded.point.as_str();
            assert!(
                value == Value::Null || profile.check(point, value.clone()).is_ok(),
                "{point} is {value}"
            );
        }
    }
}
