//! The store's commands: on its files, or by the hub that has them open.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tideline_link::{out, outln};

use super::HubSocket;
use cloud_hub::api::shapes::{StoreInfo, StoreVerification};
use cloud_hub::config::Config;
use cloud_hub::metadata::{Metadata, MetadataError};
use cloud_hub::serve::STORE;
use cloud_hub::when::show_ms;

/// Keeps a hub from starting on the files that are being read; none when one has them open.
pub fn lock(config: &Config) -> Result<Option<Metadata>> {
    let path = config.data_dir.join("hub.redb");
    if !path.exists() {
        bail!("{} holds no hub", config.data_dir.display());
    }
    match Metadata::open(&path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(MetadataError::InUse) => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// `store inspect`.
pub async fn inspect(config: &Config) -> Result<()> {
    if let Some(_lock) = lock(config)? {
        out!("{}", tideline_store::inspect(&config.data_dir.join(STORE))?);
        return Ok(());
    }
    let store: StoreInfo = HubSocket::of(config).get_as("/api/v1/store").await?;
    outln!("{} agents, {} series, by the running hub", store.agents, store.series);
    outln!(
        "{} rows in {} sealed files of {} bytes",
        store.sealed_rows,
        store.sealed_files,
        store.sealed_bytes
    );
    for tier in &store.tiers {
        let kept = format!("kept {}, {}", tier.age, tier.size);
        match tier.first_ms.map(show_ms) {
            None => outln!("tier {}: {kept}", tier.tier),
            Some(since) => {
                let (name, files, bytes) = (&tier.tier, tier.files, tier.bytes);
                outln!("tier {name}: {files} files of {bytes} bytes since {since}; {kept}");
            }
        }
    }
    outln!("{} rows in memory and in the log, not sealed yet", store.hot_rows);
    outln!(
        "since the start: {} rows stored, {} duplicates ignored, {} dead letters",
        store.appended_rows,
        store.duplicate_rows,
        store.dead_letters
    );
    if store.poisoned {
        outln!("a write failed; nothing is taken until the log has reopened itself");
    }
    Ok(())
}

/// `store verify`.
pub async fn verify(config: &Config) -> Result<()> {
    let found: StoreVerification = match lock(config)? {
        Some(_lock) => tideline_store::verify(&config.data_dir.join(STORE))?.into(),
        None => {
            let answer = HubSocket::of(config).post("/api/v1/store/verify", &Value::Null).await?;
            serde_json::from_value(answer)
                .context("the hub's answer is not understood; is it another version?")?
        }
    };
    outln!("{} sealed files with {} rows", found.files, found.rows);
    if found.cold_files > 0 {
        outln!("{} cold files with {} rows", found.cold_files, found.cold_rows);
    }
    outln!("{} log records, {} rows of them not sealed yet", found.log_records, found.log_rows);
    outln!("{} dead letters", found.dead_letters);
    found.notes.iter().for_each(|note| outln!("note: {note}"));
    found.problems.iter().for_each(|problem| outln!("problem: {problem}"));
    if !found.problems.is_empty() {
        bail!("{} problem(s)", found.problems.len());
    }
    outln!("all is well");
    Ok(())
}
