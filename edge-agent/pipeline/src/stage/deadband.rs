//! Deadband: a number goes on when it differs from the last that did by more than the band. What is no good number goes
//! on when it differs at all, so that a change of quality, a text and a null are never held back, nor the first number
//! after them.

use minicbor::{Decode, Encode};
use tideline_protocol::value::Boxes;

use super::{Io, NO_ROOM, Operator};
use crate::clock::{Carry, Setting};
use crate::series::{Column, Content, SeriesNo, States, content};
use crate::state::StateError;

/// The print of what went on before the first reading.
const NOTHING: u64 = u64::MAX;

/// A deadband.
pub(crate) struct DeadbandStage {
    pub absolute: f64,
    pub share: f64,
    pub silence_ns: i64,
    pub states: States<Last>,
}

/// What went on last.
#[derive(Debug, Clone, Copy, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Last {
    /// Its number; NaN when it was none.
    #[n(0)]
    number: f64,
    /// What tells values and qualities apart that are no numbers; 0 of a number.
    #[n(1)]
    print: u64,
    #[n(2)]
    time_ns: i64,
    /// How far a number must be away.
    #[n(3)]
    band: f64,
    /// The clock that gave the time.
    #[n(4)]
    clock: Option<Setting>,
}

impl Last {
    /// Goes over to the clock of a reading; after a cut that one goes on.
    fn carry(&mut self, comes: Option<Setting>, time_ns: i64) {
        if self.clock != comes {
            let carry = Carry::of(self.clock, self.time_ns, comes, time_ns);
            self.time_ns = carry.moved(self.time_ns).unwrap_or(i64::MIN);
            self.clock = comes;
        }
    }
}

/// What tells values apart that are no good numbers: a NaN is as good as null.
fn print(boxes: &Boxes, word: f64) -> u64 {
    match content(boxes, word) {
        (Content::Null, quality) => quality as u64,
        _ => boxes.print(word),
    }
}

impl Operator for DeadbandStage {
    fn take(&mut self, mut column: Column, io: &mut Io<'_>) {
        let Column { series, clock, .. } = column;
        let before = column.samples.len();
        let nothing = || Last { number: f64::NAN, print: NOTHING, time_ns: i64::MIN, band: 0.0, clock: None };
        let Some(last) = self.states.of(series, nothing) else {
            return io.letters(series, &column.samples, NO_ROOM);
        };
        let (absolute, share, silence_ns) = (self.absolute, self.share, self.silence_ns);
        let ahead_max_ns = io.ahead_max_ns;
        let mut dead = 0;
        column.samples.retain(|sample| {
            // Without a longest silence no time counts.
            if silence_ns > 0 {
                if let Err(reason) = io.timed(sample.time_ns, clock, ahead_max_ns) {
                    io.letter(series, *sample, reason);
                    dead += 1;
                    return false;
                }
                last.carry(clock, sample.time_ns);
            }
            let is_number = !sample.value.is_nan();
            let print = if is_number { 0 } else { print(io.boxes, sample.value) };
            // A comparison with NaN is false: a number after something else differs.
            let is_near = if is_number {
                (sample.value - last.number).abs() <= last.band
            } else {
                last.number.is_nan() && print == last.print
            };
            // What was kept of a time that cannot be, from before the clock was set, is no time to wait for.
            let is_no_time = || io.now.is_ahead(last.time_ns, clock, ahead_max_ns);
            let was_silent = silence_ns > 0
                && (sample.time_ns.saturating_sub(last.time_ns) >= silence_ns
                    || (sample.time_ns < last.time_ns && is_no_time()));
            if is_near && !was_silent {
                return false;
            }
            let number = if is_number { sample.value } else { f64::NAN };
            let band = absolute.max(share * number.abs());
            *last = Last { number, print, time_ns: sample.time_ns, band, clock: last.clock };
            true
        });
        io.drop(before - column.samples.len() - dead);
        io.give(0, column);
    }

    fn held(&self) -> (usize, usize) {
        (self.states.held(), 0)
    }

    fn keeps(&self) -> bool {
        true
    }

    fn save(&self) -> Vec<u8> {
        self.states.write()
    }

    fn restore(&mut self, bytes: &[u8], numbers: &[SeriesNo]) -> Result<(), StateError> {
        self.states = States::read(bytes, numbers).map_err(StateError::Damaged)?;
        Ok(())
    }
}
