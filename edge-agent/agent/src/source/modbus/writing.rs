//! What is written to the devices of a bus: by the function that fits, and read back so that it shows.

use tideline_profiles::EncodeError;
use tideline_profiles::modbus::{self, Encoded, Function, Register};
use tokio::time::Instant;

use super::bus::{Call, Trouble};
use super::{Poller, SourceError};
use crate::source::Write;

/// The exception of a device that does not know a function.
const UNKNOWN_FUNCTION: u8 = 1;

/// Why something is not written, or perhaps not.
#[derive(Debug, thiserror::Error)]
enum Unwritten {
    /// It makes no words.
    #[error("{0}")]
    Encode(#[from] EncodeError),
    /// What has to be read before cannot be.
    #[error("{what} cannot be read: {trouble}")]
    Before {
        /// What that is.
        what: &'static str,
        /// Why.
        trouble: Trouble,
    },
    /// It was asked to take it.
    #[error("{0}")]
    Asked(Trouble),
}

impl Poller<'_> {
    /// Carries out a write, says how it ended, and reads back what it was about.
    pub(super) async fn write(&mut self, write: Write) -> Result<(), SourceError> {
        let Some(at) = self.units.iter().position(|unit| unit.device.id == write.device) else {
            write.not_done("it is not on this bus");
            return Ok(());
        };
        if let Some(why) = self.bars(at) {
            write.not_done(why);
            return Ok(());
        }
        let unwritten = self.carry_out(at, &write).await?;
        let point = write.point.clone();
        match &unwritten {
            Ok(()) => write.done(),
            Err(Unwritten::Asked(trouble)) if !trouble.is_no() => write.unknown(trouble),
            Err(unwritten) => write.not_done(unwritten),
        }
        if let Err(Unwritten::Asked(trouble) | Unwritten::Before { trouble, .. }) = &unwritten {
            self.leave(at, trouble);
        }
        let Some(place) = self.units.get(at).and_then(|unit| unit.request_of(&point)) else { return Ok(()) };
        // Whatever came of it, if it can be asked: also what nobody knows shows then.
        if self.bars(at).is_some() {
            return Ok(());
        }
        let mut readings = self.context.readings();
        if let Some(trouble) = self.ask_one(at, place, &mut readings).await? {
            self.leave(at, &trouble);
        }
        self.hand_on(at, readings).await
    }

    /// Why a unit is not asked now; none when it can be.
    pub(super) fn bars(&self, at: usize) -> Option<String> {
        let (now, unit) = (Instant::now(), self.units.get(at)?);
        if let Some(until) = self.bus.rests(now).max(unit.rests(now)) {
            let wait_ms = until.saturating_duration_since(now).as_millis();
            return Some(format!("it does not answer, and is asked again in {wait_ms} ms"));
        }
        (!unit.is_known(self.bus.connection()))
            .then(|| "its models are not known yet: they are asked for first".to_owned())
    }

    async fn carry_out(&mut self, at: usize, write: &Write) -> Result<Result<(), Unwritten>, SourceError> {
        let Some(unit) = self.units.get(at) else { return Ok(Ok(())) };
        let (profile, id) = (unit.profile.clone(), write.point.as_str());
        let register = match modbus::written(&profile, id, unit.models()) {
            Ok(register) => register,
            Err(error) => return Ok(Err(error.into())),
        };
        let power = match register.power {
            None => 0,
            Some(start) => match self.read(at, register.function, start, 1).await? {
                Ok(words) => words.first().map_or(0, |word| word.cast_signed()),
                Err(trouble) => return Ok(Err(Unwritten::Before { what: "its scale factor", trouble })),
            },
        };
        match modbus::write_at(&profile, id, &register, &write.value, power) {
            Ok(encoded) if encoded.is_shared() => self.put_bits(at, &register, &encoded).await,
            Ok(encoded) => self.put(at, encoded.function, encoded.start, &encoded.words).await,
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn read(
        &mut self,
        at: usize,
        function: Function,
        start: u16,
        count: u16,
    ) -> Result<Result<Vec<u16>, Trouble>, SourceError> {
        self.call(at, Call::Read { function, start, count }).await
    }

    /// Writes some bits of what others stand in as well: by the function for that, and where the device does not know
    /// it, into what it says that it holds now.
    async fn put_bits(
        &mut self,
        at: usize,
        register: &Register,
        encoded: &Encoded,
    ) -> Result<Result<(), Unwritten>, SourceError> {
        if let ([word], [mask]) = (encoded.words.as_slice(), encoded.mask.as_slice()) {
            let call = Call::Bits { at: encoded.start, mask: *mask, word: *word };
            if let Some(ended) = self.try_call(at, call).await? {
                return Ok(ended);
            }
        }
        let held = match self.read(at, register.function, encoded.start, register.count()).await? {
            Ok(held) => held,
            Err(trouble) => return Ok(Err(Unwritten::Before { what: "what it holds now", trouble })),
        };
        self.put(at, encoded.function, encoded.start, &encoded.laid_over(&held)).await
    }

    /// Writes words: one by the function for one, and where the device does not know that, by that for many.
    async fn put(
        &mut self,
        at: usize,
        function: Function,
        start: u16,
        words: &[u16],
    ) -> Result<Result<(), Unwritten>, SourceError> {
        let is_bits = function.is_bits();
        if let [word] = words {
            let one = if is_bits { Call::Coil(start, *word) } else { Call::Register(start, *word) };
            if let Some(ended) = self.try_call(at, one).await? {
                return Ok(ended);
            }
        }
        let many = if is_bits { Call::Coils(start, words) } else { Call::Registers(start, words) };
        Ok(self.call(at, many).await?.map(drop).map_err(Unwritten::Asked))
    }

    /// Writes by a function that not all devices know; none when it does not, which is remembered.
    async fn try_call(
        &mut self,
        at: usize,
        call: Call<'_>,
    ) -> Result<Option<Result<(), Unwritten>>, SourceError> {
        let Some(unit) = self.units.get_mut(at).filter(|unit| !unit.lacks.contains(&call.code())) else {
            return Ok(None);
        };
        let answer = self.context.wait(self.bus.call(unit.number, call, unit.timeout, unit.pause)).await?;
        match answer {
            Err(Trouble::Exception(UNKNOWN_FUNCTION)) => {
                unit.lacks.insert(call.code());
                Ok(None)
            }
            Err(trouble) => {
                super::tell(self.context, unit, &trouble);
                Ok(Some(Err(Unwritten::Asked(trouble))))
            }
            Ok(_) => Ok(Some(Ok(()))),
        }
    }
}
