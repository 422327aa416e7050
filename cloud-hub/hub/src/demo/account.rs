//! The demo's final account: what the agents' own stores say, what the hub's ledger says, and what
//! can be counted by reading every series back, those of devices behind an agent with its own. Three sources, so that none vouches for itself.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use tideline_protocol::model;

use crate::cli::HubSocket;
use cloud_hub::api::shapes::{Device, DevicePage, Ledger};

/// Longest wait until what is durable can also be queried.
const QUERYABLE_MAX: Duration = Duration::from_secs(20);

/// What was read back of a device.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    /// An agent's own, or one behind it.
    pub device: String,
    /// Its readings at the hub.
    pub readings: u64,
}

/// The account of one agent, with those of the devices behind it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The agent.
    pub device: String,
    /// As the agent's own store says.
    pub agent: model::Account,
    /// As the hub says.
    pub hub: Ledger,
    /// Readings read back from the hub.
    pub counted: u64,
    /// The same by device.
    pub found: Vec<Found>,
}

impl Serialize for Entry {
    /// What the hub stored is the hub's word, all else the agent's.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            device: &'a str,
            produced: u64,
            stored: u64,
            pending: u64,
            dropped: u64,
            refused: u64,
            duplicates: u64,
            gaps: usize,
            devices: &'a [Found],
        }
        let Self { device, agent, hub, found, .. } = self;
        Line {
            device,
            produced: agent.produced,
            stored: hub.stored,
            pending: agent.pending,
            dropped: agent.dropped,
            refused: agent.refused,
            duplicates: hub.duplicates,
            gaps: hub.gaps.len(),
            devices: found,
        }
        .serialize(serializer)
    }
}

/// The account of the whole demo.
#[derive(Debug, Clone, Serialize)]
pub struct Account {
    /// By device.
    pub devices: Vec<Entry>,
    /// Readings that were accepted and are nowhere.
    pub lost: u64,
    /// Readings that are at the hub more than once.
    pub doubled: u64,
}

impl Entry {
    fn lost(&self) -> u64 {
        let kept = self
            .counted
            .saturating_add(self.agent.pending)
            .saturating_add(self.agent.dropped)
            .saturating_add(self.agent.refused);
        self.agent.produced.saturating_sub(kept)
    }

    fn doubled(&self) -> u64 {
        self.counted.saturating_sub(self.agent.produced)
    }

    /// Whether every reading is at the hub once, and all three sources say so.
    pub fn good(&self) -> bool {
        let Self { agent, hub, counted, .. } = self;
        let whole = agent.produced > 0 && agent.produced == hub.stored;
        let agreed = hub.stored == agent.stored && hub.stored == *counted;
        let none_apart = [agent.pending, agent.dropped, agent.refused, hub.lost] == [0; 4];
        whole && agreed && hub.balanced && none_apart
    }

    fn verdict(&self) -> &'static str {
        match (self.good(), self.agent.produced) {
            (true, _) => "balances",
            (false, 0) => "IT READ NOTHING",
            (false, _) => "DOES NOT BALANCE",
        }
    }
}

impl Account {
    /// The sums over all devices.
    pub fn of(devices: Vec<Entry>) -> Self {
        let lost = devices.iter().map(Entry::lost).sum();
        let doubled = devices.iter().map(Entry::doubled).sum();
        Self { devices, lost, doubled }
    }

    /// Whether the demo succeeded.
    pub fn good(&self) -> bool {
        !self.devices.is_empty()
            && self.devices.iter().all(Entry::good)
            && self.lost == 0
            && self.doubled == 0
    }

    /// The account in words.
    pub fn words(&self) -> String {
        let mut out = String::new();
        for entry in &self.devices {
            let Entry { device, agent, hub, counted, found } = entry;
            out.push_str(&format!(
                "{device}: produced {} = stored {} + pending {} + dropped {} + refused {}; {counted} read back, {} duplicates ignored, {} gaps; {}\n",
                agent.produced, hub.stored, agent.pending, agent.dropped, agent.refused, hub.duplicates, hub.gaps.len(), entry.verdict()
            ));
            if found.len() > 1 {
                let each = found.iter().map(|Found { device, readings }| format!("{device} {readings}"));
                out.push_str(&format!("  of these: {}\n", each.collect::<Vec<_>>().join(", ")));
            }
        }
        out.push_str(&format!("lost {}, doubled {}\n", self.lost, self.doubled));
        out
    }
}

