//! `edge-agent command list`.

use std::path::Path;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use clap::Subcommand;
use tideline_link::outln;
use tokio::time::timeout;

use super::{BUSY_MAX, CommandShown, Commands};
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

async fn answer(State(commands): State<Commands>) -> Response {
    let Ok(known) = timeout(BUSY_MAX, commands.list()).await else {
        let told = "the task of commands does not answer: its disk may fail, which the log tells of";
        return (StatusCode::SERVICE_UNAVAILABLE, told).into_response();
    };
    let known = known.unwrap_or_default();
    Json(known.commands.into_iter().chain(known.runs).collect::<Vec<CommandShown>>()).into_response()
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
