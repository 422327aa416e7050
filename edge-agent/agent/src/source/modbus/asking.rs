//! What somebody wants to know of a bus's devices now.

use super::{Poller, SourceError};
use crate::source::reads::Ask;

impl Poller<'_> {
    /// Asks for a point out of its turn, says what it is, and hands all that was said on.
    pub(super) async fn read_now(&mut self, ask: Ask) -> Result<(), SourceError> {
        let Some(at) = self.units.iter().position(|unit| unit.device.id == ask.device) else {
            ask.failed("it is not on this bus");
            return Ok(());
        };
        if let Some(why) = self.bars(at) {
            ask.failed(why);
            return Ok(());
        }
        let Some(place) = self.units.get(at).and_then(|unit| unit.request_of(&ask.point)) else {
            ask.no_point();
            return Ok(());
        };
        let mut readings = self.context.readings();
        self.doubt(at, place.0);
        match self.ask_one(at, place, &mut readings).await? {
            None => {
                self.confirm(at, place.0).await?;
                self.context.judge(&mut readings);
                let found = readings.newest(&ask.device, &ask.point);
                ask.answer(found);
            }
            Some(trouble) => {
                self.leave(at, &trouble);
                ask.failed(trouble);
            }
        }
        self.hand_on(at, readings).await
    }
}
