//! Commands for devices.

use serde::{Deserialize, Serialize};
use tideline_protocol::commands::HubCommand;
use tideline_protocol::wire::{CommandError, CommandState};
use utoipa::ToSchema;

use crate::metadata::Role;

/// What stands for what is not shown.
const HIDDEN: &str = "(set)";

/// What is to be done
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandRequest {
    /// What: `write`, `sync`, `reload`, `restart`, `logs` and what else the agent knows
    #[schema(example = "write")]
    pub kind: String,
    /// With what; its form is the kind's
    #[serde(default)]
    #[schema(value_type = Object)]
    pub input: serde_json::Value,
    /// When it is too late to begin it, Unix ms; an hour from now when left out
    #[serde(default)]
    pub deadline_ms: Option<i64>,
    /// Seconds within which it must begin, in place of `deadline_ms`
    #[serde(default)]
    pub within_s: Option<u64>,
    /// Higher ones go first, 0 to 255
    #[serde(default)]
    pub priority: u8,
    /// Most attempts, 1 to 16; another one is made only after an error that says that nothing was done
    #[serde(default)]
    pub attempts: Option<u32>,
    /// What ties it to something of yours, at most 128 bytes
    #[serde(default)]
    pub correlation_id: Option<String>,
}

/// A command for several devices
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandsRequest {
    /// Ids, and selectors as `@site=north`, `@group=…`, `@agent=…`, `@profile=…`, `@tag.KEY`, `@tag.KEY=…`; at most 1000 devices
    pub devices: Vec<String>,
    /// What is to be done by each
    pub command: CommandRequest,
}

/// Where a command is in its life
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CommandPhase {
    /// At the hub alone, as far as is known
    Queued,
    /// Durable at the agent, and not begun
    Delivered,
    /// Begun
    Running,
    /// Done
    Succeeded,
    /// Not done, or not known to be; the error says which
    Failed,
    /// Ended on request
    Cancelled,
    /// Not begun within its time
    Expired,
}

impl From<CommandState> for CommandPhase {
    fn from(state: CommandState) -> Self {
        match state {
            CommandState::Queued => Self::Queued,
            CommandState::Delivered => Self::Delivered,
            CommandState::Running => Self::Running,
            CommandState::Succeeded => Self::Succeeded,
            CommandState::Failed => Self::Failed,
            CommandState::Cancelled => Self::Cancelled,
            CommandState::Expired => Self::Expired,
        }
    }
}

/// Why a command failed
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommandFault {
    /// Stable code: `interrupted`, `forgotten`, `unanswered`, `unknown_outcome` and `timeout` say that it may have run;
    /// `unknown_kind`, `bad_input`, `not_allowed`, `busy` and `unavailable` that nothing was done
    pub code: String,
    /// For people
    pub text: String,
}

impl From<&CommandError> for CommandFault {
    fn from(error: &CommandError) -> Self {
        Self { code: error.code.clone(), text: error.text.clone() }
    }
}

/// A command
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CommandInfo {
    /// Its id
    pub id: String,
    /// The device
    pub device: String,
    /// The agent that is to do it
    pub agent: String,
    /// What is to be done
    pub kind: String,
    /// With what; of `http` and `run` viewers see no query, user, argument or anything else that may be a secret
    #[schema(value_type = Object)]
    pub input: serde_json::Value,
    /// Where it is
    pub state: CommandPhase,
    /// Higher ones go first
    pub priority: u8,
    /// Who gave it
    pub author: String,
    /// What ties it to something of theirs
    pub correlation_id: Option<String>,
    /// When it was given, Unix ms
    pub created_ms: i64,
    /// When it is too late to begin it, Unix ms
    pub deadline_ms: i64,
    /// When anything of it last changed, Unix ms
    pub changed_ms: i64,
    /// When it ended, Unix ms
    pub ended_ms: Option<i64>,
    /// The attempt that it is in, from 1 on
    pub attempt: u32,
    /// Most attempts
    pub attempts: u32,
    /// How much is done, where that is known
    pub percent: Option<u8>,
    /// Why it failed, or why the last attempt did
    pub error: Option<CommandFault>,
    /// What came of it
    #[schema(value_type = Object)]
    pub result: Option<serde_json::Value>,
    /// How many bytes of output there are
    pub output_bytes: u64,
    /// Whether it is to end
    pub cancel: bool,
}

impl CommandInfo {
    /// As somebody with this role may see it.
    #[must_use]
    pub fn of(command: &HubCommand, role: Role) -> Self {
        let json = |text: &String| serde_json::from_str(text).unwrap_or_else(|_| text.clone().into());
        let full = without_values(&command.kind, json(&command.input));
        let input = match role {
            Role::Admin => full.clone(),
            Role::Viewer => without_secrets(&command.kind, full.clone()),
        };
        let mut error = command.error.as_ref().map(CommandFault::from);
        if let Some(error) = error.as_mut().filter(|_| input != full) {
            // It may repeat what was asked.
            error.text = "only administrators see more".to_owned();
        }
        Self {
            id: command.id.to_string(),
            device: command.device.to_string(),
            agent: command.agent.to_string(),
            kind: command.kind.clone(),
            input,
            state: command.state.into(),
            priority: command.priority,
            author: command.author.clone(),
            correlation_id: command.correlation.clone(),
            created_ms: command.created_ms,
            deadline_ms: command.deadline_ms,
            changed_ms: command.changed_ms,
            ended_ms: command.ended_ms,
            attempt: command.attempt,
            attempts: command.attempts_max,
            percent: command.percent,
            error,
            result: command.result.as_ref().map(json),
            output_bytes: command.output_bytes,
            cancel: command.cancel,
        }
    }
}

