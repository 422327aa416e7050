//! `command send|list|show|cancel`.

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tideline_link::{out, outln};
use tideline_protocol::time::{Clock as _, SystemClock};

use super::socket::{HubSocket, escape};
use cloud_hub::api::shapes::{CommandAnswer, CommandInfo, CommandPage, CommandResult, CommandResults};
use cloud_hub::when::{ms, parse_time, show_ms};

/// What to do with commands for devices.
#[derive(Debug, Subcommand)]
pub enum DeviceCommands {
    /// Give devices a command; it is kept until their agents are there.
    Send(SendArgs),
    /// The newest commands of a device, or of all.
    List {
        /// The device; all when left out.
        device: Option<String>,
        /// Those in these states, with commas, as failed or open.
        #[arg(long, conflicts_with = "device")]
        state: Option<String>,
        /// Those of these kinds, with commas; * stands for any text.
        #[arg(long, conflicts_with = "device")]
        kind: Option<String>,
        /// Those by these authors, likewise.
        #[arg(long, conflicts_with = "device")]
        author: Option<String>,
    },
    /// One command with its output.
    Show {
        /// Its id.
        id: String,
        /// All that is known as JSON.
        #[arg(long)]
        json: bool,
    },
    /// End a command, or ask its agent to.
    Cancel {
        /// Its id.
        id: String,
    },
}

/// What is given to whom.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// The device; several with commas, among them @site=NAME, @group=NAME, @agent=…, @profile=…, @tag.KEY=… for those that fit now.
    device: String,
    /// What is to be done, as write, sync, reload, restart or logs.
    kind: String,
    /// With what, as JSON.
    #[arg(value_name = "JSON")]
    input: Option<String>,
    /// Seconds within which it must begin; an hour when left out.
    #[arg(long, conflicts_with = "deadline")]
    within_s: Option<u64>,
    /// When it is too late to begin it: RFC 3339 or Unix ms.
    #[arg(long, value_name = "TIME")]
    deadline: Option<String>,
    /// Higher ones go first.
    #[arg(long, default_value_t = 0)]
    priority: u8,
    /// Most attempts; another is made only after an error that says that nothing was done.
    #[arg(long)]
    attempts: Option<u32>,
    /// With the same key it is the same command of a device, however often it is sent.
    #[arg(long)]
    key: Option<String>,
    /// What ties it to something of yours.
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// All that is known as JSON.
    #[arg(long)]
    json: bool,
}

impl SendArgs {
    fn command(&self) -> Result<Value> {
        let text = self.input.as_deref().unwrap_or("{}");
        let input: Value = serde_json::from_str(text).with_context(|| format!("{text:?} is no JSON"))?;
        let deadline = self.deadline.as_deref();
        let deadline_ms =
            deadline.map(|text| parse_time(text, SystemClock::default().wall_ns()).map(ms)).transpose()?;
        Ok(json!({
            "kind": self.kind,
            "input": input,
            "within_s": self.within_s,
            "deadline_ms": deadline_ms,
            "priority": self.priority,
            "attempts": self.attempts,
            "correlation_id": self.correlation_id,
        }))
    }
}

async fn send(hub: &HubSocket, args: &SendArgs) -> Result<()> {
    let SendArgs { device, key, json, .. } = args;
    let command = args.command()?;
    let post = async |path: &str, body: &Value| match key {
        Some(key) => hub.post_once(path, body, key).await,
        None => hub.post(path, body).await,
    };
    if !device.contains(['@', ',']) {
        let answer = post(&format!("/api/v1/devices/{}/commands", escape(device)), &command).await?;
        if *json {
            outln!("{answer:#}");
        } else {
            let command: CommandInfo = serde_json::from_value(answer)?;
            outln!("{} is {} for {device}", command.id, state(&command));
        }
        return Ok(());
    }
    let devices: Vec<_> = device.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let body = json!({"devices": devices, "command": command});
    let answer = post("/api/v1/commands", &body).await?;
    if *json {
        outln!("{answer:#}");
    }
    let CommandResults { results } = serde_json::from_value(answer)?;
    for CommandResult { device, command, error } in results.iter().filter(|_| !json) {
        match (command, error) {
            (Some(command), _) => outln!("{} is {} for {device}", command.id, state(command)),
            (None, Some(error)) => outln!("none for {device}: {} ({})", error.text, error.code),
            (None, None) => outln!("none for {device}"),
        }
    }
    let refused = results.iter().filter(|result| result.command.is_none()).count();
    ensure!(refused == 0, "{refused} of {} devices were given no command", results.len());
    Ok(())
}

