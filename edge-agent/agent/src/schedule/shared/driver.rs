//! What follows the twins, and says which schedules the agent has by them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tideline_protocol::model::DeviceId;
use tideline_protocol::wire::DocumentId;
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Definitions, Held, Known, Plan, Point, definitions};
use crate::config::Jobs;
use crate::setpoints::documents;
use crate::source::Writes;
use crate::twin::{TwinError, TwinHandle};

/// When a document that could not be read is read again, and who has no source now is asked again.
const AGAIN: Duration = Duration::from_secs(2);

/// Who says which schedules there are: for whom, of which twins, beside which configuration.
pub struct Planner {
    /// The agent's own device.
    pub agent: DeviceId,
    /// The twins.
    pub twins: TwinHandle,
    /// Who knows points of devices.
    pub writes: Writes,
    /// The configuration's own schedules.
    pub jobs: watch::Receiver<Arc<Jobs>>,
    /// Where it is said.
    pub plan: watch::Sender<Option<Arc<Plan>>>,
}

/// What documents say of schedules.
#[derive(Default)]
struct Seen {
    held: BTreeMap<DeviceId, Held>,
    shared: BTreeMap<DocumentId, Definitions>,
}

impl Planner {
    /// Follows the twins until it is dropped.
    pub async fn run(mut self) {
        let followed = self.twins.follow();
        let listed = self.twins.list().await.unwrap_or_default();
        let mut due: BTreeSet<DocumentId> = listed.into_iter().map(|twin| twin.document).collect();
        let mut seen = Seen::default();
        loop {
            due = self.look(&mut seen, due).await;
            let plan = self.plan(&seen);
            let is_again = !due.is_empty() || plan.is_waiting();
            self.plan.send_if_modified(|said| {
                let differs = said.as_deref() != Some(&plan);
                *said = Some(Arc::new(plan));
                differs
            });
            tokio::select! {
                documents = followed.take() => due.extend(documents),
                Ok(()) = self.jobs.changed() => {}
                () = sleep(AGAIN), if is_again => {}
            }
        }
    }

    /// Looks at these documents; gives those that could not be read.
    async fn look(&self, seen: &mut Seen, due: BTreeSet<DocumentId>) -> BTreeSet<DocumentId> {
        let mut left = BTreeSet::new();
        for document in due {
            match self.look_at(seen, &document).await {
                Ok(()) => {}
                Err(TwinError::NotShared(_) | TwinError::NoDevice(_)) => {
                    seen.shared.remove(&document);
                    if let DocumentId::Device(device) = &document {
                        seen.held.remove(device);
                    }
                }
                Err(error) => {
                    tracing::warn!(%document, %error, "schedules of a document stay as they were");
                    left.insert(document);
                }
            }
        }
        left
    }

    async fn look_at(&self, seen: &mut Seen, document: &DocumentId) -> Result<(), TwinError> {
        match document {
            DocumentId::Device(device) => {
                let look = |twin: &_| Held { own: definitions(twin), documents: documents(twin) };
                let held = self.twins.look(document.clone(), look).await?;
                seen.held.insert(device.clone(), held);
            }
            DocumentId::Site(_) | DocumentId::Group(_) => {
                let found = self.twins.look(document.clone(), definitions).await?;
                seen.shared.insert(document.clone(), found);
            }
        }
        Ok(())
    }

    fn plan(&mut self, seen: &Seen) -> Plan {
        let jobs = Arc::clone(&self.jobs.borrow_and_update());
        let (held, shared) = (&seen.held, &seen.shared);
        let known = Known { agent: &self.agent, configured: &jobs.schedules, held, shared };
        known.plan(|device, point| match self.writes.is_writable(device, point) {
            Some(true) => Point::There,
            Some(false) => Point::None,
            None => Point::Unknown,
        })
    }
}
