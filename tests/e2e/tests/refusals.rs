//! What is refused is refused with a clear text, and the hub stays up.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tideline_e2e::process::{self, Said};
use tideline_e2e::{Agent, Hub, enroll, http, until};
use tideline_link::token::EnrollToken;
use tideline_protocol::model::DeviceId;
use tideline_protocol::time::{Clock as _, SystemClock};

fn refused(what: &str, said: &Said, parts: &[&str]) -> Result<()> {
    ensure!(said.code == Some(1), "{what}: the exit code is {:?}; stderr: {}", said.code, said.err);
    for part in parts {
        ensure!(said.err.contains(part), "{what}: {part:?} is not in: {}", said.err);
    }
    ensure!(!said.err.contains("panicked"), "{what}: {}", said.err);
    Ok(())
}

fn not_enrolled(folder: &Path) -> Result<()> {
    ensure!(!folder.join("data/identity.toml").exists(), "an identity was kept in {}", folder.display());
    Ok(())
}

/// The token with its last letter but one changed.
fn damaged(token: &str) -> String {
    let at = token.len().saturating_sub(2);
    let change = |(i, c): (usize, char)| {
        if i != at {
            c
        } else if c == 'A' {
            'B'
        } else {
            'A'
        }
    };
    token.chars().enumerate().map(change).collect()
}

#[tokio::test]
async fn bad_enrolment_tokens_are_refused_and_the_hub_stays_ready() -> Result<()> {
    let mut hub = Hub::start().await?;
    let folder = hub.folder().join("thief");
    let nonsense = enroll(&folder, "this-is-no-token").await?;
    refused("nonsense", &nonsense, &["token"])?;
    let token = hub.enroll_token("valve-1", "1h").await?;
    let cut = enroll(&folder, &damaged(&token)).await?;
    refused("a damaged token", &cut, &["token"])?;
    not_enrolled(&folder)?;
    // One key used the token: another key is too late.
    enroll(&hub.folder().join("valve-1"), &token).await?.good()?;
    refused("a used token", &enroll(&folder, &token).await?, &["token"])?;
    let short = hub.enroll_token("valve-2", "1s").await?;
    let clock = SystemClock::default();
    let expired_ns = clock.wall_ns() + 1_100_000_000;
    until("the expiry", Duration::from_secs(10), || async {
        Ok((clock.wall_ns() > expired_ns).then_some(()))
    })
    .await?;
    refused("an expired token", &enroll(&folder, &short).await?, &["expired"])?;
    not_enrolled(&folder)?;
    hub.ready().await
}

#[tokio::test]
async fn a_well_formed_token_with_a_wrong_secret_or_for_another_device_is_refused_by_the_hub() -> Result<()> {
    let mut hub = Hub::start().await?;
    let folder = hub.folder().join("thief");
    let good = EnrollToken::parse(&hub.enroll_token("valve-1", "1h").await?)?;
    let wrong_secret = EnrollToken { secret: [7; 32], ..good.clone() };
    let unknown = EnrollToken { id: "0000000000000000".to_owned(), ..good.clone() };
    let other_ca = EnrollToken { ca_sha256: [7; 32], ..good.clone() };
    for (what, token) in
        [("a wrong secret", wrong_secret), ("an unknown id", unknown), ("another CA", other_ca)]
    {
        refused(what, &enroll(&folder, &token.encode()).await?, &[])?;
        not_enrolled(&folder)?;
    }
    // None of them used the good one up; and it is good for its own device only.
    let renamed = EnrollToken { device: DeviceId::parse("valve-9")?, ..good.clone() };
    refused("another device", &enroll(&folder, &renamed.encode()).await?, &[])?;
    enroll(&hub.folder().join("valve-1"), &good.encode()).await?.good()?;
    hub.ready().await
}

#[tokio::test]
async fn after_a_new_enrolment_the_older_key_is_let_in_no_more() -> Result<()> {
    let hub = Hub::start().await?;
    let mut agent = Agent::start(&hub, "pump-2", "[http]\nlisten = \"\"\n").await?;
    until("the first readings", Duration::from_secs(30), || async {
        Ok(hub.ledger("pump-2").await?.filter(|ledger| ledger.stored > 0).map(|_| ()))
    })
    .await?;
    let token = hub.enroll_token("pump-2", "1h").await?;
    enroll(&hub.folder().join("pump-2-replaced"), &token).await?.good()?;
    agent.kill_and_restart().await?;
    let data = hub.folder().join("pump-2/data").display().to_string();
    until("the refusal in the agent's status", Duration::from_secs(30), || async {
        let status = process::run("edge-agent", &["status", "--json", "--data", &data]).await?;
        Ok(status.out.contains("enrolled with another key").then_some(()))
    })
    .await
}

#[tokio::test]
async fn the_api_refuses_a_wrong_bearer_token() -> Result<()> {
    let mut hub = Hub::start().await?;
    for token in [None, Some("wrong"), Some("")] {
        let answer = http::get(hub.http(), "/api/v1/devices", token).await?;
        ensure!(answer.status == 401, "{token:?} was answered with {}: {}", answer.status, answer.body);
        ensure!(answer.body.contains("\"code\""), "no problem document: {}", answer.body);
    }
    hub.get("/api/v1/devices").await?;
    hub.ready().await
}

#[tokio::test]
async fn all_errors_of_a_configuration_come_at_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bad.toml");
    let path = file.display().to_string();
    std::fs::write(
        &file,
        "[http]\nlisten = \"nowhere\"\n[store]\nflush_interval_s = 0\n[hub]\ncolour = 1\n",
    )?;
    for command in [&["config", "check"][..], &["serve"]] {
        let said = process::run("cloud-hub", &[command, &["--config", &path]].concat()).await?;
        refused(
            "the hub",
            &said,
            &["bad.toml:2", "http.listen", "bad.toml:4", "store.flush_interval_s", "bad.toml:6", "colour"],
        )?;
    }
    std::fs::write(&file, "[spool]\nquota_mb = 0\ncolour = 1\n[[source]]\nkind = \"x\"\n")?;
    for command in [&["config", "check"][..], &["run"]] {
        let said = process::run("edge-agent", &[command, &["--config", &path]].concat()).await?;
        refused(
            "the agent",
            &said,
            &["bad.toml:2: spool.quota_mb", "bad.toml:3: spool.colour", "bad.toml:5: source.kind"],
        )?;
    }
    Ok(())
}
