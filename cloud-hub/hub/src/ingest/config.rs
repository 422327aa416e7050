//! What an agent says of its configuration.

use std::sync::Arc;

use tideline_protocol::wire::ConfigInForce;

use super::{Driver, Ended};
use crate::in_force;

impl Driver {
    /// Keeps what is in force at the agent, or asks for it.
    pub(super) async fn config(&mut self, told: ConfigInForce) -> Result<(), Ended> {
        let (agent, digest) = (self.agent.clone(), told.digest);
        let hub = Arc::clone(&self.hub);
        if hub.blocking(move |hub| in_force::tell(hub, &agent, told)).await? {
            self.session.handle_config_lacked(digest);
        }
        Ok(())
    }
}
