//! What an agent says of commands.

use tideline_protocol::wire::ToHub;

use super::{Driver, Ended};
use crate::commands::Seat;

impl Driver {
    /// Hands on what the agent says; its first word takes the agent's seat.
    pub(super) async fn commanded(&mut self, said: ToHub) -> Result<(), Ended> {
        let seat = self.seat.get_or_insert_with(|| Seat::take(&self.hub, &self.agent));
        Ok(seat.said(said).await?)
    }
}