/// What a request over HTTP sends may be a secret, and commands are kept for long: names are shown, and no values.
fn without_values(kind: &str, mut input: serde_json::Value) -> serde_json::Value {
    if kind != "http" {
        return input;
    }
    match &mut input {
        serde_json::Value::Object(options) => {
            if let Some(body) = options.get_mut("body") {
                *body = "".into();
            }
            match options.get_mut("headers") {
                Some(serde_json::Value::Object(headers)) => {
                    headers.values_mut().for_each(|value| *value = "".into());
                }
                Some(other) => *other = serde_json::Value::Null,
                None => {}
            }
            input
        }
        // It is none that an agent carries out.
        _ => serde_json::Value::Null,
    }
}

/// Who may not give commands sees of requests and programs what is known to be no secret, and of all else that it is there.
fn without_secrets(kind: &str, mut input: serde_json::Value) -> serde_json::Value {
    let plain: &[&str] = match kind {
        "http" => &["method", "headers", "body", "timeout_ms"],
        "run" => &["program", "timeout_ms"],
        _ => return input,
    };
    match &mut input {
        serde_json::Value::Object(options) => {
            for (name, value) in options.iter_mut().filter(|(name, _)| !plain.contains(&name.as_str())) {
                *value = match value.as_str().filter(|_| kind == "http" && name == "url") {
                    Some(url) => place(url).into(),
                    None => HIDDEN.into(),
                };
            }
            input
        }
        _ => serde_json::Value::Null,
    }
}

/// Where an address leads to, without user and query. What has a user is not shown at all, as there are many ways to write one.
fn place(url: &str) -> String {
    let (place, has_more) = match url.split_once(['?', '#']) {
        Some((place, _)) => (place, true),
        None => (url, false),
    };
    if place.contains(['@', '\\']) {
        return HIDDEN.to_owned();
    }
    if has_more { format!("{place}?{HIDDEN}") } else { place.to_owned() }
}

/// A command has come on, durably at this hub
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommandEvent {
    /// The device
    pub device: String,
    /// The command's id
    pub id: String,
    /// What is to be done
    pub kind: String,
    /// Where it is
    pub state: CommandPhase,
    /// The attempt that it is in, from 1 on
    pub attempt: u32,
    /// How much is done, where that is known
    #[schema(required)]
    pub percent: Option<u8>,
    /// The code of the error with which it failed, or the last attempt did
    #[schema(required)]
    pub error: Option<String>,
    /// When, Unix ms
    pub time_ms: i64,
}

impl From<&HubCommand> for CommandEvent {
    fn from(command: &HubCommand) -> Self {
        Self {
            device: command.device.to_string(),
            id: command.id.to_string(),
            kind: command.kind.clone(),
            state: command.state.into(),
            attempt: command.attempt,
            percent: command.percent,
            error: command.error.as_ref().map(|error| error.code.clone()),
            time_ms: command.changed_ms,
        }
    }
}

/// A command with its output
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CommandAnswer {
    /// The command
    #[serde(flatten)]
    pub command: CommandInfo,
    /// Its output as far as it came; bytes that are no UTF-8 are replaced
    pub output: String,
}

/// Commands of a device, the newest first
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CommandPage {
    /// The commands
    pub commands: Vec<CommandInfo>,
    /// For the next page
    pub next: Option<String>,
}

/// What became of a command for one of several devices
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CommandResult {
    /// The device
    pub device: String,
    /// The command, where it was taken
    pub command: Option<CommandInfo>,
    /// Why it was not
    pub error: Option<CommandFault>,
}

/// What became of a command for several devices
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CommandResults {
    /// Each device once: those asked for by id in that order, and then those of selectors
    pub results: Vec<CommandResult>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{without_secrets, without_values};

    #[test]
    fn what_a_request_sends_is_not_shown() {
        let input = json!({"url": "http://a/", "headers": {"x": "secret"}, "body": "secret"});
        let told = json!({"url": "http://a/", "headers": {"x": ""}, "body": ""});
        assert_eq!(without_values("http", input), told);
        for odd in [json!("secret"), json!(["secret"]), json!({"headers": ["secret"]})] {
            assert!(!without_values("http", odd).to_string().contains("secret"));
        }
        assert_eq!(without_values("write", json!({"body": 1})), json!({"body": 1}));
    }

    #[test]
    fn viewers_see_where_a_request_goes_and_which_program_runs_and_no_more() {
        let url = |url: &str| without_secrets("http", json!({"url": url}))["url"].clone();
        assert_eq!(url("https://a:8/b/c"), "https://a:8/b/c");
        assert_eq!(url("https://a/b?token=secret"), "https://a/b?(set)");
        assert_eq!(url("https://a/b#secret"), "https://a/b?(set)");
        for odd in ["http://u:secret@a/", "http:\\\\u:secret@a", "u:secret@a", "http://a/@?secret"] {
            assert_eq!(url(odd), "(set)", "{odd}");
        }
        let input = json!({"program": "p", "args": ["secret"], "timeout_ms": 5, "arg": "secret"});
        let told = json!({"program": "p", "args": "(set)", "timeout_ms": 5, "arg": "(set)"});
        assert_eq!(without_secrets("run", input), told);
        for (kind, odd) in [("run", json!(["secret"])), ("http", json!({"url": ["secret"], "URL": "secret"}))]
        {
            assert!(!without_secrets(kind, odd).to_string().contains("secret"));
        }
        assert_eq!(without_secrets("run", json!("secret")), Value::Null);
        assert_eq!(without_secrets("write", json!({"args": 1})), json!({"args": 1}));
    }
}
