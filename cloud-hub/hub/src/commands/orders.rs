//! Taking commands: each is durable, and known to the core, when it is answered.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use tideline_protocol::commands::{HubCommand, Order, QUEUED_PER_AGENT_MAX};
use tideline_protocol::model::AgentId;
use tideline_protocol::wire::CommandId;

use super::{OrderError, QUEUED_MAX};
use crate::api::shapes::CommandEvent;
use crate::hub::{App, Hub};
use crate::live::Happening;
use crate::metadata::{Changes, CommandIndexRecord, CommandKeyRecord, CommandRecord, MetadataError};

/// Commands of one commit, which others wait for.
const AT_ONCE: usize = 50;

/// A command, and whether it is new.
type Taken = Result<(HubCommand, bool), OrderError>;

/// How many commands wait already.
struct Waiting {
    all: usize,
    agents: BTreeMap<AgentId, usize>,
}

impl Waiting {
    fn of(hub: &Hub, orders: &[Order]) -> Self {
        let core = hub.commands.core();
        let mut agents = BTreeMap::new();
        for Order { agent, .. } in orders {
            // Once for an agent of many devices: it looks at all that wait.
            agents.entry(agent.clone()).or_insert_with(|| core.count(agent));
        }
        Self { agents, all: core.iter().count() }
    }

    fn take(&mut self, agent: &AgentId) -> Result<(), OrderError> {
        let of_agent = self.agents.entry(agent.clone()).or_default();
        if *of_agent >= QUEUED_PER_AGENT_MAX {
            return Err(OrderError::Full(*of_agent, format!("agent {agent}"), QUEUED_PER_AGENT_MAX));
        }
        if self.all >= QUEUED_MAX {
            return Err(OrderError::Full(self.all, "agents".to_owned(), QUEUED_MAX));
        }
        (*of_agent, self.all) = (of_agent.saturating_add(1), self.all.saturating_add(1));
        Ok(())
    }
}

/// Takes a command, or gives the one that was asked for with the same key before; says whether it is new. It is durable then.
///
/// # Errors
/// Too many wait, the key was used for something else, or the metadata failed.
pub async fn order(hub: &App, order: Order, key: Option<String>) -> Taken {
    // In one step also when nobody waits for the answer any more: what is durable and not known here would wait for ever.
    let taken = hub.blocking(move |hub| take(hub, &[order], key.as_deref())).await?.pop();
    taken.unwrap_or_else(|| Err(MetadataError::interrupted("no command was made").into()))
}

/// As [`order`] for many, each by itself and some in each commit. It goes on when nobody waits for the answer any more.
///
/// # Errors
/// The metadata failed: those before that are taken, and with a key may be asked for again.
pub async fn order_each(
    hub: &App,
    orders: Vec<Order>,
    key: Option<String>,
) -> Result<Vec<Taken>, MetadataError> {
    let hub = Arc::clone(hub);
    let made = tokio::spawn(async move {
        let mut all = Vec::with_capacity(orders.len());
        for part in orders.chunks(AT_ONCE) {
            let (part, key) = (part.to_vec(), key.clone());
            all.extend(hub.blocking(move |hub| take(hub, &part, key.as_deref())).await?);
        }
        Ok(all)
    });
    made.await.map_err(MetadataError::interrupted)?
}

/// The command that a device was given with this key before. Asked first, since what makes an order bad, as its deadline, may have
/// come since.
///
/// # Errors
/// The key was used for something else, or the metadata failed.
pub fn given_before(
    hub: &Hub,
    device: &str,
    key: &str,
    (kind, input): (&str, &str),
) -> Result<Option<HubCommand>, OrderError> {
    let known: Option<CommandKeyRecord> = hub.metadata.find(&format!("{device}/{key}"))?;
    let Some(CommandKeyRecord { id }) = known else { return Ok(None) };
    let Some(CommandRecord { command }) = hub.metadata.find(&id)? else { return Ok(None) };
    let same = command.kind == kind && command.input == input;
    if same { Ok(Some(command)) } else { Err(OrderError::Key(key.to_owned(), id)) }
}

