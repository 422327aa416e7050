//! The firmware of a unit, where what some of its points say hangs on that: it is asked for behind each poll of those, so that
//! no answer is read by the registers of a version that the unit no longer has.

use tideline_protocol::value::Value;

use super::bus::Call;
use super::{Poller, SourceError};

impl Poller<'_> {
    /// What its group says is not believed before the unit has told its version anew.
    pub(super) fn doubt(&self, at: usize, group: usize) {
        if let Some(unit) = self.units.get(at).filter(|unit| unit.version_request(group).is_some()) {
            self.context.editions().doubt(self.context.name(), &unit.device);
        }
    }

    /// Asks a unit for its version, where what its group says hangs on that. One that does not answer stays in doubt.
    pub(super) async fn confirm(&mut self, at: usize, group: usize) -> Result<(), SourceError> {
        let now = tokio::time::Instant::now();
        let Some(unit) = self.units.get(at) else { return Ok(()) };
        let is_away = self.bus.rests(now).is_some() || unit.rests(now).is_some();
        let Some(place) = unit.version_request(group).filter(|_| !is_away) else { return Ok(()) };
        let Some(planned) = unit.request(place.0, place.1) else { return Ok(()) };
        let call = Call::Read { function: planned.function, start: planned.start, count: planned.count };
        let words = match self.call(at, call).await? {
            Ok(words) => words,
            Err(trouble) => {
                self.leave(at, &trouble);
                return Ok(());
            }
        };
        let Some(unit) = self.units.get_mut(at) else { return Ok(()) };
        match unit.version(place, &words) {
            None | Some(Value::Null) => {}
            Some(version) => {
                self.context.editions().hear(self.context.name(), &unit.device, &version.to_string());
            }
        }
        Ok(())
    }
}
