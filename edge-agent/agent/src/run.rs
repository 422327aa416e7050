//! `edge-agent run`: wires the parts together and takes them down in order.

use std::time::Duration;

use anyhow::Context as _;
use tideline_protocol::time::SystemClock;
use tideline_spool::SpoolConfig;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::identity::Identity;
use crate::spooler::SpoolHandle;
use crate::status::Board;
use crate::uplink::Uplink;
use crate::{intake, serve, source};

/// Longest time for sending the rest when told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// The agent cannot start: not enrolled, spool or address in use.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let identity = Identity::load(&config.data_dir)?;
    let hub = config.hub.clone().unwrap_or_else(|| identity.file.quic.clone());
    let board = Board::default();
    board.update(|status| {
        status.agent = identity.file.agent.to_string();
        status.hub.clone_from(&hub);
    });
    let socket = serve::socket(&config.data_dir, board.clone()).await?;
    let spool_config = SpoolConfig { quota_bytes: config.quota_bytes };
    let path = config.data_dir.join("spool.redb");
    let (spool, spool_thread) = SpoolHandle::start(path, spool_config, board.clone()).context("spool")?;
    let page = match &config.listen {
        Some(listen) => Some(serve::page(listen, board.clone()).await?),
        None => None,
    };
    let (stop, stopped) = watch::channel(false);
    let (drain, draining) = watch::channel(false);
    let (out, inbox) = mpsc::channel(intake::QUEUE_MAX);
    let own_device = identity.file.agent.own_device();
    for config in config.sources.clone() {
        let context = source::Context {
            name: config.name.clone(),
            own_device: own_device.clone(),
            out: out.clone(),
            board: board.clone(),
            stop: stopped.clone(),
            spool: spool.clone(),
        };
        tokio::spawn(source::run(config, context));
    }
    let flush_interval = Duration::from_millis(config.flush_interval_ms);
    let intake = tokio::spawn(intake::run(inbox, spool.clone(), flush_interval, config.rows_max));
    let mut boot = [0_u8; 16];
    getrandom::fill(&mut boot).context("no entropy")?;
    let clock = SystemClock::default();
    let uplink = Uplink { identity, hub, spool: spool.clone(), board, drain: draining, boot, clock };
    let uplink = tokio::spawn(uplink.run());
    tracing::info!("agent runs");

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    stop.send_replace(true);
    // Held until now, so that the intake lives on when all sources have come to their end.
    drop(out);
    let ending = async {
        let _ = intake.await;
        drain.send_replace(true);
        let _ = uplink.await;
    };
    if tokio::time::timeout(DRAIN_TIMEOUT, ending).await.is_err() {
        tracing::warn!("not everything could be sent in time; the spool keeps it");
    }
    let _ = spool.flush().await;
    socket.abort();
    page.iter().for_each(tokio::task::JoinHandle::abort);
    let _ = std::fs::remove_file(serve::socket_path(&config.data_dir));
    drop((spool, spool_thread));
    Ok(())
}