/// In one commit. Waits for the disk.
fn take(hub: &Hub, orders: &[Order], key: Option<&str>) -> Result<Vec<Taken>, MetadataError> {
    let now_ms = hub.now_ms();
    let ids = new_ids(hub, now_ms, orders.len())?;
    let mut waiting = Waiting::of(hub, orders);
    let taken = hub.metadata.change(|changes: &mut Changes| {
        let made = orders.iter().zip(ids).map(|(order, id)| {
            match make(changes, &mut waiting, (id, now_ms), order.clone(), key) {
                // Nothing of the others is kept either.
                Err(OrderError::Metadata(error)) => Err(error),
                taken => Ok(taken),
            }
        });
        made.collect::<Result<Vec<Taken>, MetadataError>>()
    })?;
    for (command, _) in taken.iter().flatten().filter(|(_, is_new)| *is_new) {
        let (id, author, device, kind) = (command.id, &command.author, &command.device, &command.kind);
        tracing::info!(%id, author, %device, kind, "a command was given");
        hub.live.publish(Happening::Command(CommandEvent::from(command)));
        hub.commands.core().handle_created(now_ms, command.clone());
    }
    hub.commands.wake.notify_one();
    Ok(taken)
}

fn make(
    changes: &mut Changes,
    waiting: &mut Waiting,
    (id, now_ms): (CommandId, i64),
    order: Order,
    key: Option<&str>,
) -> Taken {
    let keyed = key.map(|key| (key, format!("{}/{key}", order.device)));
    if let Some((key, keyed)) = &keyed
        && let Some(CommandKeyRecord { id }) = changes.find(keyed)?
        && let Some(CommandRecord { command }) = changes.find(&id)?
    {
        let same = command.kind == order.kind && command.input == order.input;
        return if same { Ok((command, false)) } else { Err(OrderError::Key((*key).to_owned(), id)) };
    }
    waiting.take(&order.agent)?;
    let command = HubCommand::new(id, now_ms, order);
    let id = id.to_string();
    changes.put(&id, &CommandRecord { command: command.clone() })?;
    let index = CommandIndexRecord { key: key.map(str::to_owned) };
    changes.put(&format!("{}/{id}", command.device), &index)?;
    if let Some((_, keyed)) = keyed {
        changes.put(&keyed, &CommandKeyRecord { id })?;
    }
    Ok((command, true))
}

/// Ids begin with the time, so that they are in the order in which commands were made, and agents know how old one is. Those
/// of one millisecond follow each other.
#[derive(Debug, Default)]
pub struct LastId(Option<(i64, [u8; 10])>);

impl LastId {
    /// The id of the next command, with what is random in it if it is the first of its millisecond.
    fn next(&mut self, now_ms: i64, mut random: [u8; 10]) -> CommandId {
        match self.0 {
            Some((last_ms, last)) if last_ms == now_ms => {
                random = last;
                for byte in random.iter_mut().rev() {
                    *byte = byte.wrapping_add(1);
                    if *byte != 0 {
                        break;
                    }
                }
            }
            // So that no number of commands goes beyond what there is.
            _ => random.iter_mut().take(1).for_each(|first| *first &= 0x7f),
        }
        self.0 = Some((now_ms, random));
        CommandId::made(now_ms, random)
    }
}

fn new_ids(hub: &Hub, now_ms: i64, count: usize) -> Result<Vec<CommandId>, MetadataError> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(MetadataError::interrupted)?;
    let mut last = hub.commands.last.lock().unwrap_or_else(PoisonError::into_inner);
    Ok((0..count).map(|_| last.next(now_ms, random)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_millisecond_are_in_the_order_in_which_they_were_made() {
        let mut last = LastId::default();
        let mut ids: Vec<_> = (0..600_u16).map(|n| last.next(5, [n.to_be_bytes()[1]; 10])).collect();
        ids.push(last.next(6, [0; 10]));
        assert!(ids.is_sorted_by(|a, b| a.to_string() < b.to_string()), "{ids:?}");
        let highest = last.next(7, [0xff; 10]);
        assert!(last.next(7, [0; 10]) > highest && last.next(8, [0; 10]) > highest);
        // Set back, the clock is believed: how old a command is counts more.
        assert_eq!(last.next(4, [1; 10]).made_ms(), 4);
    }
}
