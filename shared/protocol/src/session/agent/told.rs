//! What an open session is told to say beside readings. Each goes out in the order told, ahead of all readings that are not
//! on the way yet.

use super::{AgentAction, AgentSession};
use crate::session::SessionError;
use crate::wire::{
    Audit, CARDS_PER_MESSAGE_MAX, ConfigInForce, DeviceCard, Devices, DocumentId, Health, Message, ToAgent,
    ToHub, TwinSync,
};

impl AgentSession {
    /// The agent's ways have changed; it is told to the hub, unless that has not yet welcomed it.
    pub fn handle_health(&mut self, health: Health) {
        if self.is_open() {
            self.actions.push_back(AgentAction::Send(Message::Health(health)));
        }
    }

    /// What is known of the agent's devices; it is told to the hub, unless that has not yet welcomed it or is
    /// of a version that does not ask for it.
    pub fn handle_devices(&mut self, cards: &[DeviceCard]) {
        if self.is_open() && self.tells_devices {
            for cards in cards.chunks(CARDS_PER_MESSAGE_MAX) {
                let mut told = Devices { cards: cards.to_vec() };
                if !self.tells_keeps {
                    told.cards.iter_mut().for_each(|card| card.keeps = None);
                }
                if !self.tells_profiles {
                    told.cards.iter_mut().for_each(|card| card.profile_digest = None);
                }
                self.actions.push_back(AgentAction::Send(Message::Devices(told)));
            }
        }
    }

    /// Whether the hub has welcomed the agent and can be told of its configuration.
    #[must_use]
    pub fn speaks_of_config(&self) -> bool {
        self.is_open() && self.tells_config
    }

    /// What is in force; it is dropped where [`AgentSession::speaks_of_config`] is false. Without its options it only names them,
    /// and the hub asks for them where it does not have them.
    pub fn handle_config(&mut self, told: ConfigInForce) {
        if self.speaks_of_config() {
            self.actions.push_back(AgentAction::Send(Message::Config(told)));
        }
    }

    /// Whether the hub has welcomed the agent and knows twins.
    #[must_use]
    pub fn speaks_of_twins(&self) -> bool {
        self.is_open() && self.syncs_twins
    }

    /// Whether the hub knows documents of this kind; of a group it is told nothing where it does not.
    pub(super) fn speaks_of(&self, document: &DocumentId) -> bool {
        self.speaks_of_twins() && (self.syncs_groups || !matches!(document, DocumentId::Group(_)))
    }

    /// What there is to say about a twin; it is dropped where [`AgentSession::speaks_of_twins`] is false, or the hub does not know
    /// documents of its kind.
    pub fn handle_twin(&mut self, sync: TwinSync) {
        if self.speaks_of(&sync.document) {
            self.actions.push_back(AgentAction::Send(Message::Twin(sync)));
        }
    }

    /// Whether the hub has welcomed the agent and sends commands.
    #[must_use]
    pub fn speaks_of_commands(&self) -> bool {
        self.is_open() && self.takes_commands
    }

    /// What there is to say about commands; it is dropped where [`AgentSession::speaks_of_commands`] is false.
    pub fn handle_command(&mut self, said: ToHub) {
        if self.speaks_of_commands() {
            self.actions.push_back(AgentAction::Send(said.into()));
        }
    }

    pub(super) fn command(&mut self, said: ToAgent) -> Result<(), SessionError> {
        self.actions.push_back(AgentAction::Command(said));
        Ok(())
    }

    /// Asks the hub what it holds; false when it cannot be asked in this session.
    pub fn handle_audit(&mut self, audit: Audit) -> bool {
        // Of a copy the hub knows only what it has in common with the other.
        let may = self.is_open() && self.parted.is_none() && self.audit.is_none();
        if may {
            self.audit = Some(audit.id);
            self.actions.push_back(AgentAction::Send(Message::Audit(audit)));
        }
        may
    }
}
