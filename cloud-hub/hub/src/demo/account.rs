//! The demo's final account: what the agents' own stores say, what the hub's ledger says, and what
//! can be counted by reading every series back. Three sources, so that none vouches for itself.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

use crate::cli::HubSocket;

/// Longest wait until what is durable can also be queried.
const QUERYABLE_MAX: Duration = Duration::from_secs(20);

/// The account of one device.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// The device.
    pub device: String,
    /// As the agent's own store says.
    pub produced: u64,
    /// As the hub's ledger says.
    pub stored: u64,
    /// As the agent's own store says.
    pub pending: u64,
    /// As the agent's own store says.
    pub dropped: u64,
    /// As the agent's own store says.
    pub refused: u64,
    /// As the hub's ledger says.
    pub duplicates: u64,
    /// As the hub's ledger says.
    pub gaps: u64,
    /// What the agent says the hub stored.
    #[serde(skip)]
    pub acknowledged: u64,
    /// Readings read back from the hub.
    #[serde(skip)]
    pub counted: u64,
    /// Whether the hub says that its ledger balances.
    #[serde(skip)]
    pub balanced: bool,
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
            .saturating_add(self.pending)
            .saturating_add(self.dropped)
            .saturating_add(self.refused);
        self.produced.saturating_sub(kept)
    }

    fn doubled(&self) -> u64 {
        self.counted.saturating_sub(self.produced)
    }

    /// Whether every reading is at the hub once, and all three sources say so.
    pub fn good(&self) -> bool {
        let whole = self.produced > 0 && self.produced == self.stored;
        let agreed = self.stored == self.acknowledged && self.stored == self.counted;
        whole && agreed && self.balanced && self.pending == 0 && self.dropped == 0 && self.refused == 0
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
        for e in &self.devices {
            let verdict = if e.good() { "balances" } else { "DOES NOT BALANCE" };
            out.push_str(&format!(
                "{}: produced {} = stored {} + pending {} + dropped {} + refused {}; {} read back, {} duplicates ignored, {} gaps; {verdict}\n",
                e.device, e.produced, e.stored, e.pending, e.dropped, e.refused, e.counted, e.duplicates, e.gaps
            ));
        }
        out.push_str(&format!("lost {}, doubled {}\n", self.lost, self.doubled));
        out
    }
}

fn number(value: &Value, path: &str) -> Result<u64> {
    value
        .pointer(path)
        .and_then(Value::as_u64)
        .with_context(|| format!("there is no number at {path} in {value}"))
}

/// Brings the three sources together for one device; `inspected` is what `edge-agent store
/// inspect --json` said.
///
/// # Errors
/// A source cannot be read.
pub async fn entry(hub: &HubSocket, device: &str, inspected: &str) -> Result<Entry> {
    let agent: Value =
        serde_json::from_str(inspected).context("what edge-agent store inspect says is no JSON")?;
    let shown = hub.get(&format!("/api/v1/devices/{device}")).await?;
    let stored = number(&shown, "/ledger/stored")?;
    let counted = count_until(hub, device, stored).await?;
    Ok(Entry {
        device: device.to_owned(),
        produced: number(&agent, "/account/produced")?,
        stored,
        pending: number(&agent, "/account/pending")?,
        dropped: number(&agent, "/account/dropped")?,
        refused: number(&agent, "/account/refused")?,
        duplicates: number(&shown, "/ledger/duplicates")?,
        gaps: shown.pointer("/ledger/gaps").and_then(Value::as_array).map_or(0, |g| g.len() as u64),
        acknowledged: number(&agent, "/account/stored")?,
        counted,
        balanced: shown.pointer("/ledger/balanced").and_then(Value::as_bool).unwrap_or(false),
    })
}

/// Counts until it is `stored`, or until the wait is over: durable readings become queryable a
/// moment later.
async fn count_until(hub: &HubSocket, device: &str, stored: u64) -> Result<u64> {
    let mut counted = 0;
    let settled = async {
        loop {
            counted = count(hub, device).await?;
            if counted >= stored {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    if let Ok(result) = tokio::time::timeout(QUERYABLE_MAX, settled).await {
        result?;
    }
    Ok(counted)
}

async fn count(hub: &HubSocket, device: &str) -> Result<u64> {
    let series = hub.get(&format!("/api/v1/series?device={device}&limit=1000")).await?;
    let ids: BTreeMap<&str, ()> =
        list(&series, "series").iter().filter_map(|s| s.get("id")?.as_str()).map(|id| (id, ())).collect();
    let mut rows = 0_u64;
    for id in ids.keys() {
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
        Entry {
            device: "d".into(),
            produced: 10,
            stored: 10,
            pending: 0,
            dropped: 0,
            refused: 0,
            duplicates: 3,
            gaps: 0,
            acknowledged: 10,
            counted: 10,
            balanced: true,
        }
    }

    #[test]
    fn only_a_whole_account_is_good() {
        assert!(Account::of(vec![entry()]).good());
        for bad in [
            Entry { counted: 9, ..entry() },
            Entry { counted: 11, ..entry() },
            Entry { pending: 1, produced: 11, ..entry() },
            Entry { dropped: 1, produced: 11, ..entry() },
            Entry { acknowledged: 9, ..entry() },
            Entry { balanced: false, ..entry() },
            Entry { produced: 0, stored: 0, acknowledged: 0, counted: 0, ..entry() },
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
}
