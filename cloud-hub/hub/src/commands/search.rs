//! Commands of all devices, the newest first, as somebody asks for them.

use std::ops::ControlFlow;

use tideline_protocol::commands::HubCommand;
use tideline_protocol::wire::CommandId;

use super::find;
use crate::hub::Hub;
use crate::metadata::{CommandIndexRecord, CommandRecord, MetadataError};

/// Most commands that one question looks at: each is read from the disk and parsed, and there are as many as some weeks gave.
const LOOKED_AT_MAX: usize = 20_000;
/// Behind the id of any command: these are of hexadecimal digits.
const BEHIND_ALL: &str = "g";

/// When commands were made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Made {
    /// From then on, Unix ms.
    pub from_ms: Option<i64>,
    /// Before then, Unix ms.
    pub to_ms: Option<i64>,
}

impl Made {
    /// The ids of these times, from the first one on and before the other: an id begins with the time of its making.
    fn ids(self, before: Option<CommandId>) -> (String, String) {
        let first = |ms: i64| CommandId::made(ms, [0; 10]).to_string();
        let end = self.to_ms.map_or_else(|| BEHIND_ALL.to_owned(), first);
        let end = before.map_or(end.clone(), |before| before.to_string().min(end));
        (self.from_ms.map(first).unwrap_or_default(), end)
    }
}

/// Some of the commands that are wanted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// The newest first.
    pub commands: Vec<HubCommand>,
    /// Where to go on: there may be more.
    pub next: Option<String>,
}

/// Which commands are looked at.
#[derive(Debug, Clone, Copy)]
pub enum Among<'a> {
    /// All of them.
    All,
    /// Those of these devices, which are found without a look at any other.
    Devices(&'a [String]),
}

/// Commands that are wanted, made before the one with the id `before`, at most so many; fewer where it has looked at enough of them.
///
/// # Errors
/// The metadata cannot be read.
pub fn search(
    hub: &Hub,
    among: Among<'_>,
    made: Made,
    before: Option<CommandId>,
    limit: usize,
    is_wanted: impl Fn(&HubCommand) -> bool,
) -> Result<Found, MetadataError> {
    let ids = made.ids(before);
    match among {
        Among::All => search_among(hub, ids, limit, LOOKED_AT_MAX, is_wanted),
        Among::Devices(devices) => search_of(hub, devices, &ids, (limit, LOOKED_AT_MAX), is_wanted),
    }
}

fn search_of(
    hub: &Hub,
    devices: &[String],
    (from, end): &(String, String),
    (limit, looked_at_max): (usize, usize),
    is_wanted: impl Fn(&HubCommand) -> bool,
) -> Result<Found, MetadataError> {
    let mut ids = Vec::new();
    for device in devices {
        let prefix = format!("{device}/");
        let keys = hub.metadata.list_from::<CommandIndexRecord>(&prefix)?;
        ids.extend(keys.iter().filter_map(|(key, _)| key.strip_prefix(&prefix).map(str::to_owned)));
    }
    ids.retain(|id| id >= from && id < end);
    ids.sort_unstable_by(|a, b| b.cmp(a));
    let mut found = Found::default();
    for (looked_at, id) in ids.iter().enumerate() {
        if found.commands.len() >= limit || looked_at >= looked_at_max {
            found.next = looked_at.checked_sub(1).and_then(|last| ids.get(last)).cloned();
            break;
        }
        // One that was forgotten meanwhile is none.
        let Some(command) = id.parse().ok().map(|id| find(hub, id)).transpose()?.flatten() else { continue };
        if is_wanted(&command) {
            found.commands.push(command);
        }
    }
    Ok(found)
}

fn search_among(
    hub: &Hub,
    (from, end): (String, String),
    limit: usize,
    looked_at_max: usize,
    is_wanted: impl Fn(&HubCommand) -> bool,
) -> Result<Found, MetadataError> {
    let (mut commands, mut looked_at, mut last, mut cut) = (Vec::new(), 0, String::new(), false);
    hub.metadata.each_back(&from, &end, |id, CommandRecord { command }| {
        if commands.len() >= limit || looked_at >= looked_at_max {
            cut = true;
            return ControlFlow::Break(());
        }
        looked_at += 1;
        id.clone_into(&mut last);
        // Of one that has not ended, memory knows more.
        let newer = (!command.state.is_final()).then(|| hub.commands.core().find(command.id).cloned());
        let command = newer.flatten().unwrap_or(command);
        if is_wanted(&command) {
            commands.push(command);
        }
        ControlFlow::Continue(())
    })?;
    Ok(Found { commands, next: cut.then_some(last) })
}

#[cfg(test)]
mod tests {
    use tideline_protocol::commands::Order;
    use tideline_protocol::model::{AgentId, DeviceId};

