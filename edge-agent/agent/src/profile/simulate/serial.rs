//! Simulated devices on a serial line: lines of NMEA, and Modbus RTU ("MODBUS over Serial Line" 1.02) on a pseudo-terminal, which a master opens as
//! any port. A device of Modbus answers as one unit, or as any.
//!
//! A pseudo-terminal has no bit rate: the end of a request is known by its function, and what is none is given up when nothing follows.

use std::time::Duration;

use anyhow::Context as _;
use tideline_profiles::nmea;
use tideline_profiles::simulate::pdu;
use tideline_profiles::simulate::registers::Registers;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};
use tokio_serial::{SerialPort as _, SerialStream};

use super::{Device, Options, interval, say};

/// Longest frame: unit, request and checksum.
const FRAME_BYTES_MAX: usize = 256;
/// Silence behind which what came begins no request: far longer than a program takes between two bytes of one.
const SILENCE: Duration = Duration::from_millis(50);
/// Who is meant by all.
const BROADCAST: u8 = 0;

/// The near end of a line, the far end that masters open, and its path. The far end is to stay open here, so that a master that goes
/// and comes again finds the same line.
fn terminal() -> anyhow::Result<(SerialStream, SerialStream, String)> {
    // The far end is not locked: masters take locks of their own.
    let (near, far) = SerialStream::pair().context("no pseudo-terminal")?;
    let path = far.name().context("the pseudo-terminal has no name")?;
    Ok((near, far, path))
}

/// Tells lines of NMEA until the line fails. What nobody reads is gone once the line is full.
///
/// # Errors
/// The system gives no pseudo-terminal, or the profile has no sentences.
pub async fn lines(mut device: Device, options: &Options) -> anyhow::Result<()> {
    let mapping = nmea::Mapping::of(device.profile())?;
    let (mut near, _far, path) = terminal()?;
    say(&device, &format!("tells its lines at {path}"), options);
    let mut ticks = interval(options);
    loop {
        ticks.tick().await;
        device.step();
        for line in mapping.lines(device.values())? {
            if let Ok(written) = timeout(SILENCE, near.write_all(line.as_bytes())).await {
                written.context("the pseudo-terminal fails")?;
            }
        }
    }
}

/// Answers Modbus RTU until the line fails.
///
/// # Errors
/// The system gives no pseudo-terminal, or the profile has no registers.
pub async fn modbus(device: Device, options: &Options) -> anyhow::Result<()> {
    let (mut near, _far, path) = terminal()?;
    let unit = options.unit.map_or_else(|| "any unit".to_owned(), |unit| format!("unit {unit}"));
    say(&device, &format!("answers Modbus RTU as {unit} at {path}"), options);
    let mut registers = Registers::new(device)?;
    let (mut ticks, mut frames, mut bytes) = (interval(options), Frames::default(), [0; FRAME_BYTES_MAX]);
    loop {
        tokio::select! {
            _ = ticks.tick() => registers.step(),
            () = sleep(SILENCE), if !frames.0.is_empty() => frames.0.clear(),
            read = near.read(&mut bytes) => {
                let count = read.context("the pseudo-terminal fails")?;
                frames.take(bytes.get(..count).unwrap_or_default());
                while let Some((to, request)) = frames.next() {
                    if let Some(answer) = answer(&mut registers, options.unit, to, &request) {
                        near.write_all(&answer).await.context("the pseudo-terminal fails")?;
                    }
                }
            }
        }
    }
}

/// The frame of an answer; none where nobody is asked for one.
fn answer(registers: &mut Registers, unit: Option<u8>, to: u8, request: &[u8]) -> Option<Vec<u8>> {
    if to != BROADCAST && unit.is_some_and(|unit| unit != to) {
        return None;
    }
    let answer = pdu::answer(registers, request);
    if to == BROADCAST {
        return None;
    }
    let mut frame = vec![to];
    frame.extend(answer);
    frame.extend(checksum(&frame).to_le_bytes());
    Some(frame)
}

/// Requests among the bytes that came.
#[derive(Debug, Default)]
struct Frames(Vec<u8>);

