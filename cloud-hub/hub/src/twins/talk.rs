//! What a session says of twins, and what it hears.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tideline_protocol::model::AgentId;
use tideline_protocol::wire::{DocumentId, TwinSync};
use tideline_twin::{Link, Message};

use super::TwinError;
use super::queue::{Written, settle};
use super::sharing::is_shown_to;
use crate::hub::{App, Hub};
use crate::registry;
use crate::telemetry::Metric;

/// Most messages of one document in a turn; what more there is to say of it comes with the next.
const MESSAGES_MAX: usize = 8;

/// The work of one turn.
#[derive(Debug, Default)]
pub struct Turn {
    /// Of all documents that the session speaks of; a turn gives them back.
    pub links: BTreeMap<DocumentId, Link>,
    /// Documents of which the agent has said something while they were none of its own; given back too.
    pub barred: BTreeSet<DocumentId>,
    /// What came, in its order.
    pub heard: Vec<TwinSync>,
    /// Documents of which there may be something to say.
    pub told: BTreeSet<DocumentId>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Turned {
    /// Given back.
    pub links: BTreeMap<DocumentId, Link>,
    /// Given back.
    pub barred: BTreeSet<DocumentId>,
    /// What is to be said.
    pub say: Vec<TwinSync>,
    /// Documents of which there is more to say.
    pub again: Vec<DocumentId>,
    /// Why messages were refused.
    pub refused: Vec<String>,
}

/// Why a message costs itself.
enum Refused {
    Peer(String),
    /// The device is none of the agent's.
    Barred(String),
    Elsewhere,
    Hub(TwinError),
}

impl<E: Into<TwinError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Hub(error.into())
    }
}

/// Who a session is.
#[derive(Debug, Clone)]
pub struct Speaker {
    /// Its agent.
    pub agent: AgentId,
    /// Its number.
    pub number: u64,
}

/// Hears what came, makes it durable, and gathers what is to be said.
///
/// # Errors
/// The hub failed.
pub async fn turn(hub: App, who: Speaker, turn: Turn) -> Result<Turned, TwinError> {
    let (turned, written, wrote) = converse(&hub, who.clone(), turn).await?;
    if written.is_empty() {
        return Ok(turned);
    }
    settle(&hub, written).await?;
    let Turned { links, barred, say, again, refused } = turned;
    let (last, _, _) = converse(&hub, who, Turn { links, barred, heard: Vec::new(), told: wrote }).await?;
    let both = |first: Vec<_>, last: Vec<_>| first.into_iter().chain(last).collect();
    let again = again.into_iter().chain(last.again).collect();
    Ok(Turned { links: last.links, barred: last.barred, say: both(say, last.say), again, refused })
}

type Conversed = (Turned, Written, BTreeSet<DocumentId>);

async fn converse(hub: &App, who: Speaker, turn: Turn) -> Result<Conversed, TwinError> {
    let permit = Arc::clone(&hub.twins.turns).acquire_owned().await;
    hub.blocking(move |hub| {
        let _permit = permit;
        hear_and_say(hub, &who, turn)
    })
    .await
}

fn hear_and_say(hub: &Hub, who: &Speaker, turn: Turn) -> Result<Conversed, TwinError> {
    let Turn { links, barred, heard, mut told } = turn;
    let mut turned = Turned { links, barred, ..Turned::default() };
    let (mut written, mut wrote) = (Written::default(), BTreeSet::new());
    for TwinSync { document, message } in heard {
        match hear(hub, who, &mut turned.links, &document, &message) {
            Ok(durable) => {
                if let Some(durable) = durable {
                    written.extend([durable]);
                    wrote.insert(document.clone());
                }
                told.insert(document);
            }
            Err(Refused::Peer(reason)) => turned.refused.push(format!("{document}: {reason}")),
            // Begun anew when the device is the agent's, what is not taken now is asked for again: this link would wait for what
            // the agent has said already.
            Err(Refused::Barred(reason)) => {
                turned.links.remove(&document);
                turned.barred.insert(document.clone());
                turned.refused.push(format!("{document}: {reason}"));
            }
            // It left the site or the group, and has not heard of it yet.
            Err(Refused::Elsewhere) => drop(told.insert(document)),
            Err(Refused::Hub(error)) => spare(&document, error)?,
        }
    }
    for document in told {
        if !is_shown_to(hub, &document, &who.agent)? {
            // It is another agent's now, or was shut out.
            turned.links.remove(&document);
            dismiss(&document, &mut turned.say);
        } else if let Err(error) = say(hub, who, &document, &mut turned) {
            turned.links.remove(&document);
            spare(&document, error)?;
        }
    }
    Ok((turned, written, wrote))
}