    use super::*;
    use crate::api::tests::hub_in;
    use crate::config::Config;
    use crate::metadata::Changes;

    fn put(hub: &Hub, made_ms: i64, device: &str) -> String {
        let id = CommandId::made(made_ms, [7; 10]);
        let order = Order {
            device: DeviceId::parse(device).unwrap(),
            agent: AgentId::parse("gate").unwrap(),
            kind: "sync".into(),
            input: "{}".into(),
            priority: 0,
            deadline_ms: made_ms + 1_000,
            attempts_max: 1,
            author: "ann".into(),
            correlation: None,
        };
        let command = HubCommand::new(id, made_ms, order);
        hub.metadata.put(&id.to_string(), &CommandRecord { command }).unwrap();
        hub.metadata.put(&format!("{device}/{id}"), &CommandIndexRecord { key: None }).unwrap();
        id.to_string()
    }

    fn ids(found: &Found) -> Vec<String> {
        found.commands.iter().map(|command| command.id.to_string()).collect()
    }

    #[tokio::test]
    async fn a_question_that_has_looked_at_enough_says_where_to_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let hub = hub_in(dir.path(), Config::default());
        let rare = put(&hub, 0, "valve");
        let all: Vec<String> = (1..=5).map(|ms| put(&hub, ms, "pump")).rev().collect();
        let is_rare = |command: &HubCommand| command.device.as_str() == "valve";
        let id = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        let ask = |before| search_among(&hub, Made::default().ids(id(before)), 10, 3, is_rare).unwrap();
        let first = ask(None);
        assert_eq!((ids(&first), first.next.as_ref()), (Vec::new(), all.get(2)));
        let second = ask(first.next.as_deref());
        assert_eq!((ids(&second), second.next), (vec![rare], None));
    }

    #[tokio::test]
    async fn commands_of_devices_that_are_named_are_found_without_a_look_at_others() {
        let dir = tempfile::tempdir().unwrap();
        let hub = hub_in(dir.path(), Config::default());
        let old = put(&hub, 0, "valve");
        (1..=5).for_each(|ms| drop(put(&hub, ms, "pump")));
        let (valve, tank) = (put(&hub, 6, "valve"), put(&hub, 7, "tank"));
        let devices = ["valve".to_owned(), "tank".to_owned()];
        let ask = |made: Made, before: Option<&str>, looked_at_max| {
            let ids = made.ids(before.map(|text| text.parse().unwrap()));
            search_of(&hub, &devices, &ids, (2, looked_at_max), |_: &HubCommand| true).unwrap()
        };
        let first = ask(Made::default(), None, 3);
        assert_eq!((ids(&first), first.next.as_ref()), (vec![tank.clone(), valve.clone()], Some(&valve)));
        let rest = ask(Made::default(), first.next.as_deref(), 3);
        assert_eq!((ids(&rest), rest.next), (vec![old], None));
        let made = Made { from_ms: Some(6), to_ms: Some(7) };
        assert_eq!(ids(&ask(made, None, 3)), [valve]);
        let cut = ask(Made::default(), None, 1);
        assert_eq!((ids(&cut), cut.next), (vec![tank.clone()], Some(tank)));
    }

    #[tokio::test]
    async fn a_command_that_is_forgotten_while_somebody_reads_on_ends_no_list() {
        let dir = tempfile::tempdir().unwrap();
        let hub = hub_in(dir.path(), Config::default());
        let all: Vec<String> = (1..=4).map(|ms| put(&hub, ms, "pump")).collect();
        hub.metadata.change(|changes: &mut Changes| changes.remove::<CommandRecord>(&all[2])).unwrap();
        let listed = super::super::list(&hub, "pump", None, 3).unwrap();
        let listed: Vec<_> = listed.iter().map(|command| command.id.to_string()).collect();
        assert_eq!(listed, [all[3].clone(), all[1].clone(), all[0].clone()]);
    }

    #[tokio::test]
    async fn times_are_those_of_making_and_the_end_is_not_among_them() {
        let dir = tempfile::tempdir().unwrap();
        let hub = hub_in(dir.path(), Config::default());
        let all: Vec<String> = (1..=5).map(|ms| put(&hub, ms, "pump")).collect();
        let ask = |from_ms, to_ms, limit| {
            search(&hub, Among::All, Made { from_ms, to_ms }, None, limit, |_: &HubCommand| true).unwrap()
        };
        assert_eq!(ids(&ask(Some(2), Some(4), 10)), [all[2].clone(), all[1].clone()]);
        assert_eq!(ask(Some(4), Some(2), 10), Found::default());
        let (first, whole) = (ask(None, None, 2), ask(None, None, 5));
        assert_eq!((ids(&first).len(), first.next), (2, Some(all[3].clone())));
        assert_eq!((ids(&whole).len(), whole.next), (5, None));
    }
}