fn state(command: &CommandInfo) -> String {
    let state = serde_json::to_value(command.state).unwrap_or_default();
    state.as_str().unwrap_or_default().to_owned()
}

/// Carries the command out beside a running hub.
pub async fn command(hub: &HubSocket, command: &DeviceCommands) -> Result<()> {
    let path = |id: &str| format!("/api/v1/commands/{}", escape(id));
    match command {
        DeviceCommands::Send(args) => send(hub, args).await?,
        DeviceCommands::List { device: Some(device), .. } => {
            list(&hub.get_as(&format!("/api/v1/devices/{}/commands", escape(device))).await?);
        }
        DeviceCommands::List { device: None, state, kind, author } => {
            let asked = [("state", state), ("kind", kind), ("author", author)];
            let asked = asked
                .iter()
                .filter_map(|(name, value)| value.as_ref().map(|value| format!("&{name}={}", escape(value))));
            list(&hub.get_as(&format!("/api/v1/commands?limit=200{}", asked.collect::<String>())).await?);
        }
        DeviceCommands::Show { id, json } => {
            if *json {
                outln!("{:#}", hub.get(&path(id)).await?);
            } else {
                show(&hub.get_as(&path(id)).await?);
            }
        }
        DeviceCommands::Cancel { id } => {
            let answer = hub.post(&format!("{}/cancel", path(id)), &Value::Null).await?;
            let command: CommandInfo = serde_json::from_value(answer)?;
            let asked = if command.ended_ms.is_none() { "; its agent is asked to end it" } else { "" };
            outln!("{id} is {}{asked}", state(&command));
        }
    }
    Ok(())
}

fn list(page: &CommandPage) {
    outln!("{:<32} {:<24} {:<16} {:<10} {:<24} error", "command", "device", "kind", "state", "given");
    for command in &page.commands {
        let CommandInfo { id, device, kind, created_ms, error, .. } = command;
        let code = error.as_ref().map_or("-", |error| error.code.as_str());
        let given = show_ms(*created_ms);
        outln!("{id:<32} {device:<24} {kind:<16} {:<10} {given:<24} {code}", state(command));
    }
    if page.next.is_some() {
        outln!("and older ones");
    }
}

fn show(CommandAnswer { command, output }: &CommandAnswer) {
    outln!("{} {} for {} is {}", command.id, command.kind, command.device, state(command));
    outln!("  given by {} at {}", command.author, show_ms(command.created_ms));
    outln!(
        "  to begin by {}, attempt {} of {}",
        show_ms(command.deadline_ms),
        command.attempt,
        command.attempts
    );
    outln!("  input {}", command.input);
    if let Some(percent) = command.percent {
        outln!("  {percent} % done");
    }
    if let Some(error) = &command.error {
        outln!("  {}: {}", error.code, error.text);
    }
    if let Some(result) = &command.result {
        outln!("{result:#}");
    }
    out!("{output}");
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: DeviceCommands,
    }

    fn asked(args: &[&str]) -> Result<Value, String> {
        let line = [&["command", "send", "pump", "sync"], args].concat();
        match Line::try_parse_from(line).map_err(|error| error.to_string())?.command {
            DeviceCommands::Send(args) => args.command().map_err(|error| format!("{error:#}")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_deadline_and_what_ties_a_command_to_something_go_with_it() {
        let at = ["--deadline", "2027-01-31T06:00:00Z", "--correlation-id", "night-7"];
        let command = asked(&at).unwrap();
        assert_eq!(
            (&command["deadline_ms"], &command["correlation_id"], &command["within_s"]),
            (&json!(1_801_375_200_000_i64), &json!("night-7"), &Value::Null)
        );
        assert_eq!(asked(&["--deadline", "1801375200000"]).unwrap()["deadline_ms"], command["deadline_ms"]);
        let none = asked(&[]).unwrap();
        assert_eq!((&none["deadline_ms"], &none["correlation_id"]), (&Value::Null, &Value::Null));
        assert!(asked(&["--deadline", "noon"]).unwrap_err().contains("noon"));
        let both = asked(&["--deadline", "1801375200000", "--within-s", "5"]).unwrap_err();
        assert!(both.contains("cannot be used with"), "{both}");
    }
}
