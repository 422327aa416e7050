//! `edge-agent command list`.

use std::path::Path;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use clap::Subcommand;
use tideline_link::outln;

use super::{CommandShown, Commands};
use crate::serve;

/// What to do with commands of the hub.
#[derive(Debug, Subcommand)]
pub enum CommandCommand {
    /// Show what the running agent knows of commands, the newest first
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// What is answered on the socket.
pub fn router(commands: Commands) -> Router {
    Router::new().route("/commands", get(answer)).with_state(commands)
}

async fn answer(State(commands): State<Commands>) -> Json<Vec<CommandShown>> {
    Json(commands.list().await)
}

/// Carries the command out beside a running agent.
///
/// # Errors
/// No agent runs on the folder, or it does not answer.
pub async fn carry_out(command: &CommandCommand, data: &Path) -> anyhow::Result<()> {
    let CommandCommand::List { json } = command;
    let all: Vec<CommandShown> = serve::ask_commands(data).await?;
    if *json {
        outln!("{}", serde_json::to_string(&all)?);
        return Ok(());
    }
    for CommandShown { id, device, kind, state, author, error, .. } in all {
        let error = error.map_or_else(String::new, |error| format!(", {error}"));
        outln!("{id} {kind} for {device} by {author}: {state}{error}");
    }
    Ok(())
}