/// Brings the three sources together for one device; `inspected` is what `edge-agent store
/// inspect --json` said.
///
/// # Errors
/// A source cannot be read.
pub async fn entry(hub: &HubSocket, device: &str, inspected: &str) -> Result<Entry> {
    #[derive(Deserialize)]
    struct Inspected {
        account: model::Account,
    }
    let inspected: Inspected =
        serde_json::from_str(inspected).context("what edge-agent store inspect says is not understood")?;
    let shown: Device = hub.get_as(&format!("/api/v1/devices/{device}")).await?;
    let found = count_until(hub, device, shown.ledger.stored).await?;
    let counted = sum(&found);
    Ok(Entry { device: device.to_owned(), agent: inspected.account, hub: shown.ledger, counted, found })
}

/// Counts until it is `stored`, or until the wait is over: durable readings become queryable a
/// moment later.
async fn count_until(hub: &HubSocket, device: &str, stored: u64) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let settled = async {
        loop {
            found = count_all(hub, device).await?;
            if sum(&found) >= stored {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    if let Ok(result) = tokio::time::timeout(QUERYABLE_MAX, settled).await {
        result?;
    }
    Ok(found)
}

fn sum(found: &[Found]) -> u64 {
    found.iter().map(|found| found.readings).sum()
}

/// Of an agent and of the devices behind it: they are in its account.
async fn count_all(hub: &HubSocket, agent: &str) -> Result<Vec<Found>> {
    let page: DevicePage = hub.get_as(&format!("/api/v1/devices?agent={agent}&limit=1000")).await?;
    let mut found = Vec::with_capacity(page.devices.len());
    for device in page.devices {
        found.push(Found { readings: count(hub, &device.id).await?, device: device.id });
    }
    Ok(found)
}

async fn count(hub: &HubSocket, device: &str) -> Result<u64> {
    let series = hub.get(&format!("/api/v1/series?device={device}&limit=1000")).await?;
    let mut rows = 0_u64;
    for id in list(&series, "series").iter().filter_map(|s| s.get("id")?.as_str()) {
        let base = format!("/api/v1/query?series={id}&from=0&to=4102444800000&limit=100000");
        let mut path = base.clone();
        loop {
            let page = hub.get(&path).await?;
            rows += list(&page, "series").iter().map(|s| list(s, "t").len() as u64).sum::<u64>();
            match page.get("next").and_then(Value::as_str) {
                Some(next) => path = format!("{base}&cursor={next}"),
                None => break,
            }
        }
    }
    Ok(rows)
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let agent = model::Account { produced: 10, stored: 10, ..model::Account::default() };
        let hub = Ledger { produced: 10, stored: 10, duplicates: 3, balanced: true, ..Ledger::default() };
        let found =
            vec![Found { device: "d".into(), readings: 6 }, Found { device: "m".into(), readings: 4 }];
        Entry { device: "d".into(), agent, hub, counted: 10, found }
    }

    fn with_agent(change: impl Fn(&mut model::Account)) -> Entry {
        let mut entry = entry();
        change(&mut entry.agent);
        entry
    }

    fn with_hub(change: impl Fn(&mut Ledger)) -> Entry {
        let mut entry = entry();
        change(&mut entry.hub);
        entry
    }

    #[test]
    fn only_a_whole_account_is_good() {
        assert!(Account::of(vec![entry()]).good());
        for bad in [
            Entry { counted: 9, ..entry() },
            Entry { counted: 11, ..entry() },
            with_agent(|a| (a.pending, a.produced) = (1, 11)),
            with_agent(|a| (a.dropped, a.produced) = (1, 11)),
            with_agent(|a| a.stored = 9),
            with_hub(|h| h.balanced = false),
            with_hub(|h| h.lost = 1),
            Entry { agent: model::Account::default(), hub: Ledger::default(), counted: 0, ..entry() },
        ] {
            assert!(!Account::of(vec![entry(), bad.clone()]).good(), "{bad:?}");
        }
        assert!(!Account::of(Vec::new()).good());
    }

    #[test]
    fn lost_and_doubled_are_counted() {
        let account = Account::of(vec![Entry { counted: 8, ..entry() }, Entry { counted: 13, ..entry() }]);
        assert_eq!((account.lost, account.doubled), (2, 3));
    }

    #[test]
    fn the_json_has_the_names_of_the_contract() {
        let value = serde_json::to_value(Account::of(vec![entry()])).unwrap();
        let want = serde_json::json!({"devices": [{"device": "d", "produced": 10, "stored": 10, "pending": 0,
            "dropped": 0, "refused": 0, "duplicates": 3, "gaps": 0,
            "devices": [{"device": "d", "readings": 6}, {"device": "m", "readings": 4}]}], "lost": 0, "doubled": 0});
        assert_eq!(value, want);
        assert!(Account::of(vec![entry()]).words().contains("  of these: d 6, m 4\n"));
    }
}