impl Frames {
    fn take(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next request that is whole, with its unit. What its checksum shows to be none is left out byte by byte.
    fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            let length = match length(&self.0)? {
                Length::Known(length) if self.0.len() < length => return None,
                Length::Known(length) => length,
                Length::None => {
                    self.0.remove(0);
                    continue;
                }
            };
            let (body, sum) = self.0.get(..length)?.split_at_checked(length.checked_sub(2)?)?;
            if checksum(body).to_le_bytes() != sum {
                self.0.remove(0);
                continue;
            }
            let (unit, request) = body.split_first()?;
            let found = (*unit, request.to_vec());
            self.0.drain(..length);
            return Some(found);
        }
    }
}

enum Length {
    Known(usize),
    /// These bytes begin no request.
    None,
}

/// How long the frame is that these bytes begin with; none while too few are there to tell.
fn length(bytes: &[u8]) -> Option<Length> {
    let function = bytes.get(1)?;
    match function {
        1..=6 => Some(Length::Known(8)),
        15 | 16 => match usize::from(*bytes.get(6)?) + 9 {
            length if length <= FRAME_BYTES_MAX => Some(Length::Known(length)),
            _ => Some(Length::None),
        },
        // Of a function that nobody knows here nobody knows the length: the shortest frame gets its refusal.
        _ if bytes.len() < 4 => None,
        _ => match (4..=bytes.len().min(FRAME_BYTES_MAX)).find(|length| is_whole(bytes, *length)) {
            Some(length) => Some(Length::Known(length)),
            None if bytes.len() < FRAME_BYTES_MAX => None,
            None => Some(Length::None),
        },
    }
}

fn is_whole(bytes: &[u8], length: usize) -> bool {
    let parts = bytes.get(..length).and_then(|frame| frame.split_at_checked(length.checked_sub(2)?));
    parts.is_some_and(|(body, sum)| checksum(body).to_le_bytes() == sum)
}

/// CRC-16 as chapter 6.2.2 computes it.
fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |sum, byte| {
        (0..8)
            .fold(sum ^ u16::from(*byte), |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0xA001 } else { sum >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use tideline_profiles::shipped;

    use super::*;

    fn registers() -> Registers {
        let profile = shipped::named("modbus-template").unwrap().profile().unwrap();
        Registers::new(Device::new(&profile, 1)).unwrap()
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        [body, &checksum(body).to_le_bytes()].concat()
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // The example of the public specification: 02 07 has 41 12 on the line.
        assert_eq!(checksum(&[0x02, 0x07]).to_le_bytes(), [0x41, 0x12]);
    }

    #[test]
    fn requests_come_in_any_parts() {
        let wanted = [
            &[7, 3, 0, 0, 0, 2][..],
            &[7, 16, 0, 8, 0, 1, 2, 0, 5],
            &[1, 43, 14, 1, 0],
            &[1, 5, 0, 1, 0xFF, 0],
        ];
        let line: Vec<u8> = wanted.iter().flat_map(|body| frame(body)).collect();
        for size in [1, 3, 64] {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for part in line.chunks(size) {
                frames.take(part);
                found.extend(std::iter::from_fn(|| frames.next()));
            }
            let expected: Vec<(u8, Vec<u8>)> =
                wanted.iter().map(|body| (body[0], body[1..].to_vec())).collect();
            assert_eq!(found, expected, "{size}");
            assert!(frames.0.is_empty());
        }
    }

    #[test]
    fn no_bytes_are_taken_for_a_request_and_none_makes_it_panic() {
        let mut frames = Frames::default();
        let mut wrong = frame(&[7, 3, 0, 0, 0, 2]);
        wrong[3] ^= 1;
        for bytes in [&wrong[..], &[7, 16, 0, 0, 0, 1, 255], &[0; 600], &[9, 99, 1, 2, 3]] {
            frames.take(bytes);
            assert_eq!(frames.next(), None, "{bytes:?}");
            frames.0.clear();
        }
    }

    #[test]
    fn it_answers_as_its_unit_alone_and_never_to_all() {
        let mut registers = registers();
        let request = [3, 0, 0, 0, 1];
        let told = answer(&mut registers, Some(7), 7, &request).unwrap();
        assert_eq!(told.first(), Some(&7));
        assert!(is_whole(&told, told.len()));
        assert_eq!(answer(&mut registers, Some(7), 8, &request), None);
        assert!(answer(&mut registers, None, 8, &request).is_some());
        assert_eq!(answer(&mut registers, Some(7), BROADCAST, &request), None);
        let refused = answer(&mut registers, Some(7), 7, &[43, 14, 1, 0]).unwrap();
        assert_eq!(refused.get(1..3), Some(&[0x80 | 43, 1][..]));
    }
}
