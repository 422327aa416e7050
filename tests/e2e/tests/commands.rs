//! Commands and schedules between a real hub and a real agent: whatever is killed in whatever state, each runs once, and both ends
//! say the same of it. What runs is a program that adds its name to a file.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tideline_e2e::{Agent, Hub, process, until};
use tideline_protocol::time::{Clock as _, SystemClock};

const LONG: Duration = Duration::from_secs(120);
const DEVICE: &str = "press-1";

struct Bench {
    hub: Hub,
    agent: Option<Agent>,
    folder: PathBuf,
}

impl Bench {
    async fn start() -> Result<Self> {
        let hub = Hub::start().await?;
        let folder = hub.folder().to_owned();
        let log = folder.join("done");
        let hold = format!(
            "echo \"$1\" >> {log:?}; while [ ! -e {:?}/go-$1 ]; do sleep 0.1; done",
            folder.display()
        );
        let once = format!("echo \"$1\" >> {log:?}");
        let program = |name: &str, script: &str| {
            format!(
                "[[program]]\nname = \"{name}\"\npath = \"/bin/sh\"\nargs = [\"-c\", '''{script}''', \"{name}\"]\n\
                 allow = [\"*\"]\nmemory_mb = 512\n"
            )
        };
        let at = jiff::Timestamp::from_nanosecond(SystemClock::default().wall_ns().into())?;
        let at = at + Duration::from_secs(5);
        let config = format!(
            "[http]\nlisten = \"\"\n[uplink]\nmqtt = \"off\"\n[commands]\nrunning_max = 1\n[[source]]\nkind = \"host\"\n\
             {}{}[[schedule]]\nname = \"first\"\nat = \"{at}\"\nmissed = \"run-once\"\nkind = \"run\"\n\
             input = '{{\"program\": \"once\", \"args\": [\"scheduled\"]}}'\n",
            program("hold", &hold),
            program("once", &once),
        );
        let agent = Some(Agent::start(&hub, DEVICE, &config).await?);
        Ok(Self { hub, agent, folder })
    }

    async fn give(&self, program: &str, name: &str, more: &[&str]) -> Result<String> {
        let input = json!({"program": program, "args": [name]}).to_string();
        let args = [&["command", "send", DEVICE, "run", &input, "--json"], more].concat();
        let said: Value = serde_json::from_str(&self.hub.command(&args).await?.good()?)?;
        Ok(said.get("id").and_then(Value::as_str).context("an id")?.to_owned())
    }

    async fn command(&self, id: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.hub.get(&format!("/api/v1/commands/{id}")).await?)?)
    }

    async fn hub_says(&self, id: &str, state: &str) -> Result<Value> {
        until(&format!("{state} at the hub"), LONG, || async {
            let found = self.command(id).await?;
            Ok((found.get("state") == Some(&json!(state))).then_some(found))
        })
        .await
    }

    /// What the agent knows of a command.
    async fn at_agent(&self, id: &str) -> Result<Option<String>> {
        let data = self.folder.join(DEVICE).join("data").display().to_string();
        let said = process::run("edge-agent", &["command", "list", "--json", "--data", &data]).await?;
        // The agent may be starting.
        let Ok(said) = said.good() else { return Ok(None) };
        let all: Vec<Value> = serde_json::from_str(&said)?;
        let found = all.iter().find(|one| one.get("id") == Some(&json!(id)));
        Ok(found.and_then(|one| Some(one.get("state")?.as_str()?.to_owned())))
    }

    async fn agent_says(&self, id: &str, state: &str) -> Result<()> {
        until(&format!("{state} at the agent"), LONG, || async {
            Ok((self.at_agent(id).await?.as_deref() == Some(state)).then_some(()))
        })
        .await
    }

    /// How often it was done, by the mark that it leaves.
    fn done(&self, name: &str) -> usize {
        let log = std::fs::read_to_string(self.folder.join("done")).unwrap_or_default();
        log.lines().filter(|line| *line == name).count()
    }

    async fn began(&self, name: &str) -> Result<()> {
        until(&format!("{name} begins"), LONG, || async { Ok((self.done(name) > 0).then_some(())) }).await
    }

    /// A schedule runs at its time, and the hub is told.
    async fn schedule_has_run(&self) -> Result<()> {
        until("the schedule's run at the hub", LONG, || async {
            let said = self.hub.command(&["twin", "get", DEVICE, "--json"]).await?.good()?;
            let twin: Value = serde_json::from_str(&said)?;
            let state = twin.pointer("/reported/schedules/first/last/state");
            Ok((state == Some(&json!("succeeded"))).then_some(()))
        })
        .await
    }

    fn let_go(&self, name: &str) -> Result<()> {
        Ok(std::fs::write(self.folder.join(format!("go-{name}")), "")?)
    }

    async fn kill_agent(&mut self) -> Result<()> {
        self.agent.as_mut().context("an agent")?.kill_and_restart().await
    }
}

fn code(command: &Value) -> Option<&str> {
    command.pointer("/error/code")?.as_str()
}

fn in_an_hour() -> Result<jiff::Timestamp> {
    Ok(jiff::Timestamp::from_nanosecond(SystemClock::default().wall_ns().into())?
        + Duration::from_secs(3_600))
}

