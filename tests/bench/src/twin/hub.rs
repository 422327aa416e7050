//! Many twins at one hub: the hub in a process of its own, without listeners.

use std::path::Path;
use std::sync::Arc;

use anyhow::ensure;
use cloud_hub::config::Config;
use cloud_hub::hub::{Addresses, App, Hub};
use cloud_hub::metadata::Metadata;
use cloud_hub::twins::{self, Patch, TWINS, Twins};
use serde_json::{Value, json};
use tideline_link::identity::CertificateAuthority;
use tideline_protocol::time::{Clock, SystemClock};
use tideline_protocol::wire::DocumentId;
use tideline_store::{Store, StoreConfig};
use tideline_twin::Section;

use super::{child, number};
use crate::path::memory_mb;
use crate::{Figure, quantile};

/// The argument with which this program is that hub.
pub const ROLE: &str = "twins-at-a-hub";
/// Documents of one call.
const AT_ONCE: usize = 1_000;
/// Changes that are timed one by one.
const TIMED: usize = 500;
const WORKLOAD: &str = "100,000 twins of 11 leaves, 1,000 a call";

fn hub_in(dir: &Path, clock: Arc<dyn Clock>) -> anyhow::Result<App> {
    let config = Config { data_dir: dir.to_owned(), ..Config::default() };
    let metadata = Metadata::open(&dir.join("hub.redb"))?;
    let all = Twins::open(&dir.join(TWINS))?;
    let (store, _) = Store::open(StoreConfig::new(dir.join("store")), Arc::clone(&clock))?;
    let authority = CertificateAuthority::create("figures", clock.wall_ns() / 1_000_000_000)?;
    Ok(Hub::new(config, clock, metadata, all, store, authority, Addresses::default())?)
}

fn patch(n: usize) -> Patch {
    let desired = json!({"mode": "eco", "motor": {"speed": n, "ramp_s": 2.5, "on": true}, "limits": {"low": 1, "high": 9}});
    let tags = json!({"site": "north", "floor": "2", "line": "A", "rack": "17"});
    let notes = json!({"installed": "behind the second door on the left"});
    let sections = vec![(Section::Desired, desired), (Section::Tags, tags), (Section::Notes, notes)];
    Patch { sections, of: None, author: "anna".to_owned(), check: |_, _| Vec::new() }
}

fn document(n: usize) -> anyhow::Result<DocumentId> {
    Ok(format!("device-{n}").parse()?)
}

/// Makes them, looks at each, changes some; says what that took.
async fn fill(hub: &App, dir: &Path, count: usize) -> anyhow::Result<Value> {
    let (own, clock) = (std::process::id(), Arc::clone(&hub.clock));
    let since_s = |start: u64| (clock.mono_ns() - start) as f64 / 1e9;
    let empty_mb = memory_mb(own, "VmRSS")?;
    let start = clock.mono_ns();
    for first in (0..count).step_by(AT_ONCE) {
        let documents =
            (first..count.min(first + AT_ONCE)).map(document).collect::<anyhow::Result<Vec<_>>>()?;
        let made = twins::patch_each(hub, documents, patch(first)).await?;
        ensure!(made.iter().all(Result::is_ok), "a twin was not made");
    }
    let (made_s, made_mb) = (since_s(start), memory_mb(own, "VmRSS")?);
    let start = clock.mono_ns();
    for n in 0..count {
        twins::look(hub, document(n)?, |twin| twin.changes()).await?;
    }
    let (looked_s, looked_mb) = (since_s(start), memory_mb(own, "VmRSS")?);
    let mut took_ms = Vec::new();
    for n in 0..TIMED.min(count) {
        let start = clock.mono_ns();
        twins::patch(hub, document(n * 7 % count)?, patch(count + n), |_| ()).await?;
        took_ms.push(since_s(start) * 1e3);
    }
    let standing = hub.twins.standing();
    ensure!(standing.documents == count as u64, "{} documents", standing.documents);
    Ok(json!({
        "empty_mb": empty_mb,
        "made_s": made_s,
        "made_mb": made_mb,
        "looked_us": looked_s * 1e6 / count as f64,
        "looked_mb": looked_mb,
        "most_mb": memory_mb(own, "VmHWM")?,
        "kept": standing.kept,
        "file_mb": std::fs::metadata(dir.join(TWINS))?.len() as f64 / 1e6,
        "change_p50_ms": quantile(&mut took_ms, 0.5),
        "change_p99_ms": quantile(&mut took_ms, 0.99),
    }))
}

/// The hub; says what came of it as JSON.
pub fn play(count: usize) -> anyhow::Result<Value> {
    let dir = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let hub = hub_in(dir.path(), Arc::new(SystemClock::default()))?;
        let told = fill(&hub, dir.path(), count).await?;
        let store = hub.store.clone();
        tokio::task::spawn_blocking(move || store.close()).await??;
        Ok(told)
    })
}

pub fn measure(count: usize, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let told = child(ROLE, count)?;
    for (name, key, unit) in [
        ("hub without twins, resident", "empty_mb", "MB"),
        ("hub with so many twins, just made, resident", "made_mb", "MB"),
        ("  after all were looked at (goal 1,000)", "looked_mb", "MB"),
        ("  most since its start", "most_mb", "MB"),
        ("  of them in memory", "kept", "twins"),
        ("  their file", "file_mb", "MB"),
        ("  time to make them, durable", "made_s", "s"),
        ("  a look at a twin that is on disk alone", "looked_us", "µs"),
        ("  a durable change of a twin, one by one, median", "change_p50_ms", "ms"),
        ("  p99", "change_p99_ms", "ms"),
    ] {
        figures.push(Figure { name, workload: WORKLOAD, value: number(&told, key)?, unit });
    }
    Ok(())
}
