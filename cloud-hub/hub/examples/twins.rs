//! What twins cost a hub: `cargo run --release -p cloud-hub --example twins -- 100000`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it prints, and stops where it cannot go on")]

use std::sync::Arc;

use cloud_hub::config::Config;
use cloud_hub::hub::{Addresses, App, Hub};
use cloud_hub::metadata::Metadata;
use cloud_hub::twins::{self, Patch, TWINS, Twins};
use serde_json::json;
use tideline_link::identity::CertificateAuthority;
use tideline_protocol::time::{Clock, SystemClock};
use tideline_protocol::wire::DocumentId;
use tideline_store::{Store, StoreConfig};
use tideline_twin::Section;

/// Documents of one call; the hub makes commits of 50.
const AT_ONCE: usize = 1000;
/// Changes that are timed one by one.
const TIMED: usize = 500;

fn hub_in(dir: &std::path::Path, clock: Arc<dyn Clock>) -> App {
    let config = Config { data_dir: dir.to_owned(), ..Config::default() };
    let metadata = Metadata::open(&dir.join("hub.redb")).unwrap();
    let all = Twins::open(&dir.join(TWINS)).unwrap();
    let (store, _) = Store::open(StoreConfig::new(dir.join("store")), Arc::clone(&clock)).unwrap();
    let authority = CertificateAuthority::create("figures", clock.wall_ns() / 1_000_000_000).unwrap();
    Hub::new(config, clock, metadata, all, store, authority, Addresses::default()).unwrap()
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e3
}

fn patch(n: usize) -> Patch {
    let desired = json!({"mode": "eco", "motor": {"speed": n, "ramp_s": 2.5, "on": true}, "limits": {"low": 1, "high": 9}});
    let tags = json!({"site": "north", "floor": "2", "line": "A", "rack": "17"});
    let notes = json!({"installed": "behind the second door on the left"});
    let sections = vec![(Section::Desired, desired), (Section::Tags, tags), (Section::Notes, notes)];
    Patch { sections, of: None, author: "anna".to_owned(), check: |_, _| Vec::new() }
}

fn document(n: usize) -> DocumentId {
    format!("device-{n}").parse().unwrap()
}

fn show(hub: &App, what: &str, before_mb: f64) {
    let standing = hub.twins.standing();
    println!(
        "{what}: {} twins on disk, {} in memory (about {:.0} MB by the hub's own count), {:.0} MB resident more than an empty hub",
        standing.documents,
        standing.kept,
        standing.kept_bytes as f64 / 1e6,
        resident_mb() - before_mb
    );
}

#[tokio::main]
async fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(100_000_usize);
    let dir = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let hub = hub_in(dir.path(), Arc::clone(&clock));
    let before_mb = resident_mb();
    let start_ns = clock.mono_ns();
    for first in (0..count).step_by(AT_ONCE) {
        let documents = (first..count.min(first + AT_ONCE)).map(document).collect();
        let made = twins::patch_each(&hub, documents, patch(first)).await.unwrap();
        assert!(made.iter().all(Result::is_ok));
    }
    println!("{count} twins of 11 leaves made in {:.0} s", (clock.mono_ns() - start_ns) as f64 / 1e9);
    println!("{:.0} MB of file", std::fs::metadata(dir.path().join(TWINS)).unwrap().len() as f64 / 1e6);
    show(&hub, "just made", before_mb);
    for n in 0..count {
        twins::look(&hub, document(n), |twin| twin.changes()).await.unwrap();
    }
    show(&hub, "all looked at", before_mb);
    let mut took_ns = Vec::new();
    for n in 0..TIMED {
        let start_ns = clock.mono_ns();
        twins::patch(&hub, document(n * 7 % count), patch(count + n), |_| ()).await.unwrap();
        took_ns.push(clock.mono_ns() - start_ns);
    }
    took_ns.sort_unstable();
    let at =
        |per_mille: usize| took_ns.get(took_ns.len() * per_mille / 1000).map_or(0.0, |ns| *ns as f64 / 1e6);
    println!("a durable change of a twin, one by one, p50 / p99  {:.2} / {:.2} ms", at(500), at(990));
    let store = hub.store.clone();
    tokio::task::spawn_blocking(move || store.close()).await.unwrap().unwrap();
}
