//! The short form of `make chaos`: the same scenarios, fewer rounds and shorter times.
#![allow(clippy::print_stderr, reason = "a test says what it did")]

use anyhow::Result;
use tideline_e2e::chaos::{Scale, run};

const SEED: u64 = 0x7a1d_e11e;

async fn short(name: &str) -> Result<()> {
    let outcome = run(name, Scale::short(SEED)).await?;
    eprintln!("{name}: {outcome:?}");
    Ok(())
}

#[tokio::test]
async fn kills_at_random_moments_lose_and_double_nothing() -> Result<()> {
    short("kills").await
}

#[tokio::test]
async fn edits_of_a_twin_at_three_places_survive_kills_and_cuts() -> Result<()> {
    short("twins").await
}

#[tokio::test]
async fn processes_that_stand_still_lose_and_double_nothing() -> Result<()> {
    short("stops").await
}

#[tokio::test]
async fn bad_lines_lose_and_double_nothing() -> Result<()> {
    short("lines").await
}

#[tokio::test]
async fn a_line_that_is_cut_for_a_while_loses_and_doubles_nothing() -> Result<()> {
    short("cuts").await
}

#[tokio::test]
async fn where_udp_is_blocked_mqtt_takes_over_and_hands_back_and_nothing_is_lost_or_doubled() -> Result<()> {
    short("transports").await
}

#[tokio::test]
async fn a_broker_that_forgets_its_sessions_loses_and_doubles_nothing() -> Result<()> {
    short("broker").await
}

#[tokio::test]
async fn a_device_without_link_address_or_route_loses_and_doubles_nothing() -> Result<()> {
    short("namespace").await
}

#[tokio::test]
async fn an_agent_without_room_runs_on_and_loses_nothing() -> Result<()> {
    short("agent-full").await
}

#[tokio::test]
async fn a_hub_without_room_runs_on_and_loses_nothing() -> Result<()> {
    short("hub-full").await
}
