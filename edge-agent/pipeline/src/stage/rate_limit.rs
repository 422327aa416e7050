//! Rate limit: of each series so many readings pass in each span of its own time, the first ones. A reading of an earlier
//! span than the newest counts as one of that, so that old readings do not get around the limit.

use minicbor::{Decode, Encode};

use super::{Io, NO_ROOM, Operator};
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
}

impl Operator for RateLimitStage {
    fn take(&mut self, mut column: Column, io: &mut Io<'_>) {
        let before = column.samples.len();
        let first = || Span { number: i64::MIN, passed: 0 };
        let Some(span) = self.states.of(column.series, first) else {
            return io.letters(column.series, &column.samples, NO_ROOM);
        };
        let (readings, per_ns) = (self.readings, self.per_ns);
        column.samples.retain(|sample| {
            let number = sample.time_ns.div_euclid(per_ns);
            if number > span.number {
                *span = Span { number, passed: 0 };
            }
            let passes = span.passed < readings;
            span.passed += u64::from(passes);
            passes
        });
        io.drop(before - column.samples.len());
        io.give(0, column);
    }

    fn held(&self) -> (usize, usize) {
        (self.states.held(), 0)
    }

    fn save(&self) -> Vec<u8> {
        self.states.write()
    }

    fn restore(&mut self, bytes: &[u8], numbers: &[SeriesNo]) -> Result<(), StateError> {
        self.states = States::read(bytes, numbers).map_err(StateError::Damaged)?;
        Ok(())
    }
}
