//! Rate limit: of each series so many readings pass in each span of its own time, the first ones. A reading of an earlier
//! span than the newest counts as one of that, so that old readings do not get around the limit. When the clock was set, a span
//! begins.

use minicbor::{Decode, Encode};

use super::{Io, NO_ROOM, Operator};
use crate::clock::{Carry, Setting};
use crate::series::{Column, SeriesNo, States};
use crate::state::StateError;

/// A rate limit.
pub(crate) struct RateLimitStage {
    pub readings: u64,
    pub per_ns: i64,
    pub states: States<Span>,
}

/// The newest span.
#[derive(Debug, Clone, Copy, Encode, Decode)]
#[cbor(array)]
pub(crate) struct Span {
    #[n(0)]
    number: i64,
    #[n(1)]
    passed: u64,
    /// The clock that gave the times.
    #[n(2)]
    clock: Option<Setting>,
}

impl Span {
    const fn before(clock: Option<Setting>) -> Self {
        Self { number: i64::MIN, passed: 0, clock }
    }

    /// Goes over to the clock of a reading: spans lie where they lie, and so cannot move.
    fn carry(&mut self, comes: Option<Setting>, time_ns: i64, per_ns: i64) {
        if self.clock != comes {
            match Carry::of(self.clock, self.number.saturating_mul(per_ns), comes, time_ns) {
                Carry::Stay => self.clock = comes,
                Carry::Move(_) | Carry::Cut => *self = Self::before(comes),
            }
        }
    }
}

impl Operator for RateLimitStage {
    fn take(&mut self, mut column: Column, io: &mut Io<'_>) {
        let Column { series, clock, .. } = column;
        let before = column.samples.len();
        let Some(span) = self.states.of(series, || Span::before(None)) else {
            return io.letters(series, &column.samples, NO_ROOM);
        };
        let (readings, per_ns, ahead_max_ns) = (self.readings, self.per_ns, io.ahead_max_ns);
        let mut dead = 0;
        column.samples.retain(|sample| {
            if let Err(reason) = io.timed(sample.time_ns, clock, ahead_max_ns) {
                io.letter(series, *sample, reason);
                dead += 1;
                return false;
            }
            span.carry(clock, sample.time_ns, per_ns);
            let number = sample.time_ns.div_euclid(per_ns);
            // A span that cannot be, from before the clock was set, is none to wait for.
            let is_none = || io.now.is_ahead(span.number.saturating_mul(per_ns), clock, ahead_max_ns);
            if number > span.number || (number < span.number && is_none()) {
                *span = Span { number, ..Span::before(span.clock) };
            }
            let passes = span.passed < readings;
            span.passed += u64::from(passes);
            passes
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