/// One document that is damaged leaves the others alone.
fn spare(document: &DocumentId, error: TwinError) -> Result<(), TwinError> {
    match error {
        TwinError::Damaged { .. } | TwinError::Edit(_) => {
            tracing::error!(%document, error = &error as &dyn std::error::Error, "a twin is left out of a session");
            Ok(())
        }
        error => Err(error),
    }
}

/// Takes one message. What it wrote is told; what only says that the agent has something waits for nobody.
fn hear(
    hub: &Hub,
    who: &Speaker,
    links: &mut BTreeMap<DocumentId, Link>,
    document: &DocumentId,
    message: &[u8],
) -> Result<Option<Written>, Refused> {
    match document {
        DocumentId::Device(device) => {
            let admitted = registry::admit(hub, &who.agent, [device])?;
            admitted.map_err(|barred| Refused::Barred(barred.to_string()))?;
        }
        DocumentId::Site(_) | DocumentId::Group(_) if !is_shown_to(hub, document, &who.agent)? => {
            return Err(Refused::Elsewhere);
        }
        DocumentId::Site(_) | DocumentId::Group(_) => {}
    }
    let message = Message::from_bytes(message).map_err(|refusal| Refused::Peer(refusal.to_string()))?;
    let twins = &hub.twins;
    twins.shelf.with(&twins.file, document, |slot, warm| {
        let link = links.entry(document.clone()).or_insert_with(|| Link::new(who.agent.as_str(), &warm.twin));
        let before = warm.twin.heads();
        let record = link.handle_at(&mut warm.twin, &message, Some(hub.now_ms()));
        let record = record.map_err(|refusal| Refused::Peer(refusal.to_string()))?;
        let mut written = Written::default();
        if let Some(record) = record {
            let is_confirmed = matches!(message, Message::Confirm { .. });
            let news = if is_confirmed { None } else { twins.news(warm, &before) };
            let record = twins.queue.push(slot, warm.put(record), news, Some(who.number));
            if !is_confirmed || twins.queue.is_long() {
                written.add(record);
            }
        }
        // Also when nothing new came: the agent may be the last that a restored hub had to meet.
        written.extend(twins.rebase_when_due(hub, slot, warm));
        Ok((!written.is_empty()).then_some(written))
    })?
}

/// Tells an agent that none of its devices is at a site or in a group any more: a message without bytes.
fn dismiss(document: &DocumentId, say: &mut Vec<TwinSync>) {
    if !matches!(document, DocumentId::Device(_)) {
        say.push(TwinSync { document: document.clone(), message: Vec::new() });
    }
}

fn say(hub: &Hub, who: &Speaker, document: &DocumentId, turned: &mut Turned) -> Result<(), TwinError> {
    let Turned { links, barred, say, again, .. } = turned;
    hub.twins.shelf.with(&hub.twins.file, document, |_, warm| {
        let begin = if barred.remove(document) { Link::anew } else { Link::new };
        let link = links.entry(document.clone()).or_insert_with(|| begin(who.agent.as_str(), &warm.twin));
        for _ in 0..MESSAGES_MAX {
            let Some(message) = link.poll(&warm.twin) else { return };
            let message = message.to_bytes();
            hub.counters.add(Metric::TwinMessagesSent, 1);
            hub.counters.add(Metric::TwinBytesSent, message.len() as u64);
            say.push(TwinSync { document: document.clone(), message });
        }
        again.push(document.clone());
    })
}
