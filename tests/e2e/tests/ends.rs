//! A hub and an agent that were told so end when whoever started them is gone, as the demo's do; and a command ends
//! when nobody reads what it says.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use tideline_e2e::process::{Running, binary};
use tideline_e2e::{Agent, Hub, until};

/// Waits until the process has ended, which must be in order.
async fn ends_well(mut running: Running) -> Result<()> {
    let ended = until("the end", Duration::from_secs(30), || {
        let ended = running.check().err().map(|error| error.to_string());
        async move { Ok(ended) }
    })
    .await?;
    ensure!(ended.contains("exit status: 0"), "{ended}");
    Ok(())
}

#[tokio::test]
async fn a_hub_and_an_agent_end_with_their_stdin_when_told_to() -> Result<()> {
    let hub = Hub::start().await?;
    let folder = Agent::prepare(&hub, "pump-1", "[http]\nlisten = \"\"\n").await?;
    let (data, config) = (folder.join("data").display().to_string(), folder.join("agent.toml"));
    let config = config.display().to_string();
    let args = ["run", "--until-stdin-ends", "--data", &data, "--config", &config];
    // Nothing holds the other end of their stdin.
    ends_well(Running::start("edge-agent", &args, &[], &folder.join("log"))?).await?;
    let any = || "127.0.0.1:0".to_owned();
    let env =
        ["TIDELINE_HTTP_LISTEN", "TIDELINE_HTTPS_LISTEN", "TIDELINE_QUIC_LISTEN", "TIDELINE_MQTT_LISTEN_TLS"];
    let env = env.map(|name| (name, any()));
    let data = folder.join("hub").display().to_string();
    let args = ["serve", "--until-stdin-ends", "--data", &data];
    ends_well(Running::start("cloud-hub", &args, &env, &folder.join("hub.log"))?).await
}

#[test]
fn a_command_that_nobody_reads_ends_without_a_word() -> Result<()> {
    for name in ["cloud-hub", "edge-agent"] {
        let closed = || std::io::pipe().map(|(_reader, writer)| writer);
        let mut print = Command::new(binary(name)?);
        let said = print.args(["config", "print"]).stdin(Stdio::null()).stdout(closed()?).output()?;
        let err = String::from_utf8_lossy(&said.stderr);
        ensure!(said.status.code() == Some(141) && err.is_empty(), "{name}: {}: {err}", said.status);
        let mut fail = Command::new(binary(name)?);
        let fail = fail.args(["config", "check", "--config", "/nowhere.toml"]).stdin(Stdio::null());
        let ended = fail.stderr(closed()?).status()?;
        ensure!(ended.code() == Some(1), "{name}: {ended}");
    }
    Ok(())
}
