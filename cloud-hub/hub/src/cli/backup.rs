//! `backup` and `restore`.

use std::path::{Path, absolute};

use anyhow::{Context as _, Result};
use serde_json::json;
use tideline_link::outln;
use tideline_protocol::time::{Clock as _, SystemClock};

use super::HubSocket;
use super::files::lock;
use cloud_hub::api::shapes::BackupAnswer;
use cloud_hub::backup::{self, Source};
use cloud_hub::config::Config;
use cloud_hub::when::{self, show_ms};

fn now_ms() -> i64 {
    when::ms(SystemClock::default().wall_ns())
}

/// `backup`.
pub async fn backup(config: &Config, to: &Path) -> Result<()> {
    let to = absolute(to)?;
    let made = match lock(config)? {
        Some(metadata) => {
            let source = Source { data: &config.data_dir, metadata: &metadata, twins: None, store: None };
            let made = backup::make(source, &to, now_ms())?;
            BackupAnswer {
                path: made.path.display().to_string(),
                files: made.files as u64,
                bytes: made.bytes,
            }
        }
        None => {
            let to = to.to_str().context("the path is not UTF-8")?;
            let answer = HubSocket::of(config).post("/api/v1/backups", &json!({"to": to})).await?;
            serde_json::from_value(answer)
                .context("the hub's answer is not understood; is it another version?")?
        }
    };
    outln!("{}: {} files, {} bytes", made.path, made.files, made.bytes);
    outln!("it holds the hub's keys: keep it where nobody else can read it");
    Ok(())
}

/// `restore`.
pub fn restore(config: &Config, from: &Path, force: bool) -> Result<()> {
    let data = &config.data_dir;
    let done = backup::restore(from, data, force, now_ms())?;
    outln!(
        "restored the backup of {} into {}: {} files, {} bytes",
        show_ms(done.made_ms),
        data.display(),
        done.files,
        done.bytes
    );
    if let Some(aside) = &done.aside {
        outln!("what it held is in {}", aside.display());
    }
    outln!(
        "{} users and {} API tokens are as they were then: revoke again what was revoked since",
        done.users,
        done.api_tokens
    );
    if done.shares_ended > 0 {
        outln!(
            "{} links to boards were ended, as they may have been since: share them again",
            done.shares_ended
        );
    }
    if done.tokens_ended > 0 {
        outln!(
            "{} enrolment tokens that had not been used were ended, as they may have been since: make new ones",
            done.tokens_ended
        );
    }
    outln!(
        "agents that enrolled since are not registered: `cloud-hub device adopt --all` lets those in again that ask"
    );
    outln!("agents send again what they still hold; what they do not is shown as lost in their ledgers");
    Ok(())
}