#[tokio::test]
async fn whatever_is_killed_in_whatever_state_a_command_runs_once_and_both_ends_say_the_same() -> Result<()> {
    let mut bench = Bench::start().await?;
    bench.schedule_has_run().await?;
    // Running, and the hub is killed; the word of its end finds no hub.
    let ended_without_hub = bench.give("hold", "a", &[]).await?;
    bench.hub_says(&ended_without_hub, "running").await?;
    bench.began("a").await?;
    bench.hub.kill().await?;
    bench.let_go("a")?;
    bench.agent_says(&ended_without_hub, "succeeded").await?;
    bench.hub.start_again().await?;
    bench.hub_says(&ended_without_hub, "succeeded").await?;
    // Running and delivered, and first the hub is killed, then the agent.
    let running = bench.give("hold", "b", &[]).await?;
    bench.began("b").await?;
    let delivered = bench.give("once", "c", &[]).await?;
    bench.hub_says(&delivered, "delivered").await?;
    bench.hub.kill_and_restart().await?;
    bench.agent_says(&delivered, "delivered").await?;
    bench.kill_agent().await?;
    let interrupted = bench.hub_says(&running, "failed").await?;
    ensure!(code(&interrupted) == Some("interrupted"), "{interrupted}");
    bench.let_go("b")?;
    bench.hub_says(&delivered, "succeeded").await?;
    // Queued, and both are killed.
    bench.agent.take().context("an agent")?.terminate(LONG).await?;
    let queued = bench.give("once", "d", &[]).await?;
    let cancelled = bench.give("once", "never", &[]).await?;
    let late = bench.give("once", "never", &["--within-s", "1"]).await?;
    bench.hub.command(&["command", "cancel", &cancelled]).await?.good()?;
    bench.hub_says(&late, "expired").await?;
    bench.hub.kill_and_restart().await?;
    ensure!(bench.command(&queued).await?.get("state") == Some(&json!("queued")));
    bench.agent = Some(Agent::launch(bench.folder.join(DEVICE))?);
    bench.hub_says(&queued, "succeeded").await?;
    // Cancelled while it runs.
    let broken_off = bench.give("hold", "e", &[]).await?;
    bench.began("e").await?;
    bench.hub_says(&broken_off, "running").await?;
    bench.hub.command(&["command", "cancel", &broken_off]).await?.good()?;
    bench.hub_says(&broken_off, "cancelled").await?;
    // All have ended, and both are killed once more.
    bench.kill_agent().await?;
    bench.hub.kill_and_restart().await?;
    let deadline = in_an_hour()?;
    let of_somebody = ["--deadline", &deadline.to_string(), "--correlation-id", "night-7"];
    let last = bench.give("once", "f", &of_somebody).await?;
    let said = bench.hub_says(&last, "succeeded").await?;
    ensure!(said.get("deadline_ms") == Some(&json!(deadline.as_millisecond())), "{said}");
    ensure!(said.get("correlation_id") == Some(&json!("night-7")), "{said}");
    for (id, state) in [
        (&ended_without_hub, "succeeded"),
        (&running, "failed"),
        (&delivered, "succeeded"),
        (&queued, "succeeded"),
        (&broken_off, "cancelled"),
        (&last, "succeeded"),
    ] {
        bench.hub_says(id, state).await?;
        bench.agent_says(id, state).await?;
    }
    for (id, state) in [(&cancelled, "cancelled"), (&late, "expired")] {
        bench.hub_says(id, state).await?;
    }
    for name in ["scheduled", "a", "b", "c", "d", "e", "f"] {
        ensure!(bench.done(name) == 1, "{name} was done {} times", bench.done(name));
    }
    ensure!(bench.done("never") == 0);
    Ok(())
}

#[tokio::test]
async fn a_schedule_runs_without_the_hub_which_hears_of_it_later() -> Result<()> {
    let mut hub = Hub::start().await?;
    let folder = Agent::prepare(&hub, DEVICE, "").await?;
    hub.kill().await?;
    let log = hub.folder().join("done");
    let at = jiff::Timestamp::from_nanosecond(SystemClock::default().wall_ns().into())?;
    let at = at + Duration::from_secs(3);
    let config = format!(
        "[http]\nlisten = \"\"\n[uplink]\nmqtt = \"off\"\n[[source]]\nkind = \"host\"\n\
         [[program]]\nname = \"once\"\npath = \"/bin/sh\"\nargs = [\"-c\", 'echo done >> {log:?}']\n\
         [[schedule]]\nname = \"first\"\nat = \"{at}\"\nmissed = \"run-once\"\nkind = \"run\"\n\
         input = '{{\"program\": \"once\"}}'\n"
    );
    std::fs::write(folder.join("agent.toml"), config)?;
    let agent = Agent::launch(folder)?;
    until("the schedule's run", LONG, || async { Ok(log.exists().then_some(())) }).await?;
    hub.start_again().await?;
    until("the run at the hub", LONG, || async {
        let said = hub.command(&["twin", "get", DEVICE, "--json"]).await?.good()?;
        let twin: Value = serde_json::from_str(&said)?;
        let state = twin.pointer("/reported/schedules/first/last/state");
        Ok((state == Some(&json!("succeeded"))).then_some(()))
    })
    .await?;
    ensure!(std::fs::read_to_string(&log)? == "done\n");
    agent.terminate(LONG).await
}
