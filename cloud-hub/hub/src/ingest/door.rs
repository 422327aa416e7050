//! Who is let in, and who is told to come later.

use std::sync::Arc;

use tideline_link::link::Link;
use tideline_protocol::wire::RefuseCode;
use tokio::sync::oneshot;

use super::{Driver, Ended};
use crate::api::devices::revoked_text;
use crate::fleet::{Came, Cut};
use crate::metadata::DeviceRecord;
use crate::secret::hex;
use crate::telemetry::Metric;

impl Driver {
    /// Whether the agent is told to come again later.
    pub(super) fn put_off(&mut self) -> bool {
        let mut entropy = [0; 8];
        // Without entropy those who are put off come back less spread.
        let _ = getrandom::fill(&mut entropy);
        let taken = self.hub.openings.take(self.hub.clock.mono_ns(), u64::from_le_bytes(entropy));
        let Err(wait_ns) = taken else { return false };
        self.hub.counters.add(Metric::SessionsPutOff, 1);
        let wait_ms = u32::try_from(wait_ns.div_ceil(1_000_000)).unwrap_or(u32::MAX);
        let reason = format!("too many sessions open at once: come again in {wait_ms} ms");
        tracing::debug!(agent = %self.agent, wait_ms, "session put off");
        self.session.refuse_for(RefuseCode::Unavailable, reason, wait_ms);
        true
    }

    /// Why this agent has no right to a session.
    pub(super) fn stranger(&self) -> Result<String, Ended> {
        let agent = &self.agent;
        Ok(match self.hub.metadata.find::<DeviceRecord>(agent.as_str())? {
            Some(own) if own.agent != agent.as_str() => {
                format!("{agent} is a field device behind agent {0}, and {0} speaks for it", own.agent)
            }
            Some(_) => revoked_text(agent),
            // Its certificate is of this hub, or it had not come so far.
            None => {
                if let Some(shown) = self.came.certificate {
                    self.hub.strangers.note(agent, &hex(&shown.key_sha256), self.hub.now_ms());
                }
                format!(
                    "agent {agent} is not registered, as one that enrolled after the backup that the hub was restored from: `cloud-hub device adopt {agent}` lets it in again, and so does a new token of `cloud-hub enroll-token create --device {agent}`"
                )
            }
        })
    }
}

/// How the other end came, as far as it is known before its hello.
pub(super) fn came(link: &Link) -> Came {
    Came {
        software: String::new(),
        transport: link.transport(),
        remote: link.handle().remote_addr(),
        certificate: link.peer_certificate(),
        flow: Arc::default(),
    }
}

/// The word to end; for ever when there is nobody who could say it.
pub(super) async fn told(cut: &mut Option<oneshot::Receiver<Cut>>) -> Cut {
    match cut {
        Some(receiver) => match receiver.await {
            Ok(said) => {
                *cut = None;
                said
            }
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}
